"""The selected run: where it stands, what can be done, its curves, log, output, recipe and results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPlainTextEdit,
    QProgressBar,
    QStackedWidget,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from skelapp.dialogs import Act, ask_place, save
from skelapp.training.curves import CurvesView
from skelapp.training.progress import Piece, apply
from skelapp.training.run_words import numbers_html, results_html, sentence, trouble, why_empty
from skelapp.training.runs import Row
from skelapp.training.series import Series
from skelapp.training.step_row import StepRow
from skelapp.widgets import Banner, ElidedLabel, button

PAGES = ("curves", "log", "output", "recipe", "results")
LOG_LINES = 20_000
DRAW_MS = 60
EMPTY = "Select a run to see its curves, or make one in the form on the left."


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
    work_wanted = Signal(object, object)  # something slow for a worker, and what it writes

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.row: Row | None = None
        # The folder whose events are shown: the run's own, or that of a step of a chain.
        self.shown: Path | None = None
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
        self.steps = StepRow()
        self.steps.changed.connect(self._step_to)
        self.numbers = QLabel()
        self.numbers.setTextFormat(Qt.TextFormat.RichText)
        self.numbers.setWordWrap(True)
        self.trouble = Banner()
        self.banner = Banner()
        self.curves = CurvesView()
        self.log = _text("Log of the run")
        self.log.setMaximumBlockCount(LOG_LINES)
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.output = _text("What the process wrote")
        self.recipe = _text("Recipe of the run")
        self.results = QTextBrowser()
        self.results.setAccessibleName("Results of the run")
        self.results.setOpenLinks(False)
        self.results.document().setDocumentMargin(14)
        self._results_html = ""
        self._told = ""
        self._drawn = QTimer(self)
        self._drawn.setSingleShot(True)
        self._drawn.setInterval(DRAW_MS)
        self._drawn.timeout.connect(self._draw)
        self._build()
        self.show_run(None)

    # ------------------------------------------------------------- building

    def _acts(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.title, 1)

        def act(text: str, wish: Any, tip: str = "", primary: bool = False) -> Any:
            made = button(text, lambda: wish.emit(self.row.path if self.row else None), primary, tip)
            row.addWidget(made)
            return made

        self.stop = act(
            "Stop and keep", self.stop_wanted, "It finishes its step and saves; Resume goes on exactly there"
        )
        self.cancel = act("Cancel", self.cancel_wanted, "Ends at once; what was saved last stays")
        tip = "Go on from what was saved last; it waits in the queue while another run goes on"
        self.resume = act("Resume", self.resume_wanted, tip, primary=True)
        self.models = act("Show in Models", self.models_wanted, primary=True)
        self.duplicate = act("Duplicate", self.duplicate_wanted, "Put this run's recipe into the form, as a new run")
        self.remove = act("Delete…", self.delete_wanted, "Moved aside for a week; can be undone")
        return row

    def _tab_row(self) -> QHBoxLayout:
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
        tabs.addWidget(self._save_menu())
        return tabs

    def _save_menu(self) -> QToolButton:
        made = QToolButton()
        made.setText("Save curves")
        made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        made.setProperty("menuButton", True)
        menu = QMenu(made)
        menu.addAction("As picture (PNG)…", lambda: self._ask("png", self.save_png))
        menu.addAction("As table (CSV)…", lambda: self._ask("csv", self.save_csv))
        menu.addAction("Open the run's folder", self._open_folder)
        made.setMenu(menu)
        return made

    def _build(self) -> None:
        whole = QFrame()
        whole.setProperty("card", True)
        inner = QVBoxLayout(whole)
        inner.setContentsMargins(16, 12, 16, 10)
        inner.setSpacing(8)
        inner.addLayout(self._acts())
        for widget in (self.sentence, self.bar, self.steps, self.numbers, self.trouble, self.banner):
            inner.addWidget(widget)
        inner.addLayout(self._tab_row())
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
        self.shown = row.path if row else None
        self.steps.forget()
        self._clear()
        self.stack.setCurrentIndex(0 if row else 1)
        if row is not None:
            self.show_row(row)

    def _clear(self) -> None:
        self.series, self.newest = {}, {}
        self.loading = self.row is not None
        for text in (self.log, self.output, self.recipe):
            text.clear()
        self._told = ""
        self.trouble.dismiss()
        self.banner.dismiss()
        self.curves.show_run(self.series, why_empty(self.row, self.loading))

    def show_row(self, row: Row, place: int = 0) -> None:
        """The same run, a little later."""
        self.row = row
        self.title.setText(row.name)
        self.sentence.setText(sentence(row, place))
        self.bar.setValue(round(1000 * row.fraction))
        self.bar.setVisible(bool(row.epochs))
        self.steps.show_steps(row.steps)
        self._show_numbers(row)
        self._show_acts(row)
        self._show_trouble(row)
        self._show_results(row)
        self.curves.empty.setText(why_empty(row, self.loading))

    def _step_to(self, path: Path) -> None:
        if path != self.shown:
            self.shown = path
            self._clear()
            self.step_changed.emit(path)

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
        text = numbers_html(row, self.shown, self.newest)
        self.numbers.setText(text)
        self.numbers.setVisible(bool(text))

    def _show_trouble(self, row: Row) -> None:
        text = trouble(row)
        told = f"{row.state}\n{text}\n{row.said}" if text else ""
        if told == self._told:
            return
        self._told = told
        if text:
            self.trouble.show_message(text, row.said, error=True, unfold=True)
        else:
            self.trouble.dismiss()

    def _show_results(self, row: Row) -> None:
        self.tabs["results"].setEnabled(bool(row.results))
        html = results_html(row)
        if html != self._results_html:
            self._results_html = html
            self.results.setHtml(html)

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
            _append(self.log, "\n".join(piece.lines))
        if piece.changes or piece.restarted:
            if not self._drawn.isActive():
                self._drawn.start()
        elif not piece.more:
            self.curves.empty.setText(why_empty(self.row, self.loading))

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

    def _ask(self, suffix: str, act: Act) -> None:
        ask_place(self, "Save the curves", f"{self.row.name if self.row else 'curves'}.{suffix}", act)

    def save_png(self, path: Path) -> bool:
        """Write the plots as they are seen; a banner says whether it could be done."""
        return save(self.banner, path, self.curves.save_png)

    def save_csv(self, path: Path) -> None:
        """Write all points on the worker; whoever owns it says when they are written."""
        self.work_wanted.emit(self.curves.csv_writer(path), path)

    def _open_folder(self) -> None:
        if self.row is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.row.path)))


def _text(name: str) -> QPlainTextEdit:
    edit = QPlainTextEdit()
    edit.setReadOnly(True)
    edit.setAccessibleName(name)
    edit.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
    edit.setTabChangesFocus(True)
    return edit


def _append(edit: QPlainTextEdit, text: str) -> None:
    """Add lines; the view follows only if its end was in sight."""
    bar = edit.verticalScrollBar()
    at_end = bar.value() >= bar.maximum() - 4
    edit.appendPlainText(text)
    if at_end:
        bar.setValue(bar.maximum())
