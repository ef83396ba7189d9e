"""A small checkpoint per backbone, as after training, with the card the runtimes read."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.data.preprocess import Preprocessing
from engine.models.card import CheckpointCard
from engine.models.checkpoint import save_checkpoint
from tests.engine.models.test_all_backbones import FRAMES, SMALL, trained


def small_checkpoint(folder: Path, backbone: str, layout: str = "ntu25", persons: int = 1) -> Path:
    """Write a checkpoint with five classes and short clips; returns its folder."""
    encoder = trained(backbone, layout, persons).eval()
    card = CheckpointCard(
        name=f"small_{backbone}",
        backbone=backbone,
        backbone_args=SMALL.get(backbone, {}),
        feature_dim=encoder.feature_dim,
        classes=list("abcde"),
        preprocessing=Preprocessing(layout=layout, persons=persons, frames=FRAMES),
        dataset="none",
        split="none",
    )
    save_checkpoint(folder, card, encoder)
    return folder


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """No test sees or leaves engines in the user's folder."""
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path_factory.mktemp("home")))
