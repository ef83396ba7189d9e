"""Actions a user taught: further classes beside an encoder's own, recognised from its features without training.

Plain arrays, made by :mod:`engine.teach.learn` and used by the recogniser in microseconds. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.live.errors import LiveError
from engine.models.card import WEIGHTS_FILE, CheckpointCard

# A window must be at least this like a correction before the correction says anything about it (cosine).
ALIKE = 0.5


class TaughtError(LiveError):
    """Taught actions can't be used; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """How features are looked at before they are compared: ``x -> P (x - centre)``, brought to length 1 if ``unit``.

    ``centre`` float32 ``(D,)``; ``projection`` float32 ``(E, D)`` or None for the features as they are.
    """

    centre: np.ndarray
    projection: np.ndarray | None = None
    unit: bool = True

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features ``(N, D)`` as float32 ``(N, E)``."""
        moved = np.asarray(features, np.float32) - self.centre
        if self.projection is not None:
            moved = moved @ self.projection.T
        return unit(moved) if self.unit else moved


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows ``(N, E)`` brought to length 1; rows of zeros stay zeros."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), np.float32)


@dataclass(frozen=True, eq=False)
class Veto:
    """Corrections of one class: a window more like one of ``against`` than like all of ``for_`` is not of this class.

    Both float32 ``(A, E)`` and ``(B, E)``, of length 1, in the feature space; ``owner`` is the class's place among all.
    """

    owner: int
    against: np.ndarray
    for_: np.ndarray

    def applies(self, looks: np.ndarray) -> np.ndarray:
        """bool ``(N,)`` for windows ``(N, E)`` of length 1."""
        wrong = (looks @ self.against.T).max(1)
        right = (looks @ self.for_.T).max(1) if len(self.for_) else np.full(len(looks), -1.0)
        return np.asarray((wrong > right) & (wrong > ALIKE))


@dataclass(frozen=True, eq=False)
class TaughtActions:
    """An immutable set of a user's actions for one checkpoint.

    Every class has rows that score a window, ``rows @ x + bias``; the largest counts. A taught class gets the logit of
    the best known class plus ``scale`` times the difference between its score and the best ``reference`` score (the
    known classes', scored in the same way), less ``margin``. So the known classes compete among each other exactly as
    before, and which of them is right never depends on what was taught.

    Parameters
    ----------
    checkpoint, weights : str
        Name in the checkpoint's card and digest of its weights (empty where the card has none).
    known, classes : tuple of str
        The encoder's classes, and the new ones behind them. A taught action with the name of a known class is no new
        class: its rows raise that class's logit.
    space : FeatureSpace
    reference, reference_bias : numpy.ndarray
        float32 ``(R0, E)`` and ``(R0,)``: the known classes.
    rows, bias, owner : numpy.ndarray
        float32 ``(R, E)``, ``(R,)`` and int64 ``(R,)``: the taught ones, and which of ``known + classes`` each is of.
    vetoes : tuple of Veto
        What corrections said.
    idle : int or None
        Place of the class that means "nothing"; a vetoed class's logit goes to it.
    """

    checkpoint: str
    weights: str
    known: tuple[str, ...]
    classes: tuple[str, ...]
    space: FeatureSpace
    reference: np.ndarray
    reference_bias: np.ndarray
    rows: np.ndarray
    bias: np.ndarray
    owner: np.ndarray
    scale: float = 1.0
    margin: float = 0.0
    vetoes: tuple[Veto, ...] = ()
    idle: int | None = None

    def __post_init__(self) -> None:
        names = (*self.known, *self.classes)
        if len(set(names)) != len(names):
            raise TaughtError("taught actions have names of their own")
        if len(self.owner) and not (0 <= self.owner.min() and self.owner.max() < len(names)):
            raise TaughtError("rows of a class that does not exist")
        if not len(self.reference):
            raise TaughtError("taught actions need the known classes to be compared with")

    def __len__(self) -> int:
        return len(self.classes)

    def extend(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Logits of known and taught classes.

        Parameters
        ----------
        logits, features : numpy.ndarray
            ``(N, K)`` and ``(N, D)``: the encoder's answer.

        Returns
        -------
        numpy.ndarray
            float32 ``(N, K + n)``. Rows with features that are not finite get the lowest logit for what was taught.
        """
        logits = np.asarray(logits, np.float32)
        if logits.shape[1] != len(self.known):
            raise ValueError(f"{logits.shape[1]} logits for {len(self.known)} known classes")
        out = np.empty((len(logits), len(self.known) + len(self.classes)), np.float32)
        out[:, : len(self.known)] = logits
        out[:, len(self.known) :] = logits.min(1, keepdims=True)
        whole = np.isfinite(features).all(1) & np.isfinite(logits).all(1)
        if not whole.any() or not (len(self.rows) or self.vetoes):
            return out
        looks = self.space(features[whole])
        part = out[whole]
        best = logits[whole].max(1)
        rival = (looks @ self.reference.T + self.reference_bias).max(1)
        scores = looks @ self.rows.T + self.bias
        for owner in np.unique(self.owner):
            score = scores[:, self.owner == owner].max(1)
            said = best + self.scale * (score - rival) - self.margin
            part[:, owner] = said if owner >= len(self.known) else np.maximum(part[:, owner], said)
        directions = looks if self.space.unit else unit(looks)
        for veto in self.vetoes:
            refused = veto.applies(directions)
            was = part[refused, veto.owner]
            if self.idle is not None and self.idle != veto.owner:
                part[refused, self.idle] = np.maximum(part[refused, self.idle], was)
            part[refused, veto.owner] = np.minimum(was, logits[whole][refused].min(1))
        out[whole] = part
        return out

    def fits(self, card: CheckpointCard) -> bool:
        """Whether this was taught on the encoder of the card: another one's features mean something else."""
        digest = card.sha256.get(WEIGHTS_FILE, "")
        same = not (self.weights and digest) or self.weights == digest
        return same and self.checkpoint == card.name and self.known == tuple(card.classes)

    def extend_card(self, card: CheckpointCard) -> CheckpointCard:
        """The encoder's card with the taught classes behind its own.

        Raises
        ------
        TaughtError
            The actions were taught on another encoder.
        """
        if not self.fits(card):
            raise TaughtError(
                f"these actions were taught on {self.checkpoint}, not on this {card.name}; load their pack again"
            )
        return card.model_copy(update={"classes": [*card.classes, *self.classes]})
