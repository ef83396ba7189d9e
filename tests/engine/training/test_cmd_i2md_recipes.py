"""Recipes of CMD and I2MD: each can be built, and the published ones have the published numbers."""

import numpy as np
import pytest
import torch

from engine.data.cleaning import CLEANINGS
from engine.data.sets import DATASETS, base_name
from engine.methods.i2md import I2MD
from engine.methods.i2md_settings import CmdSettings, I2mdSettings, small_dataset_warning
from engine.skeleton.layout import get_layout
from engine.training.joined import Part
from engine.training.optimisers import learning_rate
from engine.training.pretext import build_pretext, build_settings, view_rules
from engine.training.pretraining import pretraining_loader
from engine.training.protocols.finetune import labelled
from engine.training.recipe import load_recipe
from tests.engine.data.batch.stores import make_store

PROTOCOLS = (
    "ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset", "pku_mmd_1_xsub", "pku_mmd_1_xview", "pku_mmd_2_xsub",
    "nw_ucla_xview",
)  # fmt: skip


@pytest.mark.parametrize("backbone", ["", "_stgcn", "_ctrgcn"])
@pytest.mark.parametrize("method", ["cmd", "i2md", "moco3"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_recipe_fits_its_data(protocol, method, backbone):
    recipe = load_recipe(f"{protocol}_{method}{backbone}")
    settings = build_settings(recipe)
    assert isinstance(settings, CmdSettings) and isinstance(settings, I2mdSettings) == (method == "i2md")
    assert (settings.cross_weight > 0) == (method != "moco3") and recipe.backbone == (backbone[1:] or "gru")
    info, variant = DATASETS[base_name(recipe.dataset)], recipe.dataset.partition(".")[2]
    assert info.layout == recipe.preprocessing.layout and "{" not in recipe.title and recipe.source
    assert recipe.split in info.splits and (not variant or variant in CLEANINGS)
    # Published: 15 of 25 joints. NW-UCLA, which is not published: half as many, 6 of 20.
    share = 0.3 if protocol == "nw_ucla_xview" else 0.6
    assert settings.views.corrupted == round(share * get_layout(info.layout).num_joints)
    assert len(view_rules(recipe, settings)) == 2
    warned = small_dataset_warning(settings, info.split_counts[recipe.split][0])
    assert (warned is not None) == (protocol in ("pku_mmd_2_xsub", "pku_mmd_1_xview"))


@pytest.mark.parametrize("name", ["ntu60_xsub_cmd", "nw_ucla_xview_i2md_stgcn", "pku_mmd_1_xsub_moco3_ctrgcn"])
def test_recipes_of_every_backbone_can_be_built(name):
    with torch.device("meta"):
        made = build_pretext(load_recipe(name), 10, 20_000).method
    assert isinstance(made, I2MD) and list(made.encoders) == ["joint", "joint_motion", "bone"]
    assert (made.intra is not None) == ("i2md" in name)


def test_published_numbers():
    # i2md.md, sections 3, 6 and check 31.
    for protocol in (*PROTOCOLS[:4], "pku_mmd_2_xsub"):
        cmd, i2md = (load_recipe(f"{protocol}_{name}") for name in ("cmd", "i2md"))
        assert build_settings(cmd) == CmdSettings() and build_settings(i2md) == I2mdSettings()
        drop, last = (801, 1001) if protocol == "pku_mmd_2_xsub" else (351, 451)
        for recipe in (cmd, i2md):
            optimiser = recipe.optimiser
            assert (recipe.epochs, recipe.batch, recipe.precision, recipe.backbone) == (last, 64, "fp32", "gru")
            assert (optimiser.momentum, optimiser.nesterov, optimiser.weight_decay) == (0.9, False, 1e-4)
            assert not recipe.backbone_args and recipe.preprocessing.normalisation == "cmd"
            rates = [learning_rate(recipe, epoch) for epoch in (0, drop - 1, drop, last - 1)]
            assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("method", ["cmd", "i2md", "moco3"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_settings_of_our_own_choice_and_those_of_all(protocol, method):
    ucla = protocol == "nw_ucla_xview"
    rates = {"": 0.01, "_stgcn": 0.01, "_ctrgcn": 0.01} if ucla else {"": 0.01, "_stgcn": 0.1, "_ctrgcn": 0.05}
    for backbone, rate in rates.items():
        recipe = load_recipe(f"{protocol}_{method}{backbone}")
        optimiser = recipe.optimiser
        assert (recipe.seed, recipe.batch, recipe.probe.neighbours, optimiser.lr) == (42, 16 if ucla else 64, 1, rate)
        assert (optimiser.momentum, optimiser.nesterov, optimiser.warmup_epochs) == (0.9, False, 0)
        longer = protocol == "pku_mmd_2_xsub"
        assert (recipe.epochs, optimiser.milestones) == ((1001, [801]) if longer else (451, [351]))
        settings = build_settings(recipe)
        assert (settings.queue_length, settings.neighbours) == ((512, 256) if ucla else (16_384, 8192))
        assert settings.momentum == (0.996 if ucla else 0.999)
        views = settings.views
        milder, published = (16, 0.5, 0.5, 6), (64, 0.1, 1.0, 15)
        assert (views.crop_least, views.crop_low, views.shear, views.corrupted) == (milder if ucla else published)


@pytest.mark.parametrize(
    ("protocol", "steps", "total"),
    [
        ("ntu60_xsub", 626, 282_326), ("ntu60_xview", 588, 265_188), ("ntu120_xsub", 984, 443_784),
        ("ntu120_xset", 851, 383_801), ("pku_mmd_2_xsub", 83, 83_083),
    ],
)  # fmt: skip
def test_steps_of_an_epoch(tmp_path, protocol, steps, total):
    """i2md.md, 1.1 and check 32."""
    recipe = load_recipe(f"{protocol}_cmd")
    clips = DATASETS[base_name(recipe.dataset)].split_counts[recipe.split][0]
    # As many clips as the set has, all of one sequence: steps are counted, not made.
    loader = pretraining_loader(recipe, [Part(make_store(tmp_path / "store"), np.zeros(clips, np.int64))])
    assert len(loader) == steps and len(loader) * recipe.epochs == total


def test_epochs_are_counted_without_what_every_epoch_leaves_out():
    # NW-UCLA in batches of 64: 15 from 1020 clips; epoch 30 begins after 450 of them.
    starts = {"method_args.start_epoch": "30", "method_args.ramp_epochs": "2"}
    recipe = load_recipe("nw_ucla_xview_i2md_stgcn", {"batch": "64", **starts})
    with torch.device("meta"):
        method = build_pretext(recipe, 15, 1020).method
    assert isinstance(method, I2MD) and method.clips_per_epoch == 960
    for epoch, share in ((30, 0), (31, 0.5), (32, 1)):
        for queue in method.queues["instance"].values():
            queue.seen = torch.tensor(epoch * 15 * 64)
        assert method._cluster_share() == pytest.approx(share)


def test_downstream_settings():
    """i2md.md, section 7; what is not published (finetune, 2 and 40 %) is trained alike."""
    fractions = {"semi_1": 0.01, "semi_2": 0.02, "semi_5": 0.05, "semi_10": 0.1, "semi_20": 0.2, "semi_40": 0.4}
    for name in ("linear", "finetune", "transfer", *fractions):
        recipe = load_recipe(f"cmd_{name}")
        optimiser = recipe.optimiser
        assert (optimiser.kind, optimiser.momentum, optimiser.nesterov) == ("sgd", 0.9, False)
        assert optimiser.weight_decay == 0
        assert (recipe.epochs, recipe.batch, recipe.clips, recipe.drop_last) == (80, 64, "random_crop", False)
        first = 0.1 if name == "linear" else 0.01
        rates = [learning_rate(recipe, epoch) for epoch in (0, 49, 50, 69, 70, 79)]
        assert rates == pytest.approx([first, first, first / 10, first / 10, first / 100, first / 100])
        assert getattr(recipe, "fraction", None) == fractions.get(name)
        assert recipe.task == ("linear" if name == "linear" else "semi" if name in fractions else "finetune")
    knn = load_recipe("cmd_knn")
    assert (knn.k, knn.fusion) == (1, "mean_as_is")


@pytest.mark.parametrize(
    ("clips", "sizes"),
    [
        (40_091, {1: 400, 2: 801, 5: 2004, 10: 4009, 20: 8018, 40: 16_036}),
        (37_646, {1: 376, 2: 752, 5: 1882, 10: 3764, 20: 7529, 40: 15_058}),
    ],
)
def test_sizes_of_few_labels(clips, sizes):
    """i2md.md, section 7 and check 33: of all sequences, not of every class."""
    train = np.arange(clips) * 2 + 1
    for percent, size in sizes.items():
        recipe = load_recipe(f"cmd_semi_{percent}")
        # Which they are asks nothing of a store: classes do not count.
        chosen = labelled(recipe, None, train)
        assert len(chosen) == len(np.unique(chosen)) == size and np.isin(chosen, train).all()
        other = labelled(recipe.model_copy(update={"subset_seed": 1}), None, train)
        assert len(other) == size and not np.array_equal(chosen, other)
