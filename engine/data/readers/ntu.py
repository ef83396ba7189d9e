"""Reads NTU RGB+D 60 and 120 as downloaded: ``.skeleton`` texts in folders or straight from the two zips.

The texts are parsed by skeleton_text.py; here are archives, names, and the grouping of bodies by their ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from engine.data.bodies import ABSENT_SLOT, BodyTrack, RawDataError, RawSequence, RawSource
from engine.data.ntu_names import belongs, expected_names, match_name, missing_names, parse_name
from engine.data.readers.archive import file_name, files_of, list_files, place_of, read_file
from engine.data.readers.skeleton_text import JOINTS, parse_lines, parse_whole

FPS = 30.0
MAX_FILE_BYTES = 32 * 1024 * 1024
# Frames of all tracks together, those between first and last sight included: bounds the memory a hostile file can ask.
MAX_TRACKED_FRAMES = 600_000
_FILE = re.compile(r"(S\d{3}C\d{3}P\d{3}R\d{3}A\d{3})\.skeleton", re.ASCII)


def open_ntu(path: Path | str, dataset: str) -> RawSource:
    """Open NTU RGB+D 60 or 120.

    Parameters
    ----------
    path : Path or str
        A folder (searched at any depth, zips in it included) or one zip. Files are chosen by name, so both halves of
        NTU-120 may lie in one folder, and NTU-60 may be read out of it.
    dataset : str
        ``"ntu60"`` or ``"ntu120"``.

    Returns
    -------
    RawSource
        ``excluded``: names found but known to be damaged; ``missing``: names that the performers found here should
        have and that are neither there nor known to be damaged, first of all zips that can't be opened: they may lie
        in them.

    Raises
    ------
    RawDataError
        Nothing of the dataset found, or an archive that can't be read.
    """
    listing = list_files(path, _FILE, what="NTU RGB+D files (S001C001P001R001A001.skeleton, ...)")
    found = {name: number for name in listing.handles if (number := match_name(name)) and belongs(number, dataset)}
    damaged = missing_names(dataset)
    items = tuple(listing.handles[name] for name in found if name not in damaged)
    if not items:
        raise RawDataError(f"{path}: no usable files of {dataset} among {len(listing.handles)} NTU files")
    missing = sorted(expected_names(found.values(), dataset) - found.keys() - damaged)
    return RawSource(
        items,
        partial(read_ntu, str(path)),
        missing=(*listing.closed, *missing) if missing else (),
        excluded=tuple(name for name in found if name in damaged),
        files=files_of(items),
    )


def read_ntu(root: str, handle: str) -> Iterator[RawSequence]:
    """The one recording in a listed file; errors name the file."""
    data = read_file(root, handle, MAX_FILE_BYTES)
    name = file_name(handle).removesuffix(".skeleton")
    try:
        sequence = parse_skeleton(data, name)
    except RawDataError as error:
        raise RawDataError(f"{place_of(root, handle).removesuffix(file_name(handle))}{error}") from error
    yield sequence


def parse_skeleton(data: bytes, name: str) -> RawSequence:
    """Parse the text of one ``.skeleton`` file.

    Parameters
    ----------
    data : bytes
        The file's content; lines end in LF or CR LF, the last end may be missing.
    name : str
        The recording's name, ``S001C002P003R002A013``, with or without suffix.

    Returns
    -------
    RawSequence
        Bodies in first-seen order with exact 64-bit ids; label and meta (``setup``, ``camera``, ``performer``,
        ``subject``, ``replication``, ``action``) from the name.

    Raises
    ------
    RawDataError
        Not the grammar of section 1.3 (truncated, wrong numbers of tokens, content behind the last frame), another
        number of joints than 25, more than six bodies in a frame, coordinates that are not finite. Columns that are
        not used are not looked at.
    """
    stem = name.removesuffix(".skeleton")
    try:
        number = parse_name(stem)
    except ValueError as error:
        raise RawDataError(str(error)) from error
    file = f"{stem}.skeleton"
    found = parse_whole(data)
    counts, ids, xyz, states = parse_lines(data, file) if found is None else found
    bodies = _tracks(counts, ids, xyz, states, file)
    return RawSequence(stem, number.label, len(counts), bodies, FPS, "ntu25", number.meta())


def _tracks(
    counts: Sequence[int], ids: Sequence[int], xyz: np.ndarray, states: np.ndarray, file: str
) -> tuple[BodyTrack, ...]:
    """Group the bodies of all frames by id, in first-seen order."""
    frame = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows: dict[int, list[int]] = {}
    for row, identity in enumerate(ids):
        rows.setdefault(identity, []).append(row)
    span = sum(int(frame[own[-1]] - frame[own[0]]) + 1 for own in rows.values())
    if span > MAX_TRACKED_FRAMES:
        raise RawDataError(f"{file}: {len(rows)} bodies over {len(counts)} frames; not a recording of people")
    tracks = []
    for identity, own in rows.items():
        when = frame[own]
        if (np.diff(when) == 0).any():
            twice = int(when[:-1][np.diff(when) == 0][0])
            raise RawDataError(f"{file}: frame {twice} (from 0) holds body {identity} twice")
        first, length = int(when[0]), int(when[-1] - when[0]) + 1
        at = when - first
        joints = np.zeros((length, JOINTS, 3), np.float32)
        slot = np.full(length, ABSENT_SLOT, np.uint8)
        tracking = np.zeros((length, JOINTS), np.uint8)
        joints[at], slot[at], tracking[at] = xyz[own], place[own], states[own]
        tracks.append(BodyTrack(identity, first, joints, slot, tracking))
    return tuple(tracks)
