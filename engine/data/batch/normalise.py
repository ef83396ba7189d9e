"""The card's centring, turning and scaling for a whole batch: :func:`engine.data.preprocess.normalise` in torch.

Two implementations of one thing are allowed only because a test holds them equal: live recognition must not import
torch, and training must not loop over clips.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.data.batch.streams import present
from engine.data.preprocess import FLAT, LIMB_BONES, Preprocessing, landmark_joints
from engine.skeleton.layout import get_layout


def does_nothing(spec: Preprocessing) -> bool:
    """Whether centre, facing and scale of a card leave the joints as they are."""
    return spec.centre == "none" and spec.scale == "none" and not spec.facing


def normalise(clips: Tensor, spec: Preprocessing) -> Tensor:
    """Centre, turn and scale clips ``(N, 3, T, V, M)`` as the card says; frames of zeros (absence) stay zeros.

    Frames may be of any number, padding included: what is all zeros takes no part in any mean or extent.

    Raises
    ------
    ValueError
        A layout without the joints this needs.
    """
    spine, low, top, left, right = landmark_joints(get_layout(spec.layout))
    there = present(clips)
    seen = there[..., 0]
    frames = seen.sum(1).clamp(min=1)
    # A clip in which the first person is never seen becomes zeros, as in the function this mirrors.
    there = there & seen.any(1)[:, None, None]
    out = clips if spec.centre == "none" else clips - _origin(clips[:, :, :, spine, 0], seen, spec.centre)
    if spec.facing:
        across = _mean(out[:, :, :, right, 0] - out[:, :, :, left, 0], seen, frames)
        out = _turned(out, across)
    if spec.scale == "limbs":
        bones = torch.tensor(LIMB_BONES, device=clips.device)
        actor = out[..., 0]
        lengths = (actor[:, :, :, bones[:, 0]] - actor[:, :, :, bones[:, 1]]).norm(dim=1).sum(2)
        out = out / (_mean(lengths[:, None], seen, frames) / 2).clamp(min=1e-3)[..., None, None, None]
    if spec.scale == "torso":
        trunk = (out[:, :, :, top, 0] - out[:, :, :, low, 0]).norm(dim=1, keepdim=True)
        out = out / _mean(trunk, seen, frames).clamp(min=1e-3)[..., None, None, None]
    absent = ~there[:, None, :, None, :]
    if spec.scale == "minmax":
        return _minmax(out, absent)
    return out.masked_fill(absent, 0.0)


def _mean(values: Tensor, seen: Tensor, frames: Tensor) -> Tensor:
    """Mean of ``(N, K, T)`` over the frames that are seen, ``(N, K)``."""
    return (values * seen[:, None]).sum(2) / frames[:, None]


def _origin(path: Tensor, seen: Tensor, centre: str) -> Tensor:
    """What is subtracted, ``(N, 3, T, 1, 1)``; frames without the actor use the nearest earlier one, else the first."""
    frames = torch.arange(seen.shape[1], device=seen.device)
    index = torch.where(seen, frames, -1).cummax(1).values
    first = seen.int().argmax(1, keepdim=True)
    index = torch.where(index < 0, first, index)
    path = path.gather(2, index[:, None].expand_as(path))
    if centre == "first":
        origin = path[:, :, :1].expand_as(path)
    elif centre == "mean":
        origin = _mean(path, seen, seen.sum(1).clamp(min=1))[..., None].expand_as(path)
    elif centre == "each":
        origin = path
    else:
        origin = path.clone()
        origin[:, 1] = path[:, 1, :1]
    return origin[..., None, None]


def _turned(clips: Tensor, across: Tensor) -> Tensor:
    """Turn about the vertical until ``across`` ``(N, 3)`` points ahead; a vector without length turns nothing."""
    length = torch.hypot(across[:, 0], across[:, 2])
    enough = length > 1e-3
    safe = torch.where(enough, length, 1.0)
    cos = torch.where(enough, across[:, 0] / safe, 1.0)[:, None, None, None]
    sin = torch.where(enough, across[:, 2] / safe, 0.0)[:, None, None, None]
    x, y, z = clips.unbind(1)
    return torch.stack((x * cos + z * sin, y, z * cos - x * sin), 1)


def _minmax(clips: Tensor, absent: Tensor) -> Tensor:
    """Every axis of every clip to -1..1 over all persons; an axis without extent becomes zero."""
    low = clips.masked_fill(absent, torch.inf).amin((2, 3, 4), keepdim=True)
    span = clips.masked_fill(absent, -torch.inf).amax((2, 3, 4), keepdim=True) - low
    scaled = (clips - low) / span.clamp(min=FLAT) * 2 - 1
    return scaled.masked_fill(absent | (span <= FLAT), 0.0)
