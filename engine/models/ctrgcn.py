"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021).

Written from the published equations and figures as collected in the method notes (SkeletonGCL specification,
sections 2.1 and 2.3). Parameter counts are asserted in the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.models.backbone_card import FOUR_STREAMS, BackboneCard
from engine.models.layers import batch_norm, init_conv
from engine.models.products import MaxOfThree, Pointwise, batched, join_channels, pointwise, pointwise_residual
from engine.models.ten_blocks import ResidualBlock, TenBlocks

__all__ = ["CARD", "CTRGCN", "SUBSETS", "MultiScaleTemporal", "TopologyRefinement"]

SUBSETS = 3

CARD = BackboneCard(
    title="CTR-GCN",
    paper="Y. Chen, Z. Zhang, C. Yuan, B. Li, Y. Deng, W. Hu: Channel-wise Topology Refinement Graph Convolution for "
    "Skeleton-Based Action Recognition. ICCV 2021",
    year=2021,
    input="(3, 64, 25, 2) on NTU RGB+D, (3, 52, 20, 1) on NW-UCLA: xyz, frames, joints, persons",
    streams=FOUR_STREAMS,
    parameters=1_446_672,
    setting={"num_classes": 60, "layout": "ntu25", "persons": 2},
    gmac=1.939,
    notes="Hands out the refined topology of its last block for SkeletonGCL.",
)


class TopologyRefinement(nn.Module):
    """The graph convolution: ``out[c,t,u] = sum_k sum_v (alpha Q_k[c,u,v] + A_k[u,v]) W_k x [c,t,v]``.

    The three subsets share one convolution per role, so a block needs one matrix product instead of three.
    """

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.relation = 8 if in_channels in (3, 9) else in_channels // 8
        self.out_channels = out_channels
        self.query = nn.Conv2d(in_channels, SUBSETS * self.relation, 1)
        self.key = nn.Conv2d(in_channels, SUBSETS * self.relation, 1)
        self.value = nn.Conv2d(in_channels, SUBSETS * out_channels, 1)
        self.expand = nn.Conv2d(SUBSETS * self.relation, SUBSETS * out_channels, 1, groups=SUBSETS)
        self.adjacency = nn.Parameter(adjacency.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        for conv in (self.query, self.key, self.value, self.expand):
            # Each subset is a convolution of its own: the fan-out is counted per subset.
            init_conv(conv, SUBSETS)

    # Sizes but the batch are taken as plain numbers and the batch is left to -1: in an exported graph they become
    # constants instead of shape arithmetic on every call.

    def _relations(self, x: Tensor) -> Tensor:
        """``tanh(query_u - key_v)``, ``(N, 3, R, V * V)`` with v before u, as the product with values wants it."""
        v = int(x.shape[3])
        # The mean over time commutes with a 1x1 convolution, so it is taken first.
        pooled = x.mean(2, keepdim=True)
        query = self.query(pooled).view(-1, SUBSETS, self.relation, v)
        key = self.key(pooled).view(-1, SUBSETS, self.relation, v)
        return torch.tanh(query.unsqueeze(-2) - key.unsqueeze(-1)).flatten(3)

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        t, v, c = int(x.shape[2]), int(x.shape[3]), self.out_channels
        # Taken apart at once: slices by index would each write a gradient of full size.
        relations = self._relations(x)
        of_subset = relations.unbind(1)
        assert self.expand.bias is not None and self.value.bias is not None
        weights = self.expand.weight.view(SUBSETS, c, self.relation)
        biases = self.expand.bias.view(SUBSETS, c, 1)
        out: Tensor | None = None
        for k in range(SUBSETS):
            # alpha (W r + b) + A is one product: [alpha W, alpha b, 1] times the rows [r; 1; A]. Nothing as large as
            # the topology is ever multiplied or added elementwise.
            rows = of_subset[k]
            static = self.adjacency[k].t().reshape(1, 1, v * v).to(rows.dtype).expand(rows.shape[0], 1, v * v)
            rows = torch.cat([rows, torch.ones_like(static), static], 1)
            mix = torch.cat([weights[k] * self.alpha, biases[k] * self.alpha, torch.ones_like(biases[k])], 1)
            topology = batched(mix, rows).view(-1, v, v)
            wide = slice(k * c, (k + 1) * c)
            value = pointwise(x, self.value.weight[wide], self.value.bias[wide]).view(-1, t, v)
            topology = topology.to(value.dtype)
            out = torch.bmm(value, topology) if out is None else torch.baddbmm(out, value, topology)
        assert out is not None
        graph = None
        if want_graph:
            # The mean over channels of a 1x1 convolution is the convolution by the mean of its weights.
            mean = torch.matmul(weights.mean(1, keepdim=True).to(relations.dtype), relations)
            graph = (mean + biases.mean(1, keepdim=True)).view(-1, SUBSETS, v, v).transpose(2, 3)
        return out.view(-1, c, t, v), graph


class GraphUnit(nn.Module):
    """Topology refinement, batch norm, residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.refinement = TopologyRefinement(in_channels, out_channels, adjacency)
        self.norm = batch_norm(out_channels, 1e-6)
        self.down = pointwise_residual(in_channels, out_channels)

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        out, graph = self.refinement(x, want_graph)
        # In place: no gradient needs what a norm gave out, and there is one tensor less to write.
        return torch.relu_(self.norm(out).add_(self.down(x))), graph


def _noisy_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    nn.init.zeros_(norm.bias)
    return norm


class MultiScaleTemporal(nn.Module):
    """Four parallel temporal branches of C/4 channels: 5x1 at dilation 1 and 2, max-pool 3x1, and 1x1.

    The pointwise convolutions (and their norms) that open the first three branches read the same input, so they are
    one convolution; each branch's part is initialised as the convolution of its own that it is.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        width = channels // 4
        self.width = width

        def temporal(dilation: int) -> nn.Sequential:
            padding = (2 * dilation, 0)
            conv = nn.Conv2d(width, width, (5, 1), stride=(stride, 1), padding=padding, dilation=(dilation, 1))
            return nn.Sequential(init_conv(conv), _noisy_norm(width))

        self.squeeze = init_conv(Pointwise(channels, 3 * width), 3)
        self.squeeze_norm = _noisy_norm(3 * width)
        self.near = temporal(1)
        self.far = temporal(2)
        self.pool = nn.Sequential(MaxOfThree(stride), _noisy_norm(width))
        skip = Pointwise(channels, width) if stride == 1 else nn.Conv2d(channels, width, 1, stride=(stride, 1))
        self.skip = nn.Sequential(init_conv(skip), _noisy_norm(width))

    def forward(self, x: Tensor) -> Tensor:
        near, far, pooled = torch.relu_(self.squeeze_norm(self.squeeze(x))).split(self.width, dim=1)
        return join_channels([self.near(near), self.far(far), self.pool(pooled), self.skip(x)])


class Block(ResidualBlock):
    """Graph unit, temporal unit, block residual, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, stride: int = 1, residual: bool = True
    ) -> None:
        super().__init__()
        self.graph = GraphUnit(in_channels, out_channels, adjacency)
        self.temporal = MultiScaleTemporal(out_channels, stride)
        self.residual = pointwise_residual(in_channels, out_channels, stride) if residual else None


class CTRGCN(TenBlocks):
    """The encoder of one stream; arguments as in :class:`~engine.models.ten_blocks.TenBlocks`."""

    card = CARD
    block = Block
