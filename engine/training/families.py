"""Families of recipes: one file describes all recipes that differ in a few respects only, and each has a name.

A family's file has ``axes`` (respects and their values; a recipe's name is its values, joined), and ``rules``: settings
for all recipes or, with ``for``, for those with certain values, later ones on top. A rule's ``source`` says where its
numbers are published, and a recipe's source is that of all its rules. ``{axis}`` in a text is replaced by the value's
name in ``words``.
"""

from __future__ import annotations

import copy
import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FAMILIES = Path(__file__).resolve().parent / "recipes" / "families"
# A value that a recipe's name does not mention.
UNNAMED = "plain"


@dataclass(frozen=True)
class Family:
    """One file: ``title``, ``axes`` (values by respect, in the order of names), ``words`` and ``rules``."""

    stem: str
    title: str
    axes: dict[str, list[str]]
    words: dict[str, str]
    rules: list[dict[str, Any]]

    def members(self) -> dict[str, dict[str, str]]:
        """Values by axis of every recipe, by its name."""
        chosen = (dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values()))
        return {"_".join(v for v in member.values() if v != UNNAMED): member for member in chosen}

    def pattern(self) -> str:
        """All names in one line, such as ``{a,b}[_more]_{x,y}``."""
        parts: list[str] = []
        for values in self.axes.values():
            named = [value for value in values if value != UNNAMED]
            text = named[0] if len(named) == 1 else "{" + ",".join(named) + "}"
            parts.append(f"[_{text}]" if len(named) < len(values) else f"_{text}" if parts else text)
        return "".join(parts)

    def recipe(self, name: str) -> dict[str, Any]:
        """The fields of one recipe; raises ``KeyError`` for a name the family does not have."""
        member = self.members()[name]
        words = {axis: self.words.get(value, value) for axis, value in member.items()}
        fields: dict[str, Any] = {"name": name}
        sources = []
        for rule in self.rules:
            wanted = rule.get("for", {})
            if all(
                member[axis] in (values if isinstance(values, list) else [values]) for axis, values in wanted.items()
            ):
                _merge(fields, copy.deepcopy(rule.get("set", {})))
                if "source" in rule:
                    sources.append(rule["source"])
        return _filled(fields, words) | {"source": "; ".join(sources)}


def _merge(fields: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(fields.get(key), dict):
            _merge(fields[key], value)
        else:
            fields[key] = value


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, words) for key, inner in value.items()}
    return value.format(**words) if isinstance(value, str) else value


@functools.cache
def families() -> tuple[Family, ...]:
    """All families, by file name."""
    return tuple(
        Family(path.stem, **yaml.safe_load(path.read_text("utf-8"))) for path in sorted(FAMILIES.glob("*.yaml"))
    )


def find_in_families(name: str) -> dict[str, Any] | None:
    """The fields of the recipe of this name; None if no family has one."""
    for family in families():
        if name in family.members():
            return family.recipe(name)
    return None


def family_names() -> list[str]:
    """Names of all recipes of all families."""
    return [name for family in families() for name in family.members()]
