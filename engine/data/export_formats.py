"""Writes prepared stores in the two forms other projects read: PYSKL's pickle and the ``.npz`` of the CTR-GCN family.

Both are written sequence by sequence, so a file of ten gigabytes needs no more memory than one sequence. Forms:
datasets.md, sections 5.1 and 5.3.
"""

from __future__ import annotations

import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy

from engine.data.ntu_names import match_name
from engine.data.readers.ctrgcn_npz import PARTS, row_group
from engine.data.store import SequenceStore, StoreError
from engine.skeleton.convert import convert_layout

ACTORS = 2
NPZ_FRAMES = 300
SPINE_MID = 1
Parts = tuple[np.ndarray, np.ndarray]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Exported:
    """What was written: ``sequences``, names left out because nobody is in them, and how many were shortened."""

    sequences: int
    empty: tuple[str, ...] = ()
    cropped: int = 0


def export_pyskl(
    store: SequenceStore,
    out: Path,
    splits: Mapping[str, Parts],
    precision: Literal["float16", "float32"] = "float16",
    progress: Progress | None = None,
) -> Exported:
    """Write a pickle that PYSKL and MMAction2 read, also with NumPy 1.

    Parameters
    ----------
    store : SequenceStore
        ``keypoint`` becomes ``(M, T, V, 3)`` with the store's joints, coordinates and frames, M at most 2.
    out : Path
        The file; it appears when it is complete.
    splits : mapping
        Training and test positions by split; ``xsub`` gives the keys ``xsub_train`` and ``xsub_val``. The file holds
        the sequences that stand in any split; all that have a label when there is none.
    precision : str
        float16 as published (2 mm steps between 2 and 4 m from the camera), or float32.

    Raises
    ------
    StoreError
        A sequence without label in a split, or nothing to write.
    """
    names = unique_names(store)
    labelled = np.flatnonzero(store.label >= 0)
    chosen = np.unique(np.concatenate([p for pair in splits.values() for p in pair])) if splits else labelled
    _all_labelled(store, chosen)
    empty: list[str] = []
    count = 0
    with _written(out) as file:
        writer = _PickleWriter(file, precision)
        file.write(b"}(")
        writer.plain("annotations")
        file.write(b"]")
        for i in map(int, chosen):
            xyz = store.sequence(i).xyz[:, :ACTORS]
            if not xyz.any():
                empty.append(names[i])
                continue
            writer.annotation(names[i], int(store.label[i]), xyz.transpose(1, 0, 2, 3))
            count += 1
            if progress:
                progress(count)
        left_out = set(empty)
        lists = {
            f"{split}_{key}": [names[i] for i in positions.tolist() if names[i] not in left_out]
            for split, pair in splits.items()
            for key, positions in zip(("train", "val"), pair, strict=True)
        }
        writer.plain("split")
        writer.plain(lists)
        file.write(b"u.")
        if not count:
            raise StoreError(f"{store.name}: no sequences to write")
    return Exported(count, tuple(empty))


def export_npz(
    store: SequenceStore,
    out: Path,
    split: str,
    parts: Parts,
    centre: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write ``x_train``, ``y_train``, ``x_test``, ``y_test`` as the CTR-GCN family reads them.

    ``x`` is float32 ``(N, 300, 150)``, zero-padded at the end; the second actor's place stays zero when there is one
    actor (also for NTU-120, whose published files repeat him). ``y`` is float64 one-hot. Sequences of more than 300
    frames keep their middle 300, as PKU-MMD is cut in sections 2.3 and 3.4: resampling would change their speed. Kinect
    v1 joints are converted to the 25 joints the form asks for. NTU rows stand in the published order. Two arrays more
    than the published files have, ``name_train`` and ``name_test`` (UTF-8), disturb no reader and let names survive.

    Parameters
    ----------
    split : str
        Name of the split, for the order of the rows.
    parts : tuple of numpy.ndarray
        Training and test positions.
    centre : bool
        Move the origin to SpineMid of actor 1 in the first frame in which he is seen (section 2.1, step F), as in
        CTR-GCN's own files. Stores of the variant ``compatible`` already have it there.

    Raises
    ------
    StoreError
        A sequence without label, or nothing to write.
    """
    names = unique_names(store)
    _all_labelled(store, np.concatenate(parts))
    empty: list[str] = []
    count = cropped = 0
    with _written(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for part, positions in zip(PARTS, parts, strict=True):
            occupied = _occupied(store, positions)
            empty += [names[i] for i in positions[~occupied].tolist()]
            rows = _row_order(store, positions[occupied].tolist(), split)
            with _member(archive, f"x_{part}", "<f4", (len(rows), NPZ_FRAMES, ACTORS * 75)) as stream:
                for i in rows:
                    flat, cut = _npz_row(store, i, centre)
                    cropped += cut
                    stream.write(flat.tobytes())
                    count += 1
                    if progress:
                        progress(count)
            with _member(archive, f"y_{part}", "<f8", (len(rows), len(store.classes))) as stream:
                stream.write(np.eye(len(store.classes))[store.label[rows]].astype("<f8").tobytes())
            encoded = np.array([names[i].encode() for i in rows], dtype="S" if rows else "S1")
            with _member(archive, f"name_{part}", encoded.dtype.str, encoded.shape) as stream:
                stream.write(encoded.tobytes())
        if not count:
            raise StoreError(f"{store.name}: no sequences to write")
    return Exported(count, tuple(empty), cropped)


def unique_names(store: SequenceStore) -> list[str]:
    """The store's names, the second and later ones of a name (several films of one sequence) with ``__2``, ..."""
    seen: Counter[str] = Counter()
    names = []
    for name in store.names:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}__{seen[name]}")
    return names


def _all_labelled(store: SequenceStore, positions: Sequence[int] | np.ndarray) -> None:
    unknown = [int(i) for i in positions if store.label[i] < 0]
    if unknown:
        raise StoreError(f"{store.name}: {store.names[unknown[0]]} has no label ({len(unknown)} such sequences)")


def _occupied(store: SequenceStore, positions: np.ndarray) -> np.ndarray:
    """bool per position: whether anybody is there, from the index alone."""
    rows = np.zeros(len(store), np.int64)
    np.add.at(rows, store.body_sequence, store.body_length)
    return rows[positions] > 0


def _row_order(store: SequenceStore, positions: Sequence[int], split: str) -> list[int]:
    parsed = {i: match_name(store.names[i]) for i in positions}
    if not all(parsed.values()):
        return list(positions)
    return sorted(positions, key=lambda i: (row_group(parsed[i], split), store.names[i]))  # type: ignore[arg-type]


def _npz_row(store: SequenceStore, i: int, centre: bool) -> tuple[np.ndarray, bool]:
    """One row ``(300, 150)`` and whether the sequence was shortened for it."""
    sequence = store.sequence(i)
    xyz = convert_layout(sequence.xyz[:, :ACTORS], sequence.layout, "ntu25")
    long = len(xyz) > NPZ_FRAMES
    if long:
        begin = (len(xyz) - NPZ_FRAMES) // 2
        xyz = xyz[begin : begin + NPZ_FRAMES]
    if centre:
        present = (xyz != 0).any((2, 3))
        first = int(np.argmax(present[:, 0]))
        xyz = np.where(present[..., None, None], xyz - xyz[first, 0, SPINE_MID], np.float32(0))
    row = np.zeros((NPZ_FRAMES, ACTORS, 75), "<f4")
    row[: len(xyz), : xyz.shape[1]] = xyz.reshape(len(xyz), -1, 75)
    return row.reshape(NPZ_FRAMES, -1), long


@contextmanager
def _written(out: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when everything in it was written."""
    out = Path(out)
    partial = out.with_name(out.name + ".writing")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
        partial.replace(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, descr: str, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
        npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
        yield stream


class _PickleWriter:
    """Writes the instructions of a pickle (protocol 3) one by one.

    Python's pickler wants the whole object in memory, and under NumPy 2 it names modules that NumPy 1 does not have;
    the old names are known to both.
    """

    _KEYS = ("frame_dir", "label", "total_frames", "keypoint")
    # Places in the memo: the array's maker, its class, the dtype; the keys from 3 on.
    _RECONSTRUCT, _NDARRAY, _DTYPE = 0, 1, 2

    def __init__(self, file: IO[bytes], precision: str) -> None:
        self.file = file
        self.dtype = np.dtype(precision).newbyteorder("<")
        minus_one = b"J\xff\xff\xff\xff"
        file.write(b"\x80\x03")
        self._keep(b"cnumpy.core.multiarray\n_reconstruct\n", self._RECONSTRUCT)
        self._keep(b"cnumpy\nndarray\n", self._NDARRAY)
        dtype = b"cnumpy\ndtype\n" + _plain(self.dtype.str[1:]) + b"\x89\x88\x87R"
        self._keep(dtype + b"(K\x03" + _plain("<") + b"NNN" + minus_one + minus_one + b"K\x00tb", self._DTYPE)
        for n, key in enumerate(self._KEYS):
            self._keep(_plain(key), 3 + n)

    def _keep(self, instructions: bytes, place: int) -> None:
        """Make something, put it into the memo, and take it off the stack again."""
        self.file.write(instructions + b"q" + bytes([place]) + b"0")

    def plain(self, value: object) -> None:
        """Push text, integers, tuples, lists and dictionaries."""
        self.file.write(_plain(value))

    def annotation(self, name: str, label: int, keypoint: np.ndarray) -> None:
        """Append one sequence ``(M, T, V, 3)`` to the list on the stack."""
        self.file.write(b"}(")
        for n, value in enumerate((name, label, keypoint.shape[1])):
            self.file.write(b"h" + bytes([3 + n]) + _plain(value))
        self.file.write(b"h" + bytes([3 + self._KEYS.index("keypoint")]))
        array = np.ascontiguousarray(keypoint, self.dtype)
        self.file.write(b"h\x00h\x01K\x00\x85C\x01b\x87R(K\x01" + _plain(array.shape) + b"h\x02\x89")
        self.file.write(b"B" + struct.pack("<I", array.nbytes) + array.tobytes() + b"tbua")


def _plain(value: object) -> bytes:
    """Instructions that push a value; integers of 32 bits."""
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_plain, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_plain, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_plain(key) + _plain(item) for key, item in value.items()) + b"u"
    raise TypeError(type(value).__name__)
