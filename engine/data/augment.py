"""Training-time changes to a sequence before :func:`engine.data.preprocess.preprocess`, with an explicit generator.

They act on camera coordinates, so the clip they lead to is made by the same code as in evaluation and live.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from engine.data.preprocess import Preprocessing, landmark_joints, make_stream, normalise, preprocess
from engine.skeleton.convert import convert_layout
from engine.skeleton.layout import Layout, get_layout
from engine.skeleton.sequence import SkeletonSequence
from engine.skeleton.speed import moving_part

# Kinect-to-MediaPipe errors grow from the trunk outwards (measured on rendered and real recordings).
_JOINT_NOISE = {
    "SpineBase": 0.4, "SpineMid": 0.3, "SpineShoulder": 0.3, "Neck": 0.4, "Head": 0.6, "Shoulder": 0.5, "Elbow": 1.0,
    "Wrist": 1.3, "Hand": 1.5, "HandTip": 1.8, "Thumb": 1.8, "Hip": 0.5, "Knee": 0.9, "Ankle": 1.2, "Foot": 1.4,
}  # fmt: skip


class Augmentation(BaseModel):
    """Random changes of one training sequence; everything off by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["window", "nw_ucla", "random_crop", "none"] = Field(
        "window",
        description="window: timed windows; none: the clips of the test, unchanged (2s-AGCN); nw_ucla: 52 sorted "
        "random frames, random_crop: a random part resized and turned by rotation_rad, as loaders of the CTR-GCN "
        "family (the other changes but mirror are for window).",
    )
    yaw_deg: float = Field(0.0, ge=0, le=180, description="Turn about the vertical, uniform in +-, degrees.")
    pitch_deg: float = Field(0.0, ge=0, le=90, description="Turn about the camera's x axis, uniform in +-, degrees.")
    roll_deg: float = Field(0.0, ge=0, le=45, description="Turn about the optical axis, uniform in +-, degrees.")
    speed: float = Field(0.0, ge=0, lt=1, description="Time is stretched by a factor uniform in 1-s..1+s.")
    cut: float = Field(
        0.0, ge=0, lt=1, description="Up to this part of the window may lie after or before the action, or be cut off."
    )
    roam: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Part of a sequence longer than the window in which the window may lie: 0 its middle, 1 anywhere.",
    )
    noise_m: float = Field(0.0, ge=0, le=0.2, description="Slowly changing joint noise of an elbow, metres (sigma).")
    scale: float = Field(0.0, ge=0, lt=1, description="Body size is multiplied by a factor uniform in 1-s..1+s.")
    mirror: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability of swapping left and right (with window labels in mirror_labels too; not with none).",
    )
    mirror_labels: dict[str, str] = Field(
        default_factory=dict, description="Classes that become another when mirrored."
    )
    drop: float = Field(0.0, ge=0, le=1, description="Probability that an arm or leg's end is frozen for a while.")
    crop_low: float = Field(0.5, gt=0, le=1, description="random_crop: smallest part of a sequence that is taken.")
    crop_least: int = Field(64, ge=1, description="random_crop: fewest frames taken, where the sequence has them.")
    rotation_rad: float = Field(
        0.0, ge=0, le=3.2, description="random_crop: angles about x, y and z, each uniform in +-, radians."
    )


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix for row vectors, ``Ry Rx Rz`` of angles in radians."""
    cy, sy, cx, sx, cz, sz = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    rx = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    rz = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return (ry @ rx @ rz).astype(np.float32)


def joint_noise_scale(layout: str) -> np.ndarray:
    """Relative noise of every joint, ``(V,)``; an elbow is 1."""
    names = [joint.removesuffix("Left").removesuffix("Right") for joint in get_layout(layout).joints]
    return np.array([_JOINT_NOISE.get(name, 0.5) for name in names], np.float32)


def smooth_noise(rng: np.random.Generator, frames: int, shape: tuple[int, ...], every: int) -> np.ndarray:
    """Unit-variance Gaussian noise ``(frames, *shape)`` that changes over about ``every`` frames."""
    knots = max(2, frames // max(every, 1) + 2)
    values = rng.standard_normal((knots, *shape)).astype(np.float32)
    at = np.linspace(0, knots - 1, frames)
    left = np.minimum(at.astype(int), knots - 2)
    weight = (at - left).astype(np.float32).reshape(-1, *([1] * len(shape)))
    return values[left] * (1 - weight) + values[left + 1] * weight


# At most this part of an action (or window) may be seen in a clip that counts as idle.
IDLE_SEEN = 0.2


def training_clip(
    sequence: SkeletonSequence,
    spec: Preprocessing,
    how: Augmentation,
    rng: np.random.Generator,
    mirrored: bool = False,
    idle: bool = False,
) -> np.ndarray:
    """One randomly changed clip ``(C, T, V, M)`` of a sequence, in the card's layout.

    ``idle`` asks for a window that lies nearly all before the performance or nearly all after it.
    """
    if sequence.layout != spec.layout:
        sequence = replace(
            sequence,
            xyz=convert_layout(sequence.xyz, sequence.layout, spec.layout),
            layout=spec.layout,
            confidence=None,
        )
    if how.kind == "nw_ucla":
        return _nw_ucla_clip(sequence, spec, how, rng, mirrored)
    layout = get_layout(spec.layout)
    xyz = sequence.xyz
    present = np.any(xyz != 0, axis=(2, 3))
    if mirrored:
        xyz = _mirrored(xyz, layout)
    if how.noise_m:
        scale = how.noise_m * rng.uniform(0, 1) * joint_noise_scale(spec.layout)[:, None]
        noise = smooth_noise(rng, len(xyz), (xyz.shape[1], layout.num_joints, 3), int(rng.integers(1, 12)))
        # Depth is the least certain coordinate of a single camera.
        xyz = xyz + noise * scale * np.array([0.7, 0.7, 1.4], np.float32)
    if how.drop and rng.random() < how.drop:
        xyz = _freeze_limb(xyz, layout, rng)
    turn = rotation(*(np.deg2rad(rng.uniform(-a, a)) for a in (how.yaw_deg, how.pitch_deg, how.roll_deg)))
    xyz = xyz @ turn * np.float32(rng.uniform(1 - how.scale, 1 + how.scale))
    xyz[~present] = 0.0
    times = (sequence.times - sequence.times[0]) * rng.uniform(1 - how.speed, 1 + how.speed)
    changed = SkeletonSequence(xyz, times, sequence.layout, name=sequence.name, label=sequence.label)
    # Only where a window might show no movement at all does it matter where the movement is.
    wide = idle or (how.roam > 0 and changed.duration > spec.window_s)
    first, last = moving_part(sequence.xyz[:, 0], sequence.times, layout) if wide else (0, -1)
    start, stop = float(times[first]), float(times[last])
    if idle:
        return preprocess(changed, spec, end=idle_end(start, stop, spec.window_s, rng))
    reach = how.cut * spec.window_s + how.roam * max(0.0, stop - start - spec.window_s) / 2
    return preprocess(changed, spec, end=window_end(start, stop, spec.window_s) + rng.uniform(-1, 1) * reach)


def idle_end(start: float, stop: float, window_s: float, rng: np.random.Generator) -> float:
    """End of a window that sees at most a fifth of a movement (or of itself): its beginning, or its end."""
    seen = rng.uniform(0, IDLE_SEEN) * min(window_s, stop - start)
    return start + seen if rng.random() < 0.5 else stop + window_s - seen


def window_end(start: float, stop: float, window_s: float) -> float:
    """End of the window with the middle of a movement in its middle."""
    return (start + stop + window_s) / 2


def evaluation_clip(sequence: SkeletonSequence, spec: Preprocessing) -> np.ndarray:
    """The clip a sequence is tested with: the window centred on it, or the whole of it for ``linspace``."""
    end = window_end(float(sequence.times[0]), float(sequence.times[-1]), spec.window_s)
    return preprocess(sequence, spec, end if spec.sampling == "window" else None)


def _freeze_limb(xyz: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
    names = [name for name in layout.limbs if name != "trunk"]
    joints = list(layout.limbs[names[int(rng.integers(len(names)))]][1:])
    start = int(rng.integers(0, len(xyz)))
    stop = min(len(xyz), start + int(rng.integers(2, 12)))
    out = xyz.copy()
    # The limb keeps its shape relative to its own first joint's frame of reference: hold the offset from the trunk.
    top = landmark_joints(layout)[2]
    offset = xyz[start, :, joints] - xyz[start, :, top][None]
    out[start:stop, :, joints] = xyz[start:stop, :, top][:, :, None] + offset.transpose(1, 0, 2)[None]
    return out


def _mirrored(xyz: np.ndarray, layout: Layout) -> np.ndarray:
    return xyz[:, :, list(layout.mirror)] * np.array([-1, 1, 1], np.float32)


def _nw_ucla_clip(
    sequence: SkeletonSequence, spec: Preprocessing, how: Augmentation, rng: np.random.Generator, mirrored: bool
) -> np.ndarray:
    """Random view and random sorted frames (skeletongcl.md, section 1.6); its scale and shift cancel in min-max.

    Min-max runs over the whole sequence before frames are chosen, as in the published loader.
    """
    ax, ay = (np.deg2rad(float(rng.integers(-int(a), int(a) + 1))) for a in (how.pitch_deg, how.yaw_deg))
    xyz = sequence.xyz[:, : spec.persons]
    if mirrored:
        xyz = _mirrored(xyz, get_layout(spec.layout))
    xyz = normalise(xyz @ rotation(ay, ax, 0.0), spec)
    frames = len(xyz)
    chosen = np.sort(rng.choice(np.repeat(np.arange(frames), 100), spec.frames, replace=False))
    clip = np.ascontiguousarray(xyz[chosen].transpose(3, 0, 2, 1), np.float32)
    return make_stream(clip, spec.stream, get_layout(spec.layout))
