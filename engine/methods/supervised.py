"""Supervised training: cross entropy, and what InfoGCN adds to it where the encoder has a latent with class priors."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from engine.methods.objective import (
    Gather,
    Outcome,
    alone,
    at_least_float32,
    scale_gradient,
    sum_over_processes,
)
from engine.models.persons import EncoderOutput


class SupervisedSettings(BaseModel):
    """Weights of the supervised objective."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the label spread over all classes.")
    unknown_labels: bool = Field(
        False, description="Labels below 0 mean clips that show none of the classes; all should be equally likely then."
    )
    prior_weight: float = Field(
        0.1, ge=0, description="InfoGCN only: weight of the distance of the latent's class means to their priors."
    )
    marginal_weight: float = Field(
        1e-4, ge=0, description="InfoGCN only: weight of the length of the latent's mean over the batch."
    )


def latent_losses(latent: Tensor, labels: Tensor, priors: Tensor, gather: Gather = alone) -> tuple[Tensor, Tensor]:
    """InfoGCN's two distances of the latent from its priors.

    Parameters
    ----------
    latent : Tensor
        Samples z, ``(N, D)``.
    labels : Tensor
        int64 ``(N,)``, 0 to K - 1.
    priors : Tensor
        ``(K, D)``, one row per class.
    gather : callable
        Brings the batches of all processes together: class means are those of the whole batch.

    Returns
    -------
    prior, marginal : Tensor
        Mean squared error between the class means of z and the priors, over the classes in the batch and D; and the
        length of the mean of z. The values are equal on all processes; gradients are scaled as the module says.

    Notes
    -----
    Source: skeletongcl.md, section 2.4 (loss).
    """
    latent = at_least_float32(latent)
    members = functional.one_hot(labels, len(priors)).to(latent.dtype)
    # Class sums and counts of all processes in one exchange.
    local = torch.cat([members.T @ latent, members.sum(0).unsqueeze(1)], 1)
    total, processes = sum_over_processes(local, gather)
    sums, counts = total[:, :-1], total[:, -1:]
    distances = (sums / counts.clamp(min=1) - priors.to(latent.dtype)).square().mean(1, keepdim=True)
    present = (counts > 0).to(latent.dtype)
    prior = (distances * present).sum() / present.sum()
    marginal = torch.linalg.vector_norm(sums.sum(0) / counts.sum())
    return scale_gradient(prior, processes), scale_gradient(marginal, processes)


def open_set_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of logits ``(N, K)``, where a label below 0 wants all classes equally likely.

    Notes
    -----
    Source: outlier exposure, Hendrycks, Mazeika and Dietterich, ICLR 2019, section 3; both kinds of clips in one mean.
    """
    each = functional.cross_entropy(logits, labels.clamp(min=0), reduction="none", label_smoothing=label_smoothing)
    uniform = -logits.log_softmax(1).mean(1)
    return torch.where(labels >= 0, each, uniform).mean()


def supervised_loss(
    output: EncoderOutput,
    labels: Tensor,
    settings: SupervisedSettings,
    priors: Tensor | None = None,
    gather: Gather = alone,
) -> Outcome:
    """Cross entropy of the logits, and the latent's losses where ``priors`` are given.

    Parts: ``cross_entropy``; with priors also ``latent_prior`` and ``latent_marginal``, both without their weights.
    """
    logits = at_least_float32(output.logits)
    if settings.unknown_labels:
        loss = open_set_loss(logits, labels, settings.label_smoothing)
    else:
        loss = functional.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
    parts = {"cross_entropy": loss.detach()}
    if priors is not None:
        prior, marginal = latent_losses(output.features, labels, priors, gather)
        loss = loss + settings.prior_weight * prior + settings.marginal_weight * marginal
        parts |= {"latent_prior": prior.detach(), "latent_marginal": marginal.detach()}
    return Outcome(loss, parts, output.logits)


def class_priors(encoder: nn.Module) -> Tensor | None:
    """The encoder's class priors ``(K, D)``; None where it has no stochastic latent."""
    priors = getattr(encoder, "priors", None)
    return priors if isinstance(priors, Tensor) else None


class Supervised(nn.Module):
    """Cross entropy on an encoder's logits, with InfoGCN's extra losses where the encoder is one.

    Parameters
    ----------
    encoder : nn.Module
        Clips to :class:`~engine.models.persons.EncoderOutput`.
    settings : SupervisedSettings
    """

    def __init__(self, encoder: nn.Module, settings: SupervisedSettings | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings = settings or SupervisedSettings()

    def forward(self, clips: Tensor, labels: Tensor, gather: Gather = alone) -> Outcome:
        """Clips ``(N, C, T, V, M)`` and int64 labels ``(N,)`` to the step's outcome."""
        return supervised_loss(self.encoder(clips), labels, self.settings, class_priors(self.encoder), gather)
