"""Finds recordings that stand in a dataset twice, so that no test sequence is a training sequence under another name.

NW-UCLA is distributed with 95 of its 464 test sequences copied from the training views; no published result says so.
A split with such copies gets a ``_clean`` variant without them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from engine.data.copy_search import (
    Candidate,
    Sequences,
    by_frames,
    by_motion,
    cast_nets,
    closeness,
    rough_distance,
    shared_frames,
)
from engine.data.store import SequenceStore

COPIES_FILE = "copies.json"
Kind = Literal["exact", "shifted", "part", "overlap", "near"]
NEAR = 0.005  # m RMS; see benchmarks/duplicates.md: repetitions by one person come no nearer than three times this
MIN_NEAR_FRAMES = 8


@dataclass(frozen=True)
class Copy:
    """One pair of sequences with common data.

    Parameters
    ----------
    a, b : int
        Numbers of the sequences, ``a < b``.
    kind : str
        ``exact``: equal bit for bit. ``shifted``: equal after one constant shift. ``part``: all of the shorter one is
        in the other. ``overlap``: some frames in common. ``near``: the same motion up to noise, turn and shift.
    frames : int
        Frames in common.
    share : float
        ``frames`` over the frames of the shorter sequence.
    lag : int
        Frame ``t`` of ``a`` is frame ``t + lag`` of ``b``.
    distance : float
        RMS distance of the joints in the common frames, metres, after removing shift (and turn, for ``near``).
    shift : float
        Length of the removed shift, metres; 0 for ``near``, where it is not measured.
    """

    a: int
    b: int
    kind: Kind
    frames: int
    share: float
    lag: int
    distance: float
    shift: float = 0.0


@dataclass(frozen=True)
class Copies:
    """All pairs found, and the numbers of the sequences that were searched."""

    pairs: tuple[Copy, ...]
    searched: int

    def between(self, train: Iterable[int], test: Iterable[int]) -> list[Copy]:
        """Pairs with one sequence in each part."""
        left, right = set(map(int, train)), set(map(int, test))
        return [p for p in self.pairs if (p.a in left and p.b in right) or (p.b in left and p.a in right)]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain values with names instead of numbers."""
        rows = [asdict(pair) | {"a": names[pair.a], "b": names[pair.b]} for pair in self.pairs]
        return {"searched": self.searched, "pairs": rows}

    @classmethod
    def from_json(cls, data: dict[str, Any], names: Sequence[str]) -> Copies:
        """Read back what :meth:`to_json` gave; pairs whose names are no longer there are left out."""
        number = {name: i for i, name in enumerate(names)}
        pairs = []
        for row in data["pairs"]:
            if row["a"] in number and row["b"] in number:
                a, b = number[row["a"]], number[row["b"]]
                lag = row["lag"] if a < b else -row["lag"]
                pairs.append(Copy(**row | {"a": min(a, b), "b": max(a, b), "lag": lag}))
        return cls(tuple(sorted(pairs, key=lambda p: (p.a, p.b))), data["searched"])


def find_copies(
    store: Sequences, train: Iterable[int] | None = None, test: Iterable[int] | None = None, near: float = NEAR
) -> Copies:
    """Search a dataset for copies, within and across its parts.

    A clip cut out of another is found wherever it lies, also after a constant shift. Copies with noise or rounding (up
    to ``near``) and with a turn are found when they are whole, also at another rate; of clips that lost some frames at
    an end only those that move little in them. Use a float32 store: the rounding of a float16 one hides clips cut out
    of others.

    Parameters
    ----------
    store : SequenceStore
        Or anything with ``len()`` and ``sequence(i)``.
    train, test : iterable of int, optional
        Search only these; without both everything. Pairs within either part are reported too;
        :meth:`Copies.between` picks those across.
    near : float
        Largest RMS distance in metres that is still called a copy; 0 looks for exact data only.

    Returns
    -------
    Copies
        Pairs in order of their numbers, each once.
    """
    if train is None and test is None:
        indices = list(range(len(store)))
    else:
        indices = sorted({int(i) for part in (train, test) if part is not None for i in part})
    nets = cast_nets(store, indices)
    found: dict[tuple[int, int], Copy] = {}
    for candidates in by_frames(nets):
        pair = _exact(store, candidates)
        if pair is not None:
            found[pair.a, pair.b] = pair
    if near > 0:
        # Descriptors move at most twice as far as the joints.
        for left, right in by_motion(nets, 2 * near):
            known = found.get((left, right))
            if known is None or known.kind == "overlap":
                close = _near(store, left, right, near)
                if close is not None:
                    found[left, right] = close
    return Copies(tuple(found[key] for key in sorted(found)), len(indices))


def _exact(store: Sequences, candidates: list[Candidate]) -> Copy | None:
    left, right = candidates[0].a, candidates[0].b
    a, b = store.sequence(left).xyz, store.sequence(right).xyz
    there = np.any(a != 0, axis=(1, 2, 3)), np.any(b != 0, axis=(1, 2, 3))
    found = [(c, s) for c in candidates if (s := shared_frames(a, b, c)) is not None]
    if not found:
        return None
    best, shared = max(found, key=lambda entry: int(entry[1].in_a.sum()))
    # Every frame of the shorter one counts once, at whatever lag it is found in the other.
    short_a = there[0].sum() <= there[1].sum()
    frames = int(np.any([s.in_a if short_a else s.in_b for _, s in found], axis=0).sum())
    shorter = int(min(there[0].sum(), there[1].sum()))
    kind: Kind = "part" if frames >= shorter else "overlap"
    if a.shape == b.shape and best.lag == 0 and shared.in_a.sum() == shorter == there[1].sum() == there[0].sum():
        kind = "exact" if np.array_equal(a, b) else "shifted"
    return Copy(left, right, kind, frames, round(frames / shorter, 4), best.lag, shared.distance, shared.shift)


def _near(store: Sequences, left: int, right: int, near: float) -> Copy | None:
    a, b = store.sequence(left).xyz, store.sequence(right).xyz
    if rough_distance(a, b) > 4 * near:
        return None
    close = closeness(a, b)
    if close is None or close.frames < MIN_NEAR_FRAMES or close.distance > near or close.worst > 2 * near:
        return None
    # Two people who hardly move look alike without being copies.
    if close.distance > close.motion / 4:
        return None
    share = close.frames / min(_occupied(a), _occupied(b))
    return Copy(left, right, "near", close.frames, round(min(share, 1.0), 4), close.lag, close.distance)


def _occupied(xyz: np.ndarray) -> int:
    """Frames with somebody."""
    return int(np.any(xyz != 0, axis=(1, 2, 3)).sum())


def copied_test_indices(copies: Copies, train: Iterable[int], test: Iterable[int], share: float = 0.5) -> np.ndarray:
    """int64: test sequences of which a training sequence holds a copy.

    An overlap counts when the common frames are at least ``share`` of the shorter sequence.
    """
    wanted = set(map(int, test))
    hit = {p.a if p.a in wanted else p.b for p in copies.between(train, wanted) if p.share >= share}
    return np.array(sorted(hit), np.int64)


def clean_test_indices(copies: Copies, train: Iterable[int], test: Iterable[int], share: float = 0.5) -> np.ndarray:
    """int64: the test part in its order, without the sequences of :func:`copied_test_indices`."""
    everything = np.asarray(list(test), np.int64)
    return everything[~np.isin(everything, copied_test_indices(copies, train, everything, share))]


def copies_of(store: SequenceStore) -> Copies:
    """:func:`find_copies` of a whole store, searched once and kept in its folder as ``copies.json``.

    A folder that can't be written to is searched every time.
    """
    known = copies_known(store)
    if known is not None:
        return known
    copies = find_copies(store)
    file = store.folder / COPIES_FILE
    partial = file.with_name(f"{COPIES_FILE}.{os.getpid()}")
    try:
        partial.write_text(json.dumps({"key": _files_key(store), **copies.to_json(store.names)}), "utf-8")
        os.replace(partial, file)
    except OSError:
        partial.unlink(missing_ok=True)
    return copies


def copies_known(store: SequenceStore) -> Copies | None:
    """What an earlier :func:`copies_of` kept for the store as it is now; None when there was none."""
    try:
        data = json.loads((store.folder / COPIES_FILE).read_text("utf-8"))
        if data["key"] == _files_key(store):
            return Copies.from_json(data, store.names)
    except (OSError, ValueError, KeyError, TypeError):
        # None yet, or one that can't be read.
        pass
    return None


def _files_key(store: SequenceStore) -> str:
    return hashlib.sha256(json.dumps(store.header["files"], sort_keys=True).encode()).hexdigest()
