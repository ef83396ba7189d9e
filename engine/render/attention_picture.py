"""A page that shows what an encoder with attention looked at in one clip: on the body, over time, frame by frame.

Plain arrays go in, so that this room knows nothing of encoders.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.skeleton.layout import Layout

WIDTH = 1500
MARGIN = 40
_LABELS = 160  # room for names left of a heat map
_BAR = 110  # room for the colour bar right of it
_ROW = 15  # height of a joint's row
_THUMB = 210  # height of a drawn body
_INK, _GREY, _PALE = (32, 33, 36), (110, 114, 120), (214, 217, 222)
# Colours start here when attention is nearly equal, so that noise is not blown up to a pattern.
_LEAST_TOP = 2.0


@dataclass(frozen=True)
class AttentionPage:
    """What is drawn. Attention is in multiples of an equal share: 1 means "as if it looked at everything alike".

    Parameters
    ----------
    title, subtitle : str
        First lines of the page.
    times : numpy.ndarray
        ``(T,)``, seconds.
    joints : numpy.ndarray
        ``(T, M, V, 3)``, metres in Kinect camera axes, zeros where a person is absent; only drawn.
    body : numpy.ndarray
        ``(T, M, M, V)``: what the body token of a person takes from every joint of every person.
    frames : numpy.ndarray
        ``(B, T, T)``: what each frame takes from each frame, per block.
    layout : Layout
        Names and bones of the joints.
    """

    title: str
    subtitle: str
    times: np.ndarray
    joints: np.ndarray
    body: np.ndarray
    frames: np.ndarray
    layout: Layout

    @property
    def present(self) -> list[int]:
        """Persons who are there in some frame; the first one if nobody is."""
        seen = np.any(self.joints != 0, axis=(0, 2, 3))
        return [m for m in range(len(seen)) if seen[m]] or [0]


def draw_attention(page: AttentionPage, moments: int = 8) -> np.ndarray:
    """Draw the page.

    Parameters
    ----------
    page : AttentionPage
        At least one frame.
    moments : int
        Moments drawn at most of one person; fewer, larger ones of two.

    Returns
    -------
    numpy.ndarray
        uint8 RGB ``(height, 1500, 3)``; the height depends on persons and blocks.
    """
    persons = page.present
    maps = len(persons) ** 2
    height = 100 + 34 + _THUMB + 40 + maps * (len(page.layout.joints) * _ROW + 84) + 34 + _frames_height(page)
    sheet = _Sheet(height)
    sheet.text(MARGIN, 50, page.title, 26, weight=700)
    sheet.text(MARGIN, 78, page.subtitle, 15, _GREY)
    top = _top(page.body[:, persons][:, :, persons])
    y = 118
    y = _draw_moments(sheet, page, y, top, moments // len(persons) + len(persons) // 2)
    for p in persons:
        for q in persons:
            y = _draw_joints(sheet, page, y, p, q, top)
    _draw_frames(sheet, page, y)
    return sheet.image


class _Sheet:
    """A white page and the few strokes that are needed."""

    def __init__(self, height: int) -> None:
        from engine.opencv import cv2

        self.cv2: Any = cv2
        self.image = np.full((height, WIDTH, 3), 255, np.uint8)
        self._face = cv2.FontFace("sans")

    def text(
        self, x: float, y: float, text: str, size: int = 13, colour: Sequence[int] = _INK, align: str = "left",
        weight: int = 400,
    ) -> None:  # fmt: skip
        """Write with the baseline at ``y``; ``align`` says which end of the text is at ``x``."""
        width = self.cv2.getTextSize((0, 0), text, (0, 0), self._face, size, weight)[2]
        x -= {"left": 0, "middle": width / 2, "right": width}[align]
        self.cv2.putText(self.image, text, (round(x), round(y)), tuple(colour), self._face, size, weight)

    def line(self, a: Sequence[float], b: Sequence[float], colour: Sequence[int] = _GREY, thick: int = 1) -> None:
        self.cv2.line(self.image, _pixel(a), _pixel(b), tuple(colour), thick, self.cv2.LINE_AA)

    def disc(self, centre: Sequence[float], radius: float, colour: Sequence[int], ring: bool = False) -> None:
        """A filled circle, or a ring."""
        sixteenths = tuple(round(c * 16) for c in centre)
        colour = tuple(int(c) for c in colour)
        thick = 2 if ring else -1
        self.cv2.circle(self.image, sixteenths, round(radius * 16), colour, thick, self.cv2.LINE_AA, 4)

    def heat(self, x: int, y: int, width: int, height: int, values: np.ndarray, top: float) -> None:
        """A matrix as colours; row 0 on top."""
        colours = self.colours(values, top)
        shrink = values.shape[0] > height or values.shape[1] > width
        how = self.cv2.INTER_AREA if shrink else self.cv2.INTER_NEAREST
        self.image[y : y + height, x : x + width] = self.cv2.resize(colours, (width, height), interpolation=how)
        self.cv2.rectangle(self.image, (x - 1, y - 1), (x + width, y + height), _PALE, 1)

    def colours(self, values: np.ndarray, top: float) -> np.ndarray:
        """uint8 RGB of ``values`` between 0 and ``top``, with a trailing axis of 3."""
        level = np.clip(np.asarray(values, np.float64) / top * 255, 0, 255).round().astype(np.uint8)
        flat = self.cv2.applyColorMap(level.reshape(-1, 1), self.cv2.COLORMAP_VIRIDIS)
        out: np.ndarray = flat[:, 0, ::-1].reshape(*level.shape, 3)
        return out

    def bar(self, x: int, y: int, height: int, top: float) -> None:
        """The colour scale with its numbers."""
        self.heat(x, y, 14, height, np.linspace(top, 0, height)[:, None], top)
        for value in sorted({0.0, 1.0, float(top)}):
            at = y + height * (1 - value / top)
            self.line((x + 14, at), (x + 18, at))
            self.text(x + 22, at + 5, "1 = equal" if value == 1 else f"{value:.3g}", 12, _GREY)


def _pixel(point: Sequence[float]) -> tuple[int, int]:
    return round(point[0]), round(point[1])


def _top(values: np.ndarray) -> float:
    """Upper end of a colour scale: nearly the largest value, rounded up to two digits."""
    high = max(float(np.quantile(values, 0.995)), _LEAST_TOP)
    step = 10 ** (np.floor(np.log10(high)) - 1)
    return float(np.ceil(high / step) * step)


def _person(page: AttentionPage, p: int) -> str:
    return f"person {p + 1}" if len(page.present) > 1 else "the person"


# The three parts of the page -----------------------------------------------------------------------------------------


def _draw_moments(sheet: _Sheet, page: AttentionPage, y: int, top: float, moments: int) -> int:
    lead = page.present[0]
    sheet.text(MARGIN, y, f"Where the body token of {_person(page, lead)} looks", 17, weight=600)
    note = "large and bright joints are read most; the ring is the joint whose place the body token takes"
    sheet.text(WIDTH - MARGIN, y, note, 13, _GREY, "right")
    y += 16
    seen = np.flatnonzero(np.any(page.joints != 0, axis=(1, 2, 3)))
    chosen = seen[np.unique(np.linspace(0, max(len(seen) - 1, 0), min(moments, len(seen))).round().astype(int))]
    cell, height = (WIDTH - 2 * MARGIN) / max(len(chosen), 1), _THUMB
    flat = _flat(page.joints)
    there = np.any(page.joints != 0, axis=(2, 3))
    centres = np.array([flat[t][there[t]].reshape(-1, 2).mean(0) for t in chosen]).reshape(-1, 2)
    extent = [np.abs(flat[t][there[t]] - c).reshape(-1, 2).max(0) for t, c in zip(chosen, centres, strict=True)]
    reach = np.max([*extent, (0.05, 0.05)], axis=0) * 1.12
    scale = min(cell / 2 / reach[0], height / 2 / reach[1])
    for k, (t, centre) in enumerate(zip(chosen, centres, strict=True)):
        middle = np.array([MARGIN + (k + 0.5) * cell, y + height / 2])
        for q in page.present:
            if there[t, q]:
                _draw_body(sheet, page, (flat[t, q] - centre) * scale + middle, page.body[t, lead, q], top)
        sheet.text(middle[0], y + height + 14, f"{page.times[t]:.2f} s", 13, _GREY, "middle")
    return y + height + 52


def _flat(joints: np.ndarray) -> np.ndarray:
    """Seen from the sensor: x of the picture to the right, y down."""
    return -joints[..., :2].astype(np.float64)


def _draw_body(sheet: _Sheet, page: AttentionPage, points: np.ndarray, attention: np.ndarray, top: float) -> None:
    for child, parent in page.layout.bones:
        sheet.line(points[child], points[parent], _PALE, 3)
    colours = sheet.colours(attention, top)
    for joint in np.argsort(attention):
        radius = 2.5 + 6.5 * float(np.sqrt(min(attention[joint] / top, 1)))
        sheet.disc(points[joint], radius, colours[joint].tolist())
    sheet.disc(points[page.layout.root], 10, _GREY, ring=True)


def _rows(layout: Layout) -> list[int]:
    """Joints, limb by limb, so that rows of one limb are neighbours."""
    in_limbs = [joint for limb in layout.limbs.values() for joint in limb]
    return [*in_limbs, *(joint for joint in range(layout.num_joints) if joint not in in_limbs)]


def _draw_joints(sheet: _Sheet, page: AttentionPage, y: int, p: int, q: int, top: float) -> int:
    whose = "its own joints" if p == q else f"the joints of {_person(page, q)}"
    sheet.text(MARGIN, y, f"What the body token of {_person(page, p)} takes from {whose}", 17, weight=600)
    y += 14
    rows = _rows(page.layout)
    x, width, height = MARGIN + _LABELS, WIDTH - 2 * MARGIN - _LABELS - _BAR, len(rows) * _ROW
    sheet.heat(x, y, width, height, page.body[:, p, q][:, rows].T, top)
    for k, joint in enumerate(rows):
        name = page.layout.joints[joint]
        name = f"{name} (body)" if joint == page.layout.root else name
        sheet.text(x - 8, y + k * _ROW + 12, name, 12, _INK, "right", 700 if joint == page.layout.root else 400)
    ends = np.cumsum([len(limb) for limb in page.layout.limbs.values()])
    for end in ends[ends < len(rows)]:
        sheet.line((x - _LABELS + 10, y + end * _ROW), (x, y + end * _ROW), _PALE)
    sheet.bar(x + width + 16, y, height, top)
    _time_axis(sheet, page, x, y + height, width)
    return y + height + 70


def _time_axis(sheet: _Sheet, page: AttentionPage, x: int, y: int, width: int, ticks: int = 8) -> None:
    count = len(page.times)
    for t in np.unique(np.linspace(0, count - 1, min(ticks, count)).round().astype(int)):
        at = x + (t + 0.5) * width / count
        sheet.line((at, y), (at, y + 4))
        sheet.text(at, y + 18, f"{page.times[t]:.2f}", 12, _GREY, "middle")
    sheet.text(x + width + 18, y + 18, "s", 12, _GREY)


def _frames_layout(page: AttentionPage) -> tuple[int, int]:
    """Blocks per line and the side of a map in pixels."""
    per_line = min(len(page.frames), 4)
    return per_line, min(300, (WIDTH - 2 * MARGIN - _BAR) // per_line - 60)


def _frames_height(page: AttentionPage) -> int:
    per_line, side = _frames_layout(page)
    return 60 + -(-len(page.frames) // per_line) * (side + 70) + 90


def _draw_frames(sheet: _Sheet, page: AttentionPage, y: int) -> None:
    sheet.text(MARGIN, y, "Which frames are read", 17, weight=600)
    sheet.text(WIDTH - MARGIN, y, "each row is a frame, its columns the frames it takes from", 13, _GREY, "right")
    top = _top(page.frames)
    per_line, side = _frames_layout(page)
    for b, attention in enumerate(page.frames):
        x = MARGIN + 40 + (b % per_line) * (side + 60)
        at = y + 40 + (b // per_line) * (side + 70)
        sheet.text(x, at - 8, f"block {b + 1}", 14)
        sheet.heat(x, at, side, side, attention, top)
        _time_axis(sheet, page, x, at + side, side, 3)
        for share in (0.0, 1.0):
            time = page.times[round(share * (len(page.times) - 1))]
            sheet.text(x - 6, at + 10 + share * (side - 12), f"{time:.2f}", 12, _GREY, "right")
    sheet.bar(MARGIN + 40 + per_line * (side + 60) - 36, y + 40, side, top)
    lines = -(-len(page.frames) // per_line)
    _draw_curve(sheet, page, y + 40 + lines * (side + 70))


def _draw_curve(sheet: _Sheet, page: AttentionPage, y: int) -> None:
    """How much each frame is read by all, mean over blocks."""
    seen = page.frames.mean((0, 1))
    x, width, height = MARGIN + _LABELS, WIDTH - 2 * MARGIN - _LABELS - _BAR, 80
    top = max(float(seen.max()) * 1.1, _LEAST_TOP)
    sheet.text(x - 8, y + 20, "read by all frames", 12, _INK, "right")
    sheet.text(x - 8, y + 36, "mean of the blocks", 12, _GREY, "right")
    equal = y + height * (1 - 1 / top)
    sheet.line((x, equal), (x + width, equal), _PALE)
    sheet.text(x + width + 8, equal + 4, "1 = equal", 12, _GREY)
    points = [(x + (t + 0.5) * width / len(seen), y + height * (1 - v / top)) for t, v in enumerate(seen)]
    for a, b in itertools.pairwise(points):
        sheet.line(a, b, (49, 104, 142), 2)
    if len(points) == 1:
        sheet.disc(points[0], 3, (49, 104, 142))
    sheet.line((x, y + height), (x + width, y + height), _PALE)
    _time_axis(sheet, page, x, y + height, width)
