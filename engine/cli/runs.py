"""``runs``: list, show, compare, resume, stop and delete the runs of the user's runs folder, or of any path."""

from __future__ import annotations

import json as json_module
import shutil
from pathlib import Path
from typing import Annotated, Any

import tyro

from engine.cli import CommandError
from engine.cli.progress import duration
from engine.paths import runs
from engine.training.event_tail import newest_first
from engine.training.recipe import differences
from engine.training.run_folder import RunError, RunFolder, Status, find_runs

# Shares of right answers that results carry.
MEASURES = ("top1", "top5")


def find_run(run: Path) -> RunFolder:
    """A run by its folder, or by its name in the runs folder."""
    for path in (run, runs() / run):
        folder = RunFolder(path.resolve())
        if folder.exists():
            return folder
    known = ", ".join(folder.name for folder in find_runs(runs()))
    raise CommandError(f"no run {run}; runs in {runs()}: {known or 'none'}")


def _report(folder: RunFolder) -> dict[str, Any]:
    status = folder.status()
    step = _last_step(folder, status) or {}
    report = {
        "name": folder.name, "folder": str(folder.path), "state": status.state, "epoch": status.epoch,
        "epochs": status.epochs, "reason": status.reason, "last": status.last,
        "clips_per_s": step.get("clips_per_s"), "eta_s": step.get("eta_s"),
    }  # fmt: skip
    try:
        return report | {"results": folder.results()}
    except RunError as error:
        # One damaged file hides neither the other runs nor what else is known of this one.
        return report | {"results": None, "reason": report["reason"] or str(error)}


def _last_step(folder: RunFolder, status: Status) -> dict[str, Any] | None:
    """The newest step of a running training."""
    if status.state != "running":
        return None
    # The newest event comes whatever its kind is.
    events = newest_first(folder.events_file, frozenset({"step"}))
    return next((event for event in events if event["event"] == "step"), None)


def _print_json(value: object) -> None:
    print(json_module.dumps(value, indent=1, ensure_ascii=False))


def list_(json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
    """List runs and where they stand.

    Args:
        json: Print what is known of every run as JSON.
    """
    found = find_runs(runs())
    if json:
        _print_json([_report(folder) for folder in found])
        return 0
    for folder in found:
        status = folder.status()
        print(f"{folder.name:<32} {status.state:<12} {status.epoch:>4}/{status.epochs:<4} {_number(folder, status)}")
    if not found:
        print(f"no runs in {runs()}")
    return 0


def _number(folder: RunFolder, status: Status) -> str:
    try:
        results = folder.results()
    except RunError as error:
        return str(error)
    if results and results["results"] and status.state == "finished":
        first = results["results"][0]
        return f"top-1 {first['top1']:.1%} of {first['count']} ({results['reported']})"
    if status.reason:
        return status.reason
    if step := _last_step(folder, status):
        return f"loss {step['loss']:.3f}  {step['clips_per_s']:.0f} clips/s  {duration(step['eta_s'])} left"
    return f"loss {status.last['loss']:.3f}" if status.last else ""


def show(run: tyro.conf.Positional[Path], json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
    """Print a run's recipe, progress and results.

    Args:
        run: Name of a run, or its folder.
        json: Print it as JSON.
    """
    folder = find_run(run)
    report = _report(folder) | {"recipe": folder.recipe().model_dump(mode="json")}
    if json:
        _print_json(report)
        return 0
    print(f"{folder.name}: {report['state']} after {report['epoch']} of {report['epochs']} epochs  {report['reason']}")
    if report["eta_s"] is not None:
        print(f"{report['clips_per_s']:.0f} clips/s, {duration(report['eta_s'])} left")
    print(f"folder: {folder.path}")
    if folder.environment_file.is_file():
        print("environment: " + " ".join(folder.environment_file.read_text("utf-8").split()))
    print(folder.recipe_file.read_text("utf-8").rstrip())
    for event in folder.events():
        if event["event"] == "epoch":
            told = {"test": "test_top1", "knn": "probe_knn", "linear": "probe_linear"}
            tested = "".join(f"  {word} {event[name]:.4f}" for word, name in told.items() if name in event)
            print(f"epoch {event['epoch']:>4}  loss {event['loss']:.4f}{tested}  {event['clips_per_s']:.0f} clips/s")
    for result in (report["results"] or {}).get("results", []):
        print(result_line(result))
    return 0


def result_line(result: dict[str, Any]) -> str:
    """One of a run's results; nearest neighbours have no top-5."""
    fifth = "" if result["top5"] is None else f", top-5 {result['top5']:.4f}"
    return f"{result['name']}: top-1 {result['top1']:.4f}{fifth} of {result['count']}"


def compare(
    named: tyro.conf.Positional[tuple[Path, ...]], json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
) -> int:
    """Show where runs differ: fields of their recipes, then their results.

    Args:
        named: Names of at least two runs, or their folders.
        json: Print it as JSON.
    """
    if len(named) < 2:
        raise CommandError("name at least two runs to compare")
    folders = [find_run(run) for run in named]
    # Where numbers come from and what a model is not for follows from the other fields.
    told = [folder.recipe().model_dump(mode="json", exclude={"source", "limits"}) for folder in folders]
    recipes = [_with_parents(recipe) for recipe in told]
    fields = sorted({key for recipe in recipes[1:] for key in differences(recipes[0], recipe)})
    table = {field: [_value(recipe, field) for recipe in recipes] for field in fields}
    found = [(folder.results() or {"results": []})["results"] for folder in folders]
    top1, top5 = (_side_by_side([{r["name"]: r[measure] for r in of_run} for of_run in found]) for measure in MEASURES)
    if json:
        _print_json({"runs": [str(folder.path) for folder in folders], "recipe": table, "top1": top1, "top5": top5})
        return 0
    rows = [["", *(folder.name for folder in folders)]]
    rows += [[field, *map(str, values)] for field, values in table.items()]
    for title, results in (("top-1", top1), ("top-5", top5)):
        rows += [[f"{title}, {n}", *("-" if v is None else f"{v:.4f}" for v in vs)] for n, vs in results.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _side_by_side(of_runs: list[dict[str, float | None]]) -> dict[str, list[float | None]]:
    """A result's number in every run, by the result's name; results that no run has a number of are left out."""
    table = {name: [numbers.get(name) for numbers in of_runs] for name in dict.fromkeys(k for t in of_runs for k in t)}
    return {name: values for name, values in table.items() if any(value is not None for value in values)}


def _with_parents(recipe: dict[str, Any]) -> dict[str, Any]:
    """A protocol's recipe with what its parents are in place of where they lie."""
    if "parents" not in recipe:
        return recipe
    values = {key: value for key, value in recipe.items() if key not in ("parent", "further_parents", "parents")}
    return values | {f"parent_{i + 1}" if i else "parent": about for i, about in enumerate(recipe["parents"])}


def _value(recipe: dict[str, Any], field: str) -> Any:
    value: Any = recipe
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def resume(run: tyro.conf.Positional[Path]) -> int:
    """Go on with a run that was stopped, failed or was interrupted; the result is that of an uninterrupted run.

    Args:
        run: Name of a run, or its folder.
    """
    from engine.cli.training import run_recipe

    folder = find_run(run)
    if folder.status().state == "finished":
        raise CommandError(f"{folder.name} is finished; main.py runs show {run} prints its results")
    return run_recipe(folder.recipe(), folder.path)


def stop(run: tyro.conf.Positional[Path]) -> int:
    """Let a running training finish its step, save and end.

    Args:
        run: Name of a run, or its folder.
    """
    folder = find_run(run)
    if not folder.running():
        raise CommandError(f"{folder.name} is not running ({folder.status().state})")
    folder.stop_file.touch()
    print(f"{folder.name} ends after its present step; go on with: main.py runs resume {run}")
    return 0


def delete(
    named: tyro.conf.Positional[tuple[Path, ...]], yes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
) -> int:
    """Delete runs with their checkpoints. This can't be undone.

    Args:
        named: Names of runs, or their folders.
        yes: Really delete; without it the folders are only named.
    """
    if not named:
        raise CommandError("name the runs to delete; main.py runs list shows them")
    folders = [find_run(run) for run in named]
    for folder in folders:
        if folder.running():
            raise CommandError(f"{folder.name} is running; main.py runs stop {folder.name} ends it")
    if not yes:
        raise CommandError(f"this deletes {', '.join(str(f.path) for f in folders)}; repeat with --yes")
    for folder in folders:
        shutil.rmtree(folder.path)
        print(f"deleted {folder.path}")
    return 0
