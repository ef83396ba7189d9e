"""Batches of a protocol: clips changed as its paper trains downstream, or features that were read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.batch import Batch, BodyFrames, ClipLoader, ClipMaker, Rule
from engine.data.batch.loader import derived_seed
from engine.data.batch.recipes_hiclr import HiclrViews, basic_view
from engine.data.batch.sampling import RandomCrop, Stretch
from engine.data.preprocess import Preprocessing
from engine.data.store import SequenceStore
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import ClipChange, TrainedProtocol

# Published downstream: i2md.md 1.3, gl_transformer.md 1.6.
CROP_LOW, STRETCH = 0.5, 0.1


def training_rule(clips: ClipChange, frames: int) -> Rule | None:
    """Which frames training clips read; None: those of the test."""
    if clips == "random_crop":
        return RandomCrop(frames, CROP_LOW, 1.0, frames)
    return Stretch(frames, STRETCH) if clips == "stretch" else None


def _basic(clips: Tensor, generator: torch.Generator) -> Tensor:
    # On the finished stream, as published for fine-tuning (hiclr.md 1.4).
    return basic_view(clips, generator, HiclrViews(stream="joint"))


class FeatureLoader(ClipLoader):
    """Hands out features ``(K, D)`` in place of clips, in the order and batches of a clip loader."""

    def __init__(self, features: Tensor, make: ClipMaker, indices: np.ndarray, batch: int, **options: Any) -> None:
        super().__init__(make, indices, batch, **options)
        self._features = features
        self._pin, self.prefetch = False, 0

    def _made(self, order: Tensor, epoch: int, b: int) -> Batch:
        together = self.batch * self.world
        items = order[b * together : (b + 1) * together][self.rank :: self.world]
        seed = derived_seed(self.seed, epoch, b, self.rank, 1)
        lengths = torch.ones_like(items)
        return Batch((self._features[items],), (lengths,), self._labels[items], self._indices[items], items, seed)


def protocol_loader(
    recipe: TrainedProtocol,
    store: SequenceStore,
    indices: np.ndarray,
    spec: Preprocessing,
    features: Tensor | None = None,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
) -> ClipLoader:
    """The training batches of a protocol.

    Parameters
    ----------
    indices : numpy.ndarray
        int64 ``(K,)``: sequences to learn from; repeated ones come several times in an epoch.
    features : Tensor, optional
        ``(K, D)`` of exactly these, to be handed out instead of clips.

    Raises
    ------
    RecipeError
        Not one batch.
    """
    device = torch.device(device)
    options: dict[str, Any] = {
        "shuffle": True, "seed": recipe.seed, "repeat": recipe.repeat, "rank": rank, "world": world, "device": device,
        # Several processes must take equally many steps.
        "drop_last": recipe.drop_last or world > 1,
    }  # fmt: skip
    batch = recipe.batch // world
    if features is not None:
        loader: ClipLoader = FeatureLoader(features, ClipMaker(BodyFrames(store), spec), indices, batch, **options)
    else:
        frames = BodyFrames(store, device if device.type == "cuda" else None)
        augment = _basic if recipe.clips == "basic" else None
        if recipe.clips == "stretch" and spec.sampling != "first":
            raise RecipeError(f"clips: time is stretched where clips are not resized, and these are ({spec.sampling})")
        make = ClipMaker(frames, spec, training_rule(recipe.clips, spec.frames))
        loader = ClipLoader(make, indices, batch, augment=augment, **options)
    if len(loader) == 0:
        raise RecipeError(f"batch: {len(indices) * recipe.repeat} training clips are fewer than one of {recipe.batch}")
    return loader
