"""Writes ``docs/recipes.md``: every field of every kind of recipe and of every method, from the models that check them.

``python docs/make_recipe_reference.py`` after a field was added or its help changed; a test compares the two.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pydantic import BaseModel

from engine.methods.skeletongcl import SkeletonGclSettings
from engine.methods.supervised import SupervisedSettings
from engine.training.families import families
from engine.training.pretext import PRETEXTS, settings_model
from engine.training.recipe import RECIPES, TASKS, load_recipe
from engine.training.recipe_base import BaseRecipe, TrainedRecipe
from engine.training.recipe_fields import FieldSpec, defaults_of, fields_of, shown

TARGET = Path(__file__).resolve().parent / "recipes.md"

HEAD = """# Recipes: every field

Made by `python docs/make_recipe_reference.py` from the models that check recipes. A recipe is a YAML file of these
fields; on the command line each is `--FIELD VALUE`, in the window a line of the form. `python main.py train RECIPE
--help` shows the same with the values of one recipe.

A recipe's `task` says what kind of run it is: """

TITLES = {
    "supervised": "`supervised`: training with labels",
    "pretrain": "`pretrain`: pretraining without labels",
    "knn": "`knn`: nearest neighbours on the features of a pretrained encoder",
    "linear": "`linear`: a linear layer on a frozen encoder",
    "finetune": "`finetune`: encoder and classifier together",
    "semi": "`semi`: the same with some of the labels",
    "chain": "`chain`: a pretraining and its protocols, one after the other",
}
Row = tuple[str, str, str]


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def row(field: FieldSpec, defaults: dict[str, Any]) -> Row:
    value: Any = defaults
    for part in field.name.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    allowed = ", ".join(f"`{option}`" for option in field.options) or field.range
    text = f"{field.help} ({allowed})" if allowed else field.help
    return f"`{field.name}`", "needed" if field.required else f"`{shown(value)}`", text


def rows(model: type[BaseModel], known: set[Row]) -> list[Row]:
    """Rows of a model's fields; those that stand in an earlier table word for word are left out."""
    defaults = defaults_of(model)
    return [made for field in fields_of(model) if (made := row(field, defaults)) not in known]


def table(found: list[Row]) -> list[str]:
    return [
        "| field | default | meaning |",
        "|---|---|---|",
        *(f"| {' | '.join(map(cell, line))} |" for line in found),
        "",
    ]


def reference() -> str:
    lines = [HEAD + ", ".join(f"`{task}`" for task in TASKS) + ".", ""]
    known: set[Row] = set()
    for title, model in (("Of every run", BaseRecipe), ("Of every training", TrainedRecipe)):
        found = rows(model, known)
        lines += [f"## {title}", "", *table(found)]
        known |= set(found)
    of_protocols: set[Row] | None = None
    for task, model in TASKS.items():
        lines += [f"## {TITLES[task]}", ""]
        if task in ("finetune", "semi"):
            lines += ["As `linear` where nothing else is said.", ""]
        lines += table(rows(model, known | (of_protocols or set())))
        if task == "linear":
            of_protocols = set(rows(model, known))
    lines += ["## Settings of the methods", "", "In `method_args`, by `method`.", ""]
    supervised: dict[str, type[BaseModel]] = {"supervised": SupervisedSettings, "skeletongcl": SkeletonGclSettings}
    for name, settings in (supervised | {name: settings_model(name) for name in PRETEXTS}).items():
        lines += [f"### `{name}`", "", *table(rows(settings, set()))]
    return "\n".join([*lines, *names()]).rstrip() + "\n"


def names() -> list[str]:
    """Recipes that ship, and the families of published ones with what their numbers stand on."""
    lines = ["## Recipes that ship", ""]
    for path in sorted(RECIPES.glob("*.yaml")):
        lines.append(f"- `{path.stem}`: {load_recipe(path.stem).title}")
    for family in families():
        count = len(family.members())
        lines += ["", f"### {family.title}", "", f"{count} recipes, `{family.pattern()}` ([...] may be left out).", ""]
        sources = dict.fromkeys(rule["source"] for rule in family.rules if "source" in rule)
        lines += [f"- {' '.join(source.split())}" for source in sources]
    return lines


if __name__ == "__main__":
    TARGET.write_text(reference(), "utf-8")
    print(TARGET)
