"""Conversions between joint layouts: every one is a fixed matrix, so it can be tested row by row.

Coordinates are Kinect camera axes throughout the engine: x to the sensor's left (a person facing the sensor has the
right side at larger x), y up, z away from the sensor, metres.
"""

from __future__ import annotations

import numpy as np

from engine.skeleton.layout import BLAZEPOSE33, FLORENCE15, KINECT20, NTU25, Layout, get_layout

# Where NTU's SpineMid and Neck lie between their neighbours (measured on Kinect v2 data; datasets.md, section 6.2).
SPINE_MID_RATIO = 0.57
NECK_RATIO = 0.34
# Kinect's Hand joint as a fraction of the way from wrist to hand tip.
HAND_RATIO = 0.6
# Where Kinect v1 has wrist and ankle on the way from elbow and knee to OpenNI's last joint: median lengths of UTD-MHAD
# over those of Florence 3D (forearm 0.226 of 0.293 m, shank 0.359 of 0.416 m; upper arm and thigh agree within 5 %).
OPENNI_WRIST_RATIO = 0.77
OPENNI_ANKLE_RATIO = 0.86


def _rows(target: Layout, source: Layout, weights: dict[str, dict[str, float]]) -> np.ndarray:
    """Build the (target, source) matrix; a weight may name an already built target joint with a leading ``=``."""
    matrix = np.zeros((target.num_joints, source.num_joints), np.float32)
    for joint, parts in weights.items():
        row = matrix[target.index(joint)]
        for name, weight in parts.items():
            if name.startswith("="):
                row += weight * matrix[target.index(name[1:])]
            else:
                row[source.index(name)] += weight
    return matrix


def _spine() -> dict[str, dict[str, float]]:
    return {
        "SpineMid": {"=SpineBase": 1 - SPINE_MID_RATIO, "=SpineShoulder": SPINE_MID_RATIO},
        "Neck": {"=SpineShoulder": 1 - NECK_RATIO, "=Head": NECK_RATIO},
    }


def _blazepose_to_ntu() -> np.ndarray:
    weights: dict[str, dict[str, float]] = {
        "SpineBase": {"left_hip": 0.5, "right_hip": 0.5},
        "SpineShoulder": {"left_shoulder": 0.5, "right_shoulder": 0.5},
        "Head": {"left_ear": 0.5, "right_ear": 0.5},
    }
    for side, low in (("Left", "left"), ("Right", "right")):
        weights |= {
            f"Shoulder{side}": {f"{low}_shoulder": 1.0},
            f"Elbow{side}": {f"{low}_elbow": 1.0},
            f"Wrist{side}": {f"{low}_wrist": 1.0},
            # MediaPipe's finger landmarks are knuckles; their line lies where Kinect puts the hand tip.
            f"HandTip{side}": {f"{low}_pinky": 0.5, f"{low}_index": 0.5},
            f"Hand{side}": {f"=Wrist{side}": 1 - HAND_RATIO, f"=HandTip{side}": HAND_RATIO},
            f"Thumb{side}": {f"{low}_thumb": 1.0},
            f"Hip{side}": {f"{low}_hip": 1.0},
            f"Knee{side}": {f"{low}_knee": 1.0},
            f"Ankle{side}": {f"{low}_ankle": 1.0},
            f"Foot{side}": {f"{low}_heel": 0.5, f"{low}_foot_index": 0.5},
        }
    return _rows(NTU25, BLAZEPOSE33, weights | _spine())


def _kinect20_to_ntu() -> np.ndarray:
    weights: dict[str, dict[str, float]] = {
        "SpineBase": {"HipCenter": 1.0},
        "SpineShoulder": {"ShoulderCenter": 1.0},
        "Head": {"Head": 1.0},
    }
    for side in ("Left", "Right"):
        for joint in ("Shoulder", "Elbow", "Wrist", "Hand", "Hip", "Knee", "Ankle", "Foot"):
            weights[f"{joint}{side}"] = {f"{joint}{side}": 1.0}
        # Kinect v1 has no fingers: the tip continues the line from wrist to hand, the thumb stays at the hand.
        weights[f"HandTip{side}"] = {f"Wrist{side}": 1 - 1 / HAND_RATIO, f"Hand{side}": 1 / HAND_RATIO}
        weights[f"Thumb{side}"] = {f"Hand{side}": 1.0}
    return _rows(NTU25, KINECT20, weights | _spine())


def _florence15_to_ntu() -> np.ndarray:
    # Its Spine is the exact middle of neck and hips and tells nothing; the trunk follows Kinect's proportions.
    weights: dict[str, dict[str, float]] = {
        "SpineBase": {"HipLeft": 0.5, "HipRight": 0.5},
        "SpineShoulder": {"Neck": 1.0},
        "Head": {"Head": 1.0},
    }
    for side in ("Left", "Right"):
        wrist, ankle = OPENNI_WRIST_RATIO, OPENNI_ANKLE_RATIO
        for joint in ("Shoulder", "Elbow", "Hip", "Knee"):
            weights[f"{joint}{side}"] = {f"{joint}{side}": 1.0}
        weights |= {
            f"Wrist{side}": {f"Elbow{side}": 1 - wrist, f"Wrist{side}": wrist},
            f"Hand{side}": {f"Wrist{side}": 1.0},
            f"HandTip{side}": {f"=Wrist{side}": 1 - 1 / HAND_RATIO, f"=Hand{side}": 1 / HAND_RATIO},
            f"Thumb{side}": {f"=Hand{side}": 1.0},
            f"Ankle{side}": {f"Knee{side}": 1 - ankle, f"Ankle{side}": ankle},
            f"Foot{side}": {f"Ankle{side}": 1.0},
        }
    return _rows(NTU25, FLORENCE15, weights | _spine())


def _ntu_to_kinect20() -> np.ndarray:
    names = dict(zip(KINECT20.joints, KINECT20.joints, strict=True)) | {
        "HipCenter": "SpineBase",
        "Spine": "SpineMid",
        "ShoulderCenter": "SpineShoulder",
    }
    return _rows(KINECT20, NTU25, {joint: {source: 1.0} for joint, source in names.items()})


BLAZEPOSE33_TO_NTU25 = _blazepose_to_ntu()
KINECT20_TO_NTU25 = _kinect20_to_ntu()
FLORENCE15_TO_NTU25 = _florence15_to_ntu()
NTU25_TO_KINECT20 = _ntu_to_kinect20()
BLAZEPOSE33_TO_COCO17 = np.array([0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])

_MATRICES: dict[tuple[str, str], np.ndarray] = {
    ("blazepose33", "ntu25"): BLAZEPOSE33_TO_NTU25,
    ("kinect20", "ntu25"): KINECT20_TO_NTU25,
    ("florence15", "ntu25"): FLORENCE15_TO_NTU25,
    ("ntu25", "kinect20"): NTU25_TO_KINECT20,
    ("blazepose33", "kinect20"): NTU25_TO_KINECT20 @ BLAZEPOSE33_TO_NTU25,
    ("florence15", "kinect20"): NTU25_TO_KINECT20 @ FLORENCE15_TO_NTU25,
}

# MediaPipe: x to the image's right, y down, z away. A half turn about the optical axis leads to Kinect axes; it is a
# rotation (determinant +1), so left stays left.
MEDIAPIPE_TO_KINECT_AXES = np.array([-1.0, -1.0, 1.0], np.float32)


def convertible(source: str, target: str) -> bool:
    """Whether :func:`convert_layout` leads from one layout to the other."""
    return source == target or (source, target) in _MATRICES


def convert_layout(xyz: np.ndarray, source: str, target: str) -> np.ndarray:
    """Convert joints ``(..., V_source, C)`` to ``(..., V_target, C)``; raises ``ValueError`` for an unknown pair."""
    if source == target:
        return xyz
    try:
        matrix = _MATRICES[source, target]
    except KeyError:
        get_layout(source), get_layout(target)
        raise ValueError(f"no conversion from layout {source!r} to {target!r}") from None
    return np.matmul(matrix.astype(xyz.dtype, copy=False), xyz)


def joint_confidence(confidence: np.ndarray, source: str, target: str) -> np.ndarray:
    """Confidence of converted joints ``(..., V_source) -> (..., V_target)``: the minimum over the joints they use."""
    if source == target:
        return confidence
    used = _MATRICES[source, target] != 0
    spread = np.where(used, confidence[..., None, :], np.inf)
    return spread.min(-1).astype(confidence.dtype, copy=False)
