"""What passes between the stages of the live path. Plain data; every item carries the time of its frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One picture.

    ``image`` is RGB uint8 ``(H, W, 3)``, never mirrored. ``time`` is the source's own clock in seconds (strictly
    increasing, what windows and segments are measured in); ``grabbed`` is ``time.monotonic()`` at the grab, for
    latency.
    """

    image: np.ndarray
    time: float
    index: int
    grabbed: float


@dataclass(frozen=True)
class RawPose:
    """What the pose model said about one person in one frame, before tracking and lifting.

    ``image`` float32 ``(33, 3)``: x, y as fractions of width and height, z on the scale of x.
    ``world`` float32 ``(33, 3)``: metres, MediaPipe axes, hip-centred. ``visibility`` float32 ``(33,)`` in 0..1.
    """

    image: np.ndarray
    world: np.ndarray
    visibility: np.ndarray


@dataclass(frozen=True)
class PersonPose:
    """One tracked person in one frame.

    ``joints`` float32 ``(25, 3)``: NTU-25, metres, Kinect camera axes with translation, filtered.
    ``confidence`` float32 ``(25,)``. ``raw`` is what the pose model said.
    """

    person: int
    joints: np.ndarray
    confidence: np.ndarray
    raw: RawPose


@dataclass(frozen=True)
class PoseResult:
    """All persons of one frame; at most two, sorted by person id (1, 2, ...)."""

    time: float
    index: int
    grabbed: float
    size: tuple[int, int]
    persons: tuple[PersonPose, ...] = ()
    pose_ms: float = 0.0


@dataclass(frozen=True)
class LiveDecision:
    """What one person is doing at ``time``; ``label`` is None when nothing is recognised.

    ``repetitions``: how often a periodic action has been done so far; None where it is not periodic.
    """

    time: float
    person: int
    label: str | None
    score: float
    top: tuple[tuple[str, float], ...]
    latency_ms: float
    features: np.ndarray | None = field(default=None, repr=False, compare=False)
    repetitions: int | None = None


@dataclass(frozen=True)
class Segment:
    """A recognised action with start and end in source seconds; ``open`` while it goes on.

    ``repetitions``: how often a periodic action was done; None where it is not periodic. ``shown_s``: for how many
    seconds its word was on the screen.
    """

    person: int
    label: str
    start: float
    end: float
    score: float
    open: bool = False
    repetitions: int | None = None
    shown_s: float = 0.0


class LiveState(StrEnum):
    """Where the live path is; one owner (the pipeline) changes it."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    LOST = "lost"  # the camera went away; the pipeline tries to get it back
    ENDED = "ended"  # a file came to its end
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True)
class StageTime:
    """Time one stage takes, milliseconds, over the last few seconds."""

    p50: float
    p95: float


@dataclass(frozen=True)
class RivalSnapshot:
    """The newest of a second encoder that decides on the same windows.

    ``latency`` is what it would be alone: the time it waited for the first encoder is not in it. ``agreement`` is the
    share of the ``compared`` decisions in which both had the same label (or both none); None before the first.
    """

    checkpoint: str
    runtime: str
    window_s: float
    decisions: dict[int, LiveDecision] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    encode: StageTime | None = None
    latency: StageTime | None = None
    agreement: float | None = None
    compared: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The newest of everything, for whoever draws; taking one never waits for a stage."""

    serial: int
    state: LiveState
    message: str = ""
    frame: Frame | None = None
    pose: PoseResult | None = None
    decisions: dict[int, LiveDecision] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    time: float = 0.0
    duration: float | None = None
    fps: float = 0.0
    pose_fps: float = 0.0
    dropped: int = 0
    stages: dict[str, StageTime] = field(default_factory=dict)
    latency: StageTime | None = None
    checkpoint: str = ""
    runtime: str = ""
    window_s: float = 0.0
    recording: bool = False
    rival: RivalSnapshot | None = None
    taught: tuple[str, ...] = ()  # classes that were taught beside the encoder's own, in use now
