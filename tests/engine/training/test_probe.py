"""Nearest neighbours and ridge regression against counting and solving by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from engine.training import probe
from engine.training.features import join
from engine.training.probe import nearest_neighbours, ridge, share_right


def by_hand(train, labels, test, classes, k, temperature):
    """Section 7 of hiclr.md, one test clip at a time."""
    votes = np.zeros((len(test), classes))
    for n, row in enumerate(test):
        similar = [float(row @ other) / float(np.linalg.norm(row) * np.linalg.norm(other)) for other in train]
        nearest = np.argsort(similar)[::-1][:k]
        for i in nearest:
            votes[n, labels[i]] += np.exp((similar[i] - max(similar)) / temperature) if temperature else 1.0
    return votes


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 1.0]))
def test_votes_are_those_counted_by_hand(seed, temperature):
    rng = np.random.default_rng(seed)
    train, test = rng.standard_normal((9, 4)), rng.standard_normal((5, 4))
    labels = rng.integers(0, 3, 9)
    old, probe.CHUNK = probe.CHUNK, 2
    try:
        votes = nearest_neighbours(*map(torch.tensor, (train, labels, test)), 3, [1, 4, 40], temperature)
    finally:
        probe.CHUNK = old
    for k in (1, 4, 40):
        assert np.allclose(votes[k].numpy(), by_hand(train, labels, test, 3, k, temperature), atol=1e-4)


def test_a_training_clip_is_its_own_nearest_neighbour():
    features, labels = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 5
    votes = nearest_neighbours(features, labels, features, 5, [1], 0.1)[1]
    assert share_right(votes, labels) == 1.0
    with pytest.raises(ValueError, match="need training clips"):
        nearest_neighbours(features[:0], labels[:0], features, 5, [1], 0.1)


@pytest.mark.parametrize("width", [3, 50])
def test_ridge_minimises_what_it_says(width):
    generator = torch.Generator().manual_seed(1)
    train, test = (torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (20, 4))
    labels = torch.arange(20) % 3
    x = (train - train.mean(0)) / train.std(0, correction=0)
    y = functional.one_hot(labels, 3).double()
    weight = torch.zeros(width, 3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = (x @ weight - (y - y.mean(0))).square().sum() + 0.1 * 20 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    wanted = ((test - train.mean(0)) / train.std(0, correction=0)) @ weight + y.mean(0)
    assert torch.allclose(ridge(train, labels, test, 3, 0.1).double(), wanted.detach(), atol=1e-4)


def test_features_of_several_encoders_weigh_the_same():
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]])
    assert join([a]) is a
    assert torch.allclose(join([a, b]), torch.tensor([[0.6, 0.8, 0.0, 1.0]]))
    assert torch.allclose(join([a, b], "mean"), torch.tensor([[0.3, 0.9]]))
    with pytest.raises(ValueError, match="no mean"):
        join([a, torch.ones(1, 3)], "mean")
