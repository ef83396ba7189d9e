"""ONNX Runtime, on the processor or on a GPU: what runs live on most machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from engine.deploy.runtime_base import NotHere, Prediction, check_clips
from engine.models.card import ONNX_FILE, WEIGHTS_FILE, CheckpointError, read_card

INT8_FILE = "model.int8.onnx"
_FILES = {"fp32": ONNX_FILE, "fp16": "model.fp16.onnx", "int8": INT8_FILE}


class OnnxRuntime:
    """Runs a checkpoint's exported graph.

    Parameters
    ----------
    folder : Path
        Checkpoint folder with ``model.onnx`` (``model.int8.onnx`` for int8). fp16 is meant for GPUs.
    device : {"cpu", "cuda"}
        On ``cuda`` operators without a GPU kernel run on the processor.

    Raises
    ------
    CheckpointError
        The graph is missing, damaged or made for other clips than the card's, or the GPU can't be used.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 1,
        device: Literal["cpu", "cuda"] = "cpu",
        precision: Literal["fp32", "fp16", "int8"] = "fp32",
    ) -> None:
        import onnxruntime as ort

        self.refused: tuple[Any, ...] = ()
        self.card = read_card(folder)
        path = Path(folder) / _FILES[precision]
        if not path.is_file():
            how = {"fp32": "", "fp16": " --precision fp16", "int8": " --precision int8 --calibrate-on STORE"}[precision]
            raise CheckpointError(
                f"{folder}: {path.name} is missing; make it with: python main.py export {folder}{how}"
            )
        wanted = ["CPUExecutionProvider"]
        if device == "cuda":
            wanted.insert(0, "CUDAExecutionProvider")
            if wanted[0] not in ort.get_available_providers():
                raise NotHere("this ONNX Runtime has no CUDA; on an NVIDIA machine: pip install onnxruntime-gpu")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4 if device == "cuda" else 3
        # An idle team of spinning threads would take the processor from the pose model.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:
            raise CheckpointError(
                f"{path} can't be loaded by ONNX Runtime: {error}; write it anew: python main.py export {folder}"
            ) from error
        used = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        if used.lower() != device:
            raise CheckpointError("ONNX Runtime can't start CUDA: driver, CUDA or cuDNN are missing or do not fit")
        inputs = self._session.get_inputs()
        outputs = [output.name for output in self._session.get_outputs()]
        if len(inputs) != 1 or outputs[:2] != ["logits", "features"]:
            raise CheckpointError(f"{path}: expected one input and the outputs logits, features; found {outputs}")
        expected = list(self.card.preprocessing.shape)
        if list(inputs[0].shape[1:]) != expected:
            raise CheckpointError(f"{path}: input is {inputs[0].shape[1:]}, the card says {expected}")
        made_from = self._session.get_modelmeta().custom_metadata_map.get("weights_sha256", "")
        if made_from and made_from != self.card.sha256.get(WEIGHTS_FILE, made_from):
            raise CheckpointError(f"{path} was made from other weights; write it anew: python main.py export {folder}")
        self._input = inputs[0].name
        self.name = f"ONNX {used}" if precision == "fp32" else f"ONNX {used} {precision}"

    def predict(self, clips: np.ndarray) -> Prediction:
        check_clips(clips, self.card)
        logits, features = self._session.run(
            ["logits", "features"], {self._input: clips.astype(np.float32, copy=False)}
        )
        return Prediction(np.asarray(logits), np.asarray(features))

    def close(self) -> None:
        self._session = None  # type: ignore[assignment]
