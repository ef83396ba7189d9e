"""OpenCV for the live path, as :mod:`engine.opencv` imports it."""

from __future__ import annotations

from engine.opencv import clean_qt_environment, cv2

__all__ = ["clean_qt_environment", "cv2"]
