"""``data merge``: one set of several prepared ones, by a map of classes that are the same action."""

from __future__ import annotations

import json as json_module
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from engine.cli import CommandError, UsageError
from engine.cli.progress import JsonProgress, Style, stop_with_input
from engine.data.merge import ClassMap, Merge, plan_merge, read_class_map, read_subjects, shipped_tables, some
from engine.data.merge import merge as write_merged
from engine.data.parts import Progress
from engine.data.sets import DATASETS, split_indices
from engine.data.store import SequenceStore
from engine.paths import stores

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


def merge(
    name: tyro.conf.Positional[str],
    class_map: Annotated[Path | None, tyro.conf.arg(name="map")] = None,
    subjects: Path | None = None,
    sets: tuple[str, ...] = (),
    only_present: bool = False,
    keep_left_out: bool = True,
    workers: int = 0,
    json: bool = False,
    progress: Style = "text",
) -> int:
    """Make one set of several prepared ones: the same action under one name, persons kept apart.

    "data merge everyday" builds the set of everyday actions from whatever of its sets is prepared here, and says which
    are missing and what that costs. A map of your own (a CSV file with the columns class,set,original) merges anything:
    the known sets and your own recordings. Sequences are converted to 25 joints and 30 frames a second. Splits of the
    result: xsub (train, test), tune (for choices that must not look at the test subjects), pretrain (xsub, with the
    sequences of left-out classes).

    Args:
        name: everyday, or a name for your own.
        class_map: CSV file: class,set,original and, for rows whose class is empty (left out), a reason; unknown=yes
            marks those that are actions of their own: training may learn half of them as unknown.
        subjects: CSV file: set,subject,part (train, tune, test). Without it every fourth subject of a set is tested.
        sets: Take only these sets of the map.
        only_present: Leave out classes of which there is nothing here; otherwise a class keeps its number everywhere.
        keep_left_out: Take sequences of left-out classes without a label, for pretraining.
        workers: Processes; 0 takes one for every core.
        json: Print the counts as JSON.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be the name of a merged set; take small letters, digits and _")
    table, people = _tables(name, class_map, subjects)
    prepared = plan_merge(name, table, people, stores(), sets, only_present, keep_left_out)
    if progress == "json":
        stop_with_input()
    began = time.perf_counter()
    try:
        listen = JsonProgress() if progress == "json" else _line
        store, damaged = write_merged(prepared, stores() / name, workers, listen)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on with what is finished", file=sys.stderr)
        return 1
    if progress == "text":
        print(file=sys.stderr)
    for entry in damaged[:20]:
        print(f"left out: {entry['reason']}", file=sys.stderr)
    report = _report(store, table, prepared)
    if json:
        print(json_module.dumps(report, indent=1, ensure_ascii=False))
    else:
        _print(report, time.perf_counter() - began)
    return 0


def _tables(name: str, class_map: Path | None, subjects: Path | None) -> tuple[ClassMap, Any]:
    """The map and the subjects; those that ship with the program for a name it knows."""
    known = DATASETS.get(name)
    if class_map is None:
        if known is None or not known.built_from:
            built = [info.name for info in DATASETS.values() if info.built_from]
            raise UsageError(f"{name}: give --map FILE, or take one that is known: {', '.join(built)}")
        table, people = shipped_tables(name)
    else:
        if known is not None:
            raise UsageError(f"{name} is a set of this program; give the merge of your own map another name")
        table, people = read_class_map(_text(class_map), str(class_map)), None
    return table, people if subjects is None else read_subjects(_text(subjects), str(subjects))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no CSV file in UTF-8 ({error})") from error


def _report(store: SequenceStore, table: ClassMap, prepared: Merge) -> dict[str, Any]:
    """Counts per class, and what the sets that are not here would have added."""
    train, test = split_indices(store, "xsub")
    subject, origin = store.column("subject"), store.column("set")
    classes = []
    for label, name in enumerate(store.classes):
        row: dict[str, Any] = {"class": name, "sets": sorted(set(origin[store.label == label].tolist()))}
        for part, indices in (("train", train), ("test", test)):
            mine = indices[store.label[indices] == label]
            row |= {part: len(mine), f"{part}_subjects": len(np.unique(subject[mine]))}
        classes.append(row)
    missing = []
    for one in prepared.missing:
        shown = set(table.of(one).values()) - {""}
        others = {
            merged for other in table.sets if other not in prepared.missing for merged in table.of(other).values()
        }
        missing.append({"set": one, "only_there": sorted(shown - others), "fewer_of": sorted(shown & others)})
    return {
        "name": store.name,
        "sequences": len(store),
        "train": len(train),
        "test": len(test),
        "unlabelled": int((store.label < 0).sum()),
        "sets": store.header["about"]["merged"],
        "missing": missing,
        "not_in_the_map": {one: list(names) for one, names in prepared.unnamed.items()},
        "classes": classes,
    }


def _print(report: dict[str, Any], seconds: float) -> None:
    found = ", ".join(f"{one} {about['sequences']}" for one, about in report["sets"].items())
    print(f"{report['name']}: {report['sequences']} sequences in {seconds:.1f} s ({found})")
    print(f"{report['train']} train, {report['test']} test, {report['unlabelled']} of left-out classes without a label")
    width = max(len(row["class"]) for row in report["classes"])
    print(f"\n{'class':<{width}}  train (subjects)  test (subjects)  sets")
    for row in report["classes"]:
        counts = "  ".join(f"{row[part]:>5} ({row[f'{part}_subjects']:>3})" for part in ("train", "test"))
        warning = "" if row["train"] and row["test"] else "  nobody to " + ("train on" if row["test"] else "test on")
        print(f"{row['class']:<{width}}  {counts}  {', '.join(row['sets'])}{warning}")
    for lost in report["missing"]:
        only = f"nothing of {', '.join(lost['only_there'])}; " if lost["only_there"] else ""
        print(
            f"\nmissing: {lost['set']} is not prepared here: {only}fewer of {', '.join(lost['fewer_of']) or 'nothing'}"
        )
    for one, names in report["not_in_the_map"].items():
        print(f"\nnot in the map, left out: {one}: {some(names)}")


def _line(progress: Progress) -> None:
    damaged = f", {progress.damaged} damaged" if progress.damaged else ""
    print(f"\r{progress.what}: {progress.done}/{progress.total}{damaged}", end="", file=sys.stderr, flush=True)
