"""Procedural performances for the demo clip, for tests with known truth, and for machines without recordings.

Every motion starts and ends standing with hanging arms, so that any order of motions joins smoothly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.render.kinematics import Pose, solve
from engine.render.repertoire import REPERTOIRE, TAU, ease, hold
from engine.skeleton.layout import NTU25
from engine.skeleton.sequence import SkeletonSequence

Segment = tuple[str, float, float]
TWO_PERSONS = "two persons"
MOTIONS: tuple[str, ...] = (*REPERTOIRE, TWO_PERSONS)


def motion(
    name: str,
    seconds: float,
    fps: float = 30.0,
    position: tuple[float, float, float] = (0.0, 0.0, 2.8),
    height: float = 1.75,
    facing_deg: float = 0.0,
) -> SkeletonSequence:
    """Perform a motion.

    Parameters
    ----------
    name : str
        One of ``MOTIONS``; ``"two persons"`` shows one who waves beside one who claps.
    seconds : float
        Length; short motions are repeated to fill it at about their natural speed.
    fps : float
        Frames per second.
    position : tuple of float
        Where SpineBase stands, metres in Kinect camera axes; its height is 0.91 m above the floor for 1.75 m people.
    height : float
        Stature in metres.
    facing_deg : float
        0 looks at the camera; positive turns the person to the own left.

    Returns
    -------
    SkeletonSequence
        NTU-25, ``round(seconds * fps)`` frames (at least two), standing at both ends.

    Raises
    ------
    KeyError
        For an unknown name; the message lists the known ones.
    """
    if name not in MOTIONS:
        raise KeyError(f"unknown motion {name!r}; known: {', '.join(MOTIONS)}")
    if not (seconds > 0 and fps > 0 and 0.5 <= height <= 2.5):
        raise ValueError(f"need positive seconds and fps and a height of 0.5..2.5 m, got {seconds}, {fps}, {height}")
    if name == TWO_PERSONS:
        x, y, z = position
        return together(
            [
                motion("wave", seconds, fps, (x + 0.55, y, z), height, facing_deg),
                motion("clap", seconds, fps, (x - 0.55, y, z), height * 0.96, facing_deg),
            ],
            name,
        )
    act, natural = REPERTOIRE[name]
    frames = max(2, round(seconds * fps))
    times = np.arange(frames) / fps
    overall = times / times[-1]
    progress = overall
    if natural is not None:
        turns = max(1, round(seconds / natural))
        progress = np.where(overall < 1, (overall * turns) % 1, 1.0)
    pose = Pose.neutral(frames)
    alive = hold(overall, 0.15, 0.15)
    pose.pelvis[:, 0] += 0.006 * alive * np.sin(TAU * 0.31 * times)
    pose.lean += 0.012 * alive * np.sin(TAU * 0.27 * times + 0.6)  # breath and sway: nobody is a statue
    pose.twist += 0.015 * alive * np.sin(TAU * 0.19 * times)
    act(pose, progress, times)
    xyz = solve(pose, position, height, facing_deg)
    return SkeletonSequence(xyz[:, None], times, name=name)


def together(parts: Sequence[SkeletonSequence], name: str = "") -> SkeletonSequence:
    """Put performances side by side as persons of one sequence; shorter ones stay in their last pose."""
    if not parts or any(part.layout != parts[0].layout for part in parts):
        raise ValueError("give at least one sequence, all in one layout")
    longest = max(parts, key=len)
    stacked = [np.concatenate([p.xyz, p.xyz[-1:].repeat(len(longest) - len(p), 0)]) for p in parts]
    return SkeletonSequence(np.concatenate(stacked, 1), longest.times, parts[0].layout, name=name or "together")


def compose(
    parts: Sequence[SkeletonSequence], gap: float = 0.5, fps: float = 30.0, name: str = "composition"
) -> tuple[SkeletonSequence, list[Segment]]:
    """Join NTU-25 performances one after the other with smooth transitions.

    Parameters
    ----------
    parts : sequence of SkeletonSequence
        All with the same number of persons.
    gap : float
        Seconds between the end of one and the start of the next.
    fps : float
        Frame rate of the transitions.

    Returns
    -------
    SkeletonSequence
        The whole performance, starting at 0 s.
    list of (name, start, end)
        Where every part lies, in seconds.
    """
    if not parts or any(p.layout != "ntu25" or p.num_persons != parts[0].num_persons for p in parts):
        raise ValueError("give at least one sequence, all in ntu25 and with the same number of persons")
    steps = max(1, round(gap * fps))
    blocks, stamps, segments, clock = [], [], [], 0.0
    for i, part in enumerate(parts):
        if i:
            weight = ease(np.arange(1, steps) / steps, 0, 1)
            blocks.append(blended(parts[i - 1].xyz[-1], part.xyz[0], weight))
            stamps.append(clock + np.arange(1, steps) / fps)
            clock += steps / fps
        local = part.times - part.times[0] + clock
        blocks.append(part.xyz)
        stamps.append(local)
        segments.append((part.name, float(local[0]), float(local[-1])))
        clock = float(local[-1])
    return SkeletonSequence(np.concatenate(blocks), np.concatenate(stamps), name=name), segments


def blended(first: np.ndarray, last: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Frames ``(W, M, V, 3)`` between two of ``(M, V, 3)``, NTU-25, bone by bone: no limb shrinks on the way."""
    mixed = first + weight[:, None, None, None] * (last - first)
    out = mixed.copy()
    order = _root_first(NTU25.parents)
    for joint in order:
        parent = NTU25.parents[joint]
        if parent == joint:
            continue
        bone = mixed[..., joint, :] - mixed[..., parent, :]
        lengths = [np.sqrt(((f[:, joint] - f[:, parent]) ** 2).sum(-1)) for f in (first, last)]
        length = lengths[0] + weight[:, None] * (lengths[1] - lengths[0])
        size = np.maximum(np.sqrt((bone**2).sum(-1)), 1e-6)
        out[..., joint, :] = out[..., parent, :] + bone * (length / size)[..., None]
    return out.astype(np.float32)


def _root_first(parents: Sequence[int]) -> list[int]:
    order = [i for i, p in enumerate(parents) if i == p]
    while len(order) < len(parents):
        order += [i for i, p in enumerate(parents) if i not in order and p in order]
    return order
