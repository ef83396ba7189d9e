"""Linear evaluation: one linear layer on the features of an encoder that stays as pretraining left it, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from engine.models.card import CheckpointCard, Result
from engine.models.checkpoint import environment, save_checkpoint
from engine.training.devices import hardware
from engine.training.features import extract, join
from engine.training.optimisers import learning_rate, make_optimiser
from engine.training.protocols.loader import protocol_loader
from engine.training.protocols.parent import ParentEncoder, build_parents, settle_fresh, start_classifier
from engine.training.protocols.report import Target, make_card, open_target, results_of, write_results
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import LinearRecipe
from engine.training.run_folder import EventLog, Listener, RunFolder
from engine.training.session import in_run_folder
from engine.training.trainer import Trainer

TITLE = "linear evaluation"


class LinearStep(nn.Module):
    """Cross entropy of a linear layer on features; an :class:`engine.training.trainer.Objective`.

    Parameters
    ----------
    head : nn.Linear
        All that is trained, and all of a run's state.
    encoder : nn.Module or None
        Frozen; None where the batches already are features.
    dropout : bool
        Let the frozen encoder's dropout act while the head learns; its batch norms keep their statistics all the same.
    label_smoothing : float
    """

    def __init__(
        self, head: nn.Linear, encoder: nn.Module | None = None, dropout: bool = False, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.head, self.label_smoothing = head, label_smoothing
        # In a tuple: no part of this module, so neither trained nor saved nor put into another mode.
        self._frozen = (encoder,)
        if encoder is not None:
            freeze(encoder, dropout)

    def forward(
        self, *, views: tuple[Tensor, ...], lengths: tuple[Tensor, ...], labels: Tensor, items: Tensor, seed: int
    ) -> dict[str, Tensor]:
        features = views[0]
        (encoder,) = self._frozen
        if encoder is not None:
            with torch.no_grad():
                features = encoder(features).features
        logits = self.head(features).float()
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {"loss": loss, "train_top1": (logits.detach().argmax(1) == labels).float().mean()}


@dataclass(frozen=True)
class Scale:
    """Brings features to mean 0 and variance 1, as ``(x - mean) / deviation``; both float32 ``(D,)``."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor | None, width: int) -> Scale:
        """That of training features ``(N, D)``; without them one of ``width`` numbers that changes nothing."""
        if features is None:
            return cls(torch.zeros(width), torch.ones(width))
        # A feature that is the same for all clips says nothing and must not be blown up.
        spread = features.double().std(0, correction=0)
        constant = spread <= 1e-6 * features.double().abs().mean()
        return cls(features.double().mean(0).float(), spread.masked_fill(constant, torch.inf).float())

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation

    def folded_into(self, head: nn.Linear) -> nn.Linear:
        """The layer that says of features as they are what ``head`` says of scaled ones."""
        whole = copy.deepcopy(head).cpu()
        with torch.no_grad():
            whole.weight.div_(self.deviation)
            if whole.bias is not None:
                whole.bias.sub_(whole.weight @ self.mean)
        return whole


def freeze(encoder: nn.Module, dropout: bool = False) -> None:
    """No gradients, evaluation mode; with ``dropout`` training mode except for what keeps statistics."""
    encoder.requires_grad_(False).train(dropout)
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def train(recipe: LinearRecipe, stores: Path, run: Path, listen: Listener | None = None) -> bool | None:
    """Linear evaluation of a completed recipe; goes on where an interrupted run stopped.

    Features are read once where every epoch would read the same ones. With a single parent ``run/checkpoint`` is its
    encoder with the classifier; features of several parents have results only.

    Returns
    -------
    bool or None
        None if the run was asked to stop before its end.
    """
    target = open_target(recipe, stores)
    return in_run_folder(recipe, run, listen, lambda *where: _train(recipe, target, *where))


def _train(recipe: LinearRecipe, target: Target, folder: RunFolder, fabric: Fabric, log: EventLog) -> bool | None:
    parents = build_parents(recipe, len(target.store.classes))
    if recipe.standardise and (recipe.clips != "none" or recipe.frozen_mode != "evaluation"):
        raise RecipeError("standardise: features must be read once; clips must be none, frozen_mode evaluation")
    cached = recipe.clips == "none" and recipe.frozen_mode == "evaluation"
    if len(parents) > 1 and not cached:
        raise RecipeError("further_parents: features are joined once; clips must be none, frozen_mode evaluation")
    for parent in parents:
        parent.encoder.to(fabric.device)
    settle_fresh(recipe, parents, target.store, target.train)
    first = parents[0]
    try:
        features = _features(recipe, target, parents, target.train) if cached else None
        test_features = _features(recipe, target, parents, target.test)
    except ValueError as error:
        raise RecipeError(f"fusion: {error}") from error
    scale = Scale.of(features if recipe.standardise else None, test_features.shape[1])
    if features is not None:
        features = scale(features)
    head = _head(recipe, first, test_features.shape[1], len(target.store.classes), len(parents))
    frozen = None if cached else copy.deepcopy(first.encoder)
    step = LinearStep(head, frozen, recipe.frozen_mode == "training", recipe.label_smoothing)
    loader = protocol_loader(
        recipe, target.store, target.train, first.spec, features, fabric.global_rank, fabric.world_size, fabric.device
    )
    tested_features = scale(test_features).to(fabric.device)

    def logits() -> np.ndarray:
        with torch.inference_mode():
            return head(tested_features).float().cpu().numpy()

    def evaluate() -> dict[str, float]:
        tested = target.evaluation(logits())
        stricter = {f"top1_{name}": tested.subset(keep).top1 for name, keep in target.stricter.items()}
        return {"top1": tested.top1, "top5": tested.top5, **stricter}

    def save(place: Path, results: list[Result], reported: str) -> CheckpointCard:
        whole = copy.deepcopy(first.encoder)
        whole.classifier.load_state_dict(scale.folded_into(head).state_dict())  # type: ignore[union-attr,operator]
        card = make_card(recipe, target, first, whole, results, trainer.progress.seconds, reported)
        return save_checkpoint(place, card, whole)

    def save_best(epoch: int, tested: dict[str, float]) -> None:
        if len(parents) == 1:
            rows = results_of(f"best on the test part: {TITLE}", recipe, target, target.evaluation(logits()))
            save(folder.best, [result for result, _ in rows], f"best on the test part, epoch {epoch}")

    optimiser = make_optimiser(recipe.optimiser, step.parameters(), recipe.precision)
    trainer = Trainer(
        recipe, fabric, step, optimiser, loader, lambda epoch: learning_rate(recipe, epoch), folder, log, evaluate,
        save_best,
    )  # fmt: skip
    if fabric.is_global_zero:
        folder.write_json(folder.environment_file, environment() | hardware(fabric))
    about = [parent.about for parent in parents]
    told = {
        "recipe": recipe.name, "task": recipe.task, "train": len(target.train), "test": len(target.test),
        "parent": about[0], "parents": about, "cached": cached, **hardware(fabric),
    }  # fmt: skip
    if not trainer.run(**told):
        return None
    if fabric.is_global_zero:
        rows = results_of(TITLE, recipe, target, target.evaluation(logits()))
        if len(parents) == 1:
            save(folder.checkpoint, [result for result, _ in rows], "last epoch")
        seconds = trainer.progress.seconds
        write_results(recipe, folder, target, parents, rows, seconds, epochs=recipe.epochs, features=head.in_features)
        log.write("end", epoch=recipe.epochs, top1=rows[0][0].top1, seconds=seconds)
    fabric.barrier()
    return True


def _features(recipe: LinearRecipe, target: Target, parents: list[ParentEncoder], which: np.ndarray) -> Tensor:
    read = [extract(parent.encoder, target.store, which, parent.spec) for parent in parents]
    return join(read, recipe.fusion)


def _head(recipe: LinearRecipe, parent: ParentEncoder, width: int, classes: int, parents: int) -> nn.Linear:
    """The encoder's own classifier, where it has one for these features; with first weights as the recipe says."""
    own = parent.encoder.classifier
    if parents == 1 and isinstance(own, nn.Linear):
        head = copy.deepcopy(own).cpu()
    else:
        head = nn.Linear(width, classes)
    start_classifier(head, recipe.classifier, recipe.classifier_std)
    return head
