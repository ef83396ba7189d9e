"""The CTR-GCN family's training input against slow readings of the specification and the project's own clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.augment import rotation as row_rotation
from engine.data.batch import geometric, temporal
from engine.data.batch import recipes_skeletongcl as gcl
from engine.data.batch.sampling import RandomCrop, SortedCopies
from engine.data.preprocess import Preprocessing, make_stream, normalise, preprocess
from engine.skeleton.layout import KINECT20, NTU25
from engine.skeleton.sequence import SkeletonSequence


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def padded(lengths: torch.Tensor, t: int, v: int = 25, m: int = 2) -> torch.Tensor:
    x = torch.randn(len(lengths), 3, t, v, m, generator=seeded(9))
    return x * temporal.frame_mask(lengths, t)[:, None, :, None, None]


@pytest.mark.parametrize("stream", ["joint", "bone", "joint_motion", "bone_motion"])
def test_ntu_crop_rotate_stream(stream):
    lengths = torch.tensor([100, 64, 30, 1])
    x = padded(lengths, 120)
    x[2, ..., 1] = 0
    (made,) = gcl.views(x, seeded(1), gcl.SkeletonGclViews(stream=stream), lengths)
    again = seeded(1)
    cropped, _ = temporal.crop(x, lengths, RandomCrop(64, 0.5, 1.0, 64), again)
    angles = geometric.draw_angles(4, 0.3, again).double().numpy()
    assert made.shape == (4, 3, 64, 25, 2) and made.dtype == torch.float32
    for i, (a, b, c) in enumerate(angles):
        rx = np.array([[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]])
        ry = np.array([[math.cos(b), 0, -math.sin(b)], [0, 1, 0], [math.sin(b), 0, math.cos(b)]])
        rz = np.array([[math.cos(c), math.sin(c), 0], [-math.sin(c), math.cos(c), 0], [0, 0, 1]])
        turned = np.tensordot(rz @ ry @ rx, cropped[i].double().numpy(), 1)
        np.testing.assert_allclose(made[i].numpy(), make_stream(turned, stream, NTU25), atol=2e-6)
    assert not made[2, ..., 1].any()


def test_ntu_without_lengths_the_clip_is_taken_as_it_is():
    x = padded(torch.tensor([64, 64]), 64)
    (made,) = gcl.views(x, seeded(2))
    assert torch.equal(made, gcl.turn(x, seeded(2)))
    assert torch.equal(gcl.evaluation_view(x), x)
    assert gcl.evaluation_view(x, lengths=torch.tensor([64, 64])).shape == x.shape
    torch.testing.assert_close(made.norm(dim=1), x.norm(dim=1))


def test_infogcn_streams():
    x = padded(torch.tensor([10]), 10)
    same = gcl.evaluation_view(x, gcl.SkeletonGclViews(infogcn_order=8))
    assert torch.equal(same, x)
    first = gcl.evaluation_view(x, gcl.SkeletonGclViews(infogcn_order=1))
    assert torch.equal(first[:, :, :, 1], x[:, :, :, 1])
    torch.testing.assert_close(first[:, :, :, 20], x[:, :, :, 20] - x[:, :, :, 1])
    moved = gcl.evaluation_view(x, gcl.SkeletonGclViews(infogcn_order=1, stream="joint_motion"))
    torch.testing.assert_close(moved[:, :, :-1], first.diff(dim=2))
    assert not moved[:, :, -1].any()


# NW-UCLA -------------------------------------------------------------------------------------------------------------


def test_nw_ucla_against_one_clip_at_a_time():
    lengths = torch.tensor([70, 33, 1, 52])
    x = padded(lengths, 70, 20, 1)
    how = gcl.NwUclaViews(stream="bone")
    (made,) = gcl.nw_ucla_views(x, seeded(3), how, lengths)
    again = seeded(3)
    angles = geometric.draw_whole_degrees(4, (60, 60), again)
    scale = geometric.draw_scale(4, 0.5, 1.5, again)
    frames = SortedCopies(52, 100)(lengths, again).long()
    for i, length in enumerate(lengths.tolist()):
        # As skeletongcl.md 1.6: shift, row vectors times Ry Rx S, min-max over the sequence, frames, bone.
        xyz = x[i, :, :length].permute(1, 3, 2, 0).numpy()
        xyz = xyz - xyz[0, 0, 1]
        turned = xyz @ (row_rotation(float(angles[i, 1]), float(angles[i, 0]), 0.0) * scale[i, 0, 0].item())
        low, high = turned.min((0, 1, 2)), turned.max((0, 1, 2))
        scaled = (turned - low) / (high - low) * 2 - 1
        clip = scaled[frames[i].numpy()].transpose(3, 0, 2, 1)
        np.testing.assert_allclose(made[i].numpy(), make_stream(clip, "bone", KINECT20), atol=5e-6)


def test_nw_ucla_range_scale_and_shift():
    # skeletongcl.md, check 14.
    x = padded(torch.tensor([40, 40]), 40, 20, 1)
    (made,) = gcl.nw_ucla_views(x, seeded(4), gcl.NwUclaViews(frames=4000))
    np.testing.assert_allclose(made.amin((2, 3, 4)).numpy(), -1, atol=1e-6)
    np.testing.assert_allclose(made.amax((2, 3, 4)).numpy(), 1, atol=1e-6)
    other = x * 1.7 + torch.tensor([0.3, -1.0, 2.0])[None, :, None, None, None]
    (moved,) = gcl.nw_ucla_views(other, seeded(4), gcl.NwUclaViews(frames=4000))
    torch.testing.assert_close(moved, made, rtol=0, atol=5e-6)


def test_nw_ucla_evaluation_equals_the_shared_preprocessing():
    lengths = torch.tensor([70, 33, 1, 52])
    x = padded(lengths, 70, 20, 1)
    made = gcl.nw_ucla_evaluation_view(x, lengths=lengths)
    spec = Preprocessing(layout="kinect20", persons=1, frames=52, sampling="linspace", scale="minmax")
    for i, length in enumerate(lengths.tolist()):
        xyz = x[i, :, :length].permute(1, 3, 2, 0).numpy()
        # Equal up to the rounding of the shift, which the batch leaves out.
        centred = normalise(xyz, spec)
        index = np.trunc(np.linspace(0, length - 1, 52)).astype(int)
        np.testing.assert_allclose(made[i].numpy(), centred[index].transpose(3, 0, 2, 1), atol=1e-6)
        sequence = SkeletonSequence(xyz, np.arange(length) / 30, "kinect20")
        np.testing.assert_allclose(made[i].numpy(), preprocess(sequence, spec), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 3), t=st.integers(1, 12), m=st.integers(1, 2), seed=st.integers(0, 99))
def test_shapes_and_seed(n: int, t: int, m: int, seed: int):
    lengths = torch.randint(1, t + 1, (n,), generator=seeded(seed))
    x = padded(lengths, t, 20, m)
    for views, how in ((gcl.nw_ucla_views, gcl.NwUclaViews()), (gcl.views, gcl.SkeletonGclViews(stream="bone"))):
        (first,) = views(x, seeded(seed), how, lengths, KINECT20)
        (second,) = views(x, seeded(seed), how, lengths, KINECT20)
        assert first.shape == (n, 3, how.frames, 20, m) and torch.isfinite(first).all()
        assert torch.equal(first, second)
