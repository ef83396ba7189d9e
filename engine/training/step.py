"""From a batch to losses: the recipe's method around its encoder, in the one form the training loop knows."""

from __future__ import annotations

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from engine.methods.objective import Outcome, across_processes
from engine.methods.skeletongcl import SkeletonGCL, SkeletonGclSettings
from engine.methods.supervised import Supervised, SupervisedSettings, class_priors
from engine.skeleton.layout import get_layout
from engine.training.recipe import Recipe, RecipeError
from engine.training.recipe_fields import explain


class Step(nn.Module):
    """An :class:`engine.training.trainer.Objective`: the loss, the share named rightly, the loss's parts."""

    def __init__(self, method: Supervised | SkeletonGCL) -> None:
        super().__init__()
        self.method = method

    def forward(
        self, *, views: tuple[Tensor, ...], lengths: tuple[Tensor, ...], labels: Tensor, items: Tensor, seed: int
    ) -> dict[str, Tensor]:
        if isinstance(self.method, SkeletonGCL):
            generator = torch.Generator().manual_seed(seed)
            outcome: Outcome = self.method(views[0], labels, items, generator, across_processes)
        else:
            outcome = self.method(views[0], labels, across_processes)
        parts = {"loss": outcome.loss}
        if outcome.logits is not None:
            right = outcome.logits.detach().argmax(1) == labels
            parts["train_top1"] = right.sum() / (labels >= 0).sum().clamp(min=1)
        return parts | outcome.parts


def method_settings(recipe: Recipe) -> SupervisedSettings | SkeletonGclSettings:
    """The settings of the recipe's method, with what the recipe says elsewhere.

    Raises
    ------
    RecipeError
        A setting or value the method does not have.
    """
    smoothing = {"label_smoothing": recipe.label_smoothing}
    model: type[SupervisedSettings | SkeletonGclSettings]
    if recipe.method == "supervised":
        unknown = {"unknown_labels": True} if recipe.unknown_share else {}
        model, args = SupervisedSettings, smoothing | unknown | recipe.method_args
    else:
        model = SkeletonGclSettings
        args = recipe.method_args | {"supervised": smoothing | recipe.method_args.get("supervised", {})}
    try:
        return model.model_validate(args)
    except ValidationError as error:
        raise RecipeError(explain(error, model, "method_args")) from error


def build_step(recipe: Recipe, encoder: nn.Module, classes: int, labels: Tensor) -> Step:
    """The recipe's method around an encoder.

    Parameters
    ----------
    recipe : Recipe
        Of it: method, method_args, label_smoothing.
    encoder : nn.Module
        With ``classes`` logits.
    classes : int
        K.
    labels : Tensor
        int64 ``(S,)``: classes of the training sequences, in the order of the split, for memory banks.

    Raises
    ------
    RecipeError
        A setting the method does not have, or a recipe it can't work with.
    """
    if recipe.method == "supervised":
        if recipe.unknown_share and class_priors(encoder) is not None:
            raise RecipeError(
                f"{recipe.backbone} has a prior for every class, so clips of none can't train it: no unknown_share"
            )
    elif recipe.idle_share or recipe.unknown_share or recipe.augmentation.mirror_labels:
        # The released bank keeps one row, and one class, per training sequence.
        raise RecipeError(
            "skeletongcl needs clips of their sequence's own class: no idle_share, no unknown_share, no mirror_labels"
        )
    settings = method_settings(recipe)
    if isinstance(settings, SupervisedSettings):
        return Step(Supervised(encoder, settings))
    joints = get_layout(recipe.preprocessing.layout).num_joints
    try:
        return Step(SkeletonGCL(encoder, joints, classes, labels, settings))
    except ValueError as error:
        # A set too small for its contrast is a matter of the recipe.
        raise RecipeError(f"method_args: {error}") from error
