"""Builders shared by the tests of the live path and of the command line."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.data.preprocess import Preprocessing
from engine.live.source_base import FrameSource
from engine.live.types import Frame, RawPose
from engine.models.card import ONNX_FILE, CheckpointCard, Decision, write_card
from engine.skeleton.layout import BLAZEPOSE33

CLASSES = ["idle", "left", "right"]
FRAMES = 64


def build_checkpoint(folder: Path, name: str = "tiny", window_s: float = 1.5, **decision: object) -> Path:
    """A real ONNX model (input ``(N, 3, 64, 25, 1)``): the mean absolute frame difference of each hand, scaled."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    pick = np.zeros((25, 3), np.float32)
    pick[7, 1] = pick[11, 2] = 1.0
    weights = {
        "later": np.array([1], np.int64),
        "end": np.array([FRAMES], np.int64),
        "zero": np.array([0], np.int64),
        "before": np.array([FRAMES - 1], np.int64),
        "axis": np.array([2], np.int64),
        "pick": pick,
        "gain": np.array([0.0, 300.0, 300.0], np.float32),
        "bias": np.array([2.0, 0.0, 0.0], np.float32),
        "mean_axes": np.array([1, 2, 4], np.int64),
    }
    nodes = [
        helper.make_node("Slice", ["clips", "later", "end", "axis"], ["b"]),
        helper.make_node("Slice", ["clips", "zero", "before", "axis"], ["a"]),
        helper.make_node("Sub", ["b", "a"], ["moved"]),
        helper.make_node("Abs", ["moved"], ["speed"]),
        helper.make_node("ReduceMean", ["speed", "mean_axes"], ["features"], keepdims=0),
        helper.make_node("MatMul", ["features", "pick"], ["hands"]),
        helper.make_node("Mul", ["hands", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("clips", TensorProto.FLOAT, ["N", 3, FRAMES, 25, 1])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 25]),
        ],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / ONNX_FILE))
    settings = {"smoothing_s": 0.1, "idle_class": "idle", "min_motion": 0.1, **decision}
    card = CheckpointCard(
        name=name,
        backbone="none",
        feature_dim=25,
        classes=CLASSES,
        preprocessing=Preprocessing(frames=FRAMES, window_s=window_s),
        decision=Decision.model_validate(settings),
        dataset="made",
        split="none",
    )
    write_card(card, folder)
    return folder


def write_video(path: Path, images: list[np.ndarray], fps: float = 30.0, times: list[float] | None = None) -> Path:
    """A plain video; ``times`` gives every picture its own time stamp."""
    import av

    base = Fraction(1, 90000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10", "preset": "ultrafast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = base
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round((times[i] if times else i / fps) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def standing_landmarks(centre: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Image ``(33, 3)`` and world ``(33, 3)`` landmarks of a person who faces a 640x480 camera from 3 m."""
    left = {
        "shoulder": (0.18, -0.5), "elbow": (0.22, -0.25), "wrist": (0.24, 0.0), "pinky": (0.25, 0.08),
        "index": (0.24, 0.09), "thumb": (0.22, 0.06), "hip": (0.1, 0.0), "knee": (0.11, 0.42), "ankle": (0.12, 0.82),
        "heel": (0.12, 0.86), "foot_index": (0.13, 0.88),
        "ear": (0.07, -0.68), "eye": (0.03, -0.72), "eye_inner": (0.02, -0.72), "eye_outer": (0.05, -0.72),
    }  # fmt: skip
    world = np.zeros((33, 3), np.float32)
    for i, joint in enumerate(BLAZEPOSE33.joints):
        key = joint.removeprefix("left_").removeprefix("right_")
        if joint == "nose":
            world[i] = 0, -0.68, -0.1
        elif joint.startswith("mouth"):
            world[i] = 0.02 if joint.endswith("left") else -0.02, -0.63, -0.08
        else:
            x, y = left[key]
            # The person's left is on the picture's right.
            world[i] = x if joint.startswith("left") else -x, y, 0.0
    return image_of(world, centre), world


def image_of(world: np.ndarray, centre: float = 0.5) -> np.ndarray:
    """Pinhole picture of world landmarks from 3 m, focal length 0.87 of a 640x480 picture's width."""
    focal, depth = 0.87 * 640, 3.0
    image = world.copy()
    image[:, 0] = centre + focal * world[:, 0] / (depth + world[:, 2]) / 640
    image[:, 1] = 0.5 + focal * world[:, 1] / (depth + world[:, 2]) / 480
    return image


def waving_pose(time: float, side: str = "left", centre: float = 0.5, amplitude: float = 0.3) -> RawPose:
    """A standing person who swings one arm up and down, twice a second; ``side`` ``none`` stands still."""
    _, world = standing_landmarks(centre)
    if side != "none":
        swing = amplitude * np.sin(2 * np.pi * 2 * time)
        for joint, share in (("elbow", 0.5), ("wrist", 1.0), ("pinky", 1.2), ("index", 1.2), ("thumb", 1.2)):
            world[BLAZEPOSE33.index(f"{side}_{joint}"), 1] += share * swing
    return RawPose(image_of(world, centre), world, np.full(33, 0.95, np.float32))


def write_trace(path: Path, seconds: float, script: list[tuple[float, str]], fps: float = 30.0) -> Path:
    """An ``.npz`` trace of one person; ``script`` lists (start, side) in order, side as in :func:`waving_pose`."""
    times = np.arange(round(seconds * fps)) / fps
    landmarks, world = [], []
    for time in times:
        pose = waving_pose(time, [side for start, side in script if start <= time][-1])
        landmarks.append(np.concatenate([pose.image, pose.visibility[:, None]], 1))
        world.append(pose.world)
    np.savez(path, landmarks=np.array(landmarks), world=np.array(world), times=times, size=np.array([640, 480]))
    return path


class ScriptedDetector:
    """Answers with :func:`waving_pose` at the detector's own clock instead of looking at pictures."""

    def __init__(self, side: str = "left", persons: int = 1, delay: float = 0.0) -> None:
        self.side, self.persons, self.delay = side, persons, delay
        self.closed = False
        self.calls = 0
        self._wait = threading.Event()

    def detect(self, image: np.ndarray, time: float) -> tuple[RawPose, ...]:
        self.calls += 1
        if self.delay:
            self._wait.wait(self.delay)
        centres = [0.5] if self.persons == 1 else [0.3, 0.7]
        sides = [self.side, "right"]
        return tuple(waving_pose(time, sides[i], centres[i]) for i in range(self.persons))

    def close(self) -> None:
        self.closed = True


class FakeCapture:
    """A camera that can be unplugged: the part of ``cv2.VideoCapture`` the program uses."""

    def __init__(self, socket: CameraSocket) -> None:
        self._socket = socket
        self.released = False

    def isOpened(self) -> bool:
        return self._socket.plugged and not self.released

    def grab(self) -> bool:
        self._socket.pause.wait(1 / 60)
        return self.isOpened()

    def retrieve(self) -> tuple[bool, np.ndarray]:
        self._socket.frames += 1
        return True, np.full((48, 64, 3), (255, 0, 0), np.uint8)

    def get(self, prop: int) -> float:
        return {3: 64.0, 4: 48.0, 5: 30.0}.get(prop, 0.0)

    def set(self, prop: int, value: float) -> bool:
        self._socket.settings[prop] = value
        return True

    def release(self) -> None:
        self.released = True


class CameraSocket:
    """Where a fake camera is plugged in."""

    def __init__(self) -> None:
        self.plugged = True
        self.frames = 0
        self.opened: list[FakeCapture] = []
        self.settings: dict[int, float] = {}
        self.pause = threading.Event()

    def open(self, index: int) -> FakeCapture:
        capture = FakeCapture(self)
        self.opened.append(capture)
        return capture


class ListSource(FrameSource):
    """Frames from a list, as fast as they are read; an exception in the list is raised."""

    def __init__(self, frames: list[np.ndarray | Exception], fps: float = 30.0, name: str = "list") -> None:
        super().__init__(name, name, realtime=False)
        self._frames = list(frames)
        self._position = 0
        self.fps = fps
        self.closed = False

    def _next(self) -> Frame | None:
        if self._position >= len(self._frames):
            return None
        item = self._frames[self._position]
        self._position += 1
        if isinstance(item, Exception):
            raise item
        return self._stamp(item, self._position / self.fps)

    def reopen(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
