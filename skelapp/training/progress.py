"""From a run's events to its curves and to lines people read; done off the window's thread."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skelapp.training.series import Series

# Numbers of an event that are no curve.
_NO_CURVE = {"event", "at", "epoch", "epochs", "step", "steps", "seconds", "eta_s"}
_ACCURACY = ("top1", "top5", "knn", "linear", "accuracy", "own_key_first")
# What a method says of itself that is neither a loss nor a share that was right.
_MEASURES = ("positives", "_weight", "_cosine")
GROUPS = ("loss", "parts", "accuracy", "measures", "lr", "speed", "memory")
_TITLES = {
    "loss": "loss", "train_top1": "training", "test_top1": "test", "test_top5": "test, top 5", "lr": "learning rate",
    "clips_per_s": "clips/s", "probe_knn": "probe, neighbours", "probe_linear": "probe, linear",
}  # fmt: skip


def group_of(name: str) -> str:
    """Which plot a number belongs to."""
    if name == "lr" or name.startswith("lr_"):
        return "lr"
    if name == "clips_per_s":
        return "speed"
    if name.startswith("memory"):
        return "memory"
    if name.endswith(_MEASURES):
        return "measures"
    if any(part in name for part in _ACCURACY):
        return "accuracy"
    return "loss" if name == "loss" else "parts"


def curve_title(name: str) -> str:
    """A curve's name in the legend."""
    return _TITLES.get(name) or name.replace("_", " ").replace("top1", "top 1").replace("top5", "top 5")


@dataclass
class Piece:
    """What some events add: cuts and points in their order, lines for the log, and the newest numbers."""

    changes: list[tuple[str, Any, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    newest: dict[str, Any] = field(default_factory=dict)
    restarted: bool = False
    more: bool = False


def digest(events: Iterable[dict[str, Any]]) -> Piece:
    """Sort events into a :class:`Piece`. Positions are epochs: 2.5 is the middle of the third."""
    piece = Piece()
    points: dict[str, tuple[list[float], list[float]]] = {}

    def flush() -> None:
        for name, (x, y) in points.items():
            piece.changes.append((name, np.array(x), np.array(y)))
        points.clear()

    for event in events:
        kind = event["event"]
        line = describe(event)
        if line:
            piece.lines.append(line)
        if kind == "run":
            flush()
            piece.changes.append(
                ("", event.get("epoch", 0) + event.get("step", 0) / max(event.get("steps", 1), 1), None)
            )
        elif kind in ("step", "epoch", "evaluation", "probe") and isinstance(event.get("epoch"), int):
            at = float(event["epoch"])
            if kind == "step":
                at += event.get("step", 0) / max(event.get("steps", 1), 1) - 1
            for name, value in event.items():
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                # The epoch repeats what its test said.
                if not number or name in _NO_CURVE or (kind == "epoch" and name.startswith(("test_", "probe_"))):
                    continue
                prefix = {"evaluation": "test_", "probe": "probe_"}.get(kind, "")
                whole = name if name.startswith(("test_", "probe_")) else prefix + name
                x, y = points.setdefault(whole, ([], []))
                x.append(at)
                y.append(float(value))
        if kind in ("step", "epoch", "run"):
            piece.newest |= event
    flush()
    return piece


def apply(piece: Piece, curves: dict[str, Series]) -> None:
    """Add a piece to the curves of a run, by name."""
    if piece.restarted:
        curves.clear()
    for name, x, y in piece.changes:
        if not name:
            for series in curves.values():
                series.cut(x)
        else:
            curves.setdefault(name, Series()).extend(x, y)


def describe(event: dict[str, Any]) -> str:
    """An event as a line of the log; empty for those that are curves only."""
    kind = event["event"]
    clock = time.strftime("%d %b %H:%M:%S", time.localtime(event.get("at", 0)))
    if kind == "run":
        began = f"goes on in epoch {event.get('epoch', 0) + 1}" if event.get("resumed") else "begins"
        where = event.get("device_name") or event.get("device", "")
        device = f" on {where}, {event['threads']} threads" if "threads" in event else f" on {where}" if where else ""
        return f"{clock}  {began}, {event.get('epochs', '?')} epochs of {event.get('steps', '?')} steps{device}"
    if kind == "epoch":
        numbers = [f"{curve_title(name)} {number(name, event[name])}" for name in event if _counts(event, name)]
        return f"{clock}  epoch {event['epoch']}: {', '.join(numbers)}"
    if kind == "end":
        tested = f", top 1 {100 * event['top1']:.2f} %" if isinstance(event.get("top1"), float) else ""
        return f"{clock}  finished after {duration(event.get('seconds', 0))}{tested}"
    if kind == "stopped":
        return f"{clock}  stopped in epoch {event.get('epoch', 0) + 1}: {event.get('reason', '')}"
    if kind == "failed":
        return f"{clock}  failed: {event.get('reason', '')}"
    if kind in ("step", "evaluation", "probe"):
        return ""
    rest = ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("event", "at"))
    return f"{clock}  {kind.replace('_', ' ')}{': ' if rest else ''}{rest}"[:400]


def _counts(event: dict[str, Any], name: str) -> bool:
    return name not in _NO_CURVE and isinstance(event[name], (int, float))


def number(name: str, value: float) -> str:
    """A value as people read it: shares in per cent, memory in GiB, rates short."""
    group = group_of(name)
    if group == "accuracy":
        return f"{100 * value:.1f} %"
    if group == "memory":
        return f"{value / 1024:.2f} GiB"
    if group == "speed":
        return f"{value:.0f}"
    return f"{value:.2e}" if group == "lr" and 0 < value < 1e-3 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds in the two largest fitting units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
