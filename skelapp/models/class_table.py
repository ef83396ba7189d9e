"""Accuracy per class of compared checkpoints, with the difference as a bar."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QRectF, QSortFilterProxyModel, Qt
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QHeaderView, QStyledItemDelegate, QStyleOptionViewItem, QTableView

from skelapp import theme
from skelapp.live.action_card import readable
from skelapp.models.colours import LETTERS, better, worse
from skelapp.models.report import Report, percent, points
from skelapp.tables import aligned, dress

SORT_ROLE = Qt.ItemDataRole.UserRole
DIFFERENCE_ROLE = Qt.ItemDataRole.UserRole + 1
Index = QModelIndex | QPersistentModelIndex


class ClassModel(QAbstractTableModel):
    """One row per class: how many sequences, every checkpoint's accuracy, the second's less the first's."""

    def __init__(self) -> None:
        super().__init__()
        self.report: Report | None = None

    def show(self, report: Report | None) -> None:
        self.beginResetModel()
        self.report = report
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() or self.report is None else len(self.report.classes)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() or self.report is None else len(self.report.models) + 3

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal or self.report is None:
            return None
        last = self.columnCount() - 1
        if role == Qt.ItemDataRole.DisplayRole:
            if section in (0, 1, last):
                return {0: "Class", 1: "Tested", last: "B − A, points"}[section]
            return LETTERS[section - 2]
        if role == Qt.ItemDataRole.ToolTipRole and 1 < section < last:
            return self.report.models[section - 2]["title"]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            # In the middle of its wide column, where the arrow of the order does not lie on it.
            return Qt.AlignmentFlag.AlignCenter if section == last else aligned(section > 0)
        return None

    def _value(self, row: int, column: int) -> Any:
        assert self.report is not None
        if column == 0:
            return self.report.classes[row]
        if column == 1:
            return sum(self.report.models[0]["confusion"][row])
        if column == self.columnCount() - 1:
            return self.report.first_pair["class_difference"][row]
        return self.report.models[column - 2]["per_class"][row]

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        column, last = index.column(), self.columnCount() - 1
        value = self._value(index.row(), column)
        if role == Qt.ItemDataRole.DisplayRole:
            if column == 0:
                return readable(value)
            return str(value) if column == 1 else points(value) if column == last else percent(value)
        if role == SORT_ROLE:
            return value.lower() if column == 0 else -2.0 if value is None else value
        if role == DIFFERENCE_ROLE:
            return value if column == last else None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return aligned(column > 0)
        return None


class DifferenceBar(QStyledItemDelegate):
    """Draws a bar from the middle of the cell, right for better and left for worse, beside the number."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        super().paint(painter, option, index)  # type: ignore[arg-type]
        value = index.data(DIFFERENCE_ROLE)
        if not value:
            return
        box = QRectF(option.rect).adjusted(10, 9, -76, -9)  # type: ignore[attr-defined]
        half = box.width() / 2
        length = half * min(1.0, abs(value))
        left = box.center().x() if value > 0 else box.center().x() - length
        painter.save()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(better() if value > 0 else worse())
        painter.drawRect(QRectF(left, box.top(), max(length, 1.5), box.height()))
        painter.setPen(theme.current().colour("border"))
        painter.drawLine(
            box.center().toPoint().x(), int(box.top()) - 3, box.center().toPoint().x(), int(box.bottom()) + 3
        )
        painter.restore()


class ClassTable(QTableView):
    """Sorted by the difference at first: what got worse stands on top."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = ClassModel()
        self.proxy = QSortFilterProxyModel(self)
        self.proxy.setSourceModel(self.classes)
        self.proxy.setSortRole(SORT_ROLE)
        self.setModel(self.proxy)
        self.setSortingEnabled(True)
        dress(self, "Accuracy per class", 32)
        self._bar = DifferenceBar(self)

    def show_report(self, report: Report | None) -> None:
        self.classes.show(report)
        last = self.classes.columnCount() - 1
        if last < 0:
            return
        header = self.horizontalHeader()
        for column in range(last + 1):
            self.setItemDelegateForColumn(column, self._bar if column == last else None)  # type: ignore[arg-type]
            wide = QHeaderView.ResizeMode.Stretch if column in (0, last) else QHeaderView.ResizeMode.Fixed
            header.setSectionResizeMode(column, wide)
            if column not in (0, last):
                header.resizeSection(column, 96)
        self.sortByColumn(last, Qt.SortOrder.AscendingOrder)
