"""Segments from scores and movement: names, boundaries, slips, holds, and people who never rest."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.live.decision import ActionDecider
from engine.live.movement import Movement
from engine.live.segments import KEPT_S, SegmentBuilder
from engine.live.types import LiveDecision, Segment
from engine.models.card import Decision

CLASSES = ("wave", "clap", "idle")
LETTERS = {"w": 0, "c": 1, "-": 2, "W": 0, "C": 1}


def builder(lag: float = 1.0, **values: float) -> SegmentBuilder:
    return SegmentBuilder(CLASSES, "idle", lag=lag, **values)


def window(letter: str, now: float, person: int = 1) -> tuple[LiveDecision, np.ndarray]:
    """One window: a small letter is on the screen too, a capital one only what the window says, ``-`` is idle."""
    scores = np.full(3, 0.05)
    scores[LETTERS[letter]] = 0.9
    word = CLASSES[LETTERS[letter]] if letter in "wc" else None
    return LiveDecision(now, person, word, 0.8, (), 0.0), scores


def moved(now: float, moves: list[tuple[float, float]]) -> Movement:
    """What the movement log would say, for movements with longer rests between them than it bridges."""
    past = [(a, b) for a, b in moves if a <= now]
    if not past:
        return Movement(None, 0.0)
    return Movement(past[-1][0], past[-1][1] if past[-1][1] + 0.2 <= now else None, past[-1][0])


def play(
    made: SegmentBuilder,
    script: str,
    moves: list[tuple[float, float]] | None = None,
    holds: tuple[float, float] = (0.0, 0.0),
    step: float = 0.1,
) -> list[tuple[float, Segment]]:
    """Ten windows a second, one letter each: when a segment was closed, and the segment.

    ``moves``: times in which the person moves; None: nothing is known of that. From the first to the second of
    ``holds`` the person stands otherwise than at the beginning.
    """
    closed = []
    for i, letter in enumerate(script):
        now = i * step
        movement = Movement(None, None) if moves is None else moved(now, moves)
        found = made.update(*window(letter, now), movement, holds[0] <= now < holds[1])
        closed += [(now, segment) for segment in found]
    return closed + [(len(script) * step, segment) for segment in made.close_all()]


def spans(closed: list[tuple[float, Segment]]) -> list[tuple[str, float, float]]:
    return [(s.label, round(s.start, 1), round(s.end, 1)) for _, s in closed]


def test_a_segment_is_the_movement_and_final_soon_after_it() -> None:
    ((at, wave),) = play(builder(), "-" * 20 + "w" * 25, [(1.0, 3.0)])
    assert (wave.label, wave.start, wave.end) == ("wave", pytest.approx(1.0), pytest.approx(3.0))
    assert at == pytest.approx(3.5) and not wave.open  # while the word still stands in the encoder's window
    assert wave.score == pytest.approx(0.8) and wave.shown_s == pytest.approx(1.65)


def seconds_shown(step: float, phase: float) -> float:
    """How long a word counts as shown that comes up over 0.6 s in the windows of who moves from 1 to 2.2 s."""
    decider = ActionDecider(Decision(enter=0.45, leave=0.3, smoothing_s=0.4, idle_class="idle"), CLASSES)
    made = builder()
    for now in np.arange(phase, 4.0, step).tolist():
        wave = float(np.clip((now - 1.4) / 0.6, 0.02, 0.98))
        decision = decider.update(1, now, np.log([wave, 0.01, 1 - wave]), 1.0)
        if closed := made.update(decision, decider.window_scores(1), moved(now, [(1.0, 2.2)])):
            return closed[0].shown_s
    raise AssertionError("nothing was closed")


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_how_long_a_word_stood_does_not_depend_on_how_much_oftener_the_encoder_is_asked(frames: int) -> None:
    def mean(every: int) -> float:
        phases = np.arange(0, every, 0.25) / 30
        return float(np.mean([seconds_shown(every / 30, phase) for phase in phases]))

    assert mean(frames) == pytest.approx(mean(4), abs=0.02)  # by itself: -0.16, -0.11 and -0.06 s


def test_a_lull_in_the_action_does_not_cut_it() -> None:
    made = builder()
    for i in range(45):
        now = i / 10
        # A rest of 0.3 s from 1.8 to 2.1: shorter than what ends a movement.
        first, second = Movement(1.0, 1.8 if now >= 2.0 else None, 1.0), Movement(2.1, 3.5 if now >= 3.7 else None, 1.0)
        movement = Movement(None, 0.0) if now < 1 else first if now < 2.1 else second
        made.update(*window("w" if i >= 15 else "-", now), movement)
    assert made.close_all() == [] and made.start_of(1) is None
    again = [s for _, s in play(builder(), "-" * 15 + "w" * 30, [(1.0, 1.8), (2.1, 3.5)])]
    assert [(s.start, s.end) for s in again] == [(pytest.approx(1.0), pytest.approx(3.5))]


def test_a_slip_is_no_segment_of_its_own() -> None:
    script = "-" * 15 + "w" * 8 + "c" * 5 + "w" * 20
    assert spans(play(builder(), script, [(1.0, 4.0)])) == [("wave", 1.0, 4.0)]
    begins_wrong = "-" * 12 + "c" * 5 + "w" * 30
    assert spans(play(builder(), begins_wrong, [(1.0, 4.0)])) == [("wave", 1.0, 4.0)]


def test_two_actions_in_one_movement_are_cut_where_the_windows_turn() -> None:
    script = "-" * 20 + "w" * 20 + "c" * 30
    closed = play(builder(), script, [(1.0, 5.0)])
    assert spans(closed) == [("wave", 1.0, 3.0), ("clap", 3.0, 5.0)]  # a window shows what was a second ago
    assert closed[0][0] == pytest.approx(5.4)  # once the turn is worth its price, not only at the end


def test_a_rest_and_the_same_action_again_are_two() -> None:
    script = "-" * 15 + "w" * 50
    assert spans(play(builder(), script, [(1.0, 2.5), (3.6, 5.6)])) == [("wave", 1.0, 2.5), ("wave", 3.6, 5.6)]


def test_what_moved_before_a_segment_ended_starts_no_other() -> None:
    assert spans(play(builder(), "-" * 15 + "w" * 50, [(1.0, 2.5)])) == [("wave", 1.0, 2.5)]


def test_what_never_was_a_word_is_no_segment() -> None:
    assert play(builder(), "-" * 15 + "W" * 30, [(1.0, 3.0)]) == []
    assert play(builder(), "-" * 60, [(1.0, 3.0)]) == []
    assert play(builder(min_s=0.5), "-" * 10 + "w" * 20, [(1.0, 1.4)]) == []


def test_without_movement_the_windows_alone_cut() -> None:
    first, second = spans(play(builder(lag=0.4), "-" * 20 + "w" * 20 + "-" * 40 + "c" * 20))
    assert first == ("wave", 1.6, 3.6) and second == ("clap", 7.6, 9.9)


def test_who_never_rests_is_named_all_the_same_and_nothing_piles_up() -> None:
    made = builder(lag=0.4)
    for i in range(int(3 * KEPT_S * 10)):
        assert made.update(*window("w", i / 10), Movement(None, None)) == []
    assert len(made._chains[1].windows) <= KEPT_S * 10 + 2
    (open_one,) = made.open_segments()
    assert open_one.open and open_one.start == 0.0 and open_one.shown_s == pytest.approx(3 * KEPT_S, abs=0.2)
    (wave,) = made.close_all()
    assert wave.end == pytest.approx(3 * KEPT_S - 0.1) and wave.shown_s == open_one.shown_s


HELD = [(1.0, 2.0), (4.0, 5.0)]


def test_a_held_pose_is_part_of_the_action() -> None:
    script = "-" * 15 + "w" * 10 + "W" * 17 + "w" * 20
    assert spans(play(builder(hold_s=3.0), script, HELD, holds=(2.0, 4.1))) == [("wave", 1.0, 5.0)]
    # Back in the pose of the beginning, the same word is a second time.
    assert len(play(builder(hold_s=3.0), script, HELD)) == 2
    assert len(play(builder(), script, HELD, holds=(2.0, 4.1))) == 2


def test_who_sits_down_and_does_nothing_more_has_sat_down() -> None:
    closed = play(builder(hold_s=3.0), "-" * 15 + "w" * 12 + "-" * 40, [(1.0, 2.0)], holds=(2.0, 9.0))
    assert spans(closed) == [("wave", 1.0, 2.0)] and closed[0][0] == pytest.approx(2.7)


def test_a_pose_that_is_held_for_long_ends_the_action() -> None:
    closed = play(builder(hold_s=3.0), "-" * 15 + "w" * 65, [(1.0, 2.0)], holds=(2.0, 9.0))
    assert spans(closed) == [("wave", 1.0, 2.0)] and closed[0][0] == pytest.approx(5.0)


def test_an_open_segment_shows_while_it_goes_on_and_absence_closes_it() -> None:
    made = builder()
    for i in range(30):
        made.update(*window("w" if i >= 15 else "-", i / 10), moved(i / 10, [(1.0, 9.0)]))
    made.update(*window("c", 2.9, person=2), moved(2.9, [(1.0, 9.0)]))
    (current, _) = made.open_segments()
    assert current.open and (current.start, current.end) == (pytest.approx(1.0), pytest.approx(2.9))
    (closed,) = made.absent([2])
    assert not closed.open and closed.end == pytest.approx(2.9)
    assert [s.person for s in made.open_segments()] == [2]


def test_a_word_is_an_open_segment_at_once() -> None:
    """The course of labels still says idle, or the action before."""
    made = builder()
    for i, letter in enumerate("-" * 20 + "w" * 3):
        made.update(*window(letter, i / 10), moved(i / 10, [(0.5, 9.0)]))
    assert [(s.label, s.start) for s in made.open_segments()] == [("wave", pytest.approx(1.0))]
    for i, letter in enumerate("w" * 40 + "c" * 2, start=23):
        made.update(*window(letter, i / 10), moved(i / 10, [(0.5, 9.0)]))
    assert [(s.label, round(s.start, 1)) for s in made.open_segments()] == [("clap", 5.3)]


def test_new_classes_while_an_action_goes_on() -> None:
    made = builder()
    for i in range(20):
        made.update(*window("w", i / 10), moved(i / 10, [(0.0, 9.0)]))
    made.use_classes((*CLASSES, "my own"))
    assert made.open_segments() == () and made.absent([1]) == [] and made.start_of(1) == pytest.approx(0.0)
    other = builder()
    other.update(*window("w", 0.5), moved(0.5, [(0.0, 9.0)]))
    other.use_classes(CLASSES)
    assert other.close_all() == []  # nothing was seen since
    scores = np.array([0.05, 0.05, 0.05, 0.85])
    for i in range(20, 40):
        made.update(LiveDecision(i / 10, 1, "my own", 0.7, (), 0.0), scores, moved(i / 10, [(0.0, 9.0)]))
    (mine,) = made.close_all()
    assert mine.label == "my own" and mine.start == pytest.approx(0.0)


def test_time_that_goes_back_starts_anew() -> None:
    made = builder()
    play_on = [made.update(*window("w", i / 10), moved(i / 10, [(0.0, 9.0)])) for i in range(20)]
    assert not any(play_on) and made.update(*window("w", 0.5), moved(0.5, [(0.0, 9.0)])) == []
    (open_one,) = made.open_segments()
    assert open_one.shown_s < 0.2
    # Also when nothing is open: the end of the last action lies ahead then.
    again = builder()
    script, moves = "-" * 15 + "w" * 25, [(1.0, 3.0)]
    for _ in range(2):
        found = [
            s for i, letter in enumerate(script) for s in again.update(*window(letter, i / 10), moved(i / 10, moves))
        ]
        assert [(s.label, s.end) for s in found] == [("wave", pytest.approx(3.0))]
    again.absent([])
    assert again._stopped == {}  # nobody is remembered who left


@given(st.lists(st.sampled_from("wc-W"), min_size=1, max_size=90), st.floats(0, 1.5), st.booleans())
def test_segments_are_ordered_disjoint_and_long_enough(script: list[str], lag: float, knows: bool) -> None:
    moves = [(0.5, 2.0), (2.8, 4.0), (5.0, 8.0)] if knows else None
    found = [s for _, s in play(builder(lag=lag, min_s=0.2), "".join(script), moves)]
    for segment in found:
        assert segment.end - segment.start >= 0.2 - 1e-6 and segment.end <= len(script) * 0.1
    for before, after in pairwise(found):
        assert after.start >= before.end - 1e-6
