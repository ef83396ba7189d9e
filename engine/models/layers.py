"""Small parts the graph-convolution backbones share: initialisation and batch norms as their papers have them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def exporting() -> bool:
    """Whether the forward pass is being recorded instead of run."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def pooled(x: Tensor) -> Tensor:
    """Mean over frames and joints, ``(N, C, T, V)`` to ``(N, C)``."""
    if exporting() or not x.is_contiguous(memory_format=torch.channels_last):
        return x.mean((2, 3))
    # The gradient then lies in memory as x does; otherwise all the last block's backward pass would reorder it.
    return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


class ByteDropout(nn.Module):
    """Dropout that decides by one random byte per element; ``p`` is a multiple of 1/256 (0.5 is exact).

    On a CPU the framework's draws one random number per element, which took a tenth of a training step of ST-GCN.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout {p} is not in 0..1 (1 excluded)")
        self.limit = round(256 * p)
        self.p = self.limit / 256

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.limit == 0:
            return x
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()] >= self.limit
        noise = torch.mul(keep, 1 / (1 - self.p)).to(x.dtype)
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            # The mask lies in memory as x does, or multiplying would have to reorder it.
            n, c, t, v = x.shape
            return x * noise.view(n, t, v, c).permute(0, 3, 1, 2)
        return x * noise.view(x.shape)


def init_conv(conv: nn.Conv2d, parts: int = 1) -> nn.Conv2d:
    """Kaiming normal, fan-out, bias 0; ``parts`` convolutions stored as one are each counted by themselves."""
    for part in conv.weight.data.chunk(parts):
        nn.init.kaiming_normal_(part, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def init_branch(weight: Tensor, branches: int) -> None:
    """Normal with deviation ``sqrt(2 / (C_out C_in k b))`` for one of ``b`` branches that are summed.

    ``weight`` is ``(C_out, C_in, ...)`` of one branch. Source: skeletongcl.md, section 2.1.
    """
    nn.init.normal_(weight, 0.0, math.sqrt(2.0 / (weight.numel() * branches)))


def batch_norm(channels: int, weight: float = 1.0) -> nn.BatchNorm2d:
    """Batch norm whose scale starts at ``weight``."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, weight)
    nn.init.zeros_(norm.bias)
    return norm


def init_classifier(classifier: nn.Linear) -> nn.Linear:
    """Weight ``N(0, sqrt(2 / K))``, bias as the framework has it (skeletongcl.md, section 2.1)."""
    nn.init.normal_(classifier.weight, 0.0, math.sqrt(2.0 / classifier.out_features))
    return classifier
