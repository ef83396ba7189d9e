"""Export of a checkpoint to ONNX and TensorRT, checked against PyTorch before it is believed."""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

import engine
from engine.deploy.onnx_runtime import INT8_FILE
from engine.deploy.precision import HalfPrecision, rounded, to_half
from engine.deploy.quantise import quantise
from engine.deploy.tensorrt_build import EngineCard, Flavour, build_engine, find_library
from engine.models.card import ONNX_FILE, WEIGHTS_FILE, CheckpointCard, CheckpointError, write_card
from engine.models.checkpoint import file_digest, load_encoder
from engine.models.persons import skip_empty_persons

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PARITY_BOUND = 1e-3
# Largest difference of logits against the largest logit. int8 has none: its price is measured on the test part. fp32's
# counts where logits are so large (fresh weights: thousands) that rounding alone passes the absolute bound.
RELATIVE_BOUNDS: dict[Precision, float] = {"fp32": 1e-5, "fp16": 0.02, "bf16": 0.08}
FILES: dict[Precision, str] = {
    "fp32": ONNX_FILE,
    "fp16": "model.fp16.onnx",
    "bf16": "model.bf16.onnx",
    "int8": INT8_FILE,
}


@dataclass(frozen=True)
class ExportReport:
    """Where the result is and how far from PyTorch (largest absolute difference of the logits, on ``clips`` clips).

    ``engine`` is the card of a TensorRT engine; its difference is that of the graph it was built from, computed on the
    processor.
    """

    path: Path
    bytes: int
    max_difference: float
    clips: int
    engine: EngineCard | None = None


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


def trace(encoder: nn.Module, shape: tuple[int, int, int, int], path: Path, skip_empty: bool = True) -> None:
    """Write the encoder's float32 graph with a free batch size.

    Parameters
    ----------
    skip_empty : bool
        Leave out persons who are not there. The number of rows then depends on the clips, which TensorRT refuses.
    """
    folded = fold_batch_norm(encoder)
    # Which persons are there is found inside the graph, so its input stays the clips.
    graph = _LogitsAndFeatures(skip_empty_persons(folded, shape) if skip_empty else folded).eval()
    # The TorchScript exporter's graph runs faster than the newer one's for these encoders (benchmarks/encoders.md).
    with warnings.catch_warnings():
        # Sizes other than the batch become constants of the graph: that is wanted, the card fixes them.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # Recurrent layers start from zeros made for the batch inside the graph; the sweep runs other batch sizes.
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size other than 1")
        torch.onnx.export(
            graph,
            (_random(2, shape),),
            str(path),
            input_names=["clips"],
            output_names=["logits", "features"],
            dynamic_axes={"clips": {0: "N"}, "logits": {0: "N"}, "features": {0: "N"}},
            opset_version=17,
            dynamo=False,
        )


def export_onnx(
    folder: Path, clips: np.ndarray | None = None, precision: Precision = "fp32", calibration: np.ndarray | None = None
) -> ExportReport:
    """Write a graph into a checkpoint folder (``model.onnx`` for fp32) and check it.

    Parameters
    ----------
    folder : Path
        Checkpoint with weights.
    clips : numpy.ndarray, optional
        Real clips ``(N, 3, T, V, M)`` to check with, beside random ones.
    precision : str
        Type the graph computes in; input and outputs stay float32.
    calibration : numpy.ndarray, optional
        Real clips to measure ranges on; int8 needs them.

    Raises
    ------
    CheckpointError
        The checkpoint can't be loaded, or the graph differs from PyTorch by more than 1e-3 and 0.001 % of the largest
        logit (fp16, bf16: by more than 2 % and 8 % of the largest).
    """
    folder = Path(folder)
    encoder, card = load_encoder(folder)
    path = folder / FILES[precision]
    with tempfile.TemporaryDirectory() as temporary:
        written, difference, count = _graph(encoder, card, Path(temporary), precision, clips, calibration, True)
        # Beside the target first: the temporary folder may be on another disk, where replacing is not one step.
        beside = path.with_suffix(".tmp")
        beside.write_bytes(written.read_bytes())
        beside.replace(path)
    write_card(card.model_copy(update={"sha256": card.sha256 | {path.name: file_digest(path)}}), folder)
    return ExportReport(path, path.stat().st_size, difference, count)


def export_tensorrt(
    folder: Path,
    flavour: Flavour,
    kept: Path,
    precision: Precision = "fp32",
    clips: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
    capability: str | None = None,
) -> ExportReport:
    """Build a TensorRT engine of a checkpoint; parameters and errors as :func:`export_onnx` and ``build_engine``.

    The graph computes empty persons too, because TensorRT wants to know every size before it runs.
    """
    find_library(flavour)
    encoder, card = load_encoder(folder)
    with tempfile.TemporaryDirectory() as temporary:
        graph, difference, count = _graph(encoder, card, Path(temporary), precision, clips, calibration, False)
        path, engine_card = build_engine(graph, card, flavour, kept, precision, capability)
    return ExportReport(path, path.stat().st_size, difference, count, engine_card)


def _graph(
    encoder: nn.Module,
    card: CheckpointCard,
    folder: Path,
    precision: Precision,
    clips: np.ndarray | None,
    calibration: np.ndarray | None,
    skip_empty: bool,
) -> tuple[Path, float, int]:
    """A checked graph in ``folder``: its path, largest difference of logits, number of clips checked."""
    shape = card.preprocessing.shape
    exact, path = folder / "exact.onnx", folder / "graph.onnx"
    trace(encoder, shape, exact, skip_empty)
    checked = exact
    if precision == "fp32":
        onnx.save(onnx.load(str(exact)), str(path))
    elif precision == "int8":
        if calibration is None:
            raise CheckpointError("int8 needs real clips to measure ranges on: --calibrate-on STORE")
        quantise(exact, path, calibration, symmetric=not skip_empty)
        checked = path
    else:
        half: HalfPrecision = precision
        model = onnx.load(str(exact))
        onnx.save(to_half(model, half), str(path))
        # Processors have no kernels for most of it; the same roundings in float32 give the same numbers.
        checked = folder / "rounded.onnx"
        onnx.save(rounded(model, half), str(checked))
    _describe(path, card, precision)
    parts = [] if clips is None or len(clips) == 0 else [clips]
    if precision != "int8" or calibration is None:
        parts.append(_random(2, shape).numpy())
    elif not parts:
        # Random clips lie far outside the ranges measured on real ones, and are cut off there.
        parts.append(calibration)
    found = [_difference(checked, encoder, part) for part in parts]
    # np.max keeps a NaN, which then fails the bound.
    difference = float(np.max([d for d, _ in found]))
    relative = float(np.max([d / max(largest, 1e-6) for d, largest in found]))
    bound = RELATIVE_BOUNDS.get(precision)
    if precision == "fp32" and not (difference <= PARITY_BOUND or relative <= RELATIVE_BOUNDS["fp32"]):
        raise CheckpointError(f"{card.name}: the graph differs from PyTorch by {difference:.2e}, over {PARITY_BOUND}")
    if precision != "fp32" and bound is not None and not relative <= bound:
        raise CheckpointError(
            f"{card.name}: in {precision} logits differ from PyTorch by {relative:.1%} of the largest, over "
            f"{bound:.0%}; use another precision"
        )
    return path, difference, sum(len(part) for part in parts)


def _random(count: int, shape: tuple[int, int, int, int]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32))


def _difference(graph: Path, encoder: nn.Module, clips: np.ndarray) -> tuple[float, float]:
    """Largest absolute difference of logits between ONNX Runtime and PyTorch, and the largest logit."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    difference = largest = 0.0
    for i in range(0, len(clips), 16):
        part = np.ascontiguousarray(clips[i : i + 16], np.float32)
        got = session.run(["logits"], {"clips": part})[0]
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(part)).logits.numpy()
        difference = float(np.max([difference, np.abs(got - expected).max()]))
        largest = max(largest, float(np.abs(expected).max()))
    return difference, largest


def _describe(path: Path, card: CheckpointCard, precision: Precision) -> None:
    """What a program without this one needs to use the file, in the file itself."""
    model = onnx.load(str(path))
    facts = {
        "name": card.name,
        "backbone": card.backbone,
        "precision": precision,
        "classes": json.dumps(card.classes, ensure_ascii=False),
        "preprocessing": card.preprocessing.model_dump_json(),
        "decision": card.decision.model_dump_json(),
        "weights_sha256": card.sha256.get(WEIGHTS_FILE, ""),
        "licence": card.licence,
        "made_by": f"skelapp {engine.__version__}",
    }
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
