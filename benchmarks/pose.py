"""Measures one frame of pose estimation and how many people are found: this project's way and MediaPipe's two ways.

    python benchmarks/pose.py VIDEO... [--width 640]

Writes ``pose.md`` and ``pose.json`` beside this file. Times are wall-clock per frame without decoding.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.lifting import table, video_frames
from engine.live.bundle import pose_bundle
from engine.live.pose import PoseEstimator


def plain_mediapipe(num_poses: int) -> tuple[Callable[[np.ndarray, float], int], Callable[[], None]]:
    """MediaPipe's landmarker as it is: (frame, time) -> number of people, and its close."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    landmarker = vision.PoseLandmarker.create_from_options(
        vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(pose_bundle("full"))),
            running_mode=vision.RunningMode.VIDEO,
            num_poses=num_poses,
        )
    )

    def detect(frame: np.ndarray, seconds: float) -> int:
        picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        return len(landmarker.detect_for_video(picture, round(seconds * 1000)).pose_landmarks)

    return detect, landmarker.close


def own(num_poses: int) -> tuple[Callable[[np.ndarray, float], int], Callable[[], None]]:
    estimator = PoseEstimator(pose_bundle("full"), num_poses=num_poses)
    return lambda frame, seconds: len(estimator.detect(frame, seconds)), estimator.close


WAYS: dict[str, Callable[[], tuple[Callable[[np.ndarray, float], int], Callable[[], None]]]] = {
    "this project, num_poses=1": lambda: own(1),
    "this project, num_poses=2": lambda: own(2),
    "MediaPipe, num_poses=1": lambda: plain_mediapipe(1),
    "MediaPipe, num_poses=2": lambda: plain_mediapipe(2),
}


def measure(pictures: list[np.ndarray], make: Callable) -> dict:
    detect, close = make()
    taken, people = [], Counter()
    try:
        for i, picture in enumerate(pictures):
            begin = time.perf_counter()
            people[detect(picture, i / 30)] += 1
            taken.append((time.perf_counter() - begin) * 1e3)
    finally:
        close()
    steady = np.array(taken[2:])
    return {
        "mean_ms": round(float(steady.mean()), 1),
        "p50_ms": round(float(np.percentile(steady, 50)), 1),
        "p95_ms": round(float(np.percentile(steady, 95)), 1),
        "people": {str(count): frames for count, frames in sorted(people.items())},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--width", type=int, default=640)
    options = parser.parse_args()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result: dict = {"machine": machine, "width": options.width, "load": round(os.getloadavg()[0], 1), "videos": {}}
    rows: list[list[object]] = []
    for path in options.videos:
        pictures = list(video_frames(path, options.width))
        result["videos"][path.name] = {name: measure(pictures, make) for name, make in WAYS.items()}
        for name, row in result["videos"][path.name].items():
            counts = ", ".join(f"{count}: {frames}" for count, frames in row["people"].items())
            rows.append([path.name, name, row["mean_ms"], row["p50_ms"], row["p95_ms"], counts])
    text = "\n\n".join(
        [
            "# Pose estimation, time per frame and people found",
            f"Made by `benchmarks/pose.py` on {machine} (load {result['load']} at the start); pictures {options.width} "
            "wide, pose model `full`. The last column counts the frames with so many people.",
            table(["video", "way", "mean ms", "p50 ms", "p95 ms", "people: frames"], rows),
        ]
    )
    here = Path(__file__).resolve().parent
    (here / "pose.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "pose.md").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
