"""The long work of the Models panel's list: one command at a time, and what came of it in the panel's banner."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from skelapp.models.ensemble_tray import EnsembleTray
from skelapp.models.forms import Form, ImportForm
from skelapp.task import Task
from skelapp.task_bar import TaskBar
from skelapp.widgets import Banner

Asker = Form | EnsembleTray


class ModelsWork(QObject):
    """Runs what forms and tray ask for; ``imported`` with a new checkpoint's folder, ``ended`` after every command."""

    imported = Signal(object)
    ended = Signal()

    def __init__(self, bar: TaskBar, banner: Banner, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._bar, self._banner = bar, banner

    def serve(self, asker: Asker) -> None:
        """Do what a form or the tray asks for."""
        asker.asked.connect(partial(self._start, asker))

    def _start(self, asker: Asker, title: str, command: list[str]) -> None:
        if self._bar.busy:
            self._banner.show_message("Something is being done already; wait for it or cancel it.")
            return
        self._banner.dismiss()
        self._bar.run(title, command, partial(self._over, asker, title))

    def _over(self, asker: Asker, title: str, task: Task) -> None:
        if isinstance(asker, EnsembleTray) and task.state in ("done", "failed"):
            asker.show_result(task)
            return
        if task.state == "failed":
            self._banner.show_message(f"{title} failed: {task.problem}", task.details, error=True)
        elif task.state == "cancelled":
            self._banner.show_message(f"{title}: stopped.")
        elif isinstance(asker, ImportForm):
            self._imported(task)
        else:
            self._banner.show_message(task.output.strip() or f"{title}: done.")
        if task.state == "done" and isinstance(asker, Form):
            asker.hide()
        self.ended.emit()

    def _imported(self, task: Task) -> None:
        try:
            report = task.result()
            folder, used = Path(report["folder"]), report["used"]
        except (ValueError, KeyError, TypeError):
            self._banner.show_message("The import's answer can't be read.", task.output, error=True)
            return
        rest = "" if report["has_classifier"] else " It has no classifier: train one on it before it can be used live."
        self._banner.show_message(
            f"Imported {report['name']}: {used} tensors taken, {len(report['ignored'])} that carry nothing left.{rest} "
            "Nothing has been measured yet."
        )
        self.imported.emit(folder)
