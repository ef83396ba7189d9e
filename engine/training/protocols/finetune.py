"""Fine-tuning of a pretrained encoder with all labels or with those of a part (semi-supervised), here or elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from engine.data.splits import few_labels
from engine.data.store import SequenceStore
from engine.methods.supervised import Supervised, SupervisedSettings
from engine.models.checkpoint import environment, save_checkpoint
from engine.training.compiling import compile_encoder
from engine.training.devices import hardware, share_batch_norms
from engine.training.ema import WeightAverage
from engine.training.evaluate import Evaluation, evaluate_encoder
from engine.training.optimisers import learning_rate, make_optimiser
from engine.training.protocols.loader import protocol_loader
from engine.training.protocols.parent import build_parents, start_classifier
from engine.training.protocols.report import Target, make_card, open_target, results_of, write_results
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import FinetuneRecipe, SemiRecipe
from engine.training.run_folder import EventLog, Listener, RunFolder
from engine.training.session import in_run_folder
from engine.training.step import Step
from engine.training.trainer import Trainer

TITLES = {"finetune": "fine-tuned", "semi": "semi-supervised"}


def labelled(recipe: FinetuneRecipe, store: SequenceStore, train: np.ndarray) -> np.ndarray:
    """Sequences whose labels are used, int64 ``(K,)``; with ``full_length`` they come round up to the whole number.

    Sources: hiclr.md, section 7 (a share of every class, indices that wrap); i2md.md, section 7 (``int(p N)`` of all).
    """
    if not isinstance(recipe, SemiRecipe):
        return train
    if recipe.subset == "balanced":
        chosen = few_labels(store, train, recipe.fraction, recipe.subset_seed)
    else:
        order = np.random.default_rng(recipe.subset_seed).permutation(len(train))
        chosen = np.sort(train[order[: max(1, int(recipe.fraction * len(train)))]])
    return np.resize(chosen, len(train)) if recipe.full_length else chosen


def freeze_named(encoder: nn.Module, beginnings: list[str]) -> None:
    """No gradients for parameters whose names begin so; raises :class:`RecipeError` for a beginning of none."""
    for beginning in beginnings:
        found = [value for name, value in encoder.named_parameters() if name.startswith(beginning)]
        if not found:
            names = ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in encoder.named_parameters()))
            raise RecipeError(f"freeze: no parameter begins with {beginning!r}; there are {names}")
        for value in found:
            value.requires_grad_(False)


def train(recipe: FinetuneRecipe, stores: Path, run: Path, listen: Listener | None = None) -> bool | None:
    """Train encoder and classifier of a completed recipe; goes on where an interrupted run stopped.

    Returns
    -------
    bool or None
        None if the run was asked to stop before its end.
    """
    target = open_target(recipe, stores)
    return in_run_folder(recipe, run, listen, lambda *where: _train(recipe, target, *where))


def _train(recipe: FinetuneRecipe, target: Target, folder: RunFolder, fabric: Fabric, log: EventLog) -> bool | None:
    classes = target.store.classes
    (parent,) = build_parents(recipe, len(classes))
    encoder = parent.encoder
    start_classifier(encoder.classifier, recipe.classifier, recipe.classifier_std)  # type: ignore[arg-type]
    freeze_named(encoder, recipe.freeze)
    step = Step(Supervised(encoder, SupervisedSettings(label_smoothing=recipe.label_smoothing)))
    average = WeightAverage(encoder, recipe.ema).to(fabric.device) if recipe.ema else None
    tested_encoder = average.model if average else encoder
    if recipe.sync_batchnorm:
        share_batch_norms(step, fabric)
    used = labelled(recipe, target.store, target.train)
    loader = protocol_loader(
        recipe, target.store, used, parent.spec, None, fabric.global_rank, fabric.world_size, fabric.device
    )
    title = TITLES[recipe.task]

    def tested() -> Evaluation:
        return evaluate_encoder(tested_encoder, target.store, target.test, parent.spec, classes)

    def evaluate() -> dict[str, float]:
        found = tested()
        stricter = {f"top1_{name}": found.subset(keep).top1 for name, keep in target.stricter.items()}
        return {"top1": found.top1, "top5": found.top5, **stricter}

    def save_best(epoch: int, _: dict[str, float]) -> None:
        rows = results_of(f"best on the test part: {title}", recipe, target, tested())
        results, reported = [result for result, _ in rows], f"best on the test part, epoch {epoch}"
        card = make_card(recipe, target, parent, tested_encoder, results, trainer.progress.seconds, reported)
        save_checkpoint(folder.best, card, tested_encoder)

    optimiser = make_optimiser(recipe.optimiser, step.parameters(), recipe.precision)
    trainer = Trainer(
        recipe, fabric, step, optimiser, loader, lambda epoch: learning_rate(recipe, epoch), folder, log, evaluate,
        save_best, average,
    )  # fmt: skip
    if (missing := compile_encoder(encoder, recipe.compile, fabric.device)) is not None:
        log.write("compile", compiled=not missing, reason=missing)
    if fabric.is_global_zero:
        folder.write_json(folder.environment_file, environment() | hardware(fabric))
    distinct = len(np.unique(used))
    told = {
        "recipe": recipe.name, "task": recipe.task, "train": distinct, "test": len(target.test),
        "parent": parent.about, **hardware(fabric),
    }  # fmt: skip
    if not trainer.run(**told):
        return None
    if fabric.is_global_zero:
        rows = results_of(title, recipe, target, tested())
        seconds = trainer.progress.seconds
        results = [result for result, _ in rows]
        card = make_card(recipe, target, parent, tested_encoder, results, seconds, "last epoch")
        save_checkpoint(folder.checkpoint, card, tested_encoder)
        write_results(recipe, folder, target, [parent], rows, seconds, epochs=recipe.epochs, labelled=distinct)
        log.write("end", epoch=recipe.epochs, top1=rows[0][0].top1, seconds=seconds)
    fabric.barrier()
    return True
