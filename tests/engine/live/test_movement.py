from __future__ import annotations

import weakref

import numpy as np
import pytest

from engine.live.movement import MovementLog, core, newest_movement
from engine.render.motions import compose, motion
from engine.skeleton.speed import joint_speed

TIMES = np.arange(0, 6, 0.1)


def curve(*strokes: tuple[float, float, float]) -> np.ndarray:
    """Speeds that are ``height`` from ``start`` to ``end`` and 0.02 elsewhere."""
    out = np.full(len(TIMES), 0.02)
    for start, end, height in strokes:
        out[(TIMES >= start - 1e-9) & (TIMES < end - 1e-9)] = height
    return out


def test_speed_against_a_loop() -> None:
    performance = motion("wave", 2.0)
    joints, times = performance.xyz[:, 0].astype(np.float64), performance.times
    relative = joints - joints[:, :1]
    trunk = np.median([np.linalg.norm(pose[20]) for pose in relative])
    found = joint_speed(joints, times)
    for i in range(len(times)):
        span = [k for k in range(len(times)) if abs(times[k] - times[i]) <= 0.125 + 1e-9]
        a, b = min(span[0], len(times) - 2), max(span[-1], 1)
        moved = np.mean([np.linalg.norm(relative[b, v] - relative[a, v]) for v in range(25)])
        assert found[i] == pytest.approx(moved / (times[b] - times[a]) / trunk)


def test_frames_far_apart_have_a_speed() -> None:
    times = np.array([0.0, 0.033, 0.8, 1.6, 1.633])
    joints = np.zeros((5, 25, 3))
    joints[:, 20, 1] = 1.0
    joints[:, 1:, 0] = times[:, None] * 2
    speed = joint_speed(joints, times)
    trunk = np.median(np.hypot(1.0, 2 * times))
    assert np.allclose(speed, 2 * 24 / 25 / trunk)


def test_newest_movement_and_its_rests() -> None:
    moved = newest_movement(curve((1.0, 2.0, 1.0), (3.0, 4.0, 1.0)), TIMES, 0.1)
    assert (moved.since, moved.until, moved.chain) == (pytest.approx(3.0), pytest.approx(4.0), pytest.approx(3.0))
    going = newest_movement(curve((1.0, 2.0, 1.0), (2.1, 6.0, 1.0)), TIMES, 0.1)
    assert going.since == pytest.approx(1.0) and going.until is None  # a lull of one frame is no rest
    held = newest_movement(curve((1.0, 2.0, 1.0), (2.4, 6.0, 1.0)), TIMES, 0.1)
    assert held.since == pytest.approx(2.4) and held.chain == pytest.approx(1.0)
    assert newest_movement(np.ones(len(TIMES)), TIMES, 0.1).since is None


def test_core_leaves_out_getting_ready_and_settling() -> None:
    speed = curve((0.5, 0.9, 0.2), (1.5, 3.0, 1.0), (3.2, 4.0, 1.5), (4.4, 4.8, 0.3))
    start, end = core(speed, TIMES, 0.1) or (0.0, 0.0)
    assert start == pytest.approx(1.5) and end == pytest.approx(3.9)
    beats = curve(*[(0.5 * i, 0.5 * i + 0.2, 1.0) for i in range(1, 10)])
    assert core(beats, TIMES, 0.1) == (pytest.approx(0.5), pytest.approx(4.6))  # equal strokes all stay
    assert core(curve(), TIMES, 0.1) is None


def test_log_fed_in_pieces_equals_the_whole() -> None:
    performance, parts = compose(
        [motion("wave", 2.0), motion("stand", 1.5), motion("squat", 2.4), motion("stand", 0.8)], gap=0.3
    )
    joints, times = performance.xyz[:, 0], performance.times
    log = MovementLog()
    for end in range(4, len(times) + 4, 4):
        begin = max(0, end - 20)
        log.add(1, times[begin:end], joints[begin:end])
    speed, at = log.speed(1, 0.0)
    np.testing.assert_array_equal(at, times)
    np.testing.assert_allclose(speed, joint_speed(joints, times), rtol=0.02, atol=1e-3)
    kept, _ = log.joints(1, 1.0, 2.0)
    np.testing.assert_array_equal(kept, joints[(times >= 1.0) & (times <= 2.0)])
    _, squat_start, squat_end = parts[2]
    moved = log.movement(1, 0.15)
    # The bottom of a squat is a short rest: the chain of movements began before it.
    assert moved.chain == pytest.approx(squat_start, abs=0.35) and moved.until == pytest.approx(squat_end, abs=0.35)
    log.keep_only([2])
    assert log.movement(1, 0.15).since is None


def test_log_does_not_keep_the_windows_it_was_fed_with() -> None:
    log = MovementLog()
    window = np.random.default_rng(0).standard_normal((100, 25, 3))
    gone = weakref.ref(window)
    log.add(1, np.arange(70, 100) / 30, window[70:])
    del window
    assert gone() is None and len(log.joints(1, 0.0)[1]) == 30


def test_time_that_goes_back_starts_anew() -> None:
    log, pose = MovementLog(), np.ones((3, 25, 3), np.float32)
    log.add(1, np.array([5.0, 5.1, 5.2]), pose)
    log.add(1, np.array([1.0, 1.1, 1.2]), pose)
    assert log.joints(1, 0.0)[1].tolist() == [1.0, 1.1, 1.2]


def test_an_action_longer_than_the_log_keeps_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.live.movement.KEEP_S", 2.0)
    performance = motion("wave", 6.0)
    log = MovementLog()
    for end in range(15, len(performance) + 1, 15):
        log.add(1, performance.times[end - 15 : end], performance.xyz[end - 15 : end, 0])
    assert 1.9 < np.ptp(log.joints(1, 0.0)[1]) < 2.8
    start, end = log.core(1, 0.2, 5.9, 0.15)
    assert start == 0.2 and 5.0 < end <= 5.9
    assert log.core(1, 4.5, 5.9, 0.15)[0] >= 4.5


def test_pose_change_is_the_distance_of_two_poses_wherever_the_person_stands() -> None:
    log = MovementLog()
    times = np.arange(0, 4, 0.1)
    joints = np.zeros((40, 25, 3), np.float32)
    joints[:, 20, 1] = 0.5
    joints[20:, 6, 1] = 1.0
    joints += times[:, None, None]
    log.add(1, times, joints)
    assert log.pose_change(1, 1.0, 3.0) == pytest.approx(1.0 / 25 / 0.5)
    assert log.pose_change(1, 0.5, 1.5) == pytest.approx(0.0, abs=1e-6)
    assert log.pose_change(1, 1.0, 9.0) is None and log.pose_change(2, 1.0, 3.0) is None
