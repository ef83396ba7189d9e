"""The form of a recipe: few fields first, the others folded; changes stand out, errors stand at their field."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QGridLayout, QScrollArea, QToolButton, QVBoxLayout, QWidget

from engine.training.recipe_fields import FieldSpec, fields_of, title_of
from skelapp.training.choices import Choices
from skelapp.training.draft import Draft
from skelapp.training.fields import LABEL_WIDTH, FieldRow, NoStrayWheel

# The fields that are seen at first, where a task has them.
FIRST = (
    "parent", "method", "backbone", "preprocessing.stream", "parent_stream", "dataset", "split", "fraction", "k",
    "epochs", "batch", "optimiser.lr", "accelerator", "precision", "name",
)  # fmt: skip
_EXECUTION = {"threads", "devices", "nodes", "compile", "sync_batchnorm"}
_CARD = {"title", "limits", "source"}
BUILD_MS = 4.0  # of building at a time: the window goes on in between
CHECK_MS = 120


def section_of(spec: FieldSpec) -> str:
    """The fold a field is found in."""
    if spec.section:
        return title_of(spec.section)
    if spec.name in _EXECUTION:
        return "Execution"
    return "Name and card" if spec.name in _CARD else "Method and data"


class Fold(QWidget):
    """A head to click and a body that is built when it is first opened."""

    def __init__(self, title: str, specs: list[FieldSpec]) -> None:
        super().__init__()
        self.title, self.specs = title, specs
        self.built = False
        self.head = QToolButton()
        self.head.setProperty("tab", True)
        self.head.setCheckable(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setAccessibleName(f"Section {title}")
        self.body = QWidget()
        self.grid = new_grid(self.body)
        self.body.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.head, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.body)
        self.note(0, 0)

    def note(self, changed: int, wrong: int) -> None:
        """Say in the head what the closed body would show."""
        marks = [f"{changed} changed"] * bool(changed) + [f"{wrong} to correct"] * bool(wrong)
        arrow = "▾" if self.head.isChecked() else "▸"
        text = f"{arrow}  {self.title}{'  –  ' if marks else ''}{', '.join(marks)}"
        if self.head.text() != text:
            self.head.setText(text)


def new_grid(parent: QWidget) -> QGridLayout:
    grid = QGridLayout(parent)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(8)
    grid.setVerticalSpacing(2)
    grid.setColumnMinimumWidth(0, LABEL_WIDTH)
    grid.setColumnStretch(1, 1)
    return grid


class RecipeForm(QScrollArea):
    """Edits a :class:`Draft`; ``edited`` when the user changed something, ``checked`` when all of it was looked at."""

    edited = Signal()
    checked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.draft: Draft | None = None
        self.choices = Choices()
        self.rows: dict[str, FieldRow] = {}
        self.folds: list[Fold] = []
        self.problems: dict[str, str] = {}
        self.extra: Callable[[dict[str, Any]], dict[str, str]] = lambda values: {}
        self._specs: dict[str, FieldSpec] = {}
        self._guard = NoStrayWheel(self)
        self._waiting: deque[Callable[[], None]] = deque()
        self._builder = QTimer(self)
        self._builder.setInterval(0)
        self._builder.timeout.connect(self._build_some)
        self._check = QTimer(self)
        self._check.setSingleShot(True)
        self._check.setInterval(CHECK_MS)
        self._check.timeout.connect(self.check)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._page = QWidget()
        self._first = new_grid(self._page)
        self.setWidget(QWidget())

    # ------------------------------------------------------------- building

    def load(self, draft: Draft) -> None:
        """Show a draft: the form is made anew where its task is another one."""
        same = self.draft is not None and self.draft.task == draft.task
        self.draft = draft
        if not same:
            self._make()
        self.show_all()

    def _make(self) -> None:
        assert self.draft is not None
        self._waiting.clear()
        self.rows, self.folds = {}, []
        specs = fields_of(self.draft.model)
        self._specs = {spec.name: spec for spec in specs}
        page = QWidget()
        page.setObjectName("recipeFields")
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 10, 0)
        layout.setSpacing(6)
        first = QWidget()
        self._first = new_grid(first)
        layout.addWidget(first)
        self.more = QToolButton()
        self.more.setText("More settings")
        self.more.setCheckable(True)
        self.more.toggled.connect(self._show_more)
        layout.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        by_section: dict[str, list[FieldSpec]] = {}
        for spec in specs:
            if spec.name not in FIRST:
                by_section.setdefault(section_of(spec), []).append(spec)
        self._folds = QWidget()
        inner = QVBoxLayout(self._folds)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        order = ["Method and data", "Optimiser", "Preprocessing", "Augmentation"]
        for title in sorted(by_section, key=lambda t: (order.index(t) if t in order else 9, t)):
            fold = Fold(title, by_section[title])
            fold.head.toggled.connect(partial(self._open_fold, fold))
            self.folds.append(fold)
            inner.addWidget(fold)
        self._folds.hide()
        layout.addWidget(self._folds)
        layout.addStretch(1)
        old = self.takeWidget()
        if old is not None:
            old.deleteLater()
        self.setWidget(page)
        for name in FIRST:
            if name in self._specs:
                self._later(self._specs[name], self._first)

    def _later(self, spec: FieldSpec, grid: QGridLayout) -> None:
        self._waiting.append(lambda: self._add(spec, grid))
        self._builder.start()

    def _build_some(self) -> None:
        began = time.perf_counter()
        while self._waiting and (time.perf_counter() - began) * 1000 < BUILD_MS:
            self._waiting.popleft()()
        if not self._waiting:
            self._builder.stop()
            self._show_marks()

    def build_now(self) -> None:
        """Finish what is being built, for whoever needs all rows at once."""
        while self._waiting:
            self._waiting.popleft()()

    @property
    def building(self) -> bool:
        return bool(self._waiting)

    def _add(self, spec: FieldSpec, grid: QGridLayout) -> None:
        assert self.draft is not None
        row = FieldRow(spec, grid, self._changed, self.reset, self._guard, self._suggestions(spec.name))
        row.show(self.draft.get(spec.name))
        row.show_changed(bool(self.draft.changed([spec.name])), self.draft.published(spec.name))
        row.show_error(self._problem_at(spec.name))
        self.rows[spec.name] = row

    def _suggestions(self, name: str) -> list[tuple[str, str]] | None:
        if name == "dataset":
            return [(store.name, store.title) for store in self.choices.stores]
        if name == "split":
            chosen = self.draft.get("dataset") if self.draft else ""
            store = self.choices.store(chosen) if isinstance(chosen, str) else None
            return [(split, split) for split in (store.splits if store else ())]
        if name in ("parent", "start_from"):
            extra = [("random", "random (fresh weights)")] if name == "parent" else []
            return extra + [(found, found) for found in self.choices.checkpoints]
        return None

    def set_choices(self, choices: Choices) -> None:
        """Other stores and checkpoints to choose from."""
        self.choices = choices
        for name in ("dataset", "split", "parent", "start_from"):
            if name in self.rows:
                self.rows[name].suggest(self._suggestions(name) or ())
        self._check.start()

    def _show_more(self, on: bool) -> None:
        self.more.setText("Fewer settings" if on else "More settings")
        self._folds.setVisible(on)

    def _open_fold(self, fold: Fold, on: bool) -> None:
        fold.body.setVisible(on)
        if on and not fold.built:
            fold.built = True
            for spec in fold.specs:
                self._later(spec, fold.grid)
        self._show_marks()

    # -------------------------------------------------------------- editing

    def _changed(self, name: str, value: Any) -> None:
        if self.draft is None:
            return
        if isinstance(value, FieldRow):  # what was typed is no value
            self._check.start()
            return
        if not self.draft.change(name, value):
            self._check.start()
            return
        if name == "dataset" and "split" in self.rows:
            self._follow_dataset(str(value))
        self._show_marks()
        self._check.start()
        self.edited.emit()

    def take_typed(self) -> None:
        """Take over what was typed into a box that has the focus still; a key that starts a run leaves it there."""
        for row in self.rows.values():
            row.take_typed()

    def _follow_dataset(self, name: str) -> None:
        """Another dataset has other splits: its first one, where it lacks the present one."""
        assert self.draft is not None
        self.rows["split"].suggest(self._suggestions("split") or ())
        store = self.choices.store(name)
        if store and store.splits and self.draft.get("split") not in store.splits:
            self.draft.change("split", store.splits[0])
        self.rows["split"].show(self.draft.get("split"))

    def reset(self, name: str) -> None:
        """Give a field its published value again."""
        assert self.draft is not None
        if self.draft.reset(name):
            self.show_all()
            self.edited.emit()

    def undo(self) -> None:
        """Take the last change back."""
        if self.draft is not None and self.draft.undo():
            self.show_all()
            self.edited.emit()

    def show_all(self) -> None:
        """Show the draft's values everywhere."""
        assert self.draft is not None
        if "split" in self.rows:
            self.rows["split"].suggest(self._suggestions("split") or ())
        for name, row in self.rows.items():
            row.show(self.draft.get(name))
        self._show_marks()
        self.check()

    # ------------------------------------------------------------- checking

    def check(self) -> None:
        """Look at the whole recipe and say at each field what is wrong."""
        if self.draft is None:
            return
        self._check.stop()
        found = {self._home(name): text for name, text in self.extra(self.draft.values).items()}
        found |= {self._home(name): text for name, text in self.draft.errors().items()}
        found |= {name: row.typed_error for name, row in self.rows.items() if row.typed_error}
        self.problems = found
        for name, row in self.rows.items():
            row.show_error(self._problem_at(name))
        self._show_marks()
        self.checked.emit()

    def _home(self, name: str) -> str:
        """The field an error belongs to: ``milestones.0`` stands at ``milestones``."""
        while name and name not in self._specs:
            above = name.rpartition(".")[0]
            if not above:
                return name
            name = above
        return name

    def _problem_at(self, name: str) -> str:
        return self.problems.get(name, "")

    def problem_text(self) -> str:
        """Everything that is wrong, in one sentence or two."""
        texts = []
        for name, text in self.problems.items():
            title = self._specs[name].title if name in self._specs else title_of(name) if name else ""
            texts.append(f"{title}: {text}" if title else text)
        return "\n".join(texts)

    def show_problem(self) -> None:
        """Bring the first wrong field to the eye, out of its fold if need be."""
        for name in self.problems:
            fold = next((f for f in self.folds if any(spec.name == name for spec in f.specs)), None)
            if fold is not None:
                self.more.setChecked(True)
                fold.head.setChecked(True)
                self.build_now()
            if name in self.rows:
                # After the layout has placed what was just built.
                QTimer.singleShot(50, self, partial(self._go_to, name))
                return

    def _go_to(self, name: str) -> None:
        if name in self.rows:
            self.ensureWidgetVisible(self.rows[name].editor)
            self.rows[name].editor.setFocus()

    def _show_marks(self) -> None:
        if self.draft is None:
            return
        changed = self.draft.changed(list(self._specs))
        for name, row in self.rows.items():
            row.show_changed(name in changed, self.draft.published(name))
        for fold in self.folds:
            names = {spec.name for spec in fold.specs}
            fold.note(len(names & changed), len(names & set(self.problems)))
