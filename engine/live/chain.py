"""The live chain without threads: frame in, pose, window, recognition, decisions and segments out.

``recognize`` on files drives it frame by frame, so every frame counts and results repeat; the threaded pipeline runs
the same parts each at its own pace.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from engine.live.decision_stage import DecisionStage
from engine.live.errors import LiveError
from engine.live.recogniser import Recogniser, Request
from engine.live.taught import TaughtActions
from engine.live.trace import TraceFrame
from engine.live.types import (
    Frame,
    LiveDecision,
    PersonPose,
    PoseResult,
    RawPose,
    Segment,
)
from engine.live.window import PoseWindow

if TYPE_CHECKING:
    from engine.live.tracking import PersonTracker


@dataclass(frozen=True)
class PoseOptions:
    """How poses are estimated.

    ``variant``: ``lite``, ``full`` or ``heavy``; ``bundle`` overrides it with a file. ``num_poses``: persons looked
    for, 1 or 2.
    """

    variant: str = "full"
    num_poses: int = 2
    bundle: Path | None = None


class Detector(Protocol):
    """What finds people in a picture (:class:`engine.live.pose.PoseEstimator`)."""

    def detect(self, image_rgb: np.ndarray, time_s: float) -> tuple[RawPose, ...]: ...

    def close(self) -> None: ...


class PoseStage:
    """Frame in, tracked and lifted persons out; loads the pose model on the first picture that needs it.

    When time runs backwards (a seek, another source) the tracker starts anew; the pose model looks for people anew by
    itself where the picture no longer shows them.
    """

    def __init__(
        self,
        options: PoseOptions | None = None,
        detector: Callable[[], Detector] | None = None,
    ) -> None:
        self.options = options or PoseOptions()
        self._make = detector or self._load
        self._detector: Detector | None = None
        self._tracker: PersonTracker | None = None
        self._time = -np.inf
        self._clock = 0.0

    def _load(self) -> Detector:
        from engine.live.bundle import pose_bundle
        from engine.live.pose import PoseEstimator

        try:
            bundle = self.options.bundle or pose_bundle(self.options.variant)
            return PoseEstimator(bundle, num_poses=self.options.num_poses)
        except (RuntimeError, OSError) as error:  # missing, damaged or not to be fetched: the text says which
            raise LiveError(str(error)) from error

    def load(self) -> None:
        """Load the pose model now instead of on the first frame; raises its error where it is missing."""
        if self._detector is None:
            self._detector = self._make()

    def reset(self) -> None:
        """Forget all persons."""
        self._tracker = None
        self._time = -np.inf

    def process(self, frame: Frame) -> PoseResult:
        """Poses of one frame; persons whose landmarks are not finite are left out."""
        from engine.live.tracking import PersonTracker

        begin = clock.perf_counter()
        if frame.time <= self._time:
            self.reset()
        if self._tracker is None:
            self._tracker = PersonTracker()
        if isinstance(frame, TraceFrame):
            raws = frame.poses
        else:
            self.load()
            assert self._detector is not None
            # MediaPipe's video clock must only ever go forward, whatever the sources do.
            step = frame.time - self._time
            self._clock += step if 0.001 < step < 5.0 else 0.034
            raws = self._detector.detect(frame.image, self._clock)
        self._time = frame.time
        raws = tuple(raw for raw in raws if _finite(raw))[: self.options.num_poses]
        height, width = frame.image.shape[:2]
        persons: tuple[PersonPose, ...] = self._tracker.update(raws, frame.time, (width, height))
        elapsed = (clock.perf_counter() - begin) * 1e3
        return PoseResult(frame.time, frame.index, frame.grabbed, (width, height), persons, elapsed)

    def close(self) -> None:
        """Free the pose model; may be called again."""
        detector, self._detector = self._detector, None
        if detector is not None:
            detector.close()


def _finite(raw: RawPose) -> bool:
    return bool(np.isfinite(raw.image).all() and np.isfinite(raw.world).all() and np.isfinite(raw.visibility).all())


@dataclass
class ChainResult:
    """What one frame led to. ``decisions`` is empty on frames without a recognition."""

    frame: Frame
    pose: PoseResult
    decisions: tuple[LiveDecision, ...] = ()
    closed: tuple[Segment, ...] = ()
    encode_ms: float = 0.0
    decide_ms: float = 0.0


@dataclass
class LiveChain:
    """All stages in one object; :meth:`process` is synchronous and deterministic.

    ``encode_every``: frames from one recognition to the next.
    """

    pose: PoseStage
    recogniser: Recogniser
    allowed: Collection[str] | None = None
    encode_every: int = 4
    window: PoseWindow = field(init=False)
    stage: DecisionStage = field(init=False)

    def __post_init__(self) -> None:
        if self.encode_every < 1:
            raise ValueError("encode_every must be at least 1")
        self.window = PoseWindow(self.recogniser.window_s + 1.0)
        self.stage = DecisionStage(self.recogniser, self.allowed)
        self._frames = 0

    def observe(self, frame: Frame) -> tuple[PoseResult, Request | None, bool]:
        """Pose and window; the encoder's request if anybody is there, and whether this frame is one to decide on."""
        if frame.time <= self.window.time:
            self.stage.finish()
            self.stage.reset()
        pose = self.pose.process(frame)
        self.window.add(pose)
        self._frames += 1
        if self._frames % self.encode_every:
            return pose, None, False
        return (
            pose,
            self.recogniser.prepare(self.window, self.window.persons(), frame.time, frame.grabbed),
            True,
        )

    def process(self, frame: Frame) -> ChainResult:
        """Everything for one frame."""
        pose, request, due = self.observe(frame)
        result = ChainResult(frame, pose)
        if due:
            begin = clock.perf_counter()
            found = self.recogniser.infer(request) if request is not None else {}
            middle = clock.perf_counter()
            result.decisions, result.closed = self.stage.decide(request, found, self.window.persons())
            result.encode_ms = (middle - begin) * 1e3
            result.decide_ms = (clock.perf_counter() - middle) * 1e3
        return result

    def use_taught(self, taught: TaughtActions | None) -> None:
        """Name these actions too from the next frame on; not while :func:`engine.live.drive.run_chain` runs.

        Raises
        ------
        engine.live.taught.TaughtError
            They were taught on another encoder; nothing is changed then.
        """
        self.recogniser.use_taught(taught)
        self.stage.use_classes(self.recogniser.card.classes)

    def finish(self) -> tuple[Segment, ...]:
        """The source ended: close open segments."""
        return self.stage.finish()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Closed and open segments, in order of their start."""
        return tuple(
            sorted(
                [*self.stage.segments, *self.stage.open_segments()],
                key=lambda s: s.start,
            )
        )

    def close(self) -> None:
        """Free the models."""
        self.pose.close()
        self.recogniser.close()
