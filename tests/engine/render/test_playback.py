"""Frames of a sequence as the actor plays them: the same pictures in any order, of any layout, near or centred."""

from __future__ import annotations

import numpy as np
import pytest

from engine.render.motions import motion
from engine.render.playback import Playback
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence


def test_frames_come_in_any_order_and_move() -> None:
    sequence = motion("wave", 1.0, fps=12.0)
    forwards, backwards = Playback(sequence, 120, 90), Playback(sequence, 120, 90)
    pictures = {i: backwards.frame(i) for i in reversed(range(len(sequence)))}
    for i in range(len(forwards)):
        assert np.array_equal(forwards.frame(i), pictures[i])
    assert pictures[0].shape == (90, 120, 3) and pictures[0].dtype == np.uint8
    assert not np.array_equal(pictures[0], pictures[6])


@pytest.mark.parametrize("layout", ["kinect20", "florence15"])
def test_other_joints_are_brought_to_the_actors(layout: str) -> None:
    sequence = motion("wave", 0.5, fps=12.0)
    if layout == "kinect20":
        xyz = convert_layout(sequence.xyz, "ntu25", "kinect20")
    else:
        pick = [3, 2, 1, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18]
        xyz = sequence.xyz[:, :, pick]
    picture = Playback(SkeletonSequence(xyz, sequence.times, layout), 120, 90).frame(3)
    empty = Playback(sequence, 120, 90).frame(3)
    assert picture.shape == empty.shape and picture.std() > 10


def test_a_centred_recording_is_moved_before_the_camera() -> None:
    sequence = motion("wave", 0.5, fps=12.0)
    centred = SkeletonSequence(sequence.xyz - sequence.xyz[:1, :, :1], sequence.times)
    picture = Playback(centred, 120, 90).frame(2)
    # The shirt is saturated, the room is not.
    assert (picture.max(-1).astype(int) - picture.min(-1) > 60).sum() > 50


def test_nobody_and_unknown_joints_are_said() -> None:
    empty = SkeletonSequence(np.zeros((3, 1, 25, 3)), np.arange(3.0), name="empty")
    with pytest.raises(ValueError, match="empty has nobody"):
        Playback(empty)
    coco = SkeletonSequence(np.ones((3, 1, 17, 3)), np.arange(3.0), "coco17")
    with pytest.raises(ValueError, match="no way from coco17"):
        Playback(coco)
