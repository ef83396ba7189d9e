"""The checkpoints that are here, read in the background; one list for the Live panel's menu and the Models panel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.deploy.side_by_side import remembered_speeds, speed_of
from engine.models.card import CheckpointCard, Result
from engine.models.shelf import Origin, Place, Shelf, Shelved
from skelapp.settings import SettingsStore
from skelapp.workers import Worker


@dataclass(frozen=True)
class Entry:
    """One checkpoint folder: its card, or why it can't be used."""

    folder: Path
    card: CheckpointCard | None
    size: int
    error: str = ""
    origin: Origin = "added"
    ms: float | None = None  # one clip here, as measured by a comparison

    @property
    def usable(self) -> bool:
        """Whether it can name actions: it can be read, and is no pretrained encoder."""
        return self.card is not None and self.card.classifier_trained

    @property
    def title(self) -> str:
        return (self.card.title or self.card.name) if self.card else self.folder.name

    def result(self, through_camera: bool) -> Result | None:
        """The first result measured on the data themselves, or the first one measured through MediaPipe."""
        for result in self.card.results if self.card else []:
            if ("mediapipe" in f"{result.name} {result.note}".lower()) == through_camera:
                return result
        return None


def _entry(found: Shelved, speeds: dict[str, float]) -> Entry:
    ms = speed_of(found.card, speeds) if found.card else None
    return Entry(found.place.folder, found.card, found.size, found.error, found.place.origin, ms)


def read_entry(folder: Path) -> Entry:
    """Read one checkpoint folder; a damaged one becomes an entry that says why."""
    return _entry(Shelf().look(Place(folder, "added")), remembered_speeds())


class ModelLibrary(QObject):
    """Keeps the list; ``changed`` after every reading."""

    changed = Signal()

    def __init__(self, settings: SettingsStore, worker: Worker, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._worker = worker
        self._shelf = Shelf()
        self.entries: tuple[Entry, ...] = ()
        self.loaded = False
        settings.listen(lambda name: self.refresh() if name == "folders.models" else None)

    def refresh(self) -> None:
        """Read all folders again, in the background."""
        values = self._settings.values
        roots = [Path(values.folders.models).expanduser()] if values.folders.models else []
        extra = [Path(p) for p in values.memory.extra_models]

        def work() -> tuple[Entry, ...]:
            # One thread reads, so the shelf needs no lock; what has not changed on disk is not read again.
            speeds = remembered_speeds()
            found = self._shelf.all(*roots)
            known = {shelved.place.folder.resolve() for shelved in found}
            for path in extra:
                if path.is_dir() and path.resolve() not in known:
                    found.append(self._shelf.look(Place(path, "added")))
            return tuple(_entry(shelved, speeds) for shelved in found)

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
        """Those that can name actions."""
        return [entry for entry in self.entries if entry.usable]

    def find(self, folder: Path | None) -> Entry | None:
        if folder is None:
            return None
        wanted = Path(folder).resolve()
        for entry in self.entries:
            # What a path really is takes a moment to find out: only folders of that name are asked.
            if entry.folder == wanted or (entry.folder.name == wanted.name and entry.folder.resolve() == wanted):
                return entry
        return None
