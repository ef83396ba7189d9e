"""Reading a growing event log without reading it all: what is new since last time, or the newest events first."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
BLOCK = 1 << 16


def parse_line(line: bytes) -> dict[str, Any] | None:
    """One event; None for a line that is no event (cut off by a kill, or damaged)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


class EventTail:
    """Gives the events appended to a log since the last reading; remembers a byte offset and reads nothing twice.

    Parameters
    ----------
    path : Path
        The log; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0

    def read(self, limit: int = CHUNK) -> tuple[list[dict[str, Any]], bool, bool]:
        """New events, at most about ``limit`` bytes of them.

        Returns
        -------
        events : list of dict
            Whole lines only; a line that is still being written is left for the next reading.
        more : bool
            Whether there is more to read at once.
        restarted : bool
            The log is shorter than it was: it was replaced, and these events are from its beginning.
        """
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                restarted = size < self.offset
                if restarted:
                    self.offset = 0
                file.seek(self.offset)
                data = file.read(limit)
                if len(data) == limit and b"\n" not in data:
                    # One line longer than the limit.
                    data += file.readline()
        except OSError:
            restarted, self.offset = self.offset > 0, 0
            return [], False, restarted
        whole = data.rfind(b"\n") + 1
        self.offset += whole
        events = [event for line in data[:whole].splitlines() if (event := parse_line(line)) is not None]
        return events, whole > 0 and self.offset < size, restarted


def first_event(path: Path) -> dict[str, Any] | None:
    """The first whole event of a log."""
    try:
        with path.open("rb") as file:
            return parse_line(file.readline())
    except OSError:
        return None


def newest_first(path: Path, kinds: frozenset[str] | None = None, block: int = BLOCK) -> Iterator[dict[str, Any]]:
    """Events from the end of a log to its beginning, read in blocks as far as the caller asks for.

    Parameters
    ----------
    path : Path
        The log; a missing one has no events.
    kinds : frozenset of str, optional
        Only events of these kinds, and always the newest one of any kind; others are passed over without being parsed.
    block : int
        Bytes read at a time.
    """
    wanted = None if kinds is None else tuple(f'"event": "{kind}"'.encode() for kind in kinds)
    newest = True
    for line in _lines_backwards(path, block):
        if not newest and wanted is not None and not any(mark in line for mark in wanted):
            continue
        event = parse_line(line)
        if event is not None:
            newest = False
            yield event


def _lines_backwards(path: Path, block: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            at = file.seek(0, os.SEEK_END)
            rest = b""
            while at > 0:
                step = min(block, at)
                at -= step
                file.seek(at)
                first, *lines = (file.read(step) + rest).split(b"\n")
                rest = first
                yield from (line for line in reversed(lines) if line)
            if rest:
                yield rest
    except FileNotFoundError:
        return


def last_lines(path: Path, count: int = 12, limit: int = BLOCK) -> str:
    """The last lines of a text file, such as what a process said before it ended; empty if there is none.

    Carriage returns, with which a progress line overwrites itself, end a line here.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines()]
    return "\n".join([line for line in lines if line][-count:])
