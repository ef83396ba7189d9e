"""What there is to choose from: recipes that ship, stores that are prepared, encoders to go on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import paths
from engine.data.grounds import store_folders
from engine.data.sets import DATASETS, base_name, splits_of
from engine.data.store import SequenceStore
from engine.data.store_files import StoreError
from engine.files import is_there
from engine.training.families import families
from engine.training.recipe import RECIPES, TASKS
from skelapp.training.runs import read_yaml

CHAIN = "chain"
TASK_TITLES = {
    "supervised": "Supervised training",
    "pretrain": "Pretraining (self-supervised)",
    "knn": "Protocol: nearest neighbours",
    "linear": "Protocol: linear evaluation",
    "finetune": "Protocol: fine-tuning",
    "semi": "Protocol: semi-supervised",
    CHAIN: "Chain: pretraining and its protocols",
}


def task_title(task: str) -> str:
    return TASK_TITLES.get(task, task.replace("_", " ").capitalize())


def choice_of(values: dict[str, Any]) -> tuple[Any, ...]:
    """Task, method, backbone, stream, dataset and split of a recipe's fields."""
    task = values.get("task", "supervised")
    prep = values.get("preprocessing")
    stream = prep.get("stream", "joint") if isinstance(prep, dict) else None
    method = values.get("method", "supervised" if task == "supervised" else None)
    backbone = values.get("backbone", "ctrgcn" if task == "supervised" else None)
    return task, method, backbone, stream, values.get("dataset"), values.get("split")


@dataclass(frozen=True)
class Starter:
    """A recipe that ships (or one the user opened): what the form can begin with."""

    title: str
    data: dict[str, Any] = field(repr=False)

    @property
    def task(self) -> str:
        return str(self.data.get("task", "supervised"))

    @property
    def choice(self) -> tuple[Any, ...]:
        """What the recipe is a recipe for."""
        return choice_of(self.data)


@dataclass(frozen=True)
class StoreChoice:
    """A dataset: prepared here, or known but not prepared."""

    name: str
    title: str
    splits: tuple[str, ...]
    prepared: bool
    sequences: int = 0


@dataclass(frozen=True)
class Choices:
    """All of it, read in the background."""

    starters: tuple[Starter, ...] = ()
    stores: tuple[StoreChoice, ...] = ()
    checkpoints: tuple[str, ...] = ()

    def store(self, name: str) -> StoreChoice | None:
        return next((store for store in self.stores if store.name == name), None)


def find_starters(folder: Path = RECIPES) -> tuple[Starter, ...]:
    """The recipes that ship, by task: those with a file of their own, then the published settings of all families."""
    found = [read_yaml(path) for path in sorted(folder.glob("*.yaml"))]
    found += [family.recipe(name) for family in families() for name in family.members()]
    made = [
        Starter(str(data.get("title") or data.get("name", "")).replace("_", " "), data)
        for data in found
        if data and data.get("task", "supervised") in (*TASKS, CHAIN)
    ]
    order = list(TASK_TITLES)
    return tuple(sorted(made, key=lambda starter: order.index(starter.task) if starter.task in order else 99))


def find_stores() -> tuple[StoreChoice, ...]:
    """Prepared stores first, then the datasets that are known but not prepared."""
    found: dict[str, StoreChoice] = {}
    for folder in store_folders(paths.stores()):
        try:
            store = SequenceStore(folder)
        except StoreError:
            continue
        about = DATASETS.get(base_name(folder.name))
        title = f"{folder.name} – {about.title}" if about else folder.name
        found[folder.name] = StoreChoice(folder.name, title, tuple(splits_of(store)), True, len(store.label))
    for name, info in DATASETS.items():
        if name not in found:
            found[name] = StoreChoice(name, f"{name} – {info.title} (not prepared)", tuple(info.splits), False)
    return tuple(found.values())


def find_checkpoints(root: Path) -> tuple[str, ...]:
    """Runs with a checkpoint, newest first, and the shipped ones: what can be fine-tuned or judged."""
    try:
        runs = [path for path in root.iterdir() if is_there(path / "checkpoint" / "card.json")]
    except OSError:
        runs = []
    runs.sort(key=lambda path: -path.stat().st_mtime)
    shipped = sorted(path.parent.name for path in paths.TRAINED_MODELS.glob("*/card.json"))
    return tuple([path.name for path in runs] + shipped)


def find_choices(root: Path) -> Choices:
    """Everything there is to choose from; reads files, so call it on a worker."""
    return Choices(find_starters(), find_stores(), find_checkpoints(root))
