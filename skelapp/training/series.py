"""Curves of any length, kept so that drawing one costs the pixels it covers and not the points it has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FACTOR = 8  # points of a level that become one block of the next
_LARGE, _HUGE = 1 << 16, 1 << 21


class _Level:
    """Arrays that grow: where a block begins, its smallest and its largest value."""

    def __init__(self) -> None:
        self.count = 0
        self._rows = np.empty((3, 256))

    @property
    def rows(self) -> np.ndarray:
        """``(3, count)``: x of the block's first point, smallest y, largest y."""
        return self._rows[:, : self.count]

    def add(self, rows: np.ndarray) -> None:
        wanted = self.count + rows.shape[1]
        if wanted > self._rows.shape[1]:
            room = 2 * self._rows.shape[1]
            # Memory that is not written to costs nothing: one large step instead of many copies.
            grown = np.empty((3, max(wanted, room if room < _LARGE else max(room, _HUGE))))
            grown[:, : self.count] = self.rows
            self._rows = grown
        self._rows[:, self.count : wanted] = rows
        self.count = wanted

    def cut(self, count: int) -> None:
        self.count = min(self.count, count)


class Series:
    """Values ``y`` over a never decreasing ``x``; values that are not finite are left out.

    Beside the points a pyramid of extremes is kept, each level an eighth of the one below, so that a part of the curve
    can be drawn at the width of the screen without a peak being lost.
    """

    def __init__(self) -> None:
        self._levels = [_Level()]

    def __len__(self) -> int:
        return self._levels[0].count

    @property
    def x(self) -> np.ndarray:
        return self._levels[0].rows[0]

    @property
    def y(self) -> np.ndarray:
        return self._levels[0].rows[1]

    @property
    def low(self) -> float:
        """Smallest value; of a series with points."""
        return self._extreme(1, np.min)

    @property
    def high(self) -> float:
        """Largest value; of a series with points."""
        return self._extreme(2, np.max)

    def _extreme(self, row: int, of: Callable[[np.ndarray], float]) -> float:
        return float(of(np.concatenate([part[row] for part in self._parts(len(self._levels) - 1, 0)])))

    def _parts(self, index: int, low: int) -> list[np.ndarray]:
        """Blocks of a level from ``low`` on, and what does not fill one yet: a few of each level below."""
        parts = [self._levels[index].rows[:, low:]]
        for above in range(index, 0, -1):
            parts.append(self._levels[above - 1].rows[:, self._levels[above].count * FACTOR :])
        return parts

    def extend(self, x: np.ndarray, y: np.ndarray) -> None:
        """Append points, ``(N,)`` each; an ``x`` that goes back is moved up to the last one."""
        keep = np.isfinite(x) & np.isfinite(y)
        if not keep.any():
            return
        x, y = np.maximum.accumulate(x[keep]), y[keep]
        if len(self):
            x = np.maximum(x, self.x[-1])
        self._levels[0].add(np.stack([x, y, y]))
        self._raise()

    def cut(self, x: float) -> None:
        """Forget what lies after ``x``: a run that was interrupted does that part again."""
        count = int(np.searchsorted(self.x, x + 1e-9, side="right"))
        for level in self._levels:
            level.cut(count)
            count //= FACTOR

    def _raise(self) -> None:
        """Complete the blocks of the levels above."""
        below = self._levels[0]
        for index in range(1, 64):
            if index == len(self._levels):
                if below.count < FACTOR:
                    return
                self._levels.append(_Level())
            level = self._levels[index]
            whole = below.count // FACTOR
            if whole == level.count:
                return
            part = below.rows[:, level.count * FACTOR : whole * FACTOR].reshape(3, -1, FACTOR)
            level.add(np.stack([part[0, :, 0], part[1].min(1), part[2].max(1)]))
            below = level

    def drawn(self, left: float, right: float, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Points to draw for the part ``left..right`` of the axis on ``width`` pixels.

        Returns
        -------
        x, y : numpy.ndarray
            At most about ``8 * width`` points; every extreme of a pixel column is among them. The points just outside
            are included, so that lines run on to the edge.
        """
        width = max(width, 16)
        low, high = self._range(self._levels[0], left, right)
        if high - low <= 4 * width:
            return self.x[low:high], self.y[low:high]
        index = 0
        while high - low > 4 * width:
            index += 1
            level = self._levels[index]
            low, high = self._range(level, left, right)
        parts = self._parts(index, low) if high == level.count else [level.rows[:, low:high]]
        rows = np.concatenate(parts, axis=1)
        return np.repeat(rows[0], 2), rows[1:].T.reshape(-1)

    @staticmethod
    def _range(level: _Level, left: float, right: float) -> tuple[int, int]:
        x = level.rows[0]
        low = int(np.searchsorted(x, left, side="left")) - 1
        high = int(np.searchsorted(x, right, side="right")) + 1
        return max(low, 0), min(high, level.count)

    def value_at(self, x: float) -> float | None:
        """The last value at or before ``x``."""
        index = int(np.searchsorted(self.x, x + 1e-9, side="right")) - 1
        return float(self.y[index]) if index >= 0 else None
