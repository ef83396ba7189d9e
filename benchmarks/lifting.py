"""Measures how far lifted joints lie from Kinect's, and what each correction and the smoothing do.

    python benchmarks/lifting.py PAIR [--raw ZIP] [--videos FOLDER]

``PAIR`` holds one NTU clip as ``*.skeleton`` and ``*_rgb.avi`` (the video is mirrored). ``--raw`` is a zip of
``.skeleton`` files: some are rendered with the actor, in the picture's middle and beside it, and lifted; their bone
lengths are compared with MediaPipe's of the people in ``--videos``. Writes ``lifting.md`` and ``lifting.json`` beside
this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.live.bundle import pose_bundle
from engine.live.filters import OneEuro
from engine.live.lift import LiftSettings, lift, map_joints
from engine.live.pose import PoseEstimator
from engine.live.tracking import SmoothSettings, smoother
from engine.live.types import RawPose
from engine.skeleton.layout import NTU25

KINECT_COLOUR_FOCAL = 0.55  # of the picture's width
PLAIN = LiftSettings.plain()
VARIANTS = {
    "plain map": PLAIN,
    "+ hip factor 0.65": replace(PLAIN, hip_factor=0.65),
    "+ SpineShoulder 0.03 m higher": replace(PLAIN, shoulder_rise=0.03),
    "+ hand factor 1.75": replace(PLAIN, hand_factor=1.75),
    "+ thigh factor 0.87": replace(PLAIN, thigh_factor=0.87),
    "+ line-of-sight rotation": replace(PLAIN, view_rotation=True),
    "defaults (hip, thigh, rotation)": LiftSettings(),
    "defaults, body 0.93 (this person's size, known)": LiftSettings(scale=0.93),
}


def parse_skeleton(text: str) -> list[np.ndarray]:
    """Frames of a ``.skeleton`` file (datasets.md, 1.3), each ``(bodies, 25, 12)``."""
    lines = iter(text.splitlines())
    frames = []
    for _ in range(int(next(lines))):
        bodies = []
        for _ in range(int(next(lines))):
            next(lines)
            bodies.append([[float(v) for v in next(lines).split()] for _ in range(int(next(lines)))])
        frames.append(np.array(bodies).reshape(-1, 25, 12))
    return frames


def video_frames(path: Path, width: int | None = None, every: int = 1) -> Iterator[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i % every:
                continue
            if width is not None and frame.width > width:
                frame = frame.reformat(width, int(frame.height * width / frame.width) // 2 * 2)
            yield frame.to_ndarray(format="rgb24")


def detect_all(frames: Iterator[np.ndarray], rate: float = 30.0) -> list[RawPose | None]:
    with PoseEstimator(pose_bundle("full"), num_poses=1) as estimator:
        return [next(iter(estimator.detect(frame, i / rate)), None) for i, frame in enumerate(frames)]


def lift_all(
    raws: list[RawPose], size: tuple[int, int], focal: float | None, mirrored: bool, settings: LiftSettings
) -> np.ndarray:
    joints, previous = [], None
    for raw in raws:
        lifted, _, previous = lift(raw, size, focal, previous, mirrored=mirrored, settings=settings)
        joints.append(lifted)
    return np.array(joints, np.float64)


def errors(joints: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance of every joint relative to SpineMid, metres ``(T, 25)``."""
    return np.linalg.norm((joints - joints[:, 1:2]) - (truth - truth[:, 1:2]), axis=-1)


def jitter(joints: np.ndarray) -> float:
    """Mean size of the second difference relative to SpineMid, millimetres per frame squared."""
    return float(np.linalg.norm(np.diff(joints - joints[:, 1:2], 2, axis=0), axis=-1).mean() * 1e3)


def measure_pair(folder: Path) -> dict:
    kinect = np.array([frame[0] for frame in parse_skeleton(next(folder.glob("*.skeleton")).read_text())])
    pictures = list(video_frames(next(folder.glob("*_rgb.avi"))))
    size = (pictures[0].shape[1], pictures[0].shape[0])
    found = detect_all(iter(pictures))
    keep = [i for i, raw in enumerate(found[: len(kinect)]) if raw is not None]
    raws = [raw for raw in (found[i] for i in keep) if raw is not None]
    truth, tracked = kinect[keep, :, :3], kinect[keep, :, 11] == 2
    focal = KINECT_COLOUR_FOCAL * size[0]

    def row(joints: np.ndarray) -> dict:
        e = errors(joints, truth)
        return {
            "relative_m": round(float(e.mean()), 4),
            "tracked_m": round(float(e[tracked].mean()), 4),
            "absolute_m": round(float(np.linalg.norm(joints - truth, axis=-1).mean()), 4),
            "jitter_mm": round(jitter(joints), 2),
        }

    rows = {"taken for an unmirrored picture": row(lift_all(raws, size, focal, False, PLAIN))}
    rows |= {name: row(lift_all(raws, size, focal, True, settings)) for name, settings in VARIANTS.items()}
    rows["defaults, focal length unknown (60 degrees)"] = row(lift_all(raws, size, None, True, LiftSettings()))
    joints = lift_all(raws, size, focal, True, LiftSettings())
    strong = SmoothSettings(min_cutoff=1.0, depth_cutoff=0.7, beta=0.8, speed_cutoff=1.0)
    for name, settings in (
        ("defaults + One-Euro", SmoothSettings()),
        ("defaults + strong One-Euro (1 Hz, beta 0.8)", strong),
    ):
        smooth = smoother(settings)
        rows[name] = row(np.array([smooth(frame, i / 30) for i, frame in zip(keep, joints, strict=True)]))
    rows["Kinect itself"] = row(truth)
    per_joint = {
        name: [round(float(e), 3) for e in (a, b)]
        for name, a, b in zip(
            NTU25.joints,
            errors(lift_all(raws, size, focal, True, PLAIN), truth).mean(0),
            errors(joints, truth).mean(0),
            strict=True,
        )
    }
    return {"frames": len(keep), "without_pose": len(kinect) - len(keep), "rows": rows, "joints_plain_tuned": per_joint}


def single_body(frames: list[np.ndarray]) -> np.ndarray | None:
    return np.array([f[0] for f in frames]) if frames and all(len(f) == 1 for f in frames) else None


def measure_actor(archive: Path, sequences: int = 8) -> dict:
    from engine.render.actor import Actor
    from engine.render.camera import Camera

    camera, actor = Camera.from_fov(640, 480, 60.0), Actor()
    generator = np.random.default_rng(0)
    sides = (-0.8, 0.0, 0.8)
    raws: list[RawPose] = []
    truth: list[np.ndarray] = []
    beside: list[bool] = []
    with zipfile.ZipFile(archive) as files:
        names = [n for n in files.namelist() if n.endswith(".skeleton")]
        done = 0
        for name in generator.permutation(names):
            body = single_body(parse_skeleton(files.read(name).decode()))
            if body is None or len(body) < 30:
                continue
            joints = body[::3][:20, :, :3]
            joints = joints - joints[:, 0].mean(0) + (sides[done % 3], -0.05, 3.0)
            pictures = (actor.render(j.astype(np.float32), camera) for j in joints)
            for raw, j in zip(detect_all(pictures, 10.0), joints, strict=True):
                if raw is not None:
                    raws.append(raw)
                    truth.append(j)
                    beside.append(sides[done % 3] != 0)
            done += 1
            if done == sequences:
                break
    side = np.array(beside)
    rows = {}
    for name, settings in list(VARIANTS.items())[:-1]:
        e = errors(lift_all(raws, (640, 480), camera.focal, False, settings), np.array(truth))
        rows[name] = {
            "all_m": round(float(e.mean()), 4),
            "middle_m": round(float(e[~side].mean()), 4),
            "beside_m": round(float(e[side].mean()), 4),
        }
    return {"frames": len(raws), "sequences": sequences, "rows": rows}


def measure_bones(archive: Path, videos: Path) -> dict:
    def lengths(joints: np.ndarray) -> np.ndarray:
        return np.median([[np.linalg.norm(j[a] - j[b]) for a, b in NTU25.bones] for j in joints], axis=0)

    performers: dict[str, list[np.ndarray]] = {}
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if name.endswith(".skeleton"):
                for frame in parse_skeleton(files.read(name).decode())[::10]:
                    good = [body[:, :3] for body in frame[:1] if (body[:, 11] == 2).mean() > 0.9]
                    performers.setdefault(Path(name).name[8:12], []).extend(good)
    kinect = np.mean([lengths(np.array(v)) for v in performers.values() if len(v) > 3], axis=0)
    people = []
    for path in sorted(videos.iterdir()):
        raws = [
            raw for raw in detect_all(f for i, f in enumerate(video_frames(path, 640)) if i < 40)[5:] if raw is not None
        ]
        if raws:
            people.append(lengths(np.array([map_joints(raw.world, PLAIN) for raw in raws])))
    mediapipe = np.mean(people, axis=0)
    return {
        "performers": sum(len(v) > 3 for v in performers.values()),
        "videos": len(people),
        "rows": {
            NTU25.joints[child]: [round(float(k), 3), round(float(m), 3), round(float(k / m), 2)]
            for (child, _), k, m in zip(NTU25.bones, kinect, mediapipe, strict=True)
        },
    }


def measure_lag(noise_m: tuple[float, float, float] = (0.002, 0.002, 0.005)) -> dict:
    """Known fast motion (a hand swinging 0.3 m at 1.5 Hz, and at rest) plus noise through the filter: error in mm."""
    generator = np.random.default_rng(0)
    times = np.arange(0, 6, 1 / 30)
    swing = np.stack([0.3 * np.sin(2 * np.pi * 1.5 * times), 0 * times, 0.1 * np.cos(2 * np.pi * 1.5 * times)], 1)
    rows = {}
    light, strong = SmoothSettings(), SmoothSettings(min_cutoff=1.0, depth_cutoff=0.7, beta=0.8, speed_cutoff=1.0)
    for name, settings in (("none", None), ("defaults", light), ("strong: 1/0.7 Hz, beta 0.8", strong)):
        result = []
        for motion in (0 * swing, swing):
            noisy = motion + generator.normal(size=motion.shape) * np.array(noise_m)
            if settings is not None:
                cutoff = np.array([settings.min_cutoff, settings.min_cutoff, settings.depth_cutoff])
                one_euro = OneEuro(cutoff, settings.beta, settings.speed_cutoff)
                noisy = np.array([one_euro(x, t) for x, t in zip(noisy, times, strict=True)])
            result.append(round(float(np.linalg.norm(noisy - motion, axis=1)[30:].mean() * 1e3), 1))
        rows[name] = result
    return rows


def table(head: list[str], rows: list[list[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def report(result: dict) -> str:
    pair = result["pair"]
    parts = [
        "# Lifting: MediaPipe's landmarks to NTU-25, measured",
        f"Made by `benchmarks/lifting.py` on {result['machine']}; pose model `full`.",
        "## Against Kinect, one real clip",
        (
            f"One NTU clip (drink water), {pair['frames']} frames of the 1920x1080 colour video "
            f"({pair['without_pose']} without a pose) beside the Kinect v2 skeleton; the video is mirrored. Mean "
            "distance of the 25 joints in metres: relative to SpineMid; the same for joints Kinect tracked (it "
            "only guessed the others, here mostly the left hand); and absolute, in camera space."
        ),
        table(
            ["lift", "relative", "relative, tracked", "absolute", "jitter mm"],
            [[name, *row.values()] for name, row in pair["rows"].items()],
        ),
        (
            "One clip and one person: differences of a centimetre mean little by themselves. Body size is the largest "
            "single error and can't be seen by one camera."
        ),
        table(["joint", "plain", "tuned"], [[name, *row] for name, row in pair["joints_plain_tuned"].items()]),
    ]
    if "actor" in result:
        actor = result["actor"]
        parts += [
            "## Against known joints, rendered actor",
            (
                f"{actor['frames']} frames of {actor['sequences']} NTU sequences, drawn in the picture's middle "
                "or 0.8 m beside it at 3 m, 640x480, 60 degrees."
            ),
            table(["lift", "all", "middle", "beside"], [[name, *row.values()] for name, row in actor["rows"].items()]),
        ]
    if "bones" in result:
        bones = result["bones"]
        parts += [
            "## Bone lengths",
            (
                f"Means over {bones['performers']} NTU performers (Kinect v2) and the people of {bones['videos']} "
                "videos (MediaPipe, plain map); different people, so only large ratios mean anything."
            ),
            table(
                ["bone to", "Kinect m", "MediaPipe m", "ratio"], [[name, *row] for name, row in bones["rows"].items()]
            ),
        ]
    parts += [
        "## Smoothing",
        (
            "A hand at rest and swinging 0.3 m at 1.5 Hz, with noise of 2, 2, 5 mm (several times what the landmarker "
            "leaves): mean error in mm."
        ),
        table(["One-Euro", "at rest", "swinging"], [[name, *row] for name, row in result["lag"].items()]),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pair", type=Path)
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--videos", type=Path)
    options = parser.parse_args()
    result: dict = {"machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"}
    result["pair"] = measure_pair(options.pair)
    if options.raw is not None:
        result["actor"] = measure_actor(options.raw)
        if options.videos is not None:
            result["bones"] = measure_bones(options.raw, options.videos)
    result["lag"] = measure_lag()
    here = Path(__file__).resolve().parent
    (here / "lifting.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "lifting.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
