"""When people move and when they rest, frame by frame: where actions begin and end, where repetitions are counted.

A window of seconds says what was done, but not when; movement says when, to a few frames.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from engine.skeleton.layout import NTU25
from engine.skeleton.speed import SPEED_SPAN_S, joint_speed

# Seconds of rest that end a movement.
REST_S = 0.2
# Longer lulls than this lie between two actions, shorter ones may belong to one (a hold, the pause of a clap).
BRIDGE_S = 0.5
# How far back the beginning of a movement is looked for, and how long joints are kept for counting.
HORIZON_S = 4.0
KEEP_S = 120.0
# A stroke ends where the speed falls to this part of the top speed; strokes smaller than this part of the largest are
# getting ready or settling when they stand at an end.
LULL = 0.05
SMALL = 0.25


@dataclass(frozen=True)
class Movement:
    """A person's newest movement, in seconds.

    ``since`` is None where it began before what is known, ``until`` while it goes on. ``chain``: when the row of
    movements began that leads to this one with lulls of at most :data:`BRIDGE_S`.
    """

    since: float | None
    until: float | None
    chain: float | None = None


def newest_movement(speed: np.ndarray, times: np.ndarray, level: float) -> Movement:
    """The last movement of a speed curve: rests are at least :data:`REST_S` under ``level``, shorter lulls are not."""
    slow = speed < level
    rests = [(a, b) for a, b in _runs(slow) if times[b - 1] - times[a] >= REST_S - 1e-9]
    until = float(times[rests.pop()[0]]) if rests and rests[-1][1] == len(slow) else None
    if not rests:
        return Movement(None, until)
    since = float(times[rests[-1][1]])
    long = [b for a, b in rests if times[b - 1] - times[a] > BRIDGE_S]
    return Movement(since, until, float(times[long[-1]]) if long else None)


def core(speed: np.ndarray, times: np.ndarray, level: float) -> tuple[float, float] | None:
    """Start and end, seconds, of what was done within a movement: without the getting ready and the settling.

    A movement is a row of strokes with lulls between them, in which the speed falls under ``level`` or under
    :data:`LULL` of the top speed. Strokes at either end that lead less far than :data:`SMALL` of the farthest are left
    out. None where nothing is faster than ``level``.
    """
    if not len(speed) or speed.max() < level:
        return None
    strokes = _runs(speed >= max(level, LULL * float(np.percentile(speed, 95))))
    ways = [float(np.trapezoid(speed[a:b], times[a:b])) for a, b in strokes]
    if not strokes or max(ways) <= 0:
        return None
    large = [i for i, way in enumerate(ways) if way >= SMALL * max(ways)]
    return float(times[strokes[large[0]][0]]), float(times[strokes[large[-1]][1] - 1])


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First place of every run of True, and the place behind its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


@dataclass
class _Track:
    times: list[float] = field(default_factory=list)
    joints: list[np.ndarray] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)


class MovementLog:
    """The last minutes of every person's joints and speeds; a frame's speed is final once its span is complete."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}

    def add(self, person: int, times: np.ndarray, joints: np.ndarray) -> None:
        """Append the frames that are newer than what is known; times that lie before all of it start anew."""
        track = self._tracks.get(person)
        if track is None or times[-1] < track.times[-1]:
            track = self._tracks[person] = _Track()
        first = int(np.searchsorted(times, track.times[-1], side="right")) if track.times else 0
        if first == len(times):
            return
        track.times += times[first:].tolist()
        # Copied: a view of one frame would keep the whole window alive it was cut from.
        track.joints += list(joints[first:].copy())
        # Speeds up to half a span before the newest known frame were computed from what came later too.
        final = bisect_left(track.times, times[first] - SPEED_SPAN_S / 2)
        before = bisect_left(track.times, times[first] - 1.5 * SPEED_SPAN_S)
        speed = joint_speed(np.stack(track.joints[before:]), np.array(track.times[before:]))
        track.speed[final:] = speed[final - before :].tolist()
        if track.times[0] < times[-1] - 1.1 * KEEP_S:
            old = bisect_left(track.times, times[-1] - KEEP_S)
            del track.times[:old], track.joints[:old], track.speed[:old]

    def keep_only(self, persons: Collection[int]) -> None:
        """Forget everybody who is not among ``persons``."""
        for person in set(self._tracks) - set(persons):
            del self._tracks[person]

    def clear(self) -> None:
        self._tracks.clear()

    def joints(self, person: int, start: float, end: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """Joints ``(T, 25, 3)`` and times ``(T,)`` of a person from ``start`` to ``end``, seconds."""
        track, places = self._part(person, start, end)
        if places.start == places.stop:
            return np.zeros((0, 25, 3), np.float32), np.zeros(0)
        return np.stack(track.joints[places]), np.array(track.times[places])

    def speed(self, person: int, start: float, end: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """Speeds ``(T,)``, trunk lengths per second, and times ``(T,)`` of a person from ``start`` to ``end``."""
        track, places = self._part(person, start, end)
        return np.array(track.speed[places]), np.array(track.times[places])

    def pose_change(self, person: int, before: float, after: float) -> float | None:
        """Mean joint distance, trunk lengths, between a person's poses at two times; None if one is not known."""
        track = self._tracks.get(person)
        if track is None or not track.times[0] - REST_S <= before <= after <= track.times[-1] + REST_S:
            return None
        places = [min(bisect_left(track.times, time - 1e-9), len(track.times) - 1) for time in (before, after)]
        poses = np.stack([track.joints[place] - track.joints[place][:1] for place in places])
        trunk = max(float(np.linalg.norm(poses[:, NTU25.root], axis=-1).mean()), 1e-3)
        return float(np.linalg.norm(poses[1] - poses[0], axis=-1).mean()) / trunk

    def _part(self, person: int, start: float, end: float) -> tuple[_Track, slice]:
        track = self._tracks.get(person) or _Track()
        return track, slice(bisect_left(track.times, start - 1e-9), bisect_right(track.times, end + 1e-9))

    def core(self, person: int, start: float, end: float, level: float) -> tuple[float, float]:
        """The :func:`core` of what a person did from ``start`` to ``end``; those themselves where there is none.

        A start that is older than the log stays as it is.
        """
        speed, times = self.speed(person, start, end)
        first, last = core(speed, times, level) or (start, end)
        forgotten = len(times) > 0 and times[0] > start + REST_S
        return (start if forgotten else first), last

    def movement(self, person: int, level: float, horizon: float = HORIZON_S) -> Movement:
        """The newest movement within the last ``horizon`` seconds; slower than ``level`` (trunk lengths/s) is rest."""
        track = self._tracks.get(person)
        if track is None:
            return Movement(None, None)
        return newest_movement(*self.speed(person, track.times[-1] - horizon), level)
