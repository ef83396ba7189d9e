"""The Training panel by itself: form, errors, files, empty state, keys; nothing is trained here."""

import json
import os
import shutil

import pytest
import yaml
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QImage, QWheelEvent
from PySide6.QtWidgets import QApplication, QComboBox, QLineEdit

from engine import paths
from engine.training.recipe import RecipeError, load_recipe
from engine.training.run_folder import RunFolder
from skelapp.training import page as training_page
from skelapp.training.children import enqueue
from skelapp.training.choices import find_stores
from skelapp.training.recipe_side import RecipeSide
from skelapp.training.runs import QUEUED
from tests.skelapp.training.helpers import SMALL, opened, tiny_store

pytestmark = pytest.mark.gui


def test_empty_panel_says_what_to_do(qtbot, open_window, home):
    window, page = opened(qtbot, open_window)
    assert page.list.currentIndex() == 1 and not page.run_page.isVisible()
    assert page.recipe.form.draft.task == "supervised" and page.recipe.starter.count() > 100
    qtbot.waitUntil(lambda: "No CUDA GPU" in page.recipe.has.text())
    # Nothing is prepared in this home: the form says so at its field, and what to do.
    qtbot.waitUntil(lambda: "dataset" in page.recipe.form.problems)
    assert not page.recipe.start.isEnabled() and page.recipe.prepare.isVisible()
    assert "not prepared" in page.recipe.form.rows["dataset"].error.text()
    assert window.rail["training"].text() == "Training"


def test_choices_that_cannot_be_read_are_told(qtbot, open_window, home, monkeypatch):
    def broken(root):
        raise OSError("the disk is gone")

    _, page = opened(qtbot, open_window)
    monkeypatch.setattr(training_page, "find_choices", broken)
    page.read_choices()
    qtbot.waitUntil(lambda: "the disk is gone" in page.banner.text)
    assert page.banner.kind == "error"


def test_nothing_is_offered_before_the_choices_are_read(qtbot, settings):
    side = RecipeSide(settings)
    qtbot.addWidget(side)
    side.show()
    assert not side.start.isEnabled() and not side.undo.isEnabled()
    assert not any(button.isVisible() for button in (side.use_match, side.show_wrong, side.prepare, side.match))


def test_form_shows_changes_and_errors_at_their_fields(qtbot, open_window, home, tmp_path):
    tiny_store(home)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    _, page = opened(qtbot, open_window)
    side, form = page.recipe, page.recipe.form
    assert side.open_file(tmp_path / "small.yaml")
    form.build_now()
    qtbot.waitUntil(lambda: side.start.isEnabled())
    assert list(form.rows)[:3] == ["method", "backbone", "preprocessing.stream"], "few fields first"
    assert not any(row.label.property("changed") for row in form.rows.values())
    lr = form.rows["optimiser.lr"]
    assert isinstance(lr.editor, QLineEdit) and lr.editor.text() == "0.05"
    lr.editor.clear()
    qtbot.keyClicks(lr.editor, "-3")
    qtbot.waitUntil(lambda: "greater than 0" in lr.error.text())
    assert not side.start.isEnabled() and lr.label.property("changed") is True and not lr.back.isHidden()
    lr.editor.clear()
    qtbot.keyClicks(lr.editor, "fast")
    qtbot.waitUntil(lambda: "A number is needed" in lr.error.text() and not side.start.isEnabled())
    qtbot.mouseClick(lr.back, Qt.MouseButton.LeftButton)
    assert lr.editor.text() == "0.05" and lr.error.isHidden() and side.start.isEnabled()
    # A wrong field in a closed fold is brought to the eye.
    form.draft.change("optimiser.momentum", 2.0)
    form.check()
    assert "Momentum" in side.wrong.text() and "less than 1" in side.wrong.toolTip() and not side.start.isEnabled()
    form.show_problem()
    qtbot.waitUntil(lambda: form.rows["optimiser.momentum"].editor.hasFocus())
    side.undo.click()
    assert form.problems == {} and side.start.isEnabled()
    # The machine: fp16 needs a GPU, and the plan says where it runs.
    box = form.rows["precision"].editor
    assert isinstance(box, QComboBox)
    box.setCurrentIndex(box.findData("fp16"))
    qtbot.waitUntil(lambda: "needs a GPU" in form.rows["precision"].error.text())
    box.setCurrentIndex(box.findData("bf16"))
    qtbot.waitUntil(lambda: "on the processor with 1 of 2 threads in bf16" in side.plan.text())


def test_recipes_are_saved_opened_and_remembered(qtbot, open_window, home, tmp_path, settings):
    tiny_store(home)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    window, page = opened(qtbot, open_window)
    side = page.recipe
    window.open_path(tmp_path / "small.yaml")
    assert side.form.draft.get("name") == "small"
    side.form.draft.change("epochs", 8)
    window._undo()
    assert side.form.draft.get("epochs") == 2
    side.form.draft.change("epochs", 7)
    side.form.edited.emit()
    assert side.save_file(tmp_path / "mine.yaml") and "Saved" in side.banner.text
    assert (
        load_recipe(tmp_path / "mine.yaml").digest() == load_recipe(tmp_path / "small.yaml", {"epochs": "7"}).digest()
    )
    assert not side.save_file(tmp_path / "no" / "mine.yaml") and side.banner.kind == "error"
    (tmp_path / "bad.yaml").write_text("task: juggle")
    assert not side.open_file(tmp_path / "bad.yaml") and "juggle" in side.banner.text
    assert side.form.draft.get("epochs") == 7
    window.close()
    _, page = opened(qtbot, open_window)
    draft = page.recipe.form.draft
    assert (
        draft.get("name") == "small" and draft.get("epochs") == 7 and draft.changed(["epochs", "batch"]) == {"epochs"}
    )


def test_choosing_finds_the_published_recipe_and_other_tasks_have_other_forms(qtbot, open_window, home):
    _, page = opened(qtbot, open_window)
    side, form = page.recipe, page.recipe.form
    side.begin_with(next(s for s in side.starters("supervised") if s.data.get("name") == "nw_ucla_ctrgcn_joint"))
    form.build_now()
    assert side.match.isHidden()
    box = form.rows["method"].editor
    box.setCurrentIndex(box.findData("skeletongcl"))
    qtbot.waitUntil(side.use_match.isVisible)
    side.use_match.click()
    assert form.draft.get("method") == "skeletongcl" and form.draft.changed(["method", "epochs"]) == set()
    side.begin_task("pretrain")
    form.build_now()
    assert form.draft.task == "pretrain" and side.chain.isVisible() and side.task.currentData() == "pretrain"
    side.begin_task("linear")
    form.build_now()
    assert next(iter(form.rows)) == "parent" and side.chain.isHidden()


def test_a_wheel_over_task_or_recipe_changes_nothing_and_choosing_another_recipe_can_be_undone(
    qtbot, open_window, home
):
    window, page = opened(qtbot, open_window)
    side, form = page.recipe, page.recipe.form
    side.begin_with(next(s for s in side.starters("supervised") if s.data.get("name") == "nw_ucla_ctrgcn_joint"))
    form.build_now()
    assert form.draft.change("epochs", 7)
    edited = form.draft
    down = QPoint(0, -120)
    for box in (side.task, side.starter):
        form.setFocus()
        at = QPointF(box.rect().center())
        wheel = QWheelEvent(
            at, QPointF(box.mapToGlobal(at)), QPoint(), down, Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QGuiApplication.sendEvent(box, wheel)
        assert form.draft is edited and box.focusPolicy() == Qt.FocusPolicy.StrongFocus
    side.begin_task("pretrain")
    side.begin_task("linear")
    side.undo.click()
    assert form.draft.task == side.task.currentData() == "pretrain" and side.chain.isVisible()
    window._undo()
    form.build_now()
    assert form.draft.get("epochs") == 7 and side.task.currentData() == "supervised" and side.chain.isHidden()
    assert side.starter.currentData().data["name"] == "nw_ucla_ctrgcn_joint" and side.undo.isEnabled()
    window._undo()
    assert form.draft.changed(["epochs"]) == set()


def test_ctrl_return_starts_the_recipe_that_is_shown_and_works_after_others_wait(qtbot, open_window, home):
    tiny_store(home)
    _, page = opened(qtbot, open_window)
    side, form = page.recipe, page.recipe.form
    side.open_data({"task": "linear", "name": "judged", "parent": "first", "dataset": "utd_mhad", "split": "xsub"})
    form.build_now()
    asked = []
    side.start_wanted.disconnect()
    side.start_wanted.connect(lambda recipe, chain: asked.append(recipe["parent"]))
    line = form.rows["parent"].editor.lineEdit()
    for count, parent in enumerate(("second", "third"), start=1):
        line.setFocus()
        line.selectAll()
        qtbot.keyClicks(line, parent)
        qtbot.keyClick(line, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        qtbot.waitUntil(lambda count=count: len(asked) == count)
        assert asked[-1] == parent
        side.set_busy(True)
        side.set_busy(False)


def test_a_parent_typed_by_its_name_is_not_taken_for_a_newer_run_that_begins_alike(qtbot, open_window, home):
    for age, name in enumerate(("test-2", "test")):
        card = paths.runs() / name / "checkpoint" / "card.json"
        card.parent.mkdir(parents=True)
        card.write_text("{}")
        os.utime(paths.runs() / name, (1000 - age, 1000 - age))
    window, page = opened(qtbot, open_window)
    side, form = page.recipe, page.recipe.form
    side.begin_task("linear")
    form.build_now()
    box = form.rows["parent"].editor
    assert [box.itemText(index) for index in (1, 2)] == ["test-2", "test"], "newest first"
    window.activateWindow()
    box.setFocus()
    qtbot.waitUntil(box.hasFocus)
    box.lineEdit().selectAll()
    for letter in "test":
        qtbot.keyClicks(QApplication.activePopupWidget() or box.lineEdit(), letter)
    qtbot.keyClick(QApplication.activePopupWidget() or box.lineEdit(), Qt.Key.Key_Tab)
    side.task.setFocus()
    qtbot.waitUntil(lambda: not box.hasFocus())
    assert form.draft.get("parent") == box.currentText() == "test"


def test_only_stores_to_train_on_are_offered_and_a_name_is_one_folder(qtbot, open_window, home):
    store = tiny_store(home)
    for other in ("tiny.raw", ".removed-0-tiny"):
        shutil.copytree(store, store.with_name(other))
    assert [choice.name for choice in find_stores() if choice.prepared] == [store.name]
    _, page = opened(qtbot, open_window)
    side = page.recipe
    side.open_data(SMALL | {"name": "small/first try"})
    side.form.build_now()
    side.form.check()
    assert "can't hold /" in side.form.problems["name"] and not side.start.isEnabled()
    with pytest.raises(RecipeError, match=r"name: .* begin with a dot"):
        enqueue(paths.runs(), SMALL | {"name": ".x"})


def test_queue_is_held_left_and_deleted_with_undo(qtbot, open_window, home):
    tiny_store(home)
    window, page = opened(qtbot, open_window)
    page.hold.setChecked(True)
    page.recipe.open_data(SMALL)
    for name in ("one", "two"):
        page.recipe.form.draft.change("name", name)
        page.recipe.form.check()
        page.recipe.start.click()
        qtbot.waitUntil(lambda name=name: any(row.name == name for row in page.table_model.rows))
    qtbot.waitUntil(lambda: page.queue_note.text() == "2 waiting, the queue is held")
    assert page.recipe.start.text() == "Add to the queue"
    qtbot.waitUntil(lambda: page.run_page.row is not None and page.run_page.row.name == "two")
    assert "number 2" in page.run_page.sentence.text() and page.run_page.cancel.text() == "Take out of the queue"
    page.run_page.cancel.click()
    qtbot.waitUntil(lambda: [row.name for row in page.table_model.rows] == ["one"])
    qtbot.waitUntil(lambda: "two is deleted" in page.banner.text)
    page.banner.actions_shown[0].click()
    qtbot.waitUntil(lambda: {row.name for row in page.table_model.rows} == {"one", "two"})
    page._delete(page.root / "one")
    qtbot.waitUntil(lambda: "one is deleted" in page.banner.text and len(page.table_model.rows) == 1)
    window._undo()
    qtbot.waitUntil(lambda: {row.name for row in page.table_model.rows} == {"one", "two"})
    page.select(page.root / "two")
    two = RunFolder(page.root / "two")
    assert not (two.path / QUEUED).exists()
    qtbot.waitUntil(lambda: page.run_page.row is not None and page.run_page.row.name == "two")
    page.run_page.duplicate.click()
    qtbot.waitUntil(lambda: "recipe of two" in page.recipe.banner.text)
    assert page.recipe.form.draft.get("name") == "two" and page.recipe.form.draft.get("batch") == 8
    page.copy_csv()
    assert "one" in QGuiApplication.clipboard().text()
    page.filter.setText("two")
    assert page.proxy.rowCount() == 1


def test_curves_of_a_long_run_log_and_results(qtbot, open_window, home, tmp_path):
    """20,000 events: read in pieces, drawn from few points, saved as table and picture."""
    run = RunFolder(home / "runs" / "long")
    run.path.mkdir(parents=True)
    run.recipe_file.write_text(yaml.safe_dump(SMALL))
    with run.events_file.open("w") as file:
        file.write(json.dumps({"event": "run", "at": 1.0, "epoch": 0, "step": 0, "epochs": 20, "steps": 1000}) + "\n")
        for number in range(20_000):
            epoch, step = divmod(number, 1000)
            values = {"epoch": epoch + 1, "step": step + 1, "steps": 1000, "loss": 1 / (1 + number), "lr": 0.1}
            file.write(json.dumps({"event": "step", "at": 1.0, "clips_per_s": 9.0, **values}) + "\n")
        file.write(json.dumps({"event": "epoch", "at": 2.0, "epoch": 20, "loss": 0.01, "test_top1": 0.5}) + "\n")
        file.write(json.dumps({"event": "end", "at": 2.0, "epoch": 20, "seconds": 5.0}) + "\n")
    run.results_file.write_text(
        json.dumps({"results": [{"name": "test", "dataset": "d", "split": "s", "count": 3, "top1": 0.5, "top5": None}]})
    )
    window, page = opened(qtbot, open_window)
    shown = page.run_page
    qtbot.waitUntil(lambda: len(shown.series.get("loss", ())) == 20_001, timeout=20_000)
    qtbot.waitUntil(lambda: "loss" in shown.curves.plots["loss"].curves)
    plot = shown.curves.plots["loss"]
    qtbot.waitUntil(lambda: plot.curves["loss"].getData()[0] is not None and len(plot.curves["loss"].getData()[0]) > 10)
    assert len(plot.curves["loss"].getData()[0]) < 8 * plot.width()
    # A thin line: a wide one of so many points is painted 25 times as long.
    assert plot.curves["loss"].opts["pen"].widthF() == 1.0 and plot.curves["loss"].opts["antialias"]
    assert shown.row.state == "finished" and "Finished" in shown.sentence.text()
    shown.curves._hover("loss", 15.0)
    assert "Epoch 15.00" in shown.curves.reading.text() and "loss" in shown.curves.reading.text()
    # Zoomed, it keeps its scale until the user lets it follow again.
    plot.getPlotItem().getViewBox().setXRange(1, 2)
    plot.following = False
    shown.curves.refresh()
    assert plot.getPlotItem().getViewBox().viewRange()[0][1] < 3
    shown.save_csv(tmp_path / "curves.csv")
    qtbot.waitUntil(lambda: not page._reader.busy)
    assert sum(line.startswith("loss,") for line in (tmp_path / "curves.csv").open()) == 20_001
    assert shown.save_png(tmp_path / "curves.png") and (tmp_path / "curves.png").stat().st_size > 5000
    assert "finished after 5 s" in shown.log.toPlainText()
    shown.show_page("results")
    assert "50.00 %" in shown.results.toPlainText()
    for name in ("light", "dark"):
        window.settings.set("appearance.theme", name)


def test_losses_of_many_parts_have_plots_of_their_own(qtbot, open_window, home, tmp_path):
    """The sum does not press its parts flat; what is switched off, or the loss itself again, is not drawn."""
    losses = {"contrast_joint": 4.4, "cross_modal": 0.0, "cluster": 13.0}
    for name, parts in (("three", losses | {"own_weight": 0.1}), ("one", {"cross_entropy": None})):
        run = RunFolder(home / "runs" / name)
        run.path.mkdir(parents=True)
        run.recipe_file.write_text(yaml.safe_dump(SMALL))
        with run.events_file.open("w") as file:
            file.write(json.dumps({"event": "run", "at": 1.0, "epoch": 0, "step": 0, "epochs": 9, "steps": 1}) + "\n")
            for epoch in range(1, 9):
                loss = 20.0 - epoch
                values = {key: loss if value is None else value for key, value in parts.items()}
                row = {"event": "epoch", "at": 1.0 + epoch, "epoch": epoch, "loss": loss, "lr": 0.1, **values}
                file.write(json.dumps(row) + "\n")
    window, page = opened(qtbot, open_window)
    shown = page.run_page

    def drawn(name):
        page.table.select(home / "runs" / name)
        qtbot.waitUntil(lambda: shown.row is not None and shown.row.name == name)
        qtbot.waitUntil(lambda: len(shown.series.get("loss", ())) == 8)
        shown.curves.refresh()
        return {group: set(plot.curves) for group, plot in shown.curves.plots.items() if plot.isVisible()}

    qtbot.waitUntil(lambda: shown.curves.ready)
    assert drawn("three") == {
        "loss": {"loss"}, "parts": {"contrast_joint", "cluster"}, "measures": {"own_weight"}, "lr": {"lr"},
    }  # fmt: skip
    # The sum and its parts stand beside each other, above the rest.
    places = {group: shown.curves._boxes[group].geometry() for group in ("loss", "parts", "measures")}
    assert places["loss"].top() == places["parts"].top() < places["measures"].top()
    assert places["loss"].right() < places["parts"].left()
    # In a low window they keep their size, and what is below is scrolled to; a picture has all of them.
    window.resize(1024, 600)
    area, plots = shown.curves._area, shown.curves._plots
    qtbot.waitUntil(lambda: area.verticalScrollBar().maximum() > 0)
    assert all(plot.height() >= 96 for plot in shown.curves.plots.values() if plot.isVisible())
    shown.save_png(tmp_path / "curves.png")
    ratio = plots.devicePixelRatioF()
    assert QImage(str(tmp_path / "curves.png")).height() == round(plots.height() * ratio) > area.height() * ratio
    assert drawn("one") == {"loss": {"loss"}, "lr": {"lr"}}


def test_names_of_runs_have_room(qtbot, open_window, home):
    """The usual name is read whole where the window has its usual size."""
    name = "nw_ucla_ctrgcn_joint"
    run = RunFolder(home / "runs" / name)
    run.path.mkdir(parents=True)
    run.recipe_file.write_text(yaml.safe_dump(SMALL))
    window, page = opened(qtbot, open_window)
    window.resize(1280, 800)
    qtbot.waitUntil(lambda: page.table.model().rowCount() == 1 and window.width() == 1280)
    qtbot.waitUntil(lambda: page.table.columnWidth(0) > 20 + page.table.fontMetrics().horizontalAdvance(name))
    assert sum(page.table.columnWidth(c) for c in range(9) if not page.table.isColumnHidden(c)) <= page.table.width()


def test_two_windows_on_one_folder(qtbot, open_window, home):
    """Both list the same; one of them starts what waits, the other says so."""
    tiny_store(home)
    _, first = opened(qtbot, open_window)
    _, second = opened(qtbot, open_window)
    for page in (first, second):
        page.hold.setChecked(True)
    first.recipe.open_data(SMALL)
    qtbot.waitUntil(first.recipe.start.isEnabled)
    first.recipe.start.click()
    # Whoever saw it first has the queue.
    said = ["1 waiting, another window (process", "1 waiting, the queue is held"]

    def both_say_so():
        notes = sorted(page.queue_note.text() for page in (first, second))
        return all(note.startswith(words) for note, words in zip(notes, said, strict=True))

    qtbot.waitUntil(both_say_so, timeout=20_000)
    qtbot.waitUntil(lambda: len(second.table_model.rows) == 1)
    second.watcher.cancel(second.table_model.rows[0].path)
    qtbot.waitUntil(lambda: first.queue_note.text() == "", timeout=20_000)


def test_a_window_that_closes_while_the_page_is_made_leaves_nothing_behind(qtbot, open_window):
    window = open_window()
    window.show_panel("training")
    panel = window.panels["training"]
    for step in range(6):
        qtbot.waitUntil(lambda: panel._made is not None, timeout=20_000)
        if panel.page is not None:
            break
        panel._make_on()
        if step == 4:
            break
    assert window.close() and window.closed_clean and panel.page is None
