"""A convolution along time that costs a third of the multiplications where a processor trains wide layers.

Most of ST-GCN's arithmetic is one 9-tap convolution of 256 channels over 13 frames. Frames are few there, so the
convolution is done where it is a product: at the roots of unity. Every step is a real matrix product; nothing is
approximated, only the order of sums differs from the direct convolution.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.layers import exporting

# Narrower layers spend more on changing over and back than they save; so do small batches.
_LEAST_CHANNELS, _LEAST_ROWS = 64, 256
# Rows (joint of a person) changed over at a time: they stay in the processor's cache.
_ROWS = 400


class TemporalConv(nn.Conv2d):
    """``nn.Conv2d`` with a ``(taps, 1)`` kernel, zero padding to the same length; the same weights and results."""

    def forward(self, x: Tensor) -> Tensor:
        wide = min(self.in_channels, self.out_channels) >= _LEAST_CHANNELS
        if not (wide and self.training and x.device.type == "cpu" and self.stride[0] == 1) or exporting():
            return super().forward(x)
        if torch.compiler.is_compiling() or x.shape[0] * x.shape[3] < _LEAST_ROWS:
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        with torch.autocast("cpu", enabled=False):
            y: Tensor = _Product.apply(x.to(dtype), self.weight.to(dtype), self.bias)
            return y


@functools.lru_cache(maxsize=16)
def tables(frames: int, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices ``into`` (R, frames), ``kernel`` (R, taps) and ``back`` (frames, R), float64.

    ``back @ ((into @ x) * (kernel @ w))`` is ``y[t] = sum_j w[j] x[t + j - taps // 2]`` with zeros beyond the ends.

    Notes
    -----
    A cyclic convolution of odd length L >= frames + taps // 2 holds the wanted frames. At its frequency 0 the product
    is of real numbers, at (L - 1) / 2 others of complex ones, each with three real products (Gauss):
    ``k1 = c (a + b), k2 = a (d - c), k3 = b (c + d)`` give ``(c + id)(a + ib) = (k1 - k3) + i (k1 + k2)``.
    """
    half = taps // 2
    length = (frames + half) | 1
    t = torch.arange(frames, dtype=torch.float64)
    delay = half - torch.arange(taps, dtype=torch.float64)
    into, kernel, back = [torch.ones_like(t)], [torch.ones_like(delay)], [torch.ones_like(t) / length]
    for frequency in range(1, (length + 1) // 2):
        turn = 2 * math.pi * frequency / length
        c, d, a, b = (turn * t).cos(), -(turn * t).sin(), (turn * delay).cos(), -(turn * delay).sin()
        into += [c, d - c, c + d]
        kernel += [a + b, a, b]
        # y[t] = 2 / L (real cos - imaginary sin); the sign of the sine is that of d.
        cosine, sine = 2 / length * c, -2 / length * d
        back += [cosine - sine, -sine, -cosine]
    return torch.stack(into), torch.stack(kernel), torch.stack(back, 1)


class _Product(torch.autograd.Function):
    """``(N, C, T, V)`` and weights ``(O, C, taps, 1)`` to ``(N, O, T, V)``, in memory as x lies.

    ``X = into x`` and ``W = kernel w`` are ``(R, rows, C)`` and ``(R, C, O)``: one product per R, then ``y = back Y``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        into, kernel, back = (table.to(x.dtype) for table in tables(x.shape[2], weight.shape[2]))
        spectrum = _spectrum(weight, kernel)
        out = _empty(x, weight.shape[0])
        rows = out.permute(0, 2, 3, 1)
        for part in _parts(x):
            product = torch.bmm(_change(into, x[part].permute(0, 2, 3, 1)), spectrum)
            torch.add(_unchange(back, product, x.shape[3]), 0 if bias is None else bias.to(x.dtype), out=rows[part])
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        into, kernel, back = (table.to(x.dtype) for table in tables(x.shape[2], weight.shape[2]))
        spectrum = _spectrum(weight, kernel).transpose(1, 2)
        wide = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        by_x = _empty(x, x.shape[1]) if ctx.needs_input_grad[0] else None
        by_spectrum = torch.zeros(len(into), x.shape[1], weight.shape[0], dtype=wide)
        for part in _parts(x):
            by_product = _change(back.t(), grad[part].permute(0, 2, 3, 1))
            if by_x is not None:
                read = _unchange(into.t(), torch.bmm(by_product, spectrum), x.shape[3])
                by_x[part].permute(0, 2, 3, 1).copy_(read)
            changed = _change(into, x[part].permute(0, 2, 3, 1)).transpose(1, 2)
            if wide == x.dtype:
                by_spectrum.baddbmm_(changed, by_product)
            else:
                by_spectrum += torch.bmm(changed, by_product)
        by_weight = torch.einsum("rj,rio->oij", kernel.to(wide), by_spectrum).unsqueeze(3).to(weight.dtype)
        by_bias = grad.sum((0, 2, 3), dtype=wide) if ctx.needs_input_grad[2] else None
        return by_x, by_weight, by_bias


def _empty(x: Tensor, channels: int) -> Tensor:
    n, _, frames, joints = x.shape
    shape = (n, channels, frames, joints)
    order = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=order)


def _spectrum(weight: Tensor, kernel: Tensor) -> Tensor:
    return torch.einsum("rj,oij->rio", kernel, weight[..., 0]).contiguous()


def _parts(x: Tensor) -> list[slice]:
    size = max(1, _ROWS // x.shape[3])
    return [slice(start, start + size) for start in range(0, len(x), size)]


def _change(table: Tensor, x: Tensor) -> Tensor:
    """``(n, T, V, C)`` to ``(R, n V, C)``."""
    n, frames, joints, channels = x.shape
    by_frame = x.transpose(0, 1).reshape(frames, -1)
    return torch.mm(table, by_frame).view(-1, n * joints, channels)


def _unchange(table: Tensor, product: Tensor, joints: int) -> Tensor:
    """``(R, n V, C)`` to ``(n, T, V, C)``."""
    channels = product.shape[2]
    return torch.mm(table, product.view(len(product), -1)).view(len(table), -1, joints, channels).transpose(0, 1)
