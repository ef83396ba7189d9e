"""What the threads of the live pipeline do: three loops, capture, pose and recognition.

Kept apart from :mod:`engine.live.pipeline`, which is what callers use. Every loop ends when ``_stopping`` is set
and the mailbox is closed; whatever a loop opened, it closes.
"""

from __future__ import annotations

import logging
import math
import time as clock

from engine.live.chain import PoseStage
from engine.live.decision_stage import DecisionStage
from engine.live.errors import LiveError, SourceLost
from engine.live.rival import Rival
from engine.live.shared import ENCODE_AT_LEAST, ENCODE_SHARE, MODELS_S, Item, PipelineShared, SourceLike
from engine.live.sources import FrameSource, open_source
from engine.live.types import Frame, LiveState, PoseResult

log = logging.getLogger(__name__)

__all__ = ["PipelineWorkers", "SourceLike"]


class PipelineWorkers(PipelineShared):
    """The loops of the three threads."""

    # --------------------------------------------------------------- capture

    def _capture(self) -> None:
        try:
            while not self._stopping.is_set():
                source = self._next_source()
                if source is not None:
                    try:
                        self._play(source)
                    except LiveError as error:
                        self._fail(str(error))
                    except Exception as error:  # another source may do: this thread has to stay
                        log.exception("reading %s", source.spec)
                        self._fail(f"{source.name} can't be read on: {type(error).__name__}: {error}")
        finally:
            self._close_source()

    def _close_source(self) -> None:
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()

    def _next_source(self) -> FrameSource | None:
        """Wait for a wanted source, close the old one, open the new one; None when that failed."""
        with self._wake:
            self._wake.wait_for(lambda: self._wanted_source is not None or self._stopping.is_set())
            wanted, self._wanted_source = self._wanted_source, None
            self._wanted_seek = None
        if wanted is None or self._stopping.is_set():
            self._wanted_source = self._wanted_source or wanted
            return None
        self._close_source()
        self._set_state(LiveState.STARTING)
        try:
            if isinstance(wanted, str):
                source = open_source(wanted, realtime=self._realtime, **self._source_options)  # type: ignore[arg-type]
            else:
                source = wanted if isinstance(wanted, FrameSource) else wanted()
        except LiveError as error:
            self._fail(str(error))
            return None
        except Exception as error:
            log.exception("opening %s", wanted)
            self._fail(f"{wanted} can't be opened: {type(error).__name__}: {error}")
            return None
        with self._lock:
            self._source = source
            self._epoch += 1
            self._frame = self._pose_frame = None
            self._pose_result = None
        return source

    def _play(self, source: FrameSource) -> None:
        while not self._stopping.is_set() and self._wanted_source is None:
            with self._wake:
                if self._paused and self._wanted_seek is None:
                    self._wake.wait_for(
                        lambda: (
                            not self._paused
                            or self._stopping.is_set()
                            or self._wanted_source is not None
                            or self._wanted_seek is not None
                        )
                    )
                    continue
                seek, self._wanted_seek = self._wanted_seek, None
            if seek is not None:
                source.seek(seek)
                with self._lock:
                    self._epoch += 1
            try:
                frame = source.read()
            except SourceLost as lost:
                self._recover(source, str(lost))
                continue
            for note in source.take_notes():
                self._say("warning", note)
            if frame is None:
                self._at_end()
                continue
            self._clock.add("frames", 0.0)
            self._clock.add("capture", source.read_ms)
            with self._lock:
                self._frame = frame
                self._serial += 1
                self.counts["frames"] += 1
                recorder, epoch = self._recorder, self._epoch
            if recorder is not None:
                recorder.frame(frame, epoch)
                if recorder.failure:
                    self._finish_recording()
            self._box.put(Item(frame, epoch), wait=source.lossless)
            if source.realtime and not source.live:
                self._await_models(epoch)
            if self._state in (LiveState.STARTING, LiveState.LOST) and not self._paused:
                self._set_state(LiveState.RUNNING)

    def _await_models(self, epoch: int) -> None:
        """Hold a file at its first picture until pose model and encoder are loaded: what is done in it is not missed.

        Once after :meth:`~engine.live.pipeline.LivePipeline.start`, and no longer than :data:`MODELS_S`. A camera is
        never held: there is nothing to miss before somebody sees herself.
        """
        deadline = clock.monotonic() + MODELS_S
        with self._wake:
            while not self._models_ready and self._state is not LiveState.FAILED and not self._paused:
                if self._stopping.is_set() or self._wanted_source is not None or self._wanted_seek is not None:
                    return
                loading = self._wanted_recogniser is not None or any(thread.is_alive() for thread in self._loaders)
                late = clock.monotonic() >= deadline
                self._models_ready = late or (self._pose_epoch == epoch and not loading)
                if not self._models_ready:
                    self._wake.wait(0.05)

    def _at_end(self) -> None:
        """Tell the other stages, however long they take to listen, then wait for something to do."""

        def wanted() -> bool:
            return self._stopping.is_set() or self._wanted_source is not None or self._wanted_seek is not None

        while not self._box.put(Item(None, self._epoch), wait=True, timeout=0.5):
            if wanted():
                return
        with self._wake:
            self._wake.wait_for(wanted)

    def _recover(self, source: FrameSource, reason: str) -> None:
        """Try to get a lost camera back until it comes, another source is wanted, or the pipeline stops."""
        self._say("warning", reason)
        delay = 0.25
        while not self._stopping.is_set() and self._wanted_source is None:
            self._set_state(LiveState.LOST, reason)
            with self._wake:
                self._wake.wait_for(
                    lambda: self._stopping.is_set() or self._wanted_source is not None,
                    delay,
                )
            delay = min(delay * 2, 2.0)
            if self._stopping.is_set() or self._wanted_source is not None:
                return
            if source.reopen():
                self._say("info", f"{source.name} is back")
                self._set_state(LiveState.PAUSED if self._paused else LiveState.RUNNING)
                return

    # ------------------------------------------------------------------ pose

    def _pose(self) -> None:
        stage = self._make_pose()
        epoch, broken = -1, False
        try:
            while not (self._box.closed and self._stopping.is_set()):
                item = self._box.take(timeout=0.5)
                with self._lock:
                    wanted, self._wanted_pose = self._wanted_pose, None
                if wanted is not None:
                    stage, broken = self._swap_pose(stage, wanted, broken)
                if item is None:
                    continue
                if item.epoch != epoch:
                    epoch, broken = item.epoch, False
                    stage.reset()
                    self._window.clear()
                    self._past.clear()
                if item.frame is None:
                    with self._lock:
                        self._ended_epoch = epoch
                        self._poses.notify_all()
                elif not broken:
                    broken = not self._pose_frame_of(stage, item.frame, epoch)
        finally:
            stage.close()

    def _swap_pose(self, stage: PoseStage, wanted: PoseStage, broken: bool) -> tuple[PoseStage, bool]:
        try:
            wanted.load()
        except LiveError as error:
            self._say("error", str(error))
            return stage, broken
        stage.close()
        self._say(
            "info",
            f"pose model: {wanted.options.variant}, up to {wanted.options.num_poses} persons",
        )
        if broken and not self._stopping.is_set():
            self._set_state(LiveState.RUNNING)
        return wanted, False

    def _pose_frame_of(self, stage: PoseStage, frame: Frame, epoch: int) -> bool:
        """Pose of one frame into window and snapshot; False when the pose model can't be used."""
        try:
            pose = stage.process(frame)
        except LiveError as error:
            self._fail(str(error))
            return False
        self._clock.add("pose", pose.pose_ms)
        self._window.add(pose)
        self._past.add(pose)
        with self._lock:
            if epoch != self._epoch:
                return True
            self._pose_result, self._pose_frame, self._newest = pose, frame, pose
            self._pose_epoch = epoch
            self._pose_serial += 1
            self._serial += 1
            self.counts["pose_frames"] += 1
            self._poses.notify_all()
            recorder = self._recorder
        if recorder is not None:
            recorder.pose(pose, epoch)
        return True

    # ----------------------------------------------------------- recognition

    def _recognise(self) -> None:
        served, ended, encode_ms = 0, -1, 20.0
        self._decided_epoch = -1
        try:
            while not self._stopping.is_set():
                with self._poses:
                    need = self._rhythm(encode_ms)
                    self._poses.wait_for(
                        lambda served=served, ended=ended, need=need: (  # type: ignore[misc]
                            self._stopping.is_set()
                            or self._wanted_recogniser is not None
                            or self._wanted_rival is not None
                            or self._drop_rival
                            or self._taught_changed
                            or self._ended_epoch > ended
                            or self._pose_serial >= served + need
                        ),
                        0.5,
                    )
                    if self._stopping.is_set():
                        break
                    self._adopt_recogniser()
                    self._adopt_rival()
                    self._adopt_taught()
                    pose, serial, now_ended, now_epoch = (
                        self._newest, self._pose_serial, self._ended_epoch, self._pose_epoch
                    )  # fmt: skip
                if now_epoch != self._decided_epoch:
                    self._forget(now_epoch)
                if pose is not None and serial >= served + need:
                    served = serial
                    encode_ms = self._recognise_once(pose, encode_ms)
                if now_ended > ended:
                    ended = now_ended
                    self._finish_segments()
                    if ended == self._epoch and self._state is LiveState.RUNNING:
                        self._set_state(LiveState.ENDED)
        finally:
            self._finish_segments()
            with self._lock:
                recogniser, self._recogniser, self._stage = self._recogniser, None, None
                wanted, self._wanted_recogniser = self._wanted_recogniser, None
                rivals = self._rival, self._wanted_rival
                self._rival = self._wanted_rival = None
            for item in (recogniser, wanted, *rivals):
                if item is not None:
                    item.close()

    def _rhythm(self, encode_ms: float) -> int:
        """Poses to wait for before the next recognition."""
        if self._encode_every is not None:
            return max(1, self._encode_every)
        rate = self._clock.rate("pose")
        return (
            max(
                1,
                min(ENCODE_AT_LEAST, math.ceil(encode_ms / ENCODE_SHARE * rate / 1e3)),
            )
            if rate
            else 1
        )

    def _adopt_recogniser(self) -> None:
        """Between two recognitions: take a freshly loaded encoder; the caller holds the lock."""
        wanted, self._wanted_recogniser = self._wanted_recogniser, None
        if wanted is None:
            return
        old = self._recogniser
        if self._stage is not None:
            self._keep_closed(self._stage.finish())
        self._teach(wanted)
        self._taught_changed = False
        self._recogniser, self._stage = wanted, DecisionStage(wanted, self._allowed)
        self._stage.use_decision(self._decision_values)
        self._checkpoint = wanted.checkpoint
        self._keep_window()
        self._decisions, self._open = {}, ()
        self._serial += 1
        self._say("info", f"recognising with {wanted.card.name} ({wanted.runtime})")
        if old is not None:
            old.close()

    def _adopt_taught(self) -> None:
        """Between two recognitions: name other taught actions from now on; the caller holds the lock."""
        changed, self._taught_changed = self._taught_changed, False
        if not changed or self._recogniser is None or self._stage is None:
            return
        self._teach(self._recogniser)
        self._stage.use_classes(self._recogniser.card.classes)
        self._serial += 1

    def _keep_window(self) -> None:
        """As much of the past as the encoder that looks back farthest."""
        second = self._rival.recogniser if self._rival is not None else None
        users = [item for item in (self._recogniser, second) if item is not None]
        if users:
            self._window.keep(max(item.window_s for item in users) + 1.0)

    def _adopt_rival(self) -> None:
        """Between two recognitions: take, change or end the second encoder; the caller holds the lock."""
        wanted, self._wanted_rival = self._wanted_rival, None
        if wanted is None and not self._drop_rival:
            return
        old, self._rival, self._drop_rival = self._rival, wanted, False
        if wanted is not None:
            wanted.stage.use_decision(self._decision_values)
            self._say("info", f"comparing with {wanted.recogniser.card.name} ({wanted.recogniser.runtime})")
        self._keep_window()
        self._serial += 1
        if old is not None:
            old.close()

    def _forget(self, epoch: int) -> None:
        """Another performance begins; what was under way in the last one is kept by a recording alone."""
        with self._lock:
            if self._rival is not None:
                self._rival.reset()
            if self._stage is not None and self._recorder is not None:
                self._keep_closed(self._stage.finish())
            self._decided_epoch = epoch
            self._closed.clear()
            self._decisions, self._open = {}, ()
            if self._stage is not None:
                self._stage.reset()

    def _finish_segments(self) -> None:
        with self._lock:
            if self._stage is not None:
                self._keep_closed(self._stage.finish())
            if self._rival is not None:
                self._rival.finish()
            self._open = ()
            self._serial += 1

    def _recognise_once(self, pose: PoseResult, encode_ms: float) -> float:
        with self._lock:
            recogniser, stage = self._recogniser, self._stage
        if recogniser is None or stage is None:
            return encode_ms
        persons = self._window.persons()
        begin = clock.perf_counter()
        request = recogniser.prepare(self._window, persons, pose.time, pose.grabbed)
        found = recogniser.infer(request) if request is not None else {}
        middle = clock.perf_counter()
        with self._lock:
            if stage is not self._stage:
                return encode_ms
            decisions, closed = stage.decide(request, found, persons)
            self._decisions = dict(stage.decisions)
            self._open = stage.open_segments()
            self._keep_closed(closed)
            stage.segments.clear()  # kept above, in a ring: this list would grow for days
            self._serial += 1
            self.counts["decisions"] += len(decisions)
            self.counts["recognitions"] += bool(found)
            recorder = self._recorder
        if found:
            encode_ms = (middle - begin) * 1e3
            self._clock.add("encode", encode_ms)
            self._clock.add("decide", (clock.perf_counter() - middle) * 1e3)
            self._clock.add("latency", max(d.latency_ms for d in decisions))
        if recorder is not None:
            for decision in decisions:
                recorder.decision(decision, self._decided_epoch)
        rival = self._rival
        if rival is not None:
            second_ms = self._decide_second(rival, pose, persons, (clock.perf_counter() - begin) * 1e3)
            # The rhythm counts both, so that two encoders together keep to one's share of a core.
            return encode_ms + second_ms if found else max(encode_ms, second_ms)
        return encode_ms

    def _decide_second(self, rival: Rival, pose: PoseResult, persons: tuple[int, ...], spent_ms: float) -> float:
        """Let the second encoder decide about the same poses; returns the milliseconds its run took."""
        request, found, taken_ms = rival.infer(self._window, persons, pose)
        with self._lock:
            if rival is self._rival:
                rival.decide(request, found, persons, self._decisions, spent_ms)
                self._serial += 1
        return taken_ms
