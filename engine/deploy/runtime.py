"""Runtimes: the same ``predict(clips) -> logits, features`` whatever executes the encoder, and the choice of one.

This module never imports torch at module level: the live path runs on ONNX Runtime or TensorRT alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from engine.deploy.runtime_base import NotHere, Prediction
from engine.models.card import CheckpointCard, CheckpointError, read_card, require_classifier

RuntimeKind = Literal["auto", "onnx", "onnx-int8", "tensorrt", "torch"]
Candidate = Literal["tensorrt", "onnx-cuda", "onnx-cpu", "onnx-int8", "torch"]
# Fastest first. int8 is never taken by itself: it changes the answers, if only a little.
AUTOMATIC: tuple[Candidate, ...] = ("tensorrt", "onnx-cuda", "onnx-cpu", "torch")
_CANDIDATES: dict[RuntimeKind, tuple[Candidate, ...]] = {
    "auto": AUTOMATIC,
    "onnx": ("onnx-cuda", "onnx-cpu"),
    "onnx-int8": ("onnx-int8",),
    "tensorrt": ("tensorrt",),
    "torch": ("torch",),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a runtime that comes first was passed over; ``expected`` where it was simply never set up here."""

    runtime: Candidate
    reason: str
    expected: bool

    def __str__(self) -> str:
        return f"{self.runtime}: {self.reason}"


class Runtime(Protocol):
    """Executes one encoder; ``refused`` are the runtimes that were tried before it."""

    name: str
    card: CheckpointCard
    refused: tuple[Refusal, ...]

    def predict(self, clips: np.ndarray) -> Prediction:
        """Clips float32 ``(N, 3, T, V, M)``; raises ``ValueError`` for another shape."""
        ...

    def close(self) -> None: ...


def _open(candidate: Candidate, folder: Path, threads: int) -> Runtime:
    if candidate == "tensorrt":
        from engine.deploy.tensorrt_runtime import TensorRTRuntime

        return TensorRTRuntime(folder)
    if candidate == "torch":
        from engine.deploy.torch_runtime import TorchRuntime

        return TorchRuntime(folder, threads)
    from engine.deploy.onnx_runtime import OnnxRuntime

    device: Literal["cuda", "cpu"] = "cuda" if candidate == "onnx-cuda" else "cpu"
    return OnnxRuntime(folder, threads, device, "int8" if candidate == "onnx-int8" else "fp32")


def load_runtime(folder: Path, kind: RuntimeKind = "auto", threads: int = 1, fall_back: bool = False) -> Runtime:
    """Load a checkpoint folder into the first runtime that works.

    Parameters
    ----------
    kind : str
        ``auto`` tries TensorRT, ONNX Runtime on a GPU, ONNX Runtime on the processor, PyTorch.
    threads : int
        Processor threads it may use.
    fall_back : bool
        Where the wished kind does not work, go on as ``auto`` does instead of raising.

    Returns
    -------
    Runtime
        Its ``refused`` says why each one tried before it does not work here.

    Raises
    ------
    CheckpointError
        The folder is damaged, or no runtime that may be used works here; the message says what to do.
    """
    if kind not in _CANDIDATES:
        raise CheckpointError(f"unknown runtime {kind!r}; known: {', '.join(_CANDIDATES)}")
    folder = Path(folder)
    require_classifier(read_card(folder), folder)
    candidates = _CANDIDATES[kind]
    if fall_back:
        candidates += tuple(other for other in AUTOMATIC if other not in candidates)
    refused: list[Refusal] = []
    for candidate in candidates:
        try:
            runtime = _open(candidate, folder, threads)
        except ImportError as error:
            refused.append(Refusal(candidate, f"not installed ({error})", kind == "auto"))
            continue
        except CheckpointError as error:
            # What was asked for by name and is not there is worth a word; so is everything that is there and fails.
            asked = kind not in ("auto", "onnx") and candidate in _CANDIDATES[kind]
            refused.append(Refusal(candidate, str(error), isinstance(error, NotHere) and not asked))
            continue
        runtime.refused = tuple(refused)
        return runtime
    told = [refusal for refusal in refused if not refusal.expected] or refused
    if len(told) == 1:
        raise CheckpointError(told[0].reason)
    raise CheckpointError("; ".join(map(str, told)))


def surprises(runtime: Runtime) -> list[str]:
    """One sentence for every runtime that should have worked and did not, naming the one used instead."""
    return [
        f"{refusal.runtime} can't be used ({refusal.reason}); using {runtime.name}"
        for refusal in runtime.refused
        if not refusal.expected
    ]
