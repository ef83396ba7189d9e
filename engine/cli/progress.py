"""Progress of long commands for another program: one line of JSON per step, and a way to be stopped on every system.

A window that runs a command as its child cannot send it Ctrl-C on Windows, and a child must not outlive a window that
crashed. So with ``--progress json`` the command also reads its standard input, and stops when that ends: as with Ctrl-C
what is finished is kept.
"""

from __future__ import annotations

import _thread
import json
import signal
import sys
import threading
import time
from typing import Any, Literal

from engine.data.parts import Progress

Style = Literal["text", "json"]

_EVERY_S = 0.1


class JsonProgress:
    """Writes ``{"what": ..., "done": ..., "total": ..., "damaged": ...}`` to stderr, at most ten lines a second."""

    def __init__(self) -> None:
        self._last, self._what = 0.0, ""

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        ends = progress.done == progress.total or progress.what != self._what
        if now - self._last < _EVERY_S and not ends:
            return
        self._last, self._what = now, progress.what
        say(what=progress.what, done=progress.done, total=progress.total, damaged=progress.damaged)

    def end(self) -> None:
        """Nothing is left open; here so that it can stand for a line of text."""


def say(**values: Any) -> None:
    """Write one line of JSON to stderr."""
    print(json.dumps(values), file=sys.stderr, flush=True)


def stop_with_input() -> None:
    """Raise ``KeyboardInterrupt`` in the main thread when standard input ends; to be called there."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So shells start what runs in the background, and it is inherited; an interrupt would then do nothing.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_wait, name="standard input", daemon=True).start()


def _wait() -> None:
    # Unbuffered: a buffered reader that still waits when the interpreter ends makes it abort.
    try:
        while sys.stdin.buffer.raw.read(4096):  # type: ignore[attr-defined, union-attr]
            pass
    except (OSError, ValueError, AttributeError):
        pass
    _thread.interrupt_main()
