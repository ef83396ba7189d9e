"""The clips a recipe trains on: its stores and split, and the loader that draws, changes and labels them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.augment import training_clip
from engine.data.batch import Batch, BodyFrames, ClipLoader, ClipMaker
from engine.data.batch.clips import Change
from engine.data.batch.loader import derived_seed
from engine.data.batch.recipes_skeletongcl import NwUclaViews, SkeletonGclViews, nw_ucla_turn, turn
from engine.data.batch.sampling import RandomCrop, SortedCopies
from engine.data.merge import LEARNT_AS_UNKNOWN
from engine.data.sets import split_indices
from engine.data.store import SequenceStore, StoreError, open_cleaned
from engine.skeleton.layout import get_layout
from engine.training.recipe import Recipe, RecipeError

IDLE = "idle"
# Label of clips that show none of the classes.
NO_CLASS = -1


@dataclass
class TrainingData:
    """Sequences to draw from: ``(store, index)`` of the main set, and of the further ones by the same names.

    ``unknown``: sequences of the main set that show none of its classes and may be learnt as such.
    """

    main: SequenceStore
    train: np.ndarray
    test: np.ndarray
    further: list[tuple[SequenceStore, np.ndarray]]
    unknown: np.ndarray


def open_data(recipe: Recipe, stores: Path) -> TrainingData:
    """Open the stores of a recipe; further stores contribute only sequences of the main set's training part.

    Raises
    ------
    RecipeError
        They are not what the recipe takes them for.
    StoreError
        A store is not there.
    """
    main = _open(stores / recipe.dataset, recipe)
    train, test = split_indices(main, recipe.split)
    if recipe.leave_out:
        train, test = (part[main.label[part] >= 0] for part in (train, test))
    if recipe.idle_share and IDLE in main.classes:
        raise RecipeError(f"idle_share: {recipe.dataset} has a class {IDLE} of its own; make it 0")
    names = [main.names[int(i)] for i in train]
    further = []
    for name in recipe.also_train_on:
        store = _open(stores / name, recipe)
        indices = store.indices_of(names)
        if store.classes != main.classes or len(indices) == 0:
            raise RecipeError(f"{name} does not hold sequences of {recipe.dataset} with the same classes")
        further.append((store, indices))
    return TrainingData(main, train, test, further, unknown_actions(main, train) if recipe.unknown_share else train[:0])


def _open(folder: Path, recipe: Recipe) -> SequenceStore:
    store = open_cleaned(folder)
    try:
        return store.without_classes(recipe.leave_out) if recipe.leave_out else store
    except StoreError as error:
        raise RecipeError(f"leave_out: {error}") from error


def unknown_actions(store: SequenceStore, train: np.ndarray) -> np.ndarray:
    """Sequences int64 ``(K,)`` of the training part's people that a merged set marks as actions to learn as unknown.

    Raises
    ------
    RecipeError
        The store marks none, or none of these people's.
    """
    if "unknown" not in store.meta_keys:
        raise RecipeError(
            f"unknown_share: {store.name} does not mark unknown actions; main.py data merge makes sets that do"
        )
    people = np.isin(store.column("subject"), store.column("subject")[train])
    found = np.flatnonzero((store.column("unknown") == LEARNT_AS_UNKNOWN) & (store.label < 0) & people)
    if not len(found):
        raise RecipeError(f"unknown_share: {store.name} has no unknown actions of the training part's people")
    return found


def class_names(recipe: Recipe, data: TrainingData) -> list[str]:
    """The store's classes, and ``idle`` behind them where the recipe wants it."""
    return [*data.main.classes, *([IDLE] if recipe.idle_share else [])]


def training_items(recipe: Recipe, data: TrainingData) -> np.ndarray:
    """Sequences of one epoch, int64 ``(K * repeat,)``: a batch's ``items`` are places in this list.

    Every repetition of a sequence has a number of its own, because SkeletonGCL's released bank keeps a row for each:
    NW-UCLA has 5 x 1020 (skeletongcl.md, section 3.3). Which clips are drawn does not depend on it. With ``balance``
    the list is as long, but sequences of rare classes stand in it more often.
    """
    if not recipe.balance:
        return np.tile(data.train, recipe.repeat)
    wanted = len(data.train) * recipe.repeat
    shares = class_weights(data.main.label[data.train], recipe.balance)
    # Equal steps through the shares from a drawn start: everybody gets the whole part of its due, some one more.
    start = np.random.default_rng([recipe.seed, wanted]).random()
    places = np.searchsorted(np.cumsum(shares), (np.arange(wanted) + start) / wanted, side="right")
    return data.train[np.minimum(places, len(data.train) - 1)]


def class_weights(label: np.ndarray, balance: float) -> np.ndarray:
    """Share of every sequence, float64 ``(K,)``, sum 1: its class's size to the power of ``-balance``."""
    _, which, count = np.unique(label, return_inverse=True, return_counts=True)
    weight = count[which] ** -float(balance)
    shares: np.ndarray = weight / weight.sum()
    return shares


def training_loader(
    recipe: Recipe, data: TrainingData, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
) -> ClipLoader:
    """The loader of a recipe's training clips: whole batches at once where its changes are known for batches.

    Raises
    ------
    RecipeError
        A class of ``mirror_labels`` does not exist, or the split is smaller than a batch.
    """
    how, spec, device = recipe.augmentation, recipe.preprocessing, torch.device(device)
    items = training_items(recipe, data)
    mixed = bool(recipe.also_train_on or recipe.idle_share or recipe.unknown_share)
    common = {"shuffle": True, "seed": recipe.seed, "drop_last": True}
    place = {"rank": rank, "world": world, "device": device}
    batch = recipe.batch // world
    make: ClipMaker
    if how.kind == "window" or (how.kind == "nw_ucla" and mixed):
        make = ClipMaker(BodyFrames(data.main), spec)
        loader: ClipLoader = SequenceLoader(recipe, data, make, items, batch, **common, **place)
    elif mixed:
        raise RecipeError(
            f"augmentation.kind {how.kind} draws labelled clips of one store: no also_train_on, "
            "no idle_share, no unknown_share"
        )
    elif how.mirror and how.mirror_labels:
        raise RecipeError(
            f"mirror_labels: with augmentation.kind {how.kind} a mirrored clip keeps its class; use window"
        )
    else:
        frames = BodyFrames(data.main, device if device.type == "cuda" else None)
        change: Change | None = None
        if how.kind == "nw_ucla":
            views = NwUclaViews(x_deg=int(how.pitch_deg), y_deg=int(how.yaw_deg), mirror=how.mirror)
            before = partial(nw_ucla_turn, settings=views, layout=get_layout(spec.layout))
            make = ClipMaker(frames, spec, SortedCopies(spec.frames), before)
        elif how.kind == "none":
            make = ClipMaker(frames, spec)
        else:
            # Mirror and turn commute with bones, motions and InfoGCN's offsets, so they may come last.
            make = ClipMaker(frames, spec, RandomCrop(spec.frames, how.crop_low, 1.0, how.crop_least))
            if how.rotation_rad or how.mirror:
                settings = SkeletonGclViews(rotation_rad=how.rotation_rad, mirror=how.mirror)
                change = partial(turn, settings=settings, layout=get_layout(spec.layout))
        loader = ClipLoader(make, items, batch, augment=change, **common, **place)  # type: ignore[arg-type]
    if len(loader) == 0:
        raise RecipeError(f"{len(items)} training clips are fewer than one batch of {recipe.batch}")
    return loader


class SequenceLoader(ClipLoader):
    """Draws clips one sequence at a time, for changes that act on times and labels too.

    Timed windows with stretched time, mirrored actions that become other classes, idle clips, and clips from further
    stores: a sequence's store, label and frames depend on each other, so there is no batch to change as a whole.
    """

    def __init__(
        self, recipe: Recipe, data: TrainingData, make: ClipMaker, items: np.ndarray, batch: int, **options: object
    ) -> None:
        super().__init__(make, items, batch, **options)  # type: ignore[arg-type]
        self.recipe, self.data = recipe, data
        classes = data.main.classes
        self.mirrored_label = np.arange(len(classes))
        for source, target in recipe.augmentation.mirror_labels.items():
            if source not in classes or target not in classes:
                raise RecipeError(f"mirror_labels: {source!r} or {target!r} is not a class of {data.main.name}")
            self.mirrored_label[classes.index(source)] = classes.index(target)
        self._shares = [
            np.cumsum(class_weights(store.label[indices], recipe.balance)) if recipe.balance else None
            for store, indices in data.further
        ]

    def _made(self, order: Tensor, epoch: int, b: int) -> Batch:
        together = self.batch * self.world
        items = order[b * together : (b + 1) * together][self.rank :: self.world]
        seed = derived_seed(self.seed, epoch, b, self.rank)
        rng = np.random.default_rng(seed)
        drawn = [self._drawn(int(item), rng) for item in items]
        clips = torch.from_numpy(np.stack([clip for clip, _ in drawn]))
        labels = torch.tensor([label for _, label in drawn])
        lengths = torch.full((len(items),), clips.shape[2])
        return Batch((clips,), (lengths,), labels, self._indices[items], items, derived_seed(seed, 1))

    def _drawn(self, item: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        recipe, how = self.recipe, self.recipe.augmentation
        if recipe.unknown_share and rng.random() < recipe.unknown_share:
            sequence = self.data.main.sequence(int(rng.choice(self.data.unknown)))
            return training_clip(sequence, recipe.preprocessing, how, rng, rng.random() < how.mirror), NO_CLASS
        store, index = self._choose(item, rng)
        sequence = store.sequence(index)
        mirrored = how.mirror > 0 and rng.random() < how.mirror
        idle = recipe.idle_share > 0 and rng.random() < recipe.idle_share
        clip = training_clip(sequence, recipe.preprocessing, how, rng, mirrored, idle)
        label = int(self.mirrored_label[sequence.label]) if mirrored else sequence.label
        return clip, len(self.mirrored_label) if idle else label

    def _choose(self, item: int, rng: np.random.Generator) -> tuple[SequenceStore, int]:
        if self.data.further and rng.random() < self.recipe.also_share:
            which = int(rng.integers(len(self.data.further)))
            store, indices = self.data.further[which]
            shares = self._shares[which]
            if shares is None:
                return store, int(indices[int(rng.integers(len(indices)))])
            return store, int(indices[min(int(np.searchsorted(shares, rng.random(), side="right")), len(indices) - 1)])
        return self.data.main, int(self._indices[item])
