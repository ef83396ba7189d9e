"""``data``: what sets there are, preparing them into stores, checking stores."""

from __future__ import annotations

import json as json_module
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from engine.cli import CommandError
from engine.cli.progress import JsonProgress, Style, say, stop_with_input
from engine.data.catalogue import list_stores
from engine.data.parts import Progress
from engine.data.sets import DATASETS, DatasetInfo, base_name, dataset_info, splits_of
from engine.data.store import SequenceStore
from engine.paths import stores

if TYPE_CHECKING:
    from engine.data.check import Report


def list_(json: bool = False) -> int:
    """List the datasets this program knows, what is prepared here, and where to ask for the others.

    Args:
        json: Print JSON instead of a table.
    """
    found = _prepared()
    rows: list[dict[str, Any]] = []
    for info in DATASETS.values():
        mine = [name for name in found if base_name(name) == info.name]
        for name in [info.name, *(name for name in mine if name != info.name)]:
            state, count = found.get(name, ("absent", 0))
            rows.append({
                "name": name, "title": info.title, "state": state, "sequences": count, "expected": info.sequences,
                "classes": len(info.classes), "splits": list(info.splits), "variants": list(info.variants),
                "layout": info.layout, "fps": info.fps, "source": info.source, "request": info.request,
                "licence": info.licence,
            })  # fmt: skip
    for name in (name for name in found if base_name(name) not in DATASETS):
        store = SequenceStore(stores() / name)
        rows.append({
            "name": name, "title": "own data", "state": "prepared", "sequences": len(store), "expected": None,
            "classes": len(store.classes), "splits": list(splits_of(store)), "variants": [], "layout": store.layout,
            "fps": store.fps, "source": "", "request": "", "licence": "",
        })  # fmt: skip
    if json:
        print(json_module.dumps(rows, indent=1))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        splits = ", ".join(row["splits"])
        print(f"{row['name']:<{width}}  {row['state']:<8} {row['sequences'] or '-':>6}  {row['title']}  ({splits})")
    absent = [row for row in rows if row["state"] == "absent"]
    if absent:
        print("\nPrepare one with: main.py data prepare NAME --raw PATH. Where the absent ones are to be had:")
    for row in absent:
        print(f"  {row['name']:<{width}}  {row['request']} ({row['licence']})")
    return 0


def _prepared() -> dict[str, tuple[str, int]]:
    """State and number of sequences of every store folder; of unknown sets only those that can be used."""
    return {entry.name: (entry.state, entry.sequences) for entry in list_stores(stores())}


def prepare(
    name: tyro.conf.Positional[str],
    raw: Path | None = None,
    variant: str = "",
    cutting: str = "",
    half: bool = False,
    workers: int = 0,
    progress: Style = "text",
) -> int:
    """Read downloaded files and write the store of a dataset.

    Sets with several bodies in a recording (NTU, PKU-MMD) get two stores: NAME.raw with the bodies as recorded, and
    NAME with the persons that cleaning chose. Zip archives need not be unpacked. Ctrl-C or a full disk lose nothing:
    the same command goes on with the parts that are finished. The store appears only when it is complete; an older one
    stays until then. Damaged recordings are reported and left out.

    Args:
        name: Dataset, e.g. nw_ucla or ntu60 ("data list" shows all). NAME.VARIANT is the same as --variant VARIANT.
        raw: The downloaded archive or folder. Without it further variants are made from NAME.raw.
        variant: Another cleaning than the default, stored as NAME.VARIANT: compatible (arrays of the CTR-GCN family),
            first_two (HiCLR and its relatives), top_two (2s-AGCN, CMD, I2MD), pyskl, gl_transformer; raw stops at the
            raw bodies.
        cutting: How the untrimmed videos of PKU-MMD are cut: clamp (from start up to, not with, end; the default),
            aimclr (AimCLR, HiCLR), cmd (CMD, MAMP), closed (with the end). Needs --raw.
        half: Keep float16 relative to an origin per sequence: half the size, steps of 0.2 to 1 mm near the body.
        workers: Processes; 0 takes one for every core.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    from engine.data.prepare import prepare_dataset

    info = _info(name)
    if info.built_from:
        from engine.cli.data_merge import merge

        return merge(name, workers=workers, progress=progress)
    wanted = name.partition(".")[2] or variant
    if raw is not None and not raw.exists():
        raise CommandError(f"{raw} does not exist; {info.title} is {info.source}: {info.request}")
    began = time.perf_counter()
    line: JsonProgress | _PrepareLine = _PrepareLine()
    if progress == "json":
        line = JsonProgress()
        stop_with_input()
    try:
        made = prepare_dataset(info, raw, stores(), wanted, half, workers, line, cutting)
    except KeyboardInterrupt:
        line.end()
        print("stopped; the same command goes on with what is finished", file=sys.stderr)
        return 1
    finally:
        line.end()
    for entry in made.damaged[:20]:
        print(f"left out: {entry['reason']}", file=sys.stderr)
    if len(made.damaged) > 20:
        print(f"... and {len(made.damaged) - 20} more; data check {made.store.name} --json lists all", file=sys.stderr)
    store = made.store
    frames, seconds = int(store.length.sum()), time.perf_counter() - began
    print(f"{store.name}: {len(store)} sequences, {frames} frames, {len(store.rows)} body-frames in {seconds:.1f} s")
    of = f" of {info.sequences} published" if info.sequences else ""
    print(
        f"{len(store)}{of}; {len(made.damaged)} left out as damaged, {made.excluded} as known to be unusable, "
        f"{made.missing} files not found"
    )
    print(f"store: {store.folder}")
    return 0


def check(
    name: tyro.conf.Positional[str],
    json: bool = False,
    render: Path | None = None,
    sample: str = "",
    copies: bool | None = None,
    progress: Style = "text",
) -> int:
    """Examine a prepared store: counts against the published ones, damage, copies between training and test.

    A store of a part of the set is no failure; exit status 1 means that the store itself is damaged.

    Args:
        name: A prepared store, e.g. nw_ucla or ntu60.compatible.
        json: Print everything as JSON.
        render: Draw moments of a sample into this PNG file.
        sample: Name or number of the sequence to draw; default the one in the middle.
        copies: Compare every sequence with every other, also for parts and noisy copies. Default for small sets;
            others are searched for exact copies only.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    from engine.data.check import check_store

    def tell(what: str) -> None:
        if progress == "json":
            say(what=what, done=0, total=0, damaged=0)
        else:
            print(f"{name}: {what}", file=sys.stderr)

    if progress == "json":
        stop_with_input()

    store = SequenceStore(stores() / name)
    if render is not None:
        _render(store, sample, render)
    report = check_store(store, DATASETS.get(base_name(name)), copies, tell)
    if json:
        print(json_module.dumps(report.as_dict(), indent=1))
    else:
        _print_report(report)
    return 1 if report.problems else 0


def _render(store: SequenceStore, sample: str, path: Path) -> None:
    from engine.render.picture import moments, write_png

    if sample and sample not in store.names and not sample.isdecimal():
        raise CommandError(f"{store.name} has no sequence {sample!r}; they are called like {store.names[0]}")
    index = store.names.index(sample) if sample in store.names else int(sample) if sample else len(store) // 2
    if index >= len(store):
        raise CommandError(f"{store.name} has {len(store)} sequences, the last is {len(store) - 1}")
    sequence = store.sequence(index)
    try:
        write_png(path, moments(sequence))
    except ValueError as error:
        raise CommandError(f"can't draw sequence {index}: {error}") from error
    label = store.classes[sequence.label] if sequence.label >= 0 else "no label"
    print(f"{path}: {sequence.name}, {label}", file=sys.stderr)


def _print_report(report: Report) -> None:
    facts = report.facts
    size = facts["bytes"] / 1e6
    print(
        f"{facts['name']}: {facts['sequences']} sequences, {facts['frames']} frames, "
        f"{facts['body_frames']} body-frames, {size:.1f} MB "
        f"({facts['precision']}, {facts['layout']}, {facts['fps']:g} frames/s)"
    )
    length = facts["length"]
    print(
        f"  frames per sequence: {length['min']} to {length['max']}, median {length['median']:g}, mean {length['mean']}"
    )
    bodies = ", ".join(f"{count} with {n}" for n, count in facts["bodies_per_sequence"].items())
    print(f"  bodies: {bodies}")
    for split, found in facts["splits"].items():
        if "unavailable" in found:
            continue
        expected = f" (published {found['expected'][0]}, {found['expected'][1]})" if found["expected"] else ""
        print(f"  {split}: {found['train']} train, {found['test']} test{expected}")
    for label, count in facts["per_class"].items():
        print(f"  {count:>5}  {label}")
    for entry in facts["damaged"]:
        print(f"left out: {entry['reason']}")
    for note in report.notes:
        print(f"note: {note}")
    for gap in report.gaps:
        print(f"incomplete: {gap}")
    for problem in report.problems:
        print(f"problem: {problem}")
    if not report.problems:
        print("complete and sound" if not report.gaps else "sound, but not the complete set")


def _info(name: str) -> DatasetInfo:
    try:
        return dataset_info(name)
    except KeyError as error:
        raise CommandError(str(error.args[0])) from None


class _PrepareLine:
    """Counts of a preparation as one line on stderr, rewritten in place; every step keeps its last line."""

    def __init__(self) -> None:
        self._what, self._open, self._last, self._shown = "", False, 0.0, (-1, -1)

    def __call__(self, progress: Progress) -> None:
        now, last = time.monotonic(), progress.done == progress.total
        if self._open and progress.what != self._what:
            self.end()
        new = progress.what != self._what
        same = not new and (progress.done, progress.damaged) == self._shown
        if same or (now - self._last < 0.2 and not last and not new):
            return
        self._shown = progress.done, progress.damaged
        self._what, self._last, self._open = progress.what, now, True
        damaged = f", {progress.damaged} damaged" if progress.damaged else ""
        print(f"\r{progress.what}: {progress.done}/{progress.total}{damaged}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False
