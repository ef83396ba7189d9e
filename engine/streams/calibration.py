"""Fits the values of the live decision on streams with known truth, as they are used: over time, with idle in between.

Windows of cut sequences say how sure an encoder is; only a stream says at which score words become actions that are
right, and how sure of one the decision was all along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.live.decision_stage import DecisionStage
from engine.live.recogniser import Recogniser
from engine.models.card import Decision
from engine.streams.chained import Stream
from engine.streams.event_metrics import EventReport, Outcome, judge, match
from engine.streams.watching import Moment, decide

ENTERS = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
MIN_SHOWN_S = (0.3, 0.5, 0.7, 0.9)
LEAVE_BELOW = 0.15
MOST_MIN_SCORE = 0.9

Seen = tuple[Stream, Sequence[Moment]]


@dataclass(frozen=True)
class StreamFit:
    """Values found, and the streams judged with the card's values and with these."""

    decision: Decision
    before: EventReport
    after: EventReport


def outcomes(recogniser: Recogniser, seen: Sequence[Seen], decision: Decision) -> tuple[list[Outcome], list[float]]:
    """What is found with these values, and the mean scores of the segments that are right (half overlap)."""
    found_in, right = [], []
    for stream, moments in seen:
        stage = DecisionStage(recogniser)
        stage.use_decision(decision.model_dump())
        _, found = decide(stage, moments)
        found_in.append(Outcome(stream.truth, tuple(found), stream.sequence.duration))
        scores = [segment.score for segment in stage.segments]
        right += [scores[j] for _, j in match(stream.truth, found, 0.5)]
    return found_in, right


def min_score_that_keeps(scores: Sequence[float], keep: float) -> float:
    """The highest mean score, in hundredths and at most 0.9, that at least the share ``keep`` of the scores reaches."""
    if not scores:
        return 0.0
    reached = [step for step in range(int(MOST_MIN_SCORE * 100) + 1) if np.mean(np.array(scores) >= step / 100) >= keep]
    return max(reached, default=0) / 100


def fit_on_streams(
    recogniser: Recogniser, seen: Sequence[Seen], keep: float = 0.98, enters: Sequence[float] = ENTERS
) -> StreamFit:
    """Choose ``enter`` (and ``leave``) and ``min_shown_s`` for the most F1 at half overlap, then ``min_score``.

    Parameters
    ----------
    seen : sequence of (Stream, moments)
        Streams and what :func:`engine.streams.watching.watch` saw in them.
    keep : float
        Share of the right actions that must survive ``min_score``.
    enters : sequence of float
        Values tried beside the card's own; of equals the one with fewer false alarms, then the card's own, wins.

    Raises
    ------
    ValueError
        No streams, or a share outside 0..1.
    """
    if not seen or not 0 <= keep <= 1:
        raise ValueError(f"need streams and a share of 0..1 to keep, got {len(seen)} and {keep}")
    own = recogniser.card.decision
    before = judge(outcomes(recogniser, seen, own)[0])
    levels = [own.model_dump(), *(own.model_dump() | _levels(e) for e in enters if e != own.enter)]
    shown = (own.min_shown_s, *(value for value in MIN_SHOWN_S if value != own.min_shown_s))
    # Cards of before asked for a length instead.
    free = {"min_s": 0.0, "min_score": 0.0}
    tried = [Decision.model_validate(one | free | {"min_shown_s": s}) for one in levels for s in shown]

    def worth(decision: Decision) -> tuple[float, float]:
        report = judge(outcomes(recogniser, seen, decision)[0])
        return round(report.rates[report.at].f1, 3), -report.false_alarms_per_minute

    best = max(tried, key=worth)
    _, right = outcomes(recogniser, seen, best)
    best = best.model_copy(update={"min_score": min_score_that_keeps(right, keep)})
    return StreamFit(best, before, judge(outcomes(recogniser, seen, best)[0]))


def _levels(enter: float) -> dict[str, float]:
    return {"enter": enter, "leave": round(max(enter - LEAVE_BELOW, 0.2), 2)}
