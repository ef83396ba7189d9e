"""Lifting: datasets.md, section 8, checks 48-51, and joint error against Kinect on a real clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.lifting import detect_all, errors, lift_all, parse_skeleton, video_frames
from engine.live.lift import (
    DEFAULT_TRANSLATION,
    Lifter,
    LiftSettings,
    focal_length,
    lift,
    map_joints,
    solve_translation,
    view_rotation,
)
from engine.skeleton.convert import BLAZEPOSE33_TO_NTU25, MEDIAPIPE_TO_KINECT_AXES
from engine.skeleton.layout import BLAZEPOSE33, NTU25
from tests.engine.live.bodies import FOCAL, SIZE, project, standing_world
from tests.shared_data import shared

PLAIN = LiftSettings.plain()
RIGHT, LEFT = NTU25.index("ShoulderRight"), NTU25.index("ShoulderLeft")


def test_rows_of_the_map_sum_to_one() -> None:  # check 48
    assert BLAZEPOSE33_TO_NTU25.sum(1) == pytest.approx(np.ones(25), abs=1e-6)


@pytest.mark.parametrize("settings", [PLAIN, LiftSettings(), LiftSettings(shoulder_rise=0.03, hand_factor=1.75)])
def test_mirrored_input_gives_mirrored_output(settings: LiftSettings) -> None:  # check 49
    world = np.random.default_rng(3).normal(size=(33, 3))
    flip = np.array([-1, 1, 1])
    mirrored = map_joints(world[list(BLAZEPOSE33.mirror)] * flip, settings)
    assert mirrored[list(NTU25.mirror)] * flip == pytest.approx(map_joints(world, settings), abs=1e-12)


def test_axes_are_turned_not_mirrored_and_facing_people_come_out_right() -> None:  # check 50
    assert np.linalg.det(np.diag(MEDIAPIPE_TO_KINECT_AXES)) == pytest.approx(1.0)
    joints, _, _ = lift(project(standing_world()), SIZE, FOCAL)
    assert joints[RIGHT, 0] > joints[LEFT, 0]
    assert joints[NTU25.index("Head"), 1] > joints[NTU25.index("SpineBase"), 1]
    nearer = standing_world()
    nearer[BLAZEPOSE33.index("left_wrist"), 2] -= 0.5
    reached, _, _ = lift(project(nearer), SIZE, FOCAL)
    wrist = NTU25.index("WristLeft")
    assert reached[wrist, 2] < joints[wrist, 2] - 0.4


def test_translation_is_recovered_exactly() -> None:  # check 51
    world = np.random.default_rng(5).normal(scale=0.4, size=(33, 3))
    raw = project(world, (0.3, -0.2, 3.1))
    solved = solve_translation(world, raw.image[:, :2] * SIZE, raw.visibility, FOCAL, (320, 240))
    assert solved == pytest.approx((0.3, -0.2, 3.1), abs=1e-6)


def test_translation_is_held_with_too_few_landmarks() -> None:  # check 51
    lifter = Lifter(FOCAL, settings=PLAIN)
    world = standing_world()
    first, _ = lifter(project(world, (0.4, 0.1, 2.8)), SIZE)
    dim = np.full(33, 0.2)
    dim[:5] = 0.9
    hidden = project(world, (-1.0, 0.0, 5.0), visibility=dim)
    second, _ = lifter(hidden, SIZE)
    assert second == pytest.approx(first, abs=1e-5)
    dim[5] = 0.9
    third, _ = lifter(project(world, (-1.0, 0.0, 5.0), visibility=dim), SIZE)
    assert third[0] == pytest.approx((1.0, 0.0, 5.0), abs=1e-3)
    lifter.reset()
    fourth, _ = lifter(hidden, SIZE)
    assert fourth[0] == pytest.approx(np.multiply(DEFAULT_TRANSLATION, (-1, -1, 1)), abs=1e-5)


@pytest.mark.parametrize("distance", [0.4, 11.0])
def test_impossible_distances_are_not_believed(distance: float) -> None:
    # A small body, so that nobody is behind the camera at 0.4 m.
    world = 0.2 * standing_world()
    raw = project(world, (0.0, 0.0, distance))
    assert solve_translation(world, raw.image[:, :2] * SIZE, raw.visibility, FOCAL, (320, 240)) is None


def test_unreadable_numbers_hold_the_translation() -> None:
    raw = project(standing_world())
    raw.image[3, 0] = np.nan
    assert solve_translation(standing_world(), raw.image[:, :2] * SIZE, raw.visibility, FOCAL, (320, 240)) is None


def test_mirrored_picture_gives_the_same_person() -> None:
    world = standing_world()
    world[BLAZEPOSE33.index("left_wrist")] += (0.1, -0.7, -0.2)
    raw = project(world, (0.3, 0.1, 3.0))
    mirror = list(BLAZEPOSE33.mirror)
    # A mirror image of this scene, described by a model that takes it for a real one.
    selfie = replace(
        raw,
        image=raw.image[mirror] * (-1, 1, 1) + (1, 0, 0),
        world=raw.world[mirror] * (-1, 1, 1),
        visibility=raw.visibility[mirror],
    )
    for settings in (PLAIN, LiftSettings()):
        expected, _, _ = lift(raw, SIZE, FOCAL, settings=settings)
        assert lift(selfie, SIZE, FOCAL, mirrored=True, settings=settings)[0] == pytest.approx(expected, abs=1e-5)
    assert expected[NTU25.index("WristLeft"), 1] > expected[NTU25.index("WristRight"), 1] + 0.5


def test_confidence_is_the_smallest_visibility_used() -> None:
    seen = np.full(33, 0.9)
    seen[BLAZEPOSE33.index("left_index")] = 0.25
    _, confidence, _ = lift(project(standing_world(), visibility=seen), SIZE, FOCAL)
    low = {NTU25.joints[i] for i in np.flatnonzero(confidence < 0.5)}
    assert low == {"HandLeft", "HandTipLeft"}
    assert confidence[NTU25.index("HandTipLeft")] == pytest.approx(0.25)


def test_corrections_do_what_they_say() -> None:
    world = standing_world()
    plain = map_joints(world, PLAIN)

    def bone(joints: np.ndarray, a: str, b: str) -> float:
        return float(np.linalg.norm(joints[NTU25.index(a)] - joints[NTU25.index(b)]))

    tuned = map_joints(world, LiftSettings(hip_factor=0.5, thigh_factor=0.8, hand_factor=2.0, shoulder_rise=0.03))
    assert bone(tuned, "HipLeft", "HipRight") == pytest.approx(0.5 * bone(plain, "HipLeft", "HipRight"))
    assert bone(tuned, "KneeLeft", "AnkleLeft") == pytest.approx(bone(plain, "KneeLeft", "AnkleLeft"))
    straight = map_joints(world, LiftSettings(hip_factor=1.0, thigh_factor=0.8))
    assert bone(straight, "HipRight", "KneeRight") == pytest.approx(0.8 * bone(plain, "HipRight", "KneeRight"))
    assert bone(straight, "AnkleRight", "FootRight") == pytest.approx(bone(plain, "AnkleRight", "FootRight"))
    assert bone(tuned, "WristLeft", "HandTipLeft") == pytest.approx(2 * bone(plain, "WristLeft", "HandTipLeft"))
    assert bone(tuned, "SpineBase", "SpineShoulder") == pytest.approx(bone(plain, "SpineBase", "SpineShoulder") + 0.03)


def test_view_rotation_turns_the_axis_into_the_line_of_sight() -> None:
    rotation = view_rotation(np.array([300.0, -200.0]), 500.0)
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    ray = np.array([300.0, -200.0, 500.0])
    assert rotation @ (0, 0, 1) == pytest.approx(ray / np.linalg.norm(ray))
    assert view_rotation(np.zeros(2), 500.0) == pytest.approx(np.eye(3))


def test_focal_length_from_field_of_view() -> None:
    assert focal_length(1920, 60) / 1920 == pytest.approx(0.866, abs=1e-3)
    assert focal_length(1920, 84.6) / 1920 == pytest.approx(0.55, abs=1e-2)


def test_joint_error_against_kinect() -> None:
    """The corrections bring a real clip nearer to Kinect; unswapped left and right would be far off."""
    folder = shared("ntu_pair")
    truth = np.array([f[0] for f in parse_skeleton(next(folder.glob("*.skeleton")).read_text())])[::3, :, :3]
    pictures = list(video_frames(next(folder.glob("*_rgb.avi")), width=960, every=3))
    raws = [raw for raw in detect_all(iter(pictures), rate=10.0) if raw is not None]
    assert len(raws) == len(truth)
    size = (pictures[0].shape[1], pictures[0].shape[0])

    def error(mirrored: bool, settings: LiftSettings) -> float:
        return float(errors(lift_all(raws, size, 0.55 * size[0], mirrored, settings), truth).mean())

    assert error(True, PLAIN) < 0.155
    assert error(True, LiftSettings()) < 0.93 * error(True, PLAIN)
    assert error(False, PLAIN) > 1.5 * error(True, PLAIN)
