"""Joint layouts: which joints there are, which bone hangs where, and which joint mirrors which.

All indices are 0-based. ``parents[i] == i`` marks the root; the bone vector of joint ``i`` is
``x[i] - x[parents[i]]``. Source: Kinect SDK joint order as distributed with NTU RGB+D and NW-UCLA,
MediaPipe Pose landmark order, COCO keypoint order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Layout:
    """A fixed set of joints.

    Parameters
    ----------
    name : str
        Identifier used in checkpoint cards and stores.
    joints : tuple of str
        Joint names, in storage order.
    parents : tuple of int
        Parent of every joint; the root is its own parent.
    mirror : tuple of int
        Permutation that swaps left and right; its own inverse.
    limbs : dict
        Named groups of joints (trunk, left_arm, ...), used for drawing and masking.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    mirror: tuple[int, ...]
    limbs: dict[str, tuple[int, ...]] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.joints)
        if len(self.parents) != count or len(self.mirror) != count:
            raise ValueError(f"layout {self.name}: joints, parents and mirror differ in length")

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def root(self) -> int:
        return next(i for i, p in enumerate(self.parents) if i == p)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) pairs without the root's self pair; one per drawn limb."""
        return tuple((i, p) for i, p in enumerate(self.parents) if i != p)

    def index(self, joint: str) -> int:
        """Index of a joint by name; raises ``KeyError`` naming the layout when there is none."""
        try:
            return self.joints.index(joint)
        except ValueError:
            raise KeyError(f"layout {self.name} has no joint {joint!r}") from None

    def side(self, joint: int) -> str:
        """``"left"``, ``"right"`` or ``"centre"``."""
        lowered = self.joints[joint].lower()
        return "left" if "left" in lowered else "right" if "right" in lowered else "centre"


NTU25 = Layout(
    name="ntu25",
    joints=(
        "SpineBase", "SpineMid", "Neck", "Head",
        "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
        "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
        "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
        "HipRight", "KneeRight", "AnkleRight", "FootRight",
        "SpineShoulder", "HandTipLeft", "ThumbLeft", "HandTipRight", "ThumbRight",
    ),
    parents=(1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11),
    mirror=(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22),
    limbs={
        "trunk": (0, 1, 20, 2, 3),
        "left_arm": (4, 5, 6, 7, 21, 22),
        "right_arm": (8, 9, 10, 11, 23, 24),
        "left_leg": (12, 13, 14, 15),
        "right_leg": (16, 17, 18, 19),
    },
)  # fmt: skip

KINECT20 = Layout(
    name="kinect20",
    joints=(
        "HipCenter", "Spine", "ShoulderCenter", "Head",
        "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
        "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
        "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
        "HipRight", "KneeRight", "AnkleRight", "FootRight",
    ),
    parents=(1, 2, 2, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    mirror=(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15),
    limbs={
        "trunk": (0, 1, 2, 3),
        "left_arm": (4, 5, 6, 7),
        "right_arm": (8, 9, 10, 11),
        "left_leg": (12, 13, 14, 15),
        "right_leg": (16, 17, 18, 19),
    },
)  # fmt: skip

BLAZEPOSE33 = Layout(
    name="blazepose33",
    joints=(
        "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
        "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
        "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
        "left_heel", "right_heel", "left_foot_index", "right_foot_index",
    ),
    # MediaPipe publishes connections, not a tree; this tree hangs everything from the nose so that bones exist.
    parents=(
        0, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16,
        11, 12, 23, 24, 25, 26, 27, 28, 27, 28,
    ),
    mirror=(
        0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21,
        24, 23, 26, 25, 28, 27, 30, 29, 32, 31,
    ),
    limbs={
        "face": tuple(range(11)),
        "left_arm": (11, 13, 15, 17, 19, 21),
        "right_arm": (12, 14, 16, 18, 20, 22),
        "left_leg": (23, 25, 27, 29, 31),
        "right_leg": (24, 26, 28, 30, 32),
    },
)  # fmt: skip

BLAZEPOSE_CONNECTIONS: tuple[tuple[int, int], ...] = (
    (0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12), (11, 13), (13, 15), (15, 17),
    (15, 19), (15, 21), (17, 19), (12, 14), (14, 16), (16, 18), (16, 20), (16, 22), (18, 20), (11, 23), (12, 24),
    (23, 24), (23, 25), (24, 26), (25, 27), (26, 28), (27, 29), (28, 30), (29, 31), (30, 32), (27, 31), (28, 32),
)  # fmt: skip

COCO17 = Layout(
    name="coco17",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    parents=(0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 0, 0, 11, 12, 13, 14),
    mirror=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
    limbs={
        "face": (0, 1, 2, 3, 4),
        "left_arm": (5, 7, 9),
        "right_arm": (6, 8, 10),
        "left_leg": (11, 13, 15),
        "right_leg": (12, 14, 16),
    },
)  # fmt: skip

# OpenNI's 15 joints as Florence 3D writes them: its wrists are where Kinect has hands, its ankles nearly where it has
# feet (forearm 0.29 m against 0.23 m), its neck lies between the shoulders.
FLORENCE15 = Layout(
    name="florence15",
    joints=(
        "Head", "Neck", "Spine", "ShoulderLeft", "ElbowLeft", "WristLeft", "ShoulderRight", "ElbowRight", "WristRight",
        "HipLeft", "KneeLeft", "AnkleLeft", "HipRight", "KneeRight", "AnkleRight",
    ),
    parents=(1, 1, 1, 1, 3, 4, 1, 6, 7, 2, 9, 10, 2, 12, 13),
    mirror=(0, 1, 2, 6, 7, 8, 3, 4, 5, 12, 13, 14, 9, 10, 11),
    limbs={
        "trunk": (0, 1, 2),
        "left_arm": (3, 4, 5),
        "right_arm": (6, 7, 8),
        "left_leg": (9, 10, 11),
        "right_leg": (12, 13, 14),
    },
)  # fmt: skip

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (NTU25, KINECT20, BLAZEPOSE33, COCO17, FLORENCE15)}


def get_layout(name: str) -> Layout:
    """Look a layout up by name; raises ``KeyError`` that lists the known ones."""
    try:
        return LAYOUTS[name]
    except KeyError:
        raise KeyError(f"unknown joint layout {name!r}; known: {', '.join(LAYOUTS)}") from None


def spatial_partition(layout: Layout) -> np.ndarray:
    """Adjacency of the three-subset spatial partition.

    Returns
    -------
    numpy.ndarray
        float32 ``(3, V, V)``: identity, inward edges (``[parent, child]``), outward edges (``[child, parent]``);
        the last two are divided by their column sums, empty columns stay zero (skeletongcl.md, section 2.1).
    """
    v = layout.num_joints
    inward = np.zeros((v, v), np.float32)
    for child, parent in layout.bones:
        inward[parent, child] = 1.0

    def by_column(a: np.ndarray) -> np.ndarray:
        total = a.sum(0, keepdims=True)
        return np.divide(a, total, out=np.zeros_like(a), where=total > 0)

    return np.stack([np.eye(v, dtype=np.float32), by_column(inward), by_column(inward.T)])
