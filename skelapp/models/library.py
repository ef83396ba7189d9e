"""The checkpoints that are here, read in the background; one list for the Live panel's menu and the Models panel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.models.card import CheckpointCard, CheckpointError, Result, find_checkpoints, read_card
from skelapp.settings import SettingsStore
from skelapp.workers import Worker


@dataclass(frozen=True)
class Entry:
    """One checkpoint folder: its card, or why it can't be used."""

    folder: Path
    card: CheckpointCard | None
    size: int
    error: str = ""

    @property
    def title(self) -> str:
        return (self.card.title or self.card.name) if self.card else self.folder.name

    def result(self, through_camera: bool) -> Result | None:
        """The first result measured on the data themselves, or the first one measured through MediaPipe."""
        for result in self.card.results if self.card else []:
            if ("mediapipe" in f"{result.name} {result.note}".lower()) == through_camera:
                return result
        return None


def read_entry(folder: Path) -> Entry:
    """Read one checkpoint folder; a damaged one becomes an entry that says why."""
    try:
        size = sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) if folder.is_dir() else 0
        return Entry(folder, read_card(folder), size)
    except (CheckpointError, OSError) as error:
        return Entry(folder, None, 0, str(error))


class ModelLibrary(QObject):
    """Keeps the list; ``changed`` after every reading."""

    changed = Signal()

    def __init__(self, settings: SettingsStore, worker: Worker, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._worker = worker
        self.entries: tuple[Entry, ...] = ()
        self.loaded = False
        settings.listen(lambda name: self.refresh() if name == "folders.models" else None)

    def refresh(self) -> None:
        """Read all folders again, in the background."""
        roots = self._settings.model_roots()
        extra = [Path(p) for p in self._settings.values.memory.extra_models]

        def work() -> tuple[Entry, ...]:
            folders = find_checkpoints(*roots)
            folders += [p for p in extra if p.is_dir() and p.resolve() not in {f.resolve() for f in folders}]
            return tuple(read_entry(folder) for folder in folders)

        self._worker.run(work, self._read, lambda error, details: self._read(()))

    def _read(self, entries: tuple[Entry, ...]) -> None:
        self.entries, self.loaded = entries, True
        self.changed.emit()

    def add(self, folder: Path) -> Entry:
        """List one more folder and remember it; a damaged one is returned but not kept."""
        entry = read_entry(folder)
        if entry.card is not None:
            known = {e.folder.resolve() for e in self.entries}
            if folder.resolve() not in known:
                extra = self._settings.values.memory.extra_models
                self._settings.set("memory.extra_models", [*(p for p in extra if p != str(folder)), str(folder)][-50:])
                self.entries = (*self.entries, entry)
                self.changed.emit()
        return entry

    def usable(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.card is not None]

    def find(self, folder: Path | None) -> Entry | None:
        if folder is None:
            return None
        wanted = Path(folder).resolve()
        return next((e for e in self.entries if e.folder.resolve() == wanted), None)
