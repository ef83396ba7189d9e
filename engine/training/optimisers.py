"""From a recipe's numbers to an optimiser of torch and its learning rate at any moment."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from engine.training.recipe_base import Optimiser, TrainedRecipe


def make_optimiser(
    settings: Optimiser, parameters: Iterable[nn.Parameter], precision: str = "fp32"
) -> torch.optim.Optimizer:
    """The optimiser of all parameters that are trained; weight decay acts on every one of them, as published.

    Parameters
    ----------
    settings : Optimiser
    parameters : iterable of nn.Parameter
        Those that want no gradient are left out.
    precision : str
        The recipe's: fp16's scaling must be undone before gradients can be clipped, which a fused step does too late.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    fused = precision != "fp16"
    if settings.kind == "sgd":
        return torch.optim.SGD(
            trained,
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov and settings.momentum > 0,
            fused=fused,
        )
    kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
    return kind(trained, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused)


def learning_rate(recipe: TrainedRecipe, epoch: float) -> float:
    """Rate at a (fractional, 0-based) epoch: linear warm-up, then steps, a cosine to zero or a steady decay."""
    optimiser = recipe.optimiser
    if epoch < optimiser.warmup_epochs:
        if optimiser.schedule != "cosine":
            return optimiser.lr * (math.floor(epoch) + 1) / optimiser.warmup_epochs
        return optimiser.lr * (epoch + 0.05) / optimiser.warmup_epochs
    if optimiser.schedule == "step":
        return optimiser.lr * 0.1 ** sum(epoch >= m for m in optimiser.milestones)
    if optimiser.schedule == "exponential":
        return optimiser.lr * optimiser.decay ** math.floor(epoch)
    done = (epoch - optimiser.warmup_epochs) / max(recipe.epochs - optimiser.warmup_epochs, 1)
    return optimiser.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
