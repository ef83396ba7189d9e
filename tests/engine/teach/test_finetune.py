from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.preprocess import Preprocessing
from engine.data.safe_load import load_pickle
from engine.data.sets import split_indices
from engine.data.store import SequenceStore, StoreError
from engine.live.recogniser import Recogniser
from engine.live.taught import TaughtError
from engine.models.card import read_card
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.export import export_pickle, export_store
from engine.teach.features import WINDOWS, windows_of
from engine.teach.finetune import train_encoder, train_on_features
from engine.teach.head import loss_and_slope, train_head
from engine.teach.known import load_known, measure, save_known
from engine.teach.learn import Examples
from engine.teach.pack import ClassPack
from tests.engine.teach.test_learn import KNOWN, Clusters
from tests.engine.training.comparable import CLASSES, write_encoder, write_sequences


def swing(seed: int, joint: int = 13, axis: int = 2) -> SkeletonSequence:
    """A leg that swings, which nobody in the made store does."""
    rng = np.random.default_rng(seed)
    xyz = np.repeat(rng.normal(0, 0.3, (1, 1, 25, 3)) + np.array([0, 0, 3]), 40, 0)
    xyz[:, 0, joint : joint + 3, axis] += 0.6 * np.sin(np.arange(40) * 0.35)[:, None]
    return SkeletonSequence(xyz, np.arange(40) / 30, name=f"swing {seed}")


@pytest.fixture
def pack(tmp_path: Path) -> ClassPack:
    pack = ClassPack.create(tmp_path / "p", "legs")
    for seed in range(4):
        pack.add_take("swing", swing(seed))
    pack.add_take("lift", swing(9, 17, 1))
    pack.add_take("lift", swing(10, 17, 1))
    pack.add_take("swing", swing(11, 7, 1), sign=-1)
    return pack


def test_the_slope_of_the_loss_is_its_derivative() -> None:
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    sign, share = np.array([1, 1, -1, 1, -1, -1]), rng.uniform(0.1, 1, 6)
    value, slope = loss_and_slope(logits, y, sign, share)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = p[np.arange(6), y]
    assert value == pytest.approx(sum(s * -np.log(o if g > 0 else 1 - o) for s, o, g in zip(share, own, sign)))
    for i in range(6):
        for j in range(4):
            moved = logits.copy()
            moved[i, j] += 1e-6
            near = (loss_and_slope(moved, y, sign, share)[0] - value) / 1e-6
            assert slope[i, j] == pytest.approx(near, abs=1e-5)


def test_a_head_names_new_clusters_and_keeps_old_ones() -> None:
    made = Clusters(5)
    classifier = made.centres[:4] / made.spread**2, -0.5 * (made.centres[:4] ** 2).sum(1) / made.spread**2
    odd = made.draw(7, 8)
    head = train_head(made.known, classifier, [Examples("a", made.takes(4), (odd,)), Examples("run", made.takes(6))])
    assert head.classes == (*KNOWN, "a")
    for k, name in ((0, "sit"), (1, "stand"), (2, "run"), (3, "idle"), (4, "a"), (6, "run")):
        assert (head(made.draw(k, 50)).argmax(1) == head.classes.index(name)).mean() >= 0.9, name
    assert (head(made.draw(7, 50)).argmax(1) != 4).mean() > 0.8


def test_takes_as_a_store_and_as_a_pickle(pack: ClassPack, tmp_path: Path) -> None:
    store = export_store(pack, tmp_path / "legs")
    assert store.classes == ["swing", "lift"] and store.label.tolist() == [0, 0, 0, 0, 1, 1]
    train, test = split_indices(store, "takes")
    assert test.tolist() == [3] and len(train) == 5, "one of four is kept for testing, none of two"
    np.testing.assert_allclose(store.sequence(1).xyz, pack.takes()[1].sequence.xyz, atol=1e-5)
    export_pickle(pack, tmp_path / "legs.pkl")
    data = load_pickle(tmp_path / "legs.pkl")
    assert data["split"] == {"takes_train": [f"swing_000{n}" for n in (1, 2, 3)] + ["lift_0001", "lift_0002"],
                             "takes_val": ["swing_0004"]}  # fmt: skip
    assert data["annotations"][1]["keypoint"].shape == (1, 40, 25, 3)


def test_takes_of_actions_named_in_other_scripts_are_told_apart_in_an_export(tmp_path: Path) -> None:
    pack = ClassPack.create(tmp_path / "p", "p")
    for action in ("挥手", "跳"):
        pack.add_take(action, swing(0))
    export_pickle(pack, tmp_path / "p.pkl")
    data = load_pickle(tmp_path / "p.pkl")
    assert data["split"]["takes_train"] == ["action_0001", "action-2_0001"]


def test_a_pack_becomes_checkpoints(pack: ClassPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    stores = tmp_path / "home" / "stores"
    spec = Preprocessing(layout="ntu25", frames=12, window_s=1.0, scale="torso")
    parent = write_encoder(tmp_path / "parent", 3, preprocessing=spec)
    recogniser = Recogniser(parent, "torch")
    with pytest.raises(TaughtError, match="teach known"):
        train_on_features(pack, recogniser, tmp_path / "out", "legs_head")
    with pytest.raises(StoreError, match="--what head does without"):
        train_encoder(pack, parent, tmp_path / "run", stores)
    store = write_sequences(stores / "utd_mhad")
    save_known(measure(recogniser, [(store, split_indices(store, "xsub")[0])]), parent)

    card = train_on_features(pack, recogniser, tmp_path / "out", "legs_head")
    recogniser.close()
    assert card.classes == [*CLASSES, "swing", "lift"] and card.parent is not None and card.name == "legs_head"
    assert (card.parent["name"], card.parent["pack"], card.training["takes"]) == (
        "parent",
        "legs",
        {"swing": 4, "lift": 2},
    )
    assert [r.name for r in card.results] == ["taught takes", "test sequences of the known classes"]
    assert card.results[0].count == 6 and card.results[1].count == 12 and "swing, lift" in card.limits
    live = Recogniser(tmp_path / "out", "onnx")
    clips = np.concatenate([windows_of(take.trimmed(), spec, 1) for take in pack.takes()])
    said = live.predict(clips).logits.argmax(1)
    assert (said == np.array([27] * 4 + [28] * 2)).mean() >= 4 / 6, "what it was taught it knows"
    live.close()
    both = load_known(tmp_path / "out", card)
    assert both is not None and both.classes == tuple(card.classes)
    assert both.counts[27:].tolist() == [4 * WINDOWS, 2 * WINDOWS]

    told: list[str] = []
    tuned = train_encoder(
        pack, parent, tmp_path / "home" / "runs" / "legs_all", stores, epochs=1, say=lambda what, *_: told.append(what)
    )
    assert tuned is not None and tuned.classes == [*CLASSES, "swing", "lift"] and tuned.training["takes_tested"] == 1
    assert tuned.parent is not None and tuned.parent["pack"] == "legs" and tuned.results[0].count == 12 + 1
    assert {"collecting", "writing the graph", "measuring the classes"} <= set(told)
    merged = SequenceStore(stores / "taught_p")
    train, _ = split_indices(merged, "takes")
    assert np.bincount(merged.label[train], minlength=29)[[0, 27, 28]].tolist() == [3, 3, 2], (
        "12 known of 27: no repeats"
    )
    again = Recogniser(tmp_path / "home" / "runs" / "legs_all" / "checkpoint", "onnx")
    assert again.predict(clips).logits.shape == (6, 29) and read_card(again.checkpoint).sha256.keys() >= {"model.onnx"}
    assert load_known(again.checkpoint, again.card) is not None
    again.close()
