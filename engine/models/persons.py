"""Persons folded into the batch: what every backbone that looks at one person at a time has in common.

Such a backbone encodes each person of a clip by itself and averages, empty slots (all zeros) too, as published. In
evaluation an empty slot therefore adds a constant of the encoder, so it need not be computed: :class:`PresentPersons`
runs the encoder on the persons that are there and takes the rest from a table. In training batch norms mix all rows,
and every slot is computed.
"""

from __future__ import annotations

import copy
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from engine.models.backbone_card import BackboneCard


class Latent(NamedTuple):
    """Mean and log-variance ``(N, D)`` of a stochastic feature; the output's ``features`` are the sample drawn."""

    mean: Tensor
    log_variance: Tensor


class EncoderOutput(NamedTuple):
    """``logits`` ``(N, K)``, ``features`` ``(N, D)``, ``graph`` ``(N, 3, V, V)`` or None, ``latent`` or None.

    ``graph`` is the sample-dependent topology of the last graph convolution, averaged over persons and channels (or
    frames); gradients flow through it. ``features`` are what the classifier reads.
    """

    logits: Tensor
    features: Tensor
    graph: Tensor | None = None
    latent: Latent | None = None


class PersonFolding(nn.Module):
    """A backbone made of three parts: ``fold`` the persons, ``encode`` each, ``head`` on their mean.

    A subclass sets ``persons``, ``pooled_dim`` (width of what ``encode`` returns), ``feature_dim``, ``classifier`` and
    ``dropout`` and writes ``fold`` and ``encode``.
    """

    card: ClassVar[BackboneCard]
    persons: int
    pooled_dim: int
    feature_dim: int
    classifier: nn.Linear
    dropout: nn.Module

    def fold(self, clips: Tensor) -> Tensor:
        """Clips ``(N, C, T, V, M)`` to normalised single persons, batch ``N * M`` with the person fastest."""
        raise NotImplementedError

    def encode(self, folded: Tensor, want_graph: bool = False) -> tuple[Tensor, Tensor | None]:
        """Single persons to pooled features ``(N * M, pooled_dim)`` and their graphs ``(N * M, 3, V, V)`` or None."""
        raise NotImplementedError

    def head(self, pooled: Tensor) -> EncoderOutput:
        """The mean over persons ``(N, pooled_dim)`` to the output, without a graph."""
        return EncoderOutput(self.classifier(self.dropout(pooled)), pooled)

    def forward(self, clips: Tensor, want_graph: bool = False) -> EncoderOutput:
        """Clips float32 ``(N, C, T, V, M)`` to logits ``(N, K)``, features ``(N, feature_dim)`` and the graph.

        Raises ``ValueError`` for another number of person slots: folded, they would silently mix clips.
        """
        if clips.dim() != 5 or int(clips.shape[4]) != self.persons:
            raise ValueError(f"clips are {tuple(clips.shape)}, wanted (N, C, T, V, {self.persons})")
        pooled, graph = self.encode(self.fold(clips), want_graph)
        out = self.head(pooled.view(-1, self.persons, self.pooled_dim).mean(1))
        if graph is not None:
            out = out._replace(graph=graph.view(-1, self.persons, *(int(size) for size in graph.shape[1:])).mean(1))
        return out


def fold_with_norm(clips: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """Normalise over ``(M, V, C)`` features, every person slot by its own statistics, and fold: ``(N * M, C, T, V)``.

    Source: skeletongcl.md, section 2.1 (data BN: person outermost, then joint, then channel).
    """
    c, t, v, m = (int(size) for size in clips.shape[1:])
    x = norm(clips.permute(0, 4, 3, 1, 2).reshape(-1, m * v * c, t))
    return x.view(-1, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(-1, c, t, v)


class PresentPersons(nn.Module):
    """A frozen copy of an encoder that computes only the persons who are there; equal to it in evaluation mode.

    Which persons are there is read from the clips (a slot is empty when every number is exactly zero), also inside
    an exported graph: the graph keeps its one input and its outputs.

    Parameters
    ----------
    encoder : PersonFolding
        Copied and put into evaluation mode; later changes of its weights are not seen.
    clip_shape : tuple of int
        ``(C, T, V, M)``; an empty slot's contribution depends on the number of frames.

    Raises
    ------
    ValueError
        On a forward pass with clips of another shape.
    """

    def __init__(self, encoder: PersonFolding, clip_shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).eval()
        self.clip_shape = tuple(clip_shape)
        weight = next(self.encoder.parameters())
        with torch.no_grad():
            nobody = torch.zeros(1, *self.clip_shape, dtype=weight.dtype, device=weight.device)
            empty = self.encoder.encode(self.encoder.fold(nobody))[0]
        self.empty: Tensor
        self.register_buffer("empty", empty)

    def train(self, mode: bool = True) -> PresentPersons:
        """Stays in evaluation mode: the table is only true there."""
        return super().train(False)

    def forward(self, clips: Tensor) -> EncoderOutput:
        """As the encoder's, without graph."""
        # int(): in a trace the comparison is with plain numbers, and nothing of it lands in the graph.
        if tuple(int(size) for size in clips.shape[1:]) != self.clip_shape:
            raise ValueError(
                f"clips are {tuple(clips.shape)}, the table of empty persons is for (N, {self.clip_shape})"
            )
        persons, width = self.encoder.persons, self.encoder.pooled_dim
        # "Not zero" instead of "large": a person made of NaN is there, and must not be hidden.
        present = (clips != 0).to(clips.dtype).amax((1, 2, 3)).view(-1) > 0
        # One row is always computed: a batch in which nobody is there would leave the convolutions without rows.
        present = torch.cat([torch.ones_like(present[:1]), present[1:]])
        rows = present.nonzero().view(-1)
        pooled = self.encoder.encode(self.encoder.fold(clips).index_select(0, rows))[0]
        table = self.empty.unsqueeze(0).expand(clips.shape[0], persons, width).reshape(-1, width)
        everybody = table.index_copy(0, rows, pooled)
        return self.encoder.head(everybody.view(-1, persons, width).mean(1))


def skip_empty_persons(encoder: nn.Module, clip_shape: tuple[int, int, int, int]) -> nn.Module:
    """The encoder with :class:`PresentPersons` around it where that saves work, else the encoder itself."""
    if isinstance(encoder, PersonFolding) and encoder.persons > 1:
        return PresentPersons(encoder, clip_shape)
    return encoder
