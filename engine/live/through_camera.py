"""A skeleton dataset as the live path would see it: rendered, detected by MediaPipe, tracked, filtered and lifted.

Kinect joints and joints lifted from a webcam differ; a model that is to work live must be tested, and is better
trained, on what the live path delivers. Every sequence goes through the very stages the window uses.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence

if TYPE_CHECKING:
    from engine.live.chain import PoseStage


@dataclass(frozen=True)
class CameraSetup:
    """How sequences are filmed.

    ``vary`` draws person, backdrop, distance, view and camera height anew for every sequence (for training); without
    it everybody is filmed alike from 2.8 m at chest height. ``near`` is the share of varied sequences filmed so close
    that the legs are out of the picture. ``every`` keeps every n-th frame of the recording.
    """

    width: int = 320
    height: int = 240
    every: int = 2
    vary: bool = True
    near: float = 0.15
    yaw_deg: float = 30.0
    seed: int = 0


def film(sequence: SkeletonSequence, setup: CameraSetup) -> Iterator[tuple[np.ndarray, float]]:
    """Pictures uint8 ``(H, W, 3)`` and their times; the recording is turned and shifted as a whole."""
    from engine.render.actor import Actor
    from engine.render.appearance import Appearance
    from engine.render.camera import Camera, place
    from engine.render.scene import Room, random_backdrop

    rng = np.random.default_rng([setup.seed, zlib.crc32(sequence.name.encode())])
    joints = convert_layout(sequence.xyz[:: setup.every].astype(np.float64), sequence.layout, "ntu25")
    times = sequence.times[:: setup.every]
    absent = ~np.any(joints != 0, axis=(2, 3))
    hfov, distance, yaw = 60.0, 2.8, 0.0
    if setup.vary:
        hfov, distance = rng.uniform(54, 68), rng.uniform(2.4, 3.6)
        yaw = np.deg2rad(rng.uniform(-setup.yaw_deg, setup.yaw_deg))
    close = setup.vary and rng.random() < setup.near
    if close:
        distance = rng.uniform(1.3, 1.8)
    cos, sin = np.cos(yaw), np.sin(yaw)
    joints = joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    joints = place(joints, distance)
    if setup.vary:
        joints[..., 0] += rng.uniform(-0.25, 0.25)
        joints[..., 1] += rng.uniform(-0.55, -0.35) if close else rng.uniform(-0.12, 0.12)
    joints[absent] = 0.0
    camera = Camera.from_fov(setup.width, setup.height, float(hfov))
    actor = Actor([Appearance.random(rng), Appearance.random(rng)] if setup.vary else None)
    backdrop: np.ndarray | Room = Room.under(joints)
    if setup.vary and rng.random() < 0.5:
        backdrop = random_backdrop(setup.width, setup.height, rng)
    for frame, time in zip(joints, times, strict=True):
        yield actor.render(frame, camera, backdrop), float(time)


def see(sequence: SkeletonSequence, setup: CameraSetup) -> SkeletonSequence | None:
    """The sequence as the live path delivers it, or None when nobody was found in any frame.

    Frames in which nobody was found hold the last joints (the first found ones at the start).
    """
    from engine.live.types import Frame

    stage = pose_stage()
    stage.reset()
    found: list[np.ndarray | None] = []
    times: list[float] = []
    for index, (image, time) in enumerate(film(sequence, setup)):
        result = stage.process(Frame(image, time, index, 0.0))
        found.append(result.persons[0].joints if result.persons else None)
        times.append(time)
    first = next((joints for joints in found if joints is not None), None)
    if first is None:
        return None
    held = first
    rows = []
    for joints in found:
        held = joints if joints is not None else held
        rows.append(held)
    missed = sum(joints is None for joints in found)
    return SkeletonSequence(
        np.stack(rows)[:, None],
        np.asarray(times),
        "ntu25",
        name=sequence.name,
        label=sequence.label,
        meta=sequence.meta | {"missed_frames": missed},
    )


_STAGES: dict[int, PoseStage] = {}


def pose_stage() -> PoseStage:
    """One pose stage per process: loading the pose model costs far more than a sequence."""
    from engine.live.chain import PoseOptions, PoseStage

    if os.getpid() not in _STAGES:
        _STAGES.clear()
        _STAGES[os.getpid()] = PoseStage(PoseOptions(num_poses=1))
    return _STAGES[os.getpid()]
