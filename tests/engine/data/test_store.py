"""The store: what is written comes back; what is damaged or unfinished is said to be."""

import json

import numpy as np
import pytest

from engine.data.sets import DATASETS, RawDataError, read_dataset, read_npz_set, read_nw_ucla, split_indices
from engine.data.store import SequenceStore, StoreError, write_store
from engine.skeleton.sequence import SkeletonSequence
from tests.shared_data import shared


def sequences(count=5, persons=1):
    rng = np.random.default_rng(0)
    for i in range(count):
        xyz = rng.standard_normal((3 + i, persons, 25, 3)).astype(np.float32)
        yield SkeletonSequence(
            xyz, np.arange(3 + i) / 20, name=f"s{i}", label=i % 2, meta={"subject": i, "digest": str(i)}
        )


@pytest.mark.parametrize("persons", [1, 2])
def test_round_trip(tmp_path, persons):
    store = write_store(tmp_path / "a", "a", sequences(persons=persons), ["x", "y"], 20.0)
    assert len(store) == 5 and store.classes == ["x", "y"]
    for i, expected in enumerate(sequences(persons=persons)):
        found = store.sequence(i)
        assert np.array_equal(found.xyz, expected.xyz) and np.allclose(found.times, expected.times)
        assert (found.name, found.label, found.meta) == (expected.name, expected.label, expected.meta)
    assert list(store.indices_of(["s3", "nobody", "s1"])) == [1, 3]


def test_interrupted_preparation_never_looks_finished(tmp_path):
    def broken():
        yield from sequences(2)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_store(tmp_path / "a", "a", broken(), ["x", "y"], 20.0)
    with pytest.raises(StoreError, match="no prepared store"):
        SequenceStore(tmp_path / "a")
    write_store(tmp_path / "a", "a", sequences(), ["x", "y"], 20.0)
    with pytest.raises(RuntimeError):
        write_store(tmp_path / "a", "a", broken(), ["x", "y"], 20.0)
    assert len(SequenceStore(tmp_path / "a")) == 5


def test_damaged_store(tmp_path):
    write_store(tmp_path / "a", "a", sequences(), ["x", "y"], 20.0)
    index = tmp_path / "a" / "index.json"
    good = index.read_text()
    index.write_text(good[:50])
    with pytest.raises(StoreError, match="damaged"):
        SequenceStore(tmp_path / "a")
    index.write_text(json.dumps(json.loads(good) | {"length": [1, 2, 3, 4, 5]}))
    with pytest.raises(StoreError, match="rows expected"):
        SequenceStore(tmp_path / "a")
    with pytest.raises(StoreError, match="no sequences"):
        write_store(tmp_path / "b", "b", iter(()), ["x"], 20.0)


def make_ucla(folder, name="a08_s01_e01_v03", label=7, shape=(4, 20, 3)):
    folder.mkdir(exist_ok=True)
    frames = np.arange(np.prod(shape), dtype=float).reshape(shape).tolist()
    (folder / f"{name}.json").write_text(json.dumps({"file_name": name, "skeletons": frames, "label": label}))


def test_nw_ucla_names_and_labels(tmp_path):
    raw = tmp_path / "raw"
    make_ucla(raw)
    make_ucla(raw, "a01_s02_e00_v01", 1)
    found = list(read_nw_ucla(raw))
    assert [s.name for s in found] == ["a01_s02_e00_v01", "a08_s01_e01_v03"]
    assert [s.label for s in found] == [0, 6]
    store = write_store(
        tmp_path / "nw_ucla", "nw_ucla", read_dataset("nw_ucla", raw), DATASETS["nw_ucla"].classes, 30.0
    )
    train, test = split_indices(store, "xview")
    assert list(train) == [0] and list(test) == [1]
    # Both files hold the same coordinates: the clean test part drops the copy.
    assert len(split_indices(store, "xview_clean")[1]) == 0
    with pytest.raises(StoreError, match="xview_clean"):
        split_indices(store, "xsub")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("label", "not action"),
        ("shape", "expected"),
        ("json", "damaged"),
        ("nothing", "no NW-UCLA"),
        ("zip", "not a readable"),
    ],
)
def test_nw_ucla_bad_files(tmp_path, kind, message):
    raw = tmp_path / "raw"
    raw.mkdir()
    if kind == "label":
        make_ucla(raw, label=8)
    elif kind == "shape":
        make_ucla(raw, shape=(4, 19, 3))
    elif kind == "json":
        (raw / "a08_s01_e01_v03.json").write_text('{"skeletons": [[')
    elif kind == "zip":
        raw = tmp_path / "raw.zip"
        raw.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(RawDataError, match=message):
        list(read_nw_ucla(raw))


def test_npz_set_refuses_pickles_and_wrong_boundaries(tmp_path):
    path = tmp_path / "utd_mhad.npz"
    np.savez(path, xyz=np.array([{"a": 1}], dtype=object), start=[0], label=[0])
    with pytest.raises(RawDataError, match="can't be read"):
        list(read_npz_set(path, 30.0, "utd_mhad"))
    np.savez(path, xyz=np.zeros((10, 20, 3), np.float32), start=[0, 5, 11], label=[0, 1])
    with pytest.raises(RawDataError, match="boundaries"):
        list(read_npz_set(path, 30.0, "utd_mhad"))


def test_real_nw_ucla_is_complete_and_its_leak_is_found(tmp_path):
    raw = shared("nw_ucla")
    store = write_store(
        tmp_path / "nw_ucla", "nw_ucla", read_dataset("nw_ucla", raw), DATASETS["nw_ucla"].classes, 30.0
    )
    assert len(store) == 1484 and len(store.xyz) == 58534
    train, test = split_indices(store, "xview")
    assert (len(train), len(test)) == (1020, 464)
    assert np.bincount(store.label[train]).tolist() == [102, 102, 96, 124, 101, 102, 99, 99, 98, 97]
    assert np.bincount(store.label[test]).tolist() == [48, 50, 45, 49, 47, 47, 43, 43, 47, 45]
    clean = split_indices(store, "xview_clean")[1]
    assert len(clean) == 369
    removed = set(store.label[np.setdiff1d(test, clean)])
    assert removed == {1, 2}


def test_real_utd_mhad_is_complete(tmp_path):
    raw = shared("utd_mhad")
    store = write_store(
        tmp_path / "utd_mhad", "utd_mhad", read_dataset("utd_mhad", raw), DATASETS["utd_mhad"].classes, 30.0
    )
    assert len(store) == 861
    train, test = split_indices(store, "xsub")
    assert (len(train), len(test)) == (431, 430)
    assert set(store.column("subject")[train]) == {1, 3, 5, 7}
