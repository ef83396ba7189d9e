"""Windows on the Teach panel."""

from __future__ import annotations

from pathlib import Path

import pytest

from skelapp.main_window import MainWindow
from tests.skelapp import staged
from tests.skelapp.teach.handling import WAIT, take


@pytest.fixture
def window(qtbot, open_window) -> MainWindow:
    """A window on the Teach panel, without a source and without an encoder."""
    window = open_window()
    window.show_panel("teach")
    qtbot.waitUntil(lambda: window.teach.content is not None, timeout=WAIT)
    return window


@pytest.fixture
def watched(window: MainWindow, stage, monkeypatch) -> MainWindow:
    """A window that seems to see a person who was just said to wave."""
    window.session.checkpoint = Path("some")
    monkeypatch.setattr(window.session, "motion", lambda: 0.0)
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(window.session, "poses", lambda who, start, end: asked.append((start, end)) or take())
    monkeypatch.setattr(window.desk, "learn", lambda: None)
    window.asked = asked
    window.show_panel("live")
    stage(window, staged.running())
    return window
