"""Which function does the run of a recipe, by its task; imported when it is called."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from engine.training.recipe import BaseRecipe
from engine.training.run_folder import Listener, RunFolder

RUNNERS: dict[str, str] = {
    "supervised": "engine.training.supervised:train",
    "pretrain": "engine.training.pretraining:pretrain",
    "knn": "engine.training.protocols.knn:classify",
    "linear": "engine.training.protocols.linear:train",
    "finetune": "engine.training.protocols.finetune:train",
    "semi": "engine.training.protocols.finetune:train",
    "chain": "engine.training.chain:run_chain",
}


def completed(recipe: BaseRecipe) -> BaseRecipe:
    """The recipe with everything in it that a protocol takes from its parent; others come back as they are.

    Raises
    ------
    RecipeError
        The parent can't be found, or the recipe does not fit it.
    """
    from engine.training.recipe_protocols import ProtocolRecipe

    if not isinstance(recipe, ProtocolRecipe):
        return recipe
    from engine.training.protocols.parent import complete

    return complete(recipe)


def run_task(recipe: BaseRecipe, stores: Path, run: Path, listen: Listener | None = None) -> bool:
    """Do the run in its folder, or go on there; False if it was asked to stop before its end.

    A run that is finished stays as it is, with what was added to its checkpoint's card since.

    Raises
    ------
    RecipeError, RunError, StoreError, CheckpointError, FloatingPointError
        As the task's own function.
    """
    from engine.training.devices import decided_precision, flushed_denormals

    recipe = decided_precision(completed(recipe), run)
    if _finished_before(recipe, RunFolder(run)):
        return True
    module, _, name = RUNNERS[recipe.task].partition(":")
    function: Any = getattr(importlib.import_module(module), name)
    with flushed_denormals():
        return function(recipe, stores, run, listen) is not None


def _finished_before(recipe: BaseRecipe, folder: RunFolder) -> bool:
    """Whether the folder holds this recipe's finished run, whole.

    A chain looks after its steps itself. A checkpoint that was deleted is made again where the state is still there.
    """
    if recipe.task == "chain" or not folder.recipe_file.is_file() or folder.status().state != "finished":
        return False
    lacks = folder.state_file.is_file() and not folder.checkpoint.is_dir()
    return not lacks and folder.results_file.is_file() and folder.recipe().digest() == recipe.digest()
