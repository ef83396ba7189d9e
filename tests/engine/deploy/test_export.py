"""Export to ONNX: equal to PyTorch, checked, and refused when files do not fit together."""

import json

import numpy as np
import pytest
import torch

from engine.data.preprocess import Preprocessing
from engine.deploy.export import export_onnx, fold_batch_norm
from engine.deploy.runtime import load_runtime
from engine.models.card import CheckpointCard, CheckpointError
from engine.models.checkpoint import build_encoder, save_checkpoint


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
        load_runtime(folder)
    export_onnx(folder)
    runtime = load_runtime(folder)
    with pytest.raises(ValueError, match="wants"):
        runtime.predict(np.zeros((1, 3, 12, 20, 1), np.float32))
    card = json.loads((folder / "card.json").read_text())
    card["preprocessing"]["frames"] = 16
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="the card says"):
        load_runtime(folder)
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="can't be loaded"):
        load_runtime(folder)
