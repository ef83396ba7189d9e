"""Changes of space on whole batches: linear maps, left-right swap, masked axes, noise.

Every change is a pair: ``draw_...`` gives the random parameters of each clip, a plain function applies them. Linear
maps of one clip multiply into one matrix before they touch the clip. Column vectors: ``x' = R x``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from engine.data.batch.draws import below, chance, choose, listed, uniform
from engine.data.batch.streams import present, take_joints

# Linear maps ---------------------------------------------------------------------------------------------------------


def transform(clips: Tensor, matrices: Tensor) -> Tensor:
    """Apply one matrix per clip, or one per clip and joint, to every coordinate vector.

    Parameters
    ----------
    clips : Tensor
        ``(N, 3, T, V, M)``.
    matrices : Tensor
        ``(N, 3, 3)``, or ``(N, 3, 3, V)`` for a matrix per joint.

    Returns
    -------
    Tensor
        Same shape, dtype and device as the clips. Zeros (absent persons, padding) stay zeros.
    """
    n, _, t, v, m = clips.shape
    matrices = matrices.to(clips)
    # Three multiply-adds: as fast as a batched product of such small matrices, and untouched by TF32 and autocast.
    if matrices.ndim == 3:
        x, weights = clips.reshape(n, 3, t * v * m), matrices[..., None]
    else:
        x = clips.reshape(n, 3, t, v * m)
        weights = matrices[..., None].expand(n, 3, 3, v, m).reshape(n, 3, 3, 1, v * m)
    out = x[:, None, 0] * weights[:, :, 0]
    out.addcmul_(x[:, None, 1], weights[:, :, 1])
    out.addcmul_(x[:, None, 2], weights[:, :, 2])
    return out.view(clips.shape)


def rotation(angles: Tensor) -> Tensor:
    """``Rz(c) Ry(b) Rx(a)``: about x first, then y, then z.

    ``Rx = [[1,0,0],[0,cos,sin],[0,-sin,cos]]``, ``Ry = [[cos,0,-sin],[0,1,0],[sin,0,cos]]``,
    ``Rz = [[cos,sin,0],[-sin,cos,0],[0,0,1]]`` (hiclr.md 4.3, skeletongcl.md 1.4).

    Parameters
    ----------
    angles : Tensor
        ``(N, 3)``, radians, about x, y, z.

    Returns
    -------
    Tensor
        ``(N, 3, 3)``.
    """
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    entries = [
        cz * cy, cz * sy * sx + sz * cx, sz * sx - cz * sy * cx,
        -sz * cy, cz * cx - sz * sy * sx, sz * sy * cx + cz * sx,
        sy, -cy * sx, cy * cx,
    ]  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def draw_angles(count: int, limit: float, generator: torch.Generator, device: torch.device | None = None) -> Tensor:
    """Three angles per clip, each uniform in +-limit radians: the CTR-GCN family's rotation, ``(N, 3)``."""
    return uniform((count, 3), -limit, limit, generator, device)


def draw_axis_angles(
    count: int, main_deg: float, other_deg: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """AimCLR's and HiCLR's rotation: one axis turns by U(0, main), the two others by U(0, other); radians ``(N, 3)``.

    The main axis is uniform on x, y, z and no angle is ever negative (hiclr.md 4.3, row 2).
    """
    limits = torch.full((count, 3), math.radians(other_deg), device=device or generator.device)
    limits.masked_fill_(choose((count,), 3, 1, generator, device), math.radians(main_deg))
    return uniform((count, 3), 0.0, 1.0, generator, device) * limits


def draw_whole_degrees(
    count: int, limits_deg: Sequence[int], generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Whole degrees, uniform on ``{-limit, ..., limit}`` for each axis, as radians ``(N, len(limits_deg))``."""
    limits = torch.tensor(list(limits_deg), device=device or generator.device)
    drawn = below(2 * limits + 1, generator, (count, len(limits))) - limits
    return torch.deg2rad(drawn.float())


def draw_shear(count: int, amplitude: float, generator: torch.Generator, device: torch.device | None = None) -> Tensor:
    """``[[1,a,b],[c,1,d],[e,f,1]]`` with six independent U(-amplitude, amplitude) per clip, ``(N, 3, 3)``.

    HiCLR 0.5 (hiclr.md 4.2), CMD 1 (i2md.md 5), GL-Transformer 0.3 (gl_transformer.md 1.6).
    """
    return shear(uniform((count, 6), -amplitude, amplitude, generator, device))


def shear(factors: Tensor) -> Tensor:
    """Shear matrices ``(N, 3, 3)`` from the off-diagonals ``(N, 6)`` in reading order."""
    out = factors.new_ones((len(factors), 9))
    # Everything between the diagonal's places 0, 4, 8.
    out[:, 1:4], out[:, 5:8] = factors[:, :3], factors[:, 3:]
    return out.view(-1, 3, 3)


def draw_matrices(
    count: int, amplitude: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Full random matrices ``(N, 3, 3)``, nine entries U(-amplitude, amplitude) (CMD's joint jitter, i2md.md 5)."""
    return uniform((count, 3, 3), -amplitude, amplitude, generator, device)


def draw_scale(
    count: int, low: float, high: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Isotropic scale U(low, high) as matrices ``(N, 3, 3)`` (NW-UCLA: 0.5 to 1.5, skeletongcl.md 1.6)."""
    factors = uniform((count, 1, 1), low, high, generator, device)
    return factors * torch.eye(3, device=factors.device)


def draw_axis_mask(
    count: int, probability: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Axes that stay, ``(N, 3)`` of 1 and 0: with the given probability one of x, y, z is 0 (hiclr.md 4.3, row 5)."""
    flags = chance(count, probability, generator, device)
    return (~(choose((count,), 3, 1, generator, device) & flags[:, None])).float()


def mask_axes(clips: Tensor, keep: Tensor) -> Tensor:
    """Set the axes with ``keep == 0`` to zero for the whole clip; ``keep`` is ``(N, 3)`` of 1 and 0."""
    return clips * keep.to(clips)[:, :, None, None, None]


# Left and right ------------------------------------------------------------------------------------------------------


def swap_sides(clips: Tensor, flags: Tensor, mirror: Sequence[int], negate_x: bool = False) -> Tensor:
    """Exchange left and right joints of the flagged clips.

    Parameters
    ----------
    clips : Tensor
        ``(N, 3, T, V, M)``.
    flags : Tensor
        bool ``(N,)``.
    mirror : sequence of int
        ``Layout.mirror``.
    negate_x : bool
        False as published: joints are only relabelled (hiclr.md 4.3 row 1 and 9.2 row 4), which makes a body that is
        twisted, not mirrored. True mirrors x as well.
    """
    flags = flags.to(clips.device)
    plain = torch.arange(len(mirror), device=clips.device)
    swapped = torch.tensor(mirror, device=clips.device)
    out = take_joints(clips, torch.where(flags[:, None], swapped, plain))
    if negate_x:
        out[:, 0] *= (1 - 2 * flags.to(clips.dtype))[:, None, None, None]
    return out


# Noise ---------------------------------------------------------------------------------------------------------------


def draw_noise(
    clips: Tensor, std: float, probability: float, generator: torch.Generator, absent_too: bool = True
) -> Tensor:
    """Gaussian noise of the clips' shape, dtype and device; all zero for the clips that are not chosen.

    As published every number is hit, an absent person's zeros included (hiclr.md 4.3, row 3); ``absent_too=False``
    leaves absent persons and padding at exact zero.
    """
    flags = chance(len(clips), probability, generator, clips.device)
    chosen = listed(flags) if generator.device.type == "cpu" else None
    if chosen is None:
        noise = torch.randn(clips.shape, generator=generator, device=generator.device).to(clips)
        noise *= (flags * std).to(clips.dtype).view(-1, 1, 1, 1, 1)
    else:
        noise = torch.zeros_like(clips)
        drawn = torch.randn((len(chosen), *clips.shape[1:]), generator=generator)
        noise[chosen] = drawn.mul_(std).to(clips.dtype)
    if not absent_too:
        noise *= present(clips)[:, None, :, None]
    return noise
