"""ST-GCN in HiCLR's quarter-width variant (Yan et al., AAAI 2018; Zhang et al., AAAI 2023).

Written from the published equations as collected in the method notes (HiCLR specification, sections 2.1 and 2.3).
Parameter counts are asserted in the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.backbone_card import BackboneCard
from engine.models.layers import ByteDropout, exporting, pooled
from engine.models.persons import PersonFolding
from engine.models.temporal import TemporalConv
from engine.skeleton.layout import Layout, get_layout

SUBSETS = 3

CARD = BackboneCard(
    title="ST-GCN, quarter width",
    paper="S. Yan, Y. Xiong, D. Lin: Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action "
    "Recognition. AAAI 2018; this variant: J. Zhang, L. Lin, J. Liu: Hierarchical Consistent Contrastive Learning for "
    "Skeleton-Based Action Recognition with Growing Augmentations. AAAI 2023",
    year=2018,
    input="(3, 50, 25, 2): xyz, frames, joints, persons",
    streams=("joint", "joint_motion", "bone"),
    parameters=836_800,
    setting={"num_classes": 60, "layout": "ntu25", "persons": 2},
    notes="First encoder of HiCLR. Persons share one input normalisation.",
)


def one_hop_partition(layout: Layout) -> np.ndarray:
    """Adjacency with self-links, divided by its column sums, split by the distance to the centre.

    Distances to the centre (the layout's root) are known up to one hop only; all further joints count as equally far.
    Kept as published, so that released weights mean the same here.

    Returns
    -------
    numpy.ndarray
        float32 ``(3, V, V)`` indexed ``[source, target]``: self-links; source not nearer to the centre than the
        target; source nearer. Source: hiclr.md, section 2.1.
    """
    v = layout.num_joints
    linked = np.eye(v, dtype=bool)
    for child, parent in layout.bones:
        linked[child, parent] = linked[parent, child] = True
    distance = np.where(linked[layout.root], 1.0, np.inf)
    distance[layout.root] = 0.0
    weight = linked / linked.sum(0, keepdims=True)
    itself = np.eye(v, dtype=bool)
    nearer = distance[:, None] < distance[None, :]
    return np.stack([weight * itself, weight * ~itself * ~nearer, weight * nearer]).astype(np.float32)


class Block(nn.Module):
    """Graph convolution, batch norm, ReLU, 9x1 temporal convolution, batch norm, dropout; residual; ReLU.

    ``y[c, t, w] = sum_k sum_v (W_k x + b_k)[c, t, v] (A E)[k, v, w]``.
    """

    adjacency: Tensor
    # Set for a while by an augmentation of the graph (HiCLR's drop/add edges); sees the plain adjacency.
    change_edges: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, stride: int, residual: bool, dropout: float
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.value = nn.Conv2d(in_channels, SUBSETS * out_channels, 1)
        self.importance = nn.Parameter(torch.ones_like(adjacency))
        self.register_buffer("adjacency", adjacency.clone(), persistent=False)
        self.norm = nn.BatchNorm2d(out_channels)
        temporal = TemporalConv(out_channels, out_channels, (9, 1), stride=(stride, 1), padding=(4, 0))
        self.temporal = nn.Sequential(temporal, nn.BatchNorm2d(out_channels))
        self.dropout = ByteDropout(dropout)
        self.residual: nn.Module | None = None
        if residual and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride=(stride, 1))
            self.residual = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def _aggregate(self, x: Tensor) -> Tensor:
        """The graph convolution, ``(B, C_in, T, V)`` to ``(B, C_out, T, V)``.

        Joints are mixed before the convolution: there are never more channels before it than after it, and in the
        last block four times fewer. The bias then meets the column sums of the graph.
        """
        c_in, t, v, c = int(x.shape[1]), int(x.shape[2]), int(x.shape[3]), self.out_channels
        adjacency = self.adjacency if self.change_edges is None else self.change_edges(self.adjacency)
        graph = adjacency * self.importance
        assert self.value.bias is not None
        weight = self.value.weight.view(SUBSETS, c, c_in).transpose(0, 1).reshape(c, SUBSETS * c_in)
        bias = torch.matmul(graph.sum(1).t(), self.value.bias.view(SUBSETS, c))
        if exporting():
            mixed = torch.cat([torch.matmul(x, graph[k]) for k in range(SUBSETS)], 1)
            return functional.conv2d(mixed, weight.view(c, SUBSETS * c_in, 1, 1)) + bias.t().reshape(c, 1, v)
        # A joint's channels lie side by side in memory: the three mixtures are one product per frame, and come out
        # as the convolution reads them.
        frames = x.permute(0, 2, 3, 1).reshape(-1, v, c_in)
        mixer = graph.permute(2, 0, 1).reshape(1, v * SUBSETS, v).to(frames.dtype).expand(frames.shape[0], -1, -1)
        mixed = torch.bmm(mixer, frames).view(-1, SUBSETS * c_in)
        out = functional.linear(mixed, weight).view(-1, t, v, c)
        return (out + bias).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(self.temporal(torch.relu_(self.norm(self._aggregate(x)))))
        if self.residual is not None:
            # In place: no gradient needs what a norm or a dropout gave out.
            out = out.add_(self.residual(x))
        return torch.relu_(out)


class STGCN(PersonFolding):
    """The ten-block encoder.

    Parameters
    ----------
    num_classes : int
        Width of the classifier.
    layout : str
        Joint layout of the clips.
    persons : int
        Person slots M; folded into the batch and averaged, absent (all-zero) ones too, as published.
    in_channels, base_channels, dropout
        3, 16 and 0.5 (blocks 2 to 10) as published. Features are ``16 * base_channels`` wide.
    """

    card = CARD

    def __init__(
        self,
        num_classes: int,
        layout: str = "ntu25",
        persons: int = 2,
        in_channels: int = 3,
        base_channels: int = 16,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        skeleton = get_layout(layout)
        adjacency = torch.from_numpy(one_hop_partition(skeleton))
        width = base_channels
        self.persons = persons
        self.pooled_dim = self.feature_dim = 16 * width
        self.input_norm = nn.BatchNorm1d(skeleton.num_joints * in_channels)
        plan = [(width, width, 1)] * 3
        plan += [(width, 2 * width, 2)] + [(2 * width, 2 * width, 1)] * 2
        plan += [(2 * width, 4 * width, 2), (4 * width, 4 * width, 1), (4 * width, 16 * width, 1)]
        blocks = [Block(in_channels, width, adjacency, 1, residual=False, dropout=0.0)]
        blocks += [Block(i, o, adjacency, stride, residual=True, dropout=dropout) for i, o, stride in plan]
        self.blocks = nn.ModuleList(blocks)
        self.dropout = nn.Identity()
        self.classifier = nn.Linear(self.feature_dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)

    def fold(self, clips: Tensor) -> Tensor:
        """As the base class; all persons share the statistics of ``V * C`` features (joint-major)."""
        c, t, v = (int(size) for size in clips.shape[1:4])
        x = self.input_norm(clips.permute(0, 4, 3, 1, 2).reshape(-1, v * c, t))
        return x.view(-1, v, c, t).permute(0, 2, 3, 1)

    def encode(self, folded: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        """As the base class; the topology is the same for every sample, so there is no graph to hand out."""
        # Channels-last in memory; ONNX Runtime wants one plane per channel.
        layout = torch.contiguous_format if exporting() else torch.channels_last
        x = folded.contiguous(memory_format=layout)
        for block in self.blocks:
            x = block(x)
        return pooled(x), None
