"""The pinhole camera that every rendered picture is seen through, in Kinect camera axes.

x grows to the sensor's left, so an unmirrored picture shows large x at small u: a person who faces the camera has the
right side at the left of the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at the origin looking along +z.

    Parameters
    ----------
    width, height : int
        Picture size in pixels.
    focal : float
        Focal length in pixels.
    cx, cy : float
        Principal point in pixels, where (0, 0) is the centre of the top left pixel.
    """

    width: int
    height: int
    focal: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or not self.focal > 0:
            raise ValueError(f"a camera needs a positive size and focal length, got {self}")

    @classmethod
    def from_fov(cls, width: int, height: int, hfov_degrees: float = 58.0) -> Camera:
        """Centre the camera on the picture with a horizontal field of view in degrees (Kinect v1: 58)."""
        if not 1.0 <= hfov_degrees <= 170.0:
            raise ValueError(f"the horizontal field of view must lie in 1..170 degrees, got {hfov_degrees}")
        focal = width / 2 / math.tan(math.radians(hfov_degrees) / 2)
        return cls(width, height, focal, (width - 1) / 2, (height - 1) / 2)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points ``(..., 3)`` in metres to pixels ``(..., 2)``; points at or behind the camera become NaN."""
        points = np.asarray(points, np.float64)
        z = np.where(points[..., 2] > 1e-6, points[..., 2], np.nan)
        return np.stack([self.cx - self.focal * points[..., 0] / z, self.cy - self.focal * points[..., 1] / z], -1)

    def scaled(self, factor: int) -> Camera:
        """Return the same view with ``factor`` times as many pixels along each side."""
        shift = (factor - 1) / 2
        return Camera(
            self.width * factor,
            self.height * factor,
            self.focal * factor,
            self.cx * factor + shift,
            self.cy * factor + shift,
        )

    def ray_columns(self) -> np.ndarray:
        """x/z of the ray through every column, float64 ``(width,)``."""
        return (self.cx - np.arange(self.width)) / self.focal

    def ray_rows(self) -> np.ndarray:
        """y/z of the ray through every row, float64 ``(height,)``."""
        return (self.cy - np.arange(self.height)) / self.focal


# How far flesh reaches beyond the joints, in metres: hair above the head joint, soles and fingers beyond theirs.
_HEAD_REACH, _REACH = 0.22, 0.12
_MIN_HFOV, _MAX_HFOV = 30.0, 100.0


def fit_camera(
    joints: np.ndarray, width: int, height: int, margin: float = 0.06, *, centred: bool = True
) -> Camera:  # fmt: skip
    """Choose the camera that sees the whole person in every frame, as large as that allows.

    Parameters
    ----------
    joints : numpy.ndarray
        ``(..., V, 3)`` with 25 NTU or 20 Kinect joints, metres; zero joints and NaN are ignored. The camera stays at
        the origin: use ``place`` first to bring a recording to a natural distance.
    width, height : int
        Picture size.
    margin : float
        Free border as a fraction of the picture's sides.
    centred : bool
        Keep the principal point in the middle of the picture, as a real camera's is; otherwise it moves with the
        person, as in a cropped picture, which shows persons who stand beside the optical axis larger.

    Raises
    ------
    ValueError
        When no joint lies in front of the camera.
    """
    points = np.asarray(joints, np.float64)
    points = points.reshape(-1, points.shape[-2], 3)
    reach = np.full(points.shape[:2], _REACH)
    reach[:, 3] = _HEAD_REACH
    usable = np.isfinite(points).all(-1) & (np.abs(np.nan_to_num(points)).sum(-1) > 0) & (points[..., 2] > 0.3)
    if not usable.any():
        raise ValueError("no joint lies in front of the camera: z must be positive metres")
    flat, r = points[usable], reach[usable]
    x, y = flat[:, 0] / flat[:, 2], flat[:, 1] / flat[:, 2]
    r = r / flat[:, 2]
    # A few wild joints in thousands must not make everybody tiny.
    low = np.array([np.quantile(x - r, 0.001), np.quantile(y - r, 0.001)])
    high = np.array([np.quantile(x + r, 0.999), np.quantile(y + r, 0.999)])
    size = np.array([width, height], np.float64)
    if centred:
        half = np.maximum(np.maximum(-low, high), 1e-3)
        middle = np.zeros(2)
    else:
        half = np.maximum((high - low) / 2, 1e-3)
        middle = (high + low) / 2
    focal = float((size / 2 * (1 - 2 * margin) / half).min())
    tightest = width / 2 / math.tan(math.radians(_MIN_HFOV) / 2)
    widest = width / 2 / math.tan(math.radians(_MAX_HFOV) / 2)
    focal = min(max(focal, widest), tightest)
    cx, cy = (size - 1) / 2 + focal * middle
    return Camera(width, height, focal, float(cx), float(cy))


def place(joints: np.ndarray, distance: float = 2.8, height: float | None = None) -> np.ndarray:
    """Shift a whole recording so that its middle lies on the optical axis at ``distance`` metres.

    One constant shift for all frames and persons, so that every motion stays what it is.

    Parameters
    ----------
    joints : numpy.ndarray
        ``(..., V, 3)``, metres; joints that are exactly zero (absent persons) stay zero.
    distance : float
        Wanted median z of all joints.
    height : float or None
        Wanted height of the lowest point (y); None puts the middle of the recording at the height of the camera.

    Returns
    -------
    numpy.ndarray
        Shifted copy of the same shape and type.
    """
    joints = np.asarray(joints)
    present = np.abs(joints).sum(-1) > 0
    if not present.any():
        return joints.copy()
    points = joints[present].astype(np.float64)
    low, high = np.quantile(points, 0.002, axis=0), np.quantile(points, 0.998, axis=0)
    shift = -(low + high) / 2
    shift[2] = distance - np.median(points[:, 2])
    if height is not None:
        shift[1] = height - low[1]
    return np.where(present[..., None], joints + shift, joints).astype(joints.dtype)
