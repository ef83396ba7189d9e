"""Normalisations and frame steps against frame-by-frame references, the specification's checks, and their promises."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.data import frame_steps as steps
from engine.data import normalise_papers as papers
from engine.data.normalise_papers import AXES, NORMALISATIONS
from engine.skeleton.layout import NTU25

CLEAN = (
    "infogcn_clean",
    "hiclr_clean",
    "cmd_clean",
    "gl_transformer_clean",
    "gl_transformer_shared",
    "first_frame_spine",
)


def clip(frames=12, persons=2, joints=25, seed=0):
    """Two noisy upright people in camera space who walk and turn."""
    rng = np.random.default_rng(seed)
    body = rng.normal(0, 0.08, (joints, 3))
    body[0], body[1], body[2], body[3] = (0, 0, 0), (0.01, 0.25, 0.01), (0, 0.5, 0), (0, 0.7, 0.02)
    body[4], body[8], body[12], body[16] = (-0.2, 0.45, 0.02), (0.2, 0.44, 0.0), (-0.1, -0.01, 0), (0.1, 0.0, 0.03)
    if joints == 25:
        body[20] = (0.0, 0.46, 0.01)
    out = np.zeros((frames, persons, joints, 3))
    for m in range(persons):
        for t in range(frames):
            angle = 0.4 + m + 0.05 * t
            turn = vertical(angle)
            out[t, m] = (body + rng.normal(0, 0.01, body.shape)) @ turn.T + (0.3 * m + 0.02 * t, 0.1, 3.0 + 0.5 * m)
    return out.astype(np.float32)


def vertical(angle):
    """A turn about y that takes z towards x."""
    return np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])


# ---- slow references, one frame and one person at a time ---------------------------------------------------------


def slow_resize(xyz, frames):
    out = []
    for i in range(frames):
        p = min(max((i + 0.5) * len(xyz) / frames - 0.5, 0), len(xyz) - 1)
        a, b = math.floor(p), min(math.floor(p) + 1, len(xyz) - 1)
        out.append(xyz[a] * (1 - (p - a)) + xyz[b] * (p - a))
    return np.stack(out)


def slow_first_frame_spine(xyz):
    origin = next(frame[0, 1] for frame in xyz if frame[0].any())
    return np.stack([[person - origin if person.any() else person for person in frame] for frame in xyz])


def slow_infogcn(xyz):
    out = slow_first_frame_spine(xyz)
    for m in range(xyz.shape[1]):
        body = out[0, m].astype(np.float64)
        if np.linalg.norm(body[1] - body[0]) == 0:
            out[:, m] = 0
            continue
        v1 = (body[1] - body[0]) / np.linalg.norm(body[1] - body[0])
        v2 = body[12] - body[16]
        v2 = v2 - v2.dot(v1) * v1
        v2 = v2 / np.linalg.norm(v2)
        v3 = np.cross(v2, v1)
        inverse = np.linalg.inv(np.stack([v2, v3 / np.linalg.norm(v3), v1], axis=1))
        for t in range(len(xyz)):
            for v in range(xyz.shape[2]):
                out[t, m, v] = inverse @ out[t, m, v]
    return out


def slow_yaw(xyz):
    out = xyz.copy()
    for m in range(xyz.shape[1]):
        angles, total = [], 0.0
        for frame in xyz[:, m].astype(np.float64):
            w = frame[8] - frame[4]
            w[1] = 0
            angles.append(math.acos(w[0] / (np.linalg.norm(w) + 1e-4)))
            total += w[2]
        for t, angle in enumerate(angles):
            if total >= 0:
                angle = -angle
            turn = np.array([[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]])
            for v in range(xyz.shape[2]):
                out[t, m, v] = turn @ xyz[t, m, v]
    return out


def slow_hiclr(xyz):
    """Position and motion of section 2.3, stage 2, step by step."""
    full = np.zeros((300, *xyz.shape[1:]), np.float32)
    full[: len(xyz)] = xyz
    motion = np.zeros_like(full)
    for t in range(299):
        motion[t] = full[t + 1] - full[t]
    length = sum(1 for frame in full if np.abs(frame[0, 0]).sum() != 0)
    position = np.zeros_like(full)
    for t in range(300):
        for m in range(full.shape[1]):
            position[t, m] = full[t, m] - full[t, m, 20]
    return slow_yaw(slow_resize(position[:length], 50)), slow_resize(motion[:length], 50)


def slow_turn(v, target):
    """Rodrigues' formula on each column of the identity."""
    axis = np.cross(v, target)
    angle = math.acos(np.clip(v.dot(target) / np.linalg.norm(v), -1, 1)) if np.linalg.norm(v) else 0.0
    if np.abs(axis).sum() < 1e-6 or abs(angle) < 1e-6:
        return np.eye(3)
    k = axis / np.linalg.norm(axis)
    columns = [
        e * math.cos(angle) + np.cross(k, e) * math.sin(angle) + k * k.dot(e) * (1 - math.cos(angle)) for e in np.eye(3)
    ]
    return np.stack(columns, axis=1)


def slow_pad(xyz, frames=300):
    full = np.zeros((frames, *xyz.shape[1:]), np.float32)
    full[: min(len(xyz), frames)] = xyz[:frames]
    for m in range(full.shape[1]):
        person = full[:, m]
        if not person.any():
            continue
        if not person[0].any():
            seen = [frame.copy() for frame in person if frame.any()]
            person[:] = 0
            for t, frame in enumerate(seen):
                person[t] = frame
        for t in range(frames):
            if not person[t:].any():
                for k in range(t, frames):
                    person[k] = person[k - t]
                break
    return full


def slow_cmd_turns(out, body):
    turn = slow_turn((body[1] - body[0]).astype(np.float64), np.array([0.0, 0.0, 1.0]))
    out, body = np.einsum("ij,tmvj->tmvi", turn, out), body @ turn.T
    turn = slow_turn((body[8] - body[4]).astype(np.float64), np.array([1.0, 0.0, 0.0]))
    return np.einsum("ij,tmvj->tmvi", turn, out)


def slow_cmd(xyz):
    full = slow_pad(xyz)
    out = np.zeros_like(full)
    for t, frame in enumerate(full):
        for m in range(full.shape[1]):
            for v in range(full.shape[2]):
                if frame[m, v].sum() != 0:
                    out[t, m, v] = frame[m, v] - frame[0, 1]
    return slow_cmd_turns(out, out[0, 0])


def slow_gl(xyz):
    length = sum(1 for frame in xyz if np.abs(frame[0, 0]).sum() != 0)
    cut = xyz[:length]
    out = cut.copy()
    for t in range(length):
        for m in range(xyz.shape[1]):
            out[t, m] = cut[t, m] - cut[t, m, 20]
            out[t, m, 20] = cut[t, m, 20] - cut[0, m, 20]
    full = np.full((300, *xyz.shape[1:]), 99.9, np.float32)
    full[:length] = slow_yaw(out)
    return full


def with_gaps(xyz, seed=1):
    """Some frames without the second person, none without the first."""
    out = xyz.copy()
    out[np.random.default_rng(seed).random(len(out)) < 0.3, 1] = 0
    return out


@pytest.mark.parametrize("frames", [1, 2, 30, 97])
def test_published_arrays_equal_the_slow_references(frames):
    xyz = with_gaps(clip(frames, seed=frames))
    close = {"rtol": 0, "atol": 2e-5}
    np.testing.assert_allclose(papers.first_frame_spine(xyz), slow_first_frame_spine(xyz), **close)
    np.testing.assert_allclose(papers.infogcn(xyz), slow_infogcn(xyz), **close)
    for got, wanted in zip(papers.hiclr_arrays(xyz), slow_hiclr(xyz)):
        np.testing.assert_allclose(got, wanted, **close)
    np.testing.assert_allclose(papers.hiclr(steps.resize_frames(xyz, 50)), slow_hiclr(xyz)[0], **close)
    np.testing.assert_allclose(papers.cmd_array(xyz), slow_cmd(xyz), **close)
    np.testing.assert_allclose(papers.gl_transformer_array(xyz), slow_gl(xyz), **close)


def test_published_arrays_with_gaps_of_the_first_person():
    xyz = clip(40, seed=3)
    xyz[:2, 0] = xyz[10:13, 0] = xyz[20:24] = 0
    close = {"rtol": 0, "atol": 2e-5}
    for got, wanted in zip(papers.hiclr_arrays(xyz), slow_hiclr(xyz)):
        np.testing.assert_allclose(got, wanted, **close)
    np.testing.assert_allclose(papers.cmd_array(xyz), slow_cmd(xyz), **close)
    np.testing.assert_allclose(papers.gl_transformer_array(xyz[2:]), slow_gl(xyz[2:]), **close)
    np.testing.assert_allclose(papers.first_frame_spine(xyz), slow_first_frame_spine(xyz), **close)


@pytest.mark.parametrize("frames", [1, 2, 40, 97, 300])
def test_cmd_as_trained_is_the_stored_array_inside_the_sequence(frames):
    """i2md.md, 1.2: the first n of 300 stored frames, n the sequence's own."""
    xyz = with_gaps(clip(frames, seed=frames))
    # The second person enters late and leaves early, the first one comes back once.
    xyz[: frames // 4, 1] = xyz[frames - frames // 5 :, 1] = 0
    xyz[frames // 2 : frames // 2 + frames // 10, 0] = 0
    got = NORMALISATIONS["cmd"](xyz)
    np.testing.assert_allclose(got, slow_cmd(xyz)[:frames], rtol=0, atol=2e-5)
    assert np.array_equal(got, papers.cmd_array(xyz)[:frames])
    if frames >= 40:
        # He is there from the first frame on, and once more behind his last one.
        assert steps.presence(got)[[0, -1], 1].all() and not steps.presence(xyz)[[0, -1], 1].any()
        assert not np.array_equal(got, papers.cmd(xyz))


@pytest.mark.parametrize(("persons", "joints"), [(1, 20), (1, 25), (2, 25)])
def test_cmd_does_nothing_more_to_persons_who_are_always_there(persons, joints):
    """NW-UCLA: one person, no empty frame."""
    for frames in (1, 30, 301):
        xyz = clip(frames, persons, joints)
        assert np.array_equal(NORMALISATIONS["cmd"](xyz), papers.cmd(xyz))


def test_a_longer_sequence_than_cmd_stores_is_cut_before_persons_are_moved():
    xyz = clip(330)
    xyz[:20, 1] = 0
    got = papers.cmd_array(xyz)
    np.testing.assert_allclose(got, slow_cmd(xyz), rtol=0, atol=2e-5)
    # 280 frames of him are in the first 300; then he starts again.
    np.testing.assert_allclose(got[280, 1] - got[280, 1, 0], got[0, 1] - got[0, 1, 0], atol=1e-5)
    assert len(NORMALISATIONS["cmd"](xyz)) == 330


def test_pyskl_at_training_time():
    xyz = clip(30, seed=5)
    xyz[:12, 0] = xyz[28:, 1] = 0
    chosen = steps.longer_actor_first(xyz)
    assert np.array_equal(chosen, xyz[:28, [1, 0]])
    wanted = np.zeros_like(chosen)
    for t, m, v in np.ndindex(chosen.shape[:3]):
        if chosen[t, m, v].any():
            wanted[t, m, v] = chosen[t, m, v] - chosen[0, 0, 1]
    np.testing.assert_allclose(papers.pyskl(chosen), slow_cmd_turns(wanted, wanted[0, 0]), atol=2e-5)


# ---- checks of the specification (numbers are those of section 8) ------------------------------------------------


def test_25_centre_crop():
    assert steps.centre_crop(100) == (2, 98)
    assert steps.centre_crop(32) == (0, 32)
    # i2md.md, check 8: n -> start, length
    for n, start, length in ((300, 7, 286), (128, 3, 122), (64, 1, 62), (40, 1, 38), (39, 0, 39)):
        assert steps.centre_crop(n) == (start, start + length)


def test_26_resize():
    ramp = np.arange(4, dtype=np.float32)
    assert steps.resize_frames(ramp, 2).tolist() == [0.5, 2.5]
    assert steps.resize_frames(ramp, 8).tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert steps.resize_frames(ramp[3:], 5).tolist() == [3.0] * 5
    assert np.array_equal(steps.resize_frames(clip(50), 50), clip(50))
    # i2md.md, check 9
    ramp = np.arange(128, dtype=np.float32)
    assert steps.resize_frames(ramp, 64)[[0, 1, 2, 63]].tolist() == [0.5, 2.5, 4.5, 126.5]
    first, last = steps.centre_crop(300)
    seen = steps.resize_frames(np.arange(300, dtype=np.float32)[first:last], 64)
    assert seen[[0, 63]].tolist() == [8.734375, 290.265625]


@pytest.mark.parametrize("name", ["cmd", "cmd_clean"])
def test_27_cmd(name):
    xyz = with_gaps(clip(25))
    out = NORMALISATIONS[name](xyz)
    assert not out[:, 0, 1].any()
    across = out[0, 0, 8] - out[0, 0, 4]
    assert abs(across[1]) < 1e-5 and across[0] > 0
    if name == "cmd":
        assert abs(across[2]) < 1e-5
    for child, parent in NTU25.bones:
        wanted = np.linalg.norm(xyz[:, :, child] - xyz[:, :, parent], axis=-1)
        got = np.linalg.norm(out[:, :, child] - out[:, :, parent], axis=-1)
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_27_level_shoulders_leave_the_spine_upright():
    xyz = clip(3)
    xyz[0, 0, 0], xyz[0, 0, 1] = (0, 0, 3), (0, 0.25, 3)
    xyz[0, 0, 4], xyz[0, 0, 8] = (-0.2, 0.4, 3), (0.2, 0.4, 3.1)
    out = papers.cmd(xyz)
    np.testing.assert_allclose(out[0, 0, 0], (0, 0, -0.25), atol=1e-6)


def test_28_upright_spine():
    assert np.allclose(
        papers.rotation_onto(np.array([0, 0.3, 0]), np.array([0, 0, 1.0])), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    )


def test_29_repetition():
    xyz = clip(100)
    out = steps.repeat_to(xyz)
    assert all(np.array_equal(out[k : k + 100], xyz) for k in (0, 100, 200))
    assert np.array_equal(steps.repeat_to(clip(310)), clip(310)[:300])


def test_30_hiclr_position():
    xyz = clip(20)
    xyz[:, 0, 8] = xyz[:, 0, 4] + np.float32([0.3, 0, 0.2])
    position, _ = papers.hiclr_arrays(xyz)
    assert not position[:, :, 20].any()
    for out, guard in ((position, 2e-4), (papers.hiclr(xyz), 2e-4), (papers.hiclr(xyz, clean=True), 1e-6)):
        across = out[:, 0, 8] - out[:, 0, 4]
        assert np.abs(across[:, 2]).max() < guard
        np.testing.assert_allclose(across[:, 0], 0.3606, atol=1e-4)


def test_31_padding_spike():
    xyz = np.zeros((10, 1, 25, 3), np.float32)
    xyz[..., 0] = 1.0
    _, motion = papers.hiclr_arrays(xyz, frames=10)
    assert not motion[:9].any() and (motion[9, ..., 0] == -1).all()
    _, motion = papers.hiclr_arrays(xyz, frames=10, clean=True)
    assert not motion.any()


def test_32_gl_transformer():
    xyz = clip(40)
    out = papers.gl_transformer_array(xyz)
    assert out.shape == (300, 2, 25, 3) and (out[40:] == np.float32(99.9)).all()
    assert not out[0, :, 20].any()
    path = xyz[:, :, 20] - xyz[0, :, 20]
    np.testing.assert_allclose(np.linalg.norm(out[:40, :, 20], axis=-1), np.linalg.norm(path, axis=-1), atol=1e-5)
    # gl_transformer.md, checks 16 and 17: shoulders (0.35, 0.05) apart, and a quarter turn.
    xyz[:, 0, 8] = xyz[:, 0, 4] + np.float32([0.35, 0, 0.05])
    across = papers.gl_transformer(xyz)[:, 0, 8] - papers.gl_transformer(xyz)[:, 0, 4]
    assert np.abs(across[:, 2]).max() < 1e-3
    np.testing.assert_allclose(across[:, 0], 0.3536, atol=1e-4)
    quarter = np.zeros((1, 1, 25, 3), np.float32)
    quarter[0, 0, 8], quarter[0, 0, 4], quarter[0, 0, 7] = (0, 0, -0.1), (0, 0, 0.1), (2.0, 0.0, 3.0)
    np.testing.assert_allclose(papers.yaw_align(quarter)[0, 0, 7], (-3, 0, 2), atol=1e-5)


def test_32_a_clip_without_first_person_is_all_padding():
    xyz = clip(20)
    xyz[:, 0] = 0
    assert (papers.gl_transformer_array(xyz) == np.float32(99.9)).all()


def test_33_mirror():
    mirror, parents = np.array(NTU25.mirror), np.array(NTU25.parents)
    assert np.array_equal(mirror[mirror], np.arange(25))
    assert np.array_equal(parents[mirror], mirror[parents])


def test_hiclr_mixed_signs():
    """A frame whose shoulders point the other way is turned away by as much, unless mended (hiclr.md, 9.2, 15)."""
    xyz = np.zeros((2, 1, 25, 3), np.float32)
    xyz[0, 0, 8], xyz[1, 0, 8] = (0.3, 0, 0.2), (0.3, 0, -0.1)
    published, mended = papers.yaw_align(xyz), papers.yaw_align(xyz, clean=True)
    doubled = -2 * math.atan2(0.1, 0.3)
    wanted = math.hypot(0.3, 0.1) * np.array([math.cos(doubled), 0, math.sin(doubled)])
    np.testing.assert_allclose(published[1, 0, 8], wanted, atol=3e-4)
    np.testing.assert_allclose(mended[1, 0, 8], (math.hypot(0.3, 0.1), 0, 0), atol=1e-6)


def test_gl_path_turns_with_the_body():
    """gl_transformer.md, 7.1, row 3: 0.01 m a frame along x while turning 3 degrees a frame."""
    xyz = np.zeros((31, 1, 25, 3), np.float32)
    for t in range(31):
        angle = math.radians(3 * t)
        xyz[t, 0, 20, 0] = 0.01 * t
        xyz[t, 0, 8] = xyz[t, 0, 20] + np.float32([0.15 * math.cos(angle), 0, 0.15 * math.sin(angle)])
        xyz[t, 0, 4] = xyz[t, 0, 20] - np.float32([0.15 * math.cos(angle), 0, 0.15 * math.sin(angle)])
    path = papers.gl_transformer(xyz, clean=True)[:, 0, 20]
    np.testing.assert_allclose(path[10], (0.087, 0, -0.050), atol=5e-4)
    np.testing.assert_allclose(path[30], (0, 0, -0.300), atol=5e-4)


def test_infogcn_mirrors_and_the_mended_one_does_not():
    xyz = clip(8, persons=1)
    published, mended = papers.infogcn(xyz), papers.infogcn(xyz, clean=True)
    np.testing.assert_allclose(published * [1, -1, 1], mended, atol=1e-6)
    spine = mended[0, 0, 1] - mended[0, 0, 0]
    hips = mended[0, 0, 12] - mended[0, 0, 16]
    assert np.abs(spine[:2]).max() < 1e-6 and spine[2] > 0 and abs(hips[1]) < 1e-6 and hips[0] > 0
    hand = [np.linalg.det((x[0, 0, [4, 8, 3]] - x[0, 0, 1]).astype(np.float64)) for x in (xyz, published, mended)]
    np.testing.assert_allclose(hand[1:], [-hand[0], hand[0]], rtol=1e-3)


# ---- what the papers promise -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.tuples(*[st.floats(-1, 1)] * 3), st.integers(0, 50))
def test_turning_and_moving_the_room_changes_nothing(angle, offset, seed):
    xyz = with_gaps(clip(9, seed=seed), seed)
    there = steps.presence(xyz)
    moved = (xyz @ vertical(angle).T + np.array(offset)).astype(np.float32)
    moved[~there] = 0
    for name in ("infogcn", "infogcn_clean", "hiclr_clean", "gl_transformer_clean", "cmd_clean"):
        np.testing.assert_allclose(NORMALISATIONS[name](moved), NORMALISATIONS[name](xyz), atol=5e-5, err_msg=name)
    shifted = np.where(there[..., None, None], xyz + np.float32(offset), 0).astype(np.float32)
    for name in ("first_frame_spine", "cmd", "hiclr", "pyskl"):
        np.testing.assert_allclose(NORMALISATIONS[name](shifted), NORMALISATIONS[name](xyz), atol=5e-5, err_msg=name)


def test_gl_persons_are_independent_of_their_places():
    """gl_transformer.md, checks 14, 15 and 18."""
    xyz = clip(15)
    moved = xyz.copy()
    moved[:, 1] += np.float32([0.5, 0.1, -0.3])
    np.testing.assert_allclose(papers.gl_transformer(moved), papers.gl_transformer(xyz), atol=1e-5)
    opposite = xyz[:, [0, 0]].copy()
    opposite[:, 1] = (opposite[:, 1] - opposite[:, 1, 20:21]) @ np.diag([-1, 1, -1]).astype(np.float32) + 2
    out = papers.gl_transformer(opposite, clean=True)
    local = [v for v in range(25) if v != 20]
    np.testing.assert_allclose(out[:, 0][:, local], out[:, 1][:, local], atol=1e-5)


def test_shared_gl_input_keeps_how_persons_stand_to_each_other():
    xyz = with_gaps(clip(15))
    xyz[:3, 0] = 0
    out = papers.gl_transformer_shared(xyz)
    first = xyz[3, 0]
    across = first[8] - first[4]
    turn = vertical(math.atan2(across[2], across[0]))
    for t in range(15):
        for m in range(2):
            if not xyz[t, m].any():
                assert not out[t, m].any()
                continue
            for v in range(25):
                origin = first[20] if v == 20 else xyz[t, m, 20]
                np.testing.assert_allclose(out[t, m, v], turn @ (xyz[t, m, v] - origin), atol=1e-5)
    assert not out[3, 0, 20].any() and abs(out[3, 0, 8, 2] - out[3, 0, 4, 2]) < 1e-6 < out[3, 0, 8, 0] - out[3, 0, 4, 0]
    # A turn and a move of the room change nothing; a move or a turn of one person do.
    room = np.where(xyz.any((2, 3), keepdims=True), xyz @ vertical(2.0).T.astype(np.float32) + np.float32(0.7), 0)
    np.testing.assert_allclose(papers.gl_transformer_shared(room), out, atol=1e-5)
    for other in (xyz[:, 1] + np.float32([0.5, 0, 0]), xyz[:, 1] @ np.diag([-1, 1, -1]).astype(np.float32)):
        changed = xyz.copy()
        changed[:, 1] = np.where(xyz[:, 1].any((1, 2), keepdims=True), other, 0)
        assert np.abs(papers.gl_transformer_shared(changed)[:, 1] - out[:, 1]).max() > 0.1


def test_a_turn_of_the_room_costs_hiclr_only_its_guard():
    xyz = clip(12, persons=1)
    # All shoulders point to +z in both rooms, so the one sign fits every frame.
    a, b = (xyz @ vertical(angle).T.astype(np.float32) for angle in (-1.2, -1.6))
    assert all(((clip_[:, :, 8] - clip_[:, :, 4])[..., 2] > 0).all() for clip_ in (a, b))
    assert np.abs(papers.hiclr(a) - papers.hiclr(b)).max() < 0.04


def test_a_turn_of_the_room_costs_gl_transformer_only_its_guard():
    """gl_transformer.md, check 15: shoulders' z keeps one sign in both rooms."""
    xyz = clip(12, persons=1)
    rooms = [xyz @ vertical(angle).T.astype(np.float32) for angle in (-1.2, -1.6)]
    assert all(((room[:, 0, 8] - room[:, 0, 4])[:, 2] > 0).all() for room in rooms)
    a, b = (papers.gl_transformer(room) for room in rooms)
    assert 0 < np.abs(a - b).max() < 0.04


def test_who_enters_late_and_who_never_comes():
    xyz = clip(20)
    xyz[:8, 1] = 0
    published, mended = papers.gl_transformer(xyz), papers.gl_transformer(xyz, clean=True)
    assert np.linalg.norm(published[8, 1, 20]) > 2  # his place in the room
    assert not mended[8, 1, 20].any() and not mended[:8, 1].any()
    assert not papers.infogcn(xyz)[:, 1].any() and papers.infogcn(xyz, clean=True)[8:, 1].any()
    gone = clip(20)
    gone[5:9, 0] = 0
    assert np.linalg.norm(papers.gl_transformer(gone)[6, 0, 20]) > 2
    assert not papers.gl_transformer(gone, clean=True)[5:9, 0].any()
    # Without the first person CMD leaves the other where the camera sees him; mended, he stays where he stood.
    assert np.abs(papers.cmd(gone)[6, 1]).max() > 2 and np.abs(papers.cmd(gone, clean=True)[6, 1]).max() < 2
    alone = clip(20)
    alone[:, 0] = 0
    assert not papers.first_frame_spine(alone)[0, 1, 1].any()
    assert not papers.cmd(alone, clean=True)[:, 1, 1].any()


def test_mended_hiclr_arrays_count_to_the_end_and_never_blend_with_nobody():
    xyz = clip(40)
    xyz[10:15, 0] = 0
    position, motion = papers.hiclr_arrays(xyz, clean=True)
    widths = np.linalg.norm(position[:, 0, 8] - position[:, 0, 4], axis=-1)
    assert ((widths == 0) | (widths > 0.3)).all()
    assert np.abs(motion).max() < 0.2
    np.testing.assert_allclose(position[-1, 1], papers.hiclr(xyz, clean=True)[-1, 1], atol=1e-5)


@pytest.mark.parametrize("name", sorted(NORMALISATIONS))
def test_every_normalisation_keeps_shape_and_writes_nothing_into_its_input(name):
    for joints in (25, 20):
        for frames in (1, 2, 9):
            xyz = with_gaps(clip(frames, joints=joints))
            before = xyz.copy()
            out = NORMALISATIONS[name](xyz)
            assert out.shape == xyz.shape and out.dtype == np.float32 and out.base is not xyz
            assert np.array_equal(xyz, before)
            if name in CLEAN:
                assert not out[~steps.presence(xyz)].any()
    assert name in AXES


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 2), st.just(25), st.just(3)),
        elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 0.25]),
        fill=st.just(0.0),
    )
)
def test_nothing_degenerate_gives_nan(xyz):
    """Spines and shoulders without length, joints on one point, nobody at all."""
    for name, normalise in NORMALISATIONS.items():
        out = normalise(xyz)
        assert np.isfinite(out).all(), name
        if not xyz.any():
            assert not out.any(), name
    for array in (papers.cmd_array(xyz), papers.gl_transformer_array(xyz), *papers.hiclr_arrays(xyz)):
        assert np.isfinite(array).all()
    for array in papers.hiclr_arrays(xyz, clean=True):
        assert np.isfinite(array).all()


def test_spine_upside_down_is_still_turned_up():
    xyz = clip(1, persons=1, joints=20)
    xyz[0, 0, 0], xyz[0, 0, 1] = (0, 0, 3.0), (0, 0, 2.7)
    out = papers.cmd(xyz, clean=True)
    np.testing.assert_allclose(out[0, 0, 0], (0, 0, -0.3), atol=1e-6)


def test_other_layouts_are_refused_with_advice():
    with pytest.raises(ValueError, match=r"33 joints.*ntu25 or kinect20"):
        papers.hiclr(np.zeros((4, 1, 33, 3), np.float32))


def test_frame_steps():
    xyz = clip(10)
    xyz[:3, 1] = 0
    front = steps.to_front(xyz)
    assert (
        np.array_equal(front[:7, 1], xyz[3:, 1]) and not front[7:, 1].any() and np.array_equal(front[:, 0], xyz[:, 0])
    )
    assert steps.counted_length(steps.pad_zeros(xyz, 30)) == 10 and steps.valid_frames(steps.pad_zeros(xyz, 30)) == 10
    assert np.array_equal(steps.centre_frames(clip(305)), clip(305)[2:302])
    assert np.array_equal(steps.centre_frames(xyz), xyz)
    held = steps.resize_frames(xyz, 23, blend_absent=False)
    there = steps.presence(held)[:, 1]
    widths = np.linalg.norm(held[there, 1, 8] - held[there, 1, 4], axis=-1)
    assert 0 < there.sum() < 23 and widths.min() > 0.3
