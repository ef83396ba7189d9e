"""Pieces of a graph backbone arranged as a processor trains them fastest; same weights, same results.

What the convolution library and the framework do by default costs passes over memory here: reordering for 1x1
convolutions, gradients that are views into larger tensors, pooling element by element. In evaluation, on a GPU and in
an exported graph the usual operations are used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.layers import batch_norm, exporting, init_conv


def trains_on_processor(x: Tensor) -> bool:
    """Whether a pass over ``x`` ``(N, C, T, V)``, lying in memory in that order, is to be differentiated here."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not exporting() and x.is_contiguous()


def batched(matrix: Tensor, rows: Tensor, shift: Tensor | None = None) -> Tensor:
    """``matrix`` ``(A, B)`` times every one of ``rows`` ``(N, B, C)``, plus ``shift`` ``(A, 1)``: ``(N, A, C)``.

    ``matmul`` would copy both; and a lower precision is chosen before the matrix is repeated, not after.
    """
    kind = rows.device.type
    matrix = matrix.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype)
    if exporting():
        product = torch.matmul(matrix, rows)
        return product if shift is None else product + shift
    repeated = matrix.expand(len(rows), -1, -1)
    return torch.bmm(repeated, rows) if shift is None else torch.baddbmm(shift.to(matrix.dtype), repeated, rows)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """1x1 convolution of ``x`` ``(N, C_in, T, V)`` by ``weight`` ``(C_out, C_in, 1, 1)``: one product per clip."""
    if not trains_on_processor(x):
        return functional.conv2d(x, weight, bias)
    n, c, t, v = x.shape
    return batched(weight.flatten(1), x.view(n, c, t * v), bias.unsqueeze(1)).view(n, -1, t, v)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution without stride, computed by :func:`pointwise`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return pointwise(x, self.weight, self.bias)


def pointwise_residual(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """Identity where the shape is kept, else a 1x1 convolution with temporal stride and a batch norm."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    strided = nn.Conv2d(in_channels, out_channels, 1, stride=(stride, 1))
    conv = Pointwise(in_channels, out_channels) if stride == 1 else strided
    return nn.Sequential(init_conv(conv), batch_norm(out_channels))


class MaxOfThree(nn.MaxPool2d):
    """Largest of a frame and its two neighbours, every ``stride``-th frame."""

    def __init__(self, stride: int) -> None:
        super().__init__((3, 1), stride=(stride, 1), padding=(1, 0))
        self.every = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        if not (self.every and trains_on_processor(x)):
            return super().forward(x)
        largest: Tensor = _MaxOfThree.apply(x)
        return largest


class _MaxOfThree(torch.autograd.Function):
    """The gradient goes to the earliest of equals, as that of max-pooling."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clone()
        torch.maximum(out[:, :, 1:], x[:, :, :-1], out=out[:, :, 1:])
        torch.maximum(out[:, :, :-1], x[:, :, 1:], out=out[:, :, :-1])
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, out = ctx.saved_tensors
        grad, rest = torch.zeros_like(x), gradient.clone(memory_format=torch.contiguous_format)
        # What goes to an earlier frame is taken out of what is left for the later ones.
        sent = rest[:, :, 1:] * (x[:, :, :-1] == out[:, :, 1:])
        grad[:, :, :-1] += sent
        rest[:, :, 1:] -= sent
        sent = rest * (x == out)
        grad += sent
        rest -= sent
        grad[:, :, 1:] += rest[:, :, :-1]
        return grad


def join_channels(parts: list[Tensor]) -> Tensor:
    """Concatenate along channels so that every part's gradient lies in one piece.

    The framework's are views into the whole, on which a batch norm's backward pass takes ten times as long.
    """
    if exporting() or not torch.is_grad_enabled():
        return torch.cat(parts, 1)
    joined: Tensor = _Join.apply(*parts)
    return joined


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.widths = [part.shape[1] for part in parts]
        ctx.order = torch.contiguous_format if parts[0].is_contiguous() else torch.channels_last
        return torch.cat(parts, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous(memory_format=ctx.order) for part in gradient.split(ctx.widths, 1))
