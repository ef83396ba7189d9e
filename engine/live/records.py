"""The JSON form of decisions and segments: the lines of ``recognize --json`` and of a recording's results."""

from __future__ import annotations

import json
from typing import Any

from engine.live.types import LiveDecision, Segment


def decision_record(decision: LiveDecision, origin: float = 0.0) -> dict[str, Any]:
    """``{"t", "person", "label", "score", "top", "latency_ms"}``; ``origin`` is subtracted from the time."""
    return {
        "t": round(decision.time - origin, 4),
        "person": decision.person,
        "label": decision.label,
        "score": round(decision.score, 4),
        "top": [[label, round(score, 4)] for label, score in decision.top],
        "latency_ms": round(decision.latency_ms, 2),
    }


def segment_record(segment: Segment, origin: float = 0.0) -> dict[str, Any]:
    """``{"segment": {"person", "label", "start", "end", "score"}}``, and ``"repetitions"`` of a periodic action."""
    record: dict[str, Any] = {
        "person": segment.person,
        "label": segment.label,
        "start": round(segment.start - origin, 4),
        "end": round(segment.end - origin, 4),
        "score": round(segment.score, 4),
    }
    if segment.repetitions is not None:
        record["repetitions"] = segment.repetitions
    return {"segment": record}


def dumps(record: dict[str, Any]) -> str:
    """One line, without its end."""
    return json.dumps(record, ensure_ascii=False)
