"""The NW-UCLA reader: names, labels, shapes, and what is refused."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.bodies import RawDataError
from engine.data.readers.nw_ucla import FILES, action_codes, open_nw_ucla, parse_nw_ucla
from tests.engine.data.synthetic import moving_body, nw_ucla_file, nw_ucla_names, write_folder, write_nw_ucla
from tests.shared_data import shared

NAME = "a08_s01_e01_v03"


def everything(source):
    return [sequence for item in source.items for sequence in source.read(item)]


def text(**changes):
    found = json.loads(nw_ucla_file(NAME, 4)[1]) | changes
    return json.dumps({key: value for key, value in found.items() if value is not None}).encode()


def test_zip_folder_and_folder_with_the_zip(tmp_path):
    names = nw_ucla_names((1, 3))
    path = write_nw_ucla(tmp_path / "in/all_sqe.zip", names)
    write_folder(tmp_path / "out", (nw_ucla_file(name, 5, i) for i, name in enumerate(names)))
    for root in (path, path.parent, tmp_path / "out"):
        found = everything(open_nw_ucla(root))
        assert [s.name for s in found] == sorted(names)
        assert {s.layout for s in found} == {"kinect20"} and {s.fps for s in found} == {30.0}
        assert [s.label for s in found] == [action_codes().index(int(s.name[1:3])) for s in found]
        one = found[sorted(names).index("a08_s03_e01_v02")]
        assert (one.label, one.meta["subject"], one.meta["episode"], one.meta["view"]) == (6, 3, 1, 2)
        expected = moving_body(5, names.index(one.name))[:, :20].round(6).astype(np.float32)
        assert one.dense()[:, 0].tobytes() == expected.tobytes()


def test_digest_tells_exact_copies():
    same = parse_nw_ucla(text(), NAME).meta["digest"]
    other = json.loads(text())
    assert parse_nw_ucla(text(), NAME).meta["digest"] == same
    other["skeletons"][0][0][0] += 0.001
    assert parse_nw_ucla(json.dumps(other).encode(), NAME).meta["digest"] != same


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (text(label=8), "not action a08"),
        (text(label=True), "not action"),
        (text(label="7"), "not action"),
        (text(label=None), "damaged"),
        (text(file_name="a08_s01_e01_v02"), "calls itself"),
        (text(skeletons=[]), "list of 1 to"),
        (text(skeletons=[[[0, 0, 0]] * 19]), r"shape \(1, 19, 3\)"),
        (text(skeletons=[[[0, 0, 0]] * 20, [[0, 0, 0]] * 19]), "damaged"),
        (text(skeletons=[[["0", "0", "0"]] * 20]), "numbers"),
        (text(skeletons=[[[True, 0, 0]] * 20]).replace(b"0", b"false"), "damaged|numbers"),
        (text(skeletons=[[[10**400, 0, 0]] * 20]), "damaged"),
        (text(skeletons=[[[float("nan"), 0, 0]] * 20]), "not finite"),
        (text(skeletons=[[[1e39, 0, 0]] * 20]), "not finite"),
        (text()[:-30], "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[1]", "damaged"),
        (b"null", "damaged"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_damaged_files(data, message):
    with pytest.raises(RawDataError, match=message):
        parse_nw_ucla(data, NAME)


@pytest.mark.parametrize(
    "name", ["a07_s01_e01_v03", "a10_s01_e01_v01", "a01_s11_e00_v01", "a01_s01_e00_v04", "a1_s1_e1_v1"]
)
def test_names_that_do_not_exist(name):
    with pytest.raises(RawDataError, match=r"no such|not a name"):
        parse_nw_ucla(text(), name)


def test_errors_name_the_file(tmp_path):
    with pytest.raises(RawDataError, match="no NW-UCLA files"):
        open_nw_ucla(tmp_path)
    write_folder(tmp_path, [(f"{NAME}.json", b"{")])
    with pytest.raises(RawDataError, match="^" + re.escape(f"{tmp_path}/{NAME}.json: damaged")):
        everything(open_nw_ucla(tmp_path))
    (tmp_path / f"{NAME}.json").write_bytes(bytes(5 << 20))
    with pytest.raises(RawDataError, match="too big"):
        everything(open_nw_ucla(tmp_path))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_files_raise_only_the_readers_error(data):
    content = bytearray(text())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        piece = st.one_of(st.binary(max_size=3), st.sampled_from([b"[", b"]", b"1e999", b"NaN", b"null", b"{}", b","]))
        content[at : at + data.draw(st.sampled_from([0, 1, 2, 50]))] = data.draw(piece)
    try:
        parse_nw_ucla(bytes(content), NAME)
    except RawDataError:
        pass


def test_real_archive_is_complete_and_its_copies_are_the_known_ones():
    found = everything(open_nw_ucla(shared("nw_ucla/all_sqe.zip")))
    assert len(found) == FILES and sum(s.frames for s in found) == 58534
    assert sum(s.meta["view"] != 3 for s in found) == 1020
    assert min(s.frames for s in found) == 1 and max(s.frames for s in found) == 201
    by_digest = {}
    for sequence in found:
        by_digest.setdefault(sequence.meta["digest"], []).append(sequence.name)
    copies = {tuple(sorted(names)) for names in by_digest.values() if len(names) > 1}
    listed = shared("nw_ucla/duplicates.txt").read_text().splitlines()
    assert copies == {tuple(line.split()) for line in listed if line.strip()} and len(copies) == 95
