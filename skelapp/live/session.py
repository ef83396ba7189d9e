"""The window's side of the live path: owns the pipeline and keeps slow acts off the window.

Everything that may take time runs on one worker thread, in the order it was asked for. What the window draws is taken
with :meth:`LiveSession.snapshot`, which never waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from engine import paths
from engine.live.types import LiveState, Snapshot
from skelapp.settings import SettingsStore
from skelapp.workers import Worker, remaining

if TYPE_CHECKING:
    from engine.live.pipeline import LivePipeline
    from engine.live.taught import TaughtActions
    from engine.skeleton.sequence import SkeletonSequence

log = logging.getLogger(__name__)

DEMO = "demo"
MAX_RECENT = 8
_POSE_FIELDS = ("pose.variant", "pose.persons")
_DECISION_FIELDS = ("recognition.own_thresholds", "recognition.enter", "recognition.leave", "recognition.smoothing_s")


def is_camera(spec: str) -> bool:
    """Whether a source specification names a camera of this machine."""
    return spec.isdigit()


def source_title(spec: str) -> str:
    """A source in a few words, for buttons and menus."""
    if not spec:
        return "No source"
    if is_camera(spec):
        return f"Camera {spec}"
    if spec == DEMO:
        return "Demo clip"
    if "://" in spec:
        return spec
    return Path(spec).name or spec


def make_pipeline(source: str, checkpoint: Path | None, settings: SettingsStore) -> LivePipeline:
    """Import and build the pipeline; called on the worker, because the import alone takes a while."""
    from engine.live.chain import PoseOptions
    from engine.live.pipeline import LivePipeline

    values = settings.values
    return LivePipeline(
        source,
        checkpoint=checkpoint,
        pose=PoseOptions(variant=values.pose.variant, num_poses=values.pose.persons),
        runtime=values.recognition.runtime,
    )


class LiveSession(QObject):
    """One live path and the wishes of its user."""

    said = Signal(str, str, str)  # level (info, warning, error), text, details
    source_changed = Signal(str)
    checkpoint_changed = Signal(str)
    rival_changed = Signal(str)  # folder of a second checkpoint, empty for none
    recording_finished = Signal(object)  # Path

    def __init__(
        self,
        settings: SettingsStore,
        parent: QObject | None = None,
        factory: Callable[[str, Path | None, SettingsStore], LivePipeline] = make_pipeline,
    ) -> None:
        super().__init__(parent)
        self._settings = settings
        self._factory = factory
        self._worker = Worker("live-session", self)
        self._pipeline: LivePipeline | None = None
        self._starting = False
        self._failure = ""
        self._closed = False
        self.source = ""
        self.checkpoint: Path | None = None
        self.rival: Path | None = None
        self.taught: TaughtActions | None = None
        self.recording_since: float | None = None
        self.recording_folder: Path | None = None
        self._recording = False
        settings.listen(self._setting_changed)

    # -------------------------------------------------------------- wishes

    def open_source(self, spec: str, remember: bool = True) -> None:
        """Watch another source; the first call also starts the pipeline."""
        if self._closed:
            return
        self.source = spec
        self._failure = ""
        if remember:
            memory = self._settings.values.memory
            self._settings.set("memory.source", spec)
            if not is_camera(spec) and spec != DEMO:
                recent = [spec, *(r for r in memory.recent if r != spec)][:MAX_RECENT]
                self._settings.set("memory.recent", recent)
        self.source_changed.emit(spec)
        if self._pipeline is None and not self._starting:
            self._starting = True
            self._worker.run(self._build, self._built, self._build_failed)
        else:
            self._with_pipeline(lambda pipeline: pipeline.switch_source(spec))

    def use_checkpoint(self, folder: Path, remember: bool = True) -> None:
        """Name actions with another checkpoint; the old one stays in use until the new one is loaded."""
        self.checkpoint = Path(folder)
        if remember:
            self._settings.set("memory.checkpoint", str(folder))
        self.checkpoint_changed.emit(str(folder))
        if self._pipeline is not None or self._starting:
            self._with_pipeline(lambda pipeline: pipeline.switch_checkpoint(Path(folder)))

    def compare_with(self, folder: Path | None) -> None:
        """Let a second checkpoint decide beside the one in use, on the same poses; None ends it."""
        self.rival = Path(folder) if folder is not None else None
        self.rival_changed.emit(str(folder) if folder is not None else "")
        if self._pipeline is not None or self._starting:
            wanted = self.rival
            self._with_pipeline(lambda pipeline: pipeline.compare_with(wanted))

    def use_taught(self, taught: TaughtActions | None) -> None:
        """Name the user's own actions beside the encoder's, from the next recognition on; None: no longer."""
        if taught is None and self.taught is None:
            return
        self.taught = taught
        if self._pipeline is not None or self._starting:
            self._with_pipeline(lambda pipeline: pipeline.use_taught(taught))

    def toggle_pause(self) -> None:
        """Pause; or go on; or replay what ended; or try again what failed."""
        state = self.snapshot().state
        if state in (LiveState.PAUSED, LiveState.ENDED):
            self._with_pipeline(lambda pipeline: pipeline.resume())
        elif state in (LiveState.FAILED, LiveState.IDLE):
            self.retry()
        elif self._pipeline is not None:
            self._with_pipeline(lambda pipeline: pipeline.pause())

    def retry(self) -> None:
        """Open the same source again."""
        if self.source:
            self.open_source(self.source)

    def seek(self, seconds: float) -> None:
        """Go to a moment of a file and play on from there."""

        def act(pipeline: LivePipeline) -> None:
            if pipeline.seek(seconds):
                pipeline.resume()

        self._with_pipeline(act)

    @property
    def seekable(self) -> bool:
        source = self._pipeline.source if self._pipeline is not None else None
        return bool(source is not None and source.seekable)

    @property
    def running(self) -> bool:
        return self._pipeline is not None

    # ----------------------------------------------------------- recording

    def toggle_recording(self) -> None:
        """Begin or end recording to a new folder named by date and time."""
        if self.recording_since is not None:
            self.recording_since = None
            self._worker.run(self._end_recording, self._recorded, self._record_failed)
            return
        if self._pipeline is None or self.snapshot().frame is None:
            self.said.emit("info", "There is nothing to record yet. Choose a source first.", "")
            return
        folder = self._settings.recordings() / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        self.recording_since, self.recording_folder, self._recording = time.monotonic(), folder, False
        self._worker.run(
            lambda: self._begin_recording(folder), lambda _: self._recording_begun(folder), self._record_failed
        )

    def _begin_recording(self, folder: Path) -> None:
        if self._pipeline is not None:
            self._pipeline.start_recording(folder)

    def _recording_begun(self, folder: Path) -> None:
        self._recording = self.recording_since is not None and folder == self.recording_folder

    def _see_recording(self) -> None:
        """A recording that could not go on (the disk is full) has ended in the pipeline, which says why."""
        if self.recording_since is None:
            self._recording = False
        elif self._recording and not self.snapshot().recording:
            self.recording_since, self._recording = None, False

    def _end_recording(self) -> Path | None:
        return self._pipeline.stop_recording() if self._pipeline is not None else None

    def _recorded(self, folder: Path | None) -> None:
        if folder is not None:
            self.recording_finished.emit(folder)

    def _record_failed(self, error: BaseException, details: str) -> None:
        self.recording_since = None
        self.said.emit("error", f"{error}. Choose another folder in Settings.", details)

    # ------------------------------------------------------------- looking

    def snapshot(self) -> Snapshot:
        """The newest of everything; before there is a pipeline, a snapshot that says so."""
        if self._pipeline is not None:
            return self._pipeline.snapshot()
        if self._failure:
            return Snapshot(serial=0, state=LiveState.FAILED, message=self._failure)
        return Snapshot(serial=0, state=LiveState.STARTING if self._starting else LiveState.IDLE)

    def motion(self) -> float | None:
        """How much the first person moves now, trunk lengths per second; None when nobody is seen."""
        return self._pipeline.motion() if self._pipeline is not None else None

    def poses(self, person: int | None, start: float, end: float) -> SkeletonSequence | None:
        """What a person (default the first) did between two moments of the last seconds, source's clock."""
        return self._pipeline.poses(person, start, end) if self._pipeline is not None else None

    def pass_messages(self) -> None:
        """Hand on what the pipeline has said since the last call."""
        if self._pipeline is not None:
            self._see_recording()
            messages = self._pipeline.messages()
            for level, text in messages:
                self.said.emit(level, text, "")
            if messages:
                self._see_checkpoint(self._pipeline.checkpoint)

    def _see_checkpoint(self, used: Path | None) -> None:
        """A checkpoint that can't be loaded leaves the old one in use: show and remember that one."""
        if used is not None and used != self.checkpoint and not self._worker.busy:
            self.checkpoint = used
            self._settings.set("memory.checkpoint", str(used))
            self.checkpoint_changed.emit(str(used))

    def note_paint(self, ms: float) -> None:
        if self._pipeline is not None:
            self._pipeline.note_stage("paint", ms)

    # ------------------------------------------------------------ internal

    def _build(self) -> LivePipeline:
        pipeline = self._factory(self.source, self.checkpoint, self._settings)
        self._apply_decision(pipeline)
        if self.rival is not None:
            pipeline.compare_with(self.rival)
        if self.taught is not None:
            pipeline.use_taught(self.taught)
        pipeline.start()
        # Set here, not on delivery: acts queued behind this one, and close(), must find it.
        self._pipeline = pipeline
        return pipeline

    def _built(self, pipeline: LivePipeline) -> None:
        self._starting = False

    def _build_failed(self, error: BaseException, details: str) -> None:
        self._starting = False
        self._failure = f"The live view could not start: {error}"
        self.said.emit("error", self._failure, details)

    def _with_pipeline(self, act: Callable[[LivePipeline], object]) -> None:
        def work() -> None:
            if self._pipeline is not None:
                act(self._pipeline)

        self._worker.run(work, None, lambda error, details: self.said.emit("error", str(error), details))

    def _apply_decision(self, pipeline: LivePipeline) -> None:
        """Hand the user's own thresholds to the pipeline, or give the card's back."""
        own = self._settings.values.recognition
        if own.own_thresholds:
            pipeline.set_decision(enter=own.enter, leave=own.leave, smoothing_s=own.smoothing_s)
        else:
            pipeline.set_decision()

    def _setting_changed(self, name: str) -> None:
        values = self._settings.values
        if name in _POSE_FIELDS:
            from engine.live.chain import PoseOptions

            options = PoseOptions(variant=values.pose.variant, num_poses=values.pose.persons)
            self._with_pipeline(lambda pipeline: pipeline.switch_pose(options))
        elif name == "recognition.runtime":
            runtime, folder = values.recognition.runtime, self.checkpoint
            self._with_pipeline(lambda pipeline: pipeline.switch_checkpoint(folder, runtime))
        elif name in _DECISION_FIELDS:
            self._with_pipeline(self._apply_decision)

    def close(self, timeout: float = 2.0) -> bool:
        """End the pipeline and all threads; returns whether everything ended in time."""
        if self._closed:
            return True
        self._closed = True
        deadline = time.monotonic() + timeout
        # What still waits for the worker is dropped; a pipeline it is just building is started and then stopped here.
        ended = self._worker.close(timeout)
        pipeline = self._pipeline
        if pipeline is not None:
            ended = pipeline.stop(max(0.2, remaining(deadline))) and ended
        return ended


def default_checkpoint(settings: SettingsStore) -> Path | None:
    """The remembered checkpoint if it is still there, else the shipped default, else any that is here."""
    from engine.files import is_there
    from engine.models.card import CARD_FILE, find_checkpoints

    wanted = settings.values.memory.checkpoint
    for folder in (Path(wanted) if wanted else None, paths.DEFAULT_CHECKPOINT):
        if folder is not None and is_there(folder / CARD_FILE):
            return folder
    found = find_checkpoints(*settings.model_roots())
    return found[0] if found else None
