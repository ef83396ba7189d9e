"""Changes of time against loops over clips and frames, and against the numbers of the specifications."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import temporal
from engine.data.batch.sampling import CentreCrop, Linspace, RandomCrop, SortedCopies, Stretch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 4, t: int = 9, v: int = 25, m: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 3, t, v, m, generator=seeded(9), dtype=torch.float64).to(dtype)


def ramp(*lengths: int, frames: int | None = None, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Every coordinate is the frame's number; zeros behind the length."""
    t = frames or max(lengths)
    numbers = torch.arange(t, dtype=dtype) * (torch.arange(t) < torch.tensor(lengths)[:, None])
    return numbers[:, None, :, None, None].expand(len(lengths), 3, t, 25, 2).contiguous()


def track(x: torch.Tensor) -> torch.Tensor:
    """The one number each frame of a ramp holds, ``(N, T)``."""
    assert (x == x[:, :1, :, :1, :1]).all()
    return x[:, 0, :, 0, 0]


def slow_read(x: np.ndarray, position: float) -> np.ndarray:
    position = min(max(position, 0.0), x.shape[1] - 1)
    left = math.floor(position)
    right = min(left + 1, x.shape[1] - 1)
    return x[:, left] + (position - left) * (x[:, right] - x[:, left])


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 3), t=st.integers(1, 6), w=st.integers(1, 7), v=st.sampled_from([20, 25]), m=st.integers(1, 2))
def test_read_at_against_a_loop(n: int, t: int, w: int, v: int, m: int):
    x = clips(n, t, v, m)
    positions = torch.rand(n, w, generator=seeded(1), dtype=torch.float64) * (t + 1) - 1
    made = temporal.read_at(x, positions)
    for i in range(n):
        for j in range(w):
            slow = slow_read(x[i].numpy(), float(positions[i, j]))
            np.testing.assert_allclose(made[i, :, j].numpy(), slow, rtol=1e-12, atol=1e-12)


def test_blocks_cover_the_batch_once():
    for n, frames in ((128, 300), (5, 7000), (3, 2), (1, 1)):
        x = torch.zeros(1).expand(n, 3, frames, 25, 2)
        rows = [i for part in temporal.blocks(x) for i in range(n)[part]]
        assert rows == list(range(n))
    assert len(list(temporal.blocks(torch.zeros(1).expand(128, 3, 300, 25, 2)))) == 12
    assert list(temporal.blocks(torch.empty(64, 3, 300, 25, 2, device="meta"))) == [slice(0, 64)]


@pytest.mark.parametrize("block", [1, 2000, 10**9])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int):
    x, positions = clips(7, 6), torch.rand(7, 5, generator=seeded(), dtype=torch.float64) * 5
    whole = temporal.read_at(x, positions)
    monkeypatch.setattr(temporal, "_BLOCK", block)
    assert torch.equal(temporal.read_at(x, positions), whole)


def test_take_frames_and_whole_positions_agree_exactly():
    x = clips(dtype=torch.float32)
    index = torch.randint(0, 9, (4, 13), generator=seeded())
    made = temporal.take_frames(x, index)
    for i in range(4):
        assert torch.equal(made[i], x[i][:, index[i]])
    assert torch.equal(temporal.read_at(x, index.double()), made)


def test_reading_between_equal_frames_is_exact():
    x = torch.full((1, 3, 2, 25, 2), 0.1)
    assert (temporal.read_at(x, torch.linspace(0, 1, 97)[None]) == x[0, 0, 0, 0, 0]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept_and_input_untouched(dtype: torch.dtype):
    x = clips(dtype=dtype)
    before = x.clone()
    lengths = torch.tensor([9, 5, 1, 8])
    flags = torch.tensor([True, False, True, True])
    for made in (
        temporal.crop(x, lengths, RandomCrop(6, at_least=2), seeded())[0],
        temporal.crop(x, lengths, Stretch(9, 0.1), seeded())[0],
        temporal.reverse(x, flags, lengths),
        temporal.blur(x, temporal.blur_kernel(torch.ones(4)), flags),
    ):
        assert made.dtype == dtype
    assert torch.equal(x, before)


# Crops of the specifications -----------------------------------------------------------------------------------------


def test_resize_of_ramps():
    # i2md.md, check 9: whole clips through the random crop's resize (at_least covers them).
    whole = RandomCrop(64, 1.0, 1.0, 1000)
    made = track(temporal.crop(ramp(128), torch.tensor([128]), whole, seeded())[0])[0]
    np.testing.assert_allclose(made[[0, 1, 2, -1]].numpy(), [0.5, 2.5, 4.5, 126.5])
    made = track(temporal.crop(ramp(32), torch.tensor([32]), whole, seeded())[0])[0]
    np.testing.assert_allclose(made[[0, 1, 2, 3, -2, -1]].numpy(), [0, 0.25, 0.75, 1.25, 30.75, 31])
    x = clips(2, 64)
    assert torch.equal(temporal.crop(x, torch.tensor([64, 64]), whole, seeded())[0], x)
    made = track(temporal.crop(ramp(300), torch.tensor([300]), CentreCrop(64))[0])[0]
    np.testing.assert_allclose(made[[0, -1]].numpy(), [8.734375, 290.265625])


def test_centre_crop_of_padded_ramps():
    # skeletongcl.md, check 11: frames numbered from 1.
    lengths = torch.tensor([100, 40, 20])
    x = ramp(100, 40, 20, frames=300) + 1
    made = track(temporal.crop(x, lengths, CentreCrop(64))[0])[:, [0, 1, 2, 31, 62, 63]]
    wanted = [
        [3.25, 4.75, 6.25, 49.75, 96.25, 97.75],
        [2, 2.390625, 2.984375, 20.203125, 38.609375, 39],
        [1, 1, 1.28125, 10.34375, 20, 20],
    ]
    np.testing.assert_allclose(made.numpy(), wanted)


def test_random_crop_never_reads_padding():
    lengths = torch.randint(1, 300, (64,), generator=seeded())
    x = ramp(*lengths.tolist(), frames=300) + (torch.arange(300) >= lengths[:, None])[:, None, :, None, None] * 1e6
    made, kept = temporal.crop(x, lengths, RandomCrop(64, 0.1), seeded())
    values = track(made)
    assert (values.diff(dim=1) >= 0).all()
    assert (values <= (lengths - 1)[:, None]).all()
    assert (kept == 64).all()


def test_stretch_of_the_specification():
    # gl_transformer.md, check 19, by hand-made factors: u = 5/9.99... is not drawn, so the positions are.
    for wanted, expected in (
        (5, [0.5, 2.5, 4.5, 6.5, 8.5]),
        (20, [0, 0.25, 0.75, *np.arange(1.25, 8.5, 0.5), 8.75, 9]),
        (11, [0, 0.8636, 1.7727]),
    ):
        grid = (torch.arange(wanted, dtype=torch.float64) + 0.5) * 10 / wanted - 0.5
        made = track(temporal.read_at(ramp(10), grid[None]))[0]
        np.testing.assert_allclose(made[: len(expected)].numpy(), expected, atol=5e-5)
    lengths = torch.full((3000,), 100)
    _, kept = temporal.crop(torch.zeros(3000, 1, 100, 1, 1), lengths, Stretch(300, 0.1), seeded())
    assert set(kept.tolist()) == set(range(90, 110))
    _, cut = temporal.crop(torch.zeros(3000, 1, 300, 1, 1), torch.full((3000,), 300), Stretch(300, 0.1), seeded())
    assert set(cut.tolist()) == set(range(270, 301))


def test_stretch_pads_with_zeros_and_empty_clips_become_one_frame():
    x = ramp(10, 1, 0, frames=12) + 1
    made, kept = temporal.crop(x, torch.tensor([10, 1, 0]), Stretch(12, 0.1), seeded())
    for i in range(3):
        assert made[i, :, int(kept[i]) :].abs().sum() == 0
        assert made[i, :, : int(kept[i])].all()
    assert kept[1:].tolist() == [1, 1]


def test_nw_ucla_frames():
    lengths = torch.tensor([1, 3, 201])
    x = ramp(1, 3, 201)
    made = track(temporal.crop(x, lengths, SortedCopies(52, 100), seeded())[0])
    assert (made.diff(dim=1) >= 0).all() and (made <= (lengths - 1)[:, None]).all()
    # Never more than the copies of one index.
    assert made[1].long().bincount().max() <= 100
    made = track(temporal.crop(x, lengths, Linspace(52))[0])
    for i, length in enumerate(lengths.tolist()):
        np.testing.assert_array_equal(made[i].numpy(), np.trunc(np.linspace(0, length - 1, 52)))


def test_crop_takes_its_draws_from_the_generator_alone():
    x, lengths = clips(16, 90), torch.full((16,), 90)
    first = temporal.crop(x, lengths, RandomCrop(64, 0.1), seeded(5))[0]
    assert torch.equal(first, temporal.crop(x, lengths, RandomCrop(64, 0.1), seeded(5))[0])
    assert not torch.equal(first, temporal.crop(x, lengths, RandomCrop(64, 0.1), seeded(6))[0])
    with pytest.raises(ValueError, match="Generator"):
        temporal.crop(x, lengths, RandomCrop(64, 0.1))


# HiCLR's crop --------------------------------------------------------------------------------------------------------


def test_mirror_crop_of_the_specification():
    start = torch.arange(17)
    index = temporal.mirror_crop_frames(start, 50, 6)
    assert index[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0, *range(42)]
    assert index[8].tolist() == list(range(50))
    assert index[16].tolist() == [*range(8, 50), 49, 48, 47, 46, 45, 44, 43, 42]
    assert len({tuple(row) for row in index.tolist()}) == 17


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 20), ratio=st.integers(1, 7), seed=st.integers(0, 99))
def test_mirror_crop_against_padding_a_list(frames: int, ratio: int, seed: int):
    start = temporal.draw_mirror_crop(6, frames, ratio, seeded(seed))
    pad = frames // ratio
    line = list(range(frames))
    longer = line[:pad][::-1] + line + line[frames - pad :][::-1]
    for s, row in zip(start.tolist(), temporal.mirror_crop_frames(start, frames, ratio).tolist(), strict=True):
        assert row == longer[s : s + frames]


def test_mirror_crop_start_is_uniform():
    counts = temporal.draw_mirror_crop(17_000, 50, 6, seeded()).bincount(minlength=17).double()
    assert len(counts) == 17 and float(((counts - 1000) ** 2 / 1000).sum()) < 39


# Reversal, blur, padding ---------------------------------------------------------------------------------------------


def test_reverse_with_and_without_padding():
    x = ramp(6, 4, 6, frames=6) + 1
    flags = torch.tensor([True, True, False])
    assert track(temporal.reverse(x, flags))[0].tolist() == [6, 5, 4, 3, 2, 1]
    made = track(temporal.reverse(x * 1.0, flags, torch.tensor([6, 4, 6])))
    assert made[1].tolist() == [4, 3, 2, 1, 1, 1]
    assert made[2].tolist() == [1, 2, 3, 4, 5, 6]
    y = clips()
    assert torch.equal(temporal.reverse(temporal.reverse(y, torch.ones(4).bool()), torch.ones(4).bool()), y)


def test_blur_of_a_constant():
    # hiclr.md, check 20.
    kernels = temporal.blur_kernel(torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    made = track(temporal.blur(torch.ones(3, 3, 50, 25, 2, dtype=torch.float64), kernels))
    np.testing.assert_allclose(made[:, 25].numpy(), [1.2713415, 2.5066283, 5.0124975], atol=1e-7)
    np.testing.assert_allclose(made[:, 0].numpy(), [1.1356707, 1.7533141, 3.0062488], atol=1e-7)
    assert abs(float(temporal.blur_kernel(torch.tensor([0.1])).sum()) - 1) < 1e-6
    kernels = temporal.blur_kernel(torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), normalised=True)
    made = track(temporal.blur(torch.ones(3, 3, 50, 25, 2, dtype=torch.float64), kernels))
    np.testing.assert_allclose(made[:, 7:43].numpy(), 1.0)


@settings(max_examples=20, deadline=None)
@given(t=st.integers(1, 20), taps=st.sampled_from([1, 3, 15]), m=st.integers(1, 2))
def test_blur_against_a_loop(t: int, taps: int, m: int):
    x = clips(3, t, 20, m)
    sigma = torch.tensor([0.3, 1.0, 1.9], dtype=torch.float64)
    flags = torch.tensor([True, False, True])
    made = temporal.blur(x, temporal.blur_kernel(sigma, taps), flags)
    for i in range(3):
        if not flags[i]:
            assert torch.equal(made[i], x[i])
            continue
        for at in range(t):
            slow = torch.zeros_like(x[i, :, 0])
            for k in range(-(taps // 2), taps // 2 + 1):
                if 0 <= at + k < t:
                    slow += math.exp(-(k**2) / (2 * float(sigma[i]) ** 2)) * x[i, :, at + k]
            np.testing.assert_allclose(made[i, :, at].numpy(), slow.numpy(), rtol=1e-9, atol=1e-12)


def test_blur_where_flags_are_not_looked_up(monkeypatch: pytest.MonkeyPatch):
    x, flags = clips(), torch.tensor([True, False, False, True])
    kernels = temporal.blur_kernel(torch.tensor([0.3, 1.0, 1.5, 1.9], dtype=torch.float64))
    wanted = temporal.blur(x, kernels, flags)
    monkeypatch.setattr(temporal, "listed", lambda flags: None)
    assert torch.equal(temporal.blur(x, kernels, flags), wanted)


def test_blur_wants_an_odd_number_of_taps():
    with pytest.raises(ValueError, match="14"):
        temporal.blur_kernel(torch.ones(2), 14)


def test_frame_mask_and_drop():
    assert temporal.frame_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]
    dropped = temporal.draw_frame_drop(5, 12, 4, seeded())
    assert dropped.shape == (5, 12) and (dropped.sum(1) == 4).all()
    assert len({tuple(row) for row in dropped.tolist()}) > 1
