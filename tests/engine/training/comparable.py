"""A small store and small real encoders to compare, in a home of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from engine.data import sets
from engine.data.preprocess import Preprocessing
from engine.data.store import SequenceStore, write_store
from engine.models.card import CheckpointCard, Decision
from engine.models.checkpoint import build_encoder, save_checkpoint
from engine.skeleton.sequence import SkeletonSequence

CLASSES = list(sets.DATASETS["utd_mhad"].classes)


def write_sequences(folder: Path, used: int = 4, each: int = 6) -> SequenceStore:
    """A store named utd_mhad: every class swings the hands at its own pace; odd subjects are for training."""
    rng = np.random.default_rng(0)
    sequences = []
    for label in range(used):
        for number in range(each):
            frames = 20 + 3 * number
            still = rng.normal(0, 0.3, (1, 1, 20, 3)) + np.array([0, 0, 3])
            xyz = np.repeat(still, frames, 0).astype(np.float32)
            swing = np.sin(np.arange(frames) * (0.2 + 0.15 * label))
            xyz[:, 0, 7, 1] += 0.4 * swing
            xyz[:, 0, 11, label % 3] += 0.3 * swing
            about = {"subject": number + 1, "digest": f"{label}_{number}"}
            times = np.arange(frames) / 30
            sequences.append(
                SkeletonSequence(xyz, times, "kinect20", name=f"c{label}_{number}", label=label, meta=about)
            )
    return write_store(folder, "utd_mhad", sequences, CLASSES, 30.0)


def write_encoder(folder: Path, seed: int, classes: list[str] | None = None, **changes: object) -> Path:
    """An untrained CTR-GCN of eight channels with batch norms that have seen something."""
    torch.manual_seed(seed)
    values: dict[str, object] = {
        "name": folder.name, "title": f"Encoder {folder.name}", "backbone": "ctrgcn",
        "backbone_args": {"base_channels": 8}, "feature_dim": 32, "classes": classes or CLASSES,
        "preprocessing": Preprocessing(
            layout="kinect20", frames=12, sampling="linspace", centre="first", scale="torso"
        ),
        "decision": Decision(temperature=2.0), "dataset": "utd_mhad", "split": "xsub", "trained_on": ["utd_mhad"],
    }  # fmt: skip
    card = CheckpointCard.model_validate(values | changes)
    spec = card.preprocessing
    encoder = build_encoder("ctrgcn", len(card.classes), spec.layout, spec.persons, card.backbone_args)
    with torch.no_grad():
        encoder.train()
        encoder(torch.randn(8, *spec.shape))
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_checkpoint(folder, card, encoder)
    return folder
