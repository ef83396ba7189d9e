"""Changes of space: every apply against a loop over clips and frames, every draw against its distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import geometric
from engine.data.batch.streams import bone
from engine.skeleton.layout import KINECT20, NTU25


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 4, t: int = 5, v: int = 25, m: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=seeded(9), dtype=torch.float64).to(dtype)


def per_vector(x: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Every vector of one clip ``(3, T, V, M)`` times ``matrices[v]``."""
    out = np.empty_like(x)
    for t in range(x.shape[1]):
        for v in range(x.shape[2]):
            for m in range(x.shape[3]):
                out[:, t, v, m] = matrices[v] @ x[:, t, v, m]
    return out


def slow_rotation(a: float, b: float, c: float) -> np.ndarray:
    ca, sa, cb, sb, cc, sc = math.cos(a), math.sin(a), math.cos(b), math.sin(b), math.cos(c), math.sin(c)
    rx = np.array([[1, 0, 0], [0, ca, sa], [0, -sa, ca]])
    ry = np.array([[cb, 0, -sb], [0, 1, 0], [sb, 0, cb]])
    rz = np.array([[cc, sc, 0], [-sc, cc, 0], [0, 0, 1]])
    return rz @ ry @ rx


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 3), t=st.integers(1, 4), v=st.sampled_from([17, 20, 25]), m=st.integers(1, 2), each=st.booleans()
)
def test_transform_against_a_loop(n: int, t: int, v: int, m: int, each: bool):
    x = clips(n, t, v, m)
    x[..., -1] *= 0 if m == 2 else 1  # an absent second person
    matrices = torch.randn((n, 3, 3, v) if each else (n, 3, 3), generator=seeded(1), dtype=torch.float64)
    made = geometric.transform(x, matrices)
    for i in range(n):
        own = matrices[i].permute(2, 0, 1) if each else matrices[i].expand(v, 3, 3)
        slow = per_vector(x[i].numpy(), own.numpy())
        np.testing.assert_allclose(made[i].numpy(), slow, rtol=1e-12, atol=1e-12)
    assert m == 1 or not made[..., 1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_transform_keeps_dtype_input_and_accepts_strides(dtype: torch.dtype):
    x = clips(dtype=dtype)
    before = x.clone()
    turned = geometric.transform(x, geometric.rotation(geometric.draw_angles(4, 0.3, seeded())))
    assert turned.dtype == dtype and torch.equal(x, before)
    strided = x.permute(0, 1, 2, 4, 3).contiguous().permute(0, 1, 2, 4, 3)
    again = geometric.transform(strided, geometric.rotation(geometric.draw_angles(4, 0.3, seeded())))
    assert torch.equal(turned, again)


def test_rotation_against_the_product_and_the_specification():
    angles = torch.randn(20, 3, generator=seeded(), dtype=torch.float64)
    for row, matrix in zip(angles.tolist(), geometric.rotation(angles).numpy(), strict=True):
        np.testing.assert_allclose(matrix, slow_rotation(*row), atol=1e-14)
    # skeletongcl.md, check 12.
    known = geometric.rotation(torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64))[0]
    wanted = [[0.9363, 0.3130, -0.1593], [-0.2896, 0.9447, 0.1538], [0.1987, -0.0978, 0.9752]]
    np.testing.assert_allclose(known.numpy(), wanted, atol=5e-5)
    # hiclr.md, check 18.
    deg30 = math.radians(30)
    for axis, vector, image in (
        (0, (0, 1, 0), (0, 0.8660254, -0.5)), (1, (1, 0, 0), (0.8660254, 0, 0.5)), (2, (1, 0, 0), (0.8660254, -0.5, 0)),
    ):  # fmt: skip
        angle = torch.zeros(1, 3, dtype=torch.float64)
        angle[0, axis] = deg30
        turned = geometric.rotation(angle)[0] @ torch.tensor(vector, dtype=torch.float64)
        np.testing.assert_allclose(turned.numpy(), image, atol=1e-7)


def test_rotation_keeps_lengths_and_commutes_with_bones():
    x = clips()
    rotation = geometric.rotation(geometric.draw_angles(4, 3.0, seeded()).double())
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4, dtype=torch.float64))
    turned = geometric.transform(x, rotation)
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(bone(turned, NTU25), geometric.transform(bone(x, NTU25), rotation))


def test_angles_of_the_ctrgcn_family():
    angles = geometric.draw_angles(20_000, 0.3, seeded())
    assert angles.abs().max() <= 0.3
    assert (angles.mean(0).abs() < 5 * 0.3 / 3**0.5 / 20_000**0.5).all()
    np.testing.assert_allclose(angles.std(0).numpy(), 0.3 / 3**0.5, rtol=0.02)
    assert np.abs(np.corrcoef(angles.T.numpy()) - np.eye(3)).max() < 0.04


def test_axis_angles_of_hiclr():
    degrees = torch.rad2deg(geometric.draw_axis_angles(30_000, 30.0, 1.0, seeded()))
    assert degrees.min() >= 0 and degrees.max() <= 30
    # Exactly one axis may exceed one degree, each of the three equally often.
    large = degrees > 1.0001
    assert (large.sum(1) <= 1).all()
    shares = large.double().mean(0)
    np.testing.assert_allclose(shares.numpy(), 29 / 30 / 3, atol=5 * (0.22 / 30_000) ** 0.5)
    main = degrees.max(1).values[large.any(1)]
    assert abs(float(main.mean()) - 15.5) < 5 * 29 / 12**0.5 / len(main) ** 0.5
    turned = geometric.rotation(torch.deg2rad(degrees.double()))
    trace = turned.diagonal(dim1=1, dim2=2).sum(1)
    assert float(torch.rad2deg(torch.acos((trace - 1) / 2)).max()) <= 32


def test_whole_degrees_of_nw_ucla():
    degrees = torch.rad2deg(geometric.draw_whole_degrees(24_200, (60, 60), seeded()).double())
    whole = degrees.round()
    assert (degrees - whole).abs().max() < 1e-4
    assert whole.min() == -60 and whole.max() == 60
    counts = (whole[:, 0] + 60).long().bincount(minlength=121).double()
    # Chi-square with 120 degrees of freedom stays below 174 with probability 0.999.
    assert float(((counts - 200) ** 2 / 200).sum()) < 174
    assert abs(float(np.corrcoef(whole.T.numpy())[0, 1])) < 0.04


def test_shear_of_the_specification():
    matrix = geometric.shear(torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], dtype=torch.float64))
    np.testing.assert_allclose((matrix[0] @ torch.tensor([1.0, 2, 3], dtype=torch.float64)).numpy(), [1.8, 3.5, 4.7])
    drawn = geometric.draw_shear(20_000, 0.5, seeded())
    assert (drawn.diagonal(dim1=1, dim2=2) == 1).all()
    off = drawn[:, ~torch.eye(3, dtype=torch.bool)]
    assert off.shape == (20_000, 6) and off.abs().max() <= 0.5
    np.testing.assert_allclose(off.std(0).numpy(), 0.5 / 3**0.5, rtol=0.02)
    assert np.abs(np.corrcoef(off.T.numpy()) - np.eye(6)).max() < 0.04
    x = clips()
    assert torch.equal(geometric.transform(x, geometric.draw_shear(4, 0.0, seeded())), x)
    sheared = drawn[:4].double()
    torch.testing.assert_close(
        bone(geometric.transform(x, sheared), NTU25), geometric.transform(bone(x, NTU25), sheared)
    )


def test_full_matrices_and_scale():
    matrices = geometric.draw_matrices(10_000, 1.0, seeded())
    assert matrices.abs().max() <= 1
    np.testing.assert_allclose(matrices.std(0).numpy(), 1 / 3**0.5, rtol=0.03)
    scale = geometric.draw_scale(10_000, 0.5, 1.5, seeded())
    diagonal = scale.diagonal(dim1=1, dim2=2)
    assert (diagonal == diagonal[:, :1]).all() and diagonal.min() >= 0.5 and diagonal.max() < 1.5
    assert torch.equal(scale, torch.diag_embed(diagonal))
    assert abs(float(diagonal[:, 0].mean()) - 1) < 0.015


def test_axis_mask():
    keep = geometric.draw_axis_mask(30_000, 0.5, seeded())
    zeroed = (keep == 0).sum(1)
    assert set(zeroed.tolist()) == {0, 1}
    assert abs(float(zeroed.double().mean()) - 0.5) < 5 * 0.5 / 30_000**0.5
    np.testing.assert_allclose((keep == 0).double().mean(0).numpy(), 1 / 6, atol=5 * (0.139 / 30_000) ** 0.5)
    x = clips()
    keep = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    made = geometric.mask_axes(x, keep)
    for i in range(4):
        for axis in range(3):
            assert torch.equal(made[i, axis], x[i, axis] * keep[i, axis])


@pytest.mark.parametrize("negate", [False, True])
@pytest.mark.parametrize("layout", [NTU25, KINECT20])
def test_swap_sides(layout, negate: bool):
    x = clips(v=layout.num_joints)
    flags = torch.tensor([True, False, True, False])
    made = geometric.swap_sides(x, flags, layout.mirror, negate_x=negate)
    for i in range(4):
        expected = x[i].clone()
        if flags[i]:
            for joint, other in enumerate(layout.mirror):
                expected[:, :, joint] = x[i][:, :, other]
            expected[0] *= -1 if negate else 1
        assert torch.equal(made[i], expected)
    again = geometric.swap_sides(made, flags, layout.mirror, negate_x=negate)
    assert torch.equal(again, x)


def test_swap_sides_of_the_specification():
    x = clips(1)
    made = geometric.swap_sides(x, torch.tensor([True]), NTU25.mirror)
    pairs = [(4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19), (21, 23), (22, 24)]
    for a, b in pairs:
        assert torch.equal(made[:, :, :, a], x[:, :, :, b]) and torch.equal(made[:, :, :, b], x[:, :, :, a])
    fixed = [0, 1, 2, 3, 20]
    assert torch.equal(made[:, :, :, fixed], x[:, :, :, fixed])
    swapped = geometric.swap_sides(bone(x, NTU25), torch.tensor([True]), NTU25.mirror)
    assert torch.equal(bone(made, NTU25), swapped)


def test_noise_distribution_and_who_gets_it():
    x = torch.zeros(400, 3, 10, 25, 2)
    x[..., 0] = 1.0
    noise = geometric.draw_noise(x, 0.01, 0.5, seeded())
    hit = noise.flatten(1).any(1)
    assert abs(float(hit.double().mean()) - 0.5) < 5 * 0.5 / 400**0.5
    values = noise[hit]
    assert abs(float(values.std()) - 0.01) < 1e-4 and abs(float(values.mean())) < 1e-4
    # Independent between clips, and as published an absent person's zeros get noise too.
    pair = torch.corrcoef(values[:2].flatten(1))
    assert abs(float(pair[0, 1])) < 5 / 1500**0.5
    assert values[..., 1].abs().min() >= 0 and values[..., 1].std() > 0.009
    gentle = geometric.draw_noise(x, 0.01, 0.5, seeded(), absent_too=False)
    assert torch.equal(gentle[..., 0], noise[..., 0]) and not gentle[..., 1].any()


def test_noise_where_flags_are_not_looked_up(monkeypatch: pytest.MonkeyPatch):
    # As on an accelerator: noise is drawn for all clips and switched off for some.
    monkeypatch.setattr(geometric, "listed", lambda flags: None)
    noise = geometric.draw_noise(torch.zeros(400, 3, 10, 25, 2), 0.01, 0.5, seeded())
    hit = noise.flatten(1).any(1)
    assert abs(float(hit.double().mean()) - 0.5) < 5 * 0.5 / 400**0.5
    assert abs(float(noise[hit].std()) - 0.01) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_noise_keeps_dtype_and_seed(dtype: torch.dtype):
    x = clips(dtype=dtype)
    noise = geometric.draw_noise(x, 0.01, 1.0, seeded(3))
    assert noise.dtype == dtype and noise.shape == x.shape
    assert torch.equal(noise, geometric.draw_noise(x, 0.01, 1.0, seeded(3)))
    assert not geometric.draw_noise(x, 0.01, 0.0, seeded(3)).any()
