"""What the person who performs must read from three metres away, laid over the live picture."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from skelapp import theme

LEAST_PX = 22


class Countdown(QWidget):
    """A number or a word over the picture, a line beneath it, and a frame around the picture while it records."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.large = ""
        self.small = ""
        self.recording = False
        self.share = 0.0  # of the set length of a take that has passed
        self.hide()

    def say(self, large: str = "", small: str = "", recording: bool = False, share: float = 0.0) -> None:
        """Show this; nothing at all hides the overlay."""
        shares = round(share, 2)
        if (large, small, recording, shares) == (self.large, self.small, self.recording, self.share):
            return
        spoken = (large, small) != (self.large, self.small)
        self.large, self.small, self.recording, self.share = large, small, recording, shares
        if spoken:
            self.setAccessibleName(" ".join(part for part in (large, small) if part))
        self.setVisible(bool(large or small or recording))
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect())
        if self.recording:
            painter.setPen(QPen(QColor("#e5484d"), 8))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(area.adjusted(4, 4, -4, -4))
            painter.fillRect(QRectF(0, area.height() - 8, area.width() * self.share, 8), QColor("#ffffff"))
        digits = len(self.large) <= 2
        high = min(area.height() * (0.5 if digits else 0.2), area.width() * 0.4)
        y = area.height() * (0.5 if digits else 0.86)
        self._paint_words(painter, self.large, y, max(LEAST_PX, high), True)
        small_y = y + high * 0.62 if digits else area.height() * 0.1
        self._paint_words(painter, self.small, min(small_y, area.height() - 22), max(15, area.height() / 16), False)
        painter.end()

    def _paint_words(self, painter: QPainter, words: str, middle: float, size: float, bold: bool) -> None:
        """White letters with a dark seam: readable on any picture, in both themes."""
        if not words:
            return
        font = QFont(self.font())
        font.setBold(True)
        font.setPixelSize(int(size))
        while QFontMetricsF(font).horizontalAdvance(words) > self.width() - 24 and font.pixelSize() > 12:
            font.setPixelSize(font.pixelSize() - 1)
        metrics = QFontMetricsF(font)
        path = QPainterPath()
        left = (self.width() - metrics.horizontalAdvance(words)) / 2
        path.addText(left, middle + (metrics.ascent() - metrics.descent()) / 2, font, words)
        seam = QPen(QColor(0, 0, 0, 170), max(3.0, size / 14))
        seam.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
        painter.strokePath(path, seam)
        painter.fillPath(path, QColor("#ffffff") if bold else QColor(theme.DARK.text))
