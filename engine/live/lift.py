"""From MediaPipe's 33 landmarks to the 25 NTU joints in Kinect camera space, with the translation the model leaves out.

Source: datasets.md, sections 6.2-6.4. The map itself is the matrix ``BLAZEPOSE33_TO_NTU25``; here are the axis change,
the recovery of where the person stands, and the corrections that bring MediaPipe's skeleton nearer to Kinect's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.live.types import RawPose
from engine.skeleton.convert import (
    BLAZEPOSE33_TO_NTU25,
    MEDIAPIPE_TO_KINECT_AXES,
    NECK_RATIO,
    SPINE_MID_RATIO,
    joint_confidence,
)
from engine.skeleton.layout import BLAZEPOSE33

DEFAULT_HFOV_DEG = 60.0
MIN_LANDMARKS = 6
MIN_VISIBILITY = 0.5
DEPTH_RANGE = (0.5, 10.0)
# Where somebody stands before the first solvable frame: straight ahead at a usual distance.
DEFAULT_TRANSLATION = (0.0, 0.0, 2.5)

_MIRROR = np.array(BLAZEPOSE33.mirror)


@dataclass(frozen=True)
class LiftSettings:
    """Corrections between MediaPipe's and Kinect's idea of a skeleton. ``LiftSettings.plain()`` switches all off.

    The defaults come from bone lengths (Kinect v2's of eight NTU performers over MediaPipe's of a dozen other people in
    videos) and geometry, not from fitting a clip. ``shoulder_rise`` and ``hand_factor`` are off because they
    don't lower the joint error, although Kinect's trunk is 0.03 m longer and its hands 1.75 times as long
    (benchmarks/lifting.md).

    Parameters
    ----------
    hip_factor : float
        Hip joints are drawn towards the middle of the hips: Kinect's are 0.14 m apart, MediaPipe's 0.22 m.
    shoulder_rise : float
        Metres by which SpineShoulder lies above the middle of the shoulders, along the trunk.
    hand_factor : float
        Hand, tip and thumb are moved away from the wrist: MediaPipe marks knuckles, Kinect the hand and its tip.
    thigh_factor : float
        Length of the thigh, knee to foot moving along: Kinect's is shorter (0.33 m against 0.38 m).
    scale : float
        Factor on the whole body before the translation is solved. One camera can't tell a tall person far away from a
        small one near by; 1 trusts the model's guess.
    view_rotation : bool
        Turn the body about its middle by the angle between the camera's axis and the line of sight to it. The network
        sees a crop as if the camera looked straight at it, so people beside the axis come out turned and people below
        it leaning.
    """

    hip_factor: float = 0.65
    shoulder_rise: float = 0.0
    hand_factor: float = 1.0
    thigh_factor: float = 0.87
    scale: float = 1.0
    view_rotation: bool = True

    @classmethod
    def plain(cls) -> LiftSettings:
        """The map of datasets.md, 6.2, and nothing else."""
        return cls(hip_factor=1.0, thigh_factor=1.0, view_rotation=False)


def focal_length(width: float, hfov_deg: float = DEFAULT_HFOV_DEG) -> float:
    """Focal length in pixels of a camera with horizontal field of view ``hfov_deg`` and pictures ``width`` wide."""
    return width / (2 * float(np.tan(np.radians(hfov_deg) / 2)))


def solve_translation(
    world: np.ndarray,
    pixels: np.ndarray,
    weights: np.ndarray,
    focal: float,
    centre: tuple[float, float],
) -> np.ndarray | None:
    """Where the hip-centred body stands, by weighted least squares on its projection (datasets.md, 6.4).

    Parameters
    ----------
    world : numpy.ndarray
        ``(K, 3)`` metres, MediaPipe axes.
    pixels : numpy.ndarray
        ``(K, 2)``.
    weights : numpy.ndarray
        ``(K,)`` visibilities.
    focal : float
        Pixels.
    centre : tuple of float
        Principal point, pixels.

    Returns
    -------
    numpy.ndarray or None
        float64 ``(3,)`` metres, MediaPipe axes; None with fewer than 6 visible landmarks or an impossible distance.
    """
    world, weights = np.asarray(world, np.float64), np.asarray(weights, np.float64)
    seen = weights > MIN_VISIBILITY
    if seen.sum() < MIN_LANDMARKS:
        return None
    offset = np.asarray(pixels, np.float64) - centre  # (K, 2)
    root = np.sqrt(np.clip(weights, 0.0, None))
    rows, right = np.zeros((2, len(world), 3)), np.zeros((2, len(world)))
    for axis in (0, 1):
        rows[axis, :, axis] = focal
        rows[axis, :, 2] = -offset[:, axis]
        right[axis] = offset[:, axis] * world[:, 2] - focal * world[:, axis]
    a = (rows * root[None, :, None]).reshape(-1, 3) / focal
    b = (right * root).reshape(-1) / focal
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    solution, _, rank, _ = np.linalg.lstsq(a, b, rcond=None)
    if rank < 3 or not DEPTH_RANGE[0] <= solution[2] <= DEPTH_RANGE[1]:
        return None
    return solution


def view_rotation(offset: np.ndarray, focal: float) -> np.ndarray:
    """Rotation matrix ``(3, 3)`` that turns the camera's axis into the line of sight through a pixel.

    ``offset`` is the pixel minus the principal point; MediaPipe axes (x right, y down, z away).
    """
    ray = np.array([offset[0], offset[1], focal], np.float64)
    ray /= np.linalg.norm(ray)
    # The smallest rotation from (0, 0, 1) to the ray: Rodrigues' formula with axis (-y, x, 0).
    cross = np.array([[0.0, 0.0, ray[0]], [0.0, 0.0, ray[1]], [-ray[0], -ray[1], 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + ray[2])


def map_joints(world: np.ndarray, settings: LiftSettings | None = None) -> np.ndarray:
    """Apply the 25x33 map and the corrections to landmarks ``(..., 33, 3)`` in any axes, metres -> ``(..., 25, 3)``."""
    settings = settings or LiftSettings()
    joints = np.matmul(BLAZEPOSE33_TO_NTU25.astype(np.float64), np.asarray(world, np.float64))
    base = joints[..., 0, :].copy()
    if settings.hip_factor != 1.0:
        for hip in (12, 16):
            joints[..., hip, :] = base + settings.hip_factor * (joints[..., hip, :] - base)
    if settings.shoulder_rise:
        shoulder, head = joints[..., 20, :], joints[..., 3, :]
        trunk = shoulder - base
        length = np.linalg.norm(trunk, axis=-1, keepdims=True)
        shoulder = shoulder + settings.shoulder_rise * trunk / np.maximum(length, 1e-6)
        joints[..., 20, :] = shoulder
        joints[..., 1, :] = base + SPINE_MID_RATIO * (shoulder - base)
        joints[..., 2, :] = shoulder + NECK_RATIO * (head - shoulder)
    if settings.thigh_factor != 1.0:
        for hip, *below in ((12, 13, 14, 15), (16, 17, 18, 19)):
            shift = (settings.thigh_factor - 1.0) * (joints[..., below[0], :] - joints[..., hip, :])
            joints[..., below, :] += shift[..., None, :]
    if settings.hand_factor != 1.0:
        for wrist, *hand in ((6, 7, 21, 22), (10, 11, 23, 24)):
            root = joints[..., wrist, None, :]
            joints[..., hand, :] = root + settings.hand_factor * (joints[..., hand, :] - root)
    return joints


def lift(
    raw: RawPose,
    size: tuple[int, int],
    focal: float | None = None,
    previous: np.ndarray | None = None,
    *,
    centre: tuple[float, float] | None = None,
    mirrored: bool = False,
    settings: LiftSettings | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lift one pose to NTU-25.

    Parameters
    ----------
    raw : RawPose
        Landmarks of one person in one frame.
    size : tuple of int
        Picture width and height, pixels.
    focal : float, optional
        Focal length in pixels; without one, a horizontal field of view of 60 degrees is assumed.
    previous : numpy.ndarray, optional
        ``(3,)`` the translation last returned, held when this frame's can't be solved.
    centre : tuple of float, optional
        Principal point in pixels; the middle of the picture without one.
    mirrored : bool
        The picture is a mirror image (selfie view, NTU colour videos): the model's left is the person's right.
    settings : LiftSettings, optional
        Corrections; the documented defaults without one.

    Returns
    -------
    joints : numpy.ndarray
        float32 ``(25, 3)`` metres, Kinect camera axes.
    confidence : numpy.ndarray
        float32 ``(25,)``, the smallest visibility among the landmarks a joint is made of.
    translation : numpy.ndarray
        float64 ``(3,)`` metres, MediaPipe axes, for the next call's ``previous``.
    """
    settings = settings or LiftSettings()
    width, height = size
    focal = focal_length(width) if focal is None else focal
    centre = (width / 2, height / 2) if centre is None else centre
    world = raw.world.astype(np.float64) * settings.scale
    image = raw.image[:, :2].astype(np.float64)
    visibility = raw.visibility
    if mirrored:
        # Look at the unmirrored scene: flip x of everything and call left what the model called right.
        world = world[_MIRROR] * (-1, 1, 1)
        image = image[_MIRROR] * (-1, 1) + (1, 0)
        visibility = visibility[_MIRROR]
        centre = (width - centre[0], centre[1])
    pixels = image * size
    if settings.view_rotation:
        world = world @ view_rotation(pixels[[23, 24]].mean(0) - centre, focal).T
    translation = solve_translation(world, pixels, visibility, focal, centre)
    if translation is None:
        translation = np.array(DEFAULT_TRANSLATION) if previous is None else np.asarray(previous, np.float64)
    joints = (map_joints(world, settings) + translation) * MEDIAPIPE_TO_KINECT_AXES
    confidence = joint_confidence(visibility, "blazepose33", "ntu25")
    return (
        joints.astype(np.float32),
        np.clip(confidence, 0.0, 1.0).astype(np.float32),
        translation,
    )


class Lifter:
    """:func:`lift` for one person through time: remembers the translation for frames in which it can't be solved."""

    def __init__(
        self,
        focal: float | None = None,
        *,
        hfov_deg: float = DEFAULT_HFOV_DEG,
        mirrored: bool = False,
        settings: LiftSettings | None = None,
    ) -> None:
        self.focal = focal
        self.hfov_deg = hfov_deg
        self.mirrored = mirrored
        self.settings = settings or LiftSettings()
        self.translation: np.ndarray | None = None

    def __call__(self, raw: RawPose, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Joints float32 ``(25, 3)`` and confidence float32 ``(25,)`` of one frame; see :func:`lift`."""
        focal = focal_length(size[0], self.hfov_deg) if self.focal is None else self.focal
        joints, confidence, self.translation = lift(
            raw,
            size,
            focal,
            self.translation,
            mirrored=self.mirrored,
            settings=self.settings,
        )
        return joints, confidence

    def reset(self) -> None:
        """Forget the translation (another person, or a gap)."""
        self.translation = None
