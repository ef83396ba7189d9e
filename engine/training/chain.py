"""Chains: pretraining and its protocols in one folder, each a run of its own; what is finished is never done again.

``CHAIN/recipe.yaml`` holds all recipes, ``CHAIN/events.jsonl`` says which step is at work, ``CHAIN/1_NAME`` and so on
are the runs. A chain is stopped, resumed, listed and deleted like any run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine.paths import PROJECT
from engine.training.devices import best_device
from engine.training.ensemble import members_of, report
from engine.training.recipe import BaseRecipe, RecipeError, load_recipe
from engine.training.recipe_chain import ChainRecipe
from engine.training.recipe_protocols import PretrainRecipe, own_streams
from engine.training.run_folder import EventLog, Listener, RunError, RunFolder, write_atomically
from engine.training.stop import StopRequest
from engine.training.tasks import run_task

# Protocols that follow a pretraining by themselves, by name and recipe.
USUAL = ("knn", "linear", "finetune")
# Methods that are judged as another paper judges.
PROTOCOLS_OF = {"moco": "hiclr", "i2md": "cmd"}


def protocol_name(method: str, backbone: str, sampling: str, protocol: str) -> str:
    """Name of the recipe by which the encoders of a method are judged; HiCLR's for a method without its own."""
    family = PROTOCOLS_OF.get(method, method)
    if family not in ("cmd", "gl_transformer"):
        family = "hiclr_dstanet" if backbone == "dstanet" else "hiclr"
    if family == "gl_transformer" and sampling != "first":
        family += "_economical"
    return f"{family}_{protocol}"


def usual_chain(pretraining: PretrainRecipe) -> ChainRecipe:
    """Pretraining, nearest neighbours, linear evaluation and fine-tuning with the settings of the method's paper.

    A method with an encoder per stream is judged by its first encoder, by nearest neighbours and a linear layer on the
    joined features of all (early fusion), and by a linear layer per stream, asked together (late fusion).

    Raises
    ------
    RecipeError
        There are no protocols for the method.
    """
    steps: list[dict[str, Any]] = [{"name": "pretrain", "recipe": pretraining.model_dump(mode="json")}]
    together: dict[str, list[str]] = {}
    streams = own_streams(pretraining.method, pretraining.method_args)
    about = (pretraining.method, pretraining.backbone, pretraining.preprocessing.sampling)
    for protocol in USUAL:
        steps.append({"name": protocol, "recipe": protocol_name(*about, protocol)})
        if streams:
            steps[-1]["parent"] = f"pretrain:{streams[0]}"
    if len(streams) > 1:
        for protocol, name in (("knn", "knn_joined"), ("linear", "linear_joined")):
            joined = load_recipe(protocol_name(*about, protocol), {"clips": "none"} if protocol == "linear" else None)
            steps.append({
                "name": name, "recipe": joined.model_dump(mode="json"), "parent": f"pretrain:{streams[0]}",
                "further_parents": [f"pretrain:{stream}" for stream in streams[1:]],
            })  # fmt: skip
        for stream in streams[1:]:
            linear = {"name": f"linear_{stream}", "recipe": protocol_name(*about, "linear")}
            steps.append(linear | {"parent": f"pretrain:{stream}"})
        together = {"late_fusion": ["linear", *(f"linear_{stream}" for stream in streams[1:])]}
    place = pretraining.model_dump(mode="json", include={"seed", "threads", "accelerator", "devices", "nodes"})
    title = pretraining.title and f"{pretraining.title}: pretraining and protocols"
    try:
        return ChainRecipe.model_validate(
            place
            | {"name": f"{pretraining.name}_chain", "title": title, "source": pretraining.source}
            | {"steps": steps, "together": together}
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error


def step_folders(recipe: ChainRecipe, folder: RunFolder) -> list[RunFolder]:
    """The run of every step, in their order, whether it has begun or not."""
    return [RunFolder(folder.path / f"{i}_{step.name}") for i, step in enumerate(recipe.steps, 1)]


def run_chain(recipe: ChainRecipe, stores: Path, run: Path, listen: Listener | None = None) -> bool | None:
    """Do all steps that are not finished yet; ``listen`` hears the chain's events and those of the step at work.

    Events of the chain are ``run`` whenever a step begins (``epoch`` of ``epochs`` counts finished steps), ``child``
    with its folder, and ``end``; ``results.json`` gathers the results of all steps, and of those asked together.

    Returns
    -------
    bool or None
        None if it was asked to stop before its end.

    Raises
    ------
    RecipeError, RunError, StoreError, CheckpointError, FloatingPointError
        Of the step that failed; the chain's last event names it.
    """
    folder = RunFolder(run.resolve())
    with folder.locked():
        folder.begin(recipe)
        log = EventLog(folder.events_file, listen)
        at = ""
        try:
            children = step_folders(recipe, folder)
            by_name = {step.name: child for step, child in zip(recipe.steps, children, strict=True)}
            for index, (step, child) in enumerate(zip(recipe.steps, children, strict=True)):
                at = step.name
                if _stopped(folder, log, index):
                    return None
                if child.status().state == "finished":
                    continue
                log.write(
                    "run", epoch=index, step=0, epochs=len(children), steps=1, resumed=child.exists(),
                    recipe=recipe.name, task=recipe.task, child=child.name,
                )  # fmt: skip
                further = tuple(_placed(parent, by_name) for parent in step.further_parents)
                parent = recipe.parent_of(index)
                made = recipe.child(index, _placed(parent, by_name) if parent else "", further)
                # A request made while the step was starting is passed on with its first event.
                passing = _Passing(folder, child, listen)
                alone = recipe.devices == 1
                if not (run_task(made, stores, child.path, passing) if alone else _by_itself(made, child, passing)):
                    reason = child.status().reason or "asked by file"
                    log.write("stopped", epoch=index, step=0, reason=f"{step.name}: {reason}")
                    return None
            gathered = gather(recipe, folder)
            for at, members in recipe.together.items():
                gathered["results"] += ask_together(at, [by_name[member] for member in members], stores)
            at = ""
            folder.write_json(folder.results_file, gathered)
            best = {"top1": gathered["results"][-1]["top1"]} if gathered["results"] else {}
            log.write("end", epoch=len(children), seconds=gathered["seconds"], **best)
            return True
        except BaseException as error:
            if isinstance(error, ValueError) and not isinstance(error, RecipeError):
                error = RecipeError(str(error))
            log.write("failed", reason=f"{at}: {type(error).__name__}: {error}")
            raise error
        finally:
            log.close()


def gather(recipe: ChainRecipe, folder: RunFolder) -> dict[str, Any]:
    """The results of all finished steps; each is named after its step, and knows its run."""
    results: list[dict[str, Any]] = []
    seconds = 0.0
    for step, child in zip(recipe.steps, step_folders(recipe, folder), strict=True):
        found = child.results() or {"results": []}
        seconds += found.get("seconds", 0.0)
        for result in found["results"]:
            plain = {key: result[key] for key in ("dataset", "split", "count", "top1", "top5", "note")}
            results.append({"name": f"{step.name}: {result['name']}", "step": step.name, "run": child.name} | plain)
    return {
        "name": recipe.name, "task": recipe.task, "recipe_hash": recipe.digest(), "seed": recipe.seed,
        "reported": "last epoch of every step", "seconds": seconds, "parent": None, "results": results,
    }  # fmt: skip


def ask_together(name: str, members: list[RunFolder], stores: Path) -> list[dict[str, Any]]:
    """Results of finished runs as one encoder, by the mean of their logits.

    Raises
    ------
    EnsembleError
        The runs do not know the same classes or sequences.
    """
    found, store, split = members_of([run.checkpoint for run in members], stores, None, None, best_device(), False)
    parts = report(found, store, split, "equal")["splits"]
    note = f"mean of the logits of {', '.join(run.name for run in members)}"
    return [
        {"name": f"{name}: test sequences{'' if part == split else f', {part}'}", "step": name, "run": ""}
        | {"dataset": store.name, "split": part, "note": note}
        | numbers
        for part, numbers in parts.items()
    ]


def _by_itself(recipe: BaseRecipe, child: RunFolder, passing: _Passing) -> bool:
    """A step on several devices, as a command of its own: each of its processes starts that command again."""
    child.path.mkdir(parents=True, exist_ok=True)
    file = child.path / "asked.json"
    write_atomically(file, recipe.model_dump_json().encode())
    words = [sys.executable, "-m", "engine.cli", "train", str(file), "--run", str(child.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    stop = StopRequest(passing.chain.stop_file)
    with stop.listening(), subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.2)
            if stop:
                child.stop_file.touch()
    status = child.status()
    if status.state not in ("finished", "stopped"):
        raise RunError(f"{child.path}: {status.reason or f'ended with status {process.returncode}'}")
    return status.state == "finished"


class _Passing:
    """Hands a step's events on, and a wish to stop the chain to the step at work."""

    def __init__(self, chain: RunFolder, child: RunFolder, listen: Listener | None) -> None:
        self.chain, self.child, self.listen = chain, child, listen

    def __call__(self, event: dict[str, Any]) -> None:
        if self.listen:
            self.listen(event | {"child": self.child.name})
        if self.chain.stop_file.exists():
            self.child.stop_file.touch()


def _stopped(folder: RunFolder, log: EventLog, index: int) -> bool:
    if folder.stop_file.exists():
        log.write("stopped", epoch=index, step=0, reason="asked by file")
        return True
    return False


def _placed(parent: str, by_name: dict[str, RunFolder]) -> str:
    """``STEP`` or ``STEP:STREAM`` as a place on disk."""
    name, colon, stream = parent.partition(":")
    return f"{by_name[name].path}{colon}{stream}"
