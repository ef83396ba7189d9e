"""From performances to takes: the movement in a recording, takes from video files, and hands-free recording live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from engine.live.chain import PoseOptions, PoseStage
from engine.live.drive import FrameReader
from engine.live.sources import open_source
from engine.live.window import MAX_GAP_S, PoseWindow, motion_energy
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.takes import LEAST_S, PackError

# A person moves when the mean joint speed is above the larger of these: an absolute one (trunk lengths per second), and
# a part of the take's own peak.
MOVING = 0.15
MOVING_PART = 0.25
# Left on both sides of a movement, and how long a rest separates two movements.
MARGIN_S = 0.15
REST_S = 1.0
_SPAN_S = 0.3
MAX_VIDEO_S = 600.0


def motion_curve(sequence: SkeletonSequence, span_s: float = _SPAN_S) -> np.ndarray:
    """Mean joint speed of person 0 around every frame, trunk lengths per second, ``(T,)``.

    Parameters
    ----------
    span_s : float
        Seconds around a frame over which its speed is taken (see :func:`engine.live.window.motion_energy`).
    """
    times, joints = sequence.times, convert_layout(sequence.xyz[:, :1], sequence.layout, "ntu25")[:, 0]
    low = np.searchsorted(times, times - span_s / 2 - 1e-9)
    high = np.searchsorted(times, times + span_s / 2 + 1e-9)
    return np.array([motion_energy(joints[a:b], times[a:b]) for a, b in zip(low, high, strict=True)])


def movements(sequence: SkeletonSequence, rest_s: float = REST_S) -> list[tuple[float, float]]:
    """Stretches (start, end) in seconds in which person 0 moves, with a margin; rests of ``rest_s`` separate them.

    Empty when nobody moves.
    """
    if len(sequence) < 2:
        return []
    curve, times = motion_curve(sequence), sequence.times
    limit = max(MOVING, MOVING_PART * float(np.percentile(curve, 95)))
    moving = np.flatnonzero(curve >= limit)
    if not len(moving):
        return []
    cuts = np.flatnonzero(np.diff(times[moving]) > rest_s)
    firsts, lasts = moving[np.r_[0, cuts + 1]], moving[np.r_[cuts, len(moving) - 1]]
    found = []
    for a, b in zip(times[firsts], times[lasts], strict=True):
        start, end = max(float(times[0]), a - MARGIN_S), min(float(times[-1]), b + MARGIN_S)
        if end - start >= LEAST_S:
            found.append((float(start), float(end)))
    return found


def trim(sequence: SkeletonSequence) -> tuple[float, float]:
    """Start and end, seconds, of all movement in a sequence; the whole where nothing moves or little would be left."""
    found = movements(sequence, np.inf)
    if not found:
        return float(sequence.times[0]), float(sequence.times[-1])
    return found[0]


def sequence_from_video(
    source: str | Path,
    pose: PoseOptions | None = None,
    mirrored: bool = False,
    progress: Callable[[float, float | None], None] | None = None,
    stop: threading.Event | None = None,
    stage: PoseStage | None = None,
) -> SkeletonSequence:
    """The person in a video file, image folder or trace, as the live path delivers her: NTU-25, every frame.

    Parameters
    ----------
    source : str or Path
        As for :func:`engine.live.sources.open_source`; cameras and streams are refused.
    pose : PoseOptions, optional
        Pose model; where several people are seen, the one seen longest is taken.
    mirrored : bool
        The picture is a mirror image.
    progress : callable, optional
        Called with the seconds read so far and the length (None where unknown).
    stop : threading.Event, optional
        Set from anywhere, it ends the reading; what was read is returned.
    stage : PoseStage, optional
        A loaded pose model to use for several files; stays the caller's to close.

    Raises
    ------
    PackError
        Nobody was seen long enough, the video is longer than :data:`MAX_VIDEO_S`, or it is a camera.
    engine.live.errors.LiveError
        The file can't be read.
    """
    own = PoseStage(pose or PoseOptions(num_poses=1)) if stage is None else stage
    own.reset()
    window = PoseWindow(MAX_VIDEO_S + 1.0, max_gap=np.inf)
    seen: dict[int, int] = {}
    try:
        with open_source(source, realtime=False, mirrored=mirrored, loop=False) as opened:
            if opened.live:
                raise PackError(f"{source}: takes are read from files; record from a camera in the window")
            reader = FrameReader(opened, stop=stop)
            try:
                for frame in reader:
                    if frame.time > MAX_VIDEO_S:
                        raise PackError(f"{source} is longer than {MAX_VIDEO_S:.0f} s; cut the action out of it first")
                    found = own.process(frame)
                    window.add(found)
                    for person in found.persons:
                        seen[person.person] = seen.get(person.person, 0) + 1
                    if progress is not None:
                        progress(frame.time, opened.duration)
            finally:
                reader.close()
    finally:
        if stage is None:
            own.close()
    if not seen:
        raise PackError(f"{source}: nobody was seen in it")
    longest = max(seen, key=lambda p: (seen[p], -p))
    sequence = window.sequence(longest, MAX_VIDEO_S + 1.0)
    if sequence is None or sequence.duration < LEAST_S:
        raise PackError(f"{source}: a person must be seen for {LEAST_S} s, and was seen in {seen[longest]} frames")
    sequence = _longest_piece(sequence)
    sequence.name = Path(str(source)).name
    return sequence


def _longest_piece(sequence: SkeletonSequence) -> SkeletonSequence:
    """The longest stretch in which the person was never away for longer than the live window bridges."""
    cuts = np.flatnonzero(np.diff(sequence.times) > MAX_GAP_S)
    firsts, lasts = np.r_[0, cuts + 1], np.r_[cuts, len(sequence) - 1]
    best = int(np.argmax(sequence.times[lasts] - sequence.times[firsts]))
    return cut(sequence, float(sequence.times[firsts[best]]), float(sequence.times[lasts[best]]))


def cut(sequence: SkeletonSequence, start: float, end: float) -> SkeletonSequence:
    """The frames of a sequence from ``start`` to ``end``, seconds of its own clock."""
    keep = (sequence.times >= start - 1e-6) & (sequence.times <= end + 1e-6)
    confidence = None if sequence.confidence is None else sequence.confidence[keep]
    return SkeletonSequence(sequence.xyz[keep], sequence.times[keep], sequence.layout, confidence, sequence.name)


class Phase(StrEnum):
    """Where a hands-free recording is."""

    COUNTDOWN = "countdown"
    READY = "ready"  # waiting for the movement to begin
    MOVING = "moving"
    DONE = "done"
    MISSED = "missed"  # nobody there, or no movement


@dataclass
class TakeRecorder:
    """Hands-free recording of one take: count down, wait for the movement, stop when it has come to rest.

    Feed it with :meth:`update` as often as the screen is drawn, with the source's time and the person's motion (see
    ``LivePipeline.motion``); when it is ``DONE``, ``LivePipeline.poses(person, start, end)`` are the take's joints. It
    holds no poses itself, so that none is lost between two calls.

    Parameters
    ----------
    countdown_s : float
        Seconds before the take may begin.
    patience_s : float
        Seconds after the countdown in which the movement must begin.
    rest_s, least_s, most_s : float
        Rest that ends a take; shorter movements don't count; longest take.
    """

    countdown_s: float = 3.0
    patience_s: float = 8.0
    rest_s: float = 0.8
    least_s: float = 0.5
    most_s: float = 8.0
    phase: Phase = field(default=Phase.COUNTDOWN, init=False)
    start: float = field(default=0.0, init=False)
    end: float = field(default=0.0, init=False)
    _begun: float | None = field(default=None, init=False)
    _still: float | None = field(default=None, init=False)

    def update(self, time: float, motion: float | None) -> Phase:
        """One look: ``time`` in seconds of the source, ``motion`` of the person, None when nobody is seen."""
        if self.phase in (Phase.DONE, Phase.MISSED):
            return self.phase
        if self._begun is None or time < self._begun:
            self._begun = time
        waited = time - self._begun - self.countdown_s
        if self.phase is Phase.COUNTDOWN and waited >= 0:
            self.phase = Phase.READY
        moving = motion is not None and motion >= MOVING
        if self.phase is Phase.READY:
            if moving:
                # Motion is a mean over the last moments: it began a little earlier.
                self.phase, self.start, self._still = Phase.MOVING, max(self._begun, time - 0.6), None
            elif waited > self.patience_s:
                self.phase = Phase.MISSED
        elif self.phase is Phase.MOVING:
            if moving:
                self._still = None
            elif self._still is None:
                self._still = time
            resting = 0.0 if self._still is None else time - self._still
            # Of somebody who has gone nothing more comes, and what is remembered of her is soon forgotten.
            if motion is None or resting >= self.rest_s or time - self.start >= self.most_s:
                self.end = time
                # A twitch is no take: wait on for the real one.
                enough = time - resting - self.start >= self.least_s
                self.phase = Phase.DONE if enough else Phase.READY
        return self.phase

    def remaining(self, time: float) -> float:
        """Seconds of the countdown still to come; 0.0 after it."""
        begun = time if self._begun is None else self._begun
        return max(0.0, begun + self.countdown_s - time)
