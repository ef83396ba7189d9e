"""Calibration of the live decision: the temperature of the softmax and the score at which a word is believed.

Uses sequences the encoder was not trained on, cut at many moments as the live window cuts them, so that half-seen
actions count too. Accuracy is untouched: only how sure the program sounds, and when it keeps silent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from torch import nn

from engine.data.preprocess import Preprocessing, preprocess
from engine.data.store import SequenceStore
from engine.training.evaluate import predict_clips


@dataclass(frozen=True)
class Calibration:
    """What was fitted and how it does on the windows it was fitted on."""

    temperature: float
    enter: float
    leave: float
    windows: int
    error_before: float
    error_after: float
    shown: float
    precision: float


def sliding_clips(
    store: SequenceStore, indices: np.ndarray, spec: Preprocessing, step_s: float = 0.3, least: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Clips ``(N, C, T, V, M)`` whose windows end at every ``step_s`` of a sequence, and their labels ``(N,)``.

    A window ends at the earliest when ``least`` of the action (or of the window) has been seen, at the latest when the
    same share of the window lies behind the end.
    """
    clips, labels = [], []
    for i in indices:
        sequence = store.sequence(int(i))
        seen = least * min(spec.window_s, sequence.duration)
        first, last = sequence.times[0] + seen, sequence.times[-1] + spec.window_s - max(seen, least * spec.window_s)
        for end in np.arange(first, max(last, first) + 1e-6, step_s):
            clips.append(preprocess(sequence, spec, float(end)))
            labels.append(sequence.label)
    return np.stack(clips), np.array(labels)


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of ``logits / temperature`` over the last axis."""
    scaled = logits / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def calibration_error(scores: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap between score and accuracy over equal bins, weighted by their counts."""
    which = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs(scores[which == b].mean() - right[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return float(sum(gaps))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature that minimises the negative log-likelihood (Guo et al., ICML 2017), searched in 0.05..20."""

    def loss(log_temperature: float) -> float:
        scores = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def threshold_for_precision(scores: np.ndarray, right: np.ndarray, precision: float) -> float:
    """Lowest threshold above which at least ``precision`` of the windows are named rightly, within 0.3..0.95."""
    for threshold in np.arange(0.30, 0.95, 0.01):
        shown = scores >= threshold
        if shown.any() and right[shown].mean() >= precision:
            return float(threshold)
    return 0.95


def calibrate(
    encoder: nn.Module, store: SequenceStore, indices: np.ndarray, spec: Preprocessing, precision: float = 0.9
) -> Calibration:
    """Fit temperature and thresholds on sliding windows of held-out sequences."""
    clips, labels = sliding_clips(store, indices, spec)
    logits = predict_clips(encoder, clips)
    right = logits.argmax(1) == labels
    temperature = fit_temperature(logits, labels)
    scores = softmax(logits, temperature).max(1)
    enter = threshold_for_precision(scores, right, precision)
    shown = scores >= enter
    return Calibration(
        temperature=round(temperature, 3),
        enter=round(enter, 2),
        leave=round(max(enter - 0.15, 0.2), 2),
        windows=len(labels),
        error_before=calibration_error(softmax(logits, 1.0).max(1), right),
        error_after=calibration_error(scores, right),
        shown=float(shown.mean()),
        precision=float(right[shown].mean()) if shown.any() else 0.0,
    )
