"""The recogniser: the newest window in, logits and features per person out, through the card's own preprocessing."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.preprocess import preprocess
from engine.deploy.runtime import RuntimeKind, load_runtime, surprises
from engine.deploy.runtime_base import Prediction
from engine.live.taught import TaughtActions
from engine.live.window import PoseWindow

# Less than this much of a performance says nothing about the action.
MIN_SPAN_S = 0.5
# Joints handed on to whoever follows the movement; recognitions are never farther apart.
TRACK_S = 1.0


@dataclass(frozen=True)
class Request:
    """What one run of the encoder needs, taken from the window at one moment.

    ``clips`` float32 ``(N, 3, T, V, M)``, one per person; ``motion`` in trunk lengths per second; ``tracks`` the last
    :data:`TRACK_S` seconds of every person, times ``(F,)`` and joints ``(F, 25, 3)``.
    """

    time: float
    grabbed: float
    persons: tuple[int, ...]
    clips: np.ndarray
    motion: tuple[float, ...]
    tracks: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


@dataclass(frozen=True)
class Recognition:
    """The answer for one person: ``logits`` ``(K,)`` (``K + n`` with n taught classes), ``features`` ``(D,)``.

    ``motion`` in trunk lengths per second.
    """

    logits: np.ndarray
    features: np.ndarray
    motion: float


class Recogniser:
    """An encoder with its card and runtime.

    Parameters
    ----------
    checkpoint : Path
        Checkpoint folder.
    runtime : str
        ``auto``, ``onnx``, ``onnx-int8``, ``tensorrt`` or ``torch``.
    threads : int
        Threads the runtime may use; one leaves the other cores to the pose model.
    min_span : float
        Seconds of a person that must have been seen before the recogniser speaks (at most half the window).
    fall_back : bool
        Where the wished runtime does not work, take the next that does; ``notes`` says so.
    taught : TaughtActions, optional
        Actions to name beside the encoder's own (see :meth:`use_taught`).

    Attributes
    ----------
    own_card, card : CheckpointCard
        The checkpoint's card, and the same with the taught classes behind its own: what deciders and texts go by.

    Raises
    ------
    engine.models.card.CheckpointError
        The folder is wrong or damaged, or the runtime does not work here.
    """

    def __init__(
        self,
        checkpoint: Path,
        runtime: RuntimeKind = "auto",
        threads: int = 1,
        min_span: float = MIN_SPAN_S,
        fall_back: bool = False,
        taught: TaughtActions | None = None,
    ) -> None:
        self.checkpoint = Path(checkpoint)
        self._runtime = load_runtime(self.checkpoint, runtime, threads, fall_back)
        self.own_card = self.card = self._runtime.card
        self.taught: TaughtActions | None = None
        self.runtime = self._runtime.name
        self.notes = tuple(surprises(self._runtime))
        self.min_span = min(min_span, self.card.preprocessing.window_s / 2)
        if taught is not None:
            self.use_taught(taught)

    @property
    def window_s(self) -> float:
        return self.card.preprocessing.window_s

    def warm_up(self, runs: int = 2) -> float:
        """Run on zeros, so that the first real window is not the slow one; returns the last run's milliseconds."""
        clips = np.zeros((1, *self.card.preprocessing.shape), np.float32)
        elapsed = 0.0
        for _ in range(runs):
            begin = clock.perf_counter()
            self._runtime.predict(clips)
            elapsed = (clock.perf_counter() - begin) * 1e3
        return elapsed

    def prepare(
        self,
        window: PoseWindow,
        persons: tuple[int, ...],
        time: float,
        grabbed: float | None = None,
    ) -> Request | None:
        """Sample one clip per person who has been seen long enough; None when there is nobody."""
        spec = self.card.preprocessing
        kept, clips, motion, tracks = [], [], [], []
        for person in persons:
            sequence = window.sequence(person, spec.window_s, time, slots=spec.persons)
            if sequence is None or sequence.duration < self.min_span:
                continue
            kept.append(person)
            clips.append(preprocess(sequence, spec, end=time))
            motion.append(window.motion(person, time))
            new = int(np.searchsorted(sequence.times, time - TRACK_S))
            tracks.append((sequence.times[new:], sequence.xyz[new:, 0]))
        if not kept:
            return None
        return Request(
            time,
            clock.monotonic() if grabbed is None else grabbed,
            tuple(kept),
            np.stack(clips),
            tuple(motion),
            tuple(tracks),
        )

    def use_taught(self, taught: TaughtActions | None) -> None:
        """Name these actions too from the next run on; None: the encoder's own classes alone.

        Deciders made for other classes must be replaced (:meth:`engine.live.decision_stage.DecisionStage.use_classes`).

        Raises
        ------
        engine.live.taught.TaughtError
            They were taught on another encoder; nothing is changed then.
        """
        self.card = self.own_card if taught is None else taught.extend_card(self.own_card)
        self.taught = taught

    def predict(self, clips: np.ndarray) -> Prediction:
        """The encoder's own answer for clips ``(N, 3, T, V, M)``, without what was taught."""
        return self._runtime.predict(clips)

    def infer(self, request: Request) -> dict[int, Recognition]:
        """Run the encoder once for all persons of the request."""
        return self.infer_many([request])[0]

    def infer_many(self, requests: Sequence[Request]) -> list[dict[int, Recognition]]:
        """Run the encoder once for several requests: recordings need not wait for each answer."""
        if not requests:
            return []
        found = self.predict(np.concatenate([request.clips for request in requests]))
        logits = found.logits if self.taught is None else self.taught.extend(found.logits, found.features)
        answers, row = [], 0
        for request in requests:
            answers.append({
                person: Recognition(logits[row + i], found.features[row + i], request.motion[i])
                for i, person in enumerate(request.persons)
            })  # fmt: skip
            row += len(request.persons)
        return answers

    def recognise(self, window: PoseWindow, persons: tuple[int, ...], time: float) -> dict[int, Recognition]:
        """:meth:`prepare` and :meth:`infer` in one call; empty when nobody was seen long enough."""
        request = self.prepare(window, persons, time)
        return {} if request is None else self.infer(request)

    def close(self) -> None:
        self._runtime.close()
