"""Names, lists and class tables of NTU RGB+D against the published counts (datasets.md, section 8, checks 1 to 9)."""

import pytest

from engine.data.ntu_names import (
    FILES,
    LIST_A,
    LIST_B,
    belongs,
    expected_names,
    match_name,
    missing_names,
    ntu_classes,
    parse_missing,
    parse_name,
    two_person_labels,
)
from engine.data.readers.nw_ucla import action_codes, nw_ucla_classes
from engine.data.readers.pku_mmd import pku_classes
from engine.data.readers.pku_mmd import two_person_labels as pku_two_person_labels
from engine.data.tables import table_rows
from tests.engine.data.synthetic import ntu_names, ntu_pairs


def test_a_name_reads_back():
    name = parse_name("S001C002P003R002A013")
    assert tuple(name) == (1, 2, 3, 2, 13) and name.label == 12 and str(name) == "S001C002P003R002A013"
    assert name.meta() == {"setup": 1, "camera": 2, "performer": 3, "subject": 3, "replication": 2, "action": 13}


@pytest.mark.parametrize(
    "name",
    [
        "s001c002p003r002a013",  # lower case
        "S001C002P003R002A01",  # 19 characters
        "S001C002P003R002A0133",
        "S001C002P003R002A000",
        "S001C002P003R002A121",
        "S000C002P003R002A013",
        "S033C002P003R002A061",
        "S001C004P003R002A013",
        "S001C002P107R002A013",
        "S001C002P003R003A013",
        "S001C002P003R002A061",  # the two releases never mix
        "S018C002P003R002A060",
        "S001C002P003R002A01\u0663",  # an Arabic digit
        "",
    ],
)
def test_other_names_are_refused(name):
    assert match_name(name) is None
    with pytest.raises(ValueError, match="not the name"):
        parse_name(name)


def test_lists():
    assert len(LIST_A) == 20 and len(LIST_B) == 53 and LIST_A < LIST_B
    assert len(set(range(1, 107)) - LIST_B) == 53


def test_missing_names():
    first, both = missing_names("ntu60"), missing_names("ntu120")
    assert (len(first), len(both)) == (302, 535)
    assert first == {name for name in both if parse_name(name).setup <= 17}
    assert "S001C002P005R002A008" in both and "S001C001P001R001A001" not in both
    text = (
        "The following skeletons are missing.\n\nPlease ignore them\n S001C002P005R002A008 \r\nS032C003P106R001A120\n"
    )
    assert parse_missing(text) == ("S001C002P005R002A008", "S032C003P106R001A120")


def test_unknown_set():
    for call in (missing_names, ntu_classes, lambda name: belongs(parse_name("S001C001P001R001A001"), name)):
        with pytest.raises(ValueError, match="ntu60, ntu120"):
            call("ntu")


def test_class_tables():
    rows = table_rows("ntu_classes.csv")
    assert len(rows) == 120 and sum(row["persons"] == "2" for row in rows) == 26
    assert {i + 1 for i in two_person_labels("ntu120")} == {*range(50, 61), *range(106, 121)}
    assert {i + 1 for i in two_person_labels("ntu60")} == set(range(50, 61))
    health = [int(row["id"]) for row in rows if row["category"] in ("health", "medical")]
    assert health == [*range(41, 50), *range(103, 106)]
    assert [int(row["id"]) for row in rows if row["one_shot_novel"] == "1"] == [1 + 6 * k for k in range(20)]
    assert len(ntu_classes("ntu60")) == 60 and len(set(ntu_classes("ntu120"))) == 120
    assert ntu_classes("ntu60")[0] == "drink water"

    rows = table_rows("pkummd_classes.csv")
    assert len(rows) == len(pku_classes()) == 51
    assert {i + 1 for i in pku_two_person_labels()} == {12, 14, 16, 18, 21, 24, 26, 27}
    assert sum(row["in_part2"] == "1" for row in rows) == 41
    used = {int(row["id"]): row["ntu_id"] for row in rows if row["ntu_id"]}
    assert used[29] == used[38] == "25"
    others = [used[i] for i in used if i != 38]
    assert len(set(others)) == len(others)

    rows = table_rows("nw_ucla_classes.csv")
    assert action_codes()[6] == 8 and action_codes()[9] == 12 and len(nw_ucla_classes()) == 10
    assert sum(int(row["train_sequences"]) for row in rows) == 1020
    assert sum(int(row["test_sequences"]) for row in rows) == 464


@pytest.mark.parametrize(
    ("dataset", "counts"),
    [
        ("ntu60", {"usable": 56578, "xsub": (40320, 40091), "xview": (37920, 37646), "performers": 40, "setups": 17}),
        ("ntu120", {"usable": 113945, "xsub": (63360, 63026), "xset": (54720, 54468), "performers": 106, "setups": 32}),
    ],
)
def test_full_size_name_list_has_the_published_counts(dataset, counts):
    names = [parse_name(name) for name in ntu_names(dataset)]
    damaged = missing_names(dataset)
    usable = [name for name in names if str(name) not in damaged]
    assert len(names) == FILES[dataset] and len(usable) == counts["usable"]
    assert len({name.performer for name in names}) == counts["performers"]
    assert len({name.setup for name in names}) == counts["setups"]
    trains = LIST_A if dataset == "ntu60" else LIST_B
    rules = {
        "xsub": lambda n: n.performer in trains,
        "xview": lambda n: n.camera != 1,
        "xset": lambda n: n.setup % 2 == 0,
    }
    for split, rule in rules.items():
        if split in counts:
            assert (sum(map(rule, names)), sum(map(rule, usable))) == counts[split]


def test_expected_names():
    names = ntu_names("ntu120", performers=(8,))
    setups = sum(performer == 8 for _, performer in ntu_pairs("ntu120"))
    assert len(names) == setups * 360
    found = [parse_name(name) for name in names[::7]]
    assert expected_names(found, "ntu120") == set(names)
    assert expected_names(found, "ntu60") == {name for name in names if parse_name(name).setup <= 17}
