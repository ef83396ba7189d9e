"""CMD's views against a reading of the specification clip by clip, with the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import recipes_i2md as cmd
from engine.data.batch import temporal
from engine.data.batch.sampling import RandomCrop
from engine.data.preprocess import make_stream
from engine.skeleton.layout import KINECT20, NTU25


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 8, t: int = 64, v: int = 25, m: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=seeded(9), dtype=torch.float64)


def slow_view(x: np.ndarray, draw: cmd.CmdDraw, i: int) -> np.ndarray:
    """i2md.md 5, one clip ``(3, T, V, M)``, vector by vector."""
    out = x.copy()
    for t in range(x.shape[1]):
        for v in range(x.shape[2]):
            for m in range(x.shape[3]):
                if draw.sheared[i]:
                    out[:, t, v, m] = draw.shear[i].double().numpy() @ x[:, t, v, m]
                elif draw.joints[i, v] and draw.zeroed[i]:
                    out[:, t, v, m] = 0
                elif draw.joints[i, v]:
                    out[:, t, v, m] = draw.jitter[i].double().numpy() @ x[:, t, v, m]
    return out


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 6), t=st.integers(1, 3), m=st.integers(1, 2), seed=st.integers(0, 99), v=st.sampled_from([20, 25])
)
def test_view_against_one_vector_at_a_time(n: int, t: int, m: int, seed: int, v: int):
    x = clips(n, t, v, m)
    draw = cmd.draw(x, seeded(seed), cmd.CmdViews())
    made = cmd.apply(x, draw)
    for i in range(n):
        np.testing.assert_allclose(made[i].numpy(), slow_view(x[i].numpy(), draw, i), rtol=1e-6, atol=1e-6)
    assert torch.equal(made, cmd.augment(x, seeded(seed)))


def test_exactly_one_change_per_clip_with_the_published_shares():
    x = torch.randn(1, 3, 2, 25, 1, generator=seeded(), dtype=torch.float64).expand(8000, 3, 2, 25, 1)
    made = cmd.augment(x, seeded(1))
    zeroed = (made == 0).all(1).all(1).squeeze(-1).sum(1)
    unchanged = (made == x).all(1).all(1).squeeze(-1).sum(1)
    # A shear leaves no joint as it was, a corruption exactly 10 of 25.
    kinds = {"zero": zeroed == 15, "jitter": (zeroed == 0) & (unchanged == 10), "shear": unchanged == 0}
    for kind, share in (("zero", 0.25), ("jitter", 0.25), ("shear", 0.5)):
        assert abs(float(kinds[kind].double().mean()) - share) < 5 * 0.5 / 8000**0.5
    assert int(sum(k.sum() for k in kinds.values())) == 8000
    # Check 12: the map of a sheared clip has a diagonal of 1 and off-diagonals in -1..1.
    sheared = made[kinds["shear"]][:200].flatten(2)
    fitted = (sheared @ torch.linalg.pinv(x[0].flatten(1))).double()
    assert float((fitted.diagonal(dim1=1, dim2=2) - 1).abs().max()) < 1e-6
    assert float(fitted.abs().max()) < 1 + 1e-6
    assert float((fitted @ x[0].flatten(1) - sheared).abs().max()) < 1e-6


def test_a_shear_in_double_is_one_linear_map():
    """Check 12: diagonal 1, off-diagonals in -1..1, and nothing left over."""
    x = clips(40, t=5)
    made = cmd.augment(x, seeded(3), cmd.CmdViews(shear_share=1.0))
    assert made.dtype == torch.float64
    before, after = x.flatten(2), made.flatten(2)
    fitted = after @ torch.linalg.pinv(before)
    assert float((fitted @ before - after).abs().max()) < 1e-12
    assert float((fitted.diagonal(dim1=1, dim2=2) - 1).abs().max()) < 1e-12
    away = fitted - torch.eye(3, dtype=torch.float64)
    assert 0.9 < float(away.abs().max()) <= 1 + 1e-12 and float(away.min()) < -0.9


def test_absent_person_stays_absent():
    x = clips(32)
    x[..., 1] = 0
    assert not cmd.augment(x, seeded())[..., 1].any()


def test_views_crop_twice_and_change_twice():
    x = torch.randn(6, 3, 300, 25, 2, generator=seeded(2))
    lengths = torch.tensor([300, 200, 100, 64, 40, 1])
    first, second = cmd.views(x, seeded(4), lengths=lengths)
    again = seeded(4)
    crops = [temporal.crop(x, lengths, RandomCrop(64, 0.1, 1.0, 64), again)[0] for _ in range(2)]
    wanted = [cmd.augment(c, again) for c in crops]
    assert first.shape == (6, 3, 64, 25, 2)
    assert torch.equal(first, wanted[0]) and torch.equal(second, wanted[1])
    assert not torch.equal(crops[0][:3], crops[1][:3])
    # Up to 64 frames a crop takes the whole clip.
    assert torch.equal(crops[0][3:], crops[1][3:]) and torch.equal(crops[0][3], x[3, :, :64])
    pair = cmd.views((crops[0], crops[1]), seeded(5))
    again = seeded(5)
    assert torch.equal(pair[0], cmd.augment(crops[0], again)) and torch.equal(pair[1], cmd.augment(crops[1], again))


def test_evaluation_crop_is_the_middle():
    x = torch.arange(300.0)[None, None, :, None, None].expand(1, 3, 300, 25, 2)
    made = cmd.evaluation_crop(x)
    assert made.shape == (1, 3, 64, 25, 2)
    np.testing.assert_allclose(made[0, 0, [0, -1], 0, 0].numpy(), [8.734375, 290.265625])
    assert cmd.training_crop(x, seeded(), cmd.CmdViews(crop_low=0.5, frames=32)).shape[2] == 32


def test_streams_of_one_view():
    view = clips()
    made = cmd.modalities(view)
    assert list(made) == ["joint", "motion", "bone"]
    for name, stream in (("joint", "joint"), ("motion", "joint_motion"), ("bone", "bone")):
        for i in range(len(view)):
            np.testing.assert_array_equal(made[name][i].numpy(), make_stream(view[i].numpy(), stream, NTU25))
    small = cmd.modalities(clips(v=20, m=1), KINECT20)
    assert not small["bone"][:, :, :, 2].any()


def test_too_many_joints():
    with pytest.raises(ValueError, match="corrupted = 26, but the clips have 25"):
        cmd.augment(clips(), seeded(), cmd.CmdViews(corrupted=26))
