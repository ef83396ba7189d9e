"""A second encoder on the same windows: what it decides, how often it agrees with the first, and what it costs."""

from __future__ import annotations

import time as clock
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace

from engine.live.decision_stage import DecisionStage
from engine.live.mailbox import StageClock
from engine.live.recogniser import Recogniser, Recognition, Request
from engine.live.types import LiveDecision, PoseResult, RivalSnapshot, Segment
from engine.live.window import PoseWindow

_MAX_SEGMENTS = 5000


class Rival:
    """Decides beside the encoder in use, after it and from the same poses, so that the first is not delayed.

    Not safe for several threads: the recognition thread runs :meth:`infer`; everything else wants the pipeline's lock.
    """

    def __init__(self, recogniser: Recogniser, allowed: Collection[str] | None, stats_s: float) -> None:
        self.recogniser = recogniser
        known = None if allowed is None else [name for name in recogniser.card.classes if name in allowed]
        self.stage = DecisionStage(recogniser, known)
        self._clock = StageClock(stats_s)
        self._closed: deque[Segment] = deque(maxlen=_MAX_SEGMENTS)
        self._same = self._compared = 0

    def infer(
        self, window: PoseWindow, persons: tuple[int, ...], pose: PoseResult
    ) -> tuple[Request | None, dict[int, Recognition], float]:
        """Run the encoder on the newest window; the milliseconds it took come last."""
        began = clock.perf_counter()
        request = self.recogniser.prepare(window, persons, pose.time, pose.grabbed)
        found = self.recogniser.infer(request) if request is not None else {}
        taken_ms = (clock.perf_counter() - began) * 1e3
        if found:
            self._clock.add("encode", taken_ms)
        return request, found, taken_ms

    def decide(
        self,
        request: Request | None,
        found: dict[int, Recognition],
        persons: tuple[int, ...],
        first: Mapping[int, LiveDecision],
        spent_ms: float,
    ) -> None:
        """Decide, and compare with the first encoder's decisions of the same moment.

        ``spent_ms`` is how long the first encoder kept this one waiting: its latency is told as if it were alone.
        """
        decisions, closed = self.stage.decide(request, found, persons)
        self._closed.extend(closed)
        self.stage.segments.clear()
        for decision in decisions:
            alone = replace(decision, latency_ms=max(0.0, decision.latency_ms - spent_ms))
            self.stage.decisions[decision.person] = alone
            self._clock.add("latency", alone.latency_ms)
            other = first.get(decision.person)
            if other is not None and other.time == decision.time:
                self._compared += 1
                self._same += other.label == decision.label

    def finish(self) -> None:
        """Close what is open: the source ended."""
        self._closed.extend(self.stage.finish())

    def reset(self) -> None:
        """A new performance."""
        self.stage.reset()
        self._closed.clear()
        self._same = self._compared = 0

    def snapshot(self) -> RivalSnapshot:
        stages = self._clock.stages()
        return RivalSnapshot(
            checkpoint=self.recogniser.card.name,
            runtime=self.recogniser.runtime,
            window_s=self.recogniser.window_s,
            decisions=dict(self.stage.decisions),
            segments=tuple(self._closed) + self.stage.open_segments(),
            encode=stages.get("encode"),
            latency=stages.get("latency"),
            agreement=self._same / self._compared if self._compared else None,
            compared=self._compared,
        )

    def close(self) -> None:
        self.recogniser.close()
