"""The slim bar over the picture: source, model, runtime, view, pause, record, frame rate."""

from __future__ import annotations

import time

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QButtonGroup, QFrame, QHBoxLayout, QLabel, QMenu, QSizePolicy, QToolButton, QWidget

from engine.live.types import LiveState, Snapshot
from skelapp import icons, theme
from skelapp.live.timeline import clock
from skelapp.live.video_view import VIEWS, View

SOURCE_WIDTH = 200
MODEL_WIDTH = 340
MENU_ROOM = 70  # icon, arrow and paddings of a menu button


class MenuButton(QToolButton):
    """A button that opens a menu and shows the present choice, cut where it does not fit."""

    def __init__(self, name: str, tip: str, widest: int, cut: Qt.TextElideMode, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._widest = widest
        self._cut = cut
        self._name = name
        self._text = ""
        self.setProperty("menuButton", True)
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._tip = tip
        self.set_choice("–")

    def set_choice(self, text: str, whole: str = "") -> None:
        """Show a choice; ``whole`` is the long form for the tool tip."""
        self._text = text
        self.setToolTip(f"{whole or text}\n{self._tip}")
        self.setAccessibleName(f"{self._name}: {text}")
        self._show_text()
        self.updateGeometry()

    @property
    def choice(self) -> str:
        return self._text

    def _show_text(self) -> None:
        shown = self.fontMetrics().elidedText(self._text, self._cut, max(self.width() - MENU_ROOM, 30))
        self.setText(" " + shown.replace("&", "&&"))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._show_text()

    def sizeHint(self) -> QSize:
        return QSize(min(self.fontMetrics().horizontalAdvance(self._text) + MENU_ROOM + 4, self._widest), 34)

    def minimumSizeHint(self) -> QSize:
        return QSize(min(160, self.sizeHint().width()), 34)


class TopBar(QFrame):
    """Emits what its buttons ask for; shows what a snapshot says."""

    view_chosen = Signal(str)
    mirror_toggled = Signal(bool)
    pause_pressed = Signal()
    record_pressed = Signal()
    tear_pressed = Signal()

    def __init__(self, source_menu: QMenu, model_menu: QMenu, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("topBar")
        self.source = MenuButton("Source", "Choose what to watch (S: next)", SOURCE_WIDTH, Qt.TextElideMode.ElideMiddle)
        self.source.setMenu(source_menu)
        self.model = MenuButton(
            "Model", "Choose the model that names actions (M: next)", MODEL_WIDTH, Qt.TextElideMode.ElideRight
        )
        self.model.setMenu(model_menu)
        self.runtime = QLabel("–")
        self.runtime.setProperty("role", "muted")
        self.runtime.setToolTip("What executes the model")
        self.runtime.setAccessibleName("Runtime")
        self.mirror = self._tool("Mirror the picture (display only)", checkable=True)
        self.mirror.toggled.connect(self.mirror_toggled)
        self.views: dict[View, QToolButton] = {}
        group = QButtonGroup(self)
        tips = {"picture": "Picture with skeleton", "skeleton": "Skeleton only", "space": "3-D view"}
        for view in VIEWS:
            made = self._tool(tips[view], checkable=True)
            made.clicked.connect(lambda _=False, view=view: self.view_chosen.emit(view))
            group.addButton(made)
            self.views[view] = made
        self.pause = self._tool("Pause (space)")
        self.pause.clicked.connect(self.pause_pressed)
        self.record = self._tool("Record picture, landmarks and results (R)")
        self.record.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.record.clicked.connect(self.record_pressed)
        self.tear = self._tool("Show Live in a window of its own")
        self.tear.clicked.connect(self.tear_pressed)
        self.fps = QLabel("– fps")
        self.fps.setAccessibleName("Frames per second")
        self.fps.setMinimumWidth(58)
        self.fps.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._recording: bool | None = None
        self._state: LiveState | None = None
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 7, 12, 7)
        layout.setSpacing(8)
        layout.addWidget(self.source)
        layout.addWidget(self.model)
        layout.addSpacing(4)
        layout.addWidget(self.runtime)
        layout.addStretch(1)
        layout.addWidget(self.mirror)
        layout.addSpacing(6)
        for made in self.views.values():
            layout.addWidget(made)
        layout.addSpacing(6)
        layout.addWidget(self.pause)
        layout.addWidget(self.record)
        layout.addWidget(self.tear)
        layout.addWidget(self.fps)
        self.retheme()
        self.show_state(Snapshot(serial=0, state=LiveState.IDLE), None)

    def _tool(self, tip: str, checkable: bool = False) -> QToolButton:
        made = QToolButton()
        made.setToolTip(tip)
        made.setAccessibleName(tip)
        made.setCheckable(checkable)
        made.setIconSize(icons.icon_size(20))
        made.setMinimumHeight(34)
        made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        return made

    def retheme(self) -> None:
        """Paint the icons again in the colours of the theme in force."""
        self.source.setIcon(icons.icon("source"))
        self.model.setIcon(icons.icon("models"))
        self.mirror.setIcon(icons.icon("mirror"))
        for view, made in self.views.items():
            made.setIcon(icons.icon(view))
        self.tear.setIcon(icons.icon("tear"))
        self._recording = self._state = None

    def set_view(self, view: View) -> None:
        self.views[view].setChecked(True)

    def set_mirror(self, mirror: bool, possible: bool) -> None:
        self.mirror.blockSignals(True)
        self.mirror.setChecked(mirror and possible)
        self.mirror.setEnabled(possible)
        self.mirror.blockSignals(False)
        what = "Mirror the picture (display only)"
        self.mirror.setToolTip(what if possible else f"{what}: for cameras")

    def show_state(self, snapshot: Snapshot, recording_since: float | None) -> None:
        """Pause or play, recording time, frame rate and runtime."""
        if snapshot.state is not self._state:
            self._state = snapshot.state
            halted = snapshot.state in (LiveState.PAUSED, LiveState.ENDED, LiveState.FAILED, LiveState.IDLE)
            self.pause.setIcon(icons.icon("play" if halted else "pause", filled=halted))
            word = {LiveState.ENDED: "Replay", LiveState.FAILED: "Try again"}.get(snapshot.state)
            tip = f"{word or ('Go on' if halted else 'Pause')} (space)"
            self.pause.setToolTip(tip)
            self.pause.setAccessibleName(tip)
        recording = recording_since is not None
        if recording is not self._recording:
            self._recording = recording
            colours = theme.current()
            shape, colour = ("stop", colours.danger) if recording else ("record", colours.danger)
            self.record.setIcon(icons.icon(shape, colour, filled=True))
            self.record.setProperty("recording", recording)
            self.record.style().unpolish(self.record)
            self.record.style().polish(self.record)
        since = f" {clock(time.monotonic() - recording_since)}" if recording_since is not None else " Record"
        if self.record.text() != since:
            self.record.setText(since)
        running = snapshot.state is LiveState.RUNNING and snapshot.fps > 0
        self.fps.setText(f"{snapshot.fps:.0f} fps" if running else "– fps")
        self.runtime.setText(snapshot.runtime or "–")
