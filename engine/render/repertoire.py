"""The repertoire: what hands, feet and trunk do in every procedural motion, as functions of progress and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from engine.render.kinematics import Pose

LEFT, RIGHT = 0, 1
TAU = 2 * np.pi
Point = Sequence[float] | np.ndarray
_HANG = np.array([0.13, -0.97, 0.08])


def ease(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Rise smoothly from 0 at ``start`` to 1 at ``end`` (minimum jerk)."""
    u = np.clip((x - start) / (end - start), 0, 1)
    return u**3 * (10 - 15 * u + 6 * u**2)


def hold(x: np.ndarray, rise: float, fall: float) -> np.ndarray:
    """1 in the middle, 0 at both ends of 0..1; ``rise`` and ``fall`` are the fractions spent moving."""
    return ease(x, 0, rise) * (1 - ease(x, 1 - fall, 1))


def _path(x: np.ndarray, *keys: tuple[float, Point]) -> np.ndarray:
    """Smooth path ``(T, n)`` through (time, value) keys, resting at each."""
    out = np.broadcast_to(np.asarray(keys[0][1], np.float64), (len(x), len(keys[0][1]))).copy()
    for (t0, a), (t1, b) in pairwise(keys):
        out += ease(x, t0, t1)[:, None] * (np.asarray(b, np.float64) - np.asarray(a, np.float64))
    return out


def _arm(pose: Pose, side: int, x: np.ndarray, *keys: tuple[float, Point]) -> None:
    """Lead a wrist from hanging through keys and back."""
    pose.wrists[:, side] = _path(x, (0.0, _HANG), *keys, (1.0, _HANG))


def _mix(pose: Pose, side: int, weight: np.ndarray, target: np.ndarray) -> None:
    pose.wrists[:, side] = (1 - weight[:, None]) * _HANG + weight[:, None] * target


def _triple(a: object, b: object, c: object) -> np.ndarray:
    return np.stack(np.broadcast_arrays(a, b, c), -1).astype(np.float64)  # type: ignore[arg-type]


def _stand(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    quiet = hold(x, 0.1, 0.1)
    p.nod += quiet * 0.06 * np.sin(TAU * s * 0.23)


def _wave(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    swing = np.sin(TAU * 1.9 * s)
    _mix(p, RIGHT, hold(x, 0.22, 0.22), _triple(0.42 + 0.24 * swing, 0.50 - 0.05 * swing**2, 0.28))


def _raise_left(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    _arm(
        p,
        LEFT,
        x,
        (0.2, (0.8, -0.1, 0.35)),
        (0.38, (0.12, 0.98, 0.06)),
        (0.66, (0.12, 0.98, 0.06)),
        (0.82, (0.8, -0.1, 0.35)),
    )


def _clap(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    apart = 0.5 + 0.5 * np.cos(TAU * 2.0 * s)
    for side in (LEFT, RIGHT):
        _mix(p, side, hold(x, 0.2, 0.2), _triple(-0.16 + 0.34 * apart, -0.22, 0.62))


def _squat(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    down = hold(x, 0.45, 0.45)
    p.pelvis += down[:, None] * np.array([0.0, -0.42, -0.22])
    p.lean += 0.62 * down
    p.nod -= 0.3 * down
    p.ankles[:, :, 0] += 0.06 * hold(x, 0.12, 0.12)[:, None]
    for side in (LEFT, RIGHT):
        _mix(p, side, down, np.array([0.05, 0.12, 0.92]))


def _jumping_jack(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    beat = 0.5 - 0.5 * np.cos(TAU * x)
    hop = np.abs(np.sin(TAU * x)) * 0.07
    p.pelvis[:, 1] += hop - 0.05 * beat
    p.ankles += _triple(0.26 * beat, hop, 0.0)[:, None]
    angle = beat * 2.75
    for side in (LEFT, RIGHT):
        p.wrists[:, side] = _triple(0.13 + 0.86 * np.sin(angle) + 0.1 * beat, -0.97 * np.cos(angle), 0.08 + 0.05 * beat)
    p.toes += (6 * hop)[:, None]


def _boxing(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    guard = hold(x, 0.18, 0.18)
    for side, phase in ((LEFT, 0.0), (RIGHT, 0.5)):
        thrust = np.maximum(np.sin(TAU * (1.25 * s + phase)), 0) ** 2
        _mix(p, side, guard, _triple(-0.02 - 0.18 * thrust, -0.14 + 0.16 * thrust, 0.40 + 0.55 * thrust))
        p.twist += guard * thrust * (0.35 if side == RIGHT else -0.35)
    p.pelvis[:, 1] -= 0.04 * guard
    p.ankles[:, LEFT, 2] += 0.16 * guard
    p.ankles[:, RIGHT, 2] -= 0.12 * guard


def _swipe_left(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    _arm(
        p,
        RIGHT,
        x,
        (0.3, (0.72, 0.05, 0.5)),
        (0.38, (0.72, 0.05, 0.5)),
        (0.66, (-0.62, 0.05, 0.55)),
        (0.74, (-0.62, 0.05, 0.55)),
    )


def _swipe_right(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    _arm(
        p,
        RIGHT,
        x,
        (0.3, (-0.62, 0.05, 0.55)),
        (0.38, (-0.62, 0.05, 0.55)),
        (0.66, (0.72, 0.05, 0.5)),
        (0.74, (0.72, 0.05, 0.5)),
    )


def _seated(p: Pose, amount: np.ndarray, lean: np.ndarray) -> None:
    p.pelvis += amount[:, None] * np.array([0.0, -0.44, -0.40])
    p.lean += 0.08 * amount + 0.65 * lean
    p.nod -= 0.3 * lean
    for side in (LEFT, RIGHT):
        _mix(p, side, np.maximum(amount, 0.5 * lean), np.array([-0.02, -0.70, 0.50]))


def _sit_stand(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    lean = np.sin(np.pi * np.clip(x / 0.36, 0, 1)) ** 2 + np.sin(np.pi * np.clip((x - 0.64) / 0.36, 0, 1)) ** 2
    _seated(p, ease(x, 0.04, 0.36) * (1 - ease(x, 0.64, 0.96)), lean)


def _steps(p: Pose, s: np.ndarray, weight: np.ndarray, rate: float, lift: float, swing: float, bent: float) -> None:
    for side, phase in ((LEFT, 0.0), (RIGHT, 0.5)):
        wave = np.sin(TAU * (rate * s + phase))
        up = weight * np.maximum(wave, 0) ** 1.5
        p.ankles[:, side] += _triple(0.0, lift * up, -0.35 * lift * up)
        p.toes[:, side] += 0.8 * up
        _mix(p, side, weight, _triple(0.12, -0.95 + bent, 0.08 + bent * 1.3 - swing * wave))
    p.pelvis[:, 0] -= 0.02 * weight * np.sin(TAU * rate * s)


def _walk(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    _steps(p, s, hold(x, 0.12, 0.12), 0.95, 0.22, 0.30, 0.03)


def _jog(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    weight = hold(x, 0.12, 0.12)
    _steps(p, s, weight, 1.4, 0.34, 0.30, 0.40)
    bounce = 0.035 * weight * np.abs(np.cos(TAU * 1.4 * s))
    p.pelvis[:, 1] += bounce - 0.02 * weight
    p.lean += 0.08 * weight


def _bow(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    down = hold(x, 0.36, 0.36)
    p.lean += 0.95 * down
    p.nod += 0.25 * down
    p.pelvis += down[:, None] * np.array([0.0, -0.012, -0.10])
    for side in (LEFT, RIGHT):
        _mix(p, side, down, np.array([0.06, -0.90, 0.36]))


def _kick(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    p.ankles[:, RIGHT] = _path(
        x,
        (0.0, (0, 0, 0)),
        (0.3, (0.0, 0.28, -0.26)),
        (0.5, (-0.02, 0.52, 0.62)),
        (0.6, (-0.02, 0.52, 0.62)),
        (1.0, (0, 0, 0)),
    )  # fmt: skip
    strike = hold(x, 0.45, 0.45)
    p.pelvis += strike[:, None] * np.array([-0.05, -0.01, -0.03])
    p.lean -= 0.14 * strike
    p.toes[:, RIGHT] += 0.4 * strike
    _mix(p, LEFT, strike, np.array([0.42, -0.62, 0.42]))
    _mix(p, RIGHT, strike, np.array([0.50, -0.72, -0.18]))


def _push(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    for side in (LEFT, RIGHT):
        _arm(
            p,
            side,
            x,
            (0.3, (0.02, -0.12, 0.30)),
            (0.4, (0.02, -0.12, 0.30)),
            (0.6, (-0.06, 0.0, 0.97)),
            (0.7, (-0.06, 0.0, 0.97)),
        )
    p.lean += 0.14 * ease(x, 0.36, 0.6) * (1 - ease(x, 0.7, 1))


def _cross_arms(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    for side, fold in ((LEFT, (-0.52, -0.30, 0.36)), (RIGHT, (-0.52, -0.22, 0.44))):
        _arm(p, side, x, (0.35, fold), (0.65, fold))


def _throw(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    _arm(
        p,
        RIGHT,
        x,
        (0.34, (0.48, 0.52, -0.22)),
        (0.44, (0.48, 0.52, -0.22)),
        (0.60, (0.0, 0.28, 0.92)),
        (0.74, (-0.35, -0.62, 0.60)),
    )
    p.twist += -0.4 * ease(x, 0.1, 0.36) + 0.75 * ease(x, 0.44, 0.6) - 0.35 * ease(x, 0.72, 1)
    p.ankles[:, LEFT, 2] += 0.22 * hold(x, 0.4, 0.3)


def _circle(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    angle = TAU * ease(x, 0.2, 0.8)
    _mix(p, RIGHT, hold(x, 0.22, 0.22), _triple(-0.05 - 0.40 * np.sin(angle), 0.12 + 0.40 * np.cos(angle), 0.62))


def _lunge(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    step, sink = hold(x, 0.3, 0.3), ease(x, 0.18, 0.45) * (1 - ease(x, 0.55, 0.82))
    p.ankles[:, LEFT] += _triple(0.0, 0.10 * np.sin(np.pi * step), 0.62 * step)
    p.pelvis += _triple(0.0, -0.07 * step - 0.24 * sink, 0.30 * step)
    p.ankles[:, RIGHT, 1] += 0.07 * step
    p.toes[:, RIGHT] += 0.7 * step


def _arm_curl(p: Pose, x: np.ndarray, s: np.ndarray) -> None:
    up = 0.5 - 0.5 * np.cos(TAU * x)
    for side in (LEFT, RIGHT):
        angle = 2.3 * up
        fore = 0.47
        p.wrists[:, side] = _triple(0.13 - 0.06 * up, -0.50 - fore * np.cos(angle), 0.08 + fore * np.sin(angle))


# Name: (function of pose, progress 0..1 and seconds; seconds of one repetition, None for as long as asked).
REPERTOIRE: dict[str, tuple[Callable[[Pose, np.ndarray, np.ndarray], None], float | None]] = {
    "stand": (_stand, None),
    "wave": (_wave, None),
    "raise left arm": (_raise_left, None),
    "clap": (_clap, None),
    "squat": (_squat, 2.4),
    "jumping jack": (_jumping_jack, 1.1),
    "boxing": (_boxing, None),
    "swipe left": (_swipe_left, 1.8),
    "swipe right": (_swipe_right, 1.8),
    "sit and stand": (_sit_stand, 4.0),
    "walk in place": (_walk, None),
    "jog in place": (_jog, None),
    "bow": (_bow, 2.8),
    "kick": (_kick, 1.8),
    "push": (_push, 1.8),
    "cross arms": (_cross_arms, 2.4),
    "throw": (_throw, 2.0),
    "draw circle": (_circle, 2.4),
    "lunge": (_lunge, 2.6),
    "arm curl": (_arm_curl, 1.7),
}
