"""The catalogue as the panel keeps it: read in the background, with the words for every state."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine import paths
from engine.data.catalogue import CatalogueEntry, State, find_downloads, read_catalogue
from engine.files import is_there
from skelapp.settings import SettingsStore
from skelapp.workers import Worker

STATE_WORDS: dict[State, str] = {
    "absent": "Not here",
    "found": "Files found, not prepared",
    "begun": "Begun, not finished",
    "prepared": "Prepared",
    "old": "Made by an older version",
    "damaged": "Damaged",
}

# A merged set has no files of its own: it is there for the making as soon as one of its sets is.
MERGED_WORDS: dict[State, str] = {"absent": "None of its sets is here", "found": "Can be merged from sets here"}


def state_words(entry: CatalogueEntry, state: State | None = None) -> str:
    """Where a dataset (or one of its stores) stands, in a few words."""
    state = state or entry.state
    merged = entry.info is not None and bool(entry.info.built_from)
    return (MERGED_WORDS if merged else {}).get(state) or STATE_WORDS[state]


class Catalogue(QObject):
    """Keeps the list; ``changed`` after every reading, also a failed one (then ``problem`` says why)."""

    changed = Signal()

    def __init__(self, settings: SettingsStore, worker: Worker, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings, self._worker = settings, worker
        self.entries: tuple[CatalogueEntry, ...] = ()
        self.loaded = False
        self.problem = ""

    def refresh(self) -> None:
        """Look again: stores, remembered files, the downloads folder."""
        stores, downloads = paths.stores(), self._settings.downloads()
        remembered = {name: Path(path) for name, path in self._settings.values.memory.raw_files.items()}

        def work() -> tuple[CatalogueEntry, ...]:
            found = find_downloads(downloads)
            found |= {name: path for name, path in remembered.items() if is_there(path)}
            return read_catalogue(stores, found)

        self._worker.run(work, self._read, self._failed)

    def _read(self, entries: tuple[CatalogueEntry, ...]) -> None:
        self.entries, self.loaded, self.problem = entries, True, ""
        self.changed.emit()

    def _failed(self, error: BaseException, details: str) -> None:
        self.loaded, self.problem = True, f"The datasets can't be listed: {error}"
        self.changed.emit()

    def entry(self, name: str) -> CatalogueEntry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def remember(self, name: str, raw: Path) -> None:
        """Keep where the files of a dataset are."""
        kept = self._settings.values.memory.raw_files
        self._settings.set("memory.raw_files", {**kept, name: str(raw)})
