"""Stores written for other projects: read back exactly, and by loops written from the description of the formats."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.data.cleaning import clean
from engine.data.export_formats import export_npz, export_pyskl
from engine.data.ntu_names import LIST_A, ntu_classes
from engine.data.readers.ctrgcn_npz import open_ctrgcn_npz, published_order
from engine.data.readers.ntu import open_ntu
from engine.data.readers.pyskl import open_pyskl
from engine.data.store import SequenceStore, write_store
from engine.skeleton.sequence import SkeletonSequence
from tests.engine.data.interchange_files import (
    moves,
    read_all,
    usable_names,
)
from tests.shared_data import shared

# Writing


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    """NTU-60 names in another than the published order; a late second person, an empty frame, 310 frames."""
    rng = np.random.default_rng(3)
    sequences = []
    for n, name in enumerate(reversed(usable_names()[::5])):
        xyz = moves(rng, 310 if n == 4 else 5 + n % 7, 1 + n % 2)
        if n % 2:
            xyz[:2, 1] = 0
        if n == 2:
            xyz[3] = 0
        sequences.append(SkeletonSequence.from_frames(xyz, 30.0, "ntu25", name, int(name[17:]) - 1, n=n))
    folder = tmp_path_factory.mktemp("stores") / "ntu60"
    return write_store(folder, "ntu60", sequences, [f"class {i}" for i in range(60)], 30.0)


def parts_of(store: SequenceStore, split: str = "xsub") -> tuple[np.ndarray, np.ndarray]:
    if split == "xsub":
        train = np.array([int(name[9:12]) in LIST_A for name in store.names])
    else:
        train = np.array([name[5:8] != "001" for name in store.names])
    return np.flatnonzero(train), np.flatnonzero(~train)


def test_store_to_pyskl_and_back(store: SequenceStore, tmp_path: Path) -> None:
    splits = {"xsub": parts_of(store), "xview": parts_of(store, "xview")}
    for precision in ("float16", "float32"):
        done = export_pyskl(store, tmp_path / "x.pkl", splits, precision)  # type: ignore[arg-type]
        assert done.sequences == len(store) and not done.empty
        found = read_all(open_pyskl(tmp_path / "x.pkl"))
        assert list(found) == store.names
        for i, (name, sequence) in enumerate(found.items()):
            want = store.sequence(i)
            assert np.array_equal(sequence.dense(want.num_persons), want.xyz.astype(precision).astype(np.float32))
            assert sequence.label == want.label and sequence.frames == len(want)
            assert sequence.meta["xsub_train"] == int(int(name[9:12]) in LIST_A)
            assert sequence.meta["xview_train"] == int(name[5:8] != "001")


def test_pyskl_file_as_others_read_it(store: SequenceStore, tmp_path: Path) -> None:
    """A loader written from datasets.md, 5.3: choose a split by membership, then use the fields."""
    splits = {"xsub": parts_of(store), "xview": parts_of(store, "xview")}
    export_pyskl(store, tmp_path / "x.pkl", splits)
    data = (tmp_path / "x.pkl").read_bytes()
    # NumPy 1 does not know numpy._core.
    assert b"numpy._core" not in data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = pickle.loads(data)  # noqa: S301  (we wrote it)
    assert type(content) is dict and set(content) == {"split", "annotations"}
    assert set(content["split"]) == {"xsub_train", "xsub_val", "xview_train", "xview_val"}
    chosen = set(content["split"]["xsub_val"])
    samples = [item for item in content["annotations"] if item["frame_dir"] in chosen]
    assert len(samples) == len(parts_of(store)[1]) > 0
    for item in content["annotations"]:
        assert set(item) == {"frame_dir", "label", "total_frames", "keypoint"}
        assert [type(item[key]) for key in ("frame_dir", "label", "total_frames", "keypoint")] == [
            str,
            int,
            int,
            np.ndarray,
        ]
        persons, frames, joints, axes = item["keypoint"].shape
        assert (joints, axes) == (25, 3) and frames == item["total_frames"] and persons in (1, 2)
        assert item["keypoint"].dtype == np.float16
        item["keypoint"] = item["keypoint"] - item["keypoint"][0, 0, 1]  # arrays are ordinary ones
        item["keypoint"][:] = 0
    assert {type(name) for names in content["split"].values() for name in names} == {str}


def test_store_to_npz_and_back(store: SequenceStore, tmp_path: Path) -> None:
    train, test = parts_of(store)
    done = export_npz(store, tmp_path / "NTU60_CS.npz", "xsub", (train, test))
    assert done.sequences == len(store) and done.cropped == 1
    found = read_all(open_ctrgcn_npz(tmp_path / "NTU60_CS.npz"))
    assert sorted(found) == sorted(store.names)
    for i, name in enumerate(store.names):
        want = store.sequence(i)
        xyz = want.xyz if len(want) <= 300 else want.xyz[5:305]
        assert np.array_equal(found[name].dense(want.num_persons), xyz)
        assert found[name].label == want.label and found[name].meta["xsub_train"] == int(i in train)
    # Without the names the rows stand where names are looked for.
    arrays = dict(np.load(tmp_path / "NTU60_CS.npz"))
    np.savez(tmp_path / "NTU60_XSub.npz", **{key: value for key, value in arrays.items() if key[0] in "xy"})
    recovered = open_ctrgcn_npz(tmp_path / "NTU60_XSub.npz", store.names)
    assert read_all(recovered).keys() == found.keys()


def test_npz_file_as_others_read_it(store: SequenceStore, tmp_path: Path) -> None:
    """A feeder written from datasets.md, 2.1 and 5.1: reshape, transpose, count valid frames, take the label."""
    train, test = parts_of(store)
    export_npz(store, tmp_path / "x.npz", "xsub", (train, test), centre=True)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None and {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    npz = np.load(tmp_path / "x.npz")
    assert npz["x_train"].dtype == np.float32 and npz["x_train"].shape == (len(train), 300, 150)
    assert npz["y_test"].dtype == np.float64 and npz["y_test"].shape == (len(test), 60)
    data, label = npz["x_train"], np.where(npz["y_train"] > 0)[1]
    data = data.reshape(len(data), 300, 2, 25, 3).transpose(0, 4, 1, 3, 2)
    names = published_order(store.names, "ntu60", "xsub", "train")
    assert label.tolist() == [int(name[17:]) - 1 for name in names]
    for row, name in zip(data, names, strict=True):
        sequence = store.sequence(store.names.index(name))
        valid = np.sum(row.sum(0).sum(-1).sum(-1) != 0)
        empty = int((~sequence.xyz.any((1, 2, 3))).sum())
        assert valid == min(len(sequence), 300) - empty
        if len(sequence) <= 300:
            # Step F: SpineMid of actor 1 in the first frame is the origin; who is absent stays exactly zero.
            assert (row[:, 0, 1, 0] == 0).all()
            want = np.where(sequence.xyz.any((2, 3))[..., None, None], sequence.xyz - sequence.xyz[0, 0, 1], 0)
            got = row[:, : len(sequence), :, : sequence.num_persons].transpose(1, 3, 2, 0)
            assert np.array_equal(got, want)


def test_exports_leave_nothing_half_written(store: SequenceStore, tmp_path: Path) -> None:
    def fail(count: int) -> None:
        raise RuntimeError("stop")

    old = tmp_path / "x.pkl"
    old.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        export_pyskl(store, old, {}, progress=fail)
    with pytest.raises(RuntimeError):
        export_npz(store, old, "xsub", parts_of(store), progress=fail)
    assert old.read_bytes() == b"old" and list(tmp_path.iterdir()) == [old]


def test_export_of_repeated_names_other_joints_and_empty_sequences(tmp_path: Path) -> None:
    sequences = [
        SkeletonSequence.from_frames(np.full((4, 20, 3), n + 1.0), 30.0, "kinect20", "same", n % 2) for n in range(3)
    ]
    made = write_store(tmp_path / "s", "mine", sequences, ["a", "b"], 30.0)
    both = np.array([0, 1]), np.array([2])
    export_pyskl(made, tmp_path / "x.pkl", {"fold": both})
    found = read_all(open_pyskl(tmp_path / "x.pkl"))
    assert list(found) == ["same", "same__2", "same__3"] and found["same"].layout == "kinect20"
    assert [s.meta["fold_train"] for s in found.values()] == [1, 1, 0]
    export_npz(made, tmp_path / "mine.npz", "fold", both)
    back = read_all(open_ctrgcn_npz(tmp_path / "mine.npz"))
    assert list(back) == ["same", "same__2", "same__3"] and back["same"].layout == "ntu25"
    assert np.allclose(back["same__2"].dense(), 2.0)


def test_real_recordings_survive_both_forms(tmp_path: Path) -> None:
    archive = shared("ntu_raw/nturgbd_skeletons_subset.zip")
    source = open_ntu(archive, "ntu120")
    raws = [raw for item in source.items[::20] for raw in source.read(item)]
    made = write_store(
        tmp_path / "s", "ntu120", [raw.sequence(clean(raw)) for raw in raws], ntu_classes("ntu120"), 30.0
    )
    names = made.names
    train = np.array([int(name[1:4]) % 2 == 0 for name in names])
    parts = np.flatnonzero(train), np.flatnonzero(~train)
    export_pyskl(made, tmp_path / "x.pkl", {"xset": parts})
    export_npz(made, tmp_path / "NTU120_CSet.npz", "xset", parts)
    halves, rows = read_all(open_pyskl(tmp_path / "x.pkl")), read_all(open_ctrgcn_npz(tmp_path / "NTU120_CSet.npz"))
    assert sorted(halves) == sorted(rows) == sorted(names) and len(names) > 5
    for i, name in enumerate(names):
        want = made.sequence(i).xyz
        assert np.array_equal(rows[name].dense(want.shape[1]), want)
        # Half precision steps by 2 mm from 2 to 4 m and by 4 mm from 4 to 8 m: off by half a step at most.
        step = np.spacing(np.abs(want).astype(np.float16)).astype(np.float32)
        assert (np.abs(halves[name].dense(want.shape[1]) - want) <= step / 2 + 1e-6).all()
