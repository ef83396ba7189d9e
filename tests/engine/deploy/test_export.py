"""Export to ONNX: equal to PyTorch, checked, and refused when files do not fit together."""

import json

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


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder("ctrgcn", 4, "ntu25", 1, {"base_channels": 16})
    # Statistics as after training: batch norms that change something.
    encoder.train()
    for _ in range(3):
        encoder(torch.randn(8, 3, 12, 25, 1) * 2 + 1)
    card = CheckpointCard(
        name="tiny",
        backbone="ctrgcn",
        backbone_args={"base_channels": 16},
        feature_dim=64,
        classes=list("abcd"),
        preprocessing=Preprocessing(frames=12),
        dataset="none",
        split="none",
    )
    save_checkpoint(tmp_path / "tiny", card, encoder)
    return tmp_path / "tiny"


def test_folding_changes_nothing(folder):
    encoder = load_runtime(folder, "torch")._encoder
    clips = torch.randn(2, 3, 12, 25, 1)
    folded = fold_batch_norm(encoder)
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in e.modules()) for e in (encoder, folded)]
    assert norms[1] < norms[0]
    with torch.no_grad():
        assert torch.allclose(folded(clips).logits, encoder(clips).logits, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_equals_torch(folder, batch):
    report = export_onnx(folder)
    assert report.max_difference < 1e-4
    clips = np.random.default_rng(0).standard_normal((batch, 3, 12, 25, 1)).astype(np.float32)
    a, b = load_runtime(folder, "onnx").predict(clips), load_runtime(folder, "torch").predict(clips)
    assert np.allclose(a.logits, b.logits, atol=1e-4) and np.allclose(a.features, b.features, atol=1e-4)


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(CheckpointError, match=r"main\.py export"):
        load_runtime(folder, "onnx")
    export_onnx(folder)
    runtime = load_runtime(folder, "onnx")
    with pytest.raises(ValueError, match="wants"):
        runtime.predict(np.zeros((1, 3, 12, 20, 1), np.float32))
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(
        json.dumps(card | {"preprocessing": card["preprocessing"] | {"frames": 16}}), "utf-8"
    )
    with pytest.raises(CheckpointError, match="the card says"):
        load_runtime(folder, "onnx")
    retrained = card | {"sha256": card["sha256"] | {"weights.safetensors": "0" * 64}}
    (folder / "card.json").write_text(json.dumps(retrained), "utf-8")
    with pytest.raises(CheckpointError, match=r"made from other weights.*main\.py export"):
        load_runtime(folder, "onnx")
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="can't be loaded"):
        load_runtime(folder, "onnx")


def test_the_file_says_what_it_is(folder):
    export_onnx(folder)
    card = read_card(folder)
    facts = {entry.key: entry.value for entry in onnx.load(str(folder / "model.onnx")).metadata_props}
    assert facts["name"] == "tiny" and facts["precision"] == "fp32" and json.loads(facts["classes"]) == card.classes
    assert Preprocessing.model_validate_json(facts["preprocessing"]) == card.preprocessing
    assert facts["weights_sha256"] == card.sha256["weights.safetensors"]
    assert card.sha256["model.onnx"] == file_digest(folder / "model.onnx")
    assert {path.name for path in folder.iterdir()} == {"card.json", "weights.safetensors", "model.onnx"}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_written_beside(folder, precision):
    exact = export_onnx(folder)
    half = export_onnx(folder, precision=precision)
    assert half.path.name == f"model.{precision}.onnx" and half.bytes < 0.8 * exact.bytes
    assert exact.max_difference < half.max_difference < 1
    assert set(read_card(folder).sha256) == {"weights.safetensors", "model.onnx", half.path.name}


def test_large_logits_may_differ_by_their_rounding(folder):
    encoder, card = load_encoder(folder)
    with torch.no_grad():
        encoder.classifier.weight.mul_(1e4)
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
