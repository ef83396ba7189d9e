"""Motions keep the body's bones, begin and end standing, and do what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from engine.render.motions import MOTIONS, compose, motion, together
from engine.skeleton.layout import NTU25

J = {name: i for i, name in enumerate(NTU25.joints)}
CHILD, PARENT = np.array(NTU25.bones).T


def bones(xyz: np.ndarray) -> np.ndarray:
    return np.linalg.norm(xyz[..., CHILD, :] - xyz[..., PARENT, :], axis=-1)


@pytest.mark.parametrize("name", MOTIONS)
def test_bones_keep_their_lengths(name):
    lengths = bones(motion(name, 2.4).xyz)
    rigid = [i for i, (c, p) in enumerate(NTU25.bones) if {c, p} not in ({J["SpineShoulder"], J["Neck"]},)]
    assert np.ptp(lengths[..., rigid], axis=0).max() < 1e-5
    assert lengths.min() > 0.04


@pytest.mark.parametrize("name", MOTIONS)
def test_starts_and_ends_standing_and_moves_smoothly(name):
    sequence = motion(name, 3.0, fps=60)
    stand = motion("stand", 0.5).xyz[0, 0]
    if sequence.num_persons == 1:
        assert np.abs(sequence.xyz[0, 0] - stand).max() < 1e-4
        assert np.abs(sequence.xyz[-1, 0] - stand).max() < 1e-4
    assert np.abs(np.diff(sequence.xyz, axis=0)).max() * 60 < 8.0  # no joint is faster than a good throw
    assert len(sequence) == 180 and sequence.duration == pytest.approx(179 / 60)


@pytest.mark.parametrize("name", [m for m in MOTIONS if m != "stand"])
def test_every_motion_moves(name):
    assert np.ptp(motion(name, 2.4).xyz, axis=0).max() > 0.2


def test_left_raise_raises_the_left_hand_only():
    xyz = motion("raise left arm", 3).xyz[:, 0]
    assert xyz[45, J["WristLeft"], 1] > xyz[45, J["Head"], 1] + 0.15
    assert np.ptp(xyz[:, J["WristRight"]], axis=0).max() < 0.05
    assert xyz[45, J["WristLeft"], 0] < xyz[45, J["SpineMid"], 0]  # left is at smaller x when facing the camera


def test_wave_uses_the_right_hand():
    xyz = motion("wave", 3).xyz[30:60, 0]
    assert (xyz[:, J["WristRight"], 1] > xyz[:, J["ShoulderRight"], 1]).all()
    side = xyz[:, J["HandTipRight"], 0]
    assert (np.diff(np.sign(side - side.mean())) != 0).sum() >= 2


def test_swipes_go_the_way_they_are_called():
    for name, sign in (("swipe left", -1), ("swipe right", 1)):
        x = motion(name, 1.8).xyz[:, 0, J["WristRight"], 0]
        assert sign * (x[int(0.7 * len(x))] - x[int(0.35 * len(x))]) > 0.4


def test_squat_lowers_the_hips_with_planted_feet():
    xyz = motion("squat", 2.4).xyz[:, 0]
    assert xyz[:, J["SpineBase"], 1].min() < xyz[0, J["SpineBase"], 1] - 0.35
    assert np.ptp(xyz[:, J["AnkleLeft"], 1]) < 0.02


def test_position_height_and_facing():
    sequence = motion("stand", 0.2, position=(0.5, 0.1, 3.0), height=1.5, facing_deg=90)
    joints = sequence.xyz[0, 0]
    assert joints[J["SpineBase"]] == pytest.approx([0.5, 0.1, 3.0], abs=0.01)
    # Turned to the own left: the right shoulder is nearer to the camera... from the left side the left one is farther.
    assert joints[J["ShoulderRight"], 2] < joints[J["ShoulderLeft"], 2]
    tall = bones(motion("stand", 0.2, height=1.75).xyz[0, 0])
    assert bones(joints) == pytest.approx(tall * 1.5 / 1.75, rel=1e-4)


def test_unknown_motion_names_the_known_ones():
    with pytest.raises(KeyError, match="wave"):
        motion("moonwalk", 1)


def test_bad_length_is_refused():
    with pytest.raises(ValueError, match="positive seconds"):
        motion("wave", 0)


def test_two_persons_do_not_collide():
    xyz = motion("two persons", 2).xyz
    assert xyz.shape[1] == 2
    assert xyz[:, 0, :, 0].min() > xyz[:, 1, :, 0].max()


def test_together_waits_for_the_longest():
    pair = together([motion("wave", 1), motion("squat", 2.4)])
    assert len(pair) == 72
    assert (pair.xyz[30:, 0] == pair.xyz[29, 0]).all()


def test_composition_is_smooth_and_says_where_its_parts_are():
    parts = [motion("wave", 2), motion("squat", 2.4, position=(0.3, 0, 2.8)), motion("clap", 2)]
    whole, segments = compose(parts, gap=1.0)
    assert [name for name, _, _ in segments] == ["wave", "squat", "clap"]
    for (name, start, end), part in zip(segments, parts, strict=True):
        first = int(np.argmin(np.abs(whole.times - start)))
        assert whole.times[first] == pytest.approx(start), name
        assert end - start == pytest.approx(part.duration)
        assert np.allclose(whole.xyz[first : first + len(part)], part.xyz)
    assert np.diff(whole.times) == pytest.approx(1 / 30, abs=1e-6)
    speed = np.linalg.norm(np.diff(whole.xyz[:, 0], axis=0), axis=-1).max() * 30
    assert speed < 6
    assert np.ptp(bones(whole.xyz), axis=0).max() < 1e-4
