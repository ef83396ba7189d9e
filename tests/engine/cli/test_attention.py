"""``attention`` as a user types it."""

import json

import numpy as np
import pytest
import torch

from engine.cli import entry
from engine.data.preprocess import Preprocessing
from engine.data.store import write_store
from engine.models.card import CheckpointCard
from engine.models.checkpoint import build_encoder, save_checkpoint
from engine.opencv import cv2
from engine.render.motions import motion


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A store of two sequences and checkpoints of two backbones."""
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = []
    for i, name in enumerate(("wave", "two persons")):
        sequence = motion(name, 1.0)
        sequence.name, sequence.label, sequence.meta = f"s{i}_{name.replace(' ', '_')}", i, {"subject": i}
        made.append(sequence)
    write_store(tmp_path / "stores" / "acted", "acted", made, ["wave", "two persons"], 30.0)
    for backbone, args, dim in (
        ("gl_transformer", {"frames": 40, "channels": 4, "blocks": 2, "heads": 2}, 200),
        ("gru", {"hidden": 8}, 16),
    ):
        torch.manual_seed(0)
        card = CheckpointCard(
            name=f"small_{backbone}", backbone=backbone, backbone_args=args, feature_dim=dim, classes=["a", "b"],
            preprocessing=Preprocessing(persons=2, frames=40, sampling="first", normalisation="gl_transformer_shared"),
            dataset="acted", split="xsub",
        )  # fmt: skip
        save_checkpoint(tmp_path / backbone, card, build_encoder(backbone, 2, "ntu25", 2, args))
    return tmp_path


def test_picture_and_numbers(home, capsys):
    assert entry(["attention", "gl_transformer", "acted", "s1_two_persons", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["class"] == "two persons" and [p["person"] for p in report["persons"]] == [1, 2]
    assert len(report["frames"]) == 30 and np.mean(report["frames"]) == pytest.approx(1, abs=1e-3)
    assert 0 < report["persons"][0]["from_own_body"] < 1 and len(report["persons"][1]["joints"]) == 25
    assert cv2.imread(str(home / "s1_two_persons_attention.png")).shape[1] == 1500
    assert entry(["attention", "gl_transformer", "acted", "0", "--out", "maps/wave.png"]) == 0
    out = capsys.readouterr().out
    assert "body of person 1 reads most: " in out and "person 2" not in out and out.endswith("maps/wave.png\n")
    one = cv2.imread(str(home / "maps" / "wave.png"))
    assert one.shape[0] < cv2.imread(str(home / "s1_two_persons_attention.png")).shape[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gru", "acted", "0"], "small_gru: gru has no attention maps; give a checkpoint of gl_transformer"),
        (["gl_transformer", "acted", "s0_wav"], "acted has no sequence 's0_wav' (0 to 1 by number); did you mean s0_w"),
        (["gl_transformer", "acted", "2"], "no sequence '2' (0 to 1 by number); names look like s0_wave"),
        (["gl_transformer", "missing", "0"], "missing"),
    ],
)
def test_clear_refusals(home, capsys, words, said):
    assert entry(["attention", *words]) == 1
    error = capsys.readouterr().err
    assert said in error and "internal error" not in error
