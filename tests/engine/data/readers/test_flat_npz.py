"""The flat sets: boundaries, dropped frames, facts per set, Florence's 15 joints, and what is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.bodies import RawDataError
from engine.data.readers.flat_npz import FLAT_SETS, flat_classes, open_flat
from engine.skeleton.convert import FLORENCE15_TO_NTU25, convert_layout
from engine.skeleton.layout import FLORENCE15, NTU25
from tests.engine.data.synthetic import flat_npz, npz_bytes
from tests.shared_data import shared


def everything(source):
    return [sequence for item in source.items for sequence in source.read(item)]


def save(folder, dataset, **changes):
    arrays = flat_npz(joints=15 if dataset == "florence3d" else 20) | changes
    path = folder / f"{dataset}.npz"
    path.write_bytes(npz_bytes({key: value for key, value in arrays.items() if value is not None}))
    return path


@pytest.mark.parametrize("name", FLAT_SETS)
def test_sequences_read_back(tmp_path, name):
    save(tmp_path, name)
    arrays = flat_npz(joints=15 if name == "florence3d" else 20)
    source = open_flat(tmp_path, name)
    found = everything(source)
    assert not source.parallel and source.items == tuple(arrays["name"])
    for i, sequence in enumerate(found):
        a, b = arrays["start"][i : i + 2]
        assert sequence.dense()[:, 0].tobytes() == arrays["xyz"][a:b].tobytes()
        assert sequence.label == i % 3 and sequence.meta["subject"] == i % 4 + 1
        assert sequence.fps == FLAT_SETS[name].fps and sequence.layout == FLAT_SETS[name].layout
    assert flat_classes(tmp_path, name) == ("class 0", "class 1", "class 2")


def test_without_names_and_last_boundary(tmp_path):
    path = save(tmp_path, "utd_mhad", name=None, start=flat_npz()["start"][:-1], trial=np.arange(6))
    found = everything(open_flat(path, "utd_mhad"))
    assert [s.name for s in found][:2] == ["utd_mhad_0000", "utd_mhad_0001"] and found[5].meta["trial"] == 5


def test_empty_frames_are_dropped_and_the_empty_sequence_left_out(tmp_path):
    arrays = flat_npz()
    xyz, names = arrays["xyz"].copy(), arrays["name"].astype("U11")
    xyz[2:4] = 0
    a, b = arrays["start"][3:5]
    xyz[a:b] = 0
    names[3] = "a13_s09_e02"
    save(tmp_path, "msr_action3d", xyz=xyz, name=names)
    source = open_flat(tmp_path, "msr_action3d")
    found = everything(source)
    assert source.excluded == ("a13_s09_e02",) and len(found) == 5
    assert found[0].frames == arrays["start"][1] - 2
    assert np.array_equal(found[0].dense()[:, 0], arrays["xyz"][[0, 1, 4, 5, 6, 7]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyz": None}, "no array 'xyz'"),
        ({"label": None}, "no array 'label'"),
        ({"xyz": np.zeros((50, 21, 3), np.float32)}, r"expected \(frames, 20, 3\)"),
        ({"xyz": np.zeros((50, 20, 3), np.int32)}, "floats"),
        ({"xyz": np.array([{"a": 1}], dtype=object)}, "objects"),
        ({"start": np.array([0, 5, 11])}, "boundaries"),
        ({"start": np.zeros(7, np.int32)}, "boundaries"),
        ({"start": np.zeros(7)}, "whole numbers"),
        ({"start": np.array(3)}, "whole numbers"),
        ({"label": np.zeros(0, np.int16), "start": np.zeros(1, np.int16)}, "boundaries"),
        ({"label": np.full(6, 3)}, "without a class"),
        ({"label": np.full(6, -1)}, "without a class"),
        ({"subject": np.zeros(5, int)}, "subject does not fit"),
        ({"subject": np.zeros(6)}, "subject does not fit"),
        ({"name": np.array(["x"] * 6)}, "not unique"),
        ({"name": np.arange(6)}, "name does not fit"),
    ],
)
def test_arrays_that_disagree(tmp_path, changes, message):
    with pytest.raises(RawDataError, match=message):
        open_flat(save(tmp_path, "utd_mhad", **changes), "utd_mhad")


def test_nan_is_reported_for_its_sequence_alone(tmp_path):
    xyz = flat_npz()["xyz"].copy()
    xyz[0, 3, 1] = np.nan
    source = open_flat(save(tmp_path, "utd_mhad", xyz=xyz), "utd_mhad")
    with pytest.raises(RawDataError, match="clip_00 holds coordinates that are not finite"):
        list(source.read(source.items[0]))
    assert len(list(source.read(source.items[1]))) == 1


def test_unknown_set_and_absent_file(tmp_path):
    with pytest.raises(ValueError, match="known: utd_mhad"):
        open_flat(tmp_path, "ntu60")
    with pytest.raises(RawDataError, match=r"utd_mhad\.npz"):
        open_flat(tmp_path, "utd_mhad")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_files_raise_only_the_readers_error(tmp_path, data):
    path = save(tmp_path, "utd_mhad")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    try:
        source = open_flat(path, "utd_mhad")
        for item in source.items:
            list(source.read(item))
    except RawDataError:
        pass


# Florence's joints -----------------------------------------------------------------------------------------------


def test_florence_conversion_row_by_row():
    matrix = FLORENCE15_TO_NTU25
    assert matrix.shape == (25, 15) and np.allclose(matrix.sum(1), 1)

    def row(joint):
        weights = matrix[NTU25.index(joint)]
        return {FLORENCE15.joints[i]: round(float(w), 4) for i, w in enumerate(weights) if abs(w) > 1e-6}

    assert row("SpineBase") == {"HipLeft": 0.5, "HipRight": 0.5}
    assert row("SpineShoulder") == {"Neck": 1} and row("Head") == {"Head": 1}
    assert row("Neck") == {"Neck": 0.66, "Head": 0.34}
    assert row("SpineMid") == {"Neck": 0.57, "HipLeft": 0.215, "HipRight": 0.215}
    for side in ("Left", "Right"):
        assert row(f"Hand{side}") == row(f"Thumb{side}") == {f"Wrist{side}": 1}
        assert row(f"Wrist{side}") == {f"Elbow{side}": 0.23, f"Wrist{side}": 0.77}
        assert row(f"Ankle{side}") == {f"Knee{side}": 0.14, f"Ankle{side}": 0.86}
        assert row(f"Foot{side}") == {f"Ankle{side}": 1}
        for joint in ("Shoulder", "Elbow", "Hip", "Knee"):
            assert row(f"{joint}{side}") == {f"{joint}{side}": 1}
    mirrored = matrix[list(NTU25.mirror)][:, list(FLORENCE15.mirror)]
    assert np.allclose(mirrored, matrix)
    # A straight arm along x: the tip lies beyond the hand, on the same line.
    arm = np.zeros((15, 3))
    arm[FLORENCE15.index("ElbowLeft"), 0], arm[FLORENCE15.index("WristLeft"), 0] = 1, 2
    lifted = convert_layout(arm, "florence15", "ntu25")[:, 0]
    elbow, wrist, hand, tip = (lifted[NTU25.index(f"{j}Left")] for j in ("Elbow", "Wrist", "Hand", "HandTip"))
    assert np.allclose((elbow, wrist, hand, tip), (1, 1.77, 2, 1.77 + 0.23 / 0.6))


# Real files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "frames", "classes"),
    [
        ("utd_mhad", 861, 58299, 27),
        ("kinder_gator", 1159, 194523, 58),
        ("msr_action3d", 566, 22365, 20),
        ("utkinect", 199, 6053, 10),
        ("florence3d", 215, 4016, 9),
    ],
)
def test_real_sets_are_complete(name, count, frames, classes):
    path = shared(f"{name}/{name}.npz")
    found = everything(open_flat(path, name))
    assert len(found) == count and sum(s.frames for s in found) == frames
    assert {s.label for s in found} == set(range(classes)) and len(flat_classes(path.parent, name)) == classes
    # People stand upright and face the sensor more often than not, in every set and after lifting.
    xyz = np.concatenate([convert_layout(s.bodies[0].xyz, s.layout, "ntu25")[::5] for s in found])
    assert np.median(xyz[:, 3, 1] - xyz[:, 15, 1]) > 1.0 and np.median(xyz[:, 8, 0] - xyz[:, 4, 0]) > 0.2
