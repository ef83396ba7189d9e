"""Real trainings of seconds from the panel: watched, stopped, found again, resumed, cancelled, killed, crashed."""

import contextlib
import json
import shutil
import time
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import Qt

from engine.training.run_folder import RunFolder
from skelapp.training.runs import child_process
from tests.skelapp.training.helpers import SMALL, opened, tiny_store

pytestmark = [pytest.mark.gui, pytest.mark.slow]
LONG = SMALL | {"epochs": 100_000, "evaluate_every": 100_000}


@pytest.fixture(autouse=True)
def no_child_left():
    """Whatever a test does, its trainings end with it."""
    yield
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() == psutil.STATUS_ZOMBIE or "main.py" in " ".join(child.cmdline()):
                child.kill()
                child.wait(10)


def row(page, name):
    return next((row for row in page.table_model.rows if row.name == name), None)


def wait_for(qtbot, page, name, *states, timeout=60_000):
    qtbot.waitUntil(lambda: row(page, name) is not None and row(page, name).state in states, timeout=timeout)
    return row(page, name)


def start(qtbot, page, recipe, name):
    """Start a recipe through the form and its button."""
    assert page.recipe.open_data(recipe | {"name": name})
    qtbot.waitUntil(page.recipe.start.isEnabled)
    qtbot.mouseClick(page.recipe.start, Qt.MouseButton.LeftButton)


def show(qtbot, page, name):
    page.select(page.root / name)
    qtbot.waitUntil(lambda: page.run_page.row is not None and page.run_page.row.name == name)


def points(page):
    return len(page.run_page.series.get("loss", ()))


def test_watched_closed_found_again_stopped_and_resumed(qtbot, open_window, home, settings):
    store = tiny_store(home)
    settings.set("training.threads", 1)
    window, page = opened(qtbot, open_window)
    start(qtbot, page, LONG, "small")
    wait_for(qtbot, page, "small", "starting", "running")
    process = child_process(page.root / "small")
    assert process is not None and process.nice() >= min(19, psutil.Process().nice() + 1)
    group = Path(f"/proc/{process.pid}/autogroup")
    if group.is_file() and group.read_text():
        assert group.read_text().split()[-1] == "10", "its session gives way too"
    wait_for(qtbot, page, "small", "running")
    qtbot.waitUntil(lambda: points(page) > 2, timeout=20_000)
    # The data are taken away in mid-run: it goes on with what it has opened.
    store.replace(store.with_name("aside"))
    before = points(page)
    qtbot.waitUntil(lambda: points(page) > before + 2, timeout=20_000)
    assert window.rail["training"].text() == "Training (1)" and page.recipe.start.text() == "Add to the queue"
    assert not page.run_page.remove.isEnabled() and not page.run_page.resume.isVisible()

    assert window.close() and window.closed_clean
    assert process.is_running(), "the run goes on without the window"
    window, page = opened(qtbot, open_window)
    wait_for(qtbot, page, "small", "running")
    qtbot.waitUntil(lambda: points(page) > before, timeout=20_000)
    qtbot.mouseClick(page.run_page.stop, Qt.MouseButton.LeftButton)
    stopped = wait_for(qtbot, page, "small", "stopped")
    assert stopped.epoch > 0 and "Resume goes on exactly there" in page.run_page.sentence.text()

    store.with_name("aside").replace(store)
    before = points(page)
    qtbot.mouseClick(page.run_page.resume, Qt.MouseButton.LeftButton)
    wait_for(qtbot, page, "small", "running")
    qtbot.waitUntil(lambda: points(page) > before, timeout=30_000)
    begun = [event["epoch"] for event in RunFolder(page.root / "small").events() if event["event"] == "run"]
    assert begun[0] == 0 and stopped.epoch - 1 <= begun[1] <= stopped.epoch
    x = page.run_page.series["loss"].x
    assert (x[1:] >= x[:-1]).all() and "goes on in epoch" in page.run_page.log.toPlainText()
    qtbot.mouseClick(page.run_page.cancel, Qt.MouseButton.LeftButton)
    wait_for(qtbot, page, "small", "cancelled", timeout=20_000)


def test_a_queue_of_two_one_dies_and_one_is_cancelled(qtbot, open_window, home, settings):
    tiny_store(home)
    settings.set("training.priority", "normal")
    _, page = opened(qtbot, open_window)
    start(qtbot, page, LONG, "first")
    qtbot.waitUntil(lambda: row(page, "first") is not None)
    start(qtbot, page, LONG, "second")
    wait_for(qtbot, page, "first", "running")
    assert wait_for(qtbot, page, "second", "queued").state == "queued"
    show(qtbot, page, "first")
    qtbot.waitUntil(lambda: points(page) > 0, timeout=30_000)
    with (page.root / "first" / "output.log").open("a") as out:
        out.write("the last thing it said\n")
    child_process(page.root / "first").kill()
    died = wait_for(qtbot, page, "first", "interrupted")
    assert died.said.endswith("the last thing it said")
    show(qtbot, page, "first")
    qtbot.waitUntil(page.run_page.trouble.isVisible)
    assert "died without a word" in page.run_page.trouble.text and "last thing" in page.run_page.trouble.details
    assert page.run_page.resume.isVisible()

    # Cancelled before it has said anything: no torch need be waited for.
    wait_for(qtbot, page, "second", "starting", "running")
    show(qtbot, page, "second")
    began = time.monotonic()
    qtbot.mouseClick(page.run_page.cancel, Qt.MouseButton.LeftButton)
    wait_for(qtbot, page, "second", "cancelled", timeout=20_000)
    assert time.monotonic() - began < 20 and child_process(page.root / "second") is None
    assert not RunFolder(page.root / "second").running()


def test_a_run_that_can_not_begin_says_why(qtbot, open_window, home, settings):
    store = tiny_store(home)
    settings.set("training.priority", "normal")
    window, page = opened(qtbot, open_window)
    page.hold.setChecked(True)
    start(qtbot, page, SMALL, "small")
    wait_for(qtbot, page, "small", "queued")
    shutil.rmtree(store)
    page.hold.setChecked(False)
    failed = wait_for(qtbot, page, "small", "failed")
    assert "no prepared store" in failed.reason
    qtbot.waitUntil(page.run_page.trouble.isVisible)
    assert "no prepared store" in page.run_page.trouble.text
    qtbot.waitUntil(lambda: "no prepared store" in page.run_page.output.toPlainText())
    # What was wrong is put right; the same entry is started again, and fails no more.
    tiny_store(home)
    qtbot.mouseClick(page.run_page.resume, Qt.MouseButton.LeftButton)
    finished = wait_for(qtbot, page, "small", "finished")
    assert finished.epoch == 2 and finished.accuracy is not None and page.run_page.trouble.isHidden()
    qtbot.waitUntil(page.run_page.models.isVisible)
    qtbot.waitUntil(lambda: any(entry.folder.parent.name == "small" for entry in window.library.entries))
    assert json.loads((page.root / "small" / "results.json").read_text())["results"][0]["count"] == 16
