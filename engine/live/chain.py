"""The live chain without threads: frame in, pose, window, recognition, decisions and segments out.

``recognize`` on files drives it frame by frame, so every frame counts and results repeat; the threaded pipeline runs
the same parts each at its own pace.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from engine.live.decision import ActionDecider
from engine.live.errors import LiveError
from engine.live.movement import MovementLog
from engine.live.recogniser import Recogniser, Recognition, Request
from engine.live.repetition import count_repetitions
from engine.live.segments import SegmentBuilder
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
from engine.models.card import Decision

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

    When time runs backwards (a seek, another source) the detector and the tracker start anew.
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


# Joint speed, as a part of the decision's ``min_motion``, under which a person rests.
REST_RATIO = 1.2
# Seconds from one look at the repetitions of an action that goes on to the next.
COUNT_EVERY_S = 0.5


class DecisionStage:
    """Decider and segments of one encoder; the last stage of the chain."""

    def __init__(self, recogniser: Recogniser, allowed: Collection[str] | None = None) -> None:
        card = recogniser.card
        self._allowed = allowed
        self.decider = ActionDecider(card.decision, card.classes, allowed)
        window = card.preprocessing.window_s
        # Slips, shortest length and reach were chosen on streams of training subjects (benchmarks/streams.md).
        self.builder = SegmentBuilder(lag=min(window / 2, 1.0), min_s=0.5, reach=window + 0.3, slip_s=1.0)
        self.movement = MovementLog()
        self._counted: dict[int, tuple[Segment, int | None]] = {}
        self.segments: list[Segment] = []
        self.decisions: dict[int, LiveDecision] = {}
        self._calibrated = card.decision

    def use_classes(self, classes: Sequence[str]) -> None:
        """Decide among these classes from now on (actions were taught or taken back); open segments go on."""
        allowed = None if self._allowed is None else [name for name in self._allowed if name in classes]
        self.decider = ActionDecider(self.decider.decision, classes, allowed)

    def use_decision(self, values: Mapping[str, float]) -> None:
        """Use these values (``enter``, ``leave``, ``smoothing_s``, ...) in place of the card's; empty: the card's."""
        wanted = {**self._calibrated.model_dump(), **values}
        wanted["leave"] = min(wanted["leave"], wanted["enter"])
        self.decider.decision = Decision.model_validate(wanted)

    def decide(
        self,
        request: Request | None,
        found: dict[int, Recognition],
        present: Collection[int],
    ) -> tuple[tuple[LiveDecision, ...], tuple[Segment, ...]]:
        """Decisions for everybody recognised, and the segments that closed."""
        decisions, closed = [], []
        for place, (person, answer) in enumerate(found.items()):
            assert request is not None
            self.movement.add(person, *request.tracks[place])
            latency = (clock.monotonic() - request.grabbed) * 1e3
            decision = self.decider.update(
                person,
                request.time,
                answer.logits,
                answer.motion,
                latency,
                answer.features,
            )
            newest = self.movement.movement(person, self._rest_speed)
            closed += self.builder.update(decision, newest.since, newest.until, newest.chain)
            decisions.append(decision)
        self._count()
        decisions = [replace(decision, repetitions=self._repetitions(decision)) for decision in decisions]
        self.decider.keep_only(present)
        closed += self.builder.absent(present)
        closed = [self._trimmed(segment) for segment in closed]
        self.movement.keep_only(present)
        self.segments += closed
        self.decisions = {p: d for p, d in self.decisions.items() if p in present} | {d.person: d for d in decisions}
        return tuple(decisions), tuple(closed)

    @property
    def _rest_speed(self) -> float:
        return REST_RATIO * self.decider.decision.min_motion

    def _trimmed(self, segment: Segment) -> Segment:
        """The segment less the getting ready and the settling at its ends."""
        start, end = self.movement.core(segment.person, segment.start, segment.end, self._rest_speed)
        if end - start >= self.builder.min_s:
            segment = replace(segment, start=start, end=end)
        return replace(segment, repetitions=self._often(segment))

    def _often(self, segment: Segment) -> int | None:
        found = count_repetitions(*self.movement.joints(segment.person, segment.start, segment.end))
        return None if found is None else found.count

    def _count(self) -> None:
        """Count the repetitions of what goes on, now and then; a number that is shown only grows."""
        counted = {}
        for segment in self.builder.open_segments():
            known, often = self._counted.get(segment.person, (segment, None))
            if (known.label, known.start) != (segment.label, segment.start):
                known, often = segment, None
            if segment.end - known.end >= COUNT_EVERY_S:
                known, often = segment, max(often or 0, self._often(segment) or 0) or None
            counted[segment.person] = (known, often)
        self._counted = counted

    def _repetitions(self, decision: LiveDecision) -> int | None:
        known = self._counted.get(decision.person)
        return known[1] if known is not None and known[0].label == decision.label else None

    def open_segments(self) -> tuple[Segment, ...]:
        """Actions that go on, with their repetitions so far."""
        counts = {person: often for person, (_, often) in self._counted.items()}
        return tuple(
            replace(segment, repetitions=counts.get(segment.person)) for segment in self.builder.open_segments()
        )

    def finish(self) -> tuple[Segment, ...]:
        """Close what is open: the source ended."""
        closed = [self._trimmed(segment) for segment in self.builder.close_all()]
        self.segments += closed
        return tuple(closed)

    def reset(self) -> None:
        """A new performance: forget persons and open segments."""
        self.decider.reset()
        self.builder.reset()
        self.movement.clear()
        self._counted = {}
        self.decisions = {}


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
