"""Reads the annotation pickles of PYSKL and MMAction2: one dictionary per sequence, splits as lists of names.

Fields and file names: datasets.md, section 5.3. Opened by the restricted reader of :mod:`engine.data.safe_load`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bodies import MAX_FRAMES, RawDataError, RawSequence, RawSource
from engine.data.readers.actors import MAX_LABEL, actor_sequence, clean_name, layout_of, split_column
from engine.data.safe_load import load_pickle

MAX_ACTORS = 2
# xsub_train, xview_val, train1, test1, train, val, ...
_SPLIT_KEY = re.compile(r"(?:(.+?)[_-]?)?(train|val|test)[_-]?(\d*)", re.IGNORECASE)


class _Annotations:
    """An opened pickle; ``table`` holds for every sample the columns its splits give it."""

    def __init__(self, path: Path, found: dict[str, dict[str, Any]], table: dict[str, dict[str, int | str]]) -> None:
        self.path, self.found, self.table = path, found, table

    def read(self, item: str) -> Iterator[RawSequence]:
        annotation = self.found[item]
        keypoint, label = annotation["keypoint"], annotation["label"]
        where = f"{self.path}: {item}"
        if not isinstance(keypoint, np.ndarray) or keypoint.dtype.kind != "f" or keypoint.ndim != 4:
            raise RawDataError(f"{where}: keypoint is no array (M, T, V, 3) of floats")
        frames = annotation.get("total_frames", keypoint.shape[1])
        if type(frames) is not int or keypoint.shape[1] != frames:
            raise RawDataError(f"{where}: total_frames is {frames}, keypoint has {keypoint.shape[1]}")
        if not 0 < keypoint.shape[1] <= MAX_FRAMES:
            raise RawDataError(f"{where}: {keypoint.shape[1]} frames")
        if type(label) is not int or not 0 <= label <= MAX_LABEL:
            raise RawDataError(f"{where}: the label is no class index")
        if keypoint.shape[3] != 3:
            raise RawDataError(f"{where}: {_flat(keypoint)}")
        layout = layout_of(keypoint.shape[2], where)
        if len(keypoint) > MAX_ACTORS:
            warnings.warn(f"{where}: {len(keypoint)} bodies, the first {MAX_ACTORS} are kept", stacklevel=2)
        xyz = np.asarray(keypoint[:MAX_ACTORS], np.float32).transpose(1, 0, 2, 3)
        yield actor_sequence(xyz, str(self.path), item, label, layout, dict(self.table.get(item, {})))


def open_pyskl(path: Path) -> RawSource:
    """Open ``ntu60_3danno.pkl``, ``ntu120_3d.pkl`` or another pickle of this form, with or without ``split``.

    Only three-dimensional joints are read. Two-dimensional sets (``*_hrnet.pkl``, ``*_2d.pkl``: COCO joints in pixels)
    are refused: everything behind a reader counts on metres in camera axes (centring on the spine, limb lengths,
    turning towards the camera), pixels have neither depth nor a common scale, and a z of zero would only look like
    data.

    Returns
    -------
    RawSource
        Items are sample names. Actors as stored: not to be cleaned again, at most two (a third is cut with a warning).
        float16 metres become float32 and keep their steps of 2 to 4 mm. Meta: every split of the file as a column
        (``xsub_train``: 1 or 0; PYSKL's ``val`` is the test part). ``missing`` lists names that stand
        in a split but have no annotation. Not parallel: the file is open in this process and costs nothing to read.

    Raises
    ------
    RawDataError
        Not such a file, two-dimensional, or a name that stands twice; single damaged samples fail when read.
    """
    path = Path(path)
    content = load_pickle(path)
    annotations, splits = (content, {}) if type(content) is list else _parts(path, content)
    found: dict[str, dict[str, Any]] = {}
    for number, annotation in enumerate(annotations):
        if type(annotation) is not dict:
            raise RawDataError(f"{path}: annotation {number} is no dictionary")
        raw = annotation.get("frame_dir", annotation.get("filename"))
        if type(raw) is not str:
            raise RawDataError(f"{path}: annotation {number} has no frame_dir")
        absent = [key for key in ("keypoint", "label") if key not in annotation]
        if absent:
            hint = " (Kinetics keeps them in separate files)" if "raw_file" in annotation else ""
            raise RawDataError(f"{path}: annotation {number} ({raw[:80]!a}) has no {' and no '.join(absent)}{hint}")
        name = clean_name(raw)
        if name in found:
            raise RawDataError(f"{path}: {name} stands twice")
        found[name] = annotation
    if not found:
        raise RawDataError(f"{path}: no annotations")
    first = next(iter(found.values()))["keypoint"]
    if isinstance(first, np.ndarray) and first.ndim == 4 and first.shape[3] == 2:
        raise RawDataError(f"{path}: {_flat(first)}")
    table: dict[str, dict[str, int | str]] = {name: {} for name in found}
    missing: dict[str, None] = {}
    for key, names in splits.items():
        column, part = _column(key)
        for name in names:
            if name not in table:
                missing[name] = None
            elif table[name].setdefault(column, part) != part:
                raise RawDataError(f"{path}: {name} is in both parts of split {column.removesuffix('_train')}")
    return RawSource(tuple(found), _Annotations(path, found, table).read, parallel=False, missing=tuple(missing))


def _parts(path: Path, content: Any) -> tuple[list[Any], dict[str, list[str]]]:
    if type(content) is not dict or type(content.get("annotations")) is not list:
        raise RawDataError(f"{path}: a dictionary with 'split' and 'annotations', or a list of annotations, expected")
    split = content.get("split", {})
    if type(split) is not dict:
        raise RawDataError(f"{path}: 'split' is no dictionary")
    for key, names in split.items():
        if type(names) is not list or not all(type(name) is str for name in names):
            raise RawDataError(f"{path}: split {key[:40]!a} is no list of names")
    return content["annotations"], {key: [clean_name(name) for name in names] for key, names in split.items()}


def _column(key: str) -> tuple[str, int]:
    """Meta column of a split key and its value (1 train, 0 test); a key of another form is a training part."""
    found = _SPLIT_KEY.fullmatch(key)
    if found is None:
        return split_column(key), 1
    name = "_".join(text for text in (found[1], found[3]) if text)
    return split_column(name), int(found[2].lower() == "train")


def _flat(keypoint: np.ndarray) -> str:
    return (
        f"two-dimensional joints ({keypoint.shape[2]} x {keypoint.shape[3]}, pixels); this program works in metres: "
        "take the 3-D file (ntu60_3danno.pkl, ntu120_3danno.pkl)"
    )
