"""Mean and deviation over runs that differ by their seed alone: what may be compared with a paper, and how surely."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.training.recipe import BaseRecipe
from engine.training.run_folder import RunError, RunFolder

Measure = Literal["top1", "top5"]


@dataclass(frozen=True)
class Spread:
    """Accuracies of several runs on one part: ``values`` 0 to 1 by run, of ``count`` test sequences."""

    name: str
    split: str
    count: int
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1); None for a single run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Row:
    """Finished runs of one recipe: their names and seeds, the epochs they ran, and what they reached."""

    label: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int | None
    spreads: tuple[Spread, ...]


def summarise(folders: Sequence[RunFolder], measure: Measure = "top1") -> list[Row]:
    """One row per recipe of finished runs, in the order in which the recipes come; others are left out.

    Results that have no top-5 (nearest neighbours vote for one class) are left out of a summary of it.
    """
    groups: dict[str, list[RunFolder]] = {}
    for folder in folders:
        if recipe := _finished(folder):
            alike = recipe.model_copy(update={"seed": 0, "name": "", "title": "", "limits": ""})
            groups.setdefault(alike.digest(), []).append(folder)
    return [_row(group, measure) for group in groups.values()]


def _finished(folder: RunFolder) -> BaseRecipe | None:
    """The recipe of a run that has results; None for others, and where a file of the run is damaged."""
    with contextlib.suppress(RunError):
        if folder.status().state == "finished" and folder.results():
            return folder.recipe()
    return None


def _row(group: list[RunFolder], measure: Measure) -> Row:
    found = [folder.results() or {} for folder in group]
    # Only what every run measured on equally many sequences can be averaged.
    keys = [(r["name"], r["split"], r["count"]) for r in found[0]["results"]]
    tables = [
        {(r["name"], r["split"], r["count"]): r[measure] for r in results["results"] if r[measure] is not None}
        for results in found
    ]
    shared = [key for key in keys if all(key in table for table in tables)]
    names = [folder.name for folder in group]
    return Row(
        _label(names),
        tuple(names),
        tuple(int(folder.recipe().seed) for folder in group),
        found[0].get("epochs"),
        tuple(Spread(*key, tuple(float(table[key]) for table in tables)) for key in shared),
    )


def _label(names: list[str]) -> str:
    """What the names of several runs begin with; the name of a single one."""
    same = 0
    while len(names) > 1 and all(name[: same + 1] == names[0][: same + 1] != names[0][:same] for name in names):
        same += 1
    return names[0][:same].rstrip("_-. ") or names[0]


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table: accuracies in per cent, mean and sample deviation over the seeds."""
    columns = list(dict.fromkeys((s.name, s.split, s.count) for row in rows for s in row.spreads))
    titles = [f"{name} ({split}, {count})" for name, split, count in columns]
    lines = ["| runs | seeds | epochs | " + " | ".join(titles) + " |", "|---|---|---|" + "---|" * len(titles)]
    for row in rows:
        cells = {(s.name, s.split, s.count): _cell(s) for s in row.spreads}
        seeds = ", ".join(map(str, row.seeds))
        lines.append(
            f"| {row.label} | {seeds} | {row.epochs or '-'} | "
            + " | ".join(cells.get(column, "-") for column in columns)
            + " |"
        )
    return "\n".join(lines) + "\n"


def _cell(spread: Spread) -> str:
    if spread.deviation is None:
        return f"{100 * spread.mean:.2f}"
    return f"{100 * spread.mean:.2f} ± {100 * spread.deviation:.2f}"
