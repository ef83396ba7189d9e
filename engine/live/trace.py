"""Landmark traces: what the pose model saw, written while it happens and replayed as a source.

A trace is JSON lines (a cut last line loses one frame, not the file): a header, then one line per frame. Foreign traces
are read from ``.npz`` with an array ``landmarks`` ``(T, 33, 4)`` or ``(T, P, 33, 4)``: x, y as fractions of the
picture, z on the scale of x, visibility; NaN where nobody was found.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from engine.live.errors import TraceError
from engine.live.types import Frame, PoseResult, RawPose
from engine.skeleton.layout import BLAZEPOSE33

TRACE_FILE = "landmarks.jsonl"
_KIND = "skelapp landmark trace"
DEFAULT_SIZE = (640, 480)
DEFAULT_FPS = 30.0
# Where a trace has no world landmarks their scale is set by an adult's trunk (mid-hip to mid-shoulder), metres.
TRUNK_M = 0.5
ACCEPTED = "a .jsonl trace recorded by this program, or an .npz with 'landmarks' (frames, 33, 4)"


@dataclass(frozen=True)
class TraceFrame(Frame):
    """A frame of a landmark trace: its poses are known, the picture is an empty canvas of the recorded size."""

    poses: tuple[RawPose, ...] = ()


@dataclass(frozen=True)
class Trace:
    """``times`` seconds, one tuple of poses and one picture size ``(width, height)`` per frame."""

    name: str
    times: np.ndarray
    poses: list[tuple[RawPose, ...]]
    sizes: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.poses)


class TraceWriter:
    """Appends pose results to a trace; every line is complete when it reaches the file."""

    def __init__(self, stream: IO[str], source: str = "") -> None:
        self._stream = stream
        self._stream.write(json.dumps({"kind": _KIND, "format": 1, "landmarks": 33, "source": source}) + "\n")
        self.frames = 0

    def write(self, pose: PoseResult, origin: float = 0.0) -> None:
        """One frame; ``origin`` is subtracted from its time."""
        persons = [
            {
                "id": person.person,
                "image": np.round(person.raw.image.astype(float), 5).tolist(),
                "world": np.round(person.raw.world.astype(float), 5).tolist(),
                "visibility": np.round(person.raw.visibility.astype(float), 4).tolist(),
            }
            for person in pose.persons
        ]
        line = {
            "t": round(pose.time - origin, 6),
            "size": list(pose.size),
            "persons": persons,
        }
        self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")
        self.frames += 1


def read_trace(path: Path) -> Trace:
    """Read a trace file; a cut last line is left out.

    Raises
    ------
    TraceError
        Not a trace, damaged before its end, or empty.
    """
    path = Path(path)
    try:
        trace = _read_npz(path) if path.suffix.lower() == ".npz" else _read_lines(path)
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except OSError as error:
        raise TraceError(f"{path} can't be read: {error.strerror or error}") from error
    if not len(trace):
        raise TraceError(f"{path} is an empty trace: it holds no frames")
    return trace


def _read_lines(path: Path) -> Trace:
    times: list[float] = []
    poses: list[tuple[RawPose, ...]] = []
    sizes: list[tuple[int, int]] = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise TraceError(f"{path} is not a landmark trace; accepted: {ACCEPTED}") from None
    for number, line in enumerate(lines, 1):
        try:
            item = json.loads(line)
            if number == 1:
                if item.get("kind") != _KIND:
                    raise TraceError(f"{path} is not a landmark trace; accepted: {ACCEPTED}")
                continue
            time, size = float(item["t"]), (int(item["size"][0]), int(item["size"][1]))
            frame = tuple(_person(person) for person in item["persons"])
        except TraceError:
            raise
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            if number == 1:
                raise TraceError(f"{path} is not a landmark trace; accepted: {ACCEPTED}") from None
            if number == len(lines):
                break
            raise TraceError(f"{path}, line {number} is damaged: {error}") from error
        if times and time <= times[-1]:
            continue
        times.append(time)
        poses.append(frame)
        sizes.append(size)
    return Trace(
        path.stem if path.name != TRACE_FILE else path.parent.name,
        np.array(times),
        poses,
        sizes,
    )


def _person(item: dict[str, object]) -> RawPose:
    image = np.asarray(item["image"], np.float32)
    world = np.asarray(item["world"], np.float32)
    visibility = np.asarray(item["visibility"], np.float32)
    if image.shape != (33, 3) or world.shape != (33, 3) or visibility.shape != (33,):
        raise ValueError("a person has not 33 landmarks")
    return RawPose(image, world, visibility)


def _read_npz(path: Path) -> Trace:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise TraceError(f"{path} is damaged or no .npz file ({error}); accepted: {ACCEPTED}") from error
    landmarks = arrays.get("landmarks")
    if landmarks is None:
        raise TraceError(
            f"{path} has no array 'landmarks' (found {', '.join(arrays) or 'nothing'}); accepted: {ACCEPTED}"
        )
    if landmarks.ndim == 3:
        landmarks = landmarks[:, None]
    if landmarks.ndim != 4 or landmarks.shape[2:] != (33, 4):
        raise TraceError(f"{path}: 'landmarks' is {arrays['landmarks'].shape}, expected (frames, 33, 4)")
    landmarks = landmarks.astype(np.float32)
    count = len(landmarks)
    fps = float(arrays["fps"]) if "fps" in arrays else DEFAULT_FPS
    times = np.asarray(arrays["times"], np.float64) if "times" in arrays else np.arange(count) / fps
    if times.shape != (count,) or (count > 1 and not (np.diff(times) > 0).all()):
        raise TraceError(f"{path}: 'times' must be {count} increasing seconds")
    size = tuple(int(v) for v in arrays["size"]) if "size" in arrays else DEFAULT_SIZE
    if len(size) != 2 or min(size) < 1:
        raise TraceError(f"{path}: 'size' must be width and height")
    world = arrays.get("world")
    if world is not None:
        world = world.astype(np.float32).reshape(count, -1, 33, 3)
        if world.shape[1] != landmarks.shape[1]:
            raise TraceError(f"{path}: 'world' is {arrays['world'].shape}, expected the persons of 'landmarks'")
    poses = []
    for t in range(count):
        frame = []
        for p in range(landmarks.shape[1]):
            image, visibility = landmarks[t, p, :, :3], landmarks[t, p, :, 3]
            if not np.isfinite(landmarks[t, p]).all() or not image.any():
                continue
            metres = world_from_image(image, (size[0], size[1])) if world is None else world[t, p]
            if np.isfinite(metres).all():
                frame.append(RawPose(image, metres, visibility))
        poses.append(tuple(frame))
    return Trace(path.stem, times, poses, [(size[0], size[1])] * count)


def world_from_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Approximate world landmarks ``(33, 3)`` from image landmarks: hip-centred, trunk :data:`TRUNK_M` long."""
    width, height = size
    pixels = image * np.array([width, height, width], np.float32)
    hips = pixels[[23, 24]].mean(0)
    trunk = float(np.linalg.norm(pixels[[11, 12]].mean(0) - hips))
    return ((pixels - hips) * (TRUNK_M / max(trunk, 1e-3))).astype(np.float32)


def mirror_pose(pose: RawPose) -> RawPose:
    """The same pose seen in a mirrored picture: x turned round, left and right exchanged."""
    swap = list(BLAZEPOSE33.mirror)
    image, world = pose.image[swap].copy(), pose.world[swap].copy()
    image[:, 0] = 1 - image[:, 0]
    world[:, 0] = -world[:, 0]
    return RawPose(image, world, pose.visibility[swap])
