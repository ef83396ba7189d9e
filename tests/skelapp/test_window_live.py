"""The real window on the real pipeline: MediaPipe sees a rendered person, ONNX Runtime names what the hands do."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt

from engine.live.errors import RecordingError
from engine.live.types import LiveState
from engine.live.video_writer import VideoWriter
from skelapp.heartbeat import Heartbeat
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore

pytestmark = [pytest.mark.gui, pytest.mark.slow]
WAIT = 25_000  # ms; generous, because the machine may be busy


@pytest.fixture
def watching(qtbot, open_window, clips, checkpoints) -> MainWindow:
    """A window that watches the waving clip with the first checkpoint and has seen a person."""
    window = open_window(source=str(clips[0]), checkpoint=checkpoints[0])
    qtbot.waitUntil(lambda: _persons(window) > 0, timeout=WAIT)
    return window


def _persons(window: MainWindow) -> int:
    pose = window.session.snapshot().pose
    return len(pose.persons) if pose is not None else 0


def _state(window: MainWindow) -> LiveState:
    return window.session.snapshot().state


def test_a_person_is_seen_and_named(qtbot, watching: MainWindow) -> None:
    qtbot.waitUntil(lambda: bool(watching.session.snapshot().decisions) or _ended(watching), timeout=WAIT)
    qtbot.waitUntil(lambda: watching.live.cards[0].bars != {} or _ended(watching), timeout=WAIT)
    if not watching.live.cards[0].bars:  # a busy machine may reach the end first: once more
        watching.session.toggle_pause()
        qtbot.waitUntil(lambda: watching.live.cards[0].bars != {}, timeout=WAIT)
    assert set(watching.live.cards[0].bars) == {"idle", "left", "right"}
    assert watching.live.top.source.choice == "wave.mp4"
    snapshot = watching.session.snapshot()
    assert snapshot.checkpoint == "first" and snapshot.window_s == 1.5
    assert snapshot.pose is not None and snapshot.pose.size == (320, 240)
    qtbot.waitUntil(lambda: "–" not in watching.live.stages.stages.text(), timeout=WAIT)


def _ended(window: MainWindow) -> bool:
    return _state(window) is LiveState.ENDED


def test_pause_holds_and_goes_on(qtbot, watching: MainWindow) -> None:
    qtbot.keyClick(watching, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: _state(watching) is LiveState.PAUSED, timeout=WAIT)
    qtbot.wait(300)
    held = watching.session.snapshot().time
    qtbot.wait(400)
    assert watching.session.snapshot().time == held
    assert watching.live.overlay.notice.title == "Paused"
    qtbot.mouseClick(watching.live.overlay.action_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: watching.session.snapshot().time > held, timeout=WAIT)


def test_the_end_offers_a_replay(qtbot, watching: MainWindow) -> None:
    qtbot.waitUntil(lambda: _ended(watching), timeout=WAIT)
    qtbot.waitUntil(lambda: watching.live.overlay.isVisible())
    assert watching.live.overlay.notice.label == "Replay"
    assert watching.live.timeline.seekable
    qtbot.mouseClick(watching.live.overlay.action_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: _state(watching) is LiveState.RUNNING, timeout=WAIT)
    qtbot.waitUntil(lambda: watching.session.snapshot().time < 3.0, timeout=WAIT)


def test_a_click_on_the_timeline_goes_there(qtbot, watching: MainWindow) -> None:
    qtbot.waitUntil(lambda: _ended(watching), timeout=WAIT)
    watching.live._slow_at = 0.0
    watching.live.tick()
    line = watching.live.timeline
    where = line.rect().center()
    where.setX(round(line.x_of(2.0)))
    qtbot.mouseClick(line, Qt.MouseButton.LeftButton, pos=where)
    qtbot.waitUntil(lambda: 1.5 < watching.session.snapshot().time < 4.5, timeout=WAIT)


def test_source_and_checkpoint_are_switched_while_running(qtbot, watching: MainWindow, clips, checkpoints) -> None:
    watching.open_path(clips[1])
    assert watching.live.top.source.choice == "clap.mp4"
    qtbot.waitUntil(lambda: watching.session.snapshot().duration == pytest.approx(3.0, abs=0.2), timeout=WAIT)
    watching.open_path(checkpoints[1])
    watching.models.use_selected()
    qtbot.waitUntil(lambda: watching.session.snapshot().checkpoint == "second", timeout=WAIT)
    assert watching.session.snapshot().window_s == 1.0
    assert watching.live.top.model.choice == "second"
    kept = SettingsStore().values.memory
    assert kept.source == str(clips[1]) and kept.checkpoint == str(checkpoints[1])
    assert kept.recent[:2] == [str(clips[1]), str(clips[0])]


def test_what_was_watched_is_watched_again(qtbot, open_window, clips, checkpoints) -> None:
    store = SettingsStore()
    store.set("memory.source", str(clips[1]))
    store.set("memory.checkpoint", str(checkpoints[0]))
    window = open_window(SettingsStore())
    qtbot.waitUntil(lambda: window.session.snapshot().frame is not None, timeout=WAIT)
    assert window.session.source == str(clips[1])
    qtbot.waitUntil(lambda: window.session.snapshot().checkpoint == "first", timeout=WAIT)


def test_recording_holds_video_landmarks_and_results(qtbot, watching: MainWindow) -> None:
    qtbot.keyClick(watching, Qt.Key.Key_R)
    qtbot.waitUntil(lambda: watching.session.snapshot().recording, timeout=WAIT)
    qtbot.wait(800)
    watching.session.seek(0.5)
    qtbot.wait(1200)
    with qtbot.waitSignal(watching.session.recording_finished, timeout=WAIT) as done:
        qtbot.keyClick(watching, Qt.Key.Key_R)
    folder: Path = done.args[0]
    assert folder.parent == watching.settings.recordings()
    names = {f.name for f in folder.iterdir() if f.stat().st_size > 0}
    assert any(name.endswith(".mp4") for name in names) and any("landmarks" in n or "trace" in n for n in names), names
    assert watching.live.info.isVisible() and str(folder) in watching.live.info.text
    # What was recorded can be watched: as a video and as a trace.
    watching.live.watch(str(folder))
    qtbot.waitUntil(lambda: _persons(watching) > 0 and _state(watching) is not LiveState.FAILED, timeout=WAIT)


def test_a_full_disk_ends_the_recording_on_the_screen(qtbot, watching: MainWindow, monkeypatch) -> None:
    def full(self: VideoWriter, image: np.ndarray, time: float) -> None:
        raise RecordingError("no space left on device")

    monkeypatch.setattr(VideoWriter, "write", full)
    watching.session.seek(0.0)
    qtbot.keyClick(watching, Qt.Key.Key_R)
    assert watching.session.recording_since is not None
    qtbot.waitUntil(lambda: watching.live.error.isVisible(), timeout=WAIT)
    assert "no space left" in watching.live.error.text
    qtbot.waitUntil(lambda: watching.session.recording_since is None, timeout=WAIT)
    monkeypatch.undo()
    watching.session.seek(0.0)
    qtbot.keyClick(watching, Qt.Key.Key_R)
    qtbot.waitUntil(lambda: watching.session.snapshot().recording, timeout=WAIT)
    qtbot.wait(500)
    assert watching.session.recording_since is not None


@pytest.mark.parametrize("kind", ["missing", "empty", "text"])
def test_a_bad_file_is_a_banner_and_the_next_source_works(qtbot, watching: MainWindow, clips, tmp_path, kind) -> None:
    bad = tmp_path / "bad.mp4"
    if kind != "missing":
        bad.write_bytes(b"" if kind == "empty" else b"this is no video" * 100)
    watching.live.watch(str(bad))
    qtbot.waitUntil(lambda: watching.live.error.isVisible(), timeout=WAIT)
    assert "bad.mp4" in watching.live.error.text
    qtbot.waitUntil(lambda: watching.live.overlay.notice is not None, timeout=WAIT)
    assert watching.live.overlay.notice.label == "Choose another source"
    watching.live.watch(str(clips[1]))
    assert not watching.live.error.isVisible()
    qtbot.waitUntil(lambda: _state(watching) in (LiveState.RUNNING, LiveState.ENDED), timeout=WAIT)


def test_a_damaged_checkpoint_leaves_the_old_one(qtbot, watching: MainWindow, checkpoints, tmp_path) -> None:
    qtbot.waitUntil(lambda: watching.session.snapshot().checkpoint == "first", timeout=WAIT)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "card.json").write_bytes((checkpoints[1] / "card.json").read_bytes())
    (broken / "model.onnx").write_bytes(b"not a graph")
    watching.session.use_checkpoint(broken)
    qtbot.waitUntil(lambda: watching.live.error.isVisible(), timeout=WAIT)
    qtbot.waitUntil(lambda: watching.session.checkpoint == checkpoints[0], timeout=WAIT)
    assert watching.session.snapshot().checkpoint == "first"
    assert SettingsStore().values.memory.checkpoint == str(checkpoints[0])


def test_own_thresholds_reach_the_decision(qtbot, watching: MainWindow) -> None:
    qtbot.waitUntil(lambda: watching.session.snapshot().checkpoint == "first", timeout=WAIT)
    pipeline = watching.session._pipeline
    watching.settings.set("recognition.own_thresholds", True)
    watching.settings.set("recognition.enter", 0.93)
    qtbot.waitUntil(lambda: pipeline._stage.decider.decision.enter == 0.93, timeout=WAIT)
    watching.settings.set("recognition.own_thresholds", False)
    qtbot.waitUntil(lambda: pipeline._stage.decider.decision.enter == 0.6, timeout=WAIT)


def test_without_a_camera_the_demo_clip_plays_and_says_so(qtbot, open_window, clips, checkpoints, monkeypatch) -> None:
    from engine import paths
    from engine.live import sources

    monkeypatch.setattr(paths, "DEMO_CLIP", clips[1])
    monkeypatch.setattr(sources, "DEMO_CLIP", clips[1])
    window = open_window(checkpoint=checkpoints[0])
    qtbot.waitUntil(lambda: window.session.snapshot().frame is not None, timeout=WAIT)
    assert window.live.top.source.choice == "Demo clip"
    assert window.live.info.isVisible() and "No camera" in window.live.info.text
    assert window.live.info.actions_shown[0].text() == "Choose a source"
    assert SettingsStore().values.memory.source == "", "what was not chosen is not remembered"


def test_closing_ends_everything_within_two_seconds(qtbot, watching: MainWindow) -> None:
    import threading

    began = time.perf_counter()
    watching.close()
    assert time.perf_counter() - began < 2.5
    assert watching.closed_clean
    assert not [t.name for t in threading.enumerate() if t.name.startswith("live-")]


def test_the_event_loop_beats_while_the_pipeline_works(qtbot, watching: MainWindow) -> None:
    """Not a timing test: the loop must go on at all while pose, encoder and a checkpoint swap run."""
    heart = Heartbeat(parent=watching)
    heart.start()
    watching.session.seek(0.0)
    qtbot.wait(1500)
    heart.stop()
    assert heart.beats > 20 and heart.longest_ms < 1000
