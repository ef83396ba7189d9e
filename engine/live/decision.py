"""From logits to words: smoothing, hysteresis, "nothing recognised", and segments with start and end."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.live.types import LiveDecision, Segment
from engine.models.card import Decision

# A person counts as still only below this fraction of ``min_motion`` and after this long: no flicker at the limit.
STILL_RATIO = 0.7
STILL_AFTER_S = 0.4
# Motion is measured over the last moments, so it is seen to end this much after it ended.
STILL_LAG_S = 0.5


@dataclass
class _PersonState:
    scores: np.ndarray
    time: float
    label: int | None = None
    moving: bool = False
    moving_since: float = 0.0
    low_since: float | None = None
    still_since: float | None = None


class ActionDecider:
    """Turns an encoder's logits into a calm label per person; None when nothing is recognised.

    Scores are a temperature softmax, smoothed exponentially on true time differences. A label begins at
    ``decision.enter`` and ends under ``decision.leave``; a person who stands still, and the idle class, mean None.

    Parameters
    ----------
    decision : Decision
        Calibrated settings from the checkpoint card.
    classes : sequence of str
        Class names in the order of the logits.
    allowed : collection of str, optional
        Only these are ever shown. Their scores are not raised by leaving others out: an action outside the subset
        becomes None, not the nearest allowed one. Raises ``ValueError`` for a name that is no class.
    top : int
        Length of the list of best classes.
    """

    def __init__(
        self,
        decision: Decision,
        classes: Sequence[str],
        allowed: Collection[str] | None = None,
        top: int = 5,
    ) -> None:
        self.decision = decision
        self.classes = tuple(classes)
        if allowed is not None and (unknown := sorted(set(allowed) - set(self.classes))):
            raise ValueError(f"unknown classes {', '.join(unknown)}; known: {', '.join(self.classes)}")
        self._shown = np.array(
            [name != decision.idle_class and (allowed is None or name in allowed) for name in self.classes]
        )
        self._top = min(top, len(self.classes))
        self._states: dict[int, _PersonState] = {}

    def reset(self, person: int | None = None) -> None:
        """Forget one person, or all."""
        if person is None:
            self._states.clear()
        else:
            self._states.pop(person, None)

    def keep_only(self, persons: Collection[int]) -> None:
        """Forget everybody who is not among ``persons``."""
        for person in set(self._states) - set(persons):
            del self._states[person]

    def moving_since(self, person: int) -> float | None:
        """Time at which the person's present movement began; None while still or unknown."""
        state = self._states.get(person)
        return state.moving_since if state is not None and state.moving else None

    def still_since(self, person: int) -> float | None:
        """Time at which the person came to rest; None while moving or unknown."""
        state = self._states.get(person)
        return state.still_since if state is not None and not state.moving else None

    def update(
        self,
        person: int,
        time: float,
        logits: np.ndarray,
        motion: float,
        latency_ms: float = 0.0,
        features: np.ndarray | None = None,
    ) -> LiveDecision:
        """Decide for one person.

        Parameters
        ----------
        time : float
            Seconds; a time not later than the last one starts the person anew.
        logits : numpy.ndarray
            ``(K,)``. Values that are not finite count as "nothing".
        motion : float
            Trunk lengths per second (see :func:`engine.live.window.motion_energy`).

        Returns
        -------
        LiveDecision
            ``score`` is the smoothed score of the label or, without a label, of the best class that may be shown.
        """
        scores = self._softmax(logits)
        state = self._states.get(person)
        if state is None or time <= state.time:
            state = self._states[person] = _PersonState(scores, time)
        elif self.decision.smoothing_s > 0:
            weight = 1 - math.exp(-(time - state.time) / self.decision.smoothing_s)
            state.scores = state.scores + weight * (scores - state.scores)
        else:
            state.scores = scores
        state.time = time
        self._watch_motion(state, time, motion)
        state.label = self._choose(state)
        order = np.argsort(-state.scores, kind="stable")[: self._top]
        best = float(np.where(self._shown, state.scores, 0.0).max())
        return LiveDecision(
            time=time,
            person=person,
            label=None if state.label is None else self.classes[state.label],
            score=best if state.label is None else float(state.scores[state.label]),
            top=tuple((self.classes[i], float(state.scores[i])) for i in order),
            latency_ms=latency_ms,
            features=features,
        )

    def _softmax(self, logits: np.ndarray) -> np.ndarray:
        if logits.shape != (len(self.classes),):
            raise ValueError(f"{logits.shape} logits for {len(self.classes)} classes")
        if not np.isfinite(logits).all():
            return np.zeros(len(self.classes))
        scaled = logits.astype(np.float64) / self.decision.temperature
        odds = np.exp(scaled - scaled.max())
        return odds / odds.sum()

    def _watch_motion(self, state: _PersonState, time: float, motion: float) -> None:
        limit = self.decision.min_motion
        if motion >= limit:
            if not state.moving:
                state.moving, state.moving_since = True, time
            state.low_since = state.still_since = None
        elif state.moving and motion < STILL_RATIO * limit:
            if state.low_since is None:
                state.low_since = time
            if time - state.low_since >= STILL_AFTER_S:
                state.moving, state.still_since = False, state.low_since - STILL_LAG_S
        elif state.moving:
            state.low_since = None

    def _choose(self, state: _PersonState) -> int | None:
        if not state.moving:
            return None
        # The idle class and classes outside the subset compete: where one of them is best, nothing is shown.
        winner = int(state.scores.argmax())
        if self._shown[winner] and state.scores[winner] >= self.decision.enter:
            return winner
        if state.label is not None and state.scores[state.label] >= self.decision.leave:
            return state.label
        return None


class SegmentBuilder:
    """Joins decisions into segments, per person.

    An action is named only after part of it was seen, so starts and label-driven ends are dated back by ``lag``;
    never before the movement began or the previous segment ended. Drop-outs up to ``merge_s`` of the same label are
    bridged; what ends up shorter than ``min_s`` is dropped.
    """

    def __init__(self, lag: float = 0.8, merge_s: float = 0.6, min_s: float = 0.3) -> None:
        self.lag = lag
        self.merge_s = merge_s
        self.min_s = min_s
        self._open: dict[int, _OpenSegment] = {}
        self._last_end: dict[int, float] = {}

    def update(
        self,
        decision: LiveDecision,
        moving_since: float | None = None,
        still_since: float | None = None,
    ) -> list[Segment]:
        """Take one decision; returns the segments it closed."""
        person, now = decision.person, decision.time
        current = self._open.get(person)
        if current is not None and now < current.last:
            self._open.pop(person)
            self._last_end.pop(person, None)
            current = None
        if current is not None and decision.label == current.label:
            current.last, current.quiet_since = now, None
            current.total += decision.score
            current.count += 1
            return []
        closed: list[Segment] = []
        if current is not None:
            if current.quiet_since is None:
                current.quiet_since = now
                current.rest = still_since
            if decision.label is None and now - current.quiet_since < self.merge_s:
                return []
            closed = self._close(person, current.rest, switch=decision.label is not None)
        if decision.label is not None:
            earliest = max(now - self.lag, self._last_end.get(person, -math.inf))
            start = min(now, max(earliest, -math.inf if moving_since is None else moving_since))
            self._open[person] = _OpenSegment(decision.label, start, now, now, decision.score, 1)
        return closed

    def _close(self, person: int, rest: float | None, switch: bool) -> list[Segment]:
        item = self._open.pop(person)
        if rest is not None:
            end = min(rest, item.last)
        else:
            end = item.last - (self.lag if switch else self.lag / 2)
        # A label that was up must leave at least the time it was up less the lag; never a negative length.
        end = max(end, item.start + min(self.min_s, item.last - item.start))
        if item.last - item.first < 1e-9 or end - item.start < self.min_s - 1e-9:
            return []
        self._last_end[person] = end
        return [Segment(person, item.label, item.start, end, item.total / item.count)]

    def absent(self, present: Collection[int]) -> list[Segment]:
        """Close the segments of everybody who is not among ``present``."""
        closed: list[Segment] = []
        for person in sorted(set(self._open) - set(present)):
            closed += self._finish(person)
        return closed

    def close_all(self) -> list[Segment]:
        """Close everything (end of the source)."""
        return self.absent(())

    def _finish(self, person: int) -> list[Segment]:
        """Close at the last moment the label was up: the performance was cut, nothing has to be dated back."""
        return self._close(person, self._open[person].last, switch=False)

    def open_segments(self) -> tuple[Segment, ...]:
        """Actions that go on, ``open=True``, ending at their last decision."""
        return tuple(
            Segment(
                person,
                item.label,
                item.start,
                item.last,
                item.total / item.count,
                open=True,
            )
            for person, item in sorted(self._open.items())
        )

    def reset(self) -> None:
        """Forget everything, without closing."""
        self._open.clear()
        self._last_end.clear()


@dataclass
class _OpenSegment:
    label: str
    start: float
    first: float
    last: float
    total: float
    count: int
    quiet_since: float | None = None
    rest: float | None = None


def with_latency(decision: LiveDecision, latency_ms: float) -> LiveDecision:
    """The same decision with its latency filled in."""
    return replace(decision, latency_ms=latency_ms)
