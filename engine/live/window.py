"""The live window: the last seconds of every person's stamped poses, from which clips are sampled.

No joint is lost between pose and recognition: every pose goes into a ring, and the encoder reads the newest window
whenever it is free.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from engine.live.types import PoseResult
from engine.skeleton.sequence import SkeletonSequence
from engine.skeleton.speed import SPEED_SPAN_S

MAX_GAP_S = 0.5
MOTION_SPAN_S = 0.75
_SPINE_BASE, _SPINE_SHOULDER = 0, 20
_MAX_RATE = 120


def motion_energy(joints: np.ndarray, times: np.ndarray) -> float:
    """Mean joint speed relative to the spine base, trunk lengths per second.

    Parameters
    ----------
    joints : numpy.ndarray
        float ``(T, 25, 3)``, NTU-25, metres.
    times : numpy.ndarray
        float ``(T,)``, seconds, increasing.

    Returns
    -------
    float
        0.0 for fewer than two frames. Speeds are taken over :data:`SPEED_SPAN_S`, so jitter counts little.
    """
    if len(times) < 2:
        return 0.0
    relative = joints - joints[:, _SPINE_BASE : _SPINE_BASE + 1]
    trunk = float(np.median(np.linalg.norm(relative[:, _SPINE_SHOULDER], axis=-1)))
    if trunk < 1e-3:
        return 0.0
    later = np.searchsorted(times, times + min(SPEED_SPAN_S, float(times[-1] - times[0])) - 1e-9)
    first = np.flatnonzero(later < len(times))
    later = later[first]
    elapsed = np.maximum(times[later] - times[first], 1e-6)
    moved = np.linalg.norm(relative[later] - relative[first], axis=-1).mean(-1)
    return float((moved / elapsed).mean() / trunk)


class PoseWindow:
    """A ring of stamped poses per person; safe for one writer and any number of readers.

    A person's ring starts anew after a gap of more than ``max_gap`` seconds; when time runs backwards (a seek, a new
    source) everything starts anew. Poses with coordinates that are not finite are left out.

    Parameters
    ----------
    seconds : float
        How much is kept.
    max_gap : float
        Longest gap, seconds, over which a performance goes on.
    """

    def __init__(self, seconds: float = 5.0, max_gap: float = MAX_GAP_S) -> None:
        self._lock = threading.Lock()
        self._rings: dict[int, deque[tuple[float, np.ndarray, np.ndarray]]] = {}
        self._seconds = seconds
        self.max_gap = max_gap
        self._time = -np.inf
        self.skipped = 0

    @property
    def seconds(self) -> float:
        return self._seconds

    def keep(self, seconds: float) -> None:
        """Change how much is kept (another encoder may look back farther)."""
        with self._lock:
            self._seconds = seconds
            for person, ring in self._rings.items():
                self._rings[person] = deque(ring, maxlen=self._capacity())

    def _capacity(self) -> int:
        return int(self._seconds * _MAX_RATE) + 2

    def clear(self) -> None:
        with self._lock:
            self._rings.clear()
            self._time = -np.inf

    def add(self, pose: PoseResult) -> None:
        """Append all persons of one frame."""
        with self._lock:
            if pose.time <= self._time:
                self._rings.clear()
            self._time = pose.time
            for person in pose.persons:
                if not np.isfinite(person.joints).all():
                    self.skipped += 1
                    continue
                ring = self._rings.get(person.person)
                if ring is None or pose.time - ring[-1][0] > self.max_gap:
                    ring = self._rings[person.person] = deque(maxlen=self._capacity())
                ring.append((pose.time, person.joints, person.confidence))
            for key in [k for k, ring in self._rings.items() if pose.time - ring[-1][0] > self.max_gap]:
                del self._rings[key]
            for ring in self._rings.values():
                # One frame older than the limit stays, so that the first sample can be interpolated.
                while len(ring) > 2 and ring[1][0] < pose.time - self._seconds:
                    ring.popleft()

    @property
    def time(self) -> float:
        """Time of the newest frame, seconds; ``-inf`` before the first."""
        return float(self._time)

    def persons(self) -> tuple[int, ...]:
        """Persons seen within the last ``max_gap`` seconds, sorted."""
        with self._lock:
            return tuple(sorted(self._rings))

    def span(self, person: int) -> float:
        """Seconds between a person's first and last pose in the ring."""
        with self._lock:
            ring = self._rings.get(person)
            return ring[-1][0] - ring[0][0] if ring else 0.0

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._rings.values()))

    def sequence(
        self, person: int, seconds: float, end: float | None = None, slots: int = 1
    ) -> SkeletonSequence | None:
        """The last ``seconds`` of a person up to ``end``, as NTU-25.

        Parameters
        ----------
        person : int
            Comes in slot 0.
        seconds : float
            Length; one older frame is included where there is one, so that the first sample can be interpolated.
        end : float, optional
            Seconds; default the newest frame.
        slots : int
            Person slots of the result; slot 1 holds the other person (zeros where absent).

        Returns
        -------
        SkeletonSequence or None
            None when the person has no pose in that stretch.
        """
        with self._lock:
            ring = list(self._rings.get(person, ()))
            others = [list(r) for p, r in sorted(self._rings.items()) if p != person] if slots > 1 else []
        last = ring[-1][0] if ring and end is None else end
        if not ring or last is None:
            return None
        ring = [item for item in ring if item[0] <= last + 1e-9]
        first = next((i for i, item in enumerate(ring) if item[0] >= last - seconds), len(ring))
        if first == len(ring):
            return None
        ring = ring[max(first - 1, 0) :]
        times = np.array([item[0] for item in ring])
        xyz = np.zeros((len(ring), slots, 25, 3), np.float32)
        confidence = np.zeros((len(ring), slots, 25), np.float32)
        for slot, items in enumerate([ring, *others][:slots]):
            row = {t: i for i, t in enumerate(times)}
            for t, joints, certainty in items:
                if (i := row.get(t)) is not None:
                    xyz[i, slot], confidence[i, slot] = joints, certainty
        return SkeletonSequence(xyz, times, "ntu25", confidence, name=f"person {person}")

    def motion(self, person: int, end: float | None = None, seconds: float = MOTION_SPAN_S) -> float:
        """Motion energy of the last ``seconds`` (see :func:`motion_energy`)."""
        found = self.sequence(person, seconds, end)
        return 0.0 if found is None else motion_energy(found.xyz[:, 0], found.times)
