"""Makes an archive with as many files as NTU RGB+D really has (short ones) and reads all of it, to see what size costs.

    python benchmarks/full_size.py [--dataset ntu60] [--frames 12] [--folder DIR] [--workers 2]

Names follow the published counts and contain every damaged name; texts are made up. Writes ``full_size.md`` and
``full_size.json`` beside this file and removes the archive (about 1 GB) at the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.machine import machine
from engine.data.bodies import RawSource
from engine.data.ntu_names import FILES, missing_names
from engine.data.readers.ntu import open_ntu
from tests.engine.data.synthetic import ntu_names, write_ntu_zips


def read_some(source_read, items: list[str]) -> tuple[int, int, int]:
    """Sequences, frames and body-frames of some items."""
    sequences = frames = bodies = 0
    for item in items:
        for sequence in source_read(item):
            sequences += 1
            frames += sequence.frames
            bodies += sum(int(track.seen.sum()) for track in sequence.bodies)
    return sequences, frames, bodies


def read_all(source: RawSource, workers: int, chunk: int = 250) -> tuple[int, int, int]:
    items = list(source.items)
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    if workers <= 1:
        parts = [read_some(source.read, own) for own in chunks]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(partial(read_some, source.read), chunks))
    sequences, frames, bodies = (sum(column) for column in zip(*parts, strict=True))
    return sequences, frames, bodies


def measure(folder: Path, dataset: str, frames: int, workers: int) -> dict:
    names = ntu_names(dataset)
    start = time.perf_counter()
    paths = write_ntu_zips(folder, names, frames, variants=12)
    made = time.perf_counter() - start
    size = sum(path.stat().st_size for path in paths)
    start = time.perf_counter()
    source = open_ntu(folder, dataset)
    opened = time.perf_counter() - start
    assert len(source.items) == len(names) - len(missing_names(dataset)) and not source.missing
    assert set(source.excluded) == missing_names(dataset)
    rows = {}
    for n in sorted({1, workers}):
        start = time.perf_counter()
        sequences, total, bodies = read_all(source, n)
        seconds = time.perf_counter() - start
        assert sequences == len(source.items) and total == frames * sequences
        rows[n] = {
            "seconds": round(seconds, 1),
            "files_per_second": round(sequences / seconds),
            "body_frames_per_second": round(bodies / seconds),
        }
    return {
        "date": str(date.today()),
        "machine": machine(),
        "dataset": dataset,
        "files": len(names),
        "published_files": FILES[dataset],
        "read": len(source.items),
        "excluded": len(source.excluded),
        "frames_per_file": frames,
        "body_frames": bodies,
        "archive_megabytes": round(size / 1e6),
        "making_seconds": round(made, 1),
        "listing_seconds": round(opened, 2),
        "read_pickled_bytes": len(pickle.dumps(source.read)),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "by_workers": rows,
    }


def report(result: dict) -> str:
    host = result["machine"]
    lines = [
        "# An archive of full size",
        "",
        f"Made by `python benchmarks/full_size.py` on {result['date']}; {host['processor']}, {host['cores']} cores, "
        f"Python {host['python']}; other work was running on the machine, so times are upper bounds.",
        "",
        f"{result['dataset']} by number of files: {result['files']} (published: {result['published_files']}) of "
        f"{result['frames_per_file']} frames each, {result['archive_megabytes']} MB of zip. Listing with choice of "
        f"names {result['listing_seconds']} s; {result['read']} read, {result['excluded']} left out as known to be "
        f"damaged, none missing; peak memory of the listing process {result['peak_memory_mb']} MB; what a worker is "
        f"sent: {result['read_pickled_bytes']} bytes.",
        "",
        "| processes | seconds | files/s | body-frames/s |",
        "|---|---|---|---|",
    ]
    for workers, row in result["by_workers"].items():
        lines.append(f"| {workers} | {row['seconds']} | {row['files_per_second']} | {row['body_frames_per_second']} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="ntu60", choices=["ntu60", "ntu120"])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = measure(Path(folder), options.dataset, options.frames, options.workers)
    here = Path(__file__).resolve().parent
    (here / "full_size.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "full_size.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
