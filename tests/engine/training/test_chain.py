"""Chains: one folder, steps done once, the same end however often they are interrupted, words that name the step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.cli import entry as command
from engine.cli.chain import load_chain
from engine.data.sets import split_indices
from engine.data.store import SequenceStore
from engine.models.checkpoint import load_encoder
from engine.models.shelf import find_places
from engine.paths import PROJECT
from engine.training import chain as chain_module
from engine.training.chain import run_chain, step_folders, usual_chain
from engine.training.evaluate import evaluate_encoder
from engine.training.recipe import RecipeError, load_recipe
from engine.training.recipe_chain import ChainRecipe
from engine.training.run_folder import RunError, RunFolder
from tests.engine.training.pretext_of_tests import install, tiny, write_stores

SGD = {"lr": 0.05, "warmup_epochs": 0, "milestones": []}
FAST = {"epochs": 2, "batch": 8, "evaluate_every": 1, "optimiser": SGD}


def small(**changes) -> ChainRecipe:
    values = {
        "name": "small", "seed": 5, "threads": 1, "accelerator": "cpu",
        "steps": [
            {"name": "pretrain", "recipe": tiny(epochs=2).model_dump(mode="json")},
            {"name": "knn", "recipe": {"task": "knn", "k": 3, "also_k": []}},
            {"name": "linear", "recipe": FAST | {"task": "linear"}},
            {"name": "scratch", "recipe": FAST | {"task": "semi", "untrained": True, "fraction": 0.5}},
            {"name": "again", "recipe": {"task": "knn", "k": 1, "also_k": []}, "parent": "linear"},
        ],
    }  # fmt: skip
    return ChainRecipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return write_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def tiny_pretext(monkeypatch):
    install(monkeypatch)


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {str(file.relative_to(folder)): load_file(file) for file in sorted(folder.rglob("weights.safetensors"))}


def same(a: dict[str, dict[str, torch.Tensor]], b: dict[str, dict[str, torch.Tensor]]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[f][key], b[f][key]) for f in a for key in a[f])


def test_a_chain_is_its_runs_and_their_results(stores, tiny_pretext, tmp_path):
    heard = []
    assert run_chain(small(), stores, tmp_path / "chain", heard.append)
    folder = RunFolder(tmp_path / "chain")
    children = step_folders(small(), folder)
    assert [child.name for child in children] == ["1_pretrain", "2_knn", "3_linear", "4_scratch", "5_again"]
    assert all(child.status().state == "finished" for child in children)
    results = folder.results()["results"]
    assert [r["name"].partition(":")[0] for r in results] == [
        "pretrain", "pretrain", "knn", "linear", "scratch", "again"
    ]  # fmt: skip
    for result in results:
        own = (tmp_path / "chain" / result["run"] / "results.json").read_text()
        assert any(result["top1"] == r["top1"] for r in json.loads(own)["results"])
    # Parents are the steps they were said to be, and all of the chain's seed.
    linear, scratch, again = (child.recipe() for child in children[2:])
    assert linear.parents[0]["name"] == "small_pretrain" and again.parents[0]["name"] == "small_linear"
    assert scratch.parents[0]["weights"] == "fresh" and scratch.fraction == 0.5
    assert {child.recipe().seed for child in children} == {5}
    status = folder.status()
    assert (status.state, status.epochs) == ("finished", 5)
    assert [e["child"] for e in folder.events() if e["event"] == "run"] == [child.name for child in children]
    assert {e["child"] for e in heard if e["event"] == "epoch"} == {"1_pretrain", "3_linear", "4_scratch"}


def test_what_is_finished_is_not_done_again(stores, tiny_pretext, tmp_path, monkeypatch):
    run_chain(small(), stores, tmp_path / "whole")
    real = chain_module.run_task
    done = []

    def cut(recipe, *where):
        done.append(recipe.name)
        if done.count("small_linear") == 1 and recipe.name == "small_linear":
            raise OSError("the cable was pulled")
        return real(recipe, *where)

    monkeypatch.setattr(chain_module, "run_task", cut)
    with pytest.raises(OSError, match="cable"):
        run_chain(small(), stores, tmp_path / "cut")
    status = RunFolder(tmp_path / "cut").status()
    assert status.state == "failed" and "linear" in status.reason and "cable" in status.reason
    assert run_chain(small(), stores, tmp_path / "cut")
    assert done == [f"small_{n}" for n in ("pretrain", "knn", "linear", "linear", "scratch", "again")]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    with pytest.raises(RecipeError, match="another recipe"):
        run_chain(small(seed=6), stores, tmp_path / "cut")


@pytest.mark.parametrize("at", ["1_pretrain", "3_linear"])
def test_a_chain_asked_to_stop_saves_its_step_and_goes_on(stores, tiny_pretext, tmp_path, at):
    run_chain(small(), stores, tmp_path / "whole")

    def ask(event):
        if event.get("child") == at and event["event"] == "epoch" and event["epoch"] == 1:
            (tmp_path / "stopped" / "stop").touch()

    assert run_chain(small(), stores, tmp_path / "stopped", ask) is None
    folder = RunFolder(tmp_path / "stopped")
    assert folder.status().state == "stopped" and (folder.status().reason).startswith(at.partition("_")[2])
    assert RunFolder(folder.path / at).status().epoch == 1
    assert run_chain(small(), stores, tmp_path / "stopped")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_streams_of_a_chain_are_named_after_the_colon(stores, tiny_pretext, tmp_path, monkeypatch):
    words = {"parent": "pretrain:joint", "further_parents": ["pretrain:joint_motion"]}
    two = tiny(epochs=1, method_args={"several": True}).model_dump(mode="json")
    recipe = small(
        steps=[
            {"name": "pretrain", "recipe": two},
            {"name": "motion", "recipe": {"task": "knn"}, "parent": "pretrain:joint_motion"},
            {"name": "joined", "recipe": {"task": "knn"}, **words},
        ]
    )
    assert run_chain(recipe, stores, tmp_path / "chain")
    monkeypatch.setattr("engine.paths.runs", lambda: tmp_path)
    found = {place.folder.relative_to(tmp_path).as_posix() for place in find_places() if place.origin == "trained"}
    assert found == {"chain/1_pretrain/checkpoint/joint", "chain/1_pretrain/checkpoint/joint_motion"}
    motion, joined = (RunFolder(tmp_path / "chain" / name).results() for name in ("2_motion", "3_joined"))
    assert motion["parent"]["stream"] == "joint_motion"
    assert [about["stream"] for about in joined["parents"]] == ["joint", "joint_motion"]


def test_steps_that_are_asked_together_answer_by_the_mean_of_their_logits(stores, tiny_pretext, tmp_path):
    two = tiny(epochs=1, method_args={"several": True}).model_dump(mode="json")
    linear = FAST | {"task": "linear"}
    steps = [
        {"name": "pretrain", "recipe": two},
        *({"name": s, "recipe": linear, "parent": f"pretrain:{s}"} for s in ("joint", "joint_motion")),
    ]
    recipe = small(steps=steps, together={"late": ["joint", "joint_motion"]})
    assert run_chain(recipe, stores, tmp_path / "chain")
    results = RunFolder(tmp_path / "chain").results()["results"]
    late = next(r for r in results if r["name"] == "late: test sequences")
    store = SequenceStore(stores / "utd_mhad")
    _, test = split_indices(store, late["split"])
    tested = []
    for name in ("2_joint", "3_joint_motion"):
        encoder, card = load_encoder(tmp_path / "chain" / name / "checkpoint")
        tested.append(evaluate_encoder(encoder, store, test, card.preprocessing, card.classes))
    right = np.mean([one.logits for one in tested], 0).argmax(1) == tested[0].labels
    assert late["top1"] == pytest.approx(right.mean()) and late["count"] == len(test)
    assert "2_joint, 3_joint_motion" in late["note"]


@pytest.mark.parametrize(("together", "message"), [(["linear"], "at least two"), (["linear", "x"], "x is no step")])
def test_only_steps_can_be_asked_together(together, message):
    with pytest.raises(ValueError, match=f"together.late: .*{message}"):
        small(together={"late": together})


def test_the_usual_chain_of_three_streams_fuses_early_and_late():
    chain = usual_chain(load_recipe("nw_ucla_xview_i2md_stgcn"))
    steps = {step.name: step for step in chain.steps}
    assert chain.together == {"late_fusion": ["linear", "linear_joint_motion", "linear_bone"]}
    assert steps["linear_joined"].further_parents == ["pretrain:joint_motion", "pretrain:bone"]
    assert steps["linear_bone"].parent == "pretrain:bone" and steps["linear"].parent == "pretrain:joint"
    assert not usual_chain(load_recipe("nw_ucla_xview_hiclr_joint")).together
    # Of one stream there is nothing to fuse, and it need not be the joints.
    chain = usual_chain(load_recipe("nw_ucla_xview_i2md_stgcn", {"method_args.streams": "[bone]"}))
    assert not chain.together and [step.parent for step in chain.steps[1:]] == ["pretrain:bone"] * 3
    assert [step.name for step in chain.steps] == ["pretrain", "knn", "linear", "finetune"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_chain_in_its_own_process_is_killed_and_resumed(stores, tmp_path, monkeypatch):
    script = tmp_path / "chain.py"
    script.write_text(
        "import sys\nfrom engine.training import pretext\nfrom engine.cli import entry\n"
        "from tests.engine.training.pretext_of_tests import entry as tiny_entry\n"
        "pretext.PRETEXTS['moco'] = tiny_entry()\nsys.exit(entry(sys.argv[1:]))\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    (home / "stores").symlink_to(stores)
    monkeypatch.setenv("SKELAPP_HOME", str(home))
    (tmp_path / "small.yaml").write_text(small().model_dump_json())
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    run = RunFolder(home / "runs" / "small")

    def started(*words):
        return subprocess.Popen(
            [sys.executable, str(script), *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    process = started("chain", str(tmp_path / "small.yaml"), "--linear.epochs", "3000")
    deadline = time.monotonic() + 120
    while RunFolder(run.path / "3_linear").status().epoch < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run.status().state == "running" and run.status().epochs == 5
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert run.status().state == "interrupted" and RunFolder(run.path / "1_pretrain").status().state == "finished"
    # Resumed as a run, and stopped with the command for runs.
    process = started("runs", "resume", "small")
    before = RunFolder(run.path / "3_linear").status().epoch
    while RunFolder(run.path / "3_linear").status().epoch <= before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert command(["runs", "stop", "small"]) == 0
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "runs resume" in out and run.status().state == "stopped"


def test_the_command(stores, tiny_pretext, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "stores").symlink_to(stores)
    (tmp_path / "small.yaml").write_text(small().model_dump_json())
    words = ["chain", str(tmp_path / "small.yaml"), "--pretrain.epochs", "1", "--linear.optimiser.lr", "0.1"]
    assert command([*words, "--show"]) == 0 and "lr: 0.1" in capsys.readouterr().out
    assert command(words) == 0
    out = capsys.readouterr()
    assert "linear: linear evaluation: top-1" in out.out and "step 2 of 5: 2_knn" in out.err
    assert command(["runs", "list"]) == 0 and "finished" in capsys.readouterr().out
    assert command(["runs", "show", "small/3_linear"]) == 0 and "small_pretrain" in capsys.readouterr().out
    (tmp_path / "knn.yaml").write_text('{"task": "knn", "parent": "x"}')
    for wrong, message in (
        ([str(tmp_path / "knn.yaml")], "begins with a pretraining"),
        ([str(tmp_path / "small.yaml"), "--linear.epochs", "0"], "steps.2"),
        (["nobody"], "there is no recipe nobody"),
    ):
        assert command(["chain", *wrong]) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1


def test_changes_reach_the_chain_and_its_steps(tmp_path):
    (tmp_path / "small.yaml").write_text(small().model_dump_json())
    changed = load_chain(str(tmp_path / "small.yaml"), {"seed": "9", "knn.k": "7"})
    assert changed.seed == 9 and changed.child(1, "x").k == 7 and changed.child(0, "").seed == 9
    moved = load_chain(str(tmp_path / "small.yaml"), {"threads": "3", "linear.threads": "2"})
    assert moved.digest() == small().digest() != changed.digest()
    named = load_chain(str(tmp_path / "small.yaml"), {"name": "123", "title": "HiCLR: a: b"})
    assert (named.name, named.title) == ("123", "HiCLR: a: b")
    with pytest.raises(RecipeError, match=r"linear\.seed: all steps of a chain have its seed; --seed 7"):
        load_chain(str(tmp_path / "small.yaml"), {"linear.seed": "7"})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo over processes started by the loop is tested on Linux")
def test_on_two_devices_every_step_is_a_command_of_its_own(stores, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "stores").symlink_to(stores)
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    plain = tiny(epochs=1, method_args={"queue_length": 16}).model_dump(mode="json")
    recipe = small(devices=2, steps=[{"name": "pretrain", "recipe": plain}])
    assert run_chain(recipe, stores, tmp_path / "chain")
    (began,) = (e for e in RunFolder(tmp_path / "chain" / "1_pretrain").events() if e["event"] == "run")
    assert began["processes"] == 2 and len(RunFolder(tmp_path / "chain").results()["results"]) == 2
    wrong = small(devices=2, steps=[{"name": "pretrain", "recipe": plain | {"batch": 100}}])
    with pytest.raises(RunError, match="fewer than one batch"):
        run_chain(wrong, stores, tmp_path / "wrong")
    with pytest.raises(ValueError, match="on one machine"):
        small(nodes=2)
