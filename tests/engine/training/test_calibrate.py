"""Calibration against cases whose answer is known."""

import numpy as np
import pytest

from engine.data.preprocess import Preprocessing
from engine.data.store import write_store
from engine.skeleton.sequence import SkeletonSequence
from engine.training.calibrate import (
    calibration_error,
    fit_temperature,
    sliding_clips,
    softmax,
    threshold_for_precision,
)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(true_temperature):
    rng = np.random.default_rng(0)
    honest = rng.standard_normal((20000, 5)) * 2
    scores = softmax(honest, 1.0)
    labels = np.array([rng.choice(5, p=p) for p in scores])
    assert fit_temperature(honest * true_temperature, labels) == pytest.approx(true_temperature, rel=0.05)


def test_calibration_error_by_hand():
    scores = np.array([0.9, 0.9, 0.9, 0.9, 0.3, 0.3])
    right = np.array([True, True, True, False, False, False])
    # Four windows claim 0.9 and hold 0.75; two claim 0.3 and hold 0.
    assert calibration_error(scores, right, bins=10) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.3)


def test_threshold_keeps_the_promised_precision():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.2, 1, 5000)
    right = rng.random(5000) < scores
    threshold = threshold_for_precision(scores, right, 0.9)
    assert right[scores >= threshold].mean() >= 0.9 > right[scores >= threshold - 0.05].mean()
    assert threshold_for_precision(scores, np.zeros(5000, bool), 0.9) == 0.95


def test_windows_slide_over_the_action(tmp_path):
    xyz = np.random.default_rng(0).standard_normal((61, 1, 25, 3)).astype(np.float32)
    sequence = SkeletonSequence(xyz, np.arange(61) / 30, name="a", label=2)
    store = write_store(tmp_path / "a", "a", [sequence], ["x", "y", "z"], 30.0)
    spec = Preprocessing(frames=8, window_s=2.0)
    clips, labels = sliding_clips(store, np.array([0]), spec, step_s=0.5)
    # The action lasts 2 s: windows end at 1.0, 1.5, 2.0, 2.5 and 3.0 s.
    assert clips.shape == (5, *spec.shape) and set(labels) == {2}
