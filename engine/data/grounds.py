"""What checkpoints can be tested on here: prepared stores with their classes and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.sets import base_name, splits_of
from engine.data.store import SequenceStore, StoreError


@dataclass(frozen=True)
class TestGround:
    """A prepared store: its name, classes, and the names of its splits."""

    __test__ = False  # no test, though its name says so

    name: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]

    def shared(self, lists: Sequence[Sequence[str]]) -> list[str]:
        """Classes of the store that stand in all the lists too."""
        return [name for name in self.classes if all(name in other for other in lists)]


def store_folders(stores: Path) -> list[Path]:
    """Folders of stores to train and test on, by name: without raw bodies, and what was removed or is being made."""
    try:
        folders = sorted(folder for folder in stores.iterdir() if folder.is_dir())
    except OSError:
        return []
    return [folder for folder in folders if not folder.name.startswith(".") and not folder.name.endswith(".raw")]


def list_grounds(stores: Path) -> list[TestGround]:
    """Every store that can be opened, by name; raw stores and stores without labels are left out."""
    found = []
    for folder in store_folders(stores):
        try:
            store = SequenceStore(folder)
            found.append(TestGround(store.name, tuple(store.classes), tuple(splits_of(store))))
        except (StoreError, OSError, KeyError):
            continue
    return found


def fitting(grounds: Sequence[TestGround], lists: Sequence[Sequence[str]], preferred: str = "") -> list[TestGround]:
    """Grounds on which two classes or more can be compared, those of the preferred dataset first."""
    usable = [ground for ground in grounds if len(ground.shared(lists)) >= 2]
    base = base_name(preferred)
    return sorted(usable, key=lambda ground: (ground.name != preferred, base_name(ground.name) != base, ground.name))
