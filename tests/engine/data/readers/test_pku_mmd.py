"""The PKU-MMD reader: texts, labels, cutting rules, splits, both layouts of both parts, and cut clips."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.bodies import ABSENT_SLOT, RawDataError
from engine.data.readers.pku_mmd import open_pku, pku_classes
from engine.data.readers.pku_texts import (
    bodies_of,
    cut,
    parse_clip,
    parse_labels,
    parse_rows,
    parse_split,
    xsub_by_rule,
)
from tests.engine.data.synthetic import (
    PKU_LACKING_CLASSES,
    moving_body,
    pku_label_text,
    pku_labels,
    pku_rows,
    pku_split_files,
    pku_split_text,
    pku_stems,
    pku_xsub_test,
    reduced_clip,
    write_folder,
    write_pku,
    write_zip,
)
from tests.shared_data import shared


def line_of(values):
    return b" ".join(b"%d" % v for v in values)


def everything(source):
    return [sequence for item in source.items for sequence in source.read(item)]


# Texts -----------------------------------------------------------------------------------------------------------


def test_order_of_the_150_numbers():
    numbers = np.zeros((2, 25, 3), int)
    numbers[..., 0] = 100 * np.arange(2)[:, None] + np.arange(25)
    rows = parse_rows(b"  " + line_of(numbers.ravel()) + b"\n", "x")
    assert rows.shape == (1, 2, 25, 3) and rows.dtype == np.float32
    for b in range(2):
        for j in range(25):
            assert rows[0, b, j, 0] == 100 * b + j


@pytest.mark.parametrize(
    "change", [lambda d: d, lambda d: d.replace(b"\n", b"\r\n"), lambda d: d[:-1], lambda d: d + b"\n"]
)
def test_rows_are_bit_for_bit_what_float_gives(change):
    data = pku_rows(20, (True, True), 3, lead=" ")
    expected = np.array([[np.float32(float(v)) for v in line.split()] for line in data.splitlines()], np.float32)
    assert parse_rows(change(data), "x").tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (line_of(range(149)), "line 2: 149 numbers, expected 150"),
        (line_of(range(151)), "line 2: 151 numbers"),
        (b"", "line 2: 0 numbers"),
        (line_of(range(149)) + b" left", "line 2: number 150 is not a finite number"),
        (b"nan " + line_of(range(149)), "line 2: number 1 is not"),
        (b"1e39 " + line_of(range(149)), "line 2: number 1 is not"),
    ],
)
def test_bad_rows(line, message):
    good = line_of(range(150))
    with pytest.raises(RawDataError, match=f"^0002-L.txt, {message}"):
        parse_rows(b"\n".join([good, line, good, b""]), "0002-L.txt")


def test_empty_text():
    for data in (b"", b"\n", b" \r\n "):
        with pytest.raises(RawDataError, match="0 frames"):
            parse_rows(data, "x")


def test_labels():
    found = parse_labels(b"18,40,30,2\r\n\n 1 , 0 , 5 , 1 \n", "x")
    assert found[0][:4] == (18, 30, 40, 2) and found[0].label - 1 == 17 and found[0].line == 1
    assert found[1] == (1, 0, 5, 1, 3)
    for bad in (
        b"0,1,2,1",
        b"52,1,2,1",
        b"1,2,3",
        b"1,-2,3,1",
        b"1,2.5,3,1",
        b"1,2,3,1,",
        b"a,1,2,3",
        b"1," + b"9" * 4400,
    ):
        with pytest.raises(RawDataError, match=r"^x, line 2"):
            parse_labels(b"1,2,3,1\n" + bad, "x")


def test_cutting_rules():
    rules = {"aimclr": (9, 11), "cmd": (10, 10), "closed": (10, 11), "clamp": (10, 10)}
    for rule, (first, length) in rules.items():
        a, b = cut(10, 20, 100, rule)
        assert (a, b - a) == (first, length)
        assert cut(20, 10, 100, rule) == (a, b)
        # A start of 0 is no empty clip, an end beyond the file is its end, a start beyond it the last frame.
        assert cut(0, 0, 100, rule) == (0, 1)
        assert cut(90, 500, 100, rule)[1] == 100 and cut(200, 500, 100, rule) == (99, 100)
    # i2md.md, 1.1: CMD keeps the first 300 frames of a clip.
    assert cut(10, 309, 900, "cmd") == (10, 309) and cut(10, 311, 900, "cmd") == (10, 310)
    assert cut(0, 5000, 900, "cmd") == (0, 300) and cut(0, 5000, 900) == (0, 900)
    with pytest.raises(ValueError, match="known: clamp"):
        cut(1, 2, 3, "other")


@given(
    st.integers(0, 800), st.integers(0, 800), st.integers(1, 700), st.sampled_from(["clamp", "aimclr", "cmd", "closed"])
)
def test_no_clip_is_empty_or_outside(start, end, frames, rule):
    a, b = cut(start, end, frames, rule)
    assert 0 <= a < b <= frames


def test_split_text():
    train, test = ["0002-L", "0003-M"], ["0291-M"]
    for comma in (True, False):
        found = parse_split(pku_split_text(train, test, comma), "x")
        assert found == {"0002-L": 1, "0003-M": 1, "0291-M": 0}
    for bad, message in (
        (b"Training\n0002-L\n", "2 lines"),
        (b"a\n0002-L\nb\n0002-L\n", "both lists"),
        (b"a\n0002-X\nb\n0002-L\n", "'0002-X' is not"),
        (b"\xff\xfe", "1 lines"),
    ):
        with pytest.raises(RawDataError, match=message):
            parse_split(bad, "x")


def test_published_test_parts_and_counts():
    expected = {"0291-M": 0, "0334-R": 0, "0290-L": 1, "0335-L": 1, "A10N03-R": 0, "A10N04-R": 1}
    assert {stem: xsub_by_rule(stem) for stem in expected} == expected
    with pytest.raises(ValueError, match="not the name"):
        xsub_by_rule("0291")
    counts = {part: [xsub_by_rule(stem) for stem in pku_stems(part)] for part in (1, 2)}
    assert len(counts[1]) == 359 * 3 - 1 == 1076 and counts[1].count(0) == 44 * 3 == 132
    assert len(counts[2]) == 26 * 13 * 3 - 5 == 1009 and counts[2].count(0) == 26 * 3 * 3 == 234
    assert all(xsub_by_rule(s) == (not pku_xsub_test(s)) for part in (1, 2) for s in pku_stems(part))
    lists = {kind: parse_split(data, kind) for kind, data in pku_split_files(1)}
    assert [list(found.values()).count(0) for found in lists.values()] == [132, 359]
    assert len(pku_classes()) == 51


def test_slots_become_tracks():
    xyz = np.zeros((6, 2, 25, 3), np.float32)
    xyz[2:5, 0] = 1
    xyz[1, 1] = xyz[4, 1] = 2
    second, first = bodies_of(xyz)
    assert (second.id, second.first, second.slot.tolist()) == (1, 1, [1, ABSENT_SLOT, ABSENT_SLOT, 1])
    assert (first.id, first.first, first.slot.tolist()) == (0, 2, [0, 0, 0])
    assert np.array_equal(second.xyz, xyz[1:5, 1]) and second.tracking is None
    assert bodies_of(np.zeros((3, 2, 25, 3), np.float32)) == ()


# Trees -----------------------------------------------------------------------------------------------------------

STEMS = {1: ["0002-L", "0060-M", "0291-R"], 2: ["A01N02-L", "A01N04-M", "A26N13-R"]}


@pytest.mark.parametrize("rearranged", [False, True], ids=["archives", "rearranged"])
@pytest.mark.parametrize("part", [1, 2])
def test_trees_of_both_parts(tmp_path, part, rearranged):
    for p in (1, 2):  # side by side: the names tell them apart
        write_pku(tmp_path, p, STEMS[p], frames=30, rearranged=rearranged)
    source = open_pku(tmp_path, part)
    assert source.items == tuple(STEMS[part]) and not source.missing
    assert len(pickle.dumps(source.read)) < 200_000
    found = everything(source)
    assert len(found) == 9
    for v, stem in enumerate(STEMS[part]):
        rows = pku_rows(30, (True, v % 3 == 0), v)
        expected = np.array([line.split() for line in rows.splitlines()], np.float64).astype(np.float32)
        for i, (label, start, end, confidence) in enumerate(pku_labels(30, part, v)):
            clip = found[3 * v + i]
            assert clip.name == f"{stem}_{i + 1:03d}" and clip.label == label - 1 and clip.fps == 30
            assert clip.dense(2)[:, :1].tobytes() == expected[start:end].reshape(-1, 2, 25, 3)[:, :1].tobytes()
            assert len(clip.bodies) == 1 + (v % 3 == 0)
            assert clip.meta == {
                "stem": stem, "view": "LMR".index(stem[-1]) + 1, "line": i + 1, "start": start, "end": end,
                "confidence": confidence, "cutting": "clamp", "xsub_train": int(not pku_xsub_test(stem)),
                "xview_train": int(stem[-1] != "M"), "subject": int(stem[4:6]) if part == 2 else -1,
                "scene" if part == 2 else "video": int(stem[1:3]) if part == 2 else int(stem[:4]),
            }  # fmt: skip
            if part == 2:
                assert label not in PKU_LACKING_CLASSES
    lengths = {
        rule: [s.frames for s in everything(open_pku(tmp_path, part, rule))][:2] for rule in ("aimclr", "closed")
    }
    assert lengths == {"aimclr": [9, 10], "closed": [10, 10]}


def test_zip_of_a_tree_reads_the_same(tmp_path):
    write_pku(tmp_path / "tree", 1, STEMS[1], rearranged=True)
    files = [(str(p.relative_to(tmp_path / "tree")), p.read_bytes()) for p in (tmp_path / "tree").rglob("*.txt")]
    path = write_zip(tmp_path / "pku.zip", files)
    assert [s.meta for s in everything(open_pku(path, 1))] == [
        s.meta for s in everything(open_pku(tmp_path / "tree", 1))
    ]


def test_folders_that_do_not_say_what_they_hold(tmp_path):
    rows, labels = pku_rows(10), pku_label_text([(5, 2, 6, 1)])
    write_folder(tmp_path, [("one/0002-L.txt", labels), ("two/0002-L.txt", rows)])
    (clip,) = everything(open_pku(tmp_path, 1))
    assert (clip.label, clip.frames, clip.meta["xsub_train"], clip.meta["xview_train"]) == (4, 4, 1, -1)


def test_videos_without_partner_are_missing_and_stems_not_listed_unknown(tmp_path):
    write_pku(tmp_path, 1, STEMS[1])
    (tmp_path / "PKU_Skeleton_Renew/0060-M.txt").unlink()
    (tmp_path / "Train_Label_PKU_final/0002-L.txt").unlink()
    (tmp_path / "cross-subject.txt").write_bytes(pku_split_text(["0002-L"], ["0291-L"]))
    source = open_pku(tmp_path, 1)
    assert source.items == ("0291-R",) and source.missing == ("0002-L (no labels)", "0060-M (no skeletons)")
    assert {s.meta["xsub_train"] for s in everything(source)} == {-1}


def test_a_clip_in_which_nobody_is_seen_has_no_bodies(tmp_path):
    rows = pku_rows(5, (False, False)) + pku_rows(5)
    write_folder(tmp_path, [("skeleton/0002-L.txt", rows), ("label/0002-L.txt", b"1,0,5,2\n2,5,10,2\n3,900,950,2\n")])
    empty, full, beyond = everything(open_pku(tmp_path, 1))
    assert empty.frames == 5 and not empty.bodies and len(full.bodies) == 1 and beyond.frames == 1


def test_errors_name_the_file_or_what_to_do(tmp_path):
    with pytest.raises(RawDataError, match="no skeleton files of PKU-MMD part 1"):
        open_pku(tmp_path, 1)
    (tmp_path / "Skeleton.7z").write_bytes(b"7z")
    with pytest.raises(RawDataError, match="7z x"):
        open_pku(tmp_path, 2)
    write_folder(tmp_path, [("skeleton/0002-L.txt", pku_rows(3)[:-40])])
    with pytest.raises(RawDataError, match="no label files"):
        open_pku(tmp_path, 1)
    write_folder(tmp_path, [("label/0002-L.txt", b"1,0,3,2\n")])
    source = open_pku(tmp_path, 1)
    with pytest.raises(RawDataError, match="^" + re.escape(f"{tmp_path}/skeleton/0002-L.txt, line 3: ")):
        everything(source)
    (tmp_path / "label/0002-L.txt").write_bytes(b"77,0,3,2\n")
    with pytest.raises(RawDataError, match=r"label/0002-L\.txt, line 1: label 77"):
        everything(source)
    (tmp_path / "cross-subject.txt").write_bytes(b"?")
    with pytest.raises(RawDataError, match=r"cross-subject\.txt: 1 lines"):
        open_pku(tmp_path, 1)
    for part, cutting in ((3, "clamp"), (1, "best")):
        with pytest.raises(ValueError, match="known"):
            open_pku(tmp_path, part, cutting)


# Cut clips -------------------------------------------------------------------------------------------------------


def test_reduced_clips(tmp_path):
    both = np.stack([moving_body(4, 1), moving_body(4, 2)], 1).round(6)
    text = reduced_clip(both)
    assert parse_clip(text, "x").tobytes() == both.astype(np.float32).tobytes()
    write_folder(
        tmp_path, [("F291V002C018L007.skeleton", text), ("A010N003V003C051L001.skeleton", reduced_clip(both[:, :1]))]
    )
    (one,) = everything(open_pku(tmp_path, 1))
    assert (one.name, one.label, one.frames, len(one.bodies)) == ("0291-M_007", 17, 4, 2)
    assert (one.meta["stem"], one.meta["view"], one.meta["xsub_train"], one.meta["line"]) == ("0291-M", 2, 0, 7)
    (two,) = everything(open_pku(tmp_path, 2))
    assert (two.name, two.label, len(two.bodies)) == ("A10N03-R_001", 50, 1)
    assert (two.meta["subject"], two.meta["scene"], two.meta["xsub_train"]) == (3, 10, 0)


def test_reduced_clip_mixes_one_and_two_bodies():
    a, b = reduced_clip(moving_body(1)[:, None]), reduced_clip(np.stack([moving_body(1, 1), moving_body(1, 2)], 1))
    data = b"2\n" + b.partition(b"\n")[2] + a.partition(b"\n")[2]
    clip = parse_clip(data, "x")
    assert clip.shape == (2, 2, 25, 3) and clip[0, 1].any() and not clip[1, 1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[: len(d) // 2], "ends within|not 'x y z'|not a finite"),
        (lambda d: d + b"1\n", "content behind"),
        (lambda d: d.replace(b"\n25\n", b"\n24\n", 1), "line 4: expected a number from 25 to 25"),
        (lambda d: b"0" + d[1:], "line 1: expected a number from 1"),
        (lambda d: d.replace(b"\n1\n", b"\n3\n", 1), "line 2: expected a number from 1 to 2"),
        (lambda d: d.replace(b" ", b"", 11), "not 'x y z'|expected"),
        (lambda d: d.replace(b"0.27", b"nan ", 1), "not 'x y z'|finite"),
    ],
)
def test_damaged_clips(change, message):
    with pytest.raises(RawDataError, match=message):
        parse_clip(change(reduced_clip(moving_body(3)[:, None])), "x")


# Hostile and real ------------------------------------------------------------------------------------------------

SAMPLES = {
    "rows": (parse_rows, pku_rows(3, (True, True))),
    "labels": (parse_labels, pku_label_text(pku_labels(30, 1))),
    "split": (parse_split, pku_split_text(["0002-L", "0003-L"], ["0291-L"])),
    "clip": (parse_clip, reduced_clip(moving_body(2)[:, None])),
}


@pytest.mark.parametrize(("parse", "sample"), SAMPLES.values(), ids=SAMPLES)
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_mutated_texts_raise_only_the_readers_error(parse, sample, data):
    text = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        drop = data.draw(st.sampled_from([0, 1, 2, 40]))
        text[at : at + drop] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b"\n", b"9" * 400, b"nan", b","]))
        )
    try:
        parse(bytes(text), "x")
    except RawDataError:
        pass


def test_real_video(tmp_path):
    data = shared("pku_mmd/A10N08-L.txt").read_bytes()
    rows = parse_rows(data, "A10N08-L.txt")
    assert rows.shape == (1040, 2, 25, 3)
    expected = np.array([[float(v) for v in line.split()] for line in data.splitlines() if line.strip()])
    assert rows.tobytes() == expected.astype(np.float32).tobytes()
    write_folder(tmp_path, [("skeleton/A10N08-L.txt", data), ("label/A10N08-L.txt", b"5,100,200,2\n7,1000,1200,1\n")])
    first, last = everything(open_pku(tmp_path, 2))
    assert (first.frames, last.frames, first.meta["subject"], first.meta["scene"]) == (100, 40, 8, 10)
    # A person of plausible size stands upright: head above feet by more than a metre.
    joints = first.bodies[0].xyz
    assert 1.0 < float(np.median(joints[:, 3, 1] - joints[:, 15, 1])) < 2.2
