from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.live import source_camera
from engine.live.chain import PoseOptions
from engine.live.errors import RecordingError
from engine.live.mailbox import Mailbox, StageClock
from engine.live.pipeline import LivePipeline
from engine.live.recogniser import Recogniser
from engine.live.recorder import JUMP_S
from engine.live.sources import open_source
from engine.live.trace import read_trace
from engine.live.types import LiveState
from engine.live.video_writer import VideoWriter
from tests.engine.live.helpers import CameraSocket, ListSource, ScriptedDetector, build_checkpoint, write_trace


def until(true: Callable[[], object], seconds: float = 8.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return bool(true())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert until(lambda: not [t for t in threading.enumerate() if t not in before and t.name.startswith("live")], 3)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "t.npz", 4.0, [(0, "none"), (0.5, "left")])


@pytest.fixture
def socket(monkeypatch: pytest.MonkeyPatch) -> CameraSocket:
    socket = CameraSocket()
    monkeypatch.setattr(source_camera, "open_capture", socket.open)
    return socket


def texts(pipeline: LivePipeline) -> str:
    return " | ".join(f"{level}: {text}" for level, text in pipeline.messages())


def test_file_in_real_time_names_the_action_and_ends(tiny_checkpoint: Path, trace: Path) -> None:
    begin = time.monotonic()
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint) as pipeline:
        assert pipeline.wait(LiveState.RUNNING, timeout=5)
        assert until(lambda: any(d.label == "left" for d in pipeline.snapshot().decisions.values()))
        middle = pipeline.snapshot()
        assert pipeline.wait(LiveState.ENDED, timeout=8)
        assert time.monotonic() - begin > 3.5
        end = pipeline.snapshot()
    assert middle.checkpoint == "tiny" and middle.runtime == "ONNX CPU" and middle.window_s == 1.5
    assert middle.segments[-1].open and middle.duration == pytest.approx(4.0, abs=0.05)
    assert middle.frame is not None and middle.pose is not None and middle.latency is not None
    assert 25 < end.pose_fps < 35 and {"capture", "pose", "encode", "decide"} <= set(end.stages)
    assert [s.label for s in end.segments] == ["left"] and not end.segments[0].open
    assert pipeline.state is LiveState.IDLE


def test_without_hurry_no_frame_is_dropped(tiny_checkpoint: Path, trace: Path) -> None:
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint, realtime=False) as pipeline:
        assert pipeline.wait(LiveState.ENDED, timeout=10)
        assert pipeline.counts["frames"] == pipeline.counts["pose_frames"] == 120
        assert pipeline.snapshot().dropped == 0


@pytest.mark.parametrize("slow", ["pose", "encoder"])
def test_a_file_waits_at_its_first_picture_for_the_models(
    slow: str, tiny_checkpoint: Path, tmp_path: Path, grey_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = threading.Event()

    def detector() -> ScriptedDetector:
        assert slow != "pose" or loaded.wait(5)
        return ScriptedDetector()

    def warm_up(self: Recogniser) -> None:
        assert slow != "encoder" or loaded.wait(5)

    monkeypatch.setattr(Recogniser, "warm_up", warm_up)
    with LivePipeline(str(grey_video), checkpoint=tiny_checkpoint, detector=detector) as pipeline:
        assert until(lambda: pipeline.snapshot().frame is not None)
        time.sleep(0.4)
        assert pipeline.counts["frames"] == 1 and pipeline.state is LiveState.STARTING
        loaded.set()
        assert pipeline.wait(LiveState.ENDED, timeout=5)
        assert pipeline.counts["frames"] == 20 and pipeline.counts["pose_frames"] > 16


def test_a_file_that_waits_for_its_models_stops_and_gives_way(
    tiny_checkpoint: Path, grey_video: Path, trace: Path
) -> None:
    never = threading.Event()

    def detector() -> ScriptedDetector:
        never.wait(5)
        return ScriptedDetector()

    pipeline = LivePipeline(str(grey_video), checkpoint=tiny_checkpoint, detector=detector)
    pipeline.start()
    assert until(lambda: pipeline.snapshot().frame is not None)
    pipeline.pause()
    assert pipeline.state is LiveState.PAUSED
    pipeline.resume()
    pipeline.switch_source(str(trace))
    assert until(lambda: pipeline.source is not None and pipeline.source.kind == "trace")
    assert pipeline.seek(1.0) and until(lambda: pipeline.snapshot().time >= 1.0)
    never.set()
    assert pipeline.stop()


def test_slow_pose_drops_frames_and_keeps_latency(tiny_checkpoint: Path, socket: CameraSocket) -> None:
    slow = ScriptedDetector(delay=0.1)
    with LivePipeline("0", checkpoint=tiny_checkpoint, detector=lambda: slow) as pipeline:
        assert until(lambda: pipeline.counts["recognitions"] >= 5, 15)
        snapshot = pipeline.snapshot()
        assert snapshot.dropped > 10
        assert pipeline.counts["frames"] > 3 * pipeline.counts["pose_frames"]
        assert snapshot.latency is not None and 100 < snapshot.latency.p50 < 400
    assert slow.closed


def test_stop_is_quick_complete_and_repeatable(tiny_checkpoint: Path, socket: CameraSocket) -> None:
    detector = ScriptedDetector()
    pipeline = LivePipeline("0", checkpoint=tiny_checkpoint, detector=lambda: detector)
    assert pipeline.stop() and pipeline.state is LiveState.IDLE
    for _ in range(2):
        pipeline.start()
        pipeline.start()
        assert until(lambda: pipeline.snapshot().decisions)
        begin = time.monotonic()
        assert pipeline.stop() and pipeline.stop()
        assert time.monotonic() - begin < 2.0
        assert detector.closed and all(capture.released for capture in socket.opened)
        detector.closed = False


def test_stop_right_after_start(tiny_checkpoint: Path, trace: Path) -> None:
    for delay in (0.0, 0.01, 0.05):
        pipeline = LivePipeline(str(trace), checkpoint=tiny_checkpoint)
        pipeline.start()
        time.sleep(delay)
        assert pipeline.stop()


def test_pause_holds_a_file_where_it_is(tiny_checkpoint: Path, trace: Path) -> None:
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint) as pipeline:
        assert until(lambda: pipeline.snapshot().time > 0.5)
        pipeline.pause()
        assert pipeline.state is LiveState.PAUSED
        time.sleep(0.15)
        held = pipeline.snapshot().time
        time.sleep(0.5)
        assert pipeline.snapshot().time == held
        pipeline.resume()
        assert until(lambda: pipeline.snapshot().time > held + 0.1)
        assert pipeline.snapshot().time < held + 0.4


def test_seek_and_replay_after_the_end(tiny_checkpoint: Path, trace: Path) -> None:
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint) as pipeline:
        assert until(lambda: pipeline.snapshot().frame is not None)
        assert pipeline.seek(3.5)
        assert until(lambda: pipeline.snapshot().time >= 3.5, 1.5)
        assert pipeline.wait(LiveState.ENDED, timeout=5)
        pipeline.resume()
        assert until(lambda: pipeline.state is LiveState.RUNNING and 0 < pipeline.snapshot().time < 1.0)
        assert until(lambda: pipeline.snapshot().decisions)


def test_camera_unplugged_comes_back(tiny_checkpoint: Path, socket: CameraSocket, tmp_path: Path) -> None:
    with LivePipeline("0", checkpoint=tiny_checkpoint, detector=ScriptedDetector) as pipeline:
        assert until(lambda: pipeline.snapshot().decisions)
        pipeline.start_recording(tmp_path / "r")
        before = pipeline.counts["frames"]
        assert until(lambda: pipeline.counts["frames"] > before + 20)
        socket.plugged = False
        assert pipeline.wait(LiveState.LOST, timeout=5)
        assert "camera 0 stopped sending pictures" in pipeline.snapshot().message
        time.sleep(0.6)
        socket.plugged = True
        assert pipeline.wait(LiveState.RUNNING, timeout=6)
        said = texts(pipeline)
        assert "warning: camera 0 stopped" in said and "info: camera 0 is back" in said
        seen = pipeline.counts["pose_frames"]
        assert until(lambda: pipeline.counts["pose_frames"] > seen + 10)
        pipeline.stop_recording()
    from tests.engine.live.test_recorder import stamps

    times = stamps(tmp_path / "r" / "video.mp4")
    assert len(times) > 15 and np.diff(times).max() > 0.5


def test_switch_source_while_running(tiny_checkpoint: Path, trace: Path, socket: CameraSocket) -> None:
    with LivePipeline("0", checkpoint=tiny_checkpoint, detector=ScriptedDetector) as pipeline:
        assert until(lambda: pipeline.snapshot().decisions)
        pipeline.switch_source(str(trace))
        assert until(lambda: pipeline.source is not None and pipeline.source.kind == "trace")
        assert until(lambda: (f := pipeline.snapshot().frame) is not None and f.image.shape == (480, 640, 3))
        assert all(capture.released for capture in socket.opened)
        assert until(lambda: any(d.label == "left" for d in pipeline.snapshot().decisions.values()))


def test_unknown_source_fails_with_a_message_and_another_one_helps(tiny_checkpoint: Path, trace: Path) -> None:
    with LivePipeline("no/such.mp4", checkpoint=tiny_checkpoint) as pipeline:
        assert pipeline.wait(LiveState.FAILED, timeout=5)
        assert "no/such.mp4: no such file" in pipeline.snapshot().message
        assert "error: no/such.mp4" in texts(pipeline)
        pipeline.switch_source(str(trace))
        assert pipeline.wait(LiveState.RUNNING, timeout=5)
        assert until(lambda: pipeline.snapshot().decisions)


def test_switch_checkpoint_while_running(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    other = build_checkpoint(tmp_path / "other", name="other", window_s=1.0)
    with LivePipeline(lambda: open_source(trace), checkpoint=tiny_checkpoint) as pipeline:
        assert until(lambda: pipeline.snapshot().decisions)
        pipeline.switch_checkpoint(other)
        assert until(lambda: pipeline.snapshot().checkpoint == "other")
        assert pipeline.snapshot().window_s == 1.0 and pipeline.checkpoint == other
        assert until(lambda: pipeline.snapshot().decisions)
        pipeline.messages()
        pipeline.switch_checkpoint(tmp_path / "nothing")
        assert until(lambda: any("nothing is not a checkpoint folder" in t for _, t in pipeline._messages))
        assert "other stays in use" in texts(pipeline)
        assert pipeline.snapshot().checkpoint == "other"
        assert until(lambda: [s for s in pipeline.snapshot().segments if s.shown_s > 0.5])
        pipeline.switch_checkpoint(None)
        assert until(lambda: pipeline.snapshot().checkpoint == "" and not pipeline.snapshot().decisions)
        kept = [(segment.label, segment.open) for segment in pipeline.snapshot().segments]
        assert ("left", False) in kept, "what was under way has ended, and stays on the timeline"


def test_a_source_that_breaks_leaves_room_for_another(tiny_checkpoint: Path, trace: Path) -> None:
    broken = ListSource([np.zeros((48, 64, 3), np.uint8)] * 3 + [RuntimeError("a driver's fault")])
    with LivePipeline(broken, checkpoint=tiny_checkpoint, detector=ScriptedDetector) as pipeline:
        assert pipeline.wait(LiveState.FAILED, timeout=5)
        assert "can't be read on: RuntimeError: a driver's fault" in pipeline.snapshot().message
        pipeline.switch_source(str(trace))
        assert pipeline.wait(LiveState.RUNNING, timeout=5)
        assert broken.closed


def test_the_end_waits_for_a_slow_pose_stage(tiny_checkpoint: Path) -> None:
    slow, source = ScriptedDetector(delay=1.2), ListSource([np.zeros((48, 64, 3), np.uint8)] * 3)
    with LivePipeline(source, checkpoint=tiny_checkpoint, detector=lambda: slow) as pipeline:
        assert pipeline.wait(LiveState.ENDED, timeout=15)
        assert pipeline.counts["pose_frames"] == 3


def test_own_thresholds_act_at_once_and_can_be_given_back(tiny_checkpoint: Path, socket: CameraSocket) -> None:
    with LivePipeline("0", checkpoint=tiny_checkpoint, detector=ScriptedDetector) as pipeline:

        def label() -> str | None:
            found = pipeline.snapshot().decisions.get(1)
            return found.label if found is not None else None

        assert until(lambda: label() == "left")
        pipeline.set_decision(min_motion=1000.0)
        assert until(lambda: label() is None)
        pipeline.set_decision()
        assert until(lambda: label() == "left")
        with pytest.raises(ValueError, match="enter"):
            pipeline.set_decision(enter=1.5)
        with pytest.raises(ValueError, match="leave"):
            pipeline.set_decision(enter=0.5, leave=-1.0)


def test_damaged_checkpoint_at_the_start_still_shows_skeletons(trace: Path, tmp_path: Path) -> None:
    with LivePipeline(str(trace), checkpoint=tmp_path / "gone") as pipeline:
        assert until(lambda: (p := pipeline.snapshot().pose) is not None and p.persons)
        assert "gone is not a checkpoint folder" in texts(pipeline)
        assert pipeline.wait(LiveState.RUNNING, timeout=2)


def test_missing_pose_bundle_fails_with_a_message(tiny_checkpoint: Path, tmp_path: Path, grey_video: Path) -> None:
    options = PoseOptions(bundle=tmp_path / "gone.task")
    with LivePipeline(str(grey_video), checkpoint=tiny_checkpoint, pose=options) as pipeline:
        assert pipeline.wait(LiveState.FAILED, timeout=10)
        assert "gone.task" in pipeline.snapshot().message


def test_two_persons_are_labelled_apart(tiny_checkpoint: Path, socket: CameraSocket) -> None:
    with LivePipeline("0", checkpoint=tiny_checkpoint, detector=lambda: ScriptedDetector(persons=2)) as pipeline:

        def both() -> bool:
            found = {d.label for d in pipeline.snapshot().decisions.values()}
            return found == {"left", "right"}

        assert until(both, 10)


def test_nobody_in_the_picture_is_no_failure(tiny_checkpoint: Path) -> None:
    source = ListSource([np.zeros((48, 64, 3), np.uint8)] * 40)
    empty = ScriptedDetector(persons=0)
    with LivePipeline(source, checkpoint=tiny_checkpoint, detector=lambda: empty) as pipeline:
        assert pipeline.wait(LiveState.ENDED, timeout=8)
        snapshot = pipeline.snapshot()
        assert snapshot.decisions == {} and snapshot.segments == () and pipeline.counts["pose_frames"] == 40
    assert source.closed


def test_recording_survives_the_end_and_stop(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    pipeline = LivePipeline(str(trace), checkpoint=tiny_checkpoint)
    pipeline.start()
    assert until(lambda: pipeline.snapshot().decisions)
    pipeline.start_recording(tmp_path / "r")
    assert pipeline.snapshot().recording
    assert until(lambda: any(s.label == "left" for s in pipeline.snapshot().segments))
    time.sleep(0.8)
    pipeline.stop()
    assert not pipeline.snapshot().recording
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert {"video.mp4", "landmarks.jsonl", "results.jsonl", "segments.csv", "segments.vtt"} <= names
    assert '"label": "left"' in (tmp_path / "r" / "results.jsonl").read_text()
    assert ",left," in (tmp_path / "r" / "segments.csv").read_text()


def test_recording_goes_on_across_sources(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    other = write_trace(tmp_path / "other.npz", 1.0, [(0, "none")])
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint) as pipeline:
        assert until(lambda: pipeline.snapshot().decisions)
        pipeline.start_recording(tmp_path / "r")
        assert until(lambda: [s for s in pipeline.snapshot().segments if s.shown_s > 0.5])
        pipeline.switch_source(str(other))
        assert pipeline.wait(LiveState.ENDED, timeout=8)
        assert pipeline.snapshot().recording
        pipeline.stop_recording()
    times = read_trace(tmp_path / "r" / "landmarks.jsonl").times
    gaps = np.diff(times)
    place = int(gaps.argmax())
    assert gaps[place] == pytest.approx(JUMP_S, abs=0.2) and (np.delete(gaps, place) < 0.5).all()
    assert place > 15 and len(times) - place > 15, "of both sources"
    # The arm still moved when the source was changed: that is kept, too.
    assert ",left," in (tmp_path / "r" / "segments.csv").read_text()


def test_a_recording_that_can_not_be_written_ends_at_once(
    tiny_checkpoint: Path, socket: CameraSocket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: VideoWriter, image: np.ndarray, time: float) -> None:
        raise RecordingError("no space left on device")

    monkeypatch.setattr(VideoWriter, "write", full)
    with LivePipeline("0", checkpoint=tiny_checkpoint, detector=ScriptedDetector) as pipeline:
        assert until(lambda: pipeline.snapshot().decisions)
        pipeline.start_recording(tmp_path / "r")
        assert until(lambda: not pipeline.snapshot().recording)
        assert until(lambda: "error: recording stopped: no space left" in texts(pipeline))
        assert pipeline.state is LiveState.RUNNING and pipeline.stop_recording() is None


def test_a_bug_in_a_stage_is_seen(tiny_checkpoint: Path, socket: CameraSocket) -> None:
    class Broken(ScriptedDetector):
        def detect(self, image: np.ndarray, time: float) -> tuple:
            raise ZeroDivisionError("oops")

    with LivePipeline("0", checkpoint=tiny_checkpoint, detector=Broken) as pipeline:
        assert pipeline.wait(LiveState.FAILED, timeout=5)
        assert "ZeroDivisionError: oops" in pipeline.snapshot().message


def test_mailbox_keeps_the_newest_and_counts() -> None:
    box: Mailbox[int] = Mailbox()
    for i in range(5):
        box.put(i)
    assert (box.take(0), box.dropped, box.serial) == (4, 4, 5)
    assert box.take(timeout=0.01) is None
    box.put(7)
    assert not box.put(8, wait=True, timeout=0.02)
    threading.Timer(0.05, box.take).start()
    assert box.put(9, wait=True, timeout=2.0) and box.dropped == 4
    box.close()
    assert box.take() == 9 and box.take() is None and not box.put(1)


def test_stage_clock_percentiles_and_rate() -> None:
    clock = StageClock(seconds=60)
    assert clock.stage("pose") is None and clock.rate("pose") == 0.0
    for i in range(101):
        clock.add("pose", float(i))
    found = clock.stages()["pose"]
    assert (found.p50, found.p95) == (50.0, 95.0)
