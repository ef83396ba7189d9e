"""Slow acts off the window's thread, one after the other, with the answer delivered back on the window's thread."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, Signal

Work = Callable[[], Any]
Done = Callable[[Any], None]
Failed = Callable[[BaseException, str], None]


@dataclass
class _Job:
    work: Work
    done: Done | None
    failed: Failed | None
    result: Any = None
    error: BaseException | None = None
    details: str = ""


class Worker(QObject):
    """One thread with a queue. ``run`` returns at once; ``done`` or ``failed`` is called later on the window's thread.

    After :meth:`close` nothing is delivered any more, so a widget that is gone is never touched.
    """

    _finished = Signal(object)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._pending = 0
        self._finished.connect(self._deliver)
        # A daemon, so that a camera driver that hangs can't keep the program alive after its window is gone.
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether something is queued, running, or not yet delivered."""
        return self._pending > 0

    def run(self, work: Work, done: Done | None = None, failed: Failed | None = None) -> None:
        """Do ``work`` on the thread. ``failed`` gets the exception and its traceback as text."""
        if self._closed:
            return
        self._pending += 1
        self._jobs.put(_Job(work, done, failed))

    def close(self, timeout: float = 2.0) -> bool:
        """Finish what runs, drop what waits, end the thread; returns whether it ended in time."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._closed:
                continue
            try:
                job.result = job.work()
            except Exception as error:  # every failure is shown in the panel that asked
                job.error = error
                job.details = traceback.format_exc()
            try:
                self._finished.emit(job)
            except RuntimeError:  # the window is already gone
                return

    def _deliver(self, job: _Job) -> None:
        self._pending -= 1
        if self._closed:
            return
        if job.error is not None:
            if job.failed is not None:
                job.failed(job.error, job.details)
        elif job.done is not None:
            job.done(job.result)


def remaining(deadline: float) -> float:
    """Seconds left until ``deadline`` (``time.monotonic()``), never negative."""
    return max(0.0, deadline - time.monotonic())
