"""The NTU reader against a token-by-token reading of the grammar, the specification's checks, and hostile files."""

import pickle
import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.bodies import ABSENT_SLOT, RawDataError
from engine.data.ntu_names import missing_names
from engine.data.readers import ntu
from engine.data.readers import skeleton_text as skeleton_file
from engine.data.readers.archive import read_file
from engine.data.readers.ntu import open_ntu, parse_skeleton
from tests.engine.data.synthetic import (
    FIRST_ID,
    Body,
    moving_body,
    ntu_files,
    ntu_names,
    performance,
    skeleton_text,
    write_folder,
    write_ntu_zips,
    write_zip,
)
from tests.shared_data import shared

NAME = "S001C002P003R002A013"
LONG = "S018C001P008R001A061"


def slow_read(data):
    """Grammar of datasets.md, 1.3, one token after the other: per frame a list of (id, xyz, states)."""
    tokens = iter(data.decode().split())
    frames = []
    for _ in range(int(next(tokens))):
        bodies = []
        for _ in range(int(next(tokens))):
            header = [next(tokens) for _ in range(10)]
            joints = [[next(tokens) for _ in range(12)] for _ in range(int(next(tokens)))]
            xyz = np.array([[np.float32(float(v)) for v in joint[:3]] for joint in joints], np.float32)
            bodies.append((int(header[0]), xyz, [int(joint[11]) for joint in joints]))
        frames.append(bodies)
    assert next(tokens, None) is None
    return frames


def check_against(sequence, frames):
    order = list(dict.fromkeys(identity for bodies in frames for identity, _, _ in bodies))
    assert [track.id for track in sequence.bodies] == order and sequence.frames == len(frames)
    for track in sequence.bodies:
        seen = {
            t: (slot, xyz, states)
            for t, bodies in enumerate(frames)
            for slot, (identity, xyz, states) in enumerate(bodies)
            if identity == track.id
        }
        assert track.first == min(seen) and track.first + len(track.xyz) == max(seen) + 1
        assert track.xyz.dtype == np.float32 and track.tracking.dtype == track.slot.dtype == np.uint8
        for i in range(len(track.xyz)):
            slot, xyz, states = seen.get(track.first + i, (ABSENT_SLOT, np.zeros((25, 3), np.float32), [0] * 25))
            assert track.slot[i] == slot and track.xyz[i].tobytes() == xyz.tobytes()
            assert track.tracking[i].tolist() == list(states)


def same(a, b):
    assert (a.name, a.label, a.frames, a.meta, len(a.bodies)) == (b.name, b.label, b.frames, b.meta, len(b.bodies))
    for x, y in zip(a.bodies, b.bodies):
        assert (x.id, x.first) == (y.id, y.first)
        assert x.xyz.tobytes() == y.xyz.tobytes()
        assert np.array_equal(x.slot, y.slot) and np.array_equal(x.tracking, y.tracking)


def coming_and_going(seed=1):
    """Bodies that appear late, vanish, return, swap places; frames without anybody."""
    a, b, c = (moving_body(9, seed + i) for i in range(3))
    shown = [[], [0], [0, 1], [1, 0], [1], [], [0, 1, 2], [2], [0]]
    states = [0, 1, 2] * 8 + [2]
    return [[Body(FIRST_ID + m, (a, b, c)[m][t], states) for m in present] for t, present in enumerate(shown)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_against_the_slow_reader(newline):
    data = skeleton_text(coming_and_going(), newline)
    assert skeleton_file.parse_whole(data) is not None
    check_against(parse_skeleton(data, NAME), slow_read(data))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_size_of_blocks_makes_no_difference(monkeypatch, newline):
    data = skeleton_text(coming_and_going(3), newline)
    expected = parse_skeleton(data, NAME)
    for size in (150, 151, 777, 5000, len(data) - 1, len(data)):
        monkeypatch.setattr(skeleton_file, "_BLOCK_BYTES", size)
        assert skeleton_file.parse_whole(data) is not None
        same(parse_skeleton(data, NAME), expected)
        assert skeleton_file.parse_whole(data.replace(b" ", b"  ", 1)) is None
    monkeypatch.setattr(skeleton_file, "_BLOCK_BYTES", 50)  # shorter than a line
    same(parse_skeleton(data, NAME), expected)


def test_facts_from_the_name():
    sequence = parse_skeleton(performance(4), NAME + ".skeleton")
    assert (sequence.name, sequence.label, sequence.fps, sequence.layout) == (NAME, 12, 30.0, "ntu25")
    assert sequence.meta["camera"] == 2 and sequence.meta["subject"] == 3


def test_empty_frames_and_line_counts():
    data = skeleton_text([[], [Body(FIRST_ID, moving_body(1)[0])]], "\n")
    assert data.count(b"\n") == 1 + 1 + (1 + 2 + 25)
    sequence = parse_skeleton(data, NAME)
    assert sequence.frames == 2 and len(sequence.bodies) == 1 and sequence.bodies[0].first == 1
    assert performance(7).count(b"\n") == 1 + 28 * 7
    nobody = parse_skeleton(b"2\n0\n0\n", NAME)
    assert nobody.frames == 2 and nobody.bodies == ()


def test_ids_that_float64_can_not_tell_apart():
    first, second = FIRST_ID, FIRST_ID + 1
    assert float(first) == float(second)
    xyz = moving_body(3)
    data = skeleton_text([[Body(first, xyz[0]), Body(second, xyz[1])], [Body(second, xyz[2])]])
    assert [track.id for track in parse_skeleton(data, NAME).bodies] == [first, second]
    biggest = skeleton_text([[Body(2**64 - 1, xyz[0])]])
    assert parse_skeleton(biggest, NAME).bodies[0].id == 2**64 - 1
    with pytest.raises(RawDataError, match="64-bit"):
        parse_skeleton(skeleton_text([[Body(2**64, xyz[0])]]), NAME)


def test_line_ends_and_blanks_make_no_difference():
    data = skeleton_text(coming_and_going(), "\n")
    expected = parse_skeleton(data, NAME)
    windows = data.replace(b"\n", b"\r\n")
    for other in (
        windows,
        data[:-1],
        windows[:-2],
        windows[:-1],
        data + b"\n \n\r\n",
        data.replace(b" ", b"  "),
        data.replace(b" ", b"\t"),
        data.replace(b"\n", b" \n"),
        data.replace(b"\n", b"\r\n", 5),
        b" " + data,
    ):
        same(parse_skeleton(other, NAME), expected)


def test_joint_order_is_token_order():
    xyz = np.zeros((25, 3))
    xyz[:, 0] = np.arange(25)
    assert parse_skeleton(skeleton_text([[Body(FIRST_ID, xyz)]]), NAME).bodies[0].xyz[0, 20, 0] == 20


def test_nan_where_nobody_looks_and_where_it_matters():
    data = skeleton_text([[Body(FIRST_ID, moving_body(1)[0])]], "\n")
    lines = data.split(b"\n")
    joint = lines[10].split(b" ")
    unused = b"\n".join([*lines[:10], b" ".join([*joint[:5], b"NaN", b"NaN", *joint[7:]]), *lines[11:]])
    same(parse_skeleton(unused, NAME), parse_skeleton(data, NAME))
    for axis, word in enumerate((b"NaN", b"-inf", b"1e39")):
        used = b"\n".join([*lines[:10], b" ".join([*joint[:axis], word, *joint[axis + 1 :]]), *lines[11:]])
        with pytest.raises(
            RawDataError, match=re.escape(f"line 11: {'xyz'[axis]} of a joint is '{word.decode()}', not a")
        ):
            parse_skeleton(used, NAME)


def change(line, to):
    """Replace a line (from 1) of a two-frame file."""

    def act(lines):
        lines[line - 1] = to(lines[line - 1]) if callable(to) else to
        return lines

    return act


DAMAGE = {
    "eleven values in a joint": (change(8, lambda s: s.rpartition(b" ")[0]), "line 8: 11 values"),
    "thirteen values in a joint": (change(8, lambda s: s + b" 2"), "line 8: 13 values"),
    "nine values in a header": (change(3, lambda s: s.rpartition(b" ")[0]), "line 3: 9 values"),
    "24 joints": (change(4, b"24"), "line 4: a body without exactly 25 joints"),
    "text for x": (change(8, lambda s: b"left" + s[s.find(b" ") :]), "line 8: x of a joint is 'left'"),
    "python's underscore": (change(8, lambda s: b"1_0" + s[s.find(b" ") :]), "line 8: x of a joint is '1_0'"),
    "state 3": (change(8, lambda s: s[:-1] + b"3"), "line 8: tracking state '3'"),
    "negative id": (change(3, lambda s: b"-" + s), "line 3: the id"),
    "id as a float": (change(3, lambda s: b"7.2e16" + s[s.find(b" ") :]), "line 3: the id"),
    "seven bodies": (change(2, b"7"), "line 2: '7' where the number of bodies"),
    "negative bodies": (change(2, b"-1"), "line 2: '-1'"),
    "too many frames": (change(1, b"100001"), "line 1: '100001' where the number of frames"),
    "very many frames": (change(1, b"9" * 5000), "line 1: '99999999999999999999'"),
    "no frames": (change(1, b"0"), "line 1: a recording without frames"),
    "a frame fewer": (change(1, b"1"), "line 30: content behind the last of 1 frames"),
    "a frame more": (change(1, b"3"), "line 58: the file ends where the number of bodies"),
    "a blank line inside": (change(8, lambda s: b"\n" + s), "line 8: 0 values"),
    "words behind": (lambda lines: [*lines, b"", b"end"], "line 59: content behind|line 60: content behind"),
    "a byte mark": (change(1, lambda s: b"\xef\xbb\xbf" + s), "line 1"),
    "nothing": (lambda lines: [], "line 1: the file ends"),
}


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(("act", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_with_file_and_line(act, message, newline):
    lines = performance(2).replace(b"\r", b"").split(b"\n")[:-1]
    data = newline.join(act(lines)) + newline
    with pytest.raises(RawDataError, match=f"^{NAME}.skeleton, ({message})"):
        parse_skeleton(data, NAME)


def test_truncation_at_every_line_and_many_bytes():
    data = performance(2)
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    for number, end in enumerate(ends[:-1], 1):
        with pytest.raises(RawDataError, match=rf"{NAME}.skeleton, line {number + 1}: the file ends where"):
            parse_skeleton(data[:end], NAME)
    for end in range(0, len(data) - 3, 11):
        with pytest.raises(RawDataError, match=rf"^{NAME}.skeleton, line \d+: "):
            parse_skeleton(data[:end], NAME)


def test_one_body_twice_in_a_frame():
    xyz = moving_body(2)
    with pytest.raises(RawDataError, match=r"frame 1 .* twice"):
        parse_skeleton(skeleton_text([[], [Body(FIRST_ID, xyz[0]), Body(FIRST_ID, xyz[1])]]), NAME)


def test_memory_of_many_far_flung_bodies_is_bounded(monkeypatch):
    xyz = moving_body(1)[0]
    frames = [[Body(FIRST_ID + m, xyz) for m in (0, 1, 2)], *[[]] * 30, [Body(FIRST_ID + m, xyz) for m in (0, 1, 2)]]
    monkeypatch.setattr(ntu, "MAX_TRACKED_FRAMES", 95)
    with pytest.raises(RawDataError, match="not a recording of people"):
        parse_skeleton(skeleton_text(frames), NAME)


def test_name_must_be_one():
    with pytest.raises(RawDataError, match="not the name"):
        parse_skeleton(performance(1), "clip7.skeleton")


# Archives --------------------------------------------------------------------------------------------------------


def everything(source):
    return [sequence for item in source.items for sequence in source.read(item)]


def test_zips_and_folders_as_published(tmp_path):
    names = ntu_names("ntu120", performers=(8,), cameras=(1,), actions=(1, 50, 61, 120))
    first = [name for name in names if name < "S018"]
    write_ntu_zips(tmp_path / "zips", names, frames=2)
    write_folder(tmp_path / "folder", (("x/" + name, data) for name, data in ntu_files(names, 2)))
    usable = [name for name in names if name not in missing_names("ntu120")]
    for root in (tmp_path / "zips", tmp_path / "folder"):
        source = open_ntu(root, "ntu120")
        found = everything(source)
        assert [sequence.name for sequence in found] == usable and set(source.excluded) == set(names) - set(usable)
        assert [len(s.bodies) for s in found] == [2 if s.label in (49, 119) else 1 for s in found]
        source = open_ntu(root, "ntu60")
        assert [s.name for s in everything(source)] == [name for name in usable if name < "S018"]
    half = open_ntu(tmp_path / "zips/nturgbd_skeletons_s001_to_s017.zip", "ntu60")
    assert [s.name for s in everything(half)] == [name for name in first if name in usable]
    with pytest.raises(RawDataError, match="no usable files of ntu60"):
        open_ntu(tmp_path / "zips/nturgbd_skeletons_s018_to_s032.zip", "ntu60")
    with pytest.raises(ValueError, match="known: ntu60, ntu120"):
        open_ntu(tmp_path / "zips", "ntu90")


def test_damaged_names_are_excluded_and_absent_ones_missing(tmp_path):
    names = [name for name in ntu_names("ntu60", performers=(5,)) if name[:4] == "S001"]
    assert len(names) == 360 and "S001C002P005R002A008" in names
    absent = {"S001C001P005R001A001", "S001C003P005R002A060"}
    write_folder(tmp_path, ntu_files(sorted(set(names) - absent), 1, 1))
    source = open_ntu(tmp_path, "ntu60")
    damaged = set(names) & missing_names("ntu60")
    assert "S001C002P005R002A008" in source.excluded and set(source.excluded) == damaged
    assert set(source.missing) == absent and len(source.items) == 360 - 2 - len(damaged)


def test_reading_in_worker_processes_and_errors_that_name_the_file(tmp_path):
    names = ntu_names("ntu60", performers=(1,), cameras=(2,), replications=(1,), damaged=False)[:40]
    files = list(ntu_files(names, 3))
    files[7] = (files[7][0], files[7][1][:-30])
    path = write_zip(tmp_path / "part.zip", files, "nturgb+d_skeletons/")
    source = open_ntu(path, "ntu60")
    assert len(pickle.dumps(source.read)) < 1000
    good = [item for i, item in enumerate(source.items) if i != 7]
    with ProcessPoolExecutor(2) as pool:
        found = [s for chunk in pool.map(_read_all, [source.read] * 2, [good[::2], good[1::2]]) for s in chunk]
    assert sorted(s.name for s in found) == [name for i, name in enumerate(names) if i != 7]
    place = re.escape(f"{path}!/nturgb+d_skeletons/{names[7]}.skeleton, line ")
    with pytest.raises(RawDataError, match=f"^{place}"):
        list(source.read(source.items[7]))


def _read_all(read, items):
    return [sequence for item in items for sequence in read(item)]


def test_nothing_there(tmp_path):
    with pytest.raises(RawDataError, match="no NTU RGB"):
        open_ntu(tmp_path, "ntu60")


# Hostile files ---------------------------------------------------------------------------------------------------

PIECES = [b" ", b"\n", b"\r\n", b"nan", b"1e999", b"-", b"0", b"25", b"3", b"999999999999999999999", b"\x00", b"\xff"]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_fast_and_careful_reader_agree_on_mutated_files(data):
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    text = bytearray(skeleton_text(coming_and_going()[:3], newline))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        drop = data.draw(st.sampled_from([0, 0, 1, 1, 2, 40]))
        text[at : at + drop] = data.draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)))
    text = bytes(text)
    try:
        careful = skeleton_file.parse_lines(text, "x")
    except RawDataError:
        assert skeleton_file.parse_whole(text) is None
        with pytest.raises(RawDataError):
            parse_skeleton(text, NAME)
        return
    whole = skeleton_file.parse_whole(text)
    if whole is not None:
        assert list(whole[0]) == list(careful[0]) and list(whole[1]) == list(careful[1])
        assert whole[2].tobytes() == careful[2].tobytes() and whole[3].tobytes() == careful[3].tobytes()
    try:
        parse_skeleton(text, NAME)
    except RawDataError as error:
        assert "twice" in str(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=300), st.text("0123456789 .-\n\r", max_size=300).map(str.encode)))
def test_any_bytes(data):
    try:
        assert parse_skeleton(data, NAME).frames > 0
    except RawDataError:
        pass


# Real files ------------------------------------------------------------------------------------------------------


def test_real_files_parse_and_the_fast_path_takes_all_of_them():
    path = shared("ntu_raw/nturgbd_skeletons_subset.zip")
    source = open_ntu(path, "ntu120")
    assert len(source.items) == 203 and not source.excluded
    found = everything(source)
    assert len({s.label for s in found}) == 79
    assert (min(s.frames for s in found), max(s.frames for s in found)) == (36, 158)
    assert {len(s.bodies) for s in found} <= {1, 2, 3}
    for item, sequence in list(zip(source.items, found))[::10]:
        data = read_file(path, item)
        assert skeleton_file.parse_whole(data) is not None
        check_against(sequence, slow_read(data))


def test_real_pair_file():
    data = shared("ntu_pair/S001C001P001R001A001.skeleton").read_bytes()
    sequence = parse_skeleton(data, "S001C001P001R001A001")
    assert sequence.frames == 103 and sequence.label == 0
    check_against(sequence, slow_read(data))
