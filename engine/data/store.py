"""The store: every frame of a dataset in one flat memory-mapped array, plus an index.

One store serves all splits (splits are index lists, never copies). A store folder holds ``xyz.npy`` and
``index.json``; the index is written last, so an interrupted preparation never looks finished.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.skeleton.layout import get_layout
from engine.skeleton.sequence import SkeletonSequence

INDEX_FILE = "index.json"
XYZ_FILE = "xyz.npy"


class StoreError(Exception):
    """A store is absent, unfinished or damaged."""


class SequenceStore:
    """Read access to a prepared store.

    Rows of ``xyz`` are person-frames: frame ``t`` of person ``m`` of sequence ``i`` is row
    ``start[i] + t * persons[i] + m``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX_FILE
        if not path.is_file():
            raise StoreError(f"no prepared store in {self.folder}")
        try:
            index: dict[str, Any] = json.loads(path.read_text("utf-8"))
            self.name: str = index["name"]
            self.layout: str = index["layout"]
            self.fps: float = float(index["fps"])
            self.classes: list[str] = index["classes"]
            self.names: list[str] = index["names"]
            self.start = np.asarray(index["start"], np.int64)
            self.length = np.asarray(index["length"], np.int64)
            self.persons = np.asarray(index["persons"], np.int64)
            self.label = np.asarray(index["label"], np.int64)
            self.meta: dict[str, list[int | str]] = index["meta"]
            self.xyz = np.load(self.folder / XYZ_FILE, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the store in {self.folder} is damaged ({error}); prepare it again") from error
        rows = int((self.length * self.persons).sum())
        if self.xyz.shape != (rows, get_layout(self.layout).num_joints, 3):
            raise StoreError(
                f"the store in {self.folder} is damaged: {XYZ_FILE} is {self.xyz.shape}, {rows} rows expected"
            )

    def __len__(self) -> int:
        return len(self.names)

    def sequence(self, i: int) -> SkeletonSequence:
        """Sequence ``i`` as written; its times start at zero."""
        frames, persons = int(self.length[i]), int(self.persons[i])
        rows = self.xyz[self.start[i] : self.start[i] + frames * persons]
        return SkeletonSequence(
            np.array(rows).reshape(frames, persons, *rows.shape[1:]),
            np.arange(frames) / self.fps,
            self.layout,
            name=self.names[i],
            label=int(self.label[i]),
            meta={key: values[i] for key, values in self.meta.items()},
        )

    def column(self, key: str) -> np.ndarray:
        """A meta column as an array; raises :class:`StoreError` when the set has no such column."""
        if key not in self.meta:
            raise StoreError(f"{self.name} has no column {key!r}; it has {', '.join(self.meta)}")
        return np.asarray(self.meta[key])

    def indices_of(self, names: Iterable[str]) -> np.ndarray:
        """Positions of all sequences with one of these names, in storage order; a name may stand here several times."""
        wanted = set(names)
        return np.array([i for i, name in enumerate(self.names) if name in wanted], np.int64)


def write_store(
    folder: Path,
    name: str,
    sequences: Iterable[SkeletonSequence],
    classes: Sequence[str],
    fps: float,
    progress: Callable[[int], None] | None = None,
) -> SequenceStore:
    """Write sequences (all of one layout) into a new store; the folder appears only when it is complete.

    Raises
    ------
    StoreError
        Nothing to write, or sequences of different layouts.
    """
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    blocks: list[np.ndarray] = []
    index: dict[str, Any] = {key: [] for key in ("names", "start", "length", "persons", "label")}
    meta: dict[str, list[int | str]] = {}
    layout = ""
    row = 0
    for count, sequence in enumerate(sequences):
        layout = layout or sequence.layout
        if sequence.layout != layout:
            raise StoreError(f"{sequence.name}: layout {sequence.layout}, the others have {layout}")
        flat = sequence.xyz.reshape(-1, *sequence.xyz.shape[2:])
        blocks.append(flat)
        index["names"].append(sequence.name)
        index["start"].append(row)
        index["length"].append(len(sequence))
        index["persons"].append(sequence.num_persons)
        index["label"].append(sequence.label)
        for key, value in sequence.meta.items():
            meta.setdefault(key, []).append(value)
        row += len(flat)
        if progress:
            progress(count + 1)
    if not blocks:
        raise StoreError(f"{name}: no sequences found")
    np.save(partial / XYZ_FILE, np.concatenate(blocks))
    index |= {"name": name, "layout": layout, "fps": fps, "classes": list(classes), "meta": meta}
    (partial / INDEX_FILE).write_text(json.dumps(index), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return SequenceStore(folder)
