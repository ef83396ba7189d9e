"""Counts per class and split, and the columns a table of sequences searches, against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.duplicates import COPIES_FILE, copies_known, copies_of
from engine.data.sequence_index import SequenceIndex
from engine.data.sets import split_indices
from engine.data.statistics import store_statistics
from engine.data.store import SequenceStore, write_store
from engine.skeleton.sequence import SkeletonSequence

CLASSES = ("wave_hand", "sit_down", "jump")


@pytest.fixture
def store(tmp_path: Path) -> SequenceStore:
    """Own data of four subjects; sequence 7 (subject 4, tested) is a copy of sequence 0 (subject 1, trained)."""
    rng = np.random.default_rng(3)
    bodies = [rng.normal(0, 0.3, (12 + 3 * i, 1, 25, 3)).cumsum(0) for i in range(8)]
    bodies[7] = bodies[0]
    made = (
        SkeletonSequence(
            xyz, np.arange(len(xyz)) / 30, name=f"Clip_{i:02d}", label=-1 if i == 3 else i % 3,
            meta={"subject": i % 4 + 1, "place": f"room {i % 2}"},
        )
        for i, xyz in enumerate(bodies)
    )  # fmt: skip
    return write_store(tmp_path / "mine", "mine", made, CLASSES, 30.0)


def test_counts_are_those_of_a_loop(store: SequenceStore) -> None:
    found = store_statistics(store)
    labels = [int(label) for label in store.label]
    assert found.per_class.tolist() == [labels.count(c) for c in range(3)] and found.unlabelled == 1
    assert found.length.tolist() == [len(store.sequence(i)) for i in range(8)]
    by_name = {split.name: split for split in found.splits}
    assert list(by_name) == ["random", "random_clean", "xsub", "xsub_clean"]
    split = by_name["xsub"]
    assert split.train is not None and split.test is not None
    subjects = [store.meta(i)["subject"] for i in range(8)]
    assert split.train.tolist() == [i for i in range(8) if int(subjects[i]) % 2]
    for part, counts in ((split.train, split.train_per_class), (split.test, split.test_per_class)):
        assert counts.tolist() == [[labels[i] for i in part].count(c) for c in range(3)]


def test_clean_splits_need_a_search_which_is_kept(store: SequenceStore) -> None:
    clean = next(split for split in store_statistics(store).splits if split.name == "xsub_clean")
    assert clean.train is None and "Check" in clean.note and copies_known(store) is None
    copies_of(store)
    clean = next(split for split in store_statistics(store).splits if split.name == "xsub_clean")
    train, test = split_indices(store, "xsub_clean")
    assert clean.train is not None and clean.test is not None
    assert clean.train.tolist() == train.tolist() and clean.test.tolist() == test.tolist()
    assert 7 not in clean.test.tolist() and 7 in split_indices(store, "xsub")[1].tolist()


def test_a_damaged_record_of_copies_is_no_record(store: SequenceStore) -> None:
    copies_of(store)
    (store.folder / COPIES_FILE).write_text("{")
    assert copies_known(store) is None


def test_columns_are_searched_as_a_loop_would(store: SequenceStore) -> None:
    index = SequenceIndex.of(store)
    assert list(index.columns) == ["subject", "place"] and index.person_column == "subject"
    assert index.values("subject") == [1, 2, 3, 4] and index.text("place", 5) == "room 1"
    names = [f"clip_{i:02d}" for i in range(8)]
    label = [int(value) for value in store.label]
    words = {c: CLASSES[c].replace("_", " ") for c in range(3)} | {-1: ""}
    for asked in ("", "sit", "CLIP 0", "down_", "wave clip_06", "nothing"):
        expected = [
            i for i in range(8) if all(word in names[i] or word in words[label[i]] for word in asked.lower().split())
        ]
        assert index.select(asked).tolist() == expected, asked
    assert index.select(label=1, person=2).tolist() == [i for i in range(8) if label[i] == 1 and i % 4 == 1]
    assert index.select(among=np.array([6, 1])).tolist() == [1, 6]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("key", ["name", "class", "length", "bodies", "subject", "place"])
def test_sorting_is_stable(store: SequenceStore, key: str, descending: bool) -> None:
    index = SequenceIndex.of(store)

    def value(i: int) -> str | int:
        if key == "class":
            # Without a label: behind all classes.
            return CLASSES[index.label[i]] if index.label[i] >= 0 else "~"
        return {"name": index.names, "length": index.length.tolist(), "bodies": index.bodies.tolist()}.get(
            key, index.columns[key].tolist() if key in index.columns else []
        )[i]

    expected = sorted(range(8), key=value, reverse=descending)
    assert index.select(sort=key, descending=descending).tolist() == expected
