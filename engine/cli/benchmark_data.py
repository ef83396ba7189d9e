"""``benchmark data``: from the store to training batches, against loading clip by clip as published code does.

The data are made up, with NTU-60's number and lengths of sequences (datasets.md, section 7); every measurement runs in
a process of its own so that memory can be told apart.
"""

from __future__ import annotations

import json as json_module
import os
import statistics
import sys
import time as clock
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from engine.cli import UsageError
from engine.cli.benchmark_baseline import crop_resize_rotate, padded_arrays, through_torch
from engine.cli.machine import machine, versions
from engine.paths import PROJECT

SEQUENCES = 56_578
BATCH = 64
_BANK = 20_000
_PADDED = 1500  # sequences that the padded arrangement keeps in memory; all of them would need 10 GB


def data(
    folder: Path = Path("/tmp/skelapp-benchmark"), sequences: int = SEQUENCES, rounds: int = 5, out: Path | None = None
) -> int:
    """Measure opening, memory and speed of the batch loader on a made-up set of NTU-60's size.

    Writes data.md and data.json.

    Args:
        folder: Where the made-up stores are kept (2.6 GB for float32 and float16 at full size).
        sequences: How many sequences to make up.
        rounds: Pairs of speed measurements, alternating.
        out: Folder for the results; default benchmarks/ of the project.
    """
    if sequences < _PADDED or rounds < 1:
        raise UsageError(f"--sequences must be at least {_PADDED}, --rounds at least 1")
    stores = {kind: folder / f"{kind}_{sequences}" for kind in ("float32", "float16")}
    result: dict[str, Any] = {
        "date": date.today().isoformat(), "machine": machine(), "versions": versions(),
        "load": os.getloadavg()[0], "sequences": sequences, "batch": BATCH, "stores": {},
    }  # fmt: skip
    for kind, path in stores.items():
        if not (path / "store.json").is_file():
            print(f"making up {sequences} sequences in {path} ...", file=sys.stderr)
            _alone(make_store, path, sequences, kind == "float16")
        print(f"{kind}: memory over an epoch ...", file=sys.stderr)
        found = _alone(measure_memory, path)
        print(f"{kind}: speed ...", file=sys.stderr)
        result["stores"][kind] = found | {"speed": _alone(measure_speed, path, rounds)}
    result["load_at_end"] = os.getloadavg()[0]
    target = out or PROJECT / "benchmarks"
    target.mkdir(parents=True, exist_ok=True)
    (target / "data.json").write_text(json_module.dumps(result, indent=1) + "\n", "utf-8")
    text = report(result)
    (target / "data.md").write_text(text, "utf-8")
    print(text)
    return 0


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def sequence_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths with NTU-60's median, 95th and 99th percentile, 32 to 300 frames."""
    return np.clip(np.exp(rng.normal(np.log(76.5), 0.405, count)).round(), 32, 300).astype(np.int64)


def make_store(folder: Path, sequences: int, half: bool) -> None:
    """Write a made-up store: slowly moving joints, a fifth of the sequences with two persons."""
    from engine.data.store import write_store
    from engine.skeleton.sequence import SkeletonSequence

    rng = np.random.default_rng(0)
    pose = rng.standard_normal((25, 3)) * 0.4
    steps = rng.standard_normal((_BANK, 25, 3), np.float32) * 0.01
    bank = (np.cumsum(steps, 0) * np.exp(-np.arange(_BANK) / 5e3)[:, None, None] + pose).astype(np.float32)
    lengths = sequence_lengths(sequences, rng)
    persons = 1 + (rng.random(sequences) < 0.2)

    def made() -> Any:
        for i, (length, count) in enumerate(zip(lengths, persons, strict=True)):
            first = rng.integers(0, _BANK - length, count)
            xyz = np.stack([bank[f : f + length] + np.float32(m) for m, f in enumerate(first)], 1)
            yield SkeletonSequence.from_frames(xyz, 30.0, name=f"s{i:05d}", label=i % 60)

    folder.parent.mkdir(parents=True, exist_ok=True)
    write_store(folder, "made_up", made(), [f"class {i}" for i in range(60)], 30.0, half=half)


# Measurements --------------------------------------------------------------------------------------------------------


def _resident() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def measure_memory(folder: Path) -> dict[str, Any]:
    """Opening time and MiB of resident memory: with torch imported, with the store open, the most over an epoch."""
    import torch

    torch.set_num_threads(1)
    from engine.data.batch import BodyFrames, ClipLoader, ClipMaker
    from engine.data.batch.recipes_skeletongcl import turn
    from engine.data.batch.sampling import RandomCrop
    from engine.data.preprocess import Preprocessing
    from engine.data.store import SequenceStore

    imported = _resident()
    opening = []
    for _ in range(5):
        begin = clock.perf_counter()
        store = SequenceStore(folder)
        opening.append((clock.perf_counter() - begin) * 1e3)
    opened = _resident()
    spec = Preprocessing(persons=2, sampling="centre_crop", centre="none")
    make = ClipMaker(BodyFrames(store), spec, RandomCrop())
    loader = ClipLoader(make, np.arange(len(store)), BATCH, shuffle=True, augment=turn)
    most, begin, used = 0.0, clock.perf_counter(), clock.process_time()
    for b, _batch in enumerate(loader):
        if b % 3 == 0:
            most = max(most, _resident())
    seconds = clock.perf_counter() - begin
    used = clock.process_time() - used
    return {
        "file_gb": store.rows.nbytes / 1e9, "frames": int(store.length.sum()), "mean": float(store.length.mean()),
        "percentiles": np.percentile(store.length, [50, 95, 99]).tolist(), "bodies": len(store.body_start),
        "first_opening_ms": opening[0], "opening_ms": statistics.median(opening),
        "mib": {"imported": imported, "opened": opened, "epoch": most, "after": _resident()},
        "epoch_s": seconds, "epoch_processor_s": used,
    }  # fmt: skip


def measure_speed(folder: Path, rounds: int) -> dict[str, Any]:
    """Clips per second of processor time: loader, clip by clip from padded arrays and from the store, paper's views."""
    import torch

    torch.set_num_threads(1)
    from engine.data.batch import BodyFrames, ClipLoader, ClipMaker, recipes_hiclr, recipes_i2md
    from engine.data.batch.recipes_skeletongcl import turn
    from engine.data.batch.sampling import RandomCrop, Resize
    from engine.data.preprocess import Preprocessing
    from engine.data.store import SequenceStore

    store = SequenceStore(folder)
    frames, everything = BodyFrames(store), np.arange(len(store))
    spec = Preprocessing(persons=2, sampling="centre_crop", centre="none")
    rng = np.random.default_rng(0)
    few = rng.choice(len(store), _PADDED, replace=False)
    padded = padded_arrays(store, few)
    generator = torch.Generator().manual_seed(0)

    def loader(rule: Any, count: int = 1, augment: Any = None) -> Any:
        makers = [ClipMaker(frames, spec, rule)] * count
        return ClipLoader(makers, everything, BATCH, shuffle=True, augment=augment, drop_last=True)

    def run(source: Any, batches: int, act: Callable[[Any], object] = lambda batch: None) -> float:
        begin, done = clock.process_time(), 0
        while done < batches:
            for batch in source:
                act(batch)
                done += 1
                if done == batches:
                    break
        return BATCH * batches / (clock.process_time() - begin)

    def one_by_one(
        clip_of: Callable[[int], np.ndarray],
        count: int,
        batches: int,
        make: Callable[..., np.ndarray] = crop_resize_rotate,
    ) -> float:
        begin = clock.process_time()
        for _ in range(batches):
            clips = [
                make(clip_of(i), rng.uniform(0.5, 1), rng.random(), rng.uniform(-0.3, 0.3, 3))
                for i in rng.integers(0, count, BATCH)
            ]
            torch.from_numpy(np.stack(clips))
        return BATCH * batches / (clock.process_time() - begin)

    def from_store(i: int) -> np.ndarray:
        xyz = store.sequence(i).xyz
        pair = np.zeros((len(xyz), 2, 25, 3), np.float32)
        pair[:, : xyz.shape[1]] = xyz
        return pair.transpose(3, 0, 2, 1)

    cases: dict[str, Callable[[], float]] = {
        "loader": lambda: run(loader(RandomCrop(), augment=turn), 300),
        "clip by clip, padded arrays in memory": lambda: one_by_one(lambda i: padded[i], len(padded), 10),
        "clip by clip, padded arrays, torch per clip": lambda: one_by_one(
            lambda i: padded[i], len(padded), 5, through_torch
        ),
        "clip by clip, the same store": lambda: one_by_one(from_store, len(store), 20),
        "loader, crop and resize alone": lambda: run(loader(RandomCrop()), 300),
        "CMD: two crops, two changed views": lambda: run(
            loader(RandomCrop(64, 0.1), 2), 60, lambda batch: recipes_i2md.views(batch.views, generator)
        ),
        "HiCLR: 50 frames, key and three query views": lambda: run(
            loader(Resize(50)), 60, lambda batch: recipes_hiclr.views(batch.clips, generator)
        ),
    }
    for case in cases.values():
        case()
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(case())
    return {"clips_per_s": found, "differs_by": _difference(frames, few[:256], padded[:256])}


def _difference(frames: Any, indices: np.ndarray, padded: np.ndarray) -> float:
    """How far the loader's clips lie from the clip by clip ones for the same random numbers, metres."""
    import torch

    from engine.data.batch import geometric
    from engine.data.batch.sampling import RandomCrop

    drawn = torch.rand((len(indices), 2), dtype=torch.float64, generator=torch.Generator().manual_seed(3)).numpy()
    angles = np.random.default_rng(0).uniform(-0.3, 0.3, (len(indices), 3)).astype(np.float32)
    chosen = torch.from_numpy(indices)
    positions = RandomCrop()(frames.lengths[chosen], torch.Generator().manual_seed(3))
    clips = geometric.transform(frames.gather(chosen, positions), geometric.rotation(torch.from_numpy(angles))).numpy()
    slow = [crop_resize_rotate(x, 0.5 + 0.5 * u, v, a) for x, (u, v), a in zip(padded, drawn, angles, strict=True)]
    return float(np.abs(clips - np.stack(slow)).max())


def report(result: dict[str, Any]) -> str:
    """The measurement as a page."""
    host = result["machine"]
    lines = [
        "# From the store to batches",
        "",
        f"Made by `python main.py benchmark data` on {result['date']}: {host['processor']}, {host['cores']} cores, "
        f"{host['memory_gib']} GiB, Python {host['python']}; one thread; load average {result['load']:.1f} at the "
        f"start, {result['load_at_end']:.1f} at the end, so rates are per second of processor time. Files were in the "
        "kernel's cache.",
        "",
        f"Made-up set of NTU-60's size: {result['sequences']} sequences, a fifth with two persons. Clips: "
        f"3 x 64 x 25 x 2, batch {result['batch']}; crop, resize, one rotation per clip, unless said otherwise.",
        "",
        "| store | rows | frames | mean, median, p95, p99 | opening | memory: imports, open, epoch's peak | epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, s in result["stores"].items():
        median, p95, p99 = s["percentiles"]
        mib = s["mib"]
        lines.append(
            f"| {kind} | {s['file_gb']:.2f} GB | {s['frames']} | {s['mean']:.1f}, {median:.0f}, {p95:.0f}, {p99:.0f} | "
            f"{s['opening_ms']:.1f} ms | {mib['imported']:.0f}, {mib['opened']:.0f}, {mib['epoch']:.0f} MiB | "
            f"{s['epoch_s']:.1f} s, {s['epoch_processor_s']:.1f} s of processor time |"
        )
    lines += [
        "",
        "Clips (sequences) per second of processor time, medians of rounds in alternating order, and how many times "
        "that the loader makes:",
        "",
        "| what |" + "".join(f" {kind} | loader / this |" for kind in result["stores"]),
        "|---|" + "---|---|" * len(result["stores"]),
    ]
    speeds = {kind: s["speed"]["clips_per_s"] for kind, s in result["stores"].items()}
    for name in next(iter(speeds.values())):
        row = f"| {name} |"
        for found in speeds.values():
            ratio = statistics.median(a / b for a, b in zip(found["loader"], found[name], strict=True))
            row += f" {statistics.median(found[name]):.0f} | {ratio:.1f} |"
        lines.append(row)
    worst = {kind: s["speed"]["differs_by"] for kind, s in result["stores"].items()}
    lines += [
        "",
        "For the same random numbers the loader's clips differ from those made clip by clip by at most "
        + ", ".join(f"{value * 1e3:.2g} mm ({kind})" for kind, value in worst.items())
        + ". The padded arrays hold "
        f"{_PADDED} sequences; NTU-60 whole would need 10.2 GB that way. Clip by clip without a remark is NumPy "
        'written for speed; "torch per clip" divides the work as the CTR-GCN family\'s loader does: nested sums to '
        "count frames, two-dimensional interpolation, a rotation matrix for every frame. CMD and HiCLR give two and "
        "four views per sequence.",
        "",
    ]
    return "\n".join(lines)
