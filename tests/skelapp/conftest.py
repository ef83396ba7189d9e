"""Fixtures of the window's tests: no display needed, a home of their own, and nothing may be left running."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before Qt is imported. A developer who wants to see the windows sets QT_QPA_PLATFORM=xcb.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import psutil
import pytest

pytest.importorskip("PySide6")

import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, QThread, QTimer
from PySide6.QtWidgets import QWidget

from engine import paths
from engine.live.types import Snapshot
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore
from tests.engine.live.helpers import build_checkpoint

GRACE_S = 3.0


def _alive(kind: type, busy: Callable[[Any], bool]) -> dict[int, Any]:
    """Objects of Qt that Python knows, by identity."""
    return {
        id(o): o for o in shiboken6.getAllValidWrappers() if isinstance(o, kind) and shiboken6.isValid(o) and busy(o)
    }


def _left_behind() -> dict[str, set[object]]:
    return {
        "python threads": {t.name for t in threading.enumerate() if t is not threading.main_thread()},
        "QThreads": set(_alive(QThread, QThread.isRunning)),
        "QTimers": set(_alive(QTimer, QTimer.isActive)),
        "processes": {child.pid for child in psutil.Process().children(recursive=True)},
    }


@pytest.fixture(scope="session", autouse=True)
def what_stays_is_not_searched() -> Iterator[None]:
    """Modules and other tests' objects are no garbage: every collection here would go through a million of them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left(qapp) -> Iterator[None]:
    """Fail a test that leaves a thread, a timer or a process behind."""
    before = _left_behind()
    yield
    deadline = time.monotonic() + GRACE_S
    while True:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QCoreApplication.processEvents()
        gc.collect()
        new = {kind: found - before[kind] for kind, found in _left_behind().items()}
        if not any(new.values()):
            return
        if time.monotonic() > deadline:
            timers = [
                f"{type(timer.parent()).__name__} in {type(timer.parent().window()).__name__}"
                if isinstance(timer.parent(), QWidget)
                else f"{timer.parent()!r}, every {timer.interval()} ms"
                for address, timer in _alive(QTimer, QTimer.isActive).items()
                if address in new["QTimers"]
            ]
            pytest.fail(f"left behind: { {kind: found for kind, found in new.items() if found} }; timers of {timers}")
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, empty; no shipped checkpoints, so that tests see only what they made."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SKELAPP_HOME", str(folder))
    monkeypatch.setattr(paths, "TRAINED_MODELS", tmp_path / "none")
    monkeypatch.setattr(paths, "DEFAULT_CHECKPOINT", tmp_path / "none" / "default")
    monkeypatch.setattr(paths, "DEMO_CLIP", tmp_path / "no_demo.mp4")
    return folder


@pytest.fixture
def settings(home: Path) -> SettingsStore:
    return SettingsStore()


@pytest.fixture
def open_window(qtbot, settings: SettingsStore) -> Iterator[Callable[..., MainWindow]]:
    """Makes main windows that are closed at the end of the test. No cameras unless the test gives some."""
    opened: list[MainWindow] = []

    def make(store: SettingsStore | None = None, **options: object) -> MainWindow:
        options.setdefault("cameras", list)
        window = MainWindow(store or settings, **options)  # type: ignore[arg-type]
        opened.append(window)
        window.show()
        qtbot.waitExposed(window)
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow)
        return window

    yield make
    for window in opened:
        if shiboken6.isValid(window):
            window.close()
            assert window.closed_clean
            window.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a window show a hand-made snapshot, as if ``source`` delivered it."""

    def put(window: MainWindow, snapshot: Snapshot, source: str = "0") -> None:
        window.session.source = source
        monkeypatch.setattr(window.session, "snapshot", lambda: snapshot)
        window.session.source_changed.emit(source)
        window.live._slow_at = 0.0
        window.live.tick()

    return put


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small real checkpoints that name which hand moves."""
    root = tmp_path_factory.mktemp("checkpoints")
    return build_checkpoint(root / "first", "first"), build_checkpoint(root / "second", "second", window_s=1.0)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two rendered videos of a person who moves, 320x240."""
    from engine.render.actor import Actor
    from engine.render.motions import motion
    from engine.render.video import render_sequence

    root = tmp_path_factory.mktemp("clips")
    made = []
    for name, seconds in (("wave", 5.0), ("clap", 3.0)):
        sequence = motion(name, seconds, fps=12.0)
        made.append(render_sequence(sequence, root / f"{name}.mp4", actor=Actor(), size=(320, 240)))
    return made[0], made[1]
