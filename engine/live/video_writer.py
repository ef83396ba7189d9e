"""Video with true time stamps that survives a crash: variable frame rate in a fragmented MP4."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engine.live.errors import RecordingError

_TIME_BASE = Fraction(1, 90000)
# A fragment ends with each key frame: at most this much is lost when the program is killed.
_KEY_FRAME_S = 1.0


class VideoWriter:
    """Writes RGB frames at their own times.

    A picture of another size starts a further file (``name_2.mp4``), because a video track has one size.

    Parameters
    ----------
    path : Path
        Should end in ``.mp4``.

    Raises
    ------
    RecordingError
        The file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.paths: list[Path] = []
        self.frames = 0
        self._container: Any = None
        self._file: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._last_pts = -1
        self._last_key = -np.inf
        self._origin: float | None = None

    def write(self, image: np.ndarray, time: float) -> None:
        """One frame ``(H, W, 3)`` uint8; ``time`` seconds, increasing. The first frame's time becomes 0."""
        import av

        size = (image.shape[1], image.shape[0])
        try:
            if size != self._size:
                self._finish()
                self._open(size)
            if self._origin is None:
                self._origin = time
            frame = av.VideoFrame.from_ndarray(_even(image), format="rgb24")
            pts = max(round((time - self._origin) / _TIME_BASE), self._last_pts + 1)
            frame.pts, frame.time_base = pts, _TIME_BASE
            if time - self._last_key >= _KEY_FRAME_S:
                frame.pict_type = av.video.frame.PictureType.I
                self._last_key = time
            self._last_pts = pts
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise RecordingError(f"{self.path} can't be written ({error}); is the disk full?") from error
        self.frames += 1

    def _open(self, size: tuple[int, int]) -> None:
        import av

        number = len(self.paths) + 1
        path = self.path if number == 1 else self.path.with_stem(f"{self.path.stem}_{number}")
        # An unbuffered file of our own: FFmpeg's would keep whole fragments back. delay_moov keeps the start time.
        self._file = path.open("wb", buffering=0)
        flags = "frag_keyframe+empty_moov+delay_moov+default_base_moof"
        self._container = av.open(self._file, "w", format="mp4", options={"movflags": flags})
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=30)
        stream.width, stream.height = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "23", "tune": "zerolatency"}
        else:
            stream.codec_context.qmin = stream.codec_context.qmax = 4
        self._stream = stream
        self._size = size
        self._last_pts = -1
        self._last_key = -np.inf
        # Further files go on in the time of the first one.
        self.paths.append(path)

    def _finish(self) -> None:
        container, stream = self._container, self._stream
        self._container = self._stream = None
        if container is not None:
            try:
                container.mux(stream.encode())
            finally:
                container.close()
                self._file.close()

    def close(self) -> None:
        """Finish the file; may be called again."""
        import av

        try:
            self._finish()
        except (av.error.FFmpegError, OSError) as error:
            raise RecordingError(f"{self.path} can't be finished ({error}); is the disk full?") from error
        finally:
            self._size = (0, 0)


def _even(image: np.ndarray) -> np.ndarray:
    """4:2:0 needs even sides: the last row and column are doubled where needed."""
    rows, columns = image.shape[0] % 2, image.shape[1] % 2
    if rows or columns:
        image = np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)
