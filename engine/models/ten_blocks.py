"""What 2s-AGCN and CTR-GCN share: ten residual blocks of a graph unit and a temporal unit, widened twice."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from engine.models.layers import init_classifier
from engine.models.persons import PersonFolding, fold_with_norm
from engine.skeleton.layout import get_layout, spatial_partition


class ResidualBlock(nn.Module):
    """Graph unit, temporal unit, residual and ReLU; a subclass makes ``graph``, ``temporal`` and ``residual``.

    It is built with ``(in_channels, out_channels, adjacency, stride, residual)``.
    """

    graph: nn.Module
    temporal: nn.Module
    residual: nn.Module | None

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        spatial, graph = self.graph(x, want_graph)
        out = self.temporal(spatial)
        if self.residual is not None:
            out = out.add_(self.residual(x))
        return torch.relu_(out), graph


class TenBlocks(PersonFolding):
    """The encoder of one stream (skeletongcl.md, section 2.1).

    Parameters
    ----------
    num_classes : int
        Width of the classifier.
    layout : str
        Joint layout of the clips.
    persons : int
        Person slots M; folded into the batch and averaged, absent (all-zero) ones too, as published.
    in_channels, base_channels, dropout
        3, 64 and 0 as published.
    """

    block: ClassVar[type[ResidualBlock]]

    def __init__(
        self,
        num_classes: int,
        layout: str = "ntu25",
        persons: int = 2,
        in_channels: int = 3,
        base_channels: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        skeleton = get_layout(layout)
        adjacency = torch.from_numpy(spatial_partition(skeleton))
        width = base_channels
        self.persons = persons
        self.pooled_dim = self.feature_dim = 4 * width
        self.input_norm = nn.BatchNorm1d(persons * skeleton.num_joints * in_channels)
        plan = [(in_channels, width, 1, False)]
        plan += [(width, width, 1, True)] * 3
        plan += [(width, 2 * width, 2, True)] + [(2 * width, 2 * width, 1, True)] * 2
        plan += [(2 * width, 4 * width, 2, True)] + [(4 * width, 4 * width, 1, True)] * 2
        self.blocks = nn.ModuleList([self.block(i, o, adjacency, stride, residual) for i, o, stride, residual in plan])
        self.dropout = nn.Dropout(dropout)
        self.classifier = init_classifier(nn.Linear(self.feature_dim, num_classes))

    def fold(self, clips: Tensor) -> Tensor:
        return fold_with_norm(clips, self.input_norm)

    def encode(self, folded: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        x, graph = folded, None
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x, graph = block(x, want_graph and i == last)
        return x.mean((2, 3)), graph
