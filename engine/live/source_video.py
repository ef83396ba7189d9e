"""Videos and network streams through PyAV: true time stamps, also where the frame rate varies."""

from __future__ import annotations

import contextlib
import time as clock
from pathlib import Path
from typing import Any

import numpy as np

from engine.live.errors import SourceError, SourceLost
from engine.live.source_base import FrameSource
from engine.live.types import Frame

_MAX_BAD_PACKETS = 50
# Seconds: how far before the wanted time a seek aims, one try after the other, before it reads from the beginning.
_SEEK_BACK = (0.0, 2.0, 10.0)
_NEAR = 1e-3


def _picture(frame: Any) -> np.ndarray:
    image = frame.to_ndarray(format="rgb24")
    # Phones store upright videos lying, with a note of how to turn them.
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class _Decoder:
    """Frames of the first video stream of a file or address; skips what is damaged."""

    def __init__(
        self,
        address: str,
        options: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        import av

        av.logging.set_level(av.logging.PANIC)
        self.container = av.open(address, options=options or {}, timeout=timeout)
        if not self.container.streams.video:
            self.container.close()
            raise SourceError(f"{address} holds no pictures (no video stream)")
        self.stream = self.container.streams.video[0]
        # Slices only: frame threads would hold several frames back, and the pose model wants the cores.
        self.stream.thread_type = "SLICE"
        self.bad = 0
        self._frames = self._decode()

    def _decode(self) -> Any:
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.InvalidDataError:
                self.bad += 1
                if self.bad > _MAX_BAD_PACKETS:
                    return
                continue
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                self.bad += 1
                if self.bad > _MAX_BAD_PACKETS:
                    return

    def next(self) -> Any | None:
        return next(self._frames, None)

    def seek(self, time: float) -> None:
        start = self.stream.start_time or 0
        assert self.stream.time_base is not None
        self.container.seek(start + int(time / self.stream.time_base), stream=self.stream)
        self._frames, self.bad = self._decode(), 0

    def close(self) -> None:
        self._frames = iter(())
        self.container.close()


class VideoSource(FrameSource):
    """A video file; ``loop`` starts it again at its end, with time going on."""

    kind = "video"
    seekable = True

    def __init__(
        self,
        path: Path,
        spec: str = "",
        realtime: bool = True,
        mirrored: bool = False,
        loop: bool = False,
    ) -> None:
        super().__init__(spec or str(path), Path(path).name, realtime, mirrored)
        self._path = Path(path)
        self._loop = loop
        self._offset = 0.0
        self._first_pts: float | None = None
        self._told_bad = False
        self._decoder = self._open()
        try:
            first = self._decoder.next()
        except Exception as error:
            self._decoder.close()
            raise SourceError(f"{self._path} can't be read as a video ({error}); it may be damaged") from error
        if first is None:
            self._decoder.close()
            raise SourceError(f"{self._path} holds no picture that can be read; it is empty or damaged")
        picture = _picture(first)
        self.size = (picture.shape[1], picture.shape[0])
        self._open_size = self.size
        stream = self._decoder.stream
        self.fps = float(stream.average_rate or stream.guessed_rate or 0.0)
        if stream.duration is not None and stream.time_base is not None:
            self.duration = float(stream.duration * stream.time_base)
        elif self._decoder.container.duration:
            self.duration = self._decoder.container.duration / 1e6
        self._step = 1.0 / self.fps if self.fps > 0 else 1.0 / 30
        self._at = -self._step
        # What is decoded already, and when it is due.
        self._peeked: tuple[Any, float] | None = (first, self._when(first))
        if loop:
            self._clip_duration, self.duration, self.seekable = (
                self.duration,
                None,
                False,
            )

    def _open(self) -> _Decoder:
        import av

        try:
            return _Decoder(str(self._path))
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(
                f"{self._path} can't be read as a video ({reason}); it may be damaged, incomplete, or no video at all"
            ) from error

    def _begin_again(self) -> None:
        self._decoder.close()
        self._decoder = self._open()
        self._at, self._first_pts = -self._step, None

    def _when(self, raw: Any) -> float:
        """Seconds from the file's first picture; of one without a time stamp, a step after the one before."""
        if raw.time is None:
            self._at += self._step
        else:
            self._first_pts = raw.time if self._first_pts is None else self._first_pts
            self._at = raw.time - self._first_pts
        return self._at

    def _next(self) -> Frame | None:
        found, self._peeked = self._peeked or self._decode_next(), None
        if found is None and self._loop and self._index:
            self._offset = self._last_time + self._step
            self._begin_again()
            found = self._decode_next()
        if found is None:
            return None
        raw, at = found
        image = _picture(raw)
        size = (image.shape[1], image.shape[0])
        if size != self._open_size:
            self._notes.append(f"{self.name}: the picture changed from {self._open_size} to {size}; going on")
            self._open_size = size
        return self._stamp(image, self._offset + at)

    def _decode_next(self) -> tuple[Any, float] | None:
        import av

        try:
            raw = self._decoder.next()
        except (av.error.FFmpegError, OSError) as error:
            self._notes.append(f"{self.name} is damaged after {max(self._last_time, 0):.1f} s ({error}); stopped there")
            return None
        if self._decoder.bad and not self._told_bad:
            self._told_bad = True
            self._notes.append(
                f"{self.name} is damaged near {max(self._last_time, 0):.1f} s; damaged frames are left out"
            )
        return (raw, self._when(raw)) if raw is not None else None

    def seek(self, time: float) -> None:
        """Go on with the first picture at ``time`` or after it.

        A file with an index is read from the key frame before. One without (a transport stream) may be entered between
        key frames, and a raw stream nowhere but at its beginning.
        """
        import av

        self._sought()
        self._peeked = None
        for back in _SEEK_BACK:
            if back and back >= time:
                break
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._decoder.seek(max(time - back, 0.0))
                if self._pass_over(time):
                    return
        self._begin_again()
        with contextlib.suppress(av.error.FFmpegError, OSError):  # reading on tells of the damage
            self._pass_over(time, from_beginning=True)

    def _pass_over(self, time: float, from_beginning: bool = False) -> bool:
        """Leave out what comes before ``time``; False where the decoder did not land before it, or nobody can say.

        An hour of a raw stream takes a while: whoever wants something else meanwhile interrupts.
        """
        landed = from_beginning
        try:
            while (raw := self._decoder.next()) is not None:
                if self._interrupt.is_set():
                    return True
                if raw.time is None and not landed:
                    return False
                at = self._when(raw)
                landed = landed or at <= time + _NEAR
                if not landed:
                    return False
                if at >= time - _NEAR:
                    self._peeked = (raw, at)
                    break
        finally:
            self._decoder.bad = 0  # a decoder that starts between key frames complains of what is no damage
        return landed

    def close(self) -> None:
        self._peeked = None
        self._decoder.close()


class StreamSource(FrameSource):
    """A network stream; frames come at the sender's pace, silence for ``timeout`` seconds counts as lost."""

    kind = "stream"
    live = True

    def __init__(self, address: str, mirrored: bool = False, timeout: float = 5.0) -> None:
        super().__init__(address, address.split("://", 1)[-1].rsplit("@", 1)[-1], mirrored=mirrored)
        self._timeout = timeout
        self._start = clock.monotonic()
        self._decoder: _Decoder | None = None
        self._base = 0.0
        self._first_pts: float | None = None
        error = self._connect()
        if error:
            raise SourceError(f"{self._public} can't be opened ({error}); is the address right and the sender running?")

    @property
    def _public(self) -> str:
        """The address without user name and password."""
        return self.spec.split("://", 1)[0] + "://" + self.name

    def _connect(self) -> str:
        """Open; returns why not, empty when it worked."""
        import av

        self.close()
        # Over UDP, cameras lose packets and the picture smears.
        options = {"rtsp_transport": "tcp"} if self.spec.startswith("rtsp") else {}
        try:
            self._decoder = _Decoder(self.spec, options, self._timeout)
        except SourceError:
            return "it carries no video"
        except (av.error.FFmpegError, OSError, ValueError) as error:
            return str(getattr(error, "strerror", None) or error)
        stream = self._decoder.stream
        self.size = (stream.width, stream.height)
        self.fps = float(stream.average_rate or 0.0)
        self._first_pts = None
        # A file that lies on a server has a length and an end; a camera has neither.
        container = self._decoder.container
        self._finite = bool(container.duration) or (
            self.spec.startswith("http") and "hls" not in container.format.name and container.size > 0
        )
        return ""

    def reopen(self) -> bool:
        return not self._connect()

    def _next(self) -> Frame | None:
        import av

        try:
            raw = self._decoder.next() if self._decoder is not None else None
        except (av.error.FFmpegError, OSError) as error:
            raise SourceLost(f"{self._public} broke off ({error}); trying to connect again") from error
        if raw is None and self._finite:
            return None
        if raw is None:
            raise SourceLost(f"{self._public} ended; trying to connect again")
        grabbed = clock.monotonic()
        if self._first_pts is None:
            self._first_pts = raw.time if raw.time is not None else 0.0
            self._base = grabbed - self._start
        time = self._base + raw.time - self._first_pts if raw.time is not None else grabbed - self._start
        return self._stamp(_picture(raw), time, grabbed)

    def close(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()
