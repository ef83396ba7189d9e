from __future__ import annotations

import math

import numpy as np
import pytest

from engine.render.motions import motion
from engine.skeleton.layout import NTU25
from engine.skeleton.posture import levelled, standing_lean


def standing() -> np.ndarray:
    """The first frame of a body that stands before it does anything."""
    return np.asarray(motion("bow", 2.0, 20.0).xyz[0, 0], np.float64)


@pytest.mark.parametrize("degrees", [-25.0, 0.0, 12.0])
def test_the_lean_of_a_standing_body_is_found_and_taken_back(degrees: float) -> None:
    body = standing()
    own = standing_lean(body)
    assert own is not None and abs(own) < math.radians(4)
    middle = body.mean(0)
    leaning = levelled(body, -math.radians(degrees), middle)
    found = standing_lean(leaning)
    assert found is not None and found - own == pytest.approx(math.radians(degrees), abs=1e-9)
    np.testing.assert_allclose(levelled(leaning, math.radians(degrees), middle), body, atol=1e-12)


def test_somebody_who_bows_or_squats_does_not_lean() -> None:
    for name in ("bow", "squat"):
        joints = np.asarray(motion(name, 2.0, 20.0).xyz[:, 0])
        lowest = joints[joints[:, NTU25.joints.index("Head"), 1].argmin()]
        assert standing_lean(lowest) is None


def test_a_body_of_zeros_does_not_stand() -> None:
    assert standing_lean(np.zeros((25, 3))) is None
