"""Several encoders of different streams as one: weighted sums of their logits, on one test part.

Weights are the published ones, equal ones, given ones, or fitted on the training part; never on the test part.
Sources: skeletongcl.md, section 5; i2md.md, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from torch import nn

from engine.data.sets import base_name, split_indices
from engine.data.store import SequenceStore
from engine.models.card import CheckpointCard, CheckpointError, require_classifier
from engine.models.checkpoint import load_encoder
from engine.training.evaluate import Evaluation, evaluate_encoder, stricter_splits

# Sums of raw logits, by the streams that take part (section 5).
_PUBLISHED = {
    ("bone", "joint"): {"joint": 1.0, "bone": 1.0},
    ("bone", "joint", "joint_motion"): {"joint": 0.6, "bone": 0.6, "joint_motion": 0.4},
    ("bone", "bone_motion", "joint", "joint_motion"): {
        "joint": 0.6, "bone": 0.6, "joint_motion": 0.4, "bone_motion": 0.4,
    },
}  # fmt: skip
# InfoGCN's, for any number of streams.
_POSITION, _MOTION = 1.5, 1.0
# Pretrainings whose paper takes the plain mean of its streams' logits (moco3 is cmd without distillation).
_MEAN = {"cmd", "i2md"}


class EnsembleError(CheckpointError):
    """These checkpoints make no ensemble, or there are no such weights; the text says why."""


@dataclass(frozen=True)
class Member:
    """One encoder of an ensemble, and what it says about the test part (and the training part, where it was asked)."""

    card: CheckpointCard
    test: Evaluation
    train: Evaluation | None = None

    @property
    def stream(self) -> str:
        """The card's stream, with InfoGCN's order where it has one: ``joint``, ``bone``, ``joint k=1`` ..."""
        order = self.card.backbone_args.get("order")
        return self.card.preprocessing.stream + (f" k={order}" if order else "")


def published_weights(cards: Sequence[CheckpointCard]) -> list[float]:
    """The published weights of the streams of some encoders, in their order.

    What encoders were pretrained by decides first: CMD's and I2MD's give the mean of the logits, whatever the backbone.

    Raises
    ------
    EnsembleError
        No paper gives weights for these streams, or a stream comes twice.
    """
    if {card.method for card in cards} <= _MEAN:
        if len({card.preprocessing.stream for card in cards}) < len(cards):
            raise EnsembleError("a stream comes twice; published ensembles have one encoder per stream")
        return [1 / len(cards)] * len(cards)
    backbones = {card.backbone for card in cards}
    if backbones == {"infogcn"}:
        keys = [(card.preprocessing.stream, card.backbone_args.get("order")) for card in cards]
        if len(set(keys)) < len(keys):
            raise EnsembleError("a stream comes twice; published ensembles have one encoder per stream")
        return [_MOTION if stream.endswith("motion") else _POSITION for stream, _ in keys]
    if "infogcn" in backbones:
        raise EnsembleError("no published weights for InfoGCN together with other backbones; use --weights equal")
    streams = [card.preprocessing.stream for card in cards]
    known = _PUBLISHED.get(tuple(sorted(streams)))
    if known is None:
        sets = "; ".join(", ".join(weights) for weights in _PUBLISHED.values())
        raise EnsembleError(
            f"no published weights for {', '.join(streams)} (there are: {sets}); use --weights equal, fitted or numbers"
        )
    return [known[stream] for stream in streams]


def combined(logits: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Weighted sum ``(N, K)`` of raw logits ``(S, N, K)``, without a softmax."""
    return np.einsum("s,snk->nk", np.asarray(weights, np.float64), logits.astype(np.float64))


def fit_weights(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """Weights that minimise the mean cross entropy of the combined logits: at least 0, in sum as many as streams.

    The problem is convex. The sum is fixed because logits of sequences the encoders were trained on call for ever
    larger weights; only the ratio matters for the answer.

    Parameters
    ----------
    logits : numpy.ndarray
        ``(S, N, K)``, of training sequences.
    labels : numpy.ndarray
        int64 ``(N,)``.
    """
    streams, count = len(logits), len(labels)
    rows = np.arange(count)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = combined(logits, weights.tolist())
        z -= z.max(1, keepdims=True)
        scores = np.exp(z)
        scores /= scores.sum(1, keepdims=True)
        value = -np.log(np.maximum(scores[rows, labels], 1e-300)).mean()
        scores[rows, labels] -= 1
        return float(value), np.einsum("nk,snk->s", scores, logits.astype(np.float64)) / count

    found = minimize(
        loss, np.ones(streams), jac=True, method="SLSQP", bounds=[(0, streams)] * streams,
        constraints={"type": "eq", "fun": lambda w: w.sum() - streams, "jac": lambda w: np.ones(streams)},
    )  # fmt: skip
    return [round(float(weight), 4) for weight in np.clip(found.x, 0, None)]


def members_of(
    folders: Sequence[Path], stores: Path, dataset: str | None, split: str | None, device: str, train: bool
) -> tuple[list[Member], SequenceStore, str]:
    """Test encoders on the same test sequences, each read from the store it was trained on.

    Parameters
    ----------
    folders : sequence of Path
        Checkpoint folders.
    stores : Path
        Where prepared stores are.
    dataset, split : str or None
        Default: those of the first checkpoint. Another dataset takes the place of every checkpoint's own.
    device : str
        Where the encoders run.
    train : bool
        Also ask about the training part.

    Returns
    -------
    members, store, split
        The store is the first checkpoint's.

    Raises
    ------
    EnsembleError
        Other classes or another dataset, or a store without all of the sequences.
    """
    encoders = [load_encoder(folder) for folder in folders]
    first = encoders[0][1]
    main = SequenceStore(stores / (dataset or first.dataset))
    split = split or first.split
    train_part, test_part = split_indices(main, split)
    names = [[main.names[int(i)] for i in part] for part in (train_part, test_part)]
    members = []
    for folder, (encoder, card) in zip(folders, encoders, strict=True):
        require_classifier(card, folder)
        store = main if dataset or card.dataset == main.name else SequenceStore(stores / card.dataset)
        if base_name(store.name) != base_name(main.name) or card.classes != first.classes:
            raise EnsembleError(
                f"{card.name} knows {card.dataset} and its classes, {first.name} those of {first.dataset}"
            )
        if store.classes != [name for name in card.classes if name != card.decision.idle_class]:
            raise EnsembleError(f"{store.name} has other classes than {card.name}")
        if card.split != first.split:
            raise EnsembleError(f"{card.name} was trained on split {card.split}, {first.name} on {first.split}")
        parts = [store.indices_of(wanted) for wanted in names] if store is not main else [train_part, test_part]
        if [len(part) for part in parts] != [len(wanted) for wanted in names]:
            raise EnsembleError(f"{store.name} does not hold all sequences of {main.name} {split}")
        encoder.to(device)
        asked = [_evaluated(encoder, store, part, card) for part in (parts[1:] if not train else parts[::-1])]
        members.append(Member(card, *asked))
        encoder.cpu()
    return members, main, split


def _evaluated(encoder: nn.Module, store: SequenceStore, part: np.ndarray, card: CheckpointCard) -> Evaluation:
    return evaluate_encoder(encoder, store, part, card.preprocessing, card.classes)


def choose_weights(members: Sequence[Member], wish: str) -> list[float]:
    """Weights by their name (``published``, ``equal``, ``fitted``) or as numbers, ``0.6,0.4``.

    Raises
    ------
    EnsembleError
        No such weights, or not one number per checkpoint.
    """
    if wish == "published":
        return published_weights([member.card for member in members])
    if wish == "equal":
        return [1.0] * len(members)
    if wish == "fitted":
        trained = [member.train for member in members]
        if any(part is None for part in trained):
            raise ValueError("fitted weights need the members' answers to the training part")
        return fit_weights(np.stack([part.logits for part in trained if part]), trained[0].labels)  # type: ignore[union-attr]
    try:
        weights = [float(word) for word in wish.split(",")]
    except ValueError:
        raise EnsembleError(f"weights {wish!r}: published, equal, fitted, or numbers such as 0.6,0.4") from None
    if len(weights) != len(members) or not np.isfinite(weights).all() or not any(weights):
        raise EnsembleError(f"{len(members)} checkpoints need as many finite weights, not all zero; got {wish}")
    return weights


def report(members: Sequence[Member], store: SequenceStore, split: str, wish: str) -> dict[str, Any]:
    """The ensemble's numbers and its members', on the split and its stricter readings (``xview_clean``)."""
    weights = choose_weights(members, wish)
    first = members[0].test
    whole = Evaluation(
        combined(np.stack([member.test.logits for member in members]), weights), first.labels, first.classes
    )
    test = split_indices(store, split)[1]
    keeps = {split: np.ones(len(test), bool)} | stricter_splits(store, split, test)

    def numbers(tested: Evaluation) -> dict[str, dict[str, Any]]:
        parts = {name: tested.subset(keep) for name, keep in keeps.items()}
        return {name: {"top1": part.top1, "top5": part.top5, "count": part.count} for name, part in parts.items()}

    return whole.as_dict() | {
        "dataset": store.name, "split": split, "weights": wish, "classes": whole.classes,
        "confusion": whole.confusion.tolist(), "splits": numbers(whole),
        "members": [
            {
                "checkpoint": member.card.name, "backbone": member.card.backbone, "method": member.card.method,
                "stream": member.stream, "weight": weight, "splits": numbers(member.test),
                "train_top1": member.train.top1 if member.train else None,
            }
            for member, weight in zip(members, weights, strict=True)
        ],
    }  # fmt: skip
