"""A jointed body of fixed bone lengths, posed by where hands and feet should be.

Targets instead of joint angles keep planted feet planted, and every frame keeps the bone lengths whatever is asked for.
Body directions are (outward, up, forward) for limbs and (right, up, forward) for the trunk; metres of a 1.75 m adult.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.skeleton.layout import NTU25

STATURE = 1.75
THIGH, SHANK, ANKLE = 0.41, 0.39, 0.08
UPPER_ARM, FOREARM = 0.28, 0.25
ARM = UPPER_ARM + FOREARM
HIP_HALF, HIP_DROP = 0.088, 0.03
TRUNK, SPINE_MID = 0.50, 0.57
SHOULDER_HALF, SHOULDER_DROP = 0.178, 0.055
NECK, HEAD = 0.065, 0.18
HAND, HAND_TIP, THUMB = 0.08, 0.14, 0.06
FOOT = 0.13
STANDING = HIP_DROP + (THIGH + SHANK) * 0.998 + ANKLE  # SpineBase above the floor
_J = {name: i for i, name in enumerate(NTU25.joints)}


@dataclass
class Pose:
    """Targets over time; every field has one row per frame.

    Parameters
    ----------
    pelvis : numpy.ndarray
        ``(T, 3)`` shift of SpineBase from standing (right, up, forward), metres.
    yaw, lean, side, twist, nod : numpy.ndarray
        ``(T,)`` radians: turn of the body to its left, trunk forwards, trunk to the right, chest to the left, head
        down.
    wrists : numpy.ndarray
        ``(T, 2, 3)`` left and right wrist from its shoulder in arm lengths (outward, up, forward) of the chest.
    ankles : numpy.ndarray
        ``(T, 2, 3)`` left and right ankle from where it stands (outward, up, forward) of the standing body, metres.
    toes : numpy.ndarray
        ``(T, 2)`` radians by which the toes point down.
    """

    pelvis: np.ndarray
    yaw: np.ndarray
    lean: np.ndarray
    side: np.ndarray
    twist: np.ndarray
    nod: np.ndarray
    wrists: np.ndarray
    ankles: np.ndarray
    toes: np.ndarray

    @classmethod
    def neutral(cls, frames: int) -> Pose:
        """Standing upright with hanging arms."""
        wrists = np.broadcast_to(np.array([0.13, -0.97, 0.08]), (frames, 2, 3)).copy()
        yaw, lean, side, twist, nod = np.zeros((5, frames))
        return cls(
            np.zeros((frames, 3)), yaw, lean, side, twist, nod, wrists, np.zeros((frames, 2, 3)), np.zeros((frames, 2))
        )


def _rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices ``(T, 3, 3)`` about a coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    out = np.zeros((len(angle), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out[:, axis, axis] = 1
    out[:, i, i] = out[:, j, j] = c
    out[:, i, j] = -s
    out[:, j, i] = s
    return out


def _turn(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return np.matmul(matrix, vector[..., None])[..., 0]


def _normalise(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.sqrt((v**2).sum(-1, keepdims=True)), 1e-9)


def two_bones(
    root: np.ndarray, target: np.ndarray, first: float, second: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end joint of a two-bone chain that reaches for ``target`` (T, 3) and bends towards ``pole`` (T, 3).

    A target out of reach is approached as far as the bones allow.
    """
    offset = target - root
    distance = np.sqrt((offset**2).sum(-1, keepdims=True))
    direction = offset / np.maximum(distance, 1e-9)
    distance = np.clip(distance, abs(first - second) + 0.02, (first + second) * 0.9995)
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    height = np.sqrt(np.maximum(first**2 - along**2, 0))
    bend = _normalise(pole - (pole * direction).sum(-1, keepdims=True) * direction)
    return root + along * direction + height * bend, root + distance * direction


def solve(pose: Pose, position: tuple[float, float, float], height: float, facing_deg: float) -> np.ndarray:
    """Joints ``(T, 25, 3)`` float32 of a body whose SpineBase stands at ``position``.

    Facing 0 looks at the camera; positive degrees turn the person to the own left.
    """
    frames = len(pose.yaw)
    joints = np.zeros((frames, 25, 3))
    # Local axes are right, up, backward: for a person who faces the camera they are the camera's own x, y, z.
    flip = np.array([1.0, 1.0, -1.0])
    body = _rotation(1, pose.yaw)
    base = pose.pelvis * flip
    spine = body @ _rotation(2, -pose.side) @ _rotation(0, -pose.lean)
    # A bent hip carries the pelvis along a little.
    hips = body @ _rotation(2, -0.4 * pose.side) @ _rotation(0, -0.4 * pose.lean)
    chest = spine @ _rotation(1, pose.twist)
    top = base + _turn(spine, np.array([0.0, TRUNK, 0.0]))
    joints[:, _J["SpineBase"]] = base
    joints[:, _J["SpineMid"]] = base + SPINE_MID * (top - base)
    joints[:, _J["SpineShoulder"]] = top
    neck = chest @ _rotation(0, -pose.nod)
    joints[:, _J["Neck"]] = top + _turn(neck, np.array([0.0, NECK, 0.0]))
    joints[:, _J["Head"]] = top + _turn(neck, np.array([0.0, HEAD, -0.02]))
    for k, (side, sign) in enumerate((("Left", -1.0), ("Right", 1.0))):
        out = np.array([sign, 1.0, -1.0])
        shoulder = top + _turn(chest, np.array([SHOULDER_HALF, -SHOULDER_DROP, 0.0]) * out)
        wrist = shoulder + ARM * _turn(chest, pose.wrists[:, k] * out)
        pole = _turn(chest, np.array([0.55, -1.0, -0.35]) * out)
        elbow, wrist = two_bones(shoulder, wrist, UPPER_ARM, FOREARM, pole)
        along = _normalise(wrist - elbow)
        raised = np.maximum(0.0, _turn(chest.transpose(0, 2, 1), along)[:, 1:2])
        guess = _turn(chest, (np.array([0.0, 0.4, 1.0]) + raised * np.array([-1.5, 0.0, 0.0])) * out)
        lateral = _normalise(guess - (guess * along).sum(-1, keepdims=True) * along)
        joints[:, _J[f"Shoulder{side}"]] = shoulder
        joints[:, _J[f"Elbow{side}"]] = elbow
        joints[:, _J[f"Wrist{side}"]] = wrist
        joints[:, _J[f"Hand{side}"]] = wrist + HAND * along
        joints[:, _J[f"HandTip{side}"]] = wrist + HAND_TIP * along
        joints[:, _J[f"Thumb{side}"]] = wrist + HAND * along + THUMB * lateral
        hip = base + _turn(hips, np.array([HIP_HALF, -HIP_DROP, 0.0]) * out)
        stand = np.array([HIP_HALF * 1.12, ANKLE - STANDING, 0.0]) * out
        ankle = _turn(body, stand + pose.ankles[:, k] * out)
        ahead = _turn(body, np.array([0.22, 0.0, 1.0]) * out)
        knee, ankle = two_bones(hip, ankle, THIGH, SHANK, ahead)
        toes = body @ _rotation(0, -pose.toes[:, k])
        joints[:, _J[f"Hip{side}"]] = hip
        joints[:, _J[f"Knee{side}"]] = knee
        joints[:, _J[f"Ankle{side}"]] = ankle
        joints[:, _J[f"Foot{side}"]] = ankle + FOOT * _normalise(_turn(toes, np.array([0.22, -0.42, 1.0]) * out))
    joints = _turn(_rotation(1, np.array([np.radians(facing_deg)])), joints) * (height / STATURE)
    return (joints + np.asarray(position)).astype(np.float32)
