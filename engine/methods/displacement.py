"""Multi-interval pose displacement prediction (MPDP), GL-Transformer's pretraining: where was every joint n frames ago?

From the encoder's output at a frame one linear layer names, for every token and interval, the direction (27 classes)
and the size (16 classes) of the way back to where the token was; nothing of the clip is hidden. The clips must come
normalised by one of :data:`INPUTS`. Source: gl_transformer.md, section 3 (Kim, Chang, Kim, Choi: Global-local Motion
Transformer for Unsupervised Skeleton-based Action Learning, ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from engine.data.batch import masking
from engine.data.batch.masking import DIRECTIONS, MAGNITUDES, DisplacementTargets, Grouping
from engine.data.batch.recipes_gl_transformer import GlTransformerViews, augment
from engine.methods.momentum import freeze_classifier, own_generator
from engine.methods.objective import Gather, Outcome, alone, at_least_float32
from engine.models.gl_transformer import GLTransformer
from engine.skeleton.layout import Layout

INPUTS: dict[str, str] = {
    "gl_transformer": "as released: origin and heading of each person by itself, of every frame; where two persons "
    "stand and face with respect to each other is lost",
    "gl_transformer_clean": "as released, with late arrivals and the sign of the heading mended",
    "gl_transformer_shared": "one origin and one turn for both persons: keeps how they stand and face to each other",
}
"""Normalisations of the checkpoint card (``preprocessing.normalisation``) this method can learn from.

They stand in the card and not in the settings below: evaluation and the live path must feed the encoder the same way.
"""


class DisplacementSettings(BaseModel):
    """The objective's settings; defaults are the published training with the intended grouping of global tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    views: GlTransformerViews = Field(
        GlTransformerViews(), description="Augmentation and intervals; frames beyond the encoder's own are cut."
    )
    grouping: Grouping = Field(
        "intended",
        description="Which items global_weight is for. intended: the body tokens of all intervals; released: those of "
        "the first interval only (an index slip of the released code).",
    )
    global_weight: float = Field(0.05, ge=0, description="Weight of the mean over global items (lambda_g).")
    magnitude_weight: float = Field(1.0, ge=0, description="Weight of the size classes (lambda_m).")
    absent: Literal["learn", "leave_out"] = Field(
        "learn",
        description="learn: items of absent persons count, with classes of their own (as published); leave_out: an "
        "item counts where its person is there at both ends of the interval.",
    )


class DisplacementHeads(nn.Module):
    """Direction and size of every token's displacement, for several intervals; not part of a checkpoint.

    Parameters
    ----------
    width, tokens : int
        Width of the encoder's frames and tokens in a frame.
    intervals : int
        Number of intervals; 3 as published.
    """

    def __init__(self, width: int = 2400, tokens: int = 50, intervals: int = 3) -> None:
        super().__init__()
        # One product for all intervals: the framework's initialisation depends on the input's width only.
        self.direction = nn.Linear(width, intervals * tokens * DIRECTIONS)
        self.magnitude = nn.Linear(width, intervals * tokens * MAGNITUDES)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``(..., W)`` to logits ``(..., intervals * J, 27)`` and ``(..., intervals * J, 16)``.

        Position ``r * J + j`` is token ``j`` in interval ``r``. Give it ``frames[valid]`` to skip padding.
        """
        return (
            self.direction(frames).unflatten(-1, (-1, DIRECTIONS)),
            self.magnitude(frames).unflatten(-1, (-1, MAGNITUDES)),
        )


class Displacement(nn.Module):
    """MPDP around an encoder.

    Parameters
    ----------
    make_encoder : callable
        Gives a :class:`~engine.models.gl_transformer.GLTransformer`.
    feature_dim : int
        Width of its frames.
    settings : DisplacementSettings
    layout : Layout
        Joints of the clips; the root's slot holds the body's path.
    normalisation : str, optional
        That of the clips, where it is known.

    Raises
    ------
    ValueError
        The encoder has no output per frame, or another width or layout; a normalisation that is not one of
        :data:`INPUTS`.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        feature_dim: int,
        settings: DisplacementSettings,
        layout: Layout,
        normalisation: str | None = None,
    ) -> None:
        super().__init__()
        if normalisation is not None and normalisation not in INPUTS:
            raise ValueError(
                f"clips are normalised as {normalisation!r}, but the root's slot must hold the body's path: set "
                f"preprocessing.normalisation to {', '.join(INPUTS)}"
            )
        encoder = make_encoder()
        if not isinstance(encoder, GLTransformer):
            raise ValueError(
                f"displacement prediction reads every frame's output; {type(encoder).__name__} has none (use the "
                "backbone gl_transformer)"
            )
        if encoder.feature_dim != feature_dim or encoder.tokens % layout.num_joints:
            raise ValueError(
                f"the encoder has {encoder.tokens} tokens and width {encoder.feature_dim}; wanted a multiple of the "
                f"{layout.num_joints} joints of {layout.name} and width {feature_dim}"
            )
        freeze_classifier(encoder)
        self.encoder = encoder
        self.frames = min(encoder.frames, settings.views.frames)
        self.settings, self.layout = settings, layout
        self.persons = encoder.tokens // layout.num_joints
        intervals = len(settings.views.intervals)
        self.heads = DisplacementHeads(feature_dim, encoder.tokens, intervals)
        with torch.device("cpu"):  # also where the weights are only described (meta)
            joints, root = layout.num_joints, layout.root
            body, _ = masking.global_positions(joints, self.persons, root, intervals, settings.grouping)
            is_global = torch.zeros(intervals * encoder.tokens, dtype=torch.bool)
            is_global[body] = True
        self.is_global: Tensor
        self.register_buffer("is_global", is_global, persistent=False)

    def forward(
        self,
        views: tuple[Tensor, ...],
        lengths: tuple[Tensor, ...],
        generator: torch.Generator,
        gather: Gather = alone,
    ) -> Outcome:
        """One step's loss; see :class:`~engine.methods.objective.SelfSupervised`.

        One view, normalised by one of :data:`INPUTS`. Parts (cross entropies, means over their items):
        ``direction_local``, ``direction_global``, ``magnitude_local``, ``magnitude_global``, and over everything of
        person 0, 1 ``direction_person_0`` ...; of person 0 also ``direction_accuracy`` and ``magnitude_accuracy``.
        """
        clips, targets, counted = self.prepare(views, lengths, own_generator(generator, views[0].device))
        direction, magnitude = self.heads(self.encoder.encode_valid(clips, targets.valid))
        chosen = (targets.direction[targets.valid], targets.magnitude[targets.valid], counted[targets.valid])
        return self.loss(direction, magnitude, *chosen, gather)

    def prepare(
        self, views: tuple[Tensor, ...], lengths: tuple[Tensor, ...], generator: torch.Generator
    ) -> tuple[Tensor, DisplacementTargets, Tensor]:
        """The clips as the encoder reads them, and what is to be predicted.

        Returns
        -------
        clips : Tensor
            ``(N, 3, T', V, M)``, stretched and sheared; T' is the longest clip of the batch, not more.
        targets : DisplacementTargets
        counted : Tensor
            bool ``(N, T', R V M)``: items of which the loss takes account.
        """
        (clips,), (real,) = self._one(views), lengths
        how = self.settings.views
        # Frames beyond what the longest clip can be stretched to would only be made to be thrown away.
        longest = int((int(real.max()) + 1) * (1 + how.stretch))
        how = how.model_copy(update={"frames": min(self.frames, max(longest, 1))})
        absent = masking.absent_second(clips)
        clips, kept = augment(clips, generator, how, real, self.layout)
        clips = clips[:, :, : int(kept.max())]
        if self.settings.absent == "learn":
            targets = masking.displacement_targets(clips, kept, absent, how.intervals)
            return clips, targets, torch.ones_like(targets.direction, dtype=torch.bool)
        targets = masking.displacement_targets(clips, kept, torch.zeros_like(absent), how.intervals)
        return clips, targets, self._both_ends(clips, kept)

    def _one(self, views: tuple[Tensor, ...]) -> tuple[Tensor]:
        joints = (self.layout.num_joints, self.persons)
        if len(views) != 1 or views[0].dim() != 5 or tuple(views[0].shape[3:]) != joints:
            shapes = ", ".join(str(tuple(view.shape)) for view in views)
            raise ValueError(f"views are {shapes}; wanted one (N, 3, T, {joints[0]}, {joints[1]})")
        return (views[0],)

    def _both_ends(self, clips: Tensor, lengths: Tensor) -> Tensor:
        """bool ``(N, T, R V M)``: the item's person is there now and n frames ago."""
        n, _, t, v, m = clips.shape
        local = [joint for joint in range(v) if joint != self.layout.root]
        # The body's path may go on without a body (as released); its joints don't.
        there = (clips[:, :, :, local] != 0).any(3, keepdim=True).any(1, keepdim=True).to(clips.dtype)
        both = []
        for interval in self.settings.views.intervals:
            earlier = masking.displacement(there, interval, lengths) + there
            both.append((there * earlier > 0)[:, 0].expand(n, t, v, m).flatten(2))
        return torch.cat(both, 2)

    def loss(
        self, direction: Tensor, magnitude: Tensor, directions: Tensor, sizes: Tensor, counted: Tensor,
        gather: Gather = alone,
    ) -> Outcome:  # fmt: skip
        """``sum over direction, lambda_m size of [lambda_g mean over global items + mean over local items]``.

        Parameters
        ----------
        direction, magnitude : Tensor
            Logits ``(F, R J, 27)`` and ``(F, R J, 16)`` of F frames.
        directions, sizes : Tensor
            Classes int64 ``(F, R J)``.
        counted : Tensor
            bool ``(F, R J)``: items that enter the loss.
        gather : callable
            See :mod:`engine.methods.objective`.
        """
        item = torch.arange(directions.shape[1], device=directions.device)
        groups = {"global": self.is_global, "local": ~self.is_global}
        groups |= {f"person_{p}": item % self.persons == p for p in range(self.persons)}
        # Every mean is over the items of all processes; each adds its own, scaled for the mean over processes.
        counts = gather(torch.stack([counted[:, members].sum() for members in groups.values()]).unsqueeze(0))
        items = dict(zip(groups, counts.sum(0).clamp(min=1), strict=True))

        def means(values: Tensor) -> dict[str, Tensor]:
            per_item = values.view_as(counted).masked_fill(~counted, 0).sum(0)
            return {group: per_item[members].sum() * len(counts) / items[group] for group, members in groups.items()}

        parts: dict[str, Tensor] = {}
        losses = []
        for name, logits, classes in (("direction", direction, directions), ("magnitude", magnitude, sizes)):
            logits = at_least_float32(logits).flatten(0, 1)
            entropies = means(functional.cross_entropy(logits, classes.flatten(), reduction="none"))
            losses.append(self.settings.global_weight * entropies["global"] + entropies["local"])
            parts |= {f"{name}_{group}": mean.detach() for group, mean in entropies.items()}
            right = logits.detach().argmax(1) == classes.flatten()
            parts[f"{name}_accuracy"] = means(right.to(logits.dtype))["person_0"]
        return Outcome(losses[0] + self.settings.magnitude_weight * losses[1], parts)
