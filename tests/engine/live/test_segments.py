"""What the movement adds to the segments of tests/engine/live/test_decision.py: boundaries, slips, echoes."""

from __future__ import annotations

import pytest

from engine.live.segments import SegmentBuilder
from engine.live.types import LiveDecision, Segment

NAMES = {"w": "wave", "c": "clap", "-": None}


def play(
    builder: SegmentBuilder,
    script: str,
    moves: list[tuple[float, float]],
    bridge: bool = False,
    holds: tuple[float, float] = (0.0, 0.0),
) -> list[Segment]:
    """Ten decisions a second, one letter each; ``moves`` are the times in which the person moves.

    From the first to the second of ``holds`` the person stands otherwise than at the beginning.
    """
    closed = []
    for i, letter in enumerate(script):
        now = i / 10
        past = [(a, b) for a, b in moves if a <= now]
        since = past[-1][0] if past else None
        until = past[-1][1] if past and past[-1][1] + 0.2 <= now else None
        chain = past[0][0] if past and bridge else None
        held = holds[0] <= now < holds[1]
        closed += builder.update(LiveDecision(now, 1, NAMES[letter], 0.8, (), 0.0), since, until, chain, held)
    return closed + builder.close_all()


def test_a_segment_is_the_movement_and_final_soon_after_it() -> None:
    builder = SegmentBuilder(lag=1.0, merge_s=0.6, reach=2.7)
    (wave,) = play(builder, "-" * 20 + "w" * 25, [(1.0, 3.0)])
    assert (wave.start, wave.end) == (pytest.approx(1.0), pytest.approx(3.0))
    early = SegmentBuilder(lag=1.0, merge_s=0.6, reach=2.7)
    assert play(early, "-" * 20 + "w" * 15, [(1.0, 3.0)]) == [] or early.open_segments() == ()
    # Closed by the rest, while the word still stands in the encoder's window.
    builder = SegmentBuilder(lag=1.0, merge_s=0.6, reach=2.7)
    closed_at = []
    for i in range(45):
        now = i / 10
        label = "wave" if i >= 20 else None
        until = 3.0 if now >= 3.2 else None
        if builder.update(LiveDecision(now, 1, label, 0.8, (), 0.0), 1.0, until):
            closed_at.append(now)
    assert closed_at == [pytest.approx(3.6)]


def test_a_movement_too_long_ago_is_no_start() -> None:
    (wave,) = play(SegmentBuilder(lag=1.0, reach=2.0), "-" * 40 + "w" * 10, [(1.0, 9.0)])
    assert wave.start == pytest.approx(3.0)


def test_a_lull_in_the_action_does_not_cut_its_beginning_off() -> None:
    moves = [(1.0, 1.8), (2.1, 3.5)]
    (cut,) = play(SegmentBuilder(reach=2.7), "-" * 24 + "w" * 20, moves)
    (whole,) = play(SegmentBuilder(reach=2.7), "-" * 24 + "w" * 20, moves, bridge=True)
    assert cut.start == pytest.approx(2.1) and whole.start == pytest.approx(1.0)


def test_a_corrected_word_is_one_segment() -> None:
    script = "-" * 15 + "c" * 5 + "w" * 20
    (wave,) = play(SegmentBuilder(slip_s=1.0, reach=2.7), script, [(1.0, 3.0)])
    assert wave.label == "wave" and wave.start == pytest.approx(1.0)
    assert [s.label for s in play(SegmentBuilder(slip_s=0.0, reach=2.7), script, [(1.0, 3.0)])] == ["clap", "wave"]
    long = "-" * 15 + "c" * 20 + "w" * 20
    assert [s.label for s in play(SegmentBuilder(slip_s=1.0, reach=2.7), long, [(1.0, 5.0)])] == ["clap", "wave"]


def test_an_echo_of_the_last_action_is_no_second_one() -> None:
    """The arms settle while the encoder's window still shows the wave."""
    script = "-" * 15 + "w" * 35
    found = play(SegmentBuilder(reach=2.7, again_s=1.0), script, [(1.0, 2.5), (3.6, 4.2)])
    assert [(s.start, s.end) for s in found] == [(pytest.approx(1.0), pytest.approx(2.5))]


def test_the_same_action_done_again_is_a_second_one() -> None:
    script = "-" * 15 + "w" * 50
    found = play(SegmentBuilder(reach=2.7, again_s=1.0), script, [(1.0, 2.5), (3.6, 5.6)])
    assert [(round(s.start, 1), round(s.end, 1)) for s in found] == [(1.0, 2.5), (3.6, 5.6)]


def test_another_action_right_after_a_rest_begins_at_once() -> None:
    script = "-" * 15 + "w" * 15 + "-" * 10 + "c" * 20
    found = play(SegmentBuilder(reach=2.7), script, [(1.0, 2.5), (3.4, 5.5)])
    assert [(s.label, round(s.start, 1)) for s in found] == [("wave", 1.0), ("clap", 3.4)]


HELD = [(1.0, 2.0), (4.0, 5.0)]


def test_a_held_pose_is_part_of_the_action_when_the_same_word_follows() -> None:
    script = "-" * 15 + "w" * 10 + "-" * 17 + "w" * 15 + "-" * 10
    (whole,) = play(SegmentBuilder(reach=2.7, hold_s=3.0), script, HELD, holds=(2.0, 4.1))
    assert (whole.start, whole.end) == (pytest.approx(1.0), pytest.approx(5.0))
    # Back in the pose of the beginning, the same word is a second time.
    assert len(play(SegmentBuilder(reach=2.7, hold_s=3.0), script, HELD)) == 2
    assert len(play(SegmentBuilder(reach=2.7), script, HELD, holds=(2.0, 4.1))) == 2


@pytest.mark.parametrize("then", ["-", "c"])
def test_an_action_that_ends_in_another_pose_ends_where_that_began(then: str) -> None:
    script = "-" * 15 + "w" * 10 + "-" * 17 + then * 15 + "-" * 10
    closed = play(SegmentBuilder(reach=2.7, hold_s=3.0), script, HELD, holds=(2.0, 9.0))
    assert (closed[0].label, closed[0].end) == ("wave", pytest.approx(2.0))
    assert [segment.label for segment in closed[1:]] == (["clap"] if then == "c" else [])


def test_a_pose_that_is_held_for_long_ends_the_action() -> None:
    closed_at = []
    builder = SegmentBuilder(reach=2.7, hold_s=3.0)
    for i in range(80):
        now = i / 10
        decision = LiveDecision(now, 1, "wave" if 15 <= i < 25 else None, 0.8, (), 0.0)
        closed_at += [(now, s.end) for s in builder.update(decision, 1.0, 2.0 if now >= 2.2 else None, None, now >= 2)]
    assert closed_at == [(pytest.approx(5.0), pytest.approx(2.0))]
