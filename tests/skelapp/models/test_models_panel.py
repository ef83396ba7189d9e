"""The Models panel with real widgets and real child processes: compare, import, export, ensembles, a thousand cards."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest
import torch
from PySide6.QtCore import QItemSelectionModel, QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QTextBrowser

from engine import paths
from engine.data.preprocess import Preprocessing
from engine.models.card import CheckpointCard, read_card, write_card
from engine.models.shelf import imported
from skelapp.heartbeat import Heartbeat
from skelapp.main_window import MainWindow
from skelapp.models.card_page import card_html
from skelapp.models.forms import ImportForm
from skelapp.models.library import Entry
from skelapp.models.report import points
from skelapp.models.table_model import CHECKPOINTS, COLUMNS
from tests.engine.models.published import TenLayers
from tests.engine.training.comparable import CLASSES, write_encoder, write_sequences

pytestmark = pytest.mark.gui
WAIT = 90_000  # ms; a child loads torch, and the machine may be busy


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and small encoders, made once."""
    root = tmp_path_factory.mktemp("made")
    write_sequences(root / "stores" / "utd_mhad")
    joint = Preprocessing(layout="kinect20", frames=12, sampling="linspace", centre="first", scale="torso")
    write_encoder(root / "models" / "one", 0)
    write_encoder(root / "models" / "two", 1, preprocessing=joint.model_copy(update={"stream": "bone"}))
    write_encoder(root / "models" / "sailor", 2, ["sailing", "rowing"])
    write_encoder(root / "models" / "unfinished", 3, classifier_trained=False)
    (root / "models" / "broken").mkdir()
    (root / "models" / "broken" / "card.json").write_text("{")
    return root


@pytest.fixture
def window(qtbot, open_window, home: Path, made: Path) -> MainWindow:
    home.mkdir(parents=True, exist_ok=True)
    (home / "stores").symlink_to(made / "stores")
    window = open_window()
    window.settings.set("folders.models", str(made / "models"))
    qtbot.waitUntil(lambda: window.models.proxy.rowCount() == 5)
    window.show_panel("models")
    return window


def select(window: MainWindow, *names: str) -> None:
    models = window.models
    model = models.table.selectionModel()
    model.clear()
    how = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
    for row in range(models.proxy.rowCount()):
        if models.proxy.entry(row).folder.name in names:
            model.select(models.proxy.index(row, 0), how)
    assert {entry.folder.name for entry in models.chosen()} == set(names)


@pytest.mark.slow
def test_two_checkpoints_are_compared_in_a_child_and_looked_at_five_ways(qtbot, window, tmp_path) -> None:
    models, page = window.models, window.models.comparison
    select(window, "one", "two")
    assert models.compare.text() == "Compare 2"
    heart = Heartbeat(parent=window)
    heart.start()
    counted: list[int] = []
    models.working_changed.connect(counted.append)
    qtbot.keyClick(models.table, Qt.Key.Key_C)
    assert models.pages.currentWidget() is page
    with qtbot.waitSignal(page.finished, timeout=WAIT):
        qtbot.waitUntil(lambda: page.task_bar.isVisible())
        assert page.dataset.currentText() == "utd_mhad" and page.split.currentText() == "xsub"
    heart.stop()
    assert heart.beats > 20 and counted == [1, 0] and window.rail["models"].text() == "Models"
    report = page.report
    assert report is not None and report.classes == CLASSES and not page.banner.isVisible()
    text = page.overview.toPlainText()
    assert "12 test sequences of utd_mhad xsub" in text and "Encoder one" in text and "McNemar" in text
    assert "PyTorch CPU" in text
    page.tabs.setCurrentIndex(1)
    table = page.classes
    assert table.proxy.rowCount() == 27 and table.classes.columnCount() == 5
    shown = {table.proxy.index(row, 0).data(): row for row in range(27)}
    row = shown["Swipe left"]
    values = [model["per_class"][0] for model in report.models]
    assert table.proxy.index(row, 4).data() == points(values[1] - values[0])
    page.tabs.setCurrentIndex(2)
    first, second = page.matrices[:2]
    assert first.isVisible() and second.isVisible() and not page.matrices[2].isVisible()
    first.setFocus()
    qtbot.keyClick(first, Qt.Key.Key_Down)
    qtbot.keyClick(first, Qt.Key.Key_Right)
    assert first.cell == second.cell == (1, 1) and "Swipe right named Swipe right" in page.cell_words.text()
    area = first._area()
    spot = QPointF(area.left() + 2, area.top() + 2)
    assert first.cell_at(spot) == (0, 0)
    page.tabs.setCurrentIndex(3)
    assert "calibration error" in page.calibration.words.text()
    page.tabs.setCurrentIndex(4)
    maps = page.maps
    assert [len(m.points) for m in maps.maps] == [12, 12]
    maps.maps[0].setFocus()
    qtbot.keyClick(maps.maps[0], Qt.Key.Key_Right)
    assert maps.sequence == 0 and report.values["sequences"]["names"][0] in maps.words.text()
    maps.maps[1].dots.sigClicked.emit(maps.maps[1].dots, [maps.maps[1].dots.points()[5]], None)
    assert maps.sequence == report.values["map_rows"][5]
    for theme in ("light", "dark"):
        window.settings.set("appearance.theme", theme)
    # Every tab is taken along as a table: one line of heads, then what is drawn.
    right = [round(12 * model["top1"]) for model in report.models]
    for number, (head, lines) in enumerate((
        ("checkpoint,sequences,accuracy", 2), ("class,sequences,one,two,", 27), ("checkpoint,class,named,sequences", 0),
        ("checkpoint,score from,score to,sequences", 2 * len(report.models[0]["reliability"]["count"])),
        ("checkpoint,sequence,class,named,x,y", 24),
    )):  # fmt: skip
        page.tabs.setCurrentIndex(number)
        page.save_csv(tmp_path / "c.csv")
        table = list(csv.reader((tmp_path / "c.csv").open()))
        assert ",".join(table[0]).startswith(head) and (not lines or len(table) == 1 + lines)
        if number == 2:
            counts = [
                [int(n) for who, true, said, n in table[1:] if who == name and true == said] for name in ("one", "two")
            ]
            assert [sum(count) for count in counts] == right and sum(int(row[3]) for row in table[1:]) == 24
    page.save_json(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["dataset"] == "utd_mhad"
    page.save_picture(tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
    qtbot.keyClick(page.tabs, Qt.Key.Key_Escape)
    assert models.pages.currentWidget() is models.list_page
    qtbot.waitUntil(lambda: any(e.ms is not None for e in window.library.entries))
    column = next(i for i, c in enumerate(COLUMNS) if c.head == "ms here")
    assert {models.proxy.entry(r).folder.name for r in range(5) if models.proxy.index(r, column).data() != "–"} == {
        "one", "two",
    }  # fmt: skip


@pytest.mark.slow
def test_a_comparison_is_cancelled_and_ends_with_the_window(qtbot, window) -> None:
    page = window.models.comparison
    select(window, "one", "two")
    window.models.compare_selected()
    qtbot.waitUntil(lambda: page.task_bar.busy, timeout=WAIT)
    with qtbot.waitSignal(page.finished, timeout=WAIT):
        qtbot.mouseClick(page.task_bar.stop, Qt.MouseButton.LeftButton)
    assert page.report is None and "Stopped" in page.waiting.text() and page.run.isEnabled()
    page.start()
    qtbot.waitUntil(lambda: page.task_bar.busy)
    window.close()
    assert window.closed_clean and page.task_bar.task.over


def test_what_can_not_be_compared_is_said_before_anything_runs(qtbot, window) -> None:
    models = window.models
    select(window, "one")
    models.compare_selected()
    assert "Select two" in models.banner.text
    select(window, "one", "broken")
    models.compare_selected()
    assert models.banner.kind == "error" and "damaged" in models.banner.text
    select(window, "one", "unfinished")
    models.compare_selected()
    assert "pretrained encoder" in models.banner.text
    select(window, "one", "sailor")
    models.compare_selected()
    page = models.comparison
    qtbot.waitUntil(lambda: page.banner.isVisible())
    assert "no two classes in common" in page.banner.text and not page.task_bar.busy and not page.run.isEnabled()
    page.close_page()
    paths_gone = window.settings.path.parent / "stores"
    paths_gone.unlink()
    select(window, "one", "two")
    models.compare_selected()
    qtbot.waitUntil(lambda: "Prepare utd_mhad" in page.banner.text)


@pytest.mark.parametrize(
    ("file", "dataset", "split", "stream"),
    [
        ("ntu120_xsub_joint.pt", "ntu120", "xsub", "joint"),
        ("ntu/ntu60/xsub/runs-65-81120.pt", "ntu60", "xsub", "joint"),
        ("motion-models/ntu60_xview_joint.pt", "ntu60", "xview", "joint"),
        ("novel/NTU-RGB+D 120/xset/bone_vel.pth.tar", "ntu120", "xset", "bone_motion"),
        ("ntu120/csub/ctrgcn_motion/best-60.pt", "ntu120", "xsub", "joint_motion"),
        ("ntu60_xv/encoder.pt", "ntu60", "xview", "joint"),
        ("xview/PKU_cs_bone.pt", "pku_mmd_2", "xsub", "bone"),
    ],
)
def test_what_a_weights_file_was_trained_on_is_guessed_from_words(
    qtbot, file: str, dataset: str, split: str, stream: str
) -> None:
    form = ImportForm()
    qtbot.addWidget(form)
    form.take(Path("/home/u") / file)
    found = (form.dataset.currentData(), form.split.currentText(), form.stream.currentData())
    assert found == (dataset, split, stream)


@pytest.mark.slow
def test_a_dropped_weights_file_is_imported(qtbot, window, tmp_path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "ucla_xview_bone.pt"
    torch.save(TenLayers(10, "kinect20", persons=1, width=8).state_dict(), file)
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(file))])
    how = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(window, QDragEnterEvent(QPoint(50, 50), *how))
    QApplication.sendEvent(window, QDropEvent(QPointF(50, 50), *how))
    form, models = window.models.import_form, window.models
    assert form.isVisible() and form.dataset.currentData() == "nw_ucla" and form.split.currentText() == "xview"
    assert form.stream.currentData() == "bone" and form.called.text() == "ucla_xview_bone"
    qtbot.mouseClick(form.act, Qt.MouseButton.LeftButton)
    assert models.task_bar.busy
    qtbot.waitUntil(lambda: not models.task_bar.busy, timeout=WAIT)
    assert "Imported ucla_xview_bone" in models.banner.text, models.banner.details
    qtbot.waitUntil(lambda: models.selected() is not None and models.selected().origin == "imported")
    folder = imported() / "ucla_xview_bone"
    assert models.selected().folder == folder and read_card(folder).preprocessing.stream == "bone"
    assert (folder / "model.onnx").is_file() and not form.isVisible()


@pytest.mark.slow
def test_a_checkpoint_is_exported_with_progress(qtbot, window, made) -> None:
    models = window.models
    select(window, "two")
    models.export_selected()
    form = models.export_form
    qtbot.waitUntil(lambda: form.data.count() == 1)
    assert form.isVisible() and not form.data.isEnabled()
    qtbot.mouseClick(form.act, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not models.task_bar.busy, timeout=WAIT)
    assert "differs from PyTorch" in models.banner.text, models.banner.text
    assert (made / "models" / "two" / "model.onnx").is_file()


def drag(window: MainWindow, *names: str) -> QMimeData:
    models = window.models
    indexes = [
        models.proxy.index(row, 0)
        for row in range(models.proxy.rowCount())
        if models.proxy.entry(row).folder.name in names
    ]
    return models.proxy.mimeData(indexes)


def drop(widget, mime: QMimeData) -> bool:
    how = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPoint(20, 20), *how)
    QApplication.sendEvent(widget, enter)
    QApplication.sendEvent(widget, QDropEvent(QPointF(20, 20), *how))
    return enter.isAccepted()


@pytest.mark.slow
def test_an_ensemble_is_dragged_together_and_tested(qtbot, window) -> None:
    models, tray = window.models, window.models.tray
    models.open_ensemble()
    assert tray.isVisible() and tray.empty.isVisible() and not tray.test.isEnabled()
    mime = drag(window, "one", "two")
    assert mime.hasFormat(CHECKPOINTS)
    assert drop(tray, mime)
    assert [entry.folder.name for entry in tray.members] == ["one", "two"] and tray.test.isEnabled()
    drop(tray, drag(window, "sailor"))
    assert "other classes" in tray.banner.text and len(tray.members) == 2
    tray.spins[0].setValue(0.25)
    assert tray.weights.currentData() == "own"
    qtbot.mouseClick(tray.test, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not models.task_bar.busy, timeout=WAIT)
    text = tray.result.toPlainText()
    assert tray.result.isVisible() and "Together" in text and "0.25" in text and "against the best" in text
    tray.remove(tray.members[0])
    assert len(tray.spins) == 1 and not tray.test.isEnabled() and not tray.result.isVisible()


def test_a_member_of_an_ensemble_that_is_removed_takes_its_weight_along(window) -> None:
    tray = window.models.tray
    window.models.open_ensemble()
    drop(tray, drag(window, "one", "two"))
    for spin, weight in zip(tray.spins, (0.6, 0.4), strict=True):
        spin.setValue(weight)
    tray.remove(tray.members[0])
    assert [(m.folder.name, s.value()) for m, s in zip(tray.members, tray.spins, strict=True)] == [("two", 0.4)]
    drop(tray, drag(window, "one"))
    assert [spin.value() for spin in tray.spins] == [0.4, 1.0]


def test_a_thousand_checkpoints_are_listed_sorted_and_filtered(qtbot, open_window, home, tmp_path) -> None:
    root = tmp_path / "many"
    text = ""
    for number in range(1000):
        folder = root / f"m{number:04}"
        if not text:
            card = CheckpointCard(
                name="m", title="TITLE", backbone="ctrgcn", feature_dim=8, classes=["a", "b"],
                preprocessing=Preprocessing(), dataset="made", split="all",
            )  # fmt: skip
            text = write_card(card, folder).read_text()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "card.json").write_text(text.replace("TITLE", f"Model {999 - number:04}"))
    window = open_window()
    window.settings.set("folders.models", str(root))
    models = window.models
    qtbot.waitUntil(lambda: models.proxy.rowCount() == 1000, timeout=20_000)
    assert models.proxy.entry(0).title == "Model 0000"
    models.filter.setText("0042")
    assert models.proxy.rowCount() == 1
    models.filter.clear()
    window.show_panel("models")
    first = models.proxy.entry(0).card
    window.library.refresh()
    qtbot.waitUntil(lambda: not window.context.worker.busy, timeout=20_000)
    assert models.proxy.entry(0).card is first, "an unchanged card is not read again"


def test_narrow_tables_drop_the_least_wanted_columns(qtbot, window) -> None:
    window.resize(1900, 800)
    heads = [column.head for column in COLUMNS]
    qtbot.waitUntil(lambda: not window.models.table.isColumnHidden(heads.index("Backbone")))
    window.resize(900, 700)
    qtbot.waitUntil(lambda: window.models.table.isColumnHidden(heads.index("Method")))
    assert not window.models.table.isColumnHidden(heads.index("Accuracy"))


def test_the_context_menu_and_the_menu_offer_the_same_acts(qtbot, window) -> None:
    select(window, "one")
    said = [action.text() for action in window.models.more.menu().actions()]
    assert {"Use live", "Compare the selected", "Export…", "Ensemble of streams"} <= set(said)


def test_a_task_that_cannot_start_says_so(qtbot, window, monkeypatch) -> None:
    import sys

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    models = window.models
    select(window, "two")
    models.export_selected()
    began = time.monotonic()
    models.export_form._go()
    qtbot.waitUntil(lambda: models.banner.isVisible(), timeout=10_000)
    assert "can't be started" in models.banner.text and time.monotonic() - began < 10
    assert paths.stores().exists()


def test_a_card_says_how_much_of_every_action_is_recognised() -> None:
    folder = paths.PROJECT / "trained_models" / "everyday_ctrgcn"
    card = read_card(folder)
    page = card_html(Entry(folder, card, 0))
    shares = [table["wave"] for table in card.training["per_class"].values() if isinstance(table, dict)]
    cells = "".join(f"<td align='right'>{100 * share:.0f} %</td>" for share in shares)
    assert len(shares) == 2 and f"<tr><td>Wave</td>{cells}</tr>" in page and "{" not in page
    assert f"its mean score was under {card.decision.min_score:.2f}" in page
    rules = {"min_s": 0.7, "min_score": 0.0, "min_shown_s": 0.5}
    page = card_html(Entry(folder, card.model_copy(update={"decision": card.decision.model_copy(update=rules)}), 0))
    assert "taken back if its word stood for less than 0.5 s or it was shorter than 0.7 s." in page
    silent = card.decision.model_copy(update=dict.fromkeys(rules, 0.0))
    without = {"training": {}, "decision": silent}
    page = card_html(Entry(folder, card.model_copy(update=without), 0))
    assert "Walk, Wave, Wave both hands" in page and "taken back" not in page


@pytest.mark.parametrize("folder", sorted(paths.TRAINED_MODELS.glob("*/card.json")), ids=lambda path: path.parent.name)
def test_a_card_fits_the_width_it_has(qtbot, folder: Path) -> None:
    page = QTextBrowser()
    qtbot.addWidget(page)
    page.setHtml(card_html(Entry(folder.parent, read_card(folder.parent), 0)))
    page.show()
    for width in (700, 901, 1168, 1501):
        page.resize(width, 400)
        assert page.verticalScrollBar().maximum() > 0 and page.horizontalScrollBar().maximum() == 0
    assert "Trained for" in page.toPlainText() and "Learning rate" in page.toPlainText()
