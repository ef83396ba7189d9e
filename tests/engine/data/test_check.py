"""From files in the published form to a checked store: two stages, variants, missing and damaged files, pictures."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from engine.cli import entry
from engine.data.check import check_store
from engine.data.cleaning import CLEANINGS
from engine.data.parts import PrepareError
from engine.data.prepare import prepare_dataset
from engine.data.sets import DATASETS, split_indices
from engine.data.store import SequenceStore, StoreError, write_store
from engine.render.picture import moments, write_png
from engine.skeleton.sequence import SkeletonSequence
from tests.engine.data.synthetic import moving_body
from tests.shared_data import shared

IDS = (72057594037927937, 72057594037927938)


def skeleton_text(bodies_per_frame, seed=0):
    """A file in the grammar of datasets.md, section 1.3."""
    rng = np.random.default_rng(seed)
    pose = rng.uniform(-0.5, 0.5, (2, 25, 3)) * [0.6, 1.6, 0.2] + [0, 0, 3]
    lines = [str(len(bodies_per_frame))]
    for t, bodies in enumerate(bodies_per_frame):
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += [f"{IDS[body]} 0 0 0 0 0 0 0.1 0.2 2", "25"]
            for x, y, z in pose[body] + 0.01 * t:
                lines.append(f"{x:.7g} {y:.7g} {z:.7g} 250.1 200.2 970.3 560.4 0.1 0.2 0.3 0.4 2")
    return "\n".join(lines) + "\n"


@pytest.fixture
def ntu(tmp_path):
    """A small NTU-60: three performers, two classes; one file known to be unusable, one cut short."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for performer in (1, 2, 3):
        for action in (1, 50):
            bodies = [[0]] * 14 if action == 1 else [[1, 0]] * 13 + [[]]
            name = f"S001C001P{performer:03d}R001A{action:03d}"
            (folder / f"{name}.skeleton").write_text(skeleton_text(bodies, performer))
    (folder / "S001C002P005R002A008.skeleton").write_text("0\n")
    whole = skeleton_text([[0]] * 5)
    (folder / "S001C001P002R002A002.skeleton").write_text(whole[: len(whole) // 2])
    return folder


def test_bodies_first_then_every_variant_from_them(ntu, tmp_path):
    info, stores = DATASETS["ntu60"], tmp_path / "stores"
    made = prepare_dataset(info, ntu, stores, workers=1)
    assert (made.store.name, made.store.variant, len(made.store), made.excluded) == ("ntu60", "clean", 6, 1)
    assert len(made.damaged) == 1 and "S001C001P002R002A002.skeleton" in made.damaged[0]["reason"]
    assert "line" in made.damaged[0]["reason"]
    # Three performers in one setup: 3 cameras x 2 replications x 60 actions each, less what is there or unusable.
    assert made.missing > 1000
    raw = SequenceStore(stores / "ntu60.raw")
    assert [body.id for body in raw.raw(1).bodies] == [IDS[1], IDS[0]]
    shutil.rmtree(ntu)
    for variant in ("compatible", "first_two"):
        store = prepare_dataset(info, None, stores, variant, workers=1).store
        assert store.folder.name == f"ntu60.{variant}"
        for i in range(len(raw)):
            assert np.array_equal(store.sequence(i).xyz, CLEANINGS[variant](raw.raw(i)))
        assert split_indices(store, "xsub")[1].tolist() == split_indices(made.store, "xsub")[1].tolist()
    with pytest.raises(PrepareError, match="no variant 'nice'; known: compatible"):
        prepare_dataset(info, None, stores, "nice")
    with pytest.raises(PrepareError, match=r"no prepared store in .*ROSE Lab"):
        prepare_dataset(DATASETS["ntu120"], None, stores)


def test_the_raw_store_is_used_again_until_the_files_change(ntu, tmp_path):
    info, stores, told = DATASETS["ntu60"], tmp_path / "stores", []
    prepare_dataset(info, ntu, stores, workers=1)
    prepare_dataset(info, ntu, stores, workers=1, half=True, listen=told.append)
    assert list(dict.fromkeys(p.what for p in told)) == ["checking ntu60.raw, MB", "cleaning ntu60"]
    checked = [(p.done, p.total) for p in told if p.what.startswith("checking")]
    assert checked == sorted(checked) and checked[-1] == (1, 1)  # less than a megabyte
    told.clear()
    assert SequenceStore(stores / "ntu60").rows.dtype == np.float16
    shutil.copy(ntu / "S001C001P001R001A001.skeleton", ntu / "S001C001P004R001A001.skeleton")
    prepare_dataset(info, ntu, stores, workers=1, listen=told.append)
    assert "reading ntu60" in {p.what for p in told} and len(SequenceStore(stores / "ntu60")) == 7


def test_a_store_is_checked_against_what_is_published(ntu, tmp_path):
    store = prepare_dataset(DATASETS["ntu60"], ntu, tmp_path / "stores", workers=1).store
    report = check_store(store, DATASETS["ntu60"])
    assert report.problems == []
    assert any("6 sequences, the complete set has 56578" in gap for gap in report.gaps)
    assert any("1 items were damaged" in gap and "A002" in gap for gap in report.gaps)
    assert any("1 files known to be unusable" in note for note in report.notes)
    facts = report.facts
    assert facts["per_class"]["drink water"] == 3 and sum(facts["per_class"].values()) == 6
    assert facts["bodies_per_sequence"] == {"1": 3, "2": 3} and facts["length"]["max"] == 14
    assert (facts["splits"]["xsub"]["train"], facts["splits"]["xsub"]["test"]) == (4, 2)
    assert facts["splits"]["xview"]["test_per_class"][49] == 3
    json.dumps(report.as_dict())


def nw_ucla_zip(path, sequences):
    with zipfile.ZipFile(path, "w") as archive:
        for name, label, xyz in sequences:
            content = {"file_name": name, "skeletons": xyz.tolist(), "label": label}
            archive.writestr(f"all_sqe/{name}.json", json.dumps(content))


def test_copies_between_training_and_test_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    first, second, third = (rng.uniform(-1, 1, (20, 20, 3)) + np.array([0, 0, 3]) for _ in range(3))
    nw_ucla_zip(
        tmp_path / "all_sqe.zip",
        [
            ("a01_s01_e00_v01", 1, first),
            ("a01_s01_e00_v03", 1, first),
            ("a12_s02_e00_v02", 10, second),
            ("a12_s02_e00_v03", 10, second[4:16]),
            ("a12_s03_e00_v03", 10, third),
        ],
    )
    store = prepare_dataset(DATASETS["nw_ucla"], tmp_path / "all_sqe.zip", tmp_path / "stores", workers=1).store
    report = check_store(store, DATASETS["nw_ucla"])
    found = report.facts["splits"]["xview"]
    assert (found["train"], found["test"], found["test_copies_of_train"]) == (2, 3, 1)
    assert found["test_sharing_frames_with_train"] == 2 and found["copies"] == {"exact": 1, "part": 1}
    assert report.facts["splits"]["xview_clean"]["test"] == 2
    quick = check_store(store, DATASETS["nw_ucla"], thorough=False).facts["splits"]["xview"]
    assert quick["test_copies_of_train"] == 1 and "copies" not in quick


def test_damage_after_preparation_is_found(ntu, tmp_path):
    store = prepare_dataset(DATASETS["ntu60"], ntu, tmp_path / "stores", workers=1).store
    path = store.folder / "rows.npy"
    content = np.load(path)
    content[40, 3, 1] = np.inf
    np.save(path, content)
    report = check_store(SequenceStore(store.folder), DATASETS["ntu60"])
    assert any("rows.npy" in problem for problem in report.problems)
    owner = store.names[int(store.body_sequence[np.searchsorted(store.body_start, 40, side="right") - 1])]
    assert any("not finite in 1 sequences" in p and owner in p for p in report.problems)


def test_a_set_with_class_names_in_another_order_is_refused(tmp_path):
    classes = list(DATASETS["florence3d"].classes)
    values = {"xyz": np.ones((4, 15, 3), np.float32), "start": [0, 2, 4], "label": [0, 1], "subject": [1, 2]}
    np.savez(tmp_path / "florence3d.npz", classes=classes, **values)
    assert len(DATASETS["florence3d"].open(tmp_path).items) == 2
    np.savez(tmp_path / "florence3d.npz", classes=classes[::-1], **values)
    with pytest.raises(Exception, match="in another order"):
        DATASETS["florence3d"].open(tmp_path)


def decode_png(path):
    """Size of a PNG and its pixels, read with another program's eyes."""
    import av

    with av.open(str(path)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def test_a_written_picture_is_read_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
    write_png(tmp_path / "a" / "b.png", image)
    assert np.array_equal(decode_png(tmp_path / "a" / "b.png"), image)
    with pytest.raises(ValueError, match="expected"):
        write_png(tmp_path / "c.png", image[..., 0])


def test_moments_show_the_person_and_leave_empty_frames_out():
    from engine.render.motions import motion

    performed = motion("raise left arm", 1.0)
    xyz = np.concatenate([np.zeros_like(performed.xyz[:5]), performed.xyz])
    strip = moments(SkeletonSequence(xyz, np.arange(len(xyz)) / 30), count=3, width=80, height=100)
    assert strip.shape == (100, 240, 3)
    first, raised = strip[:, :80].astype(int), strip[:, 80:160].astype(int)
    assert np.abs(first - raised).max() > 30
    with pytest.raises(ValueError, match="nobody"):
        moments(SkeletonSequence(np.zeros((3, 1, 25, 3)), np.arange(3.0)))


def test_a_picture_of_a_sequence_without_label_names_no_class(home, tmp_path, capsys):
    made = [SkeletonSequence.from_frames(moving_body(9), 30.0, name="one", label=-1)]
    write_store(home / "mine", "mine", made, ("stir", "wave"), 30.0)
    assert entry(["data", "check", "mine", "--render", str(tmp_path / "p.png")]) == 0
    assert "p.png: one, no label" in capsys.readouterr().err


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "stores"


def test_commands_from_files_to_picture(ntu, home, tmp_path, capsys):
    assert entry(["data", "prepare", "ntu60", "--raw", str(ntu), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert "6 of 56578 published; 1 left out as damaged, 1 as known to be unusable" in out
    assert "left out: " in err and "A002.skeleton" in err and "cleaning ntu60: 6/6" in err
    assert entry(["data", "prepare", "ntu60.compatible", "--half", "--workers", "1"]) == 0
    capsys.readouterr()
    assert entry(["data", "check", "ntu60", "--render", str(tmp_path / "p.png"), "--sample", "1"]) == 0
    out, err = capsys.readouterr()
    assert "incomplete: 6 sequences" in out and "S001C001P001R001A050" in err
    assert decode_png(tmp_path / "p.png").shape == (320, 8 * 240, 3)
    assert entry(["data", "check", "ntu60.compatible", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["variant"] == "compatible"
    assert entry(["data", "check", "ntu60", "--render", "x.png", "--sample", "nobody"]) == 1
    assert "called like S001C001P001R001A001" in capsys.readouterr().err
    (home / "utd_mhad").mkdir()
    (home / "utd_mhad" / "index.json").write_text("{}")
    (home / "nw_ucla.partial").mkdir()
    assert entry(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    states = {name: rows[name]["state"] for name in ("ntu60", "ntu60.raw", "ntu60.compatible", "utd_mhad", "ntu120")}
    assert list(states.values()) == ["prepared", "prepared", "prepared", "old", "absent"]
    assert rows["nw_ucla"]["state"] == "begun" and len([row for row in rows.values() if "." not in row["name"]]) == 11
    assert entry(["data", "list"]) == 0
    assert "ROSE Lab" in capsys.readouterr().out
    assert entry(["data", "check", "utd_mhad"]) == 1
    assert "prepare it again" in capsys.readouterr().err


def test_data_of_ones_own_are_listed_and_checked(home, capsys):
    body = np.random.default_rng(0).uniform(-1, 1, (6, 1, 25, 3)) + np.array([0, 0, 3])
    own = [SkeletonSequence(body + i, np.arange(6.0), name=f"r{i}", label=i % 2) for i in range(8)]
    write_store(home / "my_actions", "my_actions", own, ["nod", "wave"], 30.0)
    (home / "rubbish").mkdir()
    assert entry(["data", "list", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[-1]
    assert (row["name"], row["sequences"], row["splits"]) == ("my_actions", 8, ["random"])
    assert entry(["data", "check", "my_actions"]) == 0
    assert "random: 6 train, 2 test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "prepare", "ntu61", "--raw", "."], "unknown dataset 'ntu61'"),
        (["data", "prepare", "ntu60", "--raw", "nowhere"], "ROSE Lab"),
        (["data", "prepare", "ntu60"], "no prepared store"),
        (["data", "prepare", "nw_ucla", "--raw", ".", "--variant", "pyskl"], "one body per recording"),
        (["data", "prepare", "nw_ucla"], "--raw PATH"),
        (["data", "check", "ntu60.pyskl"], "no prepared store"),
    ],
)
def test_clear_errors(home, capsys, words, message):
    assert entry(words) == 1
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_real_nw_ucla_and_its_leak(tmp_path):
    store = prepare_dataset(DATASETS["nw_ucla"], shared("nw_ucla"), tmp_path / "stores", workers=1).store
    assert (len(store), len(store.rows), store.layout) == (1484, 58534, "kinect20")
    train, test = split_indices(store, "xview")
    assert np.bincount(store.label[train]).tolist() == [102, 102, 96, 124, 101, 102, 99, 99, 98, 97]
    assert np.bincount(store.label[test]).tolist() == [48, 50, 45, 49, 47, 47, 43, 43, 47, 45]
    clean = split_indices(store, "xview_clean")[1]
    assert len(clean) == 369 and set(store.label[np.setdiff1d(test, clean)]) == {1, 2}
    report = check_store(store, DATASETS["nw_ucla"], thorough=False)
    assert report.problems == report.gaps == []
    assert "split xview: 95 of 464 test sequences are copies of training data" in report.notes


def test_real_utd_mhad_is_complete(tmp_path):
    store = prepare_dataset(DATASETS["utd_mhad"], shared("utd_mhad"), tmp_path / "stores").store
    report = check_store(store, DATASETS["utd_mhad"], thorough=False)
    assert report.problems == report.gaps == report.notes == []
    train, _ = split_indices(store, "xsub")
    assert set(store.column("subject")[train]) == {1, 3, 5, 7}


@pytest.mark.slow
def test_real_ntu_files(tmp_path):
    made = prepare_dataset(DATASETS["ntu120"], shared("ntu_raw"), tmp_path / "stores", workers=2)
    assert len(made.store) == len(made.raw) == 203 and not made.damaged
    assert made.raw.tracking is not None and made.raw.slot is not None
    assert len(prepare_dataset(DATASETS["ntu60"], shared("ntu_raw"), tmp_path / "stores", workers=1).store) == 23
    with pytest.raises(StoreError, match="one-shot"):
        from engine.data.splits import one_shot

        one_shot(made.store)
