"""A classifier for known and taught actions on the features of an encoder that stays as it is: seconds, without data.

Multinomial logistic regression. The known classes are rehearsed with the examples kept beside the checkpoint, and their
weights are drawn towards what they were, so that what was learned before is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from engine.live.taught import TaughtError
from engine.teach.known import KnownFeatures
from engine.teach.learn import Examples

STRENGTH = 3e-5
# Added to the logits of new classes: few takes leave them too modest beside classes with many (benchmarks/teach.md).
PREFERENCE = 0.4
ITERATIONS = 300


@dataclass(frozen=True, eq=False)
class Head:
    """``weight`` float32 ``(K + n, D)``, ``bias`` float32 ``(K + n,)`` for ``classes``."""

    classes: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits ``(N, K + n)``."""
        return np.asarray(features @ self.weight.T + self.bias)


def train_head(
    known: KnownFeatures,
    classifier: tuple[np.ndarray, np.ndarray],
    examples: Sequence[Examples],
    strength: float = STRENGTH,
    iterations: int = ITERATIONS,
) -> Head:
    """Fit the head; the same input gives the same result.

    Parameters
    ----------
    known : KnownFeatures
        Of the encoder's own classes, with examples.
    classifier : tuple of numpy.ndarray
        Its weight ``(K, D)`` and bias ``(K,)``: where the known rows start, and what they are drawn to.
    examples : sequence of Examples
        Taught actions. One with the name of a known class adds to that class. ``against`` teaches what it is not.
    strength : float
        Of the pull towards the start (zero for new rows), against the mean loss of a class.

    Raises
    ------
    TaughtError
        No takes, or no examples of the known classes.
    """
    new = tuple(e.name for e in examples if e.takes and e.name not in known.classes)
    if not any(e.takes or e.against for e in examples):
        raise TaughtError("there is no take to learn from; record one first")
    if not len(known.examples):
        raise TaughtError("no examples of the known classes were kept; main.py teach known CHECKPOINT makes them")
    classes = (*known.classes, *new)
    x, y, sign = _rows(known, examples, classes)
    counts = np.bincount(y[sign > 0], minlength=len(classes))
    share = 1.0 / (np.maximum(counts, 1)[y] * (counts > 0).sum())
    # What something is not says less than what something is: all counter-examples of a class weigh as half its takes.
    wrong = np.bincount(y[sign < 0], minlength=len(classes))
    share = np.where(sign > 0, share, 0.5 / (np.maximum(wrong, 1)[y] * (counts > 0).sum()))
    # Around their middle and of about length 1, so that the search is quick whatever the encoder's features are like.
    centre = known.examples.astype(np.float64).mean(0)
    scale = max(float(np.sqrt(((x - centre) ** 2).sum(1).mean())), 1e-9)
    design = np.concatenate([(x - centre) / scale, np.ones((len(x), 1))], 1)
    old = len(known.classes)
    start = np.zeros((len(classes), design.shape[1]))
    start[:old, :-1], start[:old, -1] = classifier[0] * scale, classifier[1] + classifier[0] @ centre
    start[old:, -1] = start[:old, -1].mean()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows = flat.reshape(start.shape)
        value, slope = loss_and_slope(design @ rows.T, y, sign, share)
        pull = rows - start
        return value + 0.5 * strength * float((pull**2).sum()), (slope.T @ design + strength * pull).ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": iterations}).x
    rows = found.reshape(start.shape)
    rows[old:, -1] += PREFERENCE
    weight = rows[:, :-1] / scale
    return Head(classes, weight.astype(np.float32), (rows[:, -1] - weight @ centre).astype(np.float32))


def loss_and_slope(logits: np.ndarray, y: np.ndarray, sign: np.ndarray, share: np.ndarray) -> tuple[float, np.ndarray]:
    """Weighted loss and its derivative by the logits ``(N, C)``.

    Per row ``-log p_y`` where it is of the class (``sign`` 1), ``-log(1 - p_y)`` where it is not (-1).
    """
    shifted = logits - logits.max(1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(1, keepdims=True)
    p /= total
    at = np.arange(len(y))
    # From the logits, not from p: where p is zero the loss must still tell the search which way is better.
    log_own = shifted[at, y] - np.log(total[:, 0])
    own = np.minimum(p[at, y], 1 - 1e-9)
    value = float((share * -np.where(sign > 0, log_own, np.log1p(-own))).sum())
    one = np.zeros_like(p)
    one[at, y] = 1
    factor = np.where(sign > 0, -1.0, own / (1 - own))
    return value, (share * factor)[:, None] * (one - p)


def _rows(
    known: KnownFeatures, examples: Sequence[Examples], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features ``(N, D)``, classes ``(N,)`` and signs ``(N,)`` of everything to learn from."""
    x, y = [known.examples.astype(np.float64)], [known.labels]
    sign = [np.ones(len(known.labels))]
    for example in examples:
        if example.name not in classes:
            continue
        for takes, what in ((example.takes, 1.0), (example.against, -1.0)):
            for take in takes:
                x.append(take.astype(np.float64))
                y.append(np.full(len(take), classes.index(example.name)))
                sign.append(np.full(len(take), what))
    return np.concatenate(x), np.concatenate(y).astype(np.int64), np.concatenate(sign)
