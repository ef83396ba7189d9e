"""From a raw archive to a checkpoint that runs, by the commands a user types."""

import json

import numpy as np
import pytest

from engine.cli import entry
from engine.deploy.runtime import load_runtime

RECIPE = """
name: small
dataset: utd_mhad
split: xsub
backbone: ctrgcn
backbone_args: {base_channels: 8}
preprocessing: {frames: 8, window_s: 1.0, scale: limbs, centre: each_ground}
optimiser: {lr: 0.05, warmup_epochs: 1}
epochs: 1
batch: 8
threads: 1
"""


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A tiny archive in the form of UTD-MHAD: four subjects, two classes, frames of different lengths."""
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 30, 32)
    xyz = rng.standard_normal((lengths.sum(), 20, 3)).astype(np.float32) * 0.3 + np.float32([0, 0, 3])
    names = [f"a{i % 2 + 1}_s{i // 8 + 1}_t{i % 8}" for i in range(32)]
    np.savez(
        tmp_path / "utd_mhad.npz",
        xyz=xyz,
        start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        label=np.arange(32) % 2,
        subject=np.arange(32) // 8 + 1,
        trial=np.arange(32) % 8,
        name=names,
    )
    return tmp_path


def test_from_archive_to_running_checkpoint(raw, capsys):
    assert entry(["data", "prepare", "utd_mhad", "--raw", str(raw / "utd_mhad.npz")]) == 0
    assert entry(["data", "check", "utd_mhad", "--json"]) == 0
    out = capsys.readouterr().out
    report = json.loads(out[out.index("{") :])
    assert report["sequences"] == 32
    split = report["splits"]["xsub"]
    assert (split["train"], split["test"], split["test_copies_of_train"]) == (16, 16, 0)
    assert report["problems"] == [] and "the complete set has 861" in report["gaps"][0]

    (raw / "small.yaml").write_text(RECIPE)
    run = raw / "run"
    assert entry(["train", str(raw / "small.yaml"), "--run", str(run), "--optimiser.lr=0.02"]) == 0
    assert "lr: 0.02" in (run / "recipe.yaml").read_text()

    checkpoint = run / "checkpoint"
    assert entry(["evaluate", str(checkpoint), "--json", str(raw / "result.json")]) == 0
    result = json.loads((raw / "result.json").read_text())
    assert result["count"] == 16 and 0 <= result["top1"] <= result["top5"] <= 1
    assert set(result["per_class"]) == {"swipe left", "swipe right"}

    assert entry(["export", str(checkpoint)]) == 0
    prediction = load_runtime(checkpoint).predict(np.zeros((2, 3, 8, 25, 1), np.float32))
    assert prediction.logits.shape == (2, 27) and prediction.features.shape == (2, 32)
    capsys.readouterr()
    assert entry(["models", "show", str(checkpoint)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "small"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["data", "prepare", "ntu61", "--raw", "."], 1, "nw_ucla"),
        (["data", "prepare", "utd_mhad", "--raw", "nowhere"], 1, "does not exist"),
        (["data", "check", "nw_ucla"], 1, "data prepare nw_ucla --raw PATH"),
        (["train", "utd_mhad_ctrgcn_joint"], 1, "no prepared store"),
        (["train", "small", "oops"], 2, "expected --field value"),
        (["train", "nothing"], 1, "there is no recipe nothing; main.py train --list"),
        (["train", "utd_mhad_ctrgn_joint"], 1, "did you mean utd_mhad_ctrgcn_joint or"),
        (["train", "utd_mhad_ctrgcn_joint", "--optimizer.lr", "1"], 1, "did you mean optimiser?"),
        (["train", "utd_mhad_ctrgcn_joint", "--optimiser.rl", "1"], 1, "did you mean optimiser.lr?"),
        (["train", "utd_mhad_ctrgcn_joint", "--evaluate-evry", "1"], 1, "did you mean evaluate_every?"),
        (["train", "utd_mhad_ctrgcn_joint", "--xyzzy", "1"], 1, "xyzzy: there is no such field; train RECIPE --help"),
        (["train", "utd_mhad_ctrgcn_joint", "--optimiser.milestones", "[x"], 1, "milestones: [x is not readable YAML"),
        (["train", "utd_mhad_ctrgcn_joint", "--devices", "3"], 1, "joint: batch 16 can't be shared"),
        (["train", "utd_mhad_ctrgcn_joint", "--seeds", "1,b"], 2, "commas"),
        (["train", "utd_mhad_ctrgcn_joint", "--seeds", "1,2", "--seed", "1"], 2, "contradict"),
        (["train", "utd_mhad_ctrgcn_joint", "--seeds", "1,2", "--devices", "2"], 2, "one process"),
        (["train", "utd_mhad_ctrgcn_joint", "--method_args.temprature", "1", "--help"], 1, "method_args.temprature"),
        (["train", "ntu60_xsub_i2md", "--method_args.temprature", "1", "--help"], 1, "mean method_args.temperature?"),
        (["runs", "delete"], 1, "name the runs to delete"),
        (["evaluate", "nowhere"], 1, "not a checkpoint folder"),
        (["export", "nowhere"], 1, "not a checkpoint folder"),
    ],
)
def test_clear_errors(raw, capsys, words, status, message):
    assert entry(words) == status
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
