from __future__ import annotations

import numpy as np
import pytest

from engine.live.window import motion_energy
from engine.render.motions import compose, motion
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.recording import MARGIN_S, Phase, TakeRecorder, motion_curve, movements, trim


def test_movements_are_found_where_they_were_made() -> None:
    parts = [
        motion("stand", 1.5),
        motion("kick", 1.8),
        motion("stand", 1.5),
        motion("squat", 2.4),
        motion("stand", 1.5),
    ]
    sequence, truth = compose(parts, gap=0.1)
    found = movements(sequence)
    acts = [(start, end) for name, start, end in truth if name != "stand"]
    assert len(found) == 2
    for (start, end), (begin, finish) in zip(found, acts):
        assert begin - MARGIN_S - 0.2 < start < begin + 0.5 and finish - 0.5 < end < finish + MARGIN_S + 0.2
    assert trim(sequence) == (found[0][0], found[1][1])
    curve = motion_curve(sequence)
    middle = 60
    near = np.flatnonzero(np.abs(sequence.times - sequence.times[middle]) <= 0.15 + 1e-9)
    assert curve[middle] == pytest.approx(motion_energy(sequence.xyz[near, 0], sequence.times[near]))


def test_nothing_that_moves_is_kept_whole() -> None:
    still = SkeletonSequence(np.ones((30, 1, 25, 3)) * np.arange(25)[:, None], np.arange(30) / 30)
    assert movements(still) == [] and trim(still) == (0.0, 29 / 30)


def run(recorder: TakeRecorder, script: list[tuple[float, float | None]], begin: float = 10.0) -> list[Phase]:
    phases, time = [], begin
    for seconds, level in script:
        for _ in range(round(seconds * 30)):
            phases.append(recorder.update(time, level))
            time += 1 / 30
    return phases


def test_hands_free_recording_takes_the_movement() -> None:
    recorder = TakeRecorder(countdown_s=2.0)
    phases = run(recorder, [(2.5, 0.3), (0.0, None)])
    assert phases[0] is Phase.COUNTDOWN and recorder.phase is Phase.MOVING, "moving in the countdown does not count"
    recorder = TakeRecorder(countdown_s=2.0)
    run(recorder, [(3.0, 0.0), (1.5, 0.8), (2.0, 0.02)])
    assert recorder.phase is Phase.DONE
    assert 12.2 < recorder.start < 13.0 and 15.2 < recorder.end < 15.5
    assert recorder.remaining(11.0) == pytest.approx(1.0) and recorder.remaining(13.0) == 0.0


def test_hands_free_recording_without_anybody_is_missed() -> None:
    recorder = TakeRecorder(countdown_s=1.0, patience_s=2.0)
    run(recorder, [(4.0, None)])
    assert recorder.phase is Phase.MISSED
    endless = TakeRecorder(countdown_s=0.0, most_s=3.0)
    run(endless, [(5.0, 1.0)])
    assert endless.phase is Phase.DONE and endless.end - endless.start == pytest.approx(3.0, abs=0.1)
