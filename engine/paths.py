"""Where things are: what ships with the project, and what belongs to the user."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

PROJECT = Path(__file__).resolve().parent.parent
ASSETS = PROJECT / "assets"
TRAINED_MODELS = PROJECT / "trained_models"
DEMO_CLIP = ASSETS / "demo.mp4"
POSE_BUNDLE = ASSETS / "pose_landmarker_full.task"
DEFAULT_CHECKPOINT = TRAINED_MODELS / "everyday_ctrgcn"


def user_data() -> Path:
    """The user's folder for stores, runs, recordings and fetched pose models; ``SKELAPP_HOME`` overrides it."""
    override = os.environ.get("SKELAPP_HOME")
    return Path(override) if override else Path(platformdirs.user_data_dir("skelapp", appauthor=False))


def stores() -> Path:
    return user_data() / "stores"


def runs() -> Path:
    return user_data() / "runs"


def engines() -> Path:
    """TensorRT engines built here: large, and of use on one kind of GPU only."""
    return user_data() / "engines"


def recordings() -> Path:
    return user_data() / "recordings"


def pose_models() -> Path:
    return user_data() / "pose_models"


def packs() -> Path:
    """Actions the user taught, one folder per pack."""
    return user_data() / "packs"
