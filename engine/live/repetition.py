"""Counts how often a periodic action was done: waves, claps, jumping jacks, squats.

A repetition is one stroke there and one back. Strokes are counted on the velocity along the most periodic of the main
directions of movement: velocity is zero at rest, so nothing has to be known of where a repetition begins, and a pause
in the middle of one splits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Head, elbows, wrists, knees, ankles relative to the spine base; fingers and feet only repeat them with more noise.
_JOINTS = (3, 5, 6, 9, 10, 13, 14, 17, 18)
RATE = 30.0
# Frame-to-frame velocity trembles; over this much of a second strokes remain (claps come four times a second at most).
_SMOOTH_S = 0.13
_DIRECTIONS = 3
# Another direction than the first counts when it carries this part of its movement and beats like a clock: a wave with
# the raised arm lies beside the raising, but so does the swaying of anything done once.
_LEAST_SHARE = 0.2
_BESIDE_COUNT, _BESIDE_LIKENESS = 3, 0.7
# A stroke reaches this part of the usual top speed.
_LEVEL = 0.4
# Correlation of the movement with itself one period later, and relative spread of the periods, of what is periodic. Two
# strokes and back are also the way of many things done once (a circle, a lunge), so twice must be alike indeed.
_LEAST_LIKENESS, _TWICE_LIKENESS = 0.4, 0.85
_MOST_SPREAD = 0.35
_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.22, 6.0


@dataclass(frozen=True)
class Repetitions:
    """``count`` completed repetitions of ``period`` seconds each (median); ``likeness`` of one to the next, -1..1."""

    count: int
    period: float
    likeness: float


def count_repetitions(joints: np.ndarray, times: np.ndarray) -> Repetitions | None:
    """Count the repetitions of a performance.

    Parameters
    ----------
    joints : numpy.ndarray
        float ``(T, 25, 3)``, NTU-25, metres: the action and little else.
    times : numpy.ndarray
        float ``(T,)``, seconds, strictly increasing.

    Returns
    -------
    Repetitions or None
        None where nothing is repeated regularly, at least twice. An action of both sides in turn (walking, boxing left
        and right) repeats once for both sides.
    """
    if len(times) < 8 or times[-1] - times[0] < 2 * _SHORTEST_PERIOD_S:
        return None
    velocity = _velocity(joints, times)
    first, *others = [_strokes(signal) for signal in _directions(velocity)] or [None]
    if first is not None:
        return first
    regular = [it for it in others if it and it.count >= _BESIDE_COUNT and it.likeness >= _BESIDE_LIKENESS]
    return max(regular, key=lambda it: it.likeness, default=None)


def _velocity(joints: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Smoothed velocities ``(N, D)`` at :data:`RATE`: joints from the spine base, and the height of the spine base."""
    spine = joints[:, 0]
    tracks = np.concatenate(
        [(joints[:, _JOINTS] - spine[:, None]).reshape(len(joints), -1), spine[:, 1:2]], axis=1
    ).astype(np.float64)  # fmt: skip
    at = np.arange(times[0], times[-1] + 1e-9, 1 / RATE)
    right = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
    weight = np.clip((at - times[right - 1]) / (times[right] - times[right - 1]), 0, 1)[:, None]
    even = tracks[right - 1] * (1 - weight) + tracks[right] * weight
    # The mean velocity over a span is the difference of its ends; the mean of those means a triangle.
    span = max(1, round(_SMOOTH_S * RATE))
    padded = np.concatenate([np.repeat(even[:1], span, 0), even, np.repeat(even[-1:], span, 0)])
    mean = (padded[span:] - padded[:-span]) / (span / RATE)
    running = np.cumsum(np.concatenate([np.zeros((1, mean.shape[1])), mean]), axis=0)
    smooth: np.ndarray = (running[span:] - running[:-span]) / span
    return smooth


def _directions(velocity: np.ndarray) -> list[np.ndarray]:
    """Velocity along the main directions of movement, strongest first."""
    values, vectors = np.linalg.eigh(velocity.T @ velocity)
    order = np.argsort(-values)[:_DIRECTIONS]
    kept = [i for i in order if values[i] > _LEAST_SHARE * values[order[0]] and values[i] > 1e-9]
    return [velocity @ vectors[:, i] for i in kept]


def _strokes(signal: np.ndarray) -> Repetitions | None:
    """Strokes there and back of one direction's velocity, where they come regularly."""
    level = _LEVEL * np.percentile(np.abs(signal), 90)
    beyond = np.flatnonzero(np.abs(signal) >= max(level, 1e-6))
    if len(beyond) == 0:
        return None
    side = np.sign(signal[beyond])
    turns = np.concatenate([[0], np.flatnonzero(np.diff(side)) + 1])
    ends = np.append(turns[1:], len(beyond))
    count = len(turns) // 2
    if count < 2:
        return None
    middles = np.array([beyond[a:b].mean() for a, b in zip(turns, ends, strict=True)])
    periods = (middles[2:] - middles[:-2]) / RATE
    period = float(np.median(periods))
    spread = float(np.median(np.abs(periods - period))) / period
    lag = max(1, round(period * RATE))
    if not _SHORTEST_PERIOD_S <= period <= _LONGEST_PERIOD_S or spread > _MOST_SPREAD or lag >= len(signal) - 2:
        return None
    # Tempo varies: the likeness is the best of a few lags near the period.
    near = range(max(1, round(0.85 * lag)), min(len(signal) - 2, round(1.15 * lag)) + 1)
    likeness = max(_likeness(signal, k) for k in near)
    wanted = _TWICE_LIKENESS if count == 2 else _LEAST_LIKENESS
    return Repetitions(count, period, likeness) if likeness >= wanted else None


def _likeness(signal: np.ndarray, lag: int) -> float:
    a, b = signal[:-lag], signal[lag:]
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0
