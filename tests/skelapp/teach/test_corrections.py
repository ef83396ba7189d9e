"""“Not right?”: corrections while live become examples; the recorder keeps takes of who stands before the camera."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt

from engine.live.types import LiveState
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore
from skelapp.teach.hands_free import Step
from tests.skelapp import staged
from tests.skelapp.teach.handling import WAIT, content_of, settle, take

pytestmark = pytest.mark.gui


def test_what_was_corrected_is_offered_once(qtbot, watched: MainWindow) -> None:
    control, banner = watched.live.corrections[0], watched.live.info
    control.fill()
    control.corrections.actions()[0].trigger()
    settle(qtbot, watched)
    assert banner.isVisible() and banner.text == "Noted: that was not “wave”."
    watched.show_panel("teach")
    qtbot.keyClick(watched, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, watched)
    watched.show_panel("live")
    assert not banner.isVisible(), "it is taken back already"


def test_corrections_become_examples_and_can_be_taken_back(qtbot, watched: MainWindow) -> None:
    window, desk = watched, watched.desk
    control = window.live.corrections[0]
    assert control.isVisible() and control.text() == "Not right?" and window.live.cards[0].foot > 0
    desk.add_action("salute")
    settle(qtbot, window)
    qtbot.keyClick(window, Qt.Key.Key_X)
    assert control.corrections.isVisible()
    words = [action.text() for action in control.corrections.actions() if action.text()]
    assert words == ["That was not “Wave”", "That was “Salute”", "That was a new action…"]
    # It is about the open segment "wave", from 20 s on, which the snapshot still shows at 24 s.
    start, end = window.asked[-1]
    assert start == pytest.approx(19.6) and end == pytest.approx(24.0)
    control.corrections.actions()[0].trigger()
    control.corrections.close()
    settle(qtbot, window)
    wrong = desk.view.action("wave").takes
    assert [view.negative for view in wrong] == [True] and desk.view.action("wave").words() == "1 counter-example"
    assert window.live.info.text == "Noted: that was not “wave”."
    window.live.info.actions_shown[0].click()
    settle(qtbot, window)
    assert desk.view.names == ["salute"]
    control.fill()
    control.corrections.actions()[2].trigger()
    settle(qtbot, window)
    assert desk.view.action("salute").words().startswith("1 take") and not desk.view.action("salute").takes[0].negative
    control.fill()
    control.corrections.actions()[3].trigger()
    assert window.stack.currentWidget() is window.teach
    bar = content_of(window).name_bar
    qtbot.waitUntil(bar.isVisible, timeout=WAIT)
    bar.edit.setText("greet")
    qtbot.keyClick(bar.edit, Qt.Key.Key_Return)
    settle(qtbot, window)
    assert len(desk.view.action("greet").takes) == 1


def test_a_correction_that_was_cancelled_is_in_no_action(qtbot, watched: MainWindow) -> None:
    window, desk, control = watched, watched.desk, watched.live.corrections[0]
    desk.add_action("bow")
    settle(qtbot, window)

    def correct() -> None:
        window.show_panel("live")
        control.fill()
        control.corrections.actions()[-1].trigger()
        qtbot.waitUntil(content.name_bar.isVisible, timeout=WAIT)

    content = content_of(window)
    correct()
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not content.name_bar.isVisible()
    qtbot.keyClicks(content.side.new, "salute")
    qtbot.keyClick(content.side.new, Qt.Key.Key_Return)
    settle(qtbot, window)
    assert desk.view.names == ["bow", "salute"] and desk.view.takes == 0
    # Asked for another name, the bar has let go of it as well.
    correct()
    content.pack_menu.ask_rename()
    content.name_bar.edit.setText("Kitchen")
    qtbot.keyClick(content.name_bar.edit, Qt.Key.Key_Return)
    desk.add_action("nod")
    settle(qtbot, window)
    assert desk.view.name == "Kitchen" and desk.view.takes == 0
    # Named as an action that is there it is one more take of that; taken back, the action stays.
    correct()
    content.name_bar.edit.setText("nod")
    qtbot.keyClick(content.name_bar.edit, Qt.Key.Key_Return)
    settle(qtbot, window)
    assert len(desk.view.action("nod").takes) == desk.view.takes == 1
    desk.take_back()
    settle(qtbot, window)
    assert desk.view.names == ["bow", "salute", "nod"] and desk.view.takes == 0


def test_the_recorder_says_what_it_waits_for(qtbot, watched: MainWindow, stage, monkeypatch) -> None:
    window = watched
    window.desk.add_action("salute")
    settle(qtbot, window)
    window.show_panel("teach")
    content, recorder = content_of(window), content_of(window).recorder
    motion_now: list[float | None] = [0.0]
    monkeypatch.setattr(window.session, "motion", lambda: motion_now[0])

    def at(seconds: float, moves: float | None, **changes: object) -> None:
        motion_now[0] = moves
        shot = staged.running(seconds=seconds)
        stage(window, replace(shot, **changes))
        recorder.tick()

    at(10.0, 0.0)
    recorder.options.takes.setCurrentIndex(recorder.options.takes.findData(3))
    assert recorder.record.text() == "Record 3 takes" and SettingsStore().values.memory.teach_takes == 3
    qtbot.keyClick(window, Qt.Key.Key_R)
    assert (
        recorder.machine.running
        and recorder.record.text().startswith("Cancel")
        and not recorder.options.takes.isEnabled()
    )
    assert recorder.countdown.large == "3"
    at(10.2, None)
    assert recorder.countdown.small == "Step into the picture" and "Nobody is in view" in recorder.status.text()
    for step in range(40):
        at(10.4 + step / 10, 0.0)
    assert recorder.machine.step is Step.READY and recorder.countdown.large == "Now!"
    for step in range(15):
        at(15.0 + step / 10, 1.0)
    assert recorder.countdown.recording and 0.2 < recorder.countdown.share < 1
    for step in range(12):
        at(16.5 + step / 10, 0.0)
    assert recorder.machine.finished == 1 and recorder.progress.done == 1
    settle(qtbot, window)
    assert window.desk.view.takes == 1
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not recorder.machine.running and recorder.machine.step is Step.DONE
    at(19.0, 0.0)
    assert recorder.status.text().startswith("1 take recorded") and window.desk.view.takes == 1
    at(19.2, 0.0, state=LiveState.LOST)
    assert recorder.overlay.notice.title == "The camera is gone"
    content.list.select("salute")
    # A session ends with the panel, and with the source.
    at(19.5, 0.0)
    recorder.toggle()
    assert recorder.machine.running
    at(20.0, 0.0, state=LiveState.FAILED)
    assert not recorder.machine.running


def test_a_take_that_could_not_be_kept_is_not_counted_and_is_asked_for_again(
    qtbot, watched: MainWindow, stage, monkeypatch
) -> None:
    window = watched
    window.desk.add_action("salute")
    settle(qtbot, window)
    window.show_panel("teach")
    recorder = content_of(window).recorder
    motion_now, seen = [0.0], [None, take()]
    monkeypatch.setattr(window.session, "motion", lambda: motion_now[0])
    monkeypatch.setattr(window.session, "poses", lambda who, start, end: seen.pop(0))

    def during(start: float, seconds: float, moves: float) -> None:
        motion_now[0] = moves
        for step in range(round(10 * seconds)):
            stage(window, staged.running(seconds=start + step / 10))
            recorder.tick()

    during(10.0, 0.1, 0.0)
    recorder.options.takes.setCurrentIndex(recorder.options.takes.findData(1))
    recorder.toggle()
    during(10.1, 4.0, 0.0)
    during(14.1, 1.5, 1.0)
    during(15.6, 1.2, 0.0)
    assert recorder.machine.running and recorder.machine.finished == recorder.progress.done == 0
    assert recorder.status.text().startswith("That take could not be kept")
    during(16.8, 2.0, 0.0)
    assert recorder.status.text().startswith("Perform")
    during(18.8, 1.5, 1.0)
    during(20.3, 1.2, 0.0)
    assert recorder.machine.step is Step.DONE and recorder.status.text().startswith("1 take recorded")
    settle(qtbot, window)
    assert window.desk.view.takes == 1 and not seen
