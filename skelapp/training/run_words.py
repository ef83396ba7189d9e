"""What the page of a run says: its state in a sentence, its newest numbers in a line, its results as a table."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from skelapp import theme
from skelapp.training.progress import duration, number
from skelapp.training.runs import Row
from skelapp.widgets import rich_table

# What a state means, and what comes next.
SENTENCES = {
    "starting": "Starting: torch is loaded and the data are opened.",
    "running": "Running. The window may be closed: the run goes on and is found again.",
    "stopping": "Stopping: it finishes its step and saves.",
    "finished": "Finished.",
    "stopped": "Stopped and kept. Resume goes on exactly there.",
    "cancelled": "Cancelled. Resume goes on from what it saved last.",
    "failed": "Failed.",
    "interrupted": "Interrupted: its process died. Resume goes on from what it saved last.",
    "new": "Not begun.",
}
_DIED = "The run's process died without a word of its own: it was killed, or the machine went down."
_HEADS = (
    ("Measured on", "left"), ("Dataset", "left"), ("Split", "left"), ("Top 1", "right"), ("Top 5", "right"),
    ("Count", "right"),
)  # fmt: skip


def sentence(row: Row, place: int) -> str:
    """Where a run stands and what comes next; ``place`` is its place in the queue."""
    said = SENTENCES.get(row.state, "")
    if row.state == "queued":
        return "Starts next." if place <= 1 else f"Waits in the queue, number {place}."
    if row.state == "failed" and row.reason:
        return "Failed; what went wrong stands below."
    return f"{said} ({row.reason})" if row.state == "stopped" and row.reason else said


def why_empty(row: Row | None, loading: bool) -> str:
    """Why there are no curves."""
    if loading:
        return "Reading…"
    if row is not None and row.state in ("queued", "starting", "running"):
        return "Curves appear with the first numbers of the run."
    return "This run has no numbers yet."


def trouble(row: Row) -> str:
    """What went wrong, empty where nothing did."""
    if row.state == "failed":
        return row.reason or "It ended with an error."
    return _DIED if row.state == "interrupted" else ""


def numbers_html(row: Row, shown: Path | None, newest: dict[str, Any]) -> str:
    """The newest numbers of a run, or of the step of a chain that is shown, in one line."""
    parts: list[tuple[str, str]] = []
    if row.steps:
        parts.append(("Steps", f"{sum(step.state == 'finished' for step in row.steps)} of {len(row.steps)}"))
    row = next((step for step in row.steps if step.path == shown), row)
    if row.epochs:
        parts.append(("Epoch", f"{row.epoch} of {row.epochs}"))
    for name, head in (("loss", "Loss"), ("train_top1", "Training"), ("lr", "Rate")):
        if isinstance(newest.get(name), float):
            parts.append((head, number(name, newest[name])))
    if row.accuracy is not None:
        parts.append(("Test", f"{100 * row.accuracy:.1f} %"))
    for name, head in (("clips_per_s", "Clips/s"), ("memory_mib", "Memory")):
        if isinstance(newest.get(name), (int, float)):
            parts.append((head, number(name, newest[name])))
    if row.state == "running" and row.eta_s is not None:
        parts.append(("Time left, about", duration(row.eta_s)))
    muted = theme.current().muted
    # A space at every gap lets the line break there.
    return "&nbsp;&nbsp;&nbsp;&nbsp; ".join(
        f"<span style='color:{muted}'>{_unbroken(head)}</span>&nbsp;<b>{_unbroken(value)}</b>" for head, value in parts
    )


def results_html(row: Row) -> str:
    """The tests of a run as a table, empty where there are none."""
    if not row.results:
        return ""
    rows = ""
    for result in row.results:
        words = "".join(f"<td>{escape(str(result.get(key, '')))}</td>" for key in ("name", "dataset", "split"))
        shares = "".join(f"<td align='right'>{_share(result.get(key))}</td>" for key in ("top1", "top5"))
        rows += f"<tr>{words}{shares}<td align='right'>{escape(str(result.get('count', '')))}</td></tr>"
    head = "".join(f"<th align='{side}'>{name}</th>" for name, side in _HEADS)
    return rich_table(f"<tr>{head}</tr>{rows}", padding=5)


def _unbroken(text: str) -> str:
    return escape(text).replace(" ", "&nbsp;")


def _share(value: object) -> str:
    return f"{100 * value:.2f} %" if isinstance(value, float) else "–"
