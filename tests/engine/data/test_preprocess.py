"""The shared preprocessing: sampling, centring, turning, scaling, streams, and that live and training agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.augment import Augmentation, evaluation_clip, rotation, training_clip
from engine.data.preprocess import Preprocessing, make_stream, normalise, preprocess, resample
from engine.skeleton.layout import NTU25, get_layout
from engine.skeleton.sequence import SkeletonSequence


def moving(frames=40, fps=30.0, persons=1, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.standard_normal((1, persons, 25, 3)) + np.cumsum(rng.standard_normal((frames, persons, 25, 3)) * 0.02, 0)
    return SkeletonSequence.from_frames(xyz.astype(np.float32), fps, name="moving")


@pytest.mark.parametrize(("frames", "expected"), [(1, [0] * 52), (2, [0] * 51 + [1])])
def test_linspace_of_very_short_sequences(frames, expected):
    spec = Preprocessing(frames=52, sampling="linspace", centre="none")
    clip = preprocess(moving(frames), spec)
    source = moving(frames).xyz[:, 0]
    assert np.array_equal(clip[:, :, :, 0].transpose(1, 2, 0), source[expected])


@pytest.mark.parametrize("frames", [3, 31, 52, 53, 104, 201])
def test_linspace_takes_the_published_frames(frames):
    spec = Preprocessing(frames=52, sampling="linspace", centre="none")
    clip = preprocess(moving(frames), spec)
    wanted = np.trunc(np.linspace(0, frames - 1, 52)).astype(int)
    assert np.array_equal(clip[:, :, :, 0].transpose(1, 2, 0), moving(frames).xyz[wanted, 0])


def test_window_interpolates_by_time_and_holds_edges():
    xyz = np.zeros((3, 1, 25, 3), np.float32)
    xyz[:, 0, :, 0] = np.array([1.0, 2.0, 4.0])[:, None]
    sequence = SkeletonSequence(xyz, [0.0, 0.1, 0.3])
    spec = Preprocessing(frames=5, window_s=0.4, centre="none")
    clip = preprocess(sequence, spec)
    # Read at -0.1, 0.0, 0.1, 0.2 and 0.3 s.
    assert np.allclose(clip[0, :, 0, 0], [1, 1, 2, 3, 4])


def test_absent_person_is_never_blended_with_zeros():
    xyz = np.zeros((2, 1, 25, 3), np.float32)
    xyz[1] = 3.0
    out = resample(xyz, np.array([0.0, 1.0]), np.array([0.0, 0.5, 1.0]), interpolate=True)
    assert np.allclose(out[1], 3.0) and np.allclose(out[0], 0.0)


def test_minmax_spans_every_axis_and_ignores_scale():
    spec = Preprocessing(scale="minmax")
    xyz = moving().xyz
    out = normalise(xyz, spec)
    assert np.allclose(out.min((0, 1, 2)), -1) and np.allclose(out.max((0, 1, 2)), 1)
    assert np.allclose(normalise(xyz * 3, spec), out, atol=1e-5)
    flat = xyz.copy()
    flat[..., 2] = 2.0
    assert np.isfinite(normalise(flat, spec)).all()


def test_first_centre_puts_the_spine_at_the_origin_and_keeps_the_walk():
    xyz = moving().xyz
    out = normalise(xyz, Preprocessing(centre="first"))
    assert np.allclose(out[0, 0, 1], 0)
    assert np.allclose(out, xyz - xyz[0, 0, 1], atol=1e-6)


def test_each_ground_keeps_height_only():
    xyz = moving().xyz
    out = normalise(xyz, Preprocessing(centre="each_ground"))
    assert np.allclose(out[:, 0, 1][:, [0, 2]], 0, atol=1e-6)
    assert np.allclose(out[:, 0, 1, 1], xyz[:, 0, 1, 1] - xyz[0, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("degrees", [0, 35, -80, 170])
def test_facing_undoes_a_turn_about_the_vertical(degrees):
    xyz = moving().xyz
    xyz[:, :, 8] += [0.4, 0, 0]
    xyz[:, :, 4] -= [0.4, 0, 0]
    spec = Preprocessing(facing=True)
    turned = xyz @ rotation(np.deg2rad(degrees), 0, 0)
    assert np.allclose(normalise(turned, spec), normalise(xyz, spec), atol=1e-4)
    across = (normalise(turned, spec)[:, 0, 8] - normalise(turned, spec)[:, 0, 4]).mean(0)
    assert across[0] > 0 and abs(across[2]) < 1e-4


@pytest.mark.parametrize("scale", ["torso", "limbs"])
def test_scale_forgets_body_size(scale):
    xyz = moving().xyz
    spec = Preprocessing(scale=scale, centre="mean")
    assert np.allclose(normalise(xyz * 1.7, spec), normalise(xyz, spec), atol=1e-4)


def test_limb_scale_is_one_arm_and_one_leg():
    xyz = normalise(moving(1).xyz, Preprocessing(scale="limbs"))[0, 0]
    chains = [(4, 5, 6), (8, 9, 10), (12, 13, 14), (16, 17, 18)]
    total = sum(np.linalg.norm(xyz[a] - xyz[b]) + np.linalg.norm(xyz[b] - xyz[c]) for a, b, c in chains)
    assert total / 2 == pytest.approx(1.0, abs=1e-4)


def test_absent_second_person_stays_zero():
    sequence = moving(persons=2)
    sequence.xyz[:, 1] = 0
    clip = preprocess(sequence, Preprocessing(persons=2, scale="torso"))
    assert not clip[..., 1].any() and clip[..., 0].any()
    assert not preprocess(moving(), Preprocessing(persons=2))[..., 1].any()


def test_streams_against_explicit_loops():
    clip = np.random.default_rng(0).standard_normal((3, 6, 25, 2)).astype(np.float32)
    bone = np.zeros_like(clip)
    for child, parent in NTU25.bones:
        bone[:, :, child] = clip[:, :, child] - clip[:, :, parent]
    motion, bone_motion = np.zeros_like(clip), np.zeros_like(clip)
    for t in range(5):
        motion[:, t] = clip[:, t + 1] - clip[:, t]
        bone_motion[:, t] = bone[:, t + 1] - bone[:, t]
    for stream, expected in (("joint", clip), ("bone", bone), ("joint_motion", motion), ("bone_motion", bone_motion)):
        assert np.allclose(make_stream(clip, stream, NTU25), expected, atol=1e-6), stream


def test_bad_sequences_are_refused():
    with pytest.raises(ValueError, match="no frames"):
        preprocess(SkeletonSequence(np.zeros((0, 1, 25, 3)), []), Preprocessing())
    broken = moving()
    broken.xyz[3, 0, 5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        preprocess(broken, Preprocessing())


def test_nobody_gives_zeros():
    sequence = SkeletonSequence(np.zeros((5, 1, 25, 3)), np.arange(5.0))
    for scale in ("none", "torso", "minmax"):
        assert not preprocess(sequence, Preprocessing(scale=scale, facing=True)).any()


@settings(deadline=None, max_examples=40)
@given(
    frames=st.integers(1, 90),
    fps=st.floats(5, 60),
    scale=st.sampled_from(["none", "torso", "limbs", "minmax"]),
    centre=st.sampled_from(["first", "mean", "each", "each_ground", "none"]),
    sampling=st.sampled_from(["window", "linspace"]),
    stream=st.sampled_from(["joint", "bone", "joint_motion", "bone_motion"]),
    seed=st.integers(0, 99),
)
def test_any_sequence_gives_a_finite_clip_of_the_cards_shape(frames, fps, scale, centre, sampling, stream, seed):
    spec = Preprocessing(scale=scale, centre=centre, sampling=sampling, stream=stream, facing=True)
    clip = preprocess(moving(frames, fps, seed=seed), spec)
    assert clip.shape == spec.shape and clip.dtype == np.float32 and np.isfinite(clip).all()


def test_without_changes_a_training_clip_is_the_evaluation_clip():
    spec = Preprocessing(scale="torso", centre="each_ground")
    sequence = moving(70)
    clip = training_clip(sequence, spec, Augmentation(), np.random.default_rng(0))
    assert np.allclose(clip, evaluation_clip(sequence, spec), atol=1e-5)


def test_training_clips_depend_on_the_generator_alone():
    spec = Preprocessing(scale="torso")
    how = Augmentation(yaw_deg=30, noise_m=0.05, speed=0.2, cut=0.2, scale=0.1, drop=1.0)
    a, b, c = (training_clip(moving(), spec, how, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.allclose(a, c)


def test_mirrored_clip_swaps_left_and_right():
    spec = Preprocessing(scale="torso")
    plain = training_clip(moving(), spec, Augmentation(), np.random.default_rng(0))
    mirrored = training_clip(moving(), spec, Augmentation(), np.random.default_rng(0), mirrored=True)
    flip = np.array([-1, 1, 1], np.float32)[:, None, None, None]
    assert np.allclose(mirrored, plain[:, :, list(NTU25.mirror)] * flip, atol=1e-5)


@pytest.mark.parametrize("layout", ["ntu25", "kinect20"])
def test_a_frozen_limb_keeps_its_offset_from_the_top_of_the_trunk(layout):
    joints, top = (25, 20) if layout == "ntu25" else (20, 2)
    xyz = moving(6).xyz[:, :, :joints]
    sequence = SkeletonSequence.from_frames(xyz, 30.0, layout)
    spec = Preprocessing(layout=layout, frames=6, sampling="linspace", centre="none")
    clip = training_clip(sequence, spec, Augmentation(drop=1.0), np.random.default_rng(0))
    offset = clip - clip[:, :, [top]]
    plain = (xyz - xyz[:, :, [top]]).transpose(3, 0, 2, 1)
    frozen = np.flatnonzero((np.abs(offset - plain) > 1e-5).any((0, 1, 3)))
    limb = next(limb for limb in get_layout(layout).limbs.values() if set(frozen) <= set(limb))
    assert len(frozen) == len(limb) - 1
    held = np.abs(np.diff(offset[:, :, frozen], axis=1)).max((0, 2, 3)) < 1e-5
    assert held.sum() >= 1
