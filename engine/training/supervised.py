"""Supervised training of one encoder, readable from top to bottom.

A run is a folder: ``recipe.yaml``, ``events.jsonl`` (one JSON line per event, flushed), ``state.safetensors`` +
``state.json`` to go on after an interruption, and ``checkpoint/`` with weights and card. The last epoch is what is
reported; nothing is chosen by looking at the test part.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from engine.data.augment import training_clip
from engine.data.sets import DATASETS, base_name, split_indices, splits_of
from engine.data.store import SequenceStore
from engine.models.card import CheckpointCard, Decision, Result
from engine.models.checkpoint import build_encoder, environment, load_encoder, save_checkpoint
from engine.paths import TRAINED_MODELS
from engine.training.evaluate import evaluate_encoder
from engine.training.recipe import Recipe, RecipeError

CLIP_RESULT = "test sequences"
IDLE = "idle"


@dataclass
class TrainingData:
    """Sequences to draw from: ``(store, index)`` of the main set, and of the further ones by the same names."""

    main: SequenceStore
    train: np.ndarray
    test: np.ndarray
    further: list[tuple[SequenceStore, np.ndarray]]


def open_data(recipe: Recipe, stores: Path) -> TrainingData:
    """Open the stores of a recipe; further stores contribute only sequences of the main set's training part."""
    main = SequenceStore(stores / recipe.dataset)
    train, test = split_indices(main, recipe.split)
    names = [main.names[int(i)] for i in train]
    further = []
    for name in recipe.also_train_on:
        store = SequenceStore(stores / name)
        indices = store.indices_of(names)
        if store.classes != main.classes or len(indices) == 0:
            raise RecipeError(f"{name} does not hold sequences of {recipe.dataset} with the same classes")
        further.append((store, indices))
    return TrainingData(main, train, test, further)


def class_names(recipe: Recipe, data: TrainingData) -> list[str]:
    """The store's classes, and ``idle`` behind them where the recipe wants it."""
    return [*data.main.classes, *([IDLE] if recipe.idle_share else [])]


def copy_weights(encoder: nn.Module, classes: list[str], source: str) -> None:
    """Start from the weights of a checkpoint; classifier rows are matched by class name, new classes keep fresh ones.

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


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Rate at a (fractional, 0-based) epoch: linear warm-up, then steps or a cosine to zero."""
    optimiser = recipe.optimiser
    if epoch < optimiser.warmup_epochs:
        if optimiser.schedule == "step":
            return optimiser.lr * (math.floor(epoch) + 1) / optimiser.warmup_epochs
        return optimiser.lr * (epoch + 0.05) / optimiser.warmup_epochs
    if optimiser.schedule == "step":
        return optimiser.lr * 0.1 ** sum(epoch >= m for m in optimiser.milestones)
    done = (epoch - optimiser.warmup_epochs) / max(recipe.epochs - optimiser.warmup_epochs, 1)
    return optimiser.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class ClipSampler:
    """Draws the clips of one epoch; the generator is seeded by (seed, epoch), so any epoch can be repeated."""

    def __init__(self, recipe: Recipe, data: TrainingData, epoch: int) -> None:
        self.recipe, self.data = recipe, data
        self.rng = np.random.default_rng([recipe.seed, epoch])
        self.order = self.rng.permutation(np.repeat(np.arange(len(data.train)), recipe.repeat))
        classes = data.main.classes
        self.mirrored_label = np.arange(len(classes))
        for source, target in recipe.augmentation.mirror_labels.items():
            if source not in classes or target not in classes:
                raise RecipeError(f"mirror_labels: {source!r} or {target!r} is not a class of {data.main.name}")
            self.mirrored_label[classes.index(source)] = classes.index(target)

    def __len__(self) -> int:
        return len(self.order) // self.recipe.batch

    def batch(self, b: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Clips ``(N, C, T, V, M)`` and labels ``(N,)``; batches must be asked for in order."""
        clips, labels = [], []
        how = self.recipe.augmentation
        for i in self.order[b * self.recipe.batch : (b + 1) * self.recipe.batch]:
            store, index = self._choose(int(i))
            sequence = store.sequence(index)
            mirrored = how.mirror > 0 and self.rng.random() < how.mirror
            idle = self.recipe.idle_share > 0 and self.rng.random() < self.recipe.idle_share
            clips.append(training_clip(sequence, self.recipe.preprocessing, how, self.rng, mirrored, idle))
            label = int(self.mirrored_label[sequence.label]) if mirrored else sequence.label
            labels.append(len(self.mirrored_label) if idle else label)
        return torch.from_numpy(np.stack(clips)), torch.tensor(labels)

    def _choose(self, i: int) -> tuple[SequenceStore, int]:
        if self.data.further and self.rng.random() < self.recipe.also_share:
            store, indices = self.data.further[int(self.rng.integers(len(self.data.further)))]
            return store, int(indices[int(self.rng.integers(len(indices)))])
        return self.data.main, int(self.data.train[i])


class EventLog:
    """Appends JSON lines to ``events.jsonl`` and tells a listener."""

    def __init__(self, path: Path, listen: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._listen = listen

    def write(self, event: str, **values: Any) -> None:
        record = {"event": event, "at": time.time(), **values}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._listen:
            self._listen(record)

    def close(self) -> None:
        self._file.close()


def train(
    recipe: Recipe, stores: Path, run: Path, listen: Callable[[dict[str, Any]], None] | None = None
) -> CheckpointCard:
    """Train to the last epoch and write ``run/checkpoint``; goes on where an interrupted run of the recipe stopped.

    Raises
    ------
    RecipeError
        The run folder belongs to another recipe, or the recipe does not fit its stores.
    StoreError
        A store is not prepared.
    FloatingPointError
        The loss is not finite; the state of the last whole epoch is kept.
    """
    data = open_data(recipe, stores)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    spec = recipe.preprocessing
    classes = class_names(recipe, data)
    encoder = build_encoder(recipe.backbone, len(classes), spec.layout, spec.persons, recipe.backbone_args)
    if recipe.start_from:
        copy_weights(encoder, classes, recipe.start_from)
    optimiser = torch.optim.SGD(
        encoder.parameters(),
        lr=recipe.optimiser.lr,
        momentum=recipe.optimiser.momentum,
        weight_decay=recipe.optimiser.weight_decay,
        nesterov=recipe.optimiser.momentum > 0,
        fused=True,
    )
    first, seconds = _resume(run, recipe, encoder, optimiser)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), "utf-8")
    log = EventLog(run / "events.jsonl", listen)
    log.write(
        "start", recipe=recipe.name, epoch=first, epochs=recipe.epochs, train=len(data.train), test=len(data.test)
    )
    try:
        for epoch in range(first, recipe.epochs):
            began = time.perf_counter()
            loss, accuracy, clips = _epoch(recipe, data, epoch, encoder, optimiser, log)
            seconds += time.perf_counter() - began
            _save_state(run, recipe, epoch + 1, seconds, encoder, optimiser)
            tested: dict[str, float] = {}
            if (epoch + 1) % 5 == 0 or epoch + 1 == recipe.epochs:
                test = evaluate_encoder(encoder, data.main, data.test, spec, classes)
                tested = {"test_top1": test.top1, "test_top5": test.top5}
            rate = clips / (time.perf_counter() - began)
            log.write(
                "epoch", epoch=epoch + 1, loss=loss, train_top1=accuracy, clips_per_s=rate, seconds=seconds, **tested
            )
        card = _finish(recipe, data, encoder, run, seconds)
        log.write("done", top1=card.results[0].top1, seconds=seconds)
    except BaseException as error:
        log.write("failed", reason=f"{type(error).__name__}: {error}")
        raise
    finally:
        log.close()
    return card


def _epoch(
    recipe: Recipe,
    data: TrainingData,
    epoch: int,
    encoder: nn.Module,
    optimiser: torch.optim.Optimizer,
    log: EventLog,
) -> tuple[float, float, int]:
    sampler = ClipSampler(recipe, data, epoch)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    encoder.train()
    total, right, clips, began = 0.0, 0, 0, time.perf_counter()
    for b in range(len(sampler)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch + b / len(sampler))
        x, y = sampler.batch(b)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = encoder(x).logits
        loss = criterion(logits.float(), y)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is not finite in epoch {epoch + 1}, step {b + 1}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += float(loss.detach()) * len(y)
        right += int((logits.detach().argmax(1) == y).sum())
        clips += len(y)
        if (b + 1) % 20 == 0:
            log.write(
                "step", epoch=epoch + 1, step=b + 1, steps=len(sampler), loss=total / clips, train_top1=right / clips,
                clips_per_s=clips / (time.perf_counter() - began), lr=optimiser.param_groups[0]["lr"],
            )  # fmt: skip
    return total / max(clips, 1), right / max(clips, 1), clips


def _save_state(
    run: Path, recipe: Recipe, epoch: int, seconds: float, encoder: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    tensors = {f"encoder.{key}": value.detach().clone() for key, value in encoder.state_dict().items()}
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    for parameter, values in optimiser.state.items():
        if values.get("momentum_buffer") is not None:
            tensors[f"momentum.{names[id(parameter)]}"] = values["momentum_buffer"].detach().clone()
    about = {"epoch": str(epoch), "seconds": repr(seconds), "recipe": recipe.digest()}
    temporary = run / "state.tmp"
    save_file(tensors, temporary, metadata=about)
    temporary.replace(run / "state.safetensors")


def _resume(run: Path, recipe: Recipe, encoder: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    path = run / "state.safetensors"
    if not path.is_file():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    if about.get("recipe") != recipe.digest():
        raise RecipeError(f"{run} belongs to another recipe; choose another run folder or delete this one")
    tensors = load_file(path)
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in tensors.items() if k.startswith("encoder.")})
    for name, parameter in encoder.named_parameters():
        if f"momentum.{name}" in tensors:
            optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].clone()
    return int(about["epoch"]), float(about["seconds"])


def _finish(recipe: Recipe, data: TrainingData, encoder: nn.Module, run: Path, seconds: float) -> CheckpointCard:
    spec, published = recipe.preprocessing, DATASETS.get(base_name(recipe.dataset))
    classes = class_names(recipe, data)
    results = []
    test_sets = [(CLIP_RESULT, data.main, data.test, recipe.split)]
    for name in splits_of(data.main):
        if name != recipe.split and name.startswith(recipe.split):
            test_sets.append((f"{CLIP_RESULT}, {name}", data.main, split_indices(data.main, name)[1], name))
    names = [data.main.names[int(i)] for i in data.test]
    for store, _ in data.further:
        test_sets.append((f"{CLIP_RESULT}, {store.name}", store, store.indices_of(names), recipe.split))
    for title, store, indices, split in test_sets:
        tested = evaluate_encoder(encoder, store, indices, spec, classes)
        results.append(
            Result(name=title, dataset=store.name, split=split, count=tested.count, top1=tested.top1, top5=tested.top5)
        )
    card = CheckpointCard(
        name=recipe.name,
        title=recipe.title,
        backbone=recipe.backbone,
        backbone_args=recipe.backbone_args,
        feature_dim=encoder.feature_dim,  # type: ignore[arg-type]
        classes=classes,
        preprocessing=spec,
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
            "seconds": round(seconds),
            "processor": platform.processor() or platform.machine(),
            "reported": "last epoch",
            "start_from": recipe.start_from,
        },
        recipe_hash=recipe.digest(),
        versions=environment(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        licence=published.licence if published else "the data are the user's own",
        limits=recipe.limits,
    )
    return save_checkpoint(run / "checkpoint", card, encoder)
