"""Runtimes: the same ``predict(clips) -> logits, features`` whatever executes the encoder.

This module never imports torch at module level: the live path runs on ONNX Runtime alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from engine.models.card import ONNX_FILE, CheckpointCard, CheckpointError, read_card

RuntimeKind = Literal["auto", "onnx", "torch", "tensorrt"]


@dataclass(frozen=True)
class Prediction:
    """``logits`` float32 ``(N, K)``, ``features`` float32 ``(N, D)``."""

    logits: np.ndarray
    features: np.ndarray


class Runtime(Protocol):
    """Executes one encoder."""

    name: str
    card: CheckpointCard

    def predict(self, clips: np.ndarray) -> Prediction:
        """Clips float32 ``(N, 3, T, V, M)``; raises ``ValueError`` for another shape."""
        ...

    def close(self) -> None: ...


class OnnxRuntime:
    """ONNX Runtime on the CPU (or CUDA, where that provider is installed)."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import onnxruntime as ort

        self.card = read_card(folder)
        path = Path(folder) / ONNX_FILE
        if not path.is_file():
            raise CheckpointError(f"{folder}: {ONNX_FILE} is missing; make it with: python main.py export {folder}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An idle team of spinning threads would take the processor from the pose model.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = ort.get_available_providers()
        providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            raise CheckpointError(f"{path} can't be loaded by ONNX Runtime: {error}") from error
        inputs = self._session.get_inputs()
        outputs = [output.name for output in self._session.get_outputs()]
        if len(inputs) != 1 or outputs[:2] != ["logits", "features"]:
            raise CheckpointError(f"{path}: expected one input and the outputs logits, features; found {outputs}")
        expected = list(self.card.preprocessing.shape)
        if list(inputs[0].shape[1:]) != expected:
            raise CheckpointError(f"{path}: input is {inputs[0].shape[1:]}, the card says {expected}")
        self._input = inputs[0].name
        used = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.name = f"ONNX {used}"

    def predict(self, clips: np.ndarray) -> Prediction:
        check_clips(clips, self.card)
        logits, features = self._session.run(
            ["logits", "features"], {self._input: clips.astype(np.float32, copy=False)}
        )
        return Prediction(np.asarray(logits), np.asarray(features))

    def close(self) -> None:
        self._session = None  # type: ignore[assignment]


def check_clips(clips: np.ndarray, card: CheckpointCard) -> None:
    """Raise ``ValueError`` unless the clips have the card's shape."""
    if clips.ndim != 5 or clips.shape[1:] != card.preprocessing.shape:
        raise ValueError(
            f"clips are {clips.shape}, {card.name} wants (N, {', '.join(map(str, card.preprocessing.shape))})"
        )


def load_runtime(folder: Path, kind: RuntimeKind = "auto", threads: int = 1) -> Runtime:
    """Load a checkpoint folder into a runtime.

    Raises
    ------
    CheckpointError
        The folder is damaged, or the wished runtime does not work here; the message says what to do.
    """
    if kind in ("auto", "onnx"):
        return OnnxRuntime(folder, threads)
    if kind == "torch":
        from engine.deploy.torch_runtime import TorchRuntime

        return TorchRuntime(folder, threads)
    raise CheckpointError(f"runtime {kind!r} is not available here; use --runtime onnx or --runtime torch")
