"""Progress of long commands: a line for people; one line of JSON per step for another program, and a way to be stopped.

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


class ProgressLine:
    """Training events as one line per epoch on stderr, with a running line on a terminal."""

    def __init__(self) -> None:
        self.stopped = self.heard = False

    def __call__(self, event: dict[str, Any]) -> None:
        kind, self.heard = event["event"], True
        if kind == "run" and event.get("task") == "chain":
            print(f"step {event['epoch'] + 1} of {event['epochs']}: {event['child']}", file=sys.stderr, flush=True)
        elif kind == "run" and event["resumed"]:
            print(f"going on in epoch {event['epoch'] + 1} of {event['epochs']}", file=sys.stderr, flush=True)
        elif kind == "step" and sys.stderr.isatty():
            print(
                f"\repoch {event['epoch']}  {event['step']}/{event['steps']}  loss {event['loss']:.3f}  "
                f"{event['clips_per_s']:.0f} clips/s  {duration(event['eta_s'])} left ",
                end="", file=sys.stderr, flush=True,
            )  # fmt: skip
        elif kind == "epoch":
            told = {"train": "train_top1", "test": "test_top1", "knn": "probe_knn", "linear": "probe_linear"}
            shown = "".join(f"  {word} {event[name]:.4f}" for word, name in told.items() if name in event)
            print(
                f"\repoch {event['epoch']}  loss {event['loss']:.4f}{shown}  {event['clips_per_s']:.0f} clips/s       ",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        elif kind == "compile" and not event["compiled"]:
            print(f"not compiled: {event['reason']}", file=sys.stderr, flush=True)
        elif kind == "stopped":
            self.stopped = True


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


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
