"""From logits to words: smoothing, hysteresis, and "nothing recognised"."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.live.types import LiveDecision
from engine.models.card import Decision

# A person counts as still only below this fraction of ``min_motion`` and after this long: no flicker at the limit.
STILL_RATIO = 0.7
STILL_AFTER_S = 0.4


@dataclass
class _PersonState:
    scores: np.ndarray
    energy: float
    time: float
    label: int | None = None
    moving: bool = False
    low_since: float | None = None
    newest: np.ndarray = field(default_factory=lambda: np.zeros(0))


class ActionDecider:
    """Turns an encoder's logits into a calm label per person; None when nothing is recognised.

    Scores are a temperature softmax, smoothed exponentially on true time differences. A label begins at
    ``decision.enter`` and ends under ``decision.leave``; a person who stands still, and the idle class, mean None.

    Parameters
    ----------
    decision : Decision
        Calibrated settings from the checkpoint card.
    classes : sequence of str
        Class names in the order of the logits.
    allowed : collection of str, optional
        Only these are ever shown. Their scores are not raised by leaving others out: an action outside the subset
        becomes None, not the nearest allowed one. Raises ``ValueError`` for a name that is no class.
    top : int
        Length of the list of best classes.
    """

    def __init__(
        self,
        decision: Decision,
        classes: Sequence[str],
        allowed: Collection[str] | None = None,
        top: int = 5,
    ) -> None:
        self.decision = decision
        self.classes = tuple(classes)
        if allowed is not None and (unknown := sorted(set(allowed) - set(self.classes))):
            raise ValueError(f"unknown classes {', '.join(unknown)}; known: {', '.join(self.classes)}")
        self._shown = np.array(
            [name != decision.idle_class and (allowed is None or name in allowed) for name in self.classes]
        )
        self._top = min(top, len(self.classes))
        self._states: dict[int, _PersonState] = {}

    def reset(self, person: int | None = None) -> None:
        """Forget one person, or all."""
        if person is None:
            self._states.clear()
        else:
            self._states.pop(person, None)

    def keep_only(self, persons: Collection[int]) -> None:
        """Forget everybody who is not among ``persons``."""
        for person in set(self._states) - set(persons):
            del self._states[person]

    def update(
        self,
        person: int,
        time: float,
        logits: np.ndarray,
        motion: float,
        latency_ms: float = 0.0,
        features: np.ndarray | None = None,
        holds: bool = False,
    ) -> LiveDecision:
        """Decide for one person.

        Parameters
        ----------
        time : float
            Seconds; a time not later than the last one starts the person anew.
        logits : numpy.ndarray
            ``(K,)``. Values that are not finite count as "nothing".
        motion : float
            Trunk lengths per second (see :func:`engine.live.window.motion_energy`).
        holds : bool
            The person holds a pose: who stands still so keeps the word, but gets no new one.

        Returns
        -------
        LiveDecision
            ``score`` is the smoothed score of the label or, without a label, of the best class that may be shown.
        """
        scores, energy = self._softmax(logits)
        state = self._states.get(person)
        if state is None or time <= state.time:
            state = self._states[person] = _PersonState(scores, energy, time)
        elif self.decision.smoothing_s > 0:
            weight = 1 - math.exp(-(time - state.time) / self.decision.smoothing_s)
            state.scores = state.scores + weight * (scores - state.scores)
            state.energy += weight * (energy - state.energy)
        else:
            state.scores, state.energy = scores, energy
        state.time, state.newest = time, scores
        self._watch_motion(state, time, motion)
        state.label = self._choose(state, holds)
        order = np.argsort(-state.scores, kind="stable")[: self._top]
        best = float(np.where(self._shown, state.scores, 0.0).max())
        return LiveDecision(
            time=time,
            person=person,
            label=None if state.label is None else self.classes[state.label],
            score=best if state.label is None else float(state.scores[state.label]),
            top=tuple((self.classes[i], float(state.scores[i])) for i in order),
            latency_ms=latency_ms,
            features=features,
        )

    def window_scores(self, person: int) -> np.ndarray:
        """Scores ``(K,)`` of a person's newest window by itself, as :meth:`update` took it."""
        return self._states[person].newest

    def _softmax(self, logits: np.ndarray) -> tuple[np.ndarray, float]:
        """Scores, and the energy: how strongly anything at all speaks (Liu et al., NeurIPS 2020)."""
        if logits.shape != (len(self.classes),):
            raise ValueError(f"{logits.shape} logits for {len(self.classes)} classes")
        if not np.isfinite(logits).all():
            return np.zeros(len(self.classes)), 0.0
        scaled = logits.astype(np.float64) / self.decision.temperature
        highest = float(scaled.max())
        odds = np.exp(scaled - highest)
        total = float(odds.sum())
        return odds / total, highest + math.log(total)

    def _watch_motion(self, state: _PersonState, time: float, motion: float) -> None:
        limit = self.decision.min_motion
        if motion >= limit:
            state.moving, state.low_since = True, None
        elif state.moving and motion < STILL_RATIO * limit:
            if state.low_since is None:
                state.low_since = time
            if time - state.low_since >= STILL_AFTER_S:
                state.moving = False
        elif state.moving:
            state.low_since = None

    def _choose(self, state: _PersonState, holds: bool) -> int | None:
        stays = state.label is not None and state.scores[state.label] >= self.decision.leave
        if not state.moving:
            return state.label if holds and stays else None
        # The idle class and classes outside the subset compete: where one of them is best, nothing is shown.
        winner = int(state.scores.argmax())
        least = self.decision.min_energy
        known = least is None or state.energy >= least or winner == state.label
        if known and self._shown[winner] and state.scores[winner] >= self.decision.enter:
            return winner
        return state.label if stays else None


def with_latency(decision: LiveDecision, latency_ms: float) -> LiveDecision:
    """The same decision with its latency filled in."""
    return replace(decision, latency_ms=latency_ms)
