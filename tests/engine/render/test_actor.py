"""The figure stands where its joints are, the same every time, and wrong joints are refused with words."""

from __future__ import annotations

import numpy as np
import pytest

from engine.render.actor import Actor
from engine.render.appearance import APPEARANCES, Appearance
from engine.render.body import body_scale, bounded, trunk_frames
from engine.render.camera import Camera, fit_camera
from engine.render.motions import motion
from engine.render.scene import Room, random_backdrop
from engine.skeleton.convert import NTU25_TO_KINECT20
from engine.skeleton.layout import NTU25
from tests.shared_data import shared

CAMERA = Camera.from_fov(320, 240)
GREY = np.full((240, 320, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def standing() -> np.ndarray:
    return motion("stand", 0.1).xyz[0, 0]


def test_picture_form(standing):
    image = Actor().render(standing, CAMERA)
    assert image.shape == (240, 320, 3) and image.dtype == np.uint8


@pytest.mark.parametrize("name", ["stand", "wave", "squat", "jumping jack", "kick", "bow"])
def test_silhouette_covers_the_joints(name):
    actor = Actor()
    for joints in motion(name, 1.8).xyz[::9, 0]:
        camera = fit_camera(joints, 320, 240)
        depth = actor.silhouette(joints, camera)
        uv = np.round(camera.project(joints)).astype(int)
        for joint, (u, v) in enumerate(uv):
            around = depth[v - 1 : v + 2, u - 1 : u + 2]
            assert np.isfinite(around).any(), NTU25.joints[joint]
            # Joints lie inside the body: the skin in front of them is nearer, or another limb is.
            assert around.min() < joints[joint, 2] + 0.05, NTU25.joints[joint]


def test_figure_is_about_as_tall_as_the_person(standing):
    rows = np.flatnonzero(np.isfinite(Actor().silhouette(standing, CAMERA)).any(1))
    metres = (rows[-1] - rows[0]) / CAMERA.focal * standing[0, 2]
    assert metres == pytest.approx(1.75, abs=0.08)


def test_face_is_on_the_side_the_person_looks_to():
    look = Appearance(skin=(1, 0, 0), hair=(0, 0, 1), lips=(1, 0, 0))

    def red_minus_blue(facing: float) -> float:
        joints = motion("stand", 0.1, facing_deg=facing).xyz[0, 0]
        u, v = np.round(CAMERA.project(joints[3])).astype(int)
        patch = Actor(look).render(joints, CAMERA, GREY)[v - 6 : v + 7, u - 6 : u + 7].astype(float)
        return float((patch[..., 0] - patch[..., 2]).mean())

    assert red_minus_blue(0) > 40
    assert red_minus_blue(180) < -40


def test_profile_is_thinner_than_front():
    def width(facing: float) -> int:
        joints = motion("stand", 0.1, facing_deg=facing).xyz[0, 0]
        v = int(CAMERA.project(joints[1])[1])
        return int(np.isfinite(Actor().silhouette(joints, CAMERA))[v].sum())

    assert width(90) < 0.75 * width(0)


def test_right_hand_of_a_facing_person_is_drawn_at_image_left():
    joints = motion("wave", 2.0).xyz[30, 0]
    changed = np.isfinite(Actor().silhouette(joints, CAMERA))
    head = CAMERA.project(joints[3])
    above_shoulders = changed[: int(CAMERA.project(joints[20])[1]) - 4]
    left, right = above_shoulders[:, : int(head[0]) - 15].sum(), above_shoulders[:, int(head[0]) + 15 :].sum()
    assert left > 40 and right == 0


def test_absent_person_is_not_drawn(standing):
    actor = Actor()
    assert (actor.render(np.zeros((25, 3)), CAMERA, GREY) == GREY).all()
    pair = np.stack([standing, np.zeros((25, 3))])
    assert (actor.render(pair, CAMERA, GREY) == actor.render(standing, CAMERA, GREY)).all()


def test_nearer_person_hides_the_farther(standing):
    front, back = standing.copy(), standing.copy()
    back[:, 2] += 1.0
    looks = [APPEARANCES["red"], APPEARANCES["green"]]
    pair = Actor(looks).render(np.stack([front, back]), CAMERA, GREY)
    swapped = Actor(looks[::-1]).render(np.stack([back, front]), CAMERA, GREY)
    assert (pair == swapped).all()
    u, v = np.round(CAMERA.project(front[1])).astype(int)
    assert pair[v, u, 0] > pair[v, u, 1]


def test_same_input_same_picture(standing):
    room = Room()
    first = Actor(Appearance.random(3)).render(standing, CAMERA, room)
    assert (first == Actor(Appearance.random(3)).render(standing, CAMERA, room)).all()
    assert (first != Actor(Appearance.random(4)).render(standing, CAMERA, room)).any()
    assert (random_backdrop(64, 48, 5) == random_backdrop(64, 48, 5)).all()
    assert (random_backdrop(64, 48, 5) != random_backdrop(64, 48, 6)).any()


def test_kinect_joints_are_accepted(standing):
    twenty = NTU25_TO_KINECT20 @ standing
    image = Actor().render(twenty, CAMERA, GREY)
    other = Actor().render(standing, CAMERA, GREY)
    assert ((image != GREY).any(-1) == (other != GREY).any(-1)).mean() > 0.99


def test_supersampling_only_smooths(standing):
    plain = Actor().render(standing, CAMERA, GREY).astype(int)
    smooth = Actor(supersample=2).render(standing, CAMERA, GREY).astype(int)
    assert np.abs(plain - smooth).mean() < 3
    assert len(np.unique(smooth.reshape(-1, 3), axis=0)) > len(np.unique(plain.reshape(-1, 3), axis=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_joints_that_are_not_finite_are_refused(standing, bad):
    broken = standing.copy()
    broken[4, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        Actor().render(broken, CAMERA)


@pytest.mark.parametrize("shape", [(24, 3), (25, 2), (1, 1, 25, 3)])
def test_joints_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="joints are"):
        Actor().render(np.ones(shape), CAMERA)


def test_background_of_another_size_or_type_is_refused(standing):
    with pytest.raises(ValueError, match="background is"):
        Actor().render(standing, CAMERA, GREY[:100])
    with pytest.raises(ValueError, match="uint8"):
        Actor().render(standing, CAMERA, GREY / 255)


def test_wrong_appearances_are_refused():
    with pytest.raises(ValueError, match="colour shirt"):
        Appearance(shirt=(2.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="girth"):
        Appearance(girth=9.0)
    with pytest.raises(ValueError, match="at least one appearance"):
        Actor([])


def test_degenerate_and_noisy_joints_still_give_a_picture(standing):
    rng = np.random.default_rng(0)
    point = np.full((25, 3), [0.1, 0.0, 2.5])  # all joints in one place
    for joints in (point, standing + rng.normal(0, 0.15, standing.shape), standing - np.array([0, 0, 2.7])):
        image = Actor().render(joints, CAMERA, GREY)
        assert image.shape == (240, 320, 3)
    assert (Actor().render(point, CAMERA, GREY) != GREY).any()


def test_one_wrong_joint_does_not_change_the_size(standing):
    scale = body_scale(standing)
    wild = standing.copy()
    wild[6] += [2.0, 1.0, 0.0]
    assert body_scale(wild) == pytest.approx(scale, rel=0.06)


def test_trunk_faces_where_the_person_faces():
    for facing, expected in ((0, (0, 0, -1)), (90, (-1, 0, 0)), (180, (0, 0, 1))):
        chest, pelvis = trunk_frames(motion("stand", 0.1, facing_deg=facing).xyz[0, 0].astype(float))
        assert chest[2] == pytest.approx(expected, abs=0.02)
        assert pelvis[2] == pytest.approx(expected, abs=0.02)


def test_room_floor_lies_under_the_feet(standing):
    room = Room.under(standing)
    assert standing[:, 1].min() - 0.1 < room.floor < standing[:, 1].min()
    image = Actor().render(np.zeros((25, 3)), CAMERA, room)
    horizon = CAMERA.cy - CAMERA.focal * room.floor / room.wall
    assert np.abs(image[int(horizon) + 12].astype(int) - image[10].astype(int)).mean() > 20


def test_shadow_darkens_the_floor_below(standing):
    room = Room.under(standing)
    empty = Actor().render(np.zeros((25, 3)), CAMERA, room).astype(int)
    there = Actor().render(standing, CAMERA, room).astype(int)
    depth = Actor().silhouette(standing, CAMERA)
    beside = ~np.isfinite(depth)
    assert (there <= empty)[beside].all()
    assert (empty - there)[beside].max() > 30


def test_recorded_people_are_covered():
    data = np.load(shared("utd_mhad/utd_mhad.npz"))
    actor = Actor()
    for i in data["start"][:-1:120]:
        joints = data["xyz"][i + 10]
        camera = fit_camera(joints, 320, 240, centred=False)
        inside = np.isfinite(actor.silhouette(joints, camera))
        uv = np.round(camera.project(joints)).astype(int)
        for u, v in np.delete(uv, [7, 11, 15, 19], 0):  # hands and feet are bounded, not followed
            assert inside[v - 1 : v + 2, u - 1 : u + 2].any()


def test_runaway_joints_are_pulled_back(standing):
    wild = standing.astype(float)
    wild[6] += [3.0, 0.0, 0.0]
    tame = bounded(wild, body_scale(wild))
    assert np.linalg.norm(tame[6] - tame[5]) < 0.5
    assert (np.delete(tame, 6, 0) == np.delete(wild, 6, 0)).all()
    assert bounded(standing, body_scale(standing)) is standing
    inside = np.isfinite(Actor().silhouette(wild, CAMERA))
    assert inside.mean() < 1.5 * np.isfinite(Actor().silhouette(standing, CAMERA)).mean()
