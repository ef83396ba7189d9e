"""Hand-made snapshots: what the panel shows in every state, without a camera, a model or a thread."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from engine.live.types import (
    Frame,
    LiveDecision,
    LiveState,
    PersonPose,
    PoseResult,
    RawPose,
    Segment,
    Snapshot,
    StageTime,
)

# A standing figure, metres: x to the figure's own left, y up, hips at the origin.
_BODY33 = {
    0: (0.0, 0.62), 7: (0.07, 0.63), 8: (-0.07, 0.63), 9: (0.03, 0.57), 10: (-0.03, 0.57),
    11: (0.18, 0.45), 12: (-0.18, 0.45), 13: (0.30, 0.22), 14: (-0.34, 0.60), 15: (0.32, -0.02), 16: (-0.30, 0.86),
    17: (0.33, -0.10), 18: (-0.31, 0.94), 19: (0.34, -0.11), 20: (-0.28, 0.95), 21: (0.30, -0.07), 22: (-0.26, 0.90),
    23: (0.10, 0.0), 24: (-0.10, 0.0), 25: (0.12, -0.42), 26: (-0.12, -0.42), 27: (0.13, -0.82), 28: (-0.13, -0.82),
    29: (0.13, -0.87), 30: (-0.13, -0.87), 31: (0.17, -0.9), 32: (-0.17, -0.9),
}  # fmt: skip
_NTU_FROM33 = {
    3: 0, 4: 11, 5: 13, 6: 15, 7: 19, 8: 12, 9: 14, 10: 16, 11: 20, 12: 23, 13: 25, 14: 27, 15: 31,
    16: 24, 17: 26, 18: 28, 19: 32, 21: 19, 22: 21, 23: 20, 24: 22,
}  # fmt: skip


def person(number: int = 1, across: float = 0.0) -> PersonPose:
    """A figure with the right arm raised, ``across`` metres to the sensor's left of the middle, 2.5 m away."""
    body = np.zeros((33, 3), np.float32)
    for joint, (x, y) in _BODY33.items():
        body[joint, :2] = x, y
    for joint in (1, 2, 3, 4, 5, 6):
        body[joint] = body[0] + (0.02 if joint < 4 else -0.02, 0.03, 0)
    image = np.zeros((33, 3), np.float32)
    # Facing the camera: the figure's left is on the right of an unmirrored picture.
    image[:, 0] = 0.5 + (body[:, 0] - across) * 0.36
    image[:, 1] = 0.5 - body[:, 1] * 0.48
    world = body * np.array([1, -1, 1], np.float32)
    joints = np.zeros((25, 3), np.float32)
    kinect = body * np.array([-1, 1, 1], np.float32)
    for ntu, blaze in _NTU_FROM33.items():
        joints[ntu] = kinect[blaze]
    joints[1], joints[20], joints[2] = (0, 0.22, 0), (0, 0.45, 0), (0, 0.52, 0)
    joints += np.array([across, 0.0, 2.5], np.float32)
    visible = np.full(33, 0.95, np.float32)
    return PersonPose(number, joints, np.full(25, 0.95, np.float32), RawPose(image, world, visible))


def frame(seconds: float = 0.0, size: tuple[int, int] = (640, 480)) -> Frame:
    """A picture with a soft gradient."""
    width, height = size
    down = np.linspace(70, 120, height, dtype=np.uint8)[:, None]
    image = np.repeat(np.broadcast_to(down, (height, width))[:, :, None], 3, 2).copy()
    image[:, :, 2] += 20
    return Frame(image, seconds, int(seconds * 30), time.monotonic())


def decision(number: int = 1, label: str | None = "wave", score: float = 0.94) -> LiveDecision:
    top = (("wave", 0.94), ("draw_circle_clockwise", 0.03), ("throw", 0.02), ("clap", 0.01), ("knock", 0.0))
    if number != 1:
        top = (("swipe_right", 0.71), ("swipe_left", 0.12), ("push", 0.08), ("catch", 0.05), ("wave", 0.02))
    return LiveDecision(24.0, number, label, score, top, 41.0)


SEGMENTS = (
    Segment(1, "clap", 2.0, 5.5, 0.88),
    Segment(1, "right_hand_wave", 8.0, 12.0, 0.97),
    Segment(1, "squat", 14.5, 15.2, 0.7),
    Segment(1, "wave", 20.0, 24.0, 0.94, open=True),
)


def running(persons: int = 1, seconds: float = 24.0) -> Snapshot:
    """Everything there is, going well."""
    picture = frame(seconds)
    places = (0.0,) if persons == 1 else (-0.45, 0.45)
    poses = tuple(person(n + 1, places[n]) for n in range(persons))
    segments = SEGMENTS + ((Segment(2, "swipe_right", 16.0, 22.5, 0.71),) if persons == 2 else ())
    return Snapshot(
        serial=1,
        state=LiveState.RUNNING,
        frame=picture,
        pose=PoseResult(seconds, picture.index, picture.grabbed, (640, 480), poses, 19.0),
        decisions={
            n + 1: decision(n + 1, *(("wave", 0.94) if n == 0 else ("swipe_right", 0.71))) for n in range(persons)
        },
        segments=segments,
        time=seconds,
        fps=28.4,
        pose_fps=27.9,
        stages={
            name: StageTime(ms, ms * 1.5) for name, ms in (("capture", 2), ("pose", 19), ("encode", 9), ("decide", 0.1))
        },
        latency=StageTime(41.0, 70.0),
        checkpoint="utd_mhad_ctrgcn_joint",
        runtime="ONNX CPU",
        window_s=2.1,
    )


def nobody() -> Snapshot:
    snapshot = running()
    assert snapshot.pose is not None
    return replace(snapshot, pose=replace(snapshot.pose, persons=()), decisions={}, segments=SEGMENTS[:3])


def nothing_recognised() -> Snapshot:
    return replace(running(), decisions={1: decision(1, None, 0.2)}, segments=SEGMENTS[:3])


def in_state(state: LiveState, message: str = "") -> Snapshot:
    return replace(running(), state=state, message=message)


def without_picture(state: LiveState, message: str = "") -> Snapshot:
    return Snapshot(serial=0, state=state, message=message)
