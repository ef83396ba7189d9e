"""Drives the chain over a whole source: decoding, pose and encoding overlap, results come in order.

Files: every frame counts and results repeat exactly. Cameras and streams: only the newest frame counts.
"""

from __future__ import annotations

import queue
import threading
import time as clock
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from engine.live.chain import ChainResult, LiveChain
from engine.live.errors import SourceError, SourceLost
from engine.live.mailbox import Mailbox
from engine.live.recogniser import Request
from engine.live.source_base import FrameSource
from engine.live.types import Frame

Notify = Callable[[str, str], None]
_READ_AHEAD = 4
# Frames whose encoder run may be outstanding; more would only make results late.
_IN_FLIGHT = 8


class FrameReader:
    """Reads a source on a thread of its own: ahead for files, the newest for cameras.

    Parameters
    ----------
    source : FrameSource
        Stays the caller's to close, after :meth:`close`.
    notify : callable, optional
        Gets (level, text) of what is worth telling.
    patience : float
        Seconds a lost camera is waited for before :class:`SourceError` is raised.
    stop : threading.Event, optional
        Set from anywhere, it ends the reading soon and cleanly.
    """

    def __init__(
        self,
        source: FrameSource,
        notify: Notify | None = None,
        patience: float = 30.0,
        stop: threading.Event | None = None,
    ) -> None:
        self._source = source
        self._notify = notify or (lambda level, text: None)
        self._patience = patience
        self._stop = stop or threading.Event()
        self._closed = threading.Event()
        self._error: Exception | None = None
        self._queue: queue.Queue[Frame | None] = queue.Queue(_READ_AHEAD)
        self._box: Mailbox[Frame] = Mailbox()
        self.frames = 0
        self._thread = threading.Thread(target=self._run, name="frame-reader", daemon=True)
        self._thread.start()

    @property
    def _halted(self) -> bool:
        return self._stop.is_set() or self._closed.is_set()

    @property
    def dropped(self) -> int:
        return self._box.dropped

    def _run(self) -> None:
        try:
            while not self._halted:
                try:
                    frame = self._source.read()
                except SourceLost as lost:
                    self._wait_for_source(str(lost))
                    continue
                for note in self._source.take_notes():
                    self._notify("warning", note)
                if frame is None:
                    break
                self.frames += 1
                if self._source.live:
                    self._box.put(frame)
                else:
                    self._hand_over(frame)
        except Exception as error:
            self._error = error
        finally:
            if not self._source.live:
                self._hand_over(None)
            self._box.close()

    def _hand_over(self, frame: Frame | None) -> None:
        while not self._halted:
            try:
                self._queue.put(frame, timeout=0.1)
                return
            except queue.Full:
                continue

    def _wait_for_source(self, reason: str) -> None:
        self._notify("warning", reason)
        deadline = clock.monotonic() + self._patience
        delay = 0.25
        while not self._closed.wait(delay) and not self._halted:
            if self._source.reopen():
                self._notify("info", f"{self._source.name} is back")
                return
            if clock.monotonic() > deadline:
                raise SourceError(f"{self._source.name} did not come back within {self._patience:.0f} s")
            delay = min(2 * delay, 2.0)

    def __iter__(self) -> Iterator[Frame]:
        while not self._halted:
            if self._source.live:
                frame = self._box.take(timeout=0.2)
                if frame is None and not self._box.closed:
                    continue
            else:
                try:
                    frame = self._queue.get(timeout=0.2)
                except queue.Empty:
                    continue
                if frame is not None and not self._source.realtime:
                    # Latency counts from the moment the chain asked for the frame, not from reading ahead.
                    frame = replace(frame, grabbed=clock.monotonic())
            if frame is None:
                break
            yield frame
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._closed.set()
        self._source.interrupt()
        self._thread.join(10.0)


def run_chain(
    chain: LiveChain,
    source: FrameSource,
    notify: Notify | None = None,
    patience: float = 30.0,
    stop: threading.Event | None = None,
) -> Iterator[ChainResult]:
    """Results of every frame, in order; the encoder works beside the pose of the following frames.

    Leaving the loop early, or setting ``stop`` (what is under way is still given out), ends all threads. Segments still
    open stay open until ``chain.finish()``.

    Raises
    ------
    engine.live.errors.LiveError
        The source or the pose model fails; results so far have been given out.
    """
    reader = FrameReader(source, notify, patience, stop)
    waiting: deque[tuple[ChainResult, Future[None] | None]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="encoder")
    last_time = float("-inf")
    try:
        for frame in reader:
            if frame.time <= last_time:
                # A new performance: what is under way belongs to the old one.
                while waiting:
                    yield _finished(waiting)
            last_time = frame.time
            pose, request, due = chain.observe(frame)
            result = ChainResult(frame, pose)
            present = chain.window.persons()
            future = pool.submit(_recognise, chain, result, request, present) if due else None
            waiting.append((result, future))
            while waiting and (len(waiting) > _IN_FLIGHT or _is_done(waiting[0][1])):
                yield _finished(waiting)
        while waiting:
            yield _finished(waiting)
    finally:
        reader.close()
        pool.shutdown(wait=True, cancel_futures=True)


def _is_done(future: Future[None] | None) -> bool:
    return future is None or future.done()


def _finished(waiting: deque[tuple[ChainResult, Future[None] | None]]) -> ChainResult:
    result, future = waiting.popleft()
    if future is not None:
        future.result()
    return result


def _recognise(chain: LiveChain, result: ChainResult, request: Request | None, present: Collection[int]) -> None:
    begin = clock.perf_counter()
    found = chain.recogniser.infer(request) if request is not None else {}
    middle = clock.perf_counter()
    result.decisions, result.closed = chain.stage.decide(request, found, present)
    result.encode_ms = (middle - begin) * 1e3
    result.decide_ms = (clock.perf_counter() - middle) * 1e3
