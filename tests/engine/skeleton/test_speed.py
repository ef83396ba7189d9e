"""Speed of joints and the part of a recording that moves."""

from __future__ import annotations

import numpy as np

from engine.skeleton.layout import KINECT20, NTU25
from engine.skeleton.speed import joint_speed, moving_part

TIMES = np.arange(90) / 30


def walker(layout) -> np.ndarray:
    """Stands for a second, moves all joints but two at 1 m/s for another, stands again; a trunk of half a metre."""
    xyz = np.zeros((90, layout.num_joints, 3))
    xyz[:, layout.root, 1] = 0.5
    xyz[:, 1:, 0] = np.clip(TIMES - 1, 0, 1)[:, None]
    xyz[:, layout.root, 0] = 0
    return xyz


def test_both_layouts_give_the_same_speed_up_to_the_joints_that_stand() -> None:
    for layout in (NTU25, KINECT20):
        speed = joint_speed(walker(layout), TIMES, layout)
        moving = (layout.num_joints - 2) / layout.num_joints
        assert np.allclose(speed[45], moving / 0.5)
        assert np.allclose(speed[[5, 85]], 0)


def test_the_moving_part_leaves_out_still_ends_only() -> None:
    first, last = moving_part(walker(NTU25), TIMES)
    assert abs(TIMES[first] - 1) < 0.15 and abs(TIMES[last] - 2) < 0.15
    still = np.repeat(walker(NTU25)[:1], 90, 0)
    assert moving_part(still, TIMES) == (0, 89)
    assert moving_part(still[:1], TIMES[:1]) == (0, 0)
