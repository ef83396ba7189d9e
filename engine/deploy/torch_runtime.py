"""PyTorch as a runtime: the fallback where nothing is exported, and the reference others are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from engine.deploy.runtime_base import NotHere, Prediction, check_clips
from engine.models.checkpoint import load_encoder
from engine.models.persons import skip_empty_persons


class TorchRuntime:
    """Runs the checkpoint's own weights in PyTorch.

    Parameters
    ----------
    precision : {"fp32", "bf16"}
        In bf16 convolutions and matrix products run in bfloat16 (autocast).
    device : {"cpu", "cuda"}
        The live path uses the processor only; the GPU is for comparisons.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 1,
        precision: Literal["fp32", "bf16"] = "fp32",
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.refused: tuple[Any, ...] = ()
        if device == "cuda" and not torch.cuda.is_available():
            raise NotHere("PyTorch sees no GPU here")
        torch.set_num_threads(threads)
        encoder, self.card = load_encoder(folder)
        self._encoder = skip_empty_persons(encoder, self.card.preprocessing.shape).to(device)
        self._device, self._half = device, precision == "bf16"
        self.name = f"PyTorch {device.upper()}" if precision == "fp32" else f"PyTorch {device.upper()} {precision}"

    def predict(self, clips: np.ndarray) -> Prediction:
        check_clips(clips, self.card)
        x = torch.from_numpy(np.ascontiguousarray(clips, np.float32)).to(self._device)
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._half):
            out = self._encoder(x)
        return Prediction(out.logits.float().cpu().numpy(), out.features.float().cpu().numpy())

    def close(self) -> None:
        self._encoder.cpu()
