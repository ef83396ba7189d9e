"""The Teach panel without a camera: packs, takes, corrections, sharing, and what it says in every state."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication

from engine.live.types import LiveState
from engine.models.card import read_card
from engine.render.motions import motion
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.known import KNOWN_FILE, save_known, statistics
from engine.teach.pack import ClassPack
from engine.training.recipe import Recipe
from engine.training.run_folder import EventLog, RunFolder
from skelapp.dropped import looks_like_pack
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore
from skelapp.teach.content import TeachContent
from skelapp.teach.hands_free import Step
from tests.engine.live.helpers import write_trace
from tests.skelapp import staged

pytestmark = pytest.mark.gui
WAIT = 60_000  # ms; the machine may be busy


def take(name: str = "wave", seconds: float = 2.0) -> SkeletonSequence:
    return motion(name, seconds, fps=15.0)


@pytest.fixture
def window(qtbot, open_window) -> MainWindow:
    """A window on the Teach panel, without a source and without an encoder."""
    window = open_window()
    window.show_panel("teach")
    qtbot.waitUntil(lambda: window.teach.content is not None, timeout=WAIT)
    return window


def content_of(window: MainWindow) -> TeachContent:
    assert window.teach.content is not None
    return window.teach.content


def settle(qtbot, window: MainWindow) -> None:
    qtbot.waitUntil(lambda: not window.desk.busy, timeout=WAIT)


def taught(qtbot, window: MainWindow, **actions: int) -> TeachContent:
    """A pack with so many takes of each action."""
    for name, count in actions.items():
        window.desk.add_action(name)
        for number in range(count):
            window.desk.add_take(name, take(seconds=1.5 + 0.2 * number))
    settle(qtbot, window)
    return content_of(window)


def test_nothing_yet_is_one_sentence_and_one_act(qtbot, window: MainWindow) -> None:
    content = content_of(window)
    assert content.middle.currentIndex() == 0 and not content.side.isVisible()
    assert content.welcome.first.hasFocus() and not content.welcome.act.isEnabled()
    assert not content.recorder.record.isEnabled() and not content.check.isEnabled() and not content.tune.isEnabled()
    assert content.recorder.overlay.notice.title == "Nothing to watch yet"
    assert content.pack.choice == "No pack yet"
    qtbot.keyClicks(content.welcome.first, " call  the waiter ")
    qtbot.mouseClick(content.welcome.act, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: content.list.current() == "call the waiter", timeout=WAIT)
    assert content.middle.currentIndex() == 1 and content.takes.stack.currentIndex() == 1
    assert "No takes yet" in content.takes._empty.text()
    assert content.pack.choice == "My actions" and not content.recorder.record.isEnabled(), "nothing to watch"
    # Taking it back leads to the beginning.
    qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: content.middle.currentIndex() == 0, timeout=WAIT)


def test_takes_and_actions_are_changed_and_everything_is_undone(qtbot, window: MainWindow) -> None:
    content = taught(qtbot, window, salute=2, nod=1)
    desk, strip = window.desk, content.takes.strip
    content.list.select("salute")
    assert len(strip.takes.takes) == 2 and content.takes.named.text() == "Take 2 of 2"
    qtbot.waitUntil(lambda: len(content.takes.trim._curve) > 0, timeout=WAIT)
    bar, path = content.takes.trim, strip.current().path
    before = (strip.current().start, strip.current().end)
    bar.move_handle(0, 0.5)
    bar.trimmed.emit(bar.start, bar.end)
    settle(qtbot, window)
    assert strip.current().path == path and strip.current().start == pytest.approx(0.5)
    assert ClassPack.open(desk.view.folder).takes("salute")[1].start == pytest.approx(0.5), "on disk too"
    content.takes._fill_moves()
    assert [a.text() for a in content.takes.move_menu.actions()] == ["nod"]
    content.takes.move_menu.actions()[0].trigger()
    settle(qtbot, window)
    assert [len(a.takes) for a in desk.view.actions] == [1, 2]
    assert desk.view.action("nod").takes[1].start == pytest.approx(0.5), "it keeps its trim"
    content.list.select("nod")
    strip.select(0)
    qtbot.keyClick(strip, Qt.Key.Key_Delete)
    settle(qtbot, window)
    assert len(desk.view.action("nod").takes) == 1 and content.banner.text == "1 take deleted."
    content.banner.actions_shown[0].click()
    settle(qtbot, window)
    assert len(desk.view.action("nod").takes) == 2
    for _ in range(2):
        qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        settle(qtbot, window)
    assert [len(a.takes) for a in desk.view.actions] == [2, 1]
    back = desk.view.action("salute").takes
    assert (back[1].start, back[1].end) == pytest.approx(before, abs=1e-6)
    # Actions: a taken name is refused, another one is taken.
    content.list.select("salute")
    content.side.model.setData(content.list.currentIndex(), "nod")
    settle(qtbot, window)
    assert content.banner.kind == "error" and "nod" in content.banner.text
    content.side.model.setData(content.list.currentIndex(), "greet")
    settle(qtbot, window)
    assert window.desk.view.names == ["greet", "nod"] and content.list.current() == "greet"
    qtbot.keyClick(content.list, Qt.Key.Key_Delete)
    settle(qtbot, window)
    assert window.desk.view.names == ["nod"]
    qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, window)
    assert window.desk.view.names == ["greet", "nod"] and window.desk.view.takes == 3


def test_undo_after_typing_a_name_that_is_there_leaves_that_action_alone(qtbot, window: MainWindow) -> None:
    content = taught(qtbot, window, salute=2)
    qtbot.keyClicks(content.side.new, "salute")
    qtbot.keyClick(content.side.new, Qt.Key.Key_Return)
    settle(qtbot, window)
    assert window.desk.view.names == ["salute"] and window.desk.view.takes == 2
    qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(qtbot, window)
    assert window.desk.view.names == ["salute"] and window.desk.view.takes == 1, "her last take, not the action"


def test_a_button_that_offers_to_undo_goes_when_it_would_undo_something_else(qtbot, window: MainWindow) -> None:
    content = taught(qtbot, window, salute=2)
    desk = window.desk

    def delete() -> None:
        desk.remove_takes([desk.view.action("salute").takes[0].path])
        settle(qtbot, window)
        assert content.banner.isVisible() and content.banner.actions_shown[0].text() == "Undo"

    delete()
    taught(qtbot, window, salute=1)
    assert not content.banner.isVisible()
    # Her next words are not about it.
    delete()
    content.say("info", "Saved.")
    taught(qtbot, window, salute=1)
    assert content.banner.isVisible() and content.banner.text == "Saved."
    # Another pack has no such take.
    delete()
    desk.create("Kitchen")
    settle(qtbot, window)
    assert desk.view.name == "Kitchen" and not content.banner.isVisible()


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


def drop(window: MainWindow, path: Path, on=None) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    how = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(on or window, QDragEnterEvent(QPoint(50, 50), *how))
    QApplication.sendEvent(on or window, QDropEvent(QPointF(50, 50), *how))


def test_packs_are_shared_loaded_renamed_deleted_and_brought_back(qtbot, window: MainWindow, tmp_path: Path) -> None:
    content = taught(qtbot, window, salute=2)
    desk, out = window.desk, tmp_path / "for_you.zip"
    desk.save_zip(out)
    settle(qtbot, window)
    assert looks_like_pack(out) and not looks_like_pack(tmp_path) and content.banner.text == f"Saved to {out}."
    first = desk.view.folder
    window.show_panel("live")
    drop(window, out)
    assert window.stack.currentWidget() is window.teach
    qtbot.waitUntil(lambda: desk.view.folder != first, timeout=WAIT)
    assert desk.view.folder.name == "for-you" and desk.view.takes == 2
    content.pack_menu.ask_rename()
    assert content.name_bar.edit.text() == "My actions" and content.name_bar.edit.hasFocus()
    content.name_bar.edit.setText("Kitchen")
    qtbot.keyClick(content.name_bar.edit, Qt.Key.Key_Return)
    settle(qtbot, window)
    assert content.pack.choice == "Kitchen"
    content.pack_menu.refresh()
    settle(qtbot, window)
    assert [name for name, _ in content.pack_menu.packs] == ["Kitchen", "My actions"]
    desk.delete()
    settle(qtbot, window)
    assert desk.view is None and content.middle.currentIndex() == 0 and content.banner.actions_shown[0].text() == "Undo"
    content.banner.actions_shown[0].click()
    qtbot.waitUntil(lambda: desk.view is not None, timeout=WAIT)
    assert desk.view.name == "Kitchen" and SettingsStore().values.memory.teach_pack == str(desk.view.folder)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(out.read_bytes()[:300])
    desk.load_zip(bad)
    settle(qtbot, window)
    assert content.banner.kind == "error" and "bad.zip" in content.banner.text and desk.view.name == "Kitchen"
    desk.export(tmp_path / "takes.pkl")
    settle(qtbot, window)
    assert (tmp_path / "takes.pkl").stat().st_size > 1000


def test_a_pack_deleted_while_something_goes_on_is_brought_back(qtbot, window: MainWindow, tmp_path: Path) -> None:
    taught(qtbot, window, salute=2)
    desk, folder = window.desk, window.desk.view.folder
    go_on = threading.Event()
    desk.worker.run(lambda: go_on.wait(60))  # as when it is learned
    desk.delete()
    # A take is finished, other files were read, and it is checked, while the deletion waits.
    desk.add_take("salute", take())
    desk.reload()
    desk.session.checkpoint = tmp_path
    desk.check(asked=False)
    desk.session.checkpoint = None
    go_on.set()
    settle(qtbot, window)
    assert desk.view is None and not folder.exists()
    assert desk.take_back()
    qtbot.waitUntil(lambda: desk.view is not None, timeout=WAIT)
    assert desk.view.folder == folder and desk.view.takes == 2


def test_a_pack_that_can_not_be_deleted_goes_on_as_it_was(qtbot, window: MainWindow, home: Path) -> None:
    content = taught(qtbot, window, salute=1)
    desk = window.desk
    desk.create("Kitchen")
    taught(qtbot, window, nod=1)
    (home / "packs" / ".removed").write_text("in the way")
    desk.delete()
    settle(qtbot, window)
    assert content.banner.kind == "error" and content.banner.text.startswith("Kitchen can't be deleted: ")
    taught(qtbot, window, nod=1)
    assert desk.view.name == "Kitchen" and desk.view.takes == 2 and not desk.learning_now


@pytest.fixture
def encoders(checkpoints, tmp_path: Path) -> tuple[Path, Path]:
    """Two encoders of one's own with what teaching needs to know of their classes: which hand moves how much."""
    rng = np.random.default_rng(0)
    made = []
    for source in checkpoints:
        folder = Path(shutil.copytree(source, tmp_path / source.name))
        labels = np.repeat(np.arange(3), 30)
        features = np.abs(rng.normal(0, 0.002, (90, 25))).astype(np.float32)
        features[labels == 1, 7] += 0.03
        features[labels == 2, 11] += 0.03
        save_known(statistics(read_card(folder).classes, features, labels), folder)
        made.append(folder)
    return made[0], made[1]


def test_takes_are_live_at_once_and_learned_anew_for_another_encoder(qtbot, open_window, encoders, tmp_path) -> None:
    kick = write_trace(tmp_path / "left.npz", 60.0, [(0.0, "left")])
    window = open_window(source=str(kick), checkpoint=encoders[0])
    window.show_panel("teach")
    session = window.session
    qtbot.waitUntil(lambda: window.teach.content is not None and bool(session.snapshot().decisions), timeout=WAIT)
    content = content_of(window)
    for name in ("bow", "squat"):
        window.desk.add_action(name)
        for seconds in (2.0, 2.4, 2.8):
            window.desk.add_take(name, take(name, seconds))
    qtbot.waitUntil(lambda: session.snapshot().taught == ("bow", "squat"), timeout=WAIT)
    settle(qtbot, window)
    assert all(action.live for action in window.desk.view.actions)
    assert content.status.text() == "2 actions live  ·  first"
    content.run_check()
    qtbot.waitUntil(content.side.alike_box.isVisible, timeout=WAIT)
    assert "takes" in content.side.alike.text() and any(c.isdigit() for c in content.side.alike.text())
    # Another encoder: said, and learned anew by itself.
    session.use_checkpoint(encoders[1])
    assert window.desk.taught is None and "Learning 6 takes for second" in content.status.text()
    qtbot.waitUntil(lambda: session.snapshot().checkpoint == "second", timeout=WAIT)
    qtbot.waitUntil(lambda: session.snapshot().taught == ("bow", "squat"), timeout=WAIT)
    assert content.status.text() == "2 actions live  ·  second  ·  taught with first before, learned anew"
    # What was taught is there again the next time, before anybody looks at the panel.
    window.show_panel("live")
    window.close()
    again = open_window(SettingsStore(), checkpoint=encoders[1])
    qtbot.waitUntil(lambda: again.session.snapshot().taught == ("bow", "squat"), timeout=WAIT)
    assert again.teach.content is None


def test_actions_of_a_pack_that_can_not_be_written_are_live_with_another_encoder(qtbot, open_window, encoders) -> None:
    window = open_window(checkpoint=encoders[0])
    window.show_panel("teach")
    qtbot.waitUntil(lambda: window.teach.content is not None, timeout=WAIT)
    desk = window.desk
    taught(qtbot, window, salute=2)
    assert desk.view.action("salute").live
    (desk.view.folder / "pack.json.tmp").mkdir()  # as on a full disk: nothing can be saved
    window.session.use_checkpoint(encoders[1])
    settle(qtbot, window)
    assert desk.problem == "" and desk.view.action("salute").live and desk.taught.checkpoint == "second"


def test_an_encoder_that_can_not_be_taught_is_told_in_words(qtbot, open_window, checkpoints) -> None:
    window = open_window(checkpoint=checkpoints[0])
    window.show_panel("teach")
    qtbot.waitUntil(lambda: window.teach.content is not None, timeout=WAIT)
    content = taught(qtbot, window, salute=1)
    assert content.banner.kind == "error" and "teach known" in content.banner.text
    assert content.status.text() == "Not recognised live." and not window.desk.view.actions[0].live


@pytest.fixture
def watched(window: MainWindow, stage, monkeypatch) -> MainWindow:
    """A window that seems to see a person who was just said to wave."""
    window.session.checkpoint = Path("some")
    monkeypatch.setattr(window.session, "motion", lambda: 0.0)
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(window.session, "poses", lambda who, start, end: asked.append((start, end)) or take())
    monkeypatch.setattr(window.desk, "learn", lambda: None)
    window.asked = asked
    window.show_panel("live")
    stage(window, staged.running())
    return window


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


@pytest.mark.slow
def test_dropped_files_become_takes_in_a_child_process(qtbot, window: MainWindow, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(2):
        write_trace(folder / f"{number}.npz", 3.0, [(0.0, "none"), (1.0, "left"), (2.0, "none")])
    content = content_of(window)
    drop(window, folder, on=content)
    assert "Name the action first" in content.banner.text
    taught(qtbot, window, salute=0)
    working: list[int] = []
    content.working_changed.connect(working.append)
    drop(window, folder, on=content)
    assert content.work.files.busy and working == [1] and window.rail["teach"].text() == "Teach (1)"
    qtbot.waitUntil(lambda: not content.work.files.busy, timeout=2 * WAIT)
    settle(qtbot, window)
    assert working[-1] == 0 and content.banner.text == "Takes of salute: 2 added."
    takes = window.desk.view.action("salute").takes
    assert len(takes) == 2 and all(0.8 < view.seconds < 1.8 for view in takes), "trimmed to the movement"


def test_fine_tuning_is_one_click_and_is_used_when_wanted(qtbot, window: MainWindow, checkpoints, monkeypatch) -> None:
    content = taught(qtbot, window, salute=1)
    ran = []
    monkeypatch.setattr(content.work.tuning, "run", lambda title, command, ended: ran.append((command, ended)))
    window.session.checkpoint = checkpoints[0]
    qtbot.mouseClick(content.tune, Qt.MouseButton.LeftButton)
    ((command, ended),) = ran
    assert command[:3] == ["teach", "train", str(window.desk.view.folder)] and "my-actions_tuned" in command

    ended(SimpleNamespace(state="done", output="no card", result=lambda: json.loads("no card")))
    assert content.banner.kind == "error" and content.banner.text == "Fine-tuning: the answer can't be read."
    ended(SimpleNamespace(state="cancelled"))
    assert content.banner.text == "Fine-tuning: stopped. What was finished is kept."
    results = [{"name": "takes", "top1": 0.9, "count": 10}]
    content.work.tuned({"folder": str(checkpoints[1]), "title": "Mine", "name": "mine", "results": results})
    assert content.banner.text == "Fine-tuned: Mine. Takes: 90% of 10 right"
    assert window.session.checkpoint == checkpoints[0], "not before the user says so"
    content.banner.actions_shown[0].click()
    assert window.session.checkpoint == checkpoints[1]


def test_fine_tuning_the_encoder_goes_on_where_it_was_stopped(
    qtbot, window: MainWindow, checkpoints, home: Path, monkeypatch
) -> None:
    content = taught(qtbot, window, salute=1)
    ran: list[list[str]] = []
    monkeypatch.setattr(content.work.tuning, "run", lambda title, command, ended: ran.append(command))
    window.session.checkpoint = checkpoints[0]

    def name() -> str:
        content.work.tune("encoder")
        return ran[-1][ran[-1].index("--name") + 1]

    assert name() == "my-actions_encoder"
    run = RunFolder(home / "runs" / "my-actions_encoder")
    spec, parent = read_card(checkpoints[0]).preprocessing, str(checkpoints[0])
    run.begin(Recipe(name="x", dataset="x", split="takes", backbone="ctrgcn", preprocessing=spec, start_from=parent))
    log = EventLog(run.events_file)
    log.write("run", epoch=0, epochs=4)
    log.write("stopped", reason="asked")
    log.close()
    assert name() == "my-actions_encoder"
    window.session.checkpoint = checkpoints[1]
    assert name() == "my-actions_encoder_2", "another encoder"
    window.session.checkpoint = checkpoints[0]
    taught(qtbot, window, salute=1)
    assert name() == "my-actions_encoder_2", "another take"
    run.begin(run.recipe())
    assert name() == "my-actions_encoder"
    run.checkpoint.mkdir()
    (run.checkpoint / KNOWN_FILE).touch()
    assert name() == "my-actions_encoder_2", "it has ended"
