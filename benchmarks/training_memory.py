"""Measures resident memory while a set of NTU-60's size is trained on through the feed of a published recipe.

    python benchmarks/training_memory.py [--folder DIR] [--sequences N] [--steps N]

The sequences are made up, with NTU-60's number, lengths, performers and cameras. The recipe is the published one
(batch, crops, SkeletonGCL's bank with a row per training sequence, optimiser, states); only the encoder is a narrow
one. The same run on a set of a quarter of that size shows what is the encoder's activations and what is the data's.
Writes ``training_memory.md`` and ``training_memory.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RECIPE = "ntu60_xsub_ctrgcn_skeletongcl_joint"
NARROW = 8
SEQUENCES = 56_578


def resident() -> float:
    """MiB of this process that are in memory now, mapped files included."""
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def peak() -> float:
    """MiB, the most that were ever in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_store(folder: Path, sequences: int) -> None:
    """Slowly moving joints; a fifth of the sequences with two persons; performers and cameras as in NTU-60."""
    from engine.cli.benchmark_data import sequence_lengths
    from engine.data.ntu_names import LIST_A
    from engine.data.store import write_store
    from engine.skeleton.sequence import SkeletonSequence

    rng = np.random.default_rng(0)
    trained = sorted(LIST_A)
    tested = sorted(set(range(1, 41)) - set(trained))
    bank = np.cumsum(rng.standard_normal((20_000, 25, 3), np.float32) * 0.002, 0)
    lengths = sequence_lengths(sequences, rng)

    def made() -> Any:
        for i, length in enumerate(lengths):
            count = 1 + (i % 5 == 0)
            first = rng.integers(0, len(bank) - length, count)
            xyz = np.stack([bank[f : f + length] + np.float32(m) for m, f in enumerate(first)], 1)
            # The published arrays are centred on the first actor's first mid-spine.
            xyz -= xyz[0, 0, 1].copy()
            # 40,091 of NTU-60's 56,578 sequences are by training performers.
            performers = trained if rng.random() < 40_091 / SEQUENCES else tested
            meta = {"performer": performers[i % 20], "camera": i % 3 + 1}
            yield SkeletonSequence.from_frames(xyz, 30.0, name=f"s{i:05d}", label=i % 60, **meta)

    write_store(folder, "ntu60.compatible", made(), [f"class {i}" for i in range(60)], 30.0)


def recipe(steps: int) -> Any:
    from engine.training.recipe import load_recipe

    changes = {"backbone_args": f"{{base_channels: {NARROW}}}", "accelerator": "cpu", "threads": "1", "epochs": "1"}
    return load_recipe(RECIPE, changes)


def measure_loader(stores: Path) -> dict[str, Any]:
    """One epoch of the recipe's clips, nothing trained."""
    import torch

    torch.set_num_threads(1)
    from engine.training.feed import open_data, training_loader

    imported = resident()
    loader = training_loader(recipe(0), open_data(recipe(0), stores))
    opened, most, clips = resident(), 0.0, 0
    began, used = time.perf_counter(), time.process_time()
    for b, batch in enumerate(loader):
        clips += len(batch)
        if b % 5 == 0:
            most = max(most, resident())
    return {
        "imported_mib": imported, "opened_mib": opened, "most_mib": most, "clips": clips,
        "seconds": time.perf_counter() - began, "processor_s": time.process_time() - used,
    }  # fmt: skip


def measure_training(stores: Path, steps: int) -> dict[str, Any]:
    """The run itself, asked to stop after some steps: it saves its state with the bank."""
    from engine.training.supervised import train

    with tempfile.TemporaryDirectory() as folder:
        run, seen = Path(folder) / "run", []

        def listen(event: dict[str, Any]) -> None:
            if event["event"] == "step":
                seen.append((event["step"], resident()))
                if event["step"] >= steps:
                    (run / "stop").touch()

        imported = resident()
        began = time.perf_counter()
        train(recipe(steps), stores, run, listen)
        state = (run / "state.safetensors").stat().st_size
    return {
        "imported_mib": imported, "by_step": seen, "peak_mib": peak(), "state_mib": state / 2**20,
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def alone(function: Any, *arguments: Any) -> Any:
    """In a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def report(result: dict[str, Any]) -> str:
    host, loader, training, small = result["machine"], result["loader"], result["training"], result["small"]
    steps, rate = training["by_step"][-1][0], loader["clips"] / loader["processor_s"]
    saved = f"a saved state with the bank ({training['state_mib']:.0f} MiB)"
    return f"""# Memory of a training on NTU-60's size

Made by `python benchmarks/training_memory.py` on {result["date"]}: {host["processor"]}, {host["cores"]} cores,
{host["memory_gib"]} GiB, Python {host["python"]}; one thread; load average {result["load"][0]:.1f} at the start,
{result["load"][1]:.1f} at the end. Figures are resident memory of the process, the mapped store included.

Made-up store: {result["sequences"]} sequences, {result["store_gb"]:.2f} GB on disk as float32. Recipe `{RECIPE}`
with an encoder of {NARROW} channels in place of 64: batch {result["batch"]}, 3 x 64 x 25 x 2.

| what | MiB, at most |
|---|---|
| Python, torch and the training imported | {training["imported_mib"]:.0f} |
| one epoch of clips ({loader["clips"]}), nothing trained | {loader["most_mib"]:.0f} |
| training, {steps} steps and {saved} | {training["peak_mib"]:.0f} |
| the same with {result["small_sequences"]} sequences | {small["peak_mib"]:.0f} |

The epoch of clips took {loader["processor_s"]:.1f} s of processor time, {rate:.0f} clips a second; the same arrays
padded as published would need 10.2 GB of memory. What training needs beyond the clips are the encoder's activations,
which are the same for any number of sequences (and larger for the full encoder, on the device that trains it).
"""


def main() -> int:
    from engine.cli.machine import machine

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "skelapp-benchmark")
    parser.add_argument("--sequences", type=int, default=SEQUENCES)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    few = options.sequences // 4
    load = os.getloadavg()[0]
    for count in (options.sequences, few):
        store = options.folder / f"training_{count}" / "ntu60.compatible"
        if not (store / "store.json").is_file():
            print(f"making up {count} sequences in {store} ...", file=sys.stderr)
            store.parent.mkdir(parents=True, exist_ok=True)
            alone(make_store, store, count)
    stores = options.folder / f"training_{options.sequences}"
    store = stores / "ntu60.compatible"
    result: dict[str, Any] = {
        "date": date.today().isoformat(), "machine": machine(), "sequences": options.sequences,
        "store_gb": sum(file.stat().st_size for file in store.iterdir()) / 1e9, "recipe": RECIPE, "batch": 64,
        "small_sequences": few,
    }  # fmt: skip
    result["loader"] = alone(measure_loader, stores)
    result["training"] = alone(measure_training, stores, options.steps)
    result["small"] = alone(measure_training, options.folder / f"training_{few}", options.steps)
    result["load"] = [load, os.getloadavg()[0]]
    here = Path(__file__).resolve().parent
    (here / "training_memory.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "training_memory.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
