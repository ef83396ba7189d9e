from __future__ import annotations

import numpy as np
import pytest

from engine.data.safe_load import load_npz
from engine.live.repetition import count_repetitions
from engine.render.motions import motion
from engine.skeleton.convert import convert_layout
from tests.shared_data import shared


@pytest.mark.parametrize(
    ("name", "seconds", "count"),
    [
        ("squat", 7.2, 3), ("squat", 12.0, 5), ("jumping jack", 2.2, 2), ("jumping jack", 9.9, 9), ("arm curl", 5.1, 3),
        ("sit and stand", 8.0, 2), ("bow", 8.4, 3), ("kick", 5.4, 3), ("push", 7.2, 4), ("lunge", 7.8, 3),
    ],
)  # fmt: skip
def test_what_is_repeated_is_counted_exactly(name: str, seconds: float, count: int) -> None:
    for fps in (12.0, 30.0):
        performance = motion(name, seconds, fps)
        found = count_repetitions(performance.xyz[:, 0], performance.times)
        assert found is not None and found.count == count
        assert found.period == pytest.approx(seconds / count, rel=0.08)


@pytest.mark.parametrize(
    ("name", "seconds", "rate"),
    [("wave", 6.0, 1.9), ("clap", 6.0, 2.0), ("jog in place", 6.0, 1.4), ("walk in place", 8.0, 0.95)],
)
def test_what_swings_in_between_is_counted_to_one(name: str, seconds: float, rate: float) -> None:
    """These rise and fade at the ends, so that the first and last swing are no whole ones."""
    performance = motion(name, seconds)
    found = count_repetitions(performance.xyz[:, 0], performance.times)
    assert found is not None and found.period == pytest.approx(1 / rate, rel=0.1)
    fading = 0.34 if name in ("wave", "clap") else 0.2
    assert (1 - fading) * seconds * rate - 1.2 <= found.count <= seconds * rate


@pytest.mark.parametrize(
    "name", ["squat", "lunge", "bow", "throw", "raise left arm", "cross arms", "swipe left", "draw circle", "kick"]
)
def test_what_is_done_once_is_not_counted(name: str) -> None:
    performance = motion(name, 2.4)
    assert count_repetitions(performance.xyz[:, 0], performance.times) is None


def test_standing_too_short_and_empty() -> None:
    quiet = motion("stand", 4.0)
    assert count_repetitions(quiet.xyz[:, 0], quiet.times) is None
    assert count_repetitions(quiet.xyz[:3, 0], quiet.times[:3]) is None
    assert count_repetitions(np.zeros((0, 25, 3)), np.zeros(0)) is None
    still = np.repeat(quiet.xyz[:1, 0], 90, 0)
    assert count_repetitions(still, np.arange(90) / 30) is None


def test_real_jumping_jacks_are_counted_as_the_wrists_rise() -> None:
    """Kinder-Gator's "two jumping jacks" are mostly five: the reference counts how often the wrists come up."""
    from scipy.signal import find_peaks

    data = load_npz(shared("kinder_gator/kinder_gator.npz"))
    chosen = np.flatnonzero(data["classes"][data["label"]] == "Do-two-jumping-jacks")
    same, off = 0, []
    for i in chosen:
        xyz = data["xyz"][data["start"][i] : data["start"][i + 1]]
        joints = convert_layout(xyz[:, None], "kinect20", "ntu25")[:, 0]
        height = joints[:, [6, 10], 1].mean(1) - joints[:, 20, 1]
        peaks, _ = find_peaks(height, prominence=0.4 * np.ptp(height))
        found = count_repetitions(joints, np.arange(len(joints)) * 0.032)
        count = 0 if found is None else found.count
        same += count == len(peaks)
        off.append(abs(count - len(peaks)))
    assert same >= 0.75 * len(chosen) and float(np.median(off)) == 0.0
