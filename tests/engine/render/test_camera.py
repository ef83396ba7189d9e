"""The camera's handedness decides whether left stays left in everything that is rendered."""

from __future__ import annotations

import numpy as np
import pytest

from engine.render.camera import Camera, fit_camera, place
from engine.render.motions import motion
from engine.skeleton.layout import NTU25


def test_field_of_view_gives_the_focal_length():
    camera = Camera.from_fov(640, 480, 90.0)
    assert camera.focal == pytest.approx(320)
    assert (camera.cx, camera.cy) == (319.5, 239.5)


def test_larger_x_is_further_left_and_larger_y_higher():
    camera = Camera(640, 480, 500, 319.5, 239.5)
    assert camera.project(np.array([0.5, 0.2, 2.0])) == pytest.approx([319.5 - 125, 239.5 - 50])


def test_points_behind_the_camera_have_no_pixel():
    assert np.isnan(Camera.from_fov(64, 48).project(np.array([[0.0, 0.0, -1.0], [0.1, 0.1, 0.0]]))).all()


def test_rays_and_projection_agree():
    camera = Camera(64, 48, 55, 30, 25)
    x, y = camera.ray_columns()[7], camera.ray_rows()[40]
    assert camera.project(3.0 * np.array([x, y, 1.0])) == pytest.approx([7, 40])


def test_supersampled_camera_sees_the_same():
    camera = Camera(64, 48, 55, 30, 25)
    point = np.array([0.3, -0.2, 2.5])
    fine = camera.scaled(2).project(point)
    # Two fine pixels 2u and 2u + 1 make up the coarse pixel u.
    assert (fine - 0.5) / 2 == pytest.approx(camera.project(point))


@pytest.mark.parametrize("size", [(640, 480), (320, 240), (240, 320)])
@pytest.mark.parametrize("centred", [True, False])
def test_fitted_camera_sees_every_joint_with_margin(size, centred):
    joints = motion("jumping jack", 2, position=(0.4, 0.1, 2.6)).xyz
    camera = fit_camera(joints, *size, centred=centred)
    uv = camera.project(joints).reshape(-1, 2)
    assert (uv > 0.05 * np.array(size)).all() and (uv < 0.95 * np.array(size)).all()
    extent = (uv.max(0) - uv.min(0)) / np.array(size)
    assert extent.max() > (0.5 if centred else 0.6)  # not needlessly small


def test_fitted_camera_ignores_absent_persons():
    joints = motion("wave", 1).xyz
    with_absent = np.concatenate([joints, np.zeros_like(joints)], 1)
    assert fit_camera(with_absent, 320, 240) == fit_camera(joints, 320, 240)


def test_fitted_camera_refuses_nobody():
    with pytest.raises(ValueError, match="in front of the camera"):
        fit_camera(np.zeros((3, 25, 3)), 320, 240)


def test_placing_shifts_but_does_not_deform():
    joints = motion("kick", 1, position=(1.0, 0.5, 5.0)).xyz
    both = np.concatenate([joints, np.zeros_like(joints)], 1)
    moved = place(both, 2.8)
    assert (moved[:, 1] == 0).all()
    shift = (moved[:, 0] - joints[:, 0]).reshape(-1, 3)
    assert np.ptp(shift, axis=0) == pytest.approx([0, 0, 0], abs=1e-5)
    assert np.median(moved[:, 0, :, 2]) == pytest.approx(2.8, abs=0.01)
    assert place(joints, 2.8, height=-0.9)[..., 1].min() == pytest.approx(-0.9, abs=0.05)


def test_facing_person_has_the_right_side_at_image_left():
    joints = motion("stand", 0.2).xyz[0, 0]
    uv = Camera.from_fov(640, 480).project(joints)
    for name in ("Shoulder", "Hip", "Wrist"):
        assert uv[NTU25.index(f"{name}Right"), 0] < uv[NTU25.index(f"{name}Left"), 0]
