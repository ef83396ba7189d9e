"""Recipes of HiCLR and of all protocols: each validates, and its numbers are those of the specifications' tables."""

import numpy as np
import pytest
import torch

from engine.cli.chain import load_chain
from engine.data.cleaning import CLEANINGS
from engine.data.sets import DATASETS, base_name
from engine.models.checkpoint import build_encoder
from engine.training.families import families
from engine.training.optimisers import learning_rate
from engine.training.pretext import build_pretext, build_settings
from engine.training.protocols.finetune import freeze_named
from engine.training.recipe import load_recipe

PROTOCOLS = (
    "ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset", "pku_mmd_1_xsub", "pku_mmd_2_xsub", "nw_ucla_xview"
)  # fmt: skip
STREAMS = ("joint", "bone", "joint_motion")


def members(stem):
    (family,) = (family for family in families() if family.stem == stem)
    return sorted(family.members())


def rates(recipe, *epochs_from_1):
    return [learning_rate(recipe, epoch - 1) for epoch in epochs_from_1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("backbone", ["", "_dstanet"])
def test_hiclr_numbers(protocol, backbone):
    """hiclr.md, section 6 and check 26."""
    epochs = {"pku_mmd_1_xsub": 600, "pku_mmd_2_xsub": 1500}.get(protocol, 300)
    for stream in STREAMS:
        recipe = load_recipe(f"{protocol}_hiclr{backbone}_{stream}")
        settings = build_settings(recipe)
        o = recipe.optimiser
        assert (recipe.epochs, settings.mining_epoch) == (epochs, epochs // 2)
        assert (o.kind, o.momentum, o.nesterov, o.warmup_epochs) == ("sgd", 0.9, False, 0)
        assert o.weight_decay == (5e-4 if backbone else 1e-4) and recipe.source and recipe.limits
        drop = epochs - epochs // 6
        assert np.allclose(rates(recipe, 1, drop, drop + 1, epochs), np.array([1, 1, 0.1, 0.1]) * o.lr)
        masked = 0.2 if backbone and protocol.startswith("ntu120") else 0.1
        assert (settings.views.mask_ratio, settings.views.stream) == (masked, stream)
        assert (settings.views.shear, settings.views.crop_ratio, settings.temperature) == (0.5, 6, 0.07)
        spec = recipe.preprocessing
        assert (spec.frames, spec.sampling) == (50, "resize")
        if protocol == "nw_ucla_xview":
            # Not published: people are turned ahead, because this set's views differ by more than augmentations shear.
            assert (spec.normalisation, spec.centre, spec.facing) == ("none", "each", True)
        else:
            assert spec.normalisation == "hiclr"
            assert (o.lr, recipe.batch, settings.queue_length, settings.momentum) == (0.1, 128, 32768, 0.999)
        info, variant = DATASETS[base_name(recipe.dataset)], recipe.dataset.partition(".")[2]
        assert recipe.split in info.splits and (not variant or variant in CLEANINGS)
        assert info.layout == spec.layout and "{" not in recipe.title + recipe.source


def test_every_recipe_of_hiclr_can_be_built():
    names = members("hiclr")
    assert len(names) == 7 * 2 * 2 * 3
    for name in names:
        recipe = load_recipe(name)
        assert recipe.name == name and recipe.task == "pretrain" and build_settings(recipe)
        # Of all protocols the one with the smallest queue: drawing those of the others takes its time.
        if name.startswith("nw_ucla"):
            with torch.device("meta"):
                assert list(build_pretext(recipe, 15, 1000).encoders) == [None]


def test_trainable_numbers_of_pretraining():
    """hiclr.md, check 3."""
    recipe = load_recipe("ntu60_xsub_hiclr_joint")
    with torch.device("meta"):
        step = build_pretext(recipe, 313, 40_091)
    assert sum(p.numel() for p in step.parameters() if p.requires_grad) == 920_069


def test_protocols_of_hiclr():
    """hiclr.md, section 7 and check 27."""
    linear, dsta = load_recipe("hiclr_linear"), load_recipe("hiclr_dstanet_linear")
    assert rates(linear, 1, 80, 81, 100) == pytest.approx([3, 3, 0.3, 0.3])
    assert rates(dsta, 30, 31, 80, 81) == pytest.approx([3, 0.3, 0.3, 0.03])
    for recipe in (linear, dsta):
        assert (recipe.epochs, recipe.batch, recipe.optimiser.weight_decay, recipe.clips) == (100, 128, 0, "none")
        assert (recipe.classifier, recipe.classifier_std, recipe.optimiser.nesterov) == ("normal", 0.02, False)
    tuned, dsta = load_recipe("hiclr_finetune"), load_recipe("hiclr_dstanet_finetune")
    assert rates(tuned, 1, 4, 5, 29, 30, 54, 55, 70) == pytest.approx(
        [0.02, 0.08, *[0.1] * 2, *[0.01] * 2, *[1e-3] * 2]
    )
    assert rates(dsta, 34, 35, 54, 55) == pytest.approx([0.1, 0.01, 0.01, 0.001])
    assert (tuned.epochs, tuned.batch, tuned.optimiser.weight_decay, tuned.clips) == (70, 64, 1e-4, "none")
    assert (dsta.epochs, dsta.batch, dsta.optimiser.weight_decay, dsta.clips) == (80, 128, 5e-4, "basic")
    assert tuned.optimiser.nesterov and dsta.optimiser.nesterov and dsta.classifier == "xavier"
    # 128 numbers of the stem stay as they are.
    encoder = build_encoder("dstanet", 60, "ntu25", 2, dsta.backbone_changes)
    freeze_named(encoder, dsta.freeze)
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == 1_561_772
    semi, dsta = load_recipe("hiclr_semi_1"), load_recipe("hiclr_dstanet_semi_10")
    assert (semi.task, semi.fraction, semi.subset, semi.full_length) == ("semi", 0.01, "balanced", True)
    assert (semi.epochs, semi.batch, dsta.epochs, dsta.batch, dsta.clips) == (42, 64, 50, 128, "none")
    assert rates(semi, 14, 15, 30) == pytest.approx([0.1, 0.01, 0.001])
    assert rates(dsta, 14, 15, 25) == pytest.approx([0.1, 0.01, 0.001])


def test_protocols_of_cmd():
    """i2md.md, section 7 and check 31 (epochs from 0 there)."""
    linear, semi, transfer = (load_recipe(f"cmd_{name}") for name in ("linear", "semi_20", "transfer"))
    assert [learning_rate(linear, epoch) for epoch in (49, 50, 70)] == pytest.approx([0.1, 0.01, 0.001])
    assert [learning_rate(semi, epoch) for epoch in (49, 50, 70)] == pytest.approx([0.01, 0.001, 0.0001])
    for recipe in (linear, semi, transfer):
        assert (recipe.epochs, recipe.batch, recipe.clips, recipe.optimiser.weight_decay) == (80, 64, "random_crop", 0)
        assert (recipe.classifier, recipe.classifier_std) == ("normal", 0.01)
    assert (semi.fraction, semi.subset, semi.full_length, transfer.task) == (0.2, "random", False, "finetune")
    assert load_recipe("cmd_knn").k == 1


def test_protocols_of_gl_transformer():
    """gl_transformer.md, section 5.1."""
    linear = load_recipe("gl_transformer_linear")
    o = linear.optimiser
    assert (o.kind, o.weight_decay, linear.epochs, linear.batch, linear.clips) == ("adam", 0, 120, 1024, "stretch")
    assert {learning_rate(linear, epoch) for epoch in range(120)} == {3e-3} and linear.frozen_mode == "evaluation"
    assert load_recipe("gl_transformer_economical_linear").clips == "none"


@pytest.mark.parametrize("stem", ["protocols_hiclr", "protocols_cmd", "protocols_gl_transformer"])
def test_every_protocol_validates_and_says_its_source(stem):
    for name in members(stem):
        recipe = load_recipe(name)
        assert recipe.name == "" and recipe.parent == "" and recipe.title and recipe.source


THREE_STREAMS = [
    "pretrain", "knn", "linear", "finetune", "knn_joined", "linear_joined", "linear_joint_motion", "linear_bone",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("ntu60_xsub_cmd", THREE_STREAMS),
        ("nw_ucla_xview_i2md_stgcn", THREE_STREAMS),
        ("ntu60_xsub_hiclr_joint", ["pretrain", "knn", "linear", "finetune"]),
        ("nw_ucla_xview_moco_dstanet_bone", ["pretrain", "knn", "linear", "finetune"]),
        ("ntu60_xsub_gl_transformer", ["pretrain", "knn", "linear", "finetune"]),
        ("nw_ucla_xview_gl_transformer_economical", ["pretrain", "knn", "linear", "finetune"]),
    ],
)
def test_a_pretraining_has_a_chain(name, steps):
    chain = load_chain(name, {"seed": "7"})
    assert [step.name for step in chain.steps] == steps and chain.name == f"{name}_chain"
    assert chain.steps[0].recipe["method"] == chain.child(0, "").method
    assert all(chain.child(index, "run").seed == 7 for index in range(len(steps)))
    assert chain.child(3, "run").backbone_changes == ({"residual_drop": 0.0} if "dstanet" in name else {})
