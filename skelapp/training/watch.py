"""Watches the runs folder on a thread of its own: lists runs, reads the selected one's events, starts what waits."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from engine.training.event_tail import EventTail
from engine.training.run_folder import RunError, RunFolder
from skelapp.settings import SettingsStore
from skelapp.training import children
from skelapp.training.progress import Piece, digest
from skelapp.training.runs import Row, RunScanner
from skelapp.workers import Worker

WATCHED_MS, HIDDEN_MS = 500, 2000
QUEUE = ".queue"


@dataclass
class Look:
    """What one look at the folder found."""

    rows: list[Row]
    path: Path | None = None
    piece: Piece | None = None
    elsewhere: int | None = None  # the process of the window that runs the queue, if it is not this one
    complaints: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wishes:
    """The settings as a look needs them, taken on the window's thread."""

    at_once: int
    threads: int
    low_priority: bool
    hold: bool


def threads_here(chosen: int) -> int:
    """Processor threads of a run: what was chosen, or all cores but one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return chosen or max(1, cores - 1)


class _Folder:
    """The thread's side: only the worker calls it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scanner = RunScanner(root)
        self.tail: EventTail | None = None
        self.processes: dict[Path, subprocess.Popen[bytes]] = {}
        self.stopping: set[Path] = set()
        self._queue = contextlib.ExitStack()
        self._owns_queue = False

    def look(self, wanted: Path | None, wishes: Wishes) -> Look:
        for path, process in list(self.processes.items()):
            if process.poll() is not None:
                del self.processes[path]
        rows = self.scanner.scan()
        look = Look(rows, wanted)
        for row in rows:
            # A run that was asked to stop while it began has swept the request away with what was old.
            if row.path in self.stopping and row.state in ("starting", "running"):
                RunFolder(row.path).stop_file.touch()
        self.stopping &= {row.path for row in rows if row.alive}
        if self._advance(rows, wishes, look):
            look.rows = self.scanner.scan()
        look.piece = self._read(wanted)
        return look

    def _advance(self, rows: list[Row], wishes: Wishes, look: Look) -> bool:
        """Start the next of the queue where there is room; whether any was started."""
        waiting = sorted((row for row in rows if row.state == "queued"), key=lambda row: row.place)
        if not waiting:
            return False
        if not self._take_queue():
            look.elsewhere = RunFolder(self.root / QUEUE).holder()
            return False
        room = 0 if wishes.hold else wishes.at_once - sum(row.alive for row in rows)
        for row in waiting[: max(room, 0)]:
            folder = RunFolder(row.path)
            own = children.threads_of(row.path)
            try:
                self.processes[row.path] = children.start(
                    folder, own or threads_here(wishes.threads), wishes.low_priority
                )
            except (RunError, OSError) as error:
                (row.path / children.QUEUED).unlink(missing_ok=True)
                look.complaints.append(str(error))
        return room > 0

    def _take_queue(self) -> bool:
        """One window at a time starts what waits."""
        if not self._owns_queue:
            place = RunFolder(self.root / QUEUE)
            if place.running():
                return False
            try:
                self._queue.enter_context(place.locked())
            except (RunError, OSError):
                return False
            self._owns_queue = True
        return True

    def _read(self, wanted: Path | None) -> Piece | None:
        if wanted is None:
            self.tail = None
            return None
        events = RunFolder(wanted).events_file
        fresh = self.tail is None or self.tail.path != events
        if fresh:
            self.tail = EventTail(events)
        assert self.tail is not None
        found, more, restarted = self.tail.read()
        piece = digest(found)
        piece.restarted, piece.more = restarted or fresh, more
        return piece

    def again(self) -> None:
        """Read the selected run from its beginning."""
        self.tail = None

    def close(self) -> None:
        self._queue.close()
        self._owns_queue = False


class Watcher(QObject):
    """Looks at the folder every half second, and at once after every act.

    Acts are done one after the other on the thread that also looks, so that none of them meets a half-seen folder.
    """

    looked = Signal(object)
    complained = Signal(str)

    def __init__(self, settings: SettingsStore, root: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self.root = root
        self.wanted: Path | None = None
        self._worker = Worker("training", self)
        self._folder = _Folder(root)
        self._looking = False
        self._again = False
        self._timer = QTimer(self)
        self._timer.setInterval(HIDDEN_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()

    @property
    def worker(self) -> Worker:
        return self._worker

    def set_watched(self, watched: bool) -> None:
        """Look more often while somebody looks."""
        self._timer.setInterval(WATCHED_MS if watched else HIDDEN_MS)

    def select(self, path: Path | None) -> None:
        """The run whose events are wanted; what it has is delivered from its beginning."""
        self.wanted = path
        self.do(self._folder.again)

    def look(self) -> None:
        """Look now, or right after the look that is going on."""
        if self._looking:
            self._again = True
            return
        self._looking, self._again = True, False
        values = self._settings.values
        wishes = Wishes(
            values.training.at_once,
            values.training.threads,
            values.training.priority == "low",
            values.memory.training_hold,
        )
        wanted = self.wanted
        self._worker.run(lambda: self._folder.look(wanted, wishes), self._looked, self._failed)

    def _looked(self, look: Look) -> None:
        self._looking = False
        for complaint in look.complaints:
            self.complained.emit(complaint)
        self.looked.emit(look)
        if self._again or (look.piece is not None and look.piece.more):
            self.look()

    def _failed(self, error: BaseException, details: str) -> None:
        self._looking = False
        self.complained.emit(f"The runs folder can't be read: {error}")

    def do(self, act: Callable[[], Any], done: Callable[[Any], None] | None = None) -> None:
        """Do something on the thread, then look; a failure becomes a complaint."""

        def finished(result: Any) -> None:
            if done is not None:
                done(result)
            self.look()

        def failed(error: BaseException, details: str) -> None:
            self.complained.emit(str(error))
            self.look()

        self._worker.run(act, finished, failed)

    # ----------------------------------------------------------------- acts

    def enqueue(self, recipe: dict[str, Any], chain: bool, done: Callable[[RunFolder], None]) -> None:
        self.do(lambda: children.enqueue(self.root, recipe, chain), done)

    def resume(self, path: Path) -> None:
        self.do(lambda: children.wait(RunFolder(path)))

    def stop(self, path: Path) -> None:
        def act() -> None:
            self._folder.stopping.add(path)
            children.ask_to_stop(RunFolder(path))

        self.do(act)

    def cancel(self, path: Path) -> None:
        self.do(lambda: children.cancel(RunFolder(path)))

    def delete(self, path: Path, done: Callable[[Path], None]) -> None:
        self.do(lambda: children.delete(self.root, RunFolder(path)), done)

    def bring_back(self, place: Path, done: Callable[[RunFolder], None]) -> None:
        self.do(lambda: children.bring_back(self.root, place), done)

    def empty_trash(self) -> None:
        now = time.time()
        self._worker.run(lambda: children.empty_trash(self.root, now))

    def end(self, timeout: float) -> bool:
        """Stop watching; runs go on. Whether the thread ended in time."""
        self._timer.stop()
        ended = self._worker.close(timeout)
        if ended:
            self._folder.close()
        return ended
