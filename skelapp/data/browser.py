"""The page *Sequences*: search, filter and sort every sequence of a store, and play the selected one."""

from __future__ import annotations

from functools import partial

import numpy as np
from PySide6.QtCore import QModelIndex, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QKeySequence, QResizeEvent, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from engine.skeleton.sequence import SkeletonSequence
from skelapp.data.loading import OpenStore
from skelapp.data.player import Player, PlayerKeys
from skelapp.data.sequence_table import SequenceTable
from skelapp.live.action_card import readable
from skelapp.settings import SettingsStore
from skelapp.tables import WholeRows, dress
from skelapp.widgets import ElidedLabel, button
from skelapp.workers import Worker

_TYPING_MS = 120
_WIDE = 860  # px
_NAME_PX = 145


class Browser(QWidget):
    """Table left, player right."""

    def __init__(
        self, settings: SettingsStore, worker: Worker, actor_worker: Worker, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._worker = worker
        self._open: OpenStore | None = None
        self._turn = self._reading = 0
        self._shown = -1
        self._name = ""
        self._shown_of: OpenStore | None = None
        self.table_model = SequenceTable()
        self.player = Player(settings, actor_worker)
        self.problem = ""
        self._make_filters()
        self.table = self._make_table()
        self._build()
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(_TYPING_MS)
        self._typing.timeout.connect(self.apply)
        self.table_model.sorting.connect(self.apply)
        self._keys = PlayerKeys(self.player, self)
        for widget in (self.table, self.player.slider, self.player.skeleton, *self.findChildren(QWidget)):
            widget.installEventFilter(self._keys)

    def _make_filters(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search names and actions")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Search the sequences")
        self.search.textChanged.connect(lambda _: self._typing.start())
        self.label = self._choice("Action")
        self.person = self._choice("Person")
        self.part = self._choice("Part of a split")
        find = QShortcut(QKeySequence.StandardKey.Find, self, context=Qt.ShortcutContext.WidgetWithChildrenShortcut)
        find.activated.connect(self.search.setFocus)

    def _choice(self, name: str) -> QComboBox:
        box = QComboBox()
        box.setAccessibleName(name)
        box.setToolTip(name)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(8)
        box.currentIndexChanged.connect(lambda _: self.apply())
        return box

    def _make_table(self) -> QTableView:
        table = QTableView()
        table.setModel(self.table_model)
        table.setItemDelegate(WholeRows(table))
        dress(table, "Sequences", 28)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.horizontalHeader().setSortIndicatorShown(True)
        table.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        table.setSortingEnabled(True)
        table.selectionModel().currentRowChanged.connect(self._row_changed)
        return table

    def _build(self) -> None:
        self.copy = button("Copy as CSV", self.copy_csv, tip="Copy the rows as they are shown")
        self.count = ElidedLabel("")
        self.count.setProperty("role", "muted")
        filters = QGridLayout()
        filters.setSpacing(6)
        filters.addWidget(self.search, 0, 0, 1, 3)
        for column, box in enumerate((self.label, self.person, self.part)):
            filters.addWidget(box, 1, column)
            filters.setColumnStretch(column, 1)
        left = QWidget()
        stacked = QVBoxLayout(left)
        stacked.setContentsMargins(0, 0, 0, 0)
        stacked.setSpacing(6)
        stacked.addLayout(filters)
        stacked.addWidget(self.table, 1)
        foot = QHBoxLayout()
        foot.addWidget(self.count, 1)
        foot.addWidget(self.copy)
        stacked.addLayout(foot)
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.addWidget(left)
        self.split.addWidget(self.player)
        self.split.setChildrenCollapsible(False)
        self.split.setHandleWidth(12)
        self.split.setStretchFactor(0, 2)
        self.split.setStretchFactor(1, 3)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.split)

    # ------------------------------------------------------------- content

    def set_store(self, opened: OpenStore | None) -> None:
        """Browse another store; the same one read again keeps selection and filters, as far as they still fit."""
        same = opened is None or opened.name == self._name
        self._open = opened
        self._turn += 1
        if opened is not None:
            self._name = opened.name
        if opened is not None:
            self._fill(opened, keep=same)
        if not same:
            self._shown = -1
            self.player.set_sequence(None)
            self.search.blockSignals(True)
            self.search.clear()
            self.search.blockSignals(False)
            self.table.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.table_model.set_index(opened.index if opened else None)
        self.apply()

    def _fill(self, opened: OpenStore, keep: bool) -> None:
        """Offer what the store can be filtered by; a store made again may have other classes, persons and splits."""
        boxes = (self.label, self.person, self.part)
        chosen = [box.currentText() if keep else "" for box in boxes]
        for box, first in zip(boxes, ("Actions", "Persons", "Parts"), strict=True):
            box.blockSignals(True)
            box.clear()
            box.addItem(first, None)
        for number, name in enumerate(opened.index.classes):
            self.label.addItem(readable(name), number)
        column = opened.index.person_column
        self.person.setEnabled(bool(column))
        for value in opened.index.values(column) if column else []:
            self.person.addItem(f"{readable(column)} {value}", value)
        for split in opened.statistics.splits:
            if split.train is not None:
                self.part.addItem(f"{split.name}: train", (split.name, "train"))
                self.part.addItem(f"{split.name}: test", (split.name, "test"))
        self.part.setEnabled(self.part.count() > 1)
        for box, text in zip(boxes, chosen, strict=True):
            box.setCurrentIndex(max(0, box.findText(text)))
            box.blockSignals(False)

    def _among(self) -> np.ndarray | None:
        chosen = self.part.currentData()
        if chosen is None or self._open is None:
            return None
        split = next(s for s in self._open.statistics.splits if s.name == chosen[0])
        return split.train if chosen[1] == "train" else split.test

    def apply(self) -> None:
        """Filter and sort, off the window's thread; only the newest request is shown."""
        if self._open is None:
            self.count.setText("")
            return
        self._typing.stop()
        self._turn += 1
        turn, index, model = self._turn, self._open.index, self.table_model
        work = partial(
            index.select,
            self.search.text(),
            self.label.currentData(),
            self.person.currentData(),
            self._among(),
            model.sort_key,
            model.descending,
        )
        self._worker.run(work, lambda rows: self._filtered(turn, rows))

    def _filtered(self, turn: int, rows: np.ndarray) -> None:
        if turn != self._turn or self._open is None:
            return
        self.table_model.set_rows(rows)
        total = len(self._open.index)
        found = f"{len(rows):,} of {total:,} sequences" if len(rows) != total else f"{total:,} sequences"
        self.count.setText(found if len(rows) else "Nothing fits; clear the search or the filters")
        # The scroll bar that the rows may need is laid out only after this.
        QTimer.singleShot(0, self, self._fit)
        row = self.table_model.row_of(self._shown) if self._shown >= 0 else 0
        if len(rows):
            self.table.selectRow(max(row, 0))

    def copy_csv(self) -> None:
        """Put the table as it is shown on the clipboard; the text of a large set is made off the window's thread."""
        if self._open is not None:
            self._worker.run(self.table_model.csv_writer(), QGuiApplication.clipboard().setText)

    def select(self, position: int) -> bool:
        """Select a sequence by its position in the store; False when it is filtered out."""
        row = self.table_model.row_of(position)
        if row >= 0:
            self.table.selectRow(row)
        return row >= 0

    def _row_changed(self, current: QModelIndex, before: QModelIndex) -> None:
        if not current.isValid() or self._open is None:
            return
        position = self.table_model.position(current.row())
        if position == self._shown and self._shown_of is self._open:
            return
        self._shown, self._shown_of = position, self._open
        self._reading += 1
        reading, store = self._reading, self._open.store
        label = self.table_model.text(current.row(), "class")
        self._worker.run(
            lambda: store.sequence(position),
            lambda sequence: self._read(reading, sequence, label),
            lambda error, details: self._unreadable(reading, error),
        )

    def _read(self, reading: int, sequence: SkeletonSequence, label: str) -> None:
        # Meanwhile another may have been chosen, or the store be opened again.
        if reading != self._reading or self._open is None:
            return
        self.problem = ""
        persons = int(np.any(sequence.xyz != 0, axis=(0, 2, 3)).sum())
        who = f"{persons} {'person' if persons == 1 else 'persons'}"
        seconds = len(sequence) * (sequence.duration / max(1, len(sequence) - 1))
        facts = f"{len(sequence)} frames, {seconds:.1f} s  ·  {who}  ·  {sequence.name}"
        self.player.set_sequence(sequence, label, facts, self._parts())

    def _parts(self) -> str:
        """In which parts of which splits the shown sequence stands."""
        assert self._open is not None
        words = []
        for split in self._open.statistics.splits:
            if split.train is None or split.test is None or split.name.endswith("_clean"):
                continue
            for part, positions in (("train", split.train), ("test", split.test)):
                at = int(np.searchsorted(positions, self._shown))
                if at < len(positions) and positions[at] == self._shown:
                    words.append(f"{split.name} {part}")
        return ", ".join(words)

    def _unreadable(self, reading: int, error: BaseException) -> None:
        if reading == self._reading:
            self.problem = str(error)
            self.player.set_sequence(None, "–", f"This sequence can't be read: {error}")

    # ------------------------------------------------------------- looking

    def _fit(self) -> None:
        """The name takes what the other columns leave."""
        header = self.table.horizontalHeader()
        left = self.table.viewport().width()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        widths = {"class": min(140, max(90, left - 74 - _NAME_PX)), "length": 74}
        for place, (key, head, _) in enumerate(self.table_model.columns):
            if key == "name":
                continue
            width = widths.get(key, max(70, header.fontMetrics().horizontalAdvance(head) + 34))
            # What does not fit beside a readable name is left out; the line above the player says it too.
            hidden = place > 2 and left - width < _NAME_PX
            self.table.setColumnHidden(place, hidden)
            if not hidden:
                header.resizeSection(place, width)
                left -= width
        header.resizeSection(1, max(_NAME_PX, left))

    def resizeEvent(self, event: QResizeEvent) -> None:
        wide = self.width() >= _WIDE
        sizes = [self.width() * 2 // 5, self.width() * 3 // 5] if wide else [self.width() // 2, self.width() // 2]
        if not any(self.split.sizes()) or event.oldSize().width() != event.size().width():
            self.split.setSizes(sizes)
        super().resizeEvent(event)
        QTimer.singleShot(0, self, self._fit)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self, self._fit)

    def focus_first(self) -> None:
        self.table.setFocus()

    def retheme(self) -> None:
        self.player.retheme()
