"""Identities through time, ghosts, and what each tracked person carries."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from engine.live import persons
from engine.live.lift import lift
from engine.live.tracking import PersonTracker, SmoothSettings, assign
from engine.live.types import RawPose
from engine.skeleton.layout import NTU25
from tests.engine.live.bodies import FOCAL, SIZE, project, standing_world

STEP = 1 / 30


def at(x: float, z: float = 3.0, **options: float) -> RawPose:
    return project(standing_world(), (x, 0.0, z), focal=500.0, **options)


def run(tracker: PersonTracker, frames: list[list[RawPose]], start: float = 0.0) -> list[list[int]]:
    return [[p.person for p in tracker.update(raws, start + i * STEP, SIZE)] for i, raws in enumerate(frames)]


def where(tracker: PersonTracker, raws: list[RawPose], time: float) -> dict[int, float]:
    """Person id -> x in the picture (fraction) of the pose they were given."""
    return {p.person: float(p.raw.image[0, 0]) for p in tracker.update(raws, time, SIZE)}


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2)])
def test_pairs_have_the_least_total_cost(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        cost = rng.random(shape)
        rows, columns = assign(cost)
        few, many = sorted(shape)
        wide = cost if shape[0] == few else cost.T
        least = min(sum(wide[i, j] for i, j in enumerate(order)) for order in permutations(range(many), few))
        assert len(rows) == few and cost[rows, columns].sum() == pytest.approx(least)


def test_order_of_detection_does_not_matter() -> None:
    tracker = PersonTracker()
    left, right = at(-0.8), at(0.8)
    first = where(tracker, [left, right], 0.0)
    assert sorted(first) == [1, 2]
    assert where(tracker, [right, left], STEP) == first
    assert where(tracker, [left, right], 2 * STEP) == first


def test_people_who_cross_keep_their_ids() -> None:
    tracker = PersonTracker()
    ids = []
    for i in range(61):
        shift = 1.0 - i / 30
        raws = [at(-shift, 2.6), at(shift, 3.8)]
        found = {p.person: p for p in tracker.update(raws if i % 2 else raws[::-1], i * STEP, SIZE)}
        near = [n for n, p in found.items() if p.raw is raws[0]]
        ids.append(near[0] if near else None)
    assert len({n for n in ids if n is not None}) == 1
    assert ids.count(None) <= 3


def test_a_short_absence_keeps_the_id() -> None:
    tracker = PersonTracker()
    both = where(tracker, [at(-0.8), at(0.8)], 0.0)
    at_right = max(both, key=lambda person: both[person])
    for i in range(1, 25):
        assert len(where(tracker, [at(-0.8)], i * STEP)) == 1
    back = where(tracker, [at(-0.8), at(0.8)], 25 * STEP)
    assert back == both and at_right in back


def test_after_a_long_absence_the_lowest_free_id_is_given() -> None:
    tracker = PersonTracker()
    both = where(tracker, [at(-0.8), at(0.8)], 0.0)
    first_x = both[1]
    left_first = first_x < 0.5
    stays = at(0.8) if left_first else at(-0.8)  # person 2 stays, person 1 goes
    for i in range(1, 45):
        assert list(where(tracker, [stays], i * STEP)) == [2]
    new = at(-0.3) if left_first else at(0.3)
    assert sorted(where(tracker, [stays, new], 45 * STEP)) == [1, 2]


def test_alone_again_after_a_pause_is_person_one() -> None:
    tracker = PersonTracker()
    assert run(tracker, [[at(0.0)]] * 3) == [[1]] * 3
    assert run(tracker, [[]] * 3, start=0.1) == [[]] * 3
    assert run(tracker, [[at(0.9)]], start=2.0) == [[1]]


def test_third_person_is_not_followed() -> None:
    tracker = PersonTracker()
    assert run(tracker, [[at(-1.0), at(0.0), at(1.0)]]) == [[1, 2]]
    assert run(PersonTracker(max_persons=1), [[at(-1.0), at(1.0)]]) == [[1]]


def test_nan_and_invisible_poses_are_dropped() -> None:
    tracker = PersonTracker()
    broken = at(0.0)
    broken.world[5, 1] = np.nan
    assert run(tracker, [[broken], [at(0.0, visibility=0.1)], [at(0.0)]]) == [[], [], [1]]
    people = tracker.update([broken, at(0.02)], 1.0, SIZE)
    assert [p.person for p in people] == [1]
    assert np.isfinite(people[0].joints).all()


def test_ghosts_are_rejected() -> None:
    real = at(0.0)
    jitter = np.random.default_rng(0).normal(scale=0.004, size=(33, 3))
    copy = replace(real, image=real.image + jitter)
    hanging = at(1.0)
    hanging.image[:, 1] = 1.0 - hanging.image[:, 1]
    tiny = replace(at(1.0), image=(at(1.0).image - 0.5) * 0.05 + 0.7)
    stretched = at(1.0)
    stretched.world[:] *= 4
    crumpled = at(1.0)
    crumpled.image[15:23, :2] = crumpled.image[0, :2]
    for ghost in (copy, hanging, tiny, stretched, crumpled):
        assert run(PersonTracker(), [[real, ghost]] * 3) == [[1]] * 3
    assert run(PersonTracker(), [[real, at(1.0)]]) == [[1, 2]]


def test_somebody_at_a_desk_is_followed() -> None:
    seen = np.full(33, 0.95)
    seen[23:] = 0.02
    tracker = PersonTracker()
    assert run(tracker, [[project(standing_world(), (0.0, 0.35, 1.0), focal=500.0, visibility=seen)]] * 3) == [[1]] * 3


def test_time_going_back_forgets_everybody() -> None:
    tracker = PersonTracker()
    tracker.update([at(-0.8), at(0.8)], 10.0, SIZE)
    people = tracker.update([at(0.8)], 1.0, SIZE)
    assert [p.person for p in people] == [1]


def test_joints_are_lifted_and_smoothed_per_person() -> None:
    generator = np.random.default_rng(2)
    plain = PersonTracker(focal=FOCAL, smooth=SmoothSettings(enabled=False))
    smooth = PersonTracker(focal=FOCAL)
    raw_joints, smooth_joints = [], []
    for i in range(60):
        world = standing_world() + generator.normal(scale=0.004, size=(33, 3))
        raw = project(world, (0.5, 0.0, 3.0))
        raw_joints.append(plain.update([raw], i * STEP, SIZE)[0].joints)
        smooth_joints.append(smooth.update([raw], i * STEP, SIZE)[0].joints)
    expected, confidence, _ = lift(raw, SIZE, FOCAL)
    assert raw_joints[-1] == pytest.approx(expected)
    assert confidence.shape == (25,)
    joints = np.array(smooth_joints)
    assert joints.dtype == np.float32 and joints.shape == (60, 25, 3)
    assert np.abs(np.diff(joints, 2, axis=0)).mean() < 0.5 * np.abs(np.diff(raw_joints, 2, axis=0)).mean()
    assert joints[-1, NTU25.index("SpineBase")] == pytest.approx((-0.5, 0.0, 3.0), abs=0.02)


def test_two_people_do_not_share_a_filter() -> None:
    tracker = PersonTracker(focal=500.0)
    for i in range(30):
        people = {p.person: p for p in tracker.update([at(-0.8), at(0.8)], i * STEP, SIZE)}
    x = sorted(float(people[n].joints[0, 0]) for n in (1, 2))
    assert x == pytest.approx([-0.8, 0.8], abs=0.02)


def test_same_person_and_distance() -> None:
    assert persons.distance(at(0.0), at(0.0), SIZE) == 0.0
    assert persons.same_person(at(0.0), at(0.05), SIZE)
    assert not persons.same_person(at(-0.35), at(0.35), SIZE)


def test_mismatch_of_picture_and_metres() -> None:
    assert persons.mismatch(at(0.3), SIZE) < 0.05
    wrong = at(0.3)
    wrong.world[:] = wrong.world[::-1]
    assert persons.mismatch(wrong, SIZE) > 0.5


def test_body_mask_covers_its_owner_only() -> None:
    mask = persons.body_mask(at(-0.6), SIZE)
    assert mask.shape == (480, 640) and mask.dtype == bool
    assert persons.covered(at(-0.6), mask) > 0.9
    assert persons.covered(at(0.6), mask) == 0.0
    assert persons.covered(at(9.0), mask) == 1.0
