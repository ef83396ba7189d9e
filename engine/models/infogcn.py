"""InfoGCN: self-attention graph convolution with an information bottleneck (Chi et al., CVPR 2022).

Written from the published equations as collected in the method notes (SkeletonGCL specification, sections 2.1, 2.3
and 2.4). Parameter counts are asserted in the tests.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.backbone_card import BackboneCard
from engine.models.ctrgcn import MultiScaleTemporal
from engine.models.layers import batch_norm, init_branch, init_classifier
from engine.models.persons import EncoderOutput, Latent, PersonFolding
from engine.models.products import pointwise_residual
from engine.skeleton.layout import Layout, get_layout

HEADS = 3
# e to the minus this is lost when it is added to 1, and is far from the smallest normal number (1.2e-38).
FAINTEST = 60.0
PRIOR_GAIN = 3.0
MAX_DEVIATION = 100.0

# The tree of the k-th order representation hangs from another joint than the layout's on NTU (section 2.4).
ROOTS = {"ntu25": 1}

CARD = BackboneCard(
    title="InfoGCN",
    paper="H. Chi, M. H. Ha, S. Chi, S. W. Lee, Q. Huang, K. Ramani: InfoGCN: Representation Learning for Human "
    "Skeleton-Based Action Recognition. CVPR 2022",
    year=2022,
    input="(3, 64, 25, 2) on NTU RGB+D, (3, 52, 20, 1) on NW-UCLA: xyz, frames, joints, persons",
    streams=("joint", "bone", "joint_motion", "bone_motion"),
    parameters=1_556_807,
    setting={"num_classes": 60, "layout": "ntu25", "persons": 2},
    gmac=1.784,
    notes="The paper's streams are k-th order offsets (argument order: 8 joints, 1 bones, 2 to the grandparent) with "
    "and without motion. Features are the latent sample z; its loss compares their class means with priors, which are "
    "kept with the weights. Hands out the attention of its last block for SkeletonGCL.",
)


def ancestors(layout: Layout) -> np.ndarray:
    """Binary child-to-parent matrix P of the k-th order representation, float32 ``(V, V)``; the root's row is empty.

    Source: skeletongcl.md, section 2.4. For layouts other than ntu25 the tree is the layout's own.
    """
    parents = list(layout.parents)
    child = ROOTS.get(layout.name, layout.root)
    parent, parents[child] = parents[child], child
    while parent != child:
        # Turn the path to the old root around.
        child, parent, parents[parent] = parent, parents[parent], child
    matrix = np.zeros((layout.num_joints, layout.num_joints), np.float32)
    for joint, parent in enumerate(parents):
        if joint != parent:
            matrix[joint, parent] = 1.0
    return matrix


class AttentionGraph(nn.Module):
    """The graph convolution: ``out = sum_h W_h (softmax_j(q_i k_j / sqrt(d)) * B_h) x``, per frame.

    Works on ``(B, C, T, V)`` stored channels-last: then layer norm, projections and products run over memory in order.
    """

    def __init__(self, in_channels: int, out_channels: int, joints: int) -> None:
        super().__init__()
        self.width = in_channels // 8
        self.out_channels = out_channels
        self.norm = nn.LayerNorm(in_channels)
        self.query_key = nn.Linear(in_channels, 2 * HEADS * self.width)
        nn.init.normal_(self.query_key.weight)
        self.learned = nn.Parameter(torch.eye(joints).repeat(HEADS, 1, 1))
        self.value = nn.Linear(in_channels, HEADS * out_channels)
        for part in self.value.weight.data.chunk(HEADS):
            init_branch(part, HEADS)
        nn.init.zeros_(self.value.bias)

    def attention(self, frames: Tensor) -> Tensor:
        """Frames ``(B * T, V, C)`` to attention ``(B * T, 3, V, V)``; rows sum to 1."""
        v = int(frames.shape[1])
        query_key = self.query_key(self.norm(frames)).view(-1, v, 2 * HEADS, self.width)
        query, key = query_key.transpose(1, 2).split(HEADS, 1)
        scores = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(self.width)
        if not self.training:
            # What is too small to be added to the largest may be a little larger: weights below 1e-38, of which sharp
            # attention is full, make many processors several times slower (training flushes them to zero).
            scores = torch.maximum(scores, scores.amax(3, keepdim=True) - FAINTEST)
        return torch.softmax(scores, 3)

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        # Sizes but the batch are plain numbers, so that an exported graph holds constants.
        c_in, t, v, c = int(x.shape[1]), int(x.shape[2]), int(x.shape[3]), self.out_channels
        frames = x.permute(0, 2, 3, 1).reshape(-1, v, c_in)
        attention = self.attention(frames)
        graphs = (attention * self.learned.to(attention.dtype)).transpose(1, 2).reshape(-1, v * HEADS, v)
        # Joints first, then channels: three heads side by side are one product with the three W_h above each other.
        mixed = torch.bmm(graphs, frames).view(-1, HEADS * c_in)
        weight = self.value.weight.view(HEADS, c, c_in).transpose(0, 1).reshape(c, HEADS * c_in)
        out = functional.linear(mixed, weight, self.value.bias.view(HEADS, c).sum(0))
        graph = attention.view(-1, t, HEADS, v, v).mean(1) if want_graph else None
        return out.view(-1, t, v, c).permute(0, 3, 1, 2), graph


class GraphUnit(nn.Module):
    """Attention graph convolution, batch norm, residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, joints: int) -> None:
        super().__init__()
        self.convolution = AttentionGraph(in_channels, out_channels, joints)
        self.norm = batch_norm(out_channels, 1e-6)
        self.down = pointwise_residual(in_channels, out_channels)

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        out, graph = self.convolution(x, want_graph)
        return torch.relu_(self.norm(out).add_(self.down(x))), graph


class Block(nn.Module):
    """Graph unit, multi-scale temporal unit with ReLU, block residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, joints: int, stride: int) -> None:
        super().__init__()
        self.graph = GraphUnit(in_channels, out_channels, joints)
        self.temporal = MultiScaleTemporal(out_channels, stride)
        for module in self.temporal.modules():
            # As in CTR-GCN, but initialised as the framework does.
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()
        self.residual = pointwise_residual(in_channels, out_channels, stride)

    def forward(self, x: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        spatial, graph = self.graph(x, want_graph)
        return torch.relu_(torch.relu_(self.temporal(spatial)) + self.residual(x)), graph


class InfoGCN(PersonFolding):
    """The nine-block encoder with its latent head.

    Parameters
    ----------
    num_classes : int
        Width of the classifier; at most the width of the latent, whose class priors are orthogonal.
    layout : str
        Joint layout of the clips.
    persons : int
        Person slots M; folded into the batch and averaged, absent (all-zero) ones too, as published.
    order : int or None
        k of the k-th order representation: every joint relative to its k-th ancestor (joints without one stay as they
        are). None leaves the joints as they come, as the paper's k = 8 does on NTU and NW-UCLA.
    in_channels, base_channels, dropout
        3, 64 and 0 as published.

    Raises
    ------
    ValueError
        ``order`` is 0 (every input would be zero) or negative; more classes than the latent is wide.
    """

    card = CARD
    priors: Tensor

    def __init__(
        self,
        num_classes: int,
        layout: str = "ntu25",
        persons: int = 2,
        order: int | None = None,
        in_channels: int = 3,
        base_channels: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if order is not None and order < 1:
            raise ValueError(f"order {order}: every joint relative to itself is zero; give 1 or more, or none")
        skeleton = get_layout(layout)
        v, width = skeleton.num_joints, base_channels
        latent = 4 * width
        if num_classes > latent:
            raise ValueError(f"{num_classes} classes can't have orthogonal priors in {latent} dimensions")
        self.persons = persons
        self.pooled_dim = self.feature_dim = latent
        self.width = width
        self.offsets: Tensor | None
        offsets = None
        if order is not None:
            power = np.linalg.matrix_power(ancestors(skeleton), order)
            offsets = torch.from_numpy(np.eye(v, dtype=np.float32) - power)
        self.register_buffer("offsets", offsets, persistent=False)
        self.embedding = nn.Linear(in_channels, width)
        self.positions = nn.Parameter(torch.randn(1, v, width))
        self.input_norm = nn.BatchNorm1d(persons * v * width)
        plan = [(width, width, 1)] * 3
        plan += [(width, 2 * width, 2)] + [(2 * width, 2 * width, 1)] * 2
        plan += [(2 * width, 4 * width, 2)] + [(4 * width, 4 * width, 1)] * 2
        self.blocks = nn.ModuleList([Block(i, o, v, stride) for i, o, stride in plan])
        self.hidden = nn.Linear(latent, latent)
        self.mean = nn.Linear(latent, latent)
        self.log_variance = nn.Linear(latent, latent)
        for linear in (self.hidden, self.mean, self.log_variance):
            nn.init.xavier_uniform_(linear.weight, nn.init.calculate_gain("relu"))
        self.dropout = nn.Dropout(dropout)
        self.classifier = init_classifier(nn.Linear(latent, num_classes))
        # With the weights: a run that goes on, or another process, must see the same priors.
        self.register_buffer("priors", nn.init.orthogonal_(torch.empty(num_classes, latent), PRIOR_GAIN))

    def fold(self, clips: Tensor) -> Tensor:
        """As the base class, after the k-th order offsets and the embedding; stored channels-last."""
        t, v, m = (int(size) for size in clips.shape[2:])
        x = clips.permute(0, 2, 4, 3, 1)
        if self.offsets is not None:
            x = torch.matmul(self.offsets.to(x.dtype), x)
        x = self.embedding(x) + self.positions
        # Statistics over (N, T) of every (person, joint, channel).
        x = self.input_norm(x.reshape(-1, m * v * self.width))
        return x.view(-1, t, m, v, self.width).permute(0, 2, 4, 1, 3).reshape(-1, self.width, t, v)

    def encode(self, folded: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        x, graph = folded.contiguous(memory_format=torch.channels_last), None
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x, graph = block(x, want_graph and i == last)
        return x.mean((2, 3)), graph

    def head(self, pooled: Tensor) -> EncoderOutput:
        """Latent mean and log-variance; features are a sample in training and the mean in evaluation."""
        hidden = torch.relu(self.hidden(pooled))
        mean = self.mean(hidden)
        log_variance = self.log_variance(hidden)
        z = mean
        if self.training:
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance).clamp(max=MAX_DEVIATION)
        return EncoderOutput(self.classifier(self.dropout(z)), z, None, Latent(mean, log_variance))
