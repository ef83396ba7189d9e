"""Steps that change how many frames a clip has, apart from the normalisations, which never do.

Papers resize, crop, repeat and pad in different places; each such act stands here under a name of its own.
All work on ``(T, M, V, 3)`` with zeros where a person is absent.
"""

from __future__ import annotations

import math

import numpy as np

GL_PADDING = 99.9  # what GL-Transformer writes into frames after the end


def presence(xyz: np.ndarray) -> np.ndarray:
    """bool ``(T, M)``: who is there (any coordinate differs from zero)."""
    return np.any(xyz != 0, axis=(2, 3))


def resize_frames(xyz: np.ndarray, frames: int, blend_absent: bool = True) -> np.ndarray:
    """Linear resize along time with half-pixel centres and clamped edges (datasets.md, end of section 2.1).

    Output ``i`` reads position ``(i + 0.5) T / frames - 0.5``, clamped to ``0 .. T - 1``.

    Parameters
    ----------
    xyz : numpy.ndarray
        ``(T, ...)``, T at least 1.
    frames : int
        Frames wanted.
    blend_absent : bool
        True mixes an absent person's zeros with the neighbouring frame, as published; False (only for
        ``(T, M, V, 3)``) takes the side on which the person is there.

    Returns
    -------
    numpy.ndarray
        float32 ``(frames, ...)``.
    """
    count = len(xyz)
    if count == frames:
        return np.array(xyz, np.float32)
    at = np.clip((np.arange(frames) + 0.5) * (count / frames) - 0.5, 0, count - 1)
    left = np.floor(at).astype(np.int64)
    right = np.minimum(left + 1, count - 1)
    weight = (at - left).astype(np.float32).reshape(-1, *(1,) * (xyz.ndim - 1))
    if not blend_absent:
        there = presence(xyz)
        weight = np.broadcast_to(weight, (frames, xyz.shape[1], 1, 1)).copy()
        between = (weight > 0)[..., 0, 0]
        weight[between & there[left] & ~there[right]] = 0.0
        weight[between & ~there[left] & there[right]] = 1.0
    out: np.ndarray = xyz[left] * (1 - weight) + xyz[right] * weight
    return out.astype(np.float32, copy=False)


def pad_zeros(xyz: np.ndarray, frames: int = 300) -> np.ndarray:
    """The first ``frames`` frames, with zeros after the end."""
    out = np.zeros((frames, *xyz.shape[1:]), np.float32)
    out[: len(xyz)] = xyz[:frames]
    return out


def valid_frames(xyz: np.ndarray) -> int:
    """How many frames have a non-zero coordinate sum; published loaders take that many as a prefix."""
    return int((xyz.reshape(len(xyz), -1).sum(axis=1) != 0).sum())


def centre_crop(valid: int, ratio: float = 0.95) -> tuple[int, int]:
    """Half-open range of frames a test clip keeps: ``int((1 - ratio) valid / 2)`` frames go at either end."""
    bias = int((1 - ratio) * valid / 2)
    return bias, valid - bias


def to_front(xyz: np.ndarray) -> np.ndarray:
    """A person absent in the first frame is moved to the front without his empty frames (section 2.4, step 1).

    Two persons may lose their common time by this.
    """
    out = np.array(xyz, np.float32)
    there = presence(xyz)
    for m in range(xyz.shape[1]):
        if there[:, m].any() and not there[0, m]:
            seen = xyz[there[:, m], m]
            out[: len(seen), m] = seen
            out[len(seen) :, m] = 0.0
    return out


def repeat_to(xyz: np.ndarray, frames: int = 300) -> np.ndarray:
    """The first ``frames`` frames; after his last frame each person starts again (section 2.4, step 1)."""
    out = pad_zeros(xyz, frames)
    there = presence(out)
    for m in range(out.shape[1]):
        if there[:, m].any():
            length = int(np.flatnonzero(there[:, m])[-1]) + 1
            out[length:, m] = out[np.arange(length, frames) % length, m]
    return out


def counted_length(xyz: np.ndarray) -> int:
    """Frames in which joint 0 of person 0 is not zero: a count, so a gap cuts frames off the end (2.3, 2.5)."""
    return int((np.abs(xyz[:, 0, 0]).sum(axis=-1) != 0).sum())


def pad_marked(xyz: np.ndarray, frames: int = 300) -> np.ndarray:
    """The first ``frames`` frames, with 99.9 after the end (section 2.5)."""
    out = np.full((frames, *xyz.shape[1:]), GL_PADDING, np.float32)
    out[: len(xyz)] = xyz[:frames]
    return out


def centre_frames(xyz: np.ndarray, frames: int = 300) -> np.ndarray:
    """The middle ``frames`` frames of a longer clip (PKU-MMD in the HiCLR line); a shorter one passes unchanged."""
    start = max(math.floor((len(xyz) - frames) / 2), 0)
    return xyz[start : start + frames]


def longer_actor_first(xyz: np.ndarray) -> np.ndarray:
    """PYSKL: the actor with more frames comes first, and only his frames stay (section 2.2); T may shrink."""
    there = presence(xyz)
    first = int(np.argmax(there.sum(axis=0)))
    if not there[:, first].any():
        return xyz
    order = [first, *(m for m in range(xyz.shape[1]) if m != first)]
    return np.ascontiguousarray(xyz[there[:, first]][:, order])
