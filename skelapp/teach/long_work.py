"""What takes longer than a blink: takes from files, and fine-tuning. Both are commands of the program, as children."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from engine import paths
from skelapp.context import Context
from skelapp.task import Task
from skelapp.task_bar import TaskBar
from skelapp.teach.desk import TeachDesk
from skelapp.widgets import Banner


class LongWork(QWidget):
    """Two bars, hidden while nothing runs; what came of it is said in the panel's banner."""

    working_changed = Signal(int)

    def __init__(self, context: Context, desk: TeachDesk, banner: Banner, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context, self._desk, self._banner = context, desk, banner
        self.files, self.tuning = TaskBar(), TaskBar()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for bar in (self.files, self.tuning):
            layout.addWidget(bar)
            bar.busy_changed.connect(self._count)
        self.hide()

    def _count(self) -> None:
        running = sum(bar.busy for bar in (self.files, self.tuning))
        self.setVisible(running > 0)
        self.working_changed.emit(running)

    def _run(self, bar: TaskBar, title: str, command: list[str], done: Callable[[Any], object]) -> None:
        if bar.busy:
            self._banner.show_message("Something is being done already; wait for it or cancel it.")
            return

        def ended(task: Task) -> None:
            if task.state == "done":
                try:
                    done(task.result())
                except (ValueError, KeyError, TypeError):
                    self._banner.show_message(f"{title}: the answer can't be read.", task.output, error=True)
            elif task.state == "failed":
                self._banner.show_message(f"{title}: {task.problem}", task.details, error=True)
            else:
                self._banner.show_message(f"{title}: stopped. What was finished is kept.")
            if bar is self.files:
                self._desk.reload()

        self._banner.dismiss()
        bar.run(title, command, ended)

    # ---------------------------------------------------------------- files

    def add_files(self, files: list[Path], action: str) -> None:
        """Make takes of videos, recordings or folders of them."""
        view = self._desk.view
        if view is None or not action:
            self._banner.show_message("Name the action first, then drop its videos on it.")
            return
        title = f"Takes of {action}"
        command = ["teach", "add", action, *map(str, files), "--pack", str(view.folder), "--json"]

        def added(report: dict[str, Any]) -> None:
            made, left = len(report["takes"]), report["left_out"]
            words = f"{title}: {made} added." + (f" {len(left)} could not be used." if left else "")
            self._banner.show_message(words, "\n".join(left))

        self._run(self.files, title, command, added)

    # ----------------------------------------------------------- fine-tuning

    def tune(self, what: str = "head") -> None:
        """Train ``head`` (seconds) or ``encoder`` (long) on the pack; the present encoder stays in use meanwhile."""
        view, checkpoint = self._desk.view, self._desk.session.checkpoint
        if view is None or checkpoint is None:
            return
        from engine.teach.finetune import goes_on

        def ours(run: Path) -> bool:
            return what == "encoder" and goes_on(run, view.folder, checkpoint)

        name = _run_name(f"{view.folder.name}_{'tuned' if what == 'head' else 'encoder'}", ours)
        command = ["teach", "train", str(view.folder), "--checkpoint", str(checkpoint), "--what", what]
        self._run(self.tuning, "Fine-tuning", [*command, "--name", name, "--json"], self.tuned)

    def tuned(self, card: dict[str, Any]) -> None:
        """The new encoder is not used before the user says so."""
        folder = Path(card["folder"])
        self._context.library.refresh()
        found = "; ".join(f"{r['name']}: {r['top1']:.0%} of {r['count']} right" for r in card["results"])
        self._banner.show_message(
            f"Fine-tuned: {card['title'] or card['name']}. {found[:1].upper() + found[1:]}".strip(),
            actions=(
                ("Use live", lambda: self._context.session.use_checkpoint(folder)),
                ("Show in Models", lambda: self._context.show_panel("models")),
            ),
        )

    def end(self, seconds: float) -> bool:
        """The window closes: children end, what they have finished is kept."""
        ended = [bar.end(seconds / 2) for bar in (self.files, self.tuning)]
        return all(ended)


def _run_name(name: str, goes_on: Callable[[Path], bool]) -> str:
    """The name of a run that goes on, or one no run has yet."""
    number, found = 1, name
    while (run := paths.runs() / found).exists() and not goes_on(run):
        number += 1
        found = f"{name}_{number}"
    return found
