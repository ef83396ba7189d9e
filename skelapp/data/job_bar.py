"""Progress of the selected dataset's job, with *Cancel*."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from skelapp.data.jobs import Job
from skelapp.widgets import ElidedLabel, button


class JobBar(QFrame):
    """Hidden while nothing is done with the dataset."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", True)
        self._job: Job | None = None
        self.title = QLabel()
        self.title.setProperty("role", "section")
        self.words = ElidedLabel()
        self.words.setProperty("role", "muted")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress")
        self.cancel = button("Cancel", self._cancel, tip="What is finished is kept")
        row = QHBoxLayout()
        row.addWidget(self.title)
        row.addWidget(self.words, 1)
        row.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 10, 14, 12)
        layout.setSpacing(6)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        self.hide()

    def show_job(self, job: Job | None) -> None:
        """Show a job as it is now, or nothing."""
        self._job = job
        self.setVisible(job is not None)
        if job is None:
            return
        self.title.setText(job.title)
        self.words.setText(job.words())
        share = job.share
        # A bar that only says "busy" stands still at zero while it waits.
        self.bar.setRange(0, 1000 if share is not None or job.state == "waiting" else 0)
        self.bar.setValue(int(1000 * (share or 0.0)))
        self.cancel.setEnabled(job.state in ("waiting", "running"))

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
