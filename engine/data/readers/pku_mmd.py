"""Reads PKU-MMD I and II: untrimmed skeleton texts with label files, cut into clips; or clips already cut by others.

The texts are read by pku_texts.py. Which frames a label means is undocumented (datasets.md, 3.4), so the rule that
was used stands in every clip's meta.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.data.bodies import RawDataError, RawSequence, RawSource
from engine.data.readers.archive import file_name, files_of, list_all, place_of, read_file
from engine.data.readers.pku_texts import (
    CLASSES,
    CUTTINGS,
    STEMS,
    bodies_of,
    cut,
    parse_clip,
    parse_labels,
    parse_rows,
    parse_split,
    xsub_by_rule,
)
from engine.data.tables import class_names, table_rows

FPS = 30.0
#: Views as numbers in meta and in the names of cut clips.
VIEWS = {"L": 1, "M": 2, "R": 3}
_TEXT = re.compile(r"(\d{4}-[LMR]|A\d{2}N\d{2}-[LMR])\.(?:txt|skeleton)", re.ASCII)
_CLIP = {
    1: re.compile(r"F(?P<a>\d{3})V(?P<v>\d{3})C(?P<c>\d{3})L(?P<l>\d{3,})", re.ASCII),
    2: re.compile(r"A(?P<a>\d{3})N(?P<n>\d{3})V(?P<v>\d{3})C(?P<c>\d{3})L(?P<l>\d{3,})", re.ASCII),
}
_SPLIT_FILE = re.compile(r"cross[-_ ](subject|view)(?:[-_ ]v2)?\.txt", re.IGNORECASE)


def pku_classes() -> tuple[str, ...]:
    """The 51 class names of both parts in label order; part II uses 41 of them without renumbering."""
    return class_names("pkummd_classes.csv")


def two_person_labels() -> frozenset[int]:
    """Labels of the classes in which two people act."""
    return frozenset(int(row["id"]) - 1 for row in table_rows("pkummd_classes.csv") if row["persons"] == "2")


@dataclass(frozen=True)
class _Video:
    """Handles of one untrimmed recording."""

    skeleton: str
    labels: str


def open_pku(path: Path | str, part: int, cutting: str = "clamp") -> RawSource:
    """Open PKU-MMD part I or II.

    Parameters
    ----------
    path : Path or str
        A folder at any depth above the unpacked archives (skeleton files, label files, split files; ``v1/``, ``v2/``
        layouts too), a zip of it, or a folder of cut ``.skeleton`` clips.
    part : int
        1 or 2; files are told apart by their names, so both parts may lie below ``path``.
    cutting : str
        One of :data:`CUTTINGS`, see :func:`cut`; without effect on clips that are already cut.

    Returns
    -------
    RawSource
        One item per video (or cut clip). Clips carry ``xsub_train`` and ``xview_train`` (1, 0; -1 unknown),
        ``subject`` (-1 unknown), ``view`` (1, 2, 3 = L, M, R), ``stem``, ``line``, ``start``, ``end``, ``cutting``.
        A clip in which nobody is seen has no bodies. ``missing``: skeleton files without labels and the reverse.

    Raises
    ------
    RawDataError
        Nothing of this part, no label files, a damaged split file, or archives that are still packed as .7z.
    ValueError
        An unknown part or cutting rule.
    """
    if part not in STEMS or cutting not in CUTTINGS:
        raise ValueError(f"part {part!r}, cutting {cutting!r}; known: parts 1, 2, cuttings {', '.join(CUTTINGS)}")
    lists = list_all(path, _SPLIT_FILE)
    splits = _read_splits(path, part, lists)
    clips = list_all(path, re.compile(_CLIP[part].pattern + r"\.skeleton", re.ASCII))
    texts = [h for h in list_all(path, _TEXT) if STEMS[part].fullmatch(_stem(h))]
    if not texts and clips:
        first = {file_name(handle): handle for handle in reversed(clips)}
        items = tuple(first[name] for name in sorted(first))
        return RawSource(items, partial(_read_clip, str(path), part, splits), files=files_of((*items, *lists)))
    skeletons: dict[str, str] = {}
    labels: dict[str, str] = {}
    for handle in texts:
        target = labels if _is_label(path, handle) else skeletons
        target.setdefault(_stem(handle), handle)
    if not skeletons or not labels:
        what = "skeleton files" if not skeletons else "label files"
        example = "0002-L.txt" if part == 1 else "A01N02-L.txt"
        raise RawDataError(
            f"{path}: no {what} of PKU-MMD part {part} ({example}, ...) found; unpack the .7z archives of skeletons, "
            "labels and splits into one folder first (7z x ARCHIVE), they can't be read packed"
        )
    stems = sorted(skeletons.keys() & labels.keys())
    videos = {stem: _Video(skeletons[stem], labels[stem]) for stem in stems}
    lonely = [f"{stem} (no labels)" for stem in skeletons.keys() - labels.keys()]
    lonely += [f"{stem} (no skeletons)" for stem in labels.keys() - skeletons.keys()]
    read = partial(_read_video, str(path), part, splits, cutting, videos)
    return RawSource(tuple(stems), read, missing=tuple(sorted(lonely)), files=files_of((*texts, *lists)))


Splits = Mapping[str, Mapping[str, int]]


def _read_splits(path: Path | str, part: int, lists: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Stems of this part by protocol: ``{"xsub": {...}, "xview": {...}}``; files are told apart by what they list."""
    splits: dict[str, dict[str, int]] = {"xsub": {}, "xview": {}}
    for handle in lists:
        match = _SPLIT_FILE.fullmatch(file_name(handle))
        assert match is not None
        kind = "xsub" if match.group(1).lower() == "subject" else "xview"
        for stem, train in parse_split(read_file(path, handle), place_of(path, handle)).items():
            if STEMS[part].fullmatch(stem) and splits[kind].setdefault(stem, train) != train:
                raise RawDataError(f"{place_of(path, handle)}: contradicts another split file about {stem}")
    return splits


def _read_video(
    root: str, part: int, splits: Splits, cutting: str, videos: Mapping[str, _Video], stem: str
) -> Iterator[RawSequence]:
    video = videos[stem]
    labels = parse_labels(read_file(root, video.labels), place_of(root, video.labels))
    rows = parse_rows(read_file(root, video.skeleton), place_of(root, video.skeleton))
    for instance in labels:
        first, end = cut(instance.start, instance.end, len(rows), cutting)
        clip = rows[first:end]
        meta = _meta(part, stem, splits) | {
            "line": instance.line,
            "start": first,
            "end": end,
            "confidence": instance.confidence,
            "cutting": cutting,
        }
        name = f"{stem}_{instance.line:03d}"
        yield RawSequence(name, instance.label - 1, len(clip), bodies_of(clip), FPS, "ntu25", meta)


def _read_clip(root: str, part: int, splits: Splits, handle: str) -> Iterator[RawSequence]:
    name = _stem(handle)
    match = _CLIP[part].fullmatch(name)
    assert match is not None
    view, action, line = (int(match.group(key)) for key in "vcl")
    if view not in VIEWS.values() or not 1 <= action <= CLASSES:
        raise RawDataError(f"{place_of(root, handle)}: view {view}, class {action}; expected 1 to 3 and 1 to {CLASSES}")
    letter = "LMR"[view - 1]
    stem = f"{int(match['a']):04d}-{letter}" if part == 1 else f"A{int(match['a']):02d}N{int(match['n']):02d}-{letter}"
    if not STEMS[part].fullmatch(stem):
        raise RawDataError(f"{place_of(root, handle)}: not the name of a clip of part {part}")
    xyz = parse_clip(read_file(root, handle), place_of(root, handle))
    meta = _meta(part, stem, splits) | {"line": line, "start": -1, "end": -1, "confidence": -1, "cutting": "as found"}
    yield RawSequence(f"{stem}_{line:03d}", action - 1, len(xyz), bodies_of(xyz), FPS, "ntu25", meta)


def _meta(part: int, stem: str, splits: Splits) -> dict[str, int | str]:
    match = STEMS[part].fullmatch(stem)
    assert match is not None
    letter = match.groups()[-1]
    return {
        "stem": stem,
        "view": VIEWS[letter],
        "video" if part == 1 else "scene": int(match.group(1)),
        # Who acts in a video of part I stands only in its split lists, not by number.
        "subject": -1 if part == 1 else int(match.group(2)),
        "xsub_train": splits["xsub"].get(stem, xsub_by_rule(stem) if not splits["xsub"] else -1),
        "xview_train": splits["xview"].get(stem, -1),
    }


def _stem(handle: str) -> str:
    return file_name(handle).rpartition(".")[0]


def _is_label(path: Path | str, handle: str) -> bool:
    """By the folders' names where they say it, else by the commas in the file."""
    folders = handle.rpartition("/")[0].lower()
    label, skeleton = "label" in folders, "skeleton" in folders
    if label != skeleton:
        return label
    return b"," in read_file(path, handle)[:200]
