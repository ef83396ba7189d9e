"""Recipes of GL-Transformer's pretraining: each can be built, and the published ones have the published numbers."""

import pytest
import torch

from engine.data.cleaning import CLEANINGS
from engine.data.sets import DATASETS, base_name
from engine.methods.displacement import INPUTS, Displacement
from engine.models.gl_transformer import ECONOMICAL
from engine.training.optimisers import learning_rate
from engine.training.pretext import build_pretext, build_settings
from engine.training.recipe import RecipeError, load_recipe

PROTOCOLS = ("ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset", "nw_ucla_xview")


@pytest.mark.parametrize("shared", ["", "_shared"])
@pytest.mark.parametrize("size", ["", "_economical"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_recipe_can_be_built(protocol, size, shared):
    recipe = load_recipe(f"{protocol}_gl_transformer{size}{shared}")
    with torch.device("meta"):
        method = build_pretext(recipe, 10, 100).method
    assert isinstance(method, Displacement)
    assert base_name(recipe.dataset) in DATASETS and recipe.source
    variant = recipe.dataset.partition(".")[2]
    assert not variant or variant in CLEANINGS
    assert recipe.preprocessing.normalisation == "gl_transformer" + shared in INPUTS
    # Nothing the loader hands out is cut by the encoder's tables.
    assert method.frames == method.encoder.frames == recipe.preprocessing.frames
    assert "{" not in recipe.title and ("frame of reference" in recipe.title) == bool(shared)


def test_published_numbers():
    # gl_transformer.md, sections 3 and 4, and check 2.
    for protocol in PROTOCOLS[:4]:
        recipe = load_recipe(f"{protocol}_gl_transformer")
        with torch.device("meta"):
            method = build_pretext(recipe, 10, 100).method
        assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 214_369_650
        optimiser = recipe.optimiser
        assert (recipe.epochs, recipe.batch, recipe.precision, recipe.seed) == (120, 128, "fp32", 123)
        assert (optimiser.kind, optimiser.lr, optimiser.betas, optimiser.weight_decay) == (
            "adamw", 5e-5, (0.9, 0.999), 0.1,
        )  # fmt: skip
        settings = build_settings(recipe)
        assert (settings.global_weight, settings.magnitude_weight, settings.grouping) == (0.05, 1.0, "intended")
        assert (settings.views.intervals, settings.views.stretch, settings.views.shear) == ((1, 5, 10), 0.1, 0.3)
        assert recipe.preprocessing.sampling == "first" and recipe.preprocessing.persons == 2


def test_learning_rate_of_every_epoch():
    # gl_transformer.md, check 30; epochs count from 0 here.
    recipe = load_recipe("ntu60_xsub_gl_transformer")
    for epoch in range(120):
        assert learning_rate(recipe, epoch) == pytest.approx(5e-5 * 0.99**epoch, rel=1e-12)
    assert learning_rate(recipe, 119) == pytest.approx(1.5120e-5, rel=1e-4)


def test_the_released_grouping_and_one_interval_by_a_change():
    changes = {"method_args": "{grouping: released, absent: leave_out, views: {intervals: [1]}}"}
    recipe = load_recipe("nw_ucla_xview_gl_transformer_economical", changes)
    settings = build_settings(recipe)
    assert settings.grouping == "released" and settings.views.intervals == (1,)
    economical = load_recipe("ntu60_xsub_gl_transformer_economical").backbone_args
    assert economical == ECONOMICAL


def test_clips_without_a_path_are_refused():
    recipe = load_recipe("nw_ucla_xview_gl_transformer", {"preprocessing.normalisation": "hiclr"})
    with pytest.raises(RecipeError, match="'hiclr', but the root's slot must hold the body's path: set preprocessing"):
        build_pretext(recipe, 10, 100)
