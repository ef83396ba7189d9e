"""One line to type a name into: of a pack, of an action. No dialog in the way."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLineEdit, QWidget

from skelapp.widgets import button

LONGEST = 80  # characters


class NameBar(QFrame):
    """Hidden until :meth:`ask`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("banner", "info")
        self._done: Callable[[str], object] | None = None
        self.label = QLabel()
        self.edit = QLineEdit()
        self.edit.setMaxLength(LONGEST)
        self.edit.setAccessibleName("Name")
        self.edit.returnPressed.connect(self._enter)
        self.act = button("OK", self._enter, primary=True)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 8, 10, 8)
        layout.addWidget(self.label)
        layout.addWidget(self.edit, 1)
        layout.addWidget(self.act)
        layout.addWidget(button("Cancel", self.hide))
        self.hide()

    def ask(self, question: str, act: str, done: Callable[[str], object], text: str = "", hint: str = "") -> None:
        """Ask for a name; ``done`` gets it."""
        self._done = done
        self.label.setText(question)
        self.act.setText(act)
        self.edit.setPlaceholderText(hint)
        self.edit.setText(text)
        self.edit.setAccessibleName(question)
        self.show()
        self.edit.setFocus()
        self.edit.selectAll()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.hide()
        else:
            super().keyPressEvent(event)

    def _enter(self) -> None:
        name = " ".join(self.edit.text().split())
        if name and self._done is not None:
            self.hide()
            self._done(name)
