"""Measures how fast NTU ``.skeleton`` texts are read, against straightforward readers, with bit-for-bit comparison.

    python benchmarks/parsing.py ARCHIVE [--rounds 5]

``ARCHIVE`` is a folder or zip of ``.skeleton`` files. Texts are in memory before the clock starts; readers take turns
within every round; processor time of one process counts, so other work on the machine matters little. Writes
``parsing.md`` and ``parsing.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.machine import machine
from engine.data.readers import ntu, skeleton_text
from engine.data.readers.archive import file_name, read_file

# id -> (frame numbers, joints (n, 25, 3) float32, tracking states (n, 25) uint8)
Bodies = dict[int, tuple[list[int], np.ndarray, np.ndarray]]


def lines_all_numbers(data: bytes) -> Bodies:
    """Line by line, every number of every joint converted: how public readers do it."""
    lines = iter(data.decode().splitlines())
    found: dict[int, tuple[list[int], list, list]] = {}
    for t in range(int(next(lines))):
        for _ in range(int(next(lines))):
            when, joints, states = found.setdefault(int(next(lines).split()[0]), ([], [], []))
            rows = [[float(v) for v in next(lines).split()] for _ in range(int(next(lines)))]
            when.append(t)
            joints.append([row[:3] for row in rows])
            states.append([int(row[11]) for row in rows])
    return _arrays(found)


def lines_needed_numbers(data: bytes) -> Bodies:
    """Line by line, only x, y, z and the tracking state converted."""
    lines = iter(data.split(b"\n"))
    found: dict[int, tuple[list[int], list, list]] = {}
    for t in range(int(next(lines))):
        for _ in range(int(next(lines))):
            when, joints, states = found.setdefault(int(next(lines).split()[0]), ([], [], []))
            body, state = [], []
            for _ in range(int(next(lines))):
                tokens = next(lines).split()
                body.append((float(tokens[0]), float(tokens[1]), float(tokens[2])))
                state.append(int(tokens[11]))
            when.append(t)
            joints.append(body)
            states.append(state)
    return _arrays(found)


def tokens_of_whole_text(data: bytes) -> Bodies:
    """The whole text split once, needed tokens converted by ``map(float, ...)``."""
    tokens = data.split()
    found: dict[int, tuple[list[int], list, list]] = {}
    at = 1
    for t in range(int(tokens[0])):
        bodies = int(tokens[at])
        at += 1
        for _ in range(bodies):
            when, joints, states = found.setdefault(int(tokens[at]), ([], [], []))
            own = tokens[at + 11 : at + 311]
            when.append(t)
            joints.append(list(zip(map(float, own[::12]), map(float, own[1::12]), map(float, own[2::12]), strict=True)))
            states.append(list(map(int, own[11::12])))
            at += 311
    return _arrays(found)


def numpy_text(data: bytes) -> Bodies:
    """``numpy.fromstring`` on the whole text; ids by splitting the lines they stand in."""
    numbers = np.fromstring(data, np.float64, sep=" ")  # type: ignore[call-overload]
    lines = data.split(b"\n")
    found: dict[int, tuple[list[int], list, list]] = {}
    at = line = 1
    for t in range(int(numbers[0])):
        bodies = int(numbers[at])
        at, line = at + 1, line + 1
        for _ in range(bodies):
            when, joints, states = found.setdefault(int(lines[line].split()[0]), ([], [], []))
            own = numbers[at + 11 : at + 311].reshape(25, 12)
            when.append(t)
            joints.append(own[:, :3])
            states.append(own[:, 11])
            at, line = at + 311, line + 27
    return _arrays(found)


def _arrays(found: dict[int, tuple[list[int], list, list]]) -> Bodies:
    return {
        identity: (when, np.array(joints, np.float64).astype(np.float32), np.array(states, np.uint8))
        for identity, (when, joints, states) in found.items()
    }


def engine_careful(data: bytes) -> object:
    """The engine's own line reader, which judges irregular files (all checks, all messages)."""
    parsed = skeleton_text.parse_lines(data, "x")
    return ntu._tracks(*parsed, "x")


def engine_reader(data: bytes) -> object:
    """``engine.data.readers.ntu.parse_skeleton``: all checks of the grammar included."""
    return ntu.parse_skeleton(data, "S001C001P001R001A001")


READERS: dict[str, Callable[[bytes], object]] = {
    "lines, every number": lines_all_numbers,
    "lines, needed numbers": lines_needed_numbers,
    "whole text, split and float": tokens_of_whole_text,
    "whole text, numpy.fromstring": numpy_text,
    "engine, line by line": engine_careful,
    "engine": engine_reader,
}


def compare(texts: list[bytes]) -> int:
    """Every reader's arrays against the engine's, bit for bit; the number of body-frames compared."""
    total = 0
    for data in texts:
        tracks = ntu.parse_skeleton(data, "S001C001P001R001A001").bodies
        for reader in (lines_all_numbers, lines_needed_numbers, tokens_of_whole_text, numpy_text):
            bodies = reader(data)
            assert list(bodies) == [track.id for track in tracks]
            for track in tracks:
                when, joints, states = bodies[track.id]
                assert (np.flatnonzero(track.seen) + track.first).tolist() == when
                assert track.xyz[track.seen].tobytes() == joints.tobytes()
                assert track.tracking is not None and track.tracking[track.seen].tobytes() == states.tobytes()
        total += sum(int(track.seen.sum()) for track in tracks)
    return total


def measure(archive: Path, rounds: int) -> dict:
    source = ntu.open_ntu(archive, "ntu120")
    start = time.process_time()
    texts = [read_file(archive, item) for item in source.items]
    unpack = time.process_time() - start
    body_frames = compare(texts)
    times: dict[str, list[float]] = {name: [] for name in READERS}
    for r in range(rounds):
        order = list(READERS)
        for name in order[r % len(order) :] + order[: r % len(order)]:
            start = time.process_time()
            for data in texts:
                READERS[name](data)
            times[name].append(time.process_time() - start)
    rows = {}
    for name, taken in times.items():
        ratios = [slow / fast for slow, fast in zip(taken, times["engine"], strict=True)]
        rows[name] = {
            "seconds": round(statistics.median(taken), 3),
            "us_per_body_frame": round(statistics.median(taken) / body_frames * 1e6, 2),
            "engine_times_faster": round(statistics.median(ratios), 2),
            "engine_times_faster_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    return {
        "date": str(date.today()),
        "machine": machine(),
        "files": len(texts),
        "first": file_name(source.items[0]),
        "megabytes": round(sum(map(len, texts)) / 1e6, 1),
        "body_frames": body_frames,
        "rounds": rounds,
        "unpacking_seconds": round(unpack, 3),
        "rows": rows,
    }


def report(result: dict) -> str:
    host = result["machine"]
    lines = [
        "# Reading NTU .skeleton texts",
        "",
        f"Made by `python benchmarks/parsing.py ARCHIVE` on {result['date']}; {host['processor']}, {host['cores']} "
        f"cores, Python {host['python']}.",
        "",
        f"{result['files']} real files, {result['megabytes']} MB, {result['body_frames']} body-frames, texts in "
        f"memory; processor time of one process, median of {result['rounds']} rounds, readers in rotating order. All "
        "readers give the same ids, joints and states, bit for bit. Unpacking the same files from their zip (deflate, "
        f"CRC) takes {result['unpacking_seconds']} s.",
        "",
        "| reader | seconds | us per body-frame | engine is faster by (range over rounds) |",
        "|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        low, high = row["engine_times_faster_range"]
        faster = f"{row['engine_times_faster']} ({low} to {high})"
        lines.append(f"| {name} | {row['seconds']} | {row['us_per_body_frame']} | {faster} |")
    lines += [
        "",
        "`lines, every number` is how public readers work. The middle rows check neither line structure nor counts. "
        "`engine, line by line` is the careful reader behind the fast one: it takes irregular files and names what is "
        "wrong in which line.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    result = measure(options.archive, options.rounds)
    here = Path(__file__).resolve().parent
    (here / "parsing.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "parsing.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
