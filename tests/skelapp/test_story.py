"""The whole story in one window: prepare data, train, watch, stop, resume, compare, and use the result live."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QItemSelectionModel, Qt

from engine.models.card import read_card
from engine.paths import PROJECT
from engine.training.run_folder import RunFolder
from skelapp.training import page as page_module
from skelapp.training.machine import Machine
from tests.shared_data import shared

pytestmark = [pytest.mark.gui, pytest.mark.slow]
SHIPPED = "nw_ucla_xview_ctrgcn_short_joint"
WAIT = 120_000  # ms; children load torch, and the machine may be busy
# A shipped recipe's own setting, made small enough for seconds.
RECIPE = {
    "name": "story", "dataset": "nw_ucla", "split": "xview", "backbone_args": {"base_channels": 8},
    "preprocessing": {"frames": 12, "sampling": "linspace", "centre": "first", "persons": 1},
    "optimiser": {"lr": 0.1, "warmup_epochs": 0}, "epochs": 100_000, "batch": 32, "threads": 1, "accelerator": "cpu",
    "evaluate_every": 100_000,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
            child.wait(10)


def test_from_the_archive_to_the_live_picture(qtbot, open_window, home: Path, settings, monkeypatch) -> None:
    archive = shared("nw_ucla/all_sqe.zip").parent
    monkeypatch.setattr(page_module.Asking, "ask", lambda self: Machine("A processor", 2, 8.0))
    settings.set("training.threads", 1)
    window = open_window()

    # Data: the folder is prepared in a child, and shows its actions.
    window.show_panel("data")
    qtbot.waitUntil(lambda: window.data.content is not None and window.data.content.entry is not None, timeout=WAIT)
    content = window.data.content
    assert content is not None
    window.data.open_path(archive)
    qtbot.waitUntil(lambda: content.catalogue.entry("nw_ucla").state == "prepared", timeout=WAIT)
    assert "1484 sequences" in content.banner.details

    # Training: a run of a small encoder, its curve grows, it is stopped and goes on.
    window.show_panel("training")
    panel = window.panels["training"]
    qtbot.waitUntil(lambda: panel.page is not None, timeout=WAIT)
    page = panel.page
    qtbot.waitUntil(lambda: page.recipe.form.draft is not None and page.run_page.curves.ready, timeout=WAIT)
    qtbot.waitUntil(lambda: not page.recipe.form.building, timeout=WAIT)
    assert page.recipe.open_data(RECIPE)
    qtbot.waitUntil(page.recipe.start.isEnabled, timeout=WAIT)
    qtbot.mouseClick(page.recipe.start, Qt.MouseButton.LeftButton)

    def state() -> str:
        return next((row.state for row in page.table_model.rows if row.name == "story"), "")

    def points() -> int:
        return len(page.run_page.series.get("loss", ()))

    qtbot.waitUntil(lambda: state() == "running", timeout=WAIT)
    qtbot.waitUntil(lambda: points() > 2, timeout=WAIT)
    grown = points()
    qtbot.waitUntil(lambda: points() > grown + 1, timeout=WAIT)
    qtbot.mouseClick(page.run_page.stop, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: state() == "stopped", timeout=WAIT)
    run = RunFolder(page.root / "story")
    stopped_at = run.status().epoch

    # It goes on where it stood; a second run of its recipe is trained to its end.
    qtbot.mouseClick(page.run_page.resume, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: state() == "running" and points() > grown + 2, timeout=WAIT)
    qtbot.mouseClick(page.run_page.stop, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: state() == "stopped", timeout=WAIT)
    assert run.status().epoch >= stopped_at
    qtbot.mouseClick(page.run_page.duplicate, Qt.MouseButton.LeftButton)
    assert page.recipe.open_data(RECIPE | {"name": "short", "epochs": 2})
    qtbot.waitUntil(page.recipe.start.isEnabled, timeout=WAIT)
    qtbot.mouseClick(page.recipe.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: (page.root / "short" / "checkpoint" / "card.json").is_file(), timeout=WAIT)
    qtbot.waitUntil(lambda: not RunFolder(page.root / "short").running(), timeout=WAIT)
    card = read_card(page.root / "short" / "checkpoint")
    assert len(card.classes) == 10 and {result.count for result in card.results} >= {464, 369}

    # Models: beside the shipped one.
    window.show_panel("models")
    models = window.models
    assert models.add_folder(PROJECT / "trained_models" / SHIPPED)
    both = {page.root / "short" / "checkpoint", PROJECT / "trained_models" / SHIPPED}

    def listed() -> set[Path]:
        return {models.proxy.entry(row).folder for row in range(models.proxy.rowCount())}

    qtbot.waitUntil(lambda: both <= listed(), timeout=WAIT)
    selection = models.table.selectionModel()
    selection.clear()
    how = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
    for row in range(models.proxy.rowCount()):
        if models.proxy.entry(row).folder in both:
            selection.select(models.proxy.index(row, 0), how)
    assert len(models.chosen()) == 2
    with qtbot.waitSignal(models.comparison.finished, timeout=2 * WAIT):
        qtbot.mouseClick(models.compare, Qt.MouseButton.LeftButton)
    assert models.comparison.report is not None
    assert "464 test sequences of nw_ucla xview" in models.comparison.overview.toPlainText()
    qtbot.keyClick(models.comparison.tabs, Qt.Key.Key_Escape)

    # Live: the encoder that was just trained decides on the demo clip.
    session = window.session
    session.open_source(str(PROJECT / "assets" / "demo.mp4"))
    assert models.select(page.root / "short" / "checkpoint")
    qtbot.mouseClick(models.use, Qt.MouseButton.LeftButton)
    window.show_panel("live")
    qtbot.waitUntil(lambda: session.snapshot().checkpoint == "short", timeout=WAIT)
    qtbot.waitUntil(lambda: bool(session.snapshot().decisions), timeout=WAIT)
    assert set(session.snapshot().decisions) == {1} and session.snapshot().decisions[1].person == 1
