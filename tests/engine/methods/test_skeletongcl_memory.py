"""Banks, prototypes and the random draw against lists and counts (skeletongcl.md, sections 3.3 and 8)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.methods.memory import ClassQueues, Prototypes, SampleBank
from engine.methods.mining import random_order
from tests.engine.methods.plain_gcl import Queues


def units(n, width, seed=0):
    vectors = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def test_sample_bank_writes_its_rows_and_no_others():
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    bank = SampleBank(labels, 4)
    assert not bank.vectors.any() and not bank.filled.any() and bank.per_class(3).tolist() == [0, 0, 0]
    first, samples = units(3, 4).requires_grad_(), torch.tensor([5, 0, 3])
    bank.remember(first, labels[samples], samples)
    assert torch.equal(bank.vectors[samples], first.detach()) and not bank.vectors.requires_grad
    assert bank.filled.tolist() == [True, False, False, True, False, True]
    assert bank.per_class(3).tolist() == [2, 0, 1]
    second = units(2, 4, seed=1)
    bank.remember(second, labels[[3, 3]], torch.tensor([3, 3]))
    assert torch.equal(bank.vectors[3], second[1]), "of several vectors of a sample the last one stays"
    assert torch.equal(bank.vectors[[5, 0]], first[:2].detach()) and int(bank.filled.sum()) == 3
    bank.remember(second[:0], labels[:0], samples[:0])


def test_an_epoch_fills_all_but_the_dropped_batch():
    n, batch = 150, 64
    bank = SampleBank(torch.arange(n) % 7, 3)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    for b in range(n // batch):
        samples = order[b * batch : (b + 1) * batch]
        bank.remember(units(batch, 3, b), bank.labels[samples], samples)
    assert int(bank.filled.sum()) == 128 and torch.allclose(bank.vectors[bank.filled].norm(dim=1), torch.ones(1))


def test_sample_bank_refuses_what_does_not_fit():
    bank = SampleBank(torch.tensor([0, 1]), 3)
    with pytest.raises(ValueError, match="has 2 rows"):
        bank.remember(units(1, 3), torch.tensor([0]), torch.tensor([2]))
    with pytest.raises(ValueError, match="labels of the batch differ"):
        bank.remember(units(1, 3), torch.tensor([0]), torch.tensor([1]))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=6))
def test_queues_equal_lists(length, batches):
    queues, plain = ClassQueues(3, length, 2), Queues(3, length)
    for b, batch in enumerate(batches):
        labels = torch.tensor(batch)
        vectors = units(len(batch), 2, b)
        queues.remember(vectors, labels, torch.zeros(len(batch), dtype=torch.int64))
        plain.add(vectors, labels)
    for k, members in enumerate(plain.lists):
        mine = queues.filled & (queues.labels == k)
        assert int(mine.sum()) == len(members) == queues.per_class(3)[k]
        kept = {tuple(row) for row in queues.vectors[mine].tolist()}
        assert kept == {tuple(row.tolist()) for row in members}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([0.0, 0.5, 0.85]), st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), max_size=5))
def test_prototypes_equal_one_sample_after_the_other(momentum, batches):
    prototypes = Prototypes(4, 3, momentum).double()
    plain = torch.zeros(4, 3, dtype=torch.float64)
    for b, batch in enumerate(batches):
        vectors = units(len(batch), 3, b).double()
        prototypes.remember(vectors, torch.tensor(batch))
        for vector, label in zip(vectors, batch, strict=True):
            plain[label] = momentum * plain[label] + (1 - momentum) * vector
    assert torch.allclose(prototypes.vectors, plain, rtol=1e-12, atol=1e-14)
    seen = {label for batch in batches for label in batch}
    assert prototypes.seen.tolist() == [k in seen for k in range(4)]


@pytest.mark.parametrize("batch", [1, 5])
def test_published_length_of_a_prototype(batch):
    prototypes, vector = Prototypes(2, 3, 0.85), units(1, 3)
    lengths = []
    for _ in range(0, 10, batch):
        prototypes.remember(vector.repeat(batch, 1), torch.ones(batch, dtype=torch.int64))
        lengths.append(float(prototypes.vectors[1].norm()))
    expected = [1 - 0.85**n for n in range(batch, 11, batch)]
    assert lengths == pytest.approx(expected, rel=1e-5)
    assert lengths[-1] == pytest.approx(0.803, abs=5e-4)
    assert torch.allclose(prototypes.directions()[1], vector[0]) and not prototypes.directions()[0].any()


# The random draw


def test_random_orders_are_permutations_and_depend_on_what_they_should():
    samples = torch.tensor([3, 4, 40_000])
    keys = random_order(samples, 2000, (123, 456))
    assert int(keys.min()) >= 0 and int(keys.max()) < 2**32
    assert all(len(row.unique()) == 2000 for row in keys)
    assert torch.equal(random_order(samples[1:], 2000, (123, 456)), keys[1:]), "the neighbours play no part"
    assert torch.equal(random_order(samples, 500, (123, 456)), keys[:, :500]), "nor does the length of the bank"
    for other in ((124, 456), (123, 457), (2**32 - 1, 0)):
        assert not torch.equal(random_order(samples, 2000, other), keys)


def test_random_draws_are_uniform_and_independent():
    # 10 of 40 entries, for 300 anchors x 40 steps: expected 3000 draws of every entry, deviation about 47.
    counts = torch.zeros(40)
    pairs = torch.zeros(40, 40)
    overlap = []
    for step in range(40):
        seed = torch.randint(2**32, (2,), generator=torch.Generator().manual_seed(step)).tolist()
        chosen = random_order(torch.arange(300), 40, tuple(seed)).topk(10).indices
        members = torch.zeros(300, 40).scatter_(1, chosen, 1)
        assert torch.all(members.sum(1) == 10)
        counts += members.sum(0)
        pairs += members.T @ members
        overlap.append((members[:-1] * members[1:]).sum(1))
    draws = 300 * 40
    assert (counts - draws / 4).abs().max() < 5 * (draws * 0.25 * 0.75) ** 0.5
    both = 10 * 9 / (40 * 39)
    off = pairs[~torch.eye(40, dtype=torch.bool)]
    assert (off - draws * both).abs().max() < 6 * (draws * both * (1 - both)) ** 0.5
    # Neighbouring anchors share 10 * 10 / 40 entries on average, with the hypergeometric deviation.
    shared = torch.cat(overlap)
    deviation = (10 * 0.25 * 0.75 * 30 / 39) ** 0.5
    assert shared.mean().item() == pytest.approx(2.5, abs=5 * deviation / len(shared) ** 0.5)
    assert shared.std().item() == pytest.approx(deviation, rel=0.05)
