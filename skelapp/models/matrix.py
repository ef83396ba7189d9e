"""A confusion matrix: shares of each true class as colours, one cell read out at a time, by mouse or by keys."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from skelapp import theme
from skelapp.live.action_card import readable
from skelapp.models.colours import LETTERS, model_colour, share_colours
from skelapp.models.report import Report

HEAD = 26
_MOVES = {
    Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1), Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0),
}  # fmt: skip


class ConfusionMatrix(QWidget):
    """Rows are true classes, columns what was said; the last column collects answers the others don't know."""

    pointed = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(260, 260)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.report: Report | None = None
        self.model = 0
        self.cell: tuple[int, int] | None = None
        self._shares = np.zeros((0, 0))
        self._image = QImage()
        self._image_theme = ""

    def sizeHint(self) -> QSize:
        return QSize(520, 520)

    def show_model(self, report: Report | None, model: int) -> None:
        self.report, self.model, self.cell = report, model, None
        if report is not None:
            counts = np.array(report.models[model]["confusion"], float)
            # The column of other answers only where there are any.
            if not counts[:, -1].any():
                counts = counts[:, :-1]
            self._shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            self.setAccessibleName(f"Confusion matrix of {LETTERS[model]}, {report.models[model]['title']}")
        self._image_theme = ""
        self.update()

    def point_at(self, row: int, column: int) -> None:
        """Mark a cell (another matrix asks for the same one)."""
        rows, columns = self._shares.shape
        cell = (row, column) if 0 <= row < rows and 0 <= column < columns else None
        if cell != self.cell:
            self.cell = cell
            if cell is not None and self.report is not None:
                self.setAccessibleDescription(self.report.cell_words(self.model, *cell))
            self.update()

    def _font(self, size: int, bold: bool = False) -> QFont:
        font = QFont(self.font())
        font.setPixelSize(size)
        font.setBold(bold)
        return font

    def _area(self) -> QRectF:
        """Where the cells are: square cells, names left and below."""
        rows, columns = self._shares.shape
        gutter, below = self._gutter()
        width, height = self.width() - gutter - 8.0, self.height() - HEAD - below - 6.0
        size = max(2.0, min(width / max(columns, 1), height / max(rows, 1)))
        return QRectF(gutter, HEAD, size * columns, size * rows)

    def _gutter(self) -> tuple[float, float]:
        rows = max(self._shares.shape[0], 1)
        named = min(self.width() - 130, self.height() - 130) / rows >= 9
        return (118.0, 92.0) if named else (14.0, 10.0)

    def _draw_image(self) -> None:
        colours = np.ascontiguousarray(share_colours(self._shares))
        rows, columns = self._shares.shape
        self._image = QImage(colours.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()
        self._image_theme = theme.current().name

    def paintEvent(self, event: QPaintEvent) -> None:
        if self.report is None:
            return
        now = theme.current()
        if self._image_theme != now.name:
            self._draw_image()
        painter = QPainter(self)
        area = self._area()
        painter.setFont(self._font(14, bold=True))
        painter.setPen(model_colour(self.model))
        painter.drawText(QRectF(0, 0, 22, HEAD - 4), Qt.AlignmentFlag.AlignVCenter, LETTERS[self.model])
        painter.setPen(now.colour("text"))
        painter.setFont(self._font(13))
        title = painter.fontMetrics().elidedText(
            self.report.models[self.model]["title"], Qt.TextElideMode.ElideRight, self.width() - 30
        )
        painter.drawText(QRectF(22, 0, self.width() - 22, HEAD - 4), Qt.AlignmentFlag.AlignVCenter, title)
        painter.drawImage(area, self._image)
        painter.setPen(now.colour("border"))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(area)
        size = area.width() / self._shares.shape[1]
        if size >= 9:
            self._paint_names(painter, area, size, now)
        if size >= 22:
            self._paint_numbers(painter, area, size)
        if self.cell is not None:
            row, column = self.cell
            box = QRectF(area.left() + column * size, area.top() + row * size, size, size)
            painter.setPen(QPen(now.colour("danger"), 2))
            painter.drawRect(box.adjusted(-1, -1, 1, 1))
        if self.hasFocus():
            painter.setPen(QPen(now.colour("accent"), 2))
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _paint_names(self, painter: QPainter, area: QRectF, size: float, now: theme.Theme) -> None:
        assert self.report is not None
        font = self._font(min(12, max(8, int(size) - 2)))
        painter.setFont(font)
        metrics = painter.fontMetrics()
        names = [readable(name) for name in self.report.classes] + ["(another)"]
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for i in range(self._shares.shape[0]):
            marked = self.cell is not None and self.cell[0] == i
            painter.setPen(now.colour("text" if marked else "muted"))
            text = metrics.elidedText(names[i], Qt.TextElideMode.ElideRight, int(area.left()) - 10)
            painter.drawText(QRectF(0, area.top() + i * size, area.left() - 6, size), right, text)
        for i in range(self._shares.shape[1]):
            marked = self.cell is not None and self.cell[1] == i
            painter.setPen(now.colour("text" if marked else "muted"))
            text = metrics.elidedText(names[i], Qt.TextElideMode.ElideRight, 84)
            painter.save()
            painter.translate(area.left() + (i + 0.5) * size, area.bottom() + 6)
            painter.rotate(-90)
            painter.drawText(QRectF(-84, -size / 2, 84, size), right, text)
            painter.restore()

    def _paint_numbers(self, painter: QPainter, area: QRectF, size: float) -> None:
        painter.setFont(self._font(min(15, max(9, int(size / 2.8)))))
        for row, column in zip(*np.nonzero(self._shares >= 0.005), strict=True):
            share = float(self._shares[row, column])
            behind = QColor(self._image.pixel(int(column), int(row)))
            painter.setPen(QColor("#101317" if behind.lightnessF() > 0.5 else "#ffffff"))
            box = QRectF(area.left() + column * size, area.top() + row * size, size, size)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, f"{100 * share:.0f}")

    def cell_at(self, point: QPointF) -> tuple[int, int] | None:
        area = self._area()
        if self.report is None or not area.contains(point):
            return None
        size = area.width() / self._shares.shape[1]
        return int((point.y() - area.top()) // size), int((point.x() - area.left()) // size)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        cell = self.cell_at(event.position())
        if cell is not None and cell != self.cell:
            self.pointed.emit(*cell)

    def leaveEvent(self, event: QEvent) -> None:
        if not self.hasFocus():
            self.pointed.emit(-1, -1)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        move = _MOVES.get(Qt.Key(event.key()))
        if move is None or self.report is None:
            super().keyPressEvent(event)
            return
        row, column = self.cell or (0, -1 if move == (0, 1) else 0)
        rows, columns = self._shares.shape
        self.pointed.emit(min(max(row + move[0], 0), rows - 1), min(max(column + move[1], 0), columns - 1))
