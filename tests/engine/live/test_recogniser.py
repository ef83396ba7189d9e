from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.data.preprocess import preprocess
from engine.live.chain import LiveChain, PoseStage
from engine.live.recogniser import Recogniser
from engine.live.sources import open_source
from engine.live.window import PoseWindow
from engine.models.card import CARD_FILE, ONNX_FILE, CheckpointError
from engine.skeleton.sequence import SkeletonSequence
from tests.engine.live.helpers import ListSource, ScriptedDetector, build_checkpoint, write_trace
from tests.engine.live.test_window import filled


def test_live_clip_equals_the_training_clip(tiny_checkpoint: Path) -> None:
    """The same frames, once through the live window and once as a stored sequence, give identical tensors."""
    recogniser = Recogniser(tiny_checkpoint)
    spec = recogniser.card.preprocessing
    window = filled(2.5, 1, capacity=5.0)
    request = recogniser.prepare(window, (1,), 2.5)
    assert request is not None
    whole = window.sequence(1, 10.0)
    assert whole is not None
    stored = SkeletonSequence(whole.xyz.copy(), whole.times.copy())
    assert np.array_equal(request.clips[0], preprocess(stored, spec, end=2.5))
    recogniser.close()


def test_says_nothing_before_half_a_second(tiny_checkpoint: Path) -> None:
    recogniser = Recogniser(tiny_checkpoint)
    assert recogniser.recognise(filled(0.4, 1), (1,), 0.4) == {}
    found = recogniser.recognise(filled(0.6, 1), (1,), 0.6)
    assert found[1].logits.shape == (3,) and found[1].features.shape == (25,)


def test_all_persons_in_one_batch(tiny_checkpoint: Path) -> None:
    recogniser = Recogniser(tiny_checkpoint)
    window = filled(1.0, 1, 2)
    request = recogniser.prepare(window, (1, 2, 3), 1.0)
    assert request is not None and request.persons == (1, 2) and request.clips.shape == (2, 3, 64, 25, 1)
    alone = recogniser.recognise(window, (2,), 1.0)[2]
    assert np.allclose(recogniser.infer(request)[2].logits, alone.logits, atol=1e-5)


def test_nobody_is_nothing(tiny_checkpoint: Path) -> None:
    recogniser = Recogniser(tiny_checkpoint)
    assert recogniser.recognise(PoseWindow(), (), 0.0) == {}
    assert recogniser.warm_up() > 0


@pytest.mark.parametrize("damage", ["no folder", "no card", "card", "fields", "no onnx", "onnx", "shape"])
def test_wrong_or_damaged_checkpoint_is_told(tiny_checkpoint: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "damaged"
    if damage != "no folder":
        shutil.copytree(tiny_checkpoint, folder)
    if damage == "no card":
        (folder / CARD_FILE).unlink()
    elif damage == "card":
        (folder / CARD_FILE).write_text("{ not json")
    elif damage in ("fields", "shape"):
        card = json.loads((folder / CARD_FILE).read_text())
        if damage == "fields":
            card["classes"] = []
        else:
            card["preprocessing"]["frames"] = 32
        (folder / CARD_FILE).write_text(json.dumps(card))
    elif damage == "no onnx":
        (folder / ONNX_FILE).unlink()
    elif damage == "onnx":
        (folder / ONNX_FILE).write_bytes((folder / ONNX_FILE).read_bytes()[:300])
    with pytest.raises(CheckpointError, match="damaged"):
        Recogniser(folder)


def test_chain_names_both_hands_in_time(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.npz", 11.0, [(0, "none"), (2, "left"), (4.5, "none"), (7, "right"), (9, "none")])
    chain = LiveChain(PoseStage(), Recogniser(tiny_checkpoint))
    spoken = []
    with open_source(path, realtime=False) as source:
        while (frame := source.read()) is not None:
            spoken += chain.process(frame).decisions
    chain.finish()
    found = [(s.label, s.start, s.end) for s in chain.segments]
    assert [label for label, *_ in found] == ["left", "right"]
    assert found[0][1:] == (pytest.approx(2.0, abs=0.5), pytest.approx(4.5, abs=0.6))
    assert found[1][1:] == (pytest.approx(7.0, abs=0.5), pytest.approx(9.0, abs=0.6))
    assert spoken[0].time == pytest.approx(0.5, abs=0.15) and spoken[0].label is None
    assert np.diff([d.time for d in spoken]) == pytest.approx(4 / 30)
    chain.close()


def test_chain_with_two_persons_labels_both(tiny_checkpoint: Path) -> None:
    stage = PoseStage(detector=lambda: ScriptedDetector("left", persons=2))
    chain = LiveChain(stage, Recogniser(tiny_checkpoint))
    last = {}
    source = ListSource([np.zeros((480, 640, 3), np.uint8)] * 90)
    while (frame := source.read()) is not None:
        for decision in chain.process(frame).decisions:
            last[decision.person] = decision.label
    assert sorted(str(label) for label in last.values()) == ["left", "right"]
    chain.close()


def test_pictures_that_change_size_go_through(tiny_checkpoint: Path) -> None:
    chain = LiveChain(PoseStage(detector=lambda: ScriptedDetector()), Recogniser(tiny_checkpoint))
    images = [np.zeros((480, 640, 3), np.uint8)] * 30 + [np.zeros((720, 1280, 3), np.uint8)] * 30
    source = ListSource(list(images))
    results = []
    while (frame := source.read()) is not None:
        results.append(chain.process(frame))
    assert results[0].pose.size == (640, 480) and results[-1].pose.size == (1280, 720)
    assert sum(len(r.decisions) for r in results) >= 10
    chain.close()


def test_live_path_imports_neither_torch_nor_qt(tiny_checkpoint: Path) -> None:
    import subprocess

    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import engine.live.pipeline, engine.live.drive, engine.cli.live\n"
        "from engine.live.recogniser import Recogniser\n"
        f"Recogniser(Path({str(tiny_checkpoint)!r})).warm_up()\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'PySide6', 'skelapp')]\n"
        "sys.exit(f'imported {bad}' if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_encode_every_must_be_positive(tmp_path: Path) -> None:
    recogniser = Recogniser(build_checkpoint(tmp_path / "c"))
    with pytest.raises(ValueError, match="at least 1"):
        LiveChain(PoseStage(), recogniser, encode_every=0)
