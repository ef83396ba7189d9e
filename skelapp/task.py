"""One of the program's own commands as a child process, with progress, time left and a clean stop.

Reading archives is Python in a loop; comparing, importing and exporting load torch. On a thread such work would take
the interpreter away from the window and could not be stopped. A child can be, and what it has finished is kept.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from skelapp.processes import child_environment, give_way, program

State = Literal["waiting", "running", "stopping", "done", "failed", "cancelled"]

STOP_S = 5.0
_KEPT_LINES = 400
_TOLD_LINES = 40
_KILL_MS = 500


class Task(QObject):
    """Runs ``main.py ARGUMENTS --progress json``: ``changed`` after every step, ``ended`` once, with the task itself.

    What the command prints is ``output``, what it says on stderr beside its progress ``messages``. Nothing is left
    running after :meth:`finish`.

    Parameters
    ----------
    arguments : sequence of str
        The command line without ``--progress json``.
    parent : QObject, optional
    patience : float
        Seconds a command that was asked to stop has for it before it is ended by force.
    """

    changed = Signal()
    ended = Signal(object)

    def __init__(self, arguments: Sequence[str], parent: QObject | None = None, patience: float = STOP_S) -> None:
        super().__init__(parent)
        self.arguments = list(arguments)
        self.state: State = "waiting"
        self.what, self.done, self.total, self.damaged = "", 0, 0, 0
        self.messages: list[str] = []
        self._out = bytearray()
        self._tail = b""
        self._counted_from, self._counting_since = 0, 0.0
        self._process: QProcess | None = None
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(int(patience * 1000))
        self._patience.timeout.connect(self.kill)

    # --------------------------------------------------------------- state

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def share(self) -> float | None:
        """Part of the present count that is done, 0 to 1; None when it is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def output(self) -> str:
        return self._out.decode("utf-8", "replace")

    @property
    def problem(self) -> str:
        """The last line the command said, without its own name and without what it says of single recordings."""
        said = [line for line in self.messages if line.strip() and not line.startswith("left out:")]
        words = said[-1] if said else "the command ended without a word"
        head, colon, rest = words.partition(": ")
        return rest if colon and ("engine.cli" in head or "main.py" in head) else words

    @property
    def details(self) -> str:
        """The last lines it said."""
        return "\n".join(self.messages[-_TOLD_LINES:])

    def result(self) -> Any:
        """The JSON the command printed; raises ``ValueError`` when it printed something else."""
        return json.loads(self.output)

    def seconds_left(self) -> float | None:
        """An estimate from the rate of this count; None before it is worth anything."""
        made, spent = self.done - self._counted_from, time.monotonic() - self._counting_since
        if not self.total or made <= 0 or spent < 1.0:
            return None
        return (self.total - self.done) * spent / made

    # ---------------------------------------------------------------- acts

    def start(self) -> None:
        """Begin; once."""
        process = QProcess(self)
        environment = QProcessEnvironment()
        for name, value in child_environment().items():
            environment.insert(name, value)
        process.setProcessEnvironment(environment)
        process.readyReadStandardError.connect(self._read_error)
        process.readyReadStandardOutput.connect(self._read_output)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._broken)
        process.started.connect(lambda: give_way(process.processId()))
        self._process = process
        self.state = "running"
        self._counting_since = time.monotonic()
        executable, *words = program()
        process.start(executable, [*words, *self.arguments, "--progress", "json"])
        self.changed.emit()

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
        self._patience.stop()
        self._process.closeWriteChannel()
        if not self._process.waitForFinished(int(1000 * seconds)):
            self.kill()
            return self._process.waitForFinished(_KILL_MS)
        return True

    # ------------------------------------------------------------- reading

    def _read_output(self) -> None:
        assert self._process is not None
        self._out += self._process.readAllStandardOutput().data()

    def _read_error(self) -> None:
        assert self._process is not None
        *lines, self._tail = (self._tail + bytes(self._process.readAllStandardError().data())).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip())
        self.changed.emit()

    def _line(self, line: str) -> None:
        if not line.startswith('{"what"'):
            self.messages = [*self.messages, line][-_KEPT_LINES:] if line else self.messages
            return
        try:
            step = json.loads(line)
            what, done, total = str(step["what"]), int(step["done"]), int(step["total"])
            damaged = int(step.get("damaged", 0))
        except (ValueError, KeyError, TypeError):
            return
        if total != self.total or done < self.done:
            # Another count has begun; a command that goes on with an old one begins in its middle.
            self._counted_from, self._counting_since = done, time.monotonic()
        self.what, self.done, self.total, self.damaged = what, done, total, damaged

    # -------------------------------------------------------------- ending

    def went_well(self, code: int) -> bool:
        """Whether an exit status means that there is a result."""
        return code == 0

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read_output()
        self._read_error()
        if self._tail:
            self._line(self._tail.decode("utf-8", "replace"))
        stopped = self.state == "stopping"
        well = status == QProcess.ExitStatus.NormalExit and self.went_well(code)
        self._end("done" if well else "cancelled" if stopped else "failed")

    def _broken(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and not self.over:
            self.messages.append(f"{sys.executable} can't be started")
            self._end("failed")

    def _end(self, state: State) -> None:
        if not self.over:
            self._patience.stop()
            self.state = state
            self.changed.emit()
            self.ended.emit(self)


def duration(seconds: float) -> str:
    """Seconds in round words: "12 s", "3 min", "1 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
