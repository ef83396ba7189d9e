"""Export of a checkpoint to ONNX, checked against PyTorch before it is believed."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.deploy.runtime import OnnxRuntime
from engine.models.card import ONNX_FILE, CheckpointError, write_card
from engine.models.checkpoint import file_digest, load_encoder
from engine.models.persons import skip_empty_persons

PARITY_BOUND = 1e-3


@dataclass(frozen=True)
class ExportReport:
    """Where the graph is and how far it is from PyTorch (largest absolute difference of the logits)."""

    path: Path
    bytes: int
    max_difference: float
    clips: int


class _LogitsAndFeatures(nn.Module):
    """The graph's two outputs, without the sample graph that only training uses."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        out = self.encoder(clips)
        return out.logits, out.features


def fold_batch_norm(encoder: nn.Module) -> nn.Module:
    """A copy with every batch norm that directly follows a convolution in a ``Sequential`` folded into it."""
    encoder = copy.deepcopy(encoder).eval()
    for module in encoder.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                first, second = module[i], module[i + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[i] = torch.nn.utils.fusion.fuse_conv_bn_eval(first, second)
                    module[i + 1] = nn.Identity()
    return encoder


def export_onnx(folder: Path, clips: np.ndarray | None = None) -> ExportReport:
    """Write ``model.onnx`` into a checkpoint folder and check it.

    Parameters
    ----------
    folder : Path
        Checkpoint with weights.
    clips : numpy.ndarray, optional
        Real clips ``(N, 3, T, V, M)`` to check with, beside random ones.

    Raises
    ------
    CheckpointError
        The checkpoint can't be loaded, or the graph differs from PyTorch by more than 1e-3.
    """
    folder = Path(folder)
    encoder, card = load_encoder(folder)
    shape = card.preprocessing.shape
    example = torch.from_numpy(np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32))
    path = folder / ONNX_FILE
    temporary = folder / "export.onnx"
    # The TorchScript exporter's graph runs faster than the newer one's for these encoders (benchmarks/encoders.md).
    with warnings.catch_warnings():
        # Sizes other than the batch become constants of the graph: that is wanted, the card fixes them.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # Recurrent layers start from zeros made for the batch inside the graph; the sweep runs other batch sizes.
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size other than 1")
        torch.onnx.export(
            # Which persons are there is found inside the graph, so its input stays the clips.
            _LogitsAndFeatures(skip_empty_persons(fold_batch_norm(encoder), shape)).eval(),
            (example,),
            str(temporary),
            input_names=["clips"],
            output_names=["logits", "features"],
            dynamic_axes={"clips": {0: "N"}, "logits": {0: "N"}, "features": {0: "N"}},
            opset_version=17,
            dynamo=False,
        )
    _describe(temporary, card.name, card.classes)
    temporary.replace(path)
    write_card(card.model_copy(update={"sha256": card.sha256 | {ONNX_FILE: file_digest(path)}}), folder)
    checked = [example.numpy()] if clips is None else [example.numpy(), clips]
    difference = max(parity(folder, encoder, part) for part in checked)
    if difference > PARITY_BOUND:
        raise CheckpointError(f"{path} differs from PyTorch by {difference:.2e}, more than {PARITY_BOUND:.0e}")
    return ExportReport(path, path.stat().st_size, difference, sum(len(part) for part in checked))


def parity(folder: Path, encoder: nn.Module, clips: np.ndarray) -> float:
    """Largest absolute difference of logits between ONNX Runtime and PyTorch on the given clips."""
    runtime = OnnxRuntime(folder)
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(clips)).logits.numpy()
    return float(np.abs(runtime.predict(clips).logits - expected).max())


def _describe(path: Path, name: str, classes: list[str]) -> None:
    import json

    import onnx

    model = onnx.load(str(path))
    for key, value in (("name", name), ("classes", json.dumps(classes))):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
