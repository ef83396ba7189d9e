"""Protocols against the published lists and counts, from names alone (datasets.md, sections 1.5, 3.5, 4.2, 8)."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.ntu_names import LIST_A, LIST_B, missing_names, parse_name
from engine.data.sets import DATASETS, dataset_info, split_indices, splits_of
from engine.data.splits import (
    FRACTIONS,
    ONE_SHOT_LABELS,
    few_labels,
    few_shot,
    leave_one_subject_out,
    one_shot,
    one_shot_exemplar,
    without_parts,
)
from engine.data.store import SequenceStore, StoreError
from tests.shared_data import shared


class Index:
    """What splits look at: a store's columns without joints."""

    def __init__(self, name, labels, names=(), **columns):
        self.name, self.label, self.names = name, np.asarray(labels), list(names)
        self.columns = {key: np.asarray(values) for key, values in columns.items()}
        self.meta_keys = tuple(columns)

    def __len__(self):
        return len(self.label)

    def column(self, key):
        return self.columns[key]


def ntu_index(name, names):
    numbers = [parse_name(n) for n in names]
    meta = {key: [number.meta()[key] for number in numbers] for key in numbers[0].meta()}
    return Index(name, [number.label for number in numbers], names, **meta)


def every_ntu_name():
    """All 56,880 names of NTU-60 need the list of who was recorded where, which nobody publishes: a made-up one."""
    for setup, camera, performer, replication in itertools.product(range(1, 18), (1, 2, 3), range(1, 41), (1, 2)):
        yield f"S{setup:03d}C{camera:03d}P{performer:03d}R{replication:03d}A{1 + (setup * performer) % 60:03d}"


def check_parts(store, split, rule):
    """A split is exactly what a rule says of every position."""
    train, test = split_indices(store, split)
    assert train.tolist() == [i for i in range(len(store)) if rule(i)]
    assert test.tolist() == [i for i in range(len(store)) if not rule(i)]


def test_ntu_protocols_by_the_rules():
    names = sorted(every_ntu_name())
    store = ntu_index("ntu60", names)
    check_parts(store, "xsub", lambda i: int(names[i][9:12]) in LIST_A)
    check_parts(store, "xview", lambda i: names[i][5:8] in ("002", "003"))
    large = ntu_index("ntu120", names)
    check_parts(large, "xsub", lambda i: int(names[i][9:12]) in LIST_B)
    check_parts(large, "xset", lambda i: int(names[i][1:4]) % 2 == 0)
    train, test = split_indices(store, "xview")
    assert 1 not in set(store.column("camera")[train]) and set(store.column("camera")[test]) == {1}
    with pytest.raises(StoreError, match="no split 'xset'; known: xsub, xview"):
        split_indices(store, "xset")


def test_setup_18_trains_and_17_is_tested():
    store = ntu_index("ntu120", ["S017C001P001R001A001", "S018C001P008R001A061"])
    train, test = split_indices(store, "xset")
    assert (train.tolist(), test.tolist()) == ([1], [0])


def test_performer_lists():
    assert (len(LIST_A), len(LIST_B), LIST_A < LIST_B) == (20, 53, True)
    assert len(set(range(1, 107)) - LIST_B) == 53


def test_published_counts_follow_from_the_missing_lists():
    # 302 missing of 56,880: 229 train and 73 test in xsub, 274 and 28 in xview, and so on.
    for name, splits in {"ntu60": ("xsub", "xview"), "ntu120": ("xsub", "xset")}.items():
        files = {
            ("ntu60", "xsub"): (40_320, 16_560), ("ntu60", "xview"): (37_920, 18_960),
            ("ntu120", "xsub"): (63_360, 51_120), ("ntu120", "xset"): (54_720, 59_760),
        }  # fmt: skip
        store = ntu_index(name, sorted(missing_names(name)))
        for split in splits:
            train, test = split_indices(store, split)
            all_train, all_test = files[name, split]
            assert DATASETS[name].split_counts[split] == (all_train - len(train), all_test - len(test))
        assert sum(DATASETS[name].split_counts[splits[0]]) == DATASETS[name].sequences


def test_nw_ucla_views():
    assert sum(DATASETS["nw_ucla"].split_counts["xview"]) == 1_484
    store = Index("nw_ucla", [6, 6, 0], view=[3, 2, 1], digest=["a", "b", "c"])
    for split, test in {"xview": [0], "xview_clean": [0], "train13_test2": [1], "train23_test1": [2]}.items():
        assert split_indices(store, split)[1].tolist() == test
        assert sorted(np.concatenate(split_indices(store, split))) == [0, 1, 2]
    copied = Index("nw_ucla", [6, 6, 0], view=[3, 2, 3], digest=["a", "a", "c"])
    assert split_indices(copied, "xview_clean")[1].tolist() == [2]


def test_nw_ucla_is_rehearsed_without_view_3_but_with_its_leak():
    store = Index("nw_ucla", [1, 1, 0, 0, 2], view=[3, 2, 1, 2, 3], digest=["a", "a", "c", "d", "e"])
    # Sequence 1 is tested, and trains as the copy of it that view 3 has.
    assert [part.tolist() for part in split_indices(store, "rehearsal")] == [[0, 2], [1, 3]]
    assert [part.tolist() for part in split_indices(store, "rehearsal_clean")] == [[0, 2], [3]]


def test_pku_reads_what_the_split_files_said():
    store = Index("pku_mmd_1", [0] * 5, xsub_train=[1, 0, 1, -1, 0], xview_train=[-1] * 5)
    train, test = split_indices(store, "xsub")
    assert (train.tolist(), test.tolist()) == ([0, 2], [1, 4])
    with pytest.raises(StoreError, match="without the split file for xview"):
        split_indices(store, "xview")
    # datasets.md, check 39.
    assert 359 * 3 - 1 == 1_076 and 26 * 13 * 3 - 5 == 1_009 and 44 * 3 == 132 and 26 * 3 * 3 == 234
    assert sum(DATASETS["pku_mmd_1"].split_counts["xsub"]) == sum(DATASETS["pku_mmd_1"].split_counts["xview"]) == 21_545


@pytest.mark.parametrize("name", ["utd_mhad", "msr_action3d", "utkinect", "florence3d"])
def test_odd_subjects_train(name):
    store = Index(name, [0] * 6, subject=[1, 2, 3, 4, 5, 10])
    check_parts(store, "xsub", lambda i: i in (0, 2, 4))


def test_kinder_gator_splits_subjects_within_both_ages():
    subjects = np.repeat([103, 106, 169, 565, 577, 595], 3)
    store = Index("kinder_gator", np.zeros(18, int), subject=subjects, adult=subjects > 500)
    train, test = split_indices(store, "xsub")
    assert set(subjects[train]) == {103, 169, 565, 595} and set(subjects[test]) == {106, 577}
    train, test = split_indices(store, "xage")
    assert set(subjects[test]) == {103, 106, 169} and not set(subjects[train]) & set(subjects[test])


def test_one_subject_left_out():
    store = Index("utkinect", [0] * 5, subject=[3, 1, 3, 2, 1])
    found = [(s, train.tolist(), test.tolist()) for s, train, test in leave_one_subject_out(store)]
    assert found == [(1, [0, 2, 3], [1, 4]), (2, [0, 1, 2, 4], [3]), (3, [1, 3, 4], [0, 2])]


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(0, 90), min_size=1, max_size=8), seed=st.integers(0, 99), data=st.data())
def test_few_labels_are_balanced_nested_and_repeatable(counts, seed, data):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    store = Index("ntu60", labels)
    train = np.flatnonzero(np.random.default_rng(seed + 1).random(len(labels)) < 0.8)
    before = np.zeros(0, int)
    for fraction in FRACTIONS:
        chosen = few_labels(store, train, fraction, seed)
        assert np.array_equal(chosen, few_labels(store, train, fraction, seed))
        assert set(before) <= set(chosen) <= set(train) and len(set(chosen)) == len(chosen)
        assert np.array_equal(chosen, np.sort(chosen))
        for label in range(len(counts)):
            have = int((labels[train] == label).sum())
            wanted = max(1, int(have * fraction + 0.5)) if have else 0
            assert (labels[chosen] == label).sum() == wanted
        before = chosen
    assert np.array_equal(few_labels(store, train, 1.0, seed), train)
    shots = data.draw(st.integers(1, 6))
    less, more = few_shot(store, train, shots, seed), few_shot(store, train, shots + 2, seed)
    assert set(less) <= set(more) <= set(train)
    for label in range(len(counts)):
        assert (labels[less] == label).sum() == min(shots, (labels[train] == label).sum())


def test_data_of_ones_own_and_membership_that_came_with_files():
    own = Index("my_actions", np.repeat([0, 1, 2, 3], [8, 3, 2, 1]))
    train, test = split_indices(own, "random")
    assert np.bincount(own.label[test], minlength=4).tolist() == [2, 1, 1, 0]
    assert sorted([*train, *test]) == list(range(14)) and list(splits_of(own)) == ["random"]
    people = Index("my_actions", [0, 0], subject=[1, 2], even_train=[0, 1])
    assert list(splits_of(people)) == ["random", "xsub", "even"]
    assert [part.tolist() for part in split_indices(people, "even")] == [[1], [0]]
    imported = Index("ntu60.ctrgcn", [0, 0, 0], xsub_train=[0, 1, 1])
    assert [part.tolist() for part in split_indices(imported, "xsub")] == [[1, 2], [0]]


def test_few_labels_differ_by_seed_and_refuse_nonsense():
    store = Index("ntu60", np.repeat([0, 1], 50))
    everything = np.arange(100)
    assert not np.array_equal(few_labels(store, everything, 0.1, 1), few_labels(store, everything, 0.1, 2))
    with pytest.raises(ValueError, match="at most 1"):
        few_labels(store, everything, 1.5)
    with pytest.raises(ValueError, match="at least one"):
        few_shot(store, everything, 0)


def test_one_shot_of_ntu120():
    assert ONE_SHOT_LABELS == tuple(6 * k for k in range(20))
    exemplars = [one_shot_exemplar(label) for label in ONE_SHOT_LABELS]
    assert exemplars[0] == "S001C003P008R001A001" and exemplars[-1] == "S018C003P008R001A115"
    assert exemplars[9] == "S001C003P008R001A055" and exemplars[10] == "S018C003P008R001A061"
    others = ["S001C001P001R001A001", "S001C001P001R001A002", "S018C001P008R001A062", "S018C001P008R001A067"]
    names = sorted([*exemplars, *others])
    parts = one_shot(ntu_index("ntu120", names))
    assert [names[i] for i in parts.exemplars] == exemplars
    assert [names[i] for i in parts.queries] == ["S001C001P001R001A001", "S018C001P008R001A067"]
    assert [names[i] for i in parts.auxiliary] == ["S001C001P001R001A002", "S018C001P008R001A062"]
    with pytest.raises(StoreError, match="lacks the one-shot exemplars S001C003P008R001A001"):
        one_shot(ntu_index("ntu120", others))


def test_catalogue():
    assert list(DATASETS) == [
        "ntu60", "ntu120", "pku_mmd_1", "pku_mmd_2", "nw_ucla", "utd_mhad", "kinder_gator", "msr_action3d", "utkinect",
        "florence3d", "everyday",
    ]  # fmt: skip
    classes = {name: len(info.classes) for name, info in DATASETS.items()}
    assert list(classes.values()) == [60, 120, 51, 51, 10, 27, 58, 20, 10, 9, 61]
    for name in ("ntu60", "ntu60.compatible", "ntu60_mediapipe"):
        assert dataset_info(name).name == "ntu60"
    with pytest.raises(KeyError, match="unknown dataset 'ntu61'; known: ntu60, ntu120"):
        dataset_info("ntu61")
    for info in DATASETS.values():
        assert len(set(info.classes)) == len(info.classes) and info.splits and info.request and info.licence


@pytest.mark.parametrize("name", ["nw_ucla", "utd_mhad", "kinder_gator", "msr_action3d", "utkinect", "florence3d"])
def test_real_sets_are_complete_in_the_catalogues_classes(name):
    source = DATASETS[name].open(shared(name))
    assert len(source.items) == DATASETS[name].sequences


@pytest.mark.slow
def test_every_view_of_nw_ucla_has_a_clean_variant(tmp_path):
    from engine.data.prepare import prepare_dataset

    info = DATASETS["nw_ucla"]
    prepare_dataset(info, shared("nw_ucla"), tmp_path, workers=1)
    store = SequenceStore(tmp_path / "nw_ucla")
    counts = {name: [len(part) for part in split_indices(store, name)] for name in splits_of(store)}
    assert counts["xview"] == [1020, 464] and counts["xview_clean"] == [1020, 369]
    # Ten more than the 95 exact copies lie wholly or half inside a sequence of another view.
    assert counts["train13_test2"] == [980, 504] and counts["train13_test2_clean"] == [980, 399]
    assert counts["train23_test1"] == [968, 516] and counts["train23_test1_clean"] == [968, 508]
    assert counts["rehearsal"] == [611, 504] and counts["rehearsal_clean"] == [611, 409]
    # A search through all frames finds no more in the usual protocol than equal coordinates tell.
    assert np.array_equal(without_parts(info.splits["xview"], store)[1], split_indices(store, "xview_clean")[1])
