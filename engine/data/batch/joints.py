"""Joints and parts that are masked, zeroed, shaken or mixed: CMD's joint corruption and HiCLR's strong set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.data.batch.draws import below, choose, uniform
from engine.skeleton.layout import Layout

# Which joints --------------------------------------------------------------------------------------------------------


def draw_joints(
    count: int, joints: int, chosen: int, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """bool ``(N, V)``: the same ``chosen`` joints in every frame and person of a clip (CMD: 15 of 25, i2md.md 5)."""
    return choose((count,), joints, chosen, generator, device)


def draw_joint_mask(
    count: int, frames: int, joints: int, ratio: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """bool ``(count, T, V)``: ``int(V * ratio)`` joints per frame, independent from frame to frame (hiclr.md 4.4).

    HiCLR draws one mask per batch (``count=1``): 2 of 25 joints at ratio 0.1, 5 at 0.2.
    """
    return choose((count, frames), joints, int(joints * ratio), generator, device)


def draw_part_mask(
    count: int, frames: int, layout: Layout, parts: int, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """bool ``(count, T, V)``: the joints of ``parts`` random limbs per frame (HiCLR's ablation g, hiclr.md 8.5)."""
    groups = torch.zeros(len(layout.limbs), layout.num_joints, device=device or generator.device)
    for row, members in zip(groups, layout.limbs.values(), strict=True):
        row[list(members)] = 1.0
    chosen = choose((count, frames), len(groups), parts, generator, groups.device)
    return (chosen.unsqueeze(-1) & groups.bool()).any(-2)


def same_in_all_frames(mask: Tensor) -> Tensor:
    """The mask of the first frame for every frame (HiCLR's ablation h, hiclr.md 8.5)."""
    return mask[:, :1].expand_as(mask)


# What happens to them ------------------------------------------------------------------------------------------------


def replace(clips: Tensor, mask: Tensor, value: Tensor | float = 0.0) -> Tensor:
    """Replace masked entries of all channels and persons by one number.

    Parameters
    ----------
    clips : Tensor
        ``(N, C, T, V, M)``.
    mask : Tensor
        bool, broadcast to ``(N, T, V)``: ``(1, T, V)`` for the batch, ``(N, 1, V)`` for joints, ``(N, T, 1)`` for
        frames.
    value : Tensor or float
        One number; a parameter of the model gets its gradient (HiCLR's learnable token). As published an absent
        person's masked joints get it too (hiclr.md 4.4).
    """
    n, c, t, v, m = clips.shape
    # Spelled out over joints and persons: a mask that repeats in the innermost axis is four times slower.
    flat = mask.to(clips.device)[..., None].expand(len(mask), t, v, m).reshape(len(mask), 1, t * v * m)
    token = torch.as_tensor(value, dtype=clips.dtype, device=clips.device)
    return torch.where(flat, token, clips.reshape(n, c, t * v * m)).view(clips.shape)


def corruption_matrices(joints: Tensor, jitter: Tensor, matrices: Tensor) -> Tensor:
    """CMD's joint corruption as a matrix per joint, ``(N, 3, 3, V)`` for :func:`.geometric.transform`.

    Parameters
    ----------
    joints : Tensor
        bool ``(N, V)``: corrupted joints; the others keep the identity.
    jitter : Tensor
        bool ``(N,)``: multiply the joints by ``matrices`` instead of setting them to zero.
    matrices : Tensor
        ``(N, 3, 3)``.
    """
    changed = (matrices * jitter[:, None, None])[..., None]
    identity = torch.eye(3, device=matrices.device, dtype=matrices.dtype)[..., None]
    return torch.where(joints[:, None, None], changed, identity)


def draw_partner_shift(count: int, generator: torch.Generator, device: torch.device | None = None) -> Tensor:
    """How far SkeleAdaIN shifts the batch: uniform on ``{1, ..., N-2}``, one int64 number (hiclr.md 4.4).

    Raises
    ------
    ValueError
        A batch of fewer than 3 clips has no such shift.
    """
    if count < 3:
        raise ValueError(f"SkeleAdaIN needs a batch of at least 3 clips, not {count}")
    return 1 + below(torch.tensor(count - 2, device=device or generator.device), generator)


def adain(clips: Tensor, styles: Tensor, axes: Sequence[int] = (2, 3)) -> Tensor:
    """SkeleAdaIN: give the clips the mean and deviation of the styles, per person and channel (hiclr.md 4.4).

    ``(x - mu_x) / sigma_x * sigma_s + mu_s`` with ``sigma = sqrt(unbiased variance + 1e-5)``.

    Parameters
    ----------
    clips, styles : Tensor
        ``(N, C, T, V, M)``; usually the same batch, shifted: ``clips[(arange(N) + n) % N]``.
    axes : sequence of int
        Axes the statistics run over: ``(2, 3)`` frames and joints, ``(3,)`` joints only.

    Notes
    -----
    As published an absent person takes part: an empty clip becomes the style's mean, an empty style shrinks the clip
    to almost nothing (hiclr.md 9.2 row 17).
    """
    axes = tuple(axes)
    mean, style_mean = clips.mean(axes, keepdim=True), styles.mean(axes, keepdim=True)
    deviation = (clips.var(axes, keepdim=True) + 1e-5).sqrt()
    style_deviation = (styles.var(axes, keepdim=True) + 1e-5).sqrt()
    return (clips - mean).mul_(style_deviation / deviation).add_(style_mean)


# Edges of a graph ----------------------------------------------------------------------------------------------------


def drop_edges(graph: Tensor, highest: float, generator: torch.Generator) -> Tensor:
    """HiCLR's edge dropping (off in its release): ``p ~ U(0, highest)``, entries fall with p, the rest gain 1/(1-p).

    Parameters
    ----------
    graph : Tensor
        Any shape: an adjacency ``(3, V, V)`` for the batch or attention maps ``(N, 3, V, V)``.
    """
    p = uniform((1,), 0.0, highest, generator, graph.device)
    keep = uniform(graph.shape, 0.0, 1.0, generator, graph.device) >= p
    return graph * keep / (1 - p).to(graph.dtype)


def add_edges(graph: Tensor, highest: float, generator: torch.Generator, value: Tensor | float = 1.0) -> Tensor:
    """HiCLR's edge adding (off in its release): ``r ~ U(0, highest)``, each zero becomes an edge with probability r.

    Everything is rescaled afterwards, ``(A + I) S / (S + sum I)``, so that the sum of the whole tensor stays.
    """
    r = uniform((1,), 0.0, highest, generator, graph.device)
    new = (uniform(graph.shape, 0.0, 1.0, generator, graph.device) < r) & (graph == 0)
    added = new.to(graph.dtype) * value
    total = graph.sum()
    return (graph + added) * (total / (total + added.sum()))
