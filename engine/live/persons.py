"""What a pose must look like to be believed, and when two poses are the same person: shared by detection and tracking.

The pose model invents people (a second skeleton on the first person, a coat on a chair). These are cheap geometric
questions asked of one or two poses; nothing here keeps state.
"""

from __future__ import annotations

import numpy as np

from engine.live.types import RawPose

# Shoulders and hips.
TORSO = (11, 12, 23, 24)
_HEAD = (0, 7, 8)
_LIMB_PAIRS = (
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
    (23, 25),
    (25, 27),
    (24, 26),
    (26, 28),
)

MIN_TORSO_VISIBILITY = 0.5
MIN_MEAN_VISIBILITY = 0.35
# Metres; from small children to tall adults, with the model's own errors of scale on top.
TORSO_LENGTH = (0.18, 0.95)
SHOULDER_WIDTH = (0.08, 0.75)
LIMB_LENGTH = (0.02, 0.85)
# Fraction of the picture's larger side; smaller people give no usable pose.
MIN_SIZE = 0.05
# A newcomer's trunk may lie, but not hang upside down: shoulders at most this far below the hips (in trunk lengths).
MAX_HANGING = 0.5
# A newcomer with more of the landmarks than this on somebody else's body is a ghost of that body.
MAX_COVERED = 0.5
# How much a newcomer's landmarks in the picture may disagree with their own in metres (0 no, 1 nothing in common):
# people in videos reach 0.05-0.16, a person seen in a weight plate 0.14-0.3.
MAX_MISMATCH = 0.18
# Poses nearer to one another than this fraction of their size are one person seen twice.
SAME_PERSON = 0.35


def pixels(raw: RawPose, size: tuple[int, int]) -> np.ndarray:
    """Image landmarks in pixels, float32 ``(33, 2)``; ``size`` is (width, height)."""
    return raw.image[:, :2] * np.asarray(size, np.float32)


def is_finite(raw: RawPose) -> bool:
    return bool(np.isfinite(raw.image).all() and np.isfinite(raw.world).all() and np.isfinite(raw.visibility).all())


def extent(raw: RawPose, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner (pixels) of the box around all landmarks."""
    points = pixels(raw, size)
    return points.min(0), points.max(0)


def body_size(raw: RawPose, size: tuple[int, int]) -> float:
    """One length in pixels that says how large the person appears: the diagonal of the box around head and trunk."""
    points = pixels(raw, size)[list(_HEAD + TORSO)]
    return float(np.linalg.norm(points.max(0) - points.min(0)))


def trunk_visibility(raw: RawPose) -> float:
    """Mean visibility of the shoulders or of the hips, whichever is better: at a desk the hips are out of view."""
    return float(max(raw.visibility[[11, 12]].mean(), raw.visibility[[23, 24]].mean()))


def is_plausible(raw: RawPose, size: tuple[int, int]) -> bool:
    """Whether a pose may be a real person: finite, trunk seen and inside the picture, human proportions.

    Meant for *new* people: a person already followed may turn, bend and leave the picture, and is not asked again.
    """
    if not is_finite(raw):
        return False
    if trunk_visibility(raw) < MIN_TORSO_VISIBILITY or raw.visibility.mean() < MIN_MEAN_VISIBILITY:
        return False
    shoulders_at = raw.image[[11, 12], :2].mean(0)
    if (shoulders_at < -0.05).any() or (shoulders_at > 1.05).any():
        return False
    if body_size(raw, size) < MIN_SIZE * max(size) or _hangs(raw, size):
        return False
    world = raw.world
    trunk = float(np.linalg.norm(world[[11, 12]].mean(0) - world[[23, 24]].mean(0)))
    shoulders = float(np.linalg.norm(world[11] - world[12]))
    limbs = np.array([np.linalg.norm(world[a] - world[b]) for a, b in _LIMB_PAIRS])
    return (
        TORSO_LENGTH[0] <= trunk <= TORSO_LENGTH[1]
        and SHOULDER_WIDTH[0] <= shoulders <= SHOULDER_WIDTH[1]
        and bool((limbs >= LIMB_LENGTH[0]).all() and (limbs <= LIMB_LENGTH[1]).all())
        and mismatch(raw, size) <= MAX_MISMATCH
    )


def mismatch(raw: RawPose, size: tuple[int, int]) -> float:
    """How badly world landmarks, scaled and shifted, fit the image landmarks: residual over spread, 0..1.

    The network gives both independently; on something that is no person they tell different stories.
    """
    # The two agree in the view of the crop, which looks along the line of sight; scale and shift is all that differs.
    flat = raw.world[:, :2] - raw.world[:, :2].mean(0)
    points = pixels(raw, size)
    points = points - points.mean(0)
    scale = (flat * points).sum() / max(float((flat * flat).sum()), 1e-9)
    return float(np.sqrt(((points - scale * flat) ** 2).sum() / max(float((points**2).sum()), 1e-9)))


def _hangs(raw: RawPose, size: tuple[int, int]) -> bool:
    points = pixels(raw, size)
    trunk = points[[11, 12]].mean(0) - points[[23, 24]].mean(0)
    return bool(trunk[1] > MAX_HANGING * np.linalg.norm(trunk))


def distance(a: RawPose, b: RawPose, size: tuple[int, int]) -> float:
    """Mean distance of head, shoulders, hips and limbs between two poses, as a fraction of their mean body size.

    0 for the same pose; about 1 for two people side by side. Landmarks neither pose sees count little.
    """
    gap = np.linalg.norm(pixels(a, size) - pixels(b, size), axis=1)
    weight = np.sqrt(np.clip(a.visibility * b.visibility, 1e-4, 1.0))
    weight = np.where(np.arange(len(weight)) < 11, 0.3 * weight, weight)  # eleven face points are one head
    scale = 0.5 * (body_size(a, size) + body_size(b, size))
    return float((gap * weight).sum() / weight.sum() / max(scale, 1.0))


def same_person(a: RawPose, b: RawPose, size: tuple[int, int], threshold: float = SAME_PERSON) -> bool:
    """Whether two poses of one frame show one person twice: everything close, or just the trunk very close.

    Two people who embrace overlap as boxes but their heads and trunks stay apart; a ghost shares the trunk of the
    person it copies even where its limbs differ.
    """
    if distance(a, b, size) < threshold:
        return True
    trunk = list(TORSO)
    gap = np.linalg.norm(pixels(a, size)[trunk] - pixels(b, size)[trunk], axis=1).mean()
    return bool(gap < 0.2 * 0.5 * (body_size(a, size) + body_size(b, size)))


def body_mask(raw: RawPose, size: tuple[int, int], margin: float = 0.25) -> np.ndarray:
    """Where a person is in the picture, bool ``(H, W)``: head and trunk widened by ``margin`` of their size, and limbs.

    Painting it over hides a person from the detector without hiding whoever stands beside.
    """
    from engine.live._cv2 import cv2

    points = np.clip(pixels(raw, size), -4 * max(size), 4 * max(size))
    reach = margin * body_size(raw, size)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    core = (points[[*range(13), 23, 24], None] + ring).reshape(-1, 2).round().astype(np.int32)
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(core)[:, 0], 1)
    corners = points.round().astype(int).tolist()
    for a, b in (*_LIMB_PAIRS, (27, 31), (28, 32)):
        cv2.line(
            mask,
            corners[a],
            corners[b],
            1,
            thickness=max(1, min(round(1.4 * reach), 32767)),
        )
    return mask.astype(bool)


def covered(raw: RawPose, mask: np.ndarray) -> float:
    """Fraction of a pose's landmarks inside the picture that lie on ``mask`` (bool ``(H, W)``); 1 when none is."""
    height, width = mask.shape
    spots = np.floor(pixels(raw, (width, height))).astype(int)
    inside = ((spots >= 0) & (spots < (width, height))).all(1)
    if not inside.any():
        return 1.0
    return float(mask[spots[inside, 1], spots[inside, 0]].mean())
