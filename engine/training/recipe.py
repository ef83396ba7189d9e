"""The recipe: everything that determines a run, validated, in YAML."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.data.augment import Augmentation
from engine.data.preprocess import Preprocessing

RECIPES = Path(__file__).resolve().parent / "recipes"
# Where and how fast a run is executed, which its digest leaves out.
_EXECUTION = {"threads", "accelerator", "devices", "nodes"}
# Fields younger than published digests: left out while they change nothing.
_YOUNGER = {
    "method": "supervised", "method_args": {}, "accumulate": 1, "clip_norm": 0.0, "evaluate_every": 5,
    "keep_best": False,
}  # fmt: skip


class RecipeError(Exception):
    """A recipe can't be read or doesn't validate; the message names the field."""


class Optimiser(BaseModel):
    """SGD with Nesterov momentum, linear warm-up and step decay (skeletongcl.md, section 4.1), or a cosine."""

    model_config = ConfigDict(extra="forbid")

    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["step", "cosine"] = "step"
    milestones: list[int] = Field(default_factory=lambda: [50], description="Epochs at which the rate drops tenfold.")
    warmup_epochs: int = Field(5, ge=0)


class Recipe(BaseModel):
    """Everything that determines a supervised run."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Name of the run and of its checkpoint.")
    title: str = ""
    limits: str = Field("", description="What the model is not for; copied into its card.")
    dataset: str = Field(description="Prepared store to train and test on.")
    split: str
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
    start_from: str = Field(
        "", description="Checkpoint (folder, or name of a shipped one) whose weights are fine-tuned."
    )
    backbone: Literal["ctrgcn", "agcn", "infogcn", "stgcn", "dstanet", "gru", "gru_bidirectional", "gl_transformer"] = (
        "ctrgcn"
    )
    backbone_args: dict[str, Any] = Field(default_factory=dict)
    method: Literal["supervised", "skeletongcl"] = Field(
        "supervised", description="skeletongcl adds the contrast of learned graphs to the supervised loss."
    )
    method_args: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the method, such as temperature and variant of skeletongcl."
    )
    preprocessing: Preprocessing
    augmentation: Augmentation = Field(default_factory=Augmentation)
    optimiser: Optimiser = Field(default_factory=Optimiser)
    epochs: int = Field(65, ge=1)
    repeat: int = Field(1, ge=1, description="Times every sequence is seen in an epoch.")
    batch: int = Field(16, ge=1, description="Clips per pass, all processes together.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are averaged into one step.")
    clip_norm: float = Field(0.0, ge=0, description="Longest gradient, over all parameters; 0 leaves it as it is.")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="bf16 and fp16 are mixed precision: weights and losses stay fp32."
    )
    evaluate_every: int = Field(5, ge=1, description="Epochs between tests; the last epoch is always tested.")
    keep_best: bool = Field(
        False,
        description="Also keep the epoch that tests best. Chosen by looking at the test part, and labelled so.",
    )
    seed: int = Field(1, ge=0)
    threads: int = Field(0, ge=0, description="Processor threads; 0 leaves the choice to torch.")
    accelerator: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a CUDA GPU where there is one.")
    devices: int = Field(1, ge=1, description="Processes per node, one per device.")
    nodes: int = Field(1, ge=1, description="Machines; start the same command on each with torchrun.")

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> Recipe:
        world = self.devices * self.nodes
        if self.batch % world:
            raise ValueError(f"batch {self.batch} can't be shared evenly by {world} processes")
        return self

    def digest(self) -> str:
        """Hash of everything in the recipe except where it is executed."""
        values = self.model_dump(mode="json", exclude=_EXECUTION)
        for name, default in _YOUNGER.items():
            if values[name] == default:
                del values[name]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Fields in which two recipes differ, dotted, with both values (None where one does not have the field)."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found


def load_recipe(source: str | Path, changes: dict[str, str] | None = None) -> Recipe:
    """Read a recipe file, or a shipped one by its name, with dotted changes such as ``{"optimiser.lr": "0.05"}``.

    Raises
    ------
    RecipeError
        No such file, not YAML, an unknown field or a value out of range.
    """
    path = Path(source)
    if not path.is_file():
        shipped = RECIPES / f"{source}.yaml"
        if not shipped.is_file():
            known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
            raise RecipeError(f"no recipe file {source}; shipped recipes: {known}")
        path = shipped
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of fields")
    for key, text in (changes or {}).items():
        _set(data, key, yaml.safe_load(text))
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise RecipeError(f"{path}: " + "; ".join(lines)) from error


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise RecipeError(f"{key}: {parent} has no fields of its own")
    data[last] = value
