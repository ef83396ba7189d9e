"""Gives the poses of successive frames stable identities, and turns each person's poses into smooth NTU-25 joints.

The pose model has no memory of who is who. Up to two people are matched from frame to frame by where their bodies
are; each carries a lifter (translation) and filters of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from engine.live import persons
from engine.live.filters import OneEuro
from engine.live.lift import DEFAULT_HFOV_DEG, Lifter, LiftSettings
from engine.live.types import PersonPose, RawPose

MAX_PERSONS = 2
KEEP_S = 1.0
# A pose is a person at all only when its trunk is seen at least this well.
MIN_VISIBILITY = 0.3
# How far a person may be from where they were last seen, in body sizes (about 0.8 m): at once, and per second.
REACH = 0.8
REACH_PER_S = 3.0
# How much a change of apparent size counts against a match (per factor e).
SIZE_COST = 0.5


@dataclass(frozen=True)
class SmoothSettings:
    """One-Euro constants (Hz, Hz per m/s). Translation is smoothed more than joints: it is solved anew every frame.

    The landmarker already smooths: what is left trembles by less than a millimetre at rest, so these are light
    (stronger ones cost more in lag than they win; benchmarks/lifting.md). Depth (z) of joints is about three times
    noisier than x and y, so its cut-off is lower.
    """

    min_cutoff: float = 2.0
    depth_cutoff: float = 1.0
    beta: float = 20.0
    translation_cutoff: float = 1.0
    translation_beta: float = 5.0
    speed_cutoff: float = 3.0
    enabled: bool = True


def assign(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pairs with the least total cost ``(R, C)``."""
    if 1 in cost.shape:
        # Nothing to weigh up; and loading the library would hold the window up for 80 ms as the first person comes in.
        row, column = np.unravel_index(int(cost.argmin()), cost.shape)
        return np.array([row]), np.array([column])
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    return rows, columns


class PersonTracker:
    """Poses of one frame in, tracked people out.

    Parameters
    ----------
    max_persons : int
        How many people are followed; ids are 1..max_persons.
    focal : float, optional
        Focal length of the camera, pixels; without one ``hfov_deg`` is used.
    hfov_deg : float
        Horizontal field of view, degrees.
    mirrored : bool
        The pictures are mirror images.
    lift_settings, smooth : optional
        Corrections and smoothing; the documented defaults without.
    keep : float
        Seconds for which the id of somebody out of view is kept for them.
    """

    def __init__(
        self,
        max_persons: int = MAX_PERSONS,
        *,
        focal: float | None = None,
        hfov_deg: float = DEFAULT_HFOV_DEG,
        mirrored: bool = False,
        lift_settings: LiftSettings | None = None,
        smooth: SmoothSettings | None = None,
        keep: float = KEEP_S,
    ) -> None:
        self.max_persons = max_persons
        self.focal = focal
        self.hfov_deg = hfov_deg
        self.mirrored = mirrored
        self.lift_settings = lift_settings
        self.smooth = smooth or SmoothSettings()
        self.keep = keep
        self._tracks: dict[int, _Track] = {}
        self._time = -np.inf

    def reset(self) -> None:
        """Forget everybody (another source, a seek)."""
        self._tracks.clear()
        self._time = -np.inf

    def update(self, raws: Iterable[RawPose], time: float, size: tuple[int, int]) -> tuple[PersonPose, ...]:
        """Follow one frame.

        Parameters
        ----------
        raws : iterable of RawPose
            What the pose model found; poses that are not finite or hardly visible are ignored.
        time : float
            Seconds, source clock; when it goes back everybody is forgotten.
        size : tuple of int
            Picture width and height, pixels.

        Returns
        -------
        tuple of PersonPose
            The people seen in this frame, by id.
        """
        if time < self._time:
            self.reset()
        self._time = time
        for person in [p for p, track in self._tracks.items() if time - track.time > self.keep]:
            del self._tracks[person]
        usable = [raw for raw in raws if _is_usable(raw)]
        matches = self._match(usable, time, size)
        seen = dict(matches)
        for raw in sorted(
            (raw for i, raw in enumerate(usable) if i not in {index for _, index in matches}),
            key=lambda raw: (not persons.is_plausible(raw, size), -persons.body_size(raw, size)),
        ):
            others = [usable[index] for index in seen.values()]
            if any(persons.same_person(raw, other, size) for other in others):
                continue
            if others and not persons.is_plausible(raw, size):
                continue
            free = [p for p in range(1, self.max_persons + 1) if p not in self._tracks]
            if not free:
                break
            self._tracks[free[0]] = self._new_track()
            seen[free[0]] = next(i for i, candidate in enumerate(usable) if candidate is raw)
        return tuple(self._tracks[p].follow(p, usable[seen[p]], time, size) for p in sorted(seen))

    def _match(self, raws: list[RawPose], time: float, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Pairs (person, index into ``raws``) with the least total distance, none beyond a person's reach."""
        known = sorted(self._tracks)
        if not known or not raws:
            return []
        cost = np.full((len(known), len(raws)), 1e6)
        for row, person in enumerate(known):
            track = self._tracks[person]
            assert track.raw is not None
            reach = REACH + REACH_PER_S * (time - track.time)
            for column, raw in enumerate(raws):
                ratio = persons.body_size(raw, size) / max(persons.body_size(track.raw, size), 1.0)
                gap = persons.distance(track.raw, raw, size) + SIZE_COST * abs(np.log(max(ratio, 1e-3)))
                if gap <= reach:
                    cost[row, column] = gap
        rows, columns = assign(cost)
        return [(known[r], int(c)) for r, c in zip(rows, columns, strict=True) if cost[r, c] < 1e6]

    def _new_track(self) -> _Track:
        lifter = Lifter(
            self.focal,
            hfov_deg=self.hfov_deg,
            mirrored=self.mirrored,
            settings=self.lift_settings,
        )
        return _Track(lifter, self.smooth)


class _Track:
    """One person: where they were last seen, their lifter and their filters."""

    def __init__(self, lifter: Lifter, smooth: SmoothSettings) -> None:
        self.lifter = lifter
        self.raw: RawPose | None = None
        self.time = -np.inf
        self._smooth = smoother(smooth)

    def follow(self, person: int, raw: RawPose, time: float, size: tuple[int, int]) -> PersonPose:
        self.raw, self.time = raw, time
        joints, confidence = self.lifter(raw, size)
        return PersonPose(person, self._smooth(joints, time), confidence, raw)


def smoother(settings: SmoothSettings) -> Callable[[np.ndarray, float], np.ndarray]:
    """A function ``(joints (25, 3), time) -> joints`` for one person that filters body and translation separately."""
    cutoff = np.array([settings.min_cutoff, settings.min_cutoff, settings.depth_cutoff])
    body = OneEuro(cutoff, settings.beta, settings.speed_cutoff)
    translation = OneEuro(settings.translation_cutoff, settings.translation_beta, settings.speed_cutoff)

    def smooth(joints: np.ndarray, time: float) -> np.ndarray:
        if not settings.enabled:
            return joints
        root = joints[:1].astype(np.float64)
        return (body(joints - root, time) + translation(root, time)).astype(np.float32)

    return smooth


def _is_usable(raw: RawPose) -> bool:
    return persons.is_finite(raw) and persons.trunk_visibility(raw) >= MIN_VISIBILITY
