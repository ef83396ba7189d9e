"""``train`` and ``runs`` as a user types them, with a training that runs in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from engine.cli import entry
from engine.data import sets
from engine.data.store import write_store
from engine.models.card import read_card
from engine.paths import PROJECT
from engine.skeleton.sequence import SkeletonSequence
from engine.training import devices
from engine.training.run_folder import EventLog, RunFolder

RECIPE = """
name: small
dataset: utd_mhad
split: xsub
backbone_args: {base_channels: 8}
preprocessing: {frames: 8, window_s: 1.0}
optimiser: {lr: 0.05, warmup_epochs: 1}
epochs: 2
batch: 8
threads: 1
accelerator: cpu
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's folder with a tiny store, and a recipe beside it."""
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    made = (
        SkeletonSequence(
            rng.standard_normal((20, 1, 25, 3)), np.arange(20) / 20, name=f"s{i}", label=i % 2,
            meta={"subject": i // 8 + 1, "digest": str(i)},
        )
        for i in range(32)
    )  # fmt: skip
    classes = sets.DATASETS["utd_mhad"].classes[:2]
    write_store(tmp_path / "home" / "stores" / "utd_mhad", "utd_mhad", made, classes, 20.0)
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path


def run_json(capsys, *words):
    capsys.readouterr()
    assert entry([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_show_compare_delete(home, capsys):
    assert entry(["runs", "list"]) == 0 and "no runs in" in capsys.readouterr().out
    assert entry(["train", "small.yaml"]) == 0
    assert entry(["train", "small.yaml", "--run", str(home / "home" / "runs" / "other"), "--optimiser.lr", "0.02"]) == 0
    listed = {run["name"]: run for run in run_json(capsys, "runs", "list")}
    assert listed.keys() == {"small", "other"}
    assert (listed["small"]["state"], listed["small"]["epoch"], listed["small"]["epochs"]) == ("finished", 2, 2)
    shown = run_json(capsys, "runs", "show", "small")
    assert shown["recipe"]["optimiser"]["lr"] == 0.05 and shown["results"]["results"][0]["count"] == 16
    compared = run_json(capsys, "runs", "compare", "small", "other")
    assert compared["recipe"] == {"optimiser.lr": [0.05, 0.02]}
    assert compared["top1"]["test sequences"][0] == shown["results"]["results"][0]["top1"]
    for words in (["list"], ["show", "small"], ["compare", "small", "other"]):
        assert entry(["runs", *words]) == 0
        out = capsys.readouterr().out
        assert "small" in out and "top-1" in out
    assert entry(["runs", "delete", "small"]) == 1
    assert "--yes" in capsys.readouterr().err and (home / "home" / "runs" / "small").is_dir()
    assert entry(["runs", "delete", "small", "other", "--yes"]) == 0
    assert not list((home / "home" / "runs").iterdir())


def test_a_processor_that_is_slow_in_bf16_is_told_so(home, capsys, monkeypatch):
    """Once, when the run begins: a run that goes on keeps its precision."""
    gains = {"fast": 2.0, "slow": 0.5}
    for name, gain in gains.items():
        monkeypatch.setattr(devices, "bf16_gain", lambda gain=gain: gain)
        for precision in ("bf16", "fp32"):
            run = str(home / "home" / "runs" / f"{name}_{precision}")
            assert entry(["train", "small.yaml", "--epochs", "1", "--precision", precision, "--run", run]) == 0
            told = "2.0 times as long as fp32" in capsys.readouterr().err
            assert told == (name == "slow" and precision == "bf16")
    again = ["train", "small.yaml", "--epochs", "1", "--precision", "bf16", "--run", str(home / "home/runs/slow_bf16")]
    assert entry(again) == 0 and "as long as" not in capsys.readouterr().err


def test_automatic_precision_is_decided_once_and_kept(home, capsys, monkeypatch):
    for name, gain, precision in (("fast", 2.0, "bf16"), ("slow", 0.5, "fp32")):
        run = home / "home" / "runs" / name
        words = ["train", "small.yaml", "--epochs", "1", "--precision", "auto", "--run", str(run)]
        monkeypatch.setattr(devices, "bf16_gain", lambda gain=gain: gain)
        assert entry(words) == 0
        kept = RunFolder(run).recipe()
        assert kept.precision == precision and read_card(run / "checkpoint").recipe_hash == kept.digest()
        # On a machine that measures something else it goes on as it began.
        monkeypatch.setattr(devices, "bf16_gain", lambda gain=gain: 1 / gain)
        assert entry(words) == 0 and RunFolder(run).recipe().precision == precision
        assert "times as long" not in capsys.readouterr().err


def test_one_run_per_seed_and_their_summary(home, capsys):
    assert entry(["train", "small.yaml", "--seeds", "1,2", "--epochs", "1"]) == 0
    listed = {run["name"]: run for run in run_json(capsys, "runs", "list")}
    assert listed.keys() == {"small_s1", "small_s2"} and all(run["state"] == "finished" for run in listed.values())
    recipes = [run_json(capsys, "runs", "show", name)["recipe"] for name in listed]
    assert [(r["name"], r["seed"]) for r in recipes] == [("small_s1", 1), ("small_s2", 2)]
    (row,) = run_json(capsys, "runs", "summary", "small")
    assert row["seeds"] == [1, 2]
    (fifth,) = run_json(capsys, "runs", "summary", "small", "--measure", "top5")
    # Two classes: the right one is always among five.
    assert fifth["spreads"][0]["values"] == [1.0, 1.0]
    # The same command again has nothing left to do.
    assert entry(["train", "small.yaml", "--seeds", "1,2", "--epochs", "1"]) == 0


def test_a_running_training_says_its_speed_and_time_left(home, capsys):
    """Also just after an epoch, whose event is not a step's, and before the first step."""
    folder = RunFolder(home / "home" / "runs" / "alive")
    folder.path.mkdir(parents=True)
    (folder.recipe_file).write_text(RECIPE)
    log = EventLog(folder.events_file)
    with folder.locked():
        log.write("run", epoch=0, step=0, epochs=3, steps=2, resumed=False)
        assert entry(["runs", "list"]) == 0 and "alive" in capsys.readouterr().out
        log.write("step", epoch=1, step=2, steps=2, lr=0.1, loss=1.5, clips_per_s=40.0, eta_s=90.0)
        log.write("epoch", epoch=1, loss=1.5, clips_per_s=41.0, eta_s=88.0, seconds=44.0, lr=0.1)
        assert entry(["runs", "list"]) == 0
        assert "loss 1.500  40 clips/s  1 min 30 s left" in capsys.readouterr().out
        assert run_json(capsys, "runs", "show", "alive")["eta_s"] == 90.0


def test_a_damaged_run_hides_no_other(home, capsys):
    assert entry(["train", "small.yaml", "--seeds", "1,2", "--epochs", "1"]) == 0
    RunFolder(home / "home" / "runs" / "small_s1").results_file.write_text("{")
    listed = {run["name"]: run for run in run_json(capsys, "runs", "list")}
    assert "damaged" in listed["small_s1"]["reason"] and listed["small_s2"]["results"]
    assert entry(["runs", "list"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "is damaged" in first and "top-1" in second
    assert entry(["runs", "summary"]) == 0
    told = capsys.readouterr()
    assert "small_s2" in told.out and "left out: small_s1" in told.err


def test_a_mistake_in_a_recipe_leaves_the_name_free(home, capsys):
    assert entry(["train", "small.yaml", "--method_args.temperature", "1"]) == 1
    assert "method_args.temperature: there is no such field" in capsys.readouterr().err
    assert entry(["train", "small.yaml", "--epochs", "1"]) == 0
    assert run_json(capsys, "runs", "show", "small")["state"] == "finished"
    # What has been made is never given away.
    assert entry(["train", "small.yaml", "--optimiser.lr", "0.02"]) == 1
    assert "belongs to another recipe (epochs 1 -> 2, optimiser.lr 0.05 -> 0.02)" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_says_how_to_go_on(home, capsys):
    assert entry(["train", "small.yaml", "--epochs", "1"]) == 0
    run = RunFolder(home / "home" / "runs" / "small")
    (run.checkpoint / "joint").mkdir()
    card = (run.checkpoint / "card.json").rename(run.checkpoint / "joint" / "card.json")
    assert entry(["evaluate", "small"]) == 1
    said = capsys.readouterr().err
    assert "a checkpoint per stream (joint)" in said and str(card.parent) in said
    card.unlink()
    assert entry(["evaluate", "small"]) == 1
    assert "has no checkpoint: the run leaves none" in capsys.readouterr().err
    lines = run.events_file.read_text().splitlines(keepends=True)
    run.events_file.write_text("".join(line for line in lines if json.loads(line)["event"] != "end"))
    assert entry(["evaluate", "small"]) == 1
    said = capsys.readouterr().err
    assert "the run is interrupted; main.py runs resume" in said and "goes on with it" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "nothing"], "no run nothing"),
        (["resume", "done"], "is finished"),
        (["stop", "done"], "is not running (finished)"),
        (["compare", "done"], "at least two"),
        (["delete", "home"], "no run home"),
    ],
)
def test_clear_errors(home, capsys, words, message):
    if "done" in words:
        assert entry(["train", "small.yaml", "--run", "home/runs/done", "--epochs", "1"]) == 0
    capsys.readouterr()
    assert entry(["runs", *words]) == 1
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert (home / "home" / "stores").is_dir()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_training_in_its_own_process_is_stopped_killed_and_resumed(home, capsys):
    """Stop by command and by SIGTERM end with status 0, ``kill -9`` leaves it interrupted; all go on."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    run = RunFolder(home / "home" / "runs" / "small")

    def started(*words, wait_for):
        before = len(list(run.events()))
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / "main.py"), *words],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not any(event["event"] == wait_for for event in list(run.events())[before:]):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    process = started("train", "small.yaml", "--epochs", "100000", wait_for="epoch")
    assert run.status().state == "running"
    assert entry(["runs", "delete", "small", "--yes"]) == 1 and "is running" in capsys.readouterr().err
    assert entry(["runs", "resume", "small"]) == 1 and "another process" in capsys.readouterr().err
    assert entry(["runs", "stop", "small"]) == 0
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "runs resume" in out and run.status().state == "stopped"

    process = started("runs", "resume", "small", wait_for="epoch")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) and process.returncode == 0 and run.status().state == "stopped"

    process = started("runs", "resume", "small", wait_for="epoch")
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and run.status().state == "interrupted"
    epochs = [event["epoch"] for event in run.events() if event["event"] == "run"]
    assert epochs == sorted(epochs) and epochs[-1] > 0
