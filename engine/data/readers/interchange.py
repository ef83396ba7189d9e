"""Finds out which interchange format a file or folder has, so that a user only has to point at it."""

from __future__ import annotations

from pathlib import Path

from engine.data.bodies import RawDataError, RawSource
from engine.data.readers.ctrgcn_npz import open_ctrgcn_npz
from engine.data.readers.pyskl import open_pyskl
from engine.data.readers.stgcn_npy import CONTENTS, open_stgcn_npy
from engine.data.safe_load import find_npz


def interchange_format(path: Path) -> str:
    """``"ctrgcn"``, ``"pyskl"``, ``"stgcn"``, or "" when it is none of them; nothing is opened but a header.

    A ``_label.pkl`` counts as ``stgcn``, any other pickle as ``pyskl``. Raises nothing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        patterns = (f"{levels}{part}_{what}.npy" for levels in ("", "*/", "*/*/") for part in ("train", "val")
                    for what in CONTENTS)  # fmt: skip
        return "stgcn" if any(next(path.glob(pattern), None) for pattern in patterns) else ""
    if suffix == ".npy" or path.name.endswith("_label.pkl"):
        return "stgcn"
    if suffix in (".pkl", ".pickle"):
        return "pyskl"
    if suffix == ".npz":
        try:
            return "ctrgcn" if {"x_train", "y_train"} <= find_npz(path).keys() else ""
        except RawDataError:
            return ""
    return ""


def open_interchange(path: Path) -> RawSource:
    """Open a file or folder of any interchange format with its default settings.

    The sequences hold finished actors: they are stored as they are, not cleaned again.

    Raises
    ------
    RawDataError
        None of the formats, or a damaged file.
    """
    path = Path(path)
    kind = interchange_format(path)
    if kind == "ctrgcn":
        return open_ctrgcn_npz(path)
    if kind == "pyskl":
        return open_pyskl(path)
    if kind == "stgcn":
        return open_stgcn_npy(path.parent if path.suffix == ".pkl" else path)
    raise RawDataError(
        f"{path}: not a form that is read. These are: .npz with x_train, y_train, x_test, y_test (CTR-GCN family), .pkl"
        " with annotations (PYSKL, MMAction2), a folder with train_data.npy and train_label.pkl (ST-GCN family)"
    )
