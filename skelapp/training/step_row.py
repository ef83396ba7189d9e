"""The steps of a chain as buttons; the one at work is shown until the user chooses another."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QToolButton, QWidget

from skelapp.training.runs import Row
from skelapp.training.runs_table import SIGNS


class StepRow(QWidget):
    """Hidden for runs without steps; ``changed`` with the folder of the step that is to be shown."""

    changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._steps: tuple[Row, ...] = ()
        self._shown: Path | None = None
        self._chosen = False
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(6)
        self._row.addStretch(1)
        self._buttons: list[QToolButton] = []
        self._group = QButtonGroup(self)
        self.hide()

    def forget(self) -> None:
        """Another run: nothing is chosen in it yet."""
        self._shown, self._chosen = None, False

    def show_steps(self, steps: tuple[Row, ...]) -> None:
        """The steps as they are now."""
        self._steps = steps
        self.setVisible(bool(steps))
        while len(self._buttons) < len(steps):
            made = QToolButton()
            made.setCheckable(True)
            made.clicked.connect(partial(self._choose, len(self._buttons)))
            self._group.addButton(made)
            self._row.insertWidget(len(self._buttons), made)
            self._buttons.append(made)
        for index, made in enumerate(self._buttons):
            made.setVisible(index < len(steps))
            if index < len(steps):
                self._label(made, steps[index])
        if steps and not self._chosen:
            begun = [step for step in steps if step.state != "new"]
            wanted = next((step for step in begun if step.alive), begun[-1] if begun else steps[0])
            self._go_to(wanted.path)

    @staticmethod
    def _label(made: QToolButton, step: Row) -> None:
        result = f"  {100 * step.accuracy:.1f} %" if step.accuracy is not None else ""
        name = step.path.name.partition("_")[2].replace("_", " ")
        text = f"{SIGNS[step.state]} {name}{result}"
        if made.text() != text:
            made.setText(text)
            made.setAccessibleName(f"Step {name}, {step.state}{result}")

    def _choose(self, index: int) -> None:
        if index < len(self._steps):
            self._chosen = True
            self._go_to(self._steps[index].path)

    def _go_to(self, path: Path) -> None:
        for step, made in zip(self._steps, self._buttons):
            made.setChecked(step.path == path)
        if path != self._shown:
            self._shown = path
            self.changed.emit(path)
