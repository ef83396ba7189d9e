"""Features of frozen encoders: what probes, nearest neighbours and linear evaluation read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.data.batch import BodyFrames, ClipLoader, ClipMaker
from engine.data.preprocess import Preprocessing
from engine.data.store import SequenceStore
from engine.training.recipe_protocols import Fusion

BATCH = 64


def extract(
    encoder: nn.Module, store: SequenceStore, indices: np.ndarray, spec: Preprocessing, batch: int = BATCH
) -> Tensor:
    """Features float32 ``(N, D)`` of evaluation clips, on the processor; the encoder is left as it was.

    Parameters
    ----------
    encoder : nn.Module
        Run in evaluation mode, on the device its weights are on.
    indices : numpy.ndarray
        int64 ``(N,)``: sequences of the store.
    spec : Preprocessing
        The encoder's.
    """
    device = next(encoder.parameters()).device
    loader = ClipLoader(ClipMaker(BodyFrames(store), spec), np.asarray(indices), batch, device=device)
    was_training = encoder.training
    encoder.eval()
    try:
        # A compiled encoder would be compiled again for this mode and for the smaller last batch.
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            parts = [encoder(clips.clips).features.float().cpu() for clips in loader]
    finally:
        encoder.train(was_training)
    # Out of inference mode: what a classifier learns from must be able to take part in a backward pass.
    return torch.cat(parts).clone() if parts else torch.zeros(0, int(encoder.feature_dim))  # type: ignore[arg-type]


@torch.no_grad()
def settle(
    encoder: nn.Module, store: SequenceStore, indices: np.ndarray, spec: Preprocessing, batch: int = BATCH
) -> None:
    """Give the batch norms of an encoder the statistics of these clips, each batch weighing the same.

    A fresh encoder's norms know nothing of its inputs, so signals die out or blow up on their way and its features say
    less than the same weights could: too easy a baseline.
    """
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    was_training, momenta = encoder.training, [norm.momentum for norm in norms]
    encoder.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        # A plain mean over the batches.
        norm.momentum = None
    device = next(encoder.parameters()).device
    for clips in ClipLoader(
        ClipMaker(BodyFrames(store), spec), np.asarray(indices), batch, shuffle=True, device=device
    ):
        encoder(clips.clips)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    encoder.train(was_training)


def join(features: Sequence[Tensor], how: Fusion = "concatenate") -> Tensor:
    """Features of the same clips by several encoders as one ``(N, D)``; those of a single encoder stay as they are.

    Each encoder's are brought to length 1 first, so that none drowns the others; ``mean_as_is`` leaves them as long as
    they are, as CMD's released code does (i2md.md, section 7).

    Raises
    ------
    ValueError
        A mean of features of different widths.
    """
    if len(features) == 1:
        return features[0]
    units = list(features) if how == "mean_as_is" else [functional.normalize(each, dim=1) for each in features]
    if how == "concatenate":
        return torch.cat(units, 1)
    widths = {each.shape[1] for each in units}
    if len(widths) > 1:
        raise ValueError(f"features of widths {sorted(widths)} have no mean; concatenate them")
    return torch.stack(units).mean(0)
