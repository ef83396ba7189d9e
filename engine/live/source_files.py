"""Image folders and landmark traces as frame sources."""

from __future__ import annotations

import re
import time as clock
from pathlib import Path

import numpy as np

from engine.live.errors import SourceError
from engine.live.source_base import FrameSource
from engine.live.trace import Trace, TraceFrame, read_trace
from engine.live.types import Frame

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key under which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def images_in(folder: Path) -> list[Path]:
    return sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_ENDINGS),
        key=natural_order,
    )


class ImageSource(FrameSource):
    """Pictures of a folder in natural order, ``fps`` of them a second."""

    kind = "images"
    seekable = True

    def __init__(
        self,
        paths: list[Path],
        spec: str,
        fps: float = 30.0,
        realtime: bool = True,
        mirrored: bool = False,
    ) -> None:
        super().__init__(spec, Path(spec).name, realtime, mirrored)
        if not fps > 0:
            raise SourceError(f"{fps} images per second is not possible; give a number above 0")
        self._paths = paths
        self._position = 0
        self.fps = fps
        self.duration = len(paths) / fps
        while self._position < len(paths) and (first := self._load(paths[self._position])) is None:
            self._position += 1
        if self._position == len(paths):
            raise SourceError(f"{spec}: none of its {len(paths)} images can be read")
        assert first is not None
        self.size = (first.shape[1], first.shape[0])

    def _load(self, path: Path) -> np.ndarray | None:
        from engine.live._cv2 import cv2

        # Not cv2.imread: it fails on paths outside the system's code page.
        try:
            data = np.fromfile(path, np.uint8)
        except OSError:
            return None
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        return None if picture is None else np.ascontiguousarray(picture[:, :, ::-1])

    def _next(self) -> Frame | None:
        while self._position < len(self._paths):
            path, time = self._paths[self._position], self._position / self.fps
            self._position += 1
            image = self._load(path)
            if image is None:
                self._notes.append(f"{path.name} can't be read as an image; left out")
                continue
            return self._stamp(image, time)
        return None

    def seek(self, time: float) -> None:
        self._position = min(max(0, round(time * self.fps)), len(self._paths))
        self._sought()

    def close(self) -> None:
        self._position = len(self._paths)


class TraceSource(FrameSource):
    """A landmark trace; its frames carry their poses, so no pose model is needed."""

    kind = "trace"
    seekable = True

    def __init__(self, path: Path, spec: str = "", realtime: bool = True, mirrored: bool = False) -> None:
        trace = read_trace(path)
        super().__init__(spec or str(path), trace.name, realtime, mirrored)
        self._trace: Trace = trace
        self._position = 0
        self._canvas: dict[tuple[int, int], np.ndarray] = {}
        self.size = trace.sizes[0]
        span = float(trace.times[-1] - trace.times[0])
        self.fps = (len(trace) - 1) / span if span > 0 else 30.0
        self.duration = span

    def _next(self) -> Frame | None:
        if self._position >= len(self._trace):
            return None
        i = self._position
        self._position += 1
        size = self._trace.sizes[i]
        if size not in self._canvas:
            canvas = np.full((size[1], size[0], 3), 32, np.uint8)
            canvas.flags.writeable = False
            self._canvas[size] = canvas
        frame = self._stamp(
            self._canvas[size],
            float(self._trace.times[i] - self._trace.times[0]),
            clock.monotonic(),
        )
        return TraceFrame(frame.image, frame.time, frame.index, frame.grabbed, self._trace.poses[i])

    def seek(self, time: float) -> None:
        self._position = int(np.searchsorted(self._trace.times - self._trace.times[0], time - 1e-6))
        self._sought()

    def close(self) -> None:
        self._position = len(self._trace)
