"""Dresses 25 joints with flesh: turns one NTU-25 skeleton into the ellipsoids and cones that are ray cast.

Kinect joints are noisy, so directions that matter for a pose estimator (where the face looks, where hands and toes
point) are derived from the most reliable joints and bounded; the joints themselves are the limb ends, as given.
"""

from __future__ import annotations

import numpy as np

from engine.render.appearance import Appearance
from engine.render.raster import Surfaces
from engine.skeleton.layout import NTU25

(SKIN, HAIR, SHIRT, TROUSERS, SHOES, LIPS, WHITE, IRIS, BROW, NOSE, SLEEVE, SHANK, SOLE, FOREARM) = range(14)

_J = {name: i for i, name in enumerate(NTU25.joints)}
# Bone lengths of a 1.75 m adult as Kinect sees them; their ratio to the seen ones gives the scale.
_REFERENCE = {
    ("SpineBase", "SpineShoulder"): 0.52,
    ("ShoulderLeft", "ElbowLeft"): 0.28, ("ShoulderRight", "ElbowRight"): 0.28,
    ("ElbowLeft", "WristLeft"): 0.25, ("ElbowRight", "WristRight"): 0.25,
    ("HipLeft", "KneeLeft"): 0.42, ("HipRight", "KneeRight"): 0.42,
    ("KneeLeft", "AnkleLeft"): 0.40, ("KneeRight", "AnkleRight"): 0.40,
}  # fmt: skip
_FROM = np.array([_J[a] for a, _ in _REFERENCE])
_TO = np.array([_J[b] for _, b in _REFERENCE])
_LENGTH = np.array(list(_REFERENCE.values()))
_SIDES = {
    side: [
        _J[f"{name}{side}"]
        for name in ("Shoulder", "Elbow", "Wrist", "Hand", "HandTip", "Thumb", "Hip", "Knee", "Ankle", "Foot")
    ]
    for side in ("Left", "Right")
}  # fmt: skip


def colours(look: Appearance) -> np.ndarray:
    """Colour table ``(14, 3)`` float32 in the order of the colour indices of this module."""
    skin, hair = np.array(look.skin), np.array(look.hair)
    rows = [
        look.skin, look.hair, look.shirt, look.trousers, look.shoes, look.lips, (0.95, 0.95, 0.95), (0.15, 0.10, 0.08),
        hair * 0.8, np.minimum(skin * 1.04, 1), np.array(look.shirt) * 0.96,
        look.trousers if look.long_trousers else look.skin, np.array(look.shoes) * 0.6,
        look.shirt if look.long_sleeves else look.skin,
    ]  # fmt: skip
    return np.array([np.asarray(row) for row in rows], np.float32)


def body_scale(joints: np.ndarray) -> float:
    """Size relative to a 1.75 m adult from the median bone ratio, so that single wrong joints don't matter."""
    seen = np.sqrt(((joints[_TO] - joints[_FROM]) ** 2).sum(-1)) / _LENGTH
    return float(np.clip(np.median(seen), 0.4, 1.5))


# Longest believable bones of a 1.75 m adult: a joint beyond is a tracking error and is pulled back along its bone.
_LONGEST = [(_J[a], _J[b], 1.6 * length) for (a, b), length in _REFERENCE.items() if a != "SpineBase"]
_LONGEST += [(_J["SpineShoulder"], _J[f"Shoulder{side}"], 0.34) for side in ("Left", "Right")]
_LONGEST += [(_J["SpineBase"], _J[f"Hip{side}"], 0.28) for side in ("Left", "Right")]
_LONGEST.append((_J["SpineShoulder"], _J["Head"], 0.36))
_LONGEST.sort(key=lambda bone: bone[0] in (_J["SpineShoulder"], _J["SpineBase"]), reverse=True)


def bounded(joints: np.ndarray, scale: float) -> np.ndarray:
    """Joints ``(25, 3)`` with limbs of believable length; unchanged (and not copied) where all of them are."""
    start, end, longest = (np.array(column) for column in zip(*_LONGEST, strict=True))
    lengths = np.sqrt(((joints[end] - joints[start]) ** 2).sum(-1))
    if (lengths <= longest * scale).all():
        return joints
    joints = joints.copy()
    for a, b, limit in _LONGEST:
        bone = joints[b] - joints[a]
        length = float(np.sqrt(bone @ bone))
        if length > limit * scale:
            joints[b] = joints[a] + bone * (limit * scale / length)
    return joints


def _unit(v: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    size = float(np.sqrt(v @ v))
    return v / size if size > 1e-3 else fallback


def _across(v: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return v - (v @ axis) * axis


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _frame(right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Rows right, up, forward; ``up`` is kept, ``right`` made perpendicular. Forward is up x right in Kinect axes."""
    right = _unit(_across(right, up), np.array([1.0, 0.0, 0.0]))
    right = _unit(_across(right, up), np.array([0.0, 0.0, 1.0]))
    return np.stack([right, up, _cross(up, right)])


_UP = np.array([0.0, 1.0, 0.0])
_RIGHT = np.array([1.0, 0.0, 0.0])


def trunk_frames(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (rows right, up, forward) of chest and pelvis."""
    up = _unit(joints[_J["SpineShoulder"]] - joints[_J["SpineBase"]], _UP)
    shoulders = joints[_J["ShoulderRight"]] - joints[_J["ShoulderLeft"]]
    hips = joints[_J["HipRight"]] - joints[_J["HipLeft"]]
    shoulders = _unit(shoulders + 0.3 * hips, _RIGHT)
    return _frame(shoulders, up), _frame(_unit(hips + 0.15 * shoulders, shoulders), up)


def build(joints: np.ndarray, look: Appearance) -> Surfaces:
    """Build the surfaces of one person from NTU-25 joints ``(25, 3)`` in metres."""
    joints = np.asarray(joints, np.float64)
    parts = Surfaces()
    scale = body_scale(joints)
    joints = bounded(joints, scale)
    chest, pelvis = trunk_frames(joints)
    _trunk(parts, joints, chest, pelvis, scale, look)
    _head(parts, joints, chest, scale, look)
    for sign, side in ((-1.0, "Left"), (1.0, "Right")):
        shoulder, elbow, wrist, hand, tip, thumb, hip, knee, ankle, foot = joints[_SIDES[side]]
        _arm(parts, (shoulder, elbow, wrist), chest, scale, look, sign)
        _hand(parts, (elbow, wrist, hand, tip, thumb), chest, scale, look, sign)
        _leg(parts, (hip, knee, ankle, foot), pelvis, scale, look)
    return parts


def _trunk(
    parts: Surfaces, joints: np.ndarray, chest: np.ndarray, pelvis: np.ndarray, s: float, look: Appearance
) -> None:
    g = s * look.girth
    base, top = joints[_J["SpineBase"]], joints[_J["SpineShoulder"]]
    left, right = joints[_J["ShoulderLeft"]], joints[_J["ShoulderRight"]]
    hips = 0.5 * (joints[_J["HipLeft"]] + joints[_J["HipRight"]])
    middle = 0.5 * (left + right)
    up, forward = chest[1], chest[2]
    half = float(np.clip(0.5 * np.sqrt(((right - left) ** 2).sum()), 0.13 * s, 0.22 * s))
    waist = base + 0.42 * (top - base)
    upper = middle - 0.03 * s * up
    w_chest, w_waist, w_hip = max(half * 0.92, 0.14 * g), 0.130 * g, 0.158 * g
    d_chest = 0.105 * g / w_chest
    ribs = 0.55 * upper + 0.45 * waist + 0.012 * s * forward
    w_ribs, d_ribs = 0.93 * w_chest, 0.113 * g
    # Two frustums with ellipsoids at their seams, so that the profile is not a straight tube.
    parts.ellipsoid(upper, chest, (w_chest, 0.075 * s, 0.105 * g), SHIRT)
    parts.cone(upper, ribs, (w_chest, w_ribs), SHIRT, forward, d_chest)
    parts.ellipsoid(ribs, chest, (w_ribs, 0.16 * s, d_ribs), SHIRT)
    parts.cone(ribs, waist, (w_ribs, w_waist), SHIRT, forward, d_ribs / w_ribs)
    parts.ellipsoid(waist, chest, (w_waist * 1.005, 0.12 * s, w_waist * 0.79), SHIRT)
    seat = 0.5 * (base + hips)
    parts.ellipsoid(base, pelvis, (w_hip, 0.05 * s, w_hip * 0.76), SHIRT)
    parts.cone(waist, base, (w_waist, w_hip), SHIRT, forward, 0.76)
    parts.cone(base, seat - 0.03 * s * up, (w_hip, w_hip * 1.02), SHIRT, pelvis[2], 0.76)
    parts.ellipsoid(seat, pelvis, (w_hip, 0.12 * s, 0.118 * g), TROUSERS)
    collar = top - 0.005 * s * up
    parts.ellipsoid(collar, chest, (0.064 * s, 0.045 * s, 0.066 * s), SHIRT)
    for joint in (left, right):
        parts.cone(collar - 0.005 * s * up, joint, (0.050 * s, 0.054 * g), SHIRT)
        parts.cone(upper - 0.01 * s * up, joint - 0.02 * s * up, (0.088 * g, 0.062 * g), SHIRT)


# Offsets (right, up, forward) and half axes in metres of an adult's head around the point between the ears.
_HEAD = (
    ((0.0, 0.035, -0.008), (0.074, 0.092, 0.094), SKIN),
    ((0.0, -0.035, 0.026), (0.060, 0.082, 0.066), SKIN),
    ((0.0, -0.085, 0.050), (0.034, 0.032, 0.036), SKIN),
    ((0.0, 0.058, -0.024), (0.081, 0.088, 0.094), HAIR),
    ((0.0, 0.000, -0.048), (0.074, 0.085, 0.066), HAIR),
    ((0.0, -0.016, 0.100), (0.014, 0.018, 0.022), NOSE),
    ((0.0, 0.008, 0.090), (0.009, 0.030, 0.014), NOSE),
    ((0.0, -0.060, 0.084), (0.025, 0.0075, 0.012), LIPS),
)
_FACE_PAIRS = (
    ((0.032, 0.020, 0.079), (0.0155, 0.0085, 0.010), WHITE),
    ((0.031, 0.020, 0.0845), (0.0072, 0.0080, 0.007), IRIS),
    ((0.033, 0.042, 0.082), (0.020, 0.0055, 0.010), BROW),
    ((0.078, -0.002, -0.006), (0.011, 0.032, 0.020), SKIN),
    ((0.036, -0.020, 0.058), (0.024, 0.026, 0.024), SKIN),
)
_HEAD_TABLE = [*_HEAD, *[((s * o[0], o[1], o[2]), r, c) for o, r, c in _FACE_PAIRS for s in (-1.0, 1.0)]]
_HEAD_OFFSETS = np.array([o for o, _, _ in _HEAD_TABLE])


def _head(parts: Surfaces, joints: np.ndarray, chest: np.ndarray, s: float, look: Appearance) -> None:
    head, top = joints[_J["Head"]], joints[_J["SpineShoulder"]]
    k = s * look.head
    up = _unit(0.5 * _unit(head - top, chest[1]) + 0.5 * chest[1], chest[1])
    frame = _frame(chest[0], up)
    centres = head + k * (_HEAD_OFFSETS @ frame)
    for centre, (_, radii, colour) in zip(centres, _HEAD_TABLE, strict=True):
        parts.ellipsoid(centre, frame, (radii[0] * k, radii[1] * k, radii[2] * k), colour)
    if look.long_hair:
        parts.ellipsoid(
            head + k * (np.array([0.0, -0.06, -0.055]) @ frame), frame, (0.080 * k, 0.125 * k, 0.050 * k), HAIR
        )
    nape = head - 0.03 * k * up - 0.02 * k * frame[2]
    parts.cone(nape, top + s * (0.02 * up + 0.010 * frame[2]), (0.050 * k, 0.056 * s), SKIN)
    parts.ellipsoid(top + s * (0.010 * up + 0.012 * frame[2]), frame, (0.055 * s, 0.040 * s, 0.060 * s), SKIN)


def _arm(
    parts: Surfaces, joints: tuple[np.ndarray, ...], chest: np.ndarray, s: float, look: Appearance, sign: float
) -> None:
    shoulder, elbow, wrist = joints
    g = s * look.girth
    parts.sphere(shoulder, 0.060 * g, SLEEVE)
    if look.long_sleeves:
        parts.cone(shoulder, elbow, (0.058 * g, 0.043 * g), SLEEVE)
    else:
        cuff = shoulder + 0.62 * (elbow - shoulder)
        parts.cone(shoulder, cuff, (0.060 * g, 0.058 * g), SLEEVE)
        hem = _frame(chest[0], _unit(elbow - shoulder, -chest[1]))
        parts.ellipsoid(cuff, hem, (0.058 * g, 0.012 * s, 0.058 * g), SLEEVE)
        parts.cone(shoulder, elbow, (0.048 * g, 0.039 * g), SKIN)
    parts.sphere(elbow, (0.043 if look.long_sleeves else 0.0395) * g, FOREARM)
    bulge = elbow + 0.3 * (wrist - elbow)
    thick = 0.045 if look.long_sleeves else 0.0425
    parts.cone(elbow, bulge, (0.039 * g, thick * g), FOREARM)
    parts.cone(bulge, wrist, (thick * g, 0.029 * g), FOREARM)
    parts.sphere(wrist, 0.029 * g, SKIN)


def _hand(
    parts: Surfaces, joints: tuple[np.ndarray, ...], chest: np.ndarray, s: float, look: Appearance, sign: float
) -> None:
    elbow, wrist, hand, tip, thumb = joints
    forearm = _unit(wrist - elbow, -chest[1])
    # Kinect's hand joints flicker: the direction is a blend that can't leave the forearm by more than about 70 degrees.
    reach = (hand - wrist) + 0.5 * (tip - wrist)
    along = _unit(reach, forearm) if float(np.sqrt(reach @ reach)) > 0.03 * s else forearm
    if along @ forearm < 0.35:
        along = _unit(_unit(_across(along, forearm), forearm) * 0.94 + 0.35 * forearm, forearm)
    along = _unit(along + 0.35 * forearm, forearm)
    # Thumb: as measured where there is one; otherwise forwards for a hanging arm, up for a stretched one, and towards
    # the head for a raised one.
    guess = chest[2] + 0.4 * chest[1] - sign * 1.5 * max(0.0, float(along @ chest[1])) * chest[0]
    seen = _across(thumb - hand, along) if float(np.abs(thumb - hand).sum()) > 0.01 else np.zeros(3)
    seen_size = float(np.sqrt(seen @ seen))
    lateral = _unit(_across(guess, along), chest[2])
    if 0.012 < seen_size < 0.15:
        lateral = _unit(_across(seen / seen_size + 0.3 * lateral, along), lateral)
    lateral = _unit(_across(lateral, along), chest[2])
    frame = np.stack([lateral, along, _cross(lateral, along)])
    palm = wrist + 0.050 * s * along
    parts.ellipsoid(palm, frame, (0.041 * s, 0.056 * s, 0.019 * s), SKIN)
    knuckles = wrist + 0.088 * s * along
    for offset, length in ((0.029, 0.066), (0.010, 0.076), (-0.010, 0.071), (-0.028, 0.056)):
        root = knuckles + offset * s * lateral
        end = root + s * (length * along + 0.35 * offset * lateral)
        parts.cone(root, end, (0.0105 * s, 0.0085 * s), SKIN)
        parts.sphere(end, 0.0085 * s, SKIN)
    root = wrist + s * (0.025 * along + 0.025 * lateral)
    end = wrist + s * (0.078 * along + 0.068 * lateral)
    parts.cone(root, end, (0.015 * s, 0.010 * s), SKIN)
    parts.sphere(end, 0.010 * s, SKIN)


def _leg(parts: Surfaces, joints: tuple[np.ndarray, ...], pelvis: np.ndarray, s: float, look: Appearance) -> None:
    hip, knee, ankle, foot = joints
    g = s * look.girth
    down = _unit(ankle - knee, -pelvis[1])
    parts.sphere(hip, 0.082 * g, TROUSERS)
    parts.cone(hip, knee, (0.083 * g, 0.058 * g), TROUSERS)
    parts.sphere(knee, 0.058 * g, TROUSERS)
    forward = _unit(_across(pelvis[2], down), pelvis[2])
    if look.long_trousers:
        calf = knee + 0.35 * (ankle - knee)
        parts.cone(knee, calf, (0.057 * g, 0.056 * g), SHANK)
        parts.cone(calf, ankle + 0.02 * s * down, (0.056 * g, 0.046 * g), SHANK)
    else:
        hem = knee + 0.02 * s * down
        parts.cone(knee, hem, (0.060 * g, 0.062 * g), TROUSERS)
        calf = knee + 0.32 * (ankle - knee)
        parts.cone(knee, calf, (0.048 * g, 0.055 * g), SHANK)
        parts.cone(calf, ankle, (0.055 * g, 0.036 * g), SHANK)
    parts.sphere(ankle, 0.040 * g, SHANK if look.long_trousers else SKIN)
    _shoe(parts, ankle, foot, down, forward, s)


def _shoe(
    parts: Surfaces, ankle: np.ndarray, foot: np.ndarray, down: np.ndarray, forward: np.ndarray, s: float
) -> None:
    seen = foot - ankle
    size = float(np.sqrt(seen @ seen))
    level = _across(seen, down)
    # A foot joint straight below or above the ankle says nothing about where the toes point.
    ahead = _unit(level + 0.03 * s * forward, forward) if float(np.sqrt(level @ level)) > 0.03 * s else forward
    # Pitch of the sole against the shank: a relaxed Kinect foot lies about 30 degrees below the ankle.
    drop = float(np.clip((seen @ down) / max(size, 0.02) - 0.50, -0.4, 0.8)) if size > 0.04 * s else 0.0
    toe_dir = _unit(ahead + 1.2 * drop * down, ahead)
    under = _unit(_across(down, toe_dir), down)
    frame = np.stack([_cross(under, toe_dir), under, toe_dir])
    parts.ellipsoid(ankle + s * (0.040 * under - 0.022 * toe_dir), frame, (0.038 * s, 0.042 * s, 0.048 * s), SHOES)
    parts.ellipsoid(ankle + s * (0.046 * under + 0.055 * toe_dir), frame, (0.040 * s, 0.036 * s, 0.085 * s), SHOES)
    parts.ellipsoid(ankle + s * (0.056 * under + 0.108 * toe_dir), frame, (0.045 * s, 0.026 * s, 0.062 * s), SHOES)
    parts.ellipsoid(ankle + s * (0.073 * under + 0.050 * toe_dir), frame, (0.045 * s, 0.014 * s, 0.122 * s), SOLE)
