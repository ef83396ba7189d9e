"""Joints of a recorded trace as the live path saw them, so that own recordings train what will be seen again."""

from __future__ import annotations

import numpy as np

from engine.data.readers.traces import PersonLandmarks
from engine.live.lift import Lifter
from engine.live.tracking import KEEP_S, SmoothSettings, smoother
from engine.live.types import RawPose


def lift_as_live(person: PersonLandmarks) -> np.ndarray:
    """float32 ``(F, 25, 3)``, NTU-25, metres, Kinect camera axes: lifted and smoothed frame by frame.

    Who is who was decided when the trace was recorded; as there, somebody gone for longer than
    :data:`~engine.live.tracking.KEEP_S` starts anew. For :func:`engine.data.readers.recordings.open_recordings`.
    """
    joints = np.zeros((len(person.times), 25, 3), np.float32)
    lifter, smooth = Lifter(), smoother(SmoothSettings())
    last = -np.inf
    for i, time in enumerate(person.times.tolist()):
        if time - last > KEEP_S:
            lifter, smooth = Lifter(), smoother(SmoothSettings())
        raw = RawPose(person.image[i], person.world[i], person.visibility[i])
        joints[i] = smooth(lifter(raw, (int(person.sizes[i, 0]), int(person.sizes[i, 1])))[0], time)
        last = time
    return joints
