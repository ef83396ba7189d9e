"""Writes rendered frames to an mp4 file with exact time stamps, so that what plays is when it happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from engine.render.actor import Actor, as_persons
from engine.render.camera import Camera, fit_camera
from engine.render.scene import Room
from engine.skeleton.sequence import SkeletonSequence

_TICKS = 90_000  # per second: the usual clock of video streams; every common frame rate is a whole number of ticks


class VideoWriter:
    """Encodes RGB frames to H.264 (MPEG-4 part 2 where the PyAV at hand lacks libx264); use as a context manager.

    Parameters
    ----------
    path : Path or str
        The mp4 file; its folder must exist.
    width, height : int
        Picture size; both even, as the encoder's chroma needs.
    fps : float
        Nominal rate, a hint for players; the time stamps decide.
    quality : int
        x264 constant rate factor: smaller is better and larger.

    Raises
    ------
    ValueError
        For odd sizes, frames of another shape, and time stamps that don't increase.
    """

    def __init__(self, path: Path | str, width: int, height: int, fps: float = 30.0, quality: int = 21) -> None:
        import av

        if width % 2 or height % 2:
            raise ValueError(f"video needs an even width and height, got {width}x{height}")
        self._av = av
        self._shape = (height, width, 3)
        self._last = -1
        self._container = av.open(str(path), "w")
        try:
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            rate = Fraction(fps).limit_denominator(1001)
            stream: Any = self._container.add_stream(codec, rate=rate)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, _TICKS)
            stream.time_base = Fraction(1, _TICKS)
            if codec == "libx264":
                stream.options = {"crf": str(quality), "preset": "medium"}
            else:
                stream.bit_rate = 2_000_000
            self._stream = stream
        except BaseException:
            self._container.close()
            raise

    def write(self, image: np.ndarray, time: float) -> None:
        """Append uint8 RGB ``(height, width, 3)`` shown at ``time`` seconds."""
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"frame is {image.shape} {image.dtype}, expected {self._shape} uint8")
        pts = round(time * _TICKS)
        if pts <= self._last:
            raise ValueError(f"time stamps must increase: {time} s does not come after {self._last / _TICKS} s")
        self._last = pts
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = pts
        frame.time_base = Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        try:
            if self._last >= 0:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def render_frames(
    sequence: SkeletonSequence, actor: Actor, camera: Camera, background: np.ndarray | Room | None = None
) -> Iterable[np.ndarray]:
    """Yield every frame of a sequence (NTU-25 or Kinect-20) as uint8 RGB over one steady background."""
    if background is None:
        background = Room.under(sequence.xyz)
    for frame in sequence.xyz:
        yield actor.render(frame, camera, background)


def render_sequence(
    sequence: SkeletonSequence,
    path: Path | str,
    *,
    actor: Actor | None = None,
    camera: Camera | None = None,
    background: np.ndarray | Room | None = None,
    size: tuple[int, int] = (640, 480),
    quality: int = 21,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a whole sequence to an mp4 file.

    Parameters
    ----------
    sequence : SkeletonSequence
        NTU-25 or Kinect-20 joints; its time stamps become the video's, counted from its first frame.
    path : Path or str
        The file to write; its folder is made.
    actor, camera, background : optional
        Default: a smooth (supersampled) actor, a camera that sees the whole performance, and a room.
    size : tuple of int
        Width and height when no camera is given.
    quality : int
        x264 constant rate factor.
    on_progress : callable, optional
        Called with frames done and frames in all.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For an empty sequence or another joint layout.
    """
    if not len(sequence):
        raise ValueError(f"{sequence.name or 'sequence'} has no frames to render")
    if sequence.layout not in ("ntu25", "kinect20"):
        raise ValueError(f"can't render layout {sequence.layout!r}: convert the sequence to ntu25 first")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    joints = np.stack([as_persons(frame) for frame in sequence.xyz])
    camera = camera or fit_camera(joints, *size)
    actor = actor or Actor(supersample=2)
    fps = (len(sequence) - 1) / sequence.duration if sequence.duration > 0 else 30.0
    start = float(sequence.times[0])
    with VideoWriter(path, camera.width, camera.height, fps, quality) as writer:
        for i, image in enumerate(render_frames(sequence, actor, camera, background)):
            writer.write(image, float(sequence.times[i]) - start)
            if on_progress is not None:
                on_progress(i + 1, len(sequence))
    return path
