"""Reads the ``.npz`` files of the CTR-GCN family: padded rows of finished actors without names or lengths.

Files, keys and row order: datasets.md, section 5.1. InfoGCN's ``*_aligned`` and MAMP's PKU-MMD files have that form.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from engine.data.bodies import MAX_FRAMES, RawDataError, RawSequence, RawSource
from engine.data.ntu_names import (
    DATASET_NAMES,
    LIST_A,
    LIST_B,
    NtuName,
    belongs,
    match_name,
    missing_names,
    ntu_classes,
)
from engine.data.readers.actors import (
    actor_sequence,
    clean_name,
    integer_labels,
    last_frame,
    read_row,
    split_column,
    split_of_spelling,
    stamp,
)
from engine.data.safe_load import ArrayPlace, find_npz

PARTS = ("train", "test")
ROW = 150
#: Name lists that are looked for beside the file, one name per line; CTR-GCN's folders hold the second.
NAME_LISTS = ("skes_available_name.txt", "statistics/skes_available_name.txt", "names.txt")
_FILE = re.compile(r"(NTU60|NTU120|PKUv1|PKUv2)_(CS|CV|CSub|CSet|XSub|XView|XSet)(_aligned)?", re.IGNORECASE)
_DATASETS = {"ntu60": "ntu60", "ntu120": "ntu120", "pkuv1": "pku_mmd_1", "pkuv2": "pku_mmd_2"}
_CLASSES = {"pku_mmd_1": 51, "pku_mmd_2": 51}


@dataclass(frozen=True)
class NpzName:
    """What the name of a file says: dataset and split ("" when it says nothing), and whether InfoGCN aligned it."""

    dataset: str
    split: str
    aligned: bool

    @classmethod
    def of(cls, path: Path) -> NpzName:
        found = _FILE.fullmatch(path.stem)
        if found is None:
            return cls("", "", False)
        return cls(_DATASETS[found[1].lower()], split_of_spelling(found[2]) or "", found[3] is not None)


@dataclass(frozen=True)
class _Archive:
    """What a worker needs to read rows; ``x`` holds train and test."""

    path: Path
    x: tuple[ArrayPlace, ArrayPlace]
    written: int
    split: str
    aligned: bool


def open_ctrgcn_npz(path: Path, names: Sequence[str] | None = None) -> RawSource:
    """Open ``NTU60_CS.npz`` and its like; rows are read one by one from the mapped file.

    Parameters
    ----------
    path : Path
        A file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``. Its name (case ignored) tells dataset and
        split; a file of another name is read as well, its split is called ``default``.
    names : sequence of str, optional
        Names of all usable recordings of the dataset in any order. Without it a list is looked for beside the file
        (:data:`NAME_LISTS`). The rows stand in a known order (see :func:`published_order`), so that names can be given
        back to them; they are believed only when every label agrees. Files written by this program carry their names.

    Returns
    -------
    RawSource
        Rows are finished actors, not to be cleaned again. A sequence ends with its last frame that is not zero; a
        second actor who is a copy of the first bit by bit (NTU-120) is left out. Meta: ``xsub_train`` (or the like)
        is 1 or 0; ``aligned`` is 1 in InfoGCN's files. Rows without known names are called
        ``STEM_train_000012``.

    Raises
    ------
    RawDataError
        Not such a file, or labels that are not one-hot.
    """
    path = Path(path)
    places = find_npz(path)
    absent = [key for part in PARTS for key in (f"x_{part}", f"y_{part}") if key not in places]
    if absent:
        raise RawDataError(
            f"{path}: no array {', '.join(absent)}; a file of the CTR-GCN family has x_train, y_train, ..."
        )
    about = NpzName.of(path)
    split = about.split or "default"
    known = _name_list(path, names)
    items: list[str] = []
    for part in PARTS:
        x = places[f"x_{part}"]
        if len(x.shape) != 3 or x.shape[2] != ROW or x.shape[1] > MAX_FRAMES or np.dtype(x.dtype).kind != "f":
            raise RawDataError(f"{path}: x_{part} is {x.dtype} {x.shape}, float32 (N, 300, {ROW}) expected")
        labels = _labels(places[f"y_{part}"], x.shape[0], about.dataset, f"{path}: y_{part}")
        rows = _names(path, part, labels, places.get(f"name_{part}"), known, about)
        items += [f"{part} {i} {label} {name}" for i, (label, name) in enumerate(zip(labels, rows, strict=True))]
    both = (places["x_train"], places["x_test"])
    archive = _Archive(path, both, stamp(path), split, about.aligned)
    # A compressed array would be unpacked again in every worker.
    return RawSource(tuple(items), partial(_read, archive), parallel=all(x.offset is not None for x in both))


def trains(name: NtuName, dataset: str, split: str) -> bool:
    """Whether a recording belongs to the training part (datasets.md, section 1.5)."""
    if split == "xsub":
        return name.performer in (LIST_A if dataset == "ntu60" else LIST_B)
    if split == "xview":
        return name.camera != 1
    if split == "xset":
        return name.setup % 2 == 0
    raise ValueError(f"no split {split!r} of {dataset}")


def published_order(names: Sequence[str], dataset: str, split: str, part: str) -> list[str]:
    """Names of one part of an NTU split in the order of the published rows.

    Grouped by performer (xsub), camera (xview) or setup (xset), ascending; sorted inside a group. Damaged recordings
    and names of other datasets are left out.
    """
    damaged = missing_names(dataset)
    chosen = []
    for text in sorted(set(names) - damaged):
        name = match_name(text)
        if name and belongs(name, dataset) and trains(name, dataset, split) == (part == "train"):
            chosen.append((row_group(name, split), text))
    return [text for _, text in sorted(chosen)]


def row_group(name: NtuName, split: str) -> int:
    """By what published rows are grouped before they are sorted by name; 0 for splits nobody published."""
    return {"xsub": name.performer, "xview": name.camera, "xset": name.setup}.get(split, 0)


def _labels(place: ArrayPlace, count: int, dataset: str, where: str) -> np.ndarray:
    if place.shape[:1] != (count,) or len(place.shape) not in (1, 2) or np.dtype(place.dtype).kind not in "iufb":
        raise RawDataError(f"{where} is {place.dtype} {place.shape}, one row for each of {count} sequences expected")
    y = place.open()
    if y.ndim == 2 and y.shape[1] != 1:
        # One value of 1 in every row; anything else has no single class.
        wrong = np.flatnonzero(((y != 0).sum(1) != 1) | (y.max(1, initial=0) != 1))
        if len(wrong):
            raise RawDataError(f"{where}: row {wrong[0]} is not one-hot ({len(wrong)} such rows)")
        y = y.argmax(1)
    labels = integer_labels(y, where)
    classes = len(ntu_classes(dataset)) if dataset in DATASET_NAMES else _CLASSES.get(dataset, 0)
    if classes and len(labels) and labels.max() >= classes:
        raise RawDataError(f"{where}: label {labels.max()}, but {dataset} has {classes} classes")
    return labels


def _name_list(path: Path, names: Sequence[str] | None) -> list[str]:
    if names is not None:
        return [clean_name(name) for name in names]
    for file in (path.parent / name for name in NAME_LISTS):
        if file.is_file() and file.stat().st_size < 64 << 20:
            lines = file.read_text("utf-8", errors="replace").splitlines()
            return [name for line in lines if match_name(name := line.strip().removesuffix(".skeleton"))]
    return []


def _names(
    path: Path, part: str, labels: np.ndarray, own: ArrayPlace | None, known: Sequence[str], about: NpzName
) -> list[str]:
    """A name for every row: the file's own, one recovered from the row's place, or a number."""
    if own is not None:
        if own.shape != labels.shape or np.dtype(own.dtype).kind != "S":
            raise RawDataError(f"{path}: name_{part} is {own.dtype} {own.shape}, one name for each row expected")
        return [clean_name(name.decode("utf-8", errors="replace")) for name in own.open().tolist()]
    if known and about.dataset in DATASET_NAMES:
        rows = published_order(known, about.dataset, about.split, part)
        if len(rows) != len(labels):
            reason = f"{len(rows)} names, {len(labels)} rows"
        else:
            agree = np.array([int(name[17:]) - 1 for name in rows], np.int64) == labels
            if agree.all():
                return rows
            first = int(np.flatnonzero(~agree)[0])
            reason = f"row {first} has label {labels[first]}, which is not {rows[first]}"
        warnings.warn(f"{path}: the names do not fit the {part} rows ({reason}); they stay unnamed", stacklevel=3)
    return [f"{path.stem}_{part}_{i:06d}" for i in range(len(labels))]


def _read(archive: _Archive, item: str) -> Iterator[RawSequence]:
    part, row, label, name = item.split(" ", 3)
    flat = read_row(archive.x[PARTS.index(part)], archive.written, int(row))  # (T, 150)
    flat = flat[: last_frame(flat)]
    xyz = flat.reshape(len(flat), 2, ROW // 6, 3)
    if len(flat) and np.array_equal(xyz[:, 0].view(np.uint32), xyz[:, 1].view(np.uint32)):
        xyz = xyz[:, :1]
    if not len(flat):
        raise RawDataError(f"{archive.path}: {name} ({part} row {row}) is empty, all its coordinates are zero")
    meta: dict[str, int | str] = {split_column(archive.split): int(part == "train")}
    if archive.aligned:
        meta["aligned"] = 1
    yield actor_sequence(xyz, str(archive.path), name, int(label), "ntu25", meta)
