"""Every crop rule against a reading of its paper one clip at a time, with the same random numbers."""

import math

import numpy as np
import pytest
import torch

from engine.data.batch.sampling import (
    PADDING,
    RULES,
    CentreCrop,
    Linspace,
    MirrorCrop,
    RandomCrop,
    Repeat,
    Resize,
    Segments,
    SortedCopies,
    Stretch,
    Window,
)

LENGTHS = [1, 2, 3, 31, 50, 52, 63, 64, 65, 76, 100, 128, 199, 300]
N = torch.tensor(LENGTHS)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(columns, seed=0):
    """The uniform numbers a rule draws, as plain lists."""
    return torch.rand((len(LENGTHS), columns), dtype=torch.float64, generator=rng(seed)).tolist()


def slow_resize(start, length, frames):
    """datasets.md 2.1, read aloud."""
    out = []
    for i in range(frames):
        p = (i + 0.5) * length / frames - 0.5
        out.append(start + min(max(p, 0.0), length - 1))
    return out


def close(found, expected):
    assert found.dtype == torch.float64
    assert np.allclose(found.numpy(), np.array(expected, np.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("low", "high"), [(0.5, 1.0), (0.1, 1.0)])
def test_random_crop(low, high, seed):
    expected = []
    for n, (u, v) in zip(LENGTHS, drawn(2, seed), strict=True):
        p = low + (high - low) * u
        length = min(max(math.floor(p * n), 64), n)
        start = math.floor(v * (n - length + 1))
        assert 0 <= start <= n - length
        expected.append(slow_resize(start, length, 64))
    close(RandomCrop(64, low, high)(N, rng(seed)), expected)


def test_random_crop_spans_what_the_spec_says():
    # i2md.md, check 10: n = 300, r from 0.1: L in [64, 300], P(L = 64) = 0.1296, mean L about 166.7.
    at = RandomCrop(64, 0.1)(torch.full((20000,), 300), rng())
    # The first and last readings lie half a step inside the crop.
    length = ((at[:, 1] - at[:, 0]) * 64).round()
    assert length.min() == 64 and length.max() <= 300
    assert abs(float((length == 64).double().mean()) - 0.1296) < 0.01
    assert abs(float(length.mean()) - 166.7) < 1.5
    short = RandomCrop(64, 0.1)(torch.tensor([40]), rng())
    assert torch.equal(short, Resize(64)(torch.tensor([40])))


@pytest.mark.parametrize(
    ("n", "start", "length"),
    # datasets.md, check 25; i2md.md, check 8; skeletongcl.md, check 10.
    [(100, 2, 96), (32, 0, 32), (300, 7, 286), (128, 3, 122), (64, 1, 62), (40, 1, 38), (39, 0, 39), (20, 0, 20)],
)
def test_centre_crop(n, start, length):
    close(CentreCrop()(torch.tensor([n])), [slow_resize(start, length, 64)])


@pytest.mark.parametrize(
    ("valid", "expected"),
    # skeletongcl.md, check 11, on a ramp 1..valid.
    [
        (100, [3.25, 4.75, 6.25, 49.75, 96.25, 97.75]),
        (40, [2, 2.390625, 2.984375, 20.203125, 38.609375, 39]),
        (20, [1, 1, 1.28125, 10.34375, 20, 20]),
    ],
)
def test_centre_crop_of_a_ramp(valid, expected):
    at = CentreCrop()(torch.tensor([valid]))[0] + 1
    assert np.allclose(at[[0, 1, 2, 31, 62, 63]], expected)


def test_resize():
    # datasets.md, check 26.
    close(Resize(2)(torch.tensor([4])), [[0.5, 2.5]])
    close(Resize(8)(torch.tensor([4])), [[0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]])
    close(Resize(5)(torch.tensor([1])), [[0] * 5])
    # i2md.md, check 9.
    at = Resize(64)(torch.tensor([128, 32]))
    assert at[0, [0, 1, 2, 63]].tolist() == [0.5, 2.5, 4.5, 126.5]
    assert at[1, [0, 1, 2, 3, 62, 63]].tolist() == [0, 0.25, 0.75, 1.25, 30.75, 31]
    close(Resize(50)(N), [slow_resize(0, n, 50) for n in LENGTHS])


@pytest.mark.parametrize("seed", range(5))
def test_mirror_crop(seed):
    expected = []
    for n, (u,) in zip(LENGTHS, drawn(1, seed), strict=True):
        frames = slow_resize(0, n, 50)
        padded = frames[:8][::-1] + frames + frames[-8:][::-1]
        start = math.floor(u * 17)
        expected.append(padded[start : start + 50])
    close(MirrorCrop()(N, rng(seed)), expected)


def test_mirror_crop_takes_each_of_17_starts_equally():
    at = MirrorCrop()(torch.full((17000,), 50), rng())
    shift = at[:, 20].round().long() - 20 + 8
    counts = torch.bincount(shift, minlength=17)
    assert len(counts) == 17 and counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("frames", [20, 300])
def test_stretch(frames, seed):
    expected = []
    for n, (u, v) in zip(LENGTHS, drawn(2, seed), strict=True):
        n = min(n, frames)
        longer = max(1, math.floor(n * (1 + (-1 if u < 0.5 else 1) * 0.1 * v)))
        read = slow_resize(0, n, longer)[:frames]
        expected.append(read + [PADDING] * (frames - len(read)))
    close(Stretch(frames, 0.1)(N, rng(seed)), expected)


def test_stretch_off_takes_frames_as_they_are():
    # gl_transformer.md, 1.5: force-cropped to 300, no resampling.
    assert Stretch()(torch.tensor([3, 400]))[0, :5].tolist() == [0, 1, 2, PADDING, PADDING]
    assert torch.equal(Stretch()(torch.tensor([400]))[0], torch.arange(300.0, dtype=torch.float64))


def test_repeat_goes_round():
    assert Repeat(8)(torch.tensor([3, 8, 11])).tolist() == [
        [0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7],
    ]  # fmt: skip


def test_stretch_reaches_the_lengths_of_the_spec():
    # gl_transformer.md, check 19: 90..109 from 100; 270..300 from 300 (cut).
    for n, low, high in ((100, 90, 109), (300, 270, 300)):
        frames = (Stretch(300, 0.1)(torch.full((20000,), n), rng()) >= 0).sum(1)
        assert frames.min() == low and frames.max() == high


def slow_sorted_copies(n, frames, copies, uniform):
    """Draw items one by one without replacement; an item drawn twice stands for the newest admitted one."""
    items = []
    for i in range(frames):
        last = n * copies - frames + i
        item = math.floor(uniform[i] * (last + 1))
        items.append(last if item in items else item)
    assert len(set(items)) == frames
    return sorted(item // copies for item in items)


@pytest.mark.parametrize("seed", range(5))
def test_sorted_copies(seed):
    expected = [slow_sorted_copies(n, 52, 100, u) for n, u in zip(LENGTHS, drawn(52, seed), strict=True)]
    close(SortedCopies()(N, rng(seed)), expected)


def test_sorted_copies_draws_every_subset_alike():
    # 2 of 2 frames x 2 copies: pairs (0,0), (0,1), (1,1) with probabilities 1/6, 4/6, 1/6.
    at = SortedCopies(2, 2)(torch.full((30000,), 2), rng())
    pairs = torch.bincount((at[:, 0] * 2 + at[:, 1]).long(), minlength=4).double() / 30000
    assert np.allclose(pairs, [1 / 6, 4 / 6, 0, 1 / 6], atol=0.01)
    with pytest.raises(ValueError, match="can't be drawn"):
        SortedCopies(300, 100)(torch.tensor([2]), rng())


def test_linspace_is_the_published_formula():
    expected = [np.trunc(np.linspace(0, n - 1, 52)) for n in LENGTHS]
    close(Linspace()(N), expected)
    # datasets.md, check 41.
    assert Linspace()(torch.tensor([1])).tolist() == [[0] * 52]
    assert Linspace()(torch.tensor([2])).tolist() == [[0] * 51 + [1]]


@pytest.mark.parametrize(("cut", "speed"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_window(cut, speed):
    rule = Window(32, 2.4, 20.0, cut, speed)
    expected = []
    for n, (u, v) in zip(LENGTHS, drawn(2), strict=True):
        factor = 1 + speed * (2 * u - 1)
        times = np.arange(n) / 20.0 * factor
        end = (times[0] + times[-1] + 2.4) / 2 + (2 * v - 1) * cut * 2.4
        at = np.linspace(end - 2.4, end, 32)
        expected.append(np.interp(at, times, np.arange(n)))
    close(rule(N, rng()), expected)


def slow_segments(n, w, uniform):
    """n < w: round and round; n < 2 w: single skips; else a frame of every segment."""
    if n < w:
        start = math.floor(uniform[0] * n)
        return [(start + i) % n for i in range(w)]
    if n < 2 * w:
        gaps = sorted(range(w + 1), key=lambda i: uniform[i])[: n - w]
        return [i + sum(gap <= i for gap in gaps) for i in range(w)]
    bounds = [i * n // w for i in range(w + 1)]
    return [a + math.floor(u * (b - a)) for a, b, u in zip(bounds[:-1], bounds[1:], uniform[1:], strict=True)]


@pytest.mark.parametrize("frames", [20, 48, 100])
def test_segments(frames):
    expected = [slow_segments(n, frames, u) for n, u in zip(LENGTHS, drawn(frames + 1), strict=True)]
    close(Segments(frames)(N, rng()), expected)
    for row, n in zip(Segments(frames)(N), LENGTHS, strict=True):
        middle = [i % n if n < frames else int((i + 0.5) * n / frames) for i in range(frames)]
        assert row.tolist() == middle


@pytest.mark.parametrize("name", RULES)
def test_every_rule_stays_inside_and_depends_on_the_generator_alone(name):
    random = {"stretch": {"stretch": 0.1}, "window": {"cut": 0.3, "speed": 0.2}}.get(name, {})
    rule = RULES[name](**({"frames": 24, "window_s": 2.0, "fps": 30.0} if name == "window" else {}), **random)
    at = rule(N, rng(3))
    assert at.shape == (len(N), rule.frames) and torch.equal(at, rule(N, rng(3)))
    assert bool(((at >= 0) | (at == PADDING)).all()) and bool((at <= (N - 1)[:, None]).all())
    if name in ("random_crop", "mirror_crop", "stretch", "sorted_copies", "window"):
        with pytest.raises(ValueError, match="Generator"):
            rule(N)
