"""Random parameters: bounds, distribution, and that a seed decides everything."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from engine.data.batch.draws import below, chance, choose, listed, uniform


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uniform_bounds_mean_and_seed():
    drawn = uniform((40_000,), -0.3, 0.3, seeded())
    assert drawn.dtype == torch.float32
    assert drawn.min() >= -0.3 and drawn.max() < 0.3
    assert abs(float(drawn.mean())) < 5 * 0.6 / 12**0.5 / 200
    assert abs(float(drawn.std()) - 0.6 / 12**0.5) < 0.003
    assert torch.equal(drawn, uniform((40_000,), -0.3, 0.3, seeded()))
    assert not torch.equal(drawn, uniform((40_000,), -0.3, 0.3, seeded(1)))


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_chance(probability: float):
    share = chance(20_000, probability, seeded()).double().mean()
    assert abs(float(share) - probability) <= 5 * (probability * (1 - probability) / 20_000) ** 0.5


def test_below_covers_each_range_evenly():
    limits = torch.tensor([1, 2, 17, 300])
    drawn = below(limits, seeded(), (17_000, 4))
    assert (drawn >= 0).all() and (drawn < limits).all()
    assert drawn[:, 0].max() == 0
    counts = drawn[:, 2].bincount(minlength=17).double()
    # Chi-square with 16 degrees of freedom stays below 39 with probability 0.999.
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 39
    assert drawn[:, 3].max() == 299


def test_choose_takes_every_subset_equally_often():
    chosen = choose((20_000,), 5, 2, seeded())
    assert (chosen.sum(-1) == 2).all()
    for a, b in combinations(range(5), 2):
        share = float((chosen[:, a] & chosen[:, b]).double().mean())
        assert abs(share - 0.1) < 5 * (0.09 / 20_000) ** 0.5


def test_choose_edges_and_errors():
    assert not choose((3, 4), 6, 0, seeded()).any()
    assert choose((3, 4), 6, 6, seeded()).all()
    with pytest.raises(ValueError, match="7 of 6"):
        choose((3,), 6, 7, seeded())


def test_listed_names_the_flagged():
    found = listed(torch.tensor([False, True, True, False]))
    assert found is not None and found.tolist() == [1, 2]
