"""Reads the landmark traces the program records, person by person, without anything of the live path.

A trace is JSON lines: a header, then a line per frame with time, picture size and the landmarks of everybody seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bodies import MAX_BODIES, RawDataError

TRACE_FILE = "landmarks.jsonl"
MAX_TRACE_BYTES = 4 << 30
MAX_TRACE_FRAMES = 1_000_000
_KIND = "skelapp landmark trace"
_LANDMARKS = 33


@dataclass(frozen=True)
class PersonLandmarks:
    """What the pose model saw of one person, in the frames in which it saw them.

    Parameters
    ----------
    frame : numpy.ndarray
        int64 ``(F,)``: which frames of the trace.
    times : numpy.ndarray
        float64 ``(F,)``, seconds from the first recorded frame.
    image : numpy.ndarray
        float32 ``(F, 33, 3)``: x, y as fractions of width and height, z on the scale of x.
    world : numpy.ndarray
        float32 ``(F, 33, 3)``: metres, MediaPipe axes, hip-centred.
    visibility : numpy.ndarray
        float32 ``(F, 33)`` in 0..1.
    sizes : numpy.ndarray
        int64 ``(F, 2)``: width and height of the picture.
    """

    frame: np.ndarray
    times: np.ndarray
    image: np.ndarray
    world: np.ndarray
    visibility: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class RecordedTrace:
    """``times`` float64 ``(T,)`` of all frames, and everybody by id."""

    times: np.ndarray
    persons: dict[int, PersonLandmarks]


def read_recorded(path: Path) -> RecordedTrace:
    """Read a trace; a cut last line (the program died) is left out, as are poses that are not finite.

    Raises
    ------
    RawDataError
        Not a trace of this program, damaged before its end (with the line), or empty.
    """
    times: list[float] = []
    seen: dict[int, list[tuple[int, np.ndarray, tuple[int, int]]]] = {}
    damage: RawDataError | None = None
    for number, line in _lines(path):
        if damage is not None:
            raise damage  # not the last line
        try:
            item = json.loads(line)
            if number == 1:
                if not isinstance(item, dict) or item.get("kind") != _KIND:
                    raise RawDataError(f"{path} is no landmark trace recorded by this program")
                continue
            time, persons, size = _frame(item)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
            damage = RawDataError(f"{path}, line {number} is damaged ({error})")
            continue
        if times and time <= times[-1]:
            continue
        if len(times) >= MAX_TRACE_FRAMES:
            raise RawDataError(f"{path}: more than {MAX_TRACE_FRAMES} frames")
        for person, landmarks in persons:
            seen.setdefault(person, []).append((len(times), landmarks, size))
        times.append(time)
    if not times:
        raise damage or RawDataError(f"{path} is an empty trace: it holds no frames")
    clock = np.array(times)
    return RecordedTrace(clock, {person: _track(rows, clock) for person, rows in sorted(seen.items())})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        if path.stat().st_size > MAX_TRACE_BYTES:
            raise RawDataError(f"{path}: larger than {MAX_TRACE_BYTES} bytes")
        with path.open(encoding="utf-8", errors="replace") as stream:
            yield from enumerate(stream, 1)
    except OSError as error:
        raise RawDataError(f"{path}: can't be read ({error.strerror or error})") from error


def _frame(item: Any) -> tuple[float, list[tuple[int, np.ndarray]], tuple[int, int]]:
    """Time, persons with landmarks ``(33, 7)`` (image, world, visibility), and picture size."""
    time, size = float(item["t"]), (int(item["size"][0]), int(item["size"][1]))
    if not np.isfinite(time) or min(size) < 1 or len(item["persons"]) > MAX_BODIES:
        raise ValueError("time, picture size or number of persons")
    persons = []
    for entry in item["persons"]:
        image, world = np.array(entry["image"], np.float32), np.array(entry["world"], np.float32)
        visibility = np.array(entry["visibility"], np.float32)
        if image.shape != (_LANDMARKS, 3) or world.shape != (_LANDMARKS, 3) or visibility.shape != (_LANDMARKS,):
            raise ValueError(f"a person has not {_LANDMARKS} landmarks")
        landmarks = np.concatenate([image, world, visibility[:, None]], axis=1)
        if np.isfinite(landmarks).all():
            persons.append((int(entry["id"]), landmarks))
    return time, persons, size


def _track(rows: list[tuple[int, np.ndarray, tuple[int, int]]], times: np.ndarray) -> PersonLandmarks:
    frame = np.array([row[0] for row in rows], np.int64)
    landmarks = np.stack([row[1] for row in rows])
    sizes = np.array([row[2] for row in rows], np.int64)
    return PersonLandmarks(frame, times[frame], landmarks[..., :3], landmarks[..., 3:6], landmarks[..., 6], sizes)
