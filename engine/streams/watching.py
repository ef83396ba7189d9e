"""Runs recorded poses through the live path: poses, window, recogniser and decision are those of a camera.

The encoder's answers don't depend on what was decided before, so all windows are recognised in large batches, and
settings of the decision can be tried again and again on the same answers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.live.chain import ChainResult, LiveChain, PoseStage
from engine.live.decision_stage import DecisionStage
from engine.live.recogniser import Recogniser, Recognition, Request
from engine.live.types import Frame, LiveDecision, PersonPose, PoseResult, RawPose, Segment
from engine.skeleton.sequence import SkeletonSequence
from engine.streams.chained import Stream
from engine.streams.event_metrics import FoundAction, Outcome

BATCH = 64
_NO_PICTURE = np.zeros((1, 1, 3), np.uint8)
_NO_RAW = RawPose(np.zeros((33, 3), np.float32), np.zeros((33, 3), np.float32), np.ones(33, np.float32))
_SEEN = np.ones(25, np.float32)


class StoredPoses(PoseStage):
    """In the place of the pose model: frame ``i`` gives the persons of row ``i`` of a NTU-25 sequence."""

    def __init__(self, sequence: SkeletonSequence) -> None:
        super().__init__()
        self._xyz = sequence.xyz

    def process(self, frame: Frame) -> PoseResult:
        """Persons of the stored frame; absent ones (zeros) are left out."""
        persons = tuple(
            PersonPose(m + 1, joints, _SEEN, _NO_RAW) for m, joints in enumerate(self._xyz[frame.index]) if joints.any()
        )
        return PoseResult(frame.time, frame.index, frame.grabbed, (1, 1), persons)


def frames_of(sequence: SkeletonSequence) -> Iterator[Frame]:
    """Frames without a picture, one for each row of a sequence."""
    for index, time in enumerate(sequence.times.tolist()):
        yield Frame(_NO_PICTURE, time, index, 0.0)


@dataclass(frozen=True)
class Moment:
    """What one decision is made from."""

    request: Request | None
    found: dict[int, Recognition]
    present: tuple[int, ...]


def watch(recogniser: Recogniser, sequence: SkeletonSequence, encode_every: int = 4) -> list[Moment]:
    """Every moment at which the live path decides, with the encoder's answers, computed :data:`BATCH` at a time."""
    chain = LiveChain(StoredPoses(sequence), recogniser, encode_every=encode_every)
    seen: list[tuple[Request | None, tuple[int, ...]]] = []
    moments: list[Moment] = []

    def recognise() -> None:
        answers = iter(recogniser.infer_many([request for request, _ in seen if request is not None]))
        moments.extend(Moment(request, {} if request is None else next(answers), who) for request, who in seen)
        seen.clear()

    for frame in frames_of(sequence):
        _, request, due = chain.observe(frame)
        if due:
            seen.append((request, chain.window.persons()))
        if len(seen) == BATCH:
            recognise()
    recognise()
    return moments


def decide(stage: DecisionStage, moments: Iterable[Moment]) -> tuple[list[LiveDecision], list[FoundAction]]:
    """The decisions and segments of a fresh stage on what was seen."""
    log = _Log()
    for moment in moments:
        decisions, closed = stage.decide(moment.request, moment.found, moment.present)
        log.take(decisions, closed)
    log.take((), stage.finish())
    return log.decisions, log.found


def decide_live(chain: LiveChain, frames: Iterable[Frame]) -> tuple[list[LiveDecision], list[FoundAction]]:
    """The same from the chain itself, frame by frame: what :func:`watch` and :func:`decide` must agree with."""
    log = _Log()
    for frame in frames:
        result: ChainResult = chain.process(frame)
        log.take(result.decisions, result.closed)
    log.take((), chain.finish())
    return log.decisions, log.found


class _Log:
    """Decisions in order, and for every segment when its word was first shown and when it was final."""

    def __init__(self) -> None:
        self.decisions: list[LiveDecision] = []
        self.found: list[FoundAction] = []

    def take(self, decisions: Sequence[LiveDecision], closed: Sequence[Segment]) -> None:
        self.decisions += decisions
        now = self.decisions[-1].time if self.decisions else 0.0
        for segment in closed:
            first = bisect_left(self.decisions, segment.start, key=lambda decision: decision.time)
            shown = (
                decision.time
                for decision in self.decisions[first:]
                if decision.person == segment.person and decision.label == segment.label
            )
            self.found.append(FoundAction(segment.label, segment.start, segment.end, next(shown, now), now))


def run_stream(
    recogniser: Recogniser,
    stream: Stream,
    stage: DecisionStage | None = None,
) -> Outcome:
    """What a stage (a fresh one without) finds in a stream, beside what was done."""
    _, found = decide(stage or DecisionStage(recogniser), watch(recogniser, stream.sequence))
    return Outcome(stream.truth, tuple(found), stream.sequence.duration)
