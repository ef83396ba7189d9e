"""The middle of the panel: the takes of one action, and the chosen one large, to be trimmed, moved or deleted."""

from __future__ import annotations

import time

import numpy as np
from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QStackedWidget, QToolButton, QVBoxLayout, QWidget

from skelapp import icons
from skelapp.data.views import SkeletonView
from skelapp.teach.take_strip import TakeStrip
from skelapp.teach.trim_bar import TrimBar
from skelapp.teach.view import ActionView, TakeView
from skelapp.widgets import ElidedLabel, button

TICK_MS = 33
PAUSE_S = 0.5  # between two rounds
EMPTY = "No takes yet.\nPress the record button and perform the action, or drop videos of it here."


class TakePage(QWidget):
    """Emits what its user asks for; shows the action it is given."""

    delete_wanted = Signal(list)  # of paths
    move_wanted = Signal(list, str)  # these takes, to that action
    trim_wanted = Signal(object, float, float)
    curve_wanted = Signal(object)  # TakeView; answered with show_curve
    files_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.action: ActionView | None = None
        self._take: TakeView | None = None
        self._others: list[str] = []
        self._position, self._last = 0.0, 0.0
        self.title, self.facts = ElidedLabel("–"), ElidedLabel("")
        self.title.setProperty("role", "title")
        self.facts.setProperty("role", "muted")
        self.files = button("Add videos…", self.files_wanted.emit, tip="Takes from videos, recordings or a folder")
        self.strip = TakeStrip()
        self.strip.delete_wanted.connect(self.delete_wanted)
        self.strip.chosen.connect(self._show_take)
        self._empty = QLabel(EMPTY)
        self._empty.setProperty("role", "muted")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setWordWrap(True)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.strip)
        self.stack.addWidget(self._empty)
        self.detail = self._make_detail()
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.files)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(head)
        layout.addWidget(self.facts)
        layout.addWidget(self.stack, 1)
        layout.addWidget(self.detail)
        self.timer = QTimer(self)
        self.timer.setInterval(TICK_MS)
        self.timer.timeout.connect(self._tick)
        self.show_action(None, [])
        self.retheme()

    def _make_detail(self) -> QFrame:
        frame = QFrame()
        frame.setProperty("card", True)
        self.figure = SkeletonView()
        self.figure.setMinimumSize(150, 150)
        self.named = ElidedLabel("–")
        self.named.setProperty("role", "section")
        self.length = ElidedLabel("")
        self.length.setProperty("role", "muted")
        self.trim = TrimBar()
        self.trim.trimmed.connect(self._trimmed)
        self.trim.pointed.connect(self._pointed)
        self.play = QToolButton()
        self.play.setIconSize(icons.icon_size(18))
        self.play.clicked.connect(self.toggle)
        self.move_menu = QMenu(self)
        self.move_menu.aboutToShow.connect(self._fill_moves)
        self.move_to = QToolButton()
        self.move_to.setText("Move to")
        self.move_to.setProperty("menuButton", True)
        self.move_to.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.move_to.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.move_to.setMenu(self.move_menu)
        self.move_to.setToolTip("These takes show another action")
        self.delete = button("Delete", self._delete, tip="Delete the chosen takes (Del); can be undone")
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.play)
        row.addStretch(1)
        row.addWidget(self.move_to)
        row.addWidget(self.delete)
        column = QVBoxLayout()
        column.setSpacing(6)
        column.addWidget(self.named)
        column.addWidget(self.length)
        column.addStretch(1)
        column.addWidget(self.trim)
        column.addLayout(row)
        layout = QHBoxLayout(frame)
        layout.setContentsMargins(10, 10, 10, 10)
        layout.setSpacing(12)
        layout.addWidget(self.figure, 2)
        layout.addLayout(column, 3)
        return frame

    # -------------------------------------------------------------- showing

    def show_action(self, action: ActionView | None, others: list[str]) -> None:
        """Another action, or the same one changed; ``others`` are the names its takes can be moved to."""
        self.action, self._others = action, others
        self.title.setText(action.name if action else "–")
        self.facts.setText(" · ".join(filter(None, (action.words(), action.warning))) if action else "")
        self.files.setEnabled(action is not None)
        self.move_to.setEnabled(bool(others))
        takes = action.takes if action else ()
        self.stack.setCurrentIndex(0 if takes else 1)
        self._empty.setText(EMPTY if action else "Choose an action on the left.")
        self.strip.set_takes(takes)
        if not takes:
            self._show_take(None)

    def _show_take(self, take: TakeView | None) -> None:
        self._take = take
        self.detail.setVisible(take is not None)
        if take is None:
            return
        number = self.strip.currentIndex().row() + 1
        wrong = ", not this action" if take.negative else ""
        self.named.setText(f"Take {number} of {len(self.strip.takes.takes)}{wrong}")
        self._show_length(take.start, take.end)
        self.figure.set_sequence(take.sequence)
        self.trim.show_take(take.sequence.duration, take.start, take.end)
        self.curve_wanted.emit(take)
        self._position = take.start
        self._run()

    def show_curve(self, take: TakeView, curve: np.ndarray) -> None:
        """The movement of a take, if it is still the chosen one."""
        if self._take is not None and self._take.path == take.path:
            self.trim.show_curve(curve)

    def _show_length(self, start: float, end: float) -> None:
        assert self._take is not None
        origin = f" · {self._take.origin}" if self._take.origin else ""
        self.length.setText(f"{end - start:.2f} s of {self._take.sequence.duration:.2f} s{origin}")

    def mark_drop(self, on: bool) -> None:
        """Files are held over the panel: show where they would go."""
        for widget in (self.strip, self.detail):
            widget.setProperty("drop", on)
            widget.style().unpolish(widget)
            widget.style().polish(widget)

    def retheme(self) -> None:
        playing = self.strip.playing
        words = "Stop the figures (Space)" if playing else "Let the figures move (Space)"
        self.play.setIcon(icons.icon("pause" if playing else "play", size=18))
        self.play.setToolTip(words)
        self.play.setAccessibleName(words)

    # -------------------------------------------------------------- playing

    def toggle(self) -> None:
        """Stop or start all figures."""
        self.strip.set_playing(not self.strip.playing)
        self._run()
        self.retheme()

    def _run(self) -> None:
        self._last = time.perf_counter()
        if self.isVisible() and self._take is not None and self.strip.playing:
            self.timer.start()
        else:
            self.timer.stop()

    def _tick(self) -> None:
        take = self._take
        if take is None:
            return
        now = time.perf_counter()
        self._position += min(now - self._last, 0.25)
        self._last = now
        if self._position > self.trim.end + PAUSE_S or self._position < self.trim.start:
            self._position = self.trim.start
        self._show_moment(min(self._position, self.trim.end))

    def _show_moment(self, seconds: float) -> None:
        assert self._take is not None
        self.figure.set_frame(self._take.figure.frame_at(seconds))
        self.trim.set_position(seconds)

    def _pointed(self, seconds: float) -> None:
        """While a handle moves the figure shows where it stands."""
        if self._take is not None:
            self._position = seconds
            self._show_moment(seconds)
            self._show_length(self.trim.start, self.trim.end)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.figure.setFixedHeight(min(360, max(186, self.height() * 32 // 100)))
        super().resizeEvent(event)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._run()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.timer.stop()

    # ----------------------------------------------------------------- acts

    def _trimmed(self, start: float, end: float) -> None:
        if self._take is not None:
            self.trim_wanted.emit(self._take.path, start, end)

    def _delete(self) -> None:
        keys = [take.path for take in self.strip.selected()]
        if keys:
            self.delete_wanted.emit(keys)

    def _fill_moves(self) -> None:
        self.move_menu.clear()
        for name in self._others:
            act = self.move_menu.addAction(name.replace("&", "&&"))
            act.triggered.connect(lambda _=False, name=name: self._move(name))

    def _move(self, name: str) -> None:
        keys = [take.path for take in self.strip.selected()]
        if keys:
            self.move_wanted.emit(keys, name)

    def show_moves(self) -> None:
        """Open the menu of actions the chosen takes can be moved to."""
        self.move_menu.popup(self.move_to.mapToGlobal(QPoint(0, self.move_to.height())))
