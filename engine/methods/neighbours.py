"""Dynamic neighbours aggregation: a vector moved towards its nearest rows of a bank, as I2MD's clusters are made.

The published description names the idea only; every choice here is an option with the specification's default (R1).
Source: i2md.md, sections 4.1 and 4.2.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from engine.methods.distillation import SameClips, row_blocks
from engine.methods.objective import at_least_float32


class AggregationSettings(BaseModel):
    """How many neighbours take part in a cluster and how much each weighs (inferred; i2md.md, 4.1 and 4.2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbours: int = Field(8, ge=0, description="Nearest queue entries that may take part; 0: every vector stays.")
    temperature: float = Field(0.05, gt=0, description="Divides similarities before the softmax over the weights.")
    weighting: Literal["softmax", "uniform"] = Field(
        "softmax", description="softmax: near neighbours weigh more. uniform: all that take part weigh the same."
    )
    threshold: float | None = Field(
        None, ge=-1, le=1, description="Only neighbours at least this similar take part; none: all nearest ones."
    )
    include_self: bool = Field(True, description="The vector itself takes part, with similarity 1.")


class Neighbours(NamedTuple):
    """Rows of a bank ``(N, k)`` int64, and which of them may be used ``(N, k)`` bool."""

    rows: Tensor
    usable: Tensor


class Cluster(NamedTuple):
    """Unit vectors ``(N, D)``; what each vector itself weighs in its cluster ``(N,)``, detached; and who else is in it.

    ``members`` is int64 ``(N, k)``: rows of the bank, -1 where a neighbour does not take part.
    """

    vectors: Tensor
    own_weight: Tensor
    members: Tensor


@torch.no_grad()
def nearest(
    vectors: Tensor, bank: Tensor, count: int, written: Tensor | None = None, same: SameClips | None = None
) -> Neighbours:
    """The ``count`` most similar rows of the bank for every vector ``(N, D)``.

    Parameters
    ----------
    bank : Tensor
        ``(K, D)``.
    written : Tensor, optional
        int64 scalar: only the first so many rows hold anything. With fewer than ``count`` no neighbour is usable.
    same : SameClips, optional
        Rows of a vector's own clip are no neighbours.
    """
    count = min(count, len(bank))
    found, usable = [], []
    for part in row_blocks(len(vectors), len(bank), vectors.device):
        # Who is nearest is decided by differences that bf16 can't hold (i2md.md, section 9).
        with torch.autocast(vectors.device.type, enabled=False):
            scores = at_least_float32(vectors[part]).to(bank.dtype) @ bank.T
        if written is not None:
            scores.masked_fill_(torch.arange(len(bank), device=bank.device) >= written, -torch.inf)
        if same is not None:
            scores.masked_fill_(same.rows[part].unsqueeze(1) == same.columns, -torch.inf)
        similar, rows = scores.topk(count, dim=1)
        found.append(rows)
        usable.append(similar > -torch.inf)
    enough = torch.ones((), dtype=torch.bool, device=bank.device) if written is None else written >= count
    return Neighbours(torch.cat(found), torch.cat(usable) & enough)


def aggregate(vectors: Tensor, bank: Tensor, neighbours: Neighbours, settings: AggregationSettings) -> Cluster:
    """``c / |c|`` with ``c = w_0 v + sum_j w_j n_j``, the weights a softmax over similarities to v.

    Gradients flow to ``vectors`` directly and through the weights; the bank is a constant. A vector without any
    neighbour that takes part is its own cluster.

    Parameters
    ----------
    vectors : Tensor
        Unit vectors ``(N, D)``.
    bank : Tensor
        ``(K, D)``.

    Notes
    -----
    Source: i2md.md, 4.1 (DNA).
    """
    if neighbours.rows.shape[1] == 0:
        return Cluster(vectors, torch.ones_like(vectors[:, 0]).detach(), neighbours.rows)
    with torch.autocast(vectors.device.type, enabled=False):
        vectors = at_least_float32(vectors)
        # Not the view of a queue that is written before the backward pass: indexing copies the few rows.
        near = bank.detach()[neighbours.rows].to(vectors.dtype)
        similarity = torch.einsum("nd,nkd->nk", vectors, near)
        takes_part = neighbours.usable
        if settings.threshold is not None:
            takes_part = takes_part & (similarity.detach() >= settings.threshold)
        alone = ~takes_part.any(1, keepdim=True)
        of_self = torch.full_like(similarity[:, :1], 1 / settings.temperature)
        if not settings.include_self:
            of_self = of_self.masked_fill(~alone, -torch.inf)
        others = similarity / settings.temperature
        if settings.weighting == "uniform":
            of_self, others = torch.where(of_self > -torch.inf, 0.0, of_self), torch.zeros_like(others)
        logits = torch.cat([of_self, others.masked_fill(~takes_part, -torch.inf)], 1)
        weights = logits.softmax(1)
        mean = weights[:, :1] * vectors + torch.einsum("nk,nkd->nd", weights[:, 1:], near)
        members = neighbours.rows.masked_fill(~takes_part, -1)
        return Cluster(functional.normalize(mean, dim=1), weights[:, 0].detach(), members)


def mean_cosine(vectors: Tensor) -> Tensor:
    """Mean over groups of the mean cosine between different unit vectors ``(groups, N, D)``; a scalar.

    Near 1 everything has been smoothed into one vector.
    """
    n = vectors.shape[1]
    pairs = vectors.sum(1).square().sum(1) - vectors.square().sum((1, 2))
    return (pairs / max(n * (n - 1), 1)).mean()
