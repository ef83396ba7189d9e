"""DSTA-Net: attention between joints without softmax, then a temporal convolution; HiCLR's "Transformer".

Written from the HiCLR specification, sections 2.2 and 2.3: spatial attention only, a 7x1 convolution in time, a fixed
code of the joint index and a learned map that all clips share. Parameter counts are asserted in the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.backbone_card import BackboneCard
from engine.models.layers import ByteDropout, exporting, pooled
from engine.models.persons import PersonFolding
from engine.models.temporal import TemporalConv
from engine.skeleton.layout import get_layout

SUBSETS = 3
SLOPE = 0.1
# Input channels, output channels, channels of one subset's queries, temporal stride.
BLOCKS = (
    (32, 32, 16, 1),
    (32, 32, 16, 1),
    (32, 64, 16, 2),
    (64, 64, 16, 1),
    (64, 128, 32, 2),
    (128, 128, 32, 1),
    (128, 128, 32, 1),
    (128, 256, 32, 1),
)

CARD = BackboneCard(
    title="DSTA-Net, spatial attention and temporal convolution",
    paper="L. Shi, Y. Zhang, J. Cheng, H. Lu: Decoupled Spatial-Temporal Attention Network for Skeleton-Based Action-"
    "Gesture Recognition. ACCV 2020; this variant: J. Zhang, L. Lin, J. Liu: Hierarchical Consistent Contrastive "
    "Learning for Skeleton-Based Action Recognition with Growing Augmentations. AAAI 2023",
    year=2020,
    input="(3, 50, 25, 2): xyz, frames, joints, persons",
    streams=("joint", "joint_motion", "bone"),
    parameters=1_561_900,
    setting={"num_classes": 60, "layout": "ntu25", "persons": 2},
    gmac=1.232,
    notes='Second encoder of HiCLR (its "Transformer"). residual_drop 0.5 in pretraining, 0 downstream; downstream the '
    "stem's convolution stays frozen.",
)


def joint_code(joints: int, channels: int) -> Tensor:
    """Sinusoids over the joint index, ``(channels, joints)``: even channels sine, odd ones cosine, base 10000."""
    index = torch.arange(joints, dtype=torch.float64)
    rate = 10000.0 ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angle = rate[:, None] * index
    return torch.stack([angle.sin(), angle.cos()], 1).flatten(0, 1).float()


def _conv_norm(conv: nn.Conv2d) -> nn.Sequential:
    # A convolution directly before its norm, so that export folds the two.
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


def _act(x: Tensor) -> Tensor:
    # Only ever given a fresh sum, which no gradient needs: one tensor less per activation.
    return functional.leaky_relu_(x, SLOPE)


class JointAttention(nn.Module):
    """``y[s,c,t,v] = sum_u x[c,t,u] att[s,u,v]`` for three maps, then one 1x1 convolution of all of them.

    ``att = alpha tanh(q_u . k_v / (C' T)) + G``; queries and keys see the joint code, the values do not.
    """

    # Set for a while by an augmentation of the graph (HiCLR's drop/add edges); sees every clip's maps.
    change_edges: Callable[[Tensor], Tensor] | None = None

    def __init__(self, in_channels: int, out_channels: int, inter: int, joints: int) -> None:
        super().__init__()
        self.inter = inter
        self.query_key = nn.Conv2d(in_channels, 2 * SUBSETS * inter, 1)
        self.alpha = nn.Parameter(torch.ones(1, SUBSETS, 1, 1))
        self.shared = nn.Parameter(torch.full((1, SUBSETS, joints, joints), 1.0 / joints))
        self.mix = _conv_norm(nn.Conv2d(SUBSETS * in_channels, out_channels, 1))
        self.code: Tensor
        self.register_buffer("code", joint_code(joints, in_channels).unsqueeze(1), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, C, T, V)`` to ``(N, C_out, T, V)`` and the maps ``(N, 3, V, V)`` (row: the joint read)."""
        return self._planes(x) if exporting() else self._pixels(x)

    def _maps(self, query: Tensor, key: Tensor, t: int) -> Tensor:
        scores = torch.matmul(query, key) / (self.inter * t)
        maps = torch.tanh(scores) * self.alpha + self.shared
        return maps if self.change_edges is None else self.change_edges(maps)

    def _planes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One plane per channel in memory, which ONNX Runtime's convolutions want."""
        c, t, v = (int(size) for size in x.shape[1:])
        query, key = self.query_key(x + self.code).view(-1, 2, SUBSETS, self.inter * t, v).unbind(1)
        maps = self._maps(query.transpose(2, 3), key, t)
        read = torch.matmul(x.view(-1, 1, c * t, v), maps)
        return self.mix(read.view(-1, SUBSETS * c, t, v)), maps

    def _pixels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A joint's channels side by side in memory: every 1x1 convolution is one product without reordering.

        The mixing convolution commutes with reading, so it goes first; then reading from all joints by all three maps
        is one product too, and no tensor has three times the input's channels.
        """
        c, t, v = (int(size) for size in x.shape[1:])
        # The whole batch's joints code is added once; a convolution keeps the memory order of what it reads.
        both = self.query_key(x + self.code).permute(0, 2, 3, 1).reshape(-1, t, v, 2, SUBSETS, self.inter)
        query, key = both.permute(3, 0, 4, 2, 1, 5).reshape(2, -1, SUBSETS, v, t * self.inter).unbind(0)
        maps = self._maps(query, key.transpose(2, 3), t)
        mix, norm = self.mix
        assert isinstance(mix, nn.Conv2d) and mix.bias is not None
        out_channels = mix.out_channels
        weight = mix.weight.view(out_channels, SUBSETS, c, 1, 1).transpose(0, 1).flatten(0, 1)
        mixed = functional.conv2d(x, weight).permute(0, 2, 3, 1).reshape(-1, t, v * SUBSETS, out_channels)
        read = torch.matmul(maps.to(mixed.dtype).permute(0, 3, 2, 1).reshape(-1, 1, v, v * SUBSETS), mixed) + mix.bias
        return norm(read.permute(0, 3, 1, 2)), maps


class Block(nn.Module):
    """Joint attention, pointwise layer, temporal convolution; a residual around each."""

    def __init__(
        self, in_channels: int, out_channels: int, inter: int, stride: int, joints: int, residual_drop: float
    ) -> None:
        super().__init__()
        self.attention = JointAttention(in_channels, out_channels, inter, joints)
        self.feed = _conv_norm(nn.Conv2d(out_channels, out_channels, 1))
        temporal = TemporalConv(out_channels, out_channels, (7, 1), stride=(stride, 1), padding=(3, 0))
        self.temporal = _conv_norm(temporal)
        self.down_attention: nn.Module = nn.Identity()
        self.down_feed: nn.Module = nn.Identity()
        self.down_temporal: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.down_attention = _conv_norm(nn.Conv2d(in_channels, out_channels, 1))
            self.down_feed = _conv_norm(nn.Conv2d(in_channels, out_channels, 1))
            self.down_temporal = _conv_norm(nn.Conv2d(out_channels, out_channels, 1, stride=(stride, 1)))
        self.residual_drop = ByteDropout(residual_drop)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        read, maps = self.attention(x)
        y = _act(self.down_attention(x) + read)
        y = _act(self.down_feed(x) + self.feed(y))
        return _act(self.residual_drop(self.down_temporal(y)) + self.temporal(y)), maps


class DSTANet(PersonFolding):
    """The eight-block encoder.

    Parameters
    ----------
    num_classes : int
        Width of the classifier.
    layout : str
        Joint layout of the clips.
    persons : int
        Person slots M; persons are folded into the batch and averaged, absent (all-zero) ones too, as published.
    in_channels : int
        3 as published.
    residual_drop : float
        Dropout on the temporal residual path: 0.5 in pretraining, 0 downstream.
    """

    card = CARD

    def __init__(
        self,
        num_classes: int,
        layout: str = "ntu25",
        persons: int = 2,
        in_channels: int = 3,
        residual_drop: float = 0.0,
    ) -> None:
        super().__init__()
        joints = get_layout(layout).num_joints
        self.persons = persons
        self.pooled_dim = self.feature_dim = BLOCKS[-1][1]
        self.stem = _conv_norm(nn.Conv2d(in_channels, BLOCKS[0][0], 1))
        self.blocks = nn.ModuleList([Block(*sizes, joints=joints, residual_drop=residual_drop) for sizes in BLOCKS])
        self.dropout = nn.Identity()
        self.classifier = nn.Linear(self.feature_dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)

    def fold(self, clips: Tensor) -> Tensor:
        """Clips ``(N, C, T, V, M)`` to single persons ``(N * M, C, T, V)``; there is no input norm."""
        c, t, v = (int(size) for size in clips.shape[1:4])
        return clips.permute(0, 4, 1, 2, 3).reshape(-1, c, t, v)

    def encode(self, folded: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        """Single persons to features ``(N * M, 256)``; the graph is the last block's attention.

        Rows of the graph are the joint that receives.
        """
        if not exporting():
            folded = folded.contiguous(memory_format=torch.channels_last)
        x = _act(self.stem(folded))
        maps: Tensor | None = None
        for block in self.blocks:
            x, maps = block(x)
        assert maps is not None
        return pooled(x), maps.transpose(2, 3) if want_graph else None
