"""What tests of the Teach panel do with a window: teach it something, wait until it is done, drop files on it."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication

from engine.render.motions import motion
from engine.skeleton.sequence import SkeletonSequence
from skelapp.main_window import MainWindow
from skelapp.teach.content import TeachContent

WAIT = 60_000  # ms; the machine may be busy


def take(name: str = "wave", seconds: float = 2.0) -> SkeletonSequence:
    return motion(name, seconds, fps=15.0)


def content_of(window: MainWindow) -> TeachContent:
    assert window.teach.content is not None
    return window.teach.content


def settle(qtbot, window: MainWindow) -> None:
    qtbot.waitUntil(lambda: not window.desk.busy, timeout=WAIT)


def taught(qtbot, window: MainWindow, **actions: int) -> TeachContent:
    """A pack with so many takes of each action."""
    for name, count in actions.items():
        window.desk.add_action(name)
        for number in range(count):
            window.desk.add_take(name, take(seconds=1.5 + 0.2 * number))
    settle(qtbot, window)
    return content_of(window)


def drop(window: MainWindow, path: Path, on=None) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    how = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(on or window, QDragEnterEvent(QPoint(50, 50), *how))
    QApplication.sendEvent(on or window, QDropEvent(QPointF(50, 50), *how))
