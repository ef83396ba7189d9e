"""A line that shows what a task is doing, how far it is, and stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QWidget

from skelapp.task import Task, duration
from skelapp.widgets import button

_CLOSE_S = 1.0


class TaskBar(QFrame):
    """Hidden while nothing runs; one task at a time. ``busy_changed`` when it begins and when it is over."""

    busy_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", True)
        self.task: Task | None = None
        self._title = ""
        self._text = QLabel()
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        self._text.setMinimumWidth(260)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.stop = button("Cancel", self._cancel)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 8, 8)
        row.setSpacing(12)
        row.addWidget(self._text)
        row.addWidget(self.bar, 1)
        row.addWidget(self.stop)
        self.hide()

    @property
    def text(self) -> str:
        return self._text.text()

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.over

    def run(self, title: str, arguments: Sequence[str], ended: Callable[[Task], None]) -> Task:
        """Start a command; ``ended`` is called with the task when it is over, however it ended."""
        assert not self.busy
        task = Task(arguments, self)
        self.task, self._title = task, title

        def over(_: Task) -> None:
            self.hide()
            self.busy_changed.emit()
            ended(task)
            task.deleteLater()

        task.changed.connect(self._show)
        task.ended.connect(over)
        self.stop.setEnabled(True)
        self.show()
        task.start()
        self.busy_changed.emit()
        return task

    def _show(self) -> None:
        assert self.task is not None
        task, left = self.task, self.task.seconds_left()
        what = "stopping" if task.state == "stopping" else task.what or "starting"
        rest = f", about {duration(left)} left" if left is not None and left >= 1 and task.state == "running" else ""
        self._text.setText(f"{self._title}: {what}{rest}")
        share = task.share or 0.0
        self.bar.setValue(round(1000 * share))
        self.bar.setAccessibleName(f"{self._title}: {round(100 * share)} %")

    def _cancel(self) -> None:
        if self.task is not None:
            self.stop.setEnabled(False)
            self.task.cancel()

    def end(self, seconds: float) -> bool:
        """Stop what runs because the window closes."""
        return self.task.finish(min(seconds, _CLOSE_S)) if self.task is not None and self.busy else True
