"""Fixtures of the live tests: a small real ONNX checkpoint, made videos, and a detector that needs no pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.live.helpers import build_checkpoint, write_video


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names which hand moves: classes idle, left, right; logits are the scaled motion of the two hands."""
    return build_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def grey_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures at 10 a second, 64x48, each of one shade of grey; nobody in them."""
    path = tmp_path_factory.mktemp("videos") / "grey.mp4"
    write_video(path, [np.full((48, 64, 3), 10 * i, np.uint8) for i in range(20)], fps=10)
    return path
