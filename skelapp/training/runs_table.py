"""The table of runs for Qt's views: sortable by value, filterable over all columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from PySide6.QtGui import QColor

from skelapp import theme
from skelapp.tables import aligned, csv_text
from skelapp.training.choices import task_title
from skelapp.training.fields import option_name
from skelapp.training.runs import Row

Index = QModelIndex | QPersistentModelIndex
SORT_ROLE = Qt.ItemDataRole.UserRole
# How many characters of a run's name may be left out at its start.
TOLD_ROLE = Qt.ItemDataRole.UserRole + 1
# A sign beside the word: never colour alone.
SIGNS = {
    "queued": "…", "starting": "▷", "running": "▶", "stopping": "▶", "finished": "✓", "stopped": "■", "cancelled": "■",
    "failed": "✕", "interrupted": "!", "new": "–",
}  # fmt: skip
_BAD = ("failed", "interrupted")


def state_text(row: Row, places: dict[Path, int]) -> str:
    """A run's state in a word, with its place where it waits."""
    if row.state == "queued":
        place = places.get(row.path, 1)
        return "next" if place == 1 else f"waits, {place}."
    if row.state == "running" and row.fraction:
        return f"running, {100 * row.fraction:.0f} %"
    return row.state


def told_before(names: Iterable[str]) -> dict[str, int]:
    """How many characters at the start of each name can be left out: the words it begins with as all those do that
    share its first word. A word ends with ``_``; at least the last one stays."""
    groups: dict[str, list[list[str]]] = {}
    for name in names:
        words = [word + "_" for word in name.split("_")]
        groups.setdefault(words[0], []).append(words)
    found: dict[str, int] = {}
    for group in groups.values():
        firsts = zip(*(words[:-1] for words in group), strict=False) if len(group) > 1 else ()
        shared = sum(len(same[0]) for same in takewhile(lambda same: len(set(same)) == 1, firsts))
        found |= {"".join(words)[:-1]: shared for words in group}
    return found


def _when(row: Row) -> str:
    then, now = time.localtime(row.at), time.localtime()
    if row.at <= 0:
        return ""
    if then[:3] == now[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%d %b" if then[0] == now[0] else "%b %Y", then)


def _order(row: Row) -> tuple[int, float]:
    """Newest last, what waits behind that (the next one last), what runs at the very end."""
    return (2, row.at) if row.alive else (1, -row.place) if row.state == "queued" else (0, row.at)


def _result(row: Row) -> str:
    if row.accuracy is not None:
        return f"{100 * row.accuracy:.1f} %"
    return f"loss {row.loss:.3g}" if row.loss is not None else "–"


def _encoder(row: Row) -> str:
    name = option_name(row.backbone) if row.backbone else ""
    if name and row.stream.endswith(" streams"):
        return f"{row.stream.removesuffix(' streams')} × {name}"
    return ", ".join(part for part in (name, row.stream) if part) or "–"


def _progress(row: Row) -> str:
    return f"{row.epoch} / {row.epochs}" if row.epochs else "–"


@dataclass(frozen=True)
class Column:
    head: str
    text: Callable[[Row], str]
    key: Callable[[Row], Any]
    numeric: bool = False
    tip: str = ""


COLUMNS = (
    Column("Run", lambda row: row.name, lambda row: row.name.lower()),
    Column("State", lambda row: row.state, lambda row: list(SIGNS).index(row.state)),
    Column("Epoch", _progress, lambda row: row.fraction, True, "Epochs done, of all"),
    Column(
        "Result",
        _result,
        lambda row: row.accuracy if row.accuracy is not None else -1.0 - (row.loss or 1e9),
        True,
        "Accuracy on the test part; before the first test the loss",
    ),
    Column("Task", lambda row: task_title(row.task) if row.task else "–", lambda row: row.task),
    Column("Method", lambda row: option_name(row.method) if row.method else "–", lambda row: row.method),
    Column(
        "Encoder",
        _encoder,
        lambda row: (row.backbone, row.stream),
    ),
    Column(
        "Dataset",
        lambda row: " ".join(p for p in (row.dataset, row.split) if p) or "–",
        lambda row: (row.dataset, row.split),
    ),
    Column("When", _when, _order, tip="When it last said something; what runs and what waits comes first"),
)


class RunTable(QAbstractTableModel):
    """One row per run; rows that did not change are left alone, so that nothing flickers and the selection stays."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self._places: dict[Path, int] = {}
        self._told: dict[str, int] = {}

    def set_rows(self, rows: list[Row]) -> None:
        """Show these runs."""
        places = [row.path for row in sorted(rows, key=lambda row: row.place) if row.state == "queued"]
        self._places = {path: number for number, path in enumerate(places, start=1)}
        wanted = {row.path: row for row in rows}
        for index in range(len(self.rows) - 1, -1, -1):
            if self.rows[index].path not in wanted:
                self.beginRemoveRows(QModelIndex(), index, index)
                del self.rows[index]
                self.endRemoveRows()
        for index, old in enumerate(self.rows):
            new = wanted.pop(old.path)
            if new != old or old.state == "queued":
                self.rows[index] = new
                self.dataChanged.emit(self.index(index, 0), self.index(index, len(COLUMNS) - 1))
        if wanted:
            added = list(wanted.values())
            self.beginInsertRows(QModelIndex(), len(self.rows), len(self.rows) + len(added) - 1)
            self.rows += added
            self.endInsertRows()
        told = told_before(row.name for row in self.rows)
        if told != self._told:
            self._told = told
            if self.rows:
                self.dataChanged.emit(self.index(0, 0), self.index(len(self.rows) - 1, 0), [TOLD_ROLE])

    def place(self, path: Path) -> int:
        """A waiting run's place in the queue, from 1."""
        return self._places.get(path, 0)

    def find(self, path: Path | None) -> Row | None:
        return next((row for row in self.rows if row.path == path), None)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        column = COLUMNS[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.head
        if role == Qt.ItemDataRole.ToolTipRole:
            return column.tip
        return aligned(column.numeric) if role == Qt.ItemDataRole.TextAlignmentRole else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self.rows[index.row()], COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return (
                f"{SIGNS[row.state]}  {state_text(row, self._places)}" if column.head == "State" else column.text(row)
            )
        if role == SORT_ROLE:
            return column.key(row)
        if role == TOLD_ROLE:
            return self._told.get(row.name, 0)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return aligned(column.numeric)
        if role == Qt.ItemDataRole.ForegroundRole and column.head == "State" and row.state in _BAD:
            return QColor(theme.current().danger)
        if role == Qt.ItemDataRole.ToolTipRole:
            return row.reason if column.head == "State" and row.reason else f"{column.text(row)}\n{row.path}"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{column.head}: {state_text(row, self._places) if column.head == 'State' else column.text(row)}"
        return None


class RunFilter(QSortFilterProxyModel):
    """Sorts by value, and filters over all columns."""

    def __init__(self, source: RunTable) -> None:
        super().__init__()
        self.setSourceModel(source)
        self.setSortRole(SORT_ROLE)
        self.setFilterKeyColumn(-1)
        self.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.setDynamicSortFilter(True)

    def lessThan(self, left: Index, right: Index) -> bool:
        # Python's values: Qt does not compare tuples.
        return bool(left.data(SORT_ROLE) < right.data(SORT_ROLE))

    def run(self, row: int) -> Row:
        source = self.sourceModel()
        assert isinstance(source, RunTable)
        return source.rows[self.mapToSource(self.index(row, 0)).row()]

    def as_csv(self) -> str:
        """What is shown, in the order shown."""
        rows = (self.run(number) for number in range(self.rowCount()))
        cells = ([*(column.text(row) for column in COLUMNS), row.path] for row in rows)
        return csv_text([*(column.head for column in COLUMNS), "Folder"], cells)
