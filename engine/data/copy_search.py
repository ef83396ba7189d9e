"""Finds which sequences could be copies of each other without comparing all pairs, and measures how close they are.

Two nets: a code per body-frame (equal poses fall together by sorting, so a clip cut out of another is found wherever
it lies), and a descriptor of the whole motion that neither place nor direction changes (nearest neighbours in a tree).
What the nets bring up is measured joint by joint; nothing is called a copy on a code alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from engine.data.frame_steps import presence
from engine.skeleton.sequence import SkeletonSequence

GRID = 1e-3  # m; poses are rounded to it before they are coded
SAME = 1e-4  # m; joints closer than this after a constant shift are the same
_GROUP = 16  # equal codes are paired with this many neighbours in the sorted list
_MOMENTS, _PAIRS, _DIMENSIONS, _NEIGHBOURS = 8, 64, 64, 4
_SAMPLE = 2048  # sequences from which the projection is made
_LAGS = 5
_MOST_LAGS = 64  # a clip may be pieced together from another, or hold every second frame of it


class Sequences(Protocol):
    """What is searched: a prepared store, or anything that hands out sequences by number."""

    def __len__(self) -> int: ...

    def sequence(self, i: int) -> SkeletonSequence: ...


@dataclass(frozen=True)
class Nets:
    """What one walk through the data leaves in memory.

    ``code`` uint64, ``owner`` int32, ``frame`` int32, ``body`` uint8, all ``(F,)``: one per body-frame, the first of
    equal ones in a sequence.
    ``motion`` float32 ``(n, D)``: descriptors of the sequences ``described`` ``(n,)``.
    """

    code: np.ndarray
    owner: np.ndarray
    frame: np.ndarray
    body: np.ndarray
    motion: np.ndarray
    described: np.ndarray


def frame_codes(poses: np.ndarray) -> np.ndarray:
    """uint64 ``(n,)``: equal for poses ``(n, V, 3)`` that are equal up to a shift, to a millimetre.

    A shift changes the last bits of a float, so a coordinate next to a rounding edge may fall on either side: of two
    shifted copies some frames differ in code, most don't.
    """
    cells = np.rint((poses - poses[:, 1:2]) / GRID).astype(np.int64).reshape(len(poses), poses.shape[1] * 3)
    factors = np.random.default_rng(7).integers(1, 2**63, cells.shape[1], dtype=np.int64) | 1
    # Products and sums wrap around: that is the hash.
    return (cells @ factors).view(np.uint64)


def motion_descriptor(xyz: np.ndarray, pairs: np.ndarray) -> np.ndarray | None:
    """Distances between ``pairs`` ``(P, 2)`` of joints at 8 moments of the first body's time, metres over sqrt(8 P).

    The Euclidean distance of two descriptors is the RMS difference of joint distances: at most twice the RMS
    distance of the joints, whatever turn and shift lie between. None for less than two frames.
    """
    there = presence(xyz)
    seen = xyz[there[:, 0], 0]
    if len(seen) < 2:
        return None
    moments = read_at(seen, np.linspace(0, len(seen) - 1, _MOMENTS))
    distance = np.linalg.norm(moments[:, pairs[:, 0]] - moments[:, pairs[:, 1]], axis=-1)
    scaled: np.ndarray = (distance / np.sqrt(distance.size)).ravel()
    return scaled


def read_at(frames: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``(T, ...)`` read at fractional frames ``at``, linear between neighbours."""
    left = np.minimum(np.floor(at).astype(np.int64), len(frames) - 1)
    weight = (at - left).astype(np.float32).reshape(-1, *(1,) * (frames.ndim - 1))
    out: np.ndarray = frames[left] * (1 - weight) + frames[np.minimum(left + 1, len(frames) - 1)] * weight
    return out


def cast_nets(store: Sequences, indices: Iterable[int]) -> Nets:
    """Walk once through the given sequences (twice through a sample of them)."""
    order = [int(i) for i in indices]
    joints = store.sequence(order[0]).xyz.shape[2] if order else 25
    both = np.stack(np.triu_indices(joints, 1), axis=1)
    pairs = np.random.default_rng(5).permutation(both)[:_PAIRS]
    step = max(len(order) // _SAMPLE, 1)
    sample = [d for i in order[::step] if (d := motion_descriptor(store.sequence(i).xyz, pairs)) is not None]
    # A projection onto orthogonal directions never makes a distance larger, so it loses no neighbour.
    axes = np.zeros((len(pairs) * _MOMENTS, 1))
    if sample:
        _, _, directions = np.linalg.svd(np.array(sample) - np.mean(sample, axis=0), full_matrices=False)
        axes = directions[:_DIMENSIONS].T
    codes, owners, frames, bodies, motions, described = [], [], [], [], [], []
    for i in order:
        xyz = store.sequence(i).xyz
        frame, body = np.nonzero(presence(xyz))
        # A pose that stands still is coded once.
        code, first = np.unique(frame_codes(xyz[frame, body]), return_index=True)
        frame, body = frame[first], body[first]
        codes.append(code)
        owners.append(np.full(len(frame), i, np.int32))
        frames.append(frame.astype(np.int32))
        bodies.append(body.astype(np.uint8))
        descriptor = motion_descriptor(xyz, pairs)
        if descriptor is not None:
            motions.append((descriptor @ axes).astype(np.float32))
            described.append(i)

    def joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
        return np.concatenate(parts) if parts else np.zeros(0, kind)

    return Nets(
        joined(codes, np.uint64),
        joined(owners, np.int32),
        joined(frames, np.int32),
        joined(bodies, np.uint8),
        np.array(motions, np.float32) if motions else np.zeros((0, 1), np.float32),
        np.array(described, np.int64),
    )


class Candidate(NamedTuple):
    """Frame ``t`` of sequence ``a`` looks like frame ``t + lag`` of ``b``; ``swapped``: with persons exchanged."""

    a: int
    b: int
    lag: int
    swapped: bool


def by_frames(nets: Nets) -> list[list[Candidate]]:
    """Pairs of sequences with equal frame codes; for each pair its lags, first the one most frames agree on."""
    order = np.argsort(nets.code, kind="stable")
    code = nets.code[order]
    votes = []
    for k in range(1, _GROUP + 1):
        left, right = order[:-k][code[:-k] == code[k:]], order[k:][code[:-k] == code[k:]]
        if not len(left):
            break
        other = nets.owner[left] != nets.owner[right]
        left, right = left[other], right[other]
        # The stable sort keeps the walk's order, which need not be that of the numbers.
        turn = nets.owner[left] > nets.owner[right]
        left, right = np.where(turn, right, left), np.where(turn, left, right)
        lag = nets.frame[right] - nets.frame[left]
        swapped = nets.body[right] != nets.body[left]
        votes.append(np.stack([nets.owner[left], nets.owner[right], lag, swapped], axis=1).astype(np.int64))
    if not votes:
        return []
    rows, counts = np.unique(np.concatenate(votes), axis=0, return_counts=True)
    found: dict[tuple[int, int], list[tuple[int, Candidate]]] = {}
    for (a, b, lag, swapped), count in zip(rows.tolist(), counts.tolist()):
        found.setdefault((a, b), []).append((count, Candidate(a, b, lag, bool(swapped))))
    ranked = (sorted(entries, key=lambda e: (-e[0], abs(e[1].lag))) for entries in found.values())
    return [[candidate for _, candidate in entries[:_MOST_LAGS]] for entries in ranked]


def by_motion(nets: Nets, radius: float) -> list[tuple[int, int]]:
    """Pairs ``a < b`` whose descriptors lie within ``radius`` metres, for each sequence its four nearest."""
    if len(nets.motion) < 2:
        return []
    # Imported when searching: those who only read what was found should not wait for scipy.
    from scipy.spatial import cKDTree

    tree = cKDTree(nets.motion)
    _, found = tree.query(nets.motion, k=_NEIGHBOURS + 1, distance_upper_bound=radius)
    pairs = set()
    for i, row in enumerate(found.tolist()):
        for j in row:
            if j != i and j < len(nets.motion):
                a, b = int(nets.described[i]), int(nets.described[j])
                pairs.add((min(a, b), max(a, b)))
    return sorted(pairs)


class Shared(NamedTuple):
    """Frames of ``a`` and of ``b`` (bool) that agree, RMS distance in them and length of the shift, metres."""

    in_a: np.ndarray
    in_b: np.ndarray
    distance: float
    shift: float
    bitwise: bool


def shared_frames(a: np.ndarray, b: np.ndarray, candidate: Candidate) -> Shared | None:
    """Frames with somebody in which all joints agree within 0.1 mm after one constant shift, at the candidate's lag."""
    in_a, in_b = np.zeros(len(a), bool), np.zeros(len(b), bool)
    a, b = _same_persons(a, b, candidate.swapped)
    start, stop = max(0, -candidate.lag), min(len(a), len(b) - candidate.lag)
    a, b = a[start:stop], b[start + candidate.lag : stop + candidate.lag]
    there = presence(a)
    alike = (there == presence(b)).all(axis=1) & there.any(axis=1)
    if not alike.any():
        return None
    moved = np.where(there[..., None, None], b - a, 0).astype(np.float64)
    # First the frames that agree up to a shift of their own, then those of one shift: others may show something else.
    each = moved.sum(axis=(1, 2)) / np.maximum(there.sum(axis=1) * a.shape[2], 1)[:, None]
    same = alike & _agrees(moved, each[:, None, None], there)
    if not same.any():
        return None
    shift = np.median(each[same], axis=0)
    same &= _agrees(moved, shift, there)
    if not same.any():
        return None
    in_a[start:stop] = same
    in_b[start + candidate.lag : stop + candidate.lag] = same
    bitwise = bool(np.array_equal(a[same], b[same]))
    rest = (moved - shift)[same][there[same]]
    distance = 0.0 if bitwise else float(np.sqrt((rest**2).sum(axis=-1).mean()))
    return Shared(in_a, in_b, distance, 0.0 if bitwise else float(np.linalg.norm(shift)), bitwise)


def _agrees(moved: np.ndarray, shift: np.ndarray, there: np.ndarray) -> np.ndarray:
    agrees: np.ndarray = np.where(there[..., None, None], np.abs(moved - shift), 0.0).max(axis=(1, 2, 3)) < SAME
    return agrees


class Closeness(NamedTuple):
    """RMS distance after the best rigid motion, that of the worst frame, and how much ``a`` moves; metres."""

    distance: float
    worst: float
    motion: float
    frames: int
    lag: int


def closeness(a: np.ndarray, b: np.ndarray) -> Closeness | None:
    """Distance of two motions after the best turn and shift, at the best lag of a few frames or stretched in time."""
    found: list[Closeness] = []
    for swapped in (False, True) if max(a.shape[1], b.shape[1]) > 1 else (False,):
        first, second = _same_persons(a, b, swapped)
        if abs(len(a) - len(b)) <= _LAGS:
            for lag in range(-_LAGS, _LAGS + 1):
                start, stop = max(0, -lag), min(len(a), len(b) - lag)
                if stop - start >= 0.8 * min(len(a), len(b)):
                    found += _fit(first[start:stop], second[start + lag : stop + lag], lag)
        else:
            # One may be the other played at another rate: each is read at the moments of the other's frames.
            found += _fit(first, read_at(second, np.linspace(0, len(b) - 1, len(a))), 0)
            found += _fit(read_at(first, np.linspace(0, len(a) - 1, len(b))), second, 0)
    return min(found, key=lambda c: c.distance, default=None)


def rough_distance(a: np.ndarray, b: np.ndarray) -> float:
    """RMS distance of the first bodies at 16 moments of their time after the best turn and shift, metres.

    Some fifty times cheaper than :func:`closeness`; a cut of a few frames moves it as far as the body moves in them.
    """
    moments = []
    for xyz in (a, b):
        seen = xyz[presence(xyz)[:, 0], :1]
        if len(seen) < 2:
            return np.inf
        moments.append(read_at(seen, np.linspace(0, len(seen) - 1, 2 * _MOMENTS)))
    fit = _fit(moments[0], moments[1], 0)
    return fit[0].distance if fit else np.inf


def _fit(a: np.ndarray, b: np.ndarray, lag: int) -> list[Closeness]:
    agree = (presence(a) == presence(b)).all(axis=1) & presence(a).any(axis=1)
    if agree.sum() < max(2, 0.8 * len(a)):
        return []
    a, b = a[agree].astype(np.float64), b[agree].astype(np.float64)
    there = presence(a)
    middle = a[there].mean((0, 1)), b[there].mean((0, 1))
    x, y = (a - middle[0])[there].reshape(-1, 3), (b - middle[1])[there].reshape(-1, 3)
    u, _, v = np.linalg.svd(x.T @ y)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v
    rest = np.where(there[..., None, None], (a - middle[0]) @ turn - (b - middle[1]), 0.0)
    square = (rest**2).sum(axis=-1)
    joints = there.sum(axis=1) * a.shape[2]
    frame = np.sqrt(square.sum(axis=(1, 2)) / joints)
    steady = np.where(there[..., None, None], a - a.sum(0) / np.maximum(there.sum(0), 1)[:, None, None], 0.0)
    motion = float(np.sqrt((steady**2).sum(axis=-1).sum() / joints.sum()))
    return [Closeness(float(np.sqrt(square.sum() / joints.sum())), float(frame.max()), motion, len(a), lag)]


def _same_persons(a: np.ndarray, b: np.ndarray, swapped: bool) -> tuple[np.ndarray, np.ndarray]:
    count = max(a.shape[1], b.shape[1], 2 if swapped else 1)

    def widened(x: np.ndarray) -> np.ndarray:
        if x.shape[1] == count:
            return x
        return np.concatenate([x, np.zeros((len(x), count - x.shape[1], *x.shape[2:]), x.dtype)], axis=1)

    return widened(a), widened(b)[:, ::-1] if swapped else widened(b)
