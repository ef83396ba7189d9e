"""Layouts and conversions: permutations, trees, and the matrices between layouts."""

import numpy as np
import pytest

from engine.skeleton.convert import (
    BLAZEPOSE33_TO_COCO17,
    BLAZEPOSE33_TO_NTU25,
    KINECT20_TO_NTU25,
    MEDIAPIPE_TO_KINECT_AXES,
    convert_layout,
    convertible,
    joint_confidence,
)
from engine.skeleton.layout import (
    BLAZEPOSE33,
    COCO17,
    FLORENCE15,
    KINECT20,
    LAYOUTS,
    NTU25,
    get_layout,
    spatial_partition,
)
from engine.skeleton.sequence import SkeletonSequence


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_mirror_is_its_own_inverse_and_commutes_with_parents(layout):
    mirror, parents = np.array(layout.mirror), np.array(layout.parents)
    assert (mirror[mirror] == np.arange(layout.num_joints)).all()
    assert (parents[mirror] == mirror[parents]).all()
    assert sum(i == p for i, p in enumerate(parents)) == 1
    sides = [layout.side(i) for i in range(layout.num_joints)]
    swap = {"left": "right", "right": "left", "centre": "centre"}
    assert [sides[m] for m in mirror] == [swap[side] for side in sides]


def test_published_facts():
    assert NTU25.root == 20 and KINECT20.root == 2
    assert len(NTU25.bones) == 24 and len(KINECT20.bones) == 19
    assert list(BLAZEPOSE33_TO_COCO17) == [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    assert [BLAZEPOSE33.joints[i] for i in BLAZEPOSE33_TO_COCO17] == list(COCO17.joints)


def test_unknown_names_list_what_is_known():
    with pytest.raises(KeyError, match="ntu25"):
        get_layout("ntu26")
    with pytest.raises(KeyError, match="Elbow"):
        NTU25.index("Elbow")
    with pytest.raises(ValueError, match="no conversion"):
        convert_layout(np.zeros((1, 25, 3)), "ntu25", "coco17")


def test_partition_columns():
    parts = spatial_partition(NTU25)
    assert parts.shape == (3, 25, 25) and parts.dtype == np.float32
    assert (parts[0] == np.eye(25)).all()
    # By hand: the hand tip's column holds its parent alone, the root's inward column nothing.
    assert parts[1][22, 21] == 1 and parts[1][:, 21].sum() == 1
    assert parts[1][:, 20].sum() == 0
    # SpineShoulder has five children (mid-spine, neck, both shoulders): its outward column shares one among them.
    children = [i for i, p in enumerate(NTU25.parents) if p == 20 and i != 20]
    assert len(children) == 4
    assert np.allclose(parts[2][children, 20], 0.25)
    sums = parts[1:].sum(1)
    assert np.all(np.isclose(sums, 1) | (sums == 0))


def test_conversion_rows_sum_to_one():
    assert np.allclose(BLAZEPOSE33_TO_NTU25.sum(1), 1)
    assert np.allclose(KINECT20_TO_NTU25.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(("source", "layout"), [("blazepose33", BLAZEPOSE33), ("kinect20", KINECT20)])
def test_mirrored_input_gives_mirrored_output(source, layout):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((layout.num_joints, 3)).astype(np.float32)
    flip = np.array([-1, 1, 1], np.float32)
    mirrored = points[list(layout.mirror)] * flip
    expected = convert_layout(points, source, "ntu25")[list(NTU25.mirror)] * flip
    assert np.allclose(convert_layout(mirrored, source, "ntu25"), expected, atol=1e-6)


@pytest.mark.parametrize(("source", "layout"), [("blazepose33", BLAZEPOSE33), ("florence15", FLORENCE15)])
def test_twenty_joints_are_made_by_way_of_twenty_five(source, layout):
    points = np.random.default_rng(2).standard_normal((4, layout.num_joints, 3)).astype(np.float32)
    expected = convert_layout(convert_layout(points, source, "ntu25"), "ntu25", "kinect20")
    assert np.allclose(convert_layout(points, source, "kinect20"), expected, atol=1e-5)
    assert convertible(source, "kinect20") and not convertible("kinect20", source)


def test_twenty_joints_survive_the_round_trip_but_for_the_blended_spine():
    points = np.random.default_rng(1).standard_normal((4, 20, 3)).astype(np.float32)
    back = convert_layout(convert_layout(points, "kinect20", "ntu25"), "ntu25", "kinect20")
    kept = [i for i in range(20) if i != KINECT20.index("Spine")]
    assert np.allclose(back[:, kept], points[:, kept], atol=1e-6)


def test_axis_change_is_a_rotation():
    assert np.prod(MEDIAPIPE_TO_KINECT_AXES) == 1


def test_confidence_is_the_weakest_source():
    visibility = np.ones(33, np.float32)
    visibility[BLAZEPOSE33.index("left_hip")] = 0.2
    confidence = joint_confidence(visibility, "blazepose33", "ntu25")
    assert confidence[NTU25.index("SpineBase")] == pytest.approx(0.2)
    assert confidence[NTU25.index("HipRight")] == 1


def test_sequence_refuses_what_can_not_be():
    good = np.zeros((3, 1, 25, 3))
    assert SkeletonSequence(good, [0, 0.1, 0.3]).duration == pytest.approx(0.3)
    with pytest.raises(ValueError, match="do not increase"):
        SkeletonSequence(good, [0, 0.1, 0.1])
    with pytest.raises(ValueError, match=r"\(T, M, 25, 3\)"):
        SkeletonSequence(np.zeros((3, 1, 20, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match="2 time stamps"):
        SkeletonSequence(good, [0, 1])
