"""Recordings that begin with the arms stretched to the sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.check import check_store
from engine.data.merge import merge, plan_merge, read_class_map
from engine.data.prepare import prepare_dataset
from engine.data.sets import DATASETS
from engine.data.start_pose import HANGING_DEG, arm_elevation, arms_stretched, end_of_start_pose, without_start_pose
from engine.data.store import write_store
from engine.skeleton.layout import NTU25
from engine.skeleton.sequence import SkeletonSequence
from tests.shared_data import shared

TIMES = np.arange(91) / 30


def person(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Joints with straight arms at these elevations, degrees, frame by frame; everything else at the origin."""
    xyz = np.zeros((len(left), 25, 3))
    for side, sign, angles in (("Left", -1, left), ("Right", 1, right)):
        shoulder = np.array([0.2 * sign, 0.5, 0.0])
        radians = np.deg2rad(angles)
        xyz[:, NTU25.index(f"Shoulder{side}")] = shoulder
        arm = np.stack([sign * np.cos(radians), np.sin(radians), np.zeros(len(radians))], axis=1)
        xyz[:, NTU25.index(f"Wrist{side}")] = shoulder + 0.5 * arm
    return xyz


def angles(*points: tuple[float, float]) -> np.ndarray:
    """Elevations at :data:`TIMES` through points of (seconds, degrees)."""
    return np.interp(TIMES, *zip(*points, strict=True))


HANGING = angles((0, -80))


def test_elevations_are_those_of_the_arms() -> None:
    found = arm_elevation(person(angles((0, -90), (3, 90)), HANGING))
    assert np.allclose(found[[0, 45, 90], 0], [-90, 0, 90], atol=1e-4) and np.allclose(found[:, 1], -80)


def test_stretched_arms_are_level_and_far_apart() -> None:
    up = angles((0, -90), (3, 90))
    assert np.array_equal(arms_stretched(person(up, up)), np.abs(up) < 40)
    assert not arms_stretched(person(up, HANGING)).any()
    forward = person(0 * up, 0 * up)
    forward[:, [NTU25.index("WristLeft"), NTU25.index("WristRight")]] += [[0.5, 0, -0.5], [-0.5, 0, -0.5]]
    assert not arms_stretched(forward).any()


def test_a_start_pose_ends_when_both_arms_have_sunk() -> None:
    down = angles((0, 0), (0.4, 0), (0.8, -80), (1.5, -80), (2, 60))
    later = angles((0, 0), (0.6, 0), (1.0, -80))
    first = end_of_start_pose(person(down, later), TIMES)
    assert abs(TIMES[first] - 1.0) < 0.05


def test_sinking_arms_are_followed_for_half_a_second_at_most() -> None:
    slowly = angles((0, 0), (0.5, HANGING_DEG - 1), (3, -85))
    first = end_of_start_pose(person(slowly, slowly), TIMES)
    assert abs(TIMES[first] - 1.0) < 0.05


@pytest.mark.parametrize("left", [HANGING, angles((0, -80), (1, 0), (2, -80))])
def test_who_begins_with_a_hanging_arm_is_in_no_start_pose(left: np.ndarray) -> None:
    assert end_of_start_pose(person(left, HANGING), TIMES) == 0
    assert end_of_start_pose(person(left, angles((0, 0), (0.5, -80))), TIMES) == 0


def test_what_begins_in_the_start_pose_is_kept() -> None:
    up = angles((0, 0), (0.5, 40), (2.9, 40), (3, -80))
    assert end_of_start_pose(person(up, up), TIMES) == 0
    # One arm sinks, the other one acts.
    first = end_of_start_pose(person(up, angles((0, 0), (0.6, -80))), TIMES)
    assert abs(TIMES[first] - 0.6) < 0.05


def test_the_rest_of_the_sequence_stays_as_it_was() -> None:
    down = angles((0, 0), (0.5, -80))
    xyz = person(down, down)[:, None].astype(np.float32)
    cut = without_start_pose(SkeletonSequence(xyz, TIMES, name="a", label=3, confidence=np.ones(xyz.shape[:3])))
    assert np.array_equal(cut.xyz, xyz[-len(cut) :]) and np.array_equal(cut.times, TIMES[-len(cut) :])
    assert (cut.name, cut.label, cut.confidence.shape) == ("a", 3, cut.xyz.shape[:3])
    still = SkeletonSequence(person(HANGING, HANGING)[:, None].astype(np.float32), TIMES)
    assert without_start_pose(still) is still


def test_only_sets_with_start_poses_lose_them_when_merged(tmp_path: Path) -> None:
    down = angles((0, 0), (0.5, -80))
    for name in ("kinder_gator", "own"):
        made = SkeletonSequence(person(down, down)[:, None], TIMES, name="a", label=0, meta={"subject": 1})
        write_store(tmp_path / name, name, [made], ["wave"], 30.0)
    class_map = read_class_map("class,set,original\nwave,kinder_gator,wave\nwave,own,wave\n", "map.csv")
    store, _ = merge(plan_merge("m", class_map, None, tmp_path), tmp_path / "m", workers=1)
    cut, whole = (store.sequence(store.names.index(f"{name}.a")) for name in ("kinder_gator", "own"))
    assert len(whole) == 91 and abs(len(cut) / 30 - 2.5) < 0.1
    assert np.allclose(cut.xyz, whole.xyz[-len(cut) :]) and cut.times[0] == 0


@pytest.mark.parametrize(("stretched", "told"), [(2, True), (1, False)])
def test_the_check_tells_of_start_poses(tmp_path: Path, stretched: int, told: bool) -> None:
    down = angles((0, 0), (0.5, -80))
    made = [
        SkeletonSequence(person(arm, arm)[:, None], TIMES, name=f"s{i}", label=0, meta={"subject": i})
        for i, arm in enumerate([down] * stretched + [HANGING] * (6 - stretched))
    ]
    report = check_store(write_store(tmp_path / "own", "own", made, ["wave"], 30.0), None)
    assert report.facts["start_poses"] == stretched
    assert any(f"{stretched} of 6 sequences begin with both arms" in note for note in report.notes) == told


@pytest.mark.slow
def test_real_kinder_gator_begins_in_start_poses(tmp_path: Path) -> None:
    store = prepare_dataset(DATASETS["kinder_gator"], shared("kinder_gator"), tmp_path / "stores").store
    assert check_store(store, None, thorough=False).facts["start_poses"] == 1003
