"""Dynamic neighbours aggregation: the specification's checks 23 to 29, and the options against loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from engine.methods.distillation import SameClips
from engine.methods.neighbours import AggregationSettings, aggregate, mean_cosine, nearest


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(drawn, dim=-1)


def vectors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def clusters(v: torch.Tensor, bank: torch.Tensor, **options: object):
    chosen = AggregationSettings.model_validate(options)
    return aggregate(v, bank, nearest(v, bank, chosen.neighbours), chosen)


def slow(v: list[float], bank: list[list[float]], chosen: AggregationSettings) -> list[float]:
    """i2md.md 4.1, one vector."""
    scores = [sum(a * b for a, b in zip(v, row, strict=True)) for row in bank]
    best = sorted(range(len(bank)), key=lambda j: -scores[j])[: chosen.neighbours]
    best = [j for j in best if chosen.threshold is None or scores[j] >= chosen.threshold]
    members = [(scores[j], bank[j]) for j in best]
    if chosen.include_self or not members:
        members.append((1.0, v))
    uniform = chosen.weighting == "uniform"
    weights = [1.0 if uniform else math.exp(score / chosen.temperature) for score, _ in members]
    c = [sum(w * row[d] for w, (_, row) in zip(weights, members, strict=True)) for d in range(len(v))]
    length = math.sqrt(sum(x * x for x in c))
    return [x / length for x in c]


@settings(max_examples=40, deadline=None)
@given(
    k=st.integers(0, 6), columns=st.integers(1, 8), temperature=st.sampled_from([0.05, 0.5]), seed=st.integers(0, 99),
    weighting=st.sampled_from(["softmax", "uniform"]), threshold=st.sampled_from([None, 0.2, 0.8]), own=st.booleans(),
)  # fmt: skip
def test_every_option_against_a_loop(k, columns, temperature, seed, weighting, threshold, own):
    chosen = AggregationSettings(
        neighbours=k, temperature=temperature, weighting=weighting, threshold=threshold, include_self=own
    )
    v, bank = unit(4, 3, seed=seed), unit(columns, 3, seed=seed + 1)
    made = aggregate(v, bank, nearest(v, bank, k), chosen)
    for row, of_row in zip(v.tolist(), made.vectors.tolist(), strict=True):
        assert of_row == pytest.approx(slow(row, bank.tolist(), chosen), abs=1e-9)


def test_values_of_the_specification():
    v, n = vectors([1, 0]), vectors([0.6, 0.8])
    # Check 23: no neighbours, no change.
    assert torch.equal(clusters(v, n, neighbours=0).vectors, v)
    # Check 24: itself in the bank.
    for temperature in (0.01, 0.05, 5):
        made = clusters(v, v, neighbours=1, temperature=temperature)
        assert made.own_weight.item() == pytest.approx(0.5) and made.vectors.tolist() == [[1.0, 0.0]]
    # Check 25.
    made = clusters(v, n, neighbours=1, temperature=0.1)
    assert made.own_weight.item() == pytest.approx(0.982014, abs=1e-6)
    assert made.vectors[0].tolist() == pytest.approx([0.999895, 0.014492], abs=1e-6)
    # Check 26.
    axes = torch.eye(4, dtype=torch.float64)
    warm = clusters(axes[:1], axes[1:], neighbours=3, temperature=1e9)
    assert warm.vectors[0, 0].item() == pytest.approx(0.5)
    sharp = clusters(axes[:1], axes[1:], neighbours=3)
    assert sharp.vectors[0, 0].item() == pytest.approx(1, abs=1e-8)
    assert sharp.vectors[0, 1].item() == pytest.approx(2.06e-9, rel=1e-2)
    # Check 27.
    near = vectors([0.9, math.sqrt(1 - 0.81)])
    own = clusters(v, near, neighbours=1).own_weight.item()
    assert (1 - own) / own == pytest.approx(math.exp(-2)) == pytest.approx(0.1353, abs=1e-4)


def test_length_one_and_order_of_the_bank_does_not_matter():
    v, bank = unit(5, 8), unit(30, 8, seed=1)
    made = clusters(v, bank).vectors
    torch.testing.assert_close(made.norm(dim=1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(clusters(v, bank[torch.randperm(30)]).vectors, made)


def test_gradient_reaches_the_vector_directly_and_through_the_weights_and_never_the_bank():
    v, bank = unit(3, 4).requires_grad_(), unit(9, 4, seed=2).requires_grad_()
    chosen = AggregationSettings(neighbours=3, temperature=0.3)
    found = nearest(v, bank, 3)
    assert torch.autograd.gradcheck(lambda x: aggregate(x, bank, found, chosen).vectors, (v,))
    aggregate(v, bank, found, chosen).vectors.sum().backward()
    assert bank.grad is None and v.grad is not None


def test_rows_not_written_yet_are_no_neighbours():
    v, bank = unit(3, 4), unit(9, 4, seed=2)
    found = nearest(v, bank, 2, torch.tensor(4))
    assert found.usable.all() and bool((found.rows < 4).all())
    # Fewer than asked for: the vector stays as it is.
    few = aggregate(v, bank, nearest(v, bank, 5, torch.tensor(4)), AggregationSettings(neighbours=5))
    torch.testing.assert_close(few.vectors, v)
    assert torch.equal(few.own_weight, torch.ones(3, dtype=torch.float64))


def test_the_own_clip_is_no_neighbour():
    bank = unit(6, 4, seed=2)
    same = SameClips(torch.tensor([1, 2]), torch.tensor([1, 1, 1, 1, 1, 2]))
    found = nearest(bank[:2], bank, 2, same=same)
    assert found.rows[0, 0] == 5 and found.usable[0].tolist() == [True, False]
    assert 5 not in found.rows[1].tolist() and found.usable[1].all()


def test_mean_cosine_against_all_pairs():
    v = unit(2, 5, 3)
    pairs = [float(v[g, i] @ v[g, j]) for g in range(2) for i in range(5) for j in range(5) if i != j]
    assert mean_cosine(v).item() == pytest.approx(sum(pairs) / len(pairs))


def test_neighbours_are_the_same_under_mixed_precision():
    v, bank = unit(64, 16, seed=3).float(), unit(512, 16, seed=4).float()
    wanted = nearest(v, bank, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest(v, bank, 8)
    assert torch.equal(found.rows, wanted.rows)
