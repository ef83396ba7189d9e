"""HiCLR's four views of a batch: key and basic, normal, strong queries, each set growing out of the one before.

Source: hiclr.md, section 4. Defaults are the released training; ``HiclrViews.clean()`` mends what the specification
calls quirks. The order is the published one: basic and normal changes on joints, then the stream, then the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from engine.data.batch import geometric, joints, temporal
from engine.data.batch.draws import chance, uniform
from engine.data.batch.streams import make_stream
from engine.data.preprocess import Stream
from engine.skeleton.layout import NTU25, Layout


class HiclrViews(BaseModel):
    """Strengths and probabilities of HiCLR's augmentations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream: Stream = Field("joint", description="Stream the views are turned into, before the strong set.")
    crop_ratio: int = Field(6, ge=1, description="The clip is lengthened by frames // ratio mirrored frames per end.")
    shear: float = Field(0.5, ge=0, description="Off-diagonals of the shear, uniform in +-.")
    swap: float = Field(0.5, ge=0, le=1, description="Probability of exchanging left and right joints.")
    swap_mirrors: bool = Field(False, description="Exchanging sides mirrors x too (published: joints are relabelled).")
    main_deg: float = Field(
        30.0, ge=0, le=180, description="Rotation about the main axis, uniform in 0..this, degrees."
    )
    other_deg: float = Field(
        1.0, ge=0, le=180, description="Rotation about the two others, uniform in 0..this, degrees."
    )
    noise: float = Field(0.5, ge=0, le=1, description="Probability of Gaussian noise.")
    noise_std: float = Field(0.01, ge=0, description="Its standard deviation, metres.")
    noise_on_absent: bool = Field(True, description="Noise reaches absent persons too (as published).")
    blur: float = Field(0.5, ge=0, le=1, description="Probability of a Gaussian blur along time.")
    blur_taps: int = Field(15, ge=1, description="Frames the blur spans; odd.")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="Range of its sigma, frames.")
    blur_normalised: bool = Field(False, description="Weights sum to 1 (published: they don't, gain up to 5).")
    axis_mask: float = Field(0.5, ge=0, le=1, description="Probability of zeroing one of x, y, z.")
    reverse: float = Field(0.0, ge=0, le=1, description="Probability of playing the clip backwards (published: off).")
    strong: Literal["mask", "adain", "none"] = Field("mask", description="Strong set: joint mask, SkeleAdaIN, nothing.")
    mask_ratio: float = Field(0.1, ge=0, le=1, description="int(joints * ratio) joints are masked in every frame.")
    mask_per_clip: bool = Field(False, description="Every clip has a mask of its own (published: one per batch).")
    strong_on_absent: bool = Field(True, description="The strong set reaches absent persons too (as published).")

    @field_validator("blur_taps")
    @classmethod
    def _odd(cls, taps: int) -> int:
        if taps % 2 == 0:
            raise ValueError(f"{taps} is even; a blur is centred on a frame")
        return taps

    @field_validator("blur_sigma")
    @classmethod
    def _range(cls, sigma: tuple[float, float]) -> tuple[float, float]:
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"{sigma} is not a range above zero")
        return sigma

    @classmethod
    def clean(cls, **changes: object) -> HiclrViews:
        """Defaults without the quirks 3, 4, 5, 17 of hiclr.md 9.2 and without noise and masks on nobody."""
        mended = {
            "swap_mirrors": True, "blur_normalised": True, "mask_per_clip": True, "noise_on_absent": False,
            "strong_on_absent": False,
        }  # fmt: skip
        return cls.model_validate(mended | changes)


@dataclass(frozen=True)
class BasicDraw:
    """Crop start ``(N,)`` and shear ``(N, 3, 3)``."""

    start: Tensor
    shear: Tensor


@dataclass(frozen=True)
class NormalDraw:
    """Parameters of the normal set, in the order in which they act."""

    swap: Tensor  # (N,) bool
    angles: Tensor  # (N, 3) radians
    noise: Tensor  # as the clips; zero where a clip gets none
    blur: Tensor  # (N,) bool
    sigma: Tensor  # (N,)
    keep_axes: Tensor  # (N, 3) of 1 and 0
    reverse: Tensor  # (N,) bool


def draw_basic(clips: Tensor, generator: torch.Generator, settings: HiclrViews) -> BasicDraw:
    """Random parameters of the basic set."""
    n, frames = len(clips), clips.shape[2]
    start = temporal.draw_mirror_crop(n, frames, settings.crop_ratio, generator, clips.device)
    return BasicDraw(start, geometric.draw_shear(n, settings.shear, generator, clips.device))


def draw_normal(clips: Tensor, generator: torch.Generator, settings: HiclrViews) -> NormalDraw:
    """Random parameters of the normal set."""
    n, device = len(clips), clips.device
    return NormalDraw(
        swap=chance(n, settings.swap, generator, device),
        angles=geometric.draw_axis_angles(n, settings.main_deg, settings.other_deg, generator, device),
        noise=geometric.draw_noise(clips, settings.noise_std, settings.noise, generator, settings.noise_on_absent),
        blur=chance(n, settings.blur, generator, device),
        sigma=uniform((n,), *settings.blur_sigma, generator, device),
        keep_axes=geometric.draw_axis_mask(n, settings.axis_mask, generator, device),
        reverse=chance(n, settings.reverse, generator, device),
    )


def apply_basic(clips: Tensor, draw: BasicDraw, settings: HiclrViews) -> Tensor:
    """Crop, then shear."""
    frames = temporal.mirror_crop_frames(draw.start, clips.shape[2], settings.crop_ratio)
    return geometric.transform(temporal.take_frames(clips, frames), draw.shear)


def apply_basic_normal(
    clips: Tensor, basic: BasicDraw, normal: NormalDraw, settings: HiclrViews, layout: Layout = NTU25
) -> Tensor:
    """Crop, shear, side swap, rotation, noise, blur, axis mask, reversal: one result, fewer passes.

    Relabelling joints commutes with a map of coordinates, so shear and rotation are one matrix; a masked axis stays
    zero through blur and reversal, so it is left out of that matrix and of the noise.
    """
    rotation = geometric.rotation(normal.angles)
    index = temporal.mirror_crop_frames(basic.start, clips.shape[2], settings.crop_ratio)
    cropped = temporal.take_frames(clips, index)
    if settings.swap_mirrors:
        # A mirrored x does not commute with what follows: swap between the two maps.
        cropped = geometric.transform(cropped, basic.shear)
        cropped = geometric.swap_sides(cropped, normal.swap, layout.mirror, negate_x=True)
        matrices = rotation
    else:
        cropped = geometric.swap_sides(cropped, normal.swap, layout.mirror)
        matrices = rotation @ basic.shear
    out = geometric.transform(cropped, normal.keep_axes[:, :, None] * matrices)
    out.addcmul_(normal.noise, normal.keep_axes.to(out)[:, :, None, None, None])
    kernels = temporal.blur_kernel(normal.sigma, settings.blur_taps, settings.blur_normalised)
    out = temporal.blur(out, kernels, normal.blur)
    return temporal.reverse(out, normal.reverse) if settings.reverse else out


def basic_view(
    clips: Tensor, generator: torch.Generator, settings: HiclrViews | None = None, layout: Layout = NTU25
) -> Tensor:
    """The basic set alone, as its stream; what DSTA-Net's fine-tuning uses too (hiclr.md 7)."""
    settings = settings or HiclrViews()
    out = apply_basic(clips, draw_basic(clips, generator, settings), settings)
    return make_stream(out, settings.stream, layout)


def normal_view(
    clips: Tensor, generator: torch.Generator, settings: HiclrViews | None = None, layout: Layout = NTU25
) -> Tensor:
    """Basic and normal set with fresh draws, as its stream."""
    settings = settings or HiclrViews()
    basic, normal = draw_basic(clips, generator, settings), draw_normal(clips, generator, settings)
    return make_stream(apply_basic_normal(clips, basic, normal, settings, layout), settings.stream, layout)


def strengthen(view: Tensor, generator: torch.Generator, settings: HiclrViews, token: Tensor | float = 0.0) -> Tensor:
    """The strong set on a normal view that already is its stream: joint mask with the token, or SkeleAdaIN."""
    n, _, frames, count, _ = view.shape
    if settings.strong == "none":
        return view
    there = torch.ones(n, 1, 1, 1, 1, dtype=torch.bool, device=view.device)
    if not settings.strong_on_absent:
        there = (view != 0).amax((1, 2, 3), keepdim=True)
    if settings.strong == "mask":
        masks = n if settings.mask_per_clip else 1
        mask = joints.draw_joint_mask(masks, frames, count, settings.mask_ratio, generator, view.device)
        strong = joints.replace(view, mask, token)
    else:
        partner = (torch.arange(n, device=view.device) + joints.draw_partner_shift(n, generator, view.device)) % n
        strong = joints.adain(view, view[partner])
        # Nobody has no style either.
        there = there & there[partner]
    return strong if settings.strong_on_absent else torch.where(there, strong, view)


def views(
    clips: Tensor,
    generator: torch.Generator,
    settings: HiclrViews | None = None,
    layout: Layout = NTU25,
    token: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Key and three queries of growing strength, drawn independently from the same clips (hiclr.md 4.1).

    Parameters
    ----------
    clips : Tensor
        ``(N, 3, T, V, M)`` joints; published with T = 50.
    generator : torch.Generator
        Source of every draw.
    token : Tensor or float
        What masked joints become: HiCLR's learnable scalar, which receives its gradient.

    Returns
    -------
    tuple of Tensor
        key (basic set), basic query, normal query, strong query; each ``(N, 3, T, V, M)`` of ``settings.stream``.
    """
    settings = settings or HiclrViews()
    key = basic_view(clips, generator, settings, layout)
    basic = basic_view(clips, generator, settings, layout)
    normal = normal_view(clips, generator, settings, layout)
    strong = strengthen(normal_view(clips, generator, settings, layout), generator, settings, token)
    return key, basic, normal, strong
