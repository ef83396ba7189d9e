"""Ray casting against surfaces whose depth and outline are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from engine.render.camera import Camera
from engine.render.raster import Surfaces, cast, normals, to_quadrics

CAMERA = Camera(161, 121, 150, 80, 60)


def sphere_depth(camera: Camera, centre: np.ndarray, radius: float) -> np.ndarray:
    """Depth of a sphere by the textbook: solve |t d - c| = r for every pixel in double precision."""
    x, y = np.meshgrid(camera.ray_columns(), camera.ray_rows())
    d = np.stack([x, y, np.ones_like(x)], -1)
    a, b, c = (d * d).sum(-1), d @ centre, centre @ centre - radius**2
    disc = b * b - a * c
    with np.errstate(invalid="ignore"):
        return np.where(disc > 0, (b - np.sqrt(disc)) / a, np.inf)


@pytest.mark.parametrize(("centre", "radius"), [((0, 0, 3), 0.5), ((0.6, -0.4, 2.5), 0.3), ((-0.5, 0.5, 3), 0.012)])
def test_sphere_depth(centre, radius):
    centre = np.array(centre, float)
    parts = Surfaces()
    parts.sphere(centre, radius, 0)
    depth, index = cast(to_quadrics(parts), CAMERA)
    expected = sphere_depth(CAMERA, centre, radius)
    hit = np.isfinite(expected)
    assert (np.isfinite(depth) != hit).mean() < 2e-4
    both = hit & np.isfinite(depth)
    assert both.any()
    assert np.abs(depth[both] - expected[both]).max() < 2e-3
    assert ((index == 0) == np.isfinite(depth)).all()


def test_nearest_point_of_a_centred_sphere():
    parts = Surfaces()
    parts.sphere(np.array([0.0, 0.0, 3.0]), 0.5, 0)
    depth, _ = cast(to_quadrics(parts), CAMERA)
    assert depth[60, 80] == pytest.approx(2.5, abs=1e-5)


def test_normals_point_outwards():
    centre = np.array([0.3, 0.1, 2.0])
    parts = Surfaces()
    parts.sphere(centre, 0.4, 0)
    quadrics = to_quadrics(parts)
    direction = np.array([0.6, 0.0, -0.8])
    point = (centre + 0.4 * direction).astype(np.float32)[None]
    assert normals(quadrics, point, np.array([0]))[0] == pytest.approx(direction, abs=1e-4)


def test_cylinder_ends_where_it_should():
    parts = Surfaces()
    parts.cone(np.array([0.0, -0.5, 2.0]), np.array([0.0, 0.5, 2.0]), (0.2, 0.2), 0)
    depth, _ = cast(to_quadrics(parts), CAMERA)
    assert depth[60, 80] == pytest.approx(1.8, abs=1e-4)
    rows = np.flatnonzero(np.isfinite(depth[:, 80]))
    # The front wall is seen from y = 0.5 down to -0.5 at depth 1.8: 150 * 0.5 / 1.8 = 41.67 pixels both ways.
    assert (rows[0], rows[-1]) == (60 - 41, 60 + 41)
    columns = np.flatnonzero(np.isfinite(depth[60]))
    tangent = 150 * 0.2 / np.sqrt(2.0**2 - 0.2**2)
    assert columns[-1] - 80 == int(tangent) and 80 - columns[0] == int(tangent)


def test_flat_cone_is_thinner_along_its_side():
    parts = Surfaces()
    parts.cone(np.array([0.0, -0.5, 2.0]), np.array([0.0, 0.5, 2.0]), (0.2, 0.2), 0, np.array([0.0, 0.0, 1.0]), 0.5)
    depth, _ = cast(to_quadrics(parts), CAMERA)
    assert depth[60, 80] == pytest.approx(1.9, abs=1e-4)


def test_nearer_surface_hides_the_farther():
    parts = Surfaces()
    parts.sphere(np.array([0.0, 0.0, 3.0]), 0.5, 0)
    parts.sphere(np.array([0.0, 0.0, 2.0]), 0.2, 1)
    _, index = cast(to_quadrics(parts), CAMERA)
    assert index[60, 80] == 1 and index[60, 80 + 22] == 0


def test_surfaces_behind_or_around_the_camera_are_left_out():
    parts = Surfaces()
    parts.sphere(np.array([0.0, 0.0, -2.0]), 0.5, 0)
    parts.sphere(np.array([0.0, 0.0, 0.2]), 0.5, 0)
    depth, index = cast(to_quadrics(parts), CAMERA)
    assert not np.isfinite(depth).any() and (index == -1).all()
