"""One of the program's own commands as a child process, with progress and a clean stop; its answer is JSON.

Comparing, importing and exporting load torch and take long: in a thread they would take the interpreter away from the
window, and could not be stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

import psutil
from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from engine import paths

State = Literal["running", "stopping", "done", "failed", "cancelled"]
STOP_S = 5.0
_KEPT_LINES = 200


class Task(QObject):
    """Runs ``engine.cli ARGUMENTS --progress json``.

    ``progressed`` with each step; then ``ended`` once. ``output`` is what the command printed, ``problem`` its last
    words. Nothing is left running after :meth:`finish`.
    """

    progressed = Signal(str, float)
    ended = Signal(str)

    def __init__(self, arguments: Sequence[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.arguments = [*arguments, "--progress", "json"]
        self.state: State = "running"
        self.what, self.share = "starting", 0.0
        self.began = time.monotonic()
        self._out = bytearray()
        self._tail = b""
        self.messages: list[str] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._kill)
        process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        known = [str(paths.PROJECT), environment.value("PYTHONPATH", "")]
        environment.insert("PYTHONPATH", os.pathsep.join(path for path in known if path))
        environment.insert("PYTHONIOENCODING", "utf-8")
        # Threads that wait busily would slow the live view on the same cores many times over.
        environment.insert("OMP_WAIT_POLICY", "PASSIVE")
        process.setProcessEnvironment(environment)
        process.readyReadStandardError.connect(self._read_error)
        process.readyReadStandardOutput.connect(self._read_output)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._broken)
        process.started.connect(self._started)
        self._process = process

    def start(self) -> None:
        self._process.start(sys.executable, ["-m", "engine.cli", *self.arguments])

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def output(self) -> str:
        return self._out.decode("utf-8", "replace")

    @property
    def problem(self) -> str:
        """The command's last line, without its own name."""
        said = [line for line in self.messages if line.strip()]
        words = said[-1] if said else "the command ended without a word"
        head, colon, rest = words.partition(": ")
        return rest if colon and ("engine.cli" in head or "main.py" in head) else words

    @property
    def details(self) -> str:
        return "\n".join(self.messages[-40:])

    def seconds_left(self) -> float | None:
        """An estimate from what is done; None before it is worth anything."""
        spent = time.monotonic() - self.began
        return spent * (1 - self.share) / self.share if self.share > 0.05 and spent > 2 else None

    def result(self) -> Any:
        """The JSON the command printed; raises ``ValueError`` when it printed something else."""
        return json.loads(self.output)

    def cancel(self) -> None:
        """Ask the command to stop; one that does not is ended."""
        if self.state == "running":
            self.state = "stopping"
            self._process.closeWriteChannel()
            self._timer.start(int(STOP_S * 1000))
            self.progressed.emit("stopping", self.share)

    def finish(self, seconds: float) -> bool:
        """End within so many seconds, for a window that closes; True when nothing is left running."""
        if self.over:
            return True
        self.state = "stopping"
        self._timer.stop()
        self._process.closeWriteChannel()
        if not self._process.waitForFinished(int(1000 * min(seconds, 1.0))):
            self._kill()
            return self._process.waitForFinished(500)
        return True

    def _kill(self) -> None:
        if self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.kill()

    def _started(self) -> None:
        with contextlib.suppress(psutil.Error, OSError, AttributeError):
            # The live view comes first.
            child = psutil.Process(self._process.processId())
            child.nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10))

    def _read_output(self) -> None:
        self._out += self._process.readAllStandardOutput().data()

    def _read_error(self) -> None:
        *lines, self._tail = (self._tail + bytes(self._process.readAllStandardError().data())).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip())

    def _line(self, line: str) -> None:
        if not line.startswith('{"what"'):
            self.messages = [*self.messages, line][-_KEPT_LINES:] if line else self.messages
            return
        try:
            step = json.loads(line)
            self.what, self.share = str(step["what"]), min(1.0, step["done"] / max(step["total"], 1))
        except (ValueError, KeyError, TypeError):
            return
        if self.state == "running":
            self.progressed.emit(self.what, self.share)

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read_output()
        self._read_error()
        if self._tail:
            self._line(self._tail.decode("utf-8", "replace"))
        well = code == 0 and status == QProcess.ExitStatus.NormalExit
        self._end("done" if well else "cancelled" if self.state == "stopping" else "failed")

    def _broken(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.messages.append(f"{sys.executable} can't be started")
            self._end("failed")

    def _end(self, state: State) -> None:
        if not self.over:
            self._timer.stop()
            self.state = state
            self.ended.emit(state)


def duration(seconds: float) -> str:
    """Seconds in words: ``12 s``, ``3 min``."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else f"{round(whole / 60)} min"
