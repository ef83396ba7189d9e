"""The Teach panel without a camera: actions and takes, encoders, fine-tuning, and what it says in every state."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PySide6.QtCore import Qt

from engine.models.card import read_card
from engine.teach.known import KNOWN_FILE, save_known, statistics
from engine.teach.pack import ClassPack
from engine.training.recipe import Recipe
from engine.training.run_folder import EventLog, RunFolder
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore
from tests.engine.live.helpers import write_trace
from tests.skelapp.teach.handling import WAIT, content_of, drop, settle, take, taught

pytestmark = pytest.mark.gui


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
