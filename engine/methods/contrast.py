"""InfoNCE and HiCLR's hierarchical terms of several queries against one queue, without keeping similarity matrices.

A batch of 128 has four million similarities per branch. Their gradients with respect to the queries are known in closed
form, so they are computed with the losses, a few rows of the batch at a time, and only vectors are kept: the queue may
be overwritten before the backward pass. Source: hiclr.md, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Similarities held at a time: what stays in a processor's cache, and elsewhere a fraction of what a model needs.
_BLOCK_CPU, _BLOCK = 2**20, 2**25


class Contrast(NamedTuple):
    """Losses ``(B,)``: InfoNCE of branch 0, then the terms of the pairs (0, 1), (1, 2), ...; all means over the batch.

    ``own_key_first`` is the share of rows whose own key is the nearest to branch 0, ``positives`` the mean number of
    positives; both are detached scalars.
    """

    losses: Tensor
    own_key_first: Tensor
    positives: Tensor


def contrast(
    queries: Sequence[Tensor],
    keys: Tensor,
    negatives: Tensor,
    temperature: float,
    mining: Tensor | bool = False,
    asymmetric: bool = True,
) -> Contrast:
    """Losses of B branches, the weakest first; with ``p_b = softmax([z_b . k, z_b . Q] / temperature)``.

    InfoNCE is ``-mean over P of log p_0[j]`` with the own key as the only positive; with mining also the queue's
    nearest row to each branch, each counted once. The term of a pair is ``-sum_j p_(b-1)[j] log p_b[j]``.

    Parameters
    ----------
    queries : sequence of Tensor
        B tensors ``(N, D)`` of unit vectors.
    keys : Tensor
        Unit vectors ``(N, D)``; no gradient.
    negatives : Tensor
        The queue ``(K, D)``; no gradient.
    temperature : float
        The same for all terms.
    mining : bool or bool Tensor
        Nearest neighbours join the positives; a tensor on the queries' device spares a wait for it.
    asymmetric : bool
        The weaker branch of a pair is a target without gradient, as published; False lets it move too.

    Returns
    -------
    Contrast
        Gradients flow to the queries, once (not twice differentiable).
    """
    stacked = torch.stack(list(queries))
    with torch.autocast(stacked.device.type, enabled=False):
        flag = torch.as_tensor(mining, device=stacked.device)
        losses, first, positives = _Contrast.apply(stacked, keys, negatives, temperature, flag, asymmetric)
    return Contrast(losses, first, positives)


class _Contrast(torch.autograd.Function):
    """Losses ``(B,)``; keeps the gradient of each loss by its own branch and by the branch below, ``(2, B, N, D)``."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, keys: Tensor, negatives: Tensor, temperature: float, mining: Tensor, asymmetric: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        branches, n, _ = z.shape
        keys, negatives = keys.detach().to(z.dtype), negatives.detach().to(z.dtype)
        losses = z.new_zeros(branches)
        counts = z.new_zeros(2)
        grads = torch.zeros_like(z).expand(1 if asymmetric else 2, -1, -1, -1).clone()
        block = _BLOCK_CPU if z.device.type == "cpu" else _BLOCK
        rows = max(1, block // (branches * len(negatives)))
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            _block(z[:, part], keys[part], negatives, temperature, mining, losses, counts, grads[:, :, part])
        ctx.save_for_backward(grads / (n * temperature))
        first, positives = (counts / n).unbind()
        ctx.mark_non_differentiable(first, positives)
        return losses / n, first, positives

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, losses: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (grads,) = ctx.saved_tensors
        weighted = grads * losses.view(1, -1, 1, 1)
        own = weighted[0]
        if len(weighted) == 2:
            # The term of pair b moves branch b - 1 as well.
            own[:-1] += weighted[1, 1:]
        return own, None, None, None, None, None


def _block(
    z: Tensor, keys: Tensor, negatives: Tensor, temperature: float, mining: Tensor, losses: Tensor, counts: Tensor,
    grads: Tensor,
) -> None:  # fmt: skip
    """Add sums over the rows of ``z`` ``(B, r, D)`` to losses and counts, write gradients by the logits times D."""
    branches, r, width = z.shape
    own = (z * keys).sum(-1) / temperature
    logs = torch.matmul(z.reshape(branches * r, width), negatives.T).div_(temperature).view(branches, r, -1)
    highest, nearest = logs.max(-1)
    total = torch.logaddexp(own, logs.logsumexp(-1))
    # From here on logarithms of probabilities: of the own key (B, r), of the queue (B, r, K).
    first = own[0] > highest[0]
    own, logs = own - total, logs.sub_(total.unsqueeze(-1))
    p_own, p = own.exp(), logs.exp()

    # InfoNCE: a neighbour that several branches found counts once.
    fresh = [torch.ones_like(first) & mining]
    for b in range(1, branches):
        fresh.append((nearest[:b] != nearest[b]).all(0) & mining)
    new = torch.stack(fresh).to(z.dtype)
    number = 1 + new.sum(0)
    of_nearest = logs[0].gather(1, nearest.T).T
    losses[0] -= ((own[0] + (new * of_nearest).sum(0)) / number).sum()
    counts[0] += first.sum()
    counts[1] += number.sum()

    mean = torch.matmul(p.view(branches * r, -1), negatives).view_as(z)
    grads[0] = mean + p_own.unsqueeze(-1) * keys
    target = keys + (new.unsqueeze(-1) * negatives[nearest]).sum(0)
    grads[0, 0] -= target / number.unsqueeze(-1)
    for b in range(1, branches):
        weak, weak_own, strong = p[b - 1], p_own[b - 1], logs[b]
        grads[0, b] -= mean[b - 1] + weak_own.unsqueeze(-1) * keys
        cross = weak * strong
        cross_own = weak_own * own[b]
        value = -(cross.sum(-1) + cross_own)
        losses[b] += value.sum()
        if len(grads) == 2:
            # d/dx of -sum p(x) g = -p (g - sum p g), where -sum p g is the loss itself.
            by_own = (cross_own + value * weak_own).unsqueeze(-1) * keys
            by_queue = torch.matmul(cross, negatives) + value.unsqueeze(-1) * mean[b - 1]
            grads[1, b] = -(by_own + by_queue)
