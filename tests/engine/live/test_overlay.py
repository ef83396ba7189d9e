from __future__ import annotations

import numpy as np

from engine.live.overlay import PERSON_COLOURS, draw_overlay, person_colour
from engine.live.types import LiveDecision, PersonPose, PoseResult, RawPose
from tests.engine.live.helpers import waving_pose


def pose(*raws: RawPose) -> PoseResult:
    joints = np.zeros((25, 3), np.float32)
    people = tuple(PersonPose(i + 1, joints, np.ones(25, np.float32), raw) for i, raw in enumerate(raws))
    return PoseResult(0.0, 0, 0.0, (640, 480), people)


def near(image: np.ndarray, x: float, y: float, reach: int = 5) -> np.ndarray:
    column, row = round(x * image.shape[1]), round(y * image.shape[0])
    return image[row - reach : row + reach + 1, column - reach : column + reach + 1].reshape(-1, 3)


def test_skeleton_is_drawn_in_the_colour_of_the_person_and_left_is_lighter() -> None:
    blank = np.zeros((480, 640, 3), np.uint8)
    out = draw_overlay(blank, pose(waving_pose(0.0, "none", 0.3), waving_pose(0.0, "none", 0.7)))
    assert not blank.any()
    for person, centre in ((1, 0.3), (2, 0.7)):
        raw = waving_pose(0.0, "none", centre)
        knees = [near(out, *raw.image[i, :2]).max(0) for i in (25, 26)]
        left, right = (k.astype(int).sum() for k in knees)
        assert left > right > 0
        strongest = int(np.argmax(person_colour(person)))
        assert int(knees[1].argmax()) == strongest


def test_label_or_dash_is_written() -> None:
    blank = np.zeros((480, 640, 3), np.uint8)
    raw = waving_pose(0.0, "none", 0.8)
    nothing = draw_overlay(blank, pose(raw))
    named = draw_overlay(blank, pose(raw), {1: LiveDecision(0.0, 1, "wave", 0.9, (), 0.0)})
    white = [(image[:80] > 200).all(-1).sum() for image in (nothing, named)]
    assert white[0] > 5 and white[1] > 5 * white[0]


def test_half_a_person_outside_and_unseen_joints_are_no_trouble() -> None:
    raw = waving_pose(0.0)
    far = RawPose(raw.image + np.array([1e6, 0, 0], np.float32), raw.world, raw.visibility)
    hidden = RawPose(raw.image, raw.world, np.zeros(33, np.float32))
    blank = np.zeros((48, 64, 3), np.uint8)
    assert draw_overlay(blank, pose(far)).shape == (48, 64, 3)
    out = draw_overlay(np.zeros((480, 640, 3), np.uint8), pose(hidden))
    assert not out[120:].any()
    assert draw_overlay(blank, None).sum() == 0


def test_persons_have_different_colours() -> None:
    assert len(set(PERSON_COLOURS)) == 4 and person_colour(5) == person_colour(1)
