"""``runs summary``: mean and deviation over seeds, as a Markdown table."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from typing import Annotated, Literal

import tyro

from engine.cli import CommandError
from engine.paths import runs
from engine.training.run_folder import find_runs
from engine.training.summary import markdown, summarise


def summary(
    prefixes: tyro.conf.Positional[tuple[str, ...]] = (),
    measure: Literal["top1", "top5"] = "top1",
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """Print mean and sample deviation of top-1 over finished runs whose recipes differ by the seed alone.

    Args:
        prefixes: Runs whose names begin with one of these; default all.
        measure: top5 counts a sequence as right whose class is among the five most likely.
        json: Print it as JSON, with the value of every run.
    """
    folders = [folder for folder in find_runs(runs()) if not prefixes or folder.name.startswith(prefixes)]
    if not folders:
        raise CommandError(f"no run in {runs()} begins with {' or '.join(prefixes) or 'anything'}")
    rows = summarise(folders, measure)
    counted = {name for row in rows for name in row.runs}
    left = [f"{folder.name} ({folder.status().state})" for folder in folders if folder.name not in counted]
    if left:
        print(f"left out: {', '.join(left)}", file=sys.stderr)
    if json:
        values = [
            asdict(row) | {"spreads": [asdict(s) | {"mean": s.mean, "deviation": s.deviation} for s in row.spreads]}
            for row in rows
        ]
        print(json_module.dumps(values, indent=1, ensure_ascii=False))
        return 0
    if not rows:
        raise CommandError("none of these runs is finished")
    print(markdown(rows), end="")
    return 0
