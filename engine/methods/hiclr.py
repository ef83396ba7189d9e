"""HiCLR: momentum contrast of two weak views, and queries of ever stronger augmentation that follow the weaker ones.

Source: hiclr.md (Zhang, Lin, Liu: Hierarchical Consistent Contrastive Learning for Skeleton-Based Action Recognition
with Growing Augmentations, AAAI 2023). Views are made by :mod:`engine.data.batch.recipes_hiclr`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from engine.data.batch.recipes_hiclr import basic_view, normal_view, strengthen
from engine.methods.contrast import contrast
from engine.methods.hiclr_edges import changed_edges, drop_and_add
from engine.methods.moco import ContrastSettings, MomentumContrast
from engine.methods.momentum import own_generator
from engine.methods.objective import Gather, Outcome, alone
from engine.skeleton.layout import NTU25, Layout


class EdgeSettings(BaseModel):
    """Drop/add edges in the encoder of the strong branch (hiclr.md 4.4); defaults are the published strengths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: Literal["never", "always", "mining"] = Field(
        "never", description="Always, or only once mining has begun (as in the runs before the release; hiclr.md 9.1)."
    )
    drop: float = Field(0.1, ge=0, lt=1, description="Highest probability of an edge to fall.")
    add: float = Field(0.05, ge=0, le=1, description="Highest probability of a zero to become an edge.")


class HiclrSettings(ContrastSettings):
    """HiCLR's settings; defaults are the released ones without its bugs."""

    edges: EdgeSettings = EdgeSettings()
    pair_weights: tuple[float, ...] = Field(
        (0.5, 0.5), description="Weights of the terms (basic, normal) and (normal, strong); a shorter list has fewer "
        "branches, () is plain momentum contrast.", max_length=2,
    )  # fmt: skip
    asymmetric: bool = Field(True, description="The weaker view of a pair is a target without gradient.")
    mining_epoch: int | None = Field(
        150, ge=0, description="Nearest neighbours join the positives after this many epochs; none: never."
    )

    @field_validator("pair_weights")
    @classmethod
    def _not_negative(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if any(weight < 0 for weight in weights):
            raise ValueError(f"pair_weights {weights}: a weight is negative")
        return weights


class HiCLR(MomentumContrast):
    """Two or three query branches of growing augmentation around momentum contrast.

    Parameters
    ----------
    make_encoder, feature_dim, settings, layout, seed
        As for :class:`~engine.methods.moco.MomentumContrast`.
    steps_per_epoch : int, optional
        Needed to know when mining begins.

    Attributes
    ----------
    token : nn.Parameter
        What masked joints become; there where the strong set is the mask.

    Raises
    ------
    ValueError
        Mining is asked for, but not how many steps an epoch has.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        feature_dim: int,
        settings: HiclrSettings | None = None,
        layout: Layout = NTU25,
        *,
        seed: int = 0,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.settings = settings = settings or HiclrSettings()
        super().__init__(make_encoder, feature_dim, settings, layout, seed=seed)
        self.branches = 1 + len(settings.pair_weights)
        masked = self.branches == 3 and settings.views.strong == "mask"
        self.token = nn.Parameter(torch.zeros(())) if masked else None
        # Beyond any run where there is no mining.
        self.mining_step = 2**62
        if settings.mining_epoch is not None:
            if steps_per_epoch is None:
                raise ValueError("mining_epoch counts epochs: steps_per_epoch is needed, or mining_epoch = none")
            self.mining_step = settings.mining_epoch * steps_per_epoch

    def forward(
        self,
        views: tuple[Tensor, ...],
        lengths: tuple[Tensor, ...],
        generator: torch.Generator,
        gather: Gather = alone,
    ) -> Outcome:
        """One step's loss ``L_info + sum of weight * L_pair``; see :class:`~engine.methods.objective.SelfSupervised`.

        One view, as for :class:`~engine.methods.moco.MoCo`. Parts: ``info_nce``, ``basic_normal`` and
        ``normal_strong`` (terms of the pairs), ``own_key_first`` (share of clips whose own key is nearer than all
        others) and ``positives`` (their mean number: 1, with mining 2 to 4).
        """
        (clips,) = views
        own = own_generator(generator, clips.device)
        key_view, queries = self.make_views(clips, own)
        vectors = [self.embed(view) for view in queries[:2]]
        if self.branches == 3:
            with self._edges(own):
                vectors.append(self.embed(queries[2]))
        keys = self.keys(key_view)
        # A tensor, so that a device need not be waited for.
        mining: Tensor | bool = self.steps >= self.mining_step if self.settings.mining_epoch is not None else False
        result = contrast(vectors, keys, self.queue.vectors, self.temperature, mining, self.settings.asymmetric)
        self.remember(keys, gather)
        loss = result.losses[0]
        parts = {"info_nce": loss.detach()}
        names = ("basic_normal", "normal_strong")
        for name, weight, value in zip(names, self.settings.pair_weights, result.losses[1:], strict=False):
            loss = loss + weight * value
            parts[name] = value.detach()
        return Outcome(loss, parts | {"own_key_first": result.own_key_first, "positives": result.positives})

    def make_views(self, clips: Tensor, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """Key view, and query views from the weakest to the strongest, of joint clips ``(N, 3, T, V, M)``."""
        how, layout = self.settings.views, self.layout
        with torch.no_grad():
            key = basic_view(clips, generator, how, layout)
            queries = [basic_view(clips, generator, how, layout)]
            queries += [normal_view(clips, generator, how, layout) for _ in range(self.branches - 1)]
        if self.branches == 3:
            queries[2] = strengthen(queries[2], generator, how, 0.0 if self.token is None else self.token)
        return key, queries

    def _edges(self, generator: torch.Generator) -> Any:
        edges = self.settings.edges
        # With "mining" alone a device is waited for.
        if edges.when == "never" or (edges.when == "mining" and bool(self.steps < self.mining_step)):
            return nullcontext()
        return changed_edges(self.encoder, drop_and_add(edges.drop, edges.add, generator))
