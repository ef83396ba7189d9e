"""The self-supervised methods by name: where each is, what it wants to see, and its one form for the training loop."""

from __future__ import annotations

import copy
import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from engine.data.batch import Rule
from engine.data.batch.recipes_i2md import CmdViews
from engine.data.batch.sampling import RandomCrop
from engine.data.preprocess import Stream
from engine.methods.objective import Outcome, across_processes
from engine.models.checkpoint import build_encoder
from engine.skeleton.layout import get_layout
from engine.training.recipe import RecipeError
from engine.training.recipe_fields import explain
from engine.training.recipe_protocols import PretrainRecipe


@dataclass(frozen=True)
class Pretext:
    """Where a method is and what the loader reads for it.

    Parameters
    ----------
    module, method, settings : str
        Where its class is, and the name of the class and of that of its settings; imported when asked for.
    reads : {"clip", "two_crops"}
        One clip as the card's evaluation reads it, or two random crops of the same sequence; always plain joints:
        augmentation is the method's own.
    stream_field : str
        Dotted setting that takes the encoder's stream; empty where the method makes all streams itself.
    """

    module: str
    method: str
    settings: str
    reads: Literal["clip", "two_crops"] = "clip"
    stream_field: str = ""


PRETEXTS: dict[str, Pretext] = {
    "hiclr": Pretext("engine.methods.hiclr", "HiCLR", "HiclrSettings", stream_field="views.stream"),
    "moco": Pretext("engine.methods.moco", "MoCo", "MocoSettings", stream_field="views.stream"),
    "cmd": Pretext("engine.methods.i2md", "I2MD", "CmdSettings", reads="two_crops"),
    "i2md": Pretext("engine.methods.i2md", "I2MD", "I2mdSettings", reads="two_crops"),
    "gl_transformer": Pretext("engine.methods.displacement", "Displacement", "DisplacementSettings"),
}


class PretextStep(nn.Module):
    """An :class:`engine.training.trainer.Objective` around a method: labels never reach it."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method
        # Some remember which clip a key is of.
        self._wants_items = "items" in inspect.signature(method.forward).parameters

    def forward(
        self, *, views: tuple[Tensor, ...], lengths: tuple[Tensor, ...], labels: Tensor, items: Tensor, seed: int
    ) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        further = {"items": items} if self._wants_items else {}
        outcome: Outcome = self.method(views, lengths, generator, across_processes, **further)
        return {"loss": outcome.loss} | outcome.parts

    @property
    def encoders(self) -> dict[Stream | None, nn.Module]:
        """What is kept: the query encoder (under None), or one per stream."""
        several = getattr(self.method, "encoders", None)
        if several is not None:
            return dict(several.items())
        encoder: nn.Module = self.method.encoder  # type: ignore[assignment]
        return {None: encoder}


def settings_model(method: str) -> type[BaseModel]:
    """The model of the settings of a method in :data:`PRETEXTS`."""
    model: type[BaseModel] = _load(PRETEXTS[method], PRETEXTS[method].settings)
    return model


def build_settings(recipe: PretrainRecipe) -> BaseModel:
    """The method's validated settings.

    Raises
    ------
    RecipeError
        The method is not there, or does not have such a setting or value.
    """
    pretext = _pretext(recipe)
    args: dict[str, Any] = copy.deepcopy(recipe.method_args)
    stream = recipe.preprocessing.stream
    if pretext.stream_field:
        *parents, last = pretext.stream_field.split(".")
        inner: Any = args
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if inner.setdefault(last, stream) != stream:
            raise RecipeError(
                f"method_args.{pretext.stream_field} is {inner[last]!r}, preprocessing.stream {stream!r}: leave the "
                "first out"
            )
    elif stream != "joint":
        raise RecipeError(f"preprocessing.stream: {recipe.method} reads joints and has no {stream} stream of its own")
    model = settings_model(recipe.method)
    try:
        settings: BaseModel = model.model_validate(args)
    except ValidationError as error:
        raise RecipeError(explain(error, model, "method_args")) from error
    return settings


def build_pretext(recipe: PretrainRecipe, steps_per_epoch: int, training_clips: int) -> PretextStep:
    """The recipe's method around fresh encoders; weights come from torch's own generator.

    Parameters
    ----------
    recipe : PretrainRecipe
    steps_per_epoch, training_clips : int
        What some methods count by: batches, and clips there are (each as often as an epoch repeats it).

    Raises
    ------
    RecipeError
        As :func:`build_settings`; or the backbone does not fit the method.
    """
    pretext, settings, spec = _pretext(recipe), build_settings(recipe), recipe.preprocessing
    method = _load(pretext, pretext.method)

    def make_encoder() -> nn.Module:
        return build_encoder(recipe.backbone, 1, spec.layout, spec.persons, recipe.backbone_args)

    # What a method may want to know beyond the contract, by the name of its parameter.
    known = {
        "steps_per_epoch": steps_per_epoch, "training_clips": training_clips, "seed": recipe.seed,
        # Less than the training set: the last, smaller batch of an epoch is left out.
        "clips_per_epoch": steps_per_epoch * recipe.batch,
        "normalisation": spec.normalisation,
    }  # fmt: skip
    wanted = inspect.signature(method).parameters
    further = {name: value for name, value in known.items() if name in wanted}
    try:
        with torch.random.fork_rng():
            width = int(make_encoder().feature_dim)  # type: ignore[arg-type]
        return PretextStep(method(make_encoder, width, settings, get_layout(spec.layout), **further))
    except ValueError as error:
        raise RecipeError(f"{recipe.method} with {recipe.backbone}: {error}") from error


def view_rules(recipe: PretrainRecipe, settings: BaseModel) -> tuple[Rule | None, ...]:
    """One crop rule per view; None is the evaluation's."""
    if _pretext(recipe).reads == "clip":
        return (None,)
    views = getattr(settings, "views", None)
    how = views if isinstance(views, CmdViews) else CmdViews(frames=recipe.preprocessing.frames)
    if how.frames != recipe.preprocessing.frames:
        raise RecipeError(
            f"method_args.views.frames is {how.frames}, preprocessing.frames {recipe.preprocessing.frames}; make them "
            "equal"
        )
    return (RandomCrop(how.frames, how.crop_low, 1.0, how.crop_least),) * 2


def _pretext(recipe: PretrainRecipe) -> Pretext:
    if recipe.method not in PRETEXTS:
        raise RecipeError(f"method: {recipe.method} is not built in here; there are {', '.join(PRETEXTS)}")
    return PRETEXTS[recipe.method]


def _load(pretext: Pretext, name: str) -> Any:
    return getattr(importlib.import_module(pretext.module), name)
