"""Recording a live run to a folder: video with true time stamps, landmarks that can be replayed, results.

A thread of its own writes; the live stages only hand over. Everything is on disk within a second, and what is there
stays readable when the program dies.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from engine.live.errors import RecordingError
from engine.live.records import decision_record, dumps, segment_record
from engine.live.segment_files import write_segments
from engine.live.trace import TRACE_FILE, TraceWriter
from engine.live.types import Frame, LiveDecision, PoseResult, Segment
from engine.live.video_writer import VideoWriter

log = logging.getLogger(__name__)

VIDEO_FILE = "video.mp4"
RESULTS_FILE = "results.jsonl"
INFO_FILE = "recording.json"
MAX_FRAMES_WAITING = 240
_MAX_LINES_WAITING = 20_000
_FLUSH_S = 0.5
# Seconds between what was recorded before a jump (a seek, another source) and after it: so long that whoever plays the
# landmarks takes nobody's pose for a movement across it.
JUMP_S = 1.0


class Recorder:
    """Records into ``folder``: ``video.mp4``, ``landmarks.jsonl``, ``results.jsonl``, ``recording.json``, and at the
    end ``segments.csv`` and ``segments.vtt``.

    All times in the files count from the first recorded frame. Where the source jumps (a seek, another source) whoever
    records names another ``part``, and the recording's time goes on :data:`JUMP_S` later. At most
    :data:`MAX_FRAMES_WAITING` frames wait for the disk; more are dropped and counted, landmarks and results are not.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    source : str
        Name of the source, for the record.
    checkpoint : Path, optional
        The encoder in use, for the record.
    max_waiting : int
        Frames that may wait.

    Raises
    ------
    RecordingError
        The folder holds a recording already or can't be written.
    """

    def __init__(
        self,
        folder: Path,
        source: str = "",
        checkpoint: Path | None = None,
        max_waiting: int = MAX_FRAMES_WAITING,
    ) -> None:
        self.folder = Path(folder)
        self.frames = 0
        self.dropped = 0
        self.failure = ""
        self.segments: list[Segment] = []
        self._max_waiting = max_waiting
        self._condition = threading.Condition()
        self._frames_waiting: deque[tuple[np.ndarray, float]] = deque()
        self._lines: deque[Callable[[], None]] = deque()
        self._closing = False
        # Of every part, the source's time of its first frame, and what is subtracted from its times.
        self._parts: dict[int, tuple[float, float]] = {}
        self._newest = 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / RESULTS_FILE).exists():
                raise RecordingError(f"{self.folder} holds a recording already; choose another folder")
            info = {
                "format": 1,
                "source": source,
                "checkpoint": checkpoint.name if checkpoint is not None else "",
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            (self.folder / INFO_FILE).write_text(json.dumps(info, indent=1) + "\n", "utf-8")
            self._results = (self.folder / RESULTS_FILE).open("w", encoding="utf-8")
            self._trace_stream = (self.folder / TRACE_FILE).open("w", encoding="utf-8")
        except OSError as error:
            raise RecordingError(f"can't record into {self.folder}: {error.strerror or error}") from error
        self._trace = TraceWriter(self._trace_stream, source)
        self._video = VideoWriter(self.folder / VIDEO_FILE)
        self._thread = threading.Thread(target=self._run, name="live-recorder", daemon=True)
        self._thread.start()

    def frame(self, frame: Frame, part: int = 0) -> None:
        """Hand over a frame; never waits."""
        with self._condition:
            if self._closing or self.failure:
                return
            if part not in self._parts:
                after = self._newest + JUMP_S if self._parts else 0.0
                self._parts[part] = (frame.time, frame.time - after)
            self._newest = frame.time - self._parts[part][1]
            if len(self._frames_waiting) >= self._max_waiting:
                self.dropped += 1
                return
            self._frames_waiting.append((frame.image, self._newest))
            self._condition.notify()

    def pose(self, pose: PoseResult, part: int = 0) -> None:
        """Hand over the persons of a frame."""
        self._later(lambda origin: self._trace.write(pose, origin), pose.time, part)

    def decision(self, decision: LiveDecision, part: int = 0) -> None:
        self._later(lambda origin: self._write(dumps(decision_record(decision, origin))), decision.time, part)

    def segment(self, segment: Segment, part: int = 0) -> None:
        """Hand over a finished segment."""

        def write(origin: float) -> None:
            # What went on when recording began starts with it.
            start = max(segment.start, self._parts[part][0])
            moved = replace(segment, start=start - origin, end=segment.end - origin)
            self.segments.append(moved)
            self._write(dumps(segment_record(moved)))

        self._later(write, segment.end, part)

    def _write(self, line: str) -> None:
        self._results.write(line + "\n")

    def _later(self, write: Callable[[float], None], time: float, part: int) -> None:
        with self._condition:
            if self._closing or self.failure or len(self._lines) >= _MAX_LINES_WAITING:
                return
            if not self._parts:
                self._parts[part] = (time, time)
            # What belongs to frames before the first recorded one is not part of the recording.
            first, origin = self._parts.get(part, (np.inf, 0.0))
            if time < first:
                return
            self._lines.append(lambda: write(origin))
            self._condition.notify()

    def _run(self) -> None:
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(
                        lambda: self._frames_waiting or self._lines or self._closing,
                        timeout=_FLUSH_S,
                    )
                    frame = self._frames_waiting.popleft() if self._frames_waiting else None
                    lines, self._lines = self._lines, deque()
                    done = self._closing and frame is None and not lines
                for write in lines:
                    write()
                if lines or done:
                    self._results.flush()
                    self._trace_stream.flush()
                if frame is not None:
                    self._video.write(*frame)
                    self.frames += 1
                if done:
                    return
        except (RecordingError, OSError, ValueError) as error:
            log.exception("recording failed")
            text = f"recording stopped: {error}; what was written before is kept in {self.folder}"
            with self._condition:
                self.failure = text
                self._frames_waiting.clear()
                self._lines.clear()

    def close(self, timeout: float = 30.0) -> None:
        """Write what waits and finish all files; may be called again."""
        with self._condition:
            if self._closing:
                return
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout)
        try:
            self._video.close()
            self._results.close()
            self._trace_stream.close()
            write_segments(self.segments, self.folder / "segments.csv")
            write_segments(self.segments, self.folder / "segments.vtt")
        except (RecordingError, OSError) as error:
            self.failure = self.failure or f"recording could not be finished: {error}"
