"""Two or more checkpoints side by side on the same sequences: the numbers of a comparison, from logits and features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import bdtr

from engine.models.card import CheckpointError
from engine.training.calibrate import calibration_error, softmax

BINS = 15
# More points than this can't be told apart on a screen.
MAP_POINTS = 3000


class CompareError(CheckpointError):
    """These checkpoints can't be compared on these data; the text says why and what can."""


@dataclass(frozen=True)
class Answers:
    """What one checkpoint says about the compared sequences.

    ``logits`` float32 ``(N, K)`` in the order of ``classes``, ``features`` float32 ``(N, D)``; ``temperature`` is the
    card's.
    """

    classes: tuple[str, ...]
    logits: np.ndarray
    features: np.ndarray
    temperature: float = 1.0


def shared_classes(lists: Sequence[Sequence[str]]) -> list[str]:
    """Classes that stand in all lists, in the order of the first."""
    return [name for name in lists[0] if all(name in other for other in lists[1:])]


def predicted(answers: Answers, shared: Sequence[str]) -> np.ndarray:
    """Position ``(N,)`` of every answer among the shared classes; ``len(shared)`` for any other class.

    An encoder answers with all its classes, as it does in use: one that knows more can also be wrong in more ways.
    """
    place = {name: i for i, name in enumerate(shared)}
    table = np.array([place.get(name, len(shared)) for name in answers.classes])
    return table[answers.logits.argmax(1)]


def confusion(labels: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """int64 ``(K, K + 1)``: rows are true classes; the last column counts answers outside the shared classes."""
    return np.bincount(labels * (classes + 1) + said, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def recalls(matrix: np.ndarray) -> list[float | None]:
    """Accuracy of every class, None where none was tested."""
    total = matrix.sum(1)
    return [float(matrix[i, i] / n) if n else None for i, n in enumerate(total)]


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = BINS) -> dict[str, list[Any]]:
    """Reliability curve over equal bins of the highest score (Guo et al., ICML 2017): count, mean score, accuracy."""
    which = np.minimum((scores * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)

    def means(values: np.ndarray) -> list[float | None]:
        total = np.bincount(which, values, minlength=bins)
        return [float(t / n) if n else None for t, n in zip(total, count, strict=True)]

    return {"count": count.tolist(), "score": means(scores), "accuracy": means(right.astype(float))}


def principal_map(features: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """The features' first two principal components ``(N, 2)`` and the share of variance each explains.

    Scaled to unit root mean square, each axis turned so that its largest loading is positive.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    n, d = centred.shape
    if n < 2 or not np.isfinite(centred).all() or not centred.any():
        return np.zeros((n, 2)), [0.0, 0.0]
    if d <= n:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :2]
        variance = np.maximum(values[::-1], 0.0)
    else:
        _, spread, rows = np.linalg.svd(centred, full_matrices=False)
        axes, variance = rows[:2].T, spread**2
    if axes.shape[1] < 2:
        axes = np.concatenate([axes, np.zeros((d, 2 - axes.shape[1]))], 1)
    sign = np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    points = centred @ (axes * np.where(sign == 0, 1, sign))
    shares = [float(v) for v in (variance / variance.sum())[:2]] + [0.0, 0.0]
    return points / np.sqrt((points**2).sum(1).mean()), shares[:2]


def turned_onto(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Points ``(N, 2)`` turned or mirrored to lie as near as possible to the reference (orthogonal Procrustes).

    The directions of principal axes are arbitrary; two maps of the same sequences should not differ by that.
    """
    left, _, right = np.linalg.svd(points.T @ reference)
    return points @ (left @ right)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar test: how probable so uneven a split of the differing answers is by chance."""
    n = only_first + only_second
    if n == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), n, 0.5)))


def kappa(one: np.ndarray, other: np.ndarray, classes: int) -> float:
    """Cohen's kappa of two lists of answers: agreement beyond what their frequencies alone would give."""
    agreement = float((one == other).mean())
    shares = [np.bincount(said, minlength=classes) / len(said) for said in (one, other)]
    chance = float(shares[0] @ shares[1])
    return 1.0 if chance >= 1.0 else (agreement - chance) / (1 - chance)


def compare_pair(a: int, b: int, said: Sequence[np.ndarray], labels: np.ndarray, classes: int) -> dict[str, Any]:
    """How two checkpoints agree: shares of all sequences, and accuracy per class of the second less the first."""
    right = [said[i] == labels for i in (a, b)]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    per_class = [recalls(confusion(labels, said[i], classes)) for i in (a, b)]
    return {
        "a": a,
        "b": b,
        "agreement": float((said[a] == said[b]).mean()),
        "kappa": kappa(said[a], said[b], classes + 1),
        "both_right": int((right[0] & right[1]).sum()),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "both_wrong": int((~right[0] & ~right[1]).sum()),
        "accuracy_difference": float(right[1].mean() - right[0].mean()),
        "p_value": mcnemar(only_a, only_b),
        "class_difference": [None if x is None or y is None else y - x for x, y in zip(*per_class, strict=True)],
    }


def compare_answers(answers: Sequence[Answers], labels: np.ndarray, shared: Sequence[str]) -> dict[str, Any]:
    """All numbers of a comparison.

    Parameters
    ----------
    answers : sequence of Answers
        For the same sequences in the same order.
    labels : numpy.ndarray
        int64 ``(N,)``, positions in ``shared``.
    shared : sequence of str
        The compared classes.

    Returns
    -------
    dict
        ``models``, one entry per checkpoint (``top1``, ``per_class``, ``confusion``, ``predicted``, ``score``,
        ``calibration_error``, ``reliability``, ``map``, ``explained``), ``pairs``, and ``map_rows``, the positions of
        the mapped sequences. Plain values, ready for JSON.
    """
    if len(labels) == 0:
        raise CompareError("there is no sequence to compare on")
    k = len(shared)
    rows = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MAP_POINTS)).astype(int))
    models, said, first_map = [], [], None
    for each in answers:
        if not np.isfinite(each.logits).all():
            raise CompareError("a checkpoint's logits are not finite: its weights are damaged")
        answer = predicted(each, shared)
        scores = softmax(each.logits.astype(np.float64), each.temperature).max(1)
        right = answer == labels
        matrix = confusion(labels, answer, k)
        points, explained = principal_map(each.features[rows])
        if first_map is None:
            first_map = points
        else:
            points = turned_onto(points, first_map)
        said.append(answer)
        models.append(
            {
                "top1": float(right.mean()),
                "per_class": recalls(matrix),
                "confusion": matrix.tolist(),
                "predicted": answer.tolist(),
                "score": np.round(scores, 4).tolist(),
                "calibration_error": calibration_error(scores, right),
                "mean_score": float(scores.mean()),
                "reliability": reliability(scores, right),
                "map": np.round(points, 4).tolist(),
                "explained": explained,
            }
        )
    pairs = [compare_pair(a, b, said, labels, k) for a, b in combinations(range(len(answers)), 2)]
    return {"models": models, "pairs": pairs, "map_rows": rows.tolist()}
