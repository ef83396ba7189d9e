"""GL-Transformer's displacement classes against a loop over tokens and frames, and the ready-made checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import masking


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_targets(x: np.ndarray, length: int, absent: bool, intervals: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """gl_transformer.md 3.1, one clip ``(3, T, V, M)``, one token and frame at a time."""
    _, frames, joints, persons = x.shape
    direction = np.zeros((length, len(intervals) * joints * persons), np.int64)
    magnitude = np.zeros_like(direction)
    for r, n in enumerate(intervals):
        for t in range(length):
            source = max(t - n, 0) if n > 0 else min(t - n, length - 1)
            for v in range(joints):
                for p in range(persons):
                    delta = x[:, source, v, p] - x[:, t, v, p]
                    item = r * joints * persons + 2 * v + p if persons == 2 else r * joints + v
                    digits = [0 if d < 0 else 1 if d == 0 else 2 for d in delta]
                    direction[t, item] = digits[0] + 3 * digits[1] + 9 * digits[2]
                    m = math.sqrt(float((delta**2).sum()))
                    magnitude[t, item] = 0 if m == 0 else min(14, math.floor(m / 0.01) + 1)
                    if p == 1 and absent:
                        magnitude[t, item] = 15
    return direction, magnitude


@settings(max_examples=25, deadline=None)
@given(
    t=st.integers(1, 9), v=st.sampled_from([20, 25]), m=st.integers(1, 2), seed=st.integers(0, 999),
    intervals=st.sampled_from([(1, 5, 10), (1,), (2, -3)]),
)  # fmt: skip
def test_targets_against_a_loop(t: int, v: int, m: int, seed: int, intervals: tuple[int, ...]):
    generator = seeded(seed)
    x = torch.randn(3, 3, t, v, m, generator=generator, dtype=torch.float64) * 0.03
    # Some joints stand still, one clip has no second person, the third clip is padded.
    x[:, :, :, 5:9] = x[:, :, :1, 5:9]
    if m == 2:
        x[1, ..., 1] = 0
    lengths = torch.tensor([t, t, max(1, t - 2)])
    x *= masking.frame_mask(lengths, t)[:, None, :, None, None]
    absent = masking.absent_second(x)
    made = masking.displacement_targets(x, lengths, absent, intervals)
    assert absent.tolist() == [False, m == 2, False]
    assert made.direction.shape == made.magnitude.shape == (3, t, len(intervals) * v * m)
    assert made.direction.dtype == made.magnitude.dtype == torch.int64
    for i in range(3):
        length = int(lengths[i])
        direction, magnitude = slow_targets(x[i].numpy(), length, bool(absent[i]), intervals)
        np.testing.assert_array_equal(made.direction[i, :length].numpy(), direction)
        np.testing.assert_array_equal(made.magnitude[i, :length].numpy(), magnitude)
        assert made.valid[i].tolist() == [True] * length + [False] * (t - length)


def moving(step: tuple[float, float, float], frames: int = 15, joint: int = 5, person: int = 0) -> torch.Tensor:
    """Everybody stands still somewhere; one token moves by ``step`` per frame."""
    x = torch.randn(1, 3, 1, 25, 2, generator=seeded(1), dtype=torch.float64).expand(1, 3, frames, 25, 2).clone()
    x[0, :, 0, joint, person] = 0
    for t in range(frames):
        x[0, :, t, joint, person] = torch.tensor(step, dtype=torch.float64) * t
    return x


# gl_transformer.md, checks 5 to 9: step, direction, magnitudes for n = 1, 5, 10.
KNOWN = [
    ((0.0253, 0, 0), 12, [0, 3, 3, 3], [0, 3, 6, 8, 11, 13, 13], [0, 3, 6, 8, 11, 13, 14, 14]),
    ((0, -0.0053, 0), 16, [0, 1, 1], [0, 1, 2, 2, 3, 3, 3], [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
    ((0, 0, 0.203), 4, [0, 14, 14], [0, 14, 14], [0, 14, 14]),
    ((0.0113, 0, 0.0113), 3, [0, 2, 2], [0, 2, 4, 5, 7, 8, 8], [0, 2, 4, 5, 7, 8, 10, 12, 13, 14, 14]),
    ((0.004, 0.004, 0.004), 0, [0, 1, 1], [0, 1, 2, 3, 3, 4, 4], [0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("step", "direction", "one", "five", "ten"), KNOWN)
@pytest.mark.parametrize(("joint", "person"), [(5, 0), (20, 1)])
def test_known_motions(dtype: torch.dtype, step, direction: int, one, five, ten, joint: int, person: int):
    x = moving(step, joint=joint, person=person).to(dtype)
    made = masking.displacement_targets(x, torch.tensor([15]), masking.absent_second(x))
    token = 2 * joint + person
    for r, sizes in enumerate((one, five, ten)):
        item = r * 50 + token
        assert made.direction[0, :, item].tolist() == [13] + [direction] * 14
        assert made.magnitude[0, : len(sizes), item].tolist() == sizes
    others = [i for i in range(150) if i % 50 != token]
    assert (made.direction[0][:, others] == 13).all() and (made.magnitude[0][:, others] == 0).all()


def test_looking_ahead():
    # Check 11.
    x = moving((0.0253, 0, 0), frames=20)
    made = masking.displacement_targets(x, torch.tensor([20]), masking.absent_second(x), (-5,))
    assert made.direction[0, :, 10].tolist() == [14] * 19 + [13]
    assert made.magnitude[0, 13:, 10].tolist() == [13, 13, 11, 8, 6, 3, 0]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ((1, 0, 0), 12), ((-1, 0, 0), 14), ((0, 1, 0), 10), ((0, -1, 0), 16), ((0, 0, 1), 4), ((0, 0, -1), 22),
        ((1, 1, 1), 0), ((-1, -1, -1), 26), ((1, 0, 1), 3),
    ],
)  # fmt: skip
def test_direction_table(step, expected: int):
    x = moving(step)
    delta = masking.displacement(x, 1, torch.tensor([15]))
    assert (masking.direction_classes(delta)[0, 1:, 5, 0] == expected).all()
    # Check 12: reversed motion.
    back = masking.displacement(x.flip(2), 1, torch.tensor([15]))
    assert (masking.direction_classes(back)[0, 1:, 5, 0] == 26 - expected).all()
    assert torch.equal(masking.magnitude_classes(delta)[:, 1:], masking.magnitude_classes(back)[:, 1:])


def test_absent_second_person():
    # Check 10, and the published quirk: who enters later counts as absent for the whole clip.
    x = torch.randn(3, 3, 12, 25, 2, generator=seeded())
    x[0, ..., 1] = 0
    x[1, :, :4, :, 1] = 0
    absent = masking.absent_second(x)
    assert absent.tolist() == [True, True, False]
    made = masking.displacement_targets(x, torch.full((3,), 12), absent)
    second = torch.arange(150) % 2 == 1
    assert (made.magnitude[:2][..., second] == 15).all()
    assert (made.magnitude[..., ~second] < 15).all() and (made.magnitude[2] < 15).all()
    assert (made.direction[0][..., second] == 13).all()
    assert (made.direction[1, 4][second] != 13).all()
    assert masking.absent_second(x[..., :1]).tolist() == [False] * 3


def test_global_positions():
    everywhere, local = masking.global_positions(25, 2, 20, 3)
    assert everywhere.tolist() == [40, 41, 90, 91, 140, 141] and len(local) == 144
    slip, rest = masking.global_positions(25, 2, 20, 3, "released")
    assert slip.tolist() == [40, 41] and len(rest) == 148
    for pair in ((everywhere, local), (slip, rest)):
        assert sorted(torch.cat(pair).tolist()) == list(range(150))
    assert masking.global_positions(20, 1, 2, 2)[0].tolist() == [2, 22]


def test_token_order():
    x = torch.randn(2, 3, 4, 25, 2, generator=seeded())
    laid_out = masking.tokens(x)
    assert laid_out.shape == (2, 3, 4, 50)
    for v in range(25):
        for p in range(2):
            assert torch.equal(laid_out[..., 2 * v + p], x[..., v, p])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sentinel_there_and_back(dtype: torch.dtype):
    x = torch.randn(3, 3, 6, 25, 2, generator=seeded())
    lengths = torch.tensor([6, 2, 0])
    padded = masking.pad_with_sentinel(x, lengths)
    assert (padded[1, :, 2:] == torch.tensor(99.9)).all() and torch.equal(padded[1, :, :2], x[1, :, :2])
    # Stored in float32 and widened afterwards, as a loader may do.
    valid = masking.valid_from_sentinel(padded.to(dtype))
    assert torch.equal(valid, masking.frame_mask(lengths, 6))
    assert torch.equal(masking.valid_from_sentinel(masking.tokens(padded.to(dtype))), valid)


def test_key_mask_keeps_one_key():
    valid = masking.frame_mask(torch.tensor([3, 0]), 4)
    keys = masking.key_mask(valid)
    assert keys.shape == (2, 1, 1, 4)
    assert keys[:, 0, 0].tolist() == [[True, True, True, False], [True, False, False, False]]
    assert not valid[1].any()
