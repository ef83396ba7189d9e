"""Where checkpoints stand: those that ship, those of runs, those imported, and those in folders a user named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from engine import paths
from engine.data.preprocess import Stream
from engine.models.card import CARD_FILE, CheckpointCard, CheckpointError, read_card

Origin = Literal["shipped", "trained", "imported", "added"]
# Folders of a run that are checkpoints.
_OF_RUNS = ("checkpoint", "checkpoint_best_on_test", *(f"checkpoint/{stream}" for stream in get_args(Stream)))


def imported() -> Path:
    """Folder of checkpoints made from other projects' weights."""
    return paths.user_data() / "imported"


@dataclass(frozen=True)
class Place:
    """A checkpoint folder and how it came here."""

    folder: Path
    origin: Origin


@dataclass(frozen=True)
class Shelved:
    """A checkpoint as it was found: its card, or why it can't be used; ``size`` of all files in bytes."""

    place: Place
    card: CheckpointCard | None
    size: int
    error: str = ""


def _children(root: Path) -> list[Path]:
    try:
        return sorted(child for child in root.iterdir() if not child.name.startswith("."))
    except OSError:
        return []


def find_places(*more: Path) -> Iterator[Place]:
    """All checkpoint folders, each once: shipped, of runs, imported, then those one level below the folders given."""
    seen: set[tuple[int, int]] = set()

    def new(folder: Path, origin: Origin) -> Iterator[Place]:
        try:
            if not os.path.isfile(f"{folder}{os.sep}{CARD_FILE}"):
                return
            about = os.stat(folder)
        except OSError:
            return
        # A folder that can be reached by two ways is one checkpoint.
        real = about.st_dev, about.st_ino
        if real not in seen:
            seen.add(real)
            yield Place(folder, origin)

    for child in _children(paths.TRAINED_MODELS):
        yield from new(child, "shipped")
    for run in _children(paths.runs()):
        # The steps of a chain are runs inside it.
        for place in (run, *(child for child in _children(run) if child.name[0].isdigit())):
            for name in _OF_RUNS:
                yield from new(place / name, "trained")
        yield from new(run, "trained")
    for child in _children(imported()):
        yield from new(child, "imported")
    for root in more:
        for child in _children(root):
            yield from new(child, "added")


class Shelf:
    """Reads checkpoints and remembers them: a card is read again only when its file has changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], CheckpointCard | None, str]] = {}

    def look(self, place: Place) -> Shelved:
        """One checkpoint; a damaged one says why."""
        folder = place.folder
        size, mark = 0, None
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file():
                        about = entry.stat()
                        size += about.st_size
                        if entry.name == CARD_FILE:
                            mark = (about.st_mtime_ns, about.st_size)
        except OSError as error:
            self._known.pop(folder, None)
            return Shelved(place, None, 0, f"{folder}: {error.strerror or error}")
        if mark is None:
            self._known.pop(folder, None)
            return Shelved(place, None, size, f"{folder} is not a checkpoint folder ({CARD_FILE} is missing)")
        known = self._known.get(folder)
        if known is None or known[0] != mark:
            try:
                known = mark, read_card(folder), ""
            except (CheckpointError, OSError) as error:
                known = mark, None, str(error)
            self._known[folder] = known
        return Shelved(place, known[1], size, known[2])

    def all(self, *more: Path) -> list[Shelved]:
        """Every checkpoint there is; ``more`` as for :func:`find_places`."""
        found = [self.look(place) for place in find_places(*more)]
        places = {shelved.place.folder for shelved in found}
        self._known = {folder: known for folder, known in self._known.items() if folder in places}
        return found
