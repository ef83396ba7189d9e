"""A small store, a small real pretext with a queue and a key copy, and recipes for both: what these tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from torch.nn import functional

from engine.data import sets
from engine.data.store import write_store
from engine.methods.objective import Outcome, alone
from engine.skeleton.sequence import SkeletonSequence
from engine.training import pretext
from engine.training.recipe_protocols import PretrainRecipe

CLASSES = 3


def sequences(count: int = 48, joints: int = 25, seed: int = 0):
    """Motions of three kinds by four subjects, of different lengths: which joint swings says the class."""
    rng = np.random.default_rng(seed)
    body = rng.standard_normal((joints, 3)) * 0.3
    for i in range(count):
        label, frames = i % CLASSES, 15 + i % 7
        xyz = body + rng.standard_normal((frames, 1, joints, 3)) * 0.02 + [0, 0, 3]
        xyz[:, 0, (7, 11, 15)[label], 1] += np.sin(np.arange(frames) / (2 + label))
        meta = {"subject": i // (count // 4) + 1, "digest": str(i)}
        yield SkeletonSequence(xyz, np.arange(frames) / 20, name=f"s{i}", label=label, meta=meta)


def write_stores(root: Path) -> Path:
    """``utd_mhad`` with 48 sequences and ``utkinect`` with 16 others."""
    for name, count, seed in (("utd_mhad", 48, 0), ("utkinect", 16, 1)):
        classes = sets.DATASETS[name].classes[:CLASSES]
        write_store(root / name, name, sequences(count, seed=seed), classes, 20.0)
    return root


class TinySettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = 8
    queue: int = 24
    noise: float = 0.05
    several: bool = False


class TinyContrast(nn.Module):
    """Two noisy views, a key copy that follows, a queue that wraps: what resuming has to bring back."""

    def __init__(self, make_encoder, feature_dim, settings, layout, steps_per_epoch):
        super().__init__()
        self.settings = settings
        names = ("joint", "joint_motion") if settings.several else ("joint",)
        queries = {name: make_encoder() for name in names}
        for encoder in queries.values():
            encoder.classifier.requires_grad_(False)
        if settings.several:
            self.encoders = nn.ModuleDict(queries)
        else:
            self.encoder = queries["joint"]
        self.heads = nn.ModuleDict({name: nn.Linear(feature_dim, settings.width) for name in names})
        self.keys = nn.ModuleDict({name: make_encoder().requires_grad_(False) for name in names})
        for name in names:
            self.keys[name].load_state_dict(queries[name].state_dict())
        self.register_buffer("queue", functional.normalize(torch.randn(settings.queue, settings.width), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps_per_epoch", torch.tensor(steps_per_epoch))

    def forward(self, views, lengths, generator, gather=alone):
        loss = 0.0
        for name, head in self.heads.items():
            query = self.encoders[name] if self.settings.several else self.encoder
            with torch.no_grad():
                for old, new in zip(self.keys[name].parameters(), query.parameters(), strict=True):
                    old.lerp_(new, 0.1)
            a, b = (
                view + self.settings.noise * torch.randn(view.shape, generator=generator)
                for view in (views[0], views[-1])
            )
            if name == "joint_motion":
                a, b = (functional.pad(x.diff(dim=2), (0, 0, 0, 0, 0, 1)) for x in (a, b))
            q = functional.normalize(head(query(a).features), dim=1)
            with torch.no_grad():
                k = functional.normalize(head(self.keys[name](b).features), dim=1)
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.T.clone()], 1) / 0.1
            loss = loss + functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))
        with torch.no_grad():
            at = (self.pointer + torch.arange(len(k))) % len(self.queue)
            self.queue[at] = k
            self.pointer.copy_((self.pointer + len(k)) % len(self.queue))
        return Outcome(loss, {"queue_mean": self.queue.mean().detach()})


def install(monkeypatch: Any, reads: str = "clip") -> None:
    """Put the tiny pretext in MoCo's place."""
    monkeypatch.setitem(pretext.PRETEXTS, "moco", entry(reads))


def entry(reads: str = "clip") -> pretext.Pretext:
    return pretext.Pretext(__name__, "TinyContrast", "TinySettings", reads)  # type: ignore[arg-type]


def tiny(**changes: Any) -> PretrainRecipe:
    values = {
        "task": "pretrain", "name": "tiny", "dataset": "utd_mhad", "split": "xsub", "method": "moco",
        "backbone": "stgcn", "backbone_args": {"base_channels": 4},
        "preprocessing": {"frames": 12, "sampling": "resize", "centre": "first", "scale": "torso"},
        "optimiser": {"lr": 0.05, "warmup_epochs": 0, "milestones": []}, "epochs": 3, "batch": 8, "seed": 3,
        "threads": 1, "accelerator": "cpu", "evaluate_every": 2,
    }  # fmt: skip
    return PretrainRecipe.model_validate(values | changes)
