"""A one-place mailbox between two stages: the newest item wins, so a slow stage builds no queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

import numpy as np

from engine.live.types import StageTime

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Lock, condition and serial number around one place.

    ``put`` overwrites what nobody has taken and counts it in ``dropped``; ``put(wait=True)`` waits instead, for
    sources of which every frame counts. ``close`` wakes everybody; ``take`` then returns None.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.serial = 0
        self.dropped = 0

    def put(self, item: T, wait: bool = False, timeout: float | None = None) -> bool:
        """Place an item; False when the box is closed or, with ``wait``, stayed full for ``timeout`` seconds."""
        with self._condition:
            if wait and not self._condition.wait_for(lambda: self._item is None or self._closed, timeout):
                return False
            if self._closed:
                return False
            if self._item is not None:
                self.dropped += 1
            self._item = item
            self.serial += 1
            self._condition.notify_all()
            return True

    def take(self, timeout: float | None = None) -> T | None:
        """Remove and return the item; None after ``timeout`` seconds or once the box is closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            if item is not None:
                self._condition.notify_all()
            return item

    def clear(self) -> None:
        """Forget an item nobody has taken; it does not count as dropped."""
        with self._condition:
            self._item = None
            self._condition.notify_all()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed


class StageClock:
    """Durations (ms) and event rates per stage over the last few seconds; safe from any thread."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._events: dict[str, deque[tuple[float, float]]] = {}

    def add(self, stage: str, ms: float) -> None:
        now = time.monotonic()
        with self._lock:
            events = self._events.setdefault(stage, deque(maxlen=50_000))
            events.append((now, ms))
            self._prune(events, now)

    def _prune(self, events: deque[tuple[float, float]], now: float) -> None:
        while events and events[0][0] < now - self._seconds:
            events.popleft()

    def stage(self, stage: str) -> StageTime | None:
        """Median and 95th percentile, or None when the stage was silent."""
        with self._lock:
            events = self._events.get(stage)
            if events is not None:
                self._prune(events, time.monotonic())
            values = [ms for _, ms in events] if events else []
        if not values:
            return None
        # As numpy.percentile, which would load numpy.ma when first called: 40 ms of the window's thread.
        last = len(values) - 1
        p50, p95 = np.interp((0.50 * last, 0.95 * last), np.arange(len(values)), np.sort(values))
        return StageTime(float(p50), float(p95))

    def stages(self) -> dict[str, StageTime]:
        return {name: found for name in list(self._events) if (found := self.stage(name)) is not None}

    def rate(self, stage: str) -> float:
        """Events per second over the kept seconds."""
        with self._lock:
            events = self._events.get(stage)
            if events is not None:
                self._prune(events, time.monotonic())
            if not events or len(events) < 2:
                return 0.0
            span = events[-1][0] - events[0][0]
            return (len(events) - 1) / span if span > 0 else 0.0

    def clear(self) -> None:
        with self._lock:
            self._events.clear()
