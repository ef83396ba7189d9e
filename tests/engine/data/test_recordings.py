"""Own recordings, written by the program's recorder, as training data; and the commands that import and export."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.cli import entry
from engine.data.bodies import RawDataError, RawSequence
from engine.data.readers.ctrgcn_npz import open_ctrgcn_npz
from engine.data.readers.pyskl import open_pyskl
from engine.data.readers.recordings import lift_world, open_recordings, recording_classes
from engine.data.readers.traces import read_recorded
from engine.data.store import SequenceStore, write_store
from engine.live.recorded import lift_as_live
from engine.live.recorder import Recorder
from engine.live.tracking import PersonTracker
from engine.live.types import Frame, PoseResult, Segment
from engine.skeleton.sequence import SkeletonSequence
from tests.engine.live.helpers import waving_pose

# A camera that drops every seventh frame: times are uneven.
TIMES = [t for i, t in enumerate(np.arange(120) / 30.0 + 7.0) if i % 7 != 6]


def record(folder: Path, segments: list[Segment] = (), close: bool = True) -> dict[int, np.ndarray]:  # type: ignore[assignment]
    """A recording of two people (the second from the 30th frame on); the joints the live path saw, ``(T, 25, 3)``."""
    tracker, recorder = PersonTracker(), Recorder(folder, "camera 0")
    seen = {1: np.zeros((len(TIMES), 25, 3), np.float32), 2: np.zeros((len(TIMES), 25, 3), np.float32)}
    for i, time in enumerate(TIMES):
        raws = [waving_pose(time, "left", 0.3)] + ([waving_pose(time, "right", 0.75)] if i >= 30 else [])
        persons = tracker.update(raws, time, (640, 480))
        for person in persons:
            seen[person.person][i] = person.joints
        if i == 0:
            recorder.frame(Frame(np.zeros((48, 64, 3), np.uint8), time, i, 0.0))
        recorder.pose(PoseResult(time, i, 0.0, (640, 480), persons))
    for segment in segments:
        recorder.segment(segment)
    recorder.close()
    if not close:
        (folder / "segments.csv").unlink()
    return seen


def segment(person: int, label: str, start: float, end: float) -> Segment:
    """Times as the live path tells them: on the camera's clock."""
    return Segment(person, label, TIMES[0] + start, TIMES[0] + end, 0.9)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, np.ndarray]]:
    folder = tmp_path_factory.mktemp("recordings") / "kitchen"
    segments = [segment(1, "wave", 0.5, 1.5), segment(2, "stir", 1.5, 3.0), segment(1, "nobody", 90, 95)]
    return folder, record(folder, segments)


def sequences(path: Path, **options: object) -> dict[str, RawSequence]:
    source = open_recordings(path, **options)  # type: ignore[arg-type]
    read = pickle.loads(pickle.dumps(source.read))  # noqa: S301  (our own)
    return {sequence.name: sequence for item in source.items for sequence in read(item)}


def test_joints_are_those_the_live_path_saw(recorded: tuple[Path, dict[int, np.ndarray]]) -> None:
    folder, seen = recorded
    trace = read_recorded(folder / "landmarks.jsonl")
    assert np.allclose(trace.times, np.array(TIMES) - TIMES[0], atol=1e-5) and sorted(trace.persons) == [1, 2]
    for person, landmarks in trace.persons.items():
        live = seen[person][landmarks.frame]
        # The trace keeps five decimals; depth is solved from them.
        assert live.any() and np.abs(lift_as_live(landmarks) - live).max() < 2e-3
        flat = lift_world(landmarks)
        assert np.abs(flat[:, 0]).max() < 1e-5  # hip-centred
        assert np.allclose(flat[:, 3] - flat[:, 0], live[:, 3] - live[:, 0], atol=0.1) and (flat[:, 3, 1] > 0.5).all()


def test_one_sequence_for_every_segment(recorded: tuple[Path, dict[int, np.ndarray]]) -> None:
    folder, seen = recorded
    assert recording_classes(folder) == ("nobody", "stir", "wave")
    source = open_recordings(folder, ["wave", "stir"])
    assert source.items == ("kitchen#0", "kitchen#1") and source.excluded == ("kitchen#2 (nobody)",)
    wave, stir = sequences(folder, classes=["wave", "stir"], lift=lift_as_live).values()
    assert (wave.label, stir.label) == (0, 1) and wave.name == "kitchen_p1_000" and wave.layout == "ntu25"
    assert wave.meta == {"recording": "kitchen", "person": 1, "word": "wave"} and wave.fps == 30.0
    assert wave.frames == 31 and stir.frames == 46
    # Frames that were recorded at exactly the wanted times are found again, those between are linear.
    times = np.array(TIMES) - TIMES[0]
    for k, xyz in enumerate(wave.dense()[:, 0]):
        t = 0.5 + k / 30
        right = int(np.searchsorted(times, t - 1e-9))
        near = seen[1][right]
        if abs(times[right] - t) > 1e-6:
            share = (t - times[right - 1]) / (times[right] - times[right - 1])
            near = seen[1][right - 1] * (1 - share) + near * share
        assert np.abs(xyz - near).max() < 2e-3
    half = sequences(folder, classes=["wave"], fps=15.0)["kitchen_p1_000"]
    assert half.frames == 16 and half.fps == 15.0


def test_a_segment_in_which_the_person_is_not_seen(recorded: tuple[Path, dict[int, np.ndarray]]) -> None:
    folder, _ = recorded
    source = open_recordings(folder)
    with pytest.raises(RawDataError, match=r"segments\.csv, line 4: begins at 90 s, the recording ends"):
        list(source.read("kitchen#2"))


def test_labels_written_by_hand_count_alone(tmp_path: Path) -> None:
    record(tmp_path / "a", [segment(1, "guess", 0.5, 1.5)])
    record(tmp_path / "day 2" / "b", [segment(1, "guess", 0.5, 1.5)])
    record(tmp_path / "c")
    assert recording_classes(tmp_path) == ("guess",) and len(sequences(tmp_path)) == 2
    (tmp_path / "labels.csv").write_text(
        "file,person,start,end,label\n"
        "a,1,0.0,1.0,open the jar\n"
        "a,,2.5,,\"stir, slowly\"\n"
        "day 2/b/landmarks.jsonl,2,2,3,open the jar\n"
        "gone,1,0,1,wave\n",
        "utf-8-sig",
    )  # fmt: skip
    assert recording_classes(tmp_path) == ("open the jar", "stir, slowly")
    source = open_recordings(tmp_path)
    assert source.items == ("a#0", "a#1", "day 2/b#0") and source.missing == ("gone",) and source.excluded == ("c",)
    found = sequences(tmp_path)
    assert list(found) == ["a_p1_000", "a_p1_001", "a_p2_001", "day 2_b_p2_000"]
    assert [s.label for s in found.values()] == [0, 1, 1, 0] and found["a_p2_001"].meta["word"] == "stir, slowly"
    # The recording alone, opened by its trace: the table beside the folder does not belong to it.
    assert recording_classes(tmp_path / "a" / "landmarks.jsonl") == ("guess",)


def test_unfinished_recordings(tmp_path: Path) -> None:
    """A program that died leaves no segments.csv, and a line that is cut."""
    record(tmp_path / "r", [segment(1, "wave", 0.5, 1.5)], close=False)
    results = tmp_path / "r" / "results.jsonl"
    results.write_text(results.read_text() + '{"segment": {"person": 1, "la')
    trace = tmp_path / "r" / "landmarks.jsonl"
    trace.write_text(trace.read_text()[:-300])
    assert list(sequences(tmp_path / "r")) == ["r_p1_000"]
    assert len(read_recorded(trace).times) == len(TIMES) - 1
    results.unlink()
    assert open_recordings(tmp_path / "r").excluded == ("r",)


@pytest.mark.parametrize(
    "line, words",
    [
        ("a,x,0,1,wave", "line 2: person is a number"),
        ("a,1,0,soon,wave", "line 2: person is a number"),
        ("a,1,3,2,wave", "from 3 to 2 s"),
        ("a,1,nan,2,wave", "from nan"),
        ("a,1,-1,2,wave", "from -1"),
        ("a,1,0,inf,wave", "to inf"),
        ("a,1,0,1,", "no label"),
    ],
)
def test_damaged_tables(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "landmarks.jsonl").write_text("")
    (tmp_path / "labels.csv").write_text("file,person,start,end,label\n" + line + "\n")
    with pytest.raises(RawDataError, match=words) as caught:
        open_recordings(tmp_path)
    assert str(tmp_path / "labels.csv") in str(caught.value)
    (tmp_path / "labels.csv").write_text("file,who\n")
    with pytest.raises(RawDataError, match="no column person, start, end, label"):
        open_recordings(tmp_path)


def test_damaged_traces(tmp_path: Path) -> None:
    record(tmp_path / "a", [segment(1, "wave", 0.5, 1.5)])
    file = tmp_path / "a" / "landmarks.jsonl"
    lines = file.read_text().splitlines()
    person = json.loads(lines[1])["persons"][0]
    for change in (
        "{",
        "[1]",
        json.dumps({"t": 1, "size": [0, 1], "persons": []}),
        json.dumps({"t": 1, "size": [64, 48], "persons": [person] * 9}),
        json.dumps({"t": 1, "size": [64, 48], "persons": [person | {"image": [[0, 0, 0]]}]}),
        json.dumps({"t": "x", "size": [64, 48], "persons": []}),
        "[" * 100_000,
    ):
        file.write_text("\n".join([*lines[:5], change, *lines[5:]]))
        with pytest.raises(RawDataError, match="line 6 is damaged") as caught:
            list(open_recordings(tmp_path).read("a#0"))
        assert str(file) in str(caught.value)
    file.write_text(
        "\n".join(
            [
                lines[0],
                json.dumps({"t": 0, "size": [64, 48], "persons": [person | {"visibility": [float("nan")] * 33}]}),
            ]
        )
    )
    assert not read_recorded(file).persons
    for text in ("", "{}\n", "hello\n", lines[0]):
        file.write_text(text)
        with pytest.raises(RawDataError):
            read_recorded(file)
    with pytest.raises(RawDataError, match="no recording"):
        open_recordings(tmp_path / "nowhere")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), st.characters(codec="utf-8")), min_size=1, max_size=5), st.booleans())
def test_mutated_recordings_only_raise_the_documented_errors(
    tmp_path: Path, changes: list[tuple[float, str]], table: bool
) -> None:
    folder = tmp_path / "r"
    if not folder.exists():
        record(folder, [segment(1, "wave", 0.0, 0.2)])
        trace = folder / "landmarks.jsonl"
        trace.write_text("\n".join(trace.read_text().splitlines()[:8]))
        for file in (trace, folder / "segments.csv"):
            file.with_suffix(".good").write_text(file.read_text())
    for file, mutated in ((folder / "segments.csv", table), (folder / "landmarks.jsonl", not table)):
        text = list(file.with_suffix(".good").read_text())
        for place, character in changes if mutated else []:
            text[int(place * (len(text) - 1))] = character
        file.write_text("".join(text), "utf-8")
    try:
        source = open_recordings(folder)
        for item in source.items:
            list(source.read(item))
    except RawDataError:
        pass


# The commands


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "stores"


def test_import_of_recordings_and_export(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "in" / "a", [segment(1, "wave", 0.5, 1.5), segment(2, "stir", 2, 3)])
    assert entry(["data", "import", "my_actions", "--raw", str(tmp_path / "in"), "--workers", "1"]) == 0
    assert "2 sequences" in capsys.readouterr().out
    store = SequenceStore(home / "my_actions")
    assert store.classes == ["stir", "wave"] and store.label.tolist() == [1, 0] and store.fps == 30.0
    assert store.column("recording").tolist() == ["a", "a"]
    out = tmp_path / "x.pkl"
    assert entry(["data", "export", "my_actions", "--to", "pyskl", "--out", str(out)]) == 0
    assert "no splits" in capsys.readouterr().out and len(open_pyskl(out).items) == 2
    assert entry(["data", "export", "my_actions", "--to", "npz", "--out", str(out)]) == 1
    assert "no split" in capsys.readouterr().err
    assert entry(["data", "export", "my_actions", "--to", "npz", "--out", str(out), "--float32"]) == 1


def test_export_and_import_of_a_known_dataset(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    names = ["S001C001P001R001A001", "S001C002P003R001A002", "S001C003P003R001A060", "S001C001P002R002A005"]
    written = [
        SkeletonSequence.from_frames(
            rng.uniform(0.5, 3, (6, 1, 25, 3)).astype(np.float32), 30.0, "ntu25", name, int(name[17:]) - 1,
            performer=int(name[9:12]), camera=int(name[5:8]),
        )
        for name in names
    ]  # fmt: skip
    write_store(home / "ntu60", "ntu60", written, [f"class {i}" for i in range(60)], 30.0)
    for split, train in (("xsub", names[:1] + names[3:]), ("xview", names[1:3])):
        out = tmp_path / ("NTU60_CS.npz" if split == "xsub" else "NTU60_CV.npz")
        assert entry(["data", "export", "ntu60", "--to", "npz", "--out", str(out), "--split", split]) == 0
        assert f"({split} 2 train, 2 test)" in capsys.readouterr().out
        items = open_ctrgcn_npz(out).items
        assert sorted(item.split()[3] for item in items if item.startswith("train")) == sorted(train)
        assert entry(["data", "import", "ntu60.back", "--raw", str(out), "--workers", "1", "--replace"]) == 0
        store = SequenceStore(home / "ntu60.back")
        assert sorted(store.names) == sorted(names) and store.column(f"{split}_train").sum() == 2
        for i, name in enumerate(store.names):
            assert np.array_equal(store.sequence(i).xyz, written[names.index(name)].xyz)
        # What was imported can be exported again by the split it came with.
        assert entry(["data", "export", "ntu60.back", "--to", "npz", "--out", str(out), "--split", split]) == 0
        capsys.readouterr()
    out = tmp_path / "x.pkl"
    assert entry(["data", "export", "ntu60", "--to", "pyskl", "--out", str(out), "--float32"]) == 0
    assert entry(["data", "import", "ntu60.back", "--raw", str(out), "--replace"]) == 0
    store = SequenceStore(home / "ntu60.back")
    assert store.names == names and np.array_equal(store.sequence(3).xyz, written[3].xyz)
    assert store.column("xsub_train").tolist() == [1, 0, 0, 1] and store.column("xview_train").tolist() == [0, 1, 1, 0]
    capsys.readouterr()
    assert entry(["data", "export", "ntu60", "--to", "npz", "--out", str(out), "--split", "xset"]) == 1
    assert "xset" in capsys.readouterr().err
    assert entry(["data", "export", "absent", "--to", "npz", "--out", str(out)]) == 1
    assert "no prepared store" in capsys.readouterr().err


def numbered(i: int, **meta: int) -> SkeletonSequence:
    """A sequence of one of two classes; -1 has none."""
    label = i % 2 if i >= 0 else -1
    return SkeletonSequence.from_frames(np.ones((4, 25, 3)), 30.0, name=f"s{i}", label=label, **meta)


def test_export_knows_the_splits_that_the_list_shows_of_own_data(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [numbered(i, subject=1 + i % 2) for i in range(8)]
    write_store(home / "mine", "mine", made, ["wave", "stir"], 30.0)
    assert entry(["data", "list"]) == 0
    assert "(random, xsub)" in capsys.readouterr().out
    out = tmp_path / "x.npz"
    for split, parts in (([], "random 6 train, 2 test"), (["--split", "xsub"], "xsub 4 train, 4 test")):
        assert entry(["data", "export", "mine", "--to", "npz", "--out", str(out), *split]) == 0
        assert parts in capsys.readouterr().out
    assert entry(["data", "export", "mine", "--to", "pyskl", "--out", str(out)]) == 0
    assert "(random 6 train, 2 test; xsub 4 train, 4 test)" in capsys.readouterr().out


def test_export_of_a_merged_set_leaves_out_what_has_no_label(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As merging writes it: what no class names is there for pretraining alone.
    made = [numbered(i, xsub_train=int(i > 1), pretrain_train=1) for i in range(8)]
    made += [numbered(-1, xsub_train=-1, pretrain_train=1) for _ in range(3)]
    write_store(home / "everyday", "everyday", made, ["wave", "stir"], 30.0)
    out = tmp_path / "x"
    for form in ("pyskl", "npz"):
        assert entry(["data", "export", "everyday", "--to", form, "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert "8 sequences, " in said and "(xsub 6 train, 2 test)" in said
        assert "3 sequences without label left out" in said
    assert entry(["data", "export", "everyday", "--to", "pyskl", "--out", str(out), "--split", "pretrain"]) == 1
    assert "has no label (3 such sequences)" in capsys.readouterr().err


def test_refusals_of_import(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.pkl"
    file.write_bytes(pickle.dumps({"annotations": [{"frame_dir": "a", "label": 0, "keypoint": print}]}))
    for arguments, words in (
        (["../evil", "--raw", str(file)], "can't be the name"),
        (["ntu60", "--raw", str(file)], "ntu60.imported"),
        (["ntu60.compatible", "--raw", str(file)], "ntu60.imported"),
        (["ntu60.x", "--raw", str(tmp_path / "no")], "does not exist"),
        (["mine", "--raw", str(file)], "--classes"),
        (["ntu60.x", "--raw", str(file)], "builtins.print"),
        (["ntu60.x", "--raw", str(tmp_path)], "form"),
    ):
        assert entry(["data", "import", *arguments]) == 1
        assert words in capsys.readouterr().err
    assert not home.exists() or not list(home.iterdir())


def test_an_import_does_not_take_the_place_of_another_store_unasked(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        record(tmp_path / name / name, [segment(1, "wave", 0.5, 1.5)])
    monkeypatch.chdir(tmp_path)
    command = ["data", "import", "mine", "--workers", "1", "--raw"]
    assert entry([*command, "one"]) == 0
    assert entry([*command, str(tmp_path / "two")]) == 1
    assert "take another name, or --replace" in capsys.readouterr().err
    assert SequenceStore(home / "mine").column("recording").tolist() == ["one"]
    assert entry([*command, str(tmp_path / "one")]) == 0, "the same recordings again"
    (home / "mine" / "rows.npy").write_bytes(b"")
    assert entry([*command, str(tmp_path / "two")]) == 1, "a damaged store is still somebody's"
    assert entry([*command, str(tmp_path / "two"), "--replace"]) == 0
    assert SequenceStore(home / "mine").column("recording").tolist() == ["two"]


@pytest.mark.parametrize("name", ["mine.old", "utkinect.partial", "utkinect.writing", "utkinect.raw", "mine.raw"])
def test_an_import_takes_no_name_under_which_the_program_deletes_or_keeps_its_own(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    record(tmp_path / "in" / "a", [segment(1, "wave", 0.5, 1.5)])
    assert entry(["data", "import", name, "--raw", str(tmp_path / "in"), "--workers", "1"]) == 1
    assert f"{name} can't be the name of a store" in capsys.readouterr().err and not home.exists()


def test_recordings_without_any_label_are_said_to_have_none(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "in" / "a", [])
    (tmp_path / "classes.txt").write_text("wave")
    for more in ([], ["--classes", str(tmp_path / "classes.txt")]):
        assert entry(["data", "import", "mine", "--raw", str(tmp_path / "in"), *more]) == 1
        assert "no recording here has a label; write labels.csv" in capsys.readouterr().err


def test_class_names_are_read_as_editors_save_them(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "in" / "a", [segment(1, "grüßen", 0.5, 1.5)])
    file = tmp_path / "classes.txt"
    command = ["data", "import", "mine", "--raw", str(tmp_path / "in"), "--classes", str(file), "--workers", "1"]
    file.write_bytes("grüßen\r\nstir\r\n".encode("utf-8-sig"))
    assert entry(command) == 0
    store = SequenceStore(home / "mine")
    assert store.classes == ["grüßen", "stir"] and store.label.tolist() == [0]
    file.write_bytes("grüßen\n".encode("latin-1"))
    capsys.readouterr()
    assert entry(command) == 1
    said = capsys.readouterr().err
    assert "classes.txt is no text in UTF-8" in said and "internal" not in said
