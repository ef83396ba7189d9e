"""``models import``: a published file becomes a checkpoint that answers as its network did; clear refusals."""

import json

import numpy as np
import pytest
import torch

from engine.cli import entry
from engine.data.sets import DATASETS
from engine.deploy.runtime import load_runtime
from engine.models.card import read_card
from tests.engine.models.published import STGCN, TenLayers
from tests.engine.models.test_foreign import shaken


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_published_file_becomes_a_checkpoint_that_runs(home, tmp_path, capsys):
    torch.manual_seed(0)
    theirs = shaken(TenLayers(10, "kinect20", persons=1, width=8))
    torch.save(theirs.state_dict(), tmp_path / "runs-61-3904.pt")
    words = ["models", "import", str(tmp_path / "runs-61-3904.pt"), "--dataset", "nw_ucla", "--split", "xview"]
    assert entry([*words, "--name", "ucla joint", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    folder = home / "imported" / "ucla_joint"
    assert report["folder"] == str(folder) and report["backbone"] == "ctrgcn" and report["unmapped"] == []
    card = read_card(folder)
    assert card.classes == list(DATASETS["nw_ucla"].classes) and card.method == "imported" and card.classifier_trained
    assert card.preprocessing.frames == 52 and card.preprocessing.layout == "kinect20"
    assert card.backbone_args == {"base_channels": 8} and card.training["imported_from"] == "runs-61-3904.pt"
    clips = torch.randn(2, 3, 52, 20, 1)
    with torch.no_grad():
        expected = theirs(clips).numpy()
    for kind in ("torch", "onnx"):
        runtime = load_runtime(folder, kind)
        assert np.allclose(runtime.predict(clips.numpy()).logits, expected, atol=1e-3)
        runtime.close()
    assert entry([*words, "--name", "ucla joint"]) == 1
    assert "holds a checkpoint already" in capsys.readouterr().err
    assert entry(["models", "list"]) == 0 and "ucla_joint" in capsys.readouterr().out
    (home / "imported" / "broken").mkdir()
    (home / "imported" / "broken" / "card.json").write_text("{")
    assert entry(["models", "list", "--json"]) == 0
    said = capsys.readouterr()
    assert "ucla_joint" in {card["name"] for card in json.loads(said.out)} and "broken" in said.err


def test_a_pretrained_encoder_comes_without_classifier_and_graph(home, tmp_path, capsys):
    torch.manual_seed(0)
    weights = {f"encoder_q.{k}": v for k, v in STGCN(4).state_dict().items() if not k.startswith("fc")}
    torch.save({"state_dict": weights}, tmp_path / "hiclr.pt")
    assert entry(["models", "import", str(tmp_path / "hiclr.pt"), "--dataset", "ntu60"]) == 0
    assert "has no classifier" in capsys.readouterr().out
    card = read_card(home / "imported" / "hiclr")
    assert not card.classifier_trained and card.preprocessing.normalisation == "hiclr" and card.split == "xsub"
    assert not (home / "imported" / "hiclr" / "model.onnx").exists()


def test_wrong_words_are_told(tmp_path, capsys):
    torch.save(TenLayers(5, width=8).state_dict(), tmp_path / "w.pt")
    file = str(tmp_path / "w.pt")
    (tmp_path / "names.txt").write_text("one\none\n")
    for words, status, message in (
        ([file, "--dataset", "ntu60"], 1, "another number of classes than the 60"),
        ([file, "--dataset", "mine"], 2, "give the class names with --classes"),
        ([file, "--dataset", "mine", "--classes", str(tmp_path / "names.txt")], 1, "two or more different"),
        ([file, "--dataset", "ntu60", "--args", "{"], 2, "no JSON"),
        ([file, "--dataset", "ntu60", "--like", "nothing"], 1, "neither a checkpoint nor a recipe"),
        ([file, "--dataset", "ntu60", "--backbone", "agcn"], 1, "holds no encoder"),
        ([str(tmp_path / "gone.pt"), "--dataset", "ntu60"], 1, "can't be read"),
    ):
        assert entry(["models", "import", *words]) == status, words
        assert message in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    words = [file, "--dataset", "mine", "--classes", str(tmp_path / "names.txt"), "--no-graph"]
    assert entry(["models", "import", *words, "--like", "utd_mhad_ctrgcn_joint"]) == 1
    assert "for this layout" in capsys.readouterr().err
    assert entry(["models", "import", *words]) == 0
