from __future__ import annotations

import numpy as np
import pytest

from engine.live.types import PersonPose, PoseResult
from engine.live.window import PoseWindow, motion_energy
from tests.engine.live.helpers import waving_pose

BODY = np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32)
BODY[0], BODY[20] = (0, 0, 3), (0, 0.5, 3)


def pose(time: float, *persons: int, joints: np.ndarray = BODY) -> PoseResult:
    raw = waving_pose(0.0)
    people = tuple(
        PersonPose(p, (joints + p + time).astype(np.float32), np.full(25, 0.5, np.float32), raw) for p in persons
    )
    return PoseResult(time, 0, 0.0, (640, 480), people)


def filled(seconds: float, *persons: int, capacity: float = 3.0, fps: float = 30.0) -> PoseWindow:
    window = PoseWindow(capacity)
    for i in range(round(seconds * fps) + 1):
        window.add(pose(i / fps, *persons))
    return window


def test_sequence_holds_the_last_seconds_and_one_frame_before() -> None:
    window = filled(2.0, 1)
    sequence = window.sequence(1, 1.0)
    assert sequence is not None
    assert sequence.times[-1] == pytest.approx(2.0) and sequence.times[0] == pytest.approx(1.0 - 1 / 30, abs=1e-6)
    assert len(sequence) == 32 and sequence.xyz.shape == (32, 1, 25, 3)
    assert np.allclose(sequence.xyz[-1, 0], BODY + 1 + 2.0, atol=1e-5)
    assert sequence.confidence is not None and (sequence.confidence == 0.5).all()


def test_end_cuts_later_frames_off() -> None:
    sequence = filled(2.0, 1).sequence(1, 0.5, end=1.0)
    assert sequence is not None and sequence.times[-1] == pytest.approx(1.0)


def test_other_person_is_in_slot_one_where_present() -> None:
    window = PoseWindow()
    for i in range(10):
        window.add(pose(i / 30, *((1, 2) if i >= 5 else (1,))))
    sequence = window.sequence(1, 5.0, slots=2)
    assert sequence is not None and sequence.xyz.shape == (10, 2, 25, 3)
    assert not sequence.xyz[:5, 1].any() and np.allclose(sequence.xyz[5:, 1] - sequence.xyz[5:, 0], 1, atol=1e-5)
    other = window.sequence(2, 5.0, slots=2)
    assert other is not None and len(other) == 5 and np.allclose(other.xyz[:, 0] - other.xyz[:, 1], 1, atol=1e-5)


def test_gap_starts_anew_and_short_gap_does_not() -> None:
    window = filled(1.0, 1)
    window.add(pose(1.45, 1))
    assert window.span(1) == pytest.approx(1.45)
    window.add(pose(2.0, 1))
    assert window.span(1) == 0.0


def test_absent_person_is_forgotten() -> None:
    window = filled(1.0, 1, 2)
    window.add(pose(1.4, 1))
    assert window.persons() == (1, 2)
    window.add(pose(1.6, 1))
    assert window.persons() == (1,) and window.sequence(2, 1.0) is None


def test_time_running_backwards_starts_anew() -> None:
    window = filled(1.0, 1)
    window.add(pose(0.2, 1))
    assert window.span(1) == 0.0 and window.time == pytest.approx(0.2)


def test_memory_is_bounded() -> None:
    window = filled(60.0, 1, 2, capacity=2.0)
    assert len(window) <= 2 * (2.0 * 30 + 3)
    fast = PoseWindow(1.0)
    for i in range(5000):
        fast.add(pose(i * 1e-6, 1))
    assert len(fast) <= 122


def test_not_finite_joints_are_left_out() -> None:
    window = filled(0.5, 1)
    bad = BODY.copy()
    bad[3, 1] = np.nan
    window.add(pose(0.6, 1, joints=bad))
    assert window.skipped == 1
    sequence = window.sequence(1, 5.0)
    assert sequence is not None and np.isfinite(sequence.xyz).all() and sequence.times[-1] == pytest.approx(0.5)


def test_motion_energy_of_a_known_speed() -> None:
    """One joint of 25 moves at 1 m/s, the trunk is 0.5 m: 1 / 25 / 0.5 trunk lengths per second."""
    times = np.arange(31) / 30
    joints = np.repeat(BODY[None], 31, 0)
    joints[:, 7, 1] += times
    assert motion_energy(joints, times) == pytest.approx(0.08, rel=1e-3)
    # Walking past as a whole is no gesture, and jitter counts little.
    walking = np.repeat(BODY[None], 31, 0) + times[:, None, None]
    assert motion_energy(walking, times) == pytest.approx(0.0, abs=1e-5)
    jitter = np.repeat(BODY[None], 31, 0) + np.random.default_rng(1).normal(0, 0.003, (31, 25, 3))
    assert motion_energy(jitter, times) < 0.1


@pytest.mark.parametrize("count", [0, 1])
def test_motion_of_too_little_is_zero(count: int) -> None:
    assert motion_energy(np.zeros((count, 25, 3)), np.arange(count) / 30) == 0.0
