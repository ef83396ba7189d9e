"""Reads the small Kinect v1 sets that are kept as one flat ``.npz`` each: all frames in a row, with boundaries.

Keys: ``xyz`` (frames, joints, 3), ``start``, ``label``, ``classes``, ``joints``, ``subject`` and, where known,
``trial``, ``view``, ``adult``, ``name``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.bodies import MAX_FRAMES, RawDataError, RawSequence, RawSource
from engine.data.readers.nw_ucla import digest
from engine.data.safe_load import load_npz
from engine.skeleton.layout import get_layout

MAX_BYTES = 1 << 30
_META = ("subject", "trial", "view", "adult")


@dataclass(frozen=True)
class FlatSet:
    """What is known of one set beside its arrays."""

    fps: float
    layout: str = "kinect20"
    #: Some frames are all zeros: the sensor had lost the person.
    drop_empty_frames: bool = False
    #: Sequences in which nobody is seen at all.
    left_out: tuple[str, ...] = ()


FLAT_SETS: dict[str, FlatSet] = {
    "utd_mhad": FlatSet(30.0),
    "kinder_gator": FlatSet(1 / 0.032),
    # The authors recorded depth at about 15 frames a second.
    "msr_action3d": FlatSet(15.0, drop_empty_frames=True, left_out=("a13_s09_e02",)),
    # Frames without a skeleton were not written, which left about 15 of 30 frames a second.
    "utkinect": FlatSet(15.0),
    "florence3d": FlatSet(10.0, "florence15"),
}


def open_flat(path: Path | str, name: str) -> RawSource:
    """Open one of :data:`FLAT_SETS`.

    Parameters
    ----------
    path : Path or str
        The ``.npz`` file or the folder with ``NAME.npz`` in it.
    name : str
        Name of the set.

    Returns
    -------
    RawSource
        One item per sequence, read from memory (not in parallel). Layouts are the sensor's; preparation lifts them to
        NTU-25. ``meta``: the set's own columns and ``digest``.

    Raises
    ------
    RawDataError
        No file, missing keys, arrays that disagree. Object arrays are refused: nothing is unpickled.
    ValueError
        An unknown set.
    """
    if name not in FLAT_SETS:
        raise ValueError(f"unknown set {name!r}; known: {', '.join(FLAT_SETS)}")
    file = Path(path)
    if file.is_dir():
        file = file / f"{name}.npz"
    facts = FLAT_SETS[name]
    arrays = load_npz(file, MAX_BYTES)
    bounds = _check(file, arrays, facts)
    count = len(arrays["label"])
    names = [str(stem) for stem in arrays["name"]] if "name" in arrays else [f"{name}_{i:04d}" for i in range(count)]
    if len(set(names)) != count:
        raise RawDataError(f"{file}: sequence names are not unique")
    index = {stem: i for i, stem in enumerate(names) if stem not in facts.left_out}

    def read(stem: str) -> Iterator[RawSequence]:
        i = index[stem]
        xyz = arrays["xyz"][bounds[i] : bounds[i + 1]].astype(np.float32)
        if not np.isfinite(xyz).all():
            raise RawDataError(f"{file}: {stem} holds coordinates that are not finite")
        if facts.drop_empty_frames:
            xyz = xyz[xyz.any((1, 2))]
        if not len(xyz):
            raise RawDataError(f"{file}: {stem} holds no frame with a person in it")
        meta: dict[str, int | str] = {key: int(arrays[key][i]) for key in _META if key in arrays}
        meta["digest"] = digest(xyz)
        yield RawSequence.of_one_body(xyz, facts.fps, facts.layout, stem, int(arrays["label"][i]), **meta)

    left_out = tuple(s for s in names if s in facts.left_out)
    return RawSource(tuple(index), read, False, excluded=left_out, files=(file.name,) if Path(path).is_dir() else ())


def flat_classes(path: Path | str, name: str) -> tuple[str, ...]:
    """Class names as the set's file gives them."""
    file = Path(path)
    arrays = load_npz(file / f"{name}.npz" if file.is_dir() else file, MAX_BYTES)
    if "classes" not in arrays:
        raise RawDataError(f"{file}: no class names")
    return tuple(str(label) for label in arrays["classes"].ravel())


def _check(file: Path, arrays: dict[str, np.ndarray], facts: FlatSet) -> np.ndarray:
    """Boundaries ``(sequences + 1,)`` after everything has been found to fit."""
    if missing := [key for key in ("xyz", "start", "label") if key not in arrays]:
        raise RawDataError(f"{file}: no array {missing[0]!r}; not one of the flat sets")
    xyz, start, label = arrays["xyz"], arrays["start"], arrays["label"]
    joints = get_layout(facts.layout).num_joints
    if xyz.dtype.kind != "f" or xyz.shape[1:] != (joints, 3):
        raise RawDataError(f"{file}: xyz is {xyz.dtype} {xyz.shape}, expected (frames, {joints}, 3) floats")
    if any(array.dtype.kind not in "iu" or array.ndim != 1 for array in (start, label)):
        raise RawDataError(f"{file}: start and label must be rows of whole numbers")
    bounds = start.astype(np.int64)
    if len(bounds) == len(label):
        bounds = np.append(bounds, len(xyz))
    lengths = np.diff(bounds)
    fits = len(bounds) == len(label) + 1 and len(label) > 0 and bounds[0] == 0 and bounds[-1] == len(xyz)
    if not fits or (lengths < 1).any() or (lengths > MAX_FRAMES).any():
        raise RawDataError(f"{file}: sequence boundaries do not fit {len(xyz)} frames and {len(label)} labels")
    if (label < 0).any() or ("classes" in arrays and (label >= arrays["classes"].size).any()):
        raise RawDataError(f"{file}: a label without a class")
    for key in (*_META, "name"):
        kinds = "U" if key == "name" else "iu"
        if key in arrays and (arrays[key].shape != label.shape or arrays[key].dtype.kind not in kinds):
            raise RawDataError(f"{file}: {key} does not fit {len(label)} labels")
    return bounds
