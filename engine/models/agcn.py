"""2s-AGCN: two-stream adaptive graph convolution (Shi et al., CVPR 2019); one stream of it.

Written from the published equations as collected in the method notes (SkeletonGCL specification, sections 2.1 and
2.2). Parameter counts are asserted in the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.backbone_card import FOUR_STREAMS, BackboneCard
from engine.models.layers import batch_norm, init_branch, init_conv
from engine.models.products import pointwise_residual
from engine.models.temporal import TemporalConv
from engine.models.ten_blocks import ResidualBlock, TenBlocks

SUBSETS = 3

CARD = BackboneCard(
    title="2s-AGCN",
    paper="L. Shi, Y. Zhang, J. Cheng, H. Lu: Two-Stream Adaptive Graph Convolutional Networks for Skeleton-Based "
    "Action Recognition. CVPR 2019",
    year=2019,
    input="(3, 64, 25, 2) on NTU RGB+D, (3, 52, 20, 1) on NW-UCLA: xyz, frames, joints, persons",
    streams=FOUR_STREAMS,
    parameters=3_469_510,
    setting={"num_classes": 60, "layout": "ntu25", "persons": 2},
    gmac=4.140,
    notes="The paper's two streams are joint and bone; the motion streams are SkeletonGCL's. Input of 64 frames as in "
    "CTR-GCN's pipeline; the paper itself used 300. Hands out the dot products of its last block for SkeletonGCL.",
)


class AdaptiveGraph(nn.Module):
    """The graph convolution: ``out = sum_k W_k (x (A_k + B_k + softmax_u(theta_k(x)' phi_k(x) / (C_e T))))``.

    ``out[w] = sum_u x[u] G[u, w]``: features are multiplied from the left. The three subsets share one convolution
    per role.
    """

    adjacency: Tensor

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.embedded = out_channels // 4
        self.out_channels = out_channels
        self.theta = init_conv(nn.Conv2d(in_channels, SUBSETS * self.embedded, 1), SUBSETS)
        self.phi = init_conv(nn.Conv2d(in_channels, SUBSETS * self.embedded, 1), SUBSETS)
        self.value = nn.Conv2d(in_channels, SUBSETS * out_channels, 1)
        for part in self.value.weight.data.chunk(SUBSETS):
            init_branch(part, SUBSETS)
        assert self.value.bias is not None
        nn.init.zeros_(self.value.bias)
        self.learned = nn.Parameter(torch.full_like(adjacency, 1e-6))
        # Follows from the layout, so it is not part of the weights.
        self.register_buffer("adjacency", adjacency.clone(), persistent=False)

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        # Sizes but the batch are plain numbers, so that an exported graph holds constants.
        t, v, c, e = int(x.shape[2]), int(x.shape[3]), self.out_channels, self.embedded
        assert self.theta.bias is not None and self.phi.bias is not None and self.value.bias is not None
        # One convolution reads x for all three roles. The bias of the values is left out: it does not pass the graph.
        weight = torch.cat([self.theta.weight, self.phi.weight, self.value.weight])
        bias = torch.cat([self.theta.bias, self.phi.bias, torch.zeros_like(self.value.bias)])
        theta, phi, value = functional.conv2d(x, weight, bias).split([SUBSETS * e, SUBSETS * e, SUBSETS * c], dim=1)
        scores = torch.matmul(theta.reshape(-1, SUBSETS, e * t, v).transpose(2, 3), phi.reshape(-1, SUBSETS, e * t, v))
        graphs = torch.softmax(scores / (e * t), 2) + (self.learned + self.adjacency).to(scores.dtype)
        # The sum of the subsets' biases opens the sum of their products: no pass over the features of its own.
        out = self.value.bias.view(SUBSETS, c, 1).sum(0).expand(c, t).reshape(1, c * t, 1).to(value.dtype)
        # A subset's channels are one block of memory per clip, so these are batched products without copies.
        for part, graph in zip(value.view(-1, SUBSETS, c * t, v).unbind(1), graphs.unbind(1), strict=True):
            out = torch.baddbmm(out, part, graph)
        return out.view(-1, c, t, v), scores if want_graph else None


class GraphUnit(nn.Module):
    """Adaptive graph convolution, batch norm, residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.convolution = AdaptiveGraph(in_channels, out_channels, adjacency)
        self.norm = batch_norm(out_channels, 1e-6)
        self.down = pointwise_residual(in_channels, out_channels)

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        out, graph = self.convolution(x, want_graph)
        return torch.relu_(self.norm(out).add_(self.down(x))), graph


class Block(ResidualBlock):
    """Graph unit, 9x1 temporal convolution with batch norm, block residual, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, stride: int = 1, residual: bool = True
    ) -> None:
        super().__init__()
        self.graph = GraphUnit(in_channels, out_channels, adjacency)
        conv = TemporalConv(out_channels, out_channels, (9, 1), stride=(stride, 1), padding=(4, 0))
        self.temporal = nn.Sequential(init_conv(conv), batch_norm(out_channels))
        self.residual = pointwise_residual(in_channels, out_channels, stride) if residual else None


class AGCN(TenBlocks):
    """The encoder of one stream; arguments as in :class:`~engine.models.ten_blocks.TenBlocks`."""

    card = CARD
    block = Block
