"""The door: without a sub-command the window, with one the same work without a window."""

from __future__ import annotations

import sys

WINDOW_OPTIONS = ("--source", "--checkpoint", "--pack", "--settings", "--verbose", "--exit-after")


def wants_window(arguments: list[str]) -> bool:
    """No arguments, or only options of the window."""
    return not arguments or arguments[0].split("=")[0] in WINDOW_OPTIONS


def main(arguments: list[str] | None = None) -> int:
    """Open the window or run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if wants_window(arguments):
        from skelapp.app import run

        return run(arguments)
    from engine.cli import entry

    return int(entry(arguments) or 0)
