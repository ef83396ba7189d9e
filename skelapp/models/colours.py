"""Colours of compared checkpoints and of classes, readable in both themes and by colour-blind viewers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyqtgraph as pg
from PySide6.QtGui import QColor

from skelapp import theme

LETTERS = "ABCDEFGH"
# After Okabe and Ito; darker on a light background.
_MODELS = {
    "dark": ("#7cc0f5", "#E69F00", "#2FBF95", "#D98BB8", "#F0E442", "#F08A4B", "#B9C2CE", "#9C8CF0"),
    "light": ("#0B5C9C", "#A65300", "#007A58", "#9A3F76", "#6B6200", "#B3400A", "#525D6B", "#5B3FC4"),
}
# Lightness runs evenly along each of these (Kovesi's maps, viridis), from the background's side on.
_SHARES = {"dark": "viridis", "light": "CET-L12"}


def model_colour(number: int) -> QColor:
    """Colour of compared checkpoint 0, 1, ..."""
    colours = _MODELS[theme.current().name]
    return QColor(colours[number % len(colours)])


def better() -> QColor:
    return QColor(_MODELS[theme.current().name][0])


def worse() -> QColor:
    return QColor(_MODELS[theme.current().name][1])


def class_colour(number: int, count: int) -> QColor:
    """One of ``count`` hues, neighbours far apart; neither too dark nor too light for the theme."""
    light = theme.current().name == "light"
    hue = (number * 0.61803398875) % 1.0 if count > 8 else number / max(count, 1)
    return QColor.fromHsvF(hue, 0.75 if light else 0.55, 0.62 if light else 0.95)


@lru_cache(maxsize=2)
def _table(name: str) -> np.ndarray:
    table: np.ndarray = pg.colormap.get(_SHARES[name]).getLookupTable(nPts=256)[:, :3].astype(np.uint8)
    return table


def share_colours(shares: np.ndarray) -> np.ndarray:
    """uint8 ``(..., 3)`` for shares 0..1; nothing at all is the theme's own surface."""
    now = theme.current()
    table = _table(now.name)
    colours = table[np.clip((shares * 255).round().astype(int), 0, 255)]
    surface = now.colour("surface")
    colours[shares <= 0] = (surface.red(), surface.green(), surface.blue())
    return colours
