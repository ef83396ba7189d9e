from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli import entry
from engine.live.recogniser import Recogniser
from engine.paths import DEFAULT_CHECKPOINT
from engine.render.actor import Actor
from engine.render.motions import motion
from engine.render.video import render_sequence
from engine.teach import finetune
from engine.teach.features import encode, windows_of
from engine.teach.known import save_known, statistics
from engine.teach.pack import ClassPack, find_pack
from engine.teach.recording import sequence_from_video
from tests.engine.live.helpers import CLASSES, build_checkpoint, write_trace


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def performer(path: Path, name: str, seconds: float, place: float, facing: float, height: float) -> Path:
    acted = motion(name, seconds, 20, (place, 0.0, 2.8), height, facing)
    return render_sequence(acted, path, size=(320, 240), actor=Actor())


def test_videos_of_an_actor_teach_a_kick(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rendered people, the pose model, the shipped encoder: two videos teach, a third person's is named."""
    one = performer(tmp_path / "one.mp4", "kick", 1.8, 0.0, 0, 1.75)
    two = performer(tmp_path / "two.mp4", "kick", 2.0, 0.2, 8, 1.68)
    other = performer(tmp_path / "other.mp4", "kick", 1.7, -0.1, -8, 1.80)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert entry(["teach", "add", "karate kick", str(one), str(two), str(tmp_path / "broken.mp4"), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [t["number"] for t in told["takes"]] == [1, 2] and len(told["left_out"]) == 1 and "broken.mp4" in err
    assert entry(["recognize", str(other), "--pack", "my actions", "--encode-every", "2"]) == 0
    assert "karate kick" in capsys.readouterr().out


def test_the_shipped_encoder_knows_its_classes_for_teaching() -> None:
    from engine.teach.known import load_known

    recogniser = Recogniser(DEFAULT_CHECKPOINT, "onnx")
    known = load_known(DEFAULT_CHECKPOINT, recogniser.card)
    assert known is not None and (known.counts > 0).all() and set(known.stores) == {"everyday", "everyday_mediapipe"}
    recogniser.close()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = build_checkpoint(tmp_path / "tiny")
    recogniser = Recogniser(folder, "onnx")
    rows = []
    for side in ("none", "left", "right"):
        seen = sequence_from_video(write_trace(tmp_path / f"{side}.npz", 4.0, [(0, side)]))
        rows.append(encode(recogniser, windows_of(seen, recogniser.card.preprocessing, 20)).features)
    recogniser.close()
    save_known(statistics(CLASSES, np.concatenate(rows), np.repeat(np.arange(3), 20)), folder)
    return folder


def both_hands(path: Path, seconds: float, script: list[tuple[float, str]]) -> Path:
    """A trace in which the right hand does as the left one of the script."""
    left = write_trace(path.with_suffix(".l.npz"), seconds, script)
    right = write_trace(path.with_suffix(".r.npz"), seconds, [(t, "right" if s == "left" else s) for t, s in script])
    still = write_trace(path.with_suffix(".s.npz"), seconds, [(0, "none")])
    with np.load(left) as a, np.load(right) as b, np.load(still) as c:
        arrays = dict(a) | {name: a[name] + b[name] - c[name] for name in ("landmarks", "world")}
    np.savez(path, **arrays)
    return path


def test_a_pack_from_the_first_take_to_a_friend(
    home: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> str:
        assert entry([*map(str, words)]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    where = ("--checkpoint", checkpoint)
    assert "made hands" in run("teach", "new", "hands")
    script = [(0.0, "none"), (1.5, "left"), (3.5, "none"), (5.5, "left"), (7.5, "none")]
    takes = both_hands(tmp_path / "both.npz", 9.0, script)
    told = json.loads(run("teach", "add", "both hands", takes, "--pack", "hands", "--split", "--json"))["takes"]
    assert len(told) == 2 and told[0]["start"] == pytest.approx(1.4, abs=0.3)
    assert told[1]["end"] == pytest.approx(7.6, abs=0.4)
    seen = both_hands(tmp_path / "seen.npz", 6.0, [(0, "none"), (1.5, "left"), (4.5, "none")])
    assert "both hands" in run("recognize", seen, "--pack", "hands", *where)
    assert "both hands" in run("recognize", seen, "--pack", "hands", "--classes", "both hands", "left", *where)
    found = json.loads(run("teach", "check", "hands", "--json", *where))
    assert (found["right"], found["takes"], found["look_alikes"]) == (2, 2, [])
    one = write_trace(tmp_path / "left.npz", 6.0, [(0, "none"), (1.5, "left"), (4.5, "none")])
    assert "person 1  left" in run("recognize", one, "--pack", "hands", *where)
    run("teach", "add", "left", one, "--wrong", "--pack", "hands")
    assert "person 1  left" in run("recognize", one, "--pack", "hands", *where), "its own examples say that it was"
    shown = json.loads(run("teach", "show", "hands", "--json"))
    assert [(a["name"], a["takes"], a["counter_examples"]) for a in shown["actions"]] == [
        ("both hands", 2, 0),
        ("left", 0, 1),
    ]
    run("teach", "pack", "hands", tmp_path / "hands.zip")
    assert "both hands" in run("teach", "load", tmp_path / "hands.zip", "--name", "gift")
    run("teach", "remove", "left", "--pack", "gift")
    run("teach", "remove", "both hands", "--take", "2", "--pack", "gift")
    listed = json.loads(run("teach", "list", "--json"))["packs"]
    assert [[a["takes"] for a in p["actions"]] for p in listed] == [[1], [2, 0]]
    assert "1 takes" in run("teach", "export", "gift", tmp_path / "g.pkl")


def test_an_action_is_removed_from_the_pack_that_was_named_and_from_no_other(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry(["teach", "new", "厨房"]) == 0
    ClassPack.open(find_pack("厨房")).add_action("挥手")
    assert entry(["teach", "remove", "挥手", "--pack", "卧室"]) == 1
    assert entry(["teach", "new", "卧室"]) == 0
    assert ClassPack.open(find_pack("厨房")).actions == ("挥手",) and ClassPack.open(find_pack("卧室")).actions == ()
    assert "no pack '卧室'; there are: action" in capsys.readouterr().err
    assert entry(["teach", "list"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["action", "厨房:"] and second.split()[:2] == ["action-2", "卧室:"]


def test_a_take_named_twice_is_removed_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["teach", "new", "hands"]) == 0
    pack = ClassPack.open(find_pack("hands"))
    for _ in range(2):
        pack.add_take("wave", motion("wave", 2.0, 15))
    assert entry(["teach", "remove", "wave", "--take", "1", "1", "--pack", "hands"]) == 0
    assert "removed 1 take of wave from hands" in capsys.readouterr().out
    assert [take.number for take in ClassPack.open(pack.folder).takes()] == [2]


def test_a_stopped_fine_tuning_prints_no_card_and_has_not_gone_well(
    home: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry(["teach", "new", "hands"]) == 0
    monkeypatch.setattr(finetune, "train_encoder", lambda *_: None)
    capsys.readouterr()
    assert entry(["teach", "train", "hands", "--what", "encoder", "--checkpoint", str(checkpoint), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err == "stopped; the same command goes on\n"


def test_what_is_wrong_is_said(
    home: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: object) -> tuple[int, str]:
        status = entry([*map(str, words)])
        return status, capsys.readouterr().err

    still = write_trace(tmp_path / "still.npz", 2.0, [(0, "none")])
    for words, status, text in (
        (("teach", "show", "nobody"), 1, "no pack 'nobody'; there are: none yet"),
        (("teach", "add", "x", still, "--split"), 1, "no movement in it"),
        (("teach", "add", "x", still, "--split", "--whole"), 2, "contradict"),
        (("teach", "add", "x", tmp_path / "none.mp4"), 1, "no such file"),
        (("teach", "add", "\n", still), 1, "is no name for an action"),
        (("teach", "load", tmp_path / "none.zip"), 1, "no such file"),
        (("teach", "pack", "my actions", tmp_path / "x.txt"), 1, "written as .zip"),
        (("teach", "export", "my actions", tmp_path / "x.pkl"), 1, "no takes yet"),
        (("teach", "train", "my actions", "--name", "../x"), 2, "plain name"),
        (("recognize", still, "--pack", "my actions", "--checkpoint", checkpoint), 1, "record one first"),
    ):
        assert said(*words)[0] == status, words
        status, error = said(*words)
        assert text in error and len(error.strip().splitlines()) <= 2, (words, error)
