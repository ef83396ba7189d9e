"""Several prepared sets as one: a class map says which actions are the same, a list of subjects says who is tested.

A model for every day can't come from one laboratory's ten actions. The map names what a person before a camera would
call an action and lists which classes of which sets are that; what is left out stands there too, with the reason.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.parts import Listener, Plan, PrepareError, build_store
from engine.data.preprocess import resample
from engine.data.splits import FILE_SUFFIX, digest
from engine.data.start_pose import START_POSES, without_start_pose
from engine.data.store import SequenceStore, StoreError
from engine.data.tables import table_text
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence

EVERYDAY = "everyday"
LAYOUT, FPS = "ntu25", 30.0
PARTS = ("train", "tune", "test")
# Subjects of the k-th set of a map have the numbers k * 1000 + 1, k * 1000 + 2, ...
PER_SET = 1000
# Frames per second of sets that were published without them, where our stores' guess can't be right: at 30 a second
# NW-UCLA's people walk 2.4 m/s and sit down, stand up and bend twice as fast as those of the other sets.
RATES = {"nw_ucla": 15.0}
# How left-out classes that are actions of their own are used, by turns in the order of the map (column "unknown").
LEARNT_AS_UNKNOWN, TESTED_AS_UNKNOWN = 1, 2
# Columns of the merged sets that are kept beside subject, set and source.
KEPT = ("adult", "view", "camera", "trial", "episode", "replication")


@dataclass(frozen=True)
class MapRow:
    """One class of one set: the merged class it belongs to, or "" and why it is left out.

    ``unknown``: left out, but surely none of the merged classes, so that a model should not give it their names.
    """

    merged: str
    set: str
    original: str
    reason: str = ""
    unknown: bool = False


@dataclass(frozen=True)
class ClassMap:
    """Which classes of which sets are the same action, in the order of the file."""

    rows: tuple[MapRow, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Merged classes in the order in which they first appear."""
        return tuple(dict.fromkeys(row.merged for row in self.rows if row.merged))

    @property
    def sets(self) -> tuple[str, ...]:
        """Sets in the order in which they first appear."""
        return tuple(dict.fromkeys(row.set for row in self.rows))

    def of(self, name: str) -> dict[str, str]:
        """Merged class of every original class of a set that the map names; "" for those left out."""
        return {row.original: row.merged for row in self.rows if row.set == name}

    def unknown_of(self, name: str) -> dict[str, int]:
        """Original classes of a set that are actions unknown to a model: learnt from or kept for testing, by turns."""
        rows = [row for row in self.rows if row.unknown]
        turns = (LEARNT_AS_UNKNOWN, TESTED_AS_UNKNOWN)
        return {row.original: turns[i % 2] for i, row in enumerate(rows) if row.set == name}


Subjects = dict[tuple[str, int], str]


def read_class_map(text: str, where: str) -> ClassMap:
    """Read a map: a CSV with the columns ``class``, ``set``, ``original`` and, if wanted, ``reason`` and ``unknown``.

    Raises
    ------
    PrepareError
        A column is missing, a row names no set or no original class, ``unknown`` is neither yes nor empty or stands
        beside a class, or a class of a set stands twice; with the line.
    """
    rows: list[MapRow] = []
    seen: dict[tuple[str, str], int] = {}
    for line, values in _lines(text, ("class", "set", "original"), where):
        unknown = values.get("unknown", "")
        row = MapRow(values["class"], values["set"], values["original"], values.get("reason", ""), unknown == "yes")
        if not row.set or not row.original:
            raise PrepareError(f"{where}, line {line}: say which class of which set (columns set and original)")
        if unknown not in ("", "yes") or (row.unknown and row.merged):
            raise PrepareError(f"{where}, line {line}: unknown is yes for an action left out, otherwise empty")
        if first := seen.get((row.set, row.original)):
            raise PrepareError(f"{where}, line {line}: {row.original!r} of {row.set} stands in line {first} already")
        seen[row.set, row.original] = line
        rows.append(row)
    if not any(row.merged for row in rows):
        raise PrepareError(f"{where}: no row names a class")
    return ClassMap(tuple(rows))


def read_subjects(text: str, where: str) -> Subjects:
    """Read who is tested: a CSV with the columns ``set``, ``subject`` and ``part`` (train, tune or test).

    Raises
    ------
    PrepareError
        A column is missing, a subject is no number or stands twice, or a part is none of the three; with the line.
    """
    found: Subjects = {}
    for line, values in _lines(text, ("set", "subject", "part"), where):
        if not values["subject"].isdecimal() or values["part"] not in PARTS:
            raise PrepareError(f"{where}, line {line}: a subject is a number, a part one of {', '.join(PARTS)}")
        key = values["set"], int(values["subject"])
        if key in found:
            raise PrepareError(f"{where}, line {line}: subject {key[1]} of {key[0]} stands here twice")
        found[key] = values["part"]
    return found


def _lines(text: str, columns: tuple[str, ...], where: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(text.removeprefix("\ufeff").splitlines(), restval="")
    if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise PrepareError(
            f"{where}: the first line must name the columns {', '.join(columns)}; {missing[0]} is missing"
        )
    for values in reader:
        if None in values:
            raise PrepareError(
                f'{where}, line {reader.line_num}: more values than columns; put texts with a comma in ""'
            )
        yield reader.line_num, {key: value.strip() for key, value in values.items()}


def part_by_place(place: int) -> str:
    """Part of the subject in a place, counted from 1 within its set (and among adults or children).

    Odd places train, as in the usual protocols of the small Kinect sets, so that encoders trained by those have seen
    nobody who is tested here. Of the even ones 2, 6, 10, ... are tested; 4, 8, ... are for choosing and calibrating.
    """
    return "train" if place % 2 else "test" if place % 4 == 2 else "tune"


def subjects_by_rule(store: SequenceStore) -> dict[int, str]:
    """Part of every subject of a store by :func:`part_by_place`; adults and children are counted apart."""
    subject = _subjects(store)
    group = store.column("adult") if "adult" in store.meta_keys else np.zeros(len(store), np.int64)
    parts: dict[int, str] = {}
    for value in np.unique(group):
        for place, number in enumerate(np.unique(subject[group == value]).tolist(), 1):
            parts.setdefault(number, part_by_place(place))
    return parts


def _subjects(store: SequenceStore) -> np.ndarray:
    """Subject of every sequence; a set that does not say counts as one person, so that nobody is in two parts."""
    if "subject" in store.meta_keys:
        return store.column("subject")
    return np.zeros(len(store), np.int64)


@dataclass(frozen=True)
class SetPlan:
    """How one set enters: label of every original class (-1 left out, None not in the map), part of every subject.

    ``unknown``: for every original class 0, or how it is used as an action that a model doesn't know.
    """

    labels: tuple[int | None, ...]
    parts: dict[int, str]
    first_subject: int
    unknown: tuple[int, ...]


@dataclass(frozen=True)
class Merge:
    """What will be merged.

    Parameters
    ----------
    missing : tuple of str
        Sets of the map that are not prepared here.
    unnamed : dict
        Per set the classes that the map does not mention.
    """

    plan: Plan
    about: dict[str, Any]
    missing: tuple[str, ...]
    unnamed: dict[str, tuple[str, ...]] = field(default_factory=dict)


def shipped_tables(name: str) -> tuple[ClassMap, Subjects]:
    """Map and subjects of a merge that comes with the program; raises ``FileNotFoundError`` where there is none."""
    files = f"{name}_classes.csv", f"{name}_subjects.csv"
    return read_class_map(table_text(files[0]), files[0]), read_subjects(table_text(files[1]), files[1])


def plan_merge(
    name: str,
    class_map: ClassMap,
    subjects: Subjects | None,
    stores: Path,
    only: Iterable[str] = (),
    only_present: bool = False,
    keep_left_out: bool = True,
) -> Merge:
    """Look at what is prepared and decide what is merged; nothing is written.

    Parameters
    ----------
    subjects : dict or None
        Who is tested; None takes :func:`subjects_by_rule` of every set.
    only : iterable of str
        Take these sets of the map; default all.
    only_present : bool
        Leave classes out that no set here shows. Otherwise a class has the same number on every machine.
    keep_left_out : bool
        Sequences of left-out classes enter without a label, for pretraining.

    Raises
    ------
    PrepareError
        No set of the map is here, one of ``only`` is unknown or not here, a store lacks a class that the map names, or
        a subject is not in the list.
    """
    wanted = tuple(only) or class_map.sets
    if strange := [one for one in wanted if one not in class_map.sets]:
        raise PrepareError(f"{strange[0]} is not in the class map; it names {', '.join(class_map.sets)}")
    opened: dict[str, SequenceStore] = {}
    for one in wanted:
        try:
            opened[one] = SequenceStore(stores / one)
        except StoreError as error:
            if only:
                raise PrepareError(f"{one} can't be merged: {error}") from error
    if not opened:
        raise PrepareError(f"none of {', '.join(wanted)} is prepared here (main.py data prepare NAME --raw PATH)")
    classes = class_map.classes
    if only_present:
        classes = tuple(name for name in classes if any(_shows(store, class_map, name) for store in opened.values()))
    numbers = {merged: i for i, merged in enumerate(classes)} | ({"": -1} if keep_left_out else {})
    sets, unnamed, items = {}, {}, []
    for one, store in opened.items():
        names = class_map.of(one)
        if unknown := [original for original in names if original not in store.classes]:
            raise PrepareError(f"{one} has no class {unknown[0]!r}, which the map names; it has {some(store.classes)}")
        labels = tuple(numbers.get(names[c]) if c in names else None for c in store.classes)
        parts = _parts(one, store, subjects)
        turns = class_map.unknown_of(one)
        unknown_classes = tuple(turns.get(c, 0) for c in store.classes)
        sets[one] = SetPlan(labels, parts, PER_SET * (class_map.sets.index(one) + 1), unknown_classes)
        unnamed[one] = tuple(c for c in store.classes if c not in names)
        taken = np.array([label is not None for label in labels] + [False])
        items += [f"{one}:{i}" for i in np.flatnonzero(taken[store.label])]
    about = {
        "merged": {one: {"sequences": sum(item.startswith(f"{one}:") for item in items)} for one in sets},
        "missing_sets": [one for one in class_map.sets if one not in sets],
    }
    made_of = [[one, store.header["files"]] for one, store in opened.items()]
    poses = [one for one in START_POSES if one in sets]
    entering = {one: [s.labels, s.unknown, sorted(s.parts.items())] for one, s in sets.items()}
    source = json.dumps([made_of, poses, entering])
    plan = Plan(
        tuple(items), MergedItems(str(stores), sets), name, classes, FPS,
        source=hashlib.sha256(source.encode()).hexdigest(),
    )  # fmt: skip
    missing = tuple(one for one in wanted if one not in opened)
    return Merge(plan, about | {"key": plan.key()}, missing, {one: left for one, left in unnamed.items() if left})


def _shows(store: SequenceStore, class_map: ClassMap, merged: str) -> bool:
    """Whether a store holds a sequence of a merged class."""
    names = class_map.of(store.name)
    labels = [i for i, original in enumerate(store.classes) if names.get(original) == merged]
    return bool(np.isin(store.label, labels).any())


def some(names: Iterable[str], most: int = 12) -> str:
    """Names in a line, the first ones where they are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _parts(name: str, store: SequenceStore, subjects: Subjects | None) -> dict[int, str]:
    if subjects is None or all(one != name for one, _ in subjects):
        parts = subjects_by_rule(store)
    else:
        parts = {number: part for (one, number), part in subjects.items() if one == name}
    for number in np.unique(_subjects(store)).tolist():
        if number not in parts:
            raise PrepareError(f"subject {number} of {name} is not in the list of subjects; add a row for it")
        if not 0 <= number < PER_SET:
            raise PrepareError(f"{name} has a subject {number}; subjects must be numbered from 0 to {PER_SET - 1}")
    return parts


def merge(
    prepared: Merge, folder: Path, workers: int = 0, listen: Listener | None = None
) -> tuple[SequenceStore, list[dict[str, str]]]:
    """Write the store ``folder``; finished parts of an interrupted merge are used.

    Returns
    -------
    tuple
        The store, and the sequences that were left out as damaged (``item`` and ``reason``).

    Raises
    ------
    PrepareError
        As :func:`engine.data.parts.build_store`.
    """
    damaged = build_store(prepared.plan, folder, prepared.about, workers, listen, f"merging {prepared.plan.name}")
    return SequenceStore(folder), damaged


@dataclass(frozen=True)
class MergedItems:
    """Makes the merged sequence of an item ``SET:POSITION``; goes to worker processes as it is."""

    stores: str
    sets: dict[str, SetPlan]

    def __call__(self, item: str) -> Iterator[SkeletonSequence]:
        name, _, position = item.rpartition(":")
        store, how, i = _opened(self.stores, name), self.sets[name], int(position)
        sequence = store.sequence(i)
        if name in RATES:
            sequence.times = np.arange(len(sequence)) / RATES[name]
        sequence = at_rate(sequence, FPS)
        sequence = replace(sequence, xyz=convert_layout(sequence.xyz, sequence.layout, LAYOUT), layout=LAYOUT)
        if name in START_POSES:
            sequence = without_start_pose(sequence)
        subject = int(_subjects(store)[i])
        label = how.labels[sequence.label]
        assert label is not None
        meta: dict[str, int | str] = {key: value for key, value in sequence.meta.items() if key in KEPT}
        meta |= {"subject": how.first_subject + subject, "set": name, "source": store.classes[sequence.label]}
        meta |= memberships(how.parts[subject], label >= 0)
        meta |= {"unknown": how.unknown[sequence.label], "digest": digest(sequence.xyz)}
        times = sequence.times - sequence.times[0]
        yield SkeletonSequence(sequence.xyz, times, LAYOUT, name=f"{name}.{sequence.name}", label=label, meta=meta)


@lru_cache(maxsize=16)
def _opened(stores: str, name: str) -> SequenceStore:
    return SequenceStore(Path(stores) / name)


def memberships(part: str, labelled: bool) -> dict[str, int | str]:
    """Columns of the three splits for a sequence of a subject: 1 train, 0 test, -1 neither.

    ``xsub``: all but the test subjects train. ``tune``: the tune subjects are tested and the test subjects stay unseen,
    for every choice that must not look at them. ``pretrain``: ``xsub``, and sequences without a label train too.
    """
    xsub = int(part != "test")
    tune = {"train": 1, "tune": 0, "test": -1}[part]
    columns = {"xsub": xsub, "tune": tune, "pretrain": xsub}
    if not labelled:
        columns = {"xsub": -1, "tune": -1, "pretrain": 1 if xsub else -1}
    return {f"{split}{FILE_SUFFIX}": value for split, value in columns.items()}


def at_rate(sequence: SkeletonSequence, fps: float) -> SkeletonSequence:
    """The sequence read at equal steps of ``1 / fps`` seconds from its first frame on, linear between frames."""
    steps = np.diff(sequence.times)
    if not len(steps) or np.allclose(steps, 1 / fps, atol=1e-6):
        return sequence
    times = np.arange(int(np.floor(sequence.duration * fps + 1e-6)) + 1) / fps
    xyz = resample(sequence.xyz, sequence.times - sequence.times[0], times, interpolate=True)
    return SkeletonSequence(xyz, times, sequence.layout, name=sequence.name, label=sequence.label, meta=sequence.meta)
