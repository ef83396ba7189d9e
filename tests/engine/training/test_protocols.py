"""Protocols as runs: what is frozen stays so bit for bit, labels are used as said, parents and settings are kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.cli import entry as command
from engine.data.store import SequenceStore
from engine.models.card import CheckpointError, read_card
from engine.models.checkpoint import load_encoder
from engine.paths import PROJECT
from engine.training.evaluate import evaluate_encoder
from engine.training.evaluate import test_clips as clips_of
from engine.training.features import extract, join
from engine.training.optimisers import learning_rate
from engine.training.pretraining import pretrain
from engine.training.probe import nearest_neighbours
from engine.training.protocols.finetune import labelled
from engine.training.protocols.linear import Scale
from engine.training.protocols.loader import protocol_loader
from engine.training.protocols.parent import build_parents, complete, settle_fresh
from engine.training.protocols.report import open_target
from engine.training.recipe import RecipeError, parse_recipe
from engine.training.run_folder import RunFolder
from engine.training.tasks import completed, run_task
from tests.engine.training.pretext_of_tests import entry, tiny, write_stores

FAST = {"epochs": 3, "batch": 8, "threads": 1, "accelerator": "cpu", "evaluate_every": 1}
SGD = {"lr": 0.05, "warmup_epochs": 0, "milestones": []}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Stores, a pretrained run with one encoder and one with two."""
    from engine.training import pretext

    root = tmp_path_factory.mktemp("home")
    write_stores(root / "stores")
    patch = pytest.MonkeyPatch()
    patch.setitem(pretext.PRETEXTS, "moco", entry())
    pretrain(tiny(epochs=2), root / "stores", root / "runs" / "tiny")
    pretrain(tiny(epochs=1, name="two", method_args={"several": True}), root / "stores", root / "runs" / "two")
    patch.undo()
    return root


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    monkeypatch.setenv("SKELAPP_HOME", str(home))


def protocol(task, **changes):
    values = {"task": task, "parent": "tiny"}
    if task == "knn":
        values |= {"k": 3, "also_k": [1], "threads": 1, "accelerator": "cpu"}
    else:
        values |= FAST | {"optimiser": SGD | ({"weight_decay": 0.0} if task == "linear" else {})}
    return parse_recipe(values | changes)


def done(recipe, home, run):
    assert run_task(recipe, home / "stores", run)
    return RunFolder(run).results()


def test_a_recipe_takes_from_its_parent_what_it_leaves_open(home):
    card = read_card(home / "runs" / "tiny" / "checkpoint")
    recipe = completed(protocol("linear"))
    assert (recipe.name, recipe.dataset, recipe.split) == ("tiny_linear", "utd_mhad", "xsub")
    assert recipe.preprocessing == card.preprocessing and recipe.backbone == "stgcn"
    (about,) = recipe.parents
    assert about["weights"] == card.sha256["weights.safetensors"] and about["recipe_hash"] == card.recipe_hash
    assert complete(recipe) == recipe
    # The same parent by its folders, and the same digest wherever it lies.
    for parent in (home / "runs" / "tiny", home / "runs" / "tiny" / "checkpoint"):
        assert completed(protocol("linear", parent=str(parent))).digest() == recipe.digest()
    names = {
        "semi": completed(protocol("semi", fraction=0.05)).name,
        "untrained": completed(protocol("knn", untrained=True)).name,
        "stream": completed(protocol("knn", parent="two", parent_stream="joint")).name,
        "joined": completed(protocol("knn", parent="two", parent_stream="joint", further_parents=["tiny"])).name,
        "transfer": completed(protocol("finetune", dataset="utkinect", split="xsub")).name,
    }
    assert names == {
        "semi": "tiny_semi_5", "untrained": "tiny_untrained_knn", "stream": "two_joint_knn",
        "joined": "two_joined_knn", "transfer": "tiny_finetune_utkinect",
    }  # fmt: skip


def test_nearest_neighbours_of_a_run_are_those_of_its_features(home, tmp_path):
    results = done(protocol("knn"), home, tmp_path / "knn")
    encoder, card = load_encoder(home / "runs" / "tiny" / "checkpoint")
    target = open_target(completed(protocol("knn")), home / "stores")
    train, test = (extract(encoder, target.store, which, card.preprocessing) for which in (target.train, target.test))
    labels = torch.from_numpy(target.store.label[target.train])
    votes = nearest_neighbours(train, labels, test, 3, [3, 1], 0.1)
    assert [r["name"] for r in results["results"]] == ["nearest neighbours, k = 3", "nearest neighbours, k = 1"]
    for k, result in zip((3, 1), results["results"], strict=True):
        assert result["top1"] == target.evaluation(votes[k].numpy()).top1 and result["count"] == 24
    kept = np.load(tmp_path / "knn" / "predictions.npz")
    assert np.array_equal(kept["logits"], votes[3].numpy()) and kept["names"][0] == target.store.names[target.test[0]]
    assert results["parent"]["name"] == "tiny" and not (tmp_path / "knn" / "checkpoint").exists()


@pytest.mark.parametrize(
    "changes",
    [{}, {"clips": "random_crop"}, {"frozen_mode": "training"}, {"clips": "basic"}, {"standardise": True}],
    ids=["cached", "crop", "dropout", "basic", "standardised"],
)
def test_linear_evaluation_leaves_the_encoder_bit_identical(home, tmp_path, changes):
    recipe = protocol("linear", **changes)
    results = done(recipe, home, tmp_path / "run")
    before = load_file(home / "runs" / "tiny" / "checkpoint" / "weights.safetensors")
    after = load_file(tmp_path / "run" / "checkpoint" / "weights.safetensors")
    assert before.keys() == after.keys()
    for key, value in before.items():
        if not key.startswith("classifier."):
            assert torch.equal(value, after[key]), key
    assert after["classifier.weight"].shape == (3, before["classifier.weight"].shape[1])
    # All that learns is the classifier, and all of the state.
    kept = {key for key in load_file(tmp_path / "run" / "state.safetensors") if key.startswith("module.")}
    assert kept == {"module.head.weight", "module.head.bias"}
    encoder, card = load_encoder(tmp_path / "run" / "checkpoint")
    store = SequenceStore(home / "stores" / "utd_mhad")
    target = open_target(completed(recipe), home / "stores")
    again = evaluate_encoder(encoder, store, target.test, card.preprocessing, card.classes)
    assert card.classifier_trained and card.results[0].top1 == again.top1 == results["results"][0]["top1"]
    assert card.parent["name"] == "tiny" and card.training["protocol"] == "linear"
    (began,) = (event for event in RunFolder(tmp_path / "run").events() if event["event"] == "run")
    assert began["cached"] == (not changes or "standardise" in changes) and began["parent"]["name"] == "tiny"


def test_a_layer_on_scaled_features_is_one_on_the_features_themselves():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 4, generator=generator) * torch.tensor([1e-3, 1.0, 100.0, 0.0]) + 5
    scale = Scale.of(features, 4)
    scaled = scale(features)
    assert torch.allclose(scaled.mean(0), torch.zeros(4), atol=1e-3)
    assert torch.allclose(scaled.std(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-3)
    head = torch.nn.Linear(4, 3)
    folded = scale.folded_into(head)
    assert torch.allclose(folded(features), head(scaled), atol=2e-3)
    same = Scale.of(None, 4)
    assert torch.equal(same(features), features) and torch.equal(same.folded_into(head).weight, head.weight)


def test_features_read_once_give_what_features_read_anew_give(home, tmp_path):
    cached = done(protocol("linear", clips="none"), home, tmp_path / "cached")
    # Cropping always everything is no cropping; the features are computed in every step.
    step = completed(protocol("linear"))
    target = open_target(step, home / "stores")
    encoder, card = load_encoder(home / "runs" / "tiny" / "checkpoint")
    features = extract(encoder, target.store, target.train, card.preprocessing)
    kept = protocol_loader(step, target.store, target.train, card.preprocessing, features)
    anew = protocol_loader(step, target.store, target.train, card.preprocessing)
    for a, b in zip(kept, anew, strict=True):
        assert torch.equal(a.items, b.items) and torch.equal(a.labels, b.labels)
        with torch.inference_mode():
            assert torch.allclose(a.views[0], encoder(b.clips).features, atol=1e-5)
    assert cached["features"] == features.shape[1]


def test_fine_tuning_starts_from_the_parent_and_moves_everything(home, tmp_path):
    still = protocol("finetune", epochs=1, optimiser=SGD | {"lr": 1e-12, "weight_decay": 0.0})
    done(still, home, tmp_path / "still")
    done(protocol("finetune"), home, tmp_path / "moved")
    before = load_file(home / "runs" / "tiny" / "checkpoint" / "weights.safetensors")
    still, moved = (load_file(tmp_path / n / "checkpoint" / "weights.safetensors") for n in ("still", "moved"))
    learnt = [key for key in before if key.endswith("weight") and not key.startswith("classifier.")]
    assert all(torch.allclose(before[key], still[key], atol=1e-9) for key in learnt)
    assert all(not torch.equal(before[key], moved[key]) for key in learnt)
    scratch = protocol("finetune", untrained=True, epochs=1, optimiser=SGD | {"lr": 1e-12})
    done(scratch, home, tmp_path / "scratch")
    fresh = load_file(tmp_path / "scratch" / "checkpoint" / "weights.safetensors")
    assert not any(torch.allclose(before[key], fresh[key]) for key in learnt if before[key].dim() > 1)
    assert read_card(tmp_path / "scratch" / "checkpoint").parent["weights"] == "fresh"


def test_named_parameters_can_be_left_as_they_are(home, tmp_path):
    done(protocol("finetune", freeze=["blocks.0."]), home, tmp_path / "run")
    before = load_file(home / "runs" / "tiny" / "checkpoint" / "weights.safetensors")
    after = load_file(tmp_path / "run" / "checkpoint" / "weights.safetensors")
    parameters = [n for n, _ in load_encoder(tmp_path / "run" / "checkpoint")[0].named_parameters()]
    for name in parameters:
        assert torch.equal(before[name], after[name]) == name.startswith("blocks.0.") or name.startswith("classifier.")
    with pytest.raises(RecipeError, match=r"no parameter begins with 'stem'; there are .*blocks"):
        run_task(protocol("finetune", freeze=["stem"]), home / "stores", tmp_path / "none")


def test_few_labels(home, tmp_path):
    target = open_target(completed(protocol("knn")), home / "stores")
    store, train = target.store, target.train

    def used(**changes):
        return labelled(completed(protocol("semi", **changes)), store, train)

    # 24 training sequences, 8 of every class.
    for fraction, count in ((0.01, 1), (0.1, 1), (0.2, 2), (0.4, 3), (1.0, 8)):
        chosen = used(fraction=fraction)
        assert np.bincount(store.label[chosen]).tolist() == [count] * 3 and set(chosen) <= set(train)
        assert len(used(fraction=fraction, subset="random")) == max(1, int(24 * fraction))
    wrapped = used(fraction=0.2, full_length=True)
    few = used(fraction=0.2)
    assert len(wrapped) == 24 and all(wrapped[i] == few[i % len(few)] for i in range(24))
    assert not np.array_equal(used(fraction=0.2), used(fraction=0.2, subset_seed=1))
    results = done(protocol("semi", fraction=0.2, full_length=True), home, tmp_path / "semi")
    assert results["labelled"] == 6 and results["results"][0]["name"] == "semi-supervised"
    steps = [e["steps"] for e in RunFolder(tmp_path / "semi").events() if e["event"] == "run"]
    assert steps == [3]


def test_transfer_has_the_other_sets_classes(home, tmp_path):
    results = done(protocol("finetune", dataset="utkinect", split="xsub"), home, tmp_path / "run")
    card = read_card(tmp_path / "run" / "checkpoint")
    assert card.dataset == "utkinect" and card.classes == SequenceStore(home / "stores" / "utkinect").classes
    assert card.parent["dataset"] == "utd_mhad" and card.trained_on == ["utd_mhad", "utkinect"]
    assert results["results"][0]["count"] == 8
    with pytest.raises(RecipeError, match="split: to be given"):
        completed(protocol("finetune", dataset="utkinect"))


@pytest.mark.parametrize("fusion", ["concatenate", "mean", "mean_as_is"])
def test_streams_are_fused_early(home, tmp_path, fusion):
    words = {"parent": "two", "parent_stream": "joint", "further_parents": ["two:joint_motion"], "fusion": fusion}
    results = done(protocol("knn", **words), home, tmp_path / "knn")
    assert [about["stream"] for about in results["parents"]] == ["joint", "joint_motion"]
    target = open_target(completed(protocol("knn", **words)), home / "stores")
    read = []
    for stream in ("joint", "joint_motion"):
        encoder, card = load_encoder(home / "runs" / "two" / "checkpoint" / stream)
        assert card.preprocessing.stream == stream
        read.append([extract(encoder, target.store, i, card.preprocessing) for i in (target.train, target.test)])
    train, test = (join(side, fusion) for side in zip(*read, strict=True))
    joint, motion = read[0][0], read[1][0]
    if fusion == "mean_as_is":
        assert torch.allclose(train, (joint + motion) / 2)
    elif fusion == "mean":
        lengths = [side.square().sum(1, keepdim=True).sqrt() for side in (joint, motion)]
        assert torch.allclose(train, (joint / lengths[0] + motion / lengths[1]) / 2)
    votes = nearest_neighbours(train, torch.from_numpy(target.store.label[target.train]), test, 3, [3], 0.1)[3]
    assert results["results"][0]["top1"] == target.evaluation(votes.numpy()).top1
    linear = done(protocol("linear", **words), home, tmp_path / "linear")
    assert linear["features"] == train.shape[1] and not (tmp_path / "linear" / "checkpoint").exists()


def test_an_encoder_without_a_parent_is_a_baseline(home, tmp_path):
    card = read_card(home / "runs" / "tiny" / "checkpoint")
    alone = {
        "parent": "random", "backbone": "stgcn", "backbone_args": {"base_channels": 4}, "dataset": "utd_mhad",
        "split": "xsub", "preprocessing": card.preprocessing.model_dump(),
    }  # fmt: skip
    first = done(protocol("knn", **alone), home, tmp_path / "a")
    same = done(protocol("knn", untrained=True), home, tmp_path / "b")
    assert first["results"][0]["top1"] == same["results"][0]["top1"] and first["parent"]["method"] == "random"
    assert completed(protocol("knn", **alone)).name == "random_stgcn_knn"


def test_batch_norms_of_a_fresh_encoder_are_those_of_all_training_clips(home):
    recipe = completed(protocol("knn", untrained=True))
    target = open_target(recipe, home / "stores")
    (parent,) = build_parents(recipe, 3)
    norm = parent.encoder.input_norm
    before = norm.running_mean.clone()
    settle_fresh(recipe.model_copy(update={"settled": False}), [parent], target.store, target.train)
    assert torch.equal(norm.running_mean, before)
    settle_fresh(recipe, [parent], target.store, target.train)
    clips = clips_of(target.store, target.train, parent.spec)
    # (N, C, T, V, M) to a joint's coordinate over everything else; one batch holds all 24 clips.
    wanted = torch.from_numpy(clips).permute(3, 1, 0, 2, 4).reshape(75, -1)
    assert torch.allclose(norm.running_mean, wanted.mean(1), atol=1e-5)
    assert torch.allclose(norm.running_var, wanted.var(1), atol=1e-5) and norm.momentum == 0.1
    trained = build_parents(completed(protocol("knn")), 3)
    kept = trained[0].encoder.input_norm.running_mean.clone()
    settle_fresh(recipe, trained, target.store, target.train)
    assert torch.equal(trained[0].encoder.input_norm.running_mean, kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parent": ""}, "name the encoder that is judged"),
        ({"parent": "nobody"}, "no checkpoint or finished run nobody"),
        ({"parent": "two"}, r"an encoder per stream \(joint, joint_motion\)"),
        ({"parent_stream": "bone"}, "is of the joint stream"),
        ({"parent": "random"}, "backbone, preprocessing, dataset, split: to be given"),
        ({"parent": "random", "further_parents": ["tiny"]}, "stands alone"),
        ({"backbone": "gru"}, "was trained with another"),
        ({"further_parents": ["tiny"], "clips": "random_crop"}, "joined once"),
        ({"standardise": True, "clips": "random_crop"}, "standardise: features must be read once"),
        ({"batch": 64, "drop_last": True}, "fewer than one of 64"),
    ],
)
def test_what_does_not_fit_is_said(home, tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        run_task(protocol("linear", **changes), home / "stores", tmp_path / "run")


def test_a_parent_that_changed_meanwhile_is_noticed(home, tmp_path):
    recipe = completed(protocol("knn"))
    done(recipe, home, tmp_path / "run")
    changed = recipe.model_copy(update={"parents": [recipe.parents[0] | {"weights": "other"}]})
    with pytest.raises(RecipeError, match=r"another recipe .*weights"):
        RunFolder(tmp_path / "run").begin(changed)
    file = home / "runs" / "two" / "checkpoint" / "joint" / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    try:
        with pytest.raises(CheckpointError, match="can't be loaded"):
            run_task(protocol("knn", parent="two", parent_stream="joint"), home / "stores", tmp_path / "damaged")
    finally:
        file.write_bytes(whole)


def test_published_downstream_schedules():
    """hiclr.md check 27, i2md.md check 31 (epochs counted from 0 here)."""
    finetune = parse_recipe({"task": "finetune", "parent": "x"})
    rates = [learning_rate(finetune, epoch - 1) for epoch in (1, 4, 5, 29, 30, 54, 55, 70)]
    assert np.allclose(rates, [0.02, 0.08, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    linear = parse_recipe({"task": "linear", "parent": "x"})
    assert np.allclose([learning_rate(linear, epoch - 1) for epoch in (1, 80, 81, 100)], [3.0, 3.0, 0.3, 0.3])


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.training import trainer
from engine.training.recipe import parse_recipe
from engine.training.tasks import run_task
import json

stores, run = Path(sys.argv[2]), Path(sys.argv[3])

def die_at(call):
    real, count = trainer.Trainer._step, [0]
    def wrapped(*args, **kwargs):
        count[0] += 1
        if count[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    trainer.Trainer._step = wrapped

for call in (2, 4):
    child = os.fork()
    if child == 0:
        die_at(call)
        run_task(parse_recipe(json.loads(sys.argv[1])), stores, run)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print("killed" if os.WIFSIGNALED(status) else f"ended-{status}", flush=True)
run_task(parse_recipe(json.loads(sys.argv[1])), stores, run)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and POSIX signals")
@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_killed_protocols_end_with_the_same_weights(home, tmp_path, task):
    recipe = protocol(task, clips="random_crop", epochs=2)
    done(recipe, home, tmp_path / "whole")
    words = [recipe.model_dump_json(), str(home / "stores"), str(tmp_path / "killed")]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, timeout=200, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["killed"] * 2
    a, b = (load_file(tmp_path / name / "checkpoint" / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_from_the_command_line_with_parents_compared(home, tmp_path, capsys):
    for words in (["--k", "1"], ["--untrained", "true"]):
        file = Path(tmp_path / "knn.yaml")
        file.write_text(json.dumps({"task": "knn", "parent": "tiny", "accelerator": "cpu", "threads": 1}))
        assert command(["train", str(file), *words]) == 0
        assert "nearest neighbours, k =" in capsys.readouterr().out
    assert command(["runs", "compare", "tiny_knn", "tiny_untrained_knn"]) == 0
    out = capsys.readouterr().out
    assert "untrained" in out and "parent.method" in out and "random" in out
    assert command(["train", str(file), "--parent", "nobody"]) == 1
    assert "no checkpoint or finished run nobody" in capsys.readouterr().err


def test_a_checkpoint_is_evaluated_by_a_protocol(home, capsys):
    words = ["evaluate", str(home / "runs" / "tiny"), "--protocol", "knn"]
    assert command([*words, "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = RunFolder(Path(report["run"])).results()["results"]
    assert report["top1"] == found[0]["top1"] and report["count"] == 24 and report["recipe"] == "hiclr_knn"
    assert report["splits"] == {"xsub": {key: found[0][key] for key in ("top1", "top5", "count")}}
    # The run is there: nothing is done again.
    before = RunFolder(Path(report["run"])).events_file.read_bytes()
    assert command(words) == 0 and "nearest neighbours, k = 20" in capsys.readouterr().out
    assert RunFolder(Path(report["run"])).events_file.read_bytes() == before
    # Most classes have no vote at all, so nobody can say which are the next four.
    assert report["top5"] is None and all(result["top5"] is None for result in found)
    assert command(["evaluate", "tiny", "--protocol", "transfer"]) == 2
    assert "--dataset NAME" in capsys.readouterr().err


def test_an_encoder_pretrained_beside_unnamed_sequences_is_judged_by_the_named_ones(tmp_path, monkeypatch):
    from dataclasses import replace

    from engine.data.store import write_store
    from engine.training import pretext
    from tests.engine.training.pretext_of_tests import sequences

    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path))
    monkeypatch.setitem(pretext.PRETEXTS, "moco", entry())
    some = (replace(one, label=-1 if number % 5 == 4 else one.label) for number, one in enumerate(sequences(48)))
    write_store(tmp_path / "stores" / "mine", "mine", some, ["a", "b", "c"], 20.0)
    pretrain(tiny(dataset="mine", split="xsub", epochs=1), tmp_path / "stores", tmp_path / "runs" / "tiny")
    for task in ("knn", "linear", "finetune"):
        recipe = completed(protocol(task, parent=str(tmp_path / "runs" / "tiny")))
        target = open_target(recipe, tmp_path / "stores")
        assert (target.store.label[target.train] >= 0).all() and (target.store.label[target.test] >= 0).all()
        found = done(recipe, tmp_path, tmp_path / task)
        assert found["results"][0]["count"] == len(target.test)
    probed = read_card(tmp_path / "runs" / "tiny" / "checkpoint").results
    assert probed and {result.count for result in probed} == {len(target.test)}


def test_a_parent_named_by_a_relative_path_is_found_from_anywhere(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home / "runs" / "tiny")
    assert completed(protocol("knn", parent="tiny")).parent == "tiny"
    monkeypatch.chdir(home)
    recipe = completed(protocol("knn", parent="runs/tiny", further_parents=["runs/two:joint", "tiny"]))
    assert recipe.parent == str(home / "runs" / "tiny")
    assert recipe.further_parents == [f"{home / 'runs' / 'two'}:joint", "tiny"]
    monkeypatch.chdir(tmp_path)
    assert completed(recipe) == recipe
