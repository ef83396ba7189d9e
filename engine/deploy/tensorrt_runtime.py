"""Running a TensorRT engine: finding one that fits this GPU and library, and the same ``predict`` as elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from engine.deploy.cuda import CudaBuffers, CudaError, first_gpu
from engine.deploy.runtime_base import NotHere, Prediction, check_clips
from engine.deploy.tensorrt_build import EngineCard, Library, engine_files, find_library
from engine.models.card import WEIGHTS_FILE, CheckpointCard, CheckpointError, read_card
from engine.paths import engines

_OUTPUTS = ("logits", "features")


def find_engine(
    folder: Path, card: CheckpointCard, kept: Path, precision: str | None = None
) -> tuple[Path, EngineCard, Library]:
    """The newest engine of a checkpoint that can run here, of one precision where one is given.

    Raises
    ------
    NotHere
        There is no engine of this checkpoint.
    CheckpointError
        There are engines, and none fits: the message says for each why, and what to do.
    """
    weights = card.sha256.get(WEIGHTS_FILE, "")
    own = [(path, found) for path, found in engine_files(kept) if weights and found.weights_sha256 == weights]
    own = [(path, found) for path, found in own if precision in (None, found.precision)]
    again = f"python main.py export {folder} --to"
    if not own:
        raise NotHere(f"no TensorRT engine of {card.name} yet; make one: {again} tensorrt-rtx (or tensorrt)")
    try:
        gpu = first_gpu()
    except CudaError as error:
        raise CheckpointError(str(error)) from error
    reasons = []
    for path, found in own:
        if found.capability != gpu.code or found.gpu not in ("any", gpu.name):
            built_for = found.capability if found.gpu == "any" else f"{found.gpu} ({found.capability})"
            reasons.append(f"{path.name} was built for {built_for}, this GPU is {gpu.name} ({gpu.code})")
            continue
        if found.shape != card.preprocessing.shape:
            reasons.append(f"{path.name} takes clips {found.shape}, the card says {card.preprocessing.shape}")
            continue
        try:
            library = find_library(found.flavour)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if library.version != found.version:
            reasons.append(f"{path.name} was built by {found.flavour} {found.version}, installed is {library.version}")
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() != found.engine_sha256:
            reasons.append(f"{path} is damaged: it differs from the digest beside it")
            continue
        return path, found, library
    raise CheckpointError(f"{'; '.join(reasons)}; build it anew: {again} {own[0][1].flavour}")


class TensorRTRuntime:
    """Runs an engine on the first GPU.

    Parameters
    ----------
    folder : Path
        Checkpoint folder.
    kept : Path, optional
        Folder of the engines; default the user's.
    precision : str, optional
        Take only an engine of this precision; default the newest.
    """

    def __init__(self, folder: Path, kept: Path | None = None, precision: str | None = None) -> None:
        self.card = read_card(folder)
        path, self.engine_card, library = find_engine(folder, self.card, kept or engines(), precision)
        self.refused: tuple[Any, ...] = ()
        try:
            self._buffers = CudaBuffers()
        except CudaError as error:
            raise CheckpointError(str(error)) from error
        self._cache: Any = None
        self._cache_file = path.with_suffix(".kernels")
        try:
            self._open(path, library)
            name = "TensorRT" if library.flavour == "tensorrt" else "TensorRT-RTX"
            self.name = f"{name} {self.engine_card.precision}"
            self.predict(np.zeros((1, *self.card.preprocessing.shape), np.float32))
        except Exception as error:
            self._buffers.close()
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} can't be run: {error}") from error

    def _open(self, path: Path, library: Library) -> None:
        trt, self._logger = library.module, library.logger()
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            why = "; ".join(self._logger.messages) or "no reason given"
            raise CheckpointError(f"{path} is refused by {library.flavour} {library.version}: {why}; build it anew")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        if set(names) != {"clips", *_OUTPUTS}:
            raise CheckpointError(f"{path} has {', '.join(names)} instead of clips, logits, features; build it anew")
        if hasattr(self._engine, "create_runtime_config"):
            # TensorRT-RTX compiles kernels on first use; kept, they spare the next start the wait.
            config = self._engine.create_runtime_config()
            self._cache = config.create_runtime_cache()
            if self._cache_file.is_file():
                self._cache.deserialize(self._cache_file.read_bytes())
            config.set_runtime_cache(self._cache)
            self._context = self._engine.create_execution_context(config)
        else:
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise CheckpointError(f"{path}: the GPU has no room for it; close other programs or use --runtime onnx")

    def predict(self, clips: np.ndarray) -> Prediction:
        check_clips(clips, self.card)
        largest = self.engine_card.batches[2]
        parts = [self._run(clips[i : i + largest]) for i in range(0, len(clips), largest)]
        if not parts:
            empty = np.zeros((0, len(self.card.classes)), np.float32)
            return Prediction(empty, np.zeros((0, self.card.feature_dim), np.float32))
        return Prediction(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))

    def _run(self, clips: np.ndarray) -> list[np.ndarray]:
        """One batch; the caller's thread may be another than the one that loaded the engine."""
        buffers = self._buffers
        buffers.enter()
        clips = np.ascontiguousarray(clips, np.float32)
        self._context.set_input_shape("clips", clips.shape)
        address = buffers.reserve("clips", clips.nbytes)
        self._context.set_tensor_address("clips", address)
        buffers.upload(address, clips.ctypes.data, clips.nbytes)
        results = []
        for name in _OUTPUTS:
            result = np.empty((len(clips), *self._engine.get_tensor_shape(name)[1:]), np.float32)
            self._context.set_tensor_address(name, buffers.reserve(name, result.nbytes))
            results.append(result)
        if not self._context.execute_async_v3(buffers.stream):
            raise RuntimeError("; ".join(self._logger.messages[-3:]) or "the engine did not run")
        for name, result in zip(_OUTPUTS, results, strict=True):
            buffers.download(result.ctypes.data, buffers.reserve(name, result.nbytes), result.nbytes)
        buffers.wait()
        return results

    def close(self) -> None:
        if self._cache is not None:
            try:
                self._cache_file.write_bytes(bytes(self._cache.serialize()))
            except OSError:
                pass
        # The engine's memory goes before the GPU is let go.
        self._cache = self._context = self._engine = self._runtime = None
        self._buffers.close()
