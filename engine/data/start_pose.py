"""Recordings that begin in a start pose: arms stretched to the sides, so that the sensor finds the person.

Whoever trains on them whole teaches an encoder that every action has spread arms in it, and a stream of them shows
people who spread their arms before each action.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.skeleton.layout import NTU25
from engine.skeleton.sequence import SkeletonSequence

# Sets whose people begin nearly every recording with their arms stretched to the sides, whatever they do then.
START_POSES = ("kinder_gator",)
# Degrees above the horizontal of the line from shoulder to wrist; below this an arm hangs.
HANGING_DEG = -50.0
# Arms are stretched where wrists lie this many shoulder widths apart, within so many degrees of the horizontal.
_SPAN, _LEVEL_DEG = 2.2, 40.0
# A start pose that lasted longer than this part of a recording belongs to the action.
LONGEST_PART = 0.4
# Seconds that arms may go on sinking after they count as hanging.
_SETTLING_S = 0.5
_ARMS = tuple((NTU25.index(f"Shoulder{side}"), NTU25.index(f"Wrist{side}")) for side in ("Left", "Right"))


def arm_elevation(joints: np.ndarray) -> np.ndarray:
    """Degrees ``(T, 2)`` of the left and the right arm above the horizontal: -90 hanging, 0 level, 90 straight up.

    Parameters
    ----------
    joints : numpy.ndarray
        float ``(T, 25, 3)``, NTU-25, y up.
    """
    arms = np.stack([joints[:, wrist] - joints[:, shoulder] for shoulder, wrist in _ARMS], axis=1).astype(np.float64)
    length = np.maximum(np.linalg.norm(arms, axis=-1), 1e-6)
    elevation: np.ndarray = np.degrees(np.arcsin(np.clip(arms[..., 1] / length, -1, 1)))
    return elevation


def arms_stretched(joints: np.ndarray) -> np.ndarray:
    """Whether both arms are stretched to the sides: bool ``(T,)`` of joints as for :func:`arm_elevation`."""
    shoulders, wrists = (joints[:, [arm[end] for arm in _ARMS]].astype(np.float64) for end in (0, 1))
    width, span = (np.linalg.norm(pair[:, 0] - pair[:, 1], axis=-1) for pair in (shoulders, wrists))
    level = (np.abs(arm_elevation(joints)) < _LEVEL_DEG).all(1)
    stretched: np.ndarray = level & (span > _SPAN * np.maximum(width, 1e-6))
    return stretched


def end_of_start_pose(joints: np.ndarray, times: np.ndarray) -> int:
    """Frame at which both arms have come down for the first time; 0 where they hang from the beginning.

    Where they do not both come down early (:data:`LONGEST_PART`), the action began in the start pose and the first
    arm that comes down counts, or nothing does.

    Parameters
    ----------
    joints : numpy.ndarray
        float ``(T, 25, 3)``, NTU-25, y up.
    times : numpy.ndarray
        float ``(T,)``, seconds.
    """
    elevation = arm_elevation(joints)
    hanging = elevation < HANGING_DEG
    if hanging[0].any():
        return 0
    latest = times[0] + LONGEST_PART * (times[-1] - times[0])
    for down, height in ((hanging.all(1), elevation.max(1)), (hanging.any(1), elevation.min(1))):
        frames = np.flatnonzero(down & (times <= latest))
        if len(frames):
            first = int(frames[0])
            end = int(np.searchsorted(times, times[first] + _SETTLING_S, side="right"))
            rising = np.flatnonzero(np.diff(height[first:end]) >= 0)
            return first + int(rising[0] if len(rising) else end - 1 - first)
    return 0


def without_start_pose(sequence: SkeletonSequence) -> SkeletonSequence:
    """The sequence (NTU-25) from :func:`end_of_start_pose` of its first person on; times go on as they were."""
    first = end_of_start_pose(sequence.xyz[:, 0], sequence.times)
    if not first:
        return sequence
    confidence = None if sequence.confidence is None else sequence.confidence[first:]
    return replace(sequence, xyz=sequence.xyz[first:], times=sequence.times[first:], confidence=confidence)
