"""CMD's and I2MD's two views of a batch: independent crops, then shear or joint corruption, then three streams.

Source: i2md.md, sections 1.3, 1.4 and 5. The streams are made last, so a zeroed joint changes bones and motion too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from engine.data.batch import geometric, joints, temporal
from engine.data.batch.draws import chance
from engine.data.batch.sampling import CentreCrop, RandomCrop
from engine.data.batch.streams import bone, motion
from engine.skeleton.layout import NTU25, Layout


class CmdViews(BaseModel):
    """Strengths and probabilities of CMD's pretraining views."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(64, ge=1, description="Frames every crop is resized to.")
    crop_low: float = Field(0.1, gt=0, le=1, description="Smallest part of the clip a crop takes (downstream: 0.5).")
    crop_least: int = Field(64, ge=1, description="A crop has at least this many frames, where the clip has them.")
    shear_share: float = Field(0.5, ge=0, le=1, description="Probability of a shear; otherwise joints are corrupted.")
    shear: float = Field(1.0, ge=0, description="Off-diagonals of the shear, uniform in +-.")
    corrupted: int = Field(15, ge=0, description="Joints that are corrupted, of all.")
    zero_share: float = Field(0.5, ge=0, le=1, description="Probability that corrupted joints become zero.")
    jitter: float = Field(1.0, ge=0, description="Otherwise a matrix with entries uniform in +- multiplies them.")


@dataclass(frozen=True)
class CmdDraw:
    """Parameters of one view: one draw per clip, the same for all frames and both persons."""

    sheared: Tensor  # (N,) bool
    shear: Tensor  # (N, 3, 3)
    joints: Tensor  # (N, V) bool
    zeroed: Tensor  # (N,) bool
    jitter: Tensor  # (N, 3, 3)


def draw(clips: Tensor, generator: torch.Generator, settings: CmdViews) -> CmdDraw:
    """Random parameters of one view.

    Raises
    ------
    ValueError
        More joints to corrupt than the clips have.
    """
    n, device = len(clips), clips.device
    if settings.corrupted > clips.shape[3]:
        raise ValueError(f"corrupted = {settings.corrupted}, but the clips have {clips.shape[3]} joints")
    return CmdDraw(
        sheared=chance(n, settings.shear_share, generator, device),
        shear=geometric.draw_shear(n, settings.shear, generator, device),
        joints=joints.draw_joints(n, clips.shape[3], settings.corrupted, generator, device),
        zeroed=chance(n, settings.zero_share, generator, device),
        jitter=geometric.draw_matrices(n, settings.jitter, generator, device),
    )


def apply(clips: Tensor, parameters: CmdDraw) -> Tensor:
    """Shear or joint corruption, both as one matrix per joint: absent persons stay zero."""
    corruption = joints.corruption_matrices(parameters.joints, ~parameters.zeroed, parameters.jitter)
    shear = parameters.shear[..., None]
    return geometric.transform(clips, torch.where(parameters.sheared[:, None, None, None], shear, corruption))


def augment(clips: Tensor, generator: torch.Generator, settings: CmdViews | None = None) -> Tensor:
    """One view of clips that are already cropped and resized."""
    return apply(clips, draw(clips, generator, settings or CmdViews()))


def views(
    clips: Tensor | tuple[Tensor, Tensor],
    generator: torch.Generator,
    settings: CmdViews | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Two views with independent crops and changes, as joints.

    Parameters
    ----------
    clips : Tensor or pair of Tensor
        ``(N, 3, T, V, M)``, front-aligned; or two crops of the same sequences ``(N, 3, frames, V, M)``, as
        :class:`.sampling.RandomCrop` reads them straight from the store.
    lengths : Tensor, optional
        int64 ``(N,)``, real frames of the clips; default all. Not used with a pair.

    Returns
    -------
    tuple of Tensor
        Query's and key's view, ``(N, 3, frames, V, M)`` each; :func:`modalities` makes the streams.
    """
    settings = settings or CmdViews()
    if isinstance(clips, tuple):
        first, second = clips
        return augment(first, generator, settings), augment(second, generator, settings)
    first, second = (training_crop(clips, generator, settings, lengths) for _ in range(2))
    return augment(first, generator, settings), augment(second, generator, settings)


def training_crop(
    clips: Tensor, generator: torch.Generator, settings: CmdViews | None = None, lengths: Tensor | None = None
) -> Tensor:
    """The random crop alone: what downstream training sees, with ``crop_low=0.5``."""
    settings = settings or CmdViews()
    rule = RandomCrop(settings.frames, settings.crop_low, 1.0, settings.crop_least)
    return temporal.crop(clips, temporal.all_frames(clips, lengths), rule, generator)[0]


def evaluation_crop(clips: Tensor, settings: CmdViews | None = None, lengths: Tensor | None = None) -> Tensor:
    """The centre crop of every test pass, and of both splits for nearest neighbours."""
    rule = CentreCrop((settings or CmdViews()).frames)
    return temporal.crop(clips, temporal.all_frames(clips, lengths), rule)[0]


def modalities(view: Tensor, layout: Layout = NTU25) -> dict[str, Tensor]:
    """Joint, motion and bone stream of one view; crop and changes are shared by the three."""
    return {"joint": view, "motion": motion(view), "bone": bone(view, layout)}
