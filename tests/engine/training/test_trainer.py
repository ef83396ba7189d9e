"""The loop itself: killed for real anywhere it goes on to the identical weights; stops, failures and sums are exact."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from engine.data import sets
from engine.data.augment import evaluation_clip
from engine.data.batch import ClipLoader
from engine.data.store import SequenceStore, write_store
from engine.models.card import CheckpointError, read_card
from engine.models.checkpoint import load_encoder
from engine.paths import PROJECT
from engine.skeleton.sequence import SkeletonSequence
from engine.training import supervised, trainer
from engine.training.devices import make_fabric
from engine.training.evaluate import evaluate_encoder, predict_clips
from engine.training.feed import SequenceLoader, open_data, training_loader
from engine.training.recipe import Recipe, RecipeError
from engine.training.run_folder import EventLog, RunError, RunFolder
from engine.training.state import load_state, save_state
from engine.training.step import Step
from engine.training.supervised import train
from engine.training.trainer import Trainer

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and POSIX signals")


def tiny(**changes) -> Recipe:
    values = {
        "name": "tiny", "dataset": "utd_mhad", "split": "xsub", "backbone_args": {"base_channels": 8},
        "preprocessing": {"frames": 8, "window_s": 1.0, "scale": "torso"},
        "augmentation": {"yaw_deg": 10, "noise_m": 0.01}, "optimiser": {"lr": 0.05, "warmup_epochs": 1},
        "epochs": 3, "repeat": 2, "batch": 8, "seed": 3, "threads": 1, "accelerator": "cpu", "evaluate_every": 1,
    }  # fmt: skip
    return Recipe.model_validate(values | changes)


NW_UCLA = {
    "preprocessing": {"frames": 8, "sampling": "linspace", "scale": "minmax", "stream": "bone"},
    "augmentation": {"kind": "nw_ucla", "yaw_deg": 60, "pitch_deg": 60},
}


# What a run can carry beside its weights, and the ways its clips are drawn.
KINDS = {
    "window": {},
    "nw_ucla": NW_UCLA,
    "skeletongcl": {
        "preprocessing": {"frames": 8, "sampling": "centre_crop", "centre": "first"},
        "augmentation": {"kind": "random_crop", "crop_low": 0.5, "crop_least": 8, "rotation_rad": 0.3},
        "method": "skeletongcl",
        "method_args": {"width": 16, "mining": {"positives": 3, "hard_negatives": 4, "random_negatives": 4}},
    },
    "ema": {"ema": 0.9},
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two easily told motions by four subjects, in the form of UTD-MHAD, of different lengths."""

    def make():
        rng = np.random.default_rng(0)
        body = rng.standard_normal((25, 3)) * 0.3
        for i in range(32):
            label, frames = i % 2, 15 + i % 7
            xyz = body + rng.standard_normal((frames, 1, 25, 3)) * 0.02 + [0, 0, 3]
            xyz[:, 0, 11 if label else 7, 1] += np.sin(np.arange(frames) / (2 if label else 5))
            meta = {"subject": i // 8 + 1, "digest": str(i)}
            yield SkeletonSequence(xyz, np.arange(frames) / 20, name=f"s{i}", label=label, meta=meta)

    root = tmp_path_factory.mktemp("stores")
    write_store(root / "utd_mhad", "utd_mhad", make(), sets.DATASETS["utd_mhad"].classes[:2], 20.0)
    return root


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint" / "weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def events(run: Path, kind: str = "") -> list[dict]:
    return [event for event in RunFolder(run).events() if kind in ("", event["event"])]


# One process per attempt is forked from here, so that torch is imported once. Each attempt ends itself with SIGKILL at
# one call of one function; the last goes through.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from engine.training import run_folder, supervised, trainer
from engine.training.recipe import Recipe

recipe = Recipe.model_validate_json(sys.argv[1])
stores, run = Path(sys.argv[2]), Path(sys.argv[3])

def die_at(owner, name, call, after=False):
    real, count = getattr(owner, name), [0]
    def wrapped(*args, **kwargs):
        count[0] += 1
        if count[0] == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        out = real(*args, **kwargs)
        if count[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return out
    setattr(owner, name, wrapped)

# Every epoch has 4 steps, one state and one test; the folder's first file to be replaced is its recipe.
plan = [
    lambda: die_at(torch.optim.SGD, "step", 2),
    lambda: die_at(torch.optim.SGD, "step", 7, after=True),
    lambda: die_at(Path, "replace", 3),
    lambda: die_at(Path, "replace", 3, after=True),
    lambda: die_at(trainer.Trainer, "_end_epoch", 1),
    lambda: die_at(run_folder.EventLog, "write", 3, after=True),
    lambda: die_at(supervised, "_finish", 1),
    lambda: die_at(supervised, "save_checkpoint", 1, after=True),
]
for kill in plan:
    child = os.fork()
    if child == 0:
        kill()
        supervised.train(recipe, stores, run)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print("killed" if killed else f"ended-{status}", flush=True)
supervised.train(recipe, stores, run)
"""


@FORKS
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_a_run_ends_with_the_weights_of_an_uninterrupted_one(stores, tmp_path, kind):
    recipe = tiny(epochs=5, precision="bf16", **KINDS[kind])
    train(recipe, stores, tmp_path / "whole")
    words = [recipe.model_dump_json(), str(stores), str(tmp_path / "killed")]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["killed"] * 8
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    states = [load_file(tmp_path / name / "state.safetensors") for name in ("whole", "killed")]
    assert same(*states)
    if kind == "skeletongcl":
        assert states[0]["module.method.bank.filled"].float().mean() > 0.9
    if kind == "ema":
        assert states[0]["average.steps"] == 20
    whole, killed = (RunFolder(tmp_path / name).results() for name in ("whole", "killed"))
    assert whole["results"] == killed["results"]
    last = {event["epoch"]: event for event in events(tmp_path / "killed", "epoch")}
    for event in events(tmp_path / "whole", "epoch"):
        assert event["loss"] == last[event["epoch"]]["loss"] and event["test_top1"] == last[event["epoch"]]["test_top1"]
    assert RunFolder(tmp_path / "killed").status().state == "finished"


def test_a_line_torn_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "run", "epoch": 0, "epochs": 3}\n{"event": "ep')
    log = EventLog(path)
    log.write("epoch", epoch=1)
    log.close()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["run", "epoch"]


@FORKS
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "file"])
def test_a_graceful_stop_finishes_the_step_saves_and_goes_on_exactly(stores, tmp_path, monkeypatch, how):
    recipe = tiny(accumulate=2, augmentation={"yaw_deg": 10, "mirror": 0.5})
    train(recipe, stores, tmp_path / "whole")
    real, steps = trainer.Trainer._step, []

    def step(self, *args):
        steps.append(args)
        if len(steps) == 5:  # In the second epoch, in the middle of a group of two batches.
            if how == "file":
                (tmp_path / "cut" / "stop").touch()
            else:
                signal.raise_signal(getattr(signal, how))
        return real(self, *args)

    monkeypatch.setattr(trainer.Trainer, "_step", step)
    before = signal.getsignal(signal.SIGTERM)
    assert train(recipe, stores, tmp_path / "cut") is None
    assert signal.getsignal(signal.SIGTERM) is before
    stopped = events(tmp_path / "cut")[-1]
    assert (stopped["event"], stopped["epoch"], stopped["step"]) == ("stopped", 1, 2) and how in stopped["reason"]
    assert RunFolder(tmp_path / "cut").status().state == "stopped" and len(steps) == 6
    assert train(recipe, stores, tmp_path / "cut") is not None
    assert len(steps) == 12 and events(tmp_path / "cut", "run")[-1]["resumed"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    losses = [[e["loss"] for e in events(tmp_path / name, "epoch")] for name in ("whole", "cut")]
    assert losses[0] == losses[1]


def test_states_within_an_epoch(stores, tmp_path, monkeypatch):
    train(tiny(), stores, tmp_path / "whole")
    monkeypatch.setattr(trainer, "SAVE_S", 0.0)
    saved = []
    real = trainer.save_state

    def save(*args):
        real(*args)
        saved.append(args[3]["loader"]["batch"])
        if len(saved) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_state", save)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), stores, tmp_path / "cut")
    assert saved == [1, 2, 3, 0, 1, 2]
    train(tiny(), stores, tmp_path / "cut")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_losses_that_were_not_looked_at_yet_are_in_every_state(stores, tmp_path, monkeypatch):
    """On a GPU they are looked at twenty together; the means of an interrupted epoch must hold them all the same."""
    train(tiny(), stores, tmp_path / "whole")
    monkeypatch.setitem(trainer.CHECK_EVERY, "cpu", 20)
    real, steps = trainer.Trainer._step, []

    def step(self, *args):
        steps.append(args)
        if len(steps) == 7:  # The third of the second epoch.
            self.folder.stop_file.touch()
        return real(self, *args)

    monkeypatch.setattr(trainer.Trainer, "_step", step)
    assert train(tiny(), stores, tmp_path / "stopped") is None and len(steps) == 7
    train(tiny(), stores, tmp_path / "stopped")
    monkeypatch.setattr(trainer, "SAVE_S", 0.0)
    saves, save = [], trainer.save_state

    def dying(*args):
        save(*args)
        saves.append(1)
        if len(saves) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_state", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), stores, tmp_path / "killed")
    train(tiny(), stores, tmp_path / "killed")
    means = [[e["loss"] for e in events(tmp_path / name, "epoch")] for name in ("whole", "stopped", "killed")]
    assert means[0] == means[1] == means[2]


def test_a_loss_that_is_not_finite_and_was_not_looked_at_yet_is_not_saved(stores, tmp_path, monkeypatch):
    monkeypatch.setitem(trainer.CHECK_EVERY, "cpu", 20)
    real, calls = Step.forward, []

    def forward(self, **batch):
        calls.append(1)
        if len(calls) == 6:
            (tmp_path / "run" / "stop").touch()
        parts = real(self, **batch)
        return parts | {"loss": parts["loss"] * float("nan")} if len(calls) == 6 else parts

    monkeypatch.setattr(Step, "forward", forward)
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)  # Weights stay finite: only the loss tells.
    with pytest.raises(FloatingPointError, match="epoch 2, step 2"):
        train(tiny(), stores, tmp_path / "run")
    with safe_open(tmp_path / "run" / "state.safetensors", framework="pt") as file:
        place = json.loads(file.metadata()["state"])["about"]["loader"]
    assert (place["epoch"], place["batch"]) == (1, 0)


def test_the_folder_of_a_run(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_S", 0.0)
    first = train(tiny(keep_best=True), stores, tmp_path / "first")
    kinds = [event["event"] for event in events(tmp_path / "first")]
    assert kinds == ["run", *(["step"] * 4 + ["evaluation", "epoch"]) * 3, "end"]
    step = events(tmp_path / "first", "step")[-1]
    assert {"epoch", "step", "steps", "lr", "loss", "train_top1", "clips_per_s", "eta_s"} <= step.keys()
    assert step["eta_s"] == 0 and step["clips_per_s"] > 0 and step["lr"] == 0.05
    # An epoch says the time left as its steps do.
    left = [event["eta_s"] for event in events(tmp_path / "first", "epoch")]
    assert min(left[:2]) > 0 and left[2] == 0
    folder = RunFolder(tmp_path / "first")
    assert folder.recipe() == tiny(keep_best=True)
    assert json.loads(folder.environment_file.read_text())["torch"] == torch.__version__
    # The best is apart, labelled, and never what is reported.
    tested = [event["top1"] for event in events(tmp_path / "first", "evaluation")]
    best = read_card(folder.best)
    assert best.results[0].top1 == max(tested) and best.results[0].name.startswith("best on the test part")
    assert best.training["reported"] == f"best on the test part, epoch {tested.index(max(tested)) + 1}"
    assert first.training["reported"] == folder.results()["reported"] == "last epoch"
    assert folder.results()["results"][0]["top1"] == tested[-1]
    assert np.sum(folder.results()["results"][0]["confusion"]) == 16
    # A run that starts from another says so.
    tuned = train(tiny(start_from=str(folder.checkpoint), epochs=1), stores, tmp_path / "second")
    parent = events(tmp_path / "second", "run")[0]["parent"]
    assert parent["recipe_hash"] == first.recipe_hash and parent["weights"] == first.sha256["weights.safetensors"]
    assert RunFolder(tmp_path / "second").results()["parent"] == parent and tuned.training["start_from"]


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(stores, tmp_path, monkeypatch):
    recipe, real, calls = tiny(), Step.forward, []

    def forward(self, **batch):
        calls.append(1)
        parts = real(self, **batch)
        return parts | {"loss": parts["loss"] * float("nan")} if len(calls) == 7 else parts

    monkeypatch.setattr(Step, "forward", forward)
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 3; .*state\.safetensors keeps"):
        train(recipe, stores, tmp_path / "run")
    assert events(tmp_path / "run")[-1]["event"] == "failed"
    status = RunFolder(tmp_path / "run").status()
    assert (status.state, status.epoch) == ("failed", 1) and "epoch 2, step 3" in status.reason
    # What made it fail is gone: it goes on from the end of epoch 1, to the weights of a run that never failed.
    train(recipe, stores, tmp_path / "run")
    train(recipe, stores, tmp_path / "whole")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    module = nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(module.parameters())
    save_state(tmp_path / "state", module, optimiser, {"step": 1})
    good = (tmp_path / "state").read_bytes()
    with torch.no_grad():
        module.weight[0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"module\.weight is not finite"):
        save_state(tmp_path / "state", module, optimiser, {"step": 2})
    assert (tmp_path / "state").read_bytes() == good


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_state_brings_any_optimiser_back(tmp_path, kind):
    def made():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        return module, kind(module.parameters(), lr=0.1)

    def steps(module, optimiser, seeds):
        for seed in seeds:
            x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
            module(x).square().sum().backward()
            optimiser.step()
            optimiser.zero_grad()

    whole, cut = made(), made()
    steps(*whole, range(4))
    steps(*cut, range(2))
    save_state(tmp_path / "state", *cut, {"place": [1, 0.1]})
    fresh = made()
    assert load_state(tmp_path / "state", *fresh) == {"place": [1, 0.1]}
    steps(*fresh, range(2, 4))
    assert same(whole[0].state_dict(), fresh[0].state_dict())


@FORKS
def test_a_full_disk_is_said_and_the_last_state_kept(stores, tmp_path, monkeypatch):
    """The system itself refuses: no file may grow beyond a limit below the size of a state."""
    import resource

    recipe, real = tiny(), trainer.save_state
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    saved = []

    def save(*args):
        saved.append(1)
        if len(saved) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            real(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(trainer, "save_state", save)
    with pytest.raises(RunError, match=r"state\.safetensors can't be written \(File too large\)"):
        train(recipe, stores, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.tmp")) and RunFolder(tmp_path / "run").status().state == "failed"
    train(recipe, stores, tmp_path / "run")
    assert events(tmp_path / "run", "run")[-1]["epoch"] == 1
    train(recipe, stores, tmp_path / "whole")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


@FORKS
def test_a_disk_full_at_the_checkpoint_is_said_and_the_run_goes_on(stores, tmp_path, monkeypatch):
    import resource

    recipe, real = tiny(epochs=1), supervised.save_checkpoint
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save(*args):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            return real(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with monkeypatch.context() as patch:
        patch.setattr(supervised, "save_checkpoint", save)
        with pytest.raises(CheckpointError, match=r"weights\.safetensors can't be written \(File too large\).*resume"):
            train(recipe, stores, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.tmp")) and RunFolder(tmp_path / "run").status().state == "failed"
    assert "File too large" in RunFolder(tmp_path / "run").status().reason
    assert train(recipe, stores, tmp_path / "run").results and load_encoder(tmp_path / "run" / "checkpoint")
    assert len(events(tmp_path / "run", "epoch")) == 1


def test_a_damaged_state_is_said(stores, tmp_path):
    train(tiny(epochs=1), stores, tmp_path / "run")
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"state\.safetensors is damaged .* delete it"):
        train(tiny(epochs=1), stores, tmp_path / "run")


@pytest.mark.parametrize("args", [{}, {"variant": "paper", "queue_length": 4, "semantic_warmup": 2}])
def test_skeletongcl_stops_and_goes_on_with_its_banks(stores, tmp_path, monkeypatch, args):
    mining = {"positives": 3, "hard_negatives": 4, "random_negatives": 4}
    recipe = tiny(method="skeletongcl", method_args={"width": 16, "mining": mining} | args)
    card = train(recipe, stores, tmp_path / "whole")
    assert card.method == "skeletongcl" and not any("bank" in key for key in weights(tmp_path / "whole"))
    real, steps = trainer.Trainer._step, []

    def step(self, *arguments):
        steps.append(1)
        if len(steps) == 6:
            self.folder.stop_file.touch()
        return real(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "_step", step)
    assert train(recipe, stores, tmp_path / "cut") is None
    train(recipe, stores, tmp_path / "cut")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    last = events(tmp_path / "cut", "epoch")[-1]
    assert last["instance"] > 0 and last["bank_filled"] > 0.9
    assert last["instance"] == events(tmp_path / "whole", "epoch")[-1]["instance"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "skeletongcl", "method_args": {"width": 0}}, r"method_args\.width"),
        ({"method": "supervised", "method_args": {"temperature": 1}}, r"method_args\.temperature"),
        ({"method": "skeletongcl", "idle_share": 0.1}, "no idle_share"),
        ({"unknown_share": 0.1}, "does not mark unknown actions"),
    ],
)
def test_settings_a_method_does_not_have(stores, tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        train(tiny(**changes), stores, tmp_path / "run")


def test_a_changed_recipe_is_refused_by_field_and_threads_may_change(stores, tmp_path):
    train(tiny(epochs=1), stores, tmp_path / "run")
    changed = tiny(epochs=1, optimiser={"lr": 0.1, "warmup_epochs": 1})
    with pytest.raises(RecipeError, match=r"another recipe \(optimiser\.lr 0\.05 -> 0\.1\)"):
        train(changed, stores, tmp_path / "run")
    assert tiny(epochs=1, threads=2, devices=2).digest() == tiny(epochs=1).digest() != changed.digest()


def test_one_run_is_one_process(stores, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        assert folder.running()
        with pytest.raises(RunError, match=f"another process .process {os.getpid()}"):
            train(tiny(), stores, tmp_path / "run")
    assert not folder.running()


class Line(nn.Module):
    """A regression without batch statistics, whose gradients can be averaged by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3))

    def forward(self, *, views, labels, **_):
        error = views[0].mean((2, 3, 4)) @ self.weight - labels
        return {"loss": error.square().mean(), "size": error.abs().mean()}


def fit(stores, folder: Path, recipe: Recipe) -> tuple[Line, list[dict]]:
    """Train :class:`Line` at a constant rate with plain SGD, by the loop."""
    objective, seen = Line(), []
    run, fabric = RunFolder(folder), make_fabric(recipe)
    if fabric.is_global_zero:
        run.begin(recipe)
    log = EventLog(run.events_file if fabric.is_global_zero else None, seen.append)
    loader = training_loader(recipe, open_data(recipe, stores), fabric.global_rank, fabric.world_size)
    Trainer(
        recipe, fabric, objective, torch.optim.SGD(objective.parameters(), lr=0.1), loader, lambda epoch: 0.1, run, log,
        lambda: {"top1": 0.0}, lambda *_: None,
    ).run()  # fmt: skip
    log.close()
    return objective, seen


@pytest.mark.parametrize(("accumulate", "clip"), [(1, 0.0), (3, 0.0), (1, 0.05), (3, 0.05)])
def test_accumulation_and_clipping_against_a_plain_loop(stores, tmp_path, accumulate, clip):
    recipe = tiny(epochs=2, accumulate=accumulate, clip_norm=clip)
    objective, seen = fit(stores, tmp_path / "run", recipe)
    plain, loader, means = Line(), training_loader(recipe, open_data(recipe, stores)), []
    for _ in range(2):
        batches = list(loader)  # 4 batches: a group of three leaves one over.
        means.append(0.0)
        for start in range(0, len(batches), accumulate):
            group = batches[start : start + accumulate]
            gradient = torch.zeros(3)
            for batch in group:
                loss = plain(views=batch.views, labels=batch.labels)["loss"]
                gradient += torch.autograd.grad(loss, plain.weight)[0] / len(group)
                means[-1] += float(loss.detach()) / len(batches)
            if clip and gradient.norm() > clip:
                gradient *= clip / gradient.norm()
            plain.weight.data -= 0.1 * gradient
    assert torch.allclose(objective.weight, plain.weight, atol=1e-6)
    epochs = [event for event in seen if event["event"] == "epoch"]
    assert [event["loss"] for event in epochs] == pytest.approx(means, rel=1e-5) and "size" in epochs[0]


def test_draws_of_torch_follow_from_the_batch(stores, tmp_path):
    """Dropout after a resume is that of the batch, whatever was drawn in between."""

    class Noisy(Line):
        def forward(self, **batch):
            return {"loss": super().forward(**batch)["loss"] * torch.rand(()), "drawn": torch.rand(())}

    drawn = []
    for i in range(2):
        torch.rand(i + 1)
        recipe = tiny(epochs=1)
        run = RunFolder(tmp_path / str(i))
        run.begin(recipe)
        seen, noisy = [], Noisy()
        Trainer(
            recipe, make_fabric(recipe), noisy, torch.optim.SGD(noisy.parameters(), lr=0.1),
            training_loader(recipe, open_data(recipe, stores)), lambda epoch: 0.1, run,
            EventLog(run.events_file, seen.append), lambda: {"top1": 0.0}, lambda *_: None,
        ).run()  # fmt: skip
        drawn.append([event["drawn"] for event in seen if event["event"] == "epoch"])
    assert drawn[0] == drawn[1]


def test_whole_batches_and_single_sequences_are_the_same_training_set(stores):
    """Where nothing is random both loaders give the very clips evaluation gives, with the store's labels."""
    plain = tiny(augmentation={})
    data = open_data(plain, stores)
    loader = training_loader(plain, data)
    assert isinstance(loader, SequenceLoader)
    for batch in loader:
        for clip, index, label in zip(batch.clips, batch.indices, batch.labels, strict=True):
            sequence = data.main.sequence(int(index))
            assert np.allclose(clip, evaluation_clip(sequence, plain.preprocessing), atol=1e-6)
            assert label == sequence.label and int(index) in data.train
    turned = tiny(**NW_UCLA)
    assert type(training_loader(turned, data)) is ClipLoader
    for batch in training_loader(turned, data):
        assert batch.clips.shape == (8, 3, 8, 25, 1) and torch.equal(
            batch.labels, torch.from_numpy(data.main.label)[batch.indices]
        )


def test_every_rank_draws_its_share(stores):
    recipe = tiny(devices=2)
    data = open_data(recipe, stores)
    whole = next(iter(training_loader(recipe, data)))
    parts = [next(iter(training_loader(recipe, data, rank, 2))) for rank in range(2)]
    assert sorted(torch.cat([part.items for part in parts]).tolist()) == sorted(whole.items.tolist())
    assert all(len(part) == 4 for part in parts)


TWO = """
import sys
from pathlib import Path
from engine.training.recipe import Recipe
from tests.engine.training.test_trainer import fit

recipe, stores, run = Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
fit(stores, run, recipe)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo over processes started by the loop is tested on Linux")
def test_two_processes_give_the_result_of_one(stores, tmp_path):
    """With nothing random in the clips and no batch statistics: gradients are averaged, every clip seen once."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    changes = {"augmentation": {}, "epochs": 2, "accumulate": 3, "clip_norm": 0.05}
    one, seen = fit(stores, tmp_path / "one", tiny(**changes))
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    words = [tiny(devices=2, **changes).model_dump_json(), str(stores), str(tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr
    two = load_file(tmp_path / "two" / "state.safetensors")["module.weight"]
    assert torch.allclose(two, one.weight, atol=1e-6)
    means = [[e["loss"] for e in log if e["event"] == "epoch"] for log in (seen, events(tmp_path / "two"))]
    assert means[0] == pytest.approx(means[1], rel=1e-5)


@pytest.mark.parametrize("spec", [tiny().preprocessing, tiny(**NW_UCLA).preprocessing], ids=["window", "linspace"])
def test_evaluation_in_batches_is_evaluation_one_by_one(stores, tmp_path, spec):
    recipe = tiny(epochs=1)
    train(recipe, stores, tmp_path / "run")
    encoder, card = load_encoder(tmp_path / "run" / "checkpoint")
    store = SequenceStore(stores / "utd_mhad")
    indices = np.arange(len(store))[::-1].copy()
    batched = evaluate_encoder(encoder, store, indices, spec, card.classes)
    single = predict_clips(encoder, np.stack([evaluation_clip(store.sequence(int(i)), spec) for i in indices]))
    assert np.allclose(batched.logits, single, atol=1e-4) and (batched.logits.argmax(1) == single.argmax(1)).all()
    assert (batched.labels == store.label[indices]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"accelerator": "cuda", "batch": 128, "devices": 64}, "64 CUDA devices are wanted"),
        ({"batch": 64}, "fewer than one batch"),
    ],
)
def test_what_this_machine_or_split_can_not_do(stores, tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        train(tiny(**changes), stores, tmp_path / "run")


def test_a_batch_must_be_shared_evenly():
    with pytest.raises(ValueError, match="can't be shared evenly by 3"):
        tiny(devices=3)


def test_outside_the_main_thread_no_signal_is_caught(stores, tmp_path):
    cards = []
    thread = threading.Thread(target=lambda: cards.append(train(tiny(epochs=1), stores, tmp_path / "run")))
    thread.start()
    thread.join()
    assert cards[0].classes
