"""``chain``: pretraining and the protocols that judge it, as one run that can be stopped and resumed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from engine.cli import CommandError
from engine.cli.training import changes_of, run_recipe
from engine.paths import runs

if TYPE_CHECKING:
    from engine.training.recipe_chain import ChainRecipe

CHAIN_HELP = """usage: main.py chain RECIPE [--run DIR] [--show] [--field value ...] [--STEP.field value ...]

Pretrain, then judge the encoder: nearest neighbours, linear evaluation, fine-tuning, each a run of its own in the
chain's folder. RECIPE is the name or file of a pretraining, whose paper's protocols follow, or a .yaml file with task:
chain and steps of your own. Examples:
  main.py chain nw_ucla_xview_hiclr_joint
  main.py chain nw_ucla_xview_hiclr_joint --pretrain.epochs 50 --finetune.epochs 20 --seed 2
The same command goes on where it stopped; steps that are finished are not done again. Ctrl-C or main.py runs stop saves
and ends. --show prints the chain's recipe and does nothing.
"""


def chain(argv: list[str]) -> int:
    """Run a chain; ``argv`` is the recipe and changes of its fields or of its steps' fields."""
    from engine.training.run_folder import run_place

    if not argv or argv[0] in ("-h", "--help"):
        print(CHAIN_HELP)
        return 0 if argv else 2
    name, *rest = argv
    show = "--show" in rest
    changes = changes_of([word for word in rest if word != "--show"])
    folder = changes.pop("run", None)
    recipe = load_chain(name, changes)
    if show:
        yaml.safe_dump(recipe.model_dump(mode="json"), sys.stdout, sort_keys=False, allow_unicode=True)
        return 0
    return run_recipe(recipe, Path(folder) if folder else run_place(runs(), recipe.name))


chain.takes_argv = True  # type: ignore[attr-defined]


def load_chain(source: str, changes: dict[str, str]) -> ChainRecipe:
    """A chain from its file, or the usual one of a pretraining; ``STEP.field`` changes a step, others the chain.

    Raises
    ------
    RecipeError
        No such recipe, or a change that does not validate.
    CommandError
        A recipe that is neither a chain nor a pretraining.
    """
    from engine.training.chain import usual_chain
    from engine.training.recipe import RecipeError, load_recipe, parse_recipe, set_field, typed
    from engine.training.recipe_chain import ChainRecipe
    from engine.training.recipe_protocols import PretrainRecipe

    found = load_recipe(source)
    if isinstance(found, PretrainRecipe):
        found = usual_chain(found)
    if not isinstance(found, ChainRecipe):
        raise CommandError(f"{source} is a recipe of task {found.task}; a chain begins with a pretraining")
    data = found.model_dump(mode="json")
    steps = {step["name"]: step["recipe"] for step in data["steps"]}
    for key, text in changes.items():
        head, _, inner = key.partition(".")
        if inner == "seed" and head in steps:
            raise RecipeError(f"{key}: all steps of a chain have its seed; --seed {text} changes it")
        whose, field = (steps[head], inner) if inner and head in steps else (data, key)
        set_field(whose, field, typed(whose, field, text))
    recipe = parse_recipe(data)
    assert isinstance(recipe, ChainRecipe)
    return recipe
