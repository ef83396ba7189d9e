"""Who acts: drops ghosts among the tracked bodies and merges the rest into two actors.

One person may come back under a new identity and furniture is tracked as people, so a recording of one person can
hold six bodies. The rules and thresholds are those of the denoise-and-align lineage (datasets.md, sections 2.1 and
2.2); how strictly a body's own frame numbers are kept is what separates its descendants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.data.bodies import RawDataError, RawSequence

MIN_FRAMES = 12  # a body with fewer is dropped while another one is there
MAX_WIDTH_TO_HEIGHT = np.float32(0.8)  # a wider frame is noisy
MAX_NOISY = 0.69754  # a body with at least this share of noisy frames is dropped


@dataclass(frozen=True)
class Track:
    """The seen frames of one body: ``frames`` ``(n,)`` increasing rows, ``xyz`` ``(n, V, 3)``, ``motion`` in m²."""

    frames: np.ndarray
    xyz: np.ndarray
    motion: float = 0.0

    @property
    def start(self) -> int:
        return int(self.frames[0])

    @property
    def end(self) -> int:
        """The last row, inclusive."""
        return int(self.frames[-1])


def motion_of(xyz: np.ndarray) -> float:
    """Sum over x, y, z of the population variance over all joints and frames of ``(n, V, 3)``, m²."""
    return float(np.var(xyz.reshape(-1, 3), axis=0).sum())


def seen_tracks(raw: RawSequence) -> list[Track]:
    """Every body with its own frame numbers, in first-seen order; motion is measured where there are several.

    Raises
    ------
    RawDataError
        Nobody is seen in any frame.
    """
    tracks = []
    for body in raw.bodies:
        seen = body.seen
        if seen.all():
            tracks.append(Track(np.arange(body.first, body.first + len(seen)), body.xyz))
        elif seen.any():
            tracks.append(Track(body.first + np.flatnonzero(seen), body.xyz[seen]))
    if not tracks:
        raise RawDataError(f"{raw.name}: nobody is seen in any of {raw.frames} frames; leave the recording out")
    if len(tracks) > 1:
        tracks = [replace(track, motion=motion_of(track.xyz)) for track in tracks]
    return tracks


def glued(tracks: Sequence[Track], frames: int) -> tuple[list[Track], int]:
    """Count only frames with a body, and push the later frames of a body that vanished up to its earlier ones.

    This is how the published arrays came about (section 2.1, step A); the second value is the number of kept frames.
    """
    kept = np.zeros(frames, bool)
    for track in tracks:
        kept[track.frames] = True
    row = np.cumsum(kept) - 1
    moved = [replace(t, frames=row[t.start] + np.arange(len(t.frames))) for t in tracks]
    return moved, int(kept.sum())


def noisy_frames(xyz: np.ndarray) -> np.ndarray:
    """bool ``(n,)``: frames wider than 0.8 of their height."""
    span = np.ptp(xyz[:, :, :2], axis=1)
    return span[:, 0] > MAX_WIDTH_TO_HEIGHT * span[:, 1]


def drop_ghosts(tracks: Sequence[Track]) -> list[Track]:
    """Length and spread filters, then largest motion first (section 2.1, step C); one body always remains.

    A single body passes untouched. Where all are too short, the longest stays.
    """
    if len(tracks) < 2:
        return list(tracks)
    left = [t for t in tracks if len(t.frames) >= MIN_FRAMES] or [max(tracks, key=lambda t: len(t.frames))]
    kept: list[Track] = []
    for done, track in enumerate(left):
        remaining = len(kept) + len(left) - done
        noisy = noisy_frames(track.xyz) if remaining > 1 else np.zeros(1, bool)
        if not noisy.any():
            kept.append(track)
        elif int(noisy.sum()) / len(noisy) < MAX_NOISY:
            # The noisy frames stay; only the measure of motion is taken without them.
            kept.append(replace(track, motion=min(track.motion, motion_of(track.xyz[~noisy]))))
    return sorted(kept, key=lambda t: -t.motion)


def by_interval(ends: int) -> Callable[[list[Track], Track, int], bool]:
    """Whether a track fits an actor by the hull of their frames.

    ``ends=0``: the last frame is not counted, so one shared frame is no overlap (section 2.1, step D).
    ``ends=1``: it is counted, so one shared frame is an overlap (section 2.2).
    """

    def fits(actor: list[Track], track: Track, number: int) -> bool:
        # The second actor begins as the interval [0, 0] and is only ever widened: frame 0 stays in it.
        first = [0] if number == 1 else []
        start = min([t.start for t in actor] + first)
        end = max([t.end + ends for t in actor] + first)
        return min(end, track.end + ends) - max(start, track.start) <= 0

    return fits


def by_frame(actor: list[Track], track: Track, number: int) -> bool:
    """Whether a track shares no frame with an actor: gaps may be filled, whichever the actor's number."""
    return all(not np.isin(track.frames, t.frames, assume_unique=True).any() for t in actor)


def merge(tracks: Sequence[Track], frames: int, fits: Callable[[list[Track], Track, int], bool]) -> np.ndarray:
    """Two actors ``(frames, 2, V, 3)`` from bodies in order of importance; who fits neither is left out."""
    out = np.zeros((frames, 2, *tracks[0].xyz.shape[1:]), np.float32)
    actors: tuple[list[Track], list[Track]] = ([tracks[0]], [])
    out[tracks[0].frames, 0] = tracks[0].xyz
    for track in tracks[1:]:
        for m, actor in enumerate(actors):
            if fits(actor, track, m):
                out[track.frames, m] = track.xyz
                actor.append(track)
                break
    return out
