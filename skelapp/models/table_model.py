"""The table of checkpoints as a Qt model: virtual, sortable, filterable, and copied as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QMimeData,
    QModelIndex,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
)

from skelapp.models.library import Entry
from skelapp.tables import aligned, csv_text

UNKNOWN = "–"
SORT_ROLE = Qt.ItemDataRole.UserRole
Index = QModelIndex | QPersistentModelIndex
# Checkpoint folders on their way by mouse, one path a line.
CHECKPOINTS = "application/x-skelapp-checkpoints"
# What goes first where there is no room for all columns.
LEAST_WANTED = ("Method", "From", "Classes", "Stream", "Size", "Backbone")


def folders_in(mime: QMimeData) -> list[Path]:
    """The checkpoint folders that are dragged."""
    return [Path(line) for line in bytes(mime.data(CHECKPOINTS).data()).decode("utf-8").splitlines() if line]


@dataclass(frozen=True)
class Column:
    """Head, help, shown text and sort key of one column."""

    head: str
    tip: str
    text: Callable[[Entry], str]
    key: Callable[[Entry], Any]
    numeric: bool = False


def _from_card(head: str, tip: str, read: Callable[[Any], str]) -> Column:
    def text(entry: Entry) -> str:
        return read(entry.card) if entry.card else UNKNOWN

    return Column(head, tip, text, lambda entry: text(entry).lower())


def _accuracy(head: str, tip: str, through_camera: bool) -> Column:
    def text(entry: Entry) -> str:
        result = entry.result(through_camera)
        return f"{100 * result.top1:.1f} %" if result else UNKNOWN

    def key(entry: Entry) -> float:
        result = entry.result(through_camera)
        return result.top1 if result else -1.0

    return Column(head, tip, text, key, numeric=True)


COLUMNS = (
    Column("Name", "Title of the checkpoint", lambda e: e.title, lambda e: e.title.lower()),
    _accuracy("Accuracy", "Test accuracy on the dataset's own skeletons", through_camera=False),
    _accuracy("From pixels", "Test accuracy on skeletons found by MediaPipe in pictures", through_camera=True),
    Column(
        "Classes",
        "How many actions it knows",
        lambda e: str(len(e.card.classes)) if e.card else UNKNOWN,
        lambda e: len(e.card.classes) if e.card else -1,
        numeric=True,
    ),
    _from_card("Dataset", "Data and split it was trained and tested on", lambda c: f"{c.dataset} {c.split}".strip()),
    _from_card("Backbone", "The network", lambda c: c.backbone),
    _from_card("Stream", "Joints, bones, or their motion", lambda c: c.preprocessing.stream.replace("_", " ")),
    _from_card("Method", "How it was trained", lambda c: c.method),
    Column(
        "From",
        "Shipped with the program, trained in a run here, imported from another project, or added by you",
        lambda e: e.origin.capitalize(),
        lambda e: e.origin,
    ),
    Column(
        "ms here",
        "Milliseconds of one clip on this machine in its fastest runtime, measured by a comparison",
        lambda e: f"{e.ms:.1f}" if e.ms is not None else UNKNOWN,
        lambda e: e.ms if e.ms is not None else float("inf"),
        numeric=True,
    ),
    Column(
        "Size",
        "All files of the checkpoint",
        lambda e: f"{e.size / 1e6:.1f} MB" if e.size else UNKNOWN,
        lambda e: e.size,
        numeric=True,
    ),
)


class ModelTable(QAbstractTableModel):
    """One row per checkpoint; the one in use is bold and marked with a dot."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[Entry, ...] = ()
        self._in_use: Path | None = None
        self._resolved: dict[Path, Path] = {}
        self._order = (0, Qt.SortOrder.AscendingOrder)

    def set_entries(self, entries: tuple[Entry, ...], in_use: Path | None) -> None:
        self.beginResetModel()
        self._entries = self._sorted(entries)
        self._place(in_use)
        self.endResetModel()

    def _sorted(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        column, order = self._order
        return tuple(sorted(entries, key=COLUMNS[column].key, reverse=order == Qt.SortOrder.DescendingOrder))

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """By one key per row: a proxy would ask for two cells at every comparison, a thousand rows long."""
        if not 0 <= column < len(COLUMNS):
            return
        self._order = (column, order)
        self.layoutAboutToBeChanged.emit()
        old = self.persistentIndexList()
        kept = [self._entries[index.row()] for index in old]
        self._entries = self._sorted(self._entries)
        row = {id(entry): i for i, entry in enumerate(self._entries)}
        new = [self.index(row[id(entry)], index.column()) for entry, index in zip(kept, old, strict=True)]
        self.changePersistentIndexList(old, new)
        self.layoutChanged.emit()

    def says(self, row: int, words: str) -> bool:
        """Whether a row holds a text, in any column."""
        return any(words in column.text(self._entries[row]).lower() for column in COLUMNS)

    def _place(self, in_use: Path | None) -> None:
        # Resolved once: the table asks for every cell it paints.
        self._in_use = in_use.resolve() if in_use is not None else None
        names = {in_use.name} if in_use is not None else set()
        self._resolved = {e.folder: e.folder.resolve() for e in self._entries if e.folder.name in names}

    def set_in_use(self, folder: Path | None) -> None:
        self._place(folder)
        if self._entries:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._entries) - 1, len(COLUMNS) - 1))

    def entry(self, row: int) -> Entry:
        return self._entries[row]

    def flags(self, index: Index) -> Qt.ItemFlag:
        return super().flags(index) | Qt.ItemFlag.ItemIsDragEnabled

    def mimeTypes(self) -> list[str]:
        return [CHECKPOINTS]

    def mimeData(self, indexes: Sequence[QModelIndex]) -> QMimeData:
        rows = dict.fromkeys(index.row() for index in indexes)
        mime = QMimeData()
        mime.setData(CHECKPOINTS, "\n".join(str(self._entries[row].folder) for row in rows).encode("utf-8"))
        return mime

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._entries)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section].head
        if role == Qt.ItemDataRole.ToolTipRole:
            return COLUMNS[section].tip
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return aligned(COLUMNS[section].numeric)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        entry, column = self._entries[index.row()], COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            mark = "● " if index.column() == 0 and self._is_in_use(entry) else ""
            return mark + column.text(entry)
        if role == SORT_ROLE:
            return column.key(entry)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return aligned(column.numeric)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(entry, index.column())
        if role == Qt.ItemDataRole.AccessibleTextRole:
            used = ", in use" if index.column() == 0 and self._is_in_use(entry) else ""
            return f"{column.head}: {column.text(entry)}{used}"
        return None

    def _is_in_use(self, entry: Entry) -> bool:
        return self._in_use is not None and self._resolved.get(entry.folder) == self._in_use

    def _tip(self, entry: Entry, column: int) -> str:
        if entry.error:
            return entry.error
        result = entry.result(COLUMNS[column].head == "From pixels")
        if COLUMNS[column].head in ("Accuracy", "From pixels") and result:
            return f"{result.name}: {result.count} sequences of {result.dataset}, {result.split}"
        return f"{entry.folder}{' (in use)' if self._is_in_use(entry) else ''}"


class ModelFilter(QSortFilterProxyModel):
    """Filters over all columns; the table sorts itself, by value and not by text."""

    def __init__(self, source: ModelTable) -> None:
        super().__init__()
        self._words = ""
        self.setDynamicSortFilter(False)
        self.setSourceModel(source)

    def set_words(self, words: str) -> None:
        """Show only rows that hold these words."""
        self._words = words.strip().lower()
        self.invalidateFilter()

    def filterAcceptsRow(self, row: int, parent: Index) -> bool:
        source = self.sourceModel()
        return not self._words or not isinstance(source, ModelTable) or source.says(row, self._words)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        self.sourceModel().sort(column, order)

    def as_csv(self) -> str:
        """What is shown, in the order shown."""
        entries = (self.entry(row) for row in range(self.rowCount()))
        rows = ([*(c.text(entry) for c in COLUMNS), entry.folder] for entry in entries)
        return csv_text([*(c.head for c in COLUMNS), "Folder"], rows)

    def entry(self, row: int) -> Entry:
        source = self.sourceModel()
        assert isinstance(source, ModelTable)
        return source.entry(self.mapToSource(self.index(row, 0)).row())
