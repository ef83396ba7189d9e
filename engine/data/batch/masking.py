"""What GL-Transformer's pretext learns from a clip: displacement classes over several intervals, and who counts.

Multi-interval pose displacement prediction (MPDP): for every token and frame, in which of 27 directions and by how
much (16 sizes) lay the place n frames ago. Nothing of the input is hidden (gl_transformer.md, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engine.data.batch.temporal import blocks, frame_mask, take_frames

INTERVALS = (1, 5, 10)
DIRECTIONS = 27
MAGNITUDES = 16
ABSENT = 15
BIN_M = 0.01
# What the released arrays hold in frames that are padding.
SENTINEL = 99.9

Grouping = Literal["intended", "released"]


@dataclass(frozen=True)
class DisplacementTargets:
    """Classes to predict at every frame; the last axis is ``interval * tokens + token``, token ``2 v + person``.

    Attributes
    ----------
    direction : Tensor
        int64 ``(N, T, R J)``, 0..26; 13 is "not at all".
    magnitude : Tensor
        int64 ``(N, T, R J)``, 0..15; 15 is "second person absent".
    valid : Tensor
        bool ``(N, T)``: frames that enter the loss.
    """

    direction: Tensor
    magnitude: Tensor
    valid: Tensor


# Padding -------------------------------------------------------------------------------------------------------------


def valid_from_sentinel(tokens: Tensor) -> Tensor:
    """bool ``(N, T)`` of clips padded with 99.9 as in the released arrays: the x of the first token is not it.

    The comparison is made in float32, the precision the sentinel was stored in; widened to float64 it would no longer
    equal 99.9 and every frame would look valid (gl_transformer.md 7.2, row 1). ``tokens``: ``(N, 3, T, ...)``.
    """
    first = tokens[:, 0].flatten(2)[..., 0]
    return first.float() != torch.tensor(SENTINEL, dtype=torch.float32, device=tokens.device)


def pad_with_sentinel(clips: Tensor, lengths: Tensor) -> Tensor:
    """Frames behind each clip's length set to 99.9, as the released program feeds them; zeros are kept otherwise."""
    padding = ~frame_mask(lengths.to(clips.device), clips.shape[2])
    return clips.masked_fill(padding[:, None, :, None, None], SENTINEL)


def key_mask(valid: Tensor) -> Tensor:
    """bool ``(N, 1, 1, T)``, True = may be attended to: padded frames are left out as keys only, for all heads alike.

    A clip without any valid frame keeps its first one, so that no softmax runs over nothing
    (gl_transformer.md 2.3, 7.2 row 2).
    """
    keys = valid.clone()
    keys[:, 0] |= ~valid.any(1)
    return keys[:, None, None]


def tokens(clips: Tensor) -> Tensor:
    """``(N, C, T, V, M)`` as tokens ``(N, C, T, V M)``, token ``M v + person`` (gl_transformer.md 1.5)."""
    return clips.flatten(3)


def absent_second(clips: Tensor) -> Tensor:
    """bool ``(N,)``: the coordinates of person 1 in frame 0 sum to zero; all False for clips of one person.

    Ask the clip as stored, before it is augmented. As published only frame 0 is looked at: who enters later counts as
    absent for the whole clip (gl_transformer.md 7.2, row 6).
    """
    if clips.shape[4] < 2:
        return torch.zeros(len(clips), dtype=torch.bool, device=clips.device)
    return clips[:, :, 0, :, 1].sum((1, 2)) == 0


# Targets -------------------------------------------------------------------------------------------------------------


def displacement(clips: Tensor, interval: int, lengths: Tensor) -> Tensor:
    """``p[max(t - n, 0)] - p[t]``: where the joint was n frames ago, seen from where it is, ``(N, C, T, V, M)``.

    A negative interval looks ahead and is held at the last real frame. Frames of padding hold no meaning.
    """
    frames = torch.arange(clips.shape[2], device=clips.device)
    last = (lengths.to(clips.device) - 1).clamp(min=0)[:, None]
    index = torch.minimum((frames - interval).clamp(min=0), last)
    return take_frames(clips, index) - clips


def direction_classes(delta: Tensor) -> Tensor:
    """``d_x + 3 d_y + 9 d_z``, d = 0, 1, 2 for negative, exactly zero, positive; ``(N, 3, ...)`` to ``(N, ...)``."""
    return _direction(delta).to(torch.int64)


def _direction(delta: Tensor) -> Tensor:
    """The classes as floats, exact: sums of -1, 0, 1 times 1, 3, 9 around the middle class."""
    x, y, z = delta.sign().unbind(1)
    return x.add(y, alpha=3).add_(z, alpha=9).add_(DIRECTIONS // 2)


def magnitude_classes(delta: Tensor) -> Tensor:
    """0 for exactly nothing, else ``min(14, floor(m / 0.01) + 1)`` of the Euclidean length m in metres.

    At multiples of a centimetre the class depends on rounding, as in the original (gl_transformer.md 7.2, row 5).
    """
    return _magnitude(delta).to(torch.int64)


def _magnitude(delta: Tensor) -> Tensor:
    # Axis by axis: a norm across the second of five axes takes a hundred times as long.
    x, y, z = delta.unbind(1)
    length = x.square().addcmul_(y, y).addcmul_(z, z).sqrt_()
    return length.div(BIN_M).floor_().add_(1).clamp_(max=ABSENT - 1).mul_(length > 0)


def displacement_targets(
    clips: Tensor, lengths: Tensor, absent: Tensor, intervals: Sequence[int] = INTERVALS
) -> DisplacementTargets:
    """Direction and magnitude classes of every token, frame and interval (gl_transformer.md 3.1).

    Parameters
    ----------
    clips : Tensor
        ``(N, 3, T, V, M)``, metres, local joints with the global translation in the centre joint's slot, after
        augmentation; float32 or float64.
    lengths : Tensor
        int64 ``(N,)``, real frames.
    absent : Tensor
        bool ``(N,)`` from :func:`absent_second`; magnitude 15 in every slot of person 1, directions stay.
    intervals : sequence of int
        In frames; R of them.
    """
    n, _, t, v, m = clips.shape
    direction = torch.empty((n, t, len(intervals), v, m), dtype=torch.int64, device=clips.device)
    magnitude = torch.empty_like(direction)
    for part in blocks(clips):
        for r, interval in enumerate(intervals):
            delta = displacement(clips[part], interval, lengths[part])
            direction[part, :, r] = _direction(delta)
            magnitude[part, :, r] = _magnitude(delta)
    magnitude[..., 1:].masked_fill_(absent.to(clips.device).view(n, 1, 1, 1, 1), ABSENT)
    valid = frame_mask(lengths.to(clips.device), t)
    return DisplacementTargets(direction.view(n, t, -1), magnitude.view(n, t, -1), valid)


def global_positions(
    joints: int, persons: int, centre: int, intervals: int, grouping: Grouping = "intended"
) -> tuple[Tensor, Tensor]:
    """Positions of global and of local items in the last axis of the targets, both int64.

    ``intended``: the centre slot of every person in every interval; ``released``: an index slip counts only the first
    interval's as global (gl_transformer.md 3.2). NTU: {40, 41, 90, 91, 140, 141} against {40, 41}.
    """
    per_interval = joints * persons
    token = torch.arange(per_interval * intervals)
    is_global = token % per_interval // persons == centre
    if grouping == "released":
        is_global &= token < per_interval
    return token[is_global], token[~is_global]
