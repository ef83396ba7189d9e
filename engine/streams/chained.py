"""Long streams with known truth, chained from the sequences of a store, with idle in between.

Cut clips flatter a recogniser: it is told where an action begins and ends. Here one person does one action after the
other and stands (or sits) about in between, as in front of a camera, and everything has to be found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.data.preprocess import LIMB_BONES
from engine.data.start_pose import START_POSES, end_of_start_pose
from engine.data.store import SequenceStore
from engine.render.motions import blended
from engine.render.repertoire import ease
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence
from engine.skeleton.speed import moving_part
from engine.streams.event_metrics import TrueAction

FPS = 30.0
# Two poses (mean joint distance, metres) between which a person passes without doing anything one would name.
NEAR_POSE = 0.12
# Speed of the fastest joint in a transition, metres per second on average (1.9 times that at its peak).
PASS_SPEED = 0.6
_SHORTEST_PASS_S, _LONGEST_PASS_S = 0.4, 1.6
_SHORTEST_STILL = 6
_FOOT_JOINTS = (14, 15, 18, 19)


@dataclass(frozen=True)
class StreamSettings:
    """How streams are made: ``seconds`` of each, ``idle_s`` between two actions, and the share of unknown actions."""

    seconds: float = 300.0
    idle_s: tuple[float, float] = (2.0, 5.0)
    unknown_share: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Stream:
    """One person's stream: NTU-25 at 30 frames per second from 0 s.

    ``truth``: the actions less what is still at their ends; ``cut``: as the set's authors cut them.
    """

    name: str
    sequence: SkeletonSequence
    truth: tuple[TrueAction, ...]
    cut: tuple[TrueAction, ...]


@dataclass(frozen=True)
class _Take:
    """A sequence at 30 frames per second: joints ``(T, 25, 3)``, and the part ``[first, last]`` that moves."""

    name: str
    label: str
    xyz: np.ndarray
    first: int
    last: int
    known: bool = True


def _take(store: SequenceStore, index: int, known: bool = True) -> _Take | None:
    """A sequence ready for a stream; None where the person is absent or it is shorter than a third of a second."""
    sequence = store.sequence(index)
    xyz = convert_layout(sequence.xyz[:, :1].astype(np.float64), sequence.layout, "ntu25")[:, 0]
    seen = np.any(xyz != 0, axis=(1, 2))
    xyz, times = xyz[seen], sequence.times[seen]
    if store.name in START_POSES and len(xyz):
        first = end_of_start_pose(xyz, times)
        xyz, times = xyz[first:], times[first:]
    if len(xyz) < 10 or times[-1] - times[0] < 1 / 3:
        return None
    if not np.isclose(store.fps, FPS):
        at = np.arange(times[0], times[-1] + 1e-9, 1 / FPS)
        right = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
        weight = np.clip((at - times[right - 1]) / (times[right] - times[right - 1]), 0, 1)[:, None, None]
        xyz = xyz[right - 1] * (1 - weight) + xyz[right] * weight
    first, last = moving_part(xyz, np.arange(len(xyz)) / FPS)
    return _Take(sequence.name, store.classes[sequence.label], xyz, first, last, known)


def fit_to(xyz: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Another person's performance ``(T, 25, 3)`` with the limb lengths and on the floor of ``body`` ``(25, 3)``.

    Scaled as a whole, so the performance keeps its shape; it starts where ``body`` stands.
    """
    bones = np.array(LIMB_BONES)

    def limbs(pose: np.ndarray) -> float:
        return float(np.linalg.norm(pose[..., bones[:, 0], :] - pose[..., bones[:, 1], :], axis=-1).mean())

    scaled = xyz * (limbs(body) / max(limbs(xyz), 1e-3))
    shift = body[0] - scaled[0, 0]
    shift[1] = body[_FOOT_JOINTS, 1].min() - np.percentile(scaled[:, _FOOT_JOINTS, 1].min(1), 10)
    return scaled + shift


def pose_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean joint distance, metres, of poses ``(..., 25, 3)`` brought over the same spot of the floor."""
    shift = (a[..., :1, :] - b[..., :1, :]) * np.array([1.0, 0.0, 1.0])
    distance: np.ndarray = np.linalg.norm(a - b - shift, axis=-1).mean(-1)
    return distance


class _Writer:
    """Appends frames and notes when what happened."""

    def __init__(self, first: np.ndarray) -> None:
        self.blocks = [first[None]]
        self.frames = 1

    @property
    def pose(self) -> np.ndarray:
        pose: np.ndarray = self.blocks[-1][-1]
        return pose

    def add(self, xyz: np.ndarray) -> None:
        if len(xyz):
            self.blocks.append(xyz)
            self.frames += len(xyz)

    def pass_to(self, pose: np.ndarray) -> None:
        """A smooth way to a pose, bone by bone, at a natural speed; ends one frame before it."""
        far = float(np.linalg.norm(pose - self.pose, axis=-1).max())
        frames = round(np.clip(far / PASS_SPEED, _SHORTEST_PASS_S, _LONGEST_PASS_S) * FPS)
        weight = ease(np.arange(1, frames) / frames, 0, 1)
        self.add(blended(self.pose[None], pose[None], weight)[:, 0])


def _stills(takes: Sequence[_Take]) -> list[np.ndarray]:
    """The still ends of recordings, each ``(T, 25, 3)``, long enough to be stood in."""
    parts = [part for take in takes for part in (take.xyz[: take.first], take.xyz[take.last + 1 :])]
    return [part for part in parts if len(part) >= _SHORTEST_STILL]


def _idle(writer: _Writer, stills: list[np.ndarray], until: int, rng: np.random.Generator) -> None:
    """Stand (or sit) about until frame ``until``: rest in real still poses near the present one, pass between them."""
    while writer.frames < until:
        if stills:
            distances = pose_distance(np.stack([still[0] for still in stills]), writer.pose)
            near = np.flatnonzero(distances <= NEAR_POSE)
            chosen = int(rng.choice(near)) if len(near) else int(distances.argmin())
            still = stills[chosen] + (writer.pose[0] - stills[chosen][0, 0]) * np.array([1.0, 0.0, 1.0])
        else:
            still = np.repeat(writer.pose[None], 2, 0)
        writer.pass_to(still[0])
        # There and back again: real tremor of any length, without a jump.
        loop = np.concatenate([still, still[-2:0:-1]]) if len(still) > 2 else still
        rest = round(rng.uniform(0.8, 2.5) * FPS)
        writer.add(np.resize(loop, (rest, *loop.shape[1:])))


def _next(waiting: list[_Take], pose: np.ndarray, rng: np.random.Generator) -> _Take:
    """A random take that begins about as the person stands now, so that nobody sits down unasked; else the nearest."""
    distances = np.array([float(pose_distance(take.xyz[0], pose)) for take in waiting])
    near = np.flatnonzero(distances <= NEAR_POSE)
    return waiting.pop(int(rng.choice(near)) if len(near) else int(distances.argmin()))


def _chain(
    name: str, takes: list[_Take], strangers: list[_Take], settings: StreamSettings, rng: np.random.Generator
) -> Stream:
    stills = _stills(takes)
    waiting = [takes[i] for i in rng.permutation(len(takes))]
    start = stills[int(np.argmax([s[:, 0, 1].mean() for s in stills]))][0] if stills else waiting[0].xyz[0]
    writer = _Writer(start)
    truth, cut = [], []
    frames = round(settings.seconds * FPS)
    while waiting:
        _idle(writer, stills, writer.frames + round(rng.uniform(*settings.idle_s) * FPS), rng)
        if writer.frames >= frames:
            break
        # Chosen in the pose the person rests in, a stranger's action as often as wished.
        if strangers and rng.random() < settings.unknown_share:
            take = strangers[int(rng.integers(len(strangers)))]
            take = replace(take, xyz=fit_to(take.xyz, writer.pose))
        else:
            take = _next(waiting, writer.pose, rng)
        writer.pass_to(take.xyz[0])
        begin = writer.frames
        writer.add(take.xyz)
        label = take.label
        truth.append(TrueAction(label, (begin + take.first) / FPS, (begin + take.last) / FPS, take.known))
        cut.append(TrueAction(label, begin / FPS, (writer.frames - 1) / FPS, take.known))
    _idle(writer, stills, writer.frames + round(settings.idle_s[0] * FPS), rng)
    xyz = np.concatenate(writer.blocks).astype(np.float32)
    sequence = SkeletonSequence(xyz[:, None], np.arange(len(xyz)) / FPS, "ntu25", name=name)
    return Stream(name, sequence, tuple(truth), tuple(cut))


def make_streams(
    store: SequenceStore,
    indices: np.ndarray,
    settings: StreamSettings,
    strangers: tuple[SequenceStore, np.ndarray] | None = None,
) -> Iterator[Stream]:
    """One stream for each subject among the given sequences, none of which is performed twice.

    Parameters
    ----------
    store : SequenceStore
        Its ``subject`` column says who is who.
    indices : numpy.ndarray
        Positions of the sequences to perform.
    strangers : tuple, optional
        Store and positions of actions that no class names, mixed in with ``settings.unknown_share``. They are scaled
        to the person's limbs.

    Yields
    ------
    Stream
        At most ``settings.seconds`` long (and a last action); the same for the same seed.
    """
    subjects = store.column("subject")[indices]
    other: list[_Take] = []
    if strangers is not None:
        other = [take for i in strangers[1] if (take := _take(strangers[0], int(i), known=False)) is not None]
    for subject in np.unique(subjects):
        takes = [take for i in indices[subjects == subject] if (take := _take(store, int(i))) is not None]
        if takes:
            rng = np.random.default_rng([settings.seed, int(subject)])
            yield _chain(f"{store.name} subject {subject}", takes, other, settings, rng)
