"""A recipe's model as a list of fields: kind, range, help text and default of each, whatever the task.

The window makes its form of it and the command line its help; what doesn't validate is explained with it.
"""

from __future__ import annotations

import difflib
import types
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Kind = Literal["choice", "check", "int", "float", "text", "yaml"]


class _Missing(Enum):
    """Stands where a field has no value; an enum, so that a copy is the same."""

    MISSING = "missing"


MISSING = _Missing.MISSING


@dataclass(frozen=True)
class FieldSpec:
    """One field, named with dots; ``section`` is the field it lies in (empty at the top)."""

    name: str
    section: str
    kind: Kind
    title: str
    help: str
    options: tuple[Any, ...] = ()
    optional: bool = False
    required: bool = False
    range: str = ""


_TITLES = {
    "lr": "Learning rate", "clip_norm": "Gradient limit", "batch": "Batch", "start_from": "Start from",
    "also_train_on": "Further stores", "also_share": "Share of further stores", "accelerator": "Device",
    "preprocessing.stream": "Stream", "task": "Task", "window_s": "Window", "k": "Neighbours (k)",
}  # fmt: skip


def title_of(name: str) -> str:
    """A field's name in words."""
    last = name.rsplit(".", 1)[-1]
    return _TITLES.get(name) or _TITLES.get(last) or last.replace("_", " ").capitalize()


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in get_args(kind) if part is not type(None)]
        if len(rest) == 1 and len(get_args(kind)) == 2:
            return rest[0], True
    return kind, False


def _range(info: FieldInfo) -> str:
    parts = []
    for mark in info.metadata:
        if isinstance(mark, Ge):
            parts.append(f"at least {mark.ge:g}")
        elif isinstance(mark, Gt):
            parts.append(f"more than {mark.gt:g}")
        elif isinstance(mark, Le):
            parts.append(f"at most {mark.le:g}")
        elif isinstance(mark, Lt):
            parts.append(f"less than {mark.lt:g}")
    return ", ".join(parts)


def fields_of(model: type[BaseModel], section: str = "") -> list[FieldSpec]:
    """All fields of a recipe model, those of nested models after one another."""
    found: list[FieldSpec] = []
    for name, info in model.model_fields.items():
        dotted = f"{section}.{name}" if section else name
        kind, optional = _without_none(info.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not optional:
            found += fields_of(kind, dotted)
            continue
        options: tuple[Any, ...] = ()
        shape: Kind = "yaml"
        if get_origin(kind) is Literal:
            options, shape = get_args(kind), "choice"
            if len(options) == 1:
                continue  # nothing to choose
        elif kind is bool:
            shape = "check"
        elif kind in (int, float):
            shape = "int" if kind is int else "float"
        elif kind is str:
            shape = "text"
        text = info.description or ""
        found.append(
            FieldSpec(
                dotted,
                section,
                shape,
                info.title or title_of(dotted),
                text,
                options,
                optional,
                info.is_required(),
                _range(info),
            )
        )
    return found


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    """Default values of a recipe model as plain data; required fields are left out."""
    values: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        kind, optional = _without_none(info.annotation)
        nested = isinstance(kind, type) and issubclass(kind, BaseModel) and not optional
        if not info.is_required():
            default = info.get_default(call_default_factory=True)
            values[name] = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
            if nested and isinstance(default, BaseModel):
                # A field that its model leaves out of files is still a field of the form.
                values[name] = defaults_of(type(default)) | values[name]
        elif nested:
            values[name] = defaults_of(kind)
    return values


def names_of(model: type[BaseModel]) -> list[str]:
    """Dotted names of all fields, and of the sections they lie in."""
    fields = fields_of(model)
    return list(dict.fromkeys([*(f.name for f in fields), *(f.section for f in fields if f.section)]))


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """What doesn't validate, in one line: each field with what is wrong about it.

    A field that isn't there comes with the nearest one that is.

    Parameters
    ----------
    error : ValidationError
    model : type
        Whose fields were to be filled.
    prefix : str
        Field of a recipe that the model's own fields lie in, such as ``method_args``.
    """
    lines = []
    for found in error.errors():
        name = ".".join(map(str, found["loc"]))
        place = ".".join(part for part in (prefix, name) if part)
        said = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, names_of(model), 1)
            meant = ".".join(part for part in (prefix, *near) if part)
            said = f"there is no such field; {f'did you mean {meant}?' if near else 'train RECIPE --help lists all'}"
        lines.append(f"{place}: {said}" if place else said)
    return "; ".join(lines)


def shown(value: Any) -> str:
    """A value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    return str(value) if value != "" else '""'
