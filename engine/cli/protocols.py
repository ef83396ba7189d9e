"""``evaluate --protocol``: judge an encoder by its paper's protocol, as a run that can be looked up and resumed."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Literal

from engine.cli import UsageError
from engine.cli.progress import ProgressLine
from engine.cli.runs import result_line
from engine.paths import runs, stores

Protocol = Literal["knn", "linear", "finetune", "semi", "transfer"]


def evaluate_by(
    protocol: Protocol, checkpoint: Path, dataset: str | None, split: str | None, fraction: float, json: Path | None
) -> int:
    """Run a protocol on a checkpoint or run and print its first result, all of them, or JSON."""
    from engine.models.card import read_card
    from engine.training.chain import protocol_name
    from engine.training.protocols.parent import find_parent
    from engine.training.recipe import load_recipe
    from engine.training.run_folder import RunFolder
    from engine.training.tasks import completed, run_task

    if protocol == "transfer" and not dataset:
        raise UsageError("--protocol transfer needs the other dataset: --dataset NAME --split NAME")
    folder = find_parent(str(checkpoint))
    card = read_card(folder)
    kind = {"semi": "semi_10", "transfer": "finetune"}.get(protocol, protocol)
    changes = {"parent": str(folder)} | ({"dataset": dataset} if dataset else {}) | ({"split": split} if split else {})
    if protocol == "semi":
        changes["fraction"] = str(fraction)
    name = protocol_name(card.method, card.backbone, card.preprocessing.sampling, kind)
    recipe = completed(load_recipe(name, changes))
    # Runs of the same name with other settings may stand beside it.
    run = RunFolder(runs() / f"{recipe.name}_{recipe.digest()[:6]}")
    if run.status().state != "finished" and not run_task(recipe, stores(), run.path, ProgressLine()):
        print(f"stopped; next: main.py runs resume {run.path}")
        return 0
    results = (run.results() or {"results": []})["results"]
    first = results[0]
    report = {key: first[key] for key in ("top1", "top5", "count", "per_class", "dataset", "split")} | {
        "checkpoint": card.name, "protocol": protocol, "recipe": name, "run": str(run.path),
        "splits": {r["split"]: {key: r[key] for key in ("top1", "top5", "count")} for r in reversed(results)
                   if r["name"].startswith(first["name"])},
    }  # fmt: skip
    if json:
        text = json_module.dumps(report, indent=1)
        print(text) if str(json) == "-" else json.write_text(text + "\n", "utf-8")
    if str(json) != "-":
        for result in results:
            print(result_line(result))
        print(f"run: {run.path}")
    return 0
