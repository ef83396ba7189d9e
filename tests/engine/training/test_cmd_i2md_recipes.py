"""Recipes of CMD and I2MD: each can be built, and the published ones have the published numbers."""

import pytest
import torch

from engine.data.cleaning import CLEANINGS
from engine.data.sets import DATASETS, base_name
from engine.methods.i2md import I2MD
from engine.methods.i2md_settings import CmdSettings, I2mdSettings, small_dataset_warning
from engine.skeleton.layout import get_layout
from engine.training.optimisers import learning_rate
from engine.training.pretext import build_pretext, build_settings, view_rules
from engine.training.recipe import load_recipe

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
    assert settings.views.corrupted == round(0.6 * get_layout(info.layout).num_joints)
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
