"""One opened store with what the pages show of it, read on a worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.data.catalogue import StoreEntry
from engine.data.sequence_index import SequenceIndex
from engine.data.statistics import StoreStatistics, store_statistics
from engine.data.store import SequenceStore
from skelapp.workers import Worker


@dataclass(frozen=True)
class OpenStore:
    """A store, its columns and its counts."""

    store: SequenceStore
    index: SequenceIndex
    statistics: StoreStatistics

    @property
    def name(self) -> str:
        return self.store.name


def open_store(folder: Path) -> OpenStore:
    """Read everything the pages need; raises ``StoreError`` when the store can't be used."""
    store = SequenceStore(folder)
    return OpenStore(store, SequenceIndex.of(store), store_statistics(store))


def load_plots() -> None:
    """Import pyqtgraph where it blocks nobody: it takes a third of a second."""
    import pyqtgraph  # noqa: F401


class Opener(QObject):
    """Opens the store that is wanted, on the worker; only what has changed on disk is read again.

    ``opened`` when it is there, ``refused`` with its name, the reason and details when it can't be used.
    """

    opened = Signal()
    refused = Signal(str, str, str)

    def __init__(self, worker: Worker, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker = worker
        self.store: OpenStore | None = None
        self._wanted: tuple[str, float] | None = None

    def want(self, store: StoreEntry) -> bool:
        """Open a store; False when it is open, or being opened, already."""
        wanted = (store.name, store.made)
        if wanted == self._wanted:
            return False
        self._wanted, self.store = wanted, None
        self._worker.run(
            partial(open_store, store.folder),
            lambda opened: self._opened(wanted, opened),
            lambda error, details: self._refused(wanted, error, details),
        )
        return True

    def again(self) -> None:
        """What is known of the store has changed: the next wish reads it again."""
        self._wanted = None

    def forget(self) -> None:
        """Let go of the store."""
        self.store = self._wanted = None

    def _opened(self, wanted: tuple[str, float], opened: OpenStore) -> None:
        if wanted == self._wanted:
            self.store = opened
            self.opened.emit()

    def _refused(self, wanted: tuple[str, float], error: BaseException, details: str) -> None:
        if wanted == self._wanted:
            self.forget()
            self.refused.emit(wanted[0], str(error), details)
