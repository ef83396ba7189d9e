"""The two pages that begin with a name: the list of actions on the left, and the welcome where there is none yet."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from skelapp.teach.action_list import ActionList, ActionModel
from skelapp.teach.name_bar import LONGEST
from skelapp.widgets import button

WELCOME = "Name an action of your own, show it five times, and it is recognised at once."

MOST_SENTENCES = 4  # of look-alikes; the others stand in the tool tip


def _name_field(placeholder: str, name: str) -> QLineEdit:
    field = QLineEdit()
    field.setPlaceholderText(placeholder)
    field.setAccessibleName(name)
    field.setMaxLength(LONGEST)
    return field


class ActionSide(QWidget):
    """A field for a new action, the list, and which of them look alike."""

    named = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ActionModel()
        self.list = ActionList(self.model)
        self.new = _name_field("New action", "Name of a new action")
        self.add = button("Add", self._name)
        self.new.returnPressed.connect(self._name)
        self.new.textChanged.connect(lambda text: self.add.setEnabled(bool(text.strip())))
        self.add.setEnabled(False)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.new, 1)
        row.addWidget(self.add)
        self.alike = QLabel()
        self.alike.setWordWrap(True)
        self.alike.setTextFormat(Qt.TextFormat.PlainText)
        self.alike.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.alike.setAccessibleName("Which actions look alike")
        self.alike_box = QFrame()
        self.alike_box.setProperty("card", True)
        inside = QVBoxLayout(self.alike_box)
        inside.setContentsMargins(12, 10, 12, 10)
        inside.addWidget(self.alike)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(row)
        column.addWidget(self.list, 1)
        column.addWidget(self.alike_box)
        self.alike_box.hide()

    def _name(self) -> None:
        name = self.new.text().strip()
        self.new.clear()
        if name:
            self.named.emit(name)

    def show_alike(self, sentences: list[str]) -> None:
        """What a check found; the most confused first."""
        self.alike.setText("\n\n".join(sentences[:MOST_SENTENCES]))
        self.alike.setToolTip("\n".join(sentences[MOST_SENTENCES:]))
        self.alike_box.setVisible(bool(sentences))


class Welcome(QWidget):
    """One sentence and one act."""

    named = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        words = QLabel(WELCOME)
        words.setProperty("role", "title")
        words.setWordWrap(True)
        words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.first = _name_field("For example: call the waiter", "Name of your first action")
        self.first.setMinimumHeight(40)
        self.act: QPushButton = button("Teach it", self._name, primary=True)
        self.act.setMinimumHeight(40)
        self.first.returnPressed.connect(self._name)
        self.first.textChanged.connect(lambda text: self.act.setEnabled(bool(text.strip())))
        self.act.setEnabled(False)
        row = QHBoxLayout()
        row.addWidget(self.first, 1)
        row.addWidget(self.act)
        inner = QWidget()
        inner.setMaximumWidth(460)
        column = QVBoxLayout(inner)
        column.setSpacing(18)
        column.addWidget(words)
        column.addLayout(row)
        middle = QHBoxLayout(self)
        middle.setContentsMargins(0, 0, 0, 0)
        middle.addStretch(1)
        middle.addWidget(inner, 20, Qt.AlignmentFlag.AlignVCenter)
        middle.addStretch(1)

    def _name(self) -> None:
        name = self.first.text().strip()
        if name:
            self.first.clear()
            self.named.emit(name)
        else:
            self.first.setFocus()
