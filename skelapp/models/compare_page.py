"""The comparison of two or more checkpoints: chosen data, the engine's numbers, and five ways to look at them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QTextOption
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QTabWidget,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine import paths
from engine.data.grounds import TestGround, fitting, list_grounds
from skelapp.context import Context
from skelapp.dialogs import Act, ask_place, save, save_picture
from skelapp.models.class_table import ClassTable
from skelapp.models.colours import LETTERS, model_colour
from skelapp.models.library import Entry
from skelapp.models.matrix import ConfusionMatrix
from skelapp.models.plots import Calibration, Maps
from skelapp.models.report import Report
from skelapp.models.report_csv import TAB_CSV
from skelapp.task import Task
from skelapp.task_bar import TaskBar
from skelapp.widgets import Banner, ElidedLabel, button

TABS = ("Overview", "Classes", "Confusion", "Calibration", "Map")
MOST = 4  # more can't be read side by side


class ComparePage(QWidget):
    """Opened with the checkpoints to compare; ``closed`` when the user goes back to the list."""

    closed = Signal()
    finished = Signal()

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.entries: list[Entry] = []
        self.report: Report | None = None
        self._grounds: list[TestGround] = []
        self.banner = Banner()
        self.task_bar = TaskBar()
        self.dataset, self.split = QComboBox(), QComboBox()
        self.dataset.setAccessibleName("Data to compare on")
        self.split.setAccessibleName("Split")
        self.dataset.setMinimumWidth(170)
        self.split.setMinimumWidth(120)
        self.dataset.currentIndexChanged.connect(self._fill_splits)
        self.run = button("Compare", self.start, primary=True, tip="Run the checkpoints on these data")
        self.names = QHBoxLayout()
        self.names.setSpacing(18)
        self._stale: set[int] = set()
        self.tabs = self._make_tabs()
        self.tabs.currentChanged.connect(self._draw)
        self.waiting = QLabel()
        self.waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.waiting.setProperty("role", "muted")
        self.waiting.setWordWrap(True)
        self._build()

    def _make_tabs(self) -> QTabWidget:
        self.overview = QTextBrowser()
        self.overview.document().setDocumentMargin(18)
        self.overview.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.overview.setAccessibleName("Comparison in words and tables")
        self.classes = ClassTable()
        self.matrices = [ConfusionMatrix() for _ in range(MOST)]
        self.cell_words = QLabel()
        self.cell_words.setWordWrap(True)
        self.cell_words.setMinimumHeight(42)
        self.cell_words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.cell_words.setAccessibleName("The marked cell")
        confusion = QWidget()
        beside = QHBoxLayout()
        beside.setSpacing(14)
        for matrix in self.matrices:
            matrix.pointed.connect(self._point)
            beside.addWidget(matrix, 1)
        column = QVBoxLayout(confusion)
        column.setContentsMargins(4, 12, 4, 4)
        column.addLayout(beside, 1)
        column.addWidget(self.cell_words)
        self.calibration, self.maps = Calibration(), Maps()
        tabs = QTabWidget()
        tabs.setDocumentMode(True)
        tabs.tabBar().setDrawBase(False)
        for name, page in zip(TABS, (self.overview, self.classes, confusion, self.calibration, self.maps), strict=True):
            tabs.addTab(page, name)
        return tabs

    def _build(self) -> None:
        title = QLabel("Compare")
        title.setProperty("role", "title")
        back = button("Back to the list", self.close_page, tip="Escape")
        self.save = QToolButton()
        self.save.setText("Save")
        self.save.setProperty("menuButton", True)
        self.save.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.save.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        menu = QMenu(self.save)
        menu.addAction("This tab as a picture (PNG)…", lambda: self._ask(f"{self._tab()}.png", self.save_picture))
        menu.addAction("This tab as a table (CSV)…", lambda: self._ask(f"{self._tab()}.csv", self.save_csv))
        menu.addAction("Everything (JSON)…", lambda: self._ask("comparison.json", self.save_json))
        self.save.setMenu(menu)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(title)
        top.addSpacing(10)
        top.addStretch(1)
        for label, box in (("Data", self.dataset), ("Split", self.split)):
            words = QLabel(label)
            words.setProperty("role", "muted")
            words.setBuddy(box)
            top.addWidget(words)
            top.addWidget(box)
        top.addWidget(self.run)
        top.addWidget(self.save)
        top.addWidget(back)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(10)
        layout.addLayout(top)
        layout.addLayout(self.names)
        layout.addWidget(self.banner)
        layout.addWidget(self.task_bar)
        layout.addWidget(self.waiting, 1)
        layout.addWidget(self.tabs, 1)
        self._show(None)

    # ---------------------------------------------------------------- acts

    def open(self, entries: Sequence[Entry]) -> None:
        """Compare these; the first is A. What can be compared on is looked up first."""
        if self.task_bar.busy:
            return
        self.entries = list(entries)[:MOST]
        self.banner.dismiss()
        self._show_names()
        self._show(None)
        self.waiting.setText("Looking for data all of them know…")
        self.run.setEnabled(False)
        self._context.worker.run(lambda: list_grounds(paths.stores()), self._found, self._not_found)

    def _found(self, grounds: list[TestGround]) -> None:
        cards = [entry.card for entry in self.entries if entry.card is not None]
        preferred = cards[0].dataset if cards else ""
        self._grounds = fitting(grounds, [card.classes for card in cards], preferred)
        self.dataset.blockSignals(True)
        self.dataset.clear()
        for ground in self._grounds:
            self.dataset.addItem(ground.name)
        self.dataset.blockSignals(False)
        self._fill_splits()
        self.run.setEnabled(bool(self._grounds))
        if not self._grounds:
            self.waiting.setText("")
            self.banner.show_message(self._why_not(), error=True)
        else:
            self.start()

    def _why_not(self) -> str:
        lists = [set(entry.card.classes) for entry in self.entries if entry.card is not None]
        shared = set.intersection(*lists) if lists else set()
        if len(shared) < 2:
            return (
                "These checkpoints can't be compared: they have no two classes in common. "
                "Choose checkpoints that were trained on the same actions."
            )
        names = sorted({entry.card.dataset for entry in self.entries if entry.card is not None})
        return f"There are no data here to compare them on. Prepare {' or '.join(names)} in the Data panel first."

    def _not_found(self, error: BaseException, details: str) -> None:
        self.banner.show_message(f"The data can't be looked through: {error}", details, error=True)

    def _fill_splits(self) -> None:
        place = self.dataset.currentIndex()
        self.split.clear()
        if not 0 <= place < len(self._grounds):
            return
        self.split.addItems(list(self._grounds[place].splits))
        own = next((e.card.split for e in self.entries if e.card and e.card.dataset == self.dataset.currentText()), "")
        self.split.setCurrentIndex(max(0, self.split.findText(own)))

    def start(self) -> None:
        """Run the comparison; kept answers make it quick the second time."""
        if self.task_bar.busy or not self.split.currentText():
            return
        self.banner.dismiss()
        self._show(None)
        self.waiting.setText("The checkpoints are asked about every test sequence. The first time takes a while.")
        self.run.setEnabled(False)
        folders = [str(entry.folder) for entry in self.entries]
        data = ["--dataset", self.dataset.currentText(), "--split", self.split.currentText()]
        self.task_bar.run("Comparing", ["compare", *folders, *data, "--json"], self._ended)

    def _ended(self, task: Task) -> None:
        self.run.setEnabled(True)
        if task.state == "done":
            text = task.output
            # Half a megabyte of numbers is parsed off the window.
            self._context.worker.run(lambda: Report(json.loads(text)), self._reported, self._damaged)
            return
        self.waiting.setText(
            "Stopped. Compare starts again; what was finished is kept." if task.state != "failed" else ""
        )
        if task.state == "failed":
            self.banner.show_message(f"The comparison failed: {task.problem}", task.details, error=True)
        self.finished.emit()

    def _reported(self, report: Report) -> None:
        self._show(report)
        self._context.library.refresh()
        self.finished.emit()

    def _damaged(self, error: BaseException, details: str) -> None:
        self.waiting.setText("")
        self.banner.show_message(f"The comparison's answer can't be read: {error}", details, error=True)
        self.finished.emit()

    def close_page(self) -> None:
        """Back to the list; a comparison that runs goes on."""
        self.closed.emit()

    def end(self, seconds: float) -> bool:
        return self.task_bar.end(seconds)

    # -------------------------------------------------------------- saving

    def _ask(self, name: str, act: Act) -> None:
        ask_place(self, "Save", name, lambda path: save(self.banner, path, act))

    def _tab(self) -> str:
        return TABS[self.tabs.currentIndex()].lower()

    def save_picture(self, path: Path) -> None:
        save_picture(self.tabs.currentWidget(), path)

    def save_csv(self, path: Path) -> None:
        """Write the tab that is seen as a table; raises ``OSError`` when the disk refuses."""
        if self.report is not None:
            path.write_text(TAB_CSV[TABS[self.tabs.currentIndex()]](self.report), "utf-8")

    def save_json(self, path: Path) -> None:
        if self.report is not None:
            path.write_text(json.dumps(self.report.values, indent=1), "utf-8")

    # ------------------------------------------------------------- showing

    def _show_names(self) -> None:
        while self.names.count():
            item = self.names.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        for number, entry in enumerate(self.entries):
            letter = QLabel(LETTERS[number])
            letter.setStyleSheet(f"color: {model_colour(number).name()}; font-size: 17px; font-weight: 700;")
            self.names.addWidget(letter)
            self.names.addWidget(ElidedLabel(entry.title), 1)

    def _show(self, report: Report | None) -> None:
        self.report = report
        self.tabs.setVisible(report is not None)
        self.waiting.setVisible(report is None)
        self.save.setEnabled(report is not None)
        if report is None:
            return
        self.waiting.setText("")
        self._draw_again()

    def _draw_again(self) -> None:
        """Everything is out of date: draw the tab that is seen, the others when they are."""
        self._stale = set(range(len(TABS)))
        self._draw(self.tabs.currentIndex())

    def _draw(self, tab: int) -> None:
        """One tab at a time: all five together would hold the window for a moment."""
        report = self.report
        if report is None or tab not in self._stale:
            return
        self._stale.discard(tab)
        name = TABS[tab]
        if name == "Overview":
            self.overview.setHtml(report.overview())
        elif name == "Classes":
            self.classes.show_report(report)
        elif name == "Calibration":
            self.calibration.show_report(report)
        elif name == "Map":
            self.maps.show_report(report)
        else:
            for number, matrix in enumerate(self.matrices):
                shown = number < len(report.models)
                matrix.setVisible(shown)
                matrix.show_model(report if shown else None, number)
            self._point(-1, -1)

    def _point(self, row: int, column: int) -> None:
        """The same cell in every matrix, and what is in it."""
        if self.report is None:
            return
        for matrix in self.matrices[: len(self.report.models)]:
            matrix.point_at(row, column)
        if row < 0:
            self.cell_words.setText(
                "Point at a cell, or use the arrow keys. Rows are true classes, columns the answers."
            )
            return
        words = [self.report.cell_words(number, row, column) for number in range(len(self.report.models))]
        self.cell_words.setText("\n".join(words))

    def retheme(self) -> None:
        self._show_names()
        if self.report is not None:
            self._draw_again()
