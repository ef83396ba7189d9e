"""Taking a store out of use so that it can be taken back: moved aside first, really deleted later."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject

from engine import paths
from engine.data.removal import delete_aside, put_back, set_aside
from skelapp.data.catalogue import Catalogue
from skelapp.widgets import Banner
from skelapp.workers import Worker

_OLD_S = 600.0


class Removal(QObject):
    """Removes on the worker and says so with *Undo*; only the newest removal can be taken back."""

    def __init__(self, worker: Worker, catalogue: Catalogue, banner: Banner, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker, self._catalogue, self._banner = worker, catalogue, banner
        self._aside: Path | None = None
        # What an earlier window left aside is not wanted back any more.
        worker.run(partial(delete_aside, paths.stores(), _OLD_S))

    def remove(self, folder: Path, words: str) -> None:
        """Move a store, told of as ``words``, aside."""
        self._worker.run(
            lambda: (set_aside(folder), _readers(folder.name)),
            lambda done: self._removed(*done, words=words),
            lambda error, details: self._banner.show_message(f"{words} can't be removed: {error}", error=True),
        )

    def _removed(self, aside: Path, readers: list[str], *, words: str) -> None:
        self._aside = aside
        text = f"{words} is removed."
        if readers:
            names = ", ".join(readers)
            text += f" Runs that read it: {names}. They go on with what they opened; without it none can be resumed."
        self._banner.show_message(text, actions=(("Undo", self.take_back),))
        self._worker.run(partial(delete_aside, aside.parent, keep=aside))
        self._catalogue.refresh()

    def take_back(self) -> bool:
        """Undo the last removal; False when there is none."""
        aside, self._aside = self._aside, None
        if aside is None:
            return False
        self._worker.run(
            partial(put_back, aside),
            self._is_back,
            lambda error, details: self._banner.show_message(str(error), error=True),
        )
        return True

    def _is_back(self, folder: Path) -> None:
        self._banner.show_message(f"{folder.name} is back.")
        self._catalogue.refresh()


def _readers(store: str) -> list[str]:
    # Recipes are read only where something is removed.
    from skelapp.training.runs import reading

    return reading(paths.runs(), store)
