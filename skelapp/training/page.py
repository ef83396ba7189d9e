"""The Training panel itself: the recipe on the left; queue, runs and the selected run on the right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QItemSelection, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QSplitter,
    QStackedWidget,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine import paths
from engine.training.event_tail import last_lines
from engine.training.run_folder import RunFolder
from skelapp.context import Context
from skelapp.training import children
from skelapp.training.choices import find_choices
from skelapp.training.machine import Asking
from skelapp.training.recipe_side import RecipeSide
from skelapp.training.run_page import RunPage
from skelapp.training.runs import Row, asked_file
from skelapp.training.runs_table import COLUMNS, RunFilter, RunTable
from skelapp.training.watch import Look, Watcher
from skelapp.widgets import Banner, button
from skelapp.workers import Worker

EMPTY = "No run yet.\nChoose a recipe on the left and press Start; the run appears here."
OUTPUT_LINES = 2000
TEXT_MS = 1000
FORM_WIDTH = 400


class TrainingPage(QWidget):
    """Puts recipe, watcher, table and run together."""

    working_changed = Signal(int)

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._settings = context.settings
        self._memory = context.settings.values.memory
        self.root = paths.runs()
        self.watcher = Watcher(context.settings, self.root, self)
        self._reader = Worker("training choices", self)
        self._asker = Worker("training machine", self)
        self._asking: Asking | None = None
        self.banner = Banner()
        self.table_model = RunTable()
        self.proxy = RunFilter(self.table_model)
        self._working = 0
        self._finished: set[Path] | None = None
        self._wanted: Path | None = Path(self._memory.training_run) if self._memory.training_run else None
        self._reading_text = False
        self._deleted: Path | None = None
        self._texts = QTimer(self)
        self._texts.setInterval(TEXT_MS)
        self._texts.timeout.connect(self._read_texts)

    # ------------------------------------------------------------- building

    def build(self) -> Iterator[None]:
        """Make the page in steps of some milliseconds; whoever calls it lets the window go on in between."""
        self.table = self._make_table()
        self._build()
        self._fit()
        yield
        # Children from the start: a window that closes meanwhile takes them along, with the timers they run.
        self.recipe = RecipeSide(self._settings, self)
        yield
        self.recipe.setMinimumWidth(340)
        self.split.insertWidget(0, self.recipe)
        self.split.setStretchFactor(0, 0)
        self.split.setStretchFactor(1, 1)
        self.split.setSizes([FORM_WIDTH, 900])
        yield
        self.run_page = RunPage(self)
        self.run_page.hide()
        yield
        # Dressing widgets in the style sheet takes longer than making them: a few at a time.
        for number, widget in enumerate(self.run_page.findChildren(QWidget)):
            widget.ensurePolished()
            if number % 12 == 11:
                yield
        self._right.addWidget(self.run_page)
        self._right.setStretchFactor(0, 1)
        self._right.setStretchFactor(1, 3)
        self._right.setSizes([170, 500])
        yield
        self._connect()
        self.run_page.show_page(self._memory.training_page)
        self.read_choices()
        self.watcher.empty_trash()
        self.watcher.look()

    def _make_table(self) -> QTableView:
        table = QTableView()
        table.setModel(self.proxy)
        table.setAccessibleName("Runs")
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setSortingEnabled(True)
        table.sortByColumn(len(COLUMNS) - 1, Qt.SortOrder.DescendingOrder)
        table.setAlternatingRowColors(True)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(30)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setHighlightSections(False)
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(60)
        for column, width in enumerate((170, 118, 74, 92, 150, 104, 140, 132, 76)):
            table.setColumnWidth(column, width)
        table.selectionModel().selectionChanged.connect(self._selected)
        delete = QShortcut(QKeySequence(Qt.Key.Key_Delete), table, context=Qt.ShortcutContext.WidgetShortcut)
        delete.activated.connect(lambda: self._delete(self.run_page.row.path) if self.run_page.row else None)
        return table

    def _build(self) -> None:
        title = QLabel("Training")
        title.setProperty("role", "title")
        self.queue_note = QLabel()
        self.queue_note.setProperty("role", "muted")
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter")
        self.filter.setClearButtonEnabled(True)
        self.filter.setAccessibleName("Filter the runs")
        self.filter.setMaximumWidth(180)
        self.filter.textChanged.connect(self.proxy.setFilterFixedString)
        self.hold = QToolButton()
        self.hold.setText("Hold the queue")
        self.hold.setCheckable(True)
        self.hold.setChecked(self._memory.training_hold)
        self.hold.setToolTip("Runs that wait don't start; those that run go on")
        self.hold.toggled.connect(self._hold)
        bar = QHBoxLayout()
        bar.setSpacing(8)
        bar.addWidget(title)
        bar.addSpacing(10)
        bar.addWidget(self.queue_note, 1)
        bar.addWidget(self.filter)
        bar.addWidget(button("Copy as CSV", self.copy_csv, tip="Copy the table as it is shown"))
        bar.addWidget(self.hold)
        empty = QLabel(EMPTY)
        empty.setProperty("role", "muted")
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.list = QStackedWidget()
        self.list.addWidget(self.table)
        self.list.addWidget(empty)
        self.list.setMinimumHeight(90)
        self._right = QSplitter(Qt.Orientation.Vertical)
        self._right.addWidget(self.list)
        self._right.setChildrenCollapsible(False)
        self._right.setHandleWidth(10)
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.addWidget(self._right)
        self.split.setChildrenCollapsible(False)
        self.split.setHandleWidth(16)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(12)
        layout.addLayout(bar)
        layout.addWidget(self.banner)
        layout.addWidget(self.split, 1)

    def _connect(self) -> None:
        self.watcher.looked.connect(self._looked)
        self.watcher.complained.connect(lambda text: self.banner.show_message(text, error=True))
        self.recipe.start_wanted.connect(self.start)
        self.recipe.data_wanted.connect(lambda: self._context.show_panel("data"))
        page = self.run_page
        page.stop_wanted.connect(self.watcher.stop)
        page.cancel_wanted.connect(self._cancel)
        page.resume_wanted.connect(self.watcher.resume)
        page.duplicate_wanted.connect(self._duplicate)
        page.delete_wanted.connect(self._delete)
        page.models_wanted.connect(self._show_in_models)
        page.page_changed.connect(self._page_changed)
        page.step_changed.connect(self.watcher.select)
        page.work_wanted.connect(lambda work: self._reader.run(work, failed=self._work_failed))

    # ----------------------------------------------------------------- acts

    def start(self, recipe: dict[str, Any], chain: bool = False) -> None:
        """Put a recipe into the queue as a new run; it starts at once where nothing else runs.

        ``chain`` lets the protocols that judge a pretraining follow it.
        """
        self.banner.dismiss()

        def made(folder: RunFolder) -> None:
            self._wanted = folder.path
            self._show_run(None)

        self.watcher.enqueue(recipe, chain, made)

    def _cancel(self, path: Path) -> None:
        row = self.table_model.find(path)
        if row is not None and row.state == "queued":
            self._leave_queue(row)
        else:
            self.watcher.cancel(path)

    def _leave_queue(self, row: Row) -> None:
        """A run that never began leaves nothing behind; one that was to go on is stopped again."""
        if (row.path / "events.jsonl").exists():
            self.watcher.stop(row.path)
        else:
            self._delete(row.path)

    def _delete(self, path: Path) -> None:
        row = self.table_model.find(path)
        if row is None or row.alive:
            return

        def gone(place: Path) -> None:
            self._deleted = place
            self.banner.show_message(
                f"{path.name} is deleted; it is kept aside for a week.",
                actions=(("Undo", lambda: self._bring_back(place)),),
            )

        self.watcher.delete(path, gone)

    def take_back(self) -> bool:
        """Undo what was done last: a deletion whose banner still stands, else the form's last change."""
        if self._deleted is not None and self.banner.isVisible():
            place, self._deleted = self._deleted, None
            self.banner.dismiss()
            self._bring_back(place)
            return True
        draft = self.recipe.form.draft
        if draft is None or not draft.can_undo:
            return False
        self.recipe.form.undo()
        return True

    def open_recipe(self, path: Path) -> None:
        """Fill the form from a file that was dropped on the window; what is chosen first does not overwrite it."""
        if self.recipe.form.draft is None:
            QTimer.singleShot(100, self, lambda: self.open_recipe(path))
        else:
            self.recipe.open_file(path)

    def _bring_back(self, place: Path) -> None:
        def back(folder: RunFolder) -> None:
            self._wanted = folder.path

        self.watcher.bring_back(place, back)

    def _duplicate(self, path: Path) -> None:
        def found(recipe: dict[str, Any]) -> None:
            if self.recipe.open_data(recipe):
                self.recipe.banner.show_message(f"The recipe of {path.name}. Change it and start it as a new run.")
                self.recipe.form.setFocus()

        self.watcher.do(lambda: children.recipe_of(RunFolder(path)), found)

    def _show_in_models(self, path: Path) -> None:
        self._context.library.refresh()
        self._context.show_panel("models")

    def _hold(self, on: bool) -> None:
        self._settings.set("memory.training_hold", on)
        self.watcher.look()

    def _work_failed(self, error: BaseException, details: str) -> None:
        self.banner.show_message(f"That could not be done: {error}", details, error=True)

    def copy_csv(self) -> None:
        QGuiApplication.clipboard().setText(self.proxy.as_csv())
        self.banner.show_message(f"Copied {self.proxy.rowCount()} rows.")

    def read_choices(self) -> None:
        """Read again what there is to choose from, and once what this machine has."""
        self._reader.run(lambda: find_choices(self.root), self.recipe.set_choices)
        if self._asking is None:
            self._asking = Asking()
            self._asker.run(self._asking.ask, self.recipe.set_machine)

    # -------------------------------------------------------------- looking

    def set_watched(self, watched: bool) -> None:
        """Whether somebody looks at the panel: then it looks more often itself."""
        self.watcher.set_watched(watched)
        if watched:
            self._texts.start()
            self.read_choices()
            self.watcher.look()
        else:
            self._texts.stop()

    def selected(self) -> Row | None:
        rows = self.table.selectionModel().selectedRows()
        return self.proxy.run(rows[0].row()) if rows else None

    def select(self, path: Path) -> bool:
        """Select a run by its folder; False when it is not in the table."""
        for number in range(self.proxy.rowCount()):
            if self.proxy.run(number).path == path:
                self.table.selectRow(number)
                self.table.scrollTo(self.proxy.index(number, 0))
                return True
        return False

    def _selected(self, new: QItemSelection | None = None, old: QItemSelection | None = None) -> None:
        row = self.selected()
        shown = self.run_page.row
        if row is None or (shown is not None and shown.path == row.path):
            return
        self._settings.set("memory.training_run", str(row.path))
        self._show_run(row)

    def _show_run(self, row: Row | None) -> None:
        self.run_page.show_run(row)
        self.watcher.select(self.run_page.shown)
        self._read_texts()

    def _looked(self, look: Look) -> None:
        self.table_model.set_rows(look.rows)
        self.list.setCurrentIndex(0 if look.rows else 1)
        self.run_page.setVisible(bool(look.rows))
        if self._wanted is not None and self.select(self._wanted):
            self._wanted = None
        shown = self.run_page.row
        if shown is not None:
            row = self.table_model.find(shown.path)
            if row is None:
                self._show_run(None)
            else:
                if look.piece is not None and look.path == self.run_page.shown:
                    self.run_page.add(look.piece)
                self.run_page.show_row(row, self.table_model.place(row.path))
        if self.run_page.row is None and self._wanted is None and look.rows:
            self.select(look.rows[0].path)
        self._wanted = None if self._wanted and not self._wanted.exists() else self._wanted
        self._count(look)

    def _count(self, look: Look) -> None:
        running = sum(row.alive for row in look.rows)
        waiting = sum(row.state == "queued" for row in look.rows)
        parts = [f"{running} running"] * bool(running) + [f"{waiting} waiting"] * bool(waiting)
        if waiting and look.elsewhere is not None:
            parts.append(f"another window (process {look.elsewhere}) starts what waits")
        elif waiting and self.hold.isChecked():
            parts.append("the queue is held")
        self.queue_note.setText(", ".join(parts))
        self.hold.setVisible(bool(waiting) or self.hold.isChecked())
        self.recipe.set_busy(running + waiting >= self._settings.values.training.at_once or self.hold.isChecked())
        if running != self._working:
            self._working = running
            self.working_changed.emit(running)
        finished = {row.path for row in look.rows if row.checkpoint and not row.alive}
        if self._finished is not None and finished - self._finished:
            self._context.library.refresh()
            self._reader.run(lambda: find_choices(self.root), self.recipe.set_choices)
        self._finished = finished

    def _read_texts(self) -> None:
        """Output and recipe of the shown run, off this thread, while their pages are looked at."""
        row = self.run_page.row
        if row is None or self._reading_text:
            return
        self._reading_text = True
        folder = RunFolder(row.path)

        def read() -> tuple[str, str]:
            output = last_lines(folder.output_file, OUTPUT_LINES, 1 << 18)
            source = folder.recipe_file if folder.recipe_file.is_file() else asked_file(row.path)
            recipe = last_lines(source, OUTPUT_LINES, 1 << 18)
            return output, recipe

        def show(texts: tuple[str, str]) -> None:
            self._reading_text = False
            if self.run_page.row is not None and self.run_page.row.path == row.path:
                self.run_page.show_texts(*texts)

        def failed(error: BaseException, details: str) -> None:
            self._reading_text = False

        self._reader.run(read, show, failed)

    def _page_changed(self, name: str) -> None:
        self._settings.set("memory.training_page", name)
        if name == "curves":
            self.run_page.curves.refresh()

    def focus_first(self) -> None:
        self.table.setFocus()

    def retheme(self) -> None:
        self.run_page.retheme()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        heads = [column.head for column in COLUMNS]
        # The encoder and the data say more than the rest where there is no room for all.
        for name, width in (("Task", 1400), ("Method", 1300), ("When", 1080), ("Encoder", 1000)):
            self.table.setColumnHidden(heads.index(name), self.width() < width)

    def end(self, timeout: float) -> bool:
        """Stop watching; runs go on."""
        self._texts.stop()
        if self._asking is not None:
            self._asking.cancel()
        return all([self.watcher.end(timeout), self._reader.close(timeout), self._asker.close(timeout)])
