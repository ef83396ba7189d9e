"""GL-Transformer's input and what it learns from it: stretched time, sheared local joints, displacement classes.

Source: gl_transformer.md, sections 1.6 and 3.1. Classes are computed from the changed clip.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from engine.data.batch import geometric, masking, temporal
from engine.data.batch.sampling import Stretch
from engine.skeleton.layout import NTU25, Layout


class GlTransformerViews(BaseModel):
    """Strengths of GL-Transformer's pretraining; linear evaluation trains with ``shear=0``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(300, ge=1, description="Frames of the clip, padding included; longer clips are cut.")
    stretch: float = Field(0.1, ge=0, lt=1, description="Length changes by a factor 1 +- this times U[0, 1).")
    shear: float = Field(0.3, ge=0, description="Off-diagonals of the shear of local joints, uniform in +-.")
    intervals: tuple[int, ...] = Field(masking.INTERVALS, description="Frames between the two ends of a displacement.")


def shear_local(clips: Tensor, matrices: Tensor, centre: int) -> Tensor:
    """Shear every joint but the centre slot, which holds the body's path and stays bit for bit."""
    out = geometric.transform(clips, matrices)
    out[:, :, :, centre] = clips[:, :, :, centre]
    return out


def augment(
    clips: Tensor,
    generator: torch.Generator,
    settings: GlTransformerViews | None = None,
    lengths: Tensor | None = None,
    layout: Layout = NTU25,
) -> tuple[Tensor, Tensor]:
    """Stretch, then shear.

    Parameters
    ----------
    clips : Tensor
        ``(N, 3, T, V, M)``: joints relative to the centre joint of the same person and frame, the person's path since
        frame 0 in the centre joint's slot; zeros behind ``lengths``.
    lengths : Tensor, optional
        int64 ``(N,)``, real frames; default all.

    Returns
    -------
    clips : Tensor
        ``(N, 3, frames, V, M)``, zeros behind the new lengths.
    lengths : Tensor
        int64 ``(N,)``. A clip without frames becomes one frame of zeros, as published.
    """
    settings = settings or GlTransformerViews()
    lengths = temporal.all_frames(clips, lengths)
    out, kept = temporal.crop(clips, lengths, Stretch(settings.frames, settings.stretch), generator)
    if settings.shear:
        matrices = geometric.draw_shear(len(out), settings.shear, generator, out.device)
        out = shear_local(out, matrices, layout.root)
    return out, kept


def views(
    clips: Tensor,
    generator: torch.Generator,
    settings: GlTransformerViews | None = None,
    lengths: Tensor | None = None,
    layout: Layout = NTU25,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One changed clip and the classes its every token and frame is to predict; parameters as :func:`augment`.

    Returns
    -------
    clips : Tensor
        ``(N, 3, frames, V, M)``; :func:`.masking.tokens` lays it out as the encoder reads it.
    valid : Tensor
        bool ``(N, frames)``: frames that are not padding.
    direction, magnitude : Tensor
        int64 ``(N, frames, R V M)``, see :class:`.masking.DisplacementTargets`.
    """
    settings = settings or GlTransformerViews()
    absent = masking.absent_second(clips)
    out, kept = augment(clips, generator, settings, lengths, layout)
    targets = masking.displacement_targets(out, kept, absent, settings.intervals)
    return out, targets.valid, targets.direction, targets.magnitude
