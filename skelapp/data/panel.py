"""The Data panel's door: what it shows is loaded when it is first looked at, without stopping the window."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from skelapp.context import Context
from skelapp.workers import Worker, remaining

if TYPE_CHECKING:
    from skelapp.data.content import DataContent

# Importing takes a moment: done on the worker. Pyqtgraph, the slowest, waits until statistics are wanted.
_MODULES = (
    "engine.data.statistics",
    "engine.data.check",
    "engine.render.playback",
    "skelapp.data.content",
)


class DataPanel(QWidget):
    """Datasets: their state, preparing, looking, counting, checking. ``content`` is None until it is first shown."""

    working_changed = Signal(int)  # jobs that wait or run

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.content: DataContent | None = None
        self._worker: Worker | None = None
        self._actor_worker: Worker | None = None
        self._dropped: Path | None = None
        self._wait = QLabel("Loading…")
        self._wait.setProperty("role", "muted")
        self._wait.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self._wait)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._load()
        if self.content is not None:
            self.content.shown()

    def _load(self) -> None:
        if self._worker is None:
            self._worker, self._actor_worker = Worker("data", self), Worker("actor", self)
            self._worker.run(lambda: [importlib.import_module(name) for name in _MODULES], self._loaded, self._failed)

    def _loaded(self, _: Any) -> None:
        from skelapp.data.content import DataContent

        assert self._worker is not None and self._actor_worker is not None
        self.content = DataContent(self._context, self._worker, self._actor_worker)
        jobs = self.content.jobs
        jobs.changed.connect(lambda: self.working_changed.emit(len(jobs.jobs)))
        self._wait.hide()
        self._layout.addWidget(self.content)
        if self.isVisible():
            self.content.focus_first()
        if self._dropped is not None:
            self.content.open_path(self._dropped)

    def _failed(self, error: BaseException, details: str) -> None:
        self._wait.setText(f"The panel can't be loaded: {error}")

    def open_path(self, path: Path) -> None:
        """Prepare or import what was dropped, as soon as the panel is there."""
        if self.content is None:
            self._dropped = path
            self._load()
        else:
            self.content.open_path(path)

    def take_back(self) -> bool:
        """Undo the last removal; False when there is none."""
        return self.content is not None and self.content.take_back()

    def focus_first(self) -> None:
        if self.content is not None:
            self.content.focus_first()

    def retheme(self) -> None:
        if self.content is not None:
            self.content.retheme()

    def end(self, seconds: float) -> bool:
        """Stop what runs, keep what is finished; returns whether nothing is left running."""
        deadline = time.monotonic() + seconds
        ended = self.content is None or self.content.end(max(0.2, seconds - 0.4))
        for worker in (self._worker, self._actor_worker):
            if worker is not None:
                ended = worker.close(max(0.2, remaining(deadline))) and ended
        return ended
