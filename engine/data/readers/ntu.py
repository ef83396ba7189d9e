"""Reads NTU RGB+D 60 and 120 as downloaded: ``.skeleton`` texts in folders or straight from the two zips.

The grammar is datasets.md, section 1.3. Files as the sensor's program wrote them take a fast path that looks at the
whole text at once; everything else (and every error) is judged by :func:`_parse_lines`, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from engine.data.bodies import ABSENT_SLOT, MAX_BODIES, MAX_FRAMES, BodyTrack, RawDataError, RawSequence, RawSource
from engine.data.ntu_names import belongs, expected_names, match_name, missing_names, parse_name
from engine.data.readers.archive import file_name, list_files, place_of, read_file
from engine.data.readers.decimals import LARGEST, NotANumber, Text, plain_float

FPS = 30.0
JOINTS = 25
MAX_FILE_BYTES = 32 * 1024 * 1024
# Frames of all tracks together, those between first and last sight included: bounds the memory a hostile file can ask.
MAX_TRACKED_FRAMES = 600_000
_FILE = re.compile(r"(S\d{3}C\d{3}P\d{3}R\d{3}A\d{3})\.skeleton", re.ASCII)

_HEADER_TOKENS, _JOINT_TOKENS = 10, 12
_BODY_LINES = 2 + JOINTS
_BODY_TOKENS = _HEADER_TOKENS + 1 + JOINTS * _JOINT_TOKENS
# Tokens of a body, counted from its id: where each joint begins, and which tokens end a line.
_JOINT_AT = _HEADER_TOKENS + 1 + _JOINT_TOKENS * np.arange(JOINTS)
_XYZ_AT = (_JOINT_AT[:, None] + np.arange(3)).ravel()
_STATE_AT = _JOINT_AT + _JOINT_TOKENS - 1
_LINE_ENDS = np.concatenate([[_HEADER_TOKENS - 1, _HEADER_TOKENS], _STATE_AT])


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
        have and that are neither there nor known to be damaged.

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
    return RawSource(
        items,
        partial(read_ntu, str(path)),
        missing=tuple(sorted(expected_names(found.values(), dataset) - found.keys() - damaged)),
        excluded=tuple(name for name in found if name in damaged),
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
    found = _parse_whole(data)
    counts, ids, xyz, states = _parse_lines(data, file) if found is None else found
    bodies = _tracks(counts, ids, xyz, states, file)
    return RawSequence(stem, number.label, len(counts), bodies, FPS, "ntu25", number.meta())


# Bodies per frame, id of each body of each frame, its joints (n, 25, 3) float32 and tracking states (n, 25) uint8.
_Parsed = tuple[Sequence[int], Sequence[int], np.ndarray, np.ndarray]


def _parse_whole(data: bytes) -> _Parsed | None:
    """The text at once; None where it is not exactly as the sensor's program writes it, valid or not."""
    first_end = data.find(b"\n")
    windows = first_end > 0 and data[first_end - 1] == 13
    if not data.endswith(b"\n"):
        data += b"\r\n" if windows else b"\n"
    text = Text(data)
    raw = text.bytes
    blank = raw <= 32
    if windows:
        # CR LF counts as one separator, its CR; removing the CRs from the text would take as long as all the rest.
        feed = raw == 10
        blank &= ~feed
    ends = np.flatnonzero(blank)
    kinds = raw[ends]
    if windows:
        returns = ends[kinds == 13]
        if len(returns) != np.count_nonzero(feed) or not feed[returns + 1].all():
            return None
    line_end = kinds == (13 if windows else 10)
    if not (line_end | (kinds == 32)).all():
        return None
    # Token k is what lies between separators k-1 and k.
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    if windows:
        starts[1:] += line_end[:-1]
    if (ends <= starts).any():
        return None
    walked = _walk_counts(data, starts, ends)
    if walked is None:
        return None
    counts, count_at, body_at = walked
    expected = np.zeros(len(ends), bool)
    expected[count_at] = True
    expected[(body_at[:, None] + _LINE_ENDS).ravel()] = True
    if not np.array_equal(expected, line_end):
        return None
    joints_at = starts[body_at + _HEADER_TOKENS]
    if (ends[body_at + _HEADER_TOKENS] != joints_at + 2).any():
        return None
    if (raw[joints_at] != ord("2")).any() or (raw[joints_at + 1] != ord("5")).any():
        return None
    state_at = (body_at[:, None] + _STATE_AT).ravel()
    states = raw[starts[state_at]] - np.uint8(48)
    if (ends[state_at] != starts[state_at] + 1).any() or (states > 2).any():
        return None
    xyz_at = (body_at[:, None] + _XYZ_AT).ravel()
    try:
        xyz = text.singles(starts[xyz_at], ends[xyz_at])
    except NotANumber:
        return None
    ids = []
    for a, b in zip(starts[body_at].tolist(), ends[body_at].tolist(), strict=True):
        identity = _whole_number(data[a:b], 2**64 - 1)
        if identity is None:
            return None
        ids.append(identity)
    return counts, ids, xyz.reshape(-1, JOINTS, 3), states.reshape(-1, JOINTS)


def _walk_counts(data: bytes, starts: np.ndarray, ends: np.ndarray) -> tuple[list[int], list[int], np.ndarray] | None:
    """Bodies per frame, the tokens that are counts, and the token at which each body begins."""
    tokens = len(ends)
    frames = _whole_number(data[: ends[0]], MAX_FRAMES)
    if not frames:
        return None
    counts, count_at, body_at, at = [], [0], [], 1
    for _ in range(frames):
        if at >= tokens:
            return None
        bodies = _whole_number(data[starts[at] : ends[at]], MAX_BODIES)
        if bodies is None:
            return None
        counts.append(bodies)
        count_at.append(at)
        at += 1
        for _ in range(bodies):
            body_at.append(at)
            at += _BODY_TOKENS
    return (counts, count_at, np.array(body_at, np.int64)) if at == tokens else None


def _parse_lines(data: bytes, file: str) -> _Parsed:
    """The text line by line: slow, lenient about blanks, exact about what is wrong where."""
    lines = data.split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    at = 0

    def fail(reason: str) -> RawDataError:
        return RawDataError(f"{file}, line {at}: {reason}")

    def take(what: str, tokens: int) -> list[bytes]:
        nonlocal at
        at += 1
        if at > len(lines):
            raise fail(f"the file ends where {what} should stand; download or unpack it again")
        found = lines[at - 1].split()
        if len(found) != tokens:
            raise fail(f"{len(found)} values where {what} should stand ({tokens})")
        return found

    def count(what: str, limit: int) -> int:
        (token,) = take(what, 1)
        number = _whole_number(token, limit)
        if number is None:
            raise fail(f"{_shown(token)} where {what} should stand (0 to {limit})")
        return number

    counts: list[int] = []
    ids: list[int] = []
    coordinates: list[float] = []
    states: list[int] = []
    frames = count("the number of frames", MAX_FRAMES)
    if not frames:
        raise fail("a recording without frames")
    for _ in range(frames):
        counts.append(count("the number of bodies", MAX_BODIES))
        for _ in range(counts[-1]):
            identity = _whole_number(take("the header of a body", _HEADER_TOKENS)[0], 2**64 - 1)
            if identity is None:
                raise fail("the id of the body is not an unsigned 64-bit number")
            ids.append(identity)
            if count("the number of joints", 1000) != JOINTS:
                raise fail(f"a body without exactly {JOINTS} joints")
            for _ in range(JOINTS):
                tokens = take("a joint", _JOINT_TOKENS)
                for axis, token in zip("xyz", tokens[:3], strict=True):
                    value = plain_float(token)
                    if value is None or not abs(value) < LARGEST:
                        raise fail(f"{axis} of a joint is {_shown(token)}, not a finite number")
                    coordinates.append(value)
                state = _whole_number(tokens[-1], 2)
                if state is None:
                    raise fail(f"tracking state {_shown(tokens[-1])}, expected 0, 1 or 2")
                states.append(state)
    if at < len(lines):
        at = next(i for i, line in enumerate(lines[at:], at + 1) if line.strip())
        raise fail(f"content behind the last of {frames} frames")
    xyz = np.array(coordinates, np.float64).astype(np.float32).reshape(-1, JOINTS, 3)
    return counts, ids, xyz, np.array(states, np.uint8).reshape(-1, JOINTS)


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


def _whole_number(token: bytes, limit: int) -> int | None:
    """An unsigned decimal number up to ``limit``, or None."""
    if not token.isdigit() or len(token) > 20:
        return None
    number = int(token)
    return number if number <= limit else None


def _shown(token: bytes) -> str:
    return repr(token[:20].decode("ascii", "replace"))
