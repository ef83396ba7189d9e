"""Pretraining without labels: clips of one store or several, a method, a probe now and then, encoders at the end."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from engine.data.batch import BodyFrames, ClipLoader, ClipMaker
from engine.data.preprocess import Preprocessing, Stream
from engine.data.sets import DATASETS, base_name, split_indices
from engine.data.store import SequenceStore, open_cleaned
from engine.models.card import CheckpointCard, Result
from engine.models.checkpoint import environment, save_checkpoint
from engine.skeleton.convert import convertible
from engine.training.compiling import compile_encoder
from engine.training.devices import hardware, share_batch_norms
from engine.training.features import extract, join
from engine.training.joined import JoinedLoader, Part
from engine.training.optimisers import learning_rate, make_optimiser
from engine.training.pretext import PretextStep, build_pretext, build_settings, view_rules
from engine.training.probe import nearest_neighbours, ridge, share_right
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import PretrainRecipe, Probe
from engine.training.run_folder import EventLog, Listener, RunFolder
from engine.training.session import in_run_folder
from engine.training.trainer import Trainer

# The class of an encoder that was never told any.
UNLABELLED_CLASS = "unlabelled"


def open_parts(recipe: PretrainRecipe, stores: Path) -> tuple[list[Part], np.ndarray]:
    """Training parts of the recipe's stores, its own first, and the test part of that one.

    Raises
    ------
    StoreError
        A store is not prepared, or has no such split.
    RecipeError
        A store's joints can't be converted to those of the recipe.
    """
    layout = recipe.preprocessing.layout
    parts: list[Part] = []
    test = np.zeros(0, np.int64)
    for name, split in ((recipe.dataset, recipe.split), *recipe.also.items()):
        store = open_cleaned(stores / name)
        if not convertible(store.layout, layout):
            raise RecipeError(f"{name} has {store.layout} joints, which can't be converted to {layout}")
        train, tested = split_indices(store, split)
        if not parts:
            test = tested
        parts.append(Part(store, train))
    return parts, test


def pretraining_loader(
    recipe: PretrainRecipe, parts: list[Part], rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
) -> ClipLoader:
    """The loader of a recipe's views: plain joints, read as its method wants them.

    Raises
    ------
    RecipeError
        Fewer clips than a batch, or views that do not fit the clip.
    """
    device = torch.device(device)
    rules = view_rules(recipe, build_settings(recipe))
    # Streams are made behind the augmentation, by the method.
    spec = recipe.preprocessing.model_copy(update={"stream": "joint"})
    makers = []
    for part in parts:
        frames = BodyFrames(part.store, device if device.type == "cuda" else None)
        makers.append([ClipMaker(frames, spec, rule) for rule in rules])
    loader = JoinedLoader(
        makers, [part.indices for part in parts], recipe.batch // world, shuffle=True, seed=recipe.seed,
        repeat=recipe.repeat, drop_last=True, rank=rank, world=world, device=device,
    )  # fmt: skip
    if len(loader) == 0:
        clips = sum(len(part.indices) for part in parts) * recipe.repeat
        raise RecipeError(f"{clips} training clips are fewer than one batch of {recipe.batch}")
    return loader


def encoder_specs(recipe: PretrainRecipe, step: PretextStep) -> list[tuple[Stream | None, nn.Module, Preprocessing]]:
    """Every encoder that is kept, with its stream where there are several, and how it wants to be fed."""
    return [
        (stream, encoder, recipe.preprocessing.model_copy(update={"stream": stream} if stream else {}))
        for stream, encoder in step.encoders.items()
    ]


def probe_encoders(
    encoders: list[tuple[Stream | None, nn.Module, Preprocessing]],
    store: SequenceStore,
    train: np.ndarray,
    test: np.ndarray,
    settings: Probe,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracies of frozen features on the test part: ``probe_knn`` and ``probe_linear``, and of each stream's encoder.

    With several encoders the plain names are those of their joined features. Of more than ``settings.most`` sequences
    the same ones are drawn at every probe.
    """
    # A pretraining part may hold sequences whose class nobody named.
    train, test = (_some(indices[store.label[indices] >= 0], settings.most, seed) for indices in (train, test))
    if not len(train) or not len(test) or not (settings.neighbours or settings.linear):
        return {}
    labels, wanted = (torch.from_numpy(store.label[indices]) for indices in (train, test))
    sides = [[extract(encoder, store, which, spec) for _, encoder, spec in encoders] for which in (train, test)]
    rows = [("", join(sides[0]), join(sides[1]))]
    if len(encoders) > 1:
        rows += [
            (f"_{stream}", a, b) for (stream, _, _), a, b in zip(encoders, sides[0], sides[1], strict=True)
        ]  # fmt: skip
    found, classes = {}, len(store.classes)
    for name, a, b in rows:
        if settings.neighbours:
            k = settings.neighbours
            votes = nearest_neighbours(a, labels, b, classes, [k], settings.temperature)[k]
            found[f"probe_knn{name}"] = share_right(votes, wanted)
        if settings.linear:
            found[f"probe_linear{name}"] = share_right(ridge(a, labels, b, classes), wanted)
    return found


def _some(indices: np.ndarray, most: int, seed: int) -> np.ndarray:
    if len(indices) <= most:
        return indices
    return np.sort(np.random.default_rng([seed, most]).choice(indices, most, replace=False))


def pretrain(
    recipe: PretrainRecipe, stores: Path, run: Path, listen: Listener | None = None
) -> list[CheckpointCard] | None:
    """Pretrain to the last epoch and write ``run/checkpoint``; goes on where an interrupted run stopped.

    A method with one encoder leaves ``run/checkpoint``, one with an encoder per stream ``run/checkpoint/STREAM`` each.

    Returns
    -------
    list of CheckpointCard or None
        None if the run was asked to stop before its end.

    Raises
    ------
    RecipeError, RunError, StoreError, FloatingPointError
        As :func:`engine.training.supervised.train`.
    """
    parts, test = open_parts(recipe, stores)
    return in_run_folder(recipe, run, listen, lambda *where: _pretrain(recipe, parts, test, *where))


def _pretrain(
    recipe: PretrainRecipe, parts: list[Part], test: np.ndarray, folder: RunFolder, fabric: Fabric, log: EventLog
) -> list[CheckpointCard] | None:
    loader = pretraining_loader(recipe, parts, fabric.global_rank, fabric.world_size, fabric.device)
    clips = sum(len(part.indices) for part in parts) * recipe.repeat
    with warnings.catch_warnings(record=True) as warned:
        step = build_pretext(recipe, len(loader), clips)
    if recipe.sync_batchnorm:
        share_batch_norms(step, fabric)
    optimiser = make_optimiser(recipe.optimiser, step.parameters(), recipe.precision)
    encoders = encoder_specs(recipe, step)
    main = parts[0]

    def probe() -> dict[str, float]:
        return probe_encoders(encoders, main.store, main.indices, test, recipe.probe, recipe.seed)

    def no_best(epoch: int, tested: dict[str, float]) -> None:
        raise AssertionError("pretraining keeps no best epoch")

    trainer = Trainer(
        recipe, fabric, step, optimiser, loader, lambda epoch: learning_rate(recipe, epoch), folder, log, probe, no_best
    )
    for warning in warned:
        log.write("warning", text=str(warning.message))
    for _, encoder, _ in encoders:
        if (missing := compile_encoder(encoder, recipe.compile, fabric.device)) is not None:
            log.write("compile", compiled=not missing, reason=missing)
    machine = hardware(fabric)
    if fabric.is_global_zero:
        folder.write_json(folder.environment_file, environment() | machine)
    about = {
        "recipe": recipe.name, "task": recipe.task, "train": sum(len(part.indices) for part in parts),
        "test": len(test), "parent": None, **machine,
    }  # fmt: skip
    if not trainer.run(**about):
        return None
    cards = []
    if fabric.is_global_zero:
        seconds = trainer.progress.seconds
        results = _results(recipe, main.store, test, probe())
        for stream, encoder, spec in encoders:
            card = _card(recipe, spec, encoder, results if stream is None else _of_stream(results, stream), seconds)
            place = folder.checkpoint / stream if stream else folder.checkpoint
            cards.append(save_checkpoint(place, card, encoder))
        folder.write_json(
            folder.results_file,
            {
                "name": recipe.name, "task": recipe.task, "recipe_hash": recipe.digest(), "epochs": recipe.epochs,
                "seed": recipe.seed, "reported": "last epoch", "seconds": seconds, "parent": None,
                "results": [result.model_dump(mode="json") for result in results],
            },
        )  # fmt: skip
        best = {"top1": results[0].top1} if results else {}
        log.write("end", epoch=recipe.epochs, seconds=seconds, **best)
    fabric.barrier()
    return cards


def _results(recipe: PretrainRecipe, store: SequenceStore, test: np.ndarray, probed: dict[str, float]) -> list[Result]:
    """The last probe as results; they say what they are, so that nobody takes them for a protocol's."""
    count = min(int((store.label[test] >= 0).sum()), recipe.probe.most)
    words = {"knn": f"nearest neighbours, k = {recipe.probe.neighbours}", "linear": "ridge regression"}
    results = []
    for key, value in probed.items():
        _, kind, *stream = key.split("_", 2)
        name = ", ".join(["probe", words[kind], *stream])
        results.append(Result(name=name, dataset=store.name, split=recipe.split, count=count, top1=value))
    return results


def _of_stream(results: list[Result], stream: str) -> list[Result]:
    return [result for result in results if result.name.endswith(f", {stream}")]


def _card(
    recipe: PretrainRecipe, spec: Preprocessing, encoder: nn.Module, results: list[Result], seconds: float
) -> CheckpointCard:
    licences = [
        DATASETS[base].licence for name in (recipe.dataset, *recipe.also) if (base := base_name(name)) in DATASETS
    ]
    training: dict[str, Any] = {
        "epochs": recipe.epochs, "repeat": recipe.repeat, "batch": recipe.batch, "seed": recipe.seed,
        "precision": recipe.precision, "lr": recipe.optimiser.lr, "seconds": round(seconds), "reported": "last epoch",
        "joined": recipe.also,
    }  # fmt: skip
    return CheckpointCard(
        name=recipe.name,
        title=recipe.title,
        method=recipe.method,
        backbone=recipe.backbone,
        backbone_args=recipe.backbone_args,
        feature_dim=encoder.feature_dim,  # type: ignore[arg-type]
        classes=[UNLABELLED_CLASS],
        classifier_trained=False,
        preprocessing=spec,
        dataset=recipe.dataset,
        split=recipe.split,
        trained_on=[recipe.dataset, *recipe.also],
        results=results,
        training=training,
        recipe_hash=recipe.digest(),
        versions=environment(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        licence="; ".join(dict.fromkeys(licences)) or "the data are the user's own",
        limits=recipe.limits,
    )
