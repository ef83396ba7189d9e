"""The timeline: recognised segments, one lane per person, scrolling with the source's own time."""

from __future__ import annotations

import math

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from engine.live.types import Segment, Snapshot
from skelapp import theme
from skelapp.live.action_card import readable, with_repetitions

GUTTER = 40  # width of the lane names, px
RULER = 22  # height of the time axis, px
SPANS = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)  # seconds shown; changed by the user only
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300)


def clock(seconds: float) -> str:
    """``m:ss`` (``h:mm:ss`` from one hour)."""
    whole = max(0, int(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Timeline(QWidget):
    """Segments against time. The newest moment is at the right end; the wheel changes how many seconds are shown."""

    seek_requested = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.span = 30.0
        self.now = 0.0
        self.duration: float | None = None
        self.seekable = False
        self.segments: tuple[Segment, ...] = ()
        self._lanes: list[int] = [1]
        self._hover: Segment | None = None
        self._shown: object = None
        self._resize_lanes()
        self._announce()

    def sizeHint(self) -> QSize:
        return QSize(600, self.height())

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Take time and segments; repaints only when something visible changed."""
        key = (snapshot.segments, round(snapshot.time * 20))
        if key == self._shown:
            return
        self._shown = key
        self.now, self.segments, self.duration = snapshot.time, snapshot.segments, snapshot.duration
        persons = sorted({1, *snapshot.decisions, *(s.person for s in snapshot.segments if s.end > self.view()[0])})
        if persons[:4] != self._lanes:
            self._lanes = persons[:4]
            self._resize_lanes()
        self.update()

    def set_seekable(self, seekable: bool) -> None:
        if seekable != self.seekable:
            self.seekable = seekable
            self.setCursor(Qt.CursorShape.PointingHandCursor if seekable else Qt.CursorShape.ArrowCursor)
            self._announce()

    def _announce(self) -> None:
        what = "click replays from there, " if self.seekable else ""
        self.setAccessibleName("Timeline of recognised actions")
        self.setAccessibleDescription(f"{what}the wheel or plus and minus change how many seconds are shown")

    def _lane_height(self) -> int:
        return 52 if len(self._lanes) == 1 else 36

    def _resize_lanes(self) -> None:
        self.setFixedHeight(RULER + 10 + self._lane_height() * max(2 if len(self._lanes) > 1 else 1, len(self._lanes)))

    def view(self) -> tuple[float, float]:
        """First and last second on the screen."""
        end = max(self.now, self.span)
        return end - self.span, end

    def x_of(self, seconds: float) -> float:
        start, _ = self.view()
        return GUTTER + (seconds - start) / self.span * self._width()

    def time_at(self, x: float) -> float:
        start, _ = self.view()
        return start + (x - GUTTER) / self._width() * self.span

    def _width(self) -> float:
        return max(1.0, self.width() - GUTTER - 14.0)

    def rect_of(self, segment: Segment) -> QRectF:
        """Where a segment lies in this widget; at least 3 px wide so that short ones can be seen."""
        end = max(segment.end, self.now) if segment.open else segment.end
        left, right = max(self.x_of(segment.start), float(GUTTER)), self.x_of(end)
        lane = self._lanes.index(segment.person) if segment.person in self._lanes else 0
        height = self._lane_height()
        return QRectF(left, 8 + lane * height, max(3.0, right - left), height - 8)

    def segment_at(self, point: QPointF) -> Segment | None:
        for segment in reversed(self._visible()):
            if self.rect_of(segment).adjusted(-2, 0, 2, 0).contains(point):
                return segment
        return None

    def _visible(self) -> list[Segment]:
        start, end = self.view()
        return [s for s in self.segments if s.person in self._lanes and (s.open or s.end >= start) and s.start <= end]

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), colours.colour("surface"))
        painter.setPen(colours.colour("border"))
        painter.drawLine(0, 0, self.width(), 0)
        if self.hasFocus():
            painter.setPen(QPen(colours.colour("accent"), 2))
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        self._paint_lanes(painter, colours)
        self._paint_ruler(painter, colours)
        painter.setClipRect(QRectF(GUTTER, 0, self.width() - GUTTER, self.height()))
        for segment in self._visible():
            self._paint_segment(painter, segment, colours)
        if self.now > 0:
            painter.setPen(QPen(colours.colour("text"), 1.5))
            x = self.x_of(self.now)
            painter.drawLine(QPointF(x, 4), QPointF(x, self.height() - RULER + 2))
        painter.end()

    def _font(self, size: int, bold: bool = False) -> QFont:
        font = QFont(self.font())
        font.setPixelSize(size)
        font.setBold(bold)
        return font

    def _paint_lanes(self, painter: QPainter, colours: theme.Theme) -> None:
        height = self._lane_height()
        for lane, person in enumerate(self._lanes):
            box = QRectF(GUTTER, 8 + lane * height, self._width(), height - 8)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colours.colour("background"))
            painter.drawRoundedRect(box, 4, 4)
            disc = QRectF(GUTTER / 2 - 9, box.center().y() - 9, 18, 18)
            painter.setBrush(theme.person_colour(person))
            painter.drawEllipse(disc)
            painter.setPen(QColor(theme.ON_PERSON))
            painter.setFont(self._font(12, bold=True))
            painter.drawText(disc, Qt.AlignmentFlag.AlignCenter, str(person))

    def _paint_ruler(self, painter: QPainter, colours: theme.Theme) -> None:
        start, end = self.view()
        step = next((s for s in _STEPS if self.span / s * 64 <= self._width()), _STEPS[-1])
        painter.setFont(self._font(11))
        y = self.height() - RULER
        tick = math.ceil(start / step) * step
        while tick <= end:
            x = self.x_of(tick)
            painter.setPen(colours.colour("border"))
            painter.drawLine(QPointF(x, y), QPointF(x, y + 4))
            painter.setPen(colours.colour("muted"))
            box = QRectF(x - 30, y + 4, 60, RULER - 5)
            align = Qt.AlignmentFlag.AlignCenter
            if box.right() > self.width() - 2:
                box.moveRight(self.width() - 4.0)
                align = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(box, align, clock(tick))
            tick += step

    def _paint_segment(self, painter: QPainter, segment: Segment, colours: theme.Theme) -> None:
        rect = self.rect_of(segment)
        hovered = segment == self._hover
        painter.setPen(QPen(colours.colour("text"), 2) if hovered else Qt.PenStyle.NoPen)
        painter.setBrush(theme.person_colour(segment.person))
        painter.drawRoundedRect(rect, 4, 4)
        font = self._font(13, bold=True)
        painter.setFont(font)
        self._paint_word(painter, segment, rect, colours)

    def _paint_word(self, painter: QPainter, segment: Segment, rect: QRectF, colours: theme.Theme) -> None:
        """Inside the box where it fits, else beside it where nothing else is, else cut short."""
        word, metrics = readable(segment.label), painter.fontMetrics()
        room, wanted = int(rect.width() - 12), metrics.horizontalAdvance(word)
        align = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        if wanted > room:
            later = [s.start for s in self.segments if s.person == segment.person and s.start >= segment.end]
            limit = min([self.x_of(min(later)) if later else math.inf, float(self.width())])
            if rect.right() + 6 + wanted <= limit - 4:
                painter.setPen(colours.colour("text"))
                painter.drawText(QRectF(rect.right() + 6, rect.top(), wanted + 4, rect.height()), align, word)
                return
            if room <= 22:
                return
            word = metrics.elidedText(word, Qt.TextElideMode.ElideRight, room)
        painter.setPen(QColor(theme.ON_PERSON))
        painter.drawText(rect.adjusted(6, 0, -4, 0), align, word)

    def describe(self, segment: Segment) -> str:
        """What the hover says."""
        until = "now" if segment.open else f"{segment.end:.1f} s"
        more = "\nClick: replay from here" if self.seekable else ""
        name = with_repetitions(readable(segment.label), segment.repetitions)
        return f"Person {segment.person}: {name}\nscore {segment.score:.2f}, {segment.start:.1f} s to {until}{more}"

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            segment = self.segment_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), self.describe(segment) if segment else "", self)
            return True
        return super().event(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        segment = self.segment_at(event.position())
        if segment != self._hover:
            self._hover = segment
            self.update()

    def leaveEvent(self, event: QEvent) -> None:
        self._hover = None
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if not self.seekable or event.button() != Qt.MouseButton.LeftButton or event.position().x() < GUTTER:
            return
        segment = self.segment_at(event.position())
        wanted = segment.start if segment else self.time_at(event.position().x())
        if 0 <= wanted <= (self.duration or self.now):
            self.seek_requested.emit(wanted)

    def wheelEvent(self, event: QWheelEvent) -> None:
        self.zoom(-1 if event.angleDelta().y() > 0 else 1)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(-1)
        elif event.key() == Qt.Key.Key_Minus:
            self.zoom(1)
        else:
            super().keyPressEvent(event)

    def zoom(self, steps: int) -> None:
        """Show more (positive) or fewer seconds."""
        nearest = min(range(len(SPANS)), key=lambda i: abs(SPANS[i] - self.span))
        self.span = SPANS[min(max(nearest + steps, 0), len(SPANS) - 1)]
        self._shown = None
        self.update()
