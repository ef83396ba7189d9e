"""A dataset filmed: what comes back is the same movement, left stays left, and films are repeatable."""

import numpy as np
import pytest

from engine.live.through_camera import CameraSetup, film, see
from engine.render.motions import motion
from engine.skeleton.layout import NTU25
from engine.skeleton.sequence import SkeletonSequence


@pytest.fixture
def raised():
    performed = motion("raise left arm", 2.0)
    return SkeletonSequence(performed.xyz, performed.times, name="a", label=1, meta={"subject": 3})


def test_films_are_repeatable_and_vary_by_seed(raised):
    first, again, other = (
        next(iter(film(raised, CameraSetup(seed=seed, near=0.0))))[0].astype(int) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and np.abs(first - other).mean() > 1
    times = [time for _, time in film(raised, CameraSetup(vary=False, every=3))]
    assert np.allclose(times, raised.times[::3])


@pytest.mark.parametrize("setup", [CameraSetup(vary=False, every=3), CameraSetup(seed=4, every=3, near=0.0)])
def test_the_camera_sees_the_same_movement(raised, setup):
    seen = see(raised, setup)
    assert seen is not None and len(seen) == len(raised.times[::3])
    assert (seen.name, seen.label, seen.meta["subject"]) == ("a", 1, 3)
    left, right, head = (seen.xyz[:, 0, NTU25.index(j), 1] for j in ("HandLeft", "HandRight", "Head"))
    assert (left > head).any() and (right < head - 0.3).all()
    across = seen.xyz[:, 0, NTU25.index("ShoulderRight")] - seen.xyz[:, 0, NTU25.index("ShoulderLeft")]
    assert (across[:, 0] > 0.1).all()


def test_nobody_to_be_seen_is_reported(raised):
    nobody = SkeletonSequence(np.zeros_like(raised.xyz[:6]), raised.times[:6], name="b", label=0, meta={"subject": 1})
    assert see(nobody, CameraSetup(vary=False, every=3)) is None
    short = SkeletonSequence(raised.xyz[:6], raised.times[:6], name="a", label=1, meta={"subject": 3})
    found = see(short, CameraSetup(vary=False, every=3))
    assert found is not None and found.name == "a"
