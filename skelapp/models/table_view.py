"""The table of checkpoints as the panel shows it: several can be selected and dragged; names keep room to be read."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QItemSelectionModel, Qt
from PySide6.QtGui import QFont, QFontMetrics
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from skelapp.models.library import Entry
from skelapp.models.table_model import COLUMNS, LEAST_WANTED, ModelFilter
from skelapp.tables import dress

MEASURED_ROWS = 60
NAME_WIDTH = 270  # below this the name of a checkpoint is no longer readable
_LEAST_NAME = 220


class ModelsView(QTableView):
    """Shows a :class:`ModelFilter`."""

    def __init__(self, proxy: ModelFilter, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._proxy = proxy
        self._widths: dict[int, int] = {}
        self.setModel(proxy)
        dress(self, "Models", 34, several=True)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.setDragEnabled(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragOnly)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)

    # ----------------------------------------------------------- selection

    def chosen(self) -> list[Entry]:
        """The selected checkpoints in the order of the table."""
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        return [self._proxy.entry(row) for row in rows]

    def current(self) -> Entry | None:
        """The one whose card is shown: the current one, or the first selected."""
        index = self.currentIndex()
        if index.isValid() and self.selectionModel().isRowSelected(index.row()):
            return self._proxy.entry(index.row())
        rows = self.chosen()
        return rows[0] if rows else None

    def select(self, folder: Path) -> bool:
        """Select a checkpoint by its folder; False when it is not in the table."""
        wanted = Path(folder).resolve()
        for row in range(self._proxy.rowCount()):
            known = self._proxy.entry(row).folder
            # Looking up what a path really is takes a moment, and there may be a thousand of them.
            if known == wanted or (known.name == wanted.name and known.resolve() == wanted):
                self.selectRow(row)
                return True
        return False

    def select_too(self, folders: list[Path]) -> None:
        """Give a selection of several back after the list was read again."""
        if len(folders) < 2:
            return
        how = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        for row in range(self._proxy.rowCount()):
            if self._proxy.entry(row).folder in folders:
                self.selectionModel().select(self._proxy.index(row, 0), how)

    # -------------------------------------------------------------- widths

    def measure(self) -> None:
        """How wide the columns want to be, from their heads and their first rows: all rows would block the window."""
        bold = QFont(self.font())
        bold.setBold(True)
        cell, head = self.fontMetrics(), QFontMetrics(bold)
        shown = [self._proxy.entry(row) for row in range(min(self._proxy.rowCount(), MEASURED_ROWS))]
        for number, column in enumerate(COLUMNS):
            texts = max((cell.horizontalAdvance(column.text(entry)) for entry in shown), default=0)
            self._widths[number] = min(max(texts, head.horizontalAdvance(column.head) + 12) + 26, 200)

    def fit(self) -> None:
        """The name takes what the other columns leave; where that is too little, the least wanted ones go."""
        header, room = self.horizontalHeader(), self.viewport().width()
        sizes = {column: self._widths.get(column, 100) for column in range(1, header.count())}
        for head in LEAST_WANTED:
            if sum(sizes.values()) + NAME_WIDTH <= room:
                break
            sizes.pop(next(i for i, column in enumerate(COLUMNS) if column.head == head), None)
        for column in range(1, header.count()):
            header.setSectionHidden(column, column not in sizes)
            if column in sizes:
                header.resizeSection(column, sizes[column])
        rest = room - sum(sizes.values())
        header.resizeSection(0, max(_LEAST_NAME, rest))
        never, needed = Qt.ScrollBarPolicy.ScrollBarAlwaysOff, Qt.ScrollBarPolicy.ScrollBarAsNeeded
        self.setHorizontalScrollBarPolicy(never if rest >= _LEAST_NAME else needed)
