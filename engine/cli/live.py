"""``recognize``: the live path without a window, on anything the window can watch."""

from __future__ import annotations

import signal
import sys
import threading
import time as clock
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import numpy as np
import tyro

from engine.cli import CommandError, UsageError
from engine.live.chain import ChainResult, LiveChain, PoseOptions, PoseStage
from engine.live.drive import run_chain
from engine.live.recogniser import Recogniser
from engine.live.records import decision_record, dumps, segment_record
from engine.live.segment_files import ENDINGS, write_segments
from engine.live.sources import FrameSource, open_source
from engine.live.types import LiveDecision, Segment
from engine.models.card import CARD_FILE
from engine.models.shelf import imported
from engine.paths import DEFAULT_CHECKPOINT, TRAINED_MODELS, runs

if TYPE_CHECKING:
    from engine.live.video_writer import VideoWriter

_MAX_LATENCIES = 100_000


def find_checkpoint(name: Path | None) -> Path:
    """A checkpoint folder from a path or the name of a shipped, trained or imported one; None gives the default."""
    if name is None:
        return DEFAULT_CHECKPOINT
    for folder in (name, TRAINED_MODELS / name, runs() / name, imported() / name):
        if folder.is_dir():
            return _checkpoint_in(folder)
    return name


def _checkpoint_in(folder: Path) -> Path:
    """The folder, or the checkpoint of the run in it; a run is named for its checkpoint."""
    inside = folder / "checkpoint"
    if (folder / CARD_FILE).is_file():
        return folder
    if (inside / CARD_FILE).is_file():
        return inside
    if streams := sorted(path.parent.name for path in inside.glob(f"*/{CARD_FILE}")):
        raise CommandError(
            f"{folder} has a checkpoint per stream ({', '.join(streams)}); name one: {inside / streams[0]}"
        )
    from engine.training.run_folder import RunFolder

    run = RunFolder(folder)
    if not run.exists():
        return folder
    state = run.status().state
    ended = "leaves none" if state == "finished" else f"is {state}; main.py runs resume {folder} goes on with it"
    raise CommandError(f"{folder} has no checkpoint: the run {ended}")


def recognize(
    source: tyro.conf.Positional[str],
    checkpoint: Path | None = None,
    runtime: Literal["auto", "onnx", "onnx-int8", "tensorrt", "torch"] = "auto",
    json: str | None = None,
    render: Path | None = None,
    segments: Path | None = None,
    mirrored: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    persons: Literal[1, 2] = 2,
    pose: Literal["lite", "full", "heavy"] = "full",
    classes: tuple[str, ...] | None = None,
    encode_every: int = 4,
    fps: float | None = None,
    seconds: float | None = None,
    pack: tuple[str, ...] = (),
) -> int:
    """Name the actions in a source, without a window.

    Prints each action with its start and end; --json gives every decision. A file is read frame by frame as fast as
    possible and gives the same result every time. A camera or stream runs until Ctrl-C, which ends cleanly.

    Examples: "recognize demo", "recognize 0 --json -", "recognize clip.mp4 --render out.mp4 --segments out.vtt".

    Args:
        source: Camera index (0), video file, image folder, stream address (rtsp://...), landmark trace (.jsonl,
            .npz, or a recording's folder), or demo.
        checkpoint: Checkpoint folder, or the name of one that ships with the program. Default: the shipped one.
        runtime: What executes the encoder; "doctor" says which work here.
        json: Write JSON lines to this file, - for stdout: decisions, then segments, then a summary.
        render: Write a video with skeletons and labels to this .mp4.
        segments: Write the recognised segments to this .csv or .vtt.
        mirrored: The picture is mirrored (selfie view): turn it back first, so that left stays left.
        persons: How many people are looked for.
        pose: Pose model; lite and heavy are fetched when first used.
        classes: Show only these actions.
        encode_every: Frames from one decision to the next.
        fps: Images per second of an image folder (default 30).
        seconds: Stop after this many seconds of the source.
        pack: Also name the actions of these packs (name or folder; main.py teach list).
    """
    if render is not None and render.suffix.lower() != ".mp4":
        raise UsageError(f"--render {render}: the video is written as .mp4")
    if segments is not None and segments.suffix.lower() not in ENDINGS:
        raise UsageError(f"--segments {segments}: segments are written as .csv or .vtt")
    if encode_every < 1:
        raise UsageError("--encode-every must be at least 1")
    if fps is not None and fps <= 0:
        raise UsageError("--fps must be above 0")
    recogniser = Recogniser(find_checkpoint(checkpoint), runtime)
    for note in recogniser.notes:
        print(f"warning: {note}", file=sys.stderr)
    with ExitStack() as stack:
        stack.callback(recogniser.close)
        if pack:
            from engine.teach.learn import learn_packs

            recogniser.use_taught(learn_packs(pack, recogniser, lambda text: print(text, file=sys.stderr)))
        if classes is not None and (unknown := sorted(set(classes) - set(recogniser.card.classes))):
            known = ", ".join(recogniser.card.classes)
            raise UsageError(f"--classes {', '.join(unknown)}: {recogniser.card.name} knows {known}")
        opened = stack.enter_context(open_source(source, realtime=False, mirrored=mirrored, fps=fps))
        stage = PoseStage(PoseOptions(pose, persons))
        stack.callback(stage.close)
        if opened.kind != "trace":
            stage.load()
        chain = LiveChain(stage, recogniser, classes, encode_every)
        run = _Run(chain, opened, stack, json, render, segments)
        run.go(seconds)
    return run.report()


class _Run:
    """One run of ``recognize``: feeds the outputs and keeps the counts of the summary."""

    def __init__(
        self, chain: LiveChain, source: FrameSource, stack: ExitStack, json: str | None, render: Path | None,
        segments: Path | None,
    ) -> None:  # fmt: skip
        self.chain, self.source = chain, source
        self.json: TextIO | None = None
        if json is not None:
            self.json = sys.stdout if json == "-" else stack.enter_context(Path(json).open("w", encoding="utf-8"))
        self.quiet = json == "-"
        self.video: VideoWriter | None = None
        if render is not None:
            from engine.live.video_writer import VideoWriter

            render.parent.mkdir(parents=True, exist_ok=True)
            self.video = VideoWriter(render)
        self.segments_path = segments
        self.shown: dict[int, LiveDecision] = {}
        self.frames = self.pose_frames = self.decisions = 0
        self.latencies: list[float] = []
        self.interrupted = False
        self.elapsed = 0.0
        self.last_time = 0.0
        self.first_time: float | None = None

    def go(self, seconds: float | None) -> None:
        """Run to the end, Ctrl-C, or a failure; whatever happens, what was found is written."""
        begin = clock.perf_counter()
        stop = threading.Event()
        try:
            with _stop_signals(stop), _progress(self.source, seconds) as progress:
                for result in run_chain(self.chain, self.source, notify=self._notify, stop=stop):
                    self._take(result)
                    progress(result.frame.time)
                    if seconds is not None and result.frame.time - (self.first_time or 0.0) >= seconds:
                        break
                self.interrupted = stop.is_set()
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.elapsed = clock.perf_counter() - begin
            self._finish()

    def _notify(self, level: str, text: str) -> None:
        print(f"{level}: {text}", file=sys.stderr, flush=True)

    def _take(self, result: ChainResult) -> None:
        self.frames += 1
        self.last_time = result.frame.time
        if self.first_time is None:
            self.first_time = result.frame.time
        self.pose_frames += bool(result.pose.persons)
        present = {person.person for person in result.pose.persons}
        self.shown = {p: d for p, d in self.shown.items() if p in present}
        for decision in result.decisions:
            self.decisions += 1
            self.shown[decision.person] = decision
            if len(self.latencies) < _MAX_LATENCIES:
                self.latencies.append(decision.latency_ms)
            if self.json is not None:
                self._line(decision_record(decision))
        if self.json is None:
            for segment in result.closed:
                _print_segment(segment)
        if self.video is not None:
            from engine.live.overlay import draw_overlay

            image = draw_overlay(result.frame.image, result.pose, self.shown)
            self.video.write(image, result.frame.time)

    def _line(self, record: dict[str, Any]) -> None:
        assert self.json is not None
        self.json.write(dumps(record) + "\n")
        self.json.flush()

    def _finish(self) -> None:
        late = self.chain.finish()
        found = sorted(self.chain.stage.segments, key=lambda s: (s.start, s.person))
        try:
            if self.json is None:
                for segment in late:
                    _print_segment(segment)
            else:
                for segment in found:
                    self._line(segment_record(segment))
                self._line({"summary": self.summary()})
            if self.segments_path is not None:
                self.segments_path.parent.mkdir(parents=True, exist_ok=True)
                write_segments(found, self.segments_path)
        finally:
            if self.video is not None:
                self.video.close()

    def summary(self) -> dict[str, Any]:
        """Counts and rates of the run; ``pose_frames`` are frames in which somebody was seen."""
        p50 = p95 = None
        if self.latencies:
            p50, p95 = (round(float(v), 2) for v in np.percentile(self.latencies, (50, 95)))
        return {
            "frames": self.frames,
            "pose_frames": self.pose_frames,
            "decisions": self.decisions,
            "fps": round(self.frames / self.elapsed, 2) if self.elapsed > 0 else 0.0,
            "latency_ms": {"p50": p50, "p95": p95},
            "checkpoint": self.chain.recogniser.card.name,
            "runtime": self.chain.recogniser.runtime,
        }

    def report(self) -> int:
        """Say on stderr how it went; raises when nothing at all could be recognised."""
        name = self.source.name
        if self.decisions == 0 and not self.interrupted:
            if self.frames == 0:
                raise CommandError(f"{name}: no frames")
            if self.pose_frames == 0:
                raise CommandError(f"{name}: nobody was seen in its {_frames(self.frames)}")
            need = self.chain.recogniser.min_span
            raise CommandError(
                f"{name}: too short to recognise anything: a person must be seen for {need:.1f} s without a break, "
                f"and was seen in {self.pose_frames} of {_frames(self.frames)}"
            )
        summary = self.summary()
        latency = summary["latency_ms"]["p95"]
        print(
            f"{name}: {_frames(self.frames)} at {summary['fps']:.1f}/s, {self.decisions} decisions"
            + (f", label after {latency:.0f} ms (95 %)" if latency is not None else "")
            + (", stopped by the user" if self.interrupted else ""),
            file=sys.stderr,
        )
        return 0


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


def _print_segment(segment: Segment) -> None:
    print(
        f"{segment.start:8.2f} - {segment.end:8.2f} s  person {segment.person}  {segment.label}  {segment.score:.2f}",
        flush=True,
    )


@contextmanager
def _stop_signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and a request to terminate end between two frames; a second one ends at once."""

    def ask(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def _progress(source: FrameSource, seconds: float | None) -> Iterator[Any]:
    """A bar on stderr while it is a terminal; yields a function that takes the time reached."""
    if not sys.stderr.isatty():
        yield lambda time: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    total = seconds if seconds is not None else source.duration
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.1f} s"))
    extra = (TimeRemainingColumn(),) if total else ()
    with Progress(*columns, *extra, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(source.name, total=total)
        yield lambda time: bar.update(task, completed=time)
