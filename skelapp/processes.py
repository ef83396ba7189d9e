"""How the window starts child processes: the program's own command line, their environment, and who gives way."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil

from engine import paths

NICE = 10


def program() -> list[str]:
    """The beginning of a command line that runs one of this program's own commands."""
    main = paths.PROJECT / "main.py"
    return [sys.executable, str(main)] if main.is_file() else [sys.executable, "-m", "engine.cli"]


def child_environment(threads: int = 0) -> dict[str, str]:
    """Environment of a child with at most ``threads`` processor threads (0 leaves the choice to its libraries).

    They sleep while they wait: threads that wait busily slow live recognition on the same cores many times over.
    """
    environment = dict(os.environ) | {
        "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8",
    }  # fmt: skip
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return environment


def give_way(process: int, own_session: bool = False) -> None:
    """Let a child give way to the window: the live view comes first. Best effort.

    Parameters
    ----------
    process : int
        Number of the child's process.
    own_session : bool
        It leads a session of its own: Linux shares the processor out among sessions first, so that has to give way too.
    """
    with contextlib.suppress(psutil.Error, OSError):
        # A class of its own on Windows; elsewhere so much below the window.
        below = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", min(19, int(psutil.Process().nice()) + NICE))
        psutil.Process(process).nice(below)
    if own_session:
        with contextlib.suppress(OSError):
            Path(f"/proc/{process}/autogroup").write_text(str(NICE), "utf-8")
