"""A set's films as a store of their own: which sequences are filmed, so that it can be interrupted, and grown later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bodies import RawDataError
from engine.data.parts import Plan
from engine.data.sets import main_split, split_indices
from engine.data.store import SequenceStore, StoreError
from engine.live.through_camera import CameraSetup, see
from engine.skeleton.sequence import SkeletonSequence

# The column that says which film of a sequence this is: its seed, or this where everybody is filmed alike.
FILM = "film"
ALIKE = -1


def balanced(store: SequenceStore, indices: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    """At most ``per_class`` sequences of every class, spread evenly over its subjects; 0 takes all there are.

    Subjects take turns in a drawn order, each with a drawn sequence of its own. A larger number adds to what a smaller
    one chose (with one seed).
    """
    if not per_class:
        return indices
    labelled = indices[store.label[indices] >= 0]
    subject = store.column("subject") if "subject" in store.meta_keys else np.zeros(len(store), np.int64)
    chosen: list[int] = []
    for label in np.unique(store.label[labelled]).tolist():
        members = labelled[store.label[labelled] == label]
        rng = np.random.default_rng([seed, label + 1])
        people = rng.permutation(np.unique(subject[members]))
        queues = [rng.permutation(members[subject[members] == person]).tolist() for person in people]
        turns = [queue[turn] for turn in range(len(members)) for queue in queues if turn < len(queue)]
        chosen += turns[:per_class]
    return np.sort(np.array(chosen, np.int64))


def plan_films(
    store: SequenceStore,
    folder: Path,
    split: str = "",
    variants: int = 1,
    per_class: int = 0,
    test_per_class: int = 0,
    seed: int = 0,
    afresh: bool = False,
) -> tuple[Plan, dict[str, Any]]:
    """What :func:`engine.data.parts.build_store` needs to film a set, and what the header will say.

    Parameters
    ----------
    folder : Path
        Where the films go. Films that are there already and would come out the same are taken over, and those that
        more variants or a larger choice would have asked for stay beside what is asked for now.
    split : str
        Its training part is filmed with varied people and views, its test part all alike; default
        :func:`engine.data.sets.main_split`.
    variants : int
        Films of every training sequence.
    per_class, test_per_class : int
        As :func:`balanced`.
    afresh : bool
        Take nothing over: after a change of the pose model or of the lifting.

    Raises
    ------
    StoreError
        No such split.
    """
    train, test = split_indices(store, split or main_split(store))
    items = [f"{seed + v}:{i}" for v in range(variants) for i in balanced(store, train, per_class, seed)]
    items += [f"{ALIKE}:{i}" for i in balanced(store, test, test_per_class, seed)]
    camera = {key: value for key, value in asdict(CameraSetup()).items() if key not in ("vary", "seed")}
    if not afresh:
        planned = set(items)
        kept = _kept(store, folder, json.dumps(camera, sort_keys=True), train, test, seed)
        items += [item for item in kept if item not in planned]
    source = json.dumps([camera, store.header["files"], afresh], sort_keys=True)
    name = f"{store.name}_mediapipe"
    make = FilmedItems(str(store.folder), "" if afresh else str(folder), json.dumps(camera, sort_keys=True))
    fps = store.fps / CameraSetup().every
    plan = Plan(tuple(items), make, name, tuple(store.classes), fps, source=source)
    return plan, {"key": plan.key(), "camera": camera, "filmed": store.name}


def _kept(store: SequenceStore, folder: Path, camera: str, train: np.ndarray, test: np.ndarray, seed: int) -> list[str]:
    """Items of the films that are there and that this split and seed could have asked for."""
    trained, tested = ({store.names[i]: i for i in part.tolist()} for part in (train, test))
    items = []
    for name, film in _films(str(folder), camera):
        position = tested.get(name) if film == ALIKE else trained.get(name) if film >= seed else None
        if position is not None:
            items.append(f"{film}:{position}")
    return items


@dataclass(frozen=True)
class FilmedItems:
    """Makes the film of an item ``SEED:POSITION``; goes to worker processes as it is."""

    store: str
    before: str
    camera: str

    def __call__(self, item: str) -> Iterator[SkeletonSequence]:
        film, _, position = item.rpartition(":")
        sequence = _opened(self.store).sequence(int(position))
        old = _films(self.before, self.camera)
        known = old.get((sequence.name, int(film)))
        if known is not None and _opened(self.before).meta(known).get("digest") == sequence.meta.get("digest"):
            yield _opened(self.before).sequence(known)
            return
        setup = CameraSetup(vary=False) if int(film) == ALIKE else CameraSetup(seed=int(film))
        seen = see(sequence, setup)
        if seen is None:
            raise RawDataError(f"{sequence.name}: nobody was found in any frame")
        seen.meta[FILM] = int(film)
        yield seen


@lru_cache(maxsize=4)
def _opened(folder: str) -> SequenceStore:
    return SequenceStore(Path(folder))


@lru_cache(maxsize=2)
def _films(folder: str, camera: str) -> dict[tuple[str, int], int]:
    """Position of every film, by name and film, of a store that was filmed with the same camera."""
    try:
        store = _opened(folder)
    except StoreError:
        return {}
    if json.dumps(store.header["about"].get("camera"), sort_keys=True) != camera or FILM not in store.meta_keys:
        return {}
    return {(name, int(film)): i for i, (name, film) in enumerate(zip(store.names, store.column(FILM), strict=True))}
