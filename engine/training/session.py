"""What every run does around its work: devices, the folder's lock and recipe, the event log, a word when it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric

from engine.training.devices import make_fabric
from engine.training.recipe import BaseRecipe
from engine.training.run_folder import EventLog, Listener, RunFolder
from engine.training.tensorboard import ScalarFile

T = TypeVar("T")


def in_run_folder(
    recipe: BaseRecipe, run: Path, listen: Listener | None, work: Callable[[RunFolder, Fabric, EventLog], T]
) -> T:
    """Do the work of a run in its folder, which is locked meanwhile; an error is written into its events.

    Raises
    ------
    RecipeError
        The folder belongs to another recipe, or the recipe does not fit this machine.
    RunError
        The run is held by another process, or the disk is full.
    """
    fabric = make_fabric(recipe)
    folder = RunFolder(run)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    if not fabric.is_global_zero:
        return work(folder, fabric, EventLog(None))
    with folder.locked():
        folder.begin(recipe)
        curves = ScalarFile(folder.path)

        def both(event: dict[str, Any]) -> None:
            curves(event)
            if listen:
                listen(event)

        log = EventLog(folder.events_file, both)
        try:
            return work(folder, fabric, log)
        except BaseException as error:
            _say_failed(log, error)
            raise
        finally:
            log.close()
            curves.close()


def _say_failed(log: EventLog, error: BaseException) -> None:
    try:
        log.write("failed", reason=f"{type(error).__name__}: {error}")
    except Exception as another:
        # A full disk must not hide why the run failed.
        error.add_note(f"(and the event could not be written: {another})")
