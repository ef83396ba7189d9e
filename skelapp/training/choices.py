"""What there is to choose from: recipes that ship, stores that are prepared, encoders to go on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import paths
from engine.data.sets import DATASETS, base_name, splits_of
from engine.data.store import SequenceStore
from engine.data.store_files import StoreError
from engine.training.recipe import RECIPES, TASKS
from skelapp.training.runs import read_yaml

TASK_TITLES = {
    "supervised": "Supervised training",
    "pretrain": "Pretraining (self-supervised)",
    "knn": "Protocol: nearest neighbours",
    "linear": "Protocol: linear evaluation",
    "finetune": "Protocol: fine-tuning",
    "semi": "Protocol: semi-supervised",
    "chain": "Chain: pretraining and its protocols",
}


def task_title(task: str) -> str:
    return TASK_TITLES.get(task, task.replace("_", " ").capitalize())


@dataclass(frozen=True)
class Starter:
    """A recipe that ships (or one the user opened): what the form can begin with."""

    title: str
    data: dict[str, Any] = field(repr=False)

    @property
    def task(self) -> str:
        return str(self.data.get("task", "supervised"))


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
    """The recipes that ship, by task and title."""
    found = []
    for path in sorted(folder.rglob("*.yaml")):
        data = read_yaml(path)
        if data and data.get("task", "supervised") in (*TASKS, "chain"):
            name = data.get("title") or data.get("name") or path.stem
            found.append(Starter(str(name).replace("_", " ") if not data.get("title") else str(name), data))
    order = list(TASK_TITLES)
    return tuple(sorted(found, key=lambda starter: (order.index(starter.task), starter.title)))


def find_stores() -> tuple[StoreChoice, ...]:
    """Prepared stores first, then the datasets that are known but not prepared."""
    found: dict[str, StoreChoice] = {}
    root = paths.stores()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
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
    runs = [path for path in root.iterdir() if (path / "checkpoint" / "card.json").is_file()] if root.is_dir() else []
    runs.sort(key=lambda path: -path.stat().st_mtime)
    shipped = sorted(path.parent.name for path in paths.TRAINED_MODELS.glob("*/card.json"))
    return tuple([path.name for path in runs] + shipped)


def find_choices(root: Path) -> Choices:
    """Everything there is to choose from; reads files, so call it on a worker."""
    return Choices(find_starters(), find_stores(), find_checkpoints(root))
