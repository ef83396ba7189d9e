"""The Training panel itself: the recipe on the left; queue, runs and the selected run on the right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSplitter,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine import paths
from engine.files import is_there
from engine.training.run_folder import RunFolder
from skelapp.context import Context
from skelapp.training import children
from skelapp.training.choices import find_choices
from skelapp.training.machine import Asking
from skelapp.training.recipe_side import RecipeSide
from skelapp.training.run_page import RunPage
from skelapp.training.runs import Row
from skelapp.training.runs_table import RunFilter, RunTable
from skelapp.training.runs_view import RunsView
from skelapp.training.texts import TextReader
from skelapp.training.watch import Look, Watcher
from skelapp.widgets import Banner, button
from skelapp.workers import Worker

EMPTY = "No run yet.\nChoose a recipe on the left and press Start; the run appears here."
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
        self._deleted: Path | None = None
        self._texts = TextReader(self._reader, self._shown_path, self)

    # ------------------------------------------------------------- building

    def build(self) -> Iterator[None]:
        """Make the page in steps of some milliseconds; whoever calls it lets the window go on in between."""
        self.table = RunsView(self.proxy)
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
        if not self._memory.training_hold:
            self.hold.hide()
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
        self.table.chosen.connect(self._selected)
        self.table.delete_wanted.connect(self._delete)
        page = self.run_page
        page.stop_wanted.connect(self.watcher.stop)
        page.cancel_wanted.connect(self._cancel)
        page.resume_wanted.connect(self.watcher.resume)
        page.duplicate_wanted.connect(self._duplicate)
        page.delete_wanted.connect(self._delete)
        page.models_wanted.connect(self._show_in_models)
        page.page_changed.connect(self._page_changed)
        self._texts.found.connect(lambda path, output, recipe: page.show_texts(output, recipe))
        page.step_changed.connect(self.watcher.select)
        page.work_wanted.connect(self._write)

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
        return self.recipe.take_back()

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

    def _write(self, write: Callable[[], None], path: Path) -> None:
        """Write a file on the worker."""
        banner = self.run_page.banner
        self._reader.run(
            write,
            lambda _: banner.show_message(f"Saved {path}."),
            lambda error, details: banner.show_message(f"{path} can't be written: {error}", details, error=True),
        )

    def copy_csv(self) -> None:
        QGuiApplication.clipboard().setText(self.proxy.as_csv())
        self.banner.show_message(f"Copied {self.proxy.rowCount()} rows.")

    def read_choices(self) -> None:
        """Read again what there is to choose from, and once what this machine has."""
        self._read_choices()
        if self._asking is None:
            self._asking = Asking()
            self._asker.run(self._asking.ask, self.recipe.set_machine)

    def _read_choices(self) -> None:
        self._reader.run(
            lambda: find_choices(self.root),
            self.recipe.set_choices,
            lambda error, details: self.banner.show_message(
                f"What there is to choose from can't be read: {error}", details, error=True
            ),
        )

    # -------------------------------------------------------------- looking

    def set_watched(self, watched: bool) -> None:
        """Whether somebody looks at the panel: then it looks more often itself."""
        self.watcher.set_watched(watched)
        self._texts.set_watched(watched)
        if watched:
            self.read_choices()
            self.watcher.look()

    def select(self, path: Path) -> bool:
        """Select a run by its folder; False when it is not in the table."""
        return self.table.select(path)

    def _selected(self, row: Row) -> None:
        shown = self.run_page.row
        if shown is None or shown.path != row.path:
            self._settings.set("memory.training_run", str(row.path))
            self._show_run(row)

    def _show_run(self, row: Row | None) -> None:
        self.run_page.show_run(row)
        self.watcher.select(self.run_page.shown)
        self._texts.read()

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
        self._wanted = None if self._wanted and not is_there(self._wanted) else self._wanted
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
            self._read_choices()
        self._finished = finished

    def _shown_path(self) -> Path | None:
        row = self.run_page.row
        return row.path if row is not None else None

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
        self.table.fit(self.width())

    def end(self, timeout: float) -> bool:
        """Stop watching; runs go on."""
        self._texts.set_watched(False)
        if self._asking is not None:
            self._asking.cancel()
        return all([self.watcher.end(timeout), self._reader.close(timeout), self._asker.close(timeout)])
