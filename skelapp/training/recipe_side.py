"""The left side of the panel: where a recipe begins, its form, what this machine makes of it, and *Start*."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from engine.training.recipe import TASKS, RecipeError
from engine.training.recipe_fields import title_of
from engine.training.run_folder import RunError, name_problem
from skelapp.dialogs import ask_file, ask_place
from skelapp.settings import SettingsStore
from skelapp.training.choices import CHAIN, Choices, Starter, choice_of, task_title
from skelapp.training.draft import MAX_UNDO, Draft, read_recipe_file, write_recipe_file
from skelapp.training.fields import NoStrayWheel, make_searchable
from skelapp.training.form import RecipeForm
from skelapp.training.machine import Machine
from skelapp.training.watch import threads_here
from skelapp.widgets import Banner, ElidedLabel, button

YAML_FILTER = "Recipes (*.yaml *.yml)"


class RecipeSide(QWidget):
    """Makes recipes; ``start_wanted`` carries one as plain data, and whether its protocols shall follow as a chain."""

    start_wanted = Signal(object, bool)
    data_wanted = Signal()

    def __init__(self, settings: SettingsStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self.machine: Machine | None = None
        self.busy = False
        self._before: list[Draft] = []
        self.banner = Banner()
        self.form = RecipeForm()
        self.form.extra = self._complaints
        self.task = QComboBox()
        self.task.setAccessibleName("Task")
        for name in TASKS:
            if name == CHAIN:
                continue  # a pretraining with its box ticked, or a file
            self.task.addItem(task_title(name), name)
        self.task.activated.connect(lambda index: self.begin_task(self.task.itemData(index)))
        self.starter = QComboBox()
        self.starter.setAccessibleName("Recipe to begin with")
        self.starter.setToolTip("A published recipe fills the form; what you change after that is highlighted")
        self.starter.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.starter.setMinimumContentsLength(14)
        self.starter.activated.connect(lambda index: self.begin_with(self.starter.itemData(index)))
        make_searchable(self.starter)  # there are many
        completer = self.starter.completer()
        if completer is not None:
            completer.activated.connect(self._typed_starter)
        guard = NoStrayWheel(self)
        for box in (self.task, self.starter):
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # the wheel gives none, or the guard would let it through
            box.installEventFilter(guard)
        self.match = ElidedLabel()
        self.match.setProperty("role", "muted")
        self.use_match = button("Use it", self._use_match, tip="Fill the form with this recipe")
        self._match: Starter | None = None
        self.undo = button("Undo", self.take_back, tip="Take the last change of the form back")
        self.start = button("Start", self._start, primary=True, tip="Start this recipe as a run (Ctrl+Return)")
        self.start.setMinimumHeight(34)
        # Not the button's own shortcut: another text on the button takes that away.
        keys = QShortcut(QKeySequence("Ctrl+Return"), self, self._start)
        keys.setAutoRepeat(False)
        self.chain = QCheckBox("Then judge it: neighbours, linear, fine-tuning")
        self.chain.setToolTip("A chain: the protocols of the method's paper follow, all of it as one entry of the list")
        self.chain.setChecked(True)
        self.chain.hide()
        self.plan = QLabel()
        self.plan.setWordWrap(True)
        self.has = QLabel("Looking at what this machine has…")
        self.has.setProperty("role", "muted")
        self.has.setWordWrap(True)
        self.wrong = ElidedLabel()
        self.wrong.setProperty("role", "error")
        self.show_wrong = button("Show", self.form.show_problem, tip="Go to the field that is to be corrected")
        self.prepare = button("Open Data", self.data_wanted.emit, tip="Datasets are prepared in the Data panel")
        self._build()
        self.form.edited.connect(self._edited)
        self.form.checked.connect(self._show_state)
        self._show_state()

    def _build(self) -> None:
        head = QLabel("New run")
        head.setProperty("role", "section")
        bar = QHBoxLayout()
        bar.setSpacing(6)
        bar.addWidget(head)
        bar.addStretch(1)
        bar.addWidget(self.undo)
        bar.addWidget(button("Open…", self.ask_open, tip="Open a recipe (YAML)"))
        bar.addWidget(button("Save…", self.ask_save, tip="Save this recipe (YAML)"))
        foot = QHBoxLayout()
        foot.setSpacing(6)
        foot.addWidget(self.wrong, 1)
        foot.addWidget(self.prepare)
        foot.addWidget(self.show_wrong)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(bar)
        layout.addWidget(self.task)
        layout.addWidget(self.starter)
        found = QHBoxLayout()
        found.setSpacing(6)
        found.addWidget(self.match, 1)
        found.addWidget(self.use_match)
        layout.addLayout(found)
        layout.addWidget(self.banner)
        layout.addWidget(self.form, 1)
        layout.addWidget(self.chain)
        layout.addWidget(self.plan)
        layout.addWidget(self.has)
        layout.addLayout(foot)
        layout.addWidget(self.start)

    # -------------------------------------------------------------- content

    def set_choices(self, choices: Choices) -> None:
        """What there is to choose from; the first time the form is filled with what was last in it."""
        first = not self.form.choices.starters
        self.form.set_choices(choices)
        if first:
            kept = self._settings.values.memory.training_draft
            try:
                self._restore(kept)
            except (RecipeError, KeyError, TypeError):
                self.begin_task("supervised")

    def _restore(self, kept: dict[str, Any]) -> None:
        draft = Draft(kept["base"])
        values = kept["values"]
        if not isinstance(values, dict):
            raise TypeError("values")
        draft.values = Draft(values).values
        self._load(draft)

    def starters(self, task: str) -> list[Starter]:
        """Published recipes of a task, those whose dataset is prepared here first."""
        found = [starter for starter in self.form.choices.starters if starter.task == task]
        return sorted(found, key=lambda starter: not self._prepared(starter.data.get("dataset")))

    def _prepared(self, name: object) -> bool:
        store = self.form.choices.store(name) if isinstance(name, str) else None
        return store is not None and store.prepared

    def _typed_starter(self, title: str) -> None:
        index = self.starter.findText(title)
        if index >= 0:
            self.begin_with(self.starter.itemData(index))

    def _use_match(self) -> None:
        if self._match is not None:
            self.begin_with(self._match)

    def _find_match(self) -> None:
        """A published recipe for what was chosen, where the form began with one for something else."""
        draft = self.form.draft
        self._match = None
        if draft is not None:
            wanted = choice_of(draft.values)
            if wanted != choice_of(draft.base):
                self._match = next((s for s in self.form.choices.starters if s.choice == wanted), None)
        self.match.setText(f"Published for this choice: {self._match.title}" if self._match else "")
        self.match.setVisible(self._match is not None)
        self.use_match.setVisible(self._match is not None)

    def begin_task(self, task: str) -> None:
        """The first published recipe of a task, or the task's defaults with what is known of the data."""
        found = self.starters(task)
        self.begin_with(found[0] if found else None, task)

    def begin_with(self, starter: Starter | None, task: str = "") -> None:
        """Fill the form with a recipe that ships; None means the defaults of the task."""
        task = starter.task if starter else task or self.task.currentData()
        if starter:
            data = dict(starter.data)
        else:
            data = {"task": task}
            old = self.form.draft
            for name in ("dataset", "split"):
                if old is not None and isinstance(old.values.get(name), str) and task not in _FROM_PARENT:
                    data[name] = old.values[name]
        self.open_data(data)

    def open_data(self, data: dict[str, Any]) -> bool:
        """Fill the form with a recipe's fields, a step of undo; a banner says why it can't be."""
        old = self.form.draft
        try:
            draft = Draft(data)
        except RecipeError as error:
            self.banner.show_message(str(error), error=True)
            return False
        if old is not None and old.values != draft.values:
            self._before = [*self._before, old][-MAX_UNDO:]
        self._load(draft)
        self.banner.dismiss()
        self._edited()
        return True

    def take_back(self) -> bool:
        """Undo the form's last change, or else the choice of its recipe; False when there is nothing to undo."""
        if self.form.draft is not None and self.form.draft.can_undo:
            self.form.undo()
        elif self._before:
            self._load(self._before.pop())
            self._edited()
        else:
            return False
        return True

    def _load(self, draft: Draft) -> None:
        with QSignalBlocker(self.task), QSignalBlocker(self.starter):
            if self.task.findData(draft.task) < 0:
                self.task.addItem(task_title(draft.task), draft.task)
            self.task.setCurrentIndex(self.task.findData(draft.task))
            self.starter.clear()
            found = self.starters(draft.task)
            for starter in found:
                self.starter.addItem(starter.title, starter)
            self.starter.addItem("Defaults of the task", None)
            titles = [starter.data.get("name") for starter in found]
            name = draft.base.get("name")
            if name in titles:
                self.starter.setCurrentIndex(titles.index(name))
            elif name:
                self.starter.addItem(f"As {name}", None)
                self.starter.setCurrentIndex(self.starter.count() - 1)
            else:
                self.starter.setCurrentIndex(len(titles))
            line = self.starter.lineEdit()
            if line is not None:
                line.setCursorPosition(0)
        self.chain.setVisible(draft.task == "pretrain")
        self.form.load(draft)

    def set_machine(self, machine: Machine) -> None:
        self.machine = machine
        self.has.setText("\n".join(machine.lines()))
        self.form.check()

    def set_busy(self, busy: bool) -> None:
        """Whether a new run has to wait for others."""
        self.busy = busy
        self.start.setText("Add to the queue" if busy else "Start")

    def _edited(self) -> None:
        draft = self.form.draft
        if draft is not None:
            kept = {"base": draft.base, "values": draft.values}
            self._settings.set("memory.training_draft", kept)

    def _complaints(self, values: dict[str, Any]) -> dict[str, str]:
        found = self.machine.complaints(values) if self.machine else {}
        name = values.get("dataset")
        if name and not self._prepared(name):
            found["dataset"] = "This dataset is not prepared here; prepare it in the Data panel."
        if problem := name_problem(str(values.get("name") or "")):
            found["name"] = f"{problem[0].upper()}{problem[1:]}."
        return found

    def _show_state(self) -> None:
        form = self.form
        count = len(form.problems)
        text = form.problem_text()
        first = next(iter(form.problems), "")
        self.wrong.setText(f"To be corrected: {title_of(first) if count == 1 and first else f'{count} fields'}")
        self.wrong.setToolTip(text)
        self.wrong.setVisible(bool(count))
        self.show_wrong.setVisible(bool(count))
        self.prepare.setVisible("not prepared" in form.problems.get("dataset", ""))
        self._find_match()
        self.start.setEnabled(not count and form.draft is not None)
        self.undo.setEnabled(bool(self._before) or (form.draft is not None and form.draft.can_undo))
        if self.machine is not None and form.draft is not None and not self.machine.problem:
            threads = threads_here(self._settings.values.training.threads)
            self.plan.setText(self.machine.plan(form.draft.values, threads))

    # ----------------------------------------------------------------- acts

    def _start(self) -> None:
        self.form.take_typed()
        self.form.check()
        if self.form.draft is not None and not self.form.problems:
            chain = self.form.draft.task == "pretrain" and self.chain.isChecked()
            self.start_wanted.emit(self.form.draft.as_data(), chain)

    def open_file(self, path: Path) -> bool:
        """Fill the form from a YAML file."""
        try:
            data = read_recipe_file(path)
        except RecipeError as error:
            self.banner.show_message(str(error), error=True)
            return False
        return self.open_data(data)

    def save_file(self, path: Path) -> bool:
        """Write the form's recipe as YAML."""
        if self.form.draft is None:
            return False
        try:
            write_recipe_file(path, self.form.draft.as_data())
        except RunError as error:
            self.banner.show_message(str(error), error=True)
            return False
        note = " It still has fields to correct." if self.form.problems else ""
        self.banner.show_message(f"Saved {path}.{note}")
        return True

    def ask_open(self) -> None:
        ask_file(self, "Open a recipe", self.open_file, YAML_FILTER)

    def ask_save(self) -> None:
        name = str(self.form.draft.get("name")) if self.form.draft else "recipe"
        ask_place(self, "Save this recipe", f"{name}.yaml", self.save_file, YAML_FILTER)


# Tasks whose data are their parent's unless something else is asked for.
_FROM_PARENT = ("knn", "linear", "finetune", "semi")
