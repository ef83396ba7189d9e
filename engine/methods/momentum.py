"""What methods of momentum contrast share: a slowly following key encoder, a queue of its outputs, heads, logits.

Several processes (see :mod:`engine.methods.objective`): parameters are equal everywhere, so the key encoders stay equal
by themselves; :meth:`Queue.enqueue` gathers the keys, so every process writes the same rows in the same order and
queues stay equal without being sent around. Batch norms see their own process's batch unless they are made to share.
Nothing is shuffled between processes: the published methods ran on one device. Source: hiclr.md 3, i2md.md 3.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from engine.data.batch.loader import derived_seed
from engine.methods.objective import Gather, alone, at_least_float32


def own_generator(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator on ``device`` for what a process draws for its own clips, seeded by one draw of the shared one.

    ``generator`` is in the same state in every process and stays so; the process's rank makes the difference.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
    return torch.Generator(device=device).manual_seed(derived_seed(seed, rank))


# Encoders and heads --------------------------------------------------------------------------------------------------


def projection_head(
    feature_dim: int, width: int = 128, hidden: int | None = None, deviation: float | None = None
) -> nn.Module:
    """Features ``(N, feature_dim)`` to ``(N, width)``: one linear layer, or linear, ReLU, linear with ``hidden``.

    Parameters
    ----------
    feature_dim : int
        Width of the encoder's features.
    width : int
        Width of the embedding; 128 as published.
    hidden : int, optional
        Width of the hidden layer (HiCLR 256; hiclr.md 2.3); without it there is none.
    deviation : float, optional
        Weights are drawn from ``N(0, deviation)`` with zero biases; default: as the framework has it.
    """
    sizes = (feature_dim, width) if hidden is None else (feature_dim, hidden, width)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        if deviation is not None:
            nn.init.normal_(linear.weight, 0.0, deviation)
            nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def freeze_classifier(encoder: nn.Module) -> nn.Module:
    """The encoder with its classifier out of training: pretraining reads features, and unused weights stop DDP."""
    classifier = getattr(encoder, "classifier", None)
    if isinstance(classifier, nn.Module):
        classifier.requires_grad_(False)
    return encoder


def embed(encoder: nn.Module, head: nn.Module, clips: Tensor) -> Tensor:
    """Clips ``(N, C, T, V, M)`` to unit vectors ``(N, width)``, float32 also under autocast."""
    return functional.normalize(at_least_float32(head(encoder(clips).features)), dim=1)


class MomentumEncoder(nn.Module):
    """Key copy of an encoder and its head that follows them: ``key <- momentum key + (1 - momentum) query``.

    The copy starts equal. Only parameters follow; the copy's batch norms keep running statistics of what they see, in
    the mode of the whole method (training: batch statistics, dropout on). Nothing in it ever has a gradient.

    Parameters
    ----------
    encoder, head : nn.Module
        The query's, already initialised.
    momentum : float
        Share that stays; 0.999 as published.

    Notes
    -----
    Source: hiclr.md 3 and 9.2 row 1, i2md.md 3.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        self.momentum = momentum
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.head = copy.deepcopy(head).requires_grad_(False)

    @torch.no_grad()
    def update(self, encoder: nn.Module, head: nn.Module) -> None:
        """One step towards the query's present weights."""
        mine = list(_parameters(self.encoder, self.head))
        torch._foreach_lerp_(mine, list(_parameters(encoder, head)), 1 - self.momentum)

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Clips ``(N, C, T, V, M)`` to keys: unit vectors ``(N, width)`` without gradient."""
        return embed(self.encoder, self.head, clips)


def _parameters(encoder: nn.Module, head: nn.Module) -> Iterator[Tensor]:
    for module in (encoder, head):
        for parameter in module.parameters():
            yield parameter.detach()


# Queue ---------------------------------------------------------------------------------------------------------------


class Queue(nn.Module):
    """The last ``length`` keys, the oldest leaving first; random directions until it is full.

    Parameters
    ----------
    length, width : int
        K and D.
    generator : torch.Generator
        Draws the first contents: standard normal rows, made unit vectors.

    Attributes
    ----------
    vectors : Tensor
        ``(K, D)``; rows have length 1.
    pointer, seen : Tensor
        int64 scalars: the row written next, and how many keys were ever written (random rows remain while it is
        below K).

    Notes
    -----
    Queues of equal length that are always written together stay aligned: row j of each is of the same clip. Source:
    hiclr.md 3, i2md.md 3.
    """

    vectors: Tensor
    pointer: Tensor
    seen: Tensor

    def __init__(self, length: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        drawn = torch.randn(length, width, generator=generator, device=generator.device)
        self.register_buffer("vectors", functional.normalize(drawn, dim=1).cpu())
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.vectors)

    def snapshot(self) -> Tensor:
        """A copy ``(K, D)`` that a loss may keep for its backward pass while :meth:`enqueue` writes."""
        return self.vectors.clone()

    @torch.no_grad()
    def enqueue(self, keys: Tensor, gather: Gather = alone) -> None:
        """Write this step's keys ``(N, D)`` of all processes at the pointer, going on at row 0 after the last.

        The batch need not divide the queue; of more keys than it has rows the last K stay.
        """
        keys = gather(keys.detach()).to(self.vectors.dtype)
        count, length = len(keys), len(self)
        rows = (self.pointer + torch.arange(count, device=self.pointer.device)) % length
        self.vectors.index_copy_(0, rows[-length:], keys[-length:])
        self.pointer.copy_((self.pointer + count) % length)
        self.seen += count


def contrast_logits(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """``[q . k, q . Q] / temperature``: the own key in column 0, then the queue.

    Parameters
    ----------
    queries, keys : Tensor
        Unit vectors ``(N, D)``.
    negatives : Tensor
        ``(K, D)``; :meth:`Queue.snapshot` where keys are enqueued before the backward pass.
    temperature : float
        0.07 as published.

    Returns
    -------
    Tensor
        ``(N, 1 + K)``; gradients flow to the queries only.

    Notes
    -----
    Source: hiclr.md 5, i2md.md 3.
    """
    with torch.autocast(queries.device.type, enabled=False):
        own = (queries * keys.detach()).sum(1, keepdim=True)
        return torch.cat([own, queries @ negatives.detach().T], 1) / temperature


def info_nce(logits: Tensor) -> Tensor:
    """Mean over rows of ``-log softmax(logits)[0]``, a scalar."""
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
