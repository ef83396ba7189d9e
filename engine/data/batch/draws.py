"""Random parameters of batch augmentations, always from an explicit generator.

Numbers are drawn on the generator's device and handed over on the clips' device, so one seed gives one result
wherever the clips live; a generator on the clips' device saves the copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Wide enough that taking the remainder favours no result by more than one part in 2**50.
_WIDE = 2**62


def uniform(
    shape: Sequence[int], low: float, high: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """float32 numbers uniform in ``[low, high)``."""
    drawn = torch.rand(tuple(shape), generator=generator, device=generator.device)
    return drawn.mul_(high - low).add_(low).to(device or generator.device)


def chance(count: int, probability: float, generator: torch.Generator, device: torch.device | None = None) -> Tensor:
    """bool ``(count,)``: each True with the given probability, independently."""
    return uniform((count,), 0.0, 1.0, generator, device) < probability


def listed(flags: Tensor) -> Tensor | None:
    """Indices of the True flags where finding them is free (on the CPU); ``None`` where it would stall a device."""
    return flags.nonzero().flatten() if flags.device.type == "cpu" else None


def below(limits: Tensor, generator: torch.Generator, shape: Sequence[int] | None = None) -> Tensor:
    """int64 numbers uniform in ``{0, ..., limit-1}``, on the limits' device.

    Parameters
    ----------
    limits : Tensor
        Integers, at least 1; broadcast against ``shape``.
    shape : sequence of int, optional
        Shape of the result; default is the shape of ``limits``.
    """
    wanted = tuple(limits.shape if shape is None else shape)
    drawn = torch.randint(_WIDE, wanted, generator=generator, device=generator.device)
    return drawn.to(limits.device) % limits


def choose(
    shape: Sequence[int], of: int, count: int, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """bool ``(*shape, of)`` with exactly ``count`` True in the last axis, every subset equally likely.

    Raises
    ------
    ValueError
        ``count`` does not lie in ``0..of``.
    """
    if not 0 <= count <= of:
        raise ValueError(f"can't choose {count} of {of}")
    keys = torch.rand((*shape, of), generator=generator, device=generator.device)
    chosen = torch.zeros((*shape, of), dtype=torch.bool, device=generator.device)
    return chosen.scatter_(-1, keys.topk(count, dim=-1).indices, True).to(device or generator.device)
