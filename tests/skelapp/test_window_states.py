"""Every state of the window has its sentence and the one action that helps; keys, drops and panels do what they say."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QAbstractButton, QApplication, QLineEdit, QMenu

from engine.live.types import LiveState
from skelapp import theme
from skelapp.heartbeat import Heartbeat
from skelapp.main_window import PANELS
from skelapp.settings import SettingsStore
from skelapp.workers import Worker
from tests.skelapp import staged

pytestmark = pytest.mark.gui


def test_empty_says_what_to_do(qtbot, open_window) -> None:
    window = open_window()
    qtbot.waitUntil(lambda: window.live.source_menu.cameras is not None)
    overlay = window.live.overlay
    assert overlay.isVisible() and overlay.notice.title == "Nothing to watch yet"
    assert overlay.action_button.text() == "Choose a source"
    qtbot.mouseClick(overlay.action_button, Qt.MouseButton.LeftButton)
    assert window.live.source_menu.isVisible()
    window.live.source_menu.close()


@pytest.mark.parametrize(
    ("state", "title", "action"),
    [
        (LiveState.STARTING, "Starting…", ""),
        (LiveState.PAUSED, "Paused", "Continue"),
        (LiveState.LOST, "The camera is gone", "Choose a source"),
        (LiveState.ENDED, "The end", "Replay"),
        (LiveState.FAILED, "This source can't be watched", "Choose another source"),
        (LiveState.STOPPING, "Stopping…", ""),
    ],
)
def test_states_have_a_sentence_and_an_action(open_window, stage, state: LiveState, title: str, action: str) -> None:
    window = open_window()
    stage(window, staged.in_state(state, "it went wrong"))
    overlay = window.live.overlay
    assert overlay.isVisible() and overlay.notice.title == title
    assert overlay.action_button.isVisible() is bool(action)
    assert overlay.action_button.text() == action
    if state is LiveState.FAILED:
        assert overlay.notice.sentence == "it went wrong"
        window.live.say("error", "it went wrong", "")
        window.live.tick()
        assert overlay.notice.sentence == "", "the banner says it already"


def test_nothing_of_another_source_is_shown_when_one_failed(open_window, stage) -> None:
    window = open_window()
    stage(window, staged.running())
    assert window.live.cards[0].label == "wave" and window.live.video._snapshot.frame is not None
    stage(window, staged.in_state(LiveState.FAILED))
    assert window.live.video._snapshot.frame is None and window.live.timeline.segments == ()
    assert window.live.cards[0].label is None
    stage(window, staged.in_state(LiveState.LOST))
    assert window.live.video._snapshot.frame is not None, "the last picture stays while the camera is away"
    assert window.live.cards[0].label is None


def test_running_shows_no_overlay_but_numbers(open_window, stage) -> None:
    window = open_window()
    stage(window, staged.running())
    assert not window.live.overlay.isVisible()
    assert window.live.top.fps.text() == "28 fps"
    assert window.live.top.runtime.text() == "ONNX CPU"
    assert window.live.stages.latency.text() == "label after 41 ms"
    assert window.live.stages.window_s.text() == "model looks at 2.1 s"
    assert window.live.cards[0].label == "wave" and not window.live.cards[1].isVisible()


def test_two_persons_have_two_cards_and_the_second_lingers(open_window, stage) -> None:
    window = open_window()
    stage(window, staged.running(2))
    assert [card.label for card in window.live.cards] == ["wave", "swipe_right"]
    stage(window, staged.running(1))
    assert window.live.cards[1].isVisible(), "a card must not vanish at once"
    window.live._seen[2] = time.perf_counter() - 10
    window.live.tick()
    assert not window.live.cards[1].isVisible()


def test_nobody_and_nothing_are_a_calm_dash(open_window, stage) -> None:
    window = open_window()
    card = window.live.cards[0]
    stage(window, staged.nobody())
    assert card.label is None and card.hint == "Step into the picture"
    stage(window, staged.nothing_recognised())
    assert card.label is None and card.hint == "Nothing recognised"
    stage(window, replace(staged.running(), decisions={}))
    assert card.hint == "Watching…"


def test_recording_shows_its_time(open_window, stage) -> None:
    window = open_window()
    stage(window, staged.running())
    assert window.live.top.record.text().strip() == "Record"
    window.session.recording_since = time.monotonic() - 75
    stage(window, staged.running())
    assert window.live.top.record.text().strip() == "1:15"
    assert window.live.top.record.property("recording") is True
    window.session.recording_since = None


def test_mirror_is_for_cameras_only_and_remembered(qtbot, open_window, stage, settings: SettingsStore) -> None:
    window = open_window()
    stage(window, staged.running(), "clip.mp4")
    assert not window.live.video.mirror and not window.live.top.mirror.isEnabled()
    stage(window, staged.running(), "0")
    assert window.live.video.mirror
    qtbot.mouseClick(window.live.top.mirror, Qt.MouseButton.LeftButton)
    assert not window.live.video.mirror
    assert SettingsStore().values.camera.mirror is False


def test_keys_switch_panels_and_views(qtbot, open_window) -> None:
    window = open_window()
    window.activateWindow()
    for number, spec in enumerate(PANELS, start=1):
        qtbot.keyClick(window, Qt.Key(Qt.Key.Key_0 + number))
        assert window.stack.currentWidget() is window.panels[spec.key]
        assert window.rail[spec.key].isChecked()
    qtbot.keyClick(window, Qt.Key.Key_1)
    for view in ("skeleton", "space", "picture"):
        qtbot.keyClick(window, Qt.Key.Key_V)
        assert window.live.video.view == view and window.live.top.views[view].isChecked()
    qtbot.keyClick(window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    assert window.stack.currentWidget() is window.panels["settings"]


def test_f1_lists_every_key(qtbot, open_window) -> None:
    window = open_window()
    qtbot.keyClick(window, Qt.Key.Key_F1)
    assert window.key_page.isVisible()
    from PySide6.QtWidgets import QLabel

    said = " ".join(label.text() for label in window.key_page.findChildren(QLabel))
    assert all(key.words in said for key in window.keys)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not window.key_page.isVisible()


def test_letters_typed_into_a_field_are_no_shortcuts(qtbot, open_window) -> None:
    window = open_window()
    window.show_panel("models")
    window.models.filter.setFocus()
    qtbot.keyClicks(window.models.filter, "mars 1")
    assert window.models.filter.text() == "mars 1"
    assert window.stack.currentWidget() is window.models


def test_space_presses_the_button_the_keyboard_is_on(qtbot, open_window, stage) -> None:
    window = open_window()
    window.activateWindow()
    stage(window, staged.running())
    asked: list[str] = []
    window.session.toggle_pause = lambda: asked.append("pause")  # type: ignore[method-assign]
    window.live.top.views["space"].setFocus()
    qtbot.keyClick(window, Qt.Key.Key_Space)
    assert window.live.video.view == "space" and asked == []


def test_all_inputs_have_names(open_window) -> None:
    window = open_window()
    for widget in window.findChildren(QAbstractButton) + window.findChildren(QLineEdit):
        if widget.objectName().startswith("qt_"):
            continue  # Qt's own parts of a spin box or a clear button
        named = widget.accessibleName() or (isinstance(widget, QAbstractButton) and widget.text())
        assert named or isinstance(widget.parent(), QLineEdit), widget


def drop(window, mime: QMimeData) -> None:
    how = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPoint(50, 50), *how)
    QApplication.sendEvent(window, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(window, QDropEvent(QPointF(50, 50), *how))


def test_a_dropped_checkpoint_opens_models(qtbot, open_window, checkpoints) -> None:
    window = open_window()
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(checkpoints[0]))])
    drop(window, mime)
    assert window.stack.currentWidget() is window.models
    assert window.models.selected().folder == checkpoints[0]
    assert str(checkpoints[0]) in window.settings.values.memory.extra_models


def test_a_damaged_checkpoint_is_told_in_models(open_window, tmp_path: Path) -> None:
    window = open_window()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "card.json").write_text("{")
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(broken))])
    drop(window, mime)
    assert window.models.banner.isVisible() and window.models.banner.kind == "error"
    assert "damaged" in window.models.banner.text
    assert window.settings.values.memory.extra_models == []


def test_models_table_sorts_filters_and_copies(qtbot, open_window, checkpoints) -> None:
    window = open_window()
    for folder in checkpoints:
        assert window.models.add_folder(folder)
    models = window.models
    assert [models.proxy.entry(r).title for r in range(models.proxy.rowCount())] == ["first", "second"]
    models.table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert models.proxy.entry(0).title == "second"
    models.filter.setText("first")
    assert models.proxy.rowCount() == 1
    models.copy_csv()
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0].startswith("Name,Accuracy") and lines[1].startswith("first,–") and len(lines) == 2
    models.select(checkpoints[0])
    assert "first" in models.page.toPlainText() and "window" not in models.page.toPlainText().lower().split("first")[0]


def test_settings_act_at_once_and_are_undone(qtbot, open_window, settings: SettingsStore) -> None:
    window = open_window()
    window.show_panel("settings")
    panel = window.panels["settings"]
    box = panel.editors["appearance.theme"].widget
    box.setCurrentIndex(box.findData("light"))
    assert theme.current() is theme.LIGHT and SettingsStore().values.appearance.theme == "light"
    assert panel.undo.isEnabled()
    qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert theme.current() is not theme.LIGHT or theme.resolve("system") is theme.LIGHT
    assert box.currentData() == "system" and not panel.undo.isEnabled()


def test_threshold_fields_wait_for_own_thresholds(qtbot, open_window) -> None:
    window = open_window()
    window.show_panel("settings")
    panel = window.panels["settings"]
    enter = panel.editors["recognition.enter"].widget
    assert not enter.isEnabled()
    panel.editors["recognition.own_thresholds"].widget.setChecked(True)
    assert enter.isEnabled()
    enter.setValue(0.3)
    assert panel.editors["recognition.leave"].widget.value() == pytest.approx(0.3)


def test_the_window_opens_where_the_remembered_video_and_checkpoint_cannot_be_reached(
    open_window, settings: SettingsStore, tmp_path: Path, monkeypatch
) -> None:
    lost, real = tmp_path / "lost", os.stat
    settings.set("memory.source", str(lost / "clip.mp4"))
    settings.set("memory.checkpoint", str(lost / "mine"))

    def stat(path, **options):
        if str(path).startswith(str(lost)):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    window = open_window()
    assert window.isVisible() and window.session.source != str(lost / "clip.mp4")


def test_a_damaged_settings_file_is_told(open_window, settings: SettingsStore) -> None:
    settings.path.parent.mkdir(parents=True, exist_ok=True)
    settings.path.write_text("{")
    window = open_window(SettingsStore())
    window.show_panel("settings")
    assert "damaged" in window.panels["settings"].banner.text


def test_live_can_be_torn_off_and_brought_back(qtbot, open_window, stage) -> None:
    window = open_window()
    stage(window, staged.running())
    window.tear_off("live")
    assert window.live.window() is not window and window.live.isVisible()
    assert window.stack.currentWidget() is not window.live
    window.live.window().close()
    assert window.live.window() is window and window.stack.currentWidget() is window.live and window.live.isVisible()


@pytest.mark.parametrize("key", [spec.key for spec in PANELS])
def test_every_panel_has_a_window_of_its_own_by_key_and_from_the_rail(qtbot, open_window, key: str) -> None:
    window = open_window()
    window.show_panel(key)
    panel = window.panels[key]
    qtbot.keyClick(window, Qt.Key.Key_W)
    torn = panel.window()
    assert torn is not window and panel.isVisible()
    torn.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is torn)
    window.settings.set("memory.panel", "live")
    qtbot.keyClick(torn, Qt.Key.Key_W)
    assert panel.window() is window
    for words in ("Show in a window of its own", "Bring it back"):
        window.rail[key].customContextMenuRequested.emit(QPoint(5, 5))
        menu = QApplication.activePopupWidget()
        assert isinstance(menu, QMenu)
        (action,) = menu.actions()
        assert action.text() == words
        action.trigger()
        menu.close()
        assert (panel.window() is window) == (words == "Bring it back")


def test_escape_in_a_torn_off_panel_is_meant_for_it(qtbot, open_window, monkeypatch) -> None:
    window = open_window()
    window.show_panel("models")
    window.tear_off("models")
    window.show_panel("live")
    asked: list[str] = []
    monkeypatch.setattr(window.models, "escape", lambda: asked.append("models") or True)
    torn = window.models.window()
    torn.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is torn)
    qtbot.keyClick(torn, Qt.Key.Key_Escape)
    assert asked == ["models"]
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert asked == ["models"]


def test_geometry_and_panel_are_remembered(qtbot, open_window) -> None:
    first = open_window()
    first.show_panel("models")
    first.resize(950, 650)  # the offscreen screen is 800 px high
    first.close()
    again = open_window(SettingsStore())
    assert again.stack.currentWidget() is again.models
    assert again.height() == 650


def test_an_address_is_asked_without_a_dialog(qtbot, open_window) -> None:
    window = open_window()
    asked: list[str] = []
    window.session.open_source = lambda spec, remember=True: asked.append(spec)  # type: ignore[method-assign]
    window.live.source_menu.address_wanted.emit()
    bar = window.live.address
    assert bar.isVisible()
    qtbot.keyClicks(bar.edit, "rtsp://camera/1")
    qtbot.keyClick(bar.edit, Qt.Key.Key_Return)
    assert asked == ["rtsp://camera/1"] and not bar.isVisible()


def test_the_first_camera_found_is_used_and_asked_for_off_the_window(qtbot, open_window) -> None:
    import threading

    asked: list[str] = []
    threads: list[str] = []

    def cameras() -> list[tuple[str, str]]:
        threads.append(threading.current_thread().name)
        time.sleep(0.2)
        return [("2", "Desk camera")]

    began = time.perf_counter()
    from skelapp.live.session import LiveSession

    class Watching(LiveSession):
        def open_source(self, spec: str, remember: bool = True) -> None:
            asked.append(spec)
            self.source = spec

    store = SettingsStore()
    window = open_window(store, session=Watching(store), cameras=cameras)
    assert time.perf_counter() - began < 5
    qtbot.waitUntil(lambda: asked == ["2"])
    assert threads == ["background"]
    window.live.source_menu.refresh()
    assert "Desk camera" in [action.text() for action in window.live.source_menu.actions()]


def test_heartbeat_sees_a_blocked_event_loop(qtbot) -> None:
    heart = Heartbeat()
    heart.start()
    qtbot.wait(100)
    quiet = heart.beats
    time.sleep(0.12)
    qtbot.wait(30)
    heart.stop()
    assert quiet > 3
    assert 100 <= heart.longest_ms < 1000 and any(late >= 100 for _, late in heart.gaps)


def test_a_worker_delivers_on_the_windows_thread_and_ends(qtbot) -> None:
    import threading

    worker = Worker("test")
    seen: list[object] = []
    worker.run(lambda: threading.current_thread().name, lambda name: seen.extend([name, threading.current_thread()]))
    worker.run(lambda: 1 / 0, None, lambda error, details: seen.extend([type(error), "ZeroDivisionError" in details]))
    assert worker.busy
    qtbot.waitUntil(lambda: len(seen) == 4)
    assert seen == ["test", threading.main_thread(), ZeroDivisionError, True]
    assert worker.close() and not worker.busy
    worker.run(lambda: seen.append("late"))
    assert len(seen) == 4


def test_the_binding_keeps_references(qapp) -> None:
    """PySide6 6.12.0 gives away one reference to None per call under Python 3.11, until the interpreter dies."""
    import sys

    point = QPoint()
    before = sys.getrefcount(None)
    for _ in range(300):
        point.setX(1)
    assert sys.getrefcount(None) - before > -100
    assert os.environ["QT_QPA_PLATFORM"]
