from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.streams.event_metrics import FoundAction, Outcome, TrueAction, judge, match, overlap


def true(label: str, start: float, end: float, known: bool = True) -> TrueAction:
    return TrueAction(label, start, end, known)


def found(label: str, start: float, end: float, named: float = 0.0, closed: float = 0.0) -> FoundAction:
    return FoundAction(label, start, end, named, closed)


def best_pairs(truth: list[TrueAction], things: list[FoundAction], least: float) -> tuple[int, float]:
    """Most pairs, and their largest sum of overlaps, by trying every assignment."""
    best = (0, 0.0)
    places: list[int | None] = [*range(len(things)), *[None] * len(truth)]
    for order in set(permutations(places, len(truth))):
        values = [
            overlap(a, things[j])
            for a, j in zip(truth, order, strict=True)
            if j is not None and a.label == things[j].label and overlap(a, things[j]) >= least
        ]
        best = max(best, (len([v for v in values if v > 0]), sum(values)))
    return best


spans = st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 6))


@settings(max_examples=60, deadline=None)
@given(st.lists(spans, max_size=3), st.lists(spans, max_size=4), st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_matching_is_the_best_of_all(a: list, b: list, least: float) -> None:
    truth = [true(label, start, start + length) for label, start, length in a]
    things = [found(label, start, start + length) for label, start, length in b]
    pairs = match(truth, things, least)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(truth[i].label == things[j].label and overlap(truth[i], things[j]) >= least for i, j in pairs)
    count, worth = best_pairs(truth, things, least)
    assert len(pairs) == count
    assert sum(overlap(truth[i], things[j]) for i, j in pairs) == pytest.approx(worth)


def test_overlap_by_counting_milliseconds() -> None:
    a, b = true("x", 1.25, 4.0), found("x", 3.0, 6.5)
    grid = np.arange(0, 8, 0.001) + 0.0005
    inside = [(item.start < grid) & (grid < item.end) for item in (a, b)]
    assert overlap(a, b) == pytest.approx((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum(), abs=1e-3)
    assert overlap(a, found("x", 4.0, 5.0)) == 0.0


def test_one_stream_counted_by_hand() -> None:
    outcome = Outcome(
        truth=(
            true("wave", 10, 14),  # found exactly but for its ends
            true("clap", 20, 24),  # called something else
            true("wave", 30, 34),  # cut in two, one part large enough
            true("bow", 40, 44),  # missed
            true("dance", 50, 54, known=False),  # unknown, and named
            true("swim", 60, 64, known=False),  # unknown, and rightly left alone
        ),
        found=(
            found("wave", 10.5, 14.25, named=11.5, closed=15.0),
            found("wave", 20, 24, named=21.0, closed=25.0),
            found("wave", 30, 32.5, named=31.0, closed=33.0),
            found("wave", 33, 34, named=33.5, closed=35.0),
            found("clap", 51, 53),
            found("bow", 70, 71),
        ),
        seconds=100.0,
    )
    report = judge([outcome])
    assert report.rates[0.5].as_dict() == {
        "right": 2, "found": 6, "true": 4, "precision": 2 / 6, "recall": 0.5, "f1": pytest.approx(0.4)
    }  # fmt: skip
    assert report.rates[0.7].right == 1 and report.rates[0.3].right == 2
    assert report.per_class["wave"].right == 2 and report.per_class["wave"].found == 4
    assert report.per_class["bow"].as_dict()["f1"] == 0.0
    assert report.false_alarms == 1 and report.idle_s == pytest.approx(76) and report.confused == 2
    assert report.false_alarms_per_minute == pytest.approx(60 / 76)
    assert report.mistaken == {("clap", "wave"): 1, ("wave", "wave"): 1}
    assert (report.accepted, report.unknown) == (1, 2)
    np.testing.assert_allclose(report.from_start, [1.5, 1.0])
    np.testing.assert_allclose(report.from_end, [-2.5, -3.0])
    np.testing.assert_allclose(report.closing, [1.0, -1.0])
    np.testing.assert_allclose(report.start_error, [0.5, 0.0])
    np.testing.assert_allclose(report.end_error, [0.25, -1.5])
    twice = judge([outcome, outcome])
    assert twice.rates[0.5].f1 == report.rates[0.5].f1 and twice.false_alarms == 2


def test_nothing_found_and_nothing_done() -> None:
    empty = judge([Outcome((), (), 10.0)]).as_dict()
    assert empty["false_alarms_per_minute"] == 0.0 and empty["delay_from_end_s"] is None
    silent = judge([Outcome((true("wave", 1, 2),), (), 10.0)])
    assert silent.rates[0.5].f1 == 0.0 and silent.rates[0.5].precision == 0.0
