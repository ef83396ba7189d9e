"""A session of takes nobody touches the machine for: take after take, each recorded by the engine's recorder.

Free of Qt and without a clock of its own: times are the source's, so a test can play an hour in a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.teach.recording import MOVING, Phase, TakeRecorder

SETTLE_S = 0.4  # a take begins from rest ...
SETTLE_MOST_S = 3.0  # ... unless the person never rests
PATIENCE_S = 30.0  # without a movement the session ends
GONE_S = 0.3  # out of the picture for so long: gone. The session forgets her poses 0.2 s later.
LEAST_S = 0.9  # from the moment a take is dated back to; anything shorter is a twitch


class Step(StrEnum):
    """Where a session stands."""

    OFF = "off"
    COUNTDOWN = "countdown"
    READY = "ready"  # the next movement is a take
    MOVING = "moving"  # it is being recorded
    REST = "rest"  # a take is finished, the next one follows
    DONE = "done"
    MISSED = "missed"  # nobody moved for long


@dataclass(frozen=True)
class Plan:
    """How a session goes; all in seconds but ``takes``."""

    takes: int = 5
    countdown_s: float = 3.0
    longest_s: float = 4.0
    pause_s: float = 1.5


@dataclass(frozen=True)
class Cut:
    """One finished take: where it lies in the source's own time, seconds. The rest after the movement is in it."""

    start: float
    end: float


class HandsFree:
    """:meth:`begin` starts a session, :meth:`tick` moves it on, :meth:`cancel` ends it early."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.finished = 0
        self.present = False
        self.outcome = Step.OFF  # while none runs: how the last one ended
        self._take: TakeRecorder | None = None
        self._last = self._seen = 0.0
        self._settling = 0.0

    @property
    def running(self) -> bool:
        return self._take is not None

    @property
    def step(self) -> Step:
        if self._take is None:
            return self.outcome
        if self._take.phase is Phase.COUNTDOWN:
            return Step.REST if self.finished else Step.COUNTDOWN
        return Step.MOVING if self._take.phase is Phase.MOVING else Step.READY

    @property
    def seconds_left(self) -> float:
        """Of the countdown or of the pause between two takes."""
        return self._take.remaining(self._last) if self._take is not None else 0.0

    @property
    def share(self) -> float:
        """How much of the longest take has passed, 0..1, while one is recorded."""
        if self._take is None or self.step is not Step.MOVING:
            return 0.0
        return min(1.0, max(0.0, (self._last - self._take.start) / self.plan.longest_s))

    def begin(self, plan: Plan) -> None:
        """Start a session with its countdown; one that runs is given up."""
        self.plan, self.finished, self.present = plan, 0, True
        self._next(plan.countdown_s)
        self._settling = 0.0

    def cancel(self) -> None:
        """End early; what is finished stays finished."""
        if self._take is not None:
            self._end(Step.DONE if self.finished else Step.OFF)

    def _end(self, outcome: Step) -> None:
        self._take, self.outcome = None, outcome

    def _next(self, countdown_s: float) -> None:
        self._take = TakeRecorder(countdown_s, PATIENCE_S, least_s=LEAST_S, most_s=self.plan.longest_s)

    def give_back(self) -> None:
        """The take that was just finished could not be kept: it is asked for again."""
        self.finished -= 1
        self._next(self.plan.pause_s)
        self._settling = 0.0

    def tick(self, time: float, motion: float | None, seen: bool = True) -> Cut | None:
        """Move on.

        Parameters
        ----------
        time : float
            The source's time of the newest pose, seconds.
        motion : float or None
            Trunk lengths per second; None while nobody is seen.
        seen : bool
            Whether somebody is in the newest pose; ``motion`` is known a little longer.

        Returns
        -------
        Cut or None
            A take that has just been finished.
        """
        take = self._take
        if take is None:
            return None
        back = time < self._last
        passed, self._last = min(max(0.0, time - self._last), 0.5), time
        if seen or back:
            self._seen = time
        elif time - self._seen >= GONE_S:
            motion = None
        self.present = motion is not None
        if back and take.phase is not Phase.COUNTDOWN:  # the source began anew: what was begun is lost
            self._next(self.plan.pause_s)
        elif take.phase is Phase.COUNTDOWN:
            self._wait(take, time, motion, passed)
            return None
        elif take.phase is Phase.READY and motion is None:
            self._next(self.plan.pause_s)
        phase = self._take.update(time, motion) if self._take is not None else Phase.MISSED
        if phase is Phase.MISSED:
            self._end(Step.MISSED)
        if phase is not Phase.DONE:
            return None
        self.finished += 1
        cut = Cut(take.start, take.end)
        if self.finished >= self.plan.takes:
            self._end(Step.DONE)
        else:
            self._next(self.plan.pause_s)
            self._settling = 0.0
        return cut

    def _wait(self, take: TakeRecorder, time: float, motion: float | None, passed: float) -> None:
        """The countdown waits for a person who has left the picture, and for one who has not come to rest."""
        left = take.remaining(time)
        if motion is None:
            self._next(max(min(left + passed, take.countdown_s), 1.0))
        elif left < SETTLE_S and motion >= MOVING and self._settling < SETTLE_MOST_S:
            self._settling += passed
            self._next(SETTLE_S)
        assert self._take is not None
        self._take.update(time, motion)
