from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from engine.live.errors import RecordingError
from engine.live.recorder import JUMP_S, Recorder
from engine.live.segment_files import segments_csv, segments_vtt, write_segments
from engine.live.sources import open_source
from engine.live.trace import read_trace
from engine.live.types import Frame, LiveDecision, Segment
from engine.live.video_writer import VideoWriter
from tests.engine.live.test_trace import result


def picture(i: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), (10 * i) % 250, np.uint8)


def frame(i: int, time: float, size: tuple[int, int] = (48, 64)) -> Frame:
    return Frame(picture(i, size), time, i, 0.0)


def stamps(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [f.time for f in container.decode(video=0)]  # type: ignore[misc]


def test_true_time_stamps_reach_the_file(tmp_path: Path) -> None:
    times = [5.0, 5.033, 5.2, 5.21, 6.0, 8.5]
    writer = VideoWriter(tmp_path / "v.mp4")
    for i, t in enumerate(times):
        writer.write(picture(i), t)
    writer.close()
    writer.close()
    assert stamps(tmp_path / "v.mp4") == pytest.approx([t - 5.0 for t in times], abs=2e-4)


def test_odd_sizes_and_a_new_size_in_mid_run(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v.mp4")
    for i in range(10):
        writer.write(picture(i, (47, 63) if i < 5 else (96, 128)), i / 10)
    writer.close()
    assert [p.name for p in writer.paths] == ["v.mp4", "v_2.mp4"]
    assert len(stamps(tmp_path / "v.mp4")) == 5
    assert stamps(tmp_path / "v_2.mp4") == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9], abs=2e-3)


def test_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordingError, match="can't record into"):
        Recorder(tmp_path / "file")
    writer = VideoWriter(tmp_path / "missing" / "v.mp4")
    with pytest.raises(RecordingError, match="can't be written"):
        writer.write(picture(0), 0.0)


def record(folder: Path, count: int = 30) -> Recorder:
    recorder = Recorder(folder, source="demo", checkpoint=Path("tiny"))
    for i in range(count):
        t = 100 + i / 30
        recorder.frame(frame(i, t))
        recorder.pose(result(t))
        if i % 4 == 3:
            recorder.decision(LiveDecision(t, 1, "wave", 0.9, (("wave", 0.9),), 12.0))
    recorder.segment(Segment(1, "wave", 99.5, 100.5, 0.9))
    return recorder


def test_recording_can_be_replayed_and_read(tmp_path: Path) -> None:
    recorder = record(tmp_path / "r")
    recorder.close()
    assert (recorder.frames, recorder.dropped, recorder.failure) == (30, 0, "")
    assert stamps(tmp_path / "r" / "video.mp4") == pytest.approx([i / 30 for i in range(30)], abs=2e-4)
    with open_source(tmp_path / "r", realtime=False) as source:
        assert source.kind == "trace" and source.size == (640, 480)
        first = source.read()
    assert first is not None and first.time == 0.0
    assert read_trace(tmp_path / "r" / "landmarks.jsonl").times == pytest.approx([i / 30 for i in range(30)], abs=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "r" / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and lines[0]["label"] == "wave" and lines[0]["t"] == pytest.approx(0.1, abs=1e-3)
    assert lines[-1]["segment"] == {"person": 1, "label": "wave", "start": 0.0, "end": 0.5, "score": 0.9}
    assert (tmp_path / "r" / "segments.csv").read_text().splitlines()[1] == "1,wave,0.000,0.500,0.9000,"


def test_a_jump_of_the_source_goes_on_later(tmp_path: Path) -> None:
    """After the camera's 100th second a film from its third: both are there, one after the other, and apart."""
    recorder = Recorder(tmp_path / "r")
    for part, begin in ((4, 100.0), (5, 3.0)):
        for i in range(10):
            recorder.frame(frame(i, begin + i / 10), part)
            recorder.pose(result(begin + i / 10), part)
        recorder.decision(LiveDecision(begin + 0.5, 1, "wave", 0.9, (("wave", 0.9),), 12.0), part)
        recorder.segment(Segment(1, "wave", begin - 1.0, begin + 0.5, 0.9), part)
    recorder.pose(result(100.95), 4)  # looked at late
    recorder.pose(result(2.5), 5)  # not part of the recording
    recorder.pose(result(9.0), 6)
    recorder.close()
    assert (recorder.frames, recorder.failure) == (20, "")
    expected = [i / 10 for i in range(10)] + [0.9 + JUMP_S + i / 10 for i in range(10)]
    assert stamps(tmp_path / "r" / "video.mp4") == pytest.approx(expected, abs=2e-4)
    assert read_trace(tmp_path / "r" / "landmarks.jsonl").times == pytest.approx(expected, abs=1e-5)
    assert [(round(s.start, 3), round(s.end, 3)) for s in recorder.segments] == [(0.0, 0.5), (1.9, 2.4)]
    lines = [json.loads(line) for line in (tmp_path / "r" / "results.jsonl").read_text().splitlines()]
    assert [line["t"] for line in lines if "t" in line] == pytest.approx([0.5, 2.4])


def test_a_second_recording_does_not_overwrite(tmp_path: Path) -> None:
    record(tmp_path / "r", 3).close()
    with pytest.raises(RecordingError, match="holds a recording already"):
        Recorder(tmp_path / "r")


def test_slow_disk_drops_frames_and_counts_them_but_no_landmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    write = VideoWriter.write

    def slow(self: VideoWriter, image: np.ndarray, time: float) -> None:
        gate.wait(10)
        write(self, image, time)

    monkeypatch.setattr(VideoWriter, "write", slow)
    recorder = Recorder(tmp_path / "r", max_waiting=10)
    begin = time.monotonic()
    for i in range(50):
        recorder.frame(frame(i, i / 30))
        recorder.pose(result(i / 30))
    assert time.monotonic() - begin < 2.0
    gate.set()
    recorder.close()
    assert recorder.frames + recorder.dropped == 50 and 39 <= recorder.dropped <= 40
    assert len(read_trace(tmp_path / "r" / "landmarks.jsonl")) == 50


def test_full_disk_is_told_and_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = VideoWriter.write

    def full(self: VideoWriter, image: np.ndarray, time: float) -> None:
        if self.frames >= 40:
            raise RecordingError("no space left on device")
        write(self, image, time)

    monkeypatch.setattr(VideoWriter, "write", full)
    recorder = record(tmp_path / "r", 60)
    recorder.close()
    assert "no space left" in recorder.failure and str(tmp_path / "r") in recorder.failure
    assert len(stamps(tmp_path / "r" / "video.mp4")) == 40


def test_a_killed_program_leaves_readable_files(tmp_path: Path) -> None:
    code = f"""
import os, time
from pathlib import Path
from tests.engine.live.test_recorder import frame, result
from engine.live.recorder import JUMP_S, Recorder
from engine.live.types import LiveDecision
r = Recorder(Path({str(tmp_path / "r")!r}))
for i in range(120):
    r.frame(frame(i, i / 30)); r.pose(result(i / 30)); r.decision(LiveDecision(i / 30, 1, "wave", .9, (), 1.0))
while r.frames < 120: time.sleep(0.02)
time.sleep(0.7)
os.kill(os.getpid(), 9)
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    # The last second of video may be missing, nothing else.
    assert len(stamps(tmp_path / "r" / "video.mp4")) >= 89
    assert len(read_trace(tmp_path / "r" / "landmarks.jsonl")) == 120
    assert len((tmp_path / "r" / "results.jsonl").read_text().splitlines()) == 120


SEGMENTS = [Segment(1, "wave, large", 1.0, 2.5, 0.91), Segment(2, "clap <3", 3661.0, 3662.25, 0.5, repetitions=7)]


def test_csv_and_vtt(tmp_path: Path) -> None:
    assert segments_csv(SEGMENTS).splitlines() == [
        "person,label,start,end,score,repetitions",
        '1,"wave, large",1.000,2.500,0.9100,',
        "2,clap <3,3661.000,3662.250,0.5000,7",
    ]
    assert segments_vtt(SEGMENTS) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nperson 1: wave, large (0.91)\n\n"
        "01:01:01.000 --> 01:01:02.250\nperson 2: clap &lt;3 x 7 (0.50)\n"
    )
    with pytest.raises(ValueError, match=r"\.csv or \.vtt"):
        write_segments(SEGMENTS, tmp_path / "s.txt")
