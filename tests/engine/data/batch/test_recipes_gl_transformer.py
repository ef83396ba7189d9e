"""GL-Transformer's views: order of the changes, what stays untouched, classes of the changed clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import geometric, masking, temporal
from engine.data.batch import recipes_gl_transformer as gl
from engine.data.batch.sampling import Stretch
from engine.skeleton.layout import KINECT20, NTU25


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def padded(lengths: torch.Tensor, t: int = 60, v: int = 25, m: int = 2) -> torch.Tensor:
    x = torch.randn(len(lengths), 3, t, v, m, generator=seeded(9))
    return x * temporal.frame_mask(lengths, t)[:, None, :, None, None]


HOW = gl.GlTransformerViews(frames=60)


def test_stretch_then_shear_then_classes():
    lengths = torch.tensor([60, 45, 12, 1])
    x = padded(lengths)
    x[1, ..., 1] = 0
    out, valid, direction, magnitude = gl.views(x, seeded(1), HOW, lengths)
    again = seeded(1)
    stretched, kept = temporal.crop(x, lengths, Stretch(60, 0.1), again)
    matrices = geometric.draw_shear(4, 0.3, again)
    for i in range(4):
        for v in range(25):
            before = stretched[i, :, :, v]
            wanted = before if v == 20 else (matrices[i] @ before.flatten(1)).view(before.shape)
            torch.testing.assert_close(out[i, :, :, v], wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(out[:, :, :, 20], stretched[:, :, :, 20])
    assert torch.equal(valid, temporal.frame_mask(kept, 60))
    targets = masking.displacement_targets(out, kept, torch.tensor([False, True, False, False]))
    assert torch.equal(direction, targets.direction) and torch.equal(magnitude, targets.magnitude)
    assert direction.shape == (4, 60, 150)
    assert not out[1, ..., 1].any() and (magnitude[1][:, 1::2] == 15).all()


def test_what_stands_still_stays_without_displacement():
    x = torch.randn(5, 3, 1, 25, 2, generator=seeded()).expand(5, 3, 60, 25, 2).contiguous()
    _, valid, direction, magnitude = gl.views(x, seeded(2), HOW)
    # Exact zeros survive the interpolation: classes 13 and 0, not a rounding error's.
    assert (direction[valid] == 13).all() and (magnitude[valid] == 0).all()


@pytest.mark.parametrize(
    ("longer", "expected"),
    [
        (5, {0: 0.5, 1: 2.5, 2: 4.5, 3: 6.5, 4: 8.5}),
        (20, {0: 0.0, 1: 0.25, 2: 0.75, 18: 8.75, 19: 9.0}),
        (11, {0: 0.0, 1: 0.8636, 2: 1.7727, 9: 8.1364, 10: 9.0}),
    ],
)
def test_a_stretched_ramp(longer: int, expected: dict[int, float]):
    # gl_transformer.md, check 19, with the length it wants instead of a drawn one.
    ramp = torch.arange(10.0, dtype=torch.float64).view(1, 1, 10, 1, 1).expand(1, 3, 10, 25, 2)
    at = (torch.arange(longer, dtype=torch.float64) + 0.5) * 10 / longer - 0.5
    out = temporal.read_at(ramp, at[None])
    assert out.shape[2] == longer
    for i, value in expected.items():
        assert (out[0, :, i] - value).abs().max() < 5e-5
    # The same positions as those of the rule, for a stretch by which it happens to reach this length.
    drawn = [Stretch(20, 0.99)(torch.tensor([10]), seeded(seed))[0] for seed in range(400)]
    same = [positions for positions in drawn if int((positions >= 0).sum()) == longer]
    assert longer > 19 or same
    assert all(torch.allclose(positions[:longer], at.clamp(0, 9), atol=1e-12) for positions in same)


def test_shear_leaves_path_and_absent_persons_alone():
    # gl_transformer.md, check 20.
    x = torch.randn(4, 3, 9, 25, 2, generator=seeded())
    x[1, ..., 1] = 0
    matrices = geometric.draw_shear(4, 0.3, seeded(1))
    out = gl.shear_local(x, matrices, 20)
    assert torch.equal(out[:, :, :, 20], x[:, :, :, 20]) and not out[1, ..., 1].any()
    assert not torch.equal(out, x) and (matrices.diagonal(dim1=1, dim2=2) == 1).all()
    assert (matrices - torch.eye(3)).abs().max() <= 0.3
    assert torch.equal(gl.shear_local(x, geometric.draw_shear(4, 0.0, seeded(1)), 20), x)


def test_lengths_after_stretching():
    lengths = torch.full((2000,), 50)
    out, kept = gl.augment(torch.ones(2000, 3, 60, 1, 1), seeded(), gl.GlTransformerViews(frames=60, shear=0), lengths)
    assert set(kept.tolist()) == set(range(45, 55))
    assert torch.equal(out.sum((1, 2, 3, 4)), 3.0 * kept)
    plain, same = gl.augment(out, seeded(), gl.GlTransformerViews(frames=60, shear=0, stretch=0), kept)
    assert torch.equal(plain, out) and torch.equal(same, kept)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 3), t=st.integers(1, 15), frames=st.integers(1, 20), m=st.integers(1, 2), seed=st.integers(0, 99),
    layout=st.sampled_from([NTU25, KINECT20]),
)  # fmt: skip
def test_shapes(n: int, t: int, frames: int, m: int, seed: int, layout):
    lengths = torch.randint(0, t + 1, (n,), generator=seeded(seed))
    x = padded(lengths, t, layout.num_joints, m)
    how = gl.GlTransformerViews(frames=frames, intervals=(1, 2))
    out, valid, direction, magnitude = gl.views(x, seeded(seed), how, lengths, layout)
    assert out.shape == (n, 3, frames, layout.num_joints, m)
    assert valid.shape == (n, frames) and valid.any(1).all()
    assert direction.shape == magnitude.shape == (n, frames, 2 * layout.num_joints * m)
    assert not out[~valid[:, None, :, None, None].expand_as(out)].any()
    np.testing.assert_array_equal(direction[:, 0].numpy(), 13)
    again = gl.views(x, seeded(seed), how, lengths, layout)
    assert torch.equal(out, again[0]) and torch.equal(magnitude, again[3])
