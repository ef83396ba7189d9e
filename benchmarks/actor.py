"""How fast the rendered actor is, and how well MediaPipe sees it: run with an npz of Kinect-20 or NTU-25 sequences.

The npz holds ``xyz`` (all frames in a row, joints, 3) in absolute camera metres and ``start`` (sequence boundaries).
Results go to ``benchmarks/actor.json`` and ``benchmarks/actor.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.paths import POSE_BUNDLE
from engine.render.actor import Actor, as_persons
from engine.render.appearance import Appearance
from engine.render.camera import Camera, fit_camera, place
from engine.render.scene import Room

# MediaPipe landmark and NTU-25 joint of the same name.
PAIRS = {
    "shoulder": ((11, 4), (12, 8)),
    "elbow": ((13, 5), (14, 9)),
    "wrist": ((15, 6), (16, 10)),
    "hip": ((23, 12), (24, 16)),
    "knee": ((25, 13), (26, 17)),
    "ankle": ((27, 14), (28, 18)),
}
_LANDMARKS, _JOINTS = np.array([pair for both in PAIRS.values() for pair in both]).T


def milliseconds(joints: np.ndarray, camera: Camera, repeats: int = 60) -> float:
    """Median processor time of one rendered frame: other work on the machine does not count."""
    actor, room = Actor(), Room.under(joints)
    actor.render(joints[0], camera, room)
    spent = []
    for i in range(repeats):
        begin = time.thread_time()
        actor.render(joints[i % len(joints)], camera, room)
        spent.append(time.thread_time() - begin)
    return float(np.median(spent) * 1e3)


def look_at(sequence: np.ndarray, camera: Camera, actor: Actor) -> tuple[int, np.ndarray, np.ndarray]:
    """Detected frames, joint errors (frames, 12) in pixels, and the same in centimetres at the person's depth."""
    import mediapipe as mp  # type: ignore[import-untyped]
    from mediapipe.tasks.python import BaseOptions, vision  # type: ignore[import-untyped]

    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(POSE_BUNDLE)), running_mode=vision.RunningMode.VIDEO
    )
    room = Room.under(sequence)
    pixels, metric = [], []
    with vision.PoseLandmarker.create_from_options(options) as landmarker:
        for i, joints in enumerate(sequence):
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=actor.render(joints, camera, room))
            found = landmarker.detect_for_video(image, 33 * i + 1).pose_landmarks
            if not found:
                continue
            seen = np.array([(p.x * camera.width - 0.5, p.y * camera.height - 0.5) for p in found[0]])
            error = np.sqrt(((seen[_LANDMARKS] - camera.project(joints[_JOINTS])) ** 2).sum(-1))
            pixels.append(error)
            metric.append(error * joints[_JOINTS, 2] / camera.focal * 100)
    return len(pixels), np.array(pixels).reshape(-1, 12), np.array(metric).reshape(-1, 12)


def measure(sequences: list[np.ndarray], width: int, height: int, zoom: float) -> dict[str, object]:
    """Detection and errors over all sequences at one picture size; ``zoom`` below 1 makes the person smaller."""
    frames = detected = 0
    pixels, metric, tall = [], [], []
    for i, sequence in enumerate(sequences):
        fitted = fit_camera(sequence, width, height)
        camera = Camera(width, height, fitted.focal * zoom, fitted.cx, fitted.cy)
        v = camera.project(sequence[0])[:, 1]
        tall.append(np.nanmax(v) - np.nanmin(v))
        found, px, cm = look_at(sequence, camera, Actor(Appearance.random(i)))
        frames, detected = frames + len(sequence), detected + found
        pixels.append(px)
        metric.append(cm)
    px, cm = np.concatenate(pixels), np.concatenate(metric)
    by_joint = np.median(cm, 0).reshape(-1, 2).mean(1) if len(cm) else np.full(len(PAIRS), np.nan)
    return {
        "width": width,
        "height": height,
        "zoom": zoom,
        "person_px": round(float(np.median(tall))),
        "frames": frames,
        "detected": detected,
        "median_px": round(float(np.median(px)), 2) if len(px) else None,
        "median_cm": round(float(np.median(cm)), 2) if len(cm) else None,
        "p90_cm": round(float(np.percentile(cm, 90)), 2) if len(cm) else None,
        "joint_cm": {
            name: round(float(value), 2) if len(cm) else None for name, value in zip(PAIRS, by_joint, strict=True)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("npz", type=Path)
    parser.add_argument("--sequences", type=int, default=12)
    parser.add_argument("--step", type=int, default=2, help="take every n-th frame")
    parser.add_argument("--name", default="", help="what the data are, for the report")
    args = parser.parse_args()
    data = np.load(args.npz)
    start = data["start"]
    chosen = np.random.default_rng(0).choice(len(start) - 1, args.sequences, replace=False)
    sequences = [place(as_persons(data["xyz"][start[i] : start[i + 1] : args.step])) for i in chosen]
    speed = {
        f"{w}x{h}": round(milliseconds(sequences[0], fit_camera(sequences[0], w, h)), 2)
        for w, h in ((256, 256), (320, 240), (640, 480), (1280, 720))
    }
    sizes = [(640, 480, 1.0), (320, 240, 1.0), (256, 256, 1.0), (192, 144, 1.0), (128, 96, 1.0)]
    sizes += [(320, 240, 0.7), (320, 240, 0.5), (320, 240, 0.35), (640, 480, 0.5)]
    rows = []
    for size in sizes:
        rows.append(measure(sequences, *size))
        print(rows[-1], file=sys.stderr)
    result = {"data": args.name or args.npz.stem, "sequences": len(sequences), "ms_per_frame": speed, "detection": rows}
    here = Path(__file__).resolve().parent
    (here / "actor.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        "# The rendered actor",
        "",
        (
            f"Written by `benchmarks/actor.py` on {result['data']}: {len(sequences)} random sequences, a random"
            " appearance each, the bundled full pose model in video mode."
        ),
        (
            "Errors are between MediaPipe's 2-D landmarks and the projected joints, in centimetres at the person's"
            " distance; Kinect's idea of a shoulder or hip differs from MediaPipe's by a few centimetres."
        ),
        "",
        "| picture | processor ms per rendered frame (one thread) |",
        "|---|---|",
        *[f"| {size} | {ms} |" for size, ms in speed.items()],
        "",
        f"| picture | person, px | detected | median cm | 90 % cm | {' | '.join(PAIRS)} |",
        "|---|---|---|---|---|" + "---|" * len(PAIRS),
    ]
    for row in rows:
        joints = " | ".join("-" if v is None else str(v) for v in row["joint_cm"].values())  # type: ignore[attr-defined]
        lines.append(
            f"| {row['width']}x{row['height']} | {row['person_px']} | {row['detected']} of {row['frames']} |"
            f" {row['median_cm'] or '-'} |"
            f" {row['p90_cm'] or '-'} | {joints} |"
        )
    (here / "actor.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
