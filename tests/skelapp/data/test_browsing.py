"""Browsing a store: search, filters, sorting, playing with mouse and keyboard, skeleton and actor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QImage

from engine.data.store import SequenceStore, write_store
from engine.render.motions import motion
from engine.skeleton.sequence import SkeletonSequence
from skelapp.data.browser import Browser
from skelapp.main_window import MainWindow

pytestmark = pytest.mark.gui


@pytest.fixture
def browsing(qtbot, open_data, prepared: Path):
    """The page *Sequences* of the hand-made NW-UCLA."""

    def make(name: str = "nw_ucla") -> tuple[MainWindow, Browser]:
        window, content = open_data()
        assert content.select(name)
        content.show_page("sequences")
        browser = content.browser
        qtbot.waitUntil(lambda: browser.player._sequence is not None, timeout=20000)
        return window, browser

    return make


def shown(browser: Browser, column: int = 1) -> list[str]:
    model = browser.table_model
    return [model.index(row, column).data() for row in range(model.rowCount())]


def test_every_sequence_is_listed_and_the_first_is_shown(browsing, prepared: Path) -> None:
    _, browser = browsing()
    store = SequenceStore(prepared)
    assert shown(browser) == store.names and browser.count.text() == "120 sequences"
    assert browser.player.label.text() == "Pick up with one hand"
    assert store.names[0] in browser.player.facts.text() and "xview train" in browser.player.parts.text()
    assert np.array_equal(browser.player._sequence.xyz, store.sequence(0).xyz)


def test_search_and_filters_narrow_the_list(qtbot, browsing) -> None:
    _, browser = browsing()
    qtbot.keyClicks(browser.search, "throw v03")
    qtbot.waitUntil(lambda: browser.table_model.rowCount() == 4, timeout=5000)
    assert set(shown(browser, 0)) == {"Throw"} and all(name.endswith("v03") for name in shown(browser))
    browser.copy.click()
    qtbot.waitUntil(lambda: "v03" in QGuiApplication.clipboard().text(), timeout=5000)
    copied = QGuiApplication.clipboard().text().splitlines()
    assert copied[0].startswith("Action,Name,Frames") and [line.split(",")[1] for line in copied[1:]] == shown(browser)
    assert browser.count.text() == "4 of 120 sequences"
    browser.person.setCurrentIndex(browser.person.findData(2))
    qtbot.waitUntil(lambda: browser.table_model.rowCount() == 2, timeout=5000)
    browser.part.setCurrentIndex(browser.part.findText("xview: train"))
    qtbot.waitUntil(lambda: browser.table_model.rowCount() == 0, timeout=5000)
    assert "Nothing fits" in browser.count.text()
    browser.search.clear()
    browser.person.setCurrentIndex(0)
    browser.label.setCurrentIndex(browser.label.findText("Carry"))
    qtbot.waitUntil(lambda: browser.table_model.rowCount() == 8, timeout=5000)
    assert set(shown(browser, 0)) == {"Carry"}


def test_clicking_a_head_sorts(qtbot, browsing) -> None:
    _, browser = browsing()
    names = shown(browser)
    browser.table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    qtbot.waitUntil(lambda: shown(browser) == sorted(names, reverse=True), timeout=5000)


def test_the_keyboard_plays_steps_and_changes_the_sequence(qtbot, browsing) -> None:
    window, browser = browsing()
    player, table = browser.player, browser.table
    assert table.hasFocus()
    paused = window.session.snapshot().state
    qtbot.keyClick(table, Qt.Key.Key_Space)
    assert player.playing
    qtbot.waitUntil(lambda: player.frame > 0, timeout=5000)
    qtbot.keyClick(table, Qt.Key.Key_Space)
    assert not player.playing and window.session.snapshot().state == paused, "the live view keeps its own Space"
    player.slider.setValue(2)
    qtbot.keyClick(table, Qt.Key.Key_Right)
    qtbot.keyClick(table, Qt.Key.Key_Right)
    assert player.frame == 4 and player.clock.text().startswith("5 / 8")
    qtbot.keyClick(table, Qt.Key.Key_Left)
    assert player.frame == 3
    qtbot.keyClick(table, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert player.frame == 7, "ten frames on, but not beyond the last"
    before = player.facts.text()
    qtbot.keyClick(table, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: player.facts.text() != before, timeout=5000)
    assert player.frame == 0


def test_it_plays_in_real_time_and_loops_or_stops(qtbot, browsing, monkeypatch) -> None:
    _, browser = browsing()
    player = browser.player
    now = [100.0]
    monkeypatch.setattr("skelapp.data.player.time.perf_counter", lambda: now[0])
    player.start()
    player.timer.setInterval(10_000_000)
    for seconds, frame in ((0.05, 1), (0.06, 3), (0.1, 6), (0.05, 7), (0.05, 1)):
        now[0] += seconds
        player._tick()
        # 30 frames a second, eight of them, then from the beginning.
        assert player.frame == frame
    player.loop.setChecked(False)
    now[0] += 0.24
    player._tick()
    assert not player.playing and player.frame == 7
    player.speed.setCurrentIndex(player.speed.findData(0.5))
    player.start()
    assert player.frame == 7
    player.timer.setInterval(10_000_000)
    now[0] += 0.2
    player._tick()
    assert player.frame == 3, "from the beginning, at half the speed"
    player.pause()


def test_the_actor_plays_beside_the_skeleton_off_the_windows_thread(qtbot, browsing) -> None:
    _, browser = browsing()
    player = browser.player
    qtbot.waitUntil(lambda: len(player.frames) == 8, timeout=20000)
    image = player.actor._image
    assert image is not None and (image.width(), image.height()) == (480, 360)
    pictures = {i: player.frames.picture(i) for i in range(8)}
    assert all(isinstance(picture, QImage) for picture in pictures.values()) and pictures[0] != pictures[5]
    player.slider.setValue(5)
    assert player.actor._image is pictures[5]
    player.show_actor.setChecked(False)
    assert not player.actor.isVisible() and not player.frames.active
    browser.table.selectRow(3)
    qtbot.wait(200)
    assert len(player.frames) == 0, "nothing is rendered for a view that nobody sees"


def test_leaving_the_panel_pauses(qtbot, browsing) -> None:
    window, browser = browsing()
    browser.player.start()
    assert browser.player.playing
    window.show_panel("settings")
    assert not browser.player.playing and not browser.player.frames.active


def test_dragging_turns_the_skeleton(qtbot, browsing) -> None:
    _, browser = browsing()
    view = browser.player.skeleton
    before = (view.orbit.yaw, view.orbit.pitch, view.grab().toImage())
    centre = view.rect().center()
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=centre)
    qtbot.mouseMove(view, centre + view.rect().center() / 3)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton)
    assert (view.orbit.yaw, view.orbit.pitch) != before[:2] and view.grab().toImage() != before[2]


def test_two_persons_an_empty_frame_and_other_joints(qtbot, home: Path, browsing) -> None:
    wave = motion("wave", 1.0, fps=12.0).xyz
    two = np.concatenate([wave, wave + np.array([0.9, 0, 0.3], np.float32)], 1)
    two[4] = 0
    coco = np.random.default_rng(0).normal(0, 0.4, (12, 1, 17, 3))
    for name, xyz, layout in (("duet", two, "ntu25"), ("flat", coco, "coco17")):
        made = [SkeletonSequence(xyz, np.arange(len(xyz)) / 12, layout, name="one", label=0)]
        write_store(home / "stores" / name, name, made, ("both_wave",), 12.0)
    window, browser = browsing("duet")
    assert "2 persons" in browser.player.facts.text() and browser.player.label.text() == "Both wave"
    assert not browser.person.isEnabled()
    browser.player.slider.setValue(4)
    browser.player.skeleton.grab()
    content = window.data.content
    assert content is not None
    content.select("flat")
    qtbot.waitUntil(lambda: browser.player.actor.message != "", timeout=20000)
    assert "no way from coco17" in browser.player.actor.message
    browser.player.skeleton.grab()


def test_a_page_looked_at_again_keeps_search_and_sequence(qtbot, browsing) -> None:
    window, browser = browsing()
    browser.search.setText("carry")
    qtbot.waitUntil(lambda: browser.table_model.rowCount() == 12, timeout=5000)
    browser.table.selectRow(5)
    name = shown(browser)[5]
    qtbot.waitUntil(lambda: name in browser.player.facts.text(), timeout=5000)
    window.show_panel("settings")
    window.show_panel("data")
    content = window.data.content
    assert content is not None
    content.opener.again()
    content.show_page("sequences")
    qtbot.waitUntil(lambda: content._browsed is content.opener.store is not None, timeout=5000)
    qtbot.waitUntil(lambda: browser.table_model.rowCount() == 12, timeout=5000)
    assert browser.search.text() == "carry" and name in browser.player.facts.text()
    assert browser.table.currentIndex().row() == 5


def test_the_filters_are_those_of_a_store_that_was_made_again(qtbot, home: Path, browsing) -> None:
    wave = motion("wave", 1.0, fps=12.0).xyz

    def write(classes: tuple[str, ...]) -> None:
        made = [
            SkeletonSequence(wave, np.arange(len(wave)) / 12, name=name, label=classes.index(name))
            for name in classes
        ]  # fmt: skip
        write_store(home / "stores" / "mine", "mine", made, classes, 12.0)

    write(("stir", "wave"))
    window, browser = browsing("mine")
    browser.label.setCurrentIndex(browser.label.findText("Wave"))
    qtbot.waitUntil(lambda: shown(browser) == ["wave"], timeout=5000)
    write(("wave", "clap", "stir"))
    window.data.content.catalogue.refresh()
    qtbot.waitUntil(lambda: browser.label.count() == 4, timeout=10000)
    assert browser.label.currentText() == "Wave"
    qtbot.waitUntil(lambda: shown(browser) == ["wave"], timeout=5000)
    browser.label.setCurrentIndex(browser.label.findText("Clap"))
    qtbot.waitUntil(lambda: shown(browser) == ["clap"], timeout=5000)


def test_a_sequence_chosen_while_the_store_is_looked_at_again_breaks_nothing(qtbot, browsing) -> None:
    window, browser = browsing()
    qtbot.keyClick(browser.table, Qt.Key.Key_Down)
    browser.set_store(None)
    qtbot.waitUntil(lambda: not window.data.content._worker.busy, timeout=5000)
    assert browser.count.text() == ""
