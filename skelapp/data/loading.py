"""One opened store with what the pages show of it, read on a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.data.sequence_index import SequenceIndex
from engine.data.statistics import StoreStatistics, store_statistics
from engine.data.store import SequenceStore


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
