"""The real pose model on real and rendered pictures: chirality from pixels, second people, time stamps, errors."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lifting import video_frames
from engine import paths
from engine.live import pose
from engine.live.lift import lift
from engine.live.pose import PoseEstimator, PoseModelError
from engine.live.tracking import PersonTracker
from engine.live.types import RawPose
from engine.render.actor import Actor
from engine.render.camera import Camera
from engine.render.motions import motion
from engine.skeleton.layout import NTU25
from tests.shared_data import shared

CAMERA = Camera.from_fov(480, 360, 60.0)
SIZE = (480, 360)
EMPTY = np.full((360, 480, 3), 120, np.uint8)
J = {name: i for i, name in enumerate(NTU25.joints)}


@pytest.fixture(scope="module")
def estimator() -> Iterator[PoseEstimator]:
    with PoseEstimator(paths.POSE_BUNDLE) as running:
        yield running


@pytest.fixture(scope="module")
def standing() -> np.ndarray:
    return motion("stand", 0.1, position=(0.0, -0.1, 3.2)).xyz[0, 0]


@pytest.fixture(scope="module")
def picture(standing: np.ndarray) -> np.ndarray:
    return Actor().render(standing, CAMERA)


def beside(joints: np.ndarray, x: float) -> np.ndarray:
    return joints + np.array([x, 0.0, 0.0], np.float32)


def one_by_one(estimator: PoseEstimator, pictures: list[np.ndarray], start: float = 0.0) -> list[tuple[RawPose, ...]]:
    return [estimator.detect(p, start + i / 30) for i, p in enumerate(pictures)]


def test_left_stays_left_from_pixels(standing: np.ndarray) -> None:
    """The actor raises the left arm (Kinect coordinates); rendered, detected, lifted: the left hand is up."""
    raised = standing.copy()
    shoulder = raised[J["ShoulderLeft"]]
    for name, height in (("Elbow", 0.27), ("Wrist", 0.50), ("Hand", 0.57), ("HandTip", 0.63), ("Thumb", 0.58)):
        raised[J[f"{name}Left"]] = shoulder + np.array([-0.06, height, 0.0], np.float32)
    with PoseEstimator(paths.POSE_BUNDLE, num_poses=1) as estimator:
        for raw in one_by_one(estimator, [Actor().render(raised, CAMERA)] * 3):
            joints, confidence, _ = lift(raw[0], SIZE, CAMERA.focal)
    assert joints[J["HandLeft"], 1] > joints[J["Head"], 1]
    assert joints[J["HandRight"], 1] < joints[J["SpineMid"], 1]
    assert joints[J["ShoulderRight"], 0] > joints[J["ShoulderLeft"], 0]
    assert joints[J["HipRight"], 0] > joints[J["HipLeft"], 0]
    assert confidence[J["HandLeft"]] > 0.5
    relative = (joints - joints[J["SpineMid"]]) - (raised - raised[J["SpineMid"]])
    assert np.linalg.norm(relative, axis=1).mean() < 0.13
    assert joints[J["SpineBase"]] == pytest.approx(raised[J["SpineBase"]], abs=0.6)


def test_empty_picture_has_nobody(estimator: PoseEstimator) -> None:
    assert estimator.detect(EMPTY, 0.0) == ()


def test_times_may_repeat_and_go_back(estimator: PoseEstimator, picture: np.ndarray) -> None:
    for time in (5.0, 5.0, 5.0004, 2.0, 2.033, -3.0, 1e6, 0.0):
        found = estimator.detect(picture, time)
    assert len(found) == 1
    assert found[0].image.shape == (33, 3) and found[0].world.shape == (33, 3) and found[0].visibility.shape == (33,)
    assert found[0].image.dtype == found[0].world.dtype == found[0].visibility.dtype == np.float32
    assert found[0].visibility.mean() > 0.6


def test_true_time_steps_reach_the_model(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    with PoseEstimator(paths.POSE_BUNDLE, num_poses=1) as estimator:
        landmarker = estimator._first
        assert landmarker is not None
        original = landmarker._run

        def spy(image: np.ndarray, milliseconds: int) -> object:
            seen.append(milliseconds)
            return original(image, milliseconds)

        monkeypatch.setattr(landmarker, "_run", spy)
        for time in (100.0, 100.04, 100.04, 3.0, 3.1):
            estimator.detect(EMPTY, time)
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))
    assert seen[1] - seen[0] == 40 and seen[4] - seen[3] == 100


def test_second_person_is_found_within_half_a_second(standing: np.ndarray, picture: np.ndarray) -> None:
    actor = Actor()
    two = actor.render(np.stack([beside(standing, -0.7), beside(standing, 0.7)]), CAMERA)
    one = actor.render(beside(standing, -0.7), CAMERA)
    with PoseEstimator(paths.POSE_BUNDLE) as estimator:
        alone = one_by_one(estimator, [one] * 10)
        together = one_by_one(estimator, [two] * 16, start=10 / 30)
        again = one_by_one(estimator, [one] * 12, start=26 / 30)
    assert [len(found) for found in alone] == [1] * 10
    assert len(together[-1]) == 2
    sides = sorted(float(raw.image[[23, 24], 0].mean()) for raw in together[-1])
    # Kinect x grows to the picture's left.
    expected = sorted(CAMERA.project(beside(standing, x))[0, 0] / SIZE[0] for x in (-0.7, 0.7))
    assert sides == pytest.approx(expected, abs=0.04)
    assert len(again[-1]) == 1


def test_whoever_stays_is_followed_on(standing: np.ndarray) -> None:
    actor = Actor()
    left, right = beside(standing, -0.7), beside(standing, 0.7)
    two, only_left, only_right = (actor.render(j, CAMERA) for j in (np.stack([left, right]), left, right))
    for stays in (only_left, only_right):
        with PoseEstimator(paths.POSE_BUNDLE) as estimator:
            assert len(one_by_one(estimator, [two] * 5)[-1]) == 2
            assert len(one_by_one(estimator, [stays] * 8, start=5 / 30)[-1]) == 1


def test_one_person_mode_gives_one(standing: np.ndarray) -> None:
    two = Actor().render(np.stack([beside(standing, -0.7), beside(standing, 0.7)]), CAMERA)
    with PoseEstimator(paths.POSE_BUNDLE, num_poses=1) as estimator:
        assert {len(found) for found in one_by_one(estimator, [two] * 6)} == {1}


def test_two_real_people() -> None:
    pictures = list(video_frames(shared("videos/ntu_two_persons_hug.avi"), width=640))[:24]
    tracker = PersonTracker()
    with PoseEstimator(paths.POSE_BUNDLE) as estimator:
        people = [
            {p.person: p for p in tracker.update(raws, i / 30, (pictures[0].shape[1], pictures[0].shape[0]))}
            for i, raws in enumerate(one_by_one(estimator, pictures))
        ]
    both = [found for found in people if sorted(found) == [1, 2]]
    assert len(both) >= 20
    for person in (1, 2):
        hips = np.array([found[person].raw.image[[23, 24], 0].mean() for found in both])
        assert np.abs(np.diff(hips)).max() < 0.03


@pytest.mark.parametrize("name", ["plank_correct_002.mp4", "squat_correct_001.avi", "squat_correct_004.mp4"])
def test_no_ghost_beside_one_real_person(name: str) -> None:
    """In these videos the model invents a second person: on the legs, over the head, in a weight plate."""
    with PoseEstimator(paths.POSE_BUNDLE) as estimator:
        found = one_by_one(estimator, list(video_frames(shared(f"videos/{name}"), width=640))[:60])
    assert {len(raws) for raws in found} == {1}


def test_pictures_of_wrong_form_are_refused(estimator: PoseEstimator) -> None:
    for wrong in (EMPTY[..., 0], EMPTY.astype(np.float32), EMPTY[:0]):
        with pytest.raises(ValueError, match="RGB picture"):
            estimator.detect(wrong, 0.0)
    with pytest.raises(ValueError, match="num_poses"):
        PoseEstimator(paths.POSE_BUNDLE, num_poses=3)


def test_size_may_change_and_memory_order_does_not_matter(picture: np.ndarray) -> None:
    with PoseEstimator(paths.POSE_BUNDLE) as estimator:
        assert len(estimator.detect(picture, 0.0)) == 1
        assert len(estimator.detect(np.ascontiguousarray(picture[::2, ::2]), 0.1)) == 1
        assert len(estimator.detect(picture[:, :, ::-1][:, :, ::-1], 0.2)) == 1


def test_missing_damaged_and_foreign_bundles_say_what_to_do(tmp_path: Path) -> None:
    half = tmp_path / "half.task"
    half.write_bytes(paths.POSE_BUNDLE.read_bytes()[:100_000])
    foreign = tmp_path / "foreign.task"
    with zipfile.ZipFile(foreign, "w") as content:
        content.writestr("something.txt", "else")
    for path in (tmp_path / "missing.task", half, foreign):
        with pytest.raises(PoseModelError, match="build_pose_bundle") as caught:
            PoseEstimator(path)
        assert str(path) in str(caught.value)


def test_closing_twice_and_using_it_afterwards() -> None:
    estimator = PoseEstimator(paths.POSE_BUNDLE)
    estimator.close()
    estimator.close()
    with pytest.raises(PoseModelError, match="closed"):
        estimator.detect(EMPTY, 0.0)


def test_error_stream_keeps_what_is_not_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with pose._quiet_stderr():
        os.write(2, b"W0000 00:00:1795179411.046726 7466 some.cc:121] noise\nINFO: Created delegate\nimportant\n")
    assert capfd.readouterr().err == "important\n"


_CHILD = """
import os, sys
import engine.live.pose, engine.live.tracking, engine.live.bundle, engine.live.lift
assert not {"mediapipe", "cv2", "torch", "scipy"} & set(sys.modules), "importing must stay cheap"
os.environ["QT_QPA_FONTDIR"] = "/mine"
from engine import paths
import numpy as np
with engine.live.pose.PoseEstimator(paths.POSE_BUNDLE) as estimator:
    estimator.detect(np.full((120, 160, 3), 90, np.uint8), 0.0)
assert "cv2" in sys.modules and "torch" not in sys.modules
assert "QT_QPA_PLATFORM_PLUGIN_PATH" not in os.environ
print(os.environ["QT_QPA_FONTDIR"])
"""


def test_import_is_cheap_quiet_and_leaves_qt_alone() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QT_")}
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, cwd=paths.PROJECT, env=clean)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "/mine\n"
    assert done.stderr == ""
