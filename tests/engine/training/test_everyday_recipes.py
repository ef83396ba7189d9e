"""Recipes of the everyday model: they fit the set, each other, and train on a made-up one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.data.merge import LEARNT_AS_UNKNOWN, TESTED_AS_UNKNOWN, memberships
from engine.data.sets import DATASETS
from engine.data.store import write_store
from engine.models.checkpoint import build_encoder
from engine.skeleton.sequence import SkeletonSequence
from engine.training.feed import NO_CLASS, class_names, open_data, training_loader, unknown_actions
from engine.training.pretext import build_pretext
from engine.training.pretraining import open_parts, pretraining_loader, probe_encoders
from engine.training.recipe import RecipeError, load_recipe
from engine.training.step import build_step

PAIRS = {"everyday_ctrgcn": "everyday_moco_ctrgcn", "everyday_stgcn": "everyday_hiclr_stgcn"}
TINY = {"backbone_args": "{base_channels: 8}", "batch": "4"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Three classes of the set's 61, three subjects, one of them tested; every third sequence without a label."""
    root, rng = tmp_path_factory.mktemp("stores"), np.random.default_rng(0)
    made = []
    for i in range(27):
        part, label = ("train", "tune", "test")[i // 9], i % 3 if i % 9 < 6 else -1
        xyz = np.cumsum(rng.standard_normal((20 + 5 * i, 1, 25, 3)) * 0.02, 0) + rng.standard_normal((1, 1, 25, 3))
        unknown = 0 if label >= 0 else LEARNT_AS_UNKNOWN if i % 2 else TESTED_AS_UNKNOWN
        meta = {"subject": 1001 + i // 9, "unknown": unknown} | memberships(part, label >= 0)
        made.append(SkeletonSequence(xyz, np.arange(len(xyz)) / 30, name=f"s{i}", label=label, meta=meta))
    for name in ("everyday", "everyday_mediapipe"):
        films = [one for one in made if one.label >= 0] if name != "everyday" else made
        write_store(root / name, name, films, DATASETS["everyday"].classes, 30.0)
    return root


@pytest.mark.parametrize(("name", "parent"), PAIRS.items())
def test_what_is_pretrained_can_be_fine_tuned(name, parent, stores):
    recipe, before = load_recipe(name), load_recipe(parent)
    assert recipe.preprocessing == before.preprocessing and recipe.dataset == before.dataset == "everyday"
    assert (recipe.backbone, recipe.backbone_args) == (before.backbone, before.backbone_args)
    assert {recipe.split, before.split} <= set(DATASETS["everyday"].splits)
    assert 0 < recipe.balance < 1 and recipe.idle_share and set(recipe.also_train_on) == {"everyday_mediapipe"}
    recipe = load_recipe(name, TINY)
    data = open_data(recipe, stores)
    assert len(data.train) == 12 and len(data.test) == 6 and len(class_names(recipe, data)) == 62
    encoder = build_encoder(recipe.backbone, 62, "ntu25", 1, recipe.backbone_args)
    step = build_step(recipe, encoder, 62, torch.zeros(0))
    batch = next(iter(training_loader(recipe, data)))
    parts = step(views=batch.views, lengths=batch.lengths, labels=batch.labels, items=batch.items, seed=batch.seed)
    parts["loss"].backward()
    assert torch.isfinite(parts["loss"])


def test_some_clips_show_an_action_of_no_class(stores):
    recipe = load_recipe("everyday_stgcn", TINY | {"unknown_share": "0.4", "repeat": "30"})
    data = open_data(recipe, stores)
    # Subjects 1001 and 1002 train; of their sequences without a label those with an odd number are for learning.
    assert data.unknown.tolist() == [7, 15, 17]
    assert open_data(load_recipe("everyday_stgcn", TINY | {"split": "tune"}), stores).unknown.tolist() == [7]
    labels = torch.cat([batch.labels for batch in training_loader(recipe, data)])
    assert 0.3 < (labels == NO_CLASS).float().mean() < 0.5 and labels.max() <= 61
    encoder = build_encoder("stgcn", 62, "ntu25", 1, {"base_channels": 8})
    step = build_step(recipe, encoder, 62, torch.zeros(0))
    clips = torch.randn(4, 3, 8, 25, 1, generator=torch.Generator().manual_seed(0))
    places = torch.arange(4)
    parts = step(views=(clips,), lengths=(places,), labels=torch.tensor([-1, 5, -1, 7]), items=places, seed=0)
    logits = encoder.eval()(clips).logits
    assert torch.isfinite(parts["loss"]) and logits.shape == (4, 62) and 0 <= parts["train_top1"] <= 1
    with pytest.raises(RecipeError, match="everyday_mediapipe has no unknown actions"):
        unknown_actions(data.further[0][0], data.further[0][1])


def test_classes_can_be_left_out_to_be_taught_later(stores):
    first, second, third = DATASETS["everyday"].classes[:3]
    recipe = load_recipe("everyday_stgcn", TINY | {"leave_out": f"[{second}]"})
    data, whole = open_data(recipe, stores), open_data(load_recipe("everyday_stgcn", TINY), stores)
    assert class_names(recipe, data)[:2] == [first, third] and len(class_names(recipe, data)) == 61
    kept = whole.train[whole.main.label[whole.train] != 1]
    assert data.train.tolist() == kept.tolist() and set(data.main.label[data.test].tolist()) == {0, 1}
    assert [data.main.sequence(int(i)).label for i in kept] == [int(whole.main.label[i] > 0) for i in kept]
    labels = torch.cat([batch.labels for batch in training_loader(recipe, data)])
    assert set(labels.tolist()) <= {NO_CLASS, 0, 1, 60}
    with pytest.raises(RecipeError, match="leave_out: everyday has no class 'sing'"):
        open_data(load_recipe("everyday_stgcn", TINY | {"leave_out": "[sing]"}), stores)


@pytest.mark.parametrize("name", PAIRS.values())
def test_pretraining_sees_what_has_no_label_and_the_probe_does_not(name, stores):
    recipe = load_recipe(name, TINY)
    parts, test = open_parts(recipe, stores)
    assert len(parts[0].indices) == 18 and len(test) == 6
    loader = pretraining_loader(recipe, parts)
    step = build_pretext(recipe, len(loader), 18)
    batch = next(iter(loader))
    found = step(views=batch.views, lengths=batch.lengths, labels=batch.labels, items=batch.items, seed=batch.seed)
    assert torch.isfinite(found["loss"])
    encoders = [(None, encoder, recipe.preprocessing) for encoder in step.encoders.values()]
    probed = probe_encoders(encoders, parts[0].store, parts[0].indices, test, recipe.probe)
    assert set(probed) == {"probe_knn", "probe_linear"} and all(0 <= value <= 1 for value in probed.values())
