"""Comparisons against slow references, and on real small encoders: kept answers, shared classes, refusals."""

import io
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch

from engine.cli import entry
from engine.data.augment import evaluation_clip
from engine.data.grounds import fitting, list_grounds
from engine.data.sets import split_indices
from engine.data.store import SequenceStore
from engine.deploy.side_by_side import measure_speed, remember_speed, remembered_speeds, speed_of
from engine.models.card import CheckpointError, read_card, write_card
from engine.models.checkpoint import load_encoder
from engine.training import compare_run
from engine.training.compare import (
    Answers,
    CompareError,
    compare_answers,
    kappa,
    mcnemar,
    predicted,
    principal_map,
    reliability,
    shared_classes,
    turned_onto,
)
from engine.training.compare_run import _whole_split, compare_checkpoints
from tests.engine.training.comparable import CLASSES, write_encoder, write_sequences


def test_numbers_of_a_comparison_against_counting():
    rng = np.random.default_rng(0)
    n, shared = 60, ["a", "b", "c"]
    labels = rng.integers(0, 3, n)
    first = Answers(("c", "a", "x", "b"), rng.standard_normal((n, 4)).astype(np.float32), rng.random((n, 5)), 1.5)
    second = Answers(("a", "b", "c"), rng.standard_normal((n, 3)).astype(np.float32), rng.random((n, 5)))
    report = compare_answers([first, second], labels, shared)
    said = [[each.classes[int(np.argmax(row))] for row in each.logits] for each in (first, second)]
    truth = [shared[i] for i in labels]
    for model, words, answers in zip(report["models"], said, (first, second), strict=True):
        assert model["top1"] == pytest.approx(sum(w == t for w, t in zip(words, truth, strict=True)) / n)
        counts = Counter(zip(truth, words, strict=True))
        for i, true in enumerate(shared):
            total = truth.count(true)
            assert model["per_class"][i] == pytest.approx(counts[true, true] / total)
            others = sum(v for (t, w), v in counts.items() if t == true and w not in shared)
            assert model["confusion"][i] == [*(counts[true, name] for name in shared), others]
        scores = []
        for row in answers.logits:
            odds = [math.exp(float(v) / answers.temperature) for v in row]
            scores.append(max(odds) / sum(odds))
        assert model["score"] == pytest.approx(scores, abs=1e-4)
        error = 0.0
        for b in range(15):
            inside = [i for i, s in enumerate(scores) if b / 15 <= s < (b + 1) / 15 or (b == 14 and s == 1)]
            if inside:
                right = sum(words[i] == truth[i] for i in inside) / len(inside)
                sure = sum(scores[i] for i in inside) / len(inside)
                error += len(inside) / n * abs(right - sure)
                assert model["reliability"]["count"][b] == len(inside)
                assert model["reliability"]["accuracy"][b] == pytest.approx(right)
                assert model["reliability"]["score"][b] == pytest.approx(sure)
            else:
                assert model["reliability"]["accuracy"][b] is None
        assert model["calibration_error"] == pytest.approx(error, abs=1e-9)
    pair = report["pairs"][0]
    # Outside the shared classes everything is one answer: "another class".
    common = [[w if w in shared else "?" for w in words] for words in said]
    same = sum(x == y for x, y in zip(*common, strict=True)) / n
    right = [[w == t for w, t in zip(words, truth, strict=True)] for words in said]
    assert pair["agreement"] == pytest.approx(same)
    assert pair["both_right"] + pair["only_a_right"] + pair["only_b_right"] + pair["both_wrong"] == n
    assert pair["only_a_right"] == sum(a and not b for a, b in zip(*right, strict=True))
    chance = sum(common[0].count(w) * common[1].count(w) for w in [*shared, "?"]) / n**2
    assert pair["kappa"] == pytest.approx((same - chance) / (1 - chance))
    expected = [b - a for a, b in zip(*(m["per_class"] for m in report["models"]), strict=True)]
    assert pair["class_difference"] == pytest.approx(expected)
    assert json.loads(json.dumps(report)) == report


def test_mcnemar_by_enumeration():
    for first, second in ((0, 0), (0, 5), (3, 4), (10, 2)):
        n = first + second
        outcomes = [bin(bits).count("1") for bits in range(2**n)]
        extreme = sum(min(k, n - k) <= min(first, second) for k in outcomes) / 2**n
        assert mcnemar(first, second) == pytest.approx(min(1.0, extreme) if n else 1.0)
    assert mcnemar(4000, 4200) == pytest.approx(0.028, abs=0.002)


def test_an_encoder_trained_without_the_copies_has_seen_nothing_of_the_test_part():
    assert {_whole_split(name) for name in ("xview", "xview_clean", "xview_train_clean")} == {"xview"}
    assert _whole_split("xset") != _whole_split("xset_v2_clean")


def test_small_helpers():
    assert shared_classes([["a", "b", "c"], ["c", "a"]]) == ["a", "c"]
    answers = Answers(("x", "b"), np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros((2, 1)))
    assert predicted(answers, ["a", "b"]).tolist() == [2, 1]
    assert kappa(np.array([0, 0]), np.array([0, 0]), 2) == 1.0
    assert reliability(np.array([1.0]), np.array([True]))["count"][-1] == 1
    with pytest.raises(CompareError, match="no sequence"):
        compare_answers([answers, answers], np.zeros(0, int), ["a", "b"])
    nan = Answers(("a", "b"), np.full((1, 2), np.nan), np.zeros((1, 1)))
    with pytest.raises(CompareError, match="not finite"):
        compare_answers([nan, nan], np.zeros(1, int), ["a", "b"])


@pytest.mark.parametrize(("n", "d"), [(40, 6), (5, 30)])
def test_principal_map_keeps_the_most_variance_and_turns_back(n, d):
    rng = np.random.default_rng(1)
    features = rng.standard_normal((n, d)) * np.linspace(4, 0.1, d)
    points, shares = principal_map(features)
    centred = features - features.mean(0)
    singular = np.linalg.svd(centred, compute_uv=False)
    assert shares == pytest.approx((singular[:2] ** 2 / (singular**2).sum()).tolist())
    assert (points**2).sum(1).mean() == pytest.approx(1)
    ratio = points.std(0)[0] / points.std(0)[1]
    assert ratio == pytest.approx(singular[0] / singular[1])
    angle = 0.7
    turn = np.array([[math.cos(angle), math.sin(angle)], [math.sin(angle), -math.cos(angle)]])
    assert np.allclose(turned_onto(points @ turn, points), points)
    assert not principal_map(np.ones((4, 3)))[0].any() and principal_map(np.zeros((1, 3)))[0].shape == (1, 2)
    assert principal_map(rng.standard_normal((6, 1)))[0].shape == (6, 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    write_sequences(home / "stores" / "utd_mhad")
    write_encoder(home / "a", 0)
    write_encoder(home / "b", 1)
    # Another order of the classes, and one more.
    write_encoder(home / "more", 2, [*CLASSES[::-1], "idle"])
    write_encoder(home / "other", 3, ["boxing", "sailing"])
    return home


@pytest.fixture(autouse=True)
def own_home(home, monkeypatch):
    monkeypatch.setenv("SKELAPP_HOME", str(home))


def test_checkpoints_are_compared_as_they_answer_one_by_one(home):
    told = []
    report = compare_checkpoints([home / "a", home / "more"], listen=lambda *step: told.append(step))
    store = SequenceStore(home / "stores" / "utd_mhad")
    test = split_indices(store, "xsub")[1]
    assert report["count"] == len(test) == 12 and report["left_out"] == 0 and report["classes"] == CLASSES
    for model, name in zip(report["models"], ("a", "more"), strict=True):
        encoder, card = load_encoder(home / name)
        for place, i in enumerate(test):
            clip = torch.from_numpy(evaluation_clip(store.sequence(int(i)), card.preprocessing)[None])
            with torch.no_grad():
                said = card.classes[int(encoder(clip).logits.argmax())]
            expected = CLASSES.index(said) if said in CLASSES else len(CLASSES)
            assert model["predicted"][place] == expected
    assert any("also knows idle" in note for note in report["notes"])
    assert report["sequences"]["labels"] == store.label[test].tolist()
    assert ("encoding a", 12, 12) in told
    assert [model["kept"] for model in report["models"]] == [False, False]
    again = compare_checkpoints([home / "a", home / "more"])
    assert [model["kept"] for model in again["models"]] == [True, True]
    assert again["pairs"] == report["pairs"] and again["models"][1]["map"] == report["models"][1]["map"]


def test_kept_answers_are_of_these_weights_and_damage_is_computed_again(home, tmp_path):
    folder = write_encoder(tmp_path / "moving", 5)
    before = compare_checkpoints([home / "a", folder])
    write_encoder(tmp_path / "moving", 6)
    after = compare_checkpoints([home / "a", folder])
    assert [m["kept"] for m in after["models"]] == [True, False]
    assert after["models"][1]["score"] != before["models"][1]["score"]
    for kept in compare_run.kept_answers().iterdir():
        kept.write_bytes(b"damaged")
    assert [m["kept"] for m in compare_checkpoints([home / "a", folder])["models"]] == [False, False]


def test_what_can_not_be_compared_is_told(home, tmp_path):
    with pytest.raises(CompareError, match="two checkpoints or more"):
        compare_checkpoints([home / "a"])
    with pytest.raises(CompareError, match="share 1 classes"):
        compare_checkpoints([home / "a", home / "other"])
    pretrained = write_encoder(tmp_path / "pretrained", 0, classifier_trained=False)
    with pytest.raises(CheckpointError, match="classifier"):
        compare_checkpoints([home / "a", pretrained])
    damaged = write_encoder(tmp_path / "damaged", 0)
    (damaged / "weights.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(CheckpointError, match="can't be loaded"):
        compare_checkpoints([home / "a", damaged])
    (damaged / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match="only its graph"):
        compare_checkpoints([home / "a", damaged])
    card = read_card(home / "b")
    write_card(card.model_copy(update={"preprocessing": card.preprocessing.model_copy(update={"layout": "coco17"})}),
               tmp_path / "coco")  # fmt: skip
    with pytest.raises(CompareError, match="wants coco17 joints"):
        compare_checkpoints([home / "a", tmp_path / "coco"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        compare_checkpoints([home / "a", tmp_path / "broken"])


def test_the_command_and_its_progress(home, capsys, monkeypatch):
    assert entry(["compare", str(home / "a"), str(home / "b")]) == 0
    out = capsys.readouterr().out
    assert "utd_mhad xsub, 12 test sequences, 27 classes" in out and "B against A" in out and "PyTorch CPU" in out
    monkeypatch.setattr("engine.cli.compare.stop_with_input", lambda: None)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert entry(["compare", str(home / "a"), str(home / "b"), "--no-speed", "--json", "--progress", "json"]) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["speed"] == [] and len(report["models"]) == 2
    steps = [json.loads(line) for line in told.err.splitlines()]
    shares = [step["done"] / step["total"] for step in steps]
    assert shares == sorted(shares) and shares[-1] == 1
    assert entry(["compare", str(home / "a"), str(home / "other")]) == 1
    assert "nothing to compare" in capsys.readouterr().err


def test_speed_is_measured_in_turns_and_remembered(home):
    found, refused = measure_speed([home / "a", home / "b"], calls=3, seconds=5)
    assert [(row.checkpoint, row.kind) for row in found] == [(0, "torch"), (1, "torch")]
    assert all(row.calls == 3 and row.p50_ms > 0 and row.bytes for row in found)
    assert {(number, kind) for number, kind, _ in refused} >= {(0, "onnx"), (1, "onnx-int8")}
    remember_speed([home / "a", home / "b"], found)
    kept = remembered_speeds()
    assert speed_of(read_card(home / "a"), kept) == pytest.approx(found[0].p50_ms, abs=0.01)
    assert speed_of(read_card(home / "more"), kept) is None


def test_grounds(home):
    grounds = list_grounds(home / "stores")
    assert [ground.name for ground in grounds] == ["utd_mhad"] and "xsub" in grounds[0].splits
    cards = [read_card(home / name) for name in ("a", "more")]
    assert fitting(grounds, [card.classes for card in cards]) == grounds
    assert fitting(grounds, [["boxing"], CLASSES]) == []
    assert list_grounds(home / "nowhere") == []
