"""HiCLR's branches against a reading of the specification clip by clip, with the same draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.data.batch import joints
from engine.data.batch import recipes_hiclr as hiclr
from engine.data.preprocess import make_stream
from engine.skeleton.layout import KINECT20, NTU25, Layout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 4, t: int = 50, v: int = 25, m: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=seeded(9), dtype=torch.float64).to(dtype)


def slow_basic(x: np.ndarray, start: int, shear: np.ndarray, ratio: int) -> np.ndarray:
    """One clip ``(3, T, V, M)`` (hiclr.md 4.2)."""
    frames = x.shape[1]
    pad = frames // ratio
    longer = [*reversed(range(pad)), *range(frames), *reversed(range(frames - pad, frames))]
    return np.stack([np.tensordot(shear, x[:, longer[start + t]], 1) for t in range(frames)], 1)


def slow_normal(x: np.ndarray, draw: hiclr.NormalDraw, i: int, how: hiclr.HiclrViews, layout: Layout) -> np.ndarray:
    """Rows 1 to 6 of the table in hiclr.md 4.3, one after another on one clip."""
    frames = x.shape[1]
    if draw.swap[i]:
        x = x[:, :, list(layout.mirror)].copy()
        if how.swap_mirrors:
            x[0] = -x[0]
    a, b, c = draw.angles[i].double().tolist()
    rx = np.array([[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]])
    ry = np.array([[math.cos(b), 0, -math.sin(b)], [0, 1, 0], [math.sin(b), 0, math.cos(b)]])
    rz = np.array([[math.cos(c), math.sin(c), 0], [-math.sin(c), math.cos(c), 0], [0, 0, 1]])
    for matrix in (rx, ry, rz):
        x = np.tensordot(matrix, x, 1)
    x = x + draw.noise[i].double().numpy()
    if draw.blur[i]:
        half = how.blur_taps // 2
        weights = [math.exp(-(k**2) / (2 * float(draw.sigma[i]) ** 2)) for k in range(-half, half + 1)]
        if how.blur_normalised:
            weights = [w / sum(weights) for w in weights]
        blurred = np.zeros_like(x)
        for t in range(frames):
            for k, weight in zip(range(-half, half + 1), weights, strict=True):
                if 0 <= t + k < frames:
                    blurred[:, t] += weight * x[:, t + k]
        x = blurred
    x = x * draw.keep_axes[i].double().numpy()[:, None, None, None]
    return x[:, ::-1] if draw.reverse[i] else x


VARIANTS = {
    "published": hiclr.HiclrViews(),
    "clean": hiclr.HiclrViews.clean(),
    "everything": hiclr.HiclrViews(swap=1, noise=1, blur=1, axis_mask=1, reverse=1, crop_ratio=2),
    "nothing normal": hiclr.HiclrViews(swap=0, noise=0, blur=0, axis_mask=0, main_deg=0, other_deg=0),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("t", "layout", "m"), [(50, NTU25, 2), (1, NTU25, 1), (7, KINECT20, 1)])
def test_basic_and_normal_against_one_clip_at_a_time(name: str, t: int, layout: Layout, m: int):
    how = VARIANTS[name]
    x = clips(8, t, layout.num_joints, m)
    before = x.clone()
    basic, normal = hiclr.draw_basic(x, seeded(1), how), hiclr.draw_normal(x, seeded(2), how)
    made_basic = hiclr.apply_basic(x, basic, how)
    made = hiclr.apply_basic_normal(x, basic, normal, how, layout)
    for i in range(8):
        slow = slow_basic(x[i].numpy(), int(basic.start[i]), basic.shear[i].double().numpy(), how.crop_ratio)
        np.testing.assert_allclose(made_basic[i].numpy(), slow, rtol=1e-6, atol=1e-6)
        slow = slow_normal(slow, normal, i, how, layout)
        np.testing.assert_allclose(made[i].numpy(), slow, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


def test_views_are_the_branches_in_the_published_order():
    x, how = clips(dtype=torch.float32), hiclr.HiclrViews(stream="bone")
    generator = seeded(3)
    made = hiclr.views(x, generator, how, token=7.0)
    again = seeded(3)
    wanted = [hiclr.apply_basic(x, hiclr.draw_basic(x, again, how), how) for _ in range(2)]
    for _ in range(2):
        basic = hiclr.draw_basic(x, again, how)
        wanted.append(hiclr.apply_basic_normal(x, basic, hiclr.draw_normal(x, again, how), how))
    # The stream is made before the mask: masked bones hold the token itself.
    streamed = [torch.stack([torch.from_numpy(make_stream(c.numpy(), "bone", NTU25)) for c in w]) for w in wanted]
    mask = joints.draw_joint_mask(1, 50, 25, 0.1, again)
    streamed[3] = torch.where(mask[:, None, :, :, None], torch.tensor(7.0), streamed[3])
    assert all(torch.equal(a, b) for a, b in zip(made, streamed, strict=True))
    assert torch.equal(generator.get_state(), again.get_state())


def test_views_differ_between_branches_and_clips_and_repeat_by_seed():
    same = clips(1, dtype=torch.float32).expand(6, 3, 50, 25, 2)
    first, second, other = (hiclr.views(same, seeded(s)) for s in (0, 0, 1))
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
        # Six clips that were equal are now six different ones.
        assert all(not torch.equal(a[i], a[j]) for i in range(6) for j in range(i))
        assert a.dtype == torch.float32 and a.shape == same.shape
    assert all(not torch.equal(first[i], first[j]) for i in range(4) for j in range(i))


def test_strong_view_masks_two_joints_per_frame_for_the_whole_batch():
    view = clips(6, dtype=torch.float32)
    made = hiclr.strengthen(view, seeded(), hiclr.HiclrViews(), token=9.0)
    hit = made == 9.0
    assert (hit == hit[:1, :1, ..., :1]).all()
    assert (hit[0, 0, :, :, 0].sum(1) == 2).all()
    assert torch.equal(made[~hit], view[~hit])
    own = hiclr.strengthen(view, seeded(), hiclr.HiclrViews(mask_per_clip=True, mask_ratio=0.2), token=9.0) == 9.0
    assert (own[:, 0, :, :, 0].sum(2) == 5).all() and not torch.equal(own[0], own[1])
    assert hiclr.strengthen(view, seeded(), hiclr.HiclrViews(strong="none")) is view


def test_strong_view_by_adain_takes_its_style_from_one_shift():
    view = clips(5)
    made = hiclr.strengthen(view, seeded(), hiclr.HiclrViews(strong="adain"))
    means, styles = made.mean((2, 3)), view.mean((2, 3))
    shifts = [s for s in range(1, 4) if torch.allclose(means, styles.roll(-s, 0))]
    assert len(shifts) == 1


def test_token_learns_from_the_strong_branch_only():
    token = torch.nn.Parameter(torch.zeros(()))
    key, basic, normal, strong = hiclr.views(clips(dtype=torch.float32), seeded(), token=token)
    assert strong.requires_grad and not any(v.requires_grad for v in (key, basic, normal))
    strong.sum().backward()
    assert token.grad is not None and float(token.grad) == 4 * 3 * 50 * 2 * 2


def test_frequencies_of_the_normal_set():
    x = torch.zeros(6000, 3, 2, 5, 1)
    draw = hiclr.draw_normal(x, seeded(), hiclr.HiclrViews())
    hits = [draw.swap, draw.noise.flatten(1).any(1), draw.blur, (draw.keep_axes == 0).any(1)]
    for i, hit in enumerate(hits):
        assert abs(float(hit.double().mean()) - 0.5) < 5 * 0.5 / 6000**0.5
        for other in hits[:i]:
            assert abs(float((hit & other).double().mean()) - 0.25) < 5 * (0.1875 / 6000) ** 0.5
    assert not draw.reverse.any()
    assert draw.sigma.min() >= 0.1 and draw.sigma.max() < 2
    assert abs(float(draw.sigma.mean()) - 1.05) < 0.04


def test_nobody_as_published_and_mended():
    x = clips(16, dtype=torch.float32)
    x[..., 1] = 0
    key, basic, normal, _ = hiclr.views(x, seeded(), hiclr.HiclrViews(strong="none"))
    assert not key[..., 1].any() and not basic[..., 1].any()
    # Published: noise turns an absent person into a cloud around the origin in half of the clips.
    haunted = normal[..., 1].flatten(1).any(1)
    assert 0 < int(haunted.sum()) < 16
    clean = hiclr.views(x, seeded(), hiclr.HiclrViews.clean(strong="none"))
    assert not any(view[..., 1].any() for view in clean)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 3), t=st.integers(1, 12), m=st.integers(1, 2), layout=st.sampled_from([NTU25, KINECT20]),
    stream=st.sampled_from(["joint", "bone", "joint_motion", "bone_motion"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_shapes(n: int, t: int, m: int, layout: Layout, stream, seed: int):
    x = clips(n, t, layout.num_joints, m, dtype=torch.float32)
    for view in hiclr.views(x, seeded(seed), hiclr.HiclrViews(stream=stream), layout):
        assert view.shape == x.shape and torch.isfinite(view).all()


def test_settings_are_checked():
    with pytest.raises(ValidationError):
        hiclr.HiclrViews(shaer=0.5)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="14 is even"):
        hiclr.HiclrViews(blur_taps=14)
    with pytest.raises(ValidationError, match="not a range above zero"):
        hiclr.HiclrViews(blur_sigma=(0.0, 2.0))
    assert hiclr.HiclrViews.clean(shear=0.2).shear == 0.2
    assert hiclr.HiclrViews.model_validate_json(hiclr.HiclrViews.clean().model_dump_json()) == hiclr.HiclrViews.clean()
