"""A session of takes, played in source time: countdown, movement, rest, people who leave, sources that begin anew."""

from __future__ import annotations

from itertools import pairwise

import pytest

from skelapp.teach.hands_free import Cut, HandsFree, Plan, Step

FPS = 30


def play(machine: HandsFree, motion, start: float, seconds: float) -> list[Cut]:
    """Tick through a stretch; ``motion`` is a number, None, or a function of time."""
    cuts = []
    for frame in range(round(seconds * FPS)):
        time = start + frame / FPS
        cut = machine.tick(time, motion(time) if callable(motion) else motion)
        cuts += [cut] if cut is not None else []
    return cuts


def test_five_takes_without_touching_anything() -> None:
    machine = HandsFree()
    assert not machine.running and machine.step is Step.OFF
    machine.begin(Plan(takes=5, countdown_s=3.0, longest_s=4.0, pause_s=1.0))
    # Moves for 1.5 s out of every 4, the first time 4 s after the start.
    cuts = play(machine, lambda t: 1.0 if t >= 4 and t % 4 < 1.5 else 0.01, 0.0, 24.0)
    assert machine.step is Step.DONE and not machine.running and machine.finished == 5
    for number, cut in enumerate(cuts):
        begins = 4.0 * (number + 1)
        assert begins - 0.7 <= cut.start <= begins and begins + 1.5 < cut.end < begins + 3.0
    assert all(a.end <= b.start for a, b in pairwise(cuts))


def test_the_countdown_waits_for_a_person_and_for_her_rest() -> None:
    machine = HandsFree()
    machine.begin(Plan(takes=1, countdown_s=2.0))
    play(machine, None, 0.0, 10.0)
    assert (
        machine.step is Step.COUNTDOWN and not machine.present and machine.seconds_left == pytest.approx(2.0, abs=0.1)
    )
    play(machine, 0.0, 10.0, 1.0)
    assert machine.present
    # She still walks to her place when the countdown is over: that is no take.
    play(machine, 0.9, 11.0, 1.5)
    assert machine.step is Step.COUNTDOWN
    play(machine, 0.0, 12.5, 1.0)
    assert machine.step is Step.READY
    assert len(play(machine, lambda t: 1.0 if t < 15.0 else 0.0, 13.5, 4.0)) == 1


def test_somebody_who_never_rests_is_recorded_for_the_set_time() -> None:
    machine = HandsFree()
    machine.begin(Plan(takes=2, countdown_s=1.0, longest_s=2.0, pause_s=1.0))
    cuts = play(machine, 1.0, 0.0, 20.0)
    assert len(cuts) == 2
    assert all(1.9 < cut.end - cut.start < 2.2 for cut in cuts)


def test_a_twitch_is_no_take_and_cancel_keeps_what_is_finished() -> None:
    machine = HandsFree()
    machine.begin(Plan(takes=3, countdown_s=1.0))
    assert play(machine, lambda t: 1.0 if 2.0 <= t < 2.1 else 0.0, 0.0, 5.0) == []
    assert machine.step is Step.READY
    assert len(play(machine, lambda t: 1.0 if t < 7.0 else 0.0, 5.0, 3.5)) == 1
    assert machine.step is Step.REST and 0 < machine.seconds_left <= machine.plan.pause_s
    machine.cancel()
    assert machine.step is Step.DONE and machine.finished == 1 and not machine.running
    machine.begin(Plan())
    machine.cancel()
    assert machine.step is Step.OFF


def test_without_a_movement_the_session_ends() -> None:
    machine = HandsFree()
    machine.begin(Plan(takes=3, countdown_s=1.0))
    play(machine, 0.0, 0.0, 40.0)
    assert machine.step is Step.MISSED and not machine.running


def test_who_performs_and_walks_out_of_the_picture_has_a_take_before_she_is_forgotten() -> None:
    machine = HandsFree()
    machine.begin(Plan(takes=1, countdown_s=1.0))
    play(machine, lambda t: 1.0 if t >= 2.0 else 0.0, 0.0, 4.0)
    assert machine.step is Step.MOVING
    # For half a second the session still remembers her, and says how she moved.
    cuts = [cut for frame in range(14) if (cut := machine.tick(4.0 + frame / FPS, 1.0, seen=False)) is not None]
    assert cuts == [Cut(pytest.approx(1.4, abs=0.1), pytest.approx(4.3, abs=0.05))] and machine.step is Step.DONE
    # Who is lost for a moment goes on.
    machine.begin(Plan(takes=1, countdown_s=1.0))
    play(machine, lambda t: 1.0 if t >= 7.0 else 0.0, 5.0, 4.0)
    assert all(machine.tick(9.0 + frame / FPS, 1.0, seen=False) is None for frame in range(8))
    assert machine.step is Step.MOVING


def test_a_source_that_begins_anew_loses_only_the_take_at_hand() -> None:
    machine = HandsFree()
    machine.begin(Plan(takes=1, countdown_s=1.0))
    play(machine, lambda t: 1.0 if t > 52.0 else 0.0, 50.0, 3.0)
    assert machine.step is Step.MOVING and machine.share > 0.1
    cuts = play(machine, lambda t: 1.0 if 4.0 < t < 6.0 else 0.0, 0.0, 9.0)
    assert cuts == [Cut(pytest.approx(3.4, abs=0.1), pytest.approx(6.8, abs=0.1))]
