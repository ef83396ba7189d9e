"""The recipe in the form: its published values, what was changed, what is wrong with it, and the way back."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from engine.training.recipe import TASKS, RecipeError
from engine.training.recipe_fields import MISSING, defaults_of
from engine.training.run_folder import write_atomically

MAX_UNDO = 100
# Written also where they have their defaults: a reader of the file asks for them first.
_NAMED = ("method", "backbone", "epochs")


def get(values: dict[str, Any], name: str) -> Any:
    """Value at a dotted name; :data:`MISSING` where there is none."""
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return MISSING
        found = found[part]
    return found


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Set the value at a dotted name."""
    *parents, last = name.split(".")
    for parent in parents:
        inner = values.get(parent)
        values[parent] = values = inner if isinstance(inner, dict) else {}
    if value is MISSING:
        values.pop(last, None)
    else:
        values[last] = value


def merged(defaults: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """``data`` over ``defaults``, inside nested models too."""
    result = copy.deepcopy(defaults)
    for key, value in data.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict) and result[key]:
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _resolved(model: type[BaseModel], data: dict[str, Any]) -> dict[str, Any]:
    """``data`` with what a nested model makes of its part by itself, such as a paper's normalisation of centring."""
    found = dict(data)
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(data.get(name), dict):
            with contextlib.suppress(ValidationError):
                found[name] = kind.model_validate(data[name]).model_dump(mode="json")
    return found


class Draft:
    """What the form edits.

    Parameters
    ----------
    data : dict
        A recipe's fields as they stand in its file.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.task = str(data.get("task", "supervised"))
        if self.task not in TASKS:
            raise RecipeError(f"task: {self.task!r} is not one of {', '.join(TASKS)}")
        self.model = TASKS[self.task]
        self.defaults = defaults_of(self.model)
        self.base = merged(self.defaults, _resolved(self.model, data))
        self.base["task"] = self.task
        self.values = copy.deepcopy(self.base)
        self._undo: list[dict[str, Any]] = []

    def get(self, name: str) -> Any:
        return get(self.values, name)

    def published(self, name: str) -> Any:
        """The value of the recipe the form began with."""
        return get(self.base, name)

    def change(self, name: str, value: Any) -> bool:
        """Change a field; whether anything changed."""
        if self.get(name) == value and type(self.get(name)) is type(value):
            return False
        self._undo = [*self._undo, copy.deepcopy(self.values)][-MAX_UNDO:]
        put(self.values, name, copy.deepcopy(value))
        return True

    def reset(self, name: str) -> bool:
        """Back to the published value."""
        return self.change(name, self.published(name))

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    def undo(self) -> bool:
        """Take the last change back."""
        if not self._undo:
            return False
        self.values = self._undo.pop()
        return True

    def changed(self, names: list[str]) -> set[str]:
        """Those of the fields that differ from the published recipe."""
        return {name for name in names if self.get(name) != self.published(name)}

    def errors(self) -> dict[str, str]:
        """What is wrong, by dotted field; under the empty name what concerns several fields."""
        try:
            self.model.model_validate(self.values)
        except ValidationError as error:
            found: dict[str, str] = {}
            for item in error.errors():
                name = ".".join(map(str, item["loc"]))
                text = str(item["msg"]).removeprefix("Value error, ")
                found.setdefault(name, "This is needed." if item["type"] == "missing" else text)
            return found
        return {}

    def as_data(self) -> dict[str, Any]:
        """The recipe for a file: task, whatever has no default, and what differs from the defaults."""
        named = {name: self.values[name] for name in _NAMED if self.values.get(name) is not None}
        return {"task": self.task} | named | _difference(self.model, self.values)


def _difference(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """What a file must hold: a nested model that is written at all begins with its own defaults, not the recipe's."""
    defaults, found = defaults_of(model), {}
    for key, value in values.items():
        if key in defaults and value == defaults[key]:
            continue
        info = model.model_fields.get(key)
        kind = info.annotation if info is not None else None
        nested = isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, dict)
        found[key] = _difference(kind, value) if nested else value  # type: ignore[arg-type]
    return found


def read_recipe_file(path: Path) -> dict[str, Any]:
    """The fields in a YAML file.

    Raises
    ------
    RecipeError
        It can't be read, or is no recipe; the text names the file.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of fields")
    return data


def write_recipe_file(path: Path, data: dict[str, Any]) -> None:
    """Write a recipe as YAML; raises ``RunError`` if it can't be written."""
    write_atomically(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())
