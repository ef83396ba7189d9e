from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.preprocess import Preprocessing
from engine.deploy.runtime_base import Prediction
from engine.live.recogniser import Recogniser
from engine.live.taught import TaughtError, unit
from engine.models.card import CheckpointCard, Decision, write_card
from engine.teach.confusion import check_examples
from engine.teach.features import WINDOWS, pack_features, windows_of
from engine.teach.known import KNOWN_FILE, KnownFeatures, load_known, save_known, statistics
from engine.teach.learn import METHODS, Examples, Settings, fit, learn, learn_packs
from engine.teach.pack import ClassPack
from tests.engine.live.helpers import build_checkpoint
from tests.engine.teach.test_pack import performance

D, KNOWN = 16, ("sit", "stand", "run", "idle")


def a_card() -> CheckpointCard:
    return CheckpointCard(
        name="c", backbone="none", feature_dim=D, classes=list(KNOWN), preprocessing=Preprocessing(frames=8),
        decision=Decision(idle_class="idle"), dataset="made", split="none",
    )  # fmt: skip


class Clusters:
    """Known and new classes as clusters of features; the classifier is the nearest known centre."""

    def __init__(self, seed: int = 0, spread: float = 0.35) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = self.rng.normal(size=(8, D))
        self.spread = spread
        rows = np.concatenate([self.draw(k, 40) for k in range(4)])
        self.known = statistics(KNOWN, rows, np.repeat(np.arange(4), 40))

    def draw(self, k: int, count: int) -> np.ndarray:
        return (self.centres[k] + self.spread * self.rng.normal(size=(count, D))).astype(np.float32)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        gaps = ((rows[:, None] - self.centres[None, :4]) ** 2).sum(-1)
        return (-gaps / (2 * self.spread**2)).astype(np.float32)

    def takes(self, k: int, count: int = 5) -> tuple[np.ndarray, ...]:
        return tuple(self.draw(k, 6) for _ in range(count))


def test_statistics_against_loops_and_back_from_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(30, D)).astype(np.float32), rng.integers(0, 3, 30)
    found = statistics(KNOWN, rows, labels, examples=5)
    within = np.zeros((D, D))
    for k in range(3):
        mean = rows[labels == k].mean(0)
        np.testing.assert_allclose(found.means[k], mean, rtol=1e-4, atol=1e-6)
        for row in rows[labels == k]:
            within += np.outer(row - mean, row - mean)
    np.testing.assert_allclose(found.covariance, within / 27, rtol=1e-4, atol=1e-5)
    assert found.counts.tolist() == [*np.bincount(labels), 0] and (np.bincount(found.labels) == 5).all()
    card = a_card().model_copy(update={"sha256": {"weights.safetensors": "abc"}})
    save_known(KnownFeatures(**{**found.__dict__, "weights": "abc"}), tmp_path)
    again = load_known(tmp_path, card)
    assert again is not None and np.array_equal(again.means, found.means) and again.classes == KNOWN
    np.testing.assert_allclose(again.examples, found.examples, rtol=1e-3, atol=1e-3)
    with pytest.raises(TaughtError, match="other weights"):
        load_known(tmp_path, card.model_copy(update={"sha256": {"weights.safetensors": "xyz"}}))
    path = tmp_path / KNOWN_FILE
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(TaughtError, match=r"damaged.*teach known"):
        load_known(tmp_path, card)
    assert load_known(tmp_path / "none", card) is None


@pytest.mark.parametrize("method", [m for m in METHODS if m != "imprint"])
def test_new_clusters_are_named_and_old_ones_kept(method: str) -> None:
    made = Clusters()
    examples = [Examples(f"new {k}", made.takes(k)) for k in (4, 5, 6)]
    taught = fit(a_card(), examples, known=made.known, settings=Settings(method, 10.0, 0.0, 0.1))  # type: ignore[arg-type]
    assert taught.classes == ("new 4", "new 5", "new 6") and taught.idle == 3
    for k in range(7):
        rows = made.draw(k, 50)
        said = taught.extend(made.logits(rows), rows).argmax(1)
        assert (said == k).mean() >= 0.94, k


def test_ridge_is_the_weighted_regression_it_says() -> None:
    made = Clusters(1)
    takes = made.takes(4, 3)
    taught = fit(a_card(), [Examples("new", takes)], known=made.known, settings=Settings("ridge", 1.0, 0.0, 0.2))
    centre = made.known.means.mean(0)
    blocks = [made.known.examples[made.known.labels == k] for k in range(4)] + [np.concatenate(takes)]
    x = np.concatenate([unit(b - centre) for b in blocks]).astype(np.float64)
    weight = np.concatenate([np.full(len(b), 1 / len(b)) for b in blocks])
    strength = 0.2 * (weight[:, None] * x**2).sum() / D
    # The same as least squares with rows for the penalty.
    root = np.sqrt(weight)[:, None]
    design = np.concatenate([np.concatenate([x, np.ones((len(x), 1))], 1) * root, np.eye(D, D + 1) * strength**0.5])
    for column in range(5):
        y = np.concatenate([np.full(len(b), float(k == column)) for k, b in enumerate(blocks)])
        solved = np.linalg.lstsq(design, np.r_[y * root[:, 0], np.zeros(D)], rcond=None)[0]
        row = taught.rows[0] if column == 4 else taught.reference[column]
        bias = taught.bias[0] if column == 4 else taught.reference_bias[column]
        np.testing.assert_allclose([*row, bias], solved, rtol=1e-3, atol=2e-4)


def test_lda_scores_by_the_shared_covariance() -> None:
    made = Clusters(2)
    takes = made.takes(4)
    taught = fit(a_card(), [Examples("new", takes)], known=made.known, settings=Settings("lda", 1.0, 0.0, 0.3))
    rows = made.draw(4, 5)
    covariance = made.known.covariance.astype(np.float64)
    inverse = np.linalg.inv(0.7 * covariance + 0.3 * np.trace(covariance) / D * np.eye(D))
    means = [*made.known.means, np.mean([t.mean(0) for t in takes], axis=0)]
    gaps = np.array([[(row - m) @ inverse @ (row - m) for m in means] for row in rows])
    logits = made.logits(rows)
    expected = logits.max(1) + 0.5 * (gaps[:, :4].min(1) - gaps[:, 4])
    np.testing.assert_allclose(taught.extend(logits, rows)[:, 4], expected, rtol=2e-3, atol=2e-2)


def test_corrections_and_takes_of_known_classes() -> None:
    made = Clusters(3)
    odd, more = made.draw(7, 8), made.takes(6)
    examples = [Examples("run", more), Examples("sit", (), (odd,)), Examples("gone", (), (odd,))]
    taught = fit(a_card(), examples, known=made.known)
    assert taught.classes == () and [veto.owner for veto in taught.vetoes] == [0]
    rows = made.draw(6, 30)
    assert (taught.extend(made.logits(rows), rows).argmax(1) == 2).mean() > 0.9, "takes named run are run now"
    rows = made.draw(7, 30)
    logits = np.zeros((30, 4), np.float32)
    logits[:, 0] = 9.0
    said = taught.extend(logits, rows).argmax(1)
    assert (said != 0).all() and (said == 3).mean() > 0.8, "that was not sit"
    rows = made.draw(0, 30)
    assert (taught.extend(made.logits(rows), rows).argmax(1) == 0).all(), "what is sit stays sit"
    with pytest.raises(TaughtError, match="record one first"):
        fit(a_card(), [Examples("x", ())], known=made.known)
    with pytest.raises(TaughtError, match="teach known"):
        fit(a_card(), [Examples("x", more)])


def test_the_check_says_who_looks_alike() -> None:
    made = Clusters(4)

    def examples(name: str, k: int, count: int = 4) -> Examples:
        takes = made.takes(k, count)
        return Examples(name, takes, (), tuple(made.logits(t) for t in takes))

    told = [examples("bow", 4), examples("pray", 5), examples("like run", 2), examples("once", 6, 1)]
    found = check_examples(a_card(), told, known=made.known)
    assert found.unchecked == ("once",) and found.counts.sum() == 12 and found.names[4:7] == ("bow", "pray", "like run")
    assert found.counts[0, 4] == found.counts[1, 5] == 4
    twins = check_examples(a_card(), [examples("bow", 4), examples("also bow", 4)], known=made.known)
    right, count = twins.right
    pairs = {(p.action, p.other): p for p in twins.look_alikes}
    assert count == 8 and right < 8 and set(pairs) <= {("bow", "also bow"), ("also bow", "bow")}
    assert all(p.other_taught and "look like" in p.text for p in pairs.values())


class Counting(Recogniser):
    """Counts the clips it was asked about."""

    asked = 0

    def predict(self, clips: np.ndarray) -> Prediction:
        self.asked += len(clips)
        return super().predict(clips)


def test_where_a_pack_was_deleted_no_features_are_written(tmp_path: Path) -> None:
    pack = ClassPack.create(tmp_path / "p", "p")
    take = pack.add_take("a", performance())
    pack.folder.rename(tmp_path / "aside")
    recogniser = Recogniser(build_checkpoint(tmp_path / "one"), "onnx")
    assert list(pack_features(pack, recogniser)) == [take.path] and not pack.folder.exists()
    recogniser.close()


def test_features_are_computed_once_and_again_for_another_encoder(tmp_path: Path) -> None:
    one, two = (build_checkpoint(tmp_path / name, name) for name in ("one", "two"))
    for folder, name in ((one, "1"), (two, "2")):
        card = CheckpointCard.model_validate_json((folder / "card.json").read_text())
        write_card(card.model_copy(update={"sha256": {"weights.safetensors": name}}), folder)
        rows = np.abs(np.random.default_rng(0).normal(0, 0.01, (60, 25))).astype(np.float32)
        save_known(statistics(card.classes, rows, np.repeat(np.arange(3), 20)), folder)
    pack = ClassPack.create(tmp_path / "p", "p")
    for seed in range(2):
        pack.add_take("a", performance(seed))
    first = Counting(one, "onnx")
    features = pack_features(pack, first)
    assert first.asked == 2 * WINDOWS
    clips = windows_of(pack.takes()[0].trimmed(), first.card.preprocessing, 1)
    np.testing.assert_allclose(features[pack.takes()[0].path].features[0], first.predict(clips).features[0], rtol=1e-5)
    first.asked = 0
    again = pack_features(ClassPack.open(pack.folder), first)
    assert first.asked == 0 and all(np.array_equal(again[p].features, features[p].features) for p in features)
    pack.add_take("a", performance(7))
    pack.trim(pack.takes()[0], 0.2, 1.0)
    assert learn(pack, first).classes == ("a",) and first.asked == 2 * WINDOWS, "only what is new"
    second = Counting(two, "onnx")
    assert learn(pack, second).fits(second.card) and second.asked == 3 * WINDOWS
    for file in (pack.folder / "features").iterdir():
        file.write_bytes(b"no")
    first.asked = 0
    taught = learn(pack, first)
    assert first.asked == 3 * WINDOWS and not taught.fits(second.card)
    other = ClassPack.create(tmp_path / "q", "q")
    other.add_take("a", performance(3))
    other.add_take("b", performance(4))
    assert learn_packs([pack.folder, other.folder], first).classes == ("a", "b")
    first.close()
    second.close()
