"""Supervised runs on a tiny store: they learn, resume to the identical weights, and fail with clear words."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.cli import entry as command
from engine.data import sets
from engine.data.augment import idle_end
from engine.data.bodies import BodyTrack, RawSequence
from engine.data.store import write_store
from engine.models.card import CheckpointError, read_card, write_card
from engine.models.checkpoint import load_encoder
from engine.skeleton.sequence import SkeletonSequence
from engine.training.evaluate import Evaluation, evaluate_encoder
from engine.training.feed import open_data, training_loader
from engine.training.optimisers import learning_rate
from engine.training.recipe import RECIPES, RecipeError, load_recipe
from engine.training.supervised import train

TINY = """
name: tiny
dataset: utd_mhad
split: xsub
backbone: ctrgcn
backbone_args: {base_channels: 8}
preprocessing: {frames: 8, window_s: 1.0, scale: torso}
augmentation: {yaw_deg: 10, noise_m: 0.01}
optimiser: {lr: 0.05, warmup_epochs: 1, milestones: [50]}
epochs: 3
repeat: 2
batch: 8
seed: 3
threads: 1
"""


@pytest.fixture
def stores(tmp_path):
    """Two easily told motions by four subjects, in the form of UTD-MHAD."""

    def make():
        rng = np.random.default_rng(0)
        body = rng.standard_normal((25, 3)) * 0.3
        for i in range(32):
            label = i % 2
            xyz = body + rng.standard_normal((20, 1, 25, 3)) * 0.02 + [0, 0, 3]
            swing = np.sin(np.arange(20) / (2 if label else 5))
            xyz[:, 0, 11 if label else 7, 1] += swing
            yield SkeletonSequence(
                xyz, np.arange(20) / 20, name=f"s{i}", label=label, meta={"subject": i // 8 + 1, "digest": str(i)}
            )

    write_store(tmp_path / "stores" / "utd_mhad", "utd_mhad", make(), sets.DATASETS["utd_mhad"].classes[:2], 20.0)
    return tmp_path / "stores"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def weights(run):
    return load_file(run / "checkpoint" / "weights.safetensors")


def test_a_run_learns_and_its_checkpoint_loads(stores, recipe, tmp_path):
    events = []
    tiny = load_recipe(recipe, {"epochs": "10"})
    card = train(tiny, stores, tmp_path / "run", events.append)
    losses = [event["loss"] for event in events if event["event"] == "epoch"]
    assert len(losses) == 10 and losses[-1] < losses[0] / 2
    assert events[0]["event"] == "run" and events[-1]["event"] == "end"
    lines = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert lines == events
    encoder, loaded = load_encoder(tmp_path / "run" / "checkpoint")
    assert loaded == read_card(tmp_path / "run" / "checkpoint") and not encoder.training
    # The card's number is what the saved weights really give.
    data = open_data(tiny, stores)
    again = evaluate_encoder(encoder, data.main, data.test, loaded.preprocessing, loaded.classes)
    assert (card.results[0].count, card.results[0].top1) == (16, again.top1)


def test_resume_gives_identical_weights(stores, recipe, tmp_path):
    whole = load_recipe(recipe)
    train(whole, stores, tmp_path / "whole")

    class Cut(Exception):
        pass

    def cut_in_second_epoch(event):
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise Cut

    with pytest.raises(Cut):
        train(whole, stores, tmp_path / "cut", cut_in_second_epoch)
    assert not (tmp_path / "cut" / "checkpoint").exists()
    train(whole, stores, tmp_path / "cut")
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_another_recipe_in_the_same_folder_is_refused(stores, recipe, tmp_path):
    train(load_recipe(recipe, {"epochs": "1"}), stores, tmp_path / "run")
    with pytest.raises(RecipeError, match="another recipe"):
        train(load_recipe(recipe, {"epochs": "1", "seed": "4"}), stores, tmp_path / "run")


def test_loss_that_is_not_finite_stops_the_run(stores, recipe, tmp_path):
    with pytest.raises(FloatingPointError, match="not finite in epoch"):
        train(load_recipe(recipe, {"optimiser.lr": "1.0e+30"}), stores, tmp_path / "run")
    last = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "failed"


def test_damaged_weights(stores, recipe, tmp_path):
    train(load_recipe(recipe, {"epochs": "1"}), stores, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoint"
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="can't be loaded"):
        load_encoder(folder)
    file.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load_encoder(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_encoder(folder)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_encoder(tmp_path / "nowhere")


def test_further_stores_give_only_training_sequences(stores, recipe):
    main = open_data(load_recipe(recipe), stores)
    write_store(
        stores / "utd_mhad_mediapipe",
        "utd_mhad_mediapipe",
        (main.main.sequence(i) for i in range(len(main.main))),
        main.main.classes,
        20.0,
    )
    mixed = load_recipe(recipe, {"also_train_on": "[utd_mhad_mediapipe]"})
    store, indices = open_data(mixed, stores).further[0]
    test_names = {main.main.names[int(i)] for i in main.test}
    assert len(indices) == len(main.train) and not test_names & {store.names[int(i)] for i in indices}


def test_idle_clips_get_a_class_of_their_own_and_fine_tuning_keeps_what_was_known(stores, recipe, tmp_path):
    train(load_recipe(recipe, {"epochs": "1"}), stores, tmp_path / "first")
    first = tmp_path / "first" / "checkpoint"
    changes = {"idle_share": "0.5", "start_from": str(first), "epochs": "1", "optimiser.lr": "1.0e-9"}
    tuned = load_recipe(recipe, changes)
    labels = next(iter(training_loader(tuned, open_data(tuned, stores)))).labels
    assert (labels == 2).any() and (labels < 2).any()
    card = train(tuned, stores, tmp_path / "second")
    assert card.classes == [*read_card(first).classes, "idle"] and card.decision.idle_class == "idle"
    old, new = weights(tmp_path / "first"), weights(tmp_path / "second")
    # At a rate of practically zero the known classes keep their rows; statistics of batch norms move on.
    assert torch.allclose(new["classifier.weight"][:2], old["classifier.weight"], atol=1e-6)
    assert torch.allclose(new["blocks.0.graph.refinement.value.weight"], old["blocks.0.graph.refinement.value.weight"])
    other = load_recipe(recipe, changes | {"backbone_args": "{base_channels: 16}"})
    with pytest.raises(RecipeError, match="can't be fine-tuned"):
        train(other, stores, tmp_path / "third")


def test_idle_windows_see_next_to_nothing():
    rng = np.random.default_rng(0)
    for _ in range(50):
        end = idle_end(1.0, 3.0, 2.4, rng)
        seen = min(end, 3.0) - max(end - 2.4, 1.0)
        assert seen <= 0.2 * 2.0 + 1e-6


def test_an_epoch_can_be_drawn_again(stores, recipe):
    data = open_data(load_recipe(recipe), stores)

    def drawn(epoch):
        loader = training_loader(load_recipe(recipe), data)
        loader.load_state_dict({"seed": 3, "epoch": epoch, "batch": 0})
        return next(iter(loader))

    a, b, c = (drawn(epoch) for epoch in (1, 1, 2))
    assert torch.equal(a.clips, b.clips) and torch.equal(a.labels, b.labels) and not torch.equal(a.clips, c.clips)


def test_published_schedule():
    recipe = load_recipe("nw_ucla_ctrgcn_joint")
    rates = [learning_rate(recipe, e) for e in (0, 1, 4, 5, 49, 50, 64)]
    assert np.allclose(rates, [0.02, 0.04, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_validate(path):
    assert load_recipe(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"epochs": "0"}, "epochs"), ({"optimiser.lrr": "1"}, "optimiser.lrr"), ({"backbone": "resnet"}, "backbone")],
)
def test_recipe_errors_name_the_field(recipe, changes, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, changes)


def test_a_missing_recipe_names_those_that_may_be_meant():
    with pytest.raises(RecipeError, match=r"did you mean nw_ucla_ctrgcn_joint.* main.py train --list"):
        load_recipe("nw_ucla_ctrgcn_joints")
    with pytest.raises(RecipeError, match=r"there is no recipe nothing; main.py train --list"):
        load_recipe("nothing")


def test_evaluation_against_counting_by_hand():
    logits = np.array([[3.0, 1, 0], [0, 2, 1], [1, 0, 2], [0, 1, 2]], np.float32)
    result = Evaluation(logits, np.array([0, 1, 0, 1]), ["a", "b", "c"])
    assert result.top1 == 0.5 and result.topk(2) == 1.0
    assert result.confusion.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert result.per_class == {"a": 0.5, "b": 0.5}


@pytest.fixture
def home(stores, tmp_path, monkeypatch):
    """The user's folder, with these stores."""
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path))
    return tmp_path


def test_training_a_finished_run_again_leaves_what_was_added_to_its_card(home, recipe, capsys):
    words = ["train", str(recipe), "--epochs", "1"]
    assert command(words) == 0
    folder = home / "runs" / "tiny" / "checkpoint"
    card = read_card(folder)
    write_card(card.model_copy(update={"decision": card.decision.model_copy(update={"temperature": 2.5})}), folder)
    assert command(["evaluate", "tiny", "--record", "mine"]) == 0
    before = (folder / "card.json").read_bytes()
    capsys.readouterr()
    assert command(words) == 0
    out = capsys.readouterr().out
    assert "tiny was finished before" in out and "test sequences: top-1" in out
    assert (folder / "card.json").read_bytes() == before
    assert command([*words, "--batch", "4"]) == 1 and "belongs to another recipe" in capsys.readouterr().err
    # What was deleted is made again from the state.
    weights_before = weights(home / "runs" / "tiny")
    shutil.rmtree(folder)
    assert command(words) == 0 and "finished before" not in capsys.readouterr().out
    assert all(torch.equal(value, weights_before[key]) for key, value in weights(home / "runs" / "tiny").items())


def test_what_cannot_be_tested_or_named_is_refused_before_the_training(home, recipe, capsys):
    rng = np.random.default_rng(0)
    for name, subjects, classes in (("alone", 1, ("clap", "wave")), ("resting", 2, ("clap", "idle"))):
        made = (
            SkeletonSequence(
                rng.standard_normal((20, 1, 25, 3)), np.arange(20) / 20, name=f"s{i}", label=i % 2,
                meta={"subject": i % subjects + 1},
            )
            for i in range(16)
        )  # fmt: skip
        write_store(home / "stores" / name, name, made, classes, 20.0)
    for words, message in (
        (["--dataset", "alone"], "split: xsub of alone has 16 training and 0 tests"),
        (["--dataset", "resting", "--idle_share", "0.1"], "idle_share: resting has a class idle of its own"),
    ):
        assert command(["train", str(recipe), *words]) == 1
        assert message in capsys.readouterr().err


def test_a_run_started_from_a_relative_path_is_resumed_from_anywhere(home, recipe, monkeypatch, capsys):
    assert command(["train", str(recipe), "--epochs", "1"]) == 0
    monkeypatch.chdir(home / "runs")
    words = ["--start_from", "tiny/checkpoint", "--name", "second", "--epochs", "1"]
    assert command(["train", str(recipe), *words]) == 0
    run = home / "runs" / "second"
    lines = (run / "events.jsonl").read_text().splitlines()
    (run / "events.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    monkeypatch.chdir("/")
    capsys.readouterr()
    assert command(["runs", "resume", "second"]) == 0, capsys.readouterr().err


def test_raw_bodies_are_not_trained_on_and_a_name_stays_one_folder(home, recipe, capsys):
    rng = np.random.default_rng(0)
    bodies = (
        RawSequence(
            f"s{i}", i % 2, 20, (BodyTrack(1, 0, rng.standard_normal((20, 25, 3)), np.zeros(20, np.uint8)),), 20.0,
            "ntu25", {"subject": i % 4 + 1},
        )
        for i in range(16)
    )  # fmt: skip
    write_store(home / "stores" / "utd_mhad.raw", "utd_mhad.raw", bodies, ["a", "b"], 20.0)
    assert command(["train", str(recipe), "--dataset", "utd_mhad.raw"]) == 1
    assert "every body the sensor reported" in capsys.readouterr().err
    for name, message in (("small/first try", "can't hold /"), ("../x", "can't hold /"), (".x", "begin with a dot")):
        assert command(["train", str(recipe), "--name", name]) == 1
        assert message in capsys.readouterr().err
    assert not (home / "runs").exists() and not (home / "x").exists()
