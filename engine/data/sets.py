"""The datasets this program knows: how each is read, its classes, its frame rate and its splits."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.store import SequenceStore, StoreError
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence

MAX_MEMBER_BYTES = 64 * 1024 * 1024
MAX_FRAMES = 100_000


class RawDataError(Exception):
    """A raw archive can't be read; the message names file and reason."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about one dataset."""

    name: str
    title: str
    classes: tuple[str, ...]
    fps: float
    read: Callable[[Path], Iterator[SkeletonSequence]]
    splits: dict[str, Callable[[SequenceStore], tuple[np.ndarray, np.ndarray]]]
    source: str
    licence: str


NW_UCLA_CLASSES = (
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
    "stand up", "donning", "doffing", "throw", "carry",
)  # fmt: skip
_NW_UCLA_CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
_NW_UCLA_NAME = re.compile(r"^a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})$")

UTD_MHAD_CLASSES = (
    "swipe left", "swipe right", "wave", "clap", "throw", "arm cross", "basketball shoot", "draw x",
    "draw circle cw", "draw circle ccw", "draw triangle", "bowling", "boxing", "baseball swing", "tennis swing",
    "arm curl", "tennis serve", "push", "knock", "catch", "pickup and throw", "jog", "walk", "sit to stand",
    "stand to sit", "lunge", "squat",
)  # fmt: skip


def read_nw_ucla(path: Path) -> Iterator[SkeletonSequence]:
    """Read NW-UCLA from ``all_sqe.zip`` or the unpacked folder, sorted by name (datasets.md, section 4).

    Raises
    ------
    RawDataError
        No JSON file of the expected name, or a file that is damaged.
    """
    members = dict(_json_members(Path(path)))
    if not members:
        raise RawDataError(f"{path}: no NW-UCLA files (aXX_sXX_eXX_vXX.json) found; point at all_sqe.zip or its folder")
    for stem in sorted(members):
        action, subject, episode, view = (int(g) for g in _NW_UCLA_NAME.match(stem).groups())  # type: ignore[union-attr]
        try:
            data = json.loads(members[stem]())
            xyz = np.asarray(data["skeletons"], np.float32)
            label = int(data["label"]) - 1
        except (ValueError, KeyError, TypeError) as error:
            raise RawDataError(f"{path}: {stem}.json is damaged ({error})") from error
        if xyz.ndim != 3 or xyz.shape[1:] != (20, 3) or not 1 <= len(xyz) <= MAX_FRAMES or not np.isfinite(xyz).all():
            raise RawDataError(f"{path}: {stem}.json holds an array of shape {xyz.shape}, expected (T, 20, 3)")
        if action not in _NW_UCLA_CODES or _NW_UCLA_CODES.index(action) != label:
            raise RawDataError(f"{path}: {stem}.json says label {label + 1}, which is not action a{action:02d}")
        yield SkeletonSequence.from_frames(
            xyz, 30.0, "kinect20", stem, label, subject=subject, episode=episode, view=view, digest=_digest(xyz)
        )


def _json_members(path: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    if path.is_dir():
        archive = path / "all_sqe.zip"
        if archive.is_file():
            yield from _json_members(archive)
            return
        for file in path.rglob("*.json"):
            if _NW_UCLA_NAME.match(file.stem) and file.stat().st_size <= MAX_MEMBER_BYTES:
                yield file.stem, lambda file=file: file.read_text("utf-8")  # type: ignore[misc]
        return
    try:
        archive_file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RawDataError(f"{path}: not a readable zip archive or folder ({error})") from error
    for info in archive_file.infolist():
        stem = Path(info.filename).stem
        if info.filename.endswith(".json") and _NW_UCLA_NAME.match(stem) and info.file_size <= MAX_MEMBER_BYTES:
            # Members are read into memory, never written to the disk under their own names.
            yield stem, lambda info=info: archive_file.read(info).decode("utf-8")  # type: ignore[misc]


def _digest(xyz: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(xyz, np.float32).tobytes()).hexdigest()[:16]


def read_npz_set(path: Path, fps: float, stem: str) -> Iterator[SkeletonSequence]:
    """Read a flat ``.npz`` set: ``xyz`` (frames, joints, 3), ``start``, ``label``, ``classes``, ``subject``, ...

    Raises
    ------
    RawDataError
        A key is missing or the arrays disagree. Object arrays are refused: nothing is unpickled.
    """
    path = Path(path)
    file = path / f"{stem}.npz" if path.is_dir() else path
    try:
        with np.load(file, allow_pickle=False) as archive:
            data = {key: archive[key] for key in archive.files}
        xyz, start, label = data["xyz"], data["start"], data["label"]
    except (OSError, ValueError, KeyError) as error:
        raise RawDataError(f"{file}: can't be read ({error})") from error
    bounds = start if len(start) == len(label) + 1 else np.append(start, len(xyz))
    if len(bounds) != len(label) + 1 or bounds[-1] != len(xyz) or (np.diff(bounds) < 1).any():
        raise RawDataError(f"{file}: sequence boundaries do not fit {len(xyz)} frames and {len(label)} labels")
    for i, (a, b) in enumerate(itertools.pairwise(bounds)):
        meta = {key: int(data[key][i]) for key in ("subject", "trial", "view") if key in data}
        name = str(data["name"][i]) if "name" in data else f"{stem}_{i:04d}"
        frames = xyz[a:b]
        if not np.isfinite(frames).all():
            raise RawDataError(f"{file}: {name} holds coordinates that are not finite")
        yield SkeletonSequence.from_frames(frames, fps, "kinect20", name, int(label[i]), **meta, digest=_digest(frames))


def _nw_ucla_xview(store: SequenceStore) -> tuple[np.ndarray, np.ndarray]:
    view = store.column("view")
    return np.flatnonzero(view != 3), np.flatnonzero(view == 3)


def _nw_ucla_xview_clean(store: SequenceStore) -> tuple[np.ndarray, np.ndarray]:
    """The test view without sequences whose data also stand in the training views (95 of 464 are such copies)."""
    train, test = _nw_ucla_xview(store)
    digest = store.column("digest")
    return train, test[~np.isin(digest[test], digest[train])]


def _odd_even_subjects(store: SequenceStore) -> tuple[np.ndarray, np.ndarray]:
    odd = store.column("subject") % 2 == 1
    return np.flatnonzero(odd), np.flatnonzero(~odd)


DATASETS: dict[str, DatasetInfo] = {
    "nw_ucla": DatasetInfo(
        "nw_ucla", "Northwestern-UCLA Multiview Action 3D", NW_UCLA_CLASSES, 30.0, read_nw_ucla,
        {"xview": _nw_ucla_xview, "xview_clean": _nw_ucla_xview_clean},
        "all_sqe.zip, as distributed with the public loaders of the CTR-GCN family",
        "research use; frame rate not published, taken as 30",
    ),
    "utd_mhad": DatasetInfo(
        "utd_mhad", "UTD Multimodal Human Action Dataset", UTD_MHAD_CLASSES, 30.0,
        lambda path: read_npz_set(path, 30.0, "utd_mhad"),
        {"xsub": _odd_even_subjects},
        "Kinect v1 skeletons of the University of Texas at Dallas, as one utd_mhad.npz",
        "placed in the public domain by its authors",
    ),
}  # fmt: skip


def dataset_info(name: str) -> DatasetInfo:
    """Look a dataset up; raises ``KeyError`` that lists the known ones."""
    base = name.removesuffix("_mediapipe")
    try:
        return DATASETS[base]
    except KeyError:
        raise KeyError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}") from None


def read_dataset(name: str, raw: Path) -> Iterator[SkeletonSequence]:
    """Raw sequences of a dataset, converted to the NTU-25 layout."""
    for sequence in dataset_info(name).read(raw):
        yield SkeletonSequence(
            convert_layout(sequence.xyz, sequence.layout, "ntu25"),
            sequence.times,
            "ntu25",
            name=sequence.name,
            label=sequence.label,
            meta=sequence.meta,
        )


def split_indices(store: SequenceStore, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test indices of a split; raises :class:`StoreError` that lists the known splits."""
    splits = dataset_info(store.name).splits
    if split not in splits:
        raise StoreError(f"{store.name} has no split {split!r}; known: {', '.join(splits)}")
    return splits[split](store)
