"""Which taught actions look alike to the encoder: every take is left out once, learned without, and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.live.recogniser import Recogniser
from engine.models.card import CheckpointCard
from engine.teach.known import KnownFeatures, load_known
from engine.teach.learn import Examples, Settings, fit, pack_examples
from engine.teach.pack import ClassPack


@dataclass(frozen=True)
class LookAlike:
    """``wrong`` of the ``takes`` of ``action``, each learned without itself, were taken for ``other``."""

    action: str
    other: str
    wrong: int
    takes: int
    other_taught: bool

    @property
    def text(self) -> str:
        """One sentence for the user, with what to do."""
        told = f"{self.wrong} of {self.takes} takes of {self.action!r} look like {self.other!r}"
        if self.other_taught:
            return f"{told}: make the two more different, or record more takes of both"
        return f"{told}, which the encoder knows already: record more takes, or fine-tune"


@dataclass(frozen=True)
class Check:
    """What the check found.

    Attributes
    ----------
    actions : tuple of str
        Actions with takes; the rows of ``counts``.
    names : tuple of str
        All classes, known ones first; the columns.
    counts : numpy.ndarray
        int64 ``(n, K + n)``: takes of each action by what they were named, each learned without itself.
    unchecked : tuple of str
        Actions with a single take, which can't be left out.
    """

    actions: tuple[str, ...]
    names: tuple[str, ...]
    counts: np.ndarray
    unchecked: tuple[str, ...]

    @property
    def look_alikes(self) -> tuple[LookAlike, ...]:
        """Confused pairs, the most confused first."""
        found = []
        for row, action in enumerate(self.actions):
            for column in np.flatnonzero(self.counts[row]):
                other = self.names[column]
                if other != action:
                    wrong, takes = int(self.counts[row, column]), int(self.counts[row].sum())
                    found.append(LookAlike(action, other, wrong, takes, other in self.actions))
        return tuple(sorted(found, key=lambda pair: (-pair.wrong / pair.takes, pair.action)))

    @property
    def right(self) -> tuple[int, int]:
        """Takes that were named rightly, and all that were checked."""
        good = sum(int(self.counts[row, self.names.index(action)]) for row, action in enumerate(self.actions))
        return good, int(self.counts.sum())


def check(
    pack: ClassPack,
    recogniser: Recogniser,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Check a pack's actions against each other and against the encoder's own; see :func:`check_examples`."""
    examples = pack_examples(pack, recogniser, progress)
    return check_examples(recogniser.own_card, examples, recogniser.checkpoint, settings=settings)


def check_examples(
    card: CheckpointCard,
    examples: Sequence[Examples],
    checkpoint: Path | None = None,
    known: KnownFeatures | None = None,
    settings: Settings | None = None,
) -> Check:
    """Leave every take out once, learn without it, and name its middle window.

    Parameters
    ----------
    examples : sequence of Examples
        With their logits. Corrections take part in the learning; those with the name of a known class are not checked.

    Raises
    ------
    engine.live.taught.TaughtError
        As :func:`engine.teach.learn.fit`.
    """
    if known is None and checkpoint is not None:
        known = load_known(checkpoint, card)
    taught = [e for e in examples if e.takes and e.name not in card.classes]
    names = (*card.classes, *(e.name for e in taught))
    counts = np.zeros((len(taught), len(names)), np.int64)
    for row, example in enumerate(taught):
        if len(example.takes) < 2:
            continue
        for left in range(len(example.takes)):
            rest = replace(example, takes=example.takes[:left] + example.takes[left + 1 :])
            others = [rest if e is example else e for e in examples]
            learned = fit(card, others, checkpoint, known, settings)
            said = learned.extend(example.logits[left][:1], example.takes[left][:1])[0]
            counts[row, names.index((*learned.known, *learned.classes)[int(said.argmax())])] += 1
    alone = tuple(e.name for e in taught if len(e.takes) < 2)
    return Check(tuple(e.name for e in taught), names, counts, alone)
