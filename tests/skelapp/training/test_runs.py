"""The list of runs from hand-made folders: every state, read again only where something changed; delete and undo."""

import errno
import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from PySide6.QtCore import QRect
from PySide6.QtWidgets import QStyleOptionViewItem

from engine.models import card
from engine.training.recipe import RecipeError
from engine.training.run_folder import RunError, RunFolder
from skelapp.training import children, runs
from skelapp.training.choices import find_checkpoints
from skelapp.training.runs import RunScanner, said_last
from skelapp.training.runs_table import COLUMNS, RunFilter, RunTable, told_before
from skelapp.training.runs_view import RunsView
from skelapp.training.watch import Wishes, _Folder

RECIPE = {"name": "small", "dataset": "utd_mhad", "split": "xsub", "preprocessing": {"frames": 8, "stream": "bone"}}
HELD = Wishes(at_once=1, threads=1, low_priority=True, hold=True)


def make(root, name, *events, recipe=RECIPE):
    folder = RunFolder(root / name)
    folder.path.mkdir(parents=True)
    if recipe:
        folder.recipe_file.write_text(yaml.safe_dump(recipe))
    at = 1000.0 + len(list(root.iterdir()))
    lines = [json.dumps({"event": kind, "at": at, **values}) for kind, values in events]
    if lines:
        folder.events_file.write_text("\n".join(lines) + "\n")
    return folder


BEGUN = ("run", {"epoch": 0, "step": 0, "epochs": 4, "steps": 10})
STEP = ("step", {"epoch": 2, "step": 5, "steps": 10, "loss": 1.5, "eta_s": 60.0})
EPOCH = ("epoch", {"epoch": 1, "loss": 2.0, "test_top1": 0.5})


def states(scanner):
    return {row.name: row.state for row in scanner.scan()}


def test_every_state_is_told(tmp_path):
    make(tmp_path, "finished", BEGUN, ("end", {"epoch": 4}))
    make(tmp_path, "stopped", BEGUN, EPOCH, STEP, ("stopped", {"epoch": 1, "reason": "asked by file"}))
    make(tmp_path, "cancelled", BEGUN, ("stopped", {"epoch": 0, "reason": "cancelled; ..."}))
    make(tmp_path, "failed", BEGUN, ("failed", {"reason": "RecipeError: no"}))
    died = make(tmp_path, "died", BEGUN, EPOCH, STEP)
    died.output_file.write_text("=== one\nold\n=== two\nTraceback\nkilled by a tree\n")
    make(tmp_path, "new")
    queued = children.enqueue(tmp_path, RECIPE)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".deleted").mkdir()
    rows = {row.name: row for row in RunScanner(tmp_path).scan()}
    assert {name: row.state for name, row in rows.items()} == {
        "finished": "finished", "stopped": "stopped", "cancelled": "cancelled", "failed": "failed",
        "died": "interrupted", "new": "new", queued.name: "queued",
    }  # fmt: skip
    row = rows["died"]
    assert (row.epoch, row.epochs, row.fraction, row.accuracy, row.loss) == (1, 4, 1.5 / 4, 0.5, 1.5)
    assert row.said == "Traceback\nkilled by a tree" and said_last(died.path, 1) == "killed by a tree"
    assert (row.dataset, row.split, row.stream) == ("utd_mhad", "xsub", "bone")
    assert rows["failed"].reason == "RecipeError: no" and rows[queued.name].backbone == "ctrgcn"


def test_a_run_that_cannot_be_looked_at_leaves_the_others_listed(tmp_path, monkeypatch):
    for name in ("mine", "sealed"):
        folder = make(tmp_path, name, BEGUN)
        folder.checkpoint.mkdir()
        (folder.checkpoint / "card.json").write_text("{}")
    real = os.stat

    def stat(path, **options):
        if str(path).startswith(f"{tmp_path / 'sealed'}{os.sep}"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert [row.name for row in RunScanner(tmp_path).scan()] == ["mine"]
    assert "mine" in find_checkpoints(tmp_path) and "sealed" not in find_checkpoints(tmp_path)
    assert card.find_checkpoints(tmp_path / "mine", tmp_path / "sealed") == [tmp_path / "mine" / "checkpoint"]


def test_a_method_with_an_encoder_per_stream_says_how_many(tmp_path):
    about = RECIPE | {"task": "pretrain", "method": "cmd"}
    make(tmp_path, "usual", BEGUN, recipe=about)
    make(tmp_path, "two", BEGUN, recipe=about | {"method_args": {"streams": ["joint", "bone"]}})
    make(tmp_path, "one", BEGUN, recipe=about | {"method_args": {"streams": ["joint_motion"]}})
    make(tmp_path, "other", BEGUN, recipe=about | {"method": "moco"})
    found = {row.name: row.stream for row in RunScanner(tmp_path).scan()}
    assert found == {"usual": "3 streams", "two": "2 streams", "one": "joint_motion", "other": "bone"}
    encoder = next(column for column in COLUMNS if column.head == "Encoder")
    said = {row.name: encoder.text(row) for row in RunScanner(tmp_path).scan()}
    assert said["usual"] == "3 × ST-GCN" and said["one"] == "ST-GCN, joint_motion"


def test_only_what_changed_is_read_again(tmp_path, monkeypatch):
    folders = [make(tmp_path, f"run{i}", BEGUN, EPOCH, STEP) for i in range(100)]
    scanner, read = RunScanner(tmp_path), []
    real = scanner._read
    monkeypatch.setattr(scanner, "_read", lambda folder: read.append(folder.name) or real(folder))
    assert len(scanner.scan()) == 100 and len(read) == 100
    scanner.scan()
    assert len(read) == 100
    with folders[7].events_file.open("a") as file:
        file.write(json.dumps({"event": "end", "at": 1.0, "epoch": 4}) + "\n")
    assert states(scanner)["run7"] == "finished" and read[100:] == ["run7"]
    with folders[8].locked():
        assert states(scanner)["run8"] == "running"
        folders[8].stop_file.touch()
        assert states(scanner)["run8"] == "stopping"
    assert states(scanner)["run8"] == "interrupted" and len(read) == 101


def test_a_process_that_ends_before_it_says_anything_has_failed(tmp_path):
    folder = children.enqueue(tmp_path, RECIPE)
    (folder.path / runs.QUEUED).unlink()
    folder.output_file.write_text("=== begun\nno prepared store\n")
    scanner = RunScanner(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        created = psutil.Process(process.pid).create_time()
        (folder.path / runs.CHILD).write_text(json.dumps({"process": process.pid, "created": created}))
        assert states(scanner)["small"] == "starting"
        with pytest.raises(RunError, match="is running"):
            children.delete(tmp_path, folder)
        process.communicate(b"\n")
    (row,) = scanner.scan()
    assert (row.state, row.reason, row.said) == ("failed", "no prepared store", "no prepared store")
    # The number of the process has gone to another one since.
    me = json.dumps({"process": os.getpid(), "created": 1.0})
    (folder.path / runs.CHILD).write_text(me)
    assert states(scanner)["small"] == "failed"


def test_queue_has_an_order_and_one_window_starts_what_waits(tmp_path, monkeypatch):
    first, second = children.enqueue(tmp_path, RECIPE), children.enqueue(tmp_path, RECIPE)
    assert (first.name, second.name) == ("small", "small-2")
    started = []
    monkeypatch.setattr(children, "start", lambda folder, *_: started.append(folder.name) or fake(folder))

    def fake(folder):
        (folder.path / runs.QUEUED).unlink()
        make_running.append(folder)
        return subprocess.Popen([sys.executable, "-c", ""])

    make_running = []
    one, other = _Folder(tmp_path), _Folder(tmp_path)
    go = Wishes(1, 1, True, hold=False)
    assert one.look(None, HELD).elsewhere is None and started == []
    assert other.look(None, go).elsewhere == os.getpid() and started == []
    one.look(None, go)
    assert started == ["small"]
    with make_running[0].locked():
        one.look(None, go)
        assert started == ["small"]
    one.look(None, go)
    assert started == ["small", "small-2"]
    for folder in (one, other):
        for process in folder.processes.values():
            process.wait()
        folder.close()
    with pytest.raises(RecipeError, match="split"):
        children.enqueue(tmp_path, {"name": "bad", "dataset": "x", "preprocessing": {}})
    assert not (tmp_path / "bad").exists()


def test_commands_of_a_run(tmp_path):
    folder = children.enqueue(tmp_path, RECIPE)
    assert children.words_for(folder) == ["train", str(folder.path / "asked.yaml"), "--run", str(folder.path)]
    folder.recipe_file.write_text(yaml.safe_dump(RECIPE))
    assert children.words_for(folder) == ["runs", "resume", str(folder.path)]
    pretraining = RECIPE | {"task": "pretrain", "method": "moco"}
    chain = children.enqueue(tmp_path, pretraining, chain=True)
    assert chain.name == "small_chain" and children.words_for(chain)[0] == "chain"
    assert children.recipe_of(chain) == pretraining and children.threads_of(chain.path) == 0


def test_a_chain_is_one_row_with_its_steps(tmp_path):
    steps = [{"name": "pretrain", "recipe": RECIPE | {"method": "moco"}}, {"name": "knn", "recipe": {}}]
    chain = make(tmp_path, "chain", BEGUN, recipe={"task": "chain", "name": "chain", "steps": steps})
    make(chain.path, "1_pretrain", BEGUN, STEP)
    scanner = RunScanner(tmp_path)
    (row,) = scanner.scan()
    assert [(step.name, step.state) for step in row.steps] == [("1_pretrain", "interrupted"), ("knn", "new")]
    assert (row.task, row.method, row.dataset, row.fraction) == ("chain", "moco", "utd_mhad", 1.5 / 4 / 2)
    make(chain.path, "2_knn", BEGUN, ("end", {"epoch": 4}))
    (row,) = scanner.scan()
    assert row.steps[1].state == "finished" and row.fraction == (1.5 / 4 + 1) / 2


def test_delete_can_be_undone_for_a_week(tmp_path):
    folder = make(tmp_path, "mine", BEGUN, ("end", {"epoch": 4}))
    with folder.locked(), pytest.raises(RunError, match="is running"):
        children.delete(tmp_path, folder)
    place = children.delete(tmp_path, folder)
    assert RunScanner(tmp_path).scan() == [] and place.is_dir()
    make(tmp_path, "mine", BEGUN)
    assert children.bring_back(tmp_path, place).name == "mine-2"
    place = children.delete(tmp_path, RunFolder(tmp_path / "mine-2"))
    children.empty_trash(tmp_path, time.time() + children.KEEP_S - 60)
    assert place.is_dir()
    children.empty_trash(tmp_path, time.time() + children.KEEP_S + 60)
    assert not place.exists()


def test_cancel_of_what_nobody_holds_does_nothing(tmp_path):
    folder = make(tmp_path, "mine", BEGUN)
    children.cancel(folder)
    assert folder.status().state == "interrupted"
    children.wait(folder)
    assert states(RunScanner(tmp_path)) == {"mine": "queued"}
    children.cancel(folder)
    assert states(RunScanner(tmp_path)) == {"mine": "interrupted"}


def test_table_keeps_rows_and_sorts_what_runs_and_waits_first(tmp_path, qapp):
    for name in ("a", "b"):
        make(tmp_path, name, BEGUN, EPOCH, ("end", {"epoch": 4}))
    queue = [children.enqueue(tmp_path, RECIPE) for _ in range(2)]
    scanner, table = RunScanner(tmp_path), RunTable()
    proxy = RunFilter(table)
    proxy.sort(len(COLUMNS) - 1, proxy.sortOrder().DescendingOrder)
    table.set_rows(scanner.scan())
    assert [proxy.run(i).name for i in range(4)] == ["small", "small-2", "b", "a"]
    assert proxy.index(0, 1).data() == "…  next" and proxy.index(1, 1).data() == "…  waits, 2."
    changed, reset = [], []
    table.dataChanged.connect(lambda top, *_: changed.append(table.rows[top.row()].name))
    table.modelReset.connect(lambda: reset.append(1))
    with RunFolder(tmp_path / "a").locked():
        table.set_rows(scanner.scan())
        assert proxy.run(0).name == "a" and proxy.index(0, 1).data() == "▶  running, 25 %"
    assert "b" not in changed and not reset
    children.delete(tmp_path, queue[0])
    table.set_rows(scanner.scan())
    assert {proxy.run(i).name for i in range(3)} == {"small-2", "a", "b"}
    assert proxy.as_csv().splitlines()[0].startswith("Run,State,Epoch,Result") and "50.0 %" in proxy.as_csv()


def test_a_long_name_loses_what_its_neighbours_say_as_well(tmp_path, qapp):
    assert told_before(["a_b_x_1", "a_b_y_1", "c_d", "e", "a_b"]) == {
        "a_b_x_1": 2, "a_b_y_1": 2, "a_b": 2, "c_d": 0, "e": 0,
    }  # fmt: skip
    assert told_before([]) == {} and told_before(["", "_", "a__b", "a__c"]) == {"": 0, "_": 0, "a__b": 3, "a__c": 3}
    names = ["nw_ucla_ctrgcn_short_joint_e10_s1", "nw_ucla_ctrgcn_skeletongcl_short_joint_e10_s1", "nw_ucla_i"]
    for name in names:
        make(tmp_path, name, BEGUN)
    table = RunTable()
    view = RunsView(RunFilter(table))
    table.set_rows(RunScanner(tmp_path).scan())

    def shown(name: str, width: int) -> str:
        number = next(n for n in range(view.model().rowCount()) if view.model().run(n).name == name)
        option = QStyleOptionViewItem()
        option.rect = QRect(0, 0, width, 30)
        view.itemDelegateForColumn(0).initStyleOption(option, view.model().index(number, 0))
        return option.text

    assert [shown(name, 2000) for name in names] == names
    assert [shown(name, 200) for name in names] == [
        "…ctrgcn_short_joint_e10_s1", "…ctrgcn_skeletongcl_short_joint_e10_s1", "nw_ucla_i",
    ]  # fmt: skip
    make(tmp_path, "nw", BEGUN)
    table.set_rows(RunScanner(tmp_path).scan())
    assert shown(names[0], 200) == names[0]  # nothing is shared by all any more
    view.close()


def test_a_full_disk_leaves_no_half_run_and_no_process_that_nobody_finds(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    queued = children.enqueue(tmp_path, RECIPE)
    started = []
    monkeypatch.setattr(children, "program", lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(children, "give_way", lambda process, **_: started.append(process))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"small-2 can't be queued \(No space left on device\): make room"):
        children.enqueue(tmp_path, RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    with pytest.raises(RunError, match="No space left"):
        children.start(queued, threads=1, low_priority=True)
    assert len(started) == 1 and not psutil.pid_exists(started[0])
    # The recipe is still there: the run can be started when there is room again.
    assert states(RunScanner(tmp_path)) == {"small": "new"} and children.words_for(queued)[0] == "train"


def test_who_reads_a_store_is_told(tmp_path):
    assert runs.reading(tmp_path, "utd_mhad") == []
    trains = make(tmp_path, "trains", BEGUN)
    make(tmp_path, "over", BEGUN, ("end", {"epoch": 4}))
    children.enqueue(tmp_path, RECIPE | {"name": "waits", "dataset": "nw_ucla", "also_train_on": ["utd_mhad"]})
    with trains.locked():
        assert sorted(runs.reading(tmp_path, "utd_mhad")) == ["trains", "waits"]
    assert runs.reading(tmp_path, "utd_mhad") == ["waits"] and runs.reading(tmp_path, "ntu60") == []
