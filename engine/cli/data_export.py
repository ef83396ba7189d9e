"""``data export``: a prepared store in a form other projects read."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from engine.cli import CommandError
from engine.cli.progress import JsonProgress, Style, stop_with_input
from engine.data.export_formats import Exported, export_npz, export_pyskl
from engine.data.parts import Progress
from engine.data.sets import main_split, split_indices, splits_of
from engine.data.store import SequenceStore, StoreError
from engine.paths import stores

Parts = tuple[np.ndarray, np.ndarray]


def export(
    name: tyro.conf.Positional[str],
    to: Literal["pyskl", "npz"],
    out: Path,
    split: str | None = None,
    float32: bool = False,
    centre: bool = False,
    progress: Style = "text",
) -> int:
    """Write a prepared dataset for PYSKL and MMAction2 (one pickle) or for the CTR-GCN family (one .npz per split).

    Args:
        name: A prepared dataset; "data list" shows all.
        to: pyskl writes annotations and splits; npz writes x_train, y_train, x_test, y_test of one split.
        out: The file to write.
        split: Which split, e.g. xsub. Default: all splits for pyskl, for npz xsub of merged sets, of others their first
            split; sequences without label are then left out.
        float32: pyskl only: full precision instead of the usual float16.
        centre: npz only: move the origin to the first actor's spine, as in CTR-GCN's own files.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    if (float32 and to != "pyskl") or (centre and to != "npz"):
        raise CommandError("--float32 belongs to --to pyskl, --centre to --to npz")
    store = SequenceStore(stores() / name)
    splits = _splits(store, split)
    report = _progress(f"exporting {name}")
    if progress == "json":
        stop_with_input()
        lines = JsonProgress()

        def report(count: int) -> None:
            lines(Progress(f"exporting {name}", count, 0, 0))

    began = time.perf_counter()
    if to == "pyskl":
        done = export_pyskl(store, out, splits, "float32" if float32 else "float16", report)
    else:
        if not splits:
            raise CommandError(f"{name} has no split with labels in both parts; the .npz form needs such a one")
        chosen = main_split(store) if main_split(store) in splits else next(iter(splits))
        parts = splits[chosen]
        done = export_npz(store, out, chosen, parts, centre, report)
    if progress == "text":
        print(file=sys.stderr)
    _report(out, done, splits if to == "pyskl" else {chosen: parts}, time.perf_counter() - began)
    unknown = int((store.label < 0).sum())
    if unknown and not split:
        print(f"{unknown} sequences without label left out")
    return 0


def _splits(store: SequenceStore, wanted: str | None) -> dict[str, Parts]:
    """The wanted split, or of all that this store has those with two parts, without sequences that have no label."""
    if wanted:
        return {wanted: split_indices(store, wanted)}
    found: dict[str, Parts] = {}
    for split in splits_of(store):
        # A split may need what was not with the files.
        with contextlib.suppress(StoreError):
            train, test = (part[store.label[part] >= 0] for part in split_indices(store, split))
            if len(train) and len(test):
                found[split] = train, test
    return found


def _report(out: Path, done: Exported, splits: dict[str, Parts], seconds: float) -> None:
    parts = "; ".join(f"{name} {len(train)} train, {len(test)} test" for name, (train, test) in splits.items())
    size = out.stat().st_size / 1e6
    print(f"{out}: {done.sequences} sequences, {size:.1f} MB in {seconds:.1f} s ({parts or 'no splits'})")
    if done.cropped:
        print(f"{done.cropped} sequences of more than 300 frames keep their middle 300")
    if done.empty:
        print(f"{len(done.empty)} sequences without anybody left out: {', '.join(done.empty[:5])}")


def _progress(what: str) -> Callable[[int], None]:
    last = 0.0

    def report(count: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            print(f"\r{what}: {count}", end="", file=sys.stderr, flush=True)

    return report
