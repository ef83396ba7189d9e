"""Files: asking whether they are there, and replacing them so that readers find old ones or new ones, whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether there is something at a place; where that can't be told (no right to look, a lost disk), there is not."""
    try:
        return path.exists()
    except OSError:
        return False


def replace_files(files: Mapping[Path, bytes | bytearray]) -> None:
    """Write files that belong together, in this order.

    All are on the disk beside the old ones before the first is replaced: a full disk leaves every old file as it was,
    and only a kill between two renames leaves a new one beside an old one.

    Parameters
    ----------
    files : mapping
        Contents by path; the folders exist.

    Raises
    ------
    OSError
        One can't be written (a full disk); its ``filename`` says which. Nothing half-written stays.
    """
    temporaries = {path: path.with_name(path.name + ".tmp") for path in files}
    path = None
    try:
        for path, data in files.items():
            with temporaries[path].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as error:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        # A write that fails names no file, and a temporary one is not what the caller asked for.
        error.filename, error.filename2 = str(path), None
        raise
