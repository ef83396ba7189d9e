"""Reads Northwestern-UCLA Multiview Action 3D: the JSON files every published loader reads (datasets.md, section 4)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from engine.data.bodies import MAX_FRAMES, RawDataError, RawSequence, RawSource
from engine.data.readers.archive import file_name, files_of, list_files, place_of, read_file
from engine.data.readers.decimals import LARGEST
from engine.data.tables import class_names, table_rows

#: Not published; taken as the sensor's.
FPS = 30.0
FILES = 1484
# The longest of the real files takes 130 kB; lists of lists need many times their text in memory.
MAX_FILE_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})", re.ASCII)
_FILE = re.compile(rf"({_NAME.pattern})\.json", re.ASCII)
_SUBJECTS, _VIEWS = 10, 3


def nw_ucla_classes() -> tuple[str, ...]:
    """The ten class names in label order."""
    return class_names("nw_ucla_classes.csv")


@cache
def action_codes() -> tuple[int, ...]:
    """Action number in the file name by label; 7 and 10 do not exist."""
    return tuple(int(row["action_code"][1:]) for row in table_rows("nw_ucla_classes.csv"))


def open_nw_ucla(path: Path | str) -> RawSource:
    """Open NW-UCLA from ``all_sqe.zip``, a folder with it, or the unpacked files.

    Raises
    ------
    RawDataError
        No JSON file of the expected name.
    """
    listing = list_files(path, _FILE, what="NW-UCLA files (aXX_sXX_eXX_vXX.json, as in all_sqe.zip)")
    items = tuple(listing.handles.values())
    return RawSource(items, partial(read_nw_ucla, str(path)), files=files_of(items))


def read_nw_ucla(root: str, handle: str) -> Iterator[RawSequence]:
    """The one recording in a listed file."""
    stem = file_name(handle).removesuffix(".json")
    try:
        yield parse_nw_ucla(read_file(root, handle, MAX_FILE_BYTES), stem)
    except RawDataError as error:
        message = str(error)
        place = place_of(root, handle)
        raise (error if message.startswith(place) else RawDataError(f"{place}: {message}")) from error


def parse_nw_ucla(data: bytes, stem: str) -> RawSequence:
    """One JSON file: 20 Kinect v1 joints, one person, label checked against the action in the name.

    ``meta``: ``subject``, ``episode``, ``view`` and ``digest``, a fingerprint of the coordinates by which the
    exact copies among this release's views are found.

    Raises
    ------
    RawDataError
        Damaged JSON, other shapes, coordinates that are not finite, or a label that contradicts the name.
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        raise RawDataError(f"{stem!r} is not a name of the form aXX_sXX_eXX_vXX")
    action, subject, episode, view = (int(group) for group in match.groups())
    if not 1 <= subject <= _SUBJECTS or not 1 <= view <= _VIEWS or action not in action_codes():
        raise RawDataError("no such action, subject or view in NW-UCLA")
    try:
        found = json.loads(data)
        named, label, frames = found["file_name"], found["label"], found["skeletons"]
        xyz = _coordinates(frames)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RawDataError(f"damaged ({type(error).__name__}: {str(error)[:80]})") from error
    if named != stem:
        raise RawDataError(f"calls itself {str(named)[:40]!r}")
    if type(label) is not int or not 1 <= label <= len(action_codes()) or action_codes()[label - 1] != action:
        raise RawDataError(f"says label {str(label)[:20]}, which is not action a{action:02d}")
    return RawSequence.of_one_body(
        xyz, FPS, "kinect20", stem, label - 1, subject=subject, episode=episode, view=view, digest=digest(xyz)
    )


def digest(xyz: np.ndarray) -> str:
    """Fingerprint of coordinates: equal for exact copies only."""
    return hashlib.sha256(np.ascontiguousarray(xyz, np.float32).tobytes()).hexdigest()[:16]


def _coordinates(frames: object) -> np.ndarray:
    """float32 ``(T, 20, 3)`` of nested lists of numbers."""
    if not isinstance(frames, list) or not 1 <= len(frames) <= MAX_FRAMES:
        raise ValueError(f"expected a list of 1 to {MAX_FRAMES} frames")
    # Asked in float64 first: NumPy would take text and truth values for numbers when told the type.
    numbers = np.asarray(frames)
    if numbers.dtype.kind not in "if" or numbers.shape[1:] != (20, 3):
        raise ValueError(f"an array of shape {numbers.shape}, expected (T, 20, 3) numbers")
    if not (np.abs(numbers) < LARGEST).all():
        raise ValueError("coordinates that are not finite")
    return numbers.astype(np.float32)
