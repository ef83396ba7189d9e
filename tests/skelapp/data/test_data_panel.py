"""The Data panel driven through its widgets: states, preparing, stopping, removing, importing, and what goes wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QAbstractButton, QLabel, QLineEdit

from engine.cli import entry
from engine.data.prepare import prepare_dataset
from engine.data.sets import DATASETS
from engine.data.store import SequenceStore
from engine.training.run_folder import RunFolder
from skelapp.data.jobs import Job
from skelapp.dropped import looks_like_dataset
from skelapp.heartbeat import Heartbeat
from tests.engine.data.synthetic import ntu_files, nw_ucla_names, write_pku, write_zip
from tests.shared_data import shared

pytestmark = pytest.mark.gui
CHILD_MS = 60000


def click(qtbot, button: QAbstractButton) -> None:
    assert button.isVisible() and button.isEnabled(), button.text()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def drop(window, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    buttons, keys, action = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, Qt.DropAction.CopyAction
    enter = QDragEnterEvent(QPoint(50, 50), action, data, buttons, keys)
    window.dragEnterEvent(enter)
    assert enter.isAccepted()
    window.dropEvent(QDropEvent(QPointF(50, 50), action, data, buttons, keys))


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def state(content, name: str) -> str:
    entry = content.catalogue.entry(name)
    return entry.state if entry is not None else "not listed"


def test_every_dataset_is_listed_and_an_absent_one_says_how_to_get_it(open_data, monkeypatch) -> None:
    _, content = open_data()
    assert [entry.name for entry in content.catalogue.entries] == list(DATASETS)
    assert {entry.state for entry in content.catalogue.entries} == {"absent"}
    content.select("ntu60")
    overview = content.overview
    assert "ROSE Lab" in overview.request.text() and "no redistribution" in overview.licence.text()
    assert "nturgbd_skeletons_s001_to_s017.zip" in overview.files.text()
    assert not overview.prepare_button.isEnabled() and "Choose the downloaded" in overview.prepare_button.toolTip()
    assert not content.tabs["sequences"].isEnabled() and content.tabs["sequences"].toolTip()
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    overview.page.click()
    assert opened == [DATASETS["ntu60"].page]


def test_every_dataset_of_the_catalogue_has_a_licence_page() -> None:
    own = [info for info in DATASETS.values() if not info.built_from]
    assert len(own) >= 10 and all(info.page.startswith("https://") and info.licence for info in own)


def test_a_merged_set_says_what_it_is_made_of_and_is_merged_at_a_click(
    qtbot, open_data, prepared: Path, monkeypatch
) -> None:
    monkeypatch.setattr(Job, "start", lambda job: setattr(job, "state", "running"))
    _, content = open_data()
    content.select("everyday")
    overview = content.overview
    assert "nw_ucla (here)" in overview.files.text() and "utd_mhad (not prepared)" in overview.files.text()
    assert not overview.archive.isVisible() and not overview.page.isVisible()
    assert content.head.state.text() == "Can be merged from sets here" and overview.prepare_button.text() == "Merge"
    click(qtbot, overview.prepare_button)
    (job,) = content.jobs.jobs
    assert job.arguments == ["data", "merge", "everyday"] and job.kind == "prepare"


def test_files_in_the_downloads_are_found_and_prepared_at_a_click(
    qtbot, open_data, downloads: Path, home: Path, archive: Path
) -> None:
    shutil.copy(archive, downloads)
    window, content = open_data()
    assert state(content, "nw_ucla") == "found"
    content.select("nw_ucla")
    click(qtbot, content.overview.prepare_button)
    job = content.jobs.of("nw_ucla")
    assert window.rail["data"].text() == "Data (1)"
    assert job is not None and content.job_bar.isVisible() and not content.overview.prepare_button.isEnabled()
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "prepared", timeout=CHILD_MS)
    assert window.rail["data"].text() == "Data"
    assert not content.job_bar.isVisible() and "is prepared" in content.banner.text
    assert len(SequenceStore(home / "stores" / "nw_ucla")) == 120
    assert "120 sequences" in content.banner.details
    browse = next(button for button in content.banner.actions_shown if button.text() == "Browse")
    click(qtbot, browse)
    qtbot.waitUntil(lambda: content.browser.table_model.rowCount() == 120, timeout=10000)


@pytest.mark.slow
def test_a_dropped_archive_is_prepared_and_cancel_keeps_what_is_finished(
    qtbot, open_window, large_archive: Path, home: Path
) -> None:
    window = open_window()
    drop(window, large_archive)
    assert window.stack.currentWidget() is window.data
    qtbot.waitUntil(lambda: window.data.content is not None and bool(window.data.content.jobs.jobs), timeout=30000)
    content = window.data.content
    job = content.jobs.jobs[0]
    heart = Heartbeat(parent=window)
    heart.start()
    qtbot.waitUntil(lambda: job.done >= 60, timeout=CHILD_MS)
    heart.stop()
    assert content.job_bar.bar.value() > 0 and "of 600" in content.job_bar.words.text()
    assert heart.beats > 10, "the window lives while a child reads"
    click(qtbot, content.job_bar.cancel)
    assert "kept" in content.job_bar.words.text()
    qtbot.waitUntil(lambda: not content.jobs.jobs, timeout=CHILD_MS)
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "begun", timeout=10000)
    assert "was stopped" in content.banner.text and not (home / "stores" / "nw_ucla").exists()
    finished = len(list((home / "stores" / "nw_ucla.partial").glob("part-*/part.json")))
    assert 0 < finished < 64
    # What is begun is gone on with, by the button that says so.
    assert content.overview.prepare_button.text() == "Go on preparing"
    click(qtbot, content.overview.prepare_button)
    again = content.jobs.jobs[0]
    seen: list[int] = []
    again.changed.connect(lambda: seen.append(again.done) if again.total else None)
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "prepared", timeout=CHILD_MS)
    assert seen[0] == 10 * finished and len(SequenceStore(home / "stores" / "nw_ucla")) == 600


def test_closing_the_window_ends_the_child_and_keeps_its_parts(
    qtbot, open_data, large_archive: Path, home: Path
) -> None:
    window, content = open_data()
    # Compilers of other tests may still idle here.
    others = set(psutil.Process().children(recursive=True))
    content.open_path(large_archive)
    qtbot.waitUntil(lambda: bool(content.jobs.jobs) and content.jobs.jobs[0].done >= 10, timeout=CHILD_MS)
    children = set(psutil.Process().children(recursive=True)) - others
    assert children
    window.close()
    assert window.closed_clean
    # Workers of a child that had to be forced see that it is gone and follow.
    qtbot.waitUntil(lambda: not [child for child in children if lives(child)], timeout=20000)
    assert list((home / "stores" / "nw_ucla.partial").glob("part-*/part.json"))


@pytest.mark.slow
def test_real_nw_ucla_is_prepared_from_its_folder(qtbot, open_data, home: Path) -> None:
    folder = shared("nw_ucla/all_sqe.zip").parent
    _, content = open_data()
    content.open_path(folder)
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "prepared", timeout=2 * CHILD_MS)
    store = SequenceStore(home / "stores" / "nw_ucla")
    assert (len(store), int(store.length.sum())) == (1484, 58534)
    content.show_page("statistics")
    qtbot.waitUntil(lambda: content.statistics.table.rowCount() > 0, timeout=20000)
    table = content.statistics.table
    rows = {table.item(r, 0).text(): [table.item(r, c).text() for c in (1, 2, 4)] for r in range(table.rowCount())}
    assert rows["xview"] == ["1,020", "464", ""] and rows["xview_clean"] == ["1,020", "369", "95 left out"]


def test_a_damaged_store_says_so_and_can_be_prepared_again(qtbot, open_data, prepared: Path) -> None:
    rows = prepared / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:500])
    _, content = open_data()
    content.select("nw_ucla")
    assert state(content, "nw_ucla") == "damaged" and content.head.state.text() == "Damaged"
    assert "rows.npy has 500 bytes" in content.overview.problem.text()
    assert not content.tabs["sequences"].isEnabled() and not content.overview.browse_button.isVisible()
    # The store remembers where its files are.
    assert content.overview.prepare_button.text() == "Prepare again"
    click(qtbot, content.overview.prepare_button)
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "prepared", timeout=CHILD_MS)


def test_a_store_that_goes_while_it_is_opened_is_said(qtbot, open_data, prepared: Path) -> None:
    _, content = open_data()
    content.select("nw_ucla")
    (prepared / "label.npy").write_bytes(b"x" * (prepared / "label.npy").stat().st_size)
    content.show_page("sequences")
    qtbot.waitUntil(content.banner.isVisible, timeout=10000)
    assert content.banner.kind == "error" and "can't be opened" in content.banner.text
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "damaged", timeout=10000)


def test_a_removed_store_comes_back_with_undo(qtbot, open_data, prepared: Path, home: Path) -> None:
    run = RunFolder(home / "runs" / "mine")
    run.path.mkdir(parents=True)
    run.recipe_file.write_text("dataset: nw_ucla\nsplit: xview\n")
    window, content = open_data()
    content.select("nw_ucla")
    with run.locked():
        click(qtbot, content.overview.remove_button)
        qtbot.waitUntil(lambda: state(content, "nw_ucla") != "prepared", timeout=10000)
    assert "The store nw_ucla is removed. Runs that read it: mine. They go on" in content.banner.text
    assert not prepared.exists() and [b.text() for b in content.banner.actions_shown] == ["Undo"]
    qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "prepared", timeout=10000)
    assert prepared.exists() and "is back" in content.banner.text
    assert not content.take_back()


def test_a_check_is_shown_in_words(qtbot, open_data, prepared: Path) -> None:
    # A changed byte: sizes fit, checksums do not.
    rows = np.load(prepared / "rows.npy")
    rows[0, 0, 0] += 1
    np.save(prepared / "rows.npy", rows)
    _, content = open_data()
    content.select("nw_ucla")
    click(qtbot, content.tabs["check"])
    assert "compares" in content.check_page.page.toPlainText()
    click(qtbot, content.check_page.start)
    qtbot.waitUntil(lambda: content.check_page.report is not None, timeout=CHILD_MS)
    text = content.check_page.page.toPlainText()
    assert text.startswith("This store is damaged") and "rows.npy" in text and "120 of 1,484 published" in text
    assert "1,020" not in text and "xview" in text
    click(qtbot, content.check_page.copy)


def test_a_report_is_not_shown_of_a_store_that_was_made_again(qtbot, open_data, prepared: Path) -> None:
    sound = (prepared / "rows.npy").read_bytes()
    (prepared / "rows.npy").write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    _, content = open_data()
    content.select("nw_ucla")
    content.show_page("check")
    click(qtbot, content.check_page.start)
    qtbot.waitUntil(lambda: content.check_page.report is not None, timeout=CHILD_MS)
    content.catalogue.refresh()
    qtbot.wait(300)
    assert "This store is damaged" in content.check_page.page.toPlainText(), "looking again changes nothing"
    (prepared / "rows.npy").write_bytes(sound)
    os.utime(prepared / "store.json")
    content.catalogue.refresh()
    qtbot.waitUntil(lambda: content.check_page.report is None, timeout=10000)
    assert "This store is damaged" not in content.check_page.page.toPlainText()


def test_wrong_files_are_said_and_others_are_offered_to_import(qtbot, open_data, tmp_path: Path) -> None:
    _, content = open_data()
    (tmp_path / "letter.zip").write_bytes(b"no archive")
    content.open_path(tmp_path / "letter.zip")
    qtbot.waitUntil(lambda: content.banner.kind == "error" and content.banner.isVisible(), timeout=10000)
    assert "holds no files of a known dataset" in content.banner.text
    np.savez(tmp_path / "NTU60 CS.npz", x_train=np.zeros((2, 300, 150)), y_train=np.eye(2))
    content.open_path(tmp_path / "NTU60 CS.npz")
    qtbot.waitUntil(lambda: content.pages.currentWidget() is content.__dict__.get("import_page"), timeout=10000)
    assert content.import_page.name.text() == "ntu60_cs"
    content.import_page.name.setText("ntu60")
    assert "preparing the original files" in content.import_page.hint.text()
    assert not content.import_page.start.isEnabled()
    content.import_page.closed.emit()
    assert content.pages.currentWidget() is content.overview


def test_files_of_another_set_are_not_mistaken(qtbot, open_data, archive: Path) -> None:
    _, content = open_data()
    content.select("ntu60")
    content.overview.chosen_raw.emit(archive)
    qtbot.waitUntil(lambda: state(content, "nw_ucla") == "found", timeout=10000)
    assert "not of NTU RGB+D" in content.banner.text and not content.jobs.jobs
    entry = content.entry
    assert entry is not None and entry.name == "nw_ucla"


def test_a_failed_preparation_shows_its_reason_and_details(qtbot, open_data, tmp_path: Path) -> None:
    broken = write_zip(tmp_path / "broken.zip", [(f"{name}.json", b"{") for name in nw_ucla_names()])
    _, content = open_data()
    content.open_path(broken)
    qtbot.waitUntil(lambda: content.banner.isVisible() and content.banner.kind == "error", timeout=CHILD_MS)
    assert "120 of 120 items can't be used" in content.banner.text and content.banner.details
    assert [button.text() for button in content.banner.actions_shown] == ["Try again"]


def test_several_bodies_keep_raw_and_offer_variants(qtbot, open_data, tmp_path: Path, home: Path) -> None:
    names = [f"S001C00{c}P00{p}R001A0{a:02d}" for c in (1, 2) for p in (1, 2) for a in (1, 9)]
    archive = write_zip(tmp_path / "ntu.zip", ntu_files(names))
    _, content = open_data()
    content.open_path(archive)
    qtbot.waitUntil(lambda: state(content, "ntu60") == "prepared", timeout=2 * CHILD_MS)
    content.select("ntu60")
    assert [content.head.store_box.itemText(i) for i in range(content.head.store_box.count())] == ["ntu60", "ntu60.raw"]
    variant = content.overview.variant
    variant.setCurrentIndex(variant.findData("first_two"))
    archive.unlink()
    content.catalogue.refresh()
    qtbot.waitUntil(lambda: content.catalogue.entry("ntu60").raw is None, timeout=10000)
    click(qtbot, content.overview.prepare_button)
    qtbot.waitUntil(lambda: (home / "stores" / "ntu60.first_two").is_dir(), timeout=CHILD_MS)
    qtbot.waitUntil(lambda: content.head.store_box.findText("ntu60.first_two") >= 0, timeout=10000)


def test_a_set_is_cut_as_the_window_shows(qtbot, open_data, tmp_path: Path, home: Path, monkeypatch) -> None:
    raw = write_pku(tmp_path / "raw", 1, ["0002-L"], frames=30)
    prepare_dataset(DATASETS["pku_mmd_1"], raw, home / "stores", workers=1, cutting="cmd")
    monkeypatch.setattr(Job, "start", lambda job: setattr(job, "state", "running"))
    _, content = open_data()
    content.select("pku_mmd_1")
    overview = content.overview
    assert overview.cutting.currentText() == "CMD, MAMP", "as the raw bodies here are cut"
    overview.variant.setCurrentIndex(overview.variant.findData("compatible"))
    prepare = ["data", "prepare", "pku_mmd_1"]
    wanted = {
        "cmd": [*prepare, "--variant", "compatible"],
        "": [*prepare, "--raw", str(raw), "--variant", "compatible"],
        "closed": [*prepare, "--raw", str(raw), "--variant", "compatible", "--cutting", "closed"],
    }
    for cutting, arguments in wanted.items():
        overview.cutting.setCurrentIndex(overview.cutting.findData(cutting))
        click(qtbot, overview.prepare_button)
        assert content.jobs.jobs[0].arguments == arguments
        content.jobs._job_ended(content.jobs.jobs[0])
    content.open_path(raw)
    qtbot.waitUntil(lambda: bool(content.banner.actions_shown), timeout=10000)
    click(qtbot, content.banner.actions_shown[0])
    assert content.jobs.jobs[0].arguments == [*prepare, "--raw", str(raw), "--cutting", "cmd"]
    content.jobs._job_ended(content.jobs.jobs[0])
    raw.rename(tmp_path / "away")
    content.catalogue.refresh()
    qtbot.waitUntil(lambda: not overview.prepare_button.isEnabled(), timeout=10000)
    overview.cutting.setCurrentIndex(overview.cutting.findData("cmd"))
    click(qtbot, overview.prepare_button)
    assert content.jobs.jobs[0].arguments == wanted["cmd"]


def test_exported_and_own_data(qtbot, open_data, prepared: Path, tmp_path: Path, home: Path) -> None:
    _, content = open_data()
    content.select("nw_ucla")
    content.overview.export.emit("pyskl", tmp_path / "out.pkl")
    qtbot.waitUntil(lambda: not content.jobs.jobs, timeout=CHILD_MS)
    assert (tmp_path / "out.pkl").stat().st_size > 1000 and "is exported" in content.banner.text
    content.import_page.path.setText(str(tmp_path / "out.pkl"))
    content.import_page.name.setText("nw_ucla.mine")
    assert content.import_page.complaint() == ""
    content.import_page.asked.emit(tmp_path / "out.pkl", "nw_ucla.mine", "", 30.0)
    qtbot.waitUntil(lambda: not content.jobs.jobs, timeout=CHILD_MS)
    assert len(SequenceStore(home / "stores" / "nw_ucla.mine")) == 120, content.banner.text


def test_files_at_a_place_that_cannot_be_reached_leave_the_datasets_listed(
    open_data, prepared: Path, archive: Path, downloads: Path, settings, monkeypatch
) -> None:
    lost = Path("/lost/disk")
    (downloads / "share").mkdir()
    settings.set("memory.raw_files", {"utkinect": str(lost / "utkinect.npz")})
    header = json.loads((prepared / "store.json").read_text())
    header["about"]["raw"] = str(lost / "all_sqe.zip")
    (prepared / "store.json").write_text(json.dumps(header))
    real = os.stat

    def stat(path, **options):
        if str(path).startswith((str(lost), str(downloads / "share"))):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    _, content = open_data()
    assert not content.catalogue.problem and state(content, "nw_ucla") == "prepared"
    assert content.catalogue.entry("utkinect").raw is content.catalogue.entry("nw_ucla").raw is None
    for text in (str(lost), "x" * 300):
        content.import_page.path.setText(text)
        assert content.import_page.hint.text() == "There is nothing at this place."


def test_an_import_asks_before_it_takes_the_place_of_another_store(
    qtbot, open_data, prepared: Path, tmp_path: Path, home: Path, monkeypatch
) -> None:
    monkeypatch.setattr(Job, "start", lambda job: setattr(job, "state", "running"))
    shutil.copytree(prepared, home / "stores" / "mine")
    window, content = open_data()
    page = content.import_page
    for widget, text in ((page.path, str(tmp_path)), (page.name, "mine"), (page.classes, "classes.txt")):
        widget.setText(text)
    content.show_import()
    click(qtbot, page.start)
    assert "a store mine already" in content.banner.text and not content.jobs.jobs
    click(qtbot, content.banner.actions_shown[0])
    (job,) = content.jobs.jobs
    assert job.arguments[:3] == ["data", "import", "mine"] and "--replace" in job.arguments
    page.name.setText("mine.old")
    assert "can't be the name of a store" in page.hint.text() and not page.start.isEnabled()


def test_the_form_of_the_next_import_stays_when_one_ends(
    qtbot, open_data, prepared: Path, tmp_path: Path, home: Path
) -> None:
    assert entry(["data", "export", "nw_ucla", "--to", "pyskl", "--out", str(tmp_path / "out.pkl")]) == 0
    (tmp_path / "classes.txt").write_text("\n".join(SequenceStore(prepared).classes))
    _, content = open_data()
    content.show_import()
    page = content.import_page

    def fill(name: str) -> None:
        for widget, text in ((page.path, str(tmp_path / "out.pkl")), (page.name, name)):
            widget.setText(text)
        page.classes.setText(str(tmp_path / "classes.txt"))

    fill("one")
    click(qtbot, page.start)
    fill("two")
    page.name.setFocus()
    qtbot.waitUntil(lambda: state(content, "one") == "prepared", timeout=CHILD_MS)
    assert page.name.text() == "two" and content.pages.currentWidget() is page and page.name.hasFocus()
    click(qtbot, page.start)
    qtbot.waitUntil(lambda: state(content, "two") == "prepared", timeout=CHILD_MS)
    assert page.name.text() == page.path.text() == "" and content.pages.currentWidget() is page


def test_what_was_looked_at_is_remembered(qtbot, open_data, open_window, prepared: Path, settings) -> None:
    window, content = open_data()
    content.select("nw_ucla")
    click(qtbot, content.tabs["statistics"])
    window.close()
    kept = json.loads(settings.path.read_text())["memory"]
    assert (kept["dataset"], kept["data_page"], kept["panel"]) == ("nw_ucla", "statistics", "data")
    _, again = open_data()
    entry = again.entry
    assert entry is not None and entry.name == "nw_ucla" and again.tabs["statistics"].isChecked()
    qtbot.waitUntil(lambda: bool(again.statistics._plots), timeout=20000)


def test_both_themes_and_a_torn_off_panel(qtbot, open_data, prepared: Path, settings) -> None:
    settings.set("appearance.theme", "dark")
    window, content = open_data()
    content.select("nw_ucla")
    content.show_page("statistics")
    qtbot.waitUntil(lambda: len(content.statistics._plots) == 2, timeout=20000)
    charts = {}
    for name in ("light", "dark"):
        settings.set("appearance.theme", name)
        qtbot.waitUntil(lambda: content.statistics.charts.isVisible())
        charts[name] = content.statistics.charts.grab().toImage()
    assert charts["light"] != charts["dark"]
    window.tear_off("data")
    qtbot.waitUntil(lambda: not window.isAncestorOf(content), timeout=5000)
    window.tear_off("data")
    assert window.isAncestorOf(content)


MEANT = {"a.zip": True, "a.7z": True, "a.pkl": True, "a.mp4": False, "clip.npz": False, "photos": False, "set": True}


@pytest.mark.parametrize(("name", "meant"), MEANT.items())
def test_what_a_dropped_path_is_meant_as(tmp_path: Path, name: str, meant: bool) -> None:
    path = tmp_path / name
    if name in ("photos", "set"):
        path.mkdir()
        (path / ("a.png" if name == "photos" else "S001C001P001R001A001.skeleton")).write_bytes(b"")
    elif name == "clip.npz":
        np.savez(path, landmarks=np.zeros(3))
    else:
        path.write_bytes(b"")
    assert looks_like_dataset(path) is meant


def test_a_folder_that_cannot_be_listed_is_dropped_without_harm(tmp_path: Path, monkeypatch) -> None:
    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refused)
        assert not looks_like_dataset(tmp_path)


def test_every_control_has_a_name(open_data, prepared: Path) -> None:
    window, content = open_data()
    content.select("nw_ucla")
    for page in ("sequences", "statistics", "check"):
        content.show_page(page)
    content.show_import()
    for button in content.findChildren(QAbstractButton):
        inner = button.objectName().startswith("qt_") or type(button) is QAbstractButton
        inner = inner or isinstance(button.parent(), QLineEdit)
        assert inner or button.text() or button.accessibleName(), button
    assert all(label.text() != "None" for label in content.findChildren(QLabel))
