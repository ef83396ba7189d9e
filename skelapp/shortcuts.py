"""All keys of the window in one table, and the page F1 shows, made from the same table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QAbstractButton, QApplication, QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from skelapp.widgets import button


@dataclass(frozen=True)
class Key:
    """One shortcut: its keys as Qt writes them, what it does in words, and the act."""

    keys: str
    words: str
    act: Callable[[], object]


def install(window: QWidget, keys: list[Key]) -> list[QShortcut]:
    """Make the shortcuts work in a window."""
    made = []
    for key in keys:
        shortcut = QShortcut(QKeySequence(key.keys), window)
        shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
        shortcut.setAutoRepeat(False)
        shortcut.activated.connect(_unless_button(key.act) if key.keys == "Space" else key.act)
        made.append(shortcut)
    return made


def _unless_button(act: Callable[[], object]) -> Callable[[], None]:
    """Space presses the button the keyboard has walked to; everywhere else it is the program's own key."""

    def pressed() -> None:
        widget = QApplication.focusWidget()
        if isinstance(widget, QAbstractButton) and widget.isEnabled():
            widget.click()
        else:
            act()

    return pressed


class KeyPage(QFrame):
    """The list of all keys, over the window; F1, Escape or the button closes it."""

    def __init__(self, keys: list[Key], parent: QWidget) -> None:
        super().__init__(parent)
        self._around = parent
        self.setProperty("card", True)
        self.setAccessibleName("Keyboard shortcuts")
        title = QLabel("Keyboard")
        title.setProperty("role", "title")
        grid = QGridLayout()
        grid.setHorizontalSpacing(28)
        grid.setVerticalSpacing(9)
        for row, key in enumerate(keys):
            name = QLabel(QKeySequence(key.keys).toString(QKeySequence.SequenceFormat.NativeText))
            name.setStyleSheet("font-weight: 600;")
            grid.addWidget(name, row, 0)
            grid.addWidget(QLabel(key.words), row, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(30, 22, 30, 22)
        layout.setSpacing(16)
        layout.addWidget(title)
        layout.addLayout(grid)
        self._close = button("Close", self.hide, primary=True)
        layout.addWidget(self._close, 0, Qt.AlignmentFlag.AlignRight)
        self.hide()

    def toggle(self) -> None:
        if self.isVisible():
            self.hide()
            return
        self.adjustSize()
        around = self._around.rect()
        self.move(around.center() - self.rect().center())
        self.show()
        self.raise_()
        self._close.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.hide()
        else:
            super().keyPressEvent(event)
