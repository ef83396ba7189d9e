"""Packs as a whole in the window: shared, loaded, renamed, deleted and brought back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PySide6.QtCore import Qt

from skelapp.dropped import looks_like_pack
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore
from tests.skelapp.teach.handling import WAIT, drop, settle, take, taught

pytestmark = pytest.mark.gui


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
