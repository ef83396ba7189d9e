"""InfoNCE and hierarchical terms against a loop over every similarity, and their gradients against autograd."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from engine.methods import contrast as module
from engine.methods.contrast import contrast

TEMPERATURE = 0.3


def unit(*shape, seed=0):
    drawn = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=-1)


def branches(count=3, n=5, width=4):
    return [unit(n, width, seed=b).requires_grad_() for b in range(count)]


def slow(queries, keys, queue, temperature, mining):
    """hiclr.md 5, one similarity after another."""
    n, number = len(keys), len(queries)
    losses = [0.0] * number
    sizes = 0
    for i in range(n):
        rows = []
        for z in queries:
            logits = [float(torch.dot(z[i], other)) / temperature for other in [keys[i], *queue]]
            total = sum(math.exp(x) for x in logits)
            rows.append([math.exp(x) / total for x in logits])
        positives = {0}
        if mining:
            for row in rows:
                positives.add(max(range(1, len(row)), key=row.__getitem__))
        sizes += len(positives) / n
        losses[0] -= sum(math.log(rows[0][j]) for j in positives) / len(positives) / n
        for b in range(1, number):
            losses[b] -= sum(w * math.log(s) for w, s in zip(rows[b - 1], rows[b], strict=True)) / n
    return losses, sizes


def by_autograd(queries, keys, queue, temperature, mining, asymmetric):
    logits = [torch.cat([(z * keys).sum(1, keepdim=True), z @ queue.T], 1) / temperature for z in queries]
    positive = torch.zeros_like(logits[0])
    positive[:, 0] = 1
    if mining:
        for each in logits:
            positive[torch.arange(len(keys)), 1 + each[:, 1:].argmax(1)] = 1
    logs = [each.log_softmax(1) for each in logits]
    losses = [-((positive * logs[0]).sum(1) / positive.sum(1)).mean()]
    for weak, strong in itertools.pairwise(logs):
        target = weak.exp()
        losses.append(-((target.detach() if asymmetric else target) * strong).sum(1).mean())
    return torch.stack(losses)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("mining", [False, True])
def test_losses_against_the_loop(count, mining):
    queries, keys, queue = branches(count), unit(5, 4, seed=7), unit(9, 4, seed=8)
    result = contrast(queries, keys, queue, TEMPERATURE, mining)
    losses, sizes = slow([z.detach() for z in queries], keys, queue, TEMPERATURE, mining)
    assert result.losses.tolist() == pytest.approx(losses, rel=1e-12)
    assert result.positives.item() == pytest.approx(sizes)
    assert (2 <= sizes <= 1 + count) if mining else sizes == 1
    first = [bool(torch.dot(z, k) > (queue @ z).max()) for z, k in zip(queries[0], keys, strict=True)]
    assert result.own_key_first.item() == pytest.approx(sum(first) / 5)


@pytest.mark.parametrize("asymmetric", [True, False])
@pytest.mark.parametrize("mining", [False, True, torch.tensor(True)])
@pytest.mark.parametrize("block", [1, 2**20])
def test_gradients_against_autograd(monkeypatch, asymmetric, mining, block):
    monkeypatch.setattr(module, "_BLOCK_CPU", block)
    queries, keys, queue = branches(), unit(5, 4, seed=7), unit(9, 4, seed=8)
    weights = torch.tensor([1.0, 0.5, 0.3], dtype=torch.float64)
    (contrast(queries, keys, queue, TEMPERATURE, mining, asymmetric).losses * weights).sum().backward()
    again = branches()
    (by_autograd(again, keys, queue, TEMPERATURE, bool(mining), asymmetric) * weights).sum().backward()
    for z, other in zip(queries, again, strict=True):
        assert torch.allclose(z.grad, other.grad, rtol=1e-10, atol=1e-13)


def test_only_the_stronger_branch_of_a_pair_moves():
    # hiclr.md, check 13.
    for term in range(3):
        queries, keys, queue = branches(), unit(5, 4, seed=7).requires_grad_(), unit(9, 4, seed=8).requires_grad_()
        contrast(queries, keys, queue, TEMPERATURE).losses[term].backward()
        moved = [bool(z.grad.abs().max() > 1e-6) for z in queries]
        assert moved == [b == term for b in range(3)]
        assert keys.grad is None and queue.grad is None


def test_published_value_of_equal_logits():
    # hiclr.md, check 10: a query across all others.
    queries = [torch.tensor([[0.0, 1.0]], dtype=torch.float64)] * 3
    across = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    losses = contrast(queries, across, across.expand(32_768, 2), 0.07).losses
    assert losses.tolist() == pytest.approx([10.397238225511654] * 3, abs=1e-9)
    assert (losses[0] + losses[1:].sum() / 2).item() == pytest.approx(20.7944764510, abs=1e-9)


def logits_to_vectors(*rows):
    """Queries, key and queue whose similarities are the given rows at temperature 1."""
    width = len(rows[0])
    axes = torch.eye(width, dtype=torch.float64)
    return [torch.tensor([row], dtype=torch.float64).requires_grad_() for row in rows], axes[:1], axes[1:]


def test_published_value_of_the_hierarchical_term():
    # hiclr.md, checks 11 and 12.
    queries, key, queue = logits_to_vectors((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
    result = contrast(queries, key, queue, 1.0)
    assert result.losses[1].item() == pytest.approx(1.3395031563, abs=1e-9)
    entropy = result.losses[2].item()
    assert entropy == pytest.approx(0.9753278292, abs=1e-9)
    assert result.losses[1].item() - entropy == pytest.approx(0.3641753271, abs=1e-9)
    result.losses[2].backward()
    assert queries[2].grad.abs().max() < 1e-15, "weak = strong: nothing pulls"


def test_published_value_of_mined_positives():
    # hiclr.md, check 14.
    queries, key, queue = logits_to_vectors((2.0, 1.0, 0.0, -1.0))
    assert contrast(queries, key, queue, 1.0).losses.item() == pytest.approx(0.4401896986, abs=1e-9)
    mined = contrast(queries, key, queue, 1.0, mining=True)
    assert mined.losses.item() == pytest.approx(0.9401896986, abs=1e-9)
    assert mined.positives.item() == 2


def test_the_queue_may_be_overwritten_before_the_backward_pass():
    queries, keys, queue = branches(), unit(5, 4, seed=7), unit(9, 4, seed=8)
    untouched = branches()
    by_autograd(untouched, keys, queue.clone(), TEMPERATURE, False, True).sum().backward()
    losses = contrast(queries, keys, queue, TEMPERATURE).losses
    queue.zero_()
    losses.sum().backward()
    for z, other in zip(queries, untouched, strict=True):
        assert torch.allclose(z.grad, other.grad, rtol=1e-10)


def test_half_precision_outside_changes_nothing_inside():
    # The smallest probabilities of a long queue do not exist in float16 (hiclr.md 9.2, row 10).
    queries = [z.float() for z in branches()]
    keys, queue = unit(5, 4, seed=7).float(), unit(9, 4, seed=8).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = contrast(queries, keys, queue, 0.07).losses
    assert inside.dtype == torch.float32
    assert torch.equal(inside, contrast(queries, keys, queue, 0.07).losses)
