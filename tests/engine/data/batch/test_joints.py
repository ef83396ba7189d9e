"""Masked, corrupted and mixed joints against loops, and against the numbers of the specifications."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import geometric, joints, temporal
from engine.skeleton.layout import KINECT20, NTU25


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 4, t: int = 5, v: int = 25, m: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=seeded(9), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("ratio", "masked"), [(0.1, 2), (0.2, 5)])
def test_joint_mask_of_hiclr(ratio: float, masked: int):
    mask = joints.draw_joint_mask(1, 4000, 25, ratio, seeded())
    assert mask.shape == (1, 4000, 25) and (mask.sum(-1) == masked).all()
    # Every joint equally often, frames independent of each other.
    np.testing.assert_allclose(mask[0].double().mean(0).numpy(), masked / 25, atol=0.03)
    again = (mask[0, :-1] & mask[0, 1:]).sum(1).double().mean()
    assert abs(float(again) - masked**2 / 25) < 0.05
    same = joints.same_in_all_frames(mask)
    assert same.shape == mask.shape and (same == mask[:, :1]).all()
    # int(), not rounding: 25 * 0.15 = 3.75 joints are 3.
    assert joints.draw_joint_mask(1, 3, 25, 0.15, seeded()).sum(-1).unique().tolist() == [3]
    assert joints.draw_joint_mask(3, 2, 20, ratio, seeded()).sum(-1).unique().tolist() == [int(20 * ratio)]


@pytest.mark.parametrize("layout", [NTU25, KINECT20])
def test_part_mask_covers_whole_limbs(layout):
    mask = joints.draw_part_mask(3, 200, layout, 2, seeded())
    seen = set()
    for row in mask.flatten(0, 1):
        hit = {name for name, members in layout.limbs.items() if row[list(members)].any()}
        assert len(hit) == 2
        assert all(row[list(layout.limbs[name])].all() for name in hit)
        assert int(row.sum()) == sum(len(layout.limbs[name]) for name in hit)
        seen.add(frozenset(hit))
    assert len(seen) == 10


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 3), t=st.integers(1, 4), v=st.sampled_from([20, 25]), m=st.integers(1, 2), kind=st.integers(0, 3)
)
def test_replace_against_a_loop(n: int, t: int, v: int, m: int, kind: int):
    x = clips(n, t, v, m)
    before = x.clone()
    shape = [(1, t, v), (n, t, v), (n, 1, v), (n, t, 1)][kind]
    mask = torch.rand(shape, generator=seeded()) < 0.4
    made = joints.replace(x, mask, 0.25)
    full = mask.expand(n, t, v)
    for i in range(n):
        for f in range(t):
            for j in range(v):
                wanted = torch.full((3, m), 0.25).double() if full[i, f, j] else x[i, :, f, j]
                assert torch.equal(made[i, :, f, j], wanted)
    assert torch.equal(x, before) and made.dtype == x.dtype


def test_token_gets_its_gradient():
    token = torch.nn.Parameter(torch.zeros(()))
    mask = joints.draw_joint_mask(1, 5, 25, 0.1, seeded())
    joints.replace(clips(dtype=torch.float32), mask, token).sum().backward()
    # 4 clips, 3 channels, 5 frames, 2 joints, 2 persons.
    assert token.grad is not None and float(token.grad) == 4 * 3 * 5 * 2 * 2


def test_dropped_frames_go_through_replace():
    x = clips()
    dropped = temporal.draw_frame_drop(4, 5, 2, seeded())
    made = joints.replace(x, dropped[:, :, None])
    assert torch.equal((made == 0).all(1).all(-1).all(-1), dropped)


def test_corruption_changes_exactly_the_chosen_joints():
    x = clips(6)
    x[..., 1] = 0
    chosen = joints.draw_joints(6, 25, 15, seeded())
    jitter = torch.tensor([True, False, True, False, False, True])
    matrices = geometric.draw_matrices(6, 1.0, seeded(1)).double()
    made = geometric.transform(x, joints.corruption_matrices(chosen, jitter, matrices))
    assert (chosen.sum(1) == 15).all()
    for i in range(6):
        for v in range(25):
            if not chosen[i, v]:
                assert torch.equal(made[i, :, :, v], x[i, :, :, v])
            elif jitter[i]:
                wanted = (matrices[i] @ x[i, :, :, v].flatten(1)).view(3, 5, 2)
                torch.testing.assert_close(made[i, :, :, v], wanted)
            else:
                assert not made[i, :, :, v].any()
    assert not made[..., 1].any()


def test_adain_takes_over_mean_and_deviation():
    x, style = clips(t=40) * 3 + 1, clips(t=40).flip(0) * 0.5 - 2
    made = joints.adain(x, style)
    torch.testing.assert_close(made.mean((2, 3)), style.mean((2, 3)))
    torch.testing.assert_close(made.std((2, 3)), style.std((2, 3)), rtol=5e-5, atol=0)
    torch.testing.assert_close(joints.adain(x, x), x, rtol=1e-12, atol=1e-12)
    # hiclr.md, check 24: 0,1,2,3 in the style of 10,14,18,22.
    content = torch.tensor([0.0, 1, 2, 3], dtype=torch.float64).view(1, 1, 4, 1, 1)
    looks = torch.tensor([10.0, 14, 18, 22], dtype=torch.float64).view(1, 1, 4, 1, 1)
    np.testing.assert_allclose(joints.adain(content, looks).flatten().numpy(), [10, 14, 18, 22], atol=1e-4)
    still = joints.adain(x, style, axes=(3,))
    torch.testing.assert_close(still.mean(3), style.mean(3))


def test_adain_of_nobody_as_published():
    x, style = clips(t=40), clips(t=40).flip(0)
    empty = x.clone()
    empty[..., 1] = 0
    made = joints.adain(empty, style)[..., 1]
    torch.testing.assert_close(made, style[..., 1].mean((2, 3), keepdim=True).expand_as(made))
    shrunk = joints.adain(style, empty)[..., 1]
    torch.testing.assert_close(shrunk.std((2, 3)), torch.full((4, 3), 1e-5**0.5).double(), rtol=1e-3, atol=0)


def test_partner_shift():
    drawn = {int(joints.draw_partner_shift(6, seeded(s))) for s in range(60)}
    assert drawn == {1, 2, 3, 4}
    with pytest.raises(ValueError, match="at least 3"):
        joints.draw_partner_shift(2, seeded())


def test_drop_edges_keeps_the_expectation():
    graph = torch.rand(3, 25, 25, generator=seeded(), dtype=torch.float64)
    assert torch.equal(joints.drop_edges(graph, 0.0, seeded()), graph)
    generator = seeded(2)
    mean = torch.stack([joints.drop_edges(graph, 0.1, generator) for _ in range(3000)]).mean(0)
    assert float(((mean - graph) / graph).abs().max()) < 0.05
    once = joints.drop_edges(graph, 0.9, seeded(4))
    kept = once != 0
    ratio = once[kept] / graph[kept]
    assert 0 < int((~kept).sum()) and float(ratio.max() - ratio.min()) < 1e-6


def test_add_edges_keeps_the_sum():
    from engine.skeleton.layout import spatial_partition

    graph = torch.from_numpy(spatial_partition(NTU25)).double()
    made = joints.add_edges(graph, 0.5, seeded())
    torch.testing.assert_close(made.sum(), graph.sum())
    assert ((made == 0) <= (graph == 0)).all() and (made == 0).sum() < (graph == 0).sum()
    assert torch.equal(joints.add_edges(graph, 0.0, seeded()), graph)
