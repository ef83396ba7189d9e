"""SkeletonGCL's sampling from a bank and its contrastive rows, for all anchors of a batch at once.

Source: skeletongcl.md, section 3.4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

# Logit of a place that was asked for and could not be filled: its exponential is exactly zero beside any real one, and
# unlike minus infinity it leaves no NaN where a whole set is empty.
ABSENT = -1e4

_LOW_32 = 0xFFFFFFFF


class MiningSettings(BaseModel):
    """How many bank entries an anchor is contrasted with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    positives: int = Field(128, ge=1, description="Least similar entries of the anchor's class.")
    hard_negatives: int = Field(512, ge=0, description="Most similar entries of other classes; 0: no such set.")
    random_negatives: int = Field(512, ge=0, description="Random entries of other classes; 0: no such set.")
    least_positives: int | None = Field(
        None, ge=1, description="Anchors with fewer positives in the bank are skipped; none: as many as asked for."
    )
    least_negatives: int | None = Field(
        None, ge=1, description="Anchors with fewer negatives in the bank are skipped; none: as many as asked for."
    )

    @model_validator(mode="after")
    def _some_negatives(self) -> MiningSettings:
        if self.hard_negatives + self.random_negatives == 0:
            raise ValueError("hard_negatives and random_negatives are both 0: nothing to contrast with")
        return self

    @property
    def sets(self) -> int:
        """Sets of negatives an anchor sees."""
        return (self.hard_negatives > 0) + (self.random_negatives > 0)

    @property
    def fewest_positives(self) -> int:
        """Positives an anchor needs."""
        return self.least_positives or self.positives

    @property
    def fewest_negatives(self) -> int:
        """Negatives an anchor needs."""
        return self.least_negatives or max(self.hard_negatives, self.random_negatives)

    def rows_per_class(self, counts: Tensor) -> Tensor:
        """Contrastive rows of an anchor of each class, given the filled bank entries per class; both int64 ``(K,)``.

        0 for classes whose anchors are skipped.
        """
        negatives = counts.sum() - counts
        valid = (counts >= self.fewest_positives) & (negatives >= self.fewest_negatives)
        return counts.clamp(max=self.positives) * self.sets * valid


class Entries(NamedTuple):
    """The bank as the anchors see it: ``vectors`` ``(R, D)``, ``labels`` int64 ``(R,)``, ``filled`` bool ``(R,)``."""

    vectors: Tensor
    labels: Tensor
    filled: Tensor


def _mix(x: Tensor) -> Tensor:
    """Scramble 32-bit numbers held in int64, in place; different ones stay different."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x31848BAB)):
        # Factors below 2**31 keep the product inside int64.
        x.bitwise_xor_(x >> shift).mul_(factor).bitwise_and_(_LOW_32)
    return x.bitwise_xor_(x >> 16)


def random_order(samples: Tensor, entries: int, seed: tuple[int, int]) -> Tensor:
    """A random key for every (anchor, bank entry), int64 ``(N, R)``, different along a row.

    Sorting a row by its keys shuffles the bank. Keys depend on the step's ``seed`` (two 32-bit numbers), the anchor's
    sample number and the entry only: not on the device, nor on which process holds the anchor.
    """
    anchors = _mix((samples & _LOW_32) ^ seed[0]).add_(seed[1]).bitwise_and_(_LOW_32)
    keys = torch.arange(entries, device=samples.device) ^ _mix(anchors).unsqueeze(1)
    return _mix(_mix(keys).add_(seed[1]).bitwise_and_(_LOW_32))


def contrast_rows(
    anchors: Tensor,
    labels: Tensor,
    samples: Tensor,
    bank: Entries,
    settings: MiningSettings,
    temperature: float,
    seed: tuple[int, int],
) -> Tensor:
    """Sum of every anchor's contrastive rows, ``(N,)``; whether an anchor is valid is for the caller to know.

    Each of an anchor's hardest positives p is contrasted with each set of negatives by itself:
    ``softplus(logsumexp_n(s_n / temperature) - s_p / temperature)``. Where the bank holds fewer entries than asked
    for, those it holds are used.

    Parameters
    ----------
    anchors : Tensor
        Unit vectors ``(N, D)``; gradients flow to them.
    labels, samples : Tensor
        int64 ``(N,)``: the anchors' classes, and sample numbers for the random draw.
    bank : Entries
        Held constant.
    settings : MiningSettings
    temperature : float
        Above 0.
    seed : tuple of int
        Of this step, two numbers of 32 bits.
    """
    similarity = anchors @ bank.vectors.detach().T
    with torch.no_grad():
        own = bank.labels == labels.unsqueeze(1)
        positive, negative = own & bank.filled, ~own & bank.filled
        chosen = [_first(similarity.masked_fill(~positive, torch.inf), settings.positives, largest=False)]
        masks = [positive]
        if settings.hard_negatives:
            chosen.append(_first(similarity.masked_fill(~negative, -torch.inf), settings.hard_negatives))
            masks.append(negative)
        if settings.random_negatives:
            keys = random_order(samples, len(bank.labels), seed).masked_fill_(~negative, -1)
            chosen.append(_first(keys, settings.random_negatives))
            masks.append(negative)
        there = [mask.gather(1, index) for mask, index in zip(masks, chosen, strict=True)]
        sizes = [index.shape[1] for index in chosen]
    # One gather for all sets: its gradient is as large as the similarities.
    logits = (similarity.gather(1, torch.cat(chosen, 1)) / temperature).split(sizes, 1)
    total = torch.zeros_like(logits[0][:, 0])
    for of_set, exists in zip(logits[1:], there[1:], strict=True):
        negatives = of_set.masked_fill(~exists, ABSENT).logsumexp(1, keepdim=True)
        # Not softplus: the framework's is cut off to a straight line beyond 20.
        rows = -functional.logsigmoid(logits[0] - negatives)
        total = total + rows.masked_fill(~there[0], 0).sum(1)
    return total


def _first(values: Tensor, k: int, largest: bool = True) -> Tensor:
    return values.topk(min(k, values.shape[1]), dim=1, largest=largest, sorted=False).indices
