"""Filming a set: some of every class and person, nothing filmed twice, an interruption loses nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.parts import build_store
from engine.data.sets import split_indices
from engine.data.store import SequenceStore, write_store
from engine.live import filmed_set
from engine.live.filmed_set import ALIKE, balanced, main_split, plan_films
from engine.skeleton.sequence import SkeletonSequence


@pytest.fixture
def store(tmp_path: Path) -> SequenceStore:
    """Class 0: subject 1 has 6 sequences, 3 has 2, 5 has 1; class 1: subject 1 has 2; subject 2 (test) 3 of each."""
    rng = np.random.default_rng(0)
    made = []
    for label, counts in ((0, {1: 6, 3: 2, 5: 1, 2: 3}), (1, {1: 2, 2: 3})):
        for subject, count in counts.items():
            for take in range(count):
                xyz = rng.standard_normal((6, 25, 3))
                name = f"{label}_{subject}_{take}"
                made.append(
                    SkeletonSequence.from_frames(xyz, 30.0, name=name, label=label, subject=subject, digest=name)
                )
    return write_store(tmp_path / "own", "own", made, ("a", "b"), 30.0)


def test_every_person_gets_a_turn_and_more_adds_to_fewer(store: SequenceStore) -> None:
    train = np.flatnonzero(store.column("subject") % 2 == 1)
    subject = store.column("subject")
    previous: set[int] = set()
    for per_class in range(1, 8):
        chosen = balanced(store, train, per_class, seed=5)
        assert previous <= set(chosen) <= set(train) and (np.diff(chosen) > 0).all()
        first = chosen[store.label[chosen] == 0]
        assert len(first) == per_class and (store.label[chosen] == 1).sum() == min(per_class, 2)
        counts = [int((subject[first] == person).sum()) for person in (1, 3, 5)]
        fair = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 4}[per_class]
        assert max(counts) == fair and sum(counts) == per_class
        previous = set(chosen)
    assert np.array_equal(balanced(store, train, 0), train)
    assert not np.array_equal(balanced(store, train, 3, seed=6), balanced(store, train, 3, seed=5))


def test_a_split_that_came_with_the_files_is_filmed_before_one_that_mixes_persons(store, tmp_path) -> None:
    assert main_split(store) == "random"
    one = SkeletonSequence.from_frames(np.ones((2, 25, 3)), 30.0, label=0, subject=1, pretrain_train=1, xsub_train=0)
    assert main_split(write_store(tmp_path / "m", "m", [one], ("a",), 30.0)) == "xsub"


def test_films_are_kept_when_more_are_made_and_after_an_interruption(
    store: SequenceStore, tmp_path, monkeypatch
) -> None:
    seen: list[tuple[str, int]] = []

    def see(sequence, setup):
        seen.append((sequence.name, setup.seed if setup.vary else ALIKE))
        if len(seen) == stop:
            raise KeyboardInterrupt
        if sequence.name == "0_3_1":
            return None
        kept = sequence.xyz[:: setup.every] + setup.seed
        meta = sequence.meta | {"missed_frames": 1}
        return SkeletonSequence(
            kept, sequence.times[:: setup.every], name=sequence.name, label=sequence.label, meta=meta
        )

    monkeypatch.setattr(filmed_set, "see", see)
    folder, stop = tmp_path / "own_mediapipe", 0

    def run(**options) -> SequenceStore:
        filmed_set._opened.cache_clear()
        filmed_set._films.cache_clear()
        plan, about = plan_films(store, folder, "xsub", **options)
        unseen = build_store(plan, folder, about, workers=1)
        assert [entry["reason"] for entry in unseen] == ["0_3_1: nobody was found in any frame"] * len(unseen)
        return SequenceStore(folder)

    few = run(per_class=2, test_per_class=1)
    assert len(few) == len(seen) == 2 + 2 + 1 + 1 and few.fps == 15.0 and few.classes == ["a", "b"]
    assert (few.column("film") == [0] * 4 + [ALIKE] * 2).all()
    first = list(seen)
    more = run(per_class=3, test_per_class=2)
    assert len(seen) == 6 + 1 + 2 and len(set(seen)) == len(seen), "what was filmed is not filmed again"
    assert {name for name, _ in first} < set(more.names)
    assert len(run(per_class=3, test_per_class=2, afresh=True)) == len(more) and len(seen) == 9 + 9
    # All of them, twice; one sequence is never seen.
    del seen[:]
    both = run(variants=2)
    assert len(both) == 2 * 10 + 6 and sorted(set(both.column("film").tolist())) == [ALIKE, 0, 1]
    assert len(seen) == 2 * 11 + 6 - len(more)
    # An interruption in the second part keeps the first.
    del seen[:]
    stop = 12
    with pytest.raises(KeyboardInterrupt):
        run(variants=2, seed=7)
    assert SequenceStore(folder).names == both.names, "the films that were there stay until all new ones are"
    stop, before = 0, len(seen)
    again = run(variants=2, seed=7)
    assert len(again) == len(both) and before == 12
    assert len(seen) - before == 2 * 11 - 8, "a part has eight items; test films were taken over"
    filmed = again.sequence(again.names.index("0_1_0"))
    assert np.allclose(filmed.xyz, store.sequence(store.names.index("0_1_0")).xyz[::2] + 7)


def test_asking_for_fewer_films_throws_none_away(store: SequenceStore, tmp_path, monkeypatch) -> None:
    def see(sequence, setup):
        return SkeletonSequence(
            sequence.xyz[:: setup.every], sequence.times[:: setup.every], name=sequence.name, label=sequence.label,
            meta=dict(sequence.meta),
        )  # fmt: skip

    monkeypatch.setattr(filmed_set, "see", see)
    folder = tmp_path / "own_mediapipe"

    def films(**options) -> list[tuple[str, int]]:
        filmed_set._opened.cache_clear()
        filmed_set._films.cache_clear()
        plan, about = plan_films(store, folder, **options)
        build_store(plan, folder, about, workers=1)
        made = SequenceStore(folder)
        return sorted(zip(made.names, made.column("film").tolist(), strict=True))

    thrice = films(split="xsub", variants=3)
    assert len(thrice) == 3 * 11 + 6
    assert films(split="xsub") == thrice and films(split="xsub", per_class=1, test_per_class=1) == thrice
    # In another split a film of a varied person would stand among test films, which are all alike.
    train, test = split_indices(store, "random")
    kept = [(store.names[i], film) for i in train.tolist() for film in (0, 1, 2) if store.column("subject")[i] % 2]
    asked = [(store.names[i], 0) for i in train.tolist()] + [(store.names[i], ALIKE) for i in test.tolist()]
    assert films(split="random") == sorted({*kept, *asked})
    assert films(split="xsub", afresh=True) == [film for film in thrice if film[1] < 1]
