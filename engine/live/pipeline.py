"""The live pipeline: every stage of the chain in a thread of its own, joined by latest-only mailboxes.

::

    capture --mailbox--> pose --window (ring)--> recognition --> snapshot
        \\______________________ recorder (own queue) ______________/

The window asks for :meth:`LivePipeline.snapshot` whenever it draws; nothing ever waits for it.
"""

from __future__ import annotations

import threading
import time as clock
from pathlib import Path
from typing import Any, Self

from engine.deploy.runtime import RuntimeKind
from engine.live.chain import PoseOptions
from engine.live.errors import RecordingError
from engine.live.mailbox import Mailbox
from engine.live.recorder import Recorder
from engine.live.sources import FrameSource
from engine.live.taught import TaughtActions
from engine.live.types import LiveState, Snapshot
from engine.live.workers import PipelineWorkers, SourceLike
from engine.models.card import Decision
from engine.skeleton.sequence import SkeletonSequence

__all__ = ["LivePipeline", "PoseOptions", "SourceLike"]


class LivePipeline(PipelineWorkers):
    """Watches a source and names what people do, live.

    All public methods may be called from any thread and return at once, except :meth:`stop`, which waits for the
    threads. Failures don't raise: they change :attr:`state` and leave a message (:meth:`messages`).

    Parameters
    ----------
    source : FrameSource, str or callable
        An open source, a specification for :func:`engine.live.sources.open_source`, or something that opens one.
        The last two are opened on the capture thread, so a slow camera does not block the caller. The pipeline owns
        the source and closes it.
    checkpoint : Path or None
        Checkpoint folder; None shows skeletons without labels.
    pose : PoseOptions
        Pose model variant and number of persons.
    runtime : str
        ``auto``, ``onnx``, ``tensorrt`` or ``torch``.
    encode_every : int or None
        Frames from one recognition to the next; None adapts to the machine, at least every 4th frame.
    realtime : bool
        For files given as text: play at their own speed (True, slow stages drop frames) or as fast as every frame
        can be treated (False, nothing is dropped).
    allowed : collection of str, optional
        Only these classes are shown.
    source_options : dict, optional
        More options for ``open_source`` (``mirrored``, ``fps``, ...).
    detector : callable, optional
        Makes the pose detector; default is MediaPipe.
    stats_s : float
        Seconds over which stage times and rates are taken.
    taught : TaughtActions, optional
        Actions to name beside the encoder's own; see :meth:`use_taught`.
    """

    # ------------------------------------------------------------------ life

    @property
    def state(self) -> LiveState:
        return self._state

    @property
    def checkpoint(self) -> Path | None:
        """Folder of the encoder in use (or being loaded first)."""
        return self._checkpoint

    @property
    def source(self) -> FrameSource | None:
        """The open source; None before it is open. Belongs to the capture thread: look, don't touch."""
        return self._source

    def start(self) -> None:
        """Start all threads; does nothing when already running. A stopped pipeline can be started again."""
        with self._life:
            if self._threads:
                return
            self._stopping.clear()
            self._box = Mailbox()
            self._window.clear()
            self._paused = self._models_ready = False
            self._set_state(LiveState.STARTING)
            self._load_checkpoint(self._checkpoint)
            if self._rival_checkpoint is not None:
                self._load_rival(self._rival_checkpoint)
            for name, target in (
                ("capture", self._capture),
                ("pose", self._pose),
                ("recognise", self._recognise),
            ):
                thread = threading.Thread(target=self._guard, args=(target,), name=f"live-{name}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """End all threads, close source, pose model and encoder, finish a recording. May be called again.

        Returns
        -------
        bool
            True when every thread has ended within ``timeout`` seconds; what has not ended finishes by itself.
        """
        with self._life:
            if not self._threads:
                self.stop_recording()
                return True
            self._set_state(LiveState.STOPPING)
            self._stopping.set()
            source = self._source
            if source is not None:
                source.interrupt()
                self._wanted_source = self._wanted_source or source.spec
            self._box.close()
            with self._wake:
                self._wake.notify_all()
                self._poses.notify_all()
            deadline = clock.monotonic() + timeout
            for thread in [*self._threads, *self._loaders]:
                thread.join(max(0.0, deadline - clock.monotonic()))
            alive = [t.name for t in [*self._threads, *self._loaders] if t.is_alive()]
            self._threads.clear()
            self._loaders.clear()
            self.stop_recording()
            if alive:
                self._say(
                    "warning",
                    f"still waiting for {', '.join(alive)}; it ends by itself",
                )
            self._set_state(LiveState.IDLE)
            return not alive

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pause(self) -> None:
        """Hold the source; a camera stays open, a file waits at its place."""
        with self._wake:
            if self._state in (LiveState.RUNNING, LiveState.STARTING, LiveState.LOST):
                self._paused = True
                self._set_state(LiveState.PAUSED)

    def resume(self) -> None:
        """Go on after :meth:`pause`; after the end of a file, play it again from the beginning."""
        with self._wake:
            if self._state is LiveState.ENDED and self._wanted_seek is None:
                self._wanted_seek = 0.0
            self._paused = False
            if self._state in (LiveState.PAUSED, LiveState.ENDED):
                self._set_state(LiveState.RUNNING)
            self._wake.notify_all()

    def seek(self, time: float) -> bool:
        """Go to ``time`` seconds of a file or trace; False where the source can't."""
        with self._wake:
            if self._source is None or not self._source.seekable:
                return False
            self._wanted_seek = max(0.0, time)
            self._source.interrupt()
            self._wake.notify_all()
            return True

    def switch_source(self, source: SourceLike) -> None:
        """Use another source; the old one is closed once the capture thread lets go of it.

        When the new one can't be opened the state is FAILED with a message; switch again or stop.
        """
        with self._wake:
            self._wanted_source = source
            if self._source is not None:
                self._source.interrupt()
            self._paused = False
            self._wake.notify_all()

    def switch_checkpoint(self, path: Path | None, runtime: RuntimeKind | None = None) -> None:
        """Use another encoder: loaded and warmed up on a thread of its own, swapped in between two recognitions.

        When it can't be loaded the old one stays and a message says why.
        """
        if runtime is not None:
            self._runtime = runtime
        if self._threads:
            self._load_checkpoint(Path(path) if path is not None else None)
        else:
            self._checkpoint = Path(path) if path is not None else None

    def compare_with(self, path: Path | None) -> None:
        """Let a second encoder decide about the same windows, beside the one in use; None ends it.

        It is loaded on a thread of its own; what it says is the snapshot's ``rival``. When it can't be loaded a message
        says why.
        """
        wanted = Path(path) if path is not None else None
        if self._threads:
            self._load_rival(wanted)
        else:
            self._rival_checkpoint = wanted

    def use_taught(self, taught: TaughtActions | None) -> None:
        """Name these actions beside the encoder's own, from the next recognition on; None: no longer.

        Actions taught on another encoder than the one in use wait for theirs, and a message says so.
        """
        with self._wake:
            self._taught, self._taught_changed = taught, True
            self._poses.notify_all()

    def poses(
        self, person: int | None = None, start: float | None = None, end: float | None = None
    ) -> SkeletonSequence | None:
        """What a person just did: every pose of the last :data:`~engine.live.shared.REMEMBERED_S` seconds at most.

        Parameters
        ----------
        person : int, optional
            Default the first one who is seen. Slot 1 of the result holds the other person, zeros where there is none.
        start, end : float, optional
            Seconds of the source's clock (as in decisions and segments); default all that is remembered.

        Returns
        -------
        SkeletonSequence or None
            NTU-25; None when the person has no pose in that stretch.
        """
        persons = self._past.persons()
        if person is None:
            if not persons:
                return None
            person = persons[0]
        newest = self._past.time if end is None else end
        seconds = self._past.seconds if start is None else newest - start
        return self._past.sequence(person, seconds, newest, slots=2) if seconds > 0 else None

    def motion(self, person: int | None = None) -> float | None:
        """How much a person moves now, trunk lengths per second; None when she is not seen."""
        persons = self._window.persons()
        if person is None and persons:
            person = persons[0]
        return self._window.motion(person) if person is not None and person in persons else None

    def switch_pose(self, options: PoseOptions) -> None:
        """Use another pose model or number of persons; loaded by the pose thread, the old one stays on failure."""
        with self._wake:
            self._pose_options = options
            self._wanted_pose = self._make_pose()

    def set_decision(
        self,
        *,
        enter: float | None = None,
        leave: float | None = None,
        smoothing_s: float | None = None,
        min_motion: float | None = None,
    ) -> None:
        """Use own settings of the decision instead of the card's, from now on and for every encoder; None: the card's.

        Raises
        ------
        ValueError
            A score outside 0..1 or a negative time or motion; nothing is changed then.
        """
        given = {"enter": enter, "leave": leave, "smoothing_s": smoothing_s, "min_motion": min_motion}
        own = {name: value for name, value in given.items() if value is not None}
        # One by one: a leave above enter is no error, it is brought down to it.
        for name, value in own.items():
            Decision.model_validate({"enter": 1.0, "leave": 0.0, name: value})
        with self._lock:
            self._decision_values = own
            if self._stage is not None:
                self._stage.use_decision(own)
            if self._rival is not None:
                self._rival.stage.use_decision(own)

    # ------------------------------------------------------------- recording

    def start_recording(self, folder: Path) -> None:
        """Record video with true time stamps, landmarks and results into ``folder`` (made; must not hold a recording).

        It goes on across seeks and sources. When it can't be written any more it ends, and a message says why.

        Raises
        ------
        RecordingError
            The folder can't be written.
        """
        with self._lock:
            if self._recorder is not None:
                raise RecordingError(f"already recording into {self._recorder.folder}")
            name = self._source.name if self._source is not None else ""
            self._recorder = Recorder(folder, source=name, checkpoint=self._checkpoint)

    def stop_recording(self) -> Path | None:
        """Finish the recording; returns its folder, or None when none was running."""
        return self._finish_recording()

    # --------------------------------------------------------------- looking

    def snapshot(self) -> Snapshot:
        """The newest of everything; never waits for a stage.

        ``frame`` is the one ``pose`` belongs to while poses keep up (so that the drawn skeleton fits the picture),
        else the newest.
        """
        with self._lock:
            frame, pose = self._frame, self._pose_result
            if self._pose_frame is not None and frame is not None and frame.grabbed - self._pose_frame.grabbed < 0.2:
                frame = self._pose_frame
            recogniser, source = self._recogniser, self._source
            values: dict[str, Any] = {
                "serial": self._serial,
                "state": self._state,
                "message": self._message,
                "frame": frame,
                "pose": pose,
                "decisions": dict(self._decisions),
                "segments": tuple(self._closed) + self._open,
                "time": frame.time if frame is not None else 0.0,
                "duration": source.duration if source is not None else None,
                "dropped": self._box.dropped,
                "checkpoint": recogniser.card.name if recogniser is not None else "",
                "runtime": recogniser.runtime if recogniser is not None else "",
                "window_s": recogniser.window_s if recogniser is not None else 0.0,
                "recording": self._recorder is not None,
                "rival": self._rival.snapshot() if self._rival is not None else None,
                "taught": recogniser.taught.classes if recogniser is not None and recogniser.taught is not None else (),
            }
        stages = self._clock.stages()
        latency = stages.pop("latency", None)
        stages.pop("frames", None)
        return Snapshot(
            **values,
            fps=self._clock.rate("frames"),
            pose_fps=self._clock.rate("pose"),
            stages=stages,
            latency=latency,
        )

    def clear_stats(self) -> None:
        """Start the stage times and rates anew (benchmarks leave the warm-up out)."""
        self._clock.clear()

    def note_stage(self, stage: str, ms: float) -> None:
        """Add a duration measured elsewhere (the window reports ``paint``)."""
        self._clock.add(stage, ms)

    def messages(self) -> list[tuple[str, str]]:
        """Messages since the last call: (``info`` | ``warning`` | ``error``, text)."""
        with self._lock:
            found = list(self._messages)
            self._messages.clear()
            return found

    def wait(self, *states: LiveState, timeout: float = 10.0) -> bool:
        """Wait until the state is one of these; for scripts and tests."""
        with self._wake:
            return self._wake.wait_for(lambda: self._state in states, timeout)
