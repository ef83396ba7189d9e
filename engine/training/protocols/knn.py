"""Nearest neighbours: no training at all, so it says most plainly what the features of an encoder are like."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

from engine.models.checkpoint import environment
from engine.training.devices import hardware
from engine.training.features import extract, join
from engine.training.probe import nearest_neighbours
from engine.training.protocols.parent import build_parents, settle_fresh
from engine.training.protocols.report import Target, open_target, results_of, write_results
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import KnnRecipe
from engine.training.run_folder import EventLog, Listener, RunFolder
from engine.training.session import in_run_folder


def classify(recipe: KnnRecipe, stores: Path, run: Path, listen: Listener | None = None) -> bool:
    """Name every test clip after the training clips nearest to it; for a completed recipe.

    Both parts are read as the encoder's evaluation reads them. The first result is that of ``k``, the others follow.

    Raises
    ------
    RecipeError, RunError, StoreError, CheckpointError
        As the message says.
    """
    target = open_target(recipe, stores)
    return in_run_folder(recipe, run, listen, lambda *where: _classify(recipe, target, *where))


def _classify(recipe: KnnRecipe, target: Target, folder: RunFolder, fabric: Fabric, log: EventLog) -> bool:
    if not fabric.is_global_zero:
        return True
    began = time.monotonic()
    parents = build_parents(recipe, len(target.store.classes))
    about = [parent.about for parent in parents]
    log.write(
        "run", epoch=0, step=0, epochs=1, steps=2, resumed=False, recipe=recipe.name, task=recipe.task,
        train=len(target.train), test=len(target.test), parent=about[0], parents=about, **hardware(fabric),
    )  # fmt: skip
    folder.write_json(folder.environment_file, environment() | hardware(fabric))
    for parent in parents:
        parent.encoder.to(fabric.device)
    settle_fresh(recipe, parents, target.store, target.train)
    sides = []
    for which in (target.train, target.test):
        read = [extract(parent.encoder, target.store, which, parent.spec, recipe.batch) for parent in parents]
        try:
            sides.append(join(read, recipe.fusion).to(fabric.device))
        except ValueError as error:
            raise RecipeError(f"fusion: {error}") from error
    labels = torch.from_numpy(target.store.label[target.train])
    ks = list(dict.fromkeys([recipe.k, *recipe.also_k]))
    votes = nearest_neighbours(sides[0], labels, sides[1], len(target.store.classes), ks, recipe.temperature)
    rows = []
    for k in ks:
        # Most classes get no vote at all: which five come first would be their order in the list.
        voted = target.evaluation(votes[k].numpy())
        rows += results_of(f"nearest neighbours, k = {k}", recipe, target, voted, ranked=False)
    seconds = time.monotonic() - began
    write_results(recipe, folder, target, parents, rows, seconds)
    log.write("end", epoch=1, top1=rows[0][0].top1, seconds=seconds)
    return True
