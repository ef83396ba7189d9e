"""Readers of the CTR-GCN and ST-GCN families, and telling formats apart: read exactly, or refused with a reason."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.bodies import RawDataError, RawSequence
from engine.data.ntu_names import LIST_A
from engine.data.readers.actors import clean_name
from engine.data.readers.ctrgcn_npz import open_ctrgcn_npz, published_order
from engine.data.readers.interchange import interchange_format, open_interchange
from engine.data.readers.stgcn_npy import open_stgcn_npy
from tests.engine.data.interchange_files import (
    annotation,
    ctrgcn_file,
    pyskl_file,
    read_all,
    stgcn_folder,
    usable_names,
)

# The .npz of the CTR-GCN family


def test_published_order_of_rows() -> None:
    names = usable_names()
    train = published_order(reversed(names), "ntu60", "xsub", "train")  # type: ignore[arg-type]
    assert {int(name[9:12]) for name in train} == {1, 2} and {1, 2} <= LIST_A
    assert [int(name[9:12]) for name in train] == sorted(int(name[9:12]) for name in train)
    of_one = [name for name in train if name[9:12] == "002"]
    assert of_one == sorted(of_one)
    cameras = [int(name[5:8]) for name in published_order(names, "ntu60", "xview", "train")]
    assert set(cameras) == {2, 3} and cameras == sorted(cameras)
    assert [n[1:4] for n in published_order(names, "ntu120", "xset", "train")] == ["002"] * (len(names) // 2)
    both = published_order(names, "ntu60", "xsub", "train") + published_order(names, "ntu60", "xsub", "test")
    assert sorted(both) == sorted(names)


@pytest.mark.parametrize(
    "file, split", [("NTU60_CS.npz", "xsub"), ("ntu60_cv.npz", "xview"), ("NTU60_XSub.npz", "xsub")]
)
def test_npz_rows_names_and_lengths(tmp_path: Path, file: str, split: str) -> None:
    content = ctrgcn_file(tmp_path / file, split)
    source = open_ctrgcn_npz(tmp_path / file, usable_names())
    assert source.parallel and len(source.items) == len(content)
    found = read_all(source)
    assert found.keys() == content.keys()
    for name, sequence in found.items():
        assert np.array_equal(sequence.dense(), content[name])
        assert sequence.label == int(name[17:]) - 1 and sequence.frames == len(content[name])
        train = int(name[9:12]) in LIST_A if split == "xsub" else name[5:8] != "001"
        assert sequence.meta[f"{split}_train"] == int(train) and sequence.meta["performer"] == int(name[9:12])


def test_npz_names_come_from_a_list_beside_the_file_or_not_at_all(tmp_path: Path) -> None:
    content = ctrgcn_file(tmp_path / "NTU60_CS.npz", "xsub")
    plain = open_ctrgcn_npz(tmp_path / "NTU60_CS.npz")
    assert plain.items[0].endswith(" NTU60_CS_train_000000")
    (tmp_path / "statistics").mkdir()
    for beside in ("statistics/skes_available_name.txt", "skes_available_name.txt"):
        (tmp_path / beside).write_text("\n".join(usable_names()))
        assert read_all(open_ctrgcn_npz(tmp_path / "NTU60_CS.npz")).keys() == content.keys()
        (tmp_path / beside).unlink()
    # A list that does not fit is noticed by its length or by the labels.
    for wrong in (usable_names()[1:], [n.replace("S002", "S003").replace("A002", "A004") for n in usable_names()]):
        with pytest.warns(UserWarning, match="do not fit"):
            assert open_ctrgcn_npz(tmp_path / "NTU60_CS.npz", wrong).items[0].endswith("NTU60_CS_train_000000")


def test_npz_element_order() -> None:
    """datasets.md, check 44: actor m, joint v, coordinate c of frame t sits at 75 m + 3 v + c."""
    x = np.arange(1, 300 * 150 + 1, dtype=np.float32).reshape(1, 300, 150)
    sequence = one_row(x)
    for t, m, v, c in ((0, 0, 0, 0), (299, 1, 24, 2), (17, 1, 3, 1), (100, 0, 20, 2)):
        assert sequence.dense()[t, m, v, c] == x[0, t, 75 * m + 3 * v + c]


def one_row(x: np.ndarray, name: str = "NTU60_CS.npz") -> RawSequence:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        np.savez(file, x_train=x, y_train=np.eye(60)[:1], x_test=x[:0], y_test=np.zeros((0, 60)))
        source = open_ctrgcn_npz(file)
        return next(source.read(source.items[0]))


def test_ntu120_second_actor_that_is_a_copy_is_undone() -> None:
    x = np.zeros((1, 300, 150), np.float32)
    x[0, :40, :75] = np.random.default_rng(0).normal(size=(40, 75))
    x[0, 5] = 0  # an empty frame inside stays
    alone = one_row(x)
    x[0, :, 75:] = x[0, :, :75]
    assert len(one_row(x, "NTU120_CSet.npz").bodies) == 1
    assert np.array_equal(one_row(x, "NTU120_CSet.npz").dense(), alone.dense())
    assert alone.frames == 40 and not alone.bodies[0].seen[5] and alone.bodies[0].seen.sum() == 39
    x[0, 7, 80] += 1e-6
    assert len(one_row(x, "NTU120_CSet.npz").bodies) == 2


def test_npz_second_actor_alone_keeps_the_second_place() -> None:
    x = np.zeros((1, 300, 150), np.float32)
    x[0, 3:9, 75:] = 1.0
    sequence = one_row(x)
    assert sequence.frames == 9 and len(sequence.bodies) == 2
    dense = sequence.dense()
    assert not dense[:, 0].any() and not dense[:3].any() and (dense[3:, 1] == 1).all()


def test_npz_aligned_pku_compressed_and_unknown_names(tmp_path: Path) -> None:
    x = np.zeros((2, 300, 150), np.float32)
    x[0, :5], x[1, :9] = 1.5, np.nan
    arrays = {"x_train": x, "y_train": np.eye(51)[[3, 50]], "x_test": x[:1], "y_test": np.eye(51)[[7]]}
    for name, meta in (
        ("NTU60_CS_aligned.npz", {"xsub_train": 1, "aligned": 1}),
        ("ntu120_csub.npz", {"xsub_train": 1}),
        ("PKUv1_XView.npz", {"xview_train": 1}),
        ("my_own.npz", {"default_train": 1}),
    ):
        np.savez(tmp_path / name, **arrays)
        source = open_ctrgcn_npz(tmp_path / name)
        assert [item.split()[2] for item in source.items] == ["3", "50", "7"]
        assert next(source.read(source.items[0])).meta == meta
        assert next(source.read(source.items[2])).meta == {key: int(key == "aligned") for key in meta}
        # InfoGCN's feeder drops samples with NaN; here they are reported.
        with pytest.raises(RawDataError, match="not finite"):
            list(source.read(source.items[1]))
    np.savez_compressed(tmp_path / "NTU60_CS.npz", **arrays)
    packed = open_ctrgcn_npz(tmp_path / "NTU60_CS.npz")
    assert not packed.parallel and next(packed.read(packed.items[0])).frames == 5


def test_damaged_npz(tmp_path: Path) -> None:
    x, y = np.ones((2, 300, 150), np.float32), np.eye(60)[[0, 1]]
    file = tmp_path / "NTU60_CS.npz"
    soft = y.copy()
    soft[1, 5] = 0.5
    for change, words in (
        ({"x_train": x[:, :, :75]}, "150"),
        ({"x_train": x.astype(np.int32)}, "float32"),
        ({"y_train": y[:1]}, "2 sequences"),
        ({"y_train": soft}, "one-hot"),
        ({"y_train": np.zeros((2, 60))}, "one-hot"),
        ({"y_train": np.full((2, 60), np.nan)}, "one-hot"),
        ({"y_train": np.eye(80)[[70, 71]]}, "60 classes"),
        ({"y_train": np.array([{}, 1], dtype=object)}, "Python objects"),
        ({"x_test": None}, "x_test"),
    ):
        arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y} | change
        np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
        with pytest.raises(RawDataError, match=words) as caught:
            open_ctrgcn_npz(file)
        assert str(file) in str(caught.value)
    np.savez(file, x_train=np.zeros_like(x), y_train=y, x_test=x, y_test=np.array([0, 59]))
    source = open_ctrgcn_npz(file)  # plain integers are labels, too
    with pytest.raises(RawDataError, match="empty"):
        list(source.read(source.items[0]))


# Folders of the ST-GCN family


def test_stgcn_raw_arrays(tmp_path: Path) -> None:
    x = stgcn_folder(tmp_path / "NTU60" / "xview", "data")
    for where in (tmp_path / "NTU60" / "xview", tmp_path / "NTU60", tmp_path, tmp_path / "NTU60/xview/val_data.npy"):
        source = open_stgcn_npy(where)
        found = read_all(source)
        assert source.parallel and list(found) == [f"S001C001P00{n + 1}R001A00{n + 1}" for n in range(5)]
        for n, sequence in enumerate(found.values()):
            assert sequence.frames == n + 3 and sequence.label == n and sequence.layout == "ntu25"
            assert sequence.meta["xview_train"] == int(n < 3) and sequence.meta["content"] == "data"
            persons = 1 if n == 0 else 2
            for t, m, v, c in ((0, 0, 0, 0), (n + 2, persons - 1, 24, 2), (1, 0, 7, 1)):
                assert sequence.dense()[t, m, v, c] == x[n, c, t, v, m]


def test_stgcn_resized_motion_and_labels_without_names(tmp_path: Path) -> None:
    folder = tmp_path / "NTU60_frame50" / "xsub"
    x = stgcn_folder(folder, "position", frames=50)
    np.save(folder / "train_motion.npy", x[:3] * 2)
    np.save(folder / "train_label.npy", np.arange(3)[:, None])
    found = read_all(open_stgcn_npy(folder))
    assert all(sequence.frames == 50 for sequence in found.values()) and len(found) == 5
    motion = read_all(open_stgcn_npy(folder, "motion"))
    assert len(motion) == 3 and next(iter(motion.values())).meta["content"] == "motion"
    assert motion.keys() < found.keys()
    (folder / "train_label.pkl").unlink()
    unnamed = open_stgcn_npy(folder, "motion")
    assert [item.split()[3:] for item in unnamed.items] == [[str(n), f"xsub_train_{n:06d}"] for n in range(3)]


def test_agcn_padding_is_cut(tmp_path: Path) -> None:
    """Sequences repeated to 300 frames end with the recorded number of frames, or else with their period."""
    folder = tmp_path / "ntu" / "xsub"
    x = stgcn_folder(folder, "data_joint")
    for n in range(5):
        x[n] = x[n][:, np.arange(300) % (n + 3)]
    x[1, :, 3::4, 0] += 0.25  # still of period 4
    np.save(folder / "train_data_joint.npy", x[:3])
    np.save(folder / "val_data_joint.npy", x[3:])
    assert [s.frames for s in read_all(open_stgcn_npy(folder)).values()] == [3, 4, 5, 6, 7]
    np.save(folder / "train_num_frame.npy", np.array([3, 4, 300]))
    assert [s.frames for s in read_all(open_stgcn_npy(folder)).values()] == [3, 4, 300, 6, 7]
    np.save(folder / "train_num_frame.npy", np.array([3, 4]))
    with pytest.raises(RawDataError, match="num_frame"):
        open_stgcn_npy(folder)


def test_gl_transformer_padding_only_in_its_preset(tmp_path: Path) -> None:
    """datasets.md, check 47."""
    x = stgcn_folder(tmp_path / "xsub", "position")
    for n in range(5):
        x[n, :, n + 3 :] = 99.9
    np.save(tmp_path / "xsub/train_position.npy", x[:3])
    np.save(tmp_path / "xsub/val_position.npy", x[3:])
    preset = read_all(open_stgcn_npy(tmp_path, preset="gl_transformer"))
    assert [s.frames for s in preset.values()] == [3, 4, 5, 6, 7]
    assert all(
        np.array_equal(s.dense(2)[..., 0], x[n, 0, : n + 3].transpose(0, 2, 1))
        for n, s in enumerate(preset.values())
        if n
    )
    plain = read_all(open_stgcn_npy(tmp_path))
    assert all(s.frames == 300 and s.dense().max() == np.float32(99.9) for s in plain.values())


def test_nw_ucla_in_this_form_and_names_with_paths(tmp_path: Path) -> None:
    x = np.ones((2, 3, 192, 20, 1), np.float32)
    np.save(tmp_path / "val_data.npy", x)
    (tmp_path / "val_label.pkl").write_bytes(
        pickle.dumps((["S01A08E01V03.skeleton", "S02A12E00V03.skeleton"], [6.0, 9.0]))
    )
    found = read_all(open_stgcn_npy(tmp_path))
    assert list(found) == ["a08_s01_e01_v03", "a12_s02_e00_v03"]
    first = found["a08_s01_e01_v03"]
    assert first.layout == "kinect20" and first.meta["view"] == 3 and first.label == 6
    assert clean_name("/data/nturgbd/S018C001P008R001A061.skeleton") == "S018C001P008R001A061"
    assert clean_name(r"D:\ntu\S018C001P008R001A061.skeleton") == "S018C001P008R001A061"
    assert clean_name("0291-M.txt_3") == "0291-M_3"
    for bad in ("", "a/", "x\ny", "z" * 300, "\udcff"):
        with pytest.raises(RawDataError):
            clean_name(bad)


def test_damaged_stgcn(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="no arrays"):
        open_stgcn_npy(tmp_path)
    folder = tmp_path / "xsub"
    stgcn_folder(folder, "data")
    label = folder / "train_label.pkl"
    for value, words in (
        ((["a", "b"], [1, 2]), "2 labels for 3"),
        ((["a", "b", "c"], [1, 2]), "not as many"),
        ((["a", "b", "c"], [1, 2, -1]), "from 0"),
        ((["a", "b", "c"], [1, 2, 0.5]), "whole numbers"),
        ((["a", "b", "c"], [1, 2, "x"]), "no numbers"),
        (([1, 2, 3], [1, 2, 3]), "no text"),
        ({"names": []}, "pair"),
        ((["a", "b", "c"], [os.system, 2, 3]), "system"),
    ):
        label.write_bytes(pickle.dumps(value, 2))
        with pytest.raises(RawDataError, match=words) as caught:
            open_stgcn_npy(folder)
        assert str(label) in str(caught.value)
    label.unlink()
    with pytest.raises(RawDataError, match="neither"):
        open_stgcn_npy(folder)
    np.save(folder / "train_data.npy", np.zeros((3, 3, 300, 17, 2), np.float32))
    with pytest.raises(RawDataError, match="17 joints"):
        open_stgcn_npy(folder)
    stgcn_folder(tmp_path / "xview", "data")
    with pytest.raises(RawDataError, match="several folders"):
        open_stgcn_npy(tmp_path)


# Finding out what a file is


def test_formats_are_recognised(tmp_path: Path) -> None:
    ctrgcn_file(tmp_path / "NTU60_CS.npz", "xsub")
    stgcn_folder(tmp_path / "st" / "xsub", "data")
    pyskl_file(tmp_path / "a.pkl", [annotation("a", 0, 3)], None)
    np.savez(tmp_path / "other.npz", xyz=np.zeros(3))
    (tmp_path / "empty").mkdir()
    kinds = {
        "NTU60_CS.npz": "ctrgcn", "st": "stgcn", "st/xsub/train_data.npy": "stgcn", "st/xsub/val_label.pkl": "stgcn",
        "a.pkl": "pyskl", "other.npz": "", "empty": "", "absent": "", "absent.npz": "",
    }  # fmt: skip
    for name, kind in kinds.items():
        assert interchange_format(tmp_path / name) == kind
        if kind:
            assert len(read_all(open_interchange(tmp_path / name))) >= 1
        else:
            with pytest.raises(RawDataError, match="CTR-GCN"):
                open_interchange(tmp_path / name)


edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["pkl", "npz", "label"]), changes=edits)
def test_mutated_files_only_raise_the_documented_errors(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]]
) -> None:
    if kind == "npz":
        stream = io.BytesIO()
        x = np.ones((1, 4, 150), np.float32)
        np.savez(stream, x_train=x, y_train=np.eye(60)[:1], x_test=x, y_test=np.eye(60)[:1])
        data = bytearray(stream.getvalue())
    elif kind == "pkl":
        items = [annotation("a", 0, 2), annotation("b", 1, 2)]
        data = bytearray(pickle.dumps({"split": {"x_train": ["a"]}, "annotations": items}, 4))
    else:
        data = bytearray(pickle.dumps((["a.skeleton", "b", "c"], [0, 1, 2]), 2))
        stgcn_folder(tmp_path / "st", "data", frames=8)
    for place, byte in changes:
        data[int(place * (len(data) - 1))] = byte
    file = {"pkl": "x.pkl", "npz": "NTU60_CS.npz", "label": "st/train_label.pkl"}[kind]
    (tmp_path / file).write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = open_interchange(tmp_path / file if kind != "label" else tmp_path / "st")
    except RawDataError:
        return
    for item in source.items:
        try:
            list(source.read(item))
        except RawDataError:
            pass
