"""One door to every kind of input: :func:`open_source` turns what a user typed into a :class:`FrameSource`."""

from __future__ import annotations

from pathlib import Path

from engine.live.errors import SourceError
from engine.live.source_base import FrameSource
from engine.live.source_camera import Camera, CameraSource, list_cameras
from engine.live.source_files import IMAGE_ENDINGS, ImageSource, TraceSource, images_in
from engine.live.source_video import StreamSource, VideoSource
from engine.live.trace import TRACE_FILE
from engine.paths import DEMO_CLIP

__all__ = ["ACCEPTED", "Camera", "FrameSource", "list_cameras", "open_source"]

DEMO = "demo"
STREAM_SCHEMES = (
    "rtsp",
    "rtsps",
    "rtmp",
    "rtmps",
    "http",
    "https",
    "udp",
    "tcp",
    "rtp",
    "srt",
    "hls",
    "mms",
)
ACCEPTED = (
    "a camera index (0), a video file, a folder of images, a stream address (rtsp://...), "
    "a landmark trace (.jsonl, .npz, or a recording's folder), or demo"
)


def open_source(
    spec: str | Path,
    *,
    realtime: bool = True,
    mirrored: bool = False,
    fps: float | None = None,
    loop: bool | None = None,
    camera_size: tuple[int, int] = (640, 480),
) -> FrameSource:
    """Open what the user named.

    Parameters
    ----------
    spec : str or Path
        See :data:`ACCEPTED`.
    realtime : bool
        Play files at their own speed, or as fast as they are read.
    mirrored : bool
        The pictures are mirrored (selfie view): turn them back, so that left stays left.
    fps : float, optional
        Images per second of a folder; default 30.
    loop : bool, optional
        Play a video for ever; default only ``demo`` in real time.
    camera_size : tuple of int
        Wished width and height of a camera.

    Raises
    ------
    SourceError
        Unknown, unreadable or empty; the text names it and what is accepted.
    """
    text = str(spec).strip()
    if not text:
        raise SourceError(f"no source given; accepted: {ACCEPTED}")
    if text == DEMO:
        if not DEMO_CLIP.is_file():
            raise SourceError(f"the demo clip {DEMO_CLIP} is missing; reinstall the program or choose another source")
        return VideoSource(DEMO_CLIP, DEMO, realtime, mirrored, loop=realtime if loop is None else loop)
    if text.isdigit():
        return CameraSource(int(text), mirrored, camera_size)
    scheme = text.split("://", 1)[0].lower() if "://" in text else ""
    if scheme in STREAM_SCHEMES:
        return StreamSource(text, mirrored)
    if scheme:
        raise SourceError(f"{text}: unknown kind of address {scheme}://; accepted: {ACCEPTED}")
    path = Path(text).expanduser()
    if path.is_dir():
        return _open_folder(path, text, realtime, mirrored, fps)
    if not path.exists():
        raise SourceError(f"{text}: no such file or folder; accepted: {ACCEPTED}")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes)")
    ending = path.suffix.lower()
    if ending in (".jsonl", ".npz"):
        return TraceSource(path, text, realtime, mirrored)
    if ending in IMAGE_ENDINGS:
        return ImageSource([path], text, fps or 30.0, realtime, mirrored)
    return VideoSource(path, text, realtime, mirrored, loop=bool(loop))


def _open_folder(path: Path, text: str, realtime: bool, mirrored: bool, fps: float | None) -> FrameSource:
    if (path / TRACE_FILE).is_file():
        return TraceSource(path / TRACE_FILE, text, realtime, mirrored)
    images = images_in(path)
    if images:
        return ImageSource(images, text, 30.0 if fps is None else fps, realtime, mirrored)
    raise SourceError(f"{path} holds neither images ({', '.join(IMAGE_ENDINGS)}) nor a recording; accepted: {ACCEPTED}")
