"""The texts of PKU-MMD: untrimmed skeletons, labels, splits, cut clips, and the rules by which clips are cut.

Formats are datasets.md, sections 3.2 to 3.5. Everything here takes bytes and the name to use in messages.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from engine.data.bodies import ABSENT_SLOT, MAX_FRAMES, BodyTrack, RawDataError
from engine.data.readers.decimals import NotANumber, Text

JOINTS, BODIES, ROW = 25, 2, 150
CLASSES = 51
MAX_LABELS = 10_000
#: What CMD keeps of a clip.
CMD_FRAMES = 300
#: How the published projects turn a label's start and end into frames (all clamped here so that no clip is empty).
CUTTINGS = ("clamp", "aimclr", "cmd", "closed")
#: Names of untrimmed videos by part.
STEMS = {1: re.compile(r"(\d{4})-([LMR])", re.ASCII), 2: re.compile(r"A(\d{2})N(\d{2})-([LMR])", re.ASCII)}
_PART_I_TEST = range(291, 335)
_PART_II_TEST = (2, 3, 7)


class Instance(NamedTuple):
    """One line of a label file, numbers as written, start and end in order."""

    label: int
    start: int
    end: int
    confidence: int
    line: int


def cut(start: int, end: int, frames: int, cutting: str = "clamp") -> tuple[int, int]:
    """Half-open interval of row indices for a label (datasets.md, 3.4).

    Parameters
    ----------
    start, end : int
        As in the label file; swapped when out of order.
    frames : int
        Rows in the skeleton file.
    cutting : str
        ``"clamp"``: rows start to end - 1, the recommended rule; ``"cmd"``: the first 300 of these, as CMD and MAMP
        cut (i2md.md, section 1.1); ``"aimclr"``: rows start - 1 to end - 1 (AimCLR, HiCLR, MMNet count from 1);
        ``"closed"``: rows start to end. Each is clamped to at least one row of the file.
    """
    start, end = min(start, end), max(start, end)
    if cutting == "aimclr":
        start -= 1
    elif cutting == "closed":
        end += 1
    elif cutting not in CUTTINGS:
        raise ValueError(f"unknown cutting rule {cutting!r}; known: {', '.join(CUTTINGS)}")
    first = min(max(start, 0), frames - 1)
    last = min(max(end, first + 1), frames)
    return first, min(last, first + CMD_FRAMES) if cutting == "cmd" else last


def parse_rows(data: bytes, file: str) -> np.ndarray:
    """Untrimmed skeleton text: float32 ``(T, 2, 25, 3)``, zeros where a body is absent (3.2).

    Raises
    ------
    RawDataError
        A line without exactly 150 finite numbers, or no lines.
    """
    text = Text(data.rstrip() + b"\n")
    raw = text.bytes
    # A token begins where a visible byte follows a blank.
    visible = np.concatenate([[False], raw > 32])
    edges = np.flatnonzero(visible[1:] != visible[:-1])
    starts, ends = edges[::2], edges[1::2]
    line_ends = np.flatnonzero(raw == 10)
    if len(line_ends) > MAX_FRAMES or not len(starts):
        raise RawDataError(f"{file}: {len(line_ends) if len(starts) else 0} frames, expected 1 to {MAX_FRAMES}")
    per_line = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    if (per_line != ROW).any():
        line = int(np.flatnonzero(per_line != ROW)[0])
        raise RawDataError(f"{file}, line {line + 1}: {per_line[line]} numbers, expected {ROW}")
    try:
        rows = text.singles(starts, ends)
    except NotANumber as error:
        line, number = divmod(error.index, ROW)
        raise RawDataError(f"{file}, line {line + 1}: number {number + 1} is not a finite number") from error
    return rows.reshape(-1, BODIES, JOINTS, 3)


def parse_labels(data: bytes, file: str) -> tuple[Instance, ...]:
    """Lines ``label,start,end,confidence`` of a label file (3.3); start and end are put in order.

    Raises
    ------
    RawDataError
        A line that isn't four whole numbers, or a label outside 1..51.
    """
    found = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split(b",")]
        if len(parts) != 4 or not all(part.isdigit() and len(part) <= 9 for part in parts):
            raise RawDataError(f"{file}, line {number}: expected label,start,end,confidence as whole numbers")
        label, start, end, confidence = (int(part) for part in parts)
        if not 1 <= label <= CLASSES:
            raise RawDataError(f"{file}, line {number}: label {label}, expected 1 to {CLASSES}")
        found.append(Instance(label, min(start, end), max(start, end), confidence, number))
        if len(found) > MAX_LABELS:
            raise RawDataError(f"{file}: more than {MAX_LABELS} labels")
    return tuple(found)


def parse_split(data: bytes, file: str) -> dict[str, int]:
    """Split file (3.5): 1 for training stems, 0 for test stems.

    Raises
    ------
    RawDataError
        Not two headings with a list each, a stem of unknown form, or one in both lists.
    """
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    if len(lines) != 4:
        raise RawDataError(f"{file}: {len(lines)} lines; expected a heading, training stems, a heading, test stems")
    found: dict[str, int] = {}
    for train, line in ((1, lines[1]), (0, lines[3])):
        for stem in filter(None, (part.strip() for part in line.split(","))):
            stem = stem.removesuffix(".txt")
            if not any(pattern.fullmatch(stem) for pattern in STEMS.values()):
                raise RawDataError(f"{file}: {stem[:20]!r} is not the name of a video")
            if found.setdefault(stem, train) != train:
                raise RawDataError(f"{file}: {stem} stands in both lists")
    return found


def xsub_by_rule(stem: str) -> int:
    """Cross-subject part by the published rule, 1 train, 0 test: used where the split file is not at hand (3.5)."""
    for part, pattern in STEMS.items():
        if match := pattern.fullmatch(stem):
            if part == 1:
                return int(int(match.group(1)) not in _PART_I_TEST)
            return int(int(match.group(2)) not in _PART_II_TEST)
    raise ValueError(f"{stem!r} is not the name of a PKU-MMD video")


def bodies_of(xyz: np.ndarray) -> tuple[BodyTrack, ...]:
    """Tracks from slots ``(T, 2, 25, 3)``: slot number as id, all-zero bodies absent, in first-seen order."""
    seen: np.ndarray = np.any(xyz, axis=(2, 3))
    tracks = []
    for slot in range(xyz.shape[1]):
        frames = np.flatnonzero(seen[:, slot])
        if len(frames):
            own = slice(int(frames[0]), int(frames[-1]) + 1)
            slots = np.where(seen[own, slot], slot, ABSENT_SLOT).astype(np.uint8)
            tracks.append(BodyTrack(slot, own.start, np.ascontiguousarray(xyz[own, slot]), slots))
    return tuple(sorted(tracks, key=lambda track: track.first))


def parse_clip(data: bytes, file: str) -> np.ndarray:
    """The reduced ``.skeleton`` text of AimCLR and HiCLR (3.4): float32 ``(T, 2, 25, 3)``.

    Per frame the number of bodies (1 or 2), one header line, 25, and 25 lines ``x y z`` per body; the second body has
    no header of its own.

    Raises
    ------
    RawDataError
        Anything else, with the line.
    """
    lines = data.rstrip().split(b"\n")

    def fail(at: int, reason: str) -> RawDataError:
        return RawDataError(f"{file}, line {at + 1}: {reason}")

    def count(at: int, allowed: range) -> int:
        token = lines[at].strip() if at < len(lines) else b""
        if not token.isdigit() or len(token) > 6 or int(token) not in allowed:
            raise fail(at, f"expected a number from {allowed.start} to {allowed.stop - 1}")
        return int(token)

    frames = count(0, range(1, MAX_FRAMES + 1))
    coordinates: list[bytes] = []
    bodies: list[int] = []
    at = 1
    for _ in range(frames):
        bodies.append(count(at, range(1, BODIES + 1)))
        count(at + 2, range(JOINTS, JOINTS + 1))
        end = at + 3 + JOINTS * bodies[-1]
        if end > len(lines):
            raise fail(len(lines), "the file ends within a frame")
        coordinates += lines[at + 3 : end]
        at = end
    if at != len(lines):
        raise fail(at, f"content behind the last of {frames} frames")
    for index, line in enumerate(coordinates):
        if len(line.split()) != 3:
            raise RawDataError(f"{file}: joint {index % JOINTS} number {index // JOINTS} of all bodies is not 'x y z'")
    joints = _floats(b"\n".join(coordinates), file).reshape(-1, JOINTS, 3)
    out = np.zeros((frames, BODIES, JOINTS, 3), np.float32)
    out[np.arange(BODIES) < np.array(bodies)[:, None]] = joints
    return out


def _floats(data: bytes, file: str) -> np.ndarray:
    tokens = data.split()
    text = Text(b" ".join(tokens) + b" ")
    ends = np.cumsum([len(token) + 1 for token in tokens]) - 1
    try:
        return text.singles(ends - [len(token) for token in tokens], ends)
    except NotANumber as error:
        raise RawDataError(f"{file}: {tokens[error.index][:20]!r} is not a finite number") from error
