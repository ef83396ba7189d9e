"""A wish to stop a run gracefully, however it is uttered."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class StopRequest:
    """Ctrl-C, SIGTERM or a file named ``stop`` in the run's folder: the step is finished, then the run ends."""

    def __init__(self, file: Path) -> None:
        self.file, self.reason = file, ""

    def __bool__(self) -> bool:
        if not self.reason and self.file.exists():
            self.reason = "asked by file"
        return bool(self.reason)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch signals meanwhile; a second one ends the process as usual. Only a main thread can catch any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.reason = f"asked by {signal.Signals(number).name}"
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
