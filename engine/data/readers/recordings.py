"""The user's own recordings as training data: one sequence for every labelled stretch of every person.

A recording is a folder the program wrote (``landmarks.jsonl``, ``segments.csv``, ``results.jsonl``). What happened when
is taken from the first of these that is there:

1. ``labels.csv`` in the folder that is opened, written by hand: a header ``file,person,start,end,label`` and a line for
   every stretch. ``file`` is the recording's folder (or trace file) as seen from there, ``person`` the number the
   program showed (empty: everybody), ``start`` and ``end`` seconds from the recording's beginning (empty: from the
   beginning, to the end), ``label`` any words. When it exists it alone counts.
2. ``segments.csv`` of the recording, which may be corrected in any table program.
3. The segments in ``results.jsonl`` (a recording that was not finished has no ``segments.csv``).

2 and 3 hold what the program *recognised*: look through them before an encoder is trained on its own guesses.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from engine.data.bodies import RawDataError, RawSequence, RawSource
from engine.data.preprocess import resample
from engine.data.readers.actors import actor_sequence, clean_name
from engine.data.readers.traces import TRACE_FILE, PersonLandmarks, RecordedTrace, read_recorded
from engine.skeleton.convert import BLAZEPOSE33_TO_NTU25, MEDIAPIPE_TO_KINECT_AXES

LABELS_FILE = "labels.csv"
SEGMENTS_FILE = "segments.csv"
RESULTS_FILE = "results.jsonl"
COLUMNS = ("person", "start", "end", "label")
MAX_TABLE_BYTES = 256 << 20
MAX_STRETCH_S = 600.0

#: Turns the landmarks of one person into joints float32 ``(F, 25, 3)``, NTU-25, metres, Kinect camera axes.
Lift = Callable[[PersonLandmarks], np.ndarray]


@dataclass(frozen=True)
class Stretch:
    """Somebody did something from ``start`` to ``end`` (seconds; None: to the end of the recording).

    ``person`` None means everybody in the recording. ``place`` is file and line, for messages.
    """

    person: int | None
    start: float
    end: float | None
    label: str
    place: str


def lift_world(person: PersonLandmarks) -> np.ndarray:
    """Joints relative to the hips: the fixed map of datasets.md, section 6.2, without place in the room, unsmoothed."""
    joints: np.ndarray = np.matmul(BLAZEPOSE33_TO_NTU25, person.world) * MEDIAPIPE_TO_KINECT_AXES
    return joints


def open_recordings(
    path: Path, classes: Sequence[str] | None = None, lift: Lift = lift_world, fps: float = 30.0
) -> RawSource:
    """Open one recording, or a folder of recordings (searched two levels deep).

    Parameters
    ----------
    path : Path
        A recording's folder, its trace file, or a folder of recordings.
    classes : sequence of str, optional
        Labels in the order of the class indices; stretches with other labels are excluded. Default:
        :func:`recording_classes`.
    lift : callable
        ``engine.live.recorded.lift_as_live`` gives the joints the live path would have seen (place in the room,
        corrections, smoothing) and is what training for live use needs; the default needs nothing of the live path. A
        module-level function: workers call it.
    fps : float
        Frames per second of the sequences; recordings have true, uneven times and are interpolated.

    Returns
    -------
    RawSource
        Items ``RECORDING#k`` are stretches; one with ``person`` empty gives a sequence for each person in it. Meta:
        ``recording``, ``person``, ``word`` (the label as written). ``missing``: recordings named in ``labels.csv`` that
        are not there. ``excluded``: recordings without any label, and labels that are no class.

    Raises
    ------
    RawDataError
        No recording here, or a damaged table (with its line). A damaged trace fails when its item is read.
    """
    path = Path(path)
    traces = _traces(path)
    table, missing = _table(path, traces)
    known = list(classes) if classes is not None else _words(table)
    stretches: dict[str, tuple[Path, Stretch, int]] = {}
    excluded = [name for name in traces if not table.get(name)]
    for name, found in table.items():
        for k, stretch in enumerate(found):
            if stretch.label in known:
                stretches[f"{name}#{k}"] = (traces[name], stretch, known.index(stretch.label))
            else:
                excluded.append(f"{name}#{k} ({stretch.label})")
    return RawSource(
        tuple(stretches), partial(_read, stretches, lift, fps), missing=tuple(missing), excluded=tuple(excluded)
    )


def recording_classes(path: Path) -> tuple[str, ...]:
    """All labels given in the recordings below ``path``, sorted; errors as :func:`open_recordings`."""
    traces = _traces(Path(path))
    return tuple(_words(_table(Path(path), traces)[0]))


def _words(table: dict[str, list[Stretch]]) -> list[str]:
    return sorted({stretch.label for found in table.values() for stretch in found})


def _traces(path: Path) -> dict[str, Path]:
    """Trace files by the name under which a recording is known here."""
    if path.is_file():
        return {path.stem if path.name != TRACE_FILE else path.parent.name: path}
    if (path / TRACE_FILE).is_file():
        return {path.resolve().name: path / TRACE_FILE}
    files = [f for pattern in ("*/", "*/*/") for f in path.glob(pattern + TRACE_FILE)]
    named = {file.parent.relative_to(path).as_posix(): file for file in sorted(files)}
    named |= {file.stem: file for file in sorted(path.glob("*.jsonl"))}
    if not named:
        raise RawDataError(f"{path}: no recording of this program here (a folder with {TRACE_FILE})")
    return named


def _table(path: Path, traces: dict[str, Path]) -> tuple[dict[str, list[Stretch]], list[str]]:
    """Stretches by recording, and recordings that are named but absent."""
    by_hand = (path if path.is_dir() else path.parent) / LABELS_FILE
    if not by_hand.is_file():
        return {name: _recognised(trace.parent) for name, trace in traces.items()}, []
    table: dict[str, list[Stretch]] = {}
    missing: dict[str, None] = {}
    for row, place in _rows(by_hand, ("file", *COLUMNS)):
        name = row["file"].replace("\\", "/").strip("/").removesuffix("/" + TRACE_FILE).removesuffix(".jsonl")
        if name in traces:
            table.setdefault(name, []).append(_stretch(row, place))
        else:
            missing[row["file"]] = None
    return table, list(missing)


def _recognised(folder: Path) -> list[Stretch]:
    if (folder / SEGMENTS_FILE).is_file():
        return [_stretch(row, place) for row, place in _rows(folder / SEGMENTS_FILE, COLUMNS)]
    results = folder / RESULTS_FILE
    if not results.is_file() or results.stat().st_size > MAX_TABLE_BYTES:
        return []
    found = []
    for number, line in enumerate(results.read_text("utf-8", errors="replace").splitlines(), 1):
        if '"segment"' not in line:
            continue
        try:
            segment = json.loads(line)["segment"]
            row = {key: str(segment[key]) for key in COLUMNS}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a line the program did not finish
        found.append(_stretch(row, f"{results}, line {number}"))
    return found


def _rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Lines of a table as dictionaries, each with its place for messages."""
    if file.stat().st_size > MAX_TABLE_BYTES:
        raise RawDataError(f"{file}: larger than {MAX_TABLE_BYTES} bytes")
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            reader = csv.DictReader(stream)
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise RawDataError(f"{file}: no column {', '.join(absent)}; the first line must be {','.join(columns)}")
            for row in reader:
                yield {name: (row[name] or "").strip() for name in columns}, f"{file}, line {reader.line_num}"
        except csv.Error as error:
            raise RawDataError(f"{file}: no table ({error})") from error


def _stretch(row: dict[str, str], place: str) -> Stretch:
    try:
        person = int(row["person"]) if row["person"] else None
        start = float(row["start"]) if row["start"] else 0.0
        end = float(row["end"]) if row["end"] else None
    except ValueError as error:
        raise RawDataError(f"{place}: person is a number, start and end are seconds ({error})") from error
    if not math.isfinite(start) or start < 0 or (end is not None and not start < end < math.inf):
        raise RawDataError(f"{place}: from {row['start'] or 0} to {row['end']} s is no stretch of time")
    if not row["label"] or not row["label"].isprintable() or len(row["label"]) > 200:
        raise RawDataError(f"{place}: no label")
    return Stretch(person, start, end, row["label"], place)


@lru_cache(maxsize=2)
def _lifted(path: Path, written: int, lift: Lift) -> tuple[RecordedTrace, dict[int, np.ndarray]]:
    """A trace with the joints ``(T, 25, 3)`` of everybody, zeros where they are not seen."""
    trace = read_recorded(path)
    everybody = {}
    for number, person in trace.persons.items():
        joints = np.zeros((len(trace.times), 25, 3), np.float32)
        joints[person.frame] = lift(person)
        everybody[number] = joints
    return trace, everybody


def _read(stretches: dict[str, tuple[Path, Stretch, int]], lift: Lift, fps: float, item: str) -> Iterator[RawSequence]:
    path, stretch, label = stretches[item]
    try:
        trace, everybody = _lifted(path, path.stat().st_mtime_ns, lift)
    except OSError as error:
        raise RawDataError(f"{path}: can't be read ({error.strerror or error})") from error
    last = float(trace.times[-1])
    end = last if stretch.end is None else min(stretch.end, last)
    if end <= stretch.start:
        raise RawDataError(f"{stretch.place}: begins at {stretch.start:g} s, the recording ends at {last:g} s")
    if end - stretch.start > MAX_STRETCH_S:
        raise RawDataError(
            f"{stretch.place}: {end - stretch.start:.0f} s long; at most {MAX_STRETCH_S:.0f} s are taken"
        )
    wanted = sorted(everybody) if stretch.person is None else [stretch.person]
    at = stretch.start + np.arange(int((end - stretch.start) * fps + 1e-6) + 1) / fps
    recording, _, k = item.rpartition("#")
    seen = False
    for person in wanted:
        if person not in everybody:
            continue
        xyz = resample(everybody[person][:, None], trace.times, at, interpolate=True)
        if not xyz.any():
            continue
        seen = True
        name = clean_name(f"{recording.replace('/', '_')}_p{person}_{int(k):03d}")
        meta: dict[str, int | str] = {"recording": recording, "person": person, "word": stretch.label}
        yield actor_sequence(xyz, str(path), name, label, "ntu25", meta, fps)
    if not seen:
        who = "nobody" if stretch.person is None else f"person {stretch.person} is not"
        raise RawDataError(f"{stretch.place}: {who} seen from {stretch.start:g} to {end:g} s")
