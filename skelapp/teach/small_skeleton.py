"""A take as a small moving figure: seen from the front, projected once, painted in microseconds."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPen

from engine.skeleton.sequence import SkeletonSequence
from skelapp import theme

ASPECT = 0.85  # width of a figure's box to its height
_SPAN_M = 1.9  # a person and her raised arms
_TURN = 0.25  # radians about the vertical: depth can be guessed


class SmallSkeleton:
    """The frames of one sequence as points in a unit box.

    Parameters
    ----------
    sequence : SkeletonSequence
        Any layout; persons that are absent (all zeros) are left out.
    """

    def __init__(self, sequence: SkeletonSequence) -> None:
        self._times = sequence.times - sequence.times[0] if len(sequence) else np.zeros(0)
        layout = sequence.skeleton
        self._bones = tuple(layout.bones)
        sides = [layout.side(joint) for joint in range(layout.num_joints)]
        self._sides = [sides[a] if sides[a] == sides[b] else "centre" for a, b in self._bones]
        self._head = next((j for j, name in enumerate(layout.joints) if name.lower() in ("head", "nose")), 0)
        xyz = sequence.xyz.astype(np.float64)
        self._present = np.abs(xyz).sum((2, 3)) > 0
        # The sensor sees its left, which is x, on the right of the picture turned about; y is up.
        x = -(np.cos(_TURN) * xyz[..., 0] + np.sin(_TURN) * (xyz[..., 2] - _mean_depth(xyz, self._present)))
        y = xyz[..., 1]
        centre_x, low, high = 0.0, 0.0, 0.0
        if self._present.any():
            seen_x, seen_y = x[self._present], y[self._present]
            centre_x = float(np.median(seen_x))
            low, high = (float(v) for v in np.quantile(seen_y, (0.005, 0.995)))
            reach = 2 * float(np.quantile(np.abs(seen_x - centre_x), 0.995)) / ASPECT
        else:
            reach = 0.0
        span = max(_SPAN_M, 1.08 * (high - low), 1.05 * reach)
        middle = low + 0.5 * span - 0.04 * span
        self._points = np.stack([0.5 + (x - centre_x) / span / ASPECT, 0.5 - (y - middle) / span], -1)

    @property
    def duration(self) -> float:
        return float(self._times[-1]) if len(self._times) else 0.0

    def frame_at(self, seconds: float) -> int:
        """The frame shown so many seconds after the first."""
        return max(0, int(np.searchsorted(self._times, seconds, side="right")) - 1)

    def paint(self, painter: QPainter, box: QRectF, frame: int) -> None:
        """Draw one frame as large as fits into ``box``."""
        if not 0 <= frame < len(self._points):
            return
        height = min(box.height(), box.width() / ASPECT)
        width = height * ASPECT
        left, top = box.center().x() - width / 2, box.center().y() - height / 2
        thick = max(1.6, height / 52)
        for person in np.flatnonzero(self._present[frame]).tolist():
            xy = self._points[frame, person] * (width, height) + (left, top)
            points = [QPointF(px, py) for px, py in xy.tolist()]
            for side in ("centre", "right", "left"):
                pen = QPen(theme.side_colour(person + 1, side), thick)
                pen.setCapStyle(Qt.PenCapStyle.RoundCap)
                painter.setPen(pen)
                lines = [
                    QLineF(points[a], points[b])
                    for (a, b), of in zip(self._bones, self._sides, strict=True)
                    if of == side
                ]
                painter.drawLines(lines)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.person_colour(person + 1))
            painter.drawEllipse(points[self._head], 2.2 * thick, 2.2 * thick)
            painter.setBrush(Qt.BrushStyle.NoBrush)


def _mean_depth(xyz: np.ndarray, present: np.ndarray) -> float:
    return float(xyz[present][..., 2].mean()) if present.any() else 0.0
