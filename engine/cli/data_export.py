"""``data export``: a prepared store in a form other projects read."""

from __future__ import annotations

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
from engine.data.sets import dataset_info, split_indices
from engine.data.splits import from_file
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
        split: Which split, e.g. xsub. Default: all splits for pyskl, the dataset's first one for npz.
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
            raise CommandError(f"{name} has no split; the .npz form needs a training and a test part")
        chosen, parts = next(iter(splits.items()))
        done = export_npz(store, out, chosen, parts, centre, report)
    if progress == "text":
        print(file=sys.stderr)
    _report(out, done, splits if to == "pyskl" else {chosen: parts}, time.perf_counter() - began)
    return 0


def _splits(store: SequenceStore, wanted: str | None) -> dict[str, Parts]:
    """The wanted split, or all that this store has: its dataset's, and those an imported file brought along."""
    brought = [key.removesuffix("_train") for key in store.meta_keys if key.endswith("_train")]
    try:
        known = list(dataset_info(store.name).splits)
    except KeyError:
        known = []
    found: dict[str, Parts] = {}
    for split in [wanted] if wanted else [*known, *(name for name in brought if name not in known)]:
        try:
            if split in known:
                found[split] = split_indices(store, split)
                continue
        except StoreError as error:
            if wanted and split not in brought:
                raise CommandError(f"{store.name} can't be split by {split}: {error}") from error
        if split in brought:
            found[split] = from_file(f"{split}_train", store)
        elif wanted:
            listed = ", ".join(dict.fromkeys([*known, *brought])) or "none"
            raise CommandError(f"{store.name} has no split {split!r}; it has: {listed}")
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
