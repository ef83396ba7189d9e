"""Cameras: always fresh pictures, and a camera that is unplugged is waited for."""

from __future__ import annotations

import sys
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engine.live.errors import SourceError, SourceLost
from engine.live.source_base import FrameSource
from engine.live.types import Frame

_SYS = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class Camera:
    """A camera of this machine."""

    index: int
    name: str


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that is used."""

    def isOpened(self) -> bool: ...
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, np.ndarray]: ...
    def get(self, prop: int) -> float: ...
    def set(self, prop: int, value: float) -> bool: ...
    def release(self) -> None: ...


def _open_capture(index: int) -> Any:
    from engine.live._cv2 import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(index)


# How a camera is opened; whoever has another kind of camera puts its opener here.
open_capture: Callable[[int], Capture] = _open_capture


def list_cameras() -> list[Camera]:
    """Cameras of this machine; on Linux without opening any."""
    if sys.platform.startswith("linux"):
        found = []
        for node in sorted(_SYS.glob("video*")) if _SYS.is_dir() else []:
            number = node.name.removeprefix("video")
            # A camera has further nodes (metadata); index 0 is the one with pictures.
            if number.isdigit() and _text(node / "index") in ("", "0"):
                found.append(Camera(int(number), _text(node / "name") or f"camera {number}"))
        return sorted(found, key=lambda camera: camera.index)
    found = []
    for index in range(4):
        capture = open_capture(index)
        if capture.isOpened():
            found.append(Camera(index, f"camera {index}"))
        capture.release()
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class CameraSource(FrameSource):
    """A camera by index. Frame times are seconds since it was opened, taken at the grab."""

    kind = "camera"
    live = True

    def __init__(
        self,
        index: int,
        mirrored: bool = False,
        size: tuple[int, int] = (640, 480),
        fps: float = 30.0,
    ) -> None:
        super().__init__(str(index), f"camera {index}", mirrored=mirrored)
        self._camera = index
        self._wish = (*size, fps)
        self._start = clock.monotonic()
        self._capture: Capture | None = None
        if not self.reopen():
            known = ", ".join(f"{c.index} ({c.name})" for c in list_cameras()) or "none"
            raise SourceError(
                f"camera {index} can't be opened; cameras found: {known}. "
                "It may be in use by another program, or access may be forbidden"
            )

    def reopen(self) -> bool:
        self.close()
        from engine.live._cv2 import cv2

        capture = open_capture(self._camera)
        if not capture.isOpened():
            capture.release()
            return False
        width, height, fps = self._wish
        # Webcams keep several frames back: one is enough. MJPG, because raw pictures don't fit through USB at 30/s.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        capture.set(cv2.CAP_PROP_FPS, fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not capture.grab():
            capture.release()
            return False
        self.size = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or fps
        self._capture = capture
        return True

    def _next(self) -> Frame | None:
        capture = self._capture
        if capture is None or not capture.grab():
            raise SourceLost(f"{self.name} stopped sending pictures; waiting for it to come back")
        grabbed = clock.monotonic()
        begin = clock.perf_counter()
        good, picture = capture.retrieve()
        if not good or picture is None or picture.ndim != 3:
            raise SourceLost(f"{self.name} sent a picture that can't be read; waiting for it to come back")
        image = np.ascontiguousarray(picture[:, :, ::-1])
        self._retrieve_ms = (clock.perf_counter() - begin) * 1e3
        return self._stamp(image, grabbed - self._start, grabbed)

    def read(self) -> Frame | None:
        frame = super().read()
        # The wait for the next picture is the camera's rhythm, not work.
        self.read_ms = self._retrieve_ms
        return frame

    def close(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()
