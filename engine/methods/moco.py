"""Plain momentum contrast of two augmented views: SkeletonCLR, the baseline that HiCLR has to beat.

The frame that methods of momentum contrast on one stream share is here too. Source: hiclr.md, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from engine.data.batch.recipes_hiclr import HiclrViews, basic_view, normal_view, strengthen
from engine.methods.contrast import Contrast, contrast
from engine.methods.momentum import (
    MomentumEncoder,
    Queue,
    embed,
    freeze_classifier,
    own_generator,
    projection_head,
)
from engine.methods.objective import Gather, Outcome, alone
from engine.skeleton.layout import NTU25, Layout


class ContrastSettings(BaseModel):
    """What momentum contrast on one stream needs; defaults are the published values (hiclr.md 2.3 and 3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(128, ge=1, description="Numbers of an embedding.")
    hidden: int | None = Field(256, ge=1, description="Width of the head's hidden layer; none: a linear head.")
    queue_length: int = Field(32_768, ge=1, description="Keys that are remembered.")
    momentum: float = Field(0.999, ge=0, le=1, description="Share of the key encoder that stays in a step.")
    temperature: float = Field(0.07, gt=0, description="Divides similarities.")
    compatible: bool = Field(
        False,
        description="As released where it changes results: left and right joints are exchanged without mirroring, the "
        "blur isn't normalised, all clips of a batch share one mask, absent persons get noise, masks and styles.",
    )
    views: HiclrViews = Field(HiclrViews.clean(), description="Strengths of the augmentations, and the stream.")

    @model_validator(mode="before")
    @classmethod
    def _compatible_views(cls, data: Any) -> Any:
        # What is written out under views stands; the rest follows the switch.
        if not isinstance(data, dict) or isinstance(data.get("views"), HiclrViews):
            return data
        base = HiclrViews() if data.get("compatible") else HiclrViews.clean()
        return data | {"views": base.model_dump() | (data.get("views") or {})}


class MocoSettings(ContrastSettings):
    """Settings of plain momentum contrast."""

    augmentation: Literal["basic", "normal", "strong"] = Field(
        "basic",
        description="Both views get HiCLR's basic set (SkeletonCLR), or basic and normal; strong: the query's joints "
        "are masked as well, or both views take other clips' styles (hiclr.md 8.5, a).",
    )


class MomentumContrast(nn.Module):
    """Query encoder and head, their slow copy, and the queue; a subclass makes the views.

    Parameters
    ----------
    make_encoder : callable
        Makes a freshly initialised encoder; its classifier is not trained.
    feature_dim : int
        Width of the encoder's features.
    settings : ContrastSettings
    layout : Layout
        Joints of the clips.
    seed : int
        Draws the queue's first contents; weights come from torch's own generator.
    """

    steps: Tensor

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        feature_dim: int,
        settings: ContrastSettings,
        layout: Layout = NTU25,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.temperature = settings.temperature
        self.encoder = freeze_classifier(make_encoder())
        self.head = projection_head(feature_dim, settings.width, settings.hidden, deviation=0.02)
        self.key = MomentumEncoder(self.encoder, self.head, settings.momentum)
        self.queue = Queue(settings.queue_length, settings.width, torch.Generator().manual_seed(seed))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def embed(self, clips: Tensor) -> Tensor:
        """Clips ``(N, C, T, V, M)`` of the stream to queries: unit vectors ``(N, width)``."""
        return embed(self.encoder, self.head, clips)

    def keys(self, clips: Tensor) -> Tensor:
        """Keys of clips; in training the key encoder first takes its step."""
        if self.training:
            self.key.update(self.encoder, self.head)
        keys: Tensor = self.key(clips)
        return keys

    def remember(self, keys: Tensor, gather: Gather) -> None:
        """After the losses: put the keys of all processes into the queue and count the step."""
        if self.training:
            self.queue.enqueue(keys, gather)
            self.steps += 1


class MoCo(MomentumContrast):
    """Momentum contrast of two views; arguments are those of :class:`MomentumContrast`."""

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        feature_dim: int,
        settings: MocoSettings | None = None,
        layout: Layout = NTU25,
        *,
        seed: int = 0,
    ) -> None:
        self.settings = settings = settings or MocoSettings()
        super().__init__(make_encoder, feature_dim, settings, layout, seed=seed)
        masked = settings.augmentation == "strong" and settings.views.strong == "mask"
        self.token = nn.Parameter(torch.zeros(())) if masked else None

    def forward(
        self,
        views: tuple[Tensor, ...],
        lengths: tuple[Tensor, ...],
        generator: torch.Generator,
        gather: Gather = alone,
    ) -> Outcome:
        """One step's loss; see :class:`~engine.methods.objective.SelfSupervised`.

        One view, published with T = 50; lengths are not used, clips are resized to T frames. Parts: ``info_nce`` and
        ``own_key_first``, the share of clips whose own key is nearer than all others.
        """
        (clips,) = views
        own = own_generator(generator, clips.device)
        how = self.settings.views
        make = basic_view if self.settings.augmentation == "basic" else normal_view
        with torch.no_grad():
            key_view, query_view = (make(clips, own, how, self.layout) for _ in range(2))
            if self.settings.augmentation == "strong" and how.strong == "adain":
                key_view = strengthen(key_view, own, how)
        if self.settings.augmentation == "strong":
            query_view = strengthen(query_view, own, how, 0.0 if self.token is None else self.token)
        query = self.embed(query_view)
        keys = self.keys(key_view)
        result: Contrast = contrast((query,), keys, self.queue.vectors, self.temperature)
        self.remember(keys, gather)
        parts = {"info_nce": result.losses[0].detach(), "own_key_first": result.own_key_first}
        return Outcome(result.losses[0], parts)
