"""Facts about the datasets as plain text files: class tables and the list of damaged NTU recordings."""

from __future__ import annotations

import csv
from importlib import resources


def table_text(name: str) -> str:
    """Text of one of the package's table files."""
    return resources.files(__name__).joinpath(name).read_text("utf-8")


def table_rows(name: str) -> list[dict[str, str]]:
    """Rows of one of the package's ``.csv`` tables, by column name."""
    return list(csv.DictReader(table_text(name).splitlines()))


def class_names(name: str) -> tuple[str, ...]:
    """Column ``name`` of a class table in the order of the ids, which run from 1 without gaps.

    Raises
    ------
    ValueError
        Ids with gaps or out of order.
    """
    rows = table_rows(name)
    if [int(row["id"]) for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError(f"{name}: class ids do not run from 1 to {len(rows)}")
    return tuple(row["name"] for row in rows)
