"""What every runtime shares: its answers, the check of its clips, and the word for not being set up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.models.card import CheckpointCard, CheckpointError


class NotHere(CheckpointError):
    """A runtime that nobody set up on this machine: nothing is wrong, and nobody needs to be told unasked."""


@dataclass(frozen=True)
class Prediction:
    """``logits`` float32 ``(N, K)``, ``features`` float32 ``(N, D)``."""

    logits: np.ndarray
    features: np.ndarray


def check_clips(clips: np.ndarray, card: CheckpointCard) -> None:
    """Raise ``ValueError`` unless the clips have the card's shape."""
    if clips.ndim != 5 or clips.shape[1:] != card.preprocessing.shape:
        raise ValueError(
            f"clips are {clips.shape}, {card.name} wants (N, {', '.join(map(str, card.preprocessing.shape))})"
        )
