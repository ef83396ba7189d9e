"""The one place that imports OpenCV, because importing it points Qt at OpenCV's own (older) Qt plugins.

``from engine.opencv import cv2`` gives the module with those two environment variables put back as they were.
"""

from __future__ import annotations

import os
from pathlib import Path

_QT_VARIABLES = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")
_before = {name: os.environ.get(name) for name in _QT_VARIABLES}

import cv2  # noqa: E402


def clean_qt_environment() -> None:
    """Drop or restore what importing cv2 set; harmless to call again after any import that may pull cv2 in."""
    package = str(Path(cv2.__file__).parent)
    for name in _QT_VARIABLES:
        if os.environ.get(name, "").startswith(package):
            before = _before[name]
            if before is None or before.startswith(package):
                os.environ.pop(name, None)
            else:
                os.environ[name] = before


clean_qt_environment()

__all__ = ["clean_qt_environment", "cv2"]
