"""Who trains and who is tested: the published protocols, and subsets with few labels, as arrays of positions.

A split takes an opened store and gives two int64 arrays of positions in it. Nothing is copied, so one store serves all
protocols; a store from which sequences are missing simply has shorter arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from engine.data.ntu_names import LIST_A, LIST_B
from engine.data.store import SequenceStore
from engine.data.store_files import StoreError

Parts = tuple[np.ndarray, np.ndarray]
SplitFunction = Callable[[SequenceStore], Parts]

# A meta column NAME_train holds who trains in split NAME: 1 train, 0 test, -1 neither.
CLEAN_SUFFIX = "_clean"
# The other way round: copies leave the training part.
TRAIN_CLEAN_SUFFIX = "_train_clean"
FILE_SUFFIX = "_train"
# Shares of the training part whose labels are used in semi-supervised protocols (published: 1, 5, 10, 20, 40 %).
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


def by_values(column: str, train: Collection[int | str], store: SequenceStore) -> Parts:
    """Training part: sequences whose meta column holds one of these values; the others are the test part."""
    chosen = np.isin(store.column(column), list(train))
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def by_test_values(column: str, test: Collection[int | str], store: SequenceStore) -> Parts:
    """As :func:`by_values`, but the values of the test part are given."""
    train, tested = by_values(column, test, store)[::-1]
    return train, tested


def odd_subjects(store: SequenceStore) -> Parts:
    """Subjects with odd numbers train, those with even numbers are tested."""
    odd = store.column("subject") % 2 == 1
    return np.flatnonzero(odd), np.flatnonzero(~odd)


def alternate_subjects(store: SequenceStore, within: str) -> Parts:
    """Every second subject trains, counted in the order of their numbers within each value of a column.

    For sets whose subject numbers are not 1, 2, 3, ...: both parts hold about as many subjects of each kind.
    """
    subject, group = store.column("subject"), store.column(within)
    training: set[int] = set()
    for value in np.unique(group):
        training |= set(np.unique(subject[group == value])[::2].tolist())
    return by_values("subject", sorted(training), store)


def even_setups(store: SequenceStore) -> Parts:
    """NTU-120 cross-setup: even setups train, odd ones are tested (datasets.md, section 1.5)."""
    even = store.column("setup") % 2 == 0
    return np.flatnonzero(even), np.flatnonzero(~even)


def every_fourth(store: SequenceStore) -> Parts:
    """Of every class a quarter of the sequences, drawn once and for all, is tested (at least one if there are two).

    For data whose persons are unknown; sequences of one person are then in both parts, which flatters the result.
    """
    tested = []
    for value in np.unique(store.label):
        members = np.flatnonzero(store.label == value)
        order = np.random.default_rng([4, int(value) + 1]).permutation(len(members))
        tested.append(members[order[: max(len(members) // 4, min(len(members) - 1, 1))]])
    test = np.sort(np.concatenate(tested)) if tested else np.zeros(0, np.int64)
    return np.setdiff1d(np.arange(len(store)), test), test


def from_file(column: str, store: SequenceStore) -> Parts:
    """A split that comes with the data as a file: its column holds 1 train, 0 test, -1 in neither part.

    Raises
    ------
    StoreError
        The file was not with the data when the store was prepared.
    """
    part = store.column(column)
    train, test = np.flatnonzero(part == 1), np.flatnonzero(part == 0)
    if len(store) and not len(train) + len(test):
        raise StoreError(
            f"{store.name} was prepared without the split file for {column.removesuffix(FILE_SUFFIX)}; put it into the "
            "folder of the downloaded files and prepare the set again"
        )
    return train, test


def without_copies(split: SplitFunction, store: SequenceStore) -> Parts:
    """The same split without test sequences whose coordinates also stand, bit for bit, in the training part."""
    train, test = split(store)
    digest = digests(store)
    return train, test[~np.isin(digest[test], digest[train])]


def without_taught_copies(split: SplitFunction, store: SequenceStore) -> Parts:
    """The same split without *training* sequences whose coordinates also stand, bit for bit, in the test part.

    What the copies taught is then missing, and the whole test part can be read.
    """
    train, test = split(store)
    digest = digests(store)
    return train[~np.isin(digest[train], digest[test])], test


def without_parts(split: SplitFunction, store: SequenceStore) -> Parts:
    """The same split without test sequences that share half of their frames or more with a training sequence.

    Slower than :func:`without_copies`: the first time the whole store is searched, and the result kept in its folder.
    """
    # Imported when asked for: the search needs scipy's trees, the other splits only the index.
    from engine.data.duplicates import clean_test_indices, copies_of

    train, test = split(store)
    return train, clean_test_indices(copies_of(store), train, test)


def digests(store: SequenceStore) -> np.ndarray:
    """16 hexadecimal digits per sequence that are equal for equal coordinates; from the index where it has them."""
    if "digest" in store.meta_keys:
        return store.column("digest")
    return np.array([digest(store.sequence(i).xyz) for i in range(len(store))])


def digest(xyz: np.ndarray) -> str:
    """First 16 hexadecimal digits of the SHA-256 of float32 coordinates."""
    return hashlib.sha256(np.ascontiguousarray(xyz, np.float32).tobytes()).hexdigest()[:16]


NTU60_SPLITS: dict[str, SplitFunction] = {
    "xsub": partial(by_values, "performer", LIST_A),
    "xview": partial(by_values, "camera", (2, 3)),
}
NTU120_SPLITS: dict[str, SplitFunction] = {
    "xsub": partial(by_values, "performer", LIST_B),
    "xset": even_setups,
}
PKU_SPLITS: dict[str, SplitFunction] = {
    "xsub": partial(from_file, "xsub_train"),
    "xview": partial(from_file, "xview_train"),
}
_NW_UCLA_XVIEW = partial(by_test_values, "view", (3,))
# MMNet tests every view in turn; the usual protocol is 1+2 -> 3.
_NW_UCLA_OTHER_VIEWS: dict[str, SplitFunction] = {
    "train13_test2": partial(by_test_values, "view", (2,)),
    "train23_test1": partial(by_test_values, "view", (1,)),
}


def rehearsal(store: SequenceStore) -> Parts:
    """NW-UCLA's cross-view split in small, for choosing settings without a look at what only view 3 shows.

    View 1 trains and view 2 is tested. As there, the sequences that two views have in common train as well: of view 3
    those that are, bit for bit, also in view 2.
    """
    view, digest = store.column("view"), digests(store)
    test = np.flatnonzero(view == 2)
    train = (view == 1) | ((view == 3) & np.isin(digest, digest[test]))
    return np.flatnonzero(train), test


NW_UCLA_SPLITS: dict[str, SplitFunction] = {
    "xview": _NW_UCLA_XVIEW,
    "xview_clean": partial(without_copies, _NW_UCLA_XVIEW),
    f"xview{TRAIN_CLEAN_SUFFIX}": partial(without_taught_copies, _NW_UCLA_XVIEW),
    **_NW_UCLA_OTHER_VIEWS,
    **{f"{name}{CLEAN_SUFFIX}": partial(without_parts, split) for name, split in _NW_UCLA_OTHER_VIEWS.items()},
    "rehearsal": rehearsal,
    "rehearsal_clean": partial(without_copies, rehearsal),
}


def leave_one_subject_out(store: SequenceStore) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(subject, training part, test part) for every subject; the protocol of the small Kinect v1 sets."""
    subject = store.column("subject")
    for left_out in np.unique(subject):
        tested = subject == left_out
        yield int(left_out), np.flatnonzero(~tested), np.flatnonzero(tested)


def few_labels(store: SequenceStore, train: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """The part of a training set whose labels a semi-supervised run may use.

    Every class gives the same share, rounded, and at least one sequence. With one seed a smaller fraction is part of
    every larger one, so results at different fractions differ only by the added labels.

    Parameters
    ----------
    train : numpy.ndarray
        Positions of the whole training part.
    fraction : float
        0 < fraction <= 1; :data:`FRACTIONS` are in use.

    Returns
    -------
    numpy.ndarray
        Positions, ascending.

    Raises
    ------
    ValueError
        A fraction outside 0..1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: it must be above 0 and at most 1")
    return _first_of_each_class(store.label[train], train, seed, lambda n: max(1, int(np.floor(n * fraction + 0.5))))


def few_shot(store: SequenceStore, train: np.ndarray, shots: int, seed: int = 0) -> np.ndarray:
    """``shots`` sequences of every class (all where a class has fewer); fewer shots are part of more with one seed."""
    if shots < 1:
        raise ValueError(f"{shots} shots: at least one of every class is needed")
    return _first_of_each_class(store.label[train], train, seed, lambda n: min(n, shots))


def _first_of_each_class(label: np.ndarray, train: np.ndarray, seed: int, count: Callable[[int], int]) -> np.ndarray:
    chosen = []
    for value in np.unique(label):
        members = train[label == value]
        # Seeded by class: taking a class away does not change what is drawn of the others.
        order = np.random.default_rng([seed, int(value) + 1]).permutation(len(members))
        chosen.append(members[order[: count(len(members))]])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


@dataclass(frozen=True)
class OneShot:
    """NTU-120 one-shot: ``auxiliary`` to train on, one ``exemplars`` per novel class, ``queries`` to be named."""

    auxiliary: np.ndarray
    exemplars: np.ndarray
    queries: np.ndarray


ONE_SHOT_LABELS = tuple(range(0, 120, 6))


def one_shot_exemplar(label: int) -> str:
    """Name of the exemplar of a novel class."""
    return f"S{1 if label < 60 else 18:03d}C003P008R001A{label + 1:03d}"


def one_shot(store: SequenceStore) -> OneShot:
    """The one-shot protocol of NTU-120 (datasets.md, section 1.5): every sixth class from the first on is novel.

    Raises
    ------
    StoreError
        An exemplar is not in the store.
    """
    novel = np.isin(store.label, ONE_SHOT_LABELS)
    names = [one_shot_exemplar(label) for label in ONE_SHOT_LABELS]
    position = {name: i for i, name in enumerate(store.names)}
    if lacking := [name for name in names if name not in position]:
        raise StoreError(f"{store.name} lacks the one-shot exemplars {', '.join(lacking[:3])}")
    exemplars = np.array([position[name] for name in names], np.int64)
    queries = np.setdiff1d(np.flatnonzero(novel), exemplars)
    return OneShot(np.flatnonzero(~novel), exemplars, queries)
