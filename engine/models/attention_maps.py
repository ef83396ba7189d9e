"""What a GL-Transformer looks at in one clip: which joints its body token reads, and which frames read which.

Attention is not an explanation of a decision; it says where information was taken from, layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.models.gl_transformer import GLTransformer
from engine.models.ragged import Attention


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of one clip of T real frames, V joints and M persons, in B blocks, mean over heads.

    Attributes
    ----------
    body_to_joints : numpy.ndarray
        float32 ``(B, T, M, M, V)``: ``[b, t, p, q, v]`` is how much the body (global) token of person p takes from
        joint v of person q in frame t; sums over q and v to 1. The root's slot is the other body token, or itself.
    joints_to_body : numpy.ndarray
        float32 ``(B, T, M, V, M)``: ``[b, t, q, v, p]`` is how much joint v of person q takes from the body of p.
    frames : numpy.ndarray
        float32 ``(B, T, T)``: ``[b, t, s]`` is how much frame t takes from frame s; rows sum to 1.
    valid : numpy.ndarray
        bool: which frames of the clip these T are.
    root : int
        The joint whose slot holds the body token.
    """

    body_to_joints: np.ndarray
    joints_to_body: np.ndarray
    frames: np.ndarray
    valid: np.ndarray
    root: int

    def joints(self) -> np.ndarray:
        """How much every person's body token takes from every joint of every person, mean over blocks.

        Returns
        -------
        numpy.ndarray
            ``(T, M, M, V)``, in multiples of an equal share: a token that looks at all tokens alike has 1 everywhere.
        """
        mean: np.ndarray = self.body_to_joints.mean(0)
        return mean * float(np.prod(mean.shape[2:]))

    def seen_frames(self) -> np.ndarray:
        """How much each frame is read by all frames, mean over blocks, ``(T,)``, in multiples of an equal share."""
        seen: np.ndarray = self.frames.mean((0, 1))
        return seen * self.frames.shape[2]


@torch.no_grad()
def attention_maps(encoder: nn.Module, clip: Tensor, valid: Tensor | None = None) -> AttentionMaps:
    """Attention of one clip.

    Parameters
    ----------
    encoder : nn.Module
        A :class:`~engine.models.gl_transformer.GLTransformer`; it is run in evaluation mode and left as it was.
    clip : Tensor
        float32 ``(3, T, V, M)``.
    valid : Tensor, optional
        bool ``(T,)``: frames that are not padding; default as the encoder recognises them.

    Raises
    ------
    ValueError
        Another encoder, or a clip whose joints and persons are not the encoder's tokens.
    """
    if not isinstance(encoder, GLTransformer):
        raise ValueError(f"{type(encoder).__name__} has no attention maps; a GL-Transformer has")
    if clip.dim() != 4 or clip.shape[2] * clip.shape[3] != encoder.tokens:
        raise ValueError(f"clip is {tuple(clip.shape)}, wanted (3, T, V, M) with {encoder.tokens} joints in all")
    spatial: list[Tensor] = []
    temporal: list[Tensor] = []

    def keep(into: list[Tensor]) -> Any:
        # Mean over heads at once: a whole clip's maps of every head would be a hundred megabytes.
        return lambda module, args: into.append(module.weights(*args).mean(1).float())

    hooks = []
    was_training = encoder.training
    try:
        for block in encoder.encoder_blocks:
            for module, into in ((block.attention_sp, spatial), (block.attention_tm, temporal)):
                hooks.append(cast(Attention, module).register_forward_pre_hook(keep(into)))
        encoder.eval()
        real = encoder.encode(clip.unsqueeze(0), None if valid is None else valid.unsqueeze(0)).valid[0].cpu()
    finally:
        encoder.train(was_training)
        for hook in hooks:
            hook.remove()
    joints, persons = int(clip.shape[2]), int(clip.shape[3])
    # Dense batches hold all frames, packed ones the real frames only; here there is one clip, so both are its frames.
    tokens = torch.stack(spatial).cpu().unflatten(3, (joints, persons)).unflatten(2, (joints, persons))
    root = encoder.root.start // persons
    frames = torch.stack(temporal)[:, 0].cpu()[:, real][:, :, real]
    kept = np.zeros(int(clip.shape[1]), bool)
    kept[: len(real)] = real.numpy()
    return AttentionMaps(
        body_to_joints=tokens[:, :, root].transpose(3, 4).contiguous().numpy(),
        joints_to_body=tokens[:, :, :, :, root].transpose(2, 3).contiguous().numpy(),
        frames=frames.contiguous().numpy(),
        valid=kept,
        root=root,
    )
