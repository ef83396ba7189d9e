"""One-Euro filter: datasets.md, section 8, check 52, and its manners with gaps and missing values."""

from __future__ import annotations

import numpy as np
import pytest

from engine.live.filters import OneEuro


def _scalar_one_euro(
    values: list[float], times: list[float], cutoff: float, beta: float, d_cutoff: float
) -> list[float]:
    """The filter as the paper writes it, one number at a time."""

    def alpha(fc: float, dt: float) -> float:
        return 1 / (1 + 1 / (2 * np.pi * fc * dt))

    out, speed = [values[0]], 0.0
    for i in range(1, len(values)):
        dt = times[i] - times[i - 1]
        a = alpha(d_cutoff, dt)
        speed = a * (values[i] - out[-1]) / dt + (1 - a) * speed
        b = alpha(cutoff + beta * abs(speed), dt)
        out.append(b * values[i] + (1 - b) * out[-1])
    return out


def test_agrees_with_the_scalar_formula_on_uneven_times() -> None:
    generator = np.random.default_rng(1)
    times = np.cumsum(generator.uniform(0.01, 0.2, 50))
    values = generator.normal(size=(50, 25, 3))
    one_euro = OneEuro(1.3, 0.7, 0.9)
    filtered = np.array([one_euro(v, t) for v, t in zip(values, times, strict=True)])
    expected = _scalar_one_euro(values[:, 7, 2].tolist(), times.tolist(), 1.3, 0.7, 0.9)
    assert filtered[:, 7, 2] == pytest.approx(expected, abs=1e-12)


def test_first_sample_passes_and_constant_stays() -> None:
    one_euro = OneEuro()
    value = np.array([1.0, -2.0, 3.0])
    for i in range(20):
        assert one_euro(value, 0.03 * i) == pytest.approx(value, abs=1e-15)


def test_larger_beta_lags_less_on_a_ramp() -> None:
    lags = []
    for beta in (0.0, 0.5, 5.0):
        one_euro = OneEuro(1.0, beta)
        for i in range(60):
            out = one_euro(np.array([i / 30]), i / 30)
        lags.append(59 / 30 - out[0])
    assert lags[0] > 2 * lags[1] > 0
    assert lags[1] > 2 * lags[2] > 0


def test_result_depends_on_true_time_differences() -> None:
    def after(step: float) -> float:
        one_euro = OneEuro(1.0, 0.0)
        one_euro(np.array([0.0]), 0.0)
        return float(one_euro(np.array([1.0]), step)[0])

    assert after(0.1) == pytest.approx(1 / (1 + 1 / (2 * np.pi * 0.1)))
    assert after(0.1) > after(0.02)


def test_gap_and_time_going_back_start_anew() -> None:
    one_euro = OneEuro(0.1, 0.0)
    one_euro(np.array([0.0]), 0.0)
    assert one_euro(np.array([1.0]), 0.5)[0] < 0.5
    assert one_euro(np.array([5.0]), 1.01)[0] == 5.0
    assert one_euro(np.array([7.0]), 0.2)[0] == 7.0


def test_repeated_time_changes_nothing() -> None:
    one_euro = OneEuro()
    first = one_euro(np.array([1.0]), 2.0)
    assert one_euro(np.array([9.0]), 2.0) == first


def test_nan_never_enters_the_state() -> None:
    one_euro = OneEuro()
    clean = OneEuro()
    one_euro(np.array([1.0, np.nan]), 0.0)
    clean(np.array([1.0, 4.0]), 0.0)
    held = one_euro(np.array([np.nan, np.nan]), 0.03)
    assert held[0] == 1.0 and np.isnan(held[1])
    assert one_euro(np.array([np.inf, 4.0]), 0.06).tolist() == [1.0, 4.0]
    assert np.isfinite([one_euro(np.array([2.0, 4.0]), 0.06 + 0.03 * i) for i in range(1, 9)]).all()


def test_results_are_copies() -> None:
    one_euro = OneEuro()
    out = one_euro(np.array([1.0]), 0.0)
    out[:] = np.nan
    assert one_euro(np.array([1.0]), 0.03)[0] == 1.0
