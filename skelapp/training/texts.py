"""Output and recipe of the run that is shown, read again every second off the window's thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from engine.training.event_tail import last_lines
from engine.training.run_folder import RunFolder
from skelapp.training.runs import asked_file
from skelapp.workers import Worker

EVERY_MS = 1000
LINES, BYTES = 2000, 1 << 18


def _read(path: Path) -> tuple[str, str]:
    folder = RunFolder(path)
    source = folder.recipe_file if folder.recipe_file.is_file() else asked_file(path)
    return last_lines(folder.output_file, LINES, BYTES), last_lines(source, LINES, BYTES)


class TextReader(QObject):
    """Asks ``wanted`` which run is shown; ``found`` with its folder, what its process wrote, and its recipe."""

    found = Signal(object, str, str)

    def __init__(self, worker: Worker, wanted: Callable[[], Path | None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker, self._wanted = worker, wanted
        self._reading = False
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self.read)

    def set_watched(self, watched: bool) -> None:
        """Read on while somebody looks."""
        if watched:
            self._timer.start()
        else:
            self._timer.stop()

    def read(self) -> None:
        """Read now, unless it is being read."""
        path = self._wanted()
        if path is None or self._reading:
            return
        self._reading = True
        self._worker.run(lambda: _read(path), lambda texts: self._show(path, texts), lambda *_: self._over())

    def _over(self) -> None:
        self._reading = False

    def _show(self, path: Path, texts: tuple[str, str]) -> None:
        self._reading = False
        if self._wanted() == path:
            self.found.emit(path, *texts)
