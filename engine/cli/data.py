"""``data``: prepare datasets into stores, check them, and film them for the live path."""

from __future__ import annotations

import json as json_module
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from engine.cli import CommandError
from engine.data.sets import DATASETS, DatasetInfo, dataset_info, read_dataset, split_indices
from engine.data.store import SequenceStore, StoreError, write_store
from engine.paths import stores
from engine.skeleton.sequence import SkeletonSequence


def list_(json: bool = False) -> int:
    """List the datasets this program knows and whether each is prepared here.

    Args:
        json: Print JSON instead of a table.
    """
    rows: list[dict[str, Any]] = []
    for info in DATASETS.values():
        for name in (info.name, f"{info.name}_mediapipe"):
            try:
                store = SequenceStore(stores() / name)
                state, count = "prepared", len(store)
            except StoreError as error:
                state, count = ("damaged" if "damaged" in str(error) else "absent"), 0
            if name == info.name or state != "absent":
                rows.append(
                    {"name": name, "title": info.title, "state": state, "sequences": count,
                     "classes": len(info.classes), "splits": list(info.splits)}
                )  # fmt: skip
    if json:
        print(json_module.dumps(rows, indent=1))
        return 0
    for row in rows:
        splits = ", ".join(row["splits"])
        print(f"{row['name']:<20} {row['state']:<9} {row['sequences'] or '-':>6}  {splits}  {row['title']}")
    return 0


def prepare(name: tyro.conf.Positional[str], raw: Path) -> int:
    """Read a downloaded archive and write its store.

    The store appears only when it is complete; an interrupted preparation leaves the old one.

    Args:
        name: Dataset, e.g. nw_ucla or utd_mhad ("data list" shows all).
        raw: The downloaded archive or its unpacked folder.
    """
    info = _info(name)
    if not raw.exists():
        raise CommandError(f"{raw} does not exist; {info.title} is {info.source}")
    began = time.perf_counter()
    store = write_store(
        stores() / name, name, read_dataset(name, raw), info.classes, info.fps, _progress(f"preparing {name}")
    )
    print(f"{name}: {len(store)} sequences, {len(store.rows)} frames in {time.perf_counter() - began:.1f} s")
    print(f"store: {store.folder}")
    return 0


def check(name: tyro.conf.Positional[str], json: bool = False) -> int:
    """Count a prepared store: sequences per class and split, lengths, exact copies between training and test.

    Args:
        name: A prepared dataset.
        json: Print JSON instead of text.
    """
    store = SequenceStore(stores() / name)
    info = _info(name)
    splits = {}
    for split in info.splits:
        train, test = split_indices(store, split)
        digest = store.column("digest")
        copies = int(np.isin(digest[test], digest[train]).sum())
        splits[split] = {"train": len(train), "test": len(test), "test_copies_of_train": copies}
    per_class = Counter(store.classes[i] for i in store.label)
    report = {
        "name": name,
        "sequences": len(store),
        "frames": int(store.length.sum()),
        "length": {
            "min": int(store.length.min()),
            "median": float(np.median(store.length)),
            "max": int(store.length.max()),
        },
        "finite": bool(np.isfinite(store.rows).all()),
        "per_class": dict(per_class),
        "splits": splits,
    }
    if json:
        print(json_module.dumps(report, indent=1))
    else:
        print(f"{name}: {report['sequences']} sequences, {report['frames']} frames, {report['length']}")
        for split, counts in splits.items():
            copies = counts["test_copies_of_train"]
            print(
                f"  {split}: {counts['train']} train, {counts['test']} test, of these {copies} copies of training data"
            )
        for label, count in per_class.items():
            print(f"  {count:>5}  {label}")
    return 0 if report["finite"] else 1


def film(
    name: tyro.conf.Positional[str],
    variants: Annotated[
        int, tyro.conf.arg(help="Films of every training sequence, each with another person and view.")
    ] = 1,
    workers: int = 0,
    seed: int = 0,
) -> int:
    """Film a prepared dataset with the rendered actor and store it as the live path sees it.

    Writes the store NAME_mediapipe: training sequences with varied people, rooms, distances and views, test sequences
    all alike from 2.8 m. Frames go through MediaPipe, tracking, filter and lifting exactly as live.

    Args:
        name: A prepared dataset.
        variants: Films of every training sequence.
        workers: Processes; 0 takes one for every core.
        seed: Seed of people, rooms and views.
    """
    from engine.live.through_camera import CameraSetup, see_store

    store, info = SequenceStore(stores() / name), _info(name)
    train, test = split_indices(store, next(iter(info.splits)))
    every = CameraSetup().every
    jobs = [(train, CameraSetup(every=every, seed=seed + v)) for v in range(variants)]
    jobs.append((test, CameraSetup(every=every, vary=False)))
    total = sum(len(indices) for indices, _ in jobs)
    unseen = 0

    def seen() -> Iterator[SkeletonSequence]:
        nonlocal unseen
        for indices, setup in jobs:
            for sequence in see_store(store, indices, setup, workers or os.cpu_count() or 1):
                if sequence is None:
                    unseen += 1
                else:
                    yield sequence

    target = f"{name}_mediapipe"
    made = write_store(
        stores() / target, target, seen(), store.classes, store.fps / every, _progress(f"filming {name}", total)
    )
    missed = int(np.sum(made.column("missed_frames")))
    print(f"{target}: {len(made)} films, {len(made.rows)} frames; nobody found in {missed} frames and {unseen} films")
    return 0


def _info(name: str) -> DatasetInfo:
    try:
        return dataset_info(name)
    except KeyError as error:
        raise CommandError(str(error.args[0])) from None


def _progress(what: str, total: int | None = None) -> Callable[[int], None]:
    """A callback that reports the count on stderr, at most twice a second."""
    last = 0.0

    def report(count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.5 or count == total:
            last = now
            of = f"/{total}" if total else ""
            print(f"\r{what}: {count}{of}", end="\n" if count == total else "", file=sys.stderr, flush=True)

    return report
