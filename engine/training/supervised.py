"""Supervised training of one encoder: its schedule, and the checkpoint at the end.

The last epoch is what is reported; nothing is chosen by looking at the test part unless the recipe asks for it.
"""

from __future__ import annotations

import datetime
import platform
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from engine.data.sets import DATASETS, base_name
from engine.data.store import SequenceStore
from engine.models.card import WEIGHTS_FILE, CheckpointCard, Decision, Result, read_card
from engine.models.checkpoint import build_encoder, environment, file_digest, load_encoder, save_checkpoint
from engine.paths import TRAINED_MODELS
from engine.training.compiling import compile_encoder
from engine.training.devices import hardware, share_batch_norms
from engine.training.ema import WeightAverage
from engine.training.evaluate import Evaluation, evaluate_encoder, stricter_splits
from engine.training.feed import IDLE, TrainingData, class_names, open_data, training_items, training_loader
from engine.training.optimisers import learning_rate, make_optimiser
from engine.training.recipe import Recipe, RecipeError
from engine.training.run_folder import EventLog, Listener, RunFolder
from engine.training.session import in_run_folder
from engine.training.step import build_step
from engine.training.trainer import Trainer

CLIP_RESULT = "test sequences"
BEST = "best on the test part: "


def copy_weights(encoder: nn.Module, classes: list[str], source: str) -> dict[str, Any]:
    """Start from the weights of a checkpoint; classifier rows are matched by class name, new classes keep fresh ones.

    Returns what the parent was: its folder, name, recipe's digest and weights' digest.

    Raises
    ------
    RecipeError
        The checkpoint's backbone has other shapes.
    """
    folder = Path(source) if Path(source).is_dir() else TRAINED_MODELS / source
    trained, card = load_encoder(folder)
    weights = trained.state_dict()
    fresh = encoder.state_dict()
    rows = [(i, card.classes.index(name)) for i, name in enumerate(classes) if name in card.classes]
    try:
        for key in ("classifier.weight", "classifier.bias"):
            old, weights[key] = weights[key], fresh[key].clone()
            for i, k in rows:
                weights[key][i] = old[k]
        encoder.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        raise RecipeError(f"{source} can't be fine-tuned by this recipe: {error}") from error
    weights_digest = card.sha256.get(WEIGHTS_FILE) or file_digest(folder / WEIGHTS_FILE)
    return {"source": source, "name": card.name, "recipe_hash": card.recipe_hash, "weights": weights_digest}


def train(recipe: Recipe, stores: Path, run: Path, listen: Listener | None = None) -> CheckpointCard | None:
    """Train to the last epoch and write ``run/checkpoint``; goes on where an interrupted run of the recipe stopped.

    Returns
    -------
    CheckpointCard or None
        None if the run was asked to stop before its end; call again to go on.

    Raises
    ------
    RecipeError
        The run folder belongs to another recipe, or the recipe does not fit its stores or this machine.
    RunError
        The run is being trained by another process, its state is damaged, or the disk is full.
    StoreError
        A store is not prepared.
    FloatingPointError
        A loss or weight is not finite; the last good state is kept.
    """
    data = open_data(recipe, stores)
    if not len(data.train) or not len(data.test):
        parts = f"{len(data.train)} training and {len(data.test)} tests"
        raise RecipeError(f"split: {recipe.split} of {recipe.dataset} has {parts}")
    return in_run_folder(recipe, run, listen, lambda *where: _train(recipe, data, *where))


def _train(
    recipe: Recipe, data: TrainingData, folder: RunFolder, fabric: Fabric, log: EventLog
) -> CheckpointCard | None:
    spec, classes = recipe.preprocessing, class_names(recipe, data)
    encoder = build_encoder(recipe.backbone, len(classes), spec.layout, spec.persons, recipe.backbone_args)
    parent = copy_weights(encoder, classes, recipe.start_from) if recipe.start_from else None
    objective = build_step(
        recipe, encoder, len(classes), torch.from_numpy(data.main.label[training_items(recipe, data)])
    )
    average = WeightAverage(encoder, recipe.ema).to(fabric.device) if recipe.ema else None
    tested_encoder = average.model if average else encoder
    if recipe.sync_batchnorm:
        share_batch_norms(objective, fabric)
    optimiser = make_optimiser(recipe.optimiser, objective.parameters(), recipe.precision)
    loader = training_loader(recipe, data, fabric.global_rank, fabric.world_size, fabric.device)
    stricter = stricter_splits(data.main, recipe.split, data.test)

    def evaluate() -> dict[str, float]:
        test = evaluate_encoder(tested_encoder, data.main, data.test, spec, classes)
        more = {f"top1_{name}": test.subset(keep).top1 for name, keep in stricter.items()}
        return {"top1": test.top1, "top5": test.top5, **more}

    def save_best(epoch: int, tested: dict[str, float]) -> None:
        result = Result(
            name=BEST + CLIP_RESULT, dataset=data.main.name, split=recipe.split, count=len(data.test),
            top1=tested["top1"], top5=tested["top5"],
        )  # fmt: skip
        reported = f"best on the test part, epoch {epoch}"
        card = _card(recipe, classes, tested_encoder, [result], trainer.progress.seconds, reported)
        save_checkpoint(folder.best, card, tested_encoder)

    trainer = Trainer(
        recipe, fabric, objective, optimiser, loader, lambda epoch: learning_rate(recipe, epoch), folder, log,
        evaluate, save_best, average,
    )  # fmt: skip
    missing = compile_encoder(encoder, recipe.compile, fabric.device)
    if missing is not None:
        log.write("compile", compiled=not missing, reason=missing)
    machine = hardware(fabric)
    if fabric.is_global_zero:
        folder.write_json(folder.environment_file, environment() | machine)
    about = {"recipe": recipe.name, "train": len(data.train), "test": len(data.test), "parent": parent, **machine}
    if not trainer.run(**about):
        return None
    if not fabric.is_global_zero:
        fabric.barrier()
        return None
    card = _finish(recipe, data, tested_encoder, folder, trainer.progress.seconds, parent)
    log.write("end", epoch=recipe.epochs, top1=card.results[0].top1, seconds=trainer.progress.seconds)
    fabric.barrier()
    return card


def _finish(
    recipe: Recipe,
    data: TrainingData,
    encoder: nn.Module,
    folder: RunFolder,
    seconds: float,
    parent: dict[str, Any] | None,
) -> CheckpointCard:
    """Test on everything the recipe names, and write checkpoint and results."""
    spec, classes = recipe.preprocessing, class_names(recipe, data)
    results, details = [], []

    def add(title: str, store: SequenceStore, split: str, tested: Evaluation) -> None:
        result = Result(
            name=title, dataset=store.name, split=split, count=tested.count, top1=tested.top1, top5=tested.top5
        )
        results.append(result)
        details.append(_detail(result, tested))

    tested = evaluate_encoder(encoder, data.main, data.test, spec, classes)
    add(CLIP_RESULT, data.main, recipe.split, tested)
    for name, keep in stricter_splits(data.main, recipe.split, data.test).items():
        add(f"{CLIP_RESULT}, {name}", data.main, name, tested.subset(keep))
    names = [data.main.names[int(i)] for i in data.test]
    for store, _ in data.further:
        further = evaluate_encoder(encoder, store, store.indices_of(names), spec, classes)
        add(f"{CLIP_RESULT}, {store.name}", store, recipe.split, further)
    card = save_checkpoint(folder.checkpoint, _card(recipe, classes, encoder, results, seconds, "last epoch"), encoder)
    if folder.best.is_dir():
        best = read_card(folder.best)
        details += [result.model_dump(mode="json") for result in best.results]
    folder.write_json(
        folder.results_file,
        {
            "name": recipe.name, "recipe_hash": recipe.digest(), "epochs": recipe.epochs, "seed": recipe.seed,
            "reported": "last epoch", "seconds": seconds, "parent": parent, "results": details,
        },
    )  # fmt: skip
    return card


def _detail(result: Result, tested: Evaluation) -> dict[str, Any]:
    return result.model_dump(mode="json") | {
        "classes": tested.classes, "per_class": tested.per_class, "confusion": tested.confusion.tolist()
    }  # fmt: skip


def _card(
    recipe: Recipe, classes: list[str], encoder: nn.Module, results: list[Result], seconds: float, reported: str
) -> CheckpointCard:
    published = DATASETS.get(base_name(recipe.dataset))
    return CheckpointCard(
        name=recipe.name,
        title=recipe.title,
        method=recipe.method,
        backbone=recipe.backbone,
        backbone_args=recipe.backbone_args,
        feature_dim=encoder.feature_dim,  # type: ignore[arg-type]
        classes=classes,
        preprocessing=recipe.preprocessing,
        decision=Decision(idle_class=IDLE if recipe.idle_share else None),
        dataset=recipe.dataset,
        split=recipe.split,
        trained_on=[recipe.dataset, *recipe.also_train_on],
        results=results,
        training={
            "epochs": recipe.epochs,
            "repeat": recipe.repeat,
            "batch": recipe.batch,
            "seed": recipe.seed,
            "precision": recipe.precision,
            "lr": recipe.optimiser.lr,
            **({"ema": recipe.ema} if recipe.ema else {}),
            "seconds": round(seconds),
            "processor": platform.processor() or platform.machine(),
            "reported": reported,
            "start_from": recipe.start_from,
        },
        recipe_hash=recipe.digest(),
        versions=environment(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        licence=published.licence if published else "the data are the user's own",
        limits=recipe.limits,
    )
