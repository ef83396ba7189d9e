"""Asking for files without stopping the window, and writing what was asked for; a disk that refuses is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QBuffer, Qt
from PySide6.QtWidgets import QFileDialog, QWidget

from skelapp.widgets import Banner

Act = Callable[[Path], object]


def ask_file(parent: QWidget, title: str, act: Act, names: str = "", at: str = "") -> None:
    """Let the user choose a file that is there and call ``act`` with it; ``names`` is Qt's list of filters."""
    dialog = QFileDialog(parent, title, at, names)
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    _open(dialog, act)


def ask_folder(parent: QWidget, title: str, act: Act, at: str = "") -> None:
    """Let the user choose a folder and call ``act`` with it."""
    dialog = QFileDialog(parent, title, at)
    dialog.setFileMode(QFileDialog.FileMode.Directory)
    _open(dialog, act)


def ask_place(parent: QWidget, title: str, name: str, act: Act, names: str = "") -> None:
    """Let the user choose where a file goes and call ``act`` with it; ``name`` is offered and gives the ending."""
    dialog = QFileDialog(parent, title, name, names)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(Path(name).suffix.lstrip("."))
    dialog.selectFile(name)
    _open(dialog, act)


def _open(dialog: QFileDialog, act: Act) -> None:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(lambda path: act(Path(path)))
    dialog.open()


def save(banner: Banner, path: Path, write: Act) -> bool:
    """Write a file and say so in the panel's banner, or why it could not be written."""
    try:
        write(path)
    except OSError as error:
        reason = error.strerror or str(error)
        banner.show_message(f"{path} can't be written: {reason}. Make room or choose another place.", error=True)
        return False
    banner.show_message(f"Saved {path}.")
    return True


def save_picture(widget: QWidget, path: Path) -> None:
    """Write a widget as it is seen as a PNG picture; raises ``OSError`` when the disk refuses."""
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    widget.grab().save(buffer, "PNG")
    path.write_bytes(bytes(buffer.data().data()))
