"""The sequences of a store as a Qt model: virtual, sorted and filtered by the engine off the window's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Signal

from engine.data.sequence_index import SequenceIndex
from skelapp.live.action_card import readable
from skelapp.tables import aligned, csv_text

Index = QModelIndex | QPersistentModelIndex
# Key for SequenceIndex.select, head, tip.
_FIXED = (
    ("class", "Action", "Label of the sequence"),
    ("name", "Name", "Name in the dataset"),
    ("length", "Frames", "Length in frames"),
)
_TIPS = {"subject": "The person recorded", "performer": "The person recorded", "view": "Camera view"}


class SequenceTable(QAbstractTableModel):
    """Rows are positions in the store; ``sorting`` asks for another order, which the owner delivers."""

    sorting = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.index_: SequenceIndex | None = None
        self.rows = np.zeros(0, np.int64)
        self.columns: tuple[tuple[str, str, str], ...] = _FIXED
        self.sort_key, self.descending = "", False

    def set_index(self, index: SequenceIndex | None) -> None:
        """Show another store, no rows yet."""
        self.beginResetModel()
        self.index_ = index
        self.rows = np.zeros(0, np.int64)
        extra = list(index.columns)[:3] if index else []
        self.columns = (*_FIXED, *((key, readable(key), _TIPS.get(key, readable(key))) for key in extra))
        if self.sort_key not in [key for key, _, _ in self.columns]:
            self.sort_key = ""
        self.endResetModel()

    def set_rows(self, rows: np.ndarray) -> None:
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def position(self, row: int) -> int:
        """Position in the store."""
        return int(self.rows[row])

    def row_of(self, position: int) -> int:
        """Row of a position, -1 when it is filtered out."""
        found = np.flatnonzero(self.rows == position)
        return int(found[0]) if len(found) else -1

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        self.sort_key = self.columns[column][0] if 0 <= column < len(self.columns) else ""
        self.descending = order == Qt.SortOrder.DescendingOrder
        self.sorting.emit()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.columns[section][1]
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.columns[section][2]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return aligned(section > 1)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            return self.text(index.row(), self.columns[index.column()][0])
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.text(index.row(), "name")
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return aligned(index.column() > 1)
        return None

    def text(self, row: int, key: str) -> str:
        """What a cell shows."""
        assert self.index_ is not None
        return cell_text(self.index_, self.position(row), key)

    def csv_writer(self) -> Callable[[], str]:
        """An act for a worker: the rows as they are shown now, as CSV."""
        index, rows, columns = self.index_, self.rows, self.columns

        def write() -> str:
            assert index is not None
            cells = ([cell_text(index, int(i), key) for key, _, _ in columns] for i in rows)
            return csv_text([head for _, head, _ in columns], cells)

        return write


def cell_text(index: SequenceIndex, position: int, key: str) -> str:
    """What stands in a column of a sequence."""
    if key == "class":
        label = int(index.label[position])
        return readable(index.classes[label]) if label >= 0 else "–"
    if key == "name":
        return index.names[position]
    return str(int(index.length[position])) if key == "length" else index.text(key, position)
