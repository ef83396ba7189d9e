"""A standing body as MediaPipe would describe it, seen by a pinhole camera: exact input for lifting and tracking."""

from __future__ import annotations

import numpy as np

from engine.live.types import RawPose
from engine.skeleton.layout import BLAZEPOSE33

SIZE = (640, 480)
FOCAL = 1000.0
_RIGHT_SIDE: dict[str, tuple[float, float, float]] = {
    # Facing the camera the right side has smaller x. Metres from the middle of the hips; x right, y down, z away.
    "right_eye_inner": (-0.015, -0.64, -0.10),
    "right_eye": (-0.03, -0.64, -0.10),
    "right_eye_outer": (-0.045, -0.64, -0.09),
    "right_ear": (-0.07, -0.62, -0.02),
    "mouth_right": (-0.025, -0.57, -0.10),
    "right_shoulder": (-0.17, -0.45, 0.0),
    "right_elbow": (-0.21, -0.20, 0.02),
    "right_wrist": (-0.22, 0.03, -0.05),
    "right_pinky": (-0.23, 0.10, -0.05),
    "right_index": (-0.21, 0.11, -0.07),
    "right_thumb": (-0.19, 0.07, -0.08),
    "right_hip": (-0.11, 0.0, 0.0),
    "right_knee": (-0.12, 0.40, -0.02),
    "right_ankle": (-0.12, 0.78, 0.02),
    "right_heel": (-0.12, 0.82, 0.06),
    "right_foot_index": (-0.13, 0.84, -0.10),
}


def standing_world() -> np.ndarray:
    """World landmarks float64 ``(33, 3)`` of somebody who faces the camera, left and right alike."""
    world = np.zeros((33, 3))
    world[0] = (0.0, -0.60, -0.14)
    for name, place in _RIGHT_SIDE.items():
        world[BLAZEPOSE33.index(name)] = place
        world[BLAZEPOSE33.mirror[BLAZEPOSE33.index(name)]] = np.multiply(place, (-1, 1, 1))
    return world


def project(
    world: np.ndarray,
    translation: tuple[float, float, float] = (0.0, 0.0, 3.0),
    focal: float = FOCAL,
    size: tuple[int, int] = SIZE,
    visibility: float | np.ndarray = 0.9,
) -> RawPose:
    """What a perfect pose model would say about ``world`` standing at ``translation`` (both MediaPipe axes, metres)."""
    points = world + translation
    image = np.empty((33, 3), np.float64)
    image[:, :2] = (focal * points[:, :2] / points[:, 2:] + np.divide(size, 2)) / size
    image[:, 2] = world[:, 2]
    seen = np.broadcast_to(np.asarray(visibility, np.float32), (33,)).copy()
    return RawPose(image, world.copy(), seen)
