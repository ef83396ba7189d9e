"""Parses the text of ``.skeleton`` files (datasets.md, section 1.3).

Files as the sensor's program wrote them take a fast path that looks at the whole text at once, :func:`parse_whole`;
everything else, and every error, is judged line by line by :func:`parse_lines`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.data.bodies import MAX_BODIES, MAX_FRAMES, RawDataError
from engine.data.readers.decimals import LARGEST, NotANumber, Text, plain_float

JOINTS = 25
_HEADER_TOKENS, _JOINT_TOKENS = 10, 12
_BODY_LINES = 2 + JOINTS
_BLOCK_BYTES = 1 << 18
_TOKENS_PER_LINE = np.array([_HEADER_TOKENS, 1] + [_JOINT_TOKENS] * JOINTS)

# Bodies per frame, id of each body of each frame, its joints (n, 25, 3) float32 and tracking states (n, 25) uint8.
Parsed = tuple[Sequence[int], Sequence[int], np.ndarray, np.ndarray]


class _Lines(NamedTuple):
    """The lines of a text: tokens in each, where the first three tokens end, and where the line ends."""

    tokens: np.ndarray
    edges: np.ndarray
    end: np.ndarray
    start: np.ndarray


def parse_whole(data: bytes) -> Parsed | None:
    """The text at once; None where it is not exactly as the sensor's program writes it, valid or not."""
    first_end = data.find(b"\n")
    windows = first_end > 0 and data[first_end - 1] == 13
    if not data.endswith(b"\n"):
        data += b"\r\n" if windows else b"\n"
    text = Text(data)
    lines = _find_lines(text, windows)
    found = None if lines is None else _find_bodies(text, lines)
    if lines is None or found is None:
        return None
    counts, header = found
    joint = (header[:, None] + np.arange(2, _BODY_LINES)).ravel()
    ends = lines.edges[joint]
    starts = np.empty_like(ends)
    starts[:, 0] = lines.start[joint]
    np.add(ends[:, :2], 1, out=starts[:, 1:])
    state_at = lines.end[joint] - 1
    states = text.bytes[state_at] - np.uint8(48)
    if (text.bytes[state_at - 1] != 32).any() or (states > 2).any():
        return None
    try:
        xyz = text.singles(starts.ravel(), ends.ravel())
    except NotANumber:
        return None
    known: dict[bytes, int] = {}
    ids = []
    for a, b in zip(lines.start[header].tolist(), lines.edges[header, 0].tolist(), strict=True):
        token = data[a:b]
        if token not in known:
            identity = _whole_number(token, 2**64 - 1)
            if identity is None:
                return None
            known[token] = identity
        ids.append(known[token])
    return counts, ids, xyz.reshape(-1, JOINTS, 3), states.reshape(-1, JOINTS)


def _find_lines(text: Text, windows: bool) -> _Lines | None:
    """Tokens and lines of a text with single blanks between tokens and one kind of line ends; None for any other.

    Goes block by block, so that a long text needs no more big arrays than a short one: those are fetched from the
    system and given back on every call.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    at = 0
    while at < len(text.data):
        until = text.data.rfind(b"\n", at, at + _BLOCK_BYTES) + 1
        raw = text.bytes[at:until]
        if not len(raw):
            return None
        blank = raw <= 32
        feed = raw == 10
        # CR LF counts as one separator, its CR; removing the CRs from the text would take as long as all the rest.
        pairs = np.count_nonzero(feed) if windows else 0
        if blank[0] or np.count_nonzero(blank[1:] & blank[:-1]) != pairs:
            return None
        if windows:
            blank &= ~feed
        ends = np.flatnonzero(blank)
        kinds = raw[ends]
        line_end = kinds == (13 if windows else 10)
        last = np.flatnonzero(line_end)
        if np.count_nonzero(kinds == 32) + len(last) != len(ends):
            return None
        end = ends[last]
        if windows and (len(last) != pairs or not feed[end + 1].all()):
            return None
        tokens = np.diff(last, prepend=-1)
        # Of shorter lines the further edges mean nothing; they are never asked.
        edges = ends[np.minimum((last - tokens + 1)[:, None] + np.arange(3), len(ends) - 1)]
        parts.append((tokens, edges + at, end + at))
        at = until
    tokens, edges, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    start = np.empty_like(end)
    start[0] = 0
    np.add(end[:-1], 2 if windows else 1, out=start[1:])
    return _Lines(tokens, edges, end, start)


def _find_bodies(text: Text, lines: _Lines) -> tuple[list[int], np.ndarray] | None:
    """Bodies per frame, and the line (from 0) of each body's header."""
    tokens = lines.tokens
    # A line with one token is the number of frames, of bodies, or of joints; the last stands behind a header of ten.
    single = np.flatnonzero((tokens[1:] == 1) & (tokens[:-1] != _HEADER_TOKENS)) + 1
    frames = _whole_number(text.data[: lines.end[0]], MAX_FRAMES)
    if not frames or frames != len(single):
        return None
    counts = text.bytes[lines.start[single]].astype(np.int64) - 48
    if (lines.end[single] - lines.start[single] != 1).any() or (counts < 0).any() or (counts > MAX_BODIES).any():
        return None
    before = np.cumsum(counts) - counts
    total = int(before[-1] + counts[-1])
    if len(tokens) != 1 + frames + _BODY_LINES * total:
        return None
    if not np.array_equal(single, 1 + np.arange(frames) + _BODY_LINES * before):
        return None
    header = np.repeat(single + 1 - _BODY_LINES * before, counts) + _BODY_LINES * np.arange(total)
    if (tokens[header[:, None] + np.arange(_BODY_LINES)] != _TOKENS_PER_LINE).any():
        return None
    joints = lines.start[header + 1]
    fits = (
        (text.bytes[joints] == ord("2")) & (text.bytes[joints + 1] == ord("5")) & (lines.end[header + 1] == joints + 2)
    )
    return (counts.tolist(), header) if fits.all() else None


def parse_lines(data: bytes, file: str) -> Parsed:
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


def _whole_number(token: bytes, limit: int) -> int | None:
    """An unsigned decimal number up to ``limit``, or None."""
    if not token.isdigit() or len(token) > 20:
        return None
    number = int(token)
    return number if number <= limit else None


def _shown(token: bytes) -> str:
    return repr(token[:20].decode("ascii", "replace"))
