from __future__ import annotations

import math

import numpy as np
import pytest

from engine.live.decision import ActionDecider
from engine.models.card import Decision

CLASSES = ("idle", "wave", "clap")
PLAIN = Decision(smoothing_s=0.0, idle_class="idle", min_motion=0.1, enter=0.6, leave=0.4)


def logits(**scores: float) -> np.ndarray:
    """Logits whose softmax is exactly the given scores; the rest is shared equally."""
    rest = (1 - sum(scores.values())) / max(1, len(CLASSES) - len(scores))
    return np.log([max(scores.get(name, rest), 1e-9) for name in CLASSES])


def labels(decider: ActionDecider, steps: list[tuple[float, dict[str, float], float]]) -> list[str | None]:
    return [decider.update(1, t, logits(**scores), motion).label for t, scores, motion in steps]


def test_softmax_with_temperature() -> None:
    decider = ActionDecider(PLAIN.model_copy(update={"temperature": 2.0}), CLASSES)
    found = dict(decider.update(1, 0.0, np.array([0.0, 2.0, 0.0]), 1.0).top)
    assert found["wave"] == pytest.approx(math.e / (math.e + 2))
    assert next(iter(found)) == "wave" and sum(found.values()) == pytest.approx(1)


def test_smoothing_follows_true_time_differences() -> None:
    decider = ActionDecider(PLAIN.model_copy(update={"smoothing_s": 0.5}), CLASSES)
    decider.update(1, 0.0, logits(idle=1.0), 1.0)
    for gap in (0.1, 0.7):
        before = dict(decider.update(1, 1.0, logits(idle=1.0), 1.0).top)["wave"]
        after = dict(decider.update(1, 1.0 + gap, logits(wave=1.0), 1.0).top)["wave"]
        assert after - before == pytest.approx((1 - math.exp(-gap / 0.5)) * (1 - before), abs=1e-4)
        decider.reset()
        decider.update(1, 0.0, logits(idle=1.0), 1.0)


def test_many_small_steps_equal_one_large_step() -> None:
    one, many = (ActionDecider(PLAIN.model_copy(update={"smoothing_s": 0.4}), CLASSES) for _ in range(2))
    for decider in (one, many):
        decider.update(1, 0.0, logits(idle=1.0), 1.0)
    large = one.update(1, 0.5, logits(wave=1.0), 1.0)
    for i in range(50):
        small = many.update(1, (i + 1) / 100, logits(wave=1.0), 1.0)
    assert dict(small.top)["wave"] == pytest.approx(dict(large.top)["wave"], abs=1e-6)


def test_hysteresis_enters_high_and_leaves_low() -> None:
    steps = [(0.1 * i, {"wave": score}, 1.0) for i, score in enumerate((0.5, 0.61, 0.45, 0.41, 0.39, 0.5))]
    assert labels(ActionDecider(PLAIN, CLASSES), steps) == [None, "wave", "wave", "wave", None, None]


def test_a_clearly_better_action_takes_over() -> None:
    steps = [(0.0, {"wave": 0.9}, 1.0), (0.1, {"clap": 0.55, "wave": 0.44}, 1.0), (0.2, {"clap": 0.7}, 1.0)]
    assert labels(ActionDecider(PLAIN, CLASSES), steps) == ["wave", "wave", "clap"]


def test_idle_class_is_never_shown() -> None:
    decider = ActionDecider(PLAIN, CLASSES)
    decision = decider.update(1, 0.0, logits(idle=0.98), 1.0)
    assert decision.label is None and decision.score == pytest.approx(0.01)
    assert decision.top[0][0] == "idle"


def test_still_person_is_named_nothing_and_needs_to_rest_a_moment() -> None:
    steps = [(0.1 * i, {"wave": 0.9}, 1.0 if i < 3 else 0.01) for i in range(10)]
    found = labels(ActionDecider(PLAIN, CLASSES), steps)
    assert found[:7] == ["wave"] * 7 and found[7:] == [None] * 3
    assert labels(ActionDecider(PLAIN, CLASSES), [(0.0, {"wave": 0.99}, 0.09)]) == [None]


def test_who_holds_a_pose_keeps_the_word_and_gets_no_new_one() -> None:
    def at(decider: ActionDecider, time: float, motion: float, **scores: float) -> str | None:
        return decider.update(1, time, logits(**scores), motion, holds=True).label

    decider = ActionDecider(PLAIN, CLASSES)
    assert at(decider, 0.0, 1.0, wave=0.9) == "wave"
    assert [at(decider, 1.0 + i, 0.0, wave=0.9) for i in range(3)] == ["wave"] * 3
    assert at(decider, 4.0, 0.0, clap=0.9) is None
    assert at(decider, 5.0, 0.0, wave=0.9) is None
    assert at(decider, 6.0, 1.0, wave=0.9) == "wave"
    assert at(decider, 7.0, 1.0, wave=0.5) == "wave" and at(decider, 8.0, 0.0, wave=0.3) is None


def test_motion_near_the_limit_does_not_flicker() -> None:
    steps = [(0.1 * i, {"wave": 0.9}, 0.11 if i % 2 == 0 else 0.08) for i in range(40)]
    assert set(labels(ActionDecider(PLAIN, CLASSES), steps)) == {"wave"}


def test_subset_hides_other_actions_and_raises_nobody() -> None:
    decider = ActionDecider(PLAIN, CLASSES, allowed=["clap"])
    assert decider.update(1, 0.0, logits(wave=0.9), 1.0).label is None
    assert decider.update(1, 0.1, logits(clap=0.5, wave=0.45), 1.0).label is None
    assert decider.update(1, 0.2, logits(clap=0.9), 1.0).label == "clap"
    with pytest.raises(ValueError, match="jump"):
        ActionDecider(PLAIN, CLASSES, allowed=["jump"])


def test_persons_are_apart() -> None:
    decider = ActionDecider(PLAIN, CLASSES)
    assert decider.update(1, 0.0, logits(wave=0.9), 1.0).label == "wave"
    assert decider.update(2, 0.0, logits(clap=0.9), 1.0).label == "clap"
    decider.keep_only([2])
    assert decider.update(1, 0.1, logits(wave=0.5), 1.0).label is None
    assert decider.update(2, 0.1, logits(clap=0.5), 1.0).label == "clap"


def test_logits_that_are_not_finite_mean_nothing() -> None:
    decision = ActionDecider(PLAIN, CLASSES).update(1, 0.0, np.array([np.nan, 9.0, 0.0]), 1.0)
    assert decision.label is None and decision.score == 0.0
    with pytest.raises(ValueError, match="3 classes"):
        ActionDecider(PLAIN, CLASSES).update(1, 0.0, np.zeros(4), 1.0)


def test_what_the_encoder_does_not_know_begins_nothing() -> None:
    """Energy is the log of the summed exponentials; the softmax alone is as sure of weak logits as of strong ones."""
    decider = ActionDecider(PLAIN.model_copy(update={"min_energy": 5.0, "temperature": 2.0}), CLASSES)
    weak, strong = np.array([0.0, 8.0, 0.0]), np.array([4.0, 12.0, 4.0])
    energy = [math.log(sum(math.exp(x / 2) for x in logits)) for logits in (weak, strong)]
    assert energy[0] < 5.0 < energy[1]
    assert decider.update(1, 0.0, weak, 1.0).label is None
    assert decider.update(1, 0.1, strong, 1.0).label == "wave"
    assert decider.update(1, 0.2, weak, 1.0).label == "wave"  # it only keeps an action from beginning
    assert ActionDecider(PLAIN, CLASSES).update(1, 0.0, weak, 1.0).label == "wave"
    old = {"temperature": 1.0, "enter": 0.6, "leave": 0.4, "min_motion": 0.15, "smoothing_s": 0.4, "idle_class": None}
    assert Decision.model_validate(old).min_energy is None  # cards written before the field


def test_energy_counts_taught_classes_too() -> None:
    more = ActionDecider(PLAIN.model_copy(update={"min_energy": 5.0}), (*CLASSES, "my own"))
    assert more.update(1, 0.0, np.array([0.0, 1.0, 1.0, 7.0]), 1.0).label == "my own"
    with pytest.raises(ValueError, match="4 classes"):
        more.update(1, 0.1, np.zeros(3), 1.0)
