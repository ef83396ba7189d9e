"""A panel in a window of its own, for a second screen, and what stays in its place."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent
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
    """Holds a panel; closing it gives the panel back."""

    def __init__(self, panel: QWidget, empty: QWidget, title: str, closed: Callable[[], None]) -> None:
        super().__init__()
        self.placeholder = empty
        self._panel = panel
        self._closed = closed
        self.setWindowTitle(title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(panel)
        panel.show()
        self.resize(1100, 760)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._panel.setParent(None)
        self._closed()
        event.accept()
