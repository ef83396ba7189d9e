"""Long work on datasets as child processes of the program's own commands, with progress, time left and a clean stop.

Reading an archive is Python in a loop: in a thread it would take the interpreter away from the window and could not be
stopped. A child can be, and what it has finished is kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Literal

import psutil
from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from engine import paths

JobState = Literal["waiting", "running", "stopping", "done", "failed", "cancelled"]
Lane = Literal["make", "look"]

STOP_S = 15.0
_KEPT_LINES = 400


class Job(QObject):
    """One command. ``changed`` after every step, ``ended`` once, with the job itself.

    Parameters
    ----------
    kind : str
        ``prepare``, ``check``, ``import``, ``export`` or ``film``.
    dataset : str
        The entry of the catalogue it belongs to.
    title : str
        What is done, in words, e.g. "Preparing NW-UCLA".
    arguments : sequence of str
        The command line without ``--progress json``.
    lane : str
        Jobs of one lane run one after the other: ``make`` uses all cores, ``look`` only reads.
    """

    changed = Signal()
    ended = Signal(object)

    def __init__(
        self, kind: str, dataset: str, title: str, arguments: Sequence[str], lane: Lane, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.kind, self.dataset, self.title, self.lane = kind, dataset, title, lane
        self.arguments = [*arguments, "--progress", "json"]
        self.state: JobState = "waiting"
        self.what, self.done, self.total, self.damaged = "", 0, 0, 0
        self.output = ""
        self.messages: list[str] = []
        self._tail = b""
        self._step_began, self._step_from = 0.0, 0
        self._process: QProcess | None = None
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(int(STOP_S * 1000))
        self._patience.timeout.connect(self.kill)

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def share(self) -> float | None:
        """Part of the present step that is done, 0 to 1; None when it is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def problem(self) -> str:
        """The last line the command said, without its own name."""
        said = [line for line in self.messages if line.strip() and not line.startswith("left out:")]
        words = said[-1] if said else "the command ended without a word"
        return words.split(": ", 1)[1] if words.startswith("python -m engine.cli") and ": " in words else words

    def seconds_left(self) -> float | None:
        """An estimate from the rate of this step; None before it is worth anything."""
        made, spent = self.done - self._step_from, time.monotonic() - self._step_began
        if not self.total or made <= 0 or spent < 1.0:
            return None
        return (self.total - self.done) * spent / made

    def words(self) -> str:
        """One line about where it stands."""
        if self.state == "waiting":
            return "Waiting for another preparation"
        if self.state == "stopping":
            return "Stopping; what is finished is kept" if self.kind in ("prepare", "import") else "Stopping"
        parts = [self.what.capitalize() or "Starting"]
        if self.total:
            parts.append(f"{self.done:,} of {self.total:,}")
        elif self.done:
            parts.append(f"{self.done:,} sequences")
        if self.damaged:
            parts.append(f"{self.damaged:,} damaged" if self.kind != "film" else f"nobody found in {self.damaged:,}")
        left = self.seconds_left()
        if left is not None and left >= 1:
            parts.append(f"about {duration(left)} left")
        return "  ·  ".join(parts)

    def start(self) -> None:
        """Begin; the queue calls this."""
        process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        # The source checkout need not be installed to be found.
        known = [str(paths.PROJECT), environment.value("PYTHONPATH", "")]
        environment.insert("PYTHONPATH", os.pathsep.join(path for path in known if path))
        environment.insert("PYTHONUNBUFFERED", "1")
        environment.insert("PYTHONIOENCODING", "utf-8")
        process.setProcessEnvironment(environment)
        process.readyReadStandardError.connect(self._read_error)
        process.readyReadStandardOutput.connect(self._read_output)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._broken)
        process.started.connect(self._started)
        self._process = process
        self.state = "running"
        self._step_began = time.monotonic()
        process.start(sys.executable, ["-m", "engine.cli", *self.arguments])
        self.changed.emit()

    def _started(self) -> None:
        assert self._process is not None
        # The live view comes first.
        with contextlib.suppress(psutil.Error, OSError, AttributeError):
            child = psutil.Process(self._process.processId())
            child.nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10))

    def cancel(self) -> None:
        """Ask for a clean end: finished parts are kept. One that does not come in time is forced."""
        if self.state == "waiting":
            self._end("cancelled")
        elif self.state == "running" and self._process is not None:
            self.state = "stopping"
            self._process.closeWriteChannel()
            self._patience.start()
            self.changed.emit()

    def kill(self) -> None:
        if self._process is not None and self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.kill()

    def finish(self, seconds: float) -> bool:
        """End within so many seconds, for a window that closes; returns whether nothing is left running."""
        if self._process is None or self.over:
            return True
        self.state = "stopping"
        self._process.closeWriteChannel()
        if not self._process.waitForFinished(int(seconds * 1000)):
            self._process.kill()
            return self._process.waitForFinished(500)
        return True

    def _read_error(self) -> None:
        assert self._process is not None
        data = self._tail + bytes(self._process.readAllStandardError().data())
        *lines, self._tail = data.split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip())
        self.changed.emit()

    def _line(self, line: str) -> None:
        if line.startswith('{"what"'):
            try:
                step = json.loads(line)
            except ValueError:
                return
            if step["what"] != self.what:
                self._step_began, self._step_from = time.monotonic(), int(step["done"])
            self.what, self.done, self.total = step["what"], int(step["done"]), int(step["total"])
            self.damaged = int(step["damaged"])
        elif line:
            self.messages = [*self.messages, line][-_KEPT_LINES:]

    def _read_output(self) -> None:
        assert self._process is not None
        self.output += bytes(self._process.readAllStandardOutput().data()).decode("utf-8", "replace")

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read_output()
        self._read_error()
        if self._tail:
            self._line(self._tail.decode("utf-8", "replace"))
        stopped = self.state == "stopping"
        well = code == 0 and status == QProcess.ExitStatus.NormalExit
        # "data check" says 1 when it found something wrong with the store: that is a result.
        well = well or (self.kind == "check" and self.output.lstrip().startswith("{"))
        self._end("done" if well else "cancelled" if stopped else "failed")

    def _broken(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and not self.over:
            self.messages.append(f"{sys.executable} can't be started")
            self._end("failed")

    def _end(self, state: JobState) -> None:
        if not self.over:
            self._patience.stop()
            self.state = state
            self.changed.emit()
            self.ended.emit(self)


class JobQueue(QObject):
    """Runs jobs, one at a time in each lane. ``changed`` whenever any of them did, ``ended`` with each that is over."""

    changed = Signal()
    ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs: list[Job] = []
        self._closed = False

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those that wait or run."""
        return tuple(self._jobs)

    def of(self, dataset: str) -> Job | None:
        """The job of a dataset that runs, or else waits."""
        mine = [job for job in self._jobs if job.dataset == dataset]
        return next((job for job in mine if job.state != "waiting"), mine[0] if mine else None)

    def add(self, job: Job) -> Job:
        job.setParent(self)
        self._jobs.append(job)
        job.changed.connect(self.changed)
        job.ended.connect(self._job_ended)
        self._next(job.lane)
        self.changed.emit()
        return job

    def _next(self, lane: Lane) -> None:
        mine = [job for job in self._jobs if job.lane == lane]
        if not self._closed and mine and all(job.state == "waiting" for job in mine):
            mine[0].start()

    def _job_ended(self, job: Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
        if not self._closed:
            self.ended.emit(job)
            self._next(job.lane)
            self.changed.emit()
        job.deleteLater()

    def end(self, seconds: float) -> bool:
        """Stop everything and start nothing more; what was finished is kept for the next time."""
        self._closed = True
        deadline = time.monotonic() + seconds
        for job in self._jobs:
            if job.state == "waiting":
                job.state = "cancelled"
            else:
                job.cancel()
        ended = [job.finish(max(0.1, deadline - time.monotonic())) for job in list(self._jobs)]
        return all(ended)


def duration(seconds: float) -> str:
    """Seconds in words: "12 s", "3 min", "1 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
