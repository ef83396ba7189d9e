"""Batches of clips of different lengths without computing their padding, and attention on them.

Only attention over time joins the frames of a clip. Everything else can run on the real frames of all clips laid end to
end; :class:`Rows` leads from one form to the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Attention kernels for GPUs want heads in multiples of this many numbers; GL-Transformer's have 6 and 300.
_HEAD_STEP = 8


def exporting() -> bool:
    """Whether the forward pass is being recorded instead of run."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


@dataclass(frozen=True)
class Rows:
    """Which frames are computed. Dense: all, ``(N, T, ...)``. Packed: the valid ones only, ``(n, ...)``.

    Parameters
    ----------
    clips, frames : int
        N and T of the dense form.
    """

    clips: int
    frames: int
    valid: Tensor | None = None
    """``(N, T)``; None when every frame is valid."""
    flat: Tensor | None = None
    """Packed: places of the valid frames in ``N * T``."""

    @property
    def keys(self) -> Tensor | None:
        return None if self.valid is None else self.valid[:, None, None, :]

    def pack(self, dense: Tensor) -> Tensor:
        return dense if self.flat is None else dense.flatten(0, 1).index_select(0, self.flat)

    def unpack(self, rows: Tensor) -> Tensor:
        if self.flat is None:
            return rows
        empty = rows.new_zeros(self.clips * self.frames, *rows.shape[1:])
        return empty.index_copy(0, self.flat, rows).view(self.clips, self.frames, *rows.shape[1:])

    def table(self, table: Tensor) -> Tensor:
        """Rows of a table ``(1, T_all, J, D)`` that fit the frames."""
        if self.flat is None:
            return table[:, : self.frames]
        rows = functional.embedding(self.flat % self.frames, table[0].flatten(1))
        return rows.view(-1, *table.shape[2:])

    def drop_path(self, x: Tensor, rate: float, per_clip: bool) -> Tensor:
        """Leave out the branch of random clips (or frames); kept ones are divided by the keep probability."""
        lead = 1 if self.flat is not None else 2
        if per_clip:
            keep = torch.rand(self.clips, device=x.device) >= rate
            keep = keep.view(self.clips, 1) if self.flat is None else keep[self.flat // self.frames]
        else:
            keep = torch.rand(x.shape[:lead], device=x.device) >= rate
        return x * (keep.to(x.dtype) / (1 - rate)).view(*keep.shape, *[1] * (x.dim() - keep.dim()))


def _fused(query: Tensor, key: Tensor, value: Tensor, keys: Tensor | None, dropout: float, step: int) -> Tensor:
    """The library's attention, with heads lengthened by zeros to a multiple of ``step``: the same result."""
    size = int(query.shape[-1])
    missing = -size % step
    if missing:
        query, key, value = (functional.pad(x, (0, missing)) for x in (query, key, value))
    out = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=keys, dropout_p=dropout, scale=size**-0.5
    )
    return out[..., :size] if missing else out


def attend(query: Tensor, key: Tensor, value: Tensor, keys: Tensor | None, dropout: float) -> Tensor:
    """Attention over the second last axis; ``keys`` is False where a key is padding."""
    # On a CPU the library has no fused kernel with dropout, and its unfused one searches for rows without any key.
    if not exporting() and (dropout == 0.0 or query.device.type != "cpu"):
        return _fused(query, key, value, keys, dropout, 1 if query.device.type == "cpu" else _HEAD_STEP)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1))
    if keys is not None:
        # Small enough to vanish in the softmax, large enough for half precision.
        scores = scores + (1.0 - keys.to(scores.dtype)) * -3e4
    weights = functional.dropout(torch.softmax(scores, -1), dropout, training=dropout > 0.0)
    # Softmax comes back in float32 under autocast.
    return torch.matmul(weights.to(value.dtype), value)


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values are one product."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def _split(self, x: Tensor, rows: Rows | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each ``(batch, heads, tokens, W / heads)``."""
        qkv = self.qkv(x) if rows is None else rows.unpack(self.qkv(x))
        qkv = qkv.reshape(-1, int(qkv.shape[-2]), 3, self.heads, int(x.shape[-1]) // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def weights(self, x: Tensor, rows: Rows | None = None) -> Tensor:
        """How much every token looks at every other, ``(batch, heads, tokens, tokens)``, rows summing to 1."""
        query, key, _ = self._split(x, rows)
        scores = torch.matmul(query, key.transpose(-2, -1)) * query.shape[-1] ** -0.5
        keys = None if rows is None else rows.keys
        return torch.softmax(scores if keys is None else scores.masked_fill(~keys, -torch.inf), -1)

    def forward(self, x: Tensor, rows: Rows | None = None) -> Tensor:
        """Spatial ``(..., J, D)`` over joints; with ``rows`` temporal, ``(N, T, W)`` or packed ``(n, W)``."""
        query, key, value = self._split(x, rows)
        keys = None if rows is None else rows.keys
        out = attend(query, key, value, keys, self.rate if self.training else 0.0)
        out = out.transpose(1, 2).reshape(-1, int(query.shape[2]), int(x.shape[-1]))
        # The batch is left to -1 and all else is plain numbers: an exported graph holds constants, not arithmetic.
        out = out.view(-1, *(int(size) for size in x.shape[1:])) if rows is None else rows.pack(out)
        return self.dropout(self.proj(out))
