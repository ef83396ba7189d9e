"""Make ``assets/demo.mp4``: a rendered person performs actions of a UTD-MHAD test subject, with pauses between them.

``assets/demo.json`` says what is performed when, in the words of the everyday map.

UTD-MHAD was placed in the public domain by its authors; the subject shown is one that no shipped encoder was trained on
(2 and 6 are tested in the everyday set too). The person in the clip is the rendered actor. Prepare the set first:
``python main.py data prepare utd_mhad --raw PATH``, then ``python assets/make_demo.py``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.signal import savgol_filter

from engine.data.merge import EVERYDAY, shipped_tables
from engine.data.store import SequenceStore
from engine.paths import DEMO_CLIP, stores
from engine.render.actor import Actor
from engine.render.appearance import Appearance
from engine.render.camera import Camera, place
from engine.render.motions import compose
from engine.render.scene import Room
from engine.render.video import render_sequence
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence

# (subject, trial, class): performances whose course is easy to read for a person who sees the clip for the first time.
SCENES = (
    (6, 1, "wave"),
    (6, 1, "clap"),
    (6, 1, "throw"),
    (6, 1, "boxing"),
    (6, 1, "lunge"),
    (6, 1, "arm cross"),
    (6, 1, "jog"),
)
IDLE_S = 1.6
# The program is still loading its models when the clip begins to play.
LEAD_IN_S = 2.5


def scene(store: SequenceStore, subject: int, trial: int, label: str) -> SkeletonSequence:
    """One performance at the demo's place, its sensor jitter smoothed."""
    wanted = (
        (store.column("subject") == subject)
        & (store.column("trial") == trial)
        & (store.label == store.classes.index(label))
    )
    found = np.flatnonzero(wanted)
    if len(found) != 1:
        raise SystemExit(f"subject {subject}, trial {trial}, {label}: {len(found)} sequences in the store")
    sequence = store.sequence(int(found[0]))
    xyz = savgol_filter(convert_layout(sequence.xyz, sequence.layout, "ntu25"), 9, 2, axis=0)
    # All scenes stand on one spot of one floor: the pelvis above it, the lower foot on it.
    spot = xyz[0, 0, 0].copy()
    spot[1] = xyz[0, 0, [15, 19], 1].min()
    xyz = xyz - spot + np.array([0.0, -0.9, 2.6])
    words, _ = shipped_tables(EVERYDAY)
    return SkeletonSequence(xyz, sequence.times, name=words.of("utd_mhad")[label])


def idle(pose: np.ndarray, seconds: float, fps: float = 30.0) -> SkeletonSequence:
    """Standing still with a little sway and breath."""
    frames = max(2, round(seconds * fps))
    t = np.arange(frames) / fps
    sway = np.zeros((frames, 1, 25, 3))
    height = (pose[0, :, 1] - pose[0, :, 1].min())[None, :]
    sway[:, 0, :, 0] = 0.004 * np.sin(2 * np.pi * 0.4 * t)[:, None] * height
    sway[:, 0, :, 1] = 0.003 * np.sin(2 * np.pi * 0.3 * t)[:, None] * (height > 0.9)
    return SkeletonSequence(pose[None] + sway, t, name="idle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEMO_CLIP)
    parser.add_argument("--supersample", type=int, default=2)
    arguments = parser.parse_args()
    store = SequenceStore(stores() / "utd_mhad")
    parts: list[SkeletonSequence] = [idle(scene(store, *SCENES[0]).xyz[0], LEAD_IN_S)]
    for subject, trial, label in SCENES:
        performed = scene(store, subject, trial, label)
        parts += [idle(performed.xyz[0], IDLE_S / 2), performed, idle(performed.xyz[-1], IDLE_S / 2)]
    sequence, segments = compose(parts, gap=0.4)
    xyz = place(sequence.xyz, distance=2.5)
    shown = SkeletonSequence(xyz, sequence.times, name="demo")
    actor = Actor(Appearance(), supersample=arguments.supersample)
    camera = Camera.from_fov(640, 480, 60.0)
    render_sequence(shown, arguments.out, actor=actor, camera=camera, background=Room.under(xyz), quality=22)
    scenes = [{"label": name, "start": round(a, 3), "end": round(b, 3)} for name, a, b in segments if name != "idle"]
    truth = {"duration": round(shown.duration, 3), "scenes": scenes}
    arguments.out.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n", "utf-8")
    for performed in scenes:
        print(f"{performed['start']:6.2f} {performed['end']:6.2f}  {performed['label']}")
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB, {shown.duration:.1f} s")


if __name__ == "__main__":
    main()
