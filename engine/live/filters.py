"""One-Euro smoothing of joints on true time differences (datasets.md, section 6.5).

Casiez, Roussel, Vogel: "1 Euro Filter", CHI 2012: a low-pass filter whose cut-off grows with the speed, so that a
still hand does not tremble and a fast one is not late.
"""

from __future__ import annotations

import numpy as np

MAX_GAP_S = 0.5


class OneEuro:
    """Filters an array of any fixed shape, every element by itself.

    Parameters
    ----------
    min_cutoff : float or numpy.ndarray
        Hz; the cut-off at rest. Broadcasts against the samples.
    beta : float or numpy.ndarray
        Hz per unit of speed; larger means less lag.
    d_cutoff : float
        Hz; the cut-off of the speed estimate.
    max_gap : float
        Seconds; after a longer pause, or when time goes back, the filter starts anew.
    """

    def __init__(
        self,
        min_cutoff: float | np.ndarray = 1.0,
        beta: float | np.ndarray = 0.5,
        d_cutoff: float = 1.0,
        max_gap: float = MAX_GAP_S,
    ) -> None:
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.d_cutoff = d_cutoff
        self.max_gap = max_gap
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next sample passes through unchanged."""
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None
        self._time = -np.inf

    def __call__(self, sample: np.ndarray, time: float) -> np.ndarray:
        """Filter one sample taken at ``time`` (seconds).

        Elements that are not finite never enter the state: the result holds their last filtered value, or NaN where
        there is none yet. A repeated time gives the last result again.
        """
        sample = np.asarray(sample, np.float64)
        step = time - self._time
        if self._value is None or self._speed is None or step > self.max_gap or step < 0:
            self._value = np.where(np.isfinite(sample), sample, np.nan)
            self._speed = np.zeros_like(sample)
            self._time = time
            return self._value.copy()
        if step == 0:
            return self._value.copy()
        fresh = np.isfinite(sample)
        known = np.isfinite(self._value)
        both = fresh & known
        with np.errstate(invalid="ignore"):
            raw_speed = np.where(both, (sample - self._value) / step, 0.0)
            blend = _alpha(self.d_cutoff, step)
            speed = np.where(both, blend * raw_speed + (1 - blend) * self._speed, self._speed)
            weight = _alpha(self.min_cutoff + self.beta * np.abs(speed), step)
            value = np.where(both, weight * sample + (1 - weight) * self._value, self._value)
        self._value = np.where(fresh & ~known, sample, value)
        self._speed, self._time = speed, time
        return self._value.copy()


def _alpha(cutoff: float | np.ndarray, step: float) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + 1.0 / (2 * np.pi * np.asarray(cutoff) * step)))
