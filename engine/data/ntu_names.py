"""What the name of an NTU RGB+D recording tells, which names are known to be damaged, and who trains in each protocol.

A name is all a recording says about itself, so class, splits and the list of files to expect follow from here
(datasets.md, sections 1.1, 1.5 and 1.6).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from engine.data.tables import class_names, table_rows, table_text

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)

# Setups and actions of the first release; everything above belongs to the extension and the two never mix.
FIRST_SETUPS = 17
FIRST_ACTIONS = 60
SETUPS, CAMERAS, PERFORMERS, REPLICATIONS, ACTIONS = 32, 3, 106, 2, 120

DATASET_NAMES = ("ntu60", "ntu120")
#: Files of the complete archives, before the damaged ones are left out.
FILES = {"ntu60": 56_880, "ntu120": 114_480}

#: Training performers of NTU-60 cross-subject.
LIST_A = frozenset((1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38))
#: Training performers of NTU-120 cross-subject.
LIST_B = LIST_A | frozenset((
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94,
    95, 97, 98, 100, 103,
))  # fmt: skip


class NtuName(NamedTuple):
    """The five numbers of a name, as written (from 1)."""

    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    @property
    def label(self) -> int:
        """Class index from 0."""
        return self.action - 1

    @property
    def first_release(self) -> bool:
        """Whether the recording belongs to NTU-60."""
        return self.setup <= FIRST_SETUPS

    def __str__(self) -> str:
        return "S{:03d}C{:03d}P{:03d}R{:03d}A{:03d}".format(*self)

    def meta(self) -> dict[str, int | str]:
        """What splits are made from; ``subject`` is the performer under the name all datasets share."""
        return {
            "setup": self.setup,
            "camera": self.camera,
            "performer": self.performer,
            "subject": self.performer,
            "replication": self.replication,
            "action": self.action,
        }


def match_name(name: str) -> NtuName | None:
    """The numbers of a recording's name such as ``S001C002P003R002A013``, or None when it isn't one.

    Numbers outside the published ranges, and actions of the other release than the setup, are no names.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    found = NtuName(*(int(group) for group in match.groups()))
    limits = (SETUPS, CAMERAS, PERFORMERS, REPLICATIONS, ACTIONS)
    if not all(1 <= number <= limit for number, limit in zip(found, limits, strict=True)):
        return None
    return found if found.first_release == (found.action <= FIRST_ACTIONS) else None


def parse_name(name: str) -> NtuName:
    """Like :func:`match_name`; raises ``ValueError`` when the name is none."""
    found = match_name(name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of an NTU RGB+D recording (such as S001C002P003R002A013)")
    return found


def belongs(name: NtuName, dataset: str) -> bool:
    """Whether a recording is part of ``ntu60`` or ``ntu120``."""
    _known(dataset)
    return dataset == "ntu120" or name.first_release


def parse_missing(text: str) -> tuple[str, ...]:
    """Names in the text of a published missing list; the sentences above them are passed over."""
    return tuple(stripped for line in text.splitlines() if match_name(stripped := line.strip()))


@cache
def missing_names(dataset: str) -> frozenset[str]:
    """Recordings with missing or incomplete skeletons that every published protocol leaves out (302 and 535)."""
    _known(dataset)
    return frozenset(
        name for name in parse_missing(table_text("ntu_missing.txt")) if belongs(parse_name(name), dataset)
    )


@cache
def ntu_classes(dataset: str) -> tuple[str, ...]:
    """Class names in the order of the labels."""
    _known(dataset)
    return class_names("ntu_classes.csv")[: FIRST_ACTIONS if dataset == "ntu60" else ACTIONS]


@cache
def two_person_labels(dataset: str) -> frozenset[int]:
    """Labels of the classes in which two people act."""
    rows = table_rows("ntu_classes.csv")[: len(ntu_classes(dataset))]
    return frozenset(int(row["id"]) - 1 for row in rows if row["persons"] == "2")


def expected_names(found: Iterable[NtuName], dataset: str) -> set[str]:
    """Names a complete archive would hold for the performers that were found.

    A performer who was recorded in a setup did every action of the release twice before three cameras. Performers
    without a single file can't be missed this way; compare the number of files with :data:`FILES` for that.
    """
    pairs = {(name.setup, name.performer) for name in found}
    names = set()
    for setup, performer in pairs:
        first = 1 if setup <= FIRST_SETUPS else FIRST_ACTIONS + 1
        last = FIRST_ACTIONS if setup <= FIRST_SETUPS else ACTIONS
        for camera, replication, action in itertools.product(
            range(1, CAMERAS + 1), range(1, REPLICATIONS + 1), range(first, last + 1)
        ):
            name = NtuName(setup, camera, performer, replication, action)
            if belongs(name, dataset):
                names.add(str(name))
    return names


def _known(dataset: str) -> None:
    if dataset not in DATASET_NAMES:
        raise ValueError(f"{dataset!r} is not an NTU dataset; known: {', '.join(DATASET_NAMES)}")
