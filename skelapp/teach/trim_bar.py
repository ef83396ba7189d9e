"""Where a take begins and ends: its movement as a curve, and two handles to drag or to move with the arrow keys."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from skelapp import theme

HANDLE = 12.0  # px
LEAST_S = 0.3  # what the engine accepts as a take
STEP_S, FAR_S = 1 / 30, 1 / 3


class TrimBar(QWidget):
    """``trimmed``: start and end in seconds, when a handle is let go or a key moved it; ``pointed`` while it moves."""

    trimmed = Signal(float, float)
    pointed = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(46)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setToolTip("Drag the handles, or Tab and the arrow keys, to cut the take")
        self.duration = 0.0
        self.start, self.end = 0.0, 0.0
        self.position = 0.0
        self._curve = np.zeros(0)
        self._active = 0
        self._grip = False
        self._before = (0.0, 0.0)
        self._announce()

    def sizeHint(self) -> QSize:
        return QSize(300, 46)

    def show_take(self, duration: float, start: float, end: float) -> None:
        """Another take: its length, and its trim in seconds from its first frame."""
        self.duration, self.start, self.end = duration, start, end
        self._curve = np.zeros(0)
        self._grip = False
        self.position = start
        self.setEnabled(duration > LEAST_S)
        self._announce()
        self.update()

    def show_curve(self, curve: np.ndarray) -> None:
        """How much the take moves, any number of values >= 0 spread over its length."""
        top = float(curve.max()) if len(curve) else 0.0
        self._curve = curve / top if top > 0 else np.zeros(0)
        self.update()

    def set_position(self, seconds: float) -> None:
        if abs(seconds - self.position) > 1e-3:
            self.position = seconds
            self.update()

    def _announce(self) -> None:
        which = "Start" if self._active == 0 else "End"
        at = self.start if self._active == 0 else self.end
        self.setAccessibleName(f"{which} of the take: {at:.2f} of {self.duration:.2f} s")

    # ------------------------------------------------------------- geometry

    def _track(self) -> QRectF:
        return QRectF(HANDLE, 4, max(1.0, self.width() - 2 * HANDLE), self.height() - 8)

    def x_of(self, seconds: float) -> float:
        """Pixel of a moment."""
        track = self._track()
        return track.left() + seconds / max(self.duration, 1e-6) * track.width()

    def _time_at(self, x: float) -> float:
        track = self._track()
        return min(self.duration, max(0.0, (x - track.left()) / track.width() * self.duration))

    # ---------------------------------------------------------------- moves

    def move_handle(self, which: int, seconds: float) -> None:
        """Put a handle (0 start, 1 end) somewhere; it can't pass the other one."""
        if which == 0:
            self.start = min(max(0.0, seconds), max(0.0, self.end - LEAST_S))
        else:
            self.end = max(min(self.duration, seconds), min(self.duration, self.start + LEAST_S))
        self._active = which
        self._announce()
        self.pointed.emit(self.start if which == 0 else self.end)
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or not self.duration:
            return
        x = event.position().x()
        to_start, to_end = abs(x - self.x_of(self.start)), abs(x - self.x_of(self.end))
        self._before = (self.start, self.end)
        self._grip = True
        self.move_handle(0 if to_start <= to_end else 1, self._time_at(x))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        x = event.position().x()
        if self._grip:
            self.move_handle(self._active, self._time_at(x))
            return
        near = min(abs(x - self.x_of(self.start)), abs(x - self.x_of(self.end))) < HANDLE
        self.setCursor(Qt.CursorShape.SizeHorCursor if near else Qt.CursorShape.ArrowCursor)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._grip:
            self._grip = False
            if (self.start, self.end) != self._before:
                self.trimmed.emit(self.start, self.end)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = FAR_S if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else STEP_S
        step = {Qt.Key.Key_Left: -step, Qt.Key.Key_Right: step}.get(Qt.Key(event.key()), 0.0)
        if not step:
            super().keyPressEvent(event)
            return
        self.move_handle(self._active, (self.start if self._active == 0 else self.end) + step)
        self.trimmed.emit(self.start, self.end)

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Tab goes from the first handle to the second before it leaves."""
        if self.hasFocus() and self._active == (0 if forward else 1):
            self._active = 1 if forward else 0
            self._announce()
            self.update()
            return True
        return super().focusNextPrevChild(forward)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._active = 1 if event.reason() == Qt.FocusReason.BacktabFocusReason else 0
        self._announce()
        super().focusInEvent(event)
        self.update()

    # ------------------------------------------------------------- painting

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        track = self._track()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(now.colour("raised"))
        painter.drawRoundedRect(track, 4, 4)
        if not self.duration:
            painter.end()
            return
        left, right = self.x_of(self.start), self.x_of(self.end)
        kept = QColor(now.colour("accent"))
        kept.setAlpha(46)
        painter.setBrush(kept)
        painter.drawRect(QRectF(left, track.top(), right - left, track.height()))
        self._paint_curve(painter, track, left, right, now)
        if self.start <= self.position <= self.end:
            painter.setPen(QPen(now.colour("text"), 1.5))
            x = self.x_of(self.position)
            painter.drawLine(QPointF(x, track.top()), QPointF(x, track.bottom()))
        for which, x in enumerate((left, right)):
            self._paint_handle(painter, which, x, track, now)
        painter.end()

    def _paint_curve(self, painter: QPainter, track: QRectF, left: float, right: float, now: theme.Theme) -> None:
        if len(self._curve) < 2:
            return
        xs = np.linspace(track.left(), track.right(), len(self._curve)).tolist()
        high = track.height() - 6
        line = [QPointF(x, track.bottom() - 2 - v * high) for x, v in zip(xs, self._curve.tolist(), strict=True)]
        for box, colour in (
            (QRectF(track.left(), track.top(), left - track.left(), track.height()), now.colour("border")),
            (QRectF(left, track.top(), right - left, track.height()), now.colour("accent")),
            (QRectF(right, track.top(), track.right() - right, track.height()), now.colour("border")),
        ):
            painter.save()
            painter.setClipRect(box)
            painter.setPen(QPen(colour, 1.6))
            painter.drawPolyline(QPolygonF(line))
            painter.restore()

    def _paint_handle(self, painter: QPainter, which: int, x: float, track: QRectF, now: theme.Theme) -> None:
        active = self.hasFocus() and which == self._active
        box = QRectF(x - HANDLE if which == 0 else x, track.top() - 2, HANDLE, track.height() + 4)
        painter.setPen(QPen(now.colour("text"), 2) if active else Qt.PenStyle.NoPen)
        painter.setBrush(now.colour("accent"))
        painter.drawRoundedRect(box, 3, 3)
        painter.setPen(QPen(now.colour("on_accent"), 1.5))
        middle = box.center()
        painter.drawLine(middle - QPointF(0, 6), middle + QPointF(0, 6))
