"""PyTorch as a runtime: the fallback where nothing is exported, and the reference others are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.deploy.runtime import Prediction, check_clips
from engine.models.checkpoint import load_encoder
from engine.models.persons import skip_empty_persons


class TorchRuntime:
    """Runs the checkpoint's own weights in PyTorch on the CPU."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.refused: tuple[Any, ...] = ()
        torch.set_num_threads(threads)
        encoder, self.card = load_encoder(folder)
        self._encoder = skip_empty_persons(encoder, self.card.preprocessing.shape)
        self.name = "PyTorch CPU"

    def predict(self, clips: np.ndarray) -> Prediction:
        check_clips(clips, self.card)
        with torch.inference_mode():
            out = self._encoder(torch.from_numpy(np.ascontiguousarray(clips, np.float32)))
        return Prediction(out.logits.numpy(), out.features.numpy())

    def close(self) -> None:
        self._encoder.cpu()
