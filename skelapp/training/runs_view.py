"""The table of runs as the panel shows it: one is selected, Delete deletes it, the least wanted columns give way."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QHeaderView, QStyledItemDelegate, QStyleOptionViewItem, QTableView, QWidget

from skelapp.tables import dress
from skelapp.training.runs import Row
from skelapp.training.runs_table import COLUMNS, TOLD_ROLE, RunFilter

_WIDTHS = (170, 142, 70, 84, 150, 104, 186, 126, 62)
# Below which width of the panel a column goes, so that names keep some 200 pixels. Name, result and stream tell runs
# of a study apart; the state says how far one is, and most names begin with their dataset.
_GIVES_WAY = (
    ("Task", 1600), ("Method", 1450), ("Dataset", 1340), ("Epoch", 1210), ("When", 1080), ("Encoder", 1000),
)  # fmt: skip

# Left and right of a cell's text, as the style sheet and the style leave it free.
_MARGINS = 22


class _Names(QStyledItemDelegate):
    """Too long a name loses first what its neighbours say as well, then its middle: names of runs differ at their
    ends, by stream and seed."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        super().initStyleOption(option, index)
        option.textElideMode = Qt.TextElideMode.ElideMiddle  # type: ignore[attr-defined]
        name, told = option.text, index.data(TOLD_ROLE)  # type: ignore[attr-defined]
        space = option.rect.width() - _MARGINS  # type: ignore[attr-defined]
        if told and option.fontMetrics.horizontalAdvance(name) > space:  # type: ignore[attr-defined]
            option.text = "…" + name[told:]  # type: ignore[attr-defined]


class RunsView(QTableView):
    """``chosen`` with the run that was selected, ``delete_wanted`` with the one that is to be deleted."""

    chosen = Signal(object)
    delete_wanted = Signal(object)

    def __init__(self, proxy: RunFilter, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._proxy = proxy
        self.setModel(proxy)
        dress(self, "Runs", 30)
        self.setItemDelegateForColumn(0, _Names(self))
        self.setSortingEnabled(True)
        self.sortByColumn(len(COLUMNS) - 1, Qt.SortOrder.DescendingOrder)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(60)
        for column, width in enumerate(_WIDTHS):
            self.setColumnWidth(column, width)
        self.selectionModel().selectionChanged.connect(self._selection_changed)
        delete = QShortcut(QKeySequence(Qt.Key.Key_Delete), self, context=Qt.ShortcutContext.WidgetShortcut)
        delete.activated.connect(self._delete)

    def selected(self) -> Row | None:
        rows = self.selectionModel().selectedRows()
        return self._proxy.run(rows[0].row()) if rows else None

    def select(self, path: Path) -> bool:
        """Select a run by its folder; False when it is not in the table."""
        for number in range(self._proxy.rowCount()):
            if self._proxy.run(number).path == path:
                self.selectRow(number)
                self.scrollTo(self._proxy.index(number, 0))
                return True
        return False

    def fit(self, width: int) -> None:
        """Show the columns there is room for in a panel of this width."""
        heads = [column.head for column in COLUMNS]
        for name, least in _GIVES_WAY:
            self.setColumnHidden(heads.index(name), width < least)

    def _selection_changed(self) -> None:
        row = self.selected()
        if row is not None:
            self.chosen.emit(row)

    def _delete(self) -> None:
        row = self.selected()
        if row is not None:
            self.delete_wanted.emit(row.path)
