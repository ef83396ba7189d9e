"""The search for copies against comparing everything with everything, planted copies, and the known leak of NW-UCLA."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import duplicates
from engine.data.copy_search import (
    Candidate,
    by_frames,
    by_motion,
    cast_nets,
    closeness,
    frame_codes,
    motion_descriptor,
    read_at,
    shared_frames,
)
from engine.data.duplicates import Copies, Copy, clean_test_indices, copied_test_indices, copies_of, find_copies
from engine.data.readers.nw_ucla import open_nw_ucla
from engine.data.store import write_store
from engine.skeleton.sequence import SkeletonSequence
from tests.shared_data import shared


class Held:
    """Sequences in memory, as a store hands them out."""

    def __init__(self, *arrays):
        self.arrays = [np.asarray(a, np.float32) for a in arrays]

    def __len__(self):
        return len(self.arrays)

    def sequence(self, i):
        return SkeletonSequence(self.arrays[i], np.arange(len(self.arrays[i])) / 30, "ntu25", name=f"s{i}")


def performance(seed, frames=40, persons=1):
    """Somebody moving smoothly by decimetres, about 3 m away, with a sensor's noise."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.3, (1, persons, 25, 3)) + np.array([0, 0, 3])
    phase = np.linspace(0, 6, frames)[:, None, None, None] + rng.uniform(0, 6, (1, persons, 25, 3))
    moved = pose + 0.15 * np.sin(phase) + rng.normal(0, 0.004, (frames, persons, 25, 3))
    return moved.astype(np.float32)


def turn(angle, axis=1):
    c, s = np.cos(angle), np.sin(angle)
    out = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    out[i, i], out[i, j], out[j, i], out[j, j] = c, s, -s, c
    return out.astype(np.float32)


def only(copies):
    (pair,) = copies.pairs
    return pair


def planted(make, seed=1, others=12, persons=1):
    """A store with one performance, ``others`` unrelated ones, and what ``make`` made of the first at the end."""
    first = performance(seed, persons=persons)
    return Held(first, *[performance(seed + 100 + k, persons=persons) for k in range(others)], make(first))


def test_exact():
    pair = only(find_copies(planted(lambda x: x.copy())))
    assert (pair.a, pair.b, pair.kind, pair.frames, pair.share, pair.lag) == (0, 13, "exact", 40, 1.0, 0)
    assert pair.distance == pair.shift == 0.0


def test_shifted():
    pair = only(find_copies(planted(lambda x: x - x[0, 0, 1])))
    assert pair.kind == "shifted" and pair.frames == 40 and pair.lag == 0
    assert pair.distance < 1e-6 and pair.shift == pytest.approx(np.linalg.norm(performance(1)[0, 0, 1]), abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.37])
def test_part(shift):
    pair = only(find_copies(planted(lambda x: x[12:30] + np.float32(shift))))
    assert (pair.kind, pair.frames, pair.share, pair.lag) == ("part", 18, 1.0, -12)
    assert pair.shift == pytest.approx(shift * np.sqrt(3), abs=1e-5)


def test_overlap():
    pair = only(find_copies(planted(lambda x: np.concatenate([x[30:], performance(77, 20)]))))
    assert (pair.kind, pair.frames, pair.lag) == ("overlap", 10, -30) and pair.share == pytest.approx(1 / 3, abs=1e-4)


def test_pieced_together_from_two_places():
    pair = only(find_copies(planted(lambda x: np.concatenate([x[5:15], x[20:26]]))))
    assert (pair.kind, pair.frames, pair.share) == ("part", 16, 1.0)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rounded", lambda x: x.astype(np.float16).astype(np.float32)),
        ("turned", lambda x: (x @ turn(1.1) @ turn(0.3, axis=0)) + np.float32(0.5)),
        ("noisy", lambda x: x + np.random.default_rng(3).normal(0, 0.001, x.shape).astype(np.float32)),
        ("slower and turned", lambda x: read_at(x, np.linspace(0, 39, 55)) @ turn(0.2)),
    ],
)
def test_near(name, make):
    pair = only(find_copies(planted(make)))
    assert pair.kind == "near" and pair.share >= 0.8 and 0 <= pair.distance < 0.005


def test_near_and_a_frame_short():
    first = performance(1, 120)
    noisy = first[1:] + np.random.default_rng(3).normal(0, 0.001, first[1:].shape)
    pair = only(find_copies(Held(first, performance(2, 120), noisy)))
    assert (pair.a, pair.b, pair.kind, pair.lag, pair.frames) == (0, 2, "near", -1, 119)


def test_every_second_frame():
    pair = only(find_copies(planted(lambda x: x[::2])))
    assert (pair.kind, pair.frames, pair.share) == ("part", 20, 1.0)


def test_two_persons_in_other_order():
    pair = only(find_copies(planted(lambda x: x[:, ::-1].copy(), persons=2)))
    assert pair.kind == "shifted" and pair.frames == 40 and pair.distance == 0.0
    noisy = only(
        find_copies(planted(lambda x: x + np.float32(2e-4) * (-1) ** np.arange(40)[:, None, None, None], persons=2))
    )
    assert noisy.kind == "near"


def test_repetitions_and_people_who_stand_still_are_no_copies():
    rng = np.random.default_rng(5)
    pose = performance(1, 1)
    again = performance(1) + rng.normal(0, 0.02, (40, 1, 25, 3))
    still = [pose + rng.normal(0, 0.001, (30, 1, 25, 3)) for _ in range(3)]
    assert find_copies(Held(performance(1), again, *still)).pairs == ()
    assert closeness(still[0], still[1]).distance < 0.005  # near enough, but it hardly moves


def test_near_zero_looks_for_exact_data_only():
    store = planted(lambda x: x.astype(np.float16).astype(np.float32))
    assert find_copies(store, near=0).pairs == () and len(find_copies(store).pairs) == 1


def test_empty_frames_and_absent_persons():
    first = performance(1, 30, persons=2)
    first[10:14] = 0
    first[20:, 1] = 0
    copies = find_copies(Held(first, performance(2, 30, persons=2), first[5:25].copy(), np.zeros((4, 1, 25, 3))))
    pair = only(copies)
    assert (pair.a, pair.b, pair.kind, pair.frames, pair.lag) == (0, 2, "part", 16, -5)
    one_person = first.copy()
    one_person[:, 1] = 0
    found = find_copies(Held(first, one_person)).pairs
    assert all(p.kind == "overlap" and p.frames == 10 for p in found)


def test_degenerate_stores():
    assert find_copies(Held()).pairs == ()
    assert find_copies(Held(np.zeros((3, 1, 25, 3)))).pairs == ()
    one = performance(1, 1)
    pair = only(find_copies(Held(one, one.copy(), performance(2, 1))))
    assert (pair.kind, pair.frames) == ("exact", 1)
    assert find_copies(Held(one, performance(1)[:1] + np.float32(0.01) * np.arange(25)[:, None])).pairs == ()


def slow_shared(a, b):
    """Frames of ``a`` that stand bit for bit in ``b`` and the other way round; empty frames count for nothing."""
    in_b = {frame.tobytes() for frame in b if frame.any()}
    in_a = {frame.tobytes() for frame in a if frame.any()}
    return sum(f.tobytes() in in_b for f in a), sum(f.tobytes() in in_a for f in b)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_common_runs_equal_comparing_every_frame_with_every_frame(data):
    """Clips cut at random out of one long recording: what overlaps is found, and nothing else."""
    long = performance(data.draw(st.integers(0, 5)), 60)
    cuts = data.draw(st.lists(st.tuples(st.integers(0, 59), st.integers(1, 30)), min_size=2, max_size=5))
    clips = [long[a : a + n] for a, n in cuts]
    copies = {(p.a, p.b): p for p in find_copies(Held(*clips), near=0).pairs}
    for (i, a), (j, b) in itertools.combinations(enumerate(clips), 2):
        in_a, in_b = slow_shared(a, b)
        assert ((i, j) in copies) == (in_a > 0)
        if in_a:
            pair = copies[i, j]
            assert pair.frames == in_a == in_b and pair.lag == cuts[i][0] - cuts[j][0]
            shorter = min(len(a), len(b))
            whole = "exact" if len(a) == len(b) else "part"
            assert pair.kind == (whole if in_a == shorter else "overlap")
            assert pair.share == pytest.approx(in_a / shorter, abs=1e-4)


def test_codes_fall_together_for_shifted_poses_and_apart_for_others():
    poses = performance(4, 200)[:, 0]
    codes = frame_codes(poses)
    assert len(set(codes.tolist())) == 200
    shifted = frame_codes(poses + np.float32([0.123, -0.456, 0.789]))
    assert (codes == shifted).mean() > 0.7


def test_a_descriptor_moves_no_further_than_twice_the_joints():
    pairs = np.stack(np.triu_indices(25, 1), axis=1)
    for seed in range(20):
        a = performance(seed, 8)
        b = a + np.random.default_rng(seed).normal(0, 0.01, a.shape).astype(np.float32)
        distance = np.sqrt(((a - b) ** 2).sum(-1).mean())
        moved = np.linalg.norm(motion_descriptor(a, pairs) - motion_descriptor(b @ turn(0.7) + 1, pairs))
        assert moved <= 2 * distance
    assert motion_descriptor(performance(1, 1), pairs) is None


def test_neighbours_equal_comparing_all_descriptors():
    store = Held(
        *[performance(k % 6, 20) + np.random.default_rng(k).normal(0, 0.002, (20, 1, 25, 3)) for k in range(18)]
    )
    nets = cast_nets(store, range(len(store)))
    wanted = set()
    for i, j in itertools.combinations(range(18), 2):
        if np.linalg.norm(nets.motion[i].astype(float) - nets.motion[j]) < 0.015:
            wanted.add((i, j))
    assert set(by_motion(nets, 0.015)) == wanted
    assert wanted == {(i, j) for i, j in itertools.combinations(range(18), 2) if i % 6 == j % 6}


def test_closeness_takes_away_turn_shift_and_lag():
    a = performance(1, 30)
    close = closeness(a[2:], (a @ turn(2.0) + np.float32(1))[:-1])
    assert close.distance < 1e-5 and close.lag == 2 and close.frames == 27
    slower = np.repeat(a, 2, axis=0)[:-1]
    slower[1::2] = (a[:-1] + a[1:]) / 2
    assert closeness(a, slower).distance < 1e-5
    far = closeness(a, performance(2, 30))
    assert far.distance > 0.2
    mirrored = closeness(a, a * np.float32([-1, 1, 1]))
    assert mirrored.distance > 0.05  # a mirror image is another motion


def test_shared_frames_by_hand():
    a = performance(1, 10)
    b = np.concatenate([performance(2, 4), a[2:8]])
    shared_ = shared_frames(a, b, Candidate(0, 1, 2, False))
    assert np.flatnonzero(shared_.in_a).tolist() == [2, 3, 4, 5, 6, 7]
    assert np.flatnonzero(shared_.in_b).tolist() == [4, 5, 6, 7, 8, 9] and shared_.bitwise
    assert shared_frames(a, b, Candidate(0, 1, 40, False)) is None


def test_many_equal_frames_stay_linked():
    """A frozen sensor gives one pose hundreds of times; it is coded once."""
    frozen = np.repeat(performance(1, 1), 200, axis=0)
    nets = cast_nets(Held(frozen, frozen[:150].copy()), range(2))
    assert by_frames(nets) == [[Candidate(0, 1, 0, False)]]
    assert only(find_copies(Held(frozen, frozen[:150].copy()))).kind == "part"


def test_search_is_limited_to_the_given_parts():
    a, b = performance(1), performance(2)
    store = Held(a, b, a.copy(), b.copy(), a.copy())
    assert [(p.a, p.b) for p in find_copies(store, [0, 1], [2]).pairs] == [(0, 2)]
    assert find_copies(store, [0, 1], [2]).searched == 3


def test_clean_part_keeps_its_order_and_copies_within_a_part():
    pairs = (
        Copy(0, 5, "exact", 40, 1.0, 0, 0.0),
        Copy(1, 6, "overlap", 3, 0.1, -30, 0.0),
        Copy(2, 7, "overlap", 20, 0.5, -30, 0.0),
        Copy(5, 8, "exact", 40, 1.0, 0, 0.0),
        Copy(3, 9, "near", 40, 1.0, 0, 0.001),
    )
    copies = Copies(pairs, 10)
    train, test = [0, 1, 2, 3, 4], [9, 8, 7, 6, 5]
    assert copied_test_indices(copies, train, test).tolist() == [5, 7, 9]
    assert clean_test_indices(copies, train, test).tolist() == [8, 6]
    assert clean_test_indices(copies, train, test, share=0.05).tolist() == [8]
    assert [(p.a, p.b) for p in copies.between(test, train)] == [(0, 5), (1, 6), (2, 7), (3, 9)]


def test_found_copies_survive_json_and_reordering():
    copies = find_copies(planted(lambda x: x[3:20]))
    names = [f"s{i}" for i in range(14)]
    data = json.loads(json.dumps(copies.to_json(names)))
    assert Copies.from_json(data, names) == copies
    turned = Copies.from_json(data, names[::-1]).pairs[0]
    # Whatever the order, a < b and the lag is that of b against a.
    assert (turned.a, turned.b, turned.lag) == (0, 13, 3)
    assert Copies.from_json(data, names[:-1]).pairs == ()


def test_copies_of_a_store_are_searched_once(tmp_path, monkeypatch):
    held = planted(lambda x: x[3:20], others=2)
    sequences = [held.sequence(i) for i in range(len(held))]
    store = write_store(tmp_path / "set", "set", sequences, ["one"], 30.0)
    first = copies_of(store)
    assert only(first).kind == "part" and (tmp_path / "set" / "copies.json").is_file()
    monkeypatch.setattr(duplicates, "find_copies", lambda *_: pytest.fail("searched again"))
    assert copies_of(store) == first
    monkeypatch.undo()
    (tmp_path / "set" / "copies.json").write_text("{}")
    assert copies_of(store) == first
    store = write_store(tmp_path / "set", "set", sequences[:2], ["one"], 30.0)
    assert copies_of(store).pairs == ()


@pytest.mark.slow
def test_the_leak_of_nw_ucla():
    source = open_nw_ucla(shared("nw_ucla/all_sqe.zip"))
    known = [line.split() for line in shared("nw_ucla/duplicates.txt").read_text().splitlines()]
    recordings = [raw for item in source.items for raw in source.read(item)]
    names = [raw.name for raw in recordings]
    store = Held()
    store.arrays = [raw.dense() for raw in recordings]
    store.sequence = lambda i: recordings[i].sequence(store.arrays[i])
    view = np.array([int(name[-1]) for name in names])
    train, test = np.flatnonzero(view != 3), np.flatnonzero(view == 3)
    copies = find_copies(store)
    assert {(names[p.a], names[p.b]) for p in copies.pairs if p.kind == "exact"} == {tuple(pair) for pair in known}
    assert [names[i] for i in copied_test_indices(copies, train, test)] == sorted(pair[1] for pair in known)
    assert len(test) == 464 and len(clean_test_indices(copies, train, test)) == 369
    # And what nobody had looked for: clips of subject 1's donning and doffing overlap between views 1 and 2.
    rest = [p for p in copies.pairs if p.kind != "exact"]
    assert sum(p.kind == "part" for p in rest) == 5 and not {view[i] for p in rest for i in (p.a, p.b)} & {3}
