"""The files of a store: columns as ``.npy``, texts as fixed-width bytes, and a header written last.

Nothing here knows what a sequence is; :mod:`engine.data.store` reads, :mod:`engine.data.store_writer` writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

FORMAT = 2
HEADER_FILE = "store.json"
ROWS_FILE = "rows.npy"
SLOT_FILE = "slot.npy"
TRACKING_FILE = "tracking.npy"
ORIGIN_FILE = "origin.npy"
BODY_ID_FILE = "body_id.npy"
NAMES_FILE = "names.npy"
META_PREFIX = "meta_"
SEQUENCE_COLUMNS = ("length", "label", "first_body", "bodies")
BODY_COLUMNS = ("body_start", "body_first", "body_length")
OLD_INDEX_FILE = "index.json"

# What stands in a meta column where a sequence has no such value; the text is not valid UTF-8, so no value is lost.
ABSENT_INT = int(np.iinfo(np.int64).min)
ABSENT_TEXT = b"\xff"

_BLOCK = 4 * 2**20


class StoreError(Exception):
    """A store is absent, unfinished or damaged, or what should be written into one does not fit."""


class GrowingArray:
    """A ``.npy`` file written block by block; the number of rows enters its header when it is closed."""

    def __init__(self, path: Path, dtype: np.dtype, inner: tuple[int, ...]) -> None:
        self.rows = 0
        self._dtype, self._inner = dtype, inner
        self._file: BinaryIO = path.open("wb")
        self._write_header()
        self._header = self._file.tell()

    def _write_header(self) -> None:
        about = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.rows, *self._inner)}
        npy.write_array_header_1_0(self._file, about)  # NumPy leaves room for the first axis to grow.

    def append(self, block: np.ndarray) -> None:
        """Add rows ``(n, *inner)``; raises ``OSError`` when the disk is full."""
        block = np.ascontiguousarray(block, self._dtype)
        if block.shape[1:] != self._inner:
            raise StoreError(f"rows of shape {block.shape[1:]}, the others are {self._inner}")
        if block.size:
            self._file.write(block.reshape(-1).view(np.uint8).data)
            self.rows += len(block)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._header:
            raise StoreError("the header of an array grew")
        self._file.close()

    def abort(self) -> None:
        """Close without caring for what is still in the buffer."""
        with contextlib.suppress(OSError):
            self._file.close()


def save_column(path: Path, column: np.ndarray) -> None:
    """A whole ``.npy`` file; unlike ``np.save`` it raises the system's own error when the disk is full."""
    array = GrowingArray(path, column.dtype, column.shape[1:])
    try:
        array.append(column)
        array.close()
    except BaseException:
        array.abort()
        raise


def encode_texts(texts: Sequence[str | None], what: str) -> np.ndarray:
    """Fixed-width UTF-8 ``(N,)``; None becomes ``ABSENT_TEXT``. A NUL can't be kept, so it is refused."""
    try:
        encoded = [ABSENT_TEXT if text is None else text.encode("utf-8") for text in texts]
    except UnicodeEncodeError as error:
        raise StoreError(f"{what}: a text that is not valid Unicode ({error})") from error
    if any(b"\0" in text for text in encoded):
        raise StoreError(f"{what}: a text with a NUL character")
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def decode_text(text: bytes) -> str | None:
    """The inverse for one entry."""
    return None if text == ABSENT_TEXT else text.decode("utf-8")


def checksum(path: Path, listen: Callable[[int], None] = lambda more: None) -> str:
    """SHA-256 of a file, read in blocks; ``listen`` is told how many bytes each had."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            found.update(block)
            listen(len(block))
    return found.hexdigest()


def write_header(folder: Path, header: dict[str, Any]) -> None:
    """Write the header with size and checksum of every file beside it; it appears whole or not at all."""
    files = sorted(path for path in folder.iterdir() if path.suffix == ".npy")
    header = header | {
        "format": FORMAT,
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": checksum(path)} for path in files},
    }
    temporary = folder / (HEADER_FILE + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        # Names of files need not be valid Unicode; only escaped does everything fit into UTF-8.
        json.dump(header, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / HEADER_FILE)


def read_header(folder: Path) -> dict[str, Any]:
    """Header of a finished store.

    Raises
    ------
    StoreError
        No store here, one of an older format, one of a newer program, or a damaged one.
    """
    path = folder / HEADER_FILE
    if not path.is_file():
        if (folder / OLD_INDEX_FILE).is_file():
            raise StoreError(f"the store in {folder} has the format of an older version; prepare it again")
        filmed = folder.name.removesuffix("_mediapipe")
        if filmed != folder.name:
            raise StoreError(f"no films in {folder}; main.py data film {filmed} makes them of the prepared {filmed}")
        raise StoreError(
            f"no prepared store in {folder}; main.py data list says where the data are to be had, "
            f"main.py data prepare {folder.name} --raw PATH reads them in"
        )
    try:
        header: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = int(header["format"])
        sizes = {name: int(about["bytes"]) for name, about in header["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"the store in {folder} is damaged ({HEADER_FILE}: {error}); prepare it again") from error
    if version != FORMAT:
        raise StoreError(f"the store in {folder} has format {version}, this program reads {FORMAT}; prepare it again")
    for name, size in sizes.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            found = f"has {file.stat().st_size} bytes" if file.is_file() else "is missing"
            raise StoreError(
                f"the store in {folder} is damaged: {name} {found}, {size} bytes expected; prepare it again"
            )
    return header


def damaged_files(folder: Path, listen: Callable[[int, int], None] | None = None) -> list[str]:
    """Names of files whose checksum differs from the header's; reads everything.

    ``listen`` is told how many bytes have been read, of how many.
    """
    files = read_header(folder)["files"]
    read, total = 0, sum(about["bytes"] for about in files.values())

    def count(more: int) -> None:
        nonlocal read
        read += more
        if listen:
            listen(read, total)

    return [name for name, about in files.items() if checksum(folder / name, count) != about["sha256"]]


def swap_in(finished: Path, folder: Path) -> None:
    """Put a finished folder where the store belongs; the old one goes only after that."""
    for path in finished.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    finished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
