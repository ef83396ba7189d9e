"""The encoders a protocol judges: finding them, taking over what the recipe leaves open, building them anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from torch import nn

from engine.data.preprocess import Preprocessing, Stream
from engine.data.store import SequenceStore
from engine.models.card import CARD_FILE, WEIGHTS_FILE, CheckpointCard, CheckpointError, read_card
from engine.models.checkpoint import build_encoder, file_digest, load_encoder
from engine.paths import TRAINED_MODELS, runs
from engine.training.features import settle
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import RANDOM, ProtocolRecipe

R = TypeVar("R", bound=ProtocolRecipe)


@dataclass(frozen=True)
class Source:
    """Where a parent is: its folder and card; both None for fresh weights without a model to copy."""

    folder: Path | None
    card: CheckpointCard | None


@dataclass(frozen=True)
class ParentEncoder:
    """An encoder with a fresh classifier, how it wants to be fed, and what the parent was."""

    encoder: nn.Module
    spec: Preprocessing
    about: dict[str, Any]


def find_parent(source: str, stream: Stream | None = None) -> Path:
    """The checkpoint folder of a pretrained encoder.

    Parameters
    ----------
    source : str
        A checkpoint or run by its folder, or a run or shipped checkpoint by its name.
    stream : str, optional
        Which one, where there is one per stream.

    Raises
    ------
    RecipeError
        There is none, or several and no stream was named.
    """
    for place in (Path(source), runs() / source, TRAINED_MODELS / source):
        for folder in (place, place / "checkpoint"):
            if (folder / CARD_FILE).is_file():
                found = read_card(folder).preprocessing.stream
                if stream and found != stream:
                    raise RecipeError(f"parent_stream: the encoder in {folder} is of the {found} stream")
                return folder
            streams = [name for name in get_args(Stream) if (folder / name / CARD_FILE).is_file()]
            if stream is not None and stream in streams:
                return folder / stream
            if streams:
                raise RecipeError(f"parent: {folder} holds an encoder per stream ({', '.join(streams)}); name the one")
    raise RecipeError(f"parent: no checkpoint or finished run {source} (looked in {runs()} and {TRAINED_MODELS} too)")


def sources(recipe: ProtocolRecipe) -> list[Source]:
    """The parent and further parents of a recipe, in its order; raises :class:`RecipeError` as :func:`find_parent`."""
    if not recipe.parent:
        raise RecipeError("parent: name the encoder that is judged, a run or a checkpoint (--parent RUN)")
    if recipe.parent == RANDOM:
        if recipe.further_parents:
            raise RecipeError("further_parents: 'random' stands alone; name the parents and set untrained instead")
        return [Source(None, None)]
    wanted: list[tuple[str, Stream | None]] = [(recipe.parent, recipe.parent_stream)]
    for text in recipe.further_parents:
        name, _, last = text.rpartition(":")
        known = next((stream for stream in get_args(Stream) if stream == last), None)
        wanted.append((name, known) if name and known else (text, None))
    found = []
    for name, stream in wanted:
        folder = find_parent(name, stream)
        found.append(Source(folder, read_card(folder)))
    return found


def complete(recipe: R) -> R:
    """The recipe with everything filled in that it takes from its parents.

    Raises
    ------
    RecipeError
        A parent is missing, or the recipe asks of it what it is not.
    """
    found = sources(recipe)
    card = found[0].card
    if card is None:
        needed = ("backbone", "preprocessing", "dataset", "split")
        if lacking := [name for name in needed if not getattr(recipe, name)]:
            raise RecipeError(f"{', '.join(lacking)}: to be given where the parent is 'random'")
        taken: dict[str, Any] = {"backbone_args": recipe.backbone_args or {}}
    else:
        taken = {
            "backbone": card.backbone, "backbone_args": card.backbone_args | recipe.backbone_changes,
            "preprocessing": card.preprocessing,
            "parent_stream": recipe.parent_stream,
        }  # fmt: skip
        for name in ("backbone", "backbone_args", "preprocessing"):
            given = getattr(recipe, name)
            if given is not None and given != taken[name]:
                raise RecipeError(f"{name}: {recipe.parent} was trained with another; leave it out")
        transfer = bool(recipe.dataset) and recipe.dataset != card.dataset
        if transfer and not recipe.split:
            raise RecipeError(f"split: to be given with another dataset than the parent's ({card.dataset})")
        taken |= {"dataset": recipe.dataset or card.dataset, "split": recipe.split or card.split}
    # Whoever resumes the run may stand in another folder.
    taken["parent"], *taken["further_parents"] = map(_absolute, [recipe.parent, *recipe.further_parents], found)
    taken["parents"] = [_about(recipe, source) for source in found]
    if not recipe.name:
        target = [recipe.dataset] if card is not None and taken["dataset"] != card.dataset else []
        percent = [f"{100 * fraction:g}"] if (fraction := getattr(recipe, "fraction", None)) else []
        kind = ["untrained"] if recipe.untrained else []
        several = ["joined"] if recipe.further_parents else []
        stream = [recipe.parent_stream] if recipe.parent_stream and not several else []
        base = card.name if card else f"random_{recipe.backbone}"
        taken["name"] = "_".join([base, *stream, *several, *kind, recipe.task, *percent, *target])
    return type(recipe).model_validate(recipe.model_dump() | taken)


def _absolute(source: str, found: Source) -> str:
    """What names a parent, with its whole path where it was named by a relative one."""
    name, _, stream = source.rpartition(":")
    for place, suffix in ((source, ""), (name, f":{stream}")):
        relative = place and not Path(place).is_absolute()
        if relative and found.folder is not None and found.folder.is_relative_to(place):
            return f"{Path(place).resolve()}{suffix}"
    return source


def _about(recipe: ProtocolRecipe, source: Source) -> dict[str, Any]:
    if source.card is None or source.folder is None:
        return {"name": RANDOM, "method": RANDOM, "weights": "fresh"}
    card = source.card
    weights = (
        "fresh" if recipe.untrained else card.sha256.get(WEIGHTS_FILE) or file_digest(source.folder / WEIGHTS_FILE)
    )
    return {
        "name": card.name, "method": RANDOM if recipe.untrained else card.method, "stream": card.preprocessing.stream,
        "dataset": card.dataset, "split": card.split, "trained_on": card.trained_on, "recipe_hash": card.recipe_hash,
        "epochs": card.training.get("epochs"), "seed": card.training.get("seed"), "weights": weights,
    }  # fmt: skip


def build_parents(recipe: ProtocolRecipe, classes: int) -> list[ParentEncoder]:
    """The encoders of a completed recipe with a classifier for ``classes``; fresh weights from torch's own generator.

    Raises
    ------
    CheckpointError
        A parent's weights are damaged or do not fit its card.
    """
    built = []
    for number, (source, about) in enumerate(zip(sources(recipe), recipe.parents, strict=True)):
        card = source.card
        spec = card.preprocessing if card else recipe.preprocessing
        assert spec is not None and recipe.backbone is not None and recipe.backbone_args is not None
        backbone, args = recipe.backbone, recipe.backbone_args
        if number and card:
            backbone, args = card.backbone, card.backbone_args  # type: ignore[assignment]
        try:
            encoder = build_encoder(backbone, classes, spec.layout, spec.persons, args)
        except ValueError as error:
            raise RecipeError(f"backbone: {error}") from error
        if source.folder is not None and not recipe.untrained:
            _copy_all_but_classifier(encoder, source.folder)
        where = {"source": str(source.folder)} if source.folder else {}
        built.append(ParentEncoder(encoder, spec, about | where))
    return built


def settle_fresh(recipe: ProtocolRecipe, parents: list[ParentEncoder], store: SequenceStore, train: np.ndarray) -> None:
    """Let the batch norms of fresh encoders see the training clips, where the recipe says so."""
    for parent in parents:
        if recipe.settled and parent.about["weights"] == "fresh":
            settle(parent.encoder, store, train, parent.spec)


def _copy_all_but_classifier(encoder: nn.Module, folder: Path) -> None:
    trained, _ = load_encoder(folder)
    # What depends on the number of classes (the classifier, InfoGCN's priors) starts anew.
    fresh = encoder.state_dict()
    kept = {
        key: value for key, value in trained.state_dict().items()
        if not key.startswith("classifier.") and key in fresh and fresh[key].shape == value.shape
    }  # fmt: skip
    lacking = [key for key in fresh if key not in kept and not key.startswith("classifier.") and key != "priors"]
    if lacking:
        raise CheckpointError(f"{folder}: weights do not fit this encoder ({', '.join(lacking[:3])})")
    encoder.load_state_dict(fresh | kept)


def start_classifier(classifier: nn.Module, how: str, deviation: float) -> None:
    """First weights of a classifier; ``backbone`` leaves what the backbone drew."""
    if not isinstance(classifier, nn.Linear):
        raise RecipeError("classifier: this backbone has no linear one")
    with torch.no_grad():
        if how == "default":
            classifier.reset_parameters()
        elif how in ("normal", "xavier"):
            if how == "normal":
                nn.init.normal_(classifier.weight, 0.0, deviation)
            else:
                nn.init.xavier_normal_(classifier.weight)
            if classifier.bias is not None:
                nn.init.zeros_(classifier.bias)
