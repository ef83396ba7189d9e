"""Draws skeletons with QPainter: MediaPipe's landmarks over the picture, and the 25 joints turned freely in space."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPen

from engine.live.types import PersonPose
from engine.skeleton.layout import BLAZEPOSE33, BLAZEPOSE_CONNECTIONS, NTU25, Layout
from engine.skeleton.posture import levelled
from skelapp import theme

MIN_VISIBILITY = 0.35
# The eleven face landmarks crowd the head; nose and ears say enough.
_FACE_SHOWN = frozenset({0, 7, 8})
_LINKS = tuple((a, b) for a, b in BLAZEPOSE_CONNECTIONS if a > 10 and b > 10)
_SIDES33 = tuple(BLAZEPOSE33.side(j) for j in range(33))


def _link_side(sides: tuple[str, ...], a: int, b: int) -> str:
    return sides[a] if sides[a] == sides[b] else "centre"


def paint_landmarks(painter: QPainter, persons: Iterable[PersonPose], area: QRectF, mirror: bool) -> None:
    """Draw image landmarks ``(33, 3)`` (fractions of the picture) into ``area``, which is where the picture lies.

    ``mirror`` flips the drawing, never the data. Landmarks under ``MIN_VISIBILITY`` are left out.
    """
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    width = max(3.0, area.height() / 130.0)
    for pose in persons:
        xy = np.asarray(pose.raw.image, np.float64)[:, :2]
        ok = np.isfinite(xy).all(1) & (np.asarray(pose.raw.visibility) >= MIN_VISIBILITY)
        x = (1.0 - xy[:, 0]) if mirror else xy[:, 0]
        points = [
            QPointF(area.x() + px * area.width(), area.y() + py * area.height()) if good else QPointF()
            for px, py, good in zip(x.tolist(), xy[:, 1].tolist(), ok.tolist(), strict=True)
        ]
        links = [(a, b) for a, b in _LINKS if ok[a] and ok[b]]
        # A dark seam under the coloured line keeps the skeleton readable on any picture.
        painter.setPen(_pen(QColor(0, 0, 0, 130), width + 2.5))
        painter.drawLines([QLineF(points[a], points[b]) for a, b in links])
        for side in ("centre", "right", "left"):
            painter.setPen(_pen(theme.side_colour(pose.person, side), width))
            painter.drawLines([QLineF(points[a], points[b]) for a, b in links if _link_side(_SIDES33, a, b) == side])
        painter.setPen(QPen(QColor(0, 0, 0, 150), 1.0))
        for joint, good in enumerate(ok.tolist()):
            if good and (joint > 10 or joint in _FACE_SHOWN):
                painter.setBrush(theme.side_colour(pose.person, _SIDES33[joint]))
                painter.drawEllipse(points[joint], width * 0.85, width * 0.85)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        head = [points[j] for j in (0, 7, 8) if ok[j]]
        if head:
            top = min(p.y() for p in head) - area.height() * 0.06
            _tag(painter, QPointF(sum(p.x() for p in head) / len(head), top), pose.person, area)


def _pen(colour: QColor, width: float) -> QPen:
    return QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap)


def _tag(painter: QPainter, at: QPointF, person: int, area: QRectF) -> None:
    """The person's number in a disc of her colour: never colour alone."""
    radius = max(11.0, area.height() / 40.0)
    x = min(max(at.x(), area.left() + radius), area.right() - radius)
    y = min(max(at.y() - radius, area.top() + radius), area.bottom() - radius)
    painter.setPen(QPen(QColor(0, 0, 0, 170), 1.5))
    painter.setBrush(theme.person_colour(person))
    painter.drawEllipse(QPointF(x, y), radius, radius)
    font = QFont(painter.font())
    font.setPixelSize(int(radius * 1.15))
    font.setBold(True)
    painter.setFont(font)
    painter.setPen(QColor(theme.ON_PERSON))
    painter.drawText(QRectF(x - radius, y - radius, 2 * radius, 2 * radius), Qt.AlignmentFlag.AlignCenter, str(person))
    painter.setBrush(Qt.BrushStyle.NoBrush)


class Orbit:
    """A camera that circles the persons: yaw and pitch in radians, zoom as a factor."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.yaw, self.pitch, self.zoom = 0.45, 0.18, 1.0

    def drag(self, dx: float, dy: float) -> None:
        self.yaw = (self.yaw + dx * 0.01 + math.pi) % (2 * math.pi) - math.pi
        self.pitch = min(1.45, max(-0.3, self.pitch + dy * 0.01))

    def wheel(self, steps: float) -> None:
        self.zoom = min(4.0, max(0.3, self.zoom * 1.12**steps))

    def project(self, points: np.ndarray, centre: np.ndarray, area: QRectF, mirror: bool = False) -> np.ndarray:
        """World points ``(N, 3)`` in Kinect axes, metres, to pixels ``(N, 2)`` as seen from the sensor's side.

        Kinect's x grows to the left of an unmirrored picture, hence the sign; ``mirror`` takes it back.
        """
        p = points - centre
        sign = 1.0 if mirror else -1.0
        x, y, z = sign * p[:, 0], p[:, 1], p[:, 2]
        cy, sy, cp, sp = math.cos(self.yaw), math.sin(self.yaw), math.cos(self.pitch), math.sin(self.pitch)
        x, z = cy * x + sy * z, -sy * x + cy * z
        y, z = cp * y + sp * z, -sp * y + cp * z
        depth = np.maximum(4.5 + z, 0.5)
        scale = area.height() * 1.75 * self.zoom / depth
        return np.stack([area.center().x() + x * scale, area.center().y() - y * scale], 1)


def paint_space(
    painter: QPainter,
    persons: tuple[PersonPose, ...],
    area: QRectF,
    orbit: Orbit,
    centre: np.ndarray,
    mirror: bool,
    lean: float = 0.0,
) -> None:
    """Draw the 25 joints in metres over a floor grid of half-metre squares.

    ``centre`` is the point the camera looks at, float ``(3,)``; ``lean`` (radians) is taken back, so that who stands
    stands upright. The caller glides both so that the view stays calm.
    """
    bodies = [(p.person, levelled(p.joints, lean, centre)) for p in persons]
    paint_bodies(painter, bodies, NTU25, area, orbit, centre, mirror)


def paint_bodies(
    painter: QPainter,
    bodies: Iterable[tuple[int, np.ndarray]],
    layout: Layout,
    area: QRectF,
    orbit: Orbit,
    centre: np.ndarray,
    mirror: bool = False,
    floor: float | None = None,
) -> None:
    """Draw bodies of any layout: pairs of person number and joints ``(V, 3)`` in metres, Kinect axes.

    ``floor`` is the height of the grid; by default it lies under the lowest joint.
    """
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    finite = [(person, joints) for person, joints in bodies if np.isfinite(joints).all()]
    if floor is None:
        floor = min((float(joints[:, 1].min()) for _, joints in finite), default=float(centre[1]) - 0.9)
    _floor(painter, area, orbit, centre, floor, mirror)
    sides = tuple(layout.side(j) for j in range(layout.num_joints))
    head = next((j for j, name in enumerate(layout.joints) if name.lower() in ("head", "nose")), 0)
    for person, joints in finite:
        xy = orbit.project(np.asarray(joints, np.float64), centre, area, mirror)
        points = [QPointF(px, py) for px, py in xy.tolist()]
        width = max(3.0, area.height() / 110.0 * min(orbit.zoom, 1.6))
        for side in ("centre", "right", "left"):
            painter.setPen(_pen(theme.side_colour(person, side), width))
            lines = [QLineF(points[a], points[b]) for a, b in layout.bones if _link_side(sides, a, b) == side]
            painter.drawLines(lines)
        painter.setPen(QPen(QColor(0, 0, 0, 140), 1.0))
        for joint, point in enumerate(points):
            painter.setBrush(theme.side_colour(person, sides[joint]))
            size = width * (1.6 if joint == head else 0.8)
            painter.drawEllipse(point, size, size)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        _tag(painter, points[head] - QPointF(0, area.height() * 0.035), person, area)


def _floor(painter: QPainter, area: QRectF, orbit: Orbit, centre: np.ndarray, height: float, mirror: bool) -> None:
    reach, step = 1.5, 0.5
    marks = np.arange(-reach, reach + 1e-6, step)
    ends = []
    for mark in marks:
        ends += [(mark, -reach), (mark, reach), (-reach, mark), (reach, mark)]
    points = np.array([(centre[0] + x, height, centre[2] + z) for x, z in ends])
    xy = orbit.project(points, centre, area, mirror).tolist()
    painter.setPen(QPen(theme.current().colour("border"), 1.0))
    painter.drawLines([QLineF(*xy[i], *xy[i + 1]) for i in range(0, len(xy), 2)])
