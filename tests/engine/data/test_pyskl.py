"""Reader of PYSKL and MMAction2 pickles: every field checked, two-dimensional sets refused with a reason."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from engine.data.bodies import RawDataError
from engine.data.readers.pyskl import open_pyskl
from engine.data.safe_load import UnsafeFileError
from tests.engine.data.interchange_files import (
    annotation,
    pyskl_file,
    read_all,
)

# Pickles of PYSKL and MMAction2


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pyskl(tmp_path: Path, protocol: int) -> None:
    names = ["S001C001P001R001A001", "S001C001P003R001A002", "S001C002P003R001A060"]
    annotations = [annotation(name, int(name[17:]) - 1, 4 + n, 1 + n % 2) for n, name in enumerate(names)]
    split = {
        "xsub_train": names[:1], "xsub_val": names[1:], "xview_train": names[2:], "xview_val": [*names[:2], "gone"],
    }  # fmt: skip
    source = open_pyskl(pyskl_file(tmp_path / "ntu60_3danno.pkl", annotations, split, protocol))
    assert not source.parallel and source.items == tuple(names) and source.missing == ("gone",)
    for n, sequence in enumerate(read_all(source).values()):
        want = annotations[n]["keypoint"].astype(np.float32).transpose(1, 0, 2, 3)
        assert np.array_equal(sequence.dense(), want) and sequence.frames == 4 + n
        assert sequence.meta["xsub_train"] == int(n == 0) and sequence.meta["xview_train"] == int(n == 2)
        assert sequence.label == int(names[n][17:]) - 1 and sequence.meta["camera"] == int(names[n][5:8])


def test_pyskl_bare_list_other_splits_and_filename(tmp_path: Path) -> None:
    bare = open_pyskl(pyskl_file(tmp_path / "x.pkl", [annotation("a.skeleton", 0, 3), annotation("b", 1, 3)], None))
    assert bare.items == ("a", "b") and next(bare.read("a")).meta == {}
    renamed = annotation("a", 0, 3)
    renamed["filename"] = renamed.pop("frame_dir")
    split = {"train1": ["a"], "test1": ["b"], "train2": ["b"], "test2": ["a"], "train": ["a"], "val": ["b"]}
    source = open_pyskl(pyskl_file(tmp_path / "y.pkl", [renamed, annotation("b", 1, 3)], split))
    assert next(source.read("a")).meta == {"split1_train": 1, "split2_train": 0, "default_train": 1}


def test_pyskl_item_checks(tmp_path: Path) -> None:
    """datasets.md, check 46: total_frames must fit; a third body is cut with a warning."""
    nan = np.full((1, 3, 25, 3), np.nan, np.float16)
    items = [
        annotation("frames", 0, 5, total_frames=6),
        annotation("three", 1, 5, persons=3),
        annotation("nan", 2, 3, keypoint=nan),
        annotation("empty", 3, 3, keypoint=np.zeros_like(nan)),
        annotation("shape", 4, 3, keypoint=np.zeros((3, 25, 3), np.float16)),
        annotation("joints", 5, 3, keypoint=np.ones((1, 3, 18, 3), np.float16)),
        annotation("negative", 6, 3) | {"label": -1},
        annotation("text", 7, 3) | {"label": "wave"},
        annotation("none", 8, 3, keypoint=None),
        annotation("zero", 9, 0),
        annotation("numpy label", 10, 3) | {"label": np.int64(10)},
    ]
    source = open_pyskl(pyskl_file(tmp_path / "x.pkl", items, {}))
    for name, words in (
        ("frames", "total_frames is 6"), ("nan", "not finite"), ("empty", "zero"), ("shape", "keypoint"),
        ("joints", "18 joints"), ("negative", "label"), ("text", "label"), ("none", "keypoint"), ("zero", "0 frames"),
    ):  # fmt: skip
        with pytest.raises(RawDataError, match=words) as caught:
            list(source.read(name))
        assert name in str(caught.value) and "x.pkl" in str(caught.value)
    with pytest.warns(UserWarning, match="3 bodies"):
        assert len(next(source.read("three")).bodies) == 2
    assert next(source.read("numpy label")).label == 10


def test_two_dimensional_pyskl_is_refused_with_a_reason(tmp_path: Path) -> None:
    flat = annotation("a", 0, 4, keypoint=np.ones((1, 4, 17, 2), np.float16))
    flat |= {
        "keypoint_score": np.ones((1, 4, 17), np.float16),
        "img_shape": (1080, 1920),
        "original_shape": (1080, 1920),
    }
    with pytest.raises(RawDataError, match=r"two-dimensional .* metres.*ntu60_3danno"):
        open_pyskl(pyskl_file(tmp_path / "ntu60_hrnet.pkl", [flat], {"xsub_train": ["a"]}))


def test_damaged_pyskl(tmp_path: Path) -> None:
    good = annotation("a", 0, 3)
    file = tmp_path / "x.pkl"
    for content, words in (
        ({"split": {}}, "annotations"),
        ({"annotations": [1]}, "no dictionary"),
        ({"annotations": [{"label": 1}]}, "frame_dir"),
        ({"annotations": [{"frame_dir": "k", "label": 1, "raw_file": "k.pkl"}]}, "Kinetics"),
        ({"annotations": [good, good]}, "twice"),
        ({"annotations": []}, "no annotations"),
        ({"annotations": [good], "split": {"xsub_train": "a"}}, "xsub_train"),
        ({"annotations": [good], "split": {"xsub_train": ["a"], "xsub_val": ["a"]}}, "both parts"),
        ({"annotations": [good], "split": [1]}, "no dictionary"),
        ("text", "dictionary"),
        ({"annotations": [good | {"keypoint": np.array([None])}]}, "only numbers|type"),
    ):
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(RawDataError, match=words) as caught:
            open_pyskl(file)
        assert str(file) in str(caught.value)
    file.write_bytes(pickle.dumps({"annotations": [good], "split": {"x": os.system}}))
    with pytest.raises(UnsafeFileError, match="system"):
        open_pyskl(file)
