"""The selected run: where it stands, what can be done, its curves, log, output, recipe and results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import (
    QButtonGroup,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QStackedWidget,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from skelapp import theme
from skelapp.training.curves import CurvesView
from skelapp.training.progress import Piece, apply, duration, number
from skelapp.training.runs import Row
from skelapp.training.runs_table import SIGNS
from skelapp.training.series import Series
from skelapp.widgets import Banner, ElidedLabel, button

PAGES = ("curves", "log", "output", "recipe", "results")
LOG_LINES = 20_000
EMPTY = "Select a run to see its curves, or make one in the form on the left."
# What a state means, and what comes next.
SENTENCES = {
    "starting": "Starting: torch is loaded and the data are opened.",
    "running": "Running. The window may be closed: the run goes on and is found again.",
    "stopping": "Stopping: it finishes its step and saves.",
    "finished": "Finished.",
    "stopped": "Stopped and kept. Resume goes on exactly there.",
    "cancelled": "Cancelled. Resume goes on from what it saved last.",
    "failed": "Failed.",
    "interrupted": "Interrupted: its process died. Resume goes on from what it saved last.",
    "new": "Not begun.",
}


class RunPage(QWidget):
    """Shows one run. The acts are signals: the page does nothing itself."""

    stop_wanted = Signal(object)
    cancel_wanted = Signal(object)
    resume_wanted = Signal(object)
    duplicate_wanted = Signal(object)
    delete_wanted = Signal(object)
    models_wanted = Signal(object)
    page_changed = Signal(str)
    step_changed = Signal(object)
    work_wanted = Signal(object)  # something slow, for a worker

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.row: Row | None = None
        # The folder whose events are shown: the run's own, or that of a step of a chain.
        self.shown: Path | None = None
        self._chosen_step = False
        self.series: dict[str, Series] = {}
        self.newest: dict[str, Any] = {}
        self.loading = False
        self.title = ElidedLabel()
        self.title.setProperty("role", "section")
        self.sentence = QLabel()
        self.sentence.setProperty("role", "muted")
        self.sentence.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setRange(0, 1000)
        self.bar.setAccessibleName("Progress of the run")
        self.numbers = QLabel()
        self.numbers.setTextFormat(Qt.TextFormat.RichText)
        self.numbers.setWordWrap(True)
        self.trouble = Banner()
        self.curves = CurvesView()
        self.log = self._text("Log of the run")
        self.log.setMaximumBlockCount(LOG_LINES)
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.output = self._text("What the process wrote")
        self.recipe = self._text("Recipe of the run")
        self.results = QTextBrowser()
        self.results.setAccessibleName("Results of the run")
        self.results.setOpenLinks(False)
        self.results.document().setDocumentMargin(14)
        self._told = ""
        self._drawn = QTimer(self)
        self._drawn.setSingleShot(True)
        self._drawn.setInterval(60)
        self._drawn.timeout.connect(self._draw)
        self._build()
        self.show_run(None)

    @staticmethod
    def _text(name: str) -> QPlainTextEdit:
        edit = QPlainTextEdit()
        edit.setReadOnly(True)
        edit.setAccessibleName(name)
        edit.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        edit.setTabChangesFocus(True)
        return edit

    def _build(self) -> None:
        self.stop = self._act("Stop and keep", lambda: self.stop_wanted.emit(self._path()))
        self.stop.setToolTip("It finishes its step and saves; Resume goes on exactly there")
        self.cancel = self._act("Cancel", lambda: self.cancel_wanted.emit(self._path()))
        self.cancel.setToolTip("Ends at once; what was saved last stays")
        self.resume = self._act("Resume", lambda: self.resume_wanted.emit(self._path()), primary=True)
        self.resume.setToolTip("Go on from what was saved last; it waits in the queue while another run goes on")
        self.models = self._act("Show in Models", lambda: self.models_wanted.emit(self._path()), primary=True)
        self.duplicate = self._act("Duplicate", lambda: self.duplicate_wanted.emit(self._path()))
        self.duplicate.setToolTip("Put this run's recipe into the form, as a new run")
        self.remove = self._act("Delete…", lambda: self.delete_wanted.emit(self._path()))
        self.remove.setToolTip("Moved aside for a week; can be undone")
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.title, 1)
        for made in (self.stop, self.cancel, self.resume, self.models, self.duplicate, self.remove):
            top.addWidget(made)
        self.steps = QWidget()
        self._step_row = QHBoxLayout(self.steps)
        self._step_row.setContentsMargins(0, 0, 0, 0)
        self._step_row.setSpacing(6)
        self._step_row.addStretch(1)
        self._step_buttons: list[QToolButton] = []
        self._step_group = QButtonGroup(self)
        self.steps.hide()
        self.pages = QStackedWidget()
        self.tabs: dict[str, QToolButton] = {}
        group = QButtonGroup(self)
        tabs = QHBoxLayout()
        tabs.setSpacing(2)
        for name, widget in zip(PAGES, (self.curves, self.log, self.output, self.recipe, self.results), strict=True):
            tab = QToolButton()
            tab.setText(name.capitalize())
            tab.setCheckable(True)
            tab.setProperty("tab", True)
            tab.clicked.connect(lambda _=False, name=name: self.show_page(name))
            group.addButton(tab)
            tabs.addWidget(tab)
            self.tabs[name] = tab
            self.pages.addWidget(widget)
        tabs.addStretch(1)
        self.save = QToolButton()
        self.save.setText("Save curves")
        self.save.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.save.setProperty("menuButton", True)
        menu = QMenu(self.save)
        menu.addAction("As picture (PNG)…", lambda: self._ask_file("png", self.curves.save_png))
        menu.addAction("As table (CSV)…", lambda: self._ask_file("csv", self._save_csv))
        menu.addAction("Open the run's folder", self._open_folder)
        self.save.setMenu(menu)
        tabs.addWidget(self.save)
        whole = QFrame()
        whole.setProperty("card", True)
        inner = QVBoxLayout(whole)
        inner.setContentsMargins(16, 12, 16, 10)
        inner.setSpacing(8)
        inner.addLayout(top)
        inner.addWidget(self.sentence)
        inner.addWidget(self.bar)
        inner.addWidget(self.steps)
        inner.addWidget(self.numbers)
        inner.addWidget(self.trouble)
        inner.addLayout(tabs)
        inner.addWidget(self.pages, 1)
        self.nothing = QLabel(EMPTY)
        self.nothing.setProperty("role", "muted")
        self.nothing.setWordWrap(True)
        self.nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.stack = QStackedWidget()
        self.stack.addWidget(whole)
        self.stack.addWidget(self.nothing)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.stack)

    def _act(self, text: str, act: Callable[[], object], primary: bool = False) -> QPushButton:
        return button(text, act, primary)

    def _path(self) -> Path | None:
        return self.row.path if self.row else None

    # -------------------------------------------------------------- showing

    def show_page(self, name: str) -> None:
        """One of :data:`PAGES`."""
        name = name if name in PAGES else PAGES[0]
        self.tabs[name].setChecked(True)
        self.pages.setCurrentIndex(PAGES.index(name))
        self.page_changed.emit(name)

    def show_run(self, row: Row | None) -> None:
        """Another run, or none: everything of the last one goes."""
        self.row = row
        self.shown, self._chosen_step = row.path if row else None, False
        self._clear()
        self.stack.setCurrentIndex(0 if row else 1)
        if row is not None:
            self.show_row(row)

    def _clear(self) -> None:
        row = self.row
        self.series, self.newest = {}, {}
        self.loading = row is not None
        self.log.clear()
        self.output.clear()
        self.recipe.clear()
        self._told = ""
        self.trouble.dismiss()
        self.curves.show_run(self.series, self._why_empty())

    def show_row(self, row: Row, place: int = 0) -> None:
        """The same run, a little later."""
        self.row = row
        self.title.setText(row.name)
        sentence = SENTENCES.get(row.state, "")
        if row.state == "queued":
            sentence = "Starts next." if place <= 1 else f"Waits in the queue, number {place}."
        elif row.state == "failed" and row.reason:
            sentence = "Failed; what went wrong stands below."
        elif row.state == "stopped" and row.reason:
            sentence = f"{sentence} ({row.reason})"
        self.sentence.setText(sentence)
        self.bar.setValue(round(1000 * row.fraction))
        self.bar.setVisible(bool(row.epochs))
        self._show_steps(row)
        self._show_numbers(row)
        self._show_acts(row)
        self._show_trouble(row)
        self._show_results(row)
        self.curves.empty.setText(self._why_empty())

    def _show_steps(self, row: Row) -> None:
        """The steps of a chain as buttons; the one at work is shown until the user chooses another."""
        self.steps.setVisible(bool(row.steps))
        while len(self._step_buttons) < len(row.steps):
            made = QToolButton()
            made.setCheckable(True)
            made.clicked.connect(partial(self._choose_step, len(self._step_buttons)))
            self._step_group.addButton(made)
            self._step_row.insertWidget(len(self._step_buttons), made)
            self._step_buttons.append(made)
        for index, made in enumerate(self._step_buttons):
            made.setVisible(index < len(row.steps))
            if index < len(row.steps):
                step = row.steps[index]
                result = f"  {100 * step.accuracy:.1f} %" if step.accuracy is not None else ""
                name = step.path.name.partition("_")[2].replace("_", " ")
                text = f"{SIGNS[step.state]} {name}{result}"
                if made.text() != text:
                    made.setText(text)
                    made.setAccessibleName(f"Step {name}, {step.state}{result}")
        if row.steps and not self._chosen_step:
            begun = [step for step in row.steps if step.state != "new"]
            wanted = next((step for step in begun if step.alive), begun[-1] if begun else row.steps[0])
            self._step_to(wanted.path)

    def _choose_step(self, index: int) -> None:
        if self.row is not None and index < len(self.row.steps):
            self._chosen_step = True
            self._step_to(self.row.steps[index].path)

    def _step_to(self, path: Path) -> None:
        for index, step in enumerate(self.row.steps if self.row else ()):
            self._step_buttons[index].setChecked(step.path == path)
        if path != self.shown:
            self.shown = path
            self._clear()
            self.step_changed.emit(path)

    def _why_empty(self) -> str:
        if self.loading:
            return "Reading…"
        state = self.row.state if self.row else ""
        if state in ("queued", "starting", "running"):
            return "Curves appear with the first numbers of the run."
        return "This run has no numbers yet."

    def _show_acts(self, row: Row) -> None:
        going_on = row.state in ("stopped", "cancelled", "failed", "interrupted", "new")
        self.stop.setVisible(row.state in ("running", "starting", "stopping"))
        self.stop.setEnabled(row.state != "stopping")
        self.cancel.setVisible(row.alive or row.state == "queued")
        self.cancel.setText("Take out of the queue" if row.state == "queued" else "Cancel")
        self.resume.setVisible(going_on)
        self.models.setVisible(row.state == "finished" and row.checkpoint)
        self.remove.setEnabled(not row.alive)

    def _show_numbers(self, row: Row) -> None:
        muted = theme.current().muted
        parts: list[tuple[str, str]] = []
        if row.steps:
            parts.append(("Steps", f"{sum(step.state == 'finished' for step in row.steps)} of {len(row.steps)}"))
        row = next((step for step in row.steps if step.path == self.shown), row)
        if row.epochs:
            parts.append(("Epoch", f"{row.epoch} of {row.epochs}"))
        for name, head in (("loss", "Loss"), ("train_top1", "Training"), ("lr", "Rate")):
            if isinstance(self.newest.get(name), float):
                parts.append((head, number(name, self.newest[name])))
        if row.accuracy is not None:
            parts.append(("Test", f"{100 * row.accuracy:.1f} %"))
        for name, head in (("clips_per_s", "Clips/s"), ("memory_mib", "Memory")):
            if isinstance(self.newest.get(name), (int, float)):
                parts.append((head, number(name, self.newest[name])))
        if row.state == "running" and row.eta_s is not None:
            parts.append(("Time left, about", duration(row.eta_s)))
        gap = "&nbsp;&nbsp;&nbsp;&nbsp;"
        text = gap.join(
            f"<span style='color:{muted}'>{_unbroken(head)}</span>&nbsp;<b>{_unbroken(value)}</b>"
            for head, value in parts
        )
        # A space at every gap lets the line break there.
        self.numbers.setText(text.replace(gap, f"{gap} "))
        self.numbers.setVisible(bool(parts))

    def _show_trouble(self, row: Row) -> None:
        told = f"{row.state}\n{row.reason}\n{row.said}" if row.state in ("failed", "interrupted") else ""
        if told == self._told:
            return
        self._told = told
        if not told:
            self.trouble.dismiss()
            return
        if row.state == "failed":
            text = row.reason or "It ended with an error."
        else:
            text = "The run's process died without a word of its own: it was killed, or the machine went down."
        self.trouble.show_message(text, row.said, error=True, unfold=True)

    def _show_results(self, row: Row) -> None:
        self.tabs["results"].setEnabled(bool(row.results))
        rows = ""
        for result in row.results:
            words = "".join(f"<td>{escape(str(result.get(key, '')))}</td>" for key in ("name", "dataset", "split"))
            shares = "".join(f"<td align='right'>{_share(result.get(key))}</td>" for key in ("top1", "top5"))
            rows += f"<tr>{words}{shares}<td align='right'>{escape(str(result.get('count', '')))}</td></tr>"
        head = "".join(
            f"<th align='{side}'>{name}</th>"
            for name, side in (
                ("Measured on", "left"),
                ("Dataset", "left"),
                ("Split", "left"),
                ("Top 1", "right"),
                ("Top 5", "right"),
                ("Count", "right"),
            )
        )
        html = f"<table cellspacing='0' cellpadding='5' width='100%'><tr>{head}</tr>{rows}</table>" if rows else ""
        if html != self._results_html:
            self._results_html = html
            self.results.setHtml(html)

    _results_html = ""

    def add(self, piece: Piece) -> None:
        """New events of the run that is shown."""
        if piece.restarted:
            self.series.clear()
            self.newest.clear()
            self.log.clear()
        apply(piece, self.series)
        self.newest |= piece.newest
        self.loading = piece.more
        if piece.lines:
            self._append(self.log, "\n".join(piece.lines))
        if piece.changes or piece.restarted:
            if not self._drawn.isActive():
                self._drawn.start()
        elif not piece.more:
            self.curves.empty.setText(self._why_empty())

    @staticmethod
    def _append(edit: QPlainTextEdit, text: str) -> None:
        """Add lines; the view follows only if its end was in sight."""
        bar = edit.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 4
        edit.appendPlainText(text)
        if at_end:
            bar.setValue(bar.maximum())

    def _draw(self) -> None:
        if self.pages.currentWidget() is self.curves:
            self.curves.refresh()

    def show_texts(self, output: str, recipe: str) -> None:
        """What the process wrote and the recipe, as text."""
        for edit, text, none in (
            (self.output, output, "Nothing was written. Runs that were started elsewhere keep no output here."),
            (self.recipe, recipe, "No recipe."),
        ):
            text = text or none
            if edit.toPlainText() != text:
                bar = edit.verticalScrollBar()
                place, at_end = bar.value(), bar.value() >= bar.maximum() - 4
                edit.setPlainText(text)
                bar.setValue(bar.maximum() if at_end and edit is self.output else place)

    def retheme(self) -> None:
        self.curves.retheme()
        if self.row is not None:
            self._show_numbers(self.row)

    # --------------------------------------------------------------- saving

    def _ask_file(self, suffix: str, save: Callable[[Path], object]) -> None:
        name = self.row.name if self.row else "curves"
        dialog = QFileDialog(self, "Save the curves", f"{name}.{suffix}")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix(suffix)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        dialog.fileSelected.connect(lambda path: save(Path(path)))
        dialog.open()

    def _save_csv(self, path: Path) -> None:
        self.work_wanted.emit(self.curves.csv_writer(path))

    def _open_folder(self) -> None:
        if self.row is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.row.path)))


def _unbroken(text: str) -> str:
    return escape(text).replace(" ", "&nbsp;")


def _share(value: object) -> str:
    return f"{100 * value:.2f} %" if isinstance(value, float) else "–"
