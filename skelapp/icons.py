"""Line icons painted in the theme's colours, so that they are sharp at any size and readable in both themes."""

from __future__ import annotations

from PySide6.QtCore import QByteArray, QRectF, QSize, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from skelapp import theme

# 24 x 24 drawings, stroked.
# fmt: off
_SHAPES = {
    "live": '<circle cx="12" cy="5" r="2.4"/><path d="M12 8v6M12 10L6 7M12 10l6-4M12 14l-4 7M12 14l4 7"/>',
    "teach": '<circle cx="9" cy="5" r="2.2"/><path d="M9 8v6M9 10l-4-2M9 10l4-3M9 14l-3 6M9 14l3 6"/>'
    '<path d="M18 12v8M14 16h8"/>',
    "models": '<path d="M12 3l9 4.5-9 4.5-9-4.5z"/><path d="M3 12l9 4.5 9-4.5M3 16.5L12 21l9-4.5"/>',
    "data": '<ellipse cx="12" cy="6" rx="8" ry="3"/><path d="M4 6v6c0 1.7 3.6 3 8 3s8-1.3 8-3V6"/>'
    '<path d="M4 12v6c0 1.7 3.6 3 8 3s8-1.3 8-3v-6"/>',
    "training": '<path d="M4 4v16h16"/><path d="M7 8c2 7 5 8 12 8.5"/>',
    "settings": '<path d="M4 7h10M18 7h2M4 17h2M10 17h10"/>'
    '<circle cx="16" cy="7" r="2"/><circle cx="8" cy="17" r="2"/>',
    "source": '<rect x="3" y="7" width="12" height="10" rx="2"/><path d="M15 11l6-3v8l-6-3z"/>',
    "play": '<path d="M7 5l12 7-12 7z"/>',
    "pause": '<path d="M8 5v14M16 5v14"/>',
    "record": '<circle cx="12" cy="12" r="6"/>',
    "step_back": '<path d="M17 6l-8 6 8 6zM6 6v12"/>',
    "step_on": '<path d="M7 6l8 6-8 6zM18 6v12"/>',
    "loop": '<path d="M4 12a7 7 0 0 1 12-5l3 3M19 5v5h-5M20 12a7 7 0 0 1-12 5l-3-3M5 19v-5h5"/>',
    "stop": '<rect x="6" y="6" width="12" height="12" rx="1.5"/>',
    "mirror": '<path d="M12 3v18M9 7L3 12l6 5zM15 7l6 5-6 5z"/>',
    "picture": '<rect x="3" y="5" width="18" height="14" rx="2"/><circle cx="9" cy="10" r="1.6"/>'
    '<path d="M4 18l6-5 4 3 3-2 4 3"/>',
    "skeleton": '<circle cx="12" cy="4.5" r="2"/><path d="M12 7v7M7 9.5h10"/>'
    '<path d="M12 14l-4 6.5M12 14l4 6.5M7 9.5L5 14M17 9.5l2 4.5"/>',
    "space": '<path d="M12 3l8 4.5v9L12 21l-8-4.5v-9z"/><path d="M4 7.5l8 4.5 8-4.5M12 12v9"/>',
    "tear": '<path d="M13 5h6v6M19 5l-8 8"/><path d="M10 6H6v12h12v-4"/>',
    "app": '<circle cx="12" cy="5" r="2.6"/><path d="M12 8v6M12 10L6 6M12 10l6-3M12 14l-4 7M12 14l4 7"/>',
}
# fmt: on


def _pixmap(shape: str, colour: str, size: int, filled: bool) -> QPixmap:
    fill = colour if filled else "none"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="{fill}" stroke="{colour}" '
        f'stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">{_SHAPES[shape]}</svg>'
    )
    pixmap = QPixmap(size * 2, size * 2)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(QByteArray(svg.encode())).render(painter, QRectF(0, 0, size * 2, size * 2))
    painter.end()
    pixmap.setDevicePixelRatio(2.0)
    return pixmap


def icon(shape: str, colour: str | None = None, size: int = 22, filled: bool = False) -> QIcon:
    """An icon in a colour (the theme's text by default); pressed-in buttons show it in the accent's text colour."""
    now = theme.current()
    made = QIcon(_pixmap(shape, colour or now.text, size, filled))
    if colour is None:
        made.addPixmap(_pixmap(shape, now.on_accent, size, filled), QIcon.Mode.Normal, QIcon.State.On)
    made.addPixmap(_pixmap(shape, now.muted, size, filled), QIcon.Mode.Disabled)
    return made


def icon_size(size: int = 22) -> QSize:
    return QSize(size, size)
