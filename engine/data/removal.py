"""Removing a store so that it can be taken back: it is renamed first and deleted for good later."""

from __future__ import annotations

import shutil
from pathlib import Path

_ASIDE = ".removed-"


def set_aside(folder: Path) -> Path:
    """Take a store (or the parts of one) out of use; returns where it lies until :func:`delete_aside`.

    Raises
    ------
    OSError
        The folder can't be renamed.
    """
    number = 0
    while (aside := folder.with_name(f"{_ASIDE}{number}-{folder.name}")).exists():
        number += 1
    folder.rename(aside)
    return aside


def put_back(aside: Path) -> Path:
    """Undo :func:`set_aside`; returns the store's folder.

    Raises
    ------
    FileExistsError
        A store of that name has been made since.
    """
    folder = aside.with_name(aside.name.removeprefix(_ASIDE).partition("-")[2])
    if folder.exists():
        raise FileExistsError(f"{folder} has been made again; the removed one stays in {aside}")
    aside.rename(folder)
    return folder


def delete_aside(stores: Path, keep: Path | None = None) -> None:
    """Delete everything that was set aside in a folder of stores, except ``keep``; what resists stays for next time."""
    if not stores.is_dir():
        return
    for folder in stores.glob(f"{_ASIDE}*"):
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
