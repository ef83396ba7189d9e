"""The picture with the skeleton on it, the skeleton alone, or the skeleton turned freely in space."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.live.types import Snapshot
from engine.skeleton.posture import standing_lean
from skelapp import theme
from skelapp.live.skeleton_paint import Orbit, paint_landmarks, paint_space

View = Literal["picture", "skeleton", "space"]
# Who leans more than this (radians) leans, whatever the camera does.
MOST_LEAN = 0.6
VIEWS: dict[View, str] = {"picture": "Picture", "skeleton": "Skeleton", "space": "3-D"}


class VideoView(QWidget):
    """Paints the newest snapshot. The picture is mirrored on the screen only; data never are.

    ``paint_ms`` is the time of the last paintings, smoothed.
    """

    painted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(320, 240)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setAccessibleName("Picture and skeleton")
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self._snapshot: Snapshot | None = None
        self._image: QImage | None = None
        self._image_key: object = None
        self._centre: np.ndarray | None = None
        self._lean: float | None = None
        self._grip: QPointF | None = None
        self.orbit = Orbit()
        self.view: View = "picture"
        self.mirror = False
        self.paint_ms = 0.0

    def sizeHint(self) -> QSize:
        return QSize(854, 480)

    def set_view(self, view: View) -> None:
        self.view = view
        self.setToolTip("Drag to turn, wheel to zoom, double click to reset" if view == "space" else "")
        self.setCursor(Qt.CursorShape.OpenHandCursor if view == "space" else Qt.CursorShape.ArrowCursor)
        self.update()

    def set_mirror(self, mirror: bool) -> None:
        self.mirror = mirror
        self.update()

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Take the newest of everything; the repaint follows when Qt finds time."""
        old = self._snapshot
        self._snapshot = snapshot
        gliding = self.view == "space" and bool(snapshot.pose and snapshot.pose.persons)
        if old is None or gliding or old.frame is not snapshot.frame or old.pose is not snapshot.pose:
            self.update()

    def clear(self) -> None:
        """Forget the picture, for a source that is gone."""
        self._snapshot = self._image = self._image_key = self._centre = self._lean = None
        self.update()

    def picture_area(self) -> QRectF:
        """Where the picture lies in this widget: as large as fits, proportions kept."""
        width, height = self._picture_size()
        scale = min(self.width() / width, self.height() / height)
        w, h = width * scale, height * scale
        return QRectF((self.width() - w) / 2, (self.height() - h) / 2, w, h)

    def _picture_size(self) -> tuple[int, int]:
        snapshot = self._snapshot
        if snapshot is not None and snapshot.frame is not None and snapshot.frame.image.size:
            height, width = snapshot.frame.image.shape[:2]
            return width, height
        if snapshot is not None and snapshot.pose is not None and min(snapshot.pose.size) > 0:
            return snapshot.pose.size
        return 4, 3

    def _qimage(self) -> QImage | None:
        frame = self._snapshot.frame if self._snapshot else None
        if frame is None or frame.image.size == 0:
            return None
        if self._image_key is not frame:
            pixels = np.ascontiguousarray(frame.image)
            height, width = pixels.shape[:2]
            image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
            # The conversion owns its pixels and is what Qt scales fastest.
            self._image = image.convertToFormat(QImage.Format.Format_RGB32)
            self._image_key = frame
        return self._image

    def paintEvent(self, event: QPaintEvent) -> None:
        began = time.perf_counter()
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.current().colour("stage"))
        area = self.picture_area()
        persons = self._snapshot.pose.persons if self._snapshot and self._snapshot.pose else ()
        if self.view == "space":
            look_at, lean = self._look_at(), self._level()
            paint_space(painter, persons, QRectF(self.rect()), self.orbit, look_at, self.mirror, lean)
        else:
            if self.view == "picture":
                self._paint_picture(painter, area)
            painter.setClipRect(area)
            paint_landmarks(painter, persons, area, self.mirror)
        painter.end()
        spent = (time.perf_counter() - began) * 1000.0
        self.paint_ms = spent if self.paint_ms == 0 else self.paint_ms + 0.1 * (spent - self.paint_ms)
        self.painted.emit()

    def _paint_picture(self, painter: QPainter, area: QRectF) -> None:
        image = self._qimage()
        if image is None:
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if self.mirror:
            painter.translate(2 * area.center().x(), 0)
            painter.scale(-1, 1)
        painter.drawImage(area, image)
        painter.restore()

    def _look_at(self) -> np.ndarray:
        """The persons' middle, followed slowly so that the space view does not shake with every step."""
        persons = self._snapshot.pose.persons if self._snapshot and self._snapshot.pose else ()
        spines = [p.joints[1] for p in persons if np.isfinite(p.joints).all()]
        if spines:
            target = np.mean(spines, axis=0).astype(np.float64)
            far = self._centre is None or float(np.abs(target - self._centre).max()) > 1.5
            self._centre = target if far else self._centre + 0.08 * (target - self._centre)
        return self._centre if self._centre is not None else np.array([0.0, 0.0, 2.5])

    def _level(self) -> float:
        """How far those who stand seem to lean, followed slowly; who bends or sits does not change it."""
        persons = self._snapshot.pose.persons if self._snapshot and self._snapshot.pose else ()
        leans = [lean for p in persons if (lean := standing_lean(p.joints)) is not None and abs(lean) < MOST_LEAN]
        if leans:
            target = sum(leans) / len(leans)
            self._lean = target if self._lean is None else self._lean + 0.05 * (target - self._lean)
        return self._lean or 0.0

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if self.view == "space":
            self._grip = event.position()
            self.setCursor(Qt.CursorShape.ClosedHandCursor)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._grip is not None:
            moved = event.position() - self._grip
            self._grip = event.position()
            self.orbit.drag(moved.x(), moved.y())
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._grip is not None:
            self._grip = None
            self.setCursor(Qt.CursorShape.OpenHandCursor)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if self.view == "space":
            self.orbit.reset()
            self.update()

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.view == "space":
            self.orbit.wheel(event.angleDelta().y() / 120.0)
            self.update()
        else:
            event.ignore()
