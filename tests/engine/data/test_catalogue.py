"""The catalogue says what is here: states of stores, files known by their names, removal with a way back."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.data.bodies import RawDataError
from engine.data.catalogue import find_downloads, list_stores, read_catalogue, recognise
from engine.data.prepare import prepare_dataset
from engine.data.removal import delete_aside, put_back, set_aside
from engine.data.sets import DATASETS
from engine.data.store import write_store
from engine.skeleton.sequence import SkeletonSequence
from tests.engine.data.interchange_files import ctrgcn_file, stgcn_folder
from tests.engine.data.synthetic import flat_npz, ntu_files, nw_ucla_names, write_folder, write_nw_ucla, write_zip


def small_store(folder: Path, name: str, sequences: int = 3) -> Path:
    rng = np.random.default_rng(1)
    made = (
        SkeletonSequence.from_frames(rng.normal(0, 1, (4 + i, 25, 3)), 30.0, name=f"s{i}", label=0)
        for i in range(sequences)
    )
    return write_store(folder / name, name, made, ("one",), 30.0).folder


def test_every_state_of_a_dataset(tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    archive = write_nw_ucla(tmp_path / "all_sqe.zip", nw_ucla_names((1,), (0,)))
    made = prepare_dataset(DATASETS["nw_ucla"], archive, stores, workers=1)
    small_store(stores, "utd_mhad")
    (stores / "utd_mhad" / "rows.npy").write_bytes(b"cut")
    (stores / "msr_action3d.partial" / "part-00000").mkdir(parents=True)
    (stores / "florence3d").mkdir()
    (stores / "florence3d" / "index.json").write_text("{}")
    small_store(stores, "my_actions")
    found = {
        entry.name: entry for entry in read_catalogue(stores, {"utkinect": archive, "pku_mmd_1": tmp_path / "gone"})
    }
    assert list(found) == [*DATASETS, "my_actions"]
    states = {name: entry.state for name, entry in found.items()}
    assert states == dict.fromkeys(DATASETS, "absent") | {
        "nw_ucla": "prepared", "utd_mhad": "damaged", "msr_action3d": "begun", "florence3d": "old", "utkinect": "found",
        "my_actions": "prepared", "everyday": "found",
    }  # fmt: skip
    store = found["nw_ucla"].main
    assert store is not None
    assert (store.sequences, store.frames, store.classes) == (30, 150, 10) and len(made.store) == 30
    assert store.seconds == pytest.approx(5.0) and store.bytes == sum(
        file.stat().st_size for file in store.folder.glob("*.npy")
    )
    # The store itself says where its files are; a path that is gone is not offered.
    assert found["nw_ucla"].raw == archive and found["pku_mmd_1"].raw is None
    assert "rows.npy has 3 bytes" in found["utd_mhad"].stores[0].problem
    assert found["my_actions"].info is None and found["my_actions"].title == "my_actions"


def test_a_store_that_is_made_anew_still_counts_and_unfinished_folders_do_not(tmp_path: Path) -> None:
    small_store(tmp_path, "nw_ucla")
    for folder in ("nw_ucla.partial", "nw_ucla.old", "nw_ucla.writing", ".removed-0-x", "unknown.partial", "empty"):
        (tmp_path / folder).mkdir()
    assert [(entry.name, entry.state) for entry in list_stores(tmp_path)] == [("nw_ucla", "prepared")]
    assert list_stores(tmp_path / "nowhere") == ()


def test_variants_belong_to_their_dataset(tmp_path: Path) -> None:
    for name in ("ntu60.raw", "ntu60.compatible"):
        small_store(tmp_path, name)
    entry = next(entry for entry in read_catalogue(tmp_path) if entry.name == "ntu60")
    assert entry.state == "prepared" and entry.main is not None and entry.main.name == "ntu60.compatible"
    set_aside(tmp_path / "ntu60.compatible")
    entry = next(entry for entry in read_catalogue(tmp_path) if entry.name == "ntu60")
    assert entry.main is None and entry.state == "found", "raw bodies alone are not a prepared set"


def test_original_files_are_recognised(tmp_path: Path) -> None:
    names60, names120 = ["S001C001P001R001A001", "S017C002P020R002A060"], ["S018C001P041R001A061"]
    cases = {
        "nw.zip": write_nw_ucla(tmp_path / "nw.zip", nw_ucla_names((1,), (0,))),
        "first.zip": write_zip(tmp_path / "first.zip", ntu_files(names60), "nturgb+d_skeletons/"),
        "second.zip": write_zip(tmp_path / "second.zip", ntu_files(names120)),
        "both": write_folder(tmp_path / "both", ntu_files([*names60, *names120])),
        "pku": write_folder(tmp_path / "pku", [("PKU_Skeleton_Renew/0002-L.txt", b""), ("cross-view.txt", b"")]),
        "pku2": write_folder(tmp_path / "pku2", [("deep/er/A01N01-M.txt", b"")]),
    }
    found = {name: [one.name for one in recognise(path)] for name, path in cases.items()}
    assert found == {
        "nw.zip": ["nw_ucla"], "first.zip": ["ntu60"], "second.zip": ["ntu120"], "both": ["ntu120", "ntu60"],
        "pku": ["pku_mmd_1"], "pku2": ["pku_mmd_2"],
    }  # fmt: skip
    assert all(one.kind == "dataset" and one.path == cases["both"] for one in recognise(cases["both"]))


def test_a_flat_set_is_known_by_its_name_or_its_classes(tmp_path: Path) -> None:
    arrays = flat_npz()
    np.savez(tmp_path / "utkinect.npz", **arrays)
    arrays["classes"] = np.array(DATASETS["florence3d"].classes)
    np.savez(tmp_path / "download (1).npz", **arrays)
    assert [one.name for one in recognise(tmp_path / "utkinect.npz")] == ["utkinect"]
    assert [one.name for one in recognise(tmp_path / "download (1).npz")] == ["florence3d"]
    arrays["classes"] = np.array(["other"])
    np.savez(tmp_path / "strange.npz", **arrays)
    with pytest.raises(RawDataError, match="no files of a known dataset"):
        recognise(tmp_path / "strange.npz")


def test_files_of_other_projects_and_recordings(tmp_path: Path) -> None:
    ctrgcn_file(tmp_path / "NTU60_CS.npz", "xsub")
    stgcn_folder(tmp_path / "xview", "data_joint")
    (tmp_path / "evening" / "one").mkdir(parents=True)
    (tmp_path / "evening" / "one" / "landmarks.jsonl").write_text("")
    assert [one.kind for one in recognise(tmp_path / "NTU60_CS.npz")] == ["files"]
    assert [one.kind for one in recognise(tmp_path / "xview")] == ["files"]
    assert [one.kind for one in recognise(tmp_path / "evening")] == ["recordings"]


@pytest.mark.parametrize(
    ("name", "said"), [("gone", "does not exist"), ("a.7z", "unpacked first"), ("b.zip", "no files")]
)
def test_what_is_nothing_is_said(tmp_path: Path, name: str, said: str) -> None:
    if name != "gone":
        (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(RawDataError, match=said):
        recognise(tmp_path / name)


def test_downloads_are_found(tmp_path: Path) -> None:
    write_nw_ucla(tmp_path / "all_sqe.zip", nw_ucla_names((1,), (0,)))
    write_zip(tmp_path / "nturgbd_skeletons_s001_to_s017.zip", ntu_files(["S001C001P001R001A001"]))
    write_zip(tmp_path / "nturgbd_skeletons_s018_to_s032.zip", ntu_files(["S018C001P041R001A061"]))
    (tmp_path / "holiday.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "letters.zip", "w") as archive:
        archive.writestr("letter.txt", "dear")
    found = find_downloads(tmp_path)
    assert found == {
        "nw_ucla": tmp_path / "all_sqe.zip",
        "ntu60": tmp_path / "nturgbd_skeletons_s001_to_s017.zip",
        "ntu120": tmp_path,
    }
    assert find_downloads(tmp_path / "nowhere") == {}


def test_removal_can_be_taken_back(tmp_path: Path) -> None:
    folder = small_store(tmp_path, "nw_ucla")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    aside = set_aside(folder)
    assert list_stores(tmp_path) == () and aside.exists()
    assert put_back(aside) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_removed_store_does_not_replace_a_new_one_and_is_deleted_later(tmp_path: Path) -> None:
    first = set_aside(small_store(tmp_path, "nw_ucla"))
    second = set_aside(small_store(tmp_path, "nw_ucla"))
    assert first != second
    folder = small_store(tmp_path, "nw_ucla")
    with pytest.raises(FileExistsError, match="made again"):
        put_back(first)
    delete_aside(tmp_path, older_than_s=3600)
    assert first.exists() and second.exists(), "what was removed a moment ago may still be wanted back"
    delete_aside(tmp_path, keep=second)
    assert not first.exists() and second.exists() and folder.exists()


def test_the_path_of_the_files_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nw_ucla(tmp_path / "all_sqe.zip", nw_ucla_names((1,), (0,)))
    monkeypatch.chdir(tmp_path)
    made = prepare_dataset(DATASETS["nw_ucla"], Path("all_sqe.zip"), tmp_path / "stores", workers=1)
    assert made.store.header["about"]["raw"] == os.path.join(tmp_path, "all_sqe.zip")
    assert json.loads((made.store.folder / "store.json").read_text())["about"]["raw"].endswith("all_sqe.zip")
