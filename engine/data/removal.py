"""Removing a store so that it can be taken back: it is renamed first and deleted for good later."""

from __future__ import annotations

import shutil
import time
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


def delete_aside(stores: Path, older_than_s: float = 0.0, keep: Path | None = None) -> None:
    """Delete what was set aside in a folder of stores; what resists stays for the next time.

    Parameters
    ----------
    older_than_s : float
        Seconds since it was set aside: what another window removed a moment ago may still be wanted back.
    keep : Path, optional
        One that stays.
    """
    if not stores.is_dir():
        return
    for folder in stores.glob(f"{_ASIDE}*"):
        try:
            # Renaming changes the time of the folder's own entry, not of its content.
            old = time.time() - folder.stat().st_ctime >= older_than_s
        except OSError:
            continue
        if old and folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
