"""The menu of sources: cameras (looked for in the background), recent files, file, address, demo clip."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLineEdit, QMenu, QWidget

from engine import paths
from skelapp.live.session import DEMO, source_title
from skelapp.settings import SettingsStore
from skelapp.widgets import button
from skelapp.workers import Worker

FILE_FILTER = (
    "Videos and recordings (*.mp4 *.avi *.mov *.mkv *.webm *.m4v *.mpg *.mpeg *.npz *.jsonl *.json);;All files (*)"
)


def find_cameras() -> list[tuple[str, str]]:
    """Specification and title of every camera that answers; slow, so called on a worker."""
    from engine.live.sources import list_cameras

    return [(str(camera.index), camera.name or f"Camera {camera.index}") for camera in list_cameras()]


class SourceMenu(QMenu):
    """Emits the specification that was chosen. Cameras are looked for whenever it opens, on a worker."""

    chosen = Signal(str)
    file_wanted = Signal()
    address_wanted = Signal()

    def __init__(
        self,
        settings: SettingsStore,
        worker: Worker,
        find: Callable[[], list[tuple[str, str]]] = find_cameras,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._settings = settings
        self._worker = worker
        self._find = find
        self._looking = False
        self.cameras: list[tuple[str, str]] | None = None
        self.current = ""
        self.aboutToShow.connect(self.refresh)
        self._rebuild()

    def refresh(self) -> None:
        """Show what is known and look for cameras anew."""
        self._rebuild()
        self.look()

    def look(self, then: Callable[[list[tuple[str, str]]], None] | None = None) -> None:
        """Look for cameras in the background; ``then`` gets what was found."""
        if self._looking and then is None:
            return
        self._looking = True

        def done(cameras: list[tuple[str, str]]) -> None:
            self._looking = False
            changed = cameras != self.cameras
            self.cameras = cameras
            if changed:
                self._rebuild()
            if then is not None:
                then(cameras)

        self._worker.run(self._find, done, lambda error, details: done([]))

    def sources(self) -> list[str]:
        """Everything that can be opened with one key: cameras, demo clip, recent files."""
        found = [spec for spec, _ in self.cameras or []]
        if paths.DEMO_CLIP.is_file():
            found.append(DEMO)
        return found + [r for r in self._settings.values.memory.recent if r not in found]

    def _rebuild(self) -> None:
        self.clear()
        self._head("Cameras")
        if self.cameras is None:
            self._head("Looking for cameras…")
        elif not self.cameras:
            self._head("No camera found")
        for spec, title in self.cameras or []:
            self._choice(title, spec)
        self.addSeparator()
        opened = self.addAction("Open a video or recording…\tCtrl+O")
        opened.triggered.connect(lambda: self.file_wanted.emit())
        address = self.addAction("Network address…")
        address.triggered.connect(lambda: self.address_wanted.emit())
        if paths.DEMO_CLIP.is_file():
            self._choice("Demo clip", DEMO)
        recent = self._settings.values.memory.recent
        if recent:
            self.addSeparator()
            self._head("Recent")
            for spec in recent:
                self._choice(source_title(spec), spec).setToolTip(spec)
        self.setToolTipsVisible(True)

    def _head(self, text: str) -> None:
        action = self.addAction(text)
        action.setEnabled(False)

    def _choice(self, text: str, spec: str) -> QAction:
        shown = self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, 320)
        action = self.addAction(shown.replace("&", "&&"))
        action.setData(spec)
        action.setCheckable(True)
        action.setChecked(spec == self.current)
        action.triggered.connect(lambda: self.chosen.emit(spec))
        return action


class AddressBar(QFrame):
    """One line to type a stream address into; no dialog in the way."""

    entered = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("banner", "info")
        self.edit = QLineEdit()
        self.edit.setPlaceholderText("rtsp://192.168.1.20/stream  or  http://…")
        self.edit.setAccessibleName("Network address of a video stream")
        self.edit.setMaxLength(2048)
        self.edit.returnPressed.connect(self._enter)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 8, 10, 8)
        layout.addWidget(QLabel("Network address"))
        layout.addWidget(self.edit, 1)
        layout.addWidget(button("Watch", self._enter, primary=True))
        layout.addWidget(button("Cancel", self.hide))
        self.hide()

    def ask(self) -> None:
        self.show()
        self.edit.setFocus()
        self.edit.selectAll()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.hide()
        else:
            super().keyPressEvent(event)

    def _enter(self) -> None:
        address = self.edit.text().strip()
        if address:
            self.hide()
            self.entered.emit(address)
