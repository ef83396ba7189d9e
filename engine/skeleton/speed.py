"""How fast joints move, and which part of a recording moves at all."""

from __future__ import annotations

import numpy as np

from engine.skeleton.layout import NTU25, Layout

# Frame-to-frame differences of landmarks are mostly jitter; over a quarter of a second real motion dominates.
SPEED_SPAN_S = 0.25
# Mean joint speed, trunk lengths per second, under which the ends of a recording count as standing still.
STILL_SPEED = 0.12


def joint_speed(joints: np.ndarray, times: np.ndarray, layout: Layout = NTU25) -> np.ndarray:
    """Mean joint speed relative to the spine base, trunk lengths per second, over a centred quarter of a second.

    Parameters
    ----------
    joints : numpy.ndarray
        float ``(T, V, 3)``, metres.
    times : numpy.ndarray
        float ``(T,)``, seconds, increasing.
    layout : Layout
        Of the joints; its first joint is the base of the spine, its root lies between the shoulders.

    Returns
    -------
    numpy.ndarray
        ``(T,)``; at both ends over the half that is there; zeros for fewer than two frames.
    """
    if len(times) < 2:
        return np.zeros(len(times))
    relative = joints - joints[:, :1]
    trunk = max(float(np.median(np.linalg.norm(relative[:, layout.root], axis=-1))), 1e-3)
    half = SPEED_SPAN_S / 2
    # At the ends the span is shorter; a frame far from its neighbours is measured against them all the same.
    here = np.arange(len(times))
    before = np.minimum(np.searchsorted(times, times - half - 1e-9), np.maximum(here - 1, 0))
    after = np.maximum(np.searchsorted(times, times + half + 1e-9) - 1, np.minimum(here + 1, here[-1]))
    moved = np.linalg.norm(relative[after] - relative[before], axis=-1).mean(-1)
    speed: np.ndarray = moved / (times[after] - times[before]) / trunk
    return speed


def moving_part(joints: np.ndarray, times: np.ndarray, layout: Layout = NTU25) -> tuple[int, int]:
    """First and last frame of the part of a recording that is not still at its ends; all of it where nothing moves.

    Parameters are those of :func:`joint_speed`.
    """
    moving = np.flatnonzero(joint_speed(joints, times, layout) >= STILL_SPEED)
    return (int(moving[0]), int(moving[-1])) if len(moving) > 1 else (0, len(times) - 1)
