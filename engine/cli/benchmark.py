"""``benchmark live``: rate, latency, throughput and memory of live recognition on this machine, as it is used."""

from __future__ import annotations

import json as json_module
import statistics
import sys
import tempfile
import time as clock
from datetime import date
from pathlib import Path
from typing import Any, Literal

from engine.cli import CommandError, UsageError
from engine.cli.live import find_checkpoint
from engine.cli.machine import machine, versions
from engine.live.chain import LiveChain, PoseOptions, PoseStage
from engine.live.drive import run_chain
from engine.live.pipeline import LivePipeline
from engine.live.recogniser import Recogniser
from engine.live.sources import open_source
from engine.live.types import Frame, LiveState
from engine.live.video_writer import VideoWriter
from engine.paths import POSE_BUNDLE, PROJECT

SIZE = (640, 480)
FPS = 30.0
_WARM_UP_S = 5.0
_CLIP_FRAMES = 240


def live(
    source: str = "demo",
    seconds: float = 60.0,
    minutes: float | None = None,
    checkpoint: Path | None = None,
    runtime: Literal["auto", "onnx", "onnx-int8", "tensorrt", "torch"] = "auto",
    persons: Literal[1, 2] = 2,
    encode_every: int | None = None,
    rounds: int = 3,
    out: Path | None = None,
) -> int:
    """Measure live recognition: a 640x480 file played in real time at 30 frames a second, as a camera would.

    Then measures the throughput of the whole chain (decoding included) against MediaPipe alone on the same pictures,
    in alternating order. Writes live.md and live.json.

    Args:
        source: Video with a person; it is brought to 640x480 and 30 frames a second first.
        seconds: Length of the live run.
        minutes: Length of the live run in minutes, for the growth of memory (the requirement says 10).
        checkpoint: Checkpoint folder or name; default the shipped one.
        runtime: What executes the encoder.
        persons: How many people are looked for.
        encode_every: Frames from one decision to the next; default adapts, at least every 4th.
        rounds: Pairs of throughput runs.
        out: Folder for the results; default benchmarks/ of the project.
    """
    if seconds <= 0 or rounds < 1 or (minutes is not None and minutes <= 0):
        raise UsageError("--seconds, --minutes and --rounds must be above 0")
    folder = find_checkpoint(checkpoint)
    Recogniser(folder, runtime).close()
    with tempfile.TemporaryDirectory() as temporary:
        clip = _standard_clip(source, Path(temporary) / "clip.mp4")
        print("live run ...", file=sys.stderr)
        length = seconds if minutes is None else minutes * 60
        measured = measure_live(clip, folder, runtime, persons, encode_every, length)
        print("throughput ...", file=sys.stderr)
        throughput = measure_throughput(clip, folder, runtime, rounds)
    result = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": {name: version for name, version in versions().items() if version},
        "settings": {
            "source": source, "size": list(SIZE), "fps": FPS, "seconds": length, "persons": persons,
            "checkpoint": folder.name, "encode_every": encode_every or "adaptive, at least every 4th",
        },
        "live": measured,
        "throughput": throughput,
    }  # fmt: skip
    target = out or PROJECT / "benchmarks"
    target.mkdir(parents=True, exist_ok=True)
    (target / "live.json").write_text(json_module.dumps(result, indent=1) + "\n", "utf-8")
    text = report(result)
    (target / "live.md").write_text(text, "utf-8")
    print(text)
    return 0


def _standard_clip(source: str, path: Path) -> Path:
    """Bring any video to 640x480 at 30 frames/s, so that results of different machines compare."""
    from engine.live._cv2 import cv2

    writer = VideoWriter(path)
    count = 0
    with open_source(source, realtime=False, loop=False) as opened:
        if opened.live or opened.kind == "trace":
            raise CommandError(f"{source}: the benchmark needs a video file or an image folder")
        while count < _CLIP_FRAMES and (frame := opened.read()) is not None:
            # Frames are taken at the clip's own rate; the nearest later one serves each slot.
            while frame.time >= count / FPS - 1e-6 and count < _CLIP_FRAMES:
                writer.write(cv2.resize(frame.image, SIZE, interpolation=cv2.INTER_AREA), count / FPS)
                count += 1
    writer.close()
    if count < FPS:
        raise CommandError(f"{source} is too short for the benchmark: at least 1 s is needed")
    return path


def measure_live(
    clip: Path, checkpoint: Path, runtime: Any, persons: int, encode_every: int | None, seconds: float
) -> dict[str, Any]:
    """Play the clip in a loop in real time through the threaded pipeline; rates, stage times, memory in MiB."""
    import psutil

    process = psutil.Process()
    pipeline = LivePipeline(
        lambda: open_source(clip, realtime=True, loop=True),
        checkpoint=checkpoint,
        pose=PoseOptions(num_poses=persons),
        runtime=runtime,
        encode_every=encode_every,
        stats_s=seconds,
    )
    memory: list[tuple[float, float]] = []
    with pipeline:
        _settle(pipeline)
        before, dropped = dict(pipeline.counts), pipeline.snapshot().dropped
        pipeline.clear_stats()
        begin, processor = clock.monotonic(), process.cpu_times()
        while (elapsed := clock.monotonic() - begin) < seconds:
            clock.sleep(1 / 30)
            if memory and elapsed - memory[-1][0] < 1.0:
                continue
            memory.append((elapsed, process.memory_info().rss / 2**20))
            if pipeline.state is not LiveState.RUNNING:
                raise CommandError(
                    f"the live run broke off: {pipeline.state}: {'; '.join(t for _, t in pipeline.messages())}"
                )
        used = process.cpu_times()
        final = pipeline.snapshot()
        counts = {name: pipeline.counts[name] - before[name] for name in before}
    stages = {name: {"p50": round(t.p50, 2), "p95": round(t.p95, 2)} for name, t in final.stages.items()}
    latency = final.latency
    # The first tenth is left out: allocators still settle.
    settled = [value for t, value in memory if t >= 0.1 * seconds] or [value for _, value in memory]
    tail = max(1, len(settled) // 10)
    return {
        "seconds": round(elapsed, 1),
        "source_fps": round(counts["frames"] / elapsed, 2),
        "pose_fps": round(counts["pose_frames"] / elapsed, 2),
        "recognitions_per_s": round(counts["recognitions"] / elapsed, 2),
        "frames_per_recognition": round(counts["frames"] / max(1, counts["recognitions"]), 2),
        "dropped": final.dropped - dropped,
        "stages_ms": stages,
        "grab_to_label_ms": None if latency is None else {"p50": round(latency.p50, 2), "p95": round(latency.p95, 2)},
        "cpu_cores_used": round((used.user + used.system - processor.user - processor.system) / elapsed, 2),
        "memory_mib": {
            "first": round(statistics.median(settled[:tail]), 1),
            "last": round(statistics.median(settled[-tail:]), 1),
            "growth": round(statistics.median(settled[-tail:]) - statistics.median(settled[:tail]), 1),
            "peak": round(max(value for _, value in memory), 1),
        },
        "runtime": final.runtime,
    }


def _settle(pipeline: LivePipeline) -> None:
    """Wait until labels come, then a little more."""
    deadline = clock.monotonic() + 60
    while pipeline.counts["recognitions"] == 0:
        failed = [text for level, text in pipeline.messages() if level == "error"]
        if failed or pipeline.state is LiveState.FAILED:
            raise CommandError(failed[0] if failed else "the live run failed")
        if clock.monotonic() > deadline:
            raise CommandError("nobody was recognised within a minute; the source must show a person")
        clock.sleep(0.05)
    clock.sleep(_WARM_UP_S)


def measure_throughput(clip: Path, checkpoint: Path, runtime: Any, rounds: int) -> dict[str, Any]:
    """Frames per second without a brake: the chain on the file, and MediaPipe alone on the decoded pictures.

    Every round runs both, in alternating order; ``ratio`` is the median of the rounds' ratios.
    """
    with open_source(clip, realtime=False) as opened:
        frames: list[Frame] = []
        while (frame := opened.read()) is not None:
            frames.append(frame)
    runs: list[dict[str, float]] = []
    _mediapipe_alone(frames[:30])
    for i in range(rounds):
        order = ("mediapipe", "chain") if i % 2 == 0 else ("chain", "mediapipe")
        one = {}
        for what in order:
            one[what] = _mediapipe_alone(frames) if what == "mediapipe" else _whole_chain(clip, checkpoint, runtime)
        runs.append(one)
    return {
        "frames": len(frames),
        "rounds": [{name: round(value, 2) for name, value in one.items()} for one in runs],
        "mediapipe_fps": round(statistics.median(one["mediapipe"] for one in runs), 2),
        "chain_fps": round(statistics.median(one["chain"] for one in runs), 2),
        "ratio": round(statistics.median(one["chain"] / one["mediapipe"] for one in runs), 3),
    }


def _mediapipe_alone(frames: list[Frame]) -> float:
    """MediaPipe's pose landmarker, video mode, one person, with nothing around it."""
    import mediapipe as mp

    vision = mp.tasks.vision
    options = vision.PoseLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(POSE_BUNDLE)),
        running_mode=vision.RunningMode.VIDEO,
        num_poses=1,
    )
    landmarker = vision.PoseLandmarker.create_from_options(options)
    try:
        begin = clock.perf_counter()
        for frame in frames:
            picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=frame.image)
            landmarker.detect_for_video(picture, round(frame.time * 1000))
        return len(frames) / (clock.perf_counter() - begin)
    finally:
        landmarker.close()


def _whole_chain(clip: Path, checkpoint: Path, runtime: Any) -> float:
    """Decoding, pose of one person, lifting, tracking, recognition of every 4th frame, decision."""
    chain = LiveChain(PoseStage(PoseOptions(num_poses=1)), Recogniser(checkpoint, runtime))
    try:
        chain.pose.load()
        chain.recogniser.warm_up()
        with open_source(clip, realtime=False) as opened:
            begin = clock.perf_counter()
            count = sum(1 for _ in run_chain(chain, opened))
            return count / (clock.perf_counter() - begin)
    finally:
        chain.close()


def report(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    host, run, speed = result["machine"], result["live"], result["throughput"]
    settings, memory = result["settings"], run["memory_mib"]
    latency = run["grab_to_label_ms"] or {"p50": float("nan"), "p95": float("nan")}
    rows = [
        ("pose results per second", f"{run['pose_fps']:.1f}", "at least 25"),
        ("frames from one recognition to the next", f"{run['frames_per_recognition']:.2f}", "at most 4"),
        ("grab to label, p50 / p95", f"{latency['p50']:.0f} / {latency['p95']:.0f} ms", "p95 under 100 ms"),
        ("whole chain / MediaPipe alone", f"{speed['ratio']:.2f}", "at least 0.9"),
        (f"memory growth over {run['seconds'] / 60:.1f} min", f"{memory['growth']:.1f} MiB", "under 20 MB in 10 min"),
        ("frames dropped", f"{run['dropped']} of {round(run['source_fps'] * run['seconds'])}", ""),
        ("processor cores used", f"{run['cpu_cores_used']:.2f}", ""),
    ]
    lines = [
        "# Live recognition",
        "",
        "Made by `python main.py benchmark live`; numbers of another machine will differ.",
        "",
        f"- {result['date']}; {host['processor']}, {host['cores']} cores, {host['memory_gib']} GiB, {host['system']}, "
        f"Python {host['python']}",
        f"- {settings['size'][0]}x{settings['size'][1]} file played in real time at {settings['fps']:.0f} frames/s for "
        f"{run['seconds']:.0f} s; looked for {settings['persons']} person(s); checkpoint `{settings['checkpoint']}`, "
        f"{run['runtime']}; recognition: {settings['encode_every']}",
        "",
        "| measured | value | wanted |",
        "|---|---|---|",
        *(f"| {name} | {value} | {wanted} |" for name, value, wanted in rows),
        "",
        "| stage | p50 ms | p95 ms |",
        "|---|---|---|",
        *(f"| {name} | {t['p50']:.2f} | {t['p95']:.2f} |" for name, t in run["stages_ms"].items()),
        "",
        f"Throughput without a brake, one person, {speed['frames']} frames, runs in alternating order: MediaPipe alone "
        f"{speed['mediapipe_fps']:.1f} frames/s on decoded pictures, the whole chain from the file "
        f"{speed['chain_fps']:.1f} frames/s. Memory: {memory['first']:.0f} MiB at first, {memory['last']:.0f} MiB at "
        f"last, peak {memory['peak']:.0f} MiB.",
        "",
    ]
    return "\n".join(lines)
