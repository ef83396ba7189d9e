"""Frames of a recorded sequence as the actor plays them, one at a time and in any order: for looking at a dataset."""

from __future__ import annotations

import numpy as np

from engine.render.actor import Actor, as_persons
from engine.render.camera import fit_camera, place
from engine.render.scene import Room
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence


class Playback:
    """Draws single frames of one sequence over one steady room.

    Parameters
    ----------
    sequence : SkeletonSequence
        Any layout that can be brought to NTU-25. A recording that was centred (no joint in front of the camera) is
        moved as a whole to 2.8 m.
    width, height : int
        Size of the pictures.
    actor : Actor, optional
        Default: one ray per pixel, for speed.

    Raises
    ------
    ValueError
        No frames, nobody in any of them, or a layout without a way to NTU-25.
    """

    def __init__(self, sequence: SkeletonSequence, width: int = 480, height: int = 360, actor: Actor | None = None):
        if not len(sequence) or not np.any(sequence.xyz):
            raise ValueError(f"{sequence.name or 'the sequence'} has nobody to show")
        joints = np.asarray(sequence.xyz, np.float64)
        if sequence.layout not in ("ntu25", "kinect20"):
            try:
                joints = convert_layout(joints, sequence.layout, "ntu25")
            except (KeyError, ValueError) as error:
                raise ValueError(f"the actor needs 25 joints; there is no way from {sequence.layout}") from error
        joints = np.stack([as_persons(np.nan_to_num(frame)) for frame in joints])
        present = np.abs(joints).sum(-1) > 0
        if np.median(joints[present][:, 2]) < 0.8:
            joints = place(joints)
        self._joints = joints
        self._camera = fit_camera(joints, width, height)
        self._room = Room.under(joints)
        self._actor = actor or Actor()

    def __len__(self) -> int:
        return len(self._joints)

    def frame(self, i: int) -> np.ndarray:
        """Picture of frame ``i``, uint8 RGB ``(height, width, 3)``."""
        return self._actor.render(self._joints[i], self._camera, self._room)
