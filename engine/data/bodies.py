"""What a reader hands over: the bodies of one recording as the sensor saw them, before anybody decides who acts.

Readers yield :class:`RawSequence`; cleaning turns it into a :class:`~engine.skeleton.sequence.SkeletonSequence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from engine.skeleton.layout import get_layout
from engine.skeleton.sequence import SkeletonSequence

# Limits of a plausible recording: anything beyond is a damaged or hostile file (datasets.md, section 5.4).
MAX_FRAMES = 100_000
MAX_BODIES = 6
ABSENT_SLOT = 255


class RawDataError(Exception):
    """A raw file can't be read; the message names file, line where there is one, and reason."""


@dataclass(frozen=True)
class BodyTrack:
    """One tracked body.

    Parameters
    ----------
    id : int
        The sensor's identity as an exact integer (they differ by ones near 2**56, where float64 steps by 16).
    first : int
        Frame of the recording in which the body is first seen.
    xyz : numpy.ndarray
        float32 ``(L, V, 3)``, metres, Kinect camera axes; frames without the body are all zeros.
    slot : numpy.ndarray
        uint8 ``(L,)``: place of the body in the frame's list, ``ABSENT_SLOT`` where it is not seen.
    tracking : numpy.ndarray, optional
        uint8 ``(L, V)``: 0 not tracked, 1 inferred, 2 tracked.
    """

    id: int
    first: int
    xyz: np.ndarray
    slot: np.ndarray
    tracking: np.ndarray | None = None

    def __post_init__(self) -> None:
        length = len(self.xyz)
        if not length or self.slot.shape != (length,):
            raise ValueError(f"body {self.id}: {length} frames, slots {self.slot.shape}")
        if self.tracking is not None and self.tracking.shape != self.xyz.shape[:2]:
            raise ValueError(f"body {self.id}: tracking states {self.tracking.shape} for {self.xyz.shape}")

    @property
    def seen(self) -> np.ndarray:
        """bool ``(L,)``: in which of its frames the body is there."""
        return self.slot != ABSENT_SLOT


@dataclass(frozen=True)
class RawSequence:
    """One recording: its bodies in the order in which they were first seen, and what the file name tells."""

    name: str
    label: int
    frames: int
    bodies: tuple[BodyTrack, ...]
    fps: float = 30.0
    layout: str = "ntu25"
    meta: dict[str, int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        joints = get_layout(self.layout).num_joints
        for body in self.bodies:
            if body.xyz.shape[1:] != (joints, 3) or body.first < 0 or body.first + len(body.xyz) > self.frames:
                raise ValueError(f"{self.name}: body {body.id} is {body.xyz.shape} from frame {body.first}")

    @classmethod
    def of_one_body(
        cls, xyz: np.ndarray, fps: float, layout: str, name: str, label: int, **meta: int | str
    ) -> RawSequence:
        """A recording of one person ``(T, V, 3)`` who is there in every frame."""
        track = BodyTrack(0, 0, np.ascontiguousarray(xyz, np.float32), np.zeros(len(xyz), np.uint8))
        return cls(name, label, len(xyz), (track,), fps, layout, dict(meta))

    def dense(self, bodies: int | None = None) -> np.ndarray:
        """float32 ``(T, M, V, 3)`` of the first ``bodies`` tracks in order; zeros where absent."""
        count = len(self.bodies) if bodies is None else bodies
        out = np.zeros((self.frames, count, get_layout(self.layout).num_joints, 3), np.float32)
        for m, body in enumerate(self.bodies[:count]):
            out[body.first : body.first + len(body.xyz), m] = body.xyz
        return out

    def sequence(self, xyz: np.ndarray | None = None) -> SkeletonSequence:
        """The recording as timed frames; ``xyz`` ``(T', M, V, 3)`` replaces the bodies (after cleaning)."""
        frames = self.dense() if xyz is None else xyz
        return SkeletonSequence(
            frames, np.arange(len(frames)) / self.fps, self.layout, name=self.name, label=self.label, meta=self.meta
        )


@dataclass(frozen=True)
class RawSource:
    """An opened archive or folder: a list of items, and how one is read.

    ``read`` is called in worker processes when ``parallel`` is true, so it must survive pickling (a module-level
    function or a ``functools.partial`` of one). It may yield several sequences (an untrimmed video) and raises
    :class:`RawDataError` for a damaged item, which is reported and left out. ``files`` are those below the opened path
    that the result depends on, relative to it; when there are none, it is everything at the path.
    """

    items: tuple[str, ...]
    read: Callable[[str], Iterator[RawSequence]]
    parallel: bool = True
    missing: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
