"""From decisions to segments: when an action began, when it ended, and which words were slips or echoes.

The encoder looks at seconds, so its words come late and stay long. Where the person rested before and after, the
movement itself says when the action began and ended.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from engine.live.types import LiveDecision, Segment


@dataclass
class _Open:
    label: str
    start: float
    first: float
    last: float
    total: float
    count: int
    quiet_since: float | None = None
    rest: float | None = None
    held_since: float | None = None


class SegmentBuilder:
    """Joins decisions into segments, per person.

    An action is named only after part of it was seen. Its start is the beginning of the movement where that is known
    and at most ``reach`` ago, else ``lag`` before its first word; never before the previous segment ended. It ends
    where the movement came to rest; label-driven ends are dated back. Drop-outs and rests up to ``merge_s`` are
    bridged; what ends up shorter than ``min_s`` is dropped.

    A word that is corrected within ``slip_s``, without a rest in between, was a slip: the segment takes the new word.
    After an end by rest the old performance is still in the encoder's window: nothing new begins before the person has
    moved, and not the same word before the new movement has lasted ``again_s``, as long as the window may hold it.

    Who comes to rest in another pose than the one the action began in may be holding it (an arm that stays up): for
    ``hold_s`` the action goes on, and if the same word follows, the hold was part of it. Otherwise it ended there.

    Parameters
    ----------
    lag, merge_s, min_s, reach, slip_s, again_s, hold_s : float
        Seconds.
    """

    def __init__(
        self,
        lag: float = 0.8,
        merge_s: float = 0.6,
        min_s: float = 0.3,
        reach: float = 2.0,
        slip_s: float = 0.0,
        again_s: float = 1.0,
        hold_s: float = 0.0,
    ) -> None:
        self.lag = lag
        self.merge_s = merge_s
        self.min_s = min_s
        self.reach = reach
        self.slip_s = slip_s
        self.again_s = again_s
        self.hold_s = hold_s
        self._open: dict[int, _Open] = {}
        self._last: dict[int, tuple[str, float]] = {}

    def update(
        self,
        decision: LiveDecision,
        moving_since: float | None = None,
        still_since: float | None = None,
        chain_since: float | None = None,
        held: bool = False,
    ) -> list[Segment]:
        """Take one decision; returns the segments it closed.

        ``moving_since`` is when the newest movement began, None where that is not known; ``still_since`` when it came
        to rest, None while it goes on; ``chain_since`` when the first of several movements with short lulls began.
        ``held``: the person rests in another pose than the one the open segment began in.
        """
        person, now, label = decision.person, decision.time, decision.label
        current = self._open.get(person)
        if current is not None and now < current.last:
            self._open.pop(person)
            self._last.pop(person, None)
            current = None
        if current is None:
            self._begin(decision, moving_since, still_since, chain_since)
            return []
        # A rest counts for this segment when it began after the movement that was named.
        rest = still_since if still_since is not None and still_since > current.start else None
        if held and rest is not None and now - rest < self.hold_s and label in (None, current.label):
            current.held_since = rest if current.held_since is None else current.held_since
            if label == current.label:
                current.last = now
                current.total += decision.score
                current.count += 1
            return []
        rested = rest is not None and now - rest >= self.merge_s
        if label == current.label and not rested:
            current.last, current.quiet_since, current.held_since = now, None, None
            current.total += decision.score
            current.count += 1
            return []
        if label is not None and label != current.label and rest is None and now - current.first <= self.slip_s:
            self._open[person] = _Open(label, current.start, now, now, decision.score, 1)
            return []
        if current.quiet_since is None:
            current.quiet_since = now
            current.rest = rest if current.held_since is None else current.held_since
        if not rested and label is None and now - current.quiet_since < self.merge_s:
            return []
        end = current.held_since if current.held_since is not None else rest if rested else current.rest
        closed = self._close(person, end, switch=label is not None)
        if not rested:
            self._begin(decision, moving_since, still_since, chain_since)
        return closed

    def _begin(
        self,
        decision: LiveDecision,
        moving_since: float | None,
        still_since: float | None,
        chain_since: float | None,
    ) -> None:
        person, now = decision.person, decision.time
        if decision.label is None:
            return
        label, end = self._last.get(person, ("", -math.inf))
        if moving_since is not None and now - end < self.reach:
            if moving_since <= end and still_since is not None:
                return
            moved = (now if still_since is None else still_since) - moving_since
            if decision.label == label and moved < self.again_s:
                return
        known = [since for since in (chain_since, moving_since) if since is not None and since >= now - self.reach]
        start = min(known) if known else now - self.lag
        start = min(now, max(start, end))
        self._open[person] = _Open(decision.label, start, now, now, decision.score, 1)

    def _close(self, person: int, rest: float | None, switch: bool) -> list[Segment]:
        item = self._open.pop(person)
        if rest is not None:
            end = min(rest, item.last)
        else:
            end = item.last - (self.lag if switch else self.lag / 2)
        # A label that was up must leave at least the time it was up less the lag; never a negative length.
        end = max(end, item.start + min(self.min_s, item.last - item.start))
        if item.last - item.first < 1e-9 or end - item.start < self.min_s - 1e-9:
            return []
        self._last[person] = (item.label, end)
        return [Segment(person, item.label, item.start, end, item.total / item.count)]

    def absent(self, present: Collection[int]) -> list[Segment]:
        """Close the segments of everybody who is not among ``present``."""
        closed: list[Segment] = []
        for person in sorted(set(self._open) - set(present)):
            closed += self._finish(person)
        return closed

    def close_all(self) -> list[Segment]:
        """Close everything (end of the source)."""
        return self.absent(())

    def _finish(self, person: int) -> list[Segment]:
        """Close at the last moment the label was up: the performance was cut, nothing has to be dated back."""
        return self._close(person, self._open[person].last, switch=False)

    def start_of(self, person: int) -> float | None:
        """When a person's open segment began; None where there is none."""
        item = self._open.get(person)
        return None if item is None else item.start

    def open_segments(self) -> tuple[Segment, ...]:
        """Actions that go on, ``open=True``, ending at their last decision."""
        return tuple(
            Segment(
                person,
                item.label,
                item.start,
                item.last,
                item.total / item.count,
                open=True,
            )
            for person, item in sorted(self._open.items())
        )

    def reset(self) -> None:
        """Forget everything, without closing."""
        self._open.clear()
        self._last.clear()
