"""Merged sets: the map says what is the same, persons stay on one side, times stay true, nothing is lost silently."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli import entry
from engine.data.catalogue import read_catalogue
from engine.data.check import check_store
from engine.data.merge import (
    LEARNT_AS_UNKNOWN,
    TESTED_AS_UNKNOWN,
    MapRow,
    at_rate,
    part_by_place,
    plan_merge,
    read_class_map,
    read_subjects,
    shipped_tables,
)
from engine.data.merge import merge as write_merged
from engine.data.parts import PrepareError
from engine.data.prepare import prepare_dataset
from engine.data.sets import DATASETS, split_indices
from engine.data.statistics import store_statistics
from engine.data.store import SequenceStore, write_store
from engine.data.tables import table_rows
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence
from tests.shared_data import shared

MAP = """class,set,original,reason
wave,one,wave,
wave,two,hand waving,
sit,two,sitting down,
,one,odd,nobody knows what it is
"""


def small(folder: Path, name: str, classes: tuple[str, ...], layout: str, fps: float, subjects: int) -> SequenceStore:
    rng = np.random.default_rng(len(name) + subjects)
    joints = 25 if layout == "ntu25" else 20
    made = [
        SkeletonSequence.from_frames(
            np.cumsum(rng.standard_normal((6 + label, joints, 3)), 0), fps, layout,
            name=f"{label}_{subject}", label=label, subject=subject, trial=1,
        )
        for label in range(len(classes)) for subject in range(1, subjects + 1)
    ]  # fmt: skip
    return write_store(folder / name, name, made, classes, fps)


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    small(tmp_path, "one", ("wave", "odd"), "kinect20", 15.0, 4)
    small(tmp_path, "two", ("sitting down", "hand waving", "rest"), "ntu25", 30.0, 3)
    return tmp_path


def test_the_same_action_has_one_label_and_persons_are_on_one_side(stores: Path) -> None:
    prepared = plan_merge("mine", read_class_map(MAP, "map.csv"), None, stores)
    assert prepared.missing == () and prepared.unnamed == {"two": ("rest",)}
    store, damaged = write_merged(prepared, stores / "mine", workers=1)
    assert not damaged and store.classes == ["wave", "sit"] and (store.layout, store.fps) == ("ntu25", 30.0)
    origin, source, subject = (store.column(key) for key in ("set", "source", "subject"))
    named = {"wave": 0, "hand waving": 0, "sitting down": 1, "odd": -1}
    assert store.label.tolist() == [named[name] for name in source]
    assert sorted(np.unique(subject).tolist()) == [1001, 1002, 1003, 1004, 2001, 2002, 2003]
    assert (subject // 1000 == np.where(origin == "one", 1, 2)).all()
    # Odd places train, the second is tested, the fourth is for choosing; what has no label is for pretraining alone.
    place = subject % 1000
    train, test = split_indices(store, "xsub")
    assert np.array_equal(test, np.flatnonzero((place == 2) & (store.label >= 0)))
    assert np.array_equal(train, np.flatnonzero((place != 2) & (store.label >= 0)))
    train, test = split_indices(store, "tune")
    assert set(place[train]) == {1, 3} and set(place[test]) == {4} and (store.label[train] >= 0).all()
    train, test = split_indices(store, "pretrain")
    assert np.array_equal(train, np.flatnonzero(place != 2)) and (store.label[test] >= 0).all()
    statistics = store_statistics(store)
    assert statistics.unlabelled == 4 and statistics.per_class.tolist() == [7, 3]


def test_unknown_actions_are_learnt_or_tested_by_turns(stores: Path) -> None:
    text = "class,set,original,unknown\nwave,one,wave,\n,one,odd,yes\n,two,hand waving,\n,two,rest,yes\n"
    store, _ = write_merged(plan_merge("m", read_class_map(text, "map.csv"), None, stores), stores / "m", workers=1)
    turn = {"wave": 0, "odd": LEARNT_AS_UNKNOWN, "hand waving": 0, "rest": TESTED_AS_UNKNOWN}
    assert store.column("unknown").tolist() == [turn[name] for name in store.column("source")]
    assert (store.label[store.column("unknown") > 0] == -1).all()


def test_joints_are_converted_and_read_thirty_times_a_second(stores: Path) -> None:
    store, _ = write_merged(plan_merge("m", read_class_map(MAP, "map.csv"), None, stores), stores / "m", workers=1)
    before = SequenceStore(stores / "one").sequence(1)
    after = store.sequence(store.names.index(f"one.{before.name}"))
    joints = convert_layout(before.xyz, "kinect20", "ntu25")
    assert len(after) == 2 * len(before) - 1
    assert np.allclose(after.xyz[::2], joints, atol=1e-5)
    assert np.allclose(after.xyz[1::2], (joints[1:] + joints[:-1]) / 2, atol=1e-5)
    assert after.times[-1] == pytest.approx(before.times[-1]) and after.meta["trial"] == 1


def test_one_frame_and_a_rate_that_fits_are_left_as_they_are() -> None:
    one = SkeletonSequence.from_frames(np.ones((1, 25, 3)), 10.0)
    assert at_rate(one, 30.0) is one
    fits = SkeletonSequence.from_frames(np.ones((7, 25, 3)), 30.0)
    assert at_rate(fits, 30.0) is fits
    slow = SkeletonSequence.from_frames(np.arange(4.0)[:, None, None] * np.ones((4, 25, 3)), 31.25)
    found = at_rate(slow, 30.0)
    assert len(found) == 3 and np.allclose(found.xyz[:, 0, 0, 0], np.arange(3) * 31.25 / 30, atol=1e-6)


def test_maps_and_lists_that_make_no_sense_are_refused_with_their_line(stores: Path) -> None:
    for text, words in (
        ("class,set\na,b\n", "original is missing"),
        ("class,set,original\nwave,,x\n", "line 2: say which class of which set"),
        (MAP + "sit,one,wave,\n", "line 6: 'wave' of one stands in line 2 already"),
        ("class,set,original\n,one,wave\n", "no row names a class"),
        ("class,set,original\na,b,c,d,e\n", "line 2: more values"),
        ("class,set,original,unknown\nwave,one,wave,yes\n", "line 2: unknown is yes for an action left out"),
        ("class,set,original,unknown\n,one,wave,no\n", "line 2: unknown is yes for an action left out"),
    ):
        with pytest.raises(PrepareError, match=words):
            read_class_map(text, "map.csv")
    for text, words in (
        ("set,subject,part\none,1,both\n", "line 2: a subject is a number"),
        ("set,subject,part\none,1,test\none,1,train\n", "line 3: subject 1 of one stands here twice"),
    ):
        with pytest.raises(PrepareError, match=words):
            read_subjects(text, "who.csv")
    table = read_class_map(MAP, "map.csv")
    with pytest.raises(PrepareError, match="subject 2 of one is not in the list"):
        plan_merge("m", table, {("one", 1): "train"}, stores)
    with pytest.raises(PrepareError, match="two has no class 'sitting', which the map names; it has sitting down"):
        plan_merge("m", read_class_map(MAP.replace("sitting down", "sitting"), "map.csv"), None, stores)
    with pytest.raises(PrepareError, match="three is not in the class map"):
        plan_merge("m", table, None, stores, only=("three",))
    with pytest.raises(PrepareError, match="none of one, two is prepared"):
        plan_merge("m", table, None, stores / "nowhere")


def test_missing_sets_and_empty_classes_are_told(stores: Path, monkeypatch, capsys) -> None:
    (stores / "home").mkdir()
    (stores / "home" / "stores").symlink_to(stores)
    monkeypatch.setenv("SKELAPP_HOME", str(stores / "home"))
    path = stores / "map.csv"
    path.write_text(MAP + "jump,three,jump,\nwave,three,waving,\n", "utf-8")
    assert entry(["data", "merge", "mine", "--map", str(path), "--workers", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["missing"] == [{"set": "three", "only_there": ["jump"], "fewer_of": ["wave"]}]
    assert [row["class"] for row in report["classes"]] == ["wave", "sit", "jump"]
    assert report["classes"][0] == {
        "class": "wave", "sets": ["one", "two"], "train": 5, "train_subjects": 5, "test": 2, "test_subjects": 2,
    }  # fmt: skip
    words = ["data", "merge", "mine", "--map", str(path), "--workers", "1", "--only-present", "--no-keep-left-out"]
    assert entry(words) == 0
    shown = capsys.readouterr().out
    assert "missing: three is not prepared here: nothing of jump; fewer of wave" in shown and "two: rest" in shown
    store = SequenceStore(stores / "mine")
    assert store.classes == ["wave", "sit"] and (store.label >= 0).all()
    assert entry(["data", "merge", "everyday", "--map", str(path)]) == 2
    assert entry(["data", "merge", "unknown"]) == 2


def test_a_merged_set_can_be_built_when_one_of_its_sets_is_here(stores: Path) -> None:
    def state() -> str:
        return next(entry for entry in read_catalogue(stores) if entry.name == "everyday").state

    assert state() == "absent"
    small(stores, "florence3d", DATASETS["florence3d"].classes, "ntu25", 10.0, 1)
    assert state() == "found"


def test_everyday_is_prepared_like_any_set_and_checked_with_what_has_no_label(
    stores: Path, monkeypatch, capsys
) -> None:
    small(stores, "florence3d", DATASETS["florence3d"].classes, "ntu25", 10.0, 2)
    small(stores, "kinder_gator", DATASETS["kinder_gator"].classes, "kinect20", 31.25, 1)
    (stores / "home").mkdir()
    (stores / "home" / "stores").symlink_to(stores)
    monkeypatch.setenv("SKELAPP_HOME", str(stores / "home"))
    assert entry(["data", "prepare", "everyday", "--raw", str(stores), "--workers", "1"]) == 1
    assert "subject 1 of kinder_gator is not in the list" in capsys.readouterr().err
    assert entry(["data", "merge", "everyday", "--sets", "florence3d", "--workers", "1"]) == 0
    assert "nw_ucla" not in capsys.readouterr().out, "what was not asked for is not missing"
    store = SequenceStore(stores / "everyday")
    assert tuple(store.classes) == DATASETS["everyday"].classes and len(store) == 18 and (store.label >= 0).all()
    mine, _ = write_merged(plan_merge("m", read_class_map(MAP, "map.csv"), None, stores), stores / "m", workers=1)
    report = check_store(mine, None, thorough=False)
    assert report.problems == [] and report.facts["splits"]["pretrain"]["train_per_class"] == [5, 2]
    with pytest.raises(PrepareError, match="data merge everyday"):
        prepare_dataset(DATASETS["everyday"], None, stores)


def test_every_class_of_every_set_stands_in_the_everyday_map_once() -> None:
    table, subjects = shipped_tables("everyday")
    assert len(table.classes) == 61 and table.classes == DATASETS["everyday"].classes
    for name in table.sets:
        assert sorted(table.of(name)) == sorted(DATASETS[name].classes)
    assert all(row.merged or row.reason for row in table.rows), "what is left out says why"
    assert MapRow("wave", "florence3d", "wave") in table.rows
    unknown = [turn for name in table.sets for turn in table.unknown_of(name).values()]
    assert (unknown.count(LEARNT_AS_UNKNOWN), unknown.count(TESTED_AS_UNKNOWN)) == (38, 38)
    # Whoever is in one part is in no other; every set has people to train on and to test on.
    rows = table_rows("everyday_subjects.csv")
    assert len(rows) == len(subjects) == len({(row["set"], row["subject"]) for row in rows})
    for name in table.sets:
        parts = [part for (one, _), part in subjects.items() if one == name]
        assert {"train", "test"} <= set(parts) and len(parts) == (106 if name == "ntu120" else len(parts))
    assert [part_by_place(place) for place in range(1, 9)] == [
        "train", "test", "train", "tune", "train", "test", "train", "tune",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["utd_mhad", "kinder_gator", "msr_action3d", "utkinect", "florence3d"])
def test_the_list_covers_every_subject_and_every_class_is_trained_and_tested(name: str) -> None:
    arrays = np.load(shared(f"{name}/{name}.npz"))
    table, subjects = shipped_tables("everyday")
    listed = {number for one, number in subjects if one == name}
    assert listed == set(arrays["subject"].tolist())
    merged = table.of(name)
    for label, original in enumerate(DATASETS[name].classes):
        who = {subjects[name, int(s)] for s in arrays["subject"][arrays["label"] == label]}
        assert not merged[original] or {"train", "test"} <= who, original
    if "adult" in arrays:
        tested = [arrays["adult"][arrays["subject"] == n][0] for n in listed if subjects[name, n] == "test"]
        assert sorted(tested) == [0, 0, 0, 1, 1, 1]
