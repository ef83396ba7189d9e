"""Writing stores: sequence by sequence, or by joining finished parts; the store appears only when it is complete."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bodies import ABSENT_SLOT, MAX_FRAMES, BodyTrack, RawSequence
from engine.data.store_files import (
    ABSENT_INT,
    ABSENT_TEXT,
    BODY_COLUMNS,
    BODY_ID_FILE,
    META_PREFIX,
    NAMES_FILE,
    ORIGIN_FILE,
    ROWS_FILE,
    SEQUENCE_COLUMNS,
    SLOT_FILE,
    TRACKING_FILE,
    GrowingArray,
    StoreError,
    encode_texts,
    read_header,
    save_column,
    swap_in,
    write_header,
)
from engine.skeleton.layout import Layout, get_layout
from engine.skeleton.sequence import SkeletonSequence

_META_KEY = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
_BLOCK_ROWS = 65536


class StoreWriter:
    """Writes one store folder; it counts as a store only after :meth:`close`.

    Parameters
    ----------
    folder : Path
        New folder (an existing one is emptied).
    classes : sequence of str
        Class names; every label must be one of them or -1.
    half : bool
        Keep float16 relative to an origin per sequence: half the size, 0.2-1 mm steps near the body (datasets.md,
        section 7). Single joints that lie exactly at zero lose that exactness; frames without a body don't.
    """

    def __init__(self, folder: Path, classes: Sequence[str], half: bool = False) -> None:
        self.folder, self.classes, self.half = Path(folder), list(classes), half
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.layout = ""
        self.frames = 0
        self._raw = False
        self._arrays: dict[str, GrowingArray] = {}
        self._columns: dict[str, list[int]] = {key: [] for key in (*SEQUENCE_COLUMNS, *BODY_COLUMNS)}
        self._names: list[str] = []
        self._ids: list[int] = []
        self._origins: list[np.ndarray] = []
        self._meta: dict[str, list[int | str | None]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def append(self, sequence: SkeletonSequence | RawSequence) -> None:
        """Add one sequence; nothing of it is kept when it is refused.

        Raises
        ------
        StoreError
            Another layout than the others, a label outside the classes, no frames, coordinates that are not finite, or
            meta values that can't be a column.
        OSError
            The disk is full.
        """
        raw = isinstance(sequence, RawSequence)
        tracks = list(sequence.bodies) if isinstance(sequence, RawSequence) else _tracks(sequence)
        frames = sequence.frames if isinstance(sequence, RawSequence) else len(sequence)
        self._refuse(sequence, tracks, frames, raw)
        if not self._arrays:
            self._open(sequence.layout, raw)
        row = self._arrays[ROWS_FILE].rows
        origin = _origin(tracks, get_layout(self.layout)) if self.half else None
        for track in tracks:
            self._columns["body_start"].append(row)
            self._columns["body_first"].append(track.first)
            self._columns["body_length"].append(len(track.xyz))
            self._ids.append(track.id)
            row += len(track.xyz)
        xyz = np.concatenate([track.xyz for track in tracks])
        if origin is not None:
            xyz = np.where(np.any(xyz != 0, axis=(1, 2))[:, None, None], xyz - origin, 0)
            self._origins.append(origin)
        self._arrays[ROWS_FILE].append(xyz)
        if SLOT_FILE in self._arrays:
            self._arrays[SLOT_FILE].append(np.concatenate([track.slot for track in tracks]))
        self._append_tracking(tracks)
        self._columns["first_body"].append(len(self._columns["body_start"]) - len(tracks))
        self._columns["bodies"].append(len(tracks))
        self._columns["length"].append(frames)
        self._columns["label"].append(sequence.label)
        for key in sequence.meta.keys() - self._meta.keys():
            self._meta[key] = [None] * len(self._names)
        for key, values in self._meta.items():
            values.append(sequence.meta.get(key))
        self._names.append(sequence.name)
        self.frames += frames

    def _open(self, layout: str, raw: bool) -> None:
        joints = get_layout(layout).num_joints
        self.layout, self._raw = layout, raw
        dtype = np.dtype(np.float16 if self.half else np.float32)
        self._arrays[ROWS_FILE] = GrowingArray(self.folder / ROWS_FILE, dtype, (joints, 3))
        if raw:
            self._arrays[SLOT_FILE] = GrowingArray(self.folder / SLOT_FILE, np.dtype(np.uint8), ())

    def _append_tracking(self, tracks: list[BodyTrack]) -> None:
        """The column begins with the first body that has states; before that, and without states, they are unknown."""
        if TRACKING_FILE not in self._arrays:
            if all(track.tracking is None for track in tracks):
                return
            joints = get_layout(self.layout).num_joints
            array = GrowingArray(self.folder / TRACKING_FILE, np.dtype(np.uint8), (joints,))
            self._arrays[TRACKING_FILE] = array
            now = sum(len(track.xyz) for track in tracks)
            array.append(np.full((self._arrays[ROWS_FILE].rows - now, joints), ABSENT_SLOT, np.uint8))
        for track in tracks:
            unknown = np.full(track.xyz.shape[:2], ABSENT_SLOT, np.uint8)
            self._arrays[TRACKING_FILE].append(unknown if track.tracking is None else track.tracking)

    def _refuse(
        self, sequence: SkeletonSequence | RawSequence, tracks: list[BodyTrack], frames: int, raw: bool
    ) -> None:
        name = sequence.name or f"sequence {len(self)}"
        if self.layout and (sequence.layout != self.layout or raw != self._raw):
            raise StoreError(f"{name}: layout {sequence.layout}, the others have {self.layout}")
        if not -1 <= sequence.label < len(self.classes):
            raise StoreError(f"{name}: label {sequence.label} of {len(self.classes)} classes")
        if not tracks or not 1 <= frames <= MAX_FRAMES:
            raise StoreError(f"{name}: {len(tracks)} bodies in {frames} frames, nothing to keep")
        if not all(np.isfinite(track.xyz).all() for track in tracks):
            raise StoreError(f"{name}: coordinates that are not finite")
        if any(not 0 <= track.id < 2**64 for track in tracks):
            raise StoreError(f"{name}: a body id outside 0..2**64-1")
        for key, value in sequence.meta.items():
            if not _META_KEY.match(key) or not isinstance(value, (int, np.integer, str)):
                raise StoreError(f"{name}: meta value {key!r} must be named like a variable, and an integer or a text")
            kept = next((v for v in self._meta.get(key, ()) if v is not None), value)
            if isinstance(kept, str) != isinstance(value, str):
                raise StoreError(f"{name}: {key!r} is {value!r}, the others have {kept!r}")
        encode_texts([sequence.name, *(v for v in sequence.meta.values() if isinstance(v, str))], name)

    def close(self, name: str, fps: float, variant: str = "", about: dict[str, Any] | None = None) -> None:
        """Write index and header; ``about`` is kept in the header as it is (JSON values).

        Raises
        ------
        StoreError
            Nothing was added.
        """
        if not self._names:
            raise StoreError(f"{name}: no sequences found")
        for array in self._arrays.values():
            array.close()
        columns = {f"{key}.npy": np.array(values, np.int64) for key, values in self._columns.items()}
        columns[NAMES_FILE] = encode_texts(self._names, "the names")
        if self._raw:
            columns[BODY_ID_FILE] = np.array(self._ids, np.uint64)
        if self.half:
            columns[ORIGIN_FILE] = np.array(self._origins, np.float32)
        for key, values in self._meta.items():
            columns[f"{META_PREFIX}{key}.npy"] = _meta_column(key, values)
        _finish(self.folder, columns, name, self.layout, fps, variant, self.classes, self.frames, about)

    def abort(self) -> None:
        """Close the files and remove the folder."""
        for array in self._arrays.values():
            array.abort()
        shutil.rmtree(self.folder, ignore_errors=True)


def _tracks(sequence: SkeletonSequence) -> list[BodyTrack]:
    """One track per person, without the leading and trailing frames in which the person is absent."""
    present = np.any(sequence.xyz != 0, axis=(2, 3))
    tracks: list[BodyTrack] = []
    for m in range(sequence.num_persons):
        seen = np.flatnonzero(present[:, m])
        first, stop = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)
        tracks.append(_Person(m, first, sequence.xyz[first:stop, m], np.zeros(stop - first, np.uint8)))
    return tracks


class _Person(BodyTrack):
    """A track that may be empty: an absent person keeps the place."""

    def __post_init__(self) -> None:
        pass


def _origin(tracks: list[BodyTrack], layout: Layout) -> np.ndarray:
    """Middle of the spine (else the layout's root) in the first frame of the first body, float32 ``(3,)``."""
    joint = next((layout.index(j) for j in ("SpineMid", "Spine") if j in layout.joints), layout.root)
    for track in tracks:
        seen = np.flatnonzero(np.any(track.xyz != 0, axis=(1, 2)))
        if len(seen):
            return np.asarray(track.xyz[seen[0], joint], np.float32)
    return np.zeros(3, np.float32)


def _meta_column(key: str, values: Sequence[int | str | None]) -> np.ndarray:
    if any(isinstance(value, str) for value in values):
        return encode_texts([None if value is None else str(value) for value in values], f"column {key!r}")
    return np.array([ABSENT_INT if value is None else int(value) for value in values], np.int64)


def _finish(
    folder: Path,
    columns: dict[str, np.ndarray],
    name: str,
    layout: str,
    fps: float,
    variant: str,
    classes: Sequence[str],
    frames: int,
    about: dict[str, Any] | None,
) -> None:
    for file, column in columns.items():
        save_column(folder / file, column)
    header = {
        "name": name,
        "variant": variant,
        "layout": layout,
        "fps": fps,
        "classes": list(classes),
        "meta": sorted(
            file.removeprefix(META_PREFIX).removesuffix(".npy") for file in columns if file.startswith(META_PREFIX)
        ),
        "sequences": len(columns[NAMES_FILE]),
        "bodies": len(columns["body_start.npy"]),
        "rows": int(columns["body_length.npy"].sum()),
        "frames": frames,
        "about": about or {},
    }
    write_header(folder, header)


def join_stores(
    parts: Sequence[Path], folder: Path, name: str, variant: str = "", about: dict[str, Any] | None = None
) -> None:
    """Join finished parts, in their order, into the store ``folder``.

    Raises
    ------
    StoreError
        No parts, or parts that do not belong together.
    OSError
        The disk is full; the parts are untouched.
    """
    headers = [read_header(part) for part in parts]
    if not headers:
        raise StoreError(f"{name}: no sequences found")
    first = headers[0]
    for part, header in zip(parts, headers, strict=True):
        if any(header[key] != first[key] for key in ("layout", "fps", "classes")):
            raise StoreError(f"{part} does not belong to the other parts of {name}")
    writing = folder.with_name(folder.name + ".writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    try:
        _join_rows(parts, headers, writing)
        columns = _join_columns(parts, headers)
        frames = sum(int(header["frames"]) for header in headers)
        _finish(writing, columns, name, first["layout"], first["fps"], variant, first["classes"], frames, about)
        swap_in(writing, folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise


def _join_rows(parts: Sequence[Path], headers: list[dict[str, Any]], target: Path) -> None:
    for file in (ROWS_FILE, SLOT_FILE, TRACKING_FILE):
        # A state column may be missing in a part whose first sequence has none; its rows are then unknown.
        having = [part for part, header in zip(parts, headers, strict=True) if file in header["files"]]
        if not having:
            continue
        example = np.load(having[0] / file, mmap_mode="r", allow_pickle=False)
        array = GrowingArray(target / file, example.dtype, example.shape[1:])
        try:
            for part, header in zip(parts, headers, strict=True):
                if file not in header["files"]:
                    array.append(np.full((header["rows"], *example.shape[1:]), ABSENT_SLOT, example.dtype))
                    continue
                rows = np.load(part / file, mmap_mode="r", allow_pickle=False)
                for start in range(0, len(rows), _BLOCK_ROWS):
                    array.append(rows[start : start + _BLOCK_ROWS])
            array.close()
        except BaseException:
            array.abort()
            raise


def _join_columns(parts: Sequence[Path], headers: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    rows = {ROWS_FILE, SLOT_FILE, TRACKING_FILE}
    files = sorted({file for header in headers for file in header["files"]} - rows)
    columns: dict[str, np.ndarray] = {}
    for file in files:
        blocks = [np.load(p / file, allow_pickle=False) if (p / file).is_file() else None for p in parts]
        kind = next(block.dtype.kind for block in blocks if block is not None)
        absent: int | bytes = ABSENT_TEXT if kind == "S" else ABSENT_INT
        filled = [
            np.full(header["sequences"], absent) if block is None else block
            for block, header in zip(blocks, headers, strict=True)
        ]
        if any((block.dtype.kind == "S") != (kind == "S") for block in filled):
            raise StoreError(f"{file} holds numbers in one part and texts in another")
        columns[file] = np.concatenate(filled)
    columns["first_body.npy"] = np.cumsum(columns["bodies.npy"]) - columns["bodies.npy"]
    columns["body_start.npy"] = np.cumsum(columns["body_length.npy"]) - columns["body_length.npy"]
    return columns
