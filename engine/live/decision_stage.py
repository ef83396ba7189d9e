"""Decisions, segments, boundaries and repetitions of one encoder: the last stage of the live path."""

from __future__ import annotations

import time as clock
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from engine.live.decision import ActionDecider
from engine.live.label_path import FULL_RATE
from engine.live.movement import MovementLog
from engine.live.recogniser import Recogniser, Recognition, Request
from engine.live.repetition import count_repetitions
from engine.live.segments import SegmentBuilder
from engine.live.types import LiveDecision, Segment
from engine.models.card import Decision

# Joint speed, as a part of the decision's ``min_motion``, under which a person rests.
REST_RATIO = 1.2
# Seconds from one look at the repetitions of an action that goes on to the next, and as a part of its length, so that
# counting a long one costs no more. Counts cover what the movement log keeps (two minutes).
COUNT_EVERY_S = 0.5
COUNT_EVERY_PART = 0.02
# Mean joint distance, trunk lengths, between the pose an action began in and one that is held; and how long, seconds, a
# held pose may be part of an action. On streams of the everyday set's tuning people a change of 0.2 found one action
# more of 91 and made all of them final later.
HELD_CHANGE = 0.4
HOLD_S = 3.0


class DecisionStage:
    """Decider and segments of one encoder; the last stage of the chain."""

    def __init__(self, recogniser: Recogniser, allowed: Collection[str] | None = None) -> None:
        card = recogniser.card
        self._allowed = allowed
        self.decider = ActionDecider(card.decision, card.classes, allowed)
        window = card.preprocessing.window_s
        self.builder = SegmentBuilder(card.classes, card.decision.idle_class, lag=window / 2, hold_s=HOLD_S)
        # What the encoder does not know gets words too, but not sure ones. Taught actions have scores of their own.
        self._own_classes = frozenset(recogniser.own_card.classes)
        self.movement = MovementLog()
        self._counted: dict[int, tuple[Segment, int | None]] = {}
        self.segments: list[Segment] = []
        self.decisions: dict[int, LiveDecision] = {}
        self._calibrated = card.decision

    def use_classes(self, classes: Sequence[str]) -> None:
        """Decide among these classes from now on (actions were taught or taken back); what goes on is named anew."""
        allowed = None if self._allowed is None else [name for name in self._allowed if name in classes]
        self.decider = ActionDecider(self.decider.decision, classes, allowed)
        self.builder.use_classes(classes)

    def use_decision(self, values: Mapping[str, float]) -> None:
        """Use these values (``enter``, ``leave``, ``smoothing_s``, ...) in place of the card's; empty: the card's."""
        wanted = {**self._calibrated.model_dump(), **values}
        wanted["leave"] = min(wanted["leave"], wanted["enter"])
        if wanted["enter"] < self._calibrated.enter and "min_score" not in values:
            # Who wants words sooner wants them kept.
            wanted["min_score"] = min(wanted["min_score"], wanted["enter"])
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
            newest = self.movement.movement(person, self._rest_speed)
            held = self._held(person, newest.until)
            latency = (clock.monotonic() - request.grabbed) * 1e3
            decision = self.decider.update(
                person, request.time, answer.logits, answer.motion, latency, answer.features, holds=held
            )
            closed += self.builder.update(decision, self.decider.window_scores(person), newest, held)
            decisions.append(decision)
        self.decider.keep_only(present)
        closed += self.builder.absent(present)
        closed = self._finished(closed)
        self.movement.keep_only(present)
        self.segments += closed
        self._count()
        decisions = [replace(decision, repetitions=self._repetitions(decision)) for decision in decisions]
        self.decisions = {p: d for p, d in self.decisions.items() if p in present} | {d.person: d for d in decisions}
        return tuple(decisions), tuple(closed)

    @property
    def _rest_speed(self) -> float:
        return REST_RATIO * self.decider.decision.min_motion

    def _held(self, person: int, rest: float | None) -> bool:
        """Whether a person who rests since ``rest`` does so in another pose than the open segment began in."""
        start = self.builder.start_of(person)
        if start is None or rest is None or rest <= start:
            return False
        moved = self.movement.pose_change(person, start, rest)
        return moved is not None and moved >= HELD_CHANGE

    def _finished(self, closed: list[Segment]) -> list[Segment]:
        """Closed segments that are believed, with their boundaries and repetitions.

        The least time of a word was found by counting windows at the full rate; a finer count is rounded to them.
        """
        least = self.decider.decision
        return [
            self._trimmed(segment)
            for segment in closed
            if segment.label not in self._own_classes
            or (
                segment.score >= least.min_score
                and round(segment.shown_s * FULL_RATE) >= least.min_shown_s * FULL_RATE - 1e-6
                and segment.end - segment.start >= least.min_s - 1e-9
            )
        ]

    def _trimmed(self, segment: Segment) -> Segment:
        """The segment less the getting ready and the settling at its ends."""
        known, shown = self._counted.get(segment.person, (segment, None))
        if not _same(known, segment):
            shown = None
        start, end = self.movement.core(segment.person, segment.start, segment.end, self._rest_speed)
        if end - start >= self.builder.min_s:
            segment = replace(segment, start=start, end=end)
        return replace(segment, repetitions=max(shown or 0, self._often(segment) or 0) or None)

    def _often(self, segment: Segment) -> int | None:
        found = count_repetitions(*self.movement.joints(segment.person, segment.start, segment.end))
        return None if found is None else found.count

    def _count(self) -> None:
        """Count the repetitions of what goes on, now and then; a number that is shown only grows."""
        counted = {}
        for segment in self.builder.open_segments():
            known, often = self._counted.get(segment.person, (segment, None))
            if not _same(known, segment):
                known, often = segment, None
            if segment.end - known.end >= max(COUNT_EVERY_S, COUNT_EVERY_PART * (segment.end - segment.start)):
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
        closed = self._finished(self.builder.close_all())
        self.segments += closed
        return tuple(closed)

    def reset(self) -> None:
        """A new performance: forget persons and open segments."""
        self.decider.reset()
        self.builder.reset()
        self.movement.clear()
        self._counted = {}
        self.decisions = {}


def _same(known: Segment, later: Segment) -> bool:
    """Whether two segments of a person are one action: while it goes on, its start may still be corrected."""
    return known.label == later.label and later.start <= known.end
