"""The store: what is written comes back; what is damaged, old or unfinished is said to be."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.bodies import ABSENT_SLOT, BodyTrack, RawSequence
from engine.data.store import SequenceStore, StoreError, write_store
from engine.data.store_files import ABSENT_INT
from engine.data.store_writer import StoreWriter, join_stores
from engine.skeleton.sequence import SkeletonSequence

FEW = settings(deadline=None, max_examples=40)


def sequences(count=5, persons=1):
    rng = np.random.default_rng(0)
    for i in range(count):
        xyz = rng.standard_normal((3 + i, persons, 25, 3)).astype(np.float32)
        yield SkeletonSequence(
            xyz, np.arange(3 + i) / 20, name=f"s{i}", label=i % 2, meta={"subject": i, "digest": str(i)}
        )


def raw_sequence(rng, name="raw", tracking=True):
    """Three bodies, ids that float64 can't tell apart, one that is lost and found again."""
    tracks = []
    for k in range(3):
        length = int(rng.integers(1, 8))
        slot = rng.integers(0, 3, length).astype(np.uint8)
        xyz = rng.standard_normal((length, 25, 3)).astype(np.float32)
        if length > 2:
            slot[1], xyz[1] = ABSENT_SLOT, 0
        states = rng.integers(0, 3, (length, 25)).astype(np.uint8) if tracking else None
        tracks.append(BodyTrack(2**56 + 1 + k, int(rng.integers(0, 4)), xyz, slot, states))
    return RawSequence(name, 1, 12, tuple(tracks), 30.0, "ntu25", {"setup": 3})


def same_raw(a, b):
    assert (a.name, a.label, a.frames, a.fps, a.layout, a.meta) == (b.name, b.label, b.frames, b.fps, b.layout, b.meta)
    assert [t.id for t in a.bodies] == [t.id for t in b.bodies]
    for one, other in zip(a.bodies, b.bodies, strict=True):
        assert one.first == other.first and np.array_equal(one.slot, other.slot)
        assert np.array_equal(one.xyz, other.xyz)
        assert (one.tracking is None) == (other.tracking is None)
        assert one.tracking is None or np.array_equal(one.tracking, other.tracking)


@pytest.mark.parametrize("persons", [1, 2])
def test_round_trip(tmp_path, persons):
    store = write_store(tmp_path / "a", "a", sequences(persons=persons), ["x", "y"], 20.0, about={"from": "here"})
    assert len(store) == 5 and store.classes == ["x", "y"] and store.header["about"] == {"from": "here"}
    for i, expected in enumerate(sequences(persons=persons)):
        found = store.sequence(i)
        assert np.array_equal(found.xyz, expected.xyz) and np.allclose(found.times, expected.times)
        assert (found.name, found.label, found.meta) == (expected.name, expected.label, expected.meta)
    assert list(store.indices_of(["s3", "nobody", "s1"])) == [1, 3]
    assert store.names == [f"s{i}" for i in range(5)] and store.damaged_files() == []
    assert store.column("subject").tolist() == [0, 1, 2, 3, 4] and store.column("digest").tolist() == list("01234")
    with pytest.raises(StoreError, match="it has digest, subject"):
        store.column("view")
    with pytest.raises(IndexError):
        store.sequence(5)


def test_raw_bodies_keep_exact_ids_slots_and_states(tmp_path):
    rng = np.random.default_rng(1)
    written = [raw_sequence(rng, "none", tracking=False)] + [raw_sequence(rng, f"r{i}") for i in range(4)]
    store = write_store(tmp_path / "a", "a", written, ["x", "y"], 30.0)
    assert store.raw(0).bodies[0].id != store.raw(0).bodies[1].id
    for i, expected in enumerate(written):
        same_raw(store.raw(i), expected)
        assert np.array_equal(store.sequence(i).xyz, expected.dense())


def test_absent_persons_keep_their_place_and_cost_nothing(tmp_path):
    xyz = np.zeros((6, 3, 25, 3), np.float32)
    xyz[2:4, 0], xyz[1, 2] = 1.0, 2.0
    store = write_store(tmp_path / "a", "a", [SkeletonSequence(xyz, np.arange(6.0))], ["x"], 1.0)
    assert len(store.rows) == 3 and store.body_length.tolist() == [2, 0, 1]
    assert np.array_equal(store.sequence(0).xyz, xyz)
    assert [body.first for body in store.raw(0).bodies] == [2, 1]


@FEW
@given(data=st.data(), half=st.booleans())
def test_any_sequences_come_back(tmp_path_factory, data, half):
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    written = []
    for _ in range(data.draw(st.integers(1, 4))):
        frames, persons = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3))
        xyz = rng.uniform(-1, 1, (frames, persons, 20, 3)).astype(np.float32) + np.float32([0.3, 0, 3])
        xyz[rng.random((frames, persons)) < 0.3] = 0
        meta = {"n": data.draw(st.integers(-(2**63) + 1, 2**63 - 1))} if data.draw(st.booleans()) else {}
        if data.draw(st.booleans()):
            meta["text"] = data.draw(texts)
        sequence = SkeletonSequence(xyz, np.arange(frames) / 7, "kinect20", name=data.draw(texts), meta=meta)
        sequence.label = data.draw(st.integers(-1, 2))
        written.append(sequence)
    store = write_store(tmp_path_factory.mktemp("s") / "a", "a", written, ["x", "y", "z"], 7.0, half=half)
    for i, expected in enumerate(written):
        found = store.sequence(i)
        assert (found.name, found.label, found.meta) == (expected.name, expected.label, expected.meta)
        assert np.array_equal(np.any(found.xyz != 0, axis=(2, 3)), np.any(expected.xyz != 0, axis=(2, 3)))
        # Bodies within 2.5 m of the origin: float16 rounds to steps of at most 2 mm, so by at most 1 mm.
        assert np.abs(found.xyz - expected.xyz).max() <= (1.01e-3 if half else 0)
    assert store.rows.dtype == (np.float16 if half else np.float32)


def test_half_precision_is_finer_near_the_origin_than_in_the_room(tmp_path):
    rng = np.random.default_rng(0)
    xyz = np.float32(rng.uniform(-0.2, 0.2, (30, 1, 25, 3)) + np.array([0, 0, 4]))
    store = write_store(tmp_path / "a", "a", [SkeletonSequence(xyz, np.arange(30.0))], ["x"], 1.0, half=True)
    assert np.abs(store.sequence(0).xyz - xyz).max() < 2.5e-4 < np.abs(xyz.astype(np.float16) - xyz).max()
    assert np.array_equal(store.origin[0], xyz[0, 0, 1])


def test_absent_meta_values(tmp_path):
    written = list(sequences(3))
    written[1].meta = {"subject": 7, "note": "b"}
    store = write_store(tmp_path / "a", "a", written, ["x", "y"], 20.0)
    assert [store.meta(i) for i in range(3)] == [s.meta for s in written]
    assert store.column("note").tolist() == ["", "b", ""] and store.column("digest").tolist() == ["0", "", "2"]
    assert ABSENT_INT not in store.column("subject")


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
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_store_without_its_header_is_unfinished(tmp_path):
    writer = StoreWriter(tmp_path / "a", ["x", "y"])
    for sequence in sequences():
        writer.append(sequence)
    assert (tmp_path / "a" / "rows.npy").exists()
    with pytest.raises(StoreError, match="no prepared store"):
        SequenceStore(tmp_path / "a")
    writer.close("a", 20.0)
    assert len(SequenceStore(tmp_path / "a")) == 5


def test_the_old_format_is_recognised(tmp_path):
    (tmp_path / "index.json").write_text('{"name": "old"}')
    np.save(tmp_path / "xyz.npy", np.zeros((3, 25, 3), np.float32))
    with pytest.raises(StoreError, match="older version; prepare it again"):
        SequenceStore(tmp_path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "store.json").write_text("{"), "damaged"),
        (lambda f: (f / "store.json").write_text("[1]"), "damaged"),
        (lambda f: _header(f, format=9), "format 9"),
        (lambda f: _header(f, layout="octopus"), "damaged"),
        (lambda f: (f / "label.npy").unlink(), "label.npy is missing"),
        (lambda f: (f / "rows.npy").write_bytes((f / "rows.npy").read_bytes()[:-4]), "bytes expected"),
        (lambda f: _column(f, "length", [1, 2, 3, 4, 5]), "does not fit"),
        (lambda f: _column(f, "body_start", [0, 3, 7, 12, 99]), "does not fit"),
        (lambda f: _column(f, "bodies", [1, 1, 1, 1, -1]), "does not fit|damaged"),
    ],
)
def test_damaged_store(tmp_path, harm, message):
    write_store(tmp_path / "a", "a", sequences(), ["x", "y"], 20.0)
    harm(tmp_path / "a")
    with pytest.raises(StoreError, match=message):
        SequenceStore(tmp_path / "a")


def _header(folder, **changes):
    path = folder / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _column(folder, name, values):
    np.save(folder / f"{name}.npy", np.array(values, np.int64))


def test_a_changed_byte_is_found_by_the_checksum(tmp_path):
    write_store(tmp_path / "a", "a", sequences(), ["x", "y"], 20.0)
    path = tmp_path / "a" / "rows.npy"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    assert SequenceStore(tmp_path / "a").damaged_files() == ["rows.npy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "label 2 of 2"),
        ({"name": "a\0b"}, "NUL"),
        ({"name": "\ud800"}, "not valid Unicode"),
        ({"meta": {"subject": "three"}}, "the others have 0"),
        ({"meta": {"../x": 1}}, "named like a variable"),
        ({"meta": {"x": 1.5}}, "an integer or a text"),
        ({"layout": "kinect20", "xyz": np.ones((2, 1, 20, 3))}, "layout kinect20"),
        ({"xyz": np.full((2, 1, 25, 3), np.nan)}, "not finite"),
        ({"xyz": np.zeros((0, 1, 25, 3))}, "nothing to keep"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_leaves_the_others_whole(tmp_path, change, message):
    writer = StoreWriter(tmp_path / "a", ["x", "y"])
    first = next(iter(sequences(1)))
    writer.append(first)
    values = {"xyz": np.ones((2, 1, 25, 3)), "name": "bad", "label": 0} | change
    with pytest.raises(StoreError, match=message):
        writer.append(SkeletonSequence(times=np.arange(len(values["xyz"])) / 20, **values))
    writer.close("a", 20.0)
    store = SequenceStore(tmp_path / "a")
    assert len(store) == 1 and np.array_equal(store.sequence(0).xyz, first.xyz)


def test_nothing_to_write(tmp_path):
    with pytest.raises(StoreError, match="no sequences"):
        write_store(tmp_path / "b", "b", iter(()), ["x"], 20.0)


@pytest.mark.parametrize("cuts", [[5], [1, 4], [1, 1, 3]])
def test_joined_parts_are_the_whole(tmp_path, cuts):
    rng = np.random.default_rng(3)
    written = [raw_sequence(rng, f"sequence{10**i}", tracking=i > 1) for i in range(5)]
    written[4].meta["note"] = "late"
    whole = write_store(tmp_path / "whole", "a", written, ["x", "y"], 30.0)
    parts, begin = [], 0
    for k, count in enumerate(cuts):
        parts.append(tmp_path / f"part{k}")
        write_store(parts[-1], "a", written[begin : begin + count], ["x", "y"], 30.0)
        begin += count
    join_stores(parts, tmp_path / "joined", "a")
    joined = SequenceStore(tmp_path / "joined")
    assert joined.header == whole.header
    for i, expected in enumerate(written):
        same_raw(joined.raw(i), expected)


def big_store(folder, sequences=56_578, frames=84):
    """The index of NTU-60 with rows that are a hole in the file: 1.4 GB that need no disk."""
    bodies = np.ones(sequences, np.int64)
    bodies[:11_000] = 2
    length = np.full(sequences, frames, np.int64)
    body_length = np.repeat(length, bodies)
    columns = {
        "length": length,
        "label": np.arange(sequences) % 60,
        "bodies": bodies,
        "first_body": np.cumsum(bodies) - bodies,
        "body_first": np.zeros(len(body_length), np.int64),
        "body_length": body_length,
        "body_start": np.cumsum(body_length) - body_length,
        "names": np.array([f"S001C001P{i:06d}R001A001" for i in range(sequences)], "S"),
        "meta_setup": np.arange(sequences) % 17,
        "meta_camera": np.arange(sequences) % 3,
        "meta_performer": np.arange(sequences) % 40,
        "meta_replication": np.arange(sequences) % 2,
    }
    folder.mkdir()
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    rows = int(body_length.sum())
    with (folder / "rows.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, 25, 3)})
        file.truncate(file.tell() + rows * 300)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": ""} for path in folder.glob("*.npy")}
    header = {"format": 2, "name": "ntu60", "variant": "", "layout": "ntu25", "fps": 30.0, "files": files}
    header |= {"classes": [str(i) for i in range(60)], "meta": ["setup", "camera", "performer", "replication"]}
    (folder / "store.json").write_text(json.dumps(header))
    return rows


def test_a_store_of_the_size_of_ntu60_opens_without_reading_it(tmp_path):
    rows = big_store(tmp_path / "ntu60")
    tracemalloc.start()
    store = SequenceStore(tmp_path / "ntu60")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(store) == 56_578 and store.rows.shape == (rows, 25, 3)
    assert peak < 16e6
    assert "names" not in vars(store) and "_meta" not in vars(store)
    last = store.sequence(len(store) - 1)
    assert last.name == "S001C001P056577R001A001" and last.xyz.shape == (84, 1, 25, 3) and last.meta["setup"] == 1


def resident():
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        return 1024 * int(next(line for line in file if line.startswith("Rss:")).split()[1])


def test_walking_through_a_big_store_gives_the_memory_back(tmp_path):
    try:
        before = resident()
    except OSError:
        pytest.skip("this system does not tell resident memory in /proc")
    big_store(tmp_path / "ntu60")
    store = SequenceStore(tmp_path / "ntu60")
    order = np.random.default_rng(0).permutation(len(store))[:5_000]
    most = 0
    for k, i in enumerate(order):
        store.sequence(int(i))
        if k % 500 == 0:
            most = max(most, resident() - before)
    # 5,000 sequences are 150 MB of rows, several times that with what the kernel maps around them.
    assert most < 200e6
    view = store.rows[:1000]
    assert not view.any()
    store.release()
    assert resident() - before < 60e6


def test_a_filmed_set_that_is_not_there_is_to_be_filmed(tmp_path):
    with pytest.raises(StoreError, match="data film utkinect makes"):
        SequenceStore(tmp_path / "utkinect_mediapipe")
