"""Reads the ``.npy`` folders of the ST-GCN family: one dense array per part, with names and labels beside it.

Files, shapes and their makers: datasets.md, sections 2.3 to 2.5 and 5.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from engine.data.bodies import MAX_BODIES, MAX_FRAMES, RawDataError, RawSequence, RawSource
from engine.data.readers.actors import (
    actor_sequence,
    clean_name,
    integer_labels,
    last_frame,
    layout_of,
    read_row,
    split_column,
    split_of_spelling,
    stamp,
)
from engine.data.safe_load import ArrayPlace, find_npy, load_npy, load_pickle

Content = Literal["data", "data_joint", "position", "motion", "data_bone", "data_joint_motion", "data_bone_motion"]
Preset = Literal["stgcn", "gl_transformer"]

#: Contents that are joint positions, in the order in which they are looked for. The others are streams computed from
#: them and are read only when asked for by name.
POSITIONS: tuple[Content, ...] = ("data", "data_joint", "position")
CONTENTS: tuple[Content, ...] = (*POSITIONS, "motion", "data_bone", "data_joint_motion", "data_bone_motion")
# The file names of the test part; what this family calls val is the test part.
_PARTS = {"train": ("train",), "test": ("val", "test")}
_PREFIXES = ("train", "val", "test")
# GL-Transformer's filler behind the end of a sequence, as the float32 it is stored in.
GL_PADDING = np.float32(99.9)


@dataclass(frozen=True)
class _Folder:
    """What a worker needs to read rows."""

    place: tuple[tuple[str, ArrayPlace, int], ...]
    layout: str
    content: str
    split: str
    preset: str


def open_stgcn_npy(path: Path, content: Content | None = None, preset: Preset = "stgcn") -> RawSource:
    """Open a folder with ``{train,val}_data.npy`` or the like; rows are read one by one from the mapped files.

    Parameters
    ----------
    path : Path
        The folder of one split (``NTU60_frame50/xsub``), one of its ``.npy`` files, or a folder with one such split.
        The folder's name tells the split.
    content : str, optional
        Which arrays: ``data`` (raw camera metres), ``data_joint`` (normalised, repeated up to 300 frames),
        ``position`` (relative to the spine, 50 or 64 frames), or a stream made from them. Default: the first of
        :data:`POSITIONS` that is there.
    preset : {"stgcn", "gl_transformer"}
        ``gl_transformer``: frames filled with 99.9 behind the end of a sequence are padding, and joint 20 of
        ``position`` holds the displacement of the spine (left as it is). Elsewhere 99.9 is a coordinate.

    Returns
    -------
    RawSource
        Rows are finished actors, not to be cleaned again. Length of a sequence: up to its last frame that is not zero
        (``data``); the recorded number of frames or, without ``_num_frame.npy``, the period of the repetition
        (``data_joint`` and its streams); all frames (``position`` and ``motion``, which were resized). Meta:
        ``xsub_train`` (or the like) is 1 or 0, ``content`` names the arrays.

    Raises
    ------
    RawDataError
        No such files, or names, labels and arrays that disagree.
    """
    folder, content = _folder(Path(path), content)
    split = next((s for part in reversed(folder.parts) if (s := split_of_spelling(part))), "default")
    items: list[str] = []
    places: list[tuple[str, ArrayPlace, int]] = []
    layout = ""
    for part, prefixes in _PARTS.items():
        prefix = next((p for p in prefixes if (folder / f"{p}_{content}.npy").is_file()), None)
        if prefix is None:
            continue
        file = folder / f"{prefix}_{content}.npy"
        place = find_npy(file)
        shape = place.shape
        if (
            len(shape) != 5
            or shape[1] != 3
            or not 0 < shape[2] <= MAX_FRAMES
            or not 1 <= shape[4] <= MAX_BODIES
            or np.dtype(place.dtype).kind != "f"
        ):
            raise RawDataError(f"{file} is {place.dtype} {shape}, float32 (N, 3, T, V, M) expected")
        found = layout_of(shape[3], str(file))
        if layout and found != layout:
            raise RawDataError(f"{file} has {shape[3]} joints, the other part has not")
        layout = found
        names, labels = _labels(folder, prefix, shape[0])
        lengths = _lengths(folder, prefix, shape[0])
        places.append((part, place, stamp(file)))
        items += [
            f"{part} {i} {lengths[i]} {label} {name}" for i, (label, name) in enumerate(zip(labels, names, strict=True))
        ]
    if not places:
        raise RawDataError(f"{folder}: no train_{content}.npy or val_{content}.npy")
    return RawSource(tuple(items), partial(_read, _Folder(tuple(places), layout, content, split, preset)))


def read_label_pickle(path: Path) -> tuple[list[str], np.ndarray]:
    """Names (tidied) and labels int64 ``(N,)`` of a ``_label.pkl``: a pickled pair of equally long lists.

    Raises
    ------
    RawDataError
        Something else is in it; :class:`~engine.data.safe_load.UnsafeFileError` when that could run a program.
    """
    pair = load_pickle(path)
    if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) not in (list, tuple):
        raise RawDataError(f"{path}: a pair (names, labels) expected")
    names, labels = pair
    if not all(type(name) is str for name in names):
        raise RawDataError(f"{path}: names that are no text")
    if type(labels) in (list, tuple):
        if not all(type(label) in (int, float) for label in labels):
            raise RawDataError(f"{path}: labels that are no numbers")
        labels = np.array(labels, np.float64)
    if not isinstance(labels, np.ndarray) or labels.size != len(names):
        raise RawDataError(f"{path}: {len(names)} names and labels that are not as many")
    return [clean_name(name) for name in names], integer_labels(labels, str(path))


def _folder(path: Path, content: Content | None) -> tuple[Path, Content]:
    """The folder that holds the arrays, and which arrays."""
    if path.suffix == ".npy":
        stem = path.stem.partition("_")[2]
        named = next((c for c in CONTENTS if c == stem), None)
        if named is None:
            raise RawDataError(f"{path}: names of this family are train_data.npy, val_position.npy and the like")
        return path.parent, content or named
    wanted = (content,) if content else POSITIONS
    for candidate in wanted:
        # Two levels are searched: <set>/<split>/.
        patterns = [f"{levels}{prefix}_{candidate}.npy" for levels in ("", "*/", "*/*/") for prefix in _PREFIXES]
        folders = sorted({file.parent for pattern in patterns for file in path.glob(pattern)})
        if len(folders) > 1:
            listed = ", ".join(str(f.relative_to(path)) for f in folders[:6])
            raise RawDataError(f"{path}: several folders hold {candidate} arrays ({listed}); choose one")
        if folders:
            return folders[0], candidate
    raise RawDataError(f"{path}: no arrays of the ST-GCN family (train_{wanted[0]}.npy, val_{wanted[0]}.npy, ...)")


def _labels(folder: Path, prefix: str, count: int) -> tuple[list[str], np.ndarray]:
    pickled, plain = folder / f"{prefix}_label.pkl", folder / f"{prefix}_label.npy"
    if pickled.is_file():
        names, labels = read_label_pickle(pickled)
        source = pickled
    elif plain.is_file():
        labels, source = integer_labels(load_npy(plain), str(plain)), plain
        names = [f"{folder.name}_{prefix}_{i:06d}" for i in range(len(labels))]
    else:
        raise RawDataError(f"{folder}: neither {pickled.name} nor {plain.name}")
    if len(labels) != count:
        raise RawDataError(f"{source}: {len(labels)} labels for {count} sequences")
    return names, labels


def _lengths(folder: Path, prefix: str, count: int) -> np.ndarray:
    """Recorded numbers of frames; zeros where the folder has none."""
    file = folder / f"{prefix}_num_frame.npy"
    if not file.is_file():
        return np.zeros(count, np.int64)
    values = load_npy(file)
    if values.shape != (count,) or values.dtype.kind not in "iu" or (count and values.min() < 0):
        raise RawDataError(f"{file} is {values.dtype} {values.shape}, {count} numbers of frames expected")
    return values.astype(np.int64)


def _period(xyz: np.ndarray) -> int:
    """Shortest length after which ``(T, ...)`` repeats bit by bit; T when it does not."""
    for length in np.flatnonzero((xyz == xyz[0]).reshape(len(xyz), -1).all(1))[1:]:
        if np.array_equal(xyz[length:], xyz[:-length]):
            return int(length)
    return len(xyz)


def _read(folder: _Folder, item: str) -> Iterator[RawSequence]:
    part, row, recorded, label, name = item.split(" ", 4)
    place, written = next((place, written) for p, place, written in folder.place if p == part)
    xyz = read_row(place, written, int(row)).transpose(1, 3, 2, 0)  # (T, M, V, 3)
    if folder.preset == "gl_transformer":
        filled = (xyz == GL_PADDING).all((1, 2, 3))
        xyz = xyz[: len(xyz) - int(np.argmin(filled[::-1]))] if not filled.all() else xyz[:0]
    elif folder.content == "data":
        xyz = xyz[: last_frame(xyz)]
    elif folder.content.startswith("data_"):
        xyz = xyz[: int(recorded) or _period(xyz[:, 0])]
    meta: dict[str, int | str] = {split_column(folder.split): int(part == "train"), "content": folder.content}
    yield actor_sequence(xyz, place.where, name, int(label), folder.layout, meta)
