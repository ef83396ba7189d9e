"""Long work on datasets: tasks that belong to a dataset, said in words, and run one after the other in their lanes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import QObject, Signal

from skelapp.task import Task, duration

Lane = Literal["make", "look"]

STOP_S = 15.0


class Job(Task):
    """A task on a dataset.

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

    def __init__(
        self, kind: str, dataset: str, title: str, arguments: Sequence[str], lane: Lane, parent: QObject | None = None
    ) -> None:
        super().__init__(arguments, parent, STOP_S)
        self.kind, self.dataset, self.title, self.lane = kind, dataset, title, lane

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

    def went_well(self, code: int) -> bool:
        # "data check" says 1 when it found something wrong with the store: that is a result.
        return super().went_well(code) or (self.kind == "check" and self.output.lstrip().startswith("{"))


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
