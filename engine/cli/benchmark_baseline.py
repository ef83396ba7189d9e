"""Training clips made one by one from padded arrays, as published loaders work: the measure of the batch loader.

Source: datasets.md, section 2.1 ("At load time"); skeletongcl.md, section 1.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def crop_resize_rotate(data: np.ndarray, part: float, place: float, angles: np.ndarray, window: int = 64) -> np.ndarray:
    """One training clip ``(3, window, V, M)`` of a padded ``(3, T, V, M)``, everything counted and cut in NumPy."""
    valid = int((data.sum(axis=(0, 2, 3)) != 0).sum())
    length = min(max(int(np.floor(part * valid)), window), valid)
    start = int(place * (valid - length + 1))
    crop = data[:, start : start + length]
    at = np.clip((np.arange(window) + 0.5) * length / window - 0.5, 0, length - 1)
    left = at.astype(np.int64)
    right = np.minimum(left + 1, length - 1)
    weight = (at - left).astype(np.float32)[:, None, None]
    clip = crop[:, left] * (1 - weight) + crop[:, right] * weight
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    rx = np.array([[1, 0, 0], [0, ca, sa], [0, -sa, ca]])
    ry = np.array([[cb, 0, -sb], [0, 1, 0], [sb, 0, cb]])
    rz = np.array([[cc, sc, 0], [-sc, cc, 0], [0, 0, 1]])
    turned = (rz @ ry @ rx).astype(np.float32) @ clip.reshape(3, -1)
    return turned.reshape(clip.shape)


def through_torch(data: np.ndarray, part: float, place: float, angles: np.ndarray, window: int = 64) -> np.ndarray:
    """The same clip with the division of work of the CTR-GCN family's loader.

    Frames are counted by nested sums, the crop goes through a two-dimensional ``interpolate``, and the clip's one
    rotation is built and applied frame by frame.
    """
    import torch

    channels, _, joints, persons = data.shape
    valid = int(np.sum(data.sum(0).sum(-1).sum(-1) != 0))
    length = min(max(int(np.floor(part * valid)), window), valid)
    start = int(place * (valid - length + 1))
    crop = torch.tensor(data[:, start : start + length], dtype=torch.float)
    lines = crop.permute(0, 2, 3, 1).reshape(1, 1, channels * joints * persons, length)
    size = (channels * joints * persons, window)
    resized = torch.nn.functional.interpolate(lines, size=size, mode="bilinear", align_corners=False)
    clip = resized.reshape(channels, joints, persons, window).permute(3, 0, 1, 2).reshape(window, channels, -1)
    angle = torch.as_tensor(angles, dtype=torch.float).expand(window, 3)
    (ca, cb, cc), (sa, sb, sc) = angle.cos().unbind(1), angle.sin().unbind(1)
    one, zero = torch.ones(window), torch.zeros(window)
    rx = torch.stack((one, zero, zero, zero, ca, sa, zero, -sa, ca), 1).view(-1, 3, 3)
    ry = torch.stack((cb, zero, -sb, zero, one, zero, sb, zero, cb), 1).view(-1, 3, 3)
    rz = torch.stack((cc, sc, zero, -sc, cc, zero, zero, zero, one), 1).view(-1, 3, 3)
    turned = torch.matmul(rz @ ry @ rx, clip).view(window, channels, joints, persons)
    return turned.permute(1, 0, 2, 3).contiguous().numpy()


def padded_arrays(store: Any, indices: np.ndarray, frames: int = 300) -> np.ndarray:
    """Sequences as published files hold them: float32 ``(N, 3, frames, V, 2)``, a view of ``(N, frames, 2, V, 3)``."""
    out = np.zeros((len(indices), frames, 2, 25, 3), np.float32)
    for n, i in enumerate(indices):
        xyz = store.sequence(int(i)).xyz
        out[n, : len(xyz), : xyz.shape[1]] = xyz
    return out.transpose(0, 4, 1, 3, 2)
