"""From the encoder's scores to segments: which actions a movement was made of, when each began and when it ended.

The encoder looks at seconds, so its words come late, stay long and waver in between. The movement itself says when
something was done; what it was, all windows that saw the movement say together (:mod:`engine.live.label_path`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from engine.live.label_path import FULL_RATE, LONGEST_STEP_S, LabelPath
from engine.live.movement import Movement
from engine.live.types import LiveDecision, Segment

# What a change of name must be worth: about six windows (0.8 s) that are sure of another name. On streams of the
# everyday set's tuning people 20 to 45 found about as much.
PRICE = 30.0
# Seconds after which a change of name within a movement is settled, and those of one run that are looked at again.
SETTLED_S = 1.2
KEPT_S = 30.0
# For how long a word stood is compared with a value found at FULL_RATE. Where windows lie closer together, the end of a
# movement is noticed earlier, by half of the difference on average, the window that notices it stands for less, by
# another half, and words begin later, by a third: the smoothing takes a window's scores for all the time before it.
# Where they lie farther apart, taking the same away found fewer actions of test streams and no fewer false ones.
_LATER = 1.5


@dataclass(frozen=True)
class _Window:
    """What one window said: the word on the screen then (None: no word), its score, and for how long it stands."""

    time: float
    seconds: float
    word: str | None
    score: float


@dataclass
class _Spell:
    """Windows that bear one name: when its word was shown, for how long, and how sure."""

    seconds: float = 0.0
    total: float = 0.0
    count: int = 0
    last: float = -math.inf

    def take(self, window: _Window, label: str) -> None:
        if window.word == label:
            self.seconds += window.seconds
            self.total += window.score
            self.count += 1
            self.last = window.time


@dataclass
class _Chain:
    """Movements with short lulls between them, and what the windows said meanwhile."""

    start: float
    path: LabelPath
    windows: list[_Window] = field(default_factory=list)
    folded: _Spell = field(default_factory=_Spell)

    def runs(self) -> list[tuple[int, int, int]]:
        """Label, first window and the one behind the last, of every run of one label."""
        labels = self.path.labels()
        edges = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
        return [(labels[a], a, b) for a, b in pairwise(edges) if b > a]

    def newest_word(self, classes: Sequence[str]) -> list[tuple[int, int, int]]:
        """The word on the screen and its windows as a run, where the newest run bears another name; else nothing."""
        word = self.windows[-1].word if self.windows else None
        if word is None or word == classes[self.runs()[-1][0]]:
            return []
        first = len(self.windows) - 1
        while first and self.windows[first - 1].word == word:
            first -= 1
        return [(classes.index(word), first, len(self.windows))]

    def spell(self, label: str, first: int, behind: int) -> _Spell:
        """How the word of a run stood on the screen."""
        spell = replace(self.folded) if first == 0 else _Spell()
        for window in self.windows[first:behind]:
            spell.take(window, label)
        return spell

    def forget(self, count: int) -> None:
        del self.windows[:count]
        self.path.forget(count)


class SegmentBuilder:
    """Cuts what a person does into segments, each with a name, a start and an end.

    A person's movements are taken together until the person has rested for ``merge_s``; then they are cut where the
    likeliest course of labels changes, and every part whose word was on the screen becomes a segment. Where somebody
    moves on and on, a part is closed as soon as the next one has lasted :data:`SETTLED_S`.

    A part begins where its movement did or, within a movement, ``lag`` before the first window that says so: a window
    shows what happened half its length ago.

    Who comes to rest in another pose than the one the movement began in may be holding it (an arm that stays up): for
    ``hold_s`` the action goes on, unless the windows say that nothing is done any more.

    Parameters
    ----------
    classes : sequence of str
        Class names in the order of the scores.
    nothing : str, optional
        The class that means "nothing".
    lag, merge_s, min_s, hold_s : float
        Seconds; shorter parts than ``min_s`` are dropped.
    """

    def __init__(
        self,
        classes: Sequence[str],
        nothing: str | None = None,
        lag: float = 1.2,
        merge_s: float = 0.5,
        min_s: float = 0.5,
        hold_s: float = 0.0,
    ) -> None:
        self.classes = tuple(classes)
        self.nothing = nothing
        self.lag = lag
        self.merge_s = merge_s
        self.min_s = min_s
        self.hold_s = hold_s
        self._chains: dict[int, _Chain] = {}
        self._stopped: dict[int, float] = {}

    def use_classes(self, classes: Sequence[str]) -> None:
        """Name by these classes from now on; what was seen of movements that go on is forgotten, they go on."""
        self.classes = tuple(classes)
        for chain in self._chains.values():
            chain.path, chain.windows, chain.folded = LabelPath(PRICE), [], _Spell()

    def update(
        self,
        decision: LiveDecision,
        scores: np.ndarray,
        movement: Movement = Movement(None, None),  # noqa: B008 - frozen
        held: bool = False,
    ) -> list[Segment]:
        """Take one window; returns the segments it closed.

        Parameters
        ----------
        scores : numpy.ndarray
            ``(K,)``, the window's own, 0..1.
        movement : Movement
            The person's newest one.
        held : bool
            The person rests in another pose than the one the movement began in.
        """
        person, now = decision.person, decision.time
        chain = self._chains.get(person)
        newest = chain.windows[-1].time if chain is not None and chain.windows else self._stopped.get(person, -math.inf)
        if now <= newest:
            self.forget(person)
            chain = None
        if chain is None:
            start = self._start(person, now, movement)
            if start is None:
                return []
            chain = self._chains[person] = _Chain(start, LabelPath(PRICE))
        before = chain.windows[-1].time if chain.windows else now - 1 / FULL_RATE
        seconds = min(now - before, LONGEST_STEP_S)
        chain.windows.append(_Window(now, seconds, decision.label, decision.score))
        chain.path.add(scores, seconds)
        rest = movement.until if movement.until is not None and movement.until > chain.start else None
        if rest is not None and now - rest >= self.merge_s:
            holding = held and now - rest < self.hold_s and self.classes[int(scores.argmax())] != self.nothing
            if not holding:
                last = chain.windows[-1]
                more = _LATER * max(0.0, 1 / FULL_RATE - last.seconds)
                chain.windows[-1] = replace(last, seconds=last.seconds + more)
                return self._close(person, rest)
        return self._settle(person, chain, now)

    def _start(self, person: int, now: float, movement: Movement) -> float | None:
        """When the movement began that is to be named; None while the last one is all there was."""
        stopped = self._stopped.get(person, -math.inf)
        if movement.since is not None:
            row = movement.chain if movement.chain is not None and movement.chain > stopped else movement.since
            return min(row, movement.since) if movement.since > stopped else None
        return None if movement.until is not None else max(stopped, now - self.lag, 0.0)

    def _settle(self, person: int, chain: _Chain, now: float) -> list[Segment]:
        """Close the parts of a movement that goes on whose names are settled."""
        runs = chain.runs()
        label, first, _ = runs[-1]
        if first and now - chain.windows[first].time >= SETTLED_S:
            end = max(chain.start, chain.windows[first].time - self.lag)
            closed = self._parts(person, chain, runs[:-1], end)
            chain.forget(first)
            chain.start, chain.folded = end, _Spell()
            return closed
        if not first and now - chain.windows[0].time > KEPT_S:
            half = len(chain.windows) // 2
            chain.folded = chain.spell(self.classes[label], 0, half)
            chain.forget(half)
        return []

    def _parts(self, person: int, chain: _Chain, runs: list[tuple[int, int, int]], end: float) -> list[Segment]:
        """The segments of a chain up to ``end``."""
        # None at all right after the classes changed.
        starts = [chain.start if not first else chain.windows[first].time - self.lag for _, first, _ in runs]
        found = []
        for (label, first, behind), start, until in zip(runs, starts, [*starts[1:], end], strict=False):
            name = self.classes[label]
            spell = chain.spell(name, first, behind)
            start, until = max(start, chain.start), min(until, end)
            if name != self.nothing and spell.count and until - start >= self.min_s - 1e-9:
                found.append(Segment(person, name, start, until, spell.total / spell.count, shown_s=spell.seconds))
        return found

    def _close(self, person: int, end: float) -> list[Segment]:
        chain = self._chains.pop(person)
        self._stopped[person] = end
        return self._parts(person, chain, chain.runs(), end)

    def absent(self, present: Collection[int]) -> list[Segment]:
        """Close the segments of everybody who is not among ``present``."""
        closed: list[Segment] = []
        for person in sorted(set(self._chains) - set(present)):
            windows = self._chains[person].windows
            closed += self._close(person, windows[-1].time if windows else -math.inf)
        self._stopped = {person: stopped for person, stopped in self._stopped.items() if person in present}
        return closed

    def close_all(self) -> list[Segment]:
        """Close everything (end of the source)."""
        return self.absent(())

    def start_of(self, person: int) -> float | None:
        """When the movement of a person that is being named began; None where there is none."""
        chain = self._chains.get(person)
        return None if chain is None else chain.start

    def open_segments(self) -> tuple[Segment, ...]:
        """Actions that go on, ``open=True``, ending when their word was last on the screen.

        A word that the course of labels does not follow yet is shown too: that takes a moment.
        """
        found = []
        for person, chain in sorted(self._chains.items()):
            for label, first, behind in [*chain.newest_word(self.classes), *reversed(chain.runs())]:
                name = self.classes[label]
                spell = chain.spell(name, first, behind)
                if name != self.nothing and spell.count:
                    start = chain.start if not first else max(chain.start, chain.windows[first].time - self.lag)
                    score = spell.total / spell.count
                    found.append(Segment(person, name, start, spell.last, score, open=True, shown_s=spell.seconds))
                    break
        return tuple(found)

    def forget(self, person: int) -> None:
        """Forget one person, without closing."""
        self._chains.pop(person, None)
        self._stopped.pop(person, None)

    def reset(self) -> None:
        """Forget everything, without closing."""
        self._chains.clear()
        self._stopped.clear()
