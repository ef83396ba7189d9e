"""What every frame source has in common: its description, pacing, mirroring and reconnection."""

from __future__ import annotations

import threading
import time as clock
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self

import numpy as np

from engine.live.errors import SourceError
from engine.live.trace import TraceFrame, mirror_pose
from engine.live.types import Frame

# Paced sources that fall behind by more than this (a pause, a slow disk) go on from where they are, without rushing.
_LATE_S = 0.3


class FrameSource(ABC):
    """A camera, file, stream, folder or trace, read frame by frame.

    Attributes
    ----------
    spec : str
        What it was opened from. ``name`` is its short form for people; ``kind`` one of ``camera``, ``video``,
        ``stream``, ``images``, ``trace``.
    live : bool
        True where frames come whether they are read or not.
    size : tuple of int
        Width and height of the newest frame (of the first, before reading).
    fps : float
        Nominal frames per second, 0.0 where unknown.
    duration : float or None
        Seconds; None where unknown or endless.
    seekable : bool
        Whether :meth:`seek` works.
    lossless : bool
        Every frame counts: the reader waits for slow stages.
    read_ms : float
        Time the last read took, without waiting for the frame to be due.
    """

    kind = "video"
    live = False
    seekable = False

    def __init__(self, spec: str, name: str, realtime: bool = True, mirrored: bool = False) -> None:
        self.spec = spec
        self.name = name
        self.realtime = realtime
        self.mirrored = mirrored
        self.size: tuple[int, int] = (0, 0)
        self.fps = 0.0
        self.duration: float | None = None
        self.read_ms = 0.0
        self._notes: list[str] = []
        self._anchor: float | None = None
        self._interrupt = threading.Event()
        self._last_time = -np.inf
        self._index = 0

    @property
    def lossless(self) -> bool:
        return not self.live and not self.realtime

    def read(self) -> Frame | None:
        """The next frame, None at the end; waits until the frame is due when playing in real time.

        Raises
        ------
        engine.live.errors.SourceLost
            A camera or stream went away; :meth:`reopen` may get it back.
        engine.live.errors.SourceError
            The source can't be read on.
        """
        begin = clock.perf_counter()
        frame = self._next()
        if frame is not None and self.mirrored:
            frame = _mirror(frame)
        self.read_ms = (clock.perf_counter() - begin) * 1e3
        if frame is None:
            return None
        self.size = (frame.image.shape[1], frame.image.shape[0])
        if self.realtime and not self.live:
            self._pace(frame.time)
            frame = replace(frame, grabbed=clock.monotonic())
        return frame

    def _pace(self, time: float) -> None:
        now = clock.monotonic()
        if self._anchor is None or now - (self._anchor + time) > _LATE_S:
            self._anchor = now - time
        wait = self._anchor + time - now
        if wait > 0 and self._interrupt.wait(min(wait, 5.0)):
            self._interrupt.clear()
            self._anchor = None

    def _stamp(self, image: np.ndarray, time: float, grabbed: float | None = None) -> Frame:
        """Make a frame; times that do not increase are nudged on, so that clocks downstream never stand still."""
        if time <= self._last_time:
            time = self._last_time + 1e-3
        self._last_time = time
        frame = Frame(image, time, self._index, clock.monotonic() if grabbed is None else grabbed)
        self._index += 1
        return frame

    @abstractmethod
    def _next(self) -> Frame | None: ...

    def seek(self, time: float) -> None:
        """Go on at ``time`` seconds; only where ``seekable``."""
        raise SourceError(f"{self.name} can't seek")

    def _sought(self) -> None:
        self._last_time = -np.inf
        self._anchor = None
        self._interrupt.clear()

    def reopen(self) -> bool:
        """Try to get a lost source back; False while it is away."""
        return False

    def interrupt(self) -> None:
        """Cut a wait in :meth:`read` short, from another thread."""
        self._interrupt.set()

    def take_notes(self) -> list[str]:
        """Things worth telling (damaged frames, a new picture size) since the last call."""
        notes, self._notes = self._notes, []
        return notes

    @abstractmethod
    def close(self) -> None:
        """Let go of device or file; may be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _mirror(frame: Frame) -> Frame:
    image = np.ascontiguousarray(frame.image[:, ::-1])
    if isinstance(frame, TraceFrame):
        return replace(frame, image=image, poses=tuple(mirror_pose(pose) for pose in frame.poses))
    return replace(frame, image=image)
