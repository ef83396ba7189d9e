"""One recorded sequence as a moving skeleton in space and as the actor: two widgets that show a frame when told."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from PySide6.QtCore import QObject, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.render.playback import Playback
from engine.skeleton.sequence import SkeletonSequence
from skelapp import theme
from skelapp.live.skeleton_paint import Orbit, paint_bodies
from skelapp.workers import Worker

WIDTH, HEIGHT = 480, 360
# 0.7 MB each.
KEPT_FRAMES = 150
AHEAD = 90


class SkeletonView(QWidget):
    """The joints of one frame over a floor; drag turns, wheel zooms, double click resets."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(180, 150)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setCursor(Qt.CursorShape.OpenHandCursor)
        self.setToolTip("Drag to turn, wheel to zoom, double click to reset")
        self.setAccessibleName("Skeleton in space")
        self.orbit = Orbit()
        self.orbit.yaw, self.orbit.pitch = 0.25, 0.12
        self._sequence: SkeletonSequence | None = None
        self._centre = np.array([0.0, 0.0, 2.5])
        self._floor = -0.9
        self._frame = 0
        self._grip: QPointF | None = None

    def sizeHint(self) -> QSize:
        return QSize(420, 320)

    def set_sequence(self, sequence: SkeletonSequence | None) -> None:
        """Show another sequence from its first frame; the camera stands still while it plays."""
        self._sequence, self._frame = sequence, 0
        if sequence is not None:
            points = sequence.xyz[np.abs(sequence.xyz).sum(-1) > 0]
            if len(points):
                low, high = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
                self._centre = ((low + high) / 2).astype(np.float64)
                self._floor = float(low[1])
                # A person who walks through the room must stay in the picture.
                self.orbit.zoom = float(np.clip(1.6 / max(high[1] - low[1], high[0] - low[0], 1.2), 0.35, 1.1))
        self.update()

    def set_frame(self, frame: int) -> None:
        if frame != self._frame:
            self._frame = frame
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.current().colour("stage"))
        if self._sequence is not None and self._frame < len(self._sequence):
            frame = self._sequence.xyz[self._frame]
            bodies = [(m + 1, frame[m]) for m in range(len(frame)) if frame[m].any()]
            # The orbit fits bodies to the height: a view that is higher than wide would cut arms off.
            side = min(self.height(), 1.2 * self.width())
            area = QRectF(0, (self.height() - side) / 2, self.width(), side)
            layout = self._sequence.skeleton
            paint_bodies(painter, bodies, layout, area, self.orbit, self._centre, floor=self._floor)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._grip = event.position()
        self.setCursor(Qt.CursorShape.ClosedHandCursor)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._grip is not None:
            moved = event.position() - self._grip
            self._grip = event.position()
            self.orbit.drag(moved.x(), moved.y())
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._grip = None
        self.setCursor(Qt.CursorShape.OpenHandCursor)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.orbit.reset()
        self.update()

    def wheelEvent(self, event: QWheelEvent) -> None:
        self.orbit.wheel(event.angleDelta().y() / 120.0)
        self.update()


class ActorFrames(QObject):
    """Renders frames of one sequence on a worker: the wanted one first, then those that come next.

    ``ready`` tells the frame that has been rendered; ``failed`` why the actor can't play this sequence.
    """

    ready = Signal(int)
    failed = Signal(str)

    def __init__(self, worker: Worker, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker = worker
        self._sequence: SkeletonSequence | None = None
        self._playback: Playback | None = None
        self._frames: OrderedDict[int, QImage] = OrderedDict()
        self._turn = 0
        self._wanted = 0
        self._busy = False
        self._active = False

    def __len__(self) -> int:
        """How many frames are rendered and kept."""
        return len(self._frames)

    @property
    def active(self) -> bool:
        return self._active

    def set_active(self, active: bool) -> None:
        """Nothing is rendered for a view that nobody sees."""
        self._active = active
        self._next()

    def set_sequence(self, sequence: SkeletonSequence | None) -> None:
        self._turn += 1
        self._sequence, self._playback = sequence, None
        self._frames.clear()
        self._wanted, self._busy = 0, False
        self._next()

    def want(self, frame: int) -> None:
        self._wanted = frame
        self._next()

    def picture(self, frame: int) -> QImage | None:
        """The frame when it has been rendered, else the nearest earlier one of the last few."""
        for back in range(12):
            if frame - back in self._frames:
                return self._frames[frame - back]
        return None

    def _missing(self) -> int | None:
        if self._sequence is None:
            return None
        total = len(self._sequence)
        for step in range(min(total, AHEAD)):
            frame = (self._wanted + step) % total
            if frame not in self._frames:
                return frame
        return None

    def _next(self) -> None:
        frame = self._missing()
        if self._busy or not self._active or frame is None:
            return
        self._busy = True
        turn, sequence, playback = self._turn, self._sequence, self._playback
        assert sequence is not None

        def work() -> tuple[Playback, QImage]:
            player = playback or Playback(sequence, WIDTH, HEIGHT)
            pixels = np.ascontiguousarray(player.frame(frame))
            image = QImage(pixels.data, WIDTH, HEIGHT, 3 * WIDTH, QImage.Format.Format_RGB888)
            # The conversion owns its pixels and is what Qt scales fastest.
            return player, image.convertToFormat(QImage.Format.Format_RGB32)

        self._worker.run(
            work,
            lambda made: self._rendered(turn, frame, *made),
            lambda error, details: self._refused(turn, error),
        )

    def _rendered(self, turn: int, frame: int, playback: Playback, image: QImage) -> None:
        if turn != self._turn:
            return
        self._busy = False
        self._playback = playback
        self._frames[frame] = image
        while len(self._frames) > KEPT_FRAMES:
            self._frames.popitem(last=False)
        self.ready.emit(frame)
        self._next()

    def _refused(self, turn: int, error: BaseException) -> None:
        if turn == self._turn:
            # Not asked again: _busy stays set until the next sequence.
            self.failed.emit(str(error))


class ActorView(QWidget):
    """The actor in the room; a line of text where there is no picture."""

    def __init__(self, frames: ActorFrames, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(180, 150)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName("Actor")
        self._frames = frames
        self._frame = 0
        self._image: QImage | None = None
        self.message = ""
        frames.ready.connect(self._ready)
        frames.failed.connect(self._failed)

    def sizeHint(self) -> QSize:
        return QSize(420, 320)

    def set_sequence(self, sequence: SkeletonSequence | None) -> None:
        self._frame, self._image, self.message = 0, None, ""
        self._frames.set_sequence(sequence)
        self.update()

    def set_frame(self, frame: int) -> None:
        self._frame = frame
        self._frames.want(frame)
        self._take()

    def _take(self) -> None:
        image = self._frames.picture(self._frame)
        if image is not None and image is not self._image:
            self._image = image
            self.update()

    def _ready(self, frame: int) -> None:
        self._take()

    def _failed(self, why: str) -> None:
        self.message = why
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        now = theme.current()
        painter.fillRect(self.rect(), now.colour("stage"))
        if self._image is not None:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
            left, top = (self.width() - size.width()) // 2, (self.height() - size.height()) // 2
            painter.drawImage(QRectF(left, top, size.width(), size.height()), self._image)
        elif self.message:
            painter.setPen(now.colour("muted"))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect().adjusted(16, 0, -16, 0), flags, self.message)
        painter.end()
