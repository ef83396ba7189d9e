"""Ensembles and tables over seeds, against sums and formulas by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.cli import entry
from engine.data import sets
from engine.data.preprocess import Preprocessing
from engine.data.store import SequenceStore, write_store
from engine.models.card import CheckpointCard
from engine.models.checkpoint import build_encoder, load_encoder, save_checkpoint
from engine.skeleton.sequence import SkeletonSequence
from engine.training.ensemble import (
    EnsembleError,
    combined,
    fit_weights,
    members_of,
    published_weights,
    report,
)
from engine.training.evaluate import Evaluation, evaluate_encoder, stricter_splits
from engine.training.recipe import Recipe
from engine.training.run_folder import EventLog, RunFolder
from engine.training.summary import markdown, summarise

CLASSES = list(sets.DATASETS["nw_ucla"].classes)


def card(stream="joint", backbone="ctrgcn", **changes):
    args = {"base_channels": 8} if backbone == "ctrgcn" else {}
    values = {
        "name": stream, "backbone": backbone, "backbone_args": args, "feature_dim": 32, "classes": CLASSES,
        "preprocessing": Preprocessing(
            layout="kinect20", frames=8, sampling="linspace", centre="none", scale="minmax", stream=stream
        ),
        "dataset": "nw_ucla", "split": "xview",
    }  # fmt: skip
    return CheckpointCard.model_validate(values | changes)


@pytest.mark.parametrize(
    ("streams", "weights"),
    [
        (("joint", "bone"), [1, 1]),
        (("bone", "joint", "joint_motion"), [0.6, 0.6, 0.4]),
        (("joint_motion", "joint", "bone", "bone_motion"), [0.4, 0.6, 0.6, 0.4]),
    ],
)
def test_published_weights_follow_the_streams(streams, weights):
    """Section 5, whatever the order of the checkpoints."""
    assert published_weights([card(stream) for stream in streams]) == weights


def test_published_weights_of_infogcn_are_by_position_and_motion():
    cards = [
        card(stream, "infogcn", backbone_args={} if order is None else {"order": order})
        for order in (None, 1, 2)
        for stream in ("joint", "joint_motion")
    ]
    assert published_weights(cards) == [1.5, 1, 1.5, 1, 1.5, 1]
    with pytest.raises(EnsembleError, match="a stream comes twice"):
        published_weights([cards[0], cards[0]])
    with pytest.raises(EnsembleError, match="together with other backbones"):
        published_weights([cards[0], card("bone")])


@pytest.mark.parametrize("backbone", ["ctrgcn", "gru", "infogcn"])
def test_published_weights_of_cmd_and_i2md_are_the_mean(backbone):
    """i2md.md, section 7: equal weights of one third."""
    streams = ("joint", "joint_motion", "bone")
    for methods in (["cmd"] * 3, ["i2md", "cmd", "i2md"]):
        cards = [card(s, backbone, backbone_args={}, method=name) for s, name in zip(streams, methods, strict=True)]
        assert published_weights(cards) == [1 / 3] * 3
        assert published_weights(cards[:2]) == [1 / 2] * 2
    with pytest.raises(EnsembleError, match="a stream comes twice"):
        published_weights([cards[0], cards[0]])
    # Not where another method, or none, made one of the encoders.
    methods = ["cmd", "hiclr", "supervised"]
    other = [card(s, method=name) for s, name in zip(streams, methods, strict=True)]
    assert published_weights(other) == [0.6, 0.4, 0.6]


@pytest.mark.parametrize("streams", [("joint", "joint"), ("joint", "bone_motion")])
def test_there_are_no_published_weights_for_other_sets(streams):
    with pytest.raises(EnsembleError, match="no published weights for joint"):
        published_weights([card(stream) for stream in streams])


def test_four_streams_rank_as_with_infogcn_s_weights():
    """Section 8, check 28."""
    logits = np.random.default_rng(0).standard_normal((4, 500, 10))
    published = combined(logits, [0.6, 0.6, 0.4, 0.4])
    assert (published.argmax(1) == combined(logits, [1.5, 1.5, 1, 1]).argmax(1)).all()
    by_hand = [
        [sum(w * logits[s, n, k] for s, w in enumerate((0.6, 0.6, 0.4, 0.4))) for k in range(10)] for n in (0, 7)
    ]
    assert np.allclose(published[[0, 7]], by_hand)


def test_fitted_weights_against_a_search_over_all_weights():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 300)
    hint = np.eye(4)[labels] * 2
    logits = np.stack([hint + rng.standard_normal((300, 4)) * noise for noise in (1.0, 2.5)])
    useless = rng.standard_normal((300, 4))

    def loss(weights, of):
        z = combined(of, weights)
        return float(np.mean([math.log(np.exp(row).sum()) - row[y] for row, y in zip(z, labels, strict=True)]))

    fitted = fit_weights(logits, labels)
    assert sum(fitted) == pytest.approx(2, abs=1e-3) and fitted[0] > fitted[1] >= 0
    searched = min(np.linspace(0, 2, 201), key=lambda w: loss([w, 2 - w], logits))
    assert fitted[0] == pytest.approx(searched, abs=0.02)
    assert fit_weights(np.stack([logits[0], useless]), labels)[1] < 0.35


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store in NW-UCLA's form with one copied test sequence, and four encoders with random weights."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)

    def made():
        for i in range(36):
            view = i % 3 + 1
            xyz = rng.standard_normal((12, 1, 20, 3)) + np.array([0, 0, 3])
            digest = "copy" if i in (0, 2) else str(i)
            meta = {"view": view, "digest": digest}
            times = np.arange(12) / 30
            yield SkeletonSequence(xyz, times, "kinect20", name=f"s{i:02}", label=i // 3 % 10, meta=meta)

    write_store(home / "stores" / "nw_ucla", "nw_ucla", made(), CLASSES, 30.0)
    for number, stream in enumerate(("joint", "bone", "joint_motion", "bone_motion")):
        torch.manual_seed(number)
        encoder = build_encoder("ctrgcn", 10, "kinect20", 1, {"base_channels": 8})
        save_checkpoint(home / "runs" / stream / "checkpoint", card(stream), encoder)
    return home


def test_an_ensemble_on_a_split_and_its_clean_part(home):
    folders = [home / "runs" / stream / "checkpoint" for stream in ("joint", "bone")]
    members, store, split = members_of(folders, home / "stores", None, None, "cpu", train=False)
    found = report(members, store, split, "0.75,0.25")
    train, test = sets.split_indices(store, "xview")
    clean = sets.split_indices(store, "xview_clean")[1]
    assert len(clean) == len(test) - 1
    logits = []
    for folder in folders:
        encoder, c = load_encoder(folder)
        logits.append(evaluate_encoder(encoder, store, test, c.preprocessing, c.classes).logits)
    said = (0.75 * logits[0] + 0.25 * logits[1]).argmax(1)
    right = said == store.label[test]
    assert found["top1"] == found["splits"]["xview"]["top1"] == right.mean()
    assert found["splits"]["xview_clean"] == {
        "top1": right[np.isin(test, clean)].mean(), "count": len(clean),
        "top5": found["splits"]["xview_clean"]["top5"],
    }  # fmt: skip
    assert [member["weight"] for member in found["members"]] == [0.75, 0.25]
    assert np.trace(found["confusion"]) == right.sum() and np.sum(found["confusion"]) == len(test)


def test_three_pretrained_streams_give_the_mean_of_their_logits(home):
    """i2md.md, check 35."""
    folders = [home / "runs" / stream / "checkpoint" for stream in ("joint", "joint_motion", "bone")]
    members, store, split = members_of(folders, home / "stores", None, None, "cpu", train=False)
    members = [replace(member, card=member.card.model_copy(update={"method": "i2md"})) for member in members]
    found = report(members, store, split, "published")
    assert [member["weight"] for member in found["members"]] == [1 / 3] * 3
    each = [member.test.logits for member in members]
    whole = combined(np.stack(each), [member["weight"] for member in found["members"]])
    for n, k in np.ndindex(whole.shape):
        mean = (float(each[0][n, k]) + float(each[1][n, k]) + float(each[2][n, k])) / 3
        assert whole[n, k] == pytest.approx(mean, rel=1e-12)
    labels = store.label[sets.split_indices(store, "xview")[1]]
    assert found["top1"] == (np.mean(each, 0).argmax(1) == labels).mean()


def test_the_clean_part_is_told_whether_copies_were_trained_on_or_not(home):
    store = SequenceStore(home / "stores" / "nw_ucla")
    (train, test), (less, same) = (sets.split_indices(store, name) for name in ("xview", "xview_train_clean"))
    # Sequence 0 of the training part is sequence 2 of the test part.
    assert sorted(set(train) - set(less)) == [0] and (test == same).all()
    for split in ("xview", "xview_train_clean"):
        ((name, keep),) = stricter_splits(store, split, test).items()
        assert name == "xview_clean" and list(test[~keep]) == [2]
    assert stricter_splits(store, "xview_clean", test[1:]) == {}


def test_fitted_weights_never_see_the_test_part(home, monkeypatch):
    folders = [home / "runs" / stream / "checkpoint" for stream in ("joint", "bone", "joint_motion")]
    seen = []
    monkeypatch.setattr("engine.training.ensemble.fit_weights", lambda logits, labels: seen.append(labels) or [1, 1, 1])
    members, store, split = members_of(folders, home / "stores", None, None, "cpu", train=True)
    found = report(members, store, split, "fitted")
    assert (seen[0] == store.label[sets.split_indices(store, "xview")[0]]).all()
    assert all(member["train_top1"] is not None for member in found["members"])


def test_the_command(home, monkeypatch, capsys):
    monkeypatch.setenv("SKELAPP_HOME", str(home))
    assert entry(["ensemble", "joint", "bone", "joint_motion", "bone_motion"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["checkpoint", "stream", "weight", "xview,", "12", "xview_clean,", "11"]
    assert [line.split()[2] for line in out[1:5]] == ["0.6", "0.6", "0.4", "0.4"] and out[5].startswith("ensemble of 4")
    for words, message in (
        (["joint"], "at least two"),
        (["joint", "joint"], "no published weights for joint, joint"),
        (["joint", "bone", "--weights", "1"], "2 checkpoints need as many"),
        (["joint", "bone", "--weights", "best"], "published, equal, fitted, or numbers"),
    ):
        assert entry(["ensemble", *words]) == 1
        assert message in capsys.readouterr().err


def test_encoders_that_know_other_classes_than_the_set_are_refused(home, monkeypatch, capsys):
    monkeypatch.setenv("SKELAPP_HOME", str(home))
    store = SequenceStore(home / "stores" / "nw_ucla")
    named = [f"action {i}" for i in range(10)]
    write_store(home / "stores" / "other", "other", map(store.sequence, range(36)), named, 30.0)
    assert entry(["ensemble", "joint", "bone", "--dataset", "other", "--split", "random"]) == 1
    assert "other has other classes than joint" in capsys.readouterr().err
    encoder = build_encoder("ctrgcn", 9, "kinect20", 1, {"base_channels": 8})
    for stream in ("joint", "bone"):
        fewer = card(stream, classes=CLASSES[1:])
        save_checkpoint(home / "runs" / f"fewer_{stream}" / "checkpoint", fewer, encoder)
    assert entry(["ensemble", "fewer_joint", "fewer_bone"]) == 1
    assert "nw_ucla has other classes than joint" in capsys.readouterr().err


def test_evaluate_tells_the_clean_part_and_the_confusion_in_one_call(home, monkeypatch, capsys, tmp_path):
    import json

    monkeypatch.setenv("SKELAPP_HOME", str(home))
    assert entry(["evaluate", "joint", "--json", str(tmp_path / "a.json")]) == 0
    out = capsys.readouterr().out
    assert "xview_clean, 11 sequences" in out and "confusion (rows: true" in out
    found = json.loads((tmp_path / "a.json").read_text())
    assert {"top1", "top5", "count", "per_class"} <= found.keys() and found["count"] == 12
    assert np.sum(found["confusion"]) == 12 and np.sum(found["splits"]["xview_clean"]["confusion"]) == 11


def test_the_most_frequent_confusions():
    labels = np.array([0, 0, 0, 1, 2, 2])
    said = np.array([1, 1, 0, 2, 0, 2])
    result = Evaluation(np.eye(3)[said], labels, ["a", "b", "c"])
    assert result.most_confused(2) == [("a", "b", 2), ("b", "c", 1)]
    assert len(result.most_confused()) == 3


def finished(root, name, top1, clean, **changes):
    """A run folder as a training leaves it, with given numbers."""
    values = {"name": name, "dataset": "nw_ucla", "split": "xview", "preprocessing": {}, "epochs": 7}
    recipe = Recipe.model_validate(values | changes)
    folder = RunFolder(root / name)
    folder.begin(recipe)
    log = EventLog(folder.events_file)
    log.write("run", epoch=0, epochs=7)
    log.write("end", epoch=7)
    log.close()
    results = [
        {"name": "test sequences", "split": "xview", "count": 464, "top1": top1, "top5": 1.0},
        {"name": "test sequences, xview_clean", "split": "xview_clean", "count": 369, "top1": clean, "top5": 1.0},
    ]
    folder.write_json(folder.results_file, {"epochs": 7, "results": results, "reported": "last epoch"})
    return folder


def test_mean_and_deviation_over_seeds_by_hand(tmp_path, monkeypatch, capsys):
    runs = tmp_path / "runs"
    for seed, top1 in enumerate((0.90, 0.92, 0.97), 1):
        finished(runs, f"plain_{seed}", top1, top1 - 0.1, seed=seed)
    finished(runs, "gcl_1", 0.95, 0.9, seed=1, method="skeletongcl")
    begun = RunFolder(runs / "plain_4")
    begun.begin(Recipe(name="x", dataset="nw_ucla", split="xview", preprocessing={}))
    gcl, plain = summarise([RunFolder(path) for path in sorted(runs.iterdir())])
    assert (plain.label, plain.runs, plain.seeds) == ("plain", ("plain_1", "plain_2", "plain_3"), (1, 2, 3))
    mean = (0.90 + 0.92 + 0.97) / 3
    deviation = math.sqrt(((0.90 - mean) ** 2 + (0.92 - mean) ** 2 + (0.97 - mean) ** 2) / 2)
    assert (plain.spreads[0].mean, plain.spreads[0].deviation) == pytest.approx((mean, deviation))
    assert gcl.label == "gcl_1" and gcl.spreads[0].deviation is None
    lines = markdown([plain, gcl]).splitlines()
    assert lines[0] == (
        "| runs | seeds | epochs | test sequences (xview, 464) | test sequences, xview_clean (xview_clean, 369) |"
    )
    assert lines[2] == "| plain | 1, 2, 3 | 7 | 93.00 ± 3.61 | 83.00 ± 3.61 |"
    assert lines[3] == "| gcl_1 | 1 | 7 | 95.00 | 90.00 |"
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path))
    assert entry(["runs", "summary", "plain"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[2] == lines[2] and "plain_4 (new)" in said.err
    assert entry(["runs", "summary", "nothing"]) == 1 and "no run in" in capsys.readouterr().err
