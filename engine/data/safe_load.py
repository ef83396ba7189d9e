"""Opens other people's array and pickle files without running anything they bring along (datasets.md, section 5.4).

Arrays are mapped, not read: also the members of an uncompressed ``.npz``, which NumPy's own ``mmap_mode`` leaves out.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from engine.data.bodies import RawDataError
from engine.data.pickled_arrays import PickleLimits, UnsafeFileError
from engine.data.safe_pickle import load_pickle, loads_pickle

__all__ = [
    "ArrayPlace", "PickleLimits", "RawDataError", "UnsafeFileError", "find_npy", "find_npz", "load_npy", "load_npz",
    "load_pickle", "loads_pickle",
]  # fmt: skip

# A compressed member can't be mapped: this much of one is read into memory.
MAX_READ_BYTES = 2 << 30
MAX_MEMBERS = 1000
_MAX_HEADER = 10_000
_HEADER = re.compile(
    r"\s*\{\s*['\"]descr['\"]:\s*['\"]([^'\"]{1,20})['\"],\s*['\"]fortran_order['\"]:\s*(True|False),"
    r"\s*['\"]shape['\"]:\s*\(([\dL, ]*)\),?\s*\}\s*"
)
_DTYPE = re.compile(r"[<>=|]?(\?|b1|[iu][1248]|f[248]|[SU]\d{1,6})")


@dataclass(frozen=True)
class ArrayPlace:
    """Where an array lies in a file. Small and picklable: a worker process opens it for itself.

    ``offset`` is the first byte of the numbers in the file, None when they are compressed.
    """

    path: Path
    member: str
    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    offset: int | None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def where(self) -> str:
        """The array in words, for messages."""
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    def open(self, max_read: int = MAX_READ_BYTES) -> np.ndarray:
        """The array, read-only: mapped, or read when it is compressed.

        Raises
        ------
        UnsafeFileError
            A compressed array of more than ``max_read`` bytes.
        RawDataError
            The file is gone, cut short or damaged.
        """
        order = "F" if self.fortran else "C"
        if not self.nbytes:
            return np.zeros(self.shape, self.dtype)
        if self.offset is not None:
            try:
                return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)  # type: ignore[call-overload,no-any-return]
            except (OSError, ValueError) as error:
                raise RawDataError(f"{self.where} can't be mapped ({error})") from error
        if self.nbytes > max_read:
            raise UnsafeFileError(
                f"{self.where} is compressed and {self.nbytes} bytes long, at most {max_read} are read; "
                "save it again without compression (numpy.savez)"
            )
        with _zip_errors(self.path, self.member), zipfile.ZipFile(self.path) as archive:
            with archive.open(self.member) as stream:
                _read_header(stream, self.where)
                raw = stream.read(self.nbytes)
        if len(raw) != self.nbytes:
            raise RawDataError(f"{self.where} is cut short")
        return np.frombuffer(raw, self.dtype).reshape(self.shape, order=order)  # type: ignore[call-overload,no-any-return]


def find_npy(path: Path) -> ArrayPlace:
    """Look at the header of a ``.npy`` file.

    Raises
    ------
    UnsafeFileError
        It holds Python objects or records.
    RawDataError
        It is no ``.npy`` file, or shorter than its header says.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            dtype, shape, fortran = _read_header(stream, str(path))
            offset = stream.tell()
            size = stream.seek(0, 2)
    except OSError as error:
        raise RawDataError(f"{path}: can't be read ({error.strerror or error})") from error
    place = ArrayPlace(path, "", dtype, shape, fortran, offset)
    if offset + place.nbytes > size:
        raise RawDataError(f"{path}: cut short, {offset + place.nbytes} bytes expected, {size} there")
    return place


def find_npz(path: Path) -> dict[str, ArrayPlace]:
    """Look at the headers of all arrays of a ``.npz`` file, by name without ``.npy``.

    Raises
    ------
    UnsafeFileError
        A member holds Python objects or records.
    RawDataError
        It is no ``.npz`` file, or damaged.
    """
    path = Path(path)
    places = {}
    with _zip_errors(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        size = file.seek(0, 2)
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise RawDataError(f"{path}: {len(members)} members; this is no .npz of arrays")
        for info in members:
            if not info.filename.endswith(".npy"):
                continue
            with archive.open(info) as stream:
                dtype, shape, fortran = _read_header(stream, f"{path}: {info.filename}")
                header = stream.tell()
            offset = None
            if info.compress_type == zipfile.ZIP_STORED:
                # Name and extra field may be longer in the member's own header than in the directory.
                file.seek(info.header_offset)
                fields = struct.unpack("<4s22xHH", file.read(30))
                if fields[0] != b"PK\x03\x04":
                    raise RawDataError(f"{path}: {info.filename} does not begin where the directory says")
                offset = info.header_offset + 30 + fields[1] + fields[2] + header
            place = ArrayPlace(path, info.filename, dtype, shape, fortran, offset)
            if header + place.nbytes > info.file_size or (offset is not None and offset + place.nbytes > size):
                raise RawDataError(f"{path}: {info.filename} is cut short, {place.nbytes} bytes of numbers expected")
            places[info.filename.removesuffix(".npy")] = place
    return places


def load_npy(path: Path) -> np.ndarray:
    """A ``.npy`` file, mapped read-only; errors as :func:`find_npy`."""
    return find_npy(path).open()


def load_npz(path: Path, max_read: int = MAX_READ_BYTES) -> dict[str, np.ndarray]:
    """All arrays of a ``.npz`` file, mapped read-only where they are not compressed; errors as :func:`find_npz`."""
    return {name: place.open(max_read) for name, place in find_npz(path).items()}


class _zip_errors:
    """Turns what reading a damaged archive can raise into :class:`RawDataError`."""

    def __init__(self, path: Path, member: str = "") -> None:
        self.where = f"{path}: {member}" if member else str(path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RawDataError) or not isinstance(error, Exception):
            return
        known = (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
        # NotImplementedError (a compression nobody uses) and RecursionError are RuntimeErrors.
        if isinstance(error, (*known, MemoryError, OverflowError)):
            raise RawDataError(f"{self.where}: can't be read, damaged or no .npz file ({error})") from error


def _read_header(stream: IO[bytes], where: str) -> tuple[str, tuple[int, ...], bool]:
    """dtype, shape and order from the header, which is compared with a pattern, never evaluated."""
    start = stream.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2):
        raise RawDataError(f"{where} is no .npy array")
    form = "<H" if start[6] == 1 else "<I"
    length_bytes = stream.read(struct.calcsize(form))
    length = struct.unpack(form, length_bytes)[0] if len(length_bytes) == struct.calcsize(form) else 0
    if not 0 < length <= _MAX_HEADER:
        raise RawDataError(f"{where} has an array header of {length} bytes")
    text = stream.read(length).decode("latin1")
    if re.search(r"['\"]descr['\"]:\s*['\"][<>=|]?O", text):
        raise UnsafeFileError(
            f"{where}: refused, it holds Python objects, which can run a program when they are opened"
        )
    match = _HEADER.fullmatch(text)
    if match is None or not _DTYPE.fullmatch(match[1]):
        raise UnsafeFileError(
            f"{where}: refused, it holds something else than an array of numbers ({text.strip()[:80]!r})"
        )
    numbers = match[3].replace("L", "").replace(" ", "").split(",")
    shape = tuple(int(number) for number in numbers if number)
    if len(shape) > 32 or any(number > 1 << 48 for number in shape):
        raise RawDataError(f"{where} has an impossible shape")
    return match[1], shape, match[2] == "True"
