"""Takes as data for other programs and for training: a store that ``train`` takes, and the PYSKL pickle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from engine.data.export_formats import Exported, export_pyskl
from engine.data.preprocess import resample
from engine.data.splits import FILE_SUFFIX
from engine.data.store import SequenceStore, write_store
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.pack import ClassPack, slug
from engine.teach.takes import PackError, Take

FPS = 30.0
SPLIT = "takes"
# Of an action with this many takes one is kept for testing.
ENOUGH_TO_TEST = 4


def take_sequence(take: Take, label: int, fps: float = FPS, layout: str = "ntu25") -> SkeletonSequence:
    """A trimmed take at a steady rate, as a store keeps it."""
    cut = take.trimmed()
    frames = max(2, round(cut.duration * fps) + 1)
    at = cut.times[0] + np.arange(frames) / fps
    xyz = convert_layout(resample(cut.xyz, cut.times, at, interpolate=True), "ntu25", layout)
    # The action's folder: names of other scripts would all become the same letters.
    name = f"{take.path.parent.name}_{take.number:04d}"
    return SkeletonSequence(xyz, np.arange(frames) / fps, layout, name=name, label=label)


def kept_for_test(takes: Sequence[Take]) -> set[Path]:
    """The newest take of every action that has enough of them, by path."""
    by_action: dict[str, list[Take]] = {}
    for take in takes:
        by_action.setdefault(take.action, []).append(take)
    enough = [group for group in by_action.values() if len(group) >= ENOUGH_TO_TEST]
    return {max(group, key=lambda t: t.number).path for group in enough}


def taught_actions(pack: ClassPack) -> list[str]:
    """Actions with takes, in the pack's order.

    Raises
    ------
    PackError
        There are none.
    """
    found = [action for action in pack.actions if pack.takes(action)]
    if not found:
        raise PackError(f"{pack.name} has no takes yet")
    return found


def export_store(
    pack: ClassPack, folder: Path, name: str = "", fps: float = FPS, progress: Callable[[int], None] | None = None
) -> SequenceStore:
    """Write a pack's takes as a store with its actions as classes and a split ``takes``; counter-examples stay out.

    Raises
    ------
    PackError
        No takes.
    """
    classes = taught_actions(pack)
    tested = kept_for_test(pack.takes())

    def sequences() -> Iterator[SkeletonSequence]:
        for action in classes:
            for take in pack.takes(action):
                sequence = take_sequence(take, classes.index(action), fps)
                sequence.meta = {f"{SPLIT}{FILE_SUFFIX}": int(take.path not in tested), "take": take.number}
                yield sequence

    about = {"pack": pack.name, "program": pack.info.program}
    return write_store(Path(folder), name or Path(folder).name, sequences(), classes, fps, progress, about=about)


def export_pickle(pack: ClassPack, out: Path) -> Exported:
    """Write a pack's takes as the pickle PYSKL and MMAction2 read, with the split ``takes``.

    Raises
    ------
    PackError
        No takes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        store = export_store(pack, Path(temporary) / "takes", slug(pack.name).replace("-", "_"))
        train = store.column(f"{SPLIT}{FILE_SUFFIX}") == 1
        parts = {SPLIT: (np.flatnonzero(train), np.flatnonzero(~train))}
        return export_pyskl(store, Path(out), parts, precision="float32")
