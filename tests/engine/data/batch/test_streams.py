"""Streams of batches against the single-clip function that training, evaluation and the live path share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import streams
from engine.data.preprocess import make_stream
from engine.skeleton.layout import COCO17, KINECT20, LAYOUTS, NTU25, Layout

ALL = ("joint", "bone", "joint_motion", "bone_motion")


def clips(n: int, t: int, layout: Layout, m: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, 3, t, layout.num_joints, m, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 3), t=st.integers(1, 6), m=st.integers(1, 2),
    name=st.sampled_from(sorted(LAYOUTS)), stream=st.sampled_from(ALL),
)  # fmt: skip
def test_equals_the_single_clip_function_bit_for_bit(n: int, t: int, m: int, name: str, stream):
    x = clips(n, t, LAYOUTS[name], m)
    before = x.clone()
    made = streams.make_stream(x, stream, LAYOUTS[name])
    for i in range(n):
        np.testing.assert_array_equal(made[i].numpy(), make_stream(x[i].numpy(), stream, LAYOUTS[name]))
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_dtype_is_kept(dtype: torch.dtype):
    for stream in ALL:
        assert streams.make_stream(clips(2, 4, NTU25, 2, dtype=dtype), stream, NTU25).dtype == dtype


def test_bones_of_the_specification():
    x = clips(1, 3, NTU25, 2, dtype=torch.float64)
    bones = streams.bone(x, NTU25)
    # hiclr.md 1.4: parent table written out there.
    parents = [1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11]
    for joint, parent in enumerate(parents):
        assert torch.equal(bones[:, :, :, joint], x[:, :, :, joint] - x[:, :, :, parent])
    assert not bones[:, :, :, 20].any()
    moved = streams.bone(x + torch.randn(1, 3, 3, 1, 2, dtype=torch.float64), NTU25)
    torch.testing.assert_close(moved, bones)
    # Bones along a chain add up to the offset from the root (skeletongcl.md, check 13).
    chain = [19, 18, 17, 16, 0, 1]
    torch.testing.assert_close(bones[:, :, :, chain].sum(3), x[:, :, :, 19] - x[:, :, :, 20])
    assert not streams.bone(clips(1, 2, KINECT20, 1), KINECT20)[:, :, :, 2].any()


def test_motion_ends_with_zeros_and_adds_up():
    x = clips(2, 7, NTU25, 2, dtype=torch.float64)
    moved = streams.motion(x)
    assert not moved[:, :, -1].any()
    torch.testing.assert_close(moved.sum(2), x[:, :, -1] - x[:, :, 0])
    assert not streams.motion(torch.ones(1, 3, 5, 25, 2)).any()


def test_motion_where_somebody_comes_and_goes():
    x = clips(1, 8, NTU25, 2) + 5
    x[..., :2, :, 1] = 0  # enters at frame 2
    x[..., 6:, :, :] = 0  # padding from frame 6
    published, gentle = streams.motion(x), streams.motion(x, "present")
    # As published the step into the padding is minus the whole position.
    assert torch.equal(published[:, :, 5], -x[:, :, 5])
    assert torch.equal(published[0, :, 1, :, 1], x[0, :, 2, :, 1])
    expected = published.clone()
    expected[:, :, 5] = 0
    expected[0, :, 1, :, 1] = 0
    assert torch.equal(gentle, expected)
    assert not streams.make_stream(x, "bone_motion", NTU25, "present")[:, :, 5].any()


def test_who_is_present():
    x = torch.zeros(1, 3, 3, 25, 2)
    x[0, 1, 1, 7, 1] = -1e-8
    assert streams.present(x).tolist() == [[[False, False], [False, True], [False, False]]]


def infogcn_slowly(x: np.ndarray, order: int, parents: dict[int, int]) -> np.ndarray:
    out = x.copy()
    for joint in range(x.shape[2]):
        ancestor: int | None = joint
        for _ in range(order):
            ancestor = None if ancestor is None else parents.get(ancestor)
        if ancestor is not None:
            out[:, :, joint] -= x[:, :, ancestor]
    return out


# skeletongcl.md 2.4, child -> parent, 1-based as printed.
INFOGCN_NTU = {
    1: 2, 21: 2, 3: 21, 4: 3, 5: 21, 6: 5, 7: 6, 8: 7, 23: 8, 22: 23, 9: 21, 10: 9, 11: 10, 12: 11, 25: 12, 24: 25,
    13: 1, 14: 13, 15: 14, 16: 15, 17: 1, 18: 17, 19: 18, 20: 19,
}  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 3, 8])
def test_infogcn_offsets_ntu(order: int):
    x = clips(2, 3, NTU25, 2, dtype=torch.float64)
    parents = {child - 1: parent - 1 for child, parent in INFOGCN_NTU.items()}
    made = streams.infogcn_offsets(x, order, NTU25)
    for i in range(2):
        np.testing.assert_array_equal(made[i].numpy(), infogcn_slowly(x[i].numpy(), order, parents))


def test_infogcn_powers_of_the_specification():
    counts = [int(streams.infogcn_ancestors(NTU25, True, k).sum()) for k in range(9)]
    assert counts == [25, 24, 22, 17, 12, 8, 4, 2, 0]
    assert not streams.infogcn_ancestors(NTU25)[1].any()
    x = clips(1, 2, NTU25, 1)
    assert torch.equal(streams.infogcn_offsets(x, 8, NTU25), x)
    same = torch.ones(1, 3, 2, 25, 1)
    first = streams.infogcn_offsets(same, 1, NTU25)
    assert first[:, :, :, 1].all() and not first[:, :, :, [v for v in range(25) if v != 1]].any()


def test_infogcn_nw_ucla_as_released_and_mended():
    x = clips(2, 3, KINECT20, 1, dtype=torch.float64)
    # Released: the edge list runs the wrong way, a joint loses all its children (trap 22).
    released = x.clone()
    for child, parent in KINECT20.bones:
        released[:, :, :, parent] -= x[:, :, :, child]
    torch.testing.assert_close(streams.infogcn_offsets(x, 1, KINECT20), released)
    assert set(streams.infogcn_ancestors(KINECT20).sum(1).tolist()) == {0, 1, 2, 4}
    assert not streams.infogcn_ancestors(KINECT20, True, 7).any()
    assert streams.infogcn_ancestors(KINECT20, True, 6).any()
    parents = dict(KINECT20.bones)
    mended = streams.infogcn_offsets(x, 2, KINECT20, published=False)
    for i in range(2):
        np.testing.assert_array_equal(mended[i].numpy(), infogcn_slowly(x[i].numpy(), 2, parents))


def test_errors_name_the_cause():
    with pytest.raises(ValueError, match="20 joints, layout ntu25 has 25"):
        streams.bone(clips(1, 2, KINECT20, 1), NTU25)
    with pytest.raises(ValueError, match="order 0"):
        streams.infogcn_offsets(clips(1, 2, NTU25, 1), 0, NTU25)
    with pytest.raises(ValueError, match="coco17"):
        streams.infogcn_offsets(clips(1, 2, COCO17, 1), 1, COCO17)


def test_take_joints_per_clip_and_fewer():
    x = clips(2, 3, NTU25, 2)
    index = torch.tensor([[3, 3, 0], [24, 1, 2]])
    taken = streams.take_joints(x, index)
    assert taken.shape == (2, 3, 3, 3, 2)
    for i in range(2):
        assert torch.equal(taken[i], x[i][:, :, index[i]])
