"""How many sequences of which class a store holds, in all and in the parts of every split, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from engine.data.duplicates import Copies, clean_test_indices, copies_known
from engine.data.sets import DATASETS, base_name, split_indices, splits_of
from engine.data.splits import CLEAN_SUFFIX, without_parts
from engine.data.store import SequenceStore, StoreError


@dataclass(frozen=True)
class SplitStatistics:
    """One split of a store.

    Parameters
    ----------
    name : str
        With ``_clean`` for the split without test sequences that are copies of training data.
    train, test : numpy.ndarray or None
        Positions, int64; None when the split can't be made, and ``note`` says why.
    train_per_class, test_per_class : numpy.ndarray
        int64 ``(classes,)``.
    expected : tuple of int or None
        Published (train, test).
    """

    name: str
    train: np.ndarray | None
    test: np.ndarray | None
    train_per_class: np.ndarray
    test_per_class: np.ndarray
    expected: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class StoreStatistics:
    """Counts of one store. ``per_class`` int64 ``(classes,)``, ``length`` frames and ``bodies`` of every sequence."""

    classes: tuple[str, ...]
    fps: float
    per_class: np.ndarray
    unlabelled: int
    length: np.ndarray
    bodies: np.ndarray
    splits: tuple[SplitStatistics, ...]


def store_statistics(store: SequenceStore) -> StoreStatistics:
    """Count a store.

    Every split has its ``_clean`` twin. Where finding copies would take a search of the whole store that has not been
    made yet, the twin is listed without numbers and its note says how to get them.
    """
    classes = len(store.classes)
    return StoreStatistics(
        tuple(store.classes),
        store.fps,
        _per_class(store.label, classes),
        int((store.label < 0).sum()),
        store.length,
        store.bodies,
        tuple(_splits(store, classes)),
    )


def _per_class(label: np.ndarray, classes: int) -> np.ndarray:
    counts: np.ndarray = np.bincount(label[label >= 0], minlength=classes)
    return counts


def _splits(store: SequenceStore, classes: int) -> list[SplitStatistics]:
    known = splits_of(store)
    copies = copies_known(store)
    info = DATASETS.get(base_name(store.name))
    published = info.split_counts if info and not store.name.endswith("_mediapipe") else {}
    names: list[str] = []
    for name in known:
        names += [name] if name.endswith(CLEAN_SUFFIX) else [name, name + CLEAN_SUFFIX]
    found = []
    for name in dict.fromkeys(names):
        try:
            parts = _parts(store, name, copies)
        except StoreError as error:
            found.append(_without(name, classes, published.get(name), str(error)))
            continue
        if parts is None:
            note = "not searched; see Check"
            found.append(_without(name, classes, published.get(name), note))
            continue
        train, test = parts
        counts = _per_class(store.label[train], classes), _per_class(store.label[test], classes)
        found.append(SplitStatistics(name, train, test, *counts, published.get(name)))
    return found


def _without(name: str, classes: int, expected: tuple[int, int] | None, note: str) -> SplitStatistics:
    nothing = np.zeros(classes, np.int64)
    return SplitStatistics(name, None, None, nothing, nothing, expected, note)


def _parts(store: SequenceStore, name: str, copies: Copies | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions of a split, None when they would need a long search."""
    rule = splits_of(store).get(name)
    searched = rule is None or (isinstance(rule, partial) and rule.func is without_parts)
    if not searched:
        return split_indices(store, name)
    if copies is None:
        return None
    train, test = split_indices(store, name.removesuffix(CLEAN_SUFFIX))
    return train, clean_test_indices(copies, train, test)
