"""The likeliest course of labels over time, when every change of label has its price.

One window's scores say little: they waver between names that look alike, and a word that flickers cuts an action into
pieces. The course that explains all windows of a movement together, with few changes, holds on to what most of them
say (Viterbi, IEEE Transactions on Information Theory, 1967).
"""

from __future__ import annotations

import numpy as np

# Windows a second that count in full: evidence is a matter of time, however often the encoder runs.
FULL_RATE = 7.5
# The longest time, seconds, that one window can speak for.
LONGEST_STEP_S = 0.5


class LabelPath:
    """Takes the scores of one window after the other; gives the likeliest label of each.

    Parameters
    ----------
    price : float
        Log-likelihood that a change of label must be worth.
    floor : float
        Chance that a window's scores say nothing, so that none of them rules a label out.
    """

    def __init__(self, price: float, floor: float = 0.01) -> None:
        self.price = price
        self.floor = floor
        self._evidence: list[np.ndarray] = []
        self._best = np.zeros(0)
        self._back: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._evidence)

    def add(self, scores: np.ndarray, seconds: float) -> None:
        """Append a window: ``scores`` ``(K,)``, 0..1, the same K always; ``seconds`` since the one before it."""
        weight = min(seconds, LONGEST_STEP_S) * FULL_RATE
        self._take(weight * np.log((1 - self.floor) * scores + self.floor / len(scores)))

    def _take(self, evidence: np.ndarray) -> None:
        if not self._evidence:
            self._best = evidence.copy()
        else:
            winner = int(self._best.argmax())
            changed = self._best[winner] - self.price
            stays = self._best >= changed
            self._back.append(np.where(stays, np.arange(len(evidence)), winner))
            self._best = np.where(stays, self._best, changed) + evidence
        self._evidence.append(evidence)

    def labels(self) -> list[int]:
        """The label of every window, oldest first; a later window may change those of earlier ones."""
        if not self._evidence:
            return []
        path = [int(self._best.argmax())]
        for back in reversed(self._back):
            path.append(int(back[path[-1]]))
        return path[::-1]

    def forget(self, count: int) -> None:
        """Leave the oldest ``count`` windows out from now on."""
        kept = self._evidence[count:]
        self._evidence, self._back = [], []
        for evidence in kept:
            self._take(evidence)
