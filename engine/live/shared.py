"""What the threads of the live pipeline share: its state with one owner, messages, and the loading of encoders."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from engine.deploy.runtime import RuntimeKind
from engine.live.chain import PoseOptions, PoseStage
from engine.live.decision_stage import DecisionStage
from engine.live.errors import LiveError
from engine.live.mailbox import Mailbox, StageClock
from engine.live.recogniser import Recogniser
from engine.live.recorder import Recorder
from engine.live.rival import Rival
from engine.live.sources import FrameSource
from engine.live.taught import TaughtActions, TaughtError
from engine.live.types import Frame, LiveDecision, LiveState, PoseResult, Segment
from engine.live.window import PoseWindow
from engine.models.card import CheckpointError

log = logging.getLogger(__name__)

SourceLike = FrameSource | str | Callable[[], FrameSource]
# The adaptive rhythm: recognise at least every 4th frame, and let the encoder use at most this share of one core.
ENCODE_AT_LEAST = 4
ENCODE_SHARE = 0.4
# A file that is played waits this long for pose model and encoder.
MODELS_S = 20.0
_MAX_SEGMENTS = 5000
# Poses stay this long: what was just done can still become a take of a taught action.
REMEMBERED_S = 20.0


@dataclass(frozen=True)
class Item:
    """A frame on its way to the pose stage; a new ``epoch`` is a new performance, ``frame`` None its end."""

    frame: Frame | None
    epoch: int


class PipelineShared:
    """Fields and helpers; :class:`engine.live.workers.PipelineWorkers` adds the loops."""

    def __init__(
        self,
        source: SourceLike,
        *,
        checkpoint: Path | None,
        pose: PoseOptions | None = None,
        runtime: RuntimeKind = "auto",
        encode_every: int | None = None,
        realtime: bool = True,
        allowed: Collection[str] | None = None,
        source_options: dict[str, object] | None = None,
        detector: Callable[[], object] | None = None,
        stats_s: float = 5.0,
        taught: TaughtActions | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._life = threading.Lock()
        self._state = LiveState.IDLE
        self._message = ""
        self._messages: deque[tuple[str, str]] = deque(maxlen=200)
        self._threads: list[threading.Thread] = []
        self._loaders: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._runtime: RuntimeKind = runtime
        self._encode_every = encode_every
        self._realtime = realtime
        self._allowed = allowed
        self._source_options = dict(source_options or {})
        self._wanted_source: SourceLike | None = source
        self._wanted_seek: float | None = None
        self._source: FrameSource | None = None
        self._paused = False
        self._epoch = 0
        self._models_ready = False
        self._pose_options = pose or PoseOptions()
        self._detector = detector
        self._wanted_pose: PoseStage | None = None
        self._checkpoint = Path(checkpoint) if checkpoint is not None else None
        self._load_ticket = 0
        self._recogniser: Recogniser | None = None
        self._stage: DecisionStage | None = None
        self._wanted_recogniser: Recogniser | None = None
        self._rival_checkpoint: Path | None = None
        self._rival_ticket = 0
        self._rival: Rival | None = None
        self._wanted_rival: Rival | None = None
        self._stats_s = stats_s
        self._box: Mailbox[Item] = Mailbox()
        self._window = PoseWindow()
        # The same poses for longer: the encoder's window is copied at every run and stays short.
        self._past = PoseWindow(REMEMBERED_S)
        self._taught = taught
        self._taught_changed = False
        self._poses = threading.Condition(self._lock)
        self._pose_serial = 0
        self._newest: PoseResult | None = None
        self._ended_epoch = self._pose_epoch = self._decided_epoch = -1
        self._clock = StageClock(stats_s)
        self._recorder: Recorder | None = None
        self._serial = 0
        self._frame: Frame | None = None
        self._pose_frame: Frame | None = None
        self._pose_result: PoseResult | None = None
        self._decisions: dict[int, LiveDecision] = {}
        self._drop_rival = False
        self._closed: deque[Segment] = deque(maxlen=_MAX_SEGMENTS)
        self._open: tuple[Segment, ...] = ()
        self._decision_values: dict[str, float] = {}
        self.counts = {"frames": 0, "pose_frames": 0, "decisions": 0, "recognitions": 0}

    def _say(self, level: str, text: str) -> None:
        log.log({"info": 20, "warning": 30}.get(level, 40), text)
        with self._lock:
            self._messages.append((level, text))
            self._serial += 1

    def _set_state(self, state: LiveState, message: str = "") -> None:
        with self._wake:
            if state is self._state and message == self._message:
                return
            log.info("live: %s -> %s %s", self._state, state, message)
            self._state, self._message = state, message
            self._serial += 1
            self._wake.notify_all()

    def _fail(self, text: str) -> None:
        self._say("error", text)
        if not self._stopping.is_set():
            self._set_state(LiveState.FAILED, text)

    def _guard(self, target: Callable[[], None]) -> None:
        try:
            target()
        except LiveError as error:
            self._fail(str(error))
        except Exception as error:  # a bug must be seen, not end a thread silently
            log.exception("live stage failed")
            self._fail(f"internal error: {type(error).__name__}: {error}")

    def _make_pose(self) -> PoseStage:
        return PoseStage(self._pose_options, self._detector)  # type: ignore[arg-type]

    def _teach(self, recogniser: Recogniser) -> None:
        """Give an encoder the taught actions, where they were taught on it."""
        taught = self._taught
        if taught is not None and not taught.fits(recogniser.own_card):
            self._say(
                "info",
                f"the taught actions belong to {taught.checkpoint} and are not named by {recogniser.own_card.name}; "
                "load their pack again",
            )
            taught = None
        try:
            recogniser.use_taught(taught)
        except TaughtError as error:
            self._say("error", str(error))

    def _keep_closed(self, closed: Collection[Segment]) -> None:
        """Keep segments that have ended, for the snapshot and a running recording; the caller holds the lock."""
        self._closed.extend(closed)
        if self._recorder is not None:
            for segment in closed:
                self._recorder.segment(segment, self._decided_epoch)

    def _finish_recording(self) -> Path | None:
        """Write what waits, say what became of it; the recording's folder, or None when none was running."""
        with self._lock:
            recorder, self._recorder = self._recorder, None
            opened, epoch = self._open, self._decided_epoch
        if recorder is None:
            return None
        for segment in opened:
            recorder.segment(segment, epoch)
        recorder.close()
        lost = f", {recorder.dropped} frames could not be written in time" if recorder.dropped else ""
        level = "error" if recorder.failure else "info"
        self._say(level, recorder.failure or f"recorded {recorder.frames} frames to {recorder.folder}{lost}")
        return recorder.folder

    def _load_checkpoint(self, path: Path | None) -> None:
        with self._lock:
            self._load_ticket += 1
            ticket = self._load_ticket
            self._loaders = [t for t in self._loaders if t.is_alive()]
            if path is None:
                if self._stage is not None:
                    self._keep_closed(self._stage.finish())
                (
                    self._checkpoint,
                    self._recogniser,
                    self._stage,
                    self._wanted_recogniser,
                ) = None, None, None, None
                self._decisions, self._open = {}, ()
                return
        thread = threading.Thread(target=self._load, args=(path, ticket), name="live-load", daemon=True)
        self._loaders.append(thread)
        thread.start()

    def _load_rival(self, path: Path | None) -> None:
        """Load a second encoder beside the one in use; None ends the comparison."""
        with self._lock:
            self._rival_checkpoint = path
            self._rival_ticket += 1
            ticket = self._rival_ticket
            self._loaders = [t for t in self._loaders if t.is_alive()]
            if path is None:
                dropped = [rival for rival in (self._wanted_rival,) if rival is not None]
                self._wanted_rival = None
                self._drop_rival = self._rival is not None
                self._poses.notify_all()
                for rival in dropped:
                    rival.close()
                return
        thread = threading.Thread(target=self._load_second, args=(path, ticket), name="live-load", daemon=True)
        self._loaders.append(thread)
        thread.start()

    def _load_second(self, path: Path, ticket: int) -> None:
        try:
            found = Recogniser(path, self._runtime, fall_back=True)
            found.warm_up()
        except (CheckpointError, LiveError) as error:
            self._say("error", f"{error}; nothing is compared with it")
            return
        except Exception as error:
            log.exception("loading %s", path)
            self._say("error", f"{path} can't be used: {type(error).__name__}: {error}")
            return
        rival = Rival(found, self._allowed, self._stats_s)
        with self._lock:
            if ticket != self._rival_ticket or self._stopping.is_set():
                rival.close()
                return
            if self._wanted_rival is not None:
                self._wanted_rival.close()
            self._wanted_rival, self._drop_rival = rival, False
            self._poses.notify_all()

    def _load(self, path: Path, ticket: int) -> None:
        try:
            found = Recogniser(path, self._runtime, fall_back=True)
            found.warm_up()
            for note in found.notes:
                self._say("warning", note)
        except (CheckpointError, LiveError) as error:
            kept = f"; {self._recogniser.card.name} stays in use" if self._recogniser is not None else ""
            self._say("error", f"{error}{kept}")
            return
        except Exception as error:
            log.exception("loading %s", path)
            self._say("error", f"{path} can't be used: {type(error).__name__}: {error}")
            return
        with self._lock:
            if ticket != self._load_ticket or self._stopping.is_set():
                found.close()
                return
            if self._wanted_recogniser is not None:
                self._wanted_recogniser.close()
            self._wanted_recogniser = found
            self._poses.notify_all()
