"""What one person is doing, readable from three metres: the word, its score, and five bars that glide."""

from __future__ import annotations

import math
import time

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.live.types import LiveDecision
from skelapp import theme

LABEL_PX = 40  # smallest size of the label
LABEL_MAX_PX = 60
GLIDE_S = 0.18  # time constant of the bars
NOTHING = "–"


def readable(name: str) -> str:
    """A class name as a person would write it."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def with_repetitions(text: str, repetitions: int | None) -> str:
    """``text × 3`` where an action has been done three times."""
    return text if repetitions is None else f"{text} × {repetitions}"


class ActionCard(QWidget):
    """One person's card. Text and bars are painted, so that the card adapts to any height without jumping."""

    def __init__(self, person: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.person = person
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(240, 150)
        self.setMaximumHeight(380)
        self.model = ""  # which of two models speaks, where two do
        self.foot = 0  # px left free at the bottom, for a button
        self.hint = ""
        self.label: str | None = None
        self.score = 0.0
        self.repetitions: int | None = None
        self.bars: dict[str, float] = {}
        self._shown: dict[str, float] = {}
        self._shown_score = 0.0
        self._order: list[str] = []
        self._last = time.perf_counter()
        self._announce()

    def sizeHint(self) -> QSize:
        return QSize(340, 320)

    def show_decision(self, decision: LiveDecision | None, hint: str = "") -> None:
        """Take a new decision (None: nothing known about this person yet) and a sentence shown under the dash."""
        label = decision.label if decision else None
        score = decision.score if decision and decision.label is not None else 0.0
        bars = dict(decision.top[:5]) if decision else {}
        often = decision.repetitions if decision and label is not None else None
        if (label, score, bars, hint, often) == (self.label, self.score, self.bars, self.hint, self.repetitions):
            return
        spoken = label != self.label or hint != self.hint
        self.label, self.score, self.bars, self.hint, self.repetitions = label, score, bars, hint, often
        self._order = [name for name, _ in sorted(bars.items(), key=lambda item: -item[1])]
        if spoken:
            self._announce()
        self.update()

    def _announce(self) -> None:
        said = f"{readable(self.label)}, score {self.score:.2f}" if self.label else (self.hint or "nothing recognised")
        who = f"Person {self.person}, model {self.model}" if self.model else f"Person {self.person}"
        self.setAccessibleName(f"{who}: {said}")

    def glide(self, now: float | None = None) -> None:
        """Move the drawn bars towards their values; called at every tick of the panel's timer."""
        now = time.perf_counter() if now is None else now
        share = 1.0 - math.exp(-max(now - self._last, 0.0) / GLIDE_S)
        self._last = now
        targets = {**dict.fromkeys(self._shown, 0.0), **self.bars}
        moved = abs(self.score - self._shown_score) > 0.002
        self._shown_score += share * (self.score - self._shown_score)
        for name, target in targets.items():
            shown = self._shown.get(name, 0.0)
            moved = moved or abs(target - shown) > 0.002
            shown += share * (target - shown)
            if name not in self.bars and shown < 0.01:
                self._shown.pop(name, None)
            else:
                self._shown[name] = shown
        if moved:
            self.update()

    def shown(self, name: str) -> float:
        """Length at which a bar is drawn at this moment, 0..1."""
        return self._shown.get(name, 0.0)

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(colours.colour("border"))
        painter.setBrush(colours.colour("surface"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 8, 8)
        area = QRectF(self.rect()).adjusted(16, 12, -16, -12 - self.foot)
        top = self._paint_head(painter, area, colours)
        top = self._paint_label(painter, area, top, colours)
        top = self._paint_score_bar(painter, area, top, colours)
        self._paint_bars(painter, area, top, colours)
        painter.end()

    def _font(self, size: int, bold: bool = False) -> QFont:
        font = QFont(self.font())
        font.setPixelSize(size)
        font.setBold(bold)
        return font

    def _paint_head(self, painter: QPainter, area: QRectF, colours: theme.Theme) -> float:
        disc = QRectF(area.left(), area.top(), 20, 20)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.person_colour(self.person))
        painter.drawEllipse(disc)
        painter.setPen(QColor(theme.ON_PERSON))
        painter.setFont(self._font(13, bold=True))
        painter.drawText(disc, Qt.AlignmentFlag.AlignCenter, str(self.person))
        painter.setPen(colours.colour("muted"))
        painter.setFont(self._font(13))
        head = QRectF(area.left() + 28, area.top(), area.width() - 28, 20)
        who = f"Person {self.person}  ·  model {self.model}" if self.model else f"Person {self.person}"
        painter.drawText(head, Qt.AlignmentFlag.AlignVCenter, who)
        if self.label is not None:
            painter.setPen(colours.colour("text"))
            painter.setFont(self._font(17, bold=True))
            painter.drawText(head, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, f"{self.score:.2f}")
        return area.top() + 28

    def _paint_label(self, painter: QPainter, area: QRectF, top: float, colours: theme.Theme) -> float:
        text = with_repetitions(readable(self.label), self.repetitions) if self.label else NOTHING
        painter.setPen(colours.colour("text" if self.label else "muted"))
        room = max(area.bottom() - top - 14, LABEL_PX * 1.25)
        lines, size = self._fit(text, area.width(), min(room, area.height() * 0.62))
        font = self._font(size, bold=True)
        painter.setFont(font)
        step = QFontMetricsF(font).height()
        for line in lines:
            painter.drawText(QRectF(area.left(), top, area.width(), step), Qt.AlignmentFlag.AlignVCenter, line)
            top += step
        return top + 4

    def _fit(self, text: str, width: float, height: float) -> tuple[list[str], int]:
        """Lines and pixel size: large on one line where it fits, else wrapped, never under ``LABEL_PX``."""
        for size in range(LABEL_MAX_PX, LABEL_PX - 1, -4):
            metrics = QFontMetricsF(self._font(size, bold=True))
            if metrics.horizontalAdvance(text) <= width:
                return [text], size
        metrics = QFontMetricsF(self._font(LABEL_PX, bold=True))
        room = max(1, int(height // metrics.height()))
        lines: list[str] = []
        for word in text.split():
            joined = f"{lines[-1]} {word}" if lines else word
            if lines and metrics.horizontalAdvance(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(word)
        if len(lines) > room:
            lines = [*lines[: room - 1], " ".join(lines[room - 1 :])]
        return [metrics.elidedText(line, Qt.TextElideMode.ElideRight, width) for line in lines], LABEL_PX

    def _paint_score_bar(self, painter: QPainter, area: QRectF, top: float, colours: theme.Theme) -> float:
        if area.bottom() - top < 10:
            return top
        if self.label is None and self.hint:
            painter.setPen(colours.colour("muted"))
            painter.setFont(self._font(15))
            box = QRectF(area.left(), top, area.width(), 22)
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, self.hint)
            return top + 32
        if self.label is None and self._shown_score < 0.01:
            return top
        track = QRectF(area.left(), top, area.width(), 8)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colours.colour("raised"))
        painter.drawRoundedRect(track, 4, 4)
        if self._shown_score > 0.01:
            painter.setBrush(theme.person_colour(self.person))
            painter.drawRoundedRect(QRectF(track.left(), top, max(8.0, track.width() * self._shown_score), 8), 4, 4)
        return top + 20

    def _paint_bars(self, painter: QPainter, area: QRectF, top: float, colours: theme.Theme) -> None:
        step = 30.0
        count = min(len(self._order), int((area.bottom() - top + 8) // step))
        for rank, name in enumerate(self._order[: max(count, 0)]):
            y = top + rank * step
            value = self._shown.get(name, 0.0)
            painter.setFont(self._font(13, bold=name == self.label))
            metrics = painter.fontMetrics()
            painter.setPen(colours.colour("text" if name == self.label else "muted"))
            text = metrics.elidedText(readable(name), Qt.TextElideMode.ElideRight, int(area.width() - 48))
            box = QRectF(area.left(), y, area.width(), 18)
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, text)
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, f"{self.bars[name]:.2f}")
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colours.colour("raised"))
            painter.drawRoundedRect(QRectF(area.left(), y + 19, area.width(), 4), 2, 2)
            if value > 0.005:
                painter.setBrush(theme.person_colour(self.person) if name == self.label else colours.colour("muted"))
                painter.drawRoundedRect(QRectF(area.left(), y + 19, max(4.0, area.width() * value), 4), 2, 2)
