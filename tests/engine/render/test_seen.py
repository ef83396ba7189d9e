"""The point of the actor: the shipped pose model sees a person, with the joints where they are and left on the left."""

from __future__ import annotations

import numpy as np
import pytest

from engine.paths import POSE_BUNDLE
from engine.render.actor import Actor
from engine.render.appearance import Appearance
from engine.render.camera import fit_camera
from engine.render.motions import motion
from engine.render.video import render_frames

SHOULDERS, WRISTS = (11, 12), (15, 16)


@pytest.mark.parametrize(("name", "seed"), [("wave", 1), ("squat", 2)])
def test_every_frame_is_detected(name, seed):
    mp = pytest.importorskip("mediapipe")
    if not POSE_BUNDLE.exists():
        pytest.skip("the pose bundle has not been built: run assets/build_pose_bundle.py")
    vision = mp.tasks.vision
    options = vision.PoseLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(POSE_BUNDLE)), running_mode=vision.RunningMode.VIDEO
    )
    sequence = motion(name, 2.4, fps=5)
    camera = fit_camera(sequence.xyz, 320, 240)
    errors = []
    with vision.PoseLandmarker.create_from_options(options) as landmarker:
        for i, image in enumerate(render_frames(sequence, Actor(Appearance.random(seed)), camera)):
            picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=image)
            found = landmarker.detect_for_video(picture, 200 * i + 1).pose_landmarks
            assert len(found) == 1, f"frame {i}"
            seen = np.array([(p.x * 320, p.y * 240) for p in found[0]])
            assert seen[SHOULDERS[1], 0] < seen[SHOULDERS[0], 0]
            joints = camera.project(sequence.xyz[i, 0])
            errors.append(np.abs(seen[[*SHOULDERS, *WRISTS]] - joints[[4, 8, 6, 10]]).max(-1))
    # Pixels of a person about 160 pixels tall: 4 are some 4 cm.
    assert np.median(errors) < 4
