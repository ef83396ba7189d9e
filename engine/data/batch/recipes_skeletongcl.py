"""Training input of 2s-AGCN, CTR-GCN and InfoGCN, with or without SkeletonGCL: crop, rotation, stream; NW-UCLA apart.

Source: skeletongcl.md, sections 1.4 and 1.6; datasets.md, section 4.4. One view per clip: SkeletonGCL contrasts clips.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from engine.data.batch import geometric, temporal
from engine.data.batch.draws import chance
from engine.data.batch.normalise import normalise
from engine.data.batch.sampling import CentreCrop, Linspace, RandomCrop, SortedCopies
from engine.data.batch.streams import infogcn_offsets, make_stream, motion
from engine.data.preprocess import Preprocessing, Stream
from engine.skeleton.layout import KINECT20, NTU25, Layout


class StreamChoice(BaseModel):
    """Which stream the encoder reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream: Stream = Field("joint", description="Joint, bone or their motions.")
    infogcn_order: int | None = Field(
        None, ge=1, description="InfoGCN: k-th order offsets in place of joint or bone (8: joints, 1: nearly bones)."
    )

    def make(self, clips: Tensor, layout: Layout) -> Tensor:
        """Turn joints ``(N, 3, T, V, M)`` into the chosen stream."""
        if self.infogcn_order is None:
            return make_stream(clips, self.stream, layout)
        offsets = infogcn_offsets(clips, self.infogcn_order, layout)
        return motion(offsets) if self.stream.endswith("motion") else offsets


class SkeletonGclViews(StreamChoice):
    """The NTU loader of the CTR-GCN family."""

    frames: int = Field(64, ge=1, description="Frames every crop is resized to.")
    crop_low: float = Field(0.5, gt=0, le=1, description="Smallest part of the clip a training crop takes.")
    crop_least: int = Field(64, ge=1, description="A crop has at least this many frames, where the clip has them.")
    test_keep: float = Field(0.95, gt=0, le=1, description="Middle part of the clip a test reads.")
    rotation_rad: float = Field(0.3, ge=0, description="Angles about x, y, z, each uniform in +-, radians.")
    mirror: float = Field(0.0, ge=0, le=1, description="Probability of a mirrored clip; the published loader has none.")


class NwUclaViews(StreamChoice):
    """The NW-UCLA loader of the CTR-GCN family."""

    frames: int = Field(52, ge=1, description="Frames of the clip.")
    copies: int = Field(100, ge=1, description="Training frames are drawn from so many copies of each, then sorted.")
    x_deg: int = Field(60, ge=0, le=180, description="Rotation about x, whole degrees, uniform in +-.")
    y_deg: int = Field(60, ge=0, le=180, description="Rotation about y, whole degrees, uniform in +-.")
    scale: tuple[float, float] = Field((0.5, 1.5), description="Body size; cancelled by the min-max that follows.")
    mirror: float = Field(0.0, ge=0, le=1, description="Probability of a mirrored clip; the published loader has none.")


def views(
    clips: Tensor,
    generator: torch.Generator,
    settings: SkeletonGclViews | None = None,
    lengths: Tensor | None = None,
    layout: Layout = NTU25,
) -> tuple[Tensor]:
    """Crop and resize (only if ``lengths`` are given), one rotation per clip, stream.

    Parameters
    ----------
    clips : Tensor
        ``(N, 3, T, V, M)``: already cropped by the loader, or padded with ``lengths``.
    lengths : Tensor, optional
        int64 ``(N,)``, real frames, padding behind them.
    """
    settings = settings or SkeletonGclViews()
    if lengths is not None:
        rule = RandomCrop(settings.frames, settings.crop_low, 1.0, settings.crop_least)
        clips, _ = temporal.crop(clips, lengths, rule, generator)
    return (settings.make(turn(clips, generator, settings, layout), layout),)


def turn(
    clips: Tensor, generator: torch.Generator, settings: SkeletonGclViews | None = None, layout: Layout = NTU25
) -> Tensor:
    """Mirror and rotation alone: one per clip, the same for all frames and both persons."""
    settings = settings or SkeletonGclViews()
    angles = geometric.draw_angles(len(clips), settings.rotation_rad, generator, clips.device)
    clips = _mirrored(clips, settings.mirror, generator, layout)
    return geometric.transform(clips, geometric.rotation(angles))


def _mirrored(clips: Tensor, probability: float, generator: torch.Generator, layout: Layout) -> Tensor:
    """Some of the clips as in a mirror. Nothing is drawn at 0, so that published loaders' numbers stay as they are."""
    if not probability:
        return clips
    flags = chance(len(clips), probability, generator, clips.device)
    return geometric.swap_sides(clips, flags, layout.mirror, negate_x=True)


def evaluation_view(
    clips: Tensor, settings: SkeletonGclViews | None = None, lengths: Tensor | None = None, layout: Layout = NTU25
) -> Tensor:
    """Centre crop (only if ``lengths`` are given) and stream; nothing random."""
    settings = settings or SkeletonGclViews()
    if lengths is not None:
        clips, _ = temporal.crop(clips, lengths, CentreCrop(settings.frames, settings.test_keep))
    return settings.make(clips, layout)


def nw_ucla_turn(
    clips: Tensor, generator: torch.Generator, settings: NwUclaViews | None = None, layout: Layout = KINECT20
) -> Tensor:
    """Mirror, rotation and scale alone; comes before the min-max."""
    settings = settings or NwUclaViews()
    angles = geometric.draw_whole_degrees(len(clips), (settings.x_deg, settings.y_deg), generator, clips.device)
    scale = geometric.draw_scale(len(clips), *settings.scale, generator, clips.device)
    clips = _mirrored(clips, settings.mirror, generator, layout)
    return geometric.transform(clips, nw_ucla_matrices(angles, scale))


def nw_ucla_matrices(angles: Tensor, scale: Tensor) -> Tensor:
    """The published row-vector map ``Ry Rx S`` as matrices for column vectors, ``(N, 3, 3)``.

    Parameters
    ----------
    angles : Tensor
        ``(N, 2)`` about x and y, radians.
    scale : Tensor
        ``(N, 3, 3)``.
    """
    turn = geometric.rotation(torch.cat([angles, torch.zeros_like(angles[:, :1])], 1))
    return (turn @ scale).transpose(1, 2)


def nw_ucla_views(
    clips: Tensor,
    generator: torch.Generator,
    settings: NwUclaViews | None = None,
    lengths: Tensor | None = None,
    layout: Layout = KINECT20,
) -> tuple[Tensor]:
    """Rotation and scale, every axis to -1..1 over the whole sequence, sorted random frames, stream.

    The published shift to a joint of frame 0 is left out: the min-max takes it away again.

    Parameters
    ----------
    clips : Tensor
        Whole sequences ``(N, 3, T, V, M)``, zeros behind ``lengths``.
    lengths : Tensor, optional
        int64 ``(N,)``, real frames; default all.
    """
    settings = settings or NwUclaViews()
    lengths = temporal.all_frames(clips, lengths)
    scaled = _minmax(nw_ucla_turn(clips, generator, settings, layout), layout)
    frames, _ = temporal.crop(scaled, lengths, SortedCopies(settings.frames, settings.copies), generator)
    return (settings.make(frames, layout),)


def nw_ucla_evaluation_view(
    clips: Tensor, settings: NwUclaViews | None = None, lengths: Tensor | None = None, layout: Layout = KINECT20
) -> Tensor:
    """Every axis to -1..1, equally spaced frames, stream; nothing random. Parameters as :func:`nw_ucla_views`."""
    settings = settings or NwUclaViews()
    frames, _ = temporal.crop(_minmax(clips, layout), temporal.all_frames(clips, lengths), Linspace(settings.frames))
    return settings.make(frames, layout)


def _minmax(clips: Tensor, layout: Layout) -> Tensor:
    spec = Preprocessing(layout=layout.name, persons=clips.shape[4], centre="none", scale="minmax")
    return normalise(clips, spec)
