"""Recognised segments as files other programs read: CSV for tables, WebVTT for players and annotation tools."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from engine.live.types import Segment

ENDINGS = (".csv", ".vtt")


def segments_csv(segments: Iterable[Segment]) -> str:
    """A table with a header line: person, label, start, end, score, repetitions; seconds with three decimals.

    Repetitions are empty where the action is not periodic.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["person", "label", "start", "end", "score", "repetitions"])
    for segment in segments:
        writer.writerow([
            segment.person, segment.label, f"{segment.start:.3f}", f"{segment.end:.3f}", f"{segment.score:.4f}",
            "" if segment.repetitions is None else segment.repetitions,
        ])  # fmt: skip
    return out.getvalue()


def segments_vtt(segments: Iterable[Segment]) -> str:
    """WebVTT cues, one per segment."""
    parts = ["WEBVTT\n"]
    for segment in sorted(segments, key=lambda s: (s.start, s.person)):
        label = segment.label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        times = f"{_stamp(segment.start)} --> {_stamp(segment.end)}"
        often = "" if segment.repetitions is None else f" x {segment.repetitions}"
        parts.append(f"{times}\nperson {segment.person}: {label}{often} ({segment.score:.2f})\n")
    return "\n".join(parts)


def _stamp(seconds: float) -> str:
    ms = round(max(0.0, seconds) * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def write_segments(segments: Iterable[Segment], path: Path) -> None:
    """Write by the ending of ``path``; raises ``ValueError`` for another ending than .csv and .vtt."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{path}: segments are written as .csv or .vtt")
    path.write_text(segments_csv(segments) if ending == ".csv" else segments_vtt(segments), "utf-8")
