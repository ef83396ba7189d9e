"""What is written can be read back with the same times and pictures."""

from __future__ import annotations

import numpy as np
import pytest

from engine.render.actor import Actor
from engine.render.camera import fit_camera
from engine.render.motions import motion
from engine.render.video import VideoWriter, render_frames, render_sequence
from engine.skeleton.sequence import SkeletonSequence


def read(path) -> tuple[list[float], list[np.ndarray]]:
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [f.time for f in frames], [f.to_ndarray(format="rgb24") for f in frames]


def test_times_and_pictures_survive(tmp_path):
    sequence = motion("wave", 1.0, fps=10)
    sequence.times[5:] += 0.35  # a gap, as when a camera stalls
    seen = []
    path = render_sequence(
        sequence,
        tmp_path / "new" / "clip.mp4",
        size=(160, 120),
        actor=Actor(),
        on_progress=lambda i, n: seen.append((i, n)),
    )
    times, images = read(path)
    assert times == pytest.approx(sequence.times, abs=1e-4)
    assert seen == [(i + 1, 10) for i in range(10)]
    frames = list(render_frames(sequence, Actor(), fit_camera(sequence.xyz, 160, 120)))
    for written, drawn in zip(images, frames, strict=True):
        assert written.shape == (120, 160, 3)
        assert np.abs(written.astype(int) - drawn.astype(int)).mean() < 4


def test_room_stands_still(tmp_path):
    frames = list(render_frames(motion("squat", 1.2, fps=10), Actor(), fit_camera(motion("squat", 1).xyz, 160, 120)))
    assert all((frame[:, :10] == frames[0][:, :10]).all() for frame in frames)


def test_odd_sizes_times_and_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "a.mp4", 161, 120)
    image = np.zeros((32, 32, 3), np.uint8)
    with VideoWriter(tmp_path / "b.mp4", 32, 32) as writer:
        writer.write(image, 0.0)
        with pytest.raises(ValueError, match="must increase"):
            writer.write(image, 0.0)
        with pytest.raises(ValueError, match="expected"):
            writer.write(image[:10], 1.0)


def test_other_layouts_are_refused(tmp_path):
    sequence = SkeletonSequence(np.ones((2, 1, 33, 3)), np.array([0.0, 0.1]), "blazepose33")
    with pytest.raises(ValueError, match="convert the sequence"):
        render_sequence(sequence, tmp_path / "c.mp4")
