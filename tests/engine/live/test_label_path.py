"""The likeliest course of labels, against trying every one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from engine.live.label_path import FULL_RATE, LabelPath


def tried(scores: np.ndarray, seconds: np.ndarray, price: float, floor: float) -> list[int]:
    """The best of all courses."""

    def worth(course: tuple[int, ...]) -> float:
        total = 0.0
        for i, label in enumerate(course):
            weight = min(seconds[i], 0.5) * FULL_RATE
            total += weight * np.log((1 - floor) * scores[i, label] + floor / scores.shape[1])
            total -= price if i and course[i - 1] != label else 0.0
        return total

    return list(max(product(range(scores.shape[1]), repeat=len(scores)), key=worth))


@pytest.mark.parametrize("price", [0.0, 0.7, 2.5])
def test_no_other_course_is_likelier(price: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(6):
        scores, seconds = rng.dirichlet(np.full(3, 0.5), 7), rng.uniform(0.05, 0.8, 7)
        path = LabelPath(price, 0.05)
        for row, step in zip(scores, seconds, strict=True):
            path.add(row, step)
        assert path.labels() == tried(scores, seconds, price, 0.05) and len(path) == 7


def test_what_is_forgotten_has_no_say() -> None:
    rng = np.random.default_rng(4)
    scores = rng.dirichlet(np.full(4, 0.3), 30)
    whole, rest = LabelPath(1.0), LabelPath(1.0)
    for i, row in enumerate(scores):
        whole.add(row, 0.1)
        if i >= 12:
            rest.add(row, 0.1)
    whole.forget(12)
    assert whole.labels() == rest.labels() and len(whole) == 18
    whole.forget(18)
    assert whole.labels() == [] and len(whole) == 0


def test_evidence_is_a_matter_of_time_not_of_how_often_it_is_looked() -> None:
    """The same change of name, seen by few windows and by many."""
    for rate in (4.0, 15.0, 30.0):
        path = LabelPath(price=10.0)
        for i in range(round(4 * rate)):
            path.add(np.array([0.8, 0.2] if i < 2 * rate else [0.2, 0.8]), 1 / rate)
        assert path.labels().count(0) == pytest.approx(2 * rate)
    quick = LabelPath(price=10.0)
    for i in range(120):
        quick.add(np.array([0.8, 0.2] if not 40 <= i < 55 else [0.2, 0.8]), 1 / 30)  # half a second is a slip
    assert set(quick.labels()) == {0}
