"""The recipe: everything that determines a run, validated, in YAML.

One model per task, chosen by the field ``task``: supervised (here), pretraining and its protocols
(:mod:`.recipe_protocols`); what they share is in :mod:`.recipe_base`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError

from engine.data.augment import Augmentation
from engine.data.preprocess import Preprocessing
from engine.training.families import family_names, find_in_families
from engine.training.recipe_base import (
    BACKBONE_ARGS,
    SMOOTHING,
    BackboneName,
    BaseRecipe,
    Optimiser,
    RecipeError,
    TrainedRecipe,
    automatic_precision,
    differences,
)
from engine.training.recipe_chain import ChainRecipe
from engine.training.recipe_fields import explain, fields_of
from engine.training.recipe_protocols import (
    FinetuneRecipe,
    KnnRecipe,
    LinearRecipe,
    PretrainRecipe,
    SemiRecipe,
    own_streams,
)

__all__ = [
    "RECIPES", "TASKS", "BaseRecipe", "Optimiser", "Recipe", "RecipeError", "TrainedRecipe",
    "automatic_precision", "differences", "load_recipe", "own_streams", "parse_recipe", "recipe_names", "set_field",
]  # fmt: skip

RECIPES = Path(__file__).resolve().parent / "recipes"


class Recipe(TrainedRecipe):
    """Everything that determines a supervised run."""

    YOUNGER: ClassVar[dict[str, Any]] = TrainedRecipe.YOUNGER | {
        "task": "supervised", "method": "supervised", "method_args": {}, "accumulate": 1, "clip_norm": 0.0,
        "evaluate_every": 5, "keep_best": False, "augmentation.crop_low": 0.5, "augmentation.crop_least": 64,
        "augmentation.rotation_rad": 0.0, "augmentation.roam": 0.0, "balance": 0.0, "unknown_share": 0.0,
        "leave_out": [],
    }  # fmt: skip

    task: Literal["supervised"] = "supervised"
    also_train_on: list[str] = Field(
        default_factory=list,
        description="Further stores of the same sequences, such as the filmed set; their training part is mixed in.",
    )
    also_share: float = Field(0.5, ge=0, le=1, description="Share of training clips taken from the further stores.")
    idle_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of training clips in which next to nothing happens; above 0 adds a class 'idle' for them.",
    )
    unknown_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of training clips that show an action which is none of the classes (merged sets mark them); "
        "they should look like no class rather than another.",
    )
    balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How often sequences of frequent classes are seen: 0 all alike, 1 every class alike, between them "
        "in inverse proportion to this power of the class's size.",
    )
    leave_out: list[str] = Field(
        default_factory=list,
        description="Classes that are neither learned nor tested, for instance to teach them to the encoder later.",
    )
    start_from: str = Field(
        "", description="Checkpoint (folder, or name of a shipped one) whose weights are fine-tuned."
    )
    backbone: BackboneName = Field("ctrgcn", description="The encoder.")
    backbone_args: dict[str, Any] = Field(default_factory=dict, description=BACKBONE_ARGS)
    method: Literal["supervised", "skeletongcl"] = Field(
        "supervised", description="skeletongcl adds the contrast of learned graphs to the supervised loss."
    )
    method_args: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the method, such as temperature and variant of skeletongcl."
    )
    preprocessing: Preprocessing
    augmentation: Augmentation = Field(default_factory=Augmentation)
    label_smoothing: float = Field(0.0, ge=0, lt=1, description=SMOOTHING)


TASKS: dict[str, type[BaseRecipe]] = {
    "supervised": Recipe,
    "pretrain": PretrainRecipe,
    "knn": KnnRecipe,
    "linear": LinearRecipe,
    "finetune": FinetuneRecipe,
    "semi": SemiRecipe,
    "chain": ChainRecipe,
}


def parse_recipe(data: dict[str, Any]) -> BaseRecipe:
    """Validate the fields of a recipe by the model of its task.

    Raises
    ------
    RecipeError
        An unknown task or field, or a value out of range; the text names the fields.
    """
    task = data.get("task", "supervised")
    if task not in TASKS:
        raise RecipeError(f"task: {task!r} is not one of {', '.join(TASKS)}")
    try:
        return TASKS[task].model_validate(data)
    except ValidationError as error:
        raise RecipeError(explain(error, TASKS[task])) from error


def recipe_names() -> list[str]:
    """Names of all recipes that ship: those with a file of their own, then those of families."""
    return [*(path.stem for path in sorted(RECIPES.glob("*.yaml"))), *family_names()]


def load_recipe(source: str | Path, changes: dict[str, str] | None = None) -> BaseRecipe:
    """Read a recipe file, or a shipped one by its name, with dotted changes such as ``{"optimiser.lr": "0.05"}``.

    Published settings that differ in a few respects have no file each but a name in a family (:mod:`.families`).

    Raises
    ------
    RecipeError
        No such file, not YAML, an unknown field or a value out of range.
    """
    path = Path(source)
    shipped = RECIPES / f"{source}.yaml"
    if not path.is_file() and not shipped.is_file():
        data = find_in_families(str(source))
        if data is None:
            names = recipe_names()
            # A name cut short is likelier than a misspelt one.
            near = [name for name in names if name.startswith(f"{source}_")][:3]
            near = near or difflib.get_close_matches(str(source), names, 3)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            raise RecipeError(f"there is no recipe {source}; {meant}main.py train --list names all that ship")
    else:
        path = path if path.is_file() else shipped
        try:
            data = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of fields")
    for key, text in (changes or {}).items():
        set_field(data, key, typed(data, key, text))
    try:
        return parse_recipe(data)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from error


def typed(data: dict[str, Any], key: str, text: str) -> Any:
    """What was typed for a field: text as it is where the field wants text, else read as YAML."""
    model = TASKS.get(str(data.get("task", "supervised")))
    wanted = next((field for field in fields_of(model) if field.name == key), None) if model else None
    # To YAML, off is a truth value and 1.10 a number.
    if wanted and wanted.kind in ("text", "choice") and not (wanted.optional and text == "null"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{key}: {text} is not readable YAML") from error


def set_field(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted field; raises :class:`RecipeError` where something on the way has no fields."""
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise RecipeError(f"{key}: {parent} has no fields of its own")
    data[last] = value
