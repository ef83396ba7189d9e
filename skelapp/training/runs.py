"""The runs folder as the panel lists it: what each run is and where it stands, read again only where a file changed."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from engine.training.event_tail import last_lines, newest_first
from engine.training.recipe import TASKS, own_streams
from engine.training.run_folder import RunError, RunFolder

ASKED = "asked.yaml"  # the recipe as it was asked for, before the run resolved it
ASKED_CHAIN = "asked_chain.yaml"  # the same, of a pretraining that its protocols shall follow
QUEUED = "queued.json"  # the run waits for its turn
CHILD = "child.json"  # the process that was started for it
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ALIVE = ("starting", "running", "stopping")
SEPARATOR = "=== "


@dataclass(frozen=True)
class Row:
    """A run in the list.

    ``state`` is one of queued, starting, running, stopping, finished, stopped, cancelled, failed, interrupted, new.
    """

    path: Path
    name: str
    state: str = "new"
    epoch: int = 0
    epochs: int = 0
    fraction: float = 0.0
    accuracy: float | None = None
    loss: float | None = None
    task: str = ""
    method: str = ""
    backbone: str = ""
    stream: str = ""
    dataset: str = ""
    split: str = ""
    reason: str = ""
    said: str = ""
    at: float = 0.0
    eta_s: float | None = None
    place: float = 0.0
    results: tuple[dict[str, Any], ...] = ()
    checkpoint: bool = False
    steps: tuple[Row, ...] = ()

    @property
    def alive(self) -> bool:
        return self.state in ALIVE


def is_run(path: Path) -> bool:
    """Whether a folder is a run, begun or waiting."""
    return any((path / name).is_file() for name in ("recipe.yaml", "events.jsonl", ASKED, ASKED_CHAIN))


def asked_file(path: Path) -> Path:
    """Where a run's recipe stands as it was asked for."""
    chain = path / ASKED_CHAIN
    return chain if chain.is_file() else path / ASKED


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file; empty if it can't be read."""
    try:
        # The loader is the safe one, in C where there is a C one.
        found = yaml.load(path.read_text("utf-8"), Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """A mapping from a JSON file; empty if it can't be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def child_process(path: Path) -> psutil.Process | None:
    """The process that was started for a run, if it still lives (a number may have gone to another process since)."""
    record = read_json(path / CHILD)
    try:
        process = psutil.Process(int(record["process"]))
        same = abs(process.create_time() - float(record["created"])) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None


def said_last(path: Path, count: int = 12) -> str:
    """The last lines that the latest process of a run wrote; empty if it wrote none."""
    lines = last_lines(RunFolder(path).output_file, count).splitlines()
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].startswith(SEPARATOR):
            return "\n".join(lines[index + 1 :])
    return "\n".join(lines)


def _value(recipe: dict[str, Any], name: str) -> str:
    """A field of a recipe, or its task's default."""
    model = TASKS.get(str(recipe.get("task", "supervised")))
    info = model.model_fields.get(name) if model and recipe else None
    found = recipe.get(name, info.default if info is not None else "")
    return found if isinstance(found, str) else ""


def _stream(recipe: dict[str, Any]) -> str:
    """What the encoder sees, or how many encoders of a stream each there are."""
    args, prep = recipe.get("method_args"), recipe.get("preprocessing")
    own = own_streams(_value(recipe, "method"), args if isinstance(args, dict) else {})
    if own and recipe.get("task") == "pretrain":
        return f"{len(own)} streams" if len(own) > 1 else own[0]
    return prep.get("stream", "joint") if isinstance(prep, dict) else ""


def _steps_of(path: Path, recipe: dict[str, Any]) -> tuple[Row, ...]:
    """The steps of a chain, not begun yet; empty for other runs."""
    steps = recipe.get("steps")
    if recipe.get("task") != "chain" or not isinstance(steps, list):
        return ()
    names = [str(step.get("name", "step")) for step in steps if isinstance(step, dict)]
    return tuple(Row(path / f"{number}_{name}", name) for number, name in enumerate(names, start=1))


class RunScanner:
    """Lists a runs folder; used by one thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: dict[Path, tuple[tuple[Any, ...], Row]] = {}

    def scan(self) -> list[Row]:
        """Every run, newest first; those that wait in their order."""
        try:
            paths = list(self.root.iterdir())
        except OSError:
            paths = []
        rows = []
        for path in paths:
            with contextlib.suppress(OSError):  # what can't be looked at must not hide the others
                if not path.name.startswith(".") and path.is_dir() and is_run(path):
                    rows.append(self._row(path))
        there = {path for row in rows for path in (row.path, *(step.path for step in row.steps))}
        self._kept = {path: kept for path, kept in self._kept.items() if path in there}
        return sorted(rows, key=lambda row: (-row.at, row.name))

    def _row(self, path: Path) -> Row:
        folder = RunFolder(path)
        files = (
            folder.recipe_file, folder.events_file, folder.results_file, folder.output_file, asked_file(path),
            path / QUEUED, path / CHILD,
        )  # fmt: skip
        signature = tuple(_signature(file) for file in files)
        kept = self._kept.get(path)
        if kept is None or kept[0] != signature:
            kept = (signature, self._read(folder))
            self._kept[path] = kept
        row = kept[1]
        if row.steps:
            row = self._with_steps(row)
        if folder.running():
            return replace(row, state="stopping" if folder.stop_file.exists() else "running", reason="", said="")
        child, events = signature[6], signature[1]
        if child is not None and (events is None or events[1] < child[1]):
            # A process was started and has not said anything yet.
            if child_process(path) is not None:
                return replace(row, state="starting", reason="", said="")
            if row.state not in ("queued", "finished"):
                said = row.said or said_last(path)
                last = said.splitlines()[-1] if said else "its process ended before it began and said nothing"
                return replace(row, state="failed", reason=last, said=said)
        return row

    def _with_steps(self, row: Row) -> Row:
        """A chain with its steps as they are now."""
        steps = tuple(self._row(step.path) if is_run(step.path) else step for step in row.steps)
        fraction = sum(1.0 if step.state == "finished" else step.fraction for step in steps) / len(steps)
        at_work = next((step for step in steps if step.state in ALIVE), None)
        return replace(row, steps=steps, fraction=fraction, loss=at_work.loss if at_work else row.loss)

    def _read(self, folder: RunFolder) -> Row:
        path = folder.path
        recipe = read_yaml(folder.recipe_file) or read_yaml(asked_file(path))
        steps = _steps_of(path, recipe)
        if steps and isinstance(recipe["steps"][0].get("recipe"), dict):
            recipe = recipe["steps"][0]["recipe"] | {"task": "chain"}
        status = folder.logged_status()
        newest = next(newest_first(folder.events_file), {})
        results = self._results(folder)
        queued = read_json(path / QUEUED)
        state = status.state
        if queued:
            state = "queued"
        elif state == "stopped" and status.reason.startswith("cancelled"):
            state = "cancelled"
        last = status.last or {}
        done = float(status.epoch)
        if newest.get("event") == "step":
            done = newest["epoch"] - 1 + newest["step"] / max(newest["steps"], 1)
        told = (e.get(name) for name in ("test_top1", "probe_knn") for e in (newest, last))
        # A chain is judged by its last step.
        judged = results[-1 if steps else 0] if results else {}
        accuracy = judged.get("top1") if results else next((a for a in told if a is not None), None)
        return Row(
            path, path.name, state, status.epochs if state == "finished" else status.epoch,
            status.epochs or recipe.get("epochs", 0),
            fraction=min(done / status.epochs, 1.0) if status.epochs else 1.0 if state == "finished" else 0.0,
            accuracy=accuracy,
            loss=newest.get("loss", last.get("loss")),
            task=recipe.get("task", "supervised") if recipe else "",
            method=_value(recipe, "method") or recipe.get("task", ""),
            backbone=_value(recipe, "backbone"),
            stream=_stream(recipe),
            dataset=recipe.get("dataset", ""),
            split=recipe.get("split", ""),
            reason=status.reason,
            said=said_last(path) if state in ("failed", "interrupted") else "",
            at=newest.get("at") or queued.get("at") or self._written(path),
            eta_s=newest.get("eta_s"),
            place=queued.get("at", 0.0),
            results=results,
            checkpoint=(folder.checkpoint / "card.json").is_file(),
            steps=steps,
        )  # fmt: skip

    @staticmethod
    def _results(folder: RunFolder) -> tuple[dict[str, Any], ...]:
        try:
            return tuple((folder.results() or {}).get("results", ()))
        except (RunError, AttributeError):
            return ()

    @staticmethod
    def _written(path: Path) -> float:
        for file in (asked_file(path), path / "recipe.yaml"):
            if file.is_file():
                return file.stat().st_mtime
        return time.time()


def reading(root: Path, store: str) -> list[str]:
    """Names of the runs that go on, or wait for their turn, and read a store."""
    rows = (row for row in RunScanner(root).scan() if row.alive or row.state == "queued")
    return [row.name for row in rows if row.dataset == store or store in _further(row.path)]


def _further(path: Path) -> list[str]:
    found = (read_yaml(path / "recipe.yaml") or read_yaml(asked_file(path))).get("also_train_on")
    return found if isinstance(found, list) else []
