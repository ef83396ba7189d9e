"""What the readers of interchange formats share: arrays that hold finished actors, not raw bodies, and tidy names."""

from __future__ import annotations

import mmap
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.data.bodies import ABSENT_SLOT, MAX_FRAMES, BodyTrack, RawDataError, RawSequence
from engine.data.ntu_names import match_name
from engine.data.safe_load import ArrayPlace

MAX_LABEL = 9999
RELEASE_BYTES = 96 << 20
_SUFFIX = re.compile(r"(\.skeleton|\.npy|_rgb\.avi|\.avi|\.txt|\.json|\.mat)$", re.IGNORECASE)
_NW_UCLA = re.compile(r"S(\d{2})A(\d{2})E(\d{2})V(\d{2})")
_JOINTS_LAYOUT = {25: "ntu25", 20: "kinect20"}
# One split, many spellings: file names, folders, PYSKL keys.
_SPLITS = {
    "cs": "xsub", "csub": "xsub", "xsub": "xsub", "cv": "xview", "cview": "xview", "xview": "xview",
    "cset": "xset", "xset": "xset", "xsetup": "xset",
}  # fmt: skip


def split_column(split: str) -> str:
    """Meta column of a split (``xsub_train``): 1 in the training part, 0 in the test part, no value in neither."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", split).strip("_").lower()
    plain = _SPLITS.get(plain, plain or "default")
    # A column's name begins with a letter; PYSKL counts other sets' splits as train1, train2, ...
    return f"{plain if plain[0].isalpha() else 'split' + plain}"[:56] + "_train"


def split_of_spelling(text: str) -> str | None:
    """``xsub``, ``xview`` or ``xset`` for any published spelling of it, else None."""
    return _SPLITS.get(text.lower())


def layout_of(joints: int, where: str) -> str:
    """Layout with this many joints; raises :class:`RawDataError` when there is none in three dimensions."""
    if joints not in _JOINTS_LAYOUT:
        raise RawDataError(f"{where}: {joints} joints; 25 (NTU, PKU-MMD) and 20 (Kinect v1) are read")
    return _JOINTS_LAYOUT[joints]


def clean_name(name: str) -> str:
    """A sample's name without path and file ending, and in the spelling the raw readers use.

    ``dir/S001C002P003R002A013.skeleton`` -> ``S001C002P003R002A013``; ``0291-M.txt_3`` -> ``0291-M_3``;
    ``S01A08E01V03`` -> ``a08_s01_e01_v03``.

    Raises
    ------
    RawDataError
        Nothing printable is left, or far too much.
    """
    plain = re.split(r"[\\/]", name)[-1].replace(".txt_", "_")
    plain = _SUFFIX.sub("", plain)
    found = _NW_UCLA.fullmatch(plain)
    if found:
        subject, action, episode, view = found.groups()
        plain = f"a{action}_s{subject}_e{episode}_v{view}"
    if not plain or len(plain) > 200 or not plain.isprintable():
        raise RawDataError(f"{name[:80]!r} is no name of a sequence")
    return plain


def name_meta(name: str) -> dict[str, int | str]:
    """What a name in NTU's or NW-UCLA's form tells; empty for others."""
    ntu = match_name(name)
    if ntu is not None:
        return ntu.meta()
    found = re.fullmatch(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})", name)
    if found is None:
        return {}
    return dict(zip(("action", "subject", "episode", "view"), (int(g) for g in found.groups()), strict=True))


def last_frame(xyz: np.ndarray) -> int:
    """Number of frames up to the last one with any value, of ``(T, ...)``."""
    seen = np.flatnonzero((xyz != 0).reshape(len(xyz), -1).any(1))
    return int(seen[-1]) + 1 if len(seen) else 0


def actor_sequence(
    xyz: np.ndarray, where: str, name: str, label: int, layout: str, meta: dict[str, int | str], fps: float = 30.0
) -> RawSequence:
    """Actors ``(T, M, V, 3)`` of one row as bodies 0, 1, ...; they are not to be cleaned again.

    Raises
    ------
    RawDataError
        Values that are not finite, nobody in any frame, or too many frames.
    """
    if not 0 < len(xyz) <= MAX_FRAMES:
        raise RawDataError(f"{where}: {name} has {len(xyz)} frames")
    if not np.isfinite(xyz).all():
        raise RawDataError(f"{where}: {name} holds coordinates that are not finite")
    xyz = np.ascontiguousarray(xyz, np.float32)
    seen = (xyz != 0).any((2, 3))  # (T, M)
    if not seen.any():
        raise RawDataError(f"{where}: {name} is empty, all its coordinates are zero")
    tracks = []
    for m in range(int(np.flatnonzero(seen.any(0))[-1]) + 1):
        frames = np.flatnonzero(seen[:, m])
        # Somebody absent before somebody present keeps the place, so that actor 2 stays actor 2.
        first, stop = (int(frames[0]), int(frames[-1]) + 1) if len(frames) else (0, 1)
        slot = np.where(seen[first:stop, m], m, ABSENT_SLOT).astype(np.uint8)
        tracks.append(BodyTrack(m, first, xyz[first:stop, m].copy(), slot))
    return RawSequence(name, label, len(xyz), tuple(tracks), fps, layout, name_meta(name) | meta)


def integer_labels(values: np.ndarray, where: str) -> np.ndarray:
    """int64 ``(N,)`` from labels written as integers or as floats without fraction.

    Raises
    ------
    RawDataError
        A label that is no class index from 0.
    """
    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind not in "iuf" or not np.isfinite(flat).all() or (flat != np.floor(flat)).any():
        raise RawDataError(f"{where}: labels are {flat.dtype}, whole numbers expected")
    if len(flat) and not (flat.min() >= 0 and flat.max() <= MAX_LABEL):
        raise RawDataError(f"{where}: labels from {flat.min()} to {flat.max()}; class indices from 0 expected")
    return flat.astype(np.int64)


def stamp(path: Path) -> int:
    """When a file was last written: a rewritten file must not be served from an old map."""
    return path.stat().st_mtime_ns


def read_row(place: ArrayPlace, written: int, row: int) -> np.ndarray:
    """A copy of one row; the file is mapped once in every process, ``written`` is its :func:`stamp`."""
    return _opened(place, written).row(row)


class _Rows:
    """A mapped array that gives pages back after a while: walking through 20 GB must not look like using 20 GB."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.touched = 0

    def row(self, row: int) -> np.ndarray:
        copy = np.array(self.array[row], np.float32)
        pages = getattr(self.array, "_mmap", None)
        self.touched += copy.nbytes
        if self.touched > RELEASE_BYTES and pages is not None and hasattr(pages, "madvise"):
            pages.madvise(mmap.MADV_DONTNEED)
            self.touched = 0
        return copy


@lru_cache(maxsize=8)
def _opened(place: ArrayPlace, written: int) -> _Rows:
    return _Rows(place.open())
