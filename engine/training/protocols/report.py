"""What a protocol leaves behind: results on the whole and the stricter test part, predictions, a checkpoint card."""

from __future__ import annotations

import datetime
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from engine.data.sets import DATASETS, base_name, split_indices
from engine.data.store import SequenceStore, open_cleaned
from engine.models.card import CheckpointCard, Result, read_card
from engine.models.checkpoint import environment
from engine.training.evaluate import Evaluation, stricter_splits
from engine.training.protocols.parent import ParentEncoder
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import ProtocolRecipe, TrainedProtocol
from engine.training.run_folder import RunFolder, write_atomically

PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True)
class Target:
    """What a protocol trains and tests on: store, positions of both parts, stricter readings of the test part."""

    store: SequenceStore
    train: np.ndarray
    test: np.ndarray
    stricter: dict[str, np.ndarray]

    def evaluation(self, logits: np.ndarray) -> Evaluation:
        """The test part with these logits float32 ``(N, K)``."""
        return Evaluation(logits, self.store.label[self.test], self.store.classes)


def open_target(recipe: ProtocolRecipe, stores: Path) -> Target:
    """Open the store of a completed recipe; raises :class:`StoreError` if it or its split is not there.

    Sequences without a class, which some splits hold for pretraining, are left out.
    """
    store = open_cleaned(stores / recipe.dataset)
    train, test = (part[store.label[part] >= 0] for part in split_indices(store, recipe.split))
    if not len(train) or not len(test):
        raise RecipeError(f"split: {recipe.split} of {recipe.dataset} has {len(train)} training and {len(test)} tests")
    return Target(store, train, test, stricter_splits(store, recipe.split, test))


def results_of(
    title: str, recipe: ProtocolRecipe, target: Target, tested: Evaluation, ranked: bool = True
) -> list[tuple[Result, Evaluation]]:
    """The result on the whole test part, and behind it those on its stricter readings.

    ``ranked``: every class has a score of its own, so that the five first of them mean something.
    """

    def result(name: str, split: str, part: Evaluation) -> tuple[Result, Evaluation]:
        top5 = part.top5 if ranked else None
        made = Result(name=name, dataset=recipe.dataset, split=split, count=part.count, top1=part.top1, top5=top5)
        return made, part

    rows = [result(title, recipe.split, tested)]
    for name, keep in target.stricter.items():
        rows.append(result(f"{title}, {name}", name, tested.subset(keep)))
    return rows


def write_results(
    recipe: ProtocolRecipe,
    folder: RunFolder,
    target: Target,
    parents: list[ParentEncoder],
    rows: list[tuple[Result, Evaluation]],
    seconds: float,
    **more: Any,
) -> None:
    """Write ``results.json`` and the predictions of the first result, with which streams are fused later."""
    tested = rows[0][1]
    data = io.BytesIO()
    names = np.array([target.store.names[int(i)] for i in target.test])
    np.savez(data, logits=tested.logits, labels=tested.labels, names=names, classes=np.array(tested.classes))
    write_atomically(folder.path / PREDICTIONS_FILE, data.getvalue())
    details = [
        result.model_dump(mode="json")
        | {"classes": part.classes, "per_class": part.per_class, "confusion": part.confusion.tolist()}
        for result, part in rows
    ]
    if folder.best.is_dir():
        details += [result.model_dump(mode="json") for result in read_card(folder.best).results]
    folder.write_json(
        folder.results_file,
        {
            "name": recipe.name, "task": recipe.task, "recipe_hash": recipe.digest(), "seed": recipe.seed,
            "reported": "last epoch", "seconds": seconds, "train": len(target.train), "test": len(target.test),
            "parent": parents[0].about, "parents": [parent.about for parent in parents], "results": details, **more,
        },
    )  # fmt: skip


def make_card(
    recipe: TrainedProtocol,
    target: Target,
    parent: ParentEncoder,
    encoder: nn.Module,
    results: list[Result],
    seconds: float,
    reported: str,
) -> CheckpointCard:
    """The card of the encoder with its classifier, which now can name actions."""
    published = DATASETS.get(base_name(recipe.dataset))
    assert recipe.backbone is not None
    return CheckpointCard(
        name=recipe.name,
        title=recipe.title,
        method=str(parent.about["method"]),
        backbone=recipe.backbone,
        backbone_args=recipe.backbone_args or {},
        feature_dim=encoder.feature_dim,  # type: ignore[arg-type]
        classes=target.store.classes,
        preprocessing=parent.spec,
        dataset=recipe.dataset,
        split=recipe.split,
        trained_on=list(dict.fromkeys([*parent.about.get("trained_on", []), recipe.dataset])),
        results=results,
        training={
            "protocol": recipe.task, "epochs": recipe.epochs, "repeat": recipe.repeat, "batch": recipe.batch,
            "seed": recipe.seed, "precision": recipe.precision, "lr": recipe.optimiser.lr, "clips": recipe.clips,
            "train": len(target.train), "seconds": round(seconds), "reported": reported,
        },
        parent=parent.about,
        recipe_hash=recipe.digest(),
        versions=environment(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        licence=published.licence if published else "the data are the user's own",
        limits=recipe.limits,
    )  # fmt: skip
