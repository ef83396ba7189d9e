"""Cleaning against a frame-by-frame reading of the rules, the specification's checks, and bodies made up at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import cleaning
from engine.data.bodies import ABSENT_SLOT, BodyTrack, RawDataError, RawSequence
from engine.data.cleaning import CLEANINGS, aligned_row, clean, compatible, duplicate_actor, pyskl
from engine.data.readers.ntu import open_ntu
from tests.shared_data import shared

JOINTS = 25


def skeleton_frames(count, seed=0, size=0.1, width=0.4, height=1.6):
    """Random upright bodies ``(count, 25, 3)`` about 3 m away; joints 2 and 3 pin width and height exactly."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-size, size, (count, JOINTS, 3)).astype(np.float32)
    xyz[:, :, 1] = np.abs(xyz[:, :, 1])
    xyz[:, 2, :2] = (-width / 2, 0.0)
    xyz[:, 3, :2] = (width / 2, height)
    xyz[:, :, 2] += 3.0
    return xyz


def track(frames, xyz, identity=0, slots=None):
    """A body seen in the given frames (increasing), ``xyz`` one pose for each."""
    frames = np.asarray(frames)
    length = frames[-1] - frames[0] + 1
    full = np.zeros((length, *xyz.shape[1:]), np.float32)
    slot = np.full(length, ABSENT_SLOT, np.uint8)
    full[frames - frames[0]] = xyz
    slot[frames - frames[0]] = identity if slots is None else slots
    return BodyTrack(2**56 + identity, int(frames[0]), full, slot)


def recording(*bodies, frames=None):
    """Bodies as (frame numbers, poses) in first-seen order."""
    tracks = tuple(track(f, xyz, i) for i, (f, xyz) in enumerate(bodies))
    count = max(t.first + len(t.xyz) for t in tracks) if frames is None else frames
    return RawSequence("S001C001P001R001A001", 0, int(count), tracks)


# ---- the slow reading of datasets.md, section 2.1 and 2.2 -------------------------------------------------------


def variance(poses):
    return sum(float(np.var(np.concatenate([p[:, c] for p in poses]).astype(np.float64))) for c in range(3))


def slow_bodies(raw):
    """Step A: per identity its interval (glued) and poses, in first-seen order; and the number of kept frames."""
    bodies, t = {}, 0
    for frame in range(raw.frames):
        here = []
        for body in raw.bodies:
            at = frame - body.first
            if 0 <= at < len(body.xyz) and body.slot[at] != ABSENT_SLOT:
                here.append((int(body.slot[at]), body.id, body.xyz[at]))
        if not here:
            continue
        for _, identity, pose in sorted(here, key=lambda entry: entry[0]):
            if identity not in bodies:
                bodies[identity] = {"interval": [t], "poses": [pose]}
            else:
                bodies[identity]["interval"].append(bodies[identity]["interval"][-1] + 1)
                bodies[identity]["poses"].append(pose)
        t += 1
    for body in bodies.values():
        body["motion"] = variance(body["poses"])
    return bodies, t


def slow_filter(bodies):
    bodies = dict(bodies)
    longest = max(bodies, key=lambda k: len(bodies[k]["poses"]))
    for key in list(bodies):
        if len(bodies[key]["poses"]) <= 11:
            del bodies[key]
    if not bodies:
        raise LookupError(longest)
    for key in list(bodies):
        if len(bodies) == 1:
            break
        poses = bodies[key]["poses"]
        fine = [p for p in poses if not np.ptp(p[:, 0]) > np.float32(0.8) * np.ptp(p[:, 1])]
        noisy = len(poses) - len(fine)
        if noisy == 0:
            continue
        if noisy / len(poses) >= 0.69754:
            del bodies[key]
        else:
            bodies[key] = bodies[key] | {"motion": min(bodies[key]["motion"], variance(fine))}
    return sorted(bodies.values(), key=lambda body: -body["motion"])


def slow_merge(bodies, frames, half_open):
    extra = 1 if half_open else 0
    out = np.zeros((frames, 2, JOINTS, 3), np.float32)
    spans = [[bodies[0]["interval"][0], bodies[0]["interval"][-1] + extra], [0, 0]]
    for t, pose in zip(bodies[0]["interval"], bodies[0]["poses"]):
        out[t, 0] = pose
    for body in bodies[1:]:
        start, end = body["interval"][0], body["interval"][-1] + extra
        for m in (0, 1):
            if min(spans[m][1], end) - max(spans[m][0], start) <= 0:
                for t, pose in zip(body["interval"], body["poses"]):
                    out[t, m] = pose
                spans[m] = [min(spans[m][0], start), max(spans[m][1], end)]
                break
    return out


def slow_compatible(raw):
    bodies, frames = slow_bodies(raw)
    several = len(bodies) > 1
    left = slow_filter(bodies) if several else list(bodies.values())
    if len(left) == 1:
        out = np.zeros((frames, 1, JOINTS, 3), np.float32)
        for t, pose in zip(left[0]["interval"], left[0]["poses"]):
            out[t, 0] = pose
    else:
        out = slow_merge(left, frames, half_open=False)
    if several:
        out = np.stack([frame for frame in out if frame.sum() != 0])
    missing = [[frame[m].sum() == 0 for m in range(out.shape[1])] for frame in out]
    origin = next(frame[0, 1].copy() for frame in out if (frame[0] != 0).any())
    moved = np.stack([frame - origin for frame in out])
    if out.shape[1] == 2:
        for t, row in enumerate(missing):
            for m in (0, 1):
                if row[m]:
                    moved[t, m] = 0
    return moved


def slow_pyskl(raw):
    bodies, frames = slow_bodies(raw)
    if len(bodies) == 1:
        return np.stack(next(iter(bodies.values()))["poses"])[:, None]
    ranked = sorted(bodies.items(), key=lambda item: -item[1]["motion"])
    left = slow_filter(dict(ranked))
    last = max(body["interval"][-1] for body in left) + 1
    if len(left) == 1:
        out = np.zeros((last, 1, JOINTS, 3), np.float32)
        for t, pose in zip(left[0]["interval"], left[0]["poses"]):
            out[t, 0] = pose
    else:
        out = slow_merge(left, last, half_open=True)
    while np.abs(out[0]).sum() < 1e-3:
        out = out[1:]
    while np.abs(out[-1]).sum() < 1e-3:
        out = out[:-1]
    if out.shape[1] == 2 and np.abs(out[0, 0, 1]).sum() < 1e-3 <= np.abs(out[0, 1, 1]).sum():
        out = out[:, [1, 0]]
    return out


def slow_by_file_order(raw, slots):
    out = np.zeros((raw.frames, slots, JOINTS, 3), np.float32)
    for frame in range(raw.frames):
        for body in raw.bodies:
            at = frame - body.first
            if 0 <= at < len(body.xyz) and body.slot[at] < slots:
                out[frame, body.slot[at]] = body.xyz[at]
    return out


# ---- checks of the specification (numbers are those of section 8) -----------------------------------------------


def test_17_short_bodies_are_dropped_only_beside_another():
    long = skeleton_frames(40, 1)
    for count, actors in ((11, 1), (12, 2)):
        raw = recording((range(40), long), (range(count), skeleton_frames(count, 2)))
        assert compatible(raw).shape[1] == clean(raw).shape[1] == pyskl(raw).shape[1] == actors
    alone = recording((range(5), skeleton_frames(5, 3)))
    for name in CLEANINGS:
        assert len(CLEANINGS[name](alone)) == 5, name


def test_17_when_all_are_too_short_the_longest_stays():
    raw = recording((range(4), skeleton_frames(4, 1)), (range(9), skeleton_frames(9, 2)))
    assert np.array_equal(clean(raw)[:, 0], raw.bodies[1].xyz)
    assert compatible(raw).shape == (9, 1, JOINTS, 3)


@pytest.mark.parametrize("function", [clean, compatible, pyskl])
@pytest.mark.parametrize(("frames", "noisy", "actors"), [(100, 69, 2), (100, 70, 1), (43, 30, 1), (43, 29, 2)])
def test_18_wide_frames(function, frames, noisy, actors):
    still = skeleton_frames(frames, 1, size=0.01)
    wide = skeleton_frames(frames, 2, width=0.80, height=1.0)
    wide[:noisy, 2, 0] -= np.float32(0.01)  # 0.81 wide
    assert function(recording((range(frames), still), (range(frames), wide))).shape[1] == actors


def test_19_motion_has_no_limits():
    nearly_still, wild = skeleton_frames(30, 1, size=0.1), skeleton_frames(30, 2, size=1.8)
    wild[:, 3, 1] = 8.0
    assert variance(nearly_still) < 0.2 and variance(wild) > 2
    assert compatible(recording((range(30), nearly_still), (range(30), wild))).shape[1] == 2


def test_20_more_motion_comes_first():
    calm, lively = skeleton_frames(30, 1), skeleton_frames(30, 2, size=0.3)
    raw = recording((range(30), calm), (range(30), lively))
    assert np.array_equal(clean(raw), np.stack([lively, calm], axis=1))
    assert np.array_equal(compatible(raw), np.stack([lively, calm], axis=1) - lively[0, 1])


def test_21_shared_frames():
    a, b = skeleton_frames(21, 1, size=0.3), skeleton_frames(22, 2)
    one = recording((range(21), a), (range(20, 41), b[1:]))
    two = recording((range(21), a), (range(19, 41), b))
    first = compatible(one)
    assert first.shape == (41, 2, JOINTS, 3) and not first[:, 1].any()
    assert np.array_equal(first[20, 0], b[1] - a[0, 1]) and np.array_equal(first[19, 0], a[19] - a[0, 1])
    second = compatible(two)
    assert np.array_equal(second[19:, 1], b - a[0, 1]) and np.array_equal(second[20, 0], a[20] - a[0, 1])
    for function in (pyskl, clean):  # one shared frame is an overlap
        out = function(one)
        assert np.array_equal(out[20:, 1], b[1:]) and np.array_equal(out[:21, 0], a) and not out[21:, 0].any()


def test_the_second_actors_interval_begins_at_frame_0():
    """It is [0, 0] before anybody is written, and widening never moves its start: an early third body is discarded."""
    a, late = skeleton_frames(13, 1, size=0.4), skeleton_frames(12, 2, size=0.3)
    early = skeleton_frames(12, 3, size=0.1)
    out = compatible(recording((range(13), a), (range(11, 23), late), (range(12), early)))
    assert np.array_equal(out[11:, 1], late - a[0, 1]) and not out[:11, 1].any()


def test_22_a_body_that_vanishes_and_returns():
    other, comes_back = skeleton_frames(30, 1, size=0.3), skeleton_frames(20, 2)
    frames = [*range(10), *range(15, 25)]
    raw = recording((range(30), other), (frames, comes_back))
    assert np.flatnonzero(compatible(raw)[:, 1].any(axis=(1, 2))).tolist() == list(range(20))
    out = clean(raw)
    assert np.flatnonzero(out[:, 1].any(axis=(1, 2))).tolist() == frames
    assert np.array_equal(out[frames, 1], comes_back)


def test_23_origin_and_absence():
    a, b = skeleton_frames(30, 1, size=0.3), skeleton_frames(15, 2)
    out = compatible(recording((range(5, 35), a), (range(15), b)))
    assert not out[:5, 0].any() and out[5, 0, 1].tolist() == [0, 0, 0]
    assert not out[15:, 1].any() and out[:15, 1].all()


def test_24_rows():
    alone = recording((range(20), skeleton_frames(20, 1)))
    row = aligned_row(compatible(alone))
    assert row.shape == (300, 150) and not row[:, 75:].any() and not row[20:].any()
    double = aligned_row(CLEANINGS["compatible_ntu120"](alone))
    assert np.array_equal(double[:, 75:], double[:, :75]) and np.array_equal(double[:, :75], row[:, :75])
    assert row[7, 3 * 9 + 2] == compatible(alone)[7, 0, 9, 2]
    pair = recording((range(20), skeleton_frames(20, 1)), (range(20), skeleton_frames(20, 2)))
    assert np.array_equal(duplicate_actor(compatible(pair)), compatible(pair))
    with pytest.raises(ValueError, match="301 frames"):
        aligned_row(np.zeros((301, 1, JOINTS, 3), np.float32))


# ---- our own default --------------------------------------------------------------------------------------------


def test_clean_drops_a_copied_body_and_joins_an_actor_with_a_new_identity():
    first, again = skeleton_frames(20, 1, size=0.3), skeleton_frames(20, 2)
    raw = recording((range(20), first), (range(20), first), (range(25, 45), again), frames=60)
    out = clean(raw)
    assert out.shape == (45, 1, JOINTS, 3)
    assert np.array_equal(out[:20, 0], first) and np.array_equal(out[25:, 0], again) and not out[20:25].any()


def test_clean_fills_a_gap_but_never_shares_a_frame():
    a, b = skeleton_frames(30, 1, size=0.3), skeleton_frames(12, 2)
    gap = recording(([*range(15), *range(30, 45)], a), (range(16, 28), b))
    assert clean(gap).shape[1] == 1
    assert clean(recording(([*range(15), *range(30, 45)], a), (range(14, 26), b))).shape[1] == 2


def test_clean_removes_empty_frames_only_at_the_ends():
    body = skeleton_frames(20, 1)
    frames = [*range(5, 15), *range(20, 30)]
    out = clean(recording((frames, body), frames=40))
    assert out.shape == (25, 1, JOINTS, 3)
    assert np.flatnonzero(~out.any(axis=(1, 2, 3))).tolist() == list(range(10, 15))
    assert np.array_equal(compatible(recording((frames, body), frames=40))[:, 0], body - body[0, 1])


def test_clean_of_a_set_with_one_person_is_the_recording():
    xyz = np.random.default_rng(0).normal(size=(31, 20, 3)).astype(np.float32)
    raw = RawSequence.of_one_body(xyz, 30.0, "kinect20", "a01_s01_e00_v01", 0)
    for name in ("clean", "raw", "first_two", "top_two", "pyskl", "gl_transformer"):
        assert np.array_equal(CLEANINGS[name](raw), xyz[:, None]), name


# ---- file order ---------------------------------------------------------------------------------------------------


def test_file_order_ignores_identity():
    a, b = skeleton_frames(6, 1), skeleton_frames(6, 2)
    raw = RawSequence("x", 0, 6, (track(range(6), a, 0, [0, 0, 0, 1, 1, 1]), track(range(6), b, 1, [1, 1, 1, 0, 0, 0])))
    out = CLEANINGS["first_two"](raw)
    assert np.array_equal(out[:, 0], np.concatenate([a[:3], b[3:]]))
    assert np.array_equal(out[:, 1], np.concatenate([b[:3], a[3:]]))


def test_first_two_keeps_empty_frames_and_leaves_the_third_out():
    poses = [skeleton_frames(10, k) for k in range(3)]
    raw = recording(*[(range(2, 12), p) for p in poses], frames=15)
    out = CLEANINGS["first_two"](raw)
    assert out.shape == (15, 2, JOINTS, 3) and not out[:2].any() and not out[12:].any()
    assert np.array_equal(out[2:12, 1], poses[1])
    start = CLEANINGS["gl_transformer"](raw)
    assert np.array_equal(start, out[2:])


def test_top_two_takes_the_most_energy_of_four():
    sizes = (0.1, 0.4, 0.05, 0.2, 3.0)  # the fifth stands in no slot that is looked at
    raw = recording(*[(range(10), skeleton_frames(10, k, size=s)) for k, s in enumerate(sizes)])
    out = CLEANINGS["top_two"](raw)
    assert np.array_equal(out[:, 0], raw.bodies[1].xyz) and np.array_equal(out[:, 1], raw.bodies[3].xyz)
    assert np.array_equal(CLEANINGS["gl_transformer_ntu120"](raw), out)


def test_nobody_is_an_error_that_names_the_recording():
    empty = RawSequence("S001C001P001R001A001", 0, 12, ())
    hidden = BodyTrack(1, 0, np.zeros((3, JOINTS, 3), np.float32), np.full(3, ABSENT_SLOT, np.uint8))
    for raw in (empty, RawSequence("S001C001P001R001A001", 0, 12, (hidden,))):
        for name in ("clean", "compatible", "pyskl", "gl_transformer"):
            with pytest.raises(RawDataError, match="S001C001P001R001A001"):
                CLEANINGS[name](raw)


# ---- bodies at random ---------------------------------------------------------------------------------------------


@st.composite
def recordings(draw):
    """Up to four bodies that vanish, overlap, last one frame, are wide or narrow, with empty frames between."""
    frames = draw(st.integers(1, 45))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    bodies = []
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, frames - 1))
        stop = draw(st.integers(start + 1, frames))
        seen = np.arange(start, stop)
        if draw(st.booleans()):
            seen = seen[rng.random(len(seen)) < 0.8]
        if not len(seen):
            seen = np.array([start])
        wide = rng.random() < 0.3
        xyz = skeleton_frames(
            len(seen), rng.integers(1000), rng.uniform(0.02, 0.4), 1.6 if wide else rng.uniform(0.2, 0.9)
        )
        if wide and len(seen) > 1:
            xyz[rng.random(len(seen)) < 0.4, 2, 0] += 0.9
        bodies.append((seen, xyz))
    bodies.sort(key=lambda body: body[0][0])
    # Places in the frame's list: the bodies of a frame, shuffled.
    tracks = [track(f, xyz, i) for i, (f, xyz) in enumerate(bodies)]
    for frame in range(frames):
        here = [t for t in tracks if 0 <= frame - t.first < len(t.xyz) and t.slot[frame - t.first] != ABSENT_SLOT]
        for place, t in zip(rng.permutation(len(here)), here):
            t.slot[frame - t.first] = place
    # First seen means first in the first frame's list.
    tracks.sort(key=lambda t: (t.first, t.slot[0]))
    return RawSequence("S001C001P001R001A001", 0, frames, tuple(tracks))


@settings(max_examples=150, deadline=None)
@given(recordings())
def test_published_pipelines_equal_the_slow_reading(raw):
    try:
        wanted = slow_compatible(raw)
    except LookupError:  # every body too short: published code ends there
        assert compatible(raw).shape[1] == 1
    else:
        np.testing.assert_array_equal(compatible(raw), wanted)
        np.testing.assert_array_equal(pyskl(raw), slow_pyskl(raw))
    two = slow_by_file_order(raw, 2)
    got = CLEANINGS["first_two"](raw)
    assert np.array_equal(got, two[:, : got.shape[1]]) and not two[:, got.shape[1] :].any()
    four = slow_by_file_order(raw, 4)
    energy = []
    for m in range(4):
        poses = np.array([f for f in four[:, m] if f.sum() != 0]).reshape(-1, 3)
        energy.append(sum(np.std(poses[:, c]) for c in range(3)) if len(poses) else 0.0)
    order = sorted(range(4), key=lambda m: -energy[m])[:2]
    got = CLEANINGS["top_two"](raw)
    assert np.array_equal(got, four[:, order][:, : got.shape[1]])


@settings(max_examples=150, deadline=None)
@given(recordings())
def test_clean_keeps_every_pose_at_its_own_time(raw):
    out = clean(raw)
    assert out.dtype == np.float32 and out.shape[1] in (1, 2) and out[:, -1].any()
    assert out[0].any() and out[-1].any()
    poses = {}
    for number, body in enumerate(raw.bodies):
        for frame in np.flatnonzero(body.seen):
            poses[body.xyz[frame].tobytes()] = (number, body.first + frame)
    shifts, owners = set(), [set(), set()]
    for t in range(len(out)):
        for m in range(out.shape[1]):
            if out[t, m].any():
                number, frame = poses[out[t, m].tobytes()]
                shifts.add(frame - t)
                owners[m].add(number)
    assert len(shifts) == 1 and not owners[0] & owners[1]
    # A body is either left out or there with all its frames.
    for number in owners[0] | owners[1]:
        count = sum(poses[out[t, m].tobytes()][0] == number for t, m in zip(*np.nonzero(out.any(axis=(2, 3)))))
        assert count == raw.bodies[number].seen.sum()


@settings(max_examples=60, deadline=None)
@given(recordings(), st.sampled_from(sorted(CLEANINGS)))
def test_every_cleaning_gives_one_or_two_finite_actors(raw, name):
    try:
        out = CLEANINGS[name](raw)
    except RawDataError:
        assert name.startswith("gl_transformer")
        return
    assert out.dtype == np.float32 and out.shape[1] in (1, 2) and len(out) <= raw.frames
    assert np.isfinite(out).all() and out.flags.c_contiguous
    assert len(raw.sequence(out)) == len(out)


def test_table_names_functions_of_this_module():
    assert all(function.__module__ == cleaning.__name__ for function in CLEANINGS.values())


def test_real_recordings_equal_the_slow_reading():
    path = shared("ntu_raw/nturgbd_skeletons_subset.zip")
    source = open_ntu(path, "ntu120")
    several = 0
    for item in source.items[::4]:
        for raw in source.read(item):
            several += len(raw.bodies) > 1
            np.testing.assert_array_equal(compatible(raw), slow_compatible(raw), err_msg=raw.name)
            np.testing.assert_array_equal(pyskl(raw), slow_pyskl(raw), err_msg=raw.name)
            out = clean(raw)
            assert np.array_equal(out - out[0, 0, 1], compatible(raw)), raw.name
    assert several >= 10
