"""GL-Transformer: joints attend within a frame, frames attend within a clip; global motion travels as tokens.

Written from the GL-Transformer specification, section 2. The encoder does not prepare its input: the root joint's slot
of the clip carries the body's path since the first frame, the other slots positions relative to the root (section 1.3).
Padding is frames of zeros at the end (or of 99.9, as in the released arrays) and is never computed, except for an
exported graph. Parameter and multiply-add counts are asserted in the tests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.backbone_card import BackboneCard
from engine.models.persons import EncoderOutput
from engine.models.ragged import Attention, Rows, exporting
from engine.skeleton.layout import get_layout

PADDING = 99.9
# Half precision stores 99.9 as 99.875, bfloat16 as 100; no joint is ever there.
_PADDING_WIDTH = 0.2

# 11.7 million instead of 199 million parameters and 0.77 instead of 61 billion multiply-adds (two persons, 25 joints).
ECONOMICAL: dict[str, Any] = {"frames": 64, "channels": 16, "blocks": 2, "heads": 4}

CARD = BackboneCard(
    title="GL-Transformer",
    paper="B. Kim, H. J. Chang, J. Kim, J. Y. Choi: Global-local Motion Transformer for Unsupervised Skeleton-based "
    "Action Learning. ECCV 2022",
    year=2022,
    input="(3, 300, 25, 2): xyz, frames (padded with 99.9), joints, persons; the root's slot holds the body's path",
    streams=("joint",),
    parameters=199_027_260,
    setting={"num_classes": 60, "layout": "ntu25", "persons": 2},
    gmac=61.323,
    notes="The paper's 198,885,600 parameters of the encoder count a token nothing uses (2,400), left out here. "
    "Economical setting (gl_transformer.ECONOMICAL: 64 frames, 16 channels, 2 blocks, 4 heads): 11,696,828 parameters, "
    "0.767 GMAC; not the paper's.",
)


def multiply_adds(frames: int, tokens: int, channels: int = 48, blocks: int = 4, expansion: float = 2.0) -> int:
    """Multiply-adds of one clip, matrix products only (specification, section 2.6)."""
    width = tokens * channels
    spatial = 4 * tokens * channels**2 + 2 * tokens**2 * channels
    temporal = 4 * width**2 + 2 * frames * width + 2 * int(expansion * width) * width
    return frames * (3 * width + blocks * (spatial + temporal) + 2 * width**2)


def valid_frames(clips: Tensor) -> Tensor:
    """Frames of ``(N, C, T, V, M)`` that are not padding, bool ``(N, T)``.

    Padding is what stands behind the last frame with anybody in it, as the loader leaves it: zeros, which are the same
    number in every float type. Frames filled with 99.9 (the released arrays) are padding wherever they stand; they are
    compared with a tolerance, because 99.9 is another number in every float type. NaN is not padding: it must be seen.
    """
    marked = (clips[:, 0, :, 0, 0] - PADDING).abs() < _PADDING_WIDTH
    # float32 whatever the clips are: bfloat16 can't count to 300.
    somebody = (clips != 0).float().amax((1, 3, 4)) * (~marked).float()
    place = torch.arange(1, int(clips.shape[2]) + 1, dtype=torch.float32, device=clips.device)
    return ~marked & (place <= (somebody * place).amax(1, keepdim=True))


class FeedForward(nn.Module):
    """Linear, GELU, dropout, linear, dropout."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(functional.gelu(self.fc1(x)))))


class Block(nn.Module):
    """Spatial attention, temporal attention on whole frames, feed-forward; one positional table, added twice."""

    def __init__(
        self, frames: int, tokens: int, channels: int, heads: int, expansion: float, dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        width = tokens * channels
        self.rate = drop_path
        self.positional_emb = nn.Parameter(torch.zeros(1, frames, tokens, channels))
        self.norm1_sp = nn.LayerNorm(channels)
        self.attention_sp = Attention(channels, heads, dropout)
        self.norm1_tm = nn.LayerNorm(width)
        self.attention_tm = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, int(expansion * width), dropout)

    def _add(self, x: Tensor, branch: Tensor, rows: Rows, per_clip: bool) -> Tensor:
        return x + (rows.drop_path(branch, self.rate, per_clip) if self.training and self.rate else branch)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """Tokens ``(N, T, J, D)`` or packed ``(n, J, D)``, the same shape out."""
        shape = [int(size) for size in x.shape[1:]]
        where = rows.table(self.positional_emb)
        z = x + where
        z = self._add(z, self.attention_sp(self.norm1_sp(z)), rows, per_clip=False)
        z = (z + where).view(-1, *shape[:-2], shape[-2] * shape[-1])
        z = self._add(z, self.attention_tm(self.norm1_tm(z), rows), rows, per_clip=True)
        z = self._add(z, self.feedforward(self.norm2(z)), rows, per_clip=True)
        return z.view(-1, *shape)


class EncodedFrames(NamedTuple):
    """Motion of every frame ``(N, T', W)``, zeros where a frame is padding; ``valid`` ``(N, T')``.

    ``T'`` reaches to the last valid frame of the batch.
    """

    frames: Tensor
    valid: Tensor


class GLTransformer(nn.Module):
    """The published encoder with a linear classifier on the mean over valid frames.

    Parameter names are those of the released weights (``classifier`` is theirs' ``linear``). The defaults are
    published and large (199 million parameters); :data:`ECONOMICAL` holds arguments for everyday machines.

    Parameters
    ----------
    num_classes : int
        Width of the classifier.
    layout : str
        Joint layout of the clips; the slot of its root joint carries the body's path.
    persons : int
        Person slots M; all persons' joints are tokens of one frame, an absent person's zeros included, as published.
    frames : int
        Longest clip; shorter ones use the first rows of the positional tables.
    in_channels, channels, blocks, heads, expansion, dropout, drop_path
        3, 48, 4, 8, 2, 0.1 and 0.1 (growing linearly from 0 at the first block) as published.
    """

    card = CARD

    def __init__(
        self,
        num_classes: int,
        layout: str = "ntu25",
        persons: int = 2,
        frames: int = 300,
        in_channels: int = 3,
        channels: int = 48,
        blocks: int = 4,
        heads: int = 8,
        expansion: float = 2.0,
        dropout: float = 0.1,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        skeleton = get_layout(layout)
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide into {heads} heads")
        self.tokens = skeleton.num_joints * persons
        self.root = slice(skeleton.root * persons, (skeleton.root + 1) * persons)
        self.frames = frames
        self.feature_dim = width = self.tokens * channels
        self.emb = nn.Linear(in_channels, channels)
        self.emb_global = nn.Linear(in_channels, channels)
        self.dropout = nn.Dropout(dropout)
        rates = [drop_path * i / max(blocks - 1, 1) for i in range(blocks)]
        self.encoder_blocks = nn.ModuleList(
            [Block(frames, self.tokens, channels, heads, expansion, dropout, rate) for rate in rates]
        )
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
        )
        self.classifier = nn.Linear(width, num_classes)

    def _embed(self, tokens: Tensor) -> Tensor:
        local = self.emb(tokens)
        path = self.emb_global(tokens[..., self.root, :])
        return self.dropout(torch.cat([local[..., : self.root.start, :], path, local[..., self.root.stop :, :]], -2))

    def _encode(self, clips: Tensor, valid: Tensor | None) -> tuple[Tensor, Rows]:
        if clips.shape[2] > self.frames:
            raise ValueError(f"clips have {clips.shape[2]} frames, the positional tables {self.frames}")
        valid = valid_frames(clips) if valid is None else valid
        # A clip without any valid frame is read at its first frame: softmax and mean need one.
        nobody = ~valid.any(1, keepdim=True)
        valid = torch.cat([valid[:, :1] | nobody, valid[:, 1:]], 1)
        # The batch stays symbolic in a graph, where nothing below needs it as a number.
        n, t = clips.shape[0], int(clips.shape[2])
        flat: Tensor | None = None
        some: Tensor | None = valid
        if not exporting():
            t = int(valid.any(0).nonzero().max()) + 1
            clips, some = clips[:, :, :t], valid[:, :t]
            flat = some.flatten().nonzero().view(-1)
            if len(flat) == n * t:
                flat = some = None
        rows = Rows(n, t, some, flat)
        x = self._embed(rows.pack(clips.permute(0, 2, 3, 4, 1).flatten(2, 3)))
        for block in self.encoder_blocks:
            x = block(x, rows)
        return self.mlp(self.norm(x.flatten(-2))), rows

    def encode_valid(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        """Output ``(n, W)`` of the valid frames alone, clip after clip: ``encode(...).frames[encode(...).valid]``."""
        frames, rows = self._encode(clips, valid)
        if rows.flat is not None:
            return frames
        return frames.flatten(0, 1) if rows.valid is None else frames[rows.valid]

    def encode(self, clips: Tensor, valid: Tensor | None = None) -> EncodedFrames:
        """Output of every frame, before pooling; ``valid`` as in :meth:`forward`."""
        frames, rows = self._encode(clips, valid)
        kept = torch.ones(rows.clips, rows.frames, dtype=torch.bool, device=clips.device)
        return EncodedFrames(rows.unpack(frames), kept if rows.valid is None else rows.valid)

    def forward(self, clips: Tensor, want_graph: bool = False, valid: Tensor | None = None) -> EncoderOutput:
        """Clips float32 ``(N, C, T, V, M)`` to logits ``(N, K)`` and features ``(N, W)``; there is no graph.

        ``valid`` bool ``(N, T)`` marks the frames that are not padding; without it see :func:`valid_frames`.
        Raises ``ValueError`` for more frames than the positional tables have.
        """
        frames, rows = self._encode(clips, valid)
        if rows.valid is None:
            features = frames.mean(1)
        else:
            weight = rows.valid.to(frames.dtype)
            features = (rows.unpack(frames) * weight.unsqueeze(2)).sum(1) / weight.sum(1, keepdim=True)
        return EncoderOutput(self.classifier(features), features)
