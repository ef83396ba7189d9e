"""``train --help``: how recipes are named, and of one recipe every field with its value and what it means."""

from __future__ import annotations

import functools
import inspect
import textwrap
from typing import Any

from pydantic import BaseModel

from engine.training.families import families
from engine.training.recipe import RECIPES, BaseRecipe, Recipe
from engine.training.recipe_fields import fields_of, shown
from engine.training.recipe_protocols import PretrainRecipe

WIDTH = 120
INDENT = " " * 6
# Fields that stand above the list, or whose own settings are listed one by one.
ELSEWHERE = ("source", "limits", "method_args", "backbone_args")

GENERAL = """usage: main.py train RECIPE [--run DIR] [--seeds N,N,...] [--field value ...]
       main.py train RECIPE --help
       main.py train --list [WORD ...] [--json]

Train an encoder as a recipe says. RECIPE is a .yaml file, the name of a shipped recipe:
{recipes}
or a published setting by name ([...] may be left out):
{families}
main.py train --list WORD ... lists all names that hold every word, such as ntu60 ctrgcn bone.
Every field of the recipe can be changed, nested ones with a dot; main.py train RECIPE --help explains them all:
  main.py train nw_ucla_ctrgcn_joint --epochs 8 --optimiser.schedule cosine --precision bf16
The run's folder (default: the user's runs folder + the recipe's name) receives recipe, events, state and checkpoint;
the same command goes on where an interrupted run stopped. Ctrl-C (or main.py runs stop) finishes the step and saves.
--seeds 1,2,3 trains one run per seed, one after the other, each in a folder with _s1, _s2, _s3 behind its name;
main.py runs summary NAME then prints mean and deviation.
Prepare the dataset first: main.py data prepare NAME --raw PATH
"""


def general() -> str:
    """How ``train`` is used and how recipes are named."""
    recipes = "".join(f"  {path.stem}\n" for path in sorted(RECIPES.glob("*.yaml")))
    described = "".join(f"  {family.title}:\n    {family.pattern()}\n" for family in families())
    return GENERAL.format(recipes=recipes, families=described)


def of_recipe(name: str, recipe: BaseRecipe) -> str:
    """A recipe's source and limits, and every field that can be changed."""
    lines = [f"{name}: {recipe.title}" if recipe.title else name, ""]
    for word, text in (("Source", recipe.source), ("Limits", recipe.limits)):
        if text:
            lines += [*textwrap.wrap(f"{word}: {text}", WIDTH), ""]
    lines += [f"Every field with its value here; main.py train {name} --FIELD VALUE changes one. Lists and tables are",
              "written as in YAML: [35, 55], {base_channels: 32}.", ""]  # fmt: skip
    lines += _described(recipe)
    if isinstance(recipe, Recipe | PretrainRecipe):
        settings = _settings(recipe)
        lines += _described(settings, "method_args")
        lines += _backbone(recipe.backbone, recipe.backbone_args)
    return "\n".join(lines).rstrip() + "\n"


def _described(values: BaseModel, prefix: str = "") -> list[str]:
    lines = []
    for field in fields_of(type(values)):
        if not prefix and field.name in ELSEWHERE:
            continue
        value = functools.reduce(getattr, field.name.split("."), values)
        name = f"{prefix}.{field.name}" if prefix else field.name
        lines.append(f"  --{name} {shown(value)}")
        one_of = " or ".join(map(str, field.options))
        text = "; ".join(part for part in (field.help.rstrip("."), one_of, field.range) if part)
        lines += textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return lines


def _settings(recipe: Recipe | PretrainRecipe) -> BaseModel:
    """The validated settings of the recipe's method."""
    if isinstance(recipe, PretrainRecipe):
        from engine.training.pretext import build_settings

        return build_settings(recipe)
    from engine.training.step import method_settings

    return method_settings(recipe)


def _backbone(backbone: str, given: dict[str, Any]) -> list[str]:
    """Arguments of an encoder; those that data and task decide are left out."""
    from engine.models.checkpoint import BACKBONES

    decided = {"self", "num_classes", "layout", "persons"}
    lines = []
    for name, argument in inspect.signature(BACKBONES[backbone]).parameters.items():
        if name not in decided and argument.default is not inspect.Parameter.empty:
            lines.append(f"  --backbone_args.{name} {shown(given.get(name, argument.default))}")
    return lines
