"""A running average of an encoder's weights, which often tests better than the last weights themselves."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """``average <- d average + (1 - d) weights`` after every step, for parameters and batch statistics alike.

    The first steps weigh more: ``d = min(decay, (1 + n) / (10 + n))`` after n steps, so that the random weights of the
    beginning are soon forgotten. Whole numbers (counters) are copied.

    Parameters
    ----------
    model : nn.Module
        The one in training; a copy of it is the average.
    decay : float
        0 to 1: what stays of the average.

    Attributes
    ----------
    model : nn.Module
        The averaged model, in evaluation mode.
    steps : Tensor
        int64: updates so far; with the average's weights part of a run's state.
    """

    steps: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        # In a tuple, so that it does not become a part of the average.
        self._source = (model,)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # Kept on the processor beside the buffer: reading a number back from a GPU every step would hold it up.
        self._count: int | None = None

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights of the model."""
        if self._count is None:
            self._count = int(self.steps)
        self._count += 1
        self.steps += 1
        decay = min(self.decay, (1 + self._count) / (10 + self._count))
        new = self._source[0].state_dict()
        averages, weights = [], []
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                weights.append(new[name].detach())
            else:
                average.copy_(new[name])
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def train(self, mode: bool = True) -> WeightAverage:
        """Stays in evaluation mode."""
        return super().train(False)
