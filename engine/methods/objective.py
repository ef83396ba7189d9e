"""What all objectives share: the result of a step, and how a step sees the batches of the other processes.

Several processes average their gradients. A loss is therefore scaled so that the mean over the processes of ``loss``
(and of its gradients, and of every part) is what one process would get from all batches together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, distributed

Gather = Callable[[Tensor], Tensor]
"""Rows ``(N, ...)`` of this process to the rows of all P processes ``(P * N, ...)``, as one process would hold them.

Row i of the whole is row i // P of process i % P: so the clip loader deals its batches out.

No gradient has to flow through it. Every process calls it equally often and with equal shapes.
"""


class Outcome(NamedTuple):
    """One step: ``loss`` to minimise, detached scalar ``parts`` for the event log, ``logits`` ``(N, K)`` or None."""

    loss: Tensor
    parts: dict[str, Tensor]
    logits: Tensor | None = None


class SelfSupervised(Protocol):
    """What a self-supervised method is to the training loop: its ``forward``, one training step's loss.

    Parameters
    ----------
    views : tuple of Tensor
        Plain joint clips float32 ``(N, 3, T, V, M)``: one, or several crops of the same sequences.
    lengths : tuple of Tensor
        One per view, int64 ``(N,)``: real frames; zeros stand behind them.
    generator : torch.Generator
        In the same state in every process; each draws its own augmentations from it.
    gather : callable
        Brings what the step needs of all processes together: keys, counts.

    Returns
    -------
    Outcome
        A method says which parts it reports; they are unweighted.

    Raises
    ------
    ValueError
        Views of another number or shape than the method reads.
    """

    def __call__(
        self,
        views: tuple[Tensor, ...],
        lengths: tuple[Tensor, ...],
        generator: torch.Generator,
        gather: Gather,
    ) -> Outcome: ...


def alone(rows: Tensor) -> Tensor:
    """The gather of a single process."""
    return rows


def across_processes(rows: Tensor) -> Tensor:
    """The gather of ``torch.distributed``'s default group; as :func:`alone` where none was started.

    Every process must hold equally many rows.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.detach().contiguous())
    return torch.stack(parts, 1).flatten(0, 1)


def sum_over_processes(local: Tensor, gather: Gather) -> tuple[Tensor, int]:
    """Sum of ``local`` over all processes, with the gradient of the own share only, and the number of processes."""
    shares = gather(local.detach().unsqueeze(0))
    return shares.sum(0) + (local - local.detach()), len(shares)


def scale_gradient(value: Tensor, factor: int) -> Tensor:
    """The value as it is, with ``factor`` times its gradient."""
    return value if factor == 1 else value.detach() + factor * (value - value.detach())


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; anything wider stays, so that a loss can be checked in float64."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
