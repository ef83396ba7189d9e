"""The place of the Training panel: light to make, so that the window opens at once; the rest is loaded on a thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QLabel, QStackedWidget, QVBoxLayout, QWidget

from engine import paths
from skelapp.context import Context
from skelapp.workers import Worker

if TYPE_CHECKING:
    from skelapp.training.page import TrainingPage

LOOK_AFTER_MS = 4000  # the start of the program belongs to the live view


def _has_work(root: Path) -> bool:
    """Whether runs wait or were left running: then the panel is needed without being looked at."""
    return any(root.glob("*/queued.json")) or any(root.glob("*/lock"))


def _load() -> None:
    import pyqtgraph  # noqa: F401

    import skelapp.training.page  # noqa: F401


class TrainingPanel(QWidget):
    """Shows *Loading…* until :class:`skelapp.training.page.TrainingPage` can be made."""

    working_changed = Signal(int)

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.page: TrainingPage | None = None
        self._made: TrainingPage | None = None
        self._steps: Iterator[None] = iter(())
        self._worker: Worker | None = None
        self._ended = False
        self._recipe: Path | None = None
        wait = QLabel("Loading…")
        wait.setProperty("role", "muted")
        wait.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._stack = QStackedWidget()
        self._stack.addWidget(wait)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)
        self._maker = QTimer(self)
        self._maker.setInterval(0)
        self._maker.timeout.connect(self._make_on)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(LOOK_AFTER_MS)
        self._later.timeout.connect(lambda: self.load() if _has_work(paths.runs()) else None)
        self._later.start()

    def load(self) -> None:
        """Load what the panel needs, in the background; once."""
        if self._worker is None and not self._ended:
            self._later.stop()
            self._worker = Worker("load training", self)
            self._worker.run(_load, lambda _: self._make())

    def _make(self) -> None:
        from skelapp.training.page import TrainingPage

        if self._ended:
            return
        if self._worker is not None:
            self._worker.close()
        self._made = TrainingPage(self._context)
        self._steps = self._made.build()
        next(self._steps)
        self._stack.addWidget(self._made)
        self._stack.setCurrentWidget(self._made)
        self._maker.start()

    def _make_on(self) -> None:
        try:
            next(self._steps)
            return
        except StopIteration:
            self._maker.stop()
        assert self._made is not None
        self.page = self._made
        self.page.working_changed.connect(self.working_changed)
        self.page.set_watched(self.isVisible())
        self._open_waiting()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.load()
        if self.page is not None:
            self.page.set_watched(True)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        if self.page is not None:
            self.page.set_watched(False)

    def focus_first(self) -> None:
        if self.page is not None:
            self.page.focus_first()

    def take_back(self) -> bool:
        """Ctrl+Z: bring back the run that was just deleted, or undo the form's last change; False where neither is."""
        return self.page.take_back() if self.page is not None else False

    def open_recipe(self, path: Path) -> None:
        """Fill the form from a file, as soon as there is a form."""
        self._recipe = path
        self.load()
        if self.page is not None:
            self._open_waiting()

    def _open_waiting(self) -> None:
        if self._recipe is not None and self.page is not None:
            path, self._recipe = self._recipe, None
            self.page.open_recipe(path)

    def retheme(self) -> None:
        if self.page is not None:
            self.page.retheme()

    def end(self, timeout: float) -> bool:
        """Stop watching; runs go on. Whether everything ended in time."""
        self._ended = True
        self._later.stop()
        self._maker.stop()
        ended = self._made.end(timeout) if self._made is not None else True
        return (self._worker.close(timeout) if self._worker is not None else True) and ended
