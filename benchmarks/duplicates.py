"""Looks for copies in real datasets, and measures the search on a set of NTU-120's size with copies planted in it.

    python benchmarks/duplicates.py NAME=PATH... [--scale 113945]

``NAME=PATH`` is a dataset of the program and its downloaded files, as for ``data prepare``. With ``--scale`` the real
sequences are bent into that many others (bones, pace, noise) and known copies are planted. Writes ``duplicates.md``
and ``duplicates.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.data.copy_search import by_motion, cast_nets, closeness, read_at
from engine.data.duplicates import NEAR, copied_test_indices, find_copies
from engine.data.prepare import prepare_dataset
from engine.data.sets import dataset_info, split_indices
from engine.data.store import SequenceStore
from engine.skeleton.convert import convert_layout
from engine.skeleton.layout import NTU25
from engine.skeleton.sequence import SkeletonSequence

PLANTED = ("exact", "shifted", "part", "part shifted", "rounded", "turned", "slower")
EACH = 200


def look_into(store: SequenceStore) -> dict:
    """What is found in one store, per split too, and how near the nearest pairs come that are no copies."""
    begin = time.perf_counter()
    copies = find_copies(store)
    seconds = time.perf_counter() - begin
    found = {(p.a, p.b) for p in copies.pairs}
    nearest = []
    for a, b in by_motion(cast_nets(store, range(len(store))), 0.06):
        if (a, b) not in found:
            close = closeness(store.sequence(a).xyz, store.sequence(b).xyz)
            if close is not None:
                nearest.append((round(1000 * close.distance, 1), store.names[a], store.names[b]))
    splits = {}
    for split in dataset_info(store.name).splits:
        train, test = split_indices(store, split)
        across = copies.between(train, test)
        splits[split] = {
            "train": len(train),
            "test": len(test),
            "pairs": dict(Counter(p.kind for p in across)),
            "test_copies": [store.names[i] for i in copied_test_indices(copies, train, test)],
        }
    pairs = copies.to_json(store.names)["pairs"]
    for row, pair in zip(pairs, copies.pairs, strict=True):
        row["labels"] = [store.classes[int(store.label[i])] for i in (pair.a, pair.b)]
        row["lengths"] = [int(store.length[i]) for i in (pair.a, pair.b)]
    return {
        "sequences": len(store),
        "seconds": round(seconds, 2),
        "kinds": dict(Counter(p.kind for p in copies.pairs)),
        "nearest_others_mm": sorted(nearest)[:5],
        "splits": splits,
        "pairs": pairs,
    }


class Bent:
    """``count`` sequences made from real ones, the last of them planted copies of earlier ones; nothing is kept."""

    def __init__(self, real: list[np.ndarray], count: int) -> None:
        self.real = real
        self.first_copy = count - EACH * len(PLANTED)
        self.count = count
        self.bones = [(child, parent) for child, parent in NTU25.bones]
        order, placed = [], {NTU25.root}
        while len(order) < len(self.bones):
            for child, parent in self.bones:
                if parent in placed and child not in placed:
                    order.append((child, parent))
                    placed.add(child)
        self.bones = order

    def __len__(self) -> int:
        return self.count

    def original(self, i: int) -> int:
        """The sequence that planted copy ``i`` was made from."""
        return (i - self.first_copy) * 37 % self.first_copy

    def kind(self, i: int) -> str:
        return PLANTED[(i - self.first_copy) % len(PLANTED)]

    def sequence(self, i: int) -> SkeletonSequence:
        xyz = self._bent(i) if i < self.first_copy else self._copied(i)
        return SkeletonSequence(xyz, np.arange(len(xyz)) / 30, "ntu25")

    def _bent(self, i: int) -> np.ndarray:
        rng = np.random.default_rng(i)
        source = self.real[int(rng.integers(len(self.real)))][:300]
        frames = int(np.clip(len(source) * rng.uniform(0.7, 1.2), 10, 300))
        source = read_at(source, np.linspace(0, len(source) - 1, frames))
        out = np.empty_like(source)
        out[:, NTU25.root] = source[:, NTU25.root]
        scale = rng.uniform(0.9, 1.1, 25).astype(np.float32)
        for child, parent in self.bones:
            out[:, child] = out[:, parent] + (source[:, child] - source[:, parent]) * scale[child]
        angle = rng.uniform(-0.8, 0.8)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        out = out @ turn.astype(np.float32) + rng.normal(0, 0.004, out.shape).astype(np.float32)
        return out[:, None]

    def _copied(self, i: int) -> np.ndarray:
        rng = np.random.default_rng(i)
        xyz, kind = self._bent(self.original(i)), self.kind(i)
        if "part" in kind:
            frames = max(len(xyz) // 2, 5)
            begin = int(rng.integers(len(xyz) - frames + 1))
            xyz = xyz[begin : begin + frames]
        if "shifted" in kind:
            xyz = xyz - xyz[0, 0, 1]
        if kind == "rounded":
            xyz = xyz.astype(np.float16).astype(np.float32)
        if kind == "turned":
            turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            xyz = (xyz @ (turn * np.sign(np.linalg.det(turn))).astype(np.float32)) + np.float32(0.3)
        if kind == "slower":
            xyz = read_at(xyz, np.linspace(0, len(xyz) - 1, int(1.3 * len(xyz))))
        return np.ascontiguousarray(xyz)


def at_scale(real: list[np.ndarray], count: int) -> dict:
    """Time, memory and what is found of the planted copies."""
    store = Bent(real, count)
    begin = time.process_time()
    frames = sum(len(store.sequence(i).xyz) for i in range(0, count, 50)) * 50
    making = (time.process_time() - begin) * 50
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin, used = time.perf_counter(), time.process_time()
    copies = find_copies(store)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {(p.a, p.b): p.kind for p in copies.pairs}
    rows = {}
    planted = range(store.first_copy, count)
    for kind in PLANTED:
        members = [i for i in planted if store.kind(i) == kind]
        said = Counter(found.get((store.original(i), i), "not found") for i in members)
        rows[kind] = {"planted": len(members), "reported": dict(said)}
    meant = {(store.original(i), i) for i in planted}
    # Two copies of one original are copies of each other.
    related = {i: store.original(i) for i in planted}
    false = [pair for pair in found if pair not in meant and len({related.get(i, i) for i in pair}) == 2]
    return {
        "sequences": count,
        "frames": frames,
        "seconds": round(seconds, 1),
        "processor_seconds": round(cpu, 1),
        "of_which_making": round(making, 1),
        "memory_mb": {"before": round(before), "peak": round(peak)},
        "planted": rows,
        "false_pairs": len(false),
    }


def table(head: list[str], rows: list[list]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def words(kinds: dict) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"


def one_side(pair: dict, side: int) -> list:
    return [pair["ab"[side]], pair["lengths"][side], pair["labels"][side]]


def report(result: dict) -> str:
    sets = result["sets"]
    parts = [
        "# Copies in the datasets, measured",
        (
            f"Made by `benchmarks/duplicates.py` on {result['machine']}. Kinds: exact = equal bit for bit; shifted = "
            "equal after one constant shift; part = all of the shorter sequence is in the other; overlap = some frames "
            f"in common; near = the same motion up to turn and shift within {1000 * NEAR:.0f} mm RMS."
        ),
        table(
            ["set", "sequences", "pairs", "nearest pair that is no copy, mm RMS", "seconds"],
            [
                [
                    name,
                    s["sequences"],
                    words(s["kinds"]),
                    "{} ({}, {})".format(*s["nearest_others_mm"][0]) if s["nearest_others_mm"] else "none within reach",
                    s["seconds"],
                ]
                for name, s in sets.items()
            ],
        ),
        "## Across splits",
        (
            "Test sequences of which the training part holds a copy: whole, or sharing at least half of the frames of "
            "the shorter one."
        ),
        table(
            ["set", "split", "train", "test", "copied test sequences", "pairs across"],
            [
                [name, split, row["train"], row["test"], len(row["test_copies"]), words(row["pairs"])]
                for name, s in sets.items()
                for split, row in s["splits"].items()
            ],
        ),
        "## Pairs that are not equal as a whole",
        "Every pair of three or more common frames; shorter overlaps are clips that meet at a frame.",
        table(
            ["set", "one", "frames", "class", "other", "frames", "class", "kind", "common", "share"],
            [
                [name, *one_side(p, 0), *one_side(p, 1), p["kind"], p["frames"], p["share"]]
                for name, s in sets.items()
                for p in s["pairs"]
                if p["kind"] != "exact" and p["frames"] >= 3
            ],
        ),
    ]
    if "scale" in result:
        scale = result["scale"]
        parts += [
            "## At the size of NTU-120",
            (
                f"{scale['sequences']:,} sequences ({scale['frames']:,} frames) bent from the real ones above: "
                f"{scale['processor_seconds']} s of one core ({scale['seconds']} s by the clock of a busy machine), of "
                f"which making the sequences once takes {scale['of_which_making']} s; memory "
                f"{scale['memory_mb']['before']} MB before, {scale['memory_mb']['peak']} MB at the peak. Pairs "
                f"reported that were not planted: {scale['false_pairs']}."
            ),
            table(
                ["planted", "count", "reported as"],
                [[kind, row["planted"], words(row["reported"])] for kind, row in scale["planted"].items()],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="+", help="NAME=PATH")
    parser.add_argument("--scale", type=int, default=0)
    options = parser.parse_args()
    result: dict = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}",
        "sets": {},
    }
    real: list[np.ndarray] = []
    for entry in options.data:
        name, _, path = entry.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            store = prepare_dataset(dataset_info(name), Path(path), Path(folder), workers=1).store
            result["sets"][name] = look_into(store)
            if options.scale:
                for i in range(len(store)):
                    sequence = store.sequence(i)
                    if len(sequence) > 9 and sequence.xyz[:, 0].any(axis=(1, 2)).all():
                        real.append(convert_layout(sequence.xyz, sequence.layout, "ntu25")[:, 0])
        print(name, result["sets"][name]["kinds"], flush=True)
    if options.scale:
        result["scale"] = at_scale(real, options.scale)
    here = Path(__file__).resolve().parent
    (here / "duplicates.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "duplicates.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
