from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from engine.live.errors import TraceError
from engine.live.trace import TraceWriter, read_trace, world_from_image
from engine.live.types import PersonPose, PoseResult
from tests.engine.live.helpers import waving_pose
from tests.shared_data import shared


def result(time: float, persons: int = 1, size: tuple[int, int] = (640, 480)) -> PoseResult:
    people = tuple(
        PersonPose(i + 1, np.zeros((25, 3), np.float32), np.ones(25, np.float32), waving_pose(time + i))
        for i in range(persons)
    )
    return PoseResult(time, 0, 0.0, size, people)


def written(count: int = 5) -> str:
    stream = io.StringIO()
    writer = TraceWriter(stream, "camera 0")
    for i in range(count):
        writer.write(result(10 + i / 30, persons=i % 3, size=(640, 480) if i < 3 else (320, 240)), origin=10.0)
    return stream.getvalue()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.jsonl"
    path.write_text(written())
    trace = read_trace(path)
    assert trace.times == pytest.approx([i / 30 for i in range(5)], abs=1e-6)
    assert [len(p) for p in trace.poses] == [0, 1, 2, 0, 1]
    assert trace.sizes[0] == (640, 480) and trace.sizes[4] == (320, 240)
    expected = waving_pose(10 + 2 / 30 + 1)
    assert np.abs(trace.poses[2][1].world - expected.world).max() < 1e-5
    assert np.abs(trace.poses[2][1].image - expected.image).max() < 1e-5
    assert trace.poses[2][1].visibility == pytest.approx(expected.visibility, abs=1e-4)


def test_a_cut_last_line_loses_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.jsonl"
    path.write_text(written()[:-200])
    assert len(read_trace(path)) == 4


def test_damage_in_the_middle_names_the_line(tmp_path: Path) -> None:
    lines = written().splitlines()
    lines[2] = lines[2][:50]
    path = tmp_path / "landmarks.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(TraceError, match="line 3 is damaged"):
        read_trace(path)


def test_header_only_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.jsonl"
    path.write_text(written(0))
    with pytest.raises(TraceError, match="empty trace"):
        read_trace(path)


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"xyz": np.zeros((2, 3))}, "no array 'landmarks'"),
        ({"landmarks": np.zeros((4, 17, 3))}, r"expected \(frames, 33, 4\)"),
        ({"landmarks": np.zeros((4, 33, 4)), "times": np.zeros(4)}, "increasing"),
        ({"landmarks": np.zeros((0, 33, 4))}, "empty trace"),
    ],
)
def test_wrong_npz_is_told(tmp_path: Path, arrays: dict[str, np.ndarray], part: str) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)
    with pytest.raises(TraceError, match=part):
        read_trace(path)


def test_nan_frames_have_nobody(tmp_path: Path) -> None:
    pose = waving_pose(0.3)
    landmarks = np.repeat(np.concatenate([pose.image, pose.visibility[:, None]], 1)[None], 4, 0)
    landmarks[1] = np.nan
    landmarks[2, 15, 2] = np.inf
    np.savez(tmp_path / "t.npz", landmarks=landmarks, fps=np.array(10.0))
    trace = read_trace(tmp_path / "t.npz")
    assert [len(p) for p in trace.poses] == [1, 0, 0, 1]
    assert trace.times == pytest.approx([0, 0.1, 0.2, 0.3])


def test_world_from_image_has_a_trunk_of_half_a_metre() -> None:
    pose = waving_pose(0.0)
    world = world_from_image(pose.image, (640, 480))
    assert np.abs(world[[23, 24]].mean(0)).max() < 1e-6
    assert np.linalg.norm(world[[11, 12]].mean(0)) == pytest.approx(0.5, abs=1e-5)
    assert np.abs(world[:, :2] - pose.world[:, :2]).max() < 0.05


def test_real_trace_without_world_landmarks(tmp_path: Path) -> None:
    with np.load(shared("landmarks/pushfit_mediapipe.npz")) as file:
        part = file["landmarks"][:60]
    np.savez(tmp_path / "push.npz", landmarks=part)
    trace = read_trace(tmp_path / "push.npz")
    found = sum(map(len, trace.poses))
    assert len(trace) == 60 and found == int(np.isfinite(part).all((1, 2)).sum())
