"""Export to ONNX: equal to PyTorch, checked, and refused when files do not fit together."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engine.data.preprocess import Preprocessing
from engine.deploy import export as export_module
from engine.deploy.export import export_onnx, fold_batch_norm
from engine.deploy.runtime import load_runtime
from engine.models.card import CheckpointCard, CheckpointError, read_card
from engine.models.checkpoint import build_encoder, file_digest, load_encoder, save_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint without graphs; not to be changed."""
    torch.manual_seed(0)
    encoder = build_encoder("stgcn", 4, "ntu25", 1, {"base_channels": 8})
    # Statistics as after training: batch norms that change something.
    encoder.train()
    for _ in range(3):
        encoder(torch.randn(8, 3, 12, 25, 1) * 2 + 1)
    card = CheckpointCard(
        name="tiny",
        backbone="stgcn",
        backbone_args={"base_channels": 8},
        feature_dim=128,
        classes=list("abcd"),
        preprocessing=Preprocessing(frames=12),
        dataset="none",
        split="none",
    )
    folder = tmp_path_factory.mktemp("trained") / "tiny"
    save_checkpoint(folder, card, encoder)
    return folder


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The same with its graph, and what was said about it; not to be changed."""
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    shutil.copytree(trained, folder)
    return folder, export_onnx(folder)


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the checkpoint."""
    return Path(shutil.copytree(trained, tmp_path / "tiny"))


@pytest.fixture
def with_graph(exported, tmp_path):
    """A copy of the checkpoint with its graph."""
    return Path(shutil.copytree(exported[0], tmp_path / "with_graph"))


def test_folding_changes_nothing(trained):
    encoder = load_runtime(trained, "torch")._encoder
    clips = torch.randn(2, 3, 12, 25, 1)
    folded = fold_batch_norm(encoder)
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in e.modules()) for e in (encoder, folded)]
    assert norms[1] < norms[0]
    with torch.no_grad():
        assert torch.allclose(folded(clips).logits, encoder(clips).logits, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_equals_torch(exported, batch):
    folder, report = exported
    assert report.max_difference < 1e-4
    clips = np.random.default_rng(0).standard_normal((batch, 3, 12, 25, 1)).astype(np.float32)
    a, b = load_runtime(folder, "onnx").predict(clips), load_runtime(folder, "torch").predict(clips)
    assert np.allclose(a.logits, b.logits, atol=1e-4) and np.allclose(a.features, b.features, atol=1e-4)


def test_what_does_not_fit_is_refused(trained, with_graph):
    with pytest.raises(CheckpointError, match=r"main\.py export"):
        load_runtime(trained, "onnx")
    runtime = load_runtime(with_graph, "onnx")
    with pytest.raises(ValueError, match="wants"):
        runtime.predict(np.zeros((1, 3, 12, 20, 1), np.float32))
    card = json.loads((with_graph / "card.json").read_text())
    (with_graph / "card.json").write_text(
        json.dumps(card | {"preprocessing": card["preprocessing"] | {"frames": 16}}), "utf-8"
    )
    with pytest.raises(CheckpointError, match="the card says"):
        load_runtime(with_graph, "onnx")
    retrained = card | {"sha256": card["sha256"] | {"weights.safetensors": "0" * 64}}
    (with_graph / "card.json").write_text(json.dumps(retrained), "utf-8")
    with pytest.raises(CheckpointError, match=r"made from other weights.*main\.py export"):
        load_runtime(with_graph, "onnx")
    (with_graph / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="can't be loaded"):
        load_runtime(with_graph, "onnx")


def test_the_file_says_what_it_is(exported):
    folder, _ = exported
    card = read_card(folder)
    facts = {entry.key: entry.value for entry in onnx.load(str(folder / "model.onnx")).metadata_props}
    assert facts["name"] == "tiny" and facts["precision"] == "fp32" and json.loads(facts["classes"]) == card.classes
    assert Preprocessing.model_validate_json(facts["preprocessing"]) == card.preprocessing
    assert facts["weights_sha256"] == card.sha256["weights.safetensors"]
    assert card.sha256["model.onnx"] == file_digest(folder / "model.onnx")
    assert {path.name for path in folder.iterdir()} == {"card.json", "weights.safetensors", "model.onnx"}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_written_beside(exported, with_graph, precision):
    exact = exported[1]
    half = export_onnx(with_graph, precision=precision)
    assert half.path.name == f"model.{precision}.onnx" and half.bytes < 0.8 * exact.bytes
    assert exact.max_difference < half.max_difference < 1
    assert set(read_card(with_graph).sha256) == {"weights.safetensors", "model.onnx", half.path.name}


def test_large_logits_may_differ_by_their_rounding(folder):
    encoder, card = load_encoder(folder)
    with torch.no_grad():
        # Some processors round so alike that a factor of 1e6 is not enough.
        encoder.classifier.weight.mul_(1e7)
    save_checkpoint(folder, card, encoder)
    report = export_onnx(folder)
    clips = np.random.default_rng(0).standard_normal((2, 3, 12, 25, 1)).astype(np.float32)
    largest = np.abs(load_runtime(folder, "onnx").predict(clips).logits).max()
    assert largest > 1e3 and export_module.PARITY_BOUND < report.max_difference < 1e-5 * largest


def test_a_graph_that_differs_is_not_kept(folder, monkeypatch):
    monkeypatch.setattr(export_module, "PARITY_BOUND", -1.0)
    monkeypatch.setattr(export_module, "RELATIVE_BOUNDS", {"fp32": -1.0})
    with pytest.raises(CheckpointError, match="differs from PyTorch"):
        export_onnx(folder)
    monkeypatch.setattr(export_module, "RELATIVE_BOUNDS", {"fp16": 1e-9})
    with pytest.raises(CheckpointError, match="use another precision"):
        export_onnx(folder, precision="fp16")
    assert {path.name for path in folder.iterdir()} == {"card.json", "weights.safetensors"}
    clips = np.full((1, 3, 12, 25, 1), np.nan, np.float32)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="differs from PyTorch by nan"):
        export_onnx(folder, clips)
