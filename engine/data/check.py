"""The dataset doctor: compares a prepared store with what its set publishes and with itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.data.duplicates import copies_of, find_copies
from engine.data.sets import DatasetInfo, split_indices, splits_of
from engine.data.splits import digests
from engine.data.start_pose import arms_stretched
from engine.data.store import SequenceStore, StoreError
from engine.data.store_files import HEADER_FILE
from engine.skeleton.convert import convert_layout, convertible

# Comparing every sequence with every other takes seconds up to here, minutes beyond.
THOROUGH_UP_TO = 3000
_BLOCK_ROWS = 65536
# Share of the recordings that begin alike from which this is no accident.
_START_POSES = 0.25
_NAMED = 20


@dataclass(frozen=True)
class Report:
    """What a check found.

    Parameters
    ----------
    facts : dict
        Everything counted, ready for JSON.
    problems : list of str
        What makes the store unfit for use: changed bytes, broken coordinates, overlapping parts.
    gaps : list of str
        What the published set has and the store has not: files not found, damaged ones left out, other counts.
    notes : list of str
        What a reader of results should know: copies between training and test, files left out as published.
    """

    facts: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {**self.facts, "problems": self.problems, "gaps": self.gaps, "notes": self.notes}


def check_store(
    store: SequenceStore,
    info: DatasetInfo | None,
    thorough: bool | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Check a store.

    Parameters
    ----------
    info : DatasetInfo or None
        What its set publishes; None for data of one's own.
    thorough : bool, optional
        Search test sequences for whole or partial copies of training sequences (:func:`find_copies`), not only for
        equal ones; default for stores of up to :data:`THOROUGH_UP_TO` sequences.
    tell : callable, optional
        Told what is being done, for progress.
    """
    tell = tell or (lambda what: None)
    thorough = len(store) <= THOROUGH_UP_TO if thorough is None else thorough
    per_class = np.bincount(store.label[store.label >= 0], minlength=len(store.classes))
    about = store.header["about"]
    tell("reading every coordinate")
    broken = _broken_sequences(store)
    tell("comparing checksums")
    changed = store.damaged_files()
    start_poses = 0 if broken else _start_poses(store)
    facts: dict[str, Any] = {
        "name": store.name,
        "title": info.title if info else "",
        "made": (store.folder / HEADER_FILE).stat().st_mtime,
        "variant": store.variant,
        "layout": store.layout,
        "precision": str(store.rows.dtype),
        "fps": store.fps,
        "sequences": len(store),
        "expected_sequences": info.sequences if info else None,
        "frames": int(store.length.sum()),
        "expected_frames": info.frames if info else None,
        "body_frames": len(store.rows),
        "bytes": sum(about["bytes"] for about in store.header["files"].values()),
        "bodies_per_sequence": _counts(store.bodies),
        "length": _lengths(store.length),
        "finite": not broken,
        "start_poses": start_poses,
        "damaged_files": changed,
        "missing": _left_out(about, "missing"),
        "excluded": _left_out(about, "excluded"),
        "damaged": about.get("damaged", []),
        "per_class": {name: int(count) for name, count in zip(store.classes, per_class, strict=True)},
    }
    report = Report(facts)
    _judge(store, info, report, broken, changed)
    # A search by distances is no use, nor possible, among numbers that are none.
    facts["splits"] = _splits(store, info, thorough and not broken, tell, report)
    return report


def _left_out(about: dict[str, Any], kind: str) -> dict[str, Any]:
    names = about.get(kind, [])
    return {"count": about.get(f"{kind}_count", len(names)), "names": names[:_NAMED]}


def _broken_sequences(store: SequenceStore) -> list[str]:
    """Names of sequences with coordinates that are not finite."""
    rows: list[int] = []
    for start in range(0, len(store.rows), _BLOCK_ROWS):
        block = store.rows[start : start + _BLOCK_ROWS]
        rows.extend((start + np.flatnonzero(~np.isfinite(block).all(axis=(1, 2)))).tolist())
        store.release()
    bodies = np.searchsorted(store.body_start, rows, side="right") - 1
    return [store.names[i] for i in np.unique(store.body_sequence[bodies])] if rows else []


def _start_poses(store: SequenceStore) -> int:
    """How many sequences begin with both arms stretched to the sides."""
    if not convertible(store.layout, "ntu25"):
        return 0
    first = store.body_start[store.first_body[store.bodies > 0]]
    count = 0
    for start in range(0, len(first), _BLOCK_ROWS):
        joints = store.rows[first[start : start + _BLOCK_ROWS]].astype(np.float32)
        count += int(arms_stretched(convert_layout(joints, store.layout, "ntu25")).sum())
    store.release()
    return count


def _per_class(label: np.ndarray, classes: int) -> list[int]:
    """Sequences of every class; those without a label count nowhere."""
    found: list[int] = np.bincount(label[label >= 0], minlength=classes).tolist()
    return found


def _counts(values: np.ndarray) -> dict[str, int]:
    found, count = np.unique(values, return_counts=True)
    return {str(value): int(n) for value, n in zip(found, count, strict=True)}


def _lengths(length: np.ndarray) -> dict[str, float]:
    p50, p95, p99 = np.percentile(length, [50, 95, 99])
    return {
        "min": int(length.min()),
        "median": float(p50),
        "mean": round(float(length.mean()), 1),
        "p95": float(p95),
        "p99": float(p99),
        "max": int(length.max()),
    }


def _judge(
    store: SequenceStore, info: DatasetInfo | None, report: Report, broken: list[str], changed: list[str]
) -> None:
    facts, filmed = report.facts, store.name.endswith("_mediapipe")
    if changed:
        report.problems.append(f"not what was written any more: {', '.join(changed)}; prepare it again")
    if broken:
        report.problems.append(f"coordinates that are not finite in {len(broken)} sequences, first {broken[0]}")
    names, count = np.unique(np.array(store.names), return_counts=True)
    if (count > 1).any() and not filmed:
        report.problems.append(f"{int((count > 1).sum())} names are there more than once, first {names[count > 1][0]}")
    if facts["damaged"]:
        first = facts["damaged"][0]["reason"]
        report.gaps.append(f"{len(facts['damaged'])} items were damaged and left out, first: {first}")
    if facts["missing"]["count"]:
        report.gaps.append(f"{facts['missing']['count']} files were not found, first {facts['missing']['names'][0]}")
    if facts["excluded"]["count"]:
        first = facts["excluded"]["names"][0]
        report.notes.append(f"{facts['excluded']['count']} files known to be unusable were left out, first {first}")
    if facts["start_poses"] >= _START_POSES * len(store):
        report.notes.append(
            f"{facts['start_poses']} of {len(store)} sequences begin with both arms stretched to the sides: a start "
            "pose, which an encoder learns as part of every action"
        )
    if info and tuple(store.classes) != info.classes:
        report.gaps.append(f"its {len(store.classes)} classes are not the {len(info.classes)} of {info.name}")
    for what in ("sequences", "frames"):
        expected = facts[f"expected_{what}"]
        # Cleaning drops frames; only sets with one body per recording publish a count of frames that holds.
        comparable = info and not filmed and not (what == "frames" and info.several_bodies)
        if comparable and expected is not None and facts[what] != expected:
            report.gaps.append(f"{facts[what]} {what}, the complete set has {expected}")


def _splits(
    store: SequenceStore,
    info: DatasetInfo | None,
    thorough: bool,
    tell: Callable[[str], None],
    report: Report,
) -> dict[str, Any]:
    tell("looking for copies" + (" of whole and partial sequences" if thorough else ""))
    digest = digests(store)
    copies = (find_copies(store) if report.facts["damaged_files"] else copies_of(store)) if thorough else None
    splits: dict[str, Any] = {}
    for name in splits_of(store):
        try:
            train, test = split_indices(store, name)
        except StoreError as error:
            splits[name] = {"unavailable": str(error)}
            report.notes.append(f"split {name}: {error}")
            continue
        expected = info.split_counts.get(name) if info else None
        classes = len(store.classes)
        found: dict[str, Any] = {
            "train": len(train),
            "test": len(test),
            "expected": expected,
            "test_copies_of_train": int(np.isin(digest[test], digest[train]).sum()),
            "train_per_class": _per_class(store.label[train], classes),
            "test_per_class": _per_class(store.label[test], classes),
        }
        if found["test_copies_of_train"]:
            report.notes.append(
                f"split {name}: {found['test_copies_of_train']} of {len(test)} test sequences are copies of "
                "training data"
            )
        if copies is not None:
            tested = set(map(int, test))
            pairs = copies.between(train, test)
            found["copies"] = _counts(np.array([pair.kind for pair in pairs])) if pairs else {}
            found["test_sharing_frames_with_train"] = len({p.a if p.a in tested else p.b for p in pairs})
            if found["test_sharing_frames_with_train"] > found["test_copies_of_train"]:
                report.notes.append(
                    f"split {name}: {found['test_sharing_frames_with_train']} test sequences share frames with training"
                    f" data ({', '.join(f'{n} {kind}' for kind, n in found['copies'].items())})"
                )
        if len(set(store.names)) == len(store) and np.intersect1d(train, test).size:
            report.problems.append(f"split {name}: {np.intersect1d(train, test).size} sequences are in both parts")
        if info and expected and len(store) == info.sequences and (len(train), len(test)) != expected:
            report.problems.append(
                f"split {name}: {len(train)} train, {len(test)} test, published {expected[0]}, {expected[1]}"
            )
        splits[name] = found
    return splits
