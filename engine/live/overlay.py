"""Drawing skeletons and labels into pictures, for rendered videos; the window paints its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.live.types import LiveDecision, PersonPose, PoseResult

# Okabe-Ito, told apart by colour-blind people too: person 1 sky blue, person 2 orange, then green and purple.
PERSON_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167))
# Body connections between BlazePose landmarks; the face is left out.
CONNECTIONS = (
    (11, 12), (11, 23), (12, 24), (23, 24), (11, 13), (13, 15), (15, 17), (15, 19), (15, 21), (17, 19), (12, 14),
    (14, 16), (16, 18), (16, 20), (16, 22), (18, 20), (23, 25), (25, 27), (27, 29), (29, 31), (27, 31), (24, 26),
    (26, 28), (28, 30), (30, 32), (28, 32),
)  # fmt: skip
_HEAD = (0, 7, 8)
_MIN_VISIBILITY = 0.3


def person_colour(person: int) -> tuple[int, int, int]:
    """RGB of a person id (1, 2, ...)."""
    return PERSON_COLOURS[(person - 1) % len(PERSON_COLOURS)]


def draw_overlay(
    image: np.ndarray, pose: PoseResult | None, decisions: Mapping[int, LiveDecision] | None = None
) -> np.ndarray:
    """A copy of an RGB picture ``(H, W, 3)`` with skeletons, and per person the label or a dash.

    The person's left side is drawn lighter, the right side darker.
    """
    out = image.copy()
    if pose is None:
        return out
    for person in pose.persons:
        _draw_person(out, person)
    for row, person in enumerate(pose.persons):
        _draw_label(out, person.person, (decisions or {}).get(person.person), row)
    return out


def _shade(colour: tuple[int, int, int], joints: tuple[int, int]) -> tuple[int, int, int]:
    odd = [joint % 2 for joint in joints]
    if all(odd):
        return tuple(int(c + (255 - c) * 0.35) for c in colour)  # type: ignore[return-value]
    if not any(odd):
        return tuple(int(c * 0.65) for c in colour)  # type: ignore[return-value]
    return colour


def _draw_person(out: np.ndarray, person: PersonPose) -> None:
    from engine.live._cv2 import cv2

    height, width = out.shape[:2]
    points = person.raw.image[:, :2] * np.array([width, height])
    seen = person.raw.visibility >= _MIN_VISIBILITY
    # Landmarks may lie far outside the picture; lines to them must not overflow the drawing's integers.
    points = np.clip(points, -4 * max(width, height), 5 * max(width, height)).round().astype(int)
    colour = person_colour(person.person)
    thick = max(2, round(height / 200))
    for a, b in CONNECTIONS:
        if seen[a] and seen[b]:
            start, end = tuple(map(int, points[a])), tuple(map(int, points[b]))
            cv2.line(out, start, end, _shade(colour, (a, b)), thick, cv2.LINE_AA)
    if seen[list(_HEAD)].all():
        radius = max(4, int(np.linalg.norm(points[7] - points[8]) * 0.6))
        cv2.circle(out, tuple(map(int, points[0])), radius, colour, thick, cv2.LINE_AA)


def _draw_label(out: np.ndarray, person: int, decision: LiveDecision | None, row: int) -> None:
    from engine.live._cv2 import cv2

    name = decision.label if decision is not None else None
    text = f"{person}  {name} {decision.score:.2f}" if name is not None and decision is not None else f"{person}  -"
    text = text.encode("ascii", "replace").decode()
    scale = max(0.5, out.shape[0] / 600)
    thick = max(1, round(scale * 2))
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    margin = max(4, height // 2)
    x, y = margin, margin + row * (height + base + 2 * margin)
    corner = (min(out.shape[1] - 1, x + width + 2 * margin), y + height + base + margin)
    cv2.rectangle(out, (x, y), corner, (24, 24, 24), -1)
    cv2.rectangle(out, (x, y), (x + max(3, margin // 2), corner[1]), person_colour(person), -1)
    cv2.putText(
        out, text, (x + margin, y + height + margin // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thick,
        cv2.LINE_AA,
    )  # fmt: skip
