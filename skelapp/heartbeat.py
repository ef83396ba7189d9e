"""Measures how long the window's event loop was kept from running: the number behind "never blocked for 50 ms"."""

from __future__ import annotations

import time

from PySide6.QtCore import QObject, Qt, QTimer


class Heartbeat(QObject):
    """A timer that should fire every ``interval_ms`` and writes down by how much it came late.

    ``gaps`` holds ``(seconds since start, late ms)`` of every beat later than ``remember_ms``.
    """

    def __init__(self, interval_ms: int = 5, remember_ms: float = 30.0, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._interval = interval_ms / 1000.0
        self._remember = remember_ms
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self._beat)
        self.reset()

    def reset(self) -> None:
        """Forget everything measured so far."""
        self._began = self._last = time.perf_counter()
        self.longest_ms = 0.0
        self.beats = 0
        self.gaps: list[tuple[float, float]] = []

    def start(self) -> None:
        self.reset()
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()

    def _beat(self) -> None:
        now = time.perf_counter()
        late = (now - self._last - self._interval) * 1000.0
        self._last = now
        self.beats += 1
        self.longest_ms = max(self.longest_ms, late)
        if late > self._remember and len(self.gaps) < 1000:
            self.gaps.append((now - self._began, late))
