"""The page *Statistics*: sequences per class and split as bars, the splits as a table, lengths as a histogram."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QColor, QGuiApplication, QPen
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMenu,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine.data.statistics import SplitStatistics, StoreStatistics
from skelapp import theme
from skelapp.dialogs import ask_place, save, save_picture
from skelapp.live.action_card import readable
from skelapp.tables import WholeRows, aligned, csv_text, dress
from skelapp.task import duration
from skelapp.widgets import Banner, button

ROW_PX = 22
_LENGTH_PX = 190
_TRAIN, _TEST = theme.PERSON_COLOURS[1], theme.PERSON_COLOURS[0]
_HEADS = ("Split", "Train", "Test", "Published", "Copies")


class StatisticsPage(QWidget):
    """Counts of the store it is given. Made when it is first looked at: plots are slow to load."""

    def __init__(self, banner: Banner, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._banner = banner
        self._statistics: StoreStatistics | None = None
        self._name = ""
        self._plots: list[Any] = []
        self.split = QComboBox()
        self.split.setAccessibleName("Count the parts of")
        self.split.setMinimumWidth(150)
        self.split.currentIndexChanged.connect(lambda _: self._draw())
        self.table = self._make_table()
        self.legend = QLabel()
        self.summary = QLabel()
        self.summary.setProperty("role", "muted")
        self.summary.setWordWrap(True)
        self._charts = QVBoxLayout()
        self._charts.setContentsMargins(0, 0, 6, 0)
        self._build()

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, len(_HEADS))
        table.setHorizontalHeaderLabels(_HEADS)
        table.setItemDelegate(WholeRows(table))
        dress(table, "Splits", 28)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.horizontalHeader().setStretchLastSection(True)
        for column in range(len(_HEADS)):
            head = table.horizontalHeaderItem(column)
            if head is not None:
                head.setTextAlignment(aligned(column in (1, 2, 3)))
        table.itemSelectionChanged.connect(self._row_chosen)
        return table

    def _build(self) -> None:
        bar = QHBoxLayout()
        bar.addWidget(QLabel("Per action, parts of"))
        bar.addWidget(self.split)
        bar.addWidget(self.legend)
        bar.addStretch(1)
        bar.addWidget(button("Copy as CSV", self.copy_csv, tip="Copy the counts per action and split"))
        bar.addWidget(self._save_menu())
        self.charts = QWidget()
        self.charts.setLayout(self._charts)
        self.area = QScrollArea()
        self.area.setWidgetResizable(True)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.area.setWidget(self.charts)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.summary)
        layout.addWidget(self.table)
        layout.addLayout(bar)
        layout.addWidget(self.area, 1)

    @property
    def ready(self) -> bool:
        """Whether both charts are drawn."""
        return len(self._plots) == 2

    # ------------------------------------------------------------- content

    def set_statistics(self, name: str, statistics: StoreStatistics | None) -> None:
        """Show the counts of a store."""
        self._name, self._statistics = name, statistics
        chosen = self.split.currentText()
        self.split.blockSignals(True)
        self.split.clear()
        self.split.addItem("the whole store", None)
        for split in statistics.splits if statistics else ():
            if split.train is not None:
                self.split.addItem(split.name, split)
        self.split.setCurrentIndex(max(0, self.split.findText(chosen)) or min(1, self.split.count() - 1))
        self.split.blockSignals(False)
        self._fill_table()
        self._draw()

    def _fill_table(self) -> None:
        splits = self._statistics.splits if self._statistics else ()
        self.table.blockSignals(True)
        self.table.setRowCount(len(splits))
        for row, split in enumerate(splits):
            known = split.train is not None and split.test is not None
            train = f"{len(split.train):,}" if split.train is not None else "–"
            test = f"{len(split.test):,}" if split.test is not None else "–"
            published = f"{split.expected[0]:,} / {split.expected[1]:,}" if split.expected else "–"
            note = split.note or (self._left_out(split) if known else "")
            for column, text in enumerate((split.name, train, test, published, note)):
                item = QTableWidgetItem(text)
                item.setTextAlignment(aligned(column in (1, 2, 3)))
                item.setToolTip(text)
                self.table.setItem(row, column, item)
        for column, width in enumerate((180, 74, 74, 120)):
            self.table.setColumnWidth(column, width)
        self.table.horizontalHeader().setSectionResizeMode(4, QHeaderView.ResizeMode.Stretch)
        rows = min(len(splits), 6)
        self.table.setFixedHeight(self.table.horizontalHeader().sizeHint().height() + 28 * rows + 6)
        self.table.setVisible(bool(splits))
        self.table.blockSignals(False)

    def _left_out(self, split: SplitStatistics) -> str:
        """How many test sequences a clean split leaves out."""
        assert self._statistics is not None and split.test is not None
        whole = next((s for s in self._statistics.splits if f"{s.name}_clean" == split.name), None)
        if whole is None or whole.test is None:
            return ""
        copies = len(whole.test) - len(split.test)
        return f"{copies} left out" if copies else "none"

    def _row_chosen(self) -> None:
        rows = self.table.selectionModel().selectedRows()
        if rows:
            item = self.table.item(rows[0].row(), 0)
            self.split.setCurrentIndex(max(0, self.split.findText(item.text() if item else "")))

    def _draw(self) -> None:
        counts = self._statistics
        for plot in self._plots:
            plot.setVisible(counts is not None)
        if counts is None or not len(counts.length):
            self.summary.setText("")
            return
        seconds = float(counts.length.sum()) / counts.fps if counts.fps else 0.0
        few, many = int(counts.per_class.min()), int(counts.per_class.max())
        unlabelled = f", {counts.unlabelled:,} without a label" if counts.unlabelled else ""
        self.summary.setText(
            f"{len(counts.length):,} sequences of {len(counts.classes)} actions, {few:,} to {many:,} of each"
            f"{unlabelled}; {duration(seconds)} in all; {int(np.median(counts.length))} frames in the middle, "
            f"{int(counts.length.min())} to {int(counts.length.max())}"
        )
        split: SplitStatistics | None = self.split.currentData()
        bars = [("All", theme.current().accent, counts.per_class)]
        if split is not None:
            bars = [("Train", _TRAIN, split.train_per_class), ("Test", _TEST, split.test_per_class)]
        names = (f"<span style='color:{colour}'>■</span>&nbsp;{name}" for name, colour, _ in bars)
        self.legend.setText("&nbsp;&nbsp;&nbsp;".join(names))
        self.legend.setVisible(split is not None)
        if not self._plots:
            self._plots = [self._plot("Sequences per action")]
        self._bars(self._plots[0], counts, bars)
        # The second chart after the window has had its turn: a plot takes a moment to make.
        QTimer.singleShot(0, self, self._draw_lengths)

    def _draw_lengths(self) -> None:
        if self._statistics is None or not self._plots:
            return
        if len(self._plots) == 1:
            self._plots.append(self._plot("Lengths of the sequences"))
        self._lengths(self._plots[1], self._statistics)

    def _plot(self, name: str) -> Any:
        import pyqtgraph

        plot = pyqtgraph.PlotWidget()
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        plot.setAccessibleName(name)
        # The wheel scrolls the page, not the chart.
        plot.wheelEvent = lambda event: event.ignore()
        self._charts.addWidget(plot)
        return plot

    def _clear(self, plot: Any) -> None:
        now = theme.current()
        plot.clear()
        plot.setBackground(now.surface)
        for side in ("left", "right", "bottom"):
            axis = plot.getAxis(side)
            axis.setPen(QPen(now.colour("border")))
            axis.setTextPen(now.colour("muted" if side == "right" else "text"))

    def _bars(self, plot: Any, counts: StoreStatistics, bars: list[tuple[str, str, np.ndarray]]) -> None:
        import pyqtgraph

        self._clear(plot)
        classes = len(counts.classes)
        rows = np.arange(classes)
        thick = 0.7 / len(bars)
        for place, (_, colour, values) in enumerate(bars):
            at = rows - 0.35 + thick * (place + 0.5)
            none = QColor(0, 0, 0, 0)
            plot.addItem(pyqtgraph.BarGraphItem(x0=0, y=at, width=values, height=thick * 0.92, brush=colour, pen=none))
        most = max(1, max(int(values.max()) for _, _, values in bars))
        numbers = [" / ".join(f"{int(values[row]):,}" for _, _, values in bars) for row in rows.tolist()]
        plot.showAxis("right")
        for side, texts, widest in (
            ("left", [readable(name) for name in counts.classes], 250),
            ("right", numbers, 120),
        ):
            axis = plot.getAxis(side)
            texts = [self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, widest - 20) for text in texts]
            axis.setTicks([list(zip(rows.tolist(), texts))])
            # Every name is wanted, however many there are: the chart is as high as they need.
            axis.setStyle(autoReduceTextSpace=False, hideOverlappingLabels=False, tickLength=0)
            axis.setWidth(min(widest, max(self.fontMetrics().horizontalAdvance(text) for text in texts) + 20))
            axis.setTickPen(theme.current().surface)
        plot.getAxis("right").setPen(QColor(0, 0, 0, 0))
        plot.getAxis("bottom").setLabel("sequences")
        plot.getViewBox().invertY(True)
        plot.setXRange(0, most, padding=0.01)
        plot.setYRange(-0.6, classes - 0.4, padding=0)
        plot.setFixedHeight(int(ROW_PX * classes * (1 if len(bars) == 1 else 1.25)) + 56)

    def _lengths(self, plot: Any, counts: StoreStatistics) -> None:
        import pyqtgraph

        self._clear(plot)
        seconds = counts.length / counts.fps
        count, edges = np.histogram(seconds, bins=min(40, max(5, len(np.unique(counts.length)))))
        now = theme.current()
        plot.addItem(
            pyqtgraph.BarGraphItem(x0=edges[:-1], x1=edges[1:], y0=0, height=count, brush=now.accent, pen=now.surface)
        )
        plot.getAxis("bottom").setLabel("length of a sequence, seconds")
        plot.getAxis("left").setLabel("sequences")
        plot.setFixedHeight(_LENGTH_PX)

    # ---------------------------------------------------------------- acts

    def as_csv(self) -> str:
        """One line per action: all, then training and test part of every split."""
        counts = self._statistics
        if counts is None:
            return ""
        splits = [split for split in counts.splits if split.train is not None]
        head = ["action", "all", *(f"{s.name} {part}" for s in splits for part in ("train", "test"))]
        parts = [values for s in splits for values in (s.train_per_class, s.test_per_class)]
        rows = ([name, *(int(v[row]) for v in (counts.per_class, *parts))] for row, name in enumerate(counts.classes))
        return csv_text(head, rows)

    def lengths_csv(self) -> str:
        """One line per length that occurs: frames, seconds, how many sequences."""
        if self._statistics is None:
            return ""
        frames, count = np.unique(self._statistics.length, return_counts=True)
        rows = ([int(f), f"{f / self._statistics.fps:.3f}", int(n)] for f, n in zip(frames, count, strict=True))
        return csv_text(["frames", "seconds", "sequences"], rows)

    def copy_csv(self) -> None:
        QGuiApplication.clipboard().setText(self.as_csv())

    def _save_menu(self) -> QToolButton:
        made = QToolButton()
        made.setText("Save")
        made.setProperty("menuButton", True)
        made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(made)
        for words, name, write in (
            ("Charts as a picture (PNG)…", "counts.png", self.save_picture),
            ("Sequences per action as a table (CSV)…", "counts.csv", partial(_write, self.as_csv)),
            ("Lengths as a table (CSV)…", "lengths.csv", partial(_write, self.lengths_csv)),
        ):
            menu.addAction(words, partial(self._ask, name, write))
        made.setMenu(menu)
        return made

    def _ask(self, name: str, write: Callable[[Path], object]) -> None:
        ask_place(self, "Save", f"{self._name}_{name}", lambda path: save(self._banner, path, write))

    def save_picture(self, path: Path) -> None:
        """Write both charts as PNG, whole; raises ``OSError`` when the disk refuses."""
        save_picture(self.charts, path)

    def retheme(self) -> None:
        if self._plots:
            self._draw()


def _write(text: Callable[[], str], path: Path) -> None:
    path.write_text(text(), "utf-8")
