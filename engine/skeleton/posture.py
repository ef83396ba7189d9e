"""How a body stands."""

from __future__ import annotations

import math

import numpy as np

from engine.skeleton.layout import NTU25

# Knees and hips straighter than this are those of somebody who stands, degrees.
_STRAIGHT_DEG = 150.0


def standing_lean(joints: np.ndarray) -> float | None:
    """How far a straight body leans away from the sensor; None for one that does not stand straight.

    Landmarks estimated from a picture lean towards the camera, by some ten to twenty degrees, and a camera that looks
    down or up adds its own angle: what draws a body in space takes this back.

    Parameters
    ----------
    joints : numpy.ndarray
        float ``(25, 3)``, NTU-25 in metres: y up, z away from the sensor.

    Returns
    -------
    float or None
        Radians between the line from the ankles to the shoulders and the upright, seen from the side; negative
        towards the sensor.
    """
    place = {name: np.asarray(joints[i], np.float64) for i, name in enumerate(NTU25.joints)}
    ankles, hips = (_between(place, part) for part in ("Ankle", "Hip"))
    shoulders = place["SpineShoulder"]
    bends = [_angle(place[f"Hip{s}"], place[f"Knee{s}"], place[f"Ankle{s}"]) for s in ("Left", "Right")]
    bends.append(_angle(shoulders, hips, ankles))
    if not min(bends) > _STRAIGHT_DEG:
        return None
    up = shoulders - ankles
    return math.atan2(float(up[2]), float(up[1]))


def levelled(points: np.ndarray, lean: float, about: np.ndarray) -> np.ndarray:
    """Points ``(..., 3)`` turned about the x axis through ``about`` so that a body of this lean stands upright."""
    p = np.asarray(points, np.float64) - about
    c, s = math.cos(lean), math.sin(lean)
    return np.stack([p[..., 0], c * p[..., 1] + s * p[..., 2], c * p[..., 2] - s * p[..., 1]], -1) + about


def _between(place: dict[str, np.ndarray], part: str) -> np.ndarray:
    return (place[f"{part}Left"] + place[f"{part}Right"]) / 2


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Degrees at ``b`` between ``a`` and ``c``; 0 where two of them are one."""
    u, v = a - b, c - b
    length = float(np.linalg.norm(u) * np.linalg.norm(v))
    return math.degrees(math.acos(float(np.clip(u @ v / length, -1.0, 1.0)))) if length > 0 else 0.0
