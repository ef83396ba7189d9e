"""The Teach panel's door: what it shows is loaded when it is first looked at, without stopping the window."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from skelapp.context import Context
from skelapp.teach.desk import Stretch
from skelapp.workers import remaining

if TYPE_CHECKING:
    from skelapp.teach.content import TeachContent

# Importing takes a moment: done on the worker.
_MODULES = (
    "engine.teach.recording",
    "engine.teach.pack",
    "engine.teach.learn",
    "engine.teach.finetune",
    "engine.training.run_folder",
    "engine.render.playback",
    "skelapp.teach.content",
)
OPEN_AFTER_MS = 1500  # the start of the program belongs to the live view


class TeachPanel(QWidget):
    """The user's own actions. ``content`` is None until it is first shown."""

    working_changed = Signal(int)  # child processes that run

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.desk = context.desk
        self.content: TeachContent | None = None
        self._loading = False
        self._waiting: list[tuple[str, Any]] = []
        self._wait = QLabel("Loading…")
        self._wait.setProperty("role", "muted")
        self._wait.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self._wait)
        self.desk.name_wanted.connect(self.name_stretch)
        # What was taught last time is live without the panel being looked at.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(OPEN_AFTER_MS)
        self._later.timeout.connect(self.desk.open_remembered)
        self._later.start()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._load()

    def _load(self) -> None:
        if not self._loading:
            self._loading = True
            self._later.stop()
            work = self.desk.worker
            work.run(lambda: [importlib.import_module(name) for name in _MODULES], self._loaded, self._failed)

    def _loaded(self, _: Any) -> None:
        from skelapp.teach.content import TeachContent

        self.content = TeachContent(self._context, self.desk)
        self.content.working_changed.connect(self.working_changed)
        self._wait.hide()
        self._layout.addWidget(self.content)
        self.desk.open_remembered()
        if self.isVisible():
            self.content.focus_first()
        for name, value in self._waiting:
            getattr(self.content, name)(*value)

    def _failed(self, error: BaseException, details: str) -> None:
        self._wait.setText(f"The panel can't be loaded: {error}")

    def _when_loaded(self, name: str, *values: Any) -> None:
        if self.content is None:
            self._waiting.append((name, values))
            self._load()
        else:
            getattr(self.content, name)(*values)

    def open_path(self, path: Path) -> None:
        """Go on with a pack that was dropped."""
        self._when_loaded("open_path", path)

    def name_stretch(self, stretch: Stretch) -> None:
        """Ask for the name of what was just done before the camera."""
        self._when_loaded("name_stretch", stretch)

    def take_back(self) -> bool:
        """Undo the last change of the pack; False when there is none."""
        return self.desk.take_back()

    def escape(self) -> bool:
        """Escape ends a recording or closes a line that asks; False when there was neither."""
        return self.content is not None and self.content.escape()

    def focus_first(self) -> None:
        if self.content is not None:
            self.content.focus_first()

    def retheme(self) -> None:
        if self.content is not None:
            self.content.retheme()

    def end(self, seconds: float) -> bool:
        """Stop what runs; returns whether nothing is left running."""
        self._later.stop()
        deadline = time.monotonic() + seconds
        ended = self.content is None or self.content.end(max(0.2, seconds - 0.5))
        return self.desk.end(max(0.3, remaining(deadline))) and ended
