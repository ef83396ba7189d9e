"""A panel in a window of its own, for a second screen, and what stays in its place."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from skelapp.widgets import button


def placeholder(title: str, bring_back: Callable[[], object]) -> QWidget:
    """What the main window shows while a panel is away."""
    empty = QWidget()
    text = QLabel(f"{title} is in a window of its own.")
    text.setProperty("role", "muted")
    layout = QVBoxLayout(empty)
    layout.addStretch(1)
    layout.addWidget(text, 0, Qt.AlignmentFlag.AlignCenter)
    layout.addWidget(button("Bring it back", bring_back, primary=True), 0, Qt.AlignmentFlag.AlignCenter)
    layout.addStretch(1)
    return empty


class TornWindow(QWidget):
    """Holds a panel; closing it gives the panel back. What is dropped on it goes to the main window ``home``."""

    def __init__(self, panel: QWidget, empty: QWidget, title: str, closed: Callable[[], None], home: QWidget) -> None:
        super().__init__()
        self.placeholder = empty
        self._panel = panel
        self._closed = closed
        self._home = home
        self.setAcceptDrops(True)
        self.setWindowIcon(home.windowIcon())
        self.setWindowTitle(title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(panel)
        panel.show()
        self.resize(1100, 760)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        self._home.dragEnterEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        self._home.dropEvent(event)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._panel.setParent(None)
        self._closed()
        event.accept()
