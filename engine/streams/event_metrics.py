"""How well actions are found in a running stream: matches by temporal overlap, delays, false alarms, boundaries.

A stream is judged by what its viewer notices: was the action found, when was its word there, was anything named while
nobody did anything. Measures of frames would hide an action that is cut into ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

THRESHOLDS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class TrueAction:
    """What was really done; seconds. ``known`` is False for an action that none of the classes names."""

    label: str
    start: float
    end: float
    known: bool = True


@dataclass(frozen=True)
class FoundAction:
    """What was found; seconds. ``named``: when the word was first shown; ``closed``: when start and end were final."""

    label: str
    start: float
    end: float
    named: float
    closed: float


@dataclass(frozen=True)
class Outcome:
    """One stream: what was done in it, what was found, and how long it is."""

    truth: tuple[TrueAction, ...]
    found: tuple[FoundAction, ...]
    seconds: float


@dataclass(frozen=True)
class Rates:
    """Counts at one overlap and what follows from them; a rate without a denominator is 0."""

    right: int
    found: int
    true: int

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.found + self.true) if self.found + self.true else 0.0

    def as_dict(self) -> dict[str, float]:
        values = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {"right": self.right, "found": self.found, "true": self.true} | values


@dataclass(frozen=True)
class EventReport:
    """All measures over several streams.

    Attributes
    ----------
    rates : dict
        :class:`Rates` per overlap threshold. What is found in unknown actions counts as found and not right.
    per_class : dict
        :class:`Rates` per class at ``at``.
    from_start, from_end, closing : numpy.ndarray
        Seconds from a right action's start (end) to its word, and from its end to the moment it is final; negative
        where that happened before the end. "Right" means: matched at ``at``.
    start_error, end_error : numpy.ndarray
        Found less true boundary of right actions, seconds.
    false_alarms : int
        Found actions that lie mostly in idle and match nothing at the lowest threshold.
    idle_s : float
        Seconds in which nothing was done.
    confused : int
        Found actions that lie mostly in a known action and match nothing at the lowest threshold.
    accepted, unknown : int
        Unknown actions of which at least ``ACCEPTED_S`` seconds were named, and all unknown actions.
    """

    at: float
    rates: dict[float, Rates]
    per_class: dict[str, Rates]
    from_start: np.ndarray
    from_end: np.ndarray
    closing: np.ndarray
    start_error: np.ndarray
    end_error: np.ndarray
    false_alarms: int
    idle_s: float
    confused: int
    accepted: int = 0
    unknown: int = 0
    mistaken: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def false_alarms_per_minute(self) -> float:
        return self.false_alarms / self.idle_s * 60 if self.idle_s > 0 else 0.0

    def as_dict(self) -> dict[str, object]:
        """Everything as plain numbers, for JSON; medians of what has many values, None where it has none."""

        def middle(values: np.ndarray) -> float | None:
            return float(np.median(values)) if len(values) else None

        return {
            "rates": {f"{at:g}": rates.as_dict() for at, rates in self.rates.items()},
            "delay_from_start_s": middle(self.from_start),
            "delay_from_end_s": middle(self.from_end),
            "closing_from_end_s": middle(self.closing),
            "start_error_s": middle(self.start_error),
            "end_error_s": middle(self.end_error),
            "start_error_abs_s": middle(np.abs(self.start_error)),
            "end_error_abs_s": middle(np.abs(self.end_error)),
            "false_alarms": self.false_alarms,
            "idle_s": self.idle_s,
            "false_alarms_per_minute": self.false_alarms_per_minute,
            "confused": self.confused,
            "unknown": self.unknown,
            "unknown_accepted": self.accepted,
            "per_class": {name: rates.as_dict() for name, rates in self.per_class.items()},
        }


# An unknown action counts as accepted when a word stood for at least this long during it.
ACCEPTED_S = 0.3


def overlap(a: TrueAction | FoundAction, b: TrueAction | FoundAction) -> float:
    """Temporal intersection over union, 0..1."""
    shared = min(a.end, b.end) - max(a.start, b.start)
    whole = max(a.end, b.end) - min(a.start, b.start)
    return max(0.0, shared) / whole if whole > 0 else 0.0


def match(
    truth: Sequence[TrueAction], found: Sequence[FoundAction], least: float, same_class: bool = True
) -> list[tuple[int, int]]:
    """Pairs (place in ``truth``, place in ``found``), one to one, whose overlap is at least ``least``.

    As many pairs as possible; among those choices the one with the largest sum of overlaps. Unknown actions match
    nothing.
    """
    if not truth or not found:
        return []
    from scipy.optimize import linear_sum_assignment

    worth = np.zeros((len(truth), len(found)))
    for i, j in zip(*_near(truth, found), strict=True):
        a, b = truth[i], found[j]
        if a.known and (not same_class or a.label == b.label) and (value := overlap(a, b)) >= least and value > 0:
            # One more pair is worth more than all overlaps together.
            worth[i, j] = value + min(len(truth), len(found))
    rows, columns = linear_sum_assignment(-worth)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if worth[i, j] > 0]


def _near(truth: Sequence[TrueAction], found: Sequence[FoundAction]) -> tuple[np.ndarray, np.ndarray]:
    """Places of all pairs that touch at all."""
    a = np.array([[t.start, t.end] for t in truth])
    b = np.array([[f.start, f.end] for f in found])
    touching = (a[:, None, 0] < b[None, :, 1]) & (b[None, :, 0] < a[:, None, 1])
    rows, columns = np.nonzero(touching)
    return rows, columns


def _covered(item: FoundAction, truth: Sequence[TrueAction]) -> float:
    return sum(max(0.0, min(item.end, t.end) - max(item.start, t.start)) for t in truth)


def judge(outcomes: Sequence[Outcome], thresholds: Sequence[float] = THRESHOLDS, at: float = 0.5) -> EventReport:
    """Judge several streams together.

    Parameters
    ----------
    outcomes : sequence of Outcome
        True actions of a stream must not overlap each other.
    thresholds : sequence of float
        Overlaps at which precision, recall and F1 are taken.
    at : float
        Overlap at which an action counts as right for classes, delays and boundaries.
    """
    counts = {value: [0, 0, 0] for value in thresholds}
    classes: dict[str, list[int]] = {}
    timing: list[tuple[float, float, float, float, float]] = []
    false_alarms = confused = accepted = unknown = 0
    idle = 0.0
    mistaken: dict[tuple[str, str], int] = {}
    for outcome in outcomes:
        truth, found = outcome.truth, outcome.found
        known = sum(t.known for t in truth)
        for value in thresholds:
            pairs = match(truth, found, value)
            for place, more in enumerate((len(pairs), len(found), known)):
                counts[value][place] += more
        pairs = match(truth, found, at)
        for label, place in [(t.label, 2) for t in truth if t.known] + [(f.label, 1) for f in found]:
            classes.setdefault(label, [0, 0, 0])[place] += 1
        for i, j in pairs:
            a, b = truth[i], found[j]
            classes[a.label][0] += 1
            timing.append((b.named - a.start, b.named - a.end, b.closed - a.end, b.start - a.start, b.end - a.end))
        taken = {j for _, j in match(truth, found, min(thresholds))}
        for j, item in enumerate(found):
            if j in taken:
                continue
            half = (item.end - item.start) / 2
            if _covered(item, truth) < half:
                false_alarms += 1
            elif _covered(item, [t for t in truth if t.known]) >= half:
                confused += 1
                over = max((t for t in truth if t.known), key=lambda t: min(item.end, t.end) - max(item.start, t.start))
                key = (over.label, item.label)
                mistaken[key] = mistaken.get(key, 0) + 1
        for action in truth:
            if not action.known:
                unknown += 1
                shared = [min(f.end, action.end) - max(f.start, action.start) for f in found]
                accepted += sum(max(0.0, value) for value in shared) >= min(ACCEPTED_S, action.end - action.start)
        idle += outcome.seconds - sum(t.end - t.start for t in truth)
    from_start, from_end, closing, start_error, end_error = np.array(timing, np.float64).reshape(-1, 5).T
    return EventReport(
        at,
        {value: Rates(*numbers) for value, numbers in counts.items()},
        {label: Rates(*numbers) for label, numbers in sorted(classes.items())},
        from_start,
        from_end,
        closing,
        start_error,
        end_error,
        false_alarms=false_alarms,
        idle_s=idle,
        confused=confused,
        accepted=accepted,
        unknown=unknown,
        mistaken=mistaken,
    )
