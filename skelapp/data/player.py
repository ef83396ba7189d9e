"""Plays one sequence: skeleton and actor side by side, its label, and play, step, scrub, speed and loop."""

from __future__ import annotations

import time

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QHideEvent, QKeyEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QBoxLayout,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine.skeleton.sequence import SkeletonSequence
from skelapp import icons, theme
from skelapp.data.views import ActorFrames, ActorView, SkeletonView
from skelapp.settings import SettingsStore
from skelapp.widgets import ElidedLabel
from skelapp.workers import Worker

SPEEDS = (0.25, 0.5, 1.0, 2.0)
_SIDE_BY_SIDE = 560  # px
_FAR = 10  # frames of a long step


class Player(QWidget):
    """Shows what it is given; pauses when it is hidden."""

    def __init__(self, settings: SettingsStore, actor_worker: Worker, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._sequence: SkeletonSequence | None = None
        self._position = 0.0  # seconds since the first frame
        self._last = 0.0
        self.frames = ActorFrames(actor_worker, self)
        self.label = ElidedLabel("–")
        self.label.setProperty("role", "title")
        self.facts, self.parts = ElidedLabel(""), ElidedLabel("")
        for line in (self.facts, self.parts):
            line.setProperty("role", "muted")
        self.skeleton = SkeletonView()
        self.actor = ActorView(self.frames)
        self.timer = QTimer(self)
        self.timer.setInterval(16)
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._tick)
        self._make_controls()
        self._build()
        self.set_sequence(None)
        self.retheme()

    def _make_controls(self) -> None:
        memory = self._settings.values.memory
        self.play = self._tool("Play or pause (Space)", self.toggle)
        self.back = self._tool("One frame back (Left)", lambda: self.step(-1))
        self.on = self._tool("One frame on (Right)", lambda: self.step(1))
        self.back.setAutoRepeat(True)
        self.on.setAutoRepeat(True)
        self.loop = self._tool("Play again and again", lambda: None)
        self.loop.setCheckable(True)
        self.loop.setChecked(memory.play_loop)
        self.loop.toggled.connect(lambda on: self._settings.set("memory.play_loop", on))
        self.show_actor = self._tool("Show the actor", lambda: None)
        self.show_actor.setCheckable(True)
        self.show_actor.setChecked(memory.show_actor)
        self.show_actor.toggled.connect(self._actor_toggled)
        self.speed = QComboBox()
        self.speed.setAccessibleName("Speed")
        self.speed.setToolTip("Speed")
        for speed in SPEEDS:
            self.speed.addItem(f"{speed:g}×", speed)
        self.speed.setCurrentIndex(SPEEDS.index(memory.play_speed) if memory.play_speed in SPEEDS else 2)
        self.speed.currentIndexChanged.connect(
            lambda _: self._settings.set("memory.play_speed", float(self.speed.currentData()))
        )
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Frame")
        self.slider.setPageStep(_FAR)
        self.slider.valueChanged.connect(self._scrubbed)
        self.clock = QLabel()
        self.clock.setProperty("role", "numbers")
        self.clock.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.clock.setMinimumWidth(self.clock.fontMetrics().horizontalAdvance("0000 / 0000   00.00 s") + 8)

    def _tool(self, tip: str, act: object) -> QToolButton:
        made = QToolButton()
        made.setToolTip(tip)
        made.setAccessibleName(tip.partition(" (")[0])
        made.setIconSize(icons.icon_size(18))
        made.clicked.connect(act)
        return made

    def _build(self) -> None:
        self._views = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._views.setSpacing(8)
        self._views.addWidget(self.skeleton, 1)
        self._views.addWidget(self.actor, 1)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.slider, 1)
        row.addWidget(self.clock)
        options = QHBoxLayout()
        options.setSpacing(6)
        for made in (self.play, self.back, self.on):
            options.addWidget(made)
        self.hint = QLabel("Space: play    ← →: step    ↑ ↓: sequence")
        self.hint.setProperty("role", "muted")
        options.addSpacing(8)
        options.addWidget(self.hint)
        options.addStretch(1)
        for other in (self.speed, self.loop, self.show_actor):
            options.addWidget(other)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.label)
        layout.addWidget(self.facts)
        layout.addWidget(self.parts)
        layout.addLayout(self._views, 1)
        layout.addLayout(row)
        layout.addLayout(options)
        # Not earlier: a widget that has no parent yet would be shown as a window of its own.
        self.actor.setVisible(self.show_actor.isChecked())

    # ------------------------------------------------------------- playing

    @property
    def playing(self) -> bool:
        return self.timer.isActive()

    @property
    def frame(self) -> int:
        return self.slider.value()

    def set_sequence(
        self, sequence: SkeletonSequence | None, label: str = "", facts: str = "", parts: str = ""
    ) -> None:
        """Show another sequence from its first frame; one that was playing goes on playing."""
        self._sequence, self._position = sequence, 0.0
        frames = len(sequence) if sequence is not None else 0
        self.label.setText(label or "–")
        self.facts.setText(facts)
        self.parts.setText(parts)
        self.skeleton.set_sequence(sequence)
        self.actor.set_sequence(sequence)
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, frames - 1))
        self.slider.setValue(0)
        self.slider.blockSignals(False)
        for made in (self.play, self.back, self.on, self.slider):
            made.setEnabled(frames > 1)
        if frames < 2:
            self.pause()
        self._last = time.perf_counter()
        self._show_frame(0)

    def toggle(self) -> None:
        if self.playing:
            self.pause()
        else:
            self.start()

    def start(self) -> None:
        if self._sequence is None or len(self._sequence) < 2 or not self.isVisible():
            return
        if self.frame == self.slider.maximum():
            self._position = 0.0
        self._last = time.perf_counter()
        self.timer.start()
        self.retheme()

    def pause(self) -> None:
        if self.playing:
            self.timer.stop()
            self.retheme()

    def step(self, frames: int) -> None:
        """So many frames on (or back), playing stops."""
        self.pause()
        self.slider.setValue(self.frame + frames)

    def _tick(self) -> None:
        now = time.perf_counter()
        # A hiccup must not skip half the sequence.
        passed = min(now - self._last, 0.25) * float(self.speed.currentData())
        self._last = now
        assert self._sequence is not None
        length = self._sequence.duration + self._sequence.duration / max(1, len(self._sequence) - 1)
        self._position += passed
        if self._position >= length:
            if not self.loop.isChecked():
                self.pause()
                self._go(len(self._sequence) - 1)
                return
            self._position %= length
        times = self._sequence.times - self._sequence.times[0]
        self._go(int(times.searchsorted(self._position, side="right")) - 1)

    def _go(self, frame: int) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(frame)
        self.slider.blockSignals(False)
        self._show_frame(frame)

    def _scrubbed(self, frame: int) -> None:
        if self._sequence is not None and len(self._sequence):
            self._position = float(self._sequence.times[frame] - self._sequence.times[0])
        self._show_frame(frame)

    def _show_frame(self, frame: int) -> None:
        self.skeleton.set_frame(frame)
        if self.show_actor.isChecked():
            self.actor.set_frame(frame)
        if self._sequence is None or not len(self._sequence):
            self.clock.setText("")
            return
        at = self._sequence.times[frame] - self._sequence.times[0]
        self.clock.setText(f"{frame + 1} / {len(self._sequence)}   {at:.2f} s")

    def _actor_toggled(self, on: bool) -> None:
        self._settings.set("memory.show_actor", on)
        self.actor.setVisible(on)
        self.frames.set_active(on and self.isVisible())
        if on:
            self.actor.set_frame(self.frame)

    # ---------------------------------------------------------------- keys

    def handles(self, event: QKeyEvent) -> bool:
        """Whether a key is the player's own."""
        return event.key() in (Qt.Key.Key_Space, Qt.Key.Key_Left, Qt.Key.Key_Right) and not (
            event.modifiers() & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier)
        )

    def key(self, event: QKeyEvent) -> None:
        """Act on a key it :meth:`handles`."""
        far = _FAR if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1
        if event.key() == Qt.Key.Key_Space:
            if not event.isAutoRepeat():
                self.toggle()
        else:
            self.step(far if event.key() == Qt.Key.Key_Right else -far)

    # ------------------------------------------------------------- looking

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.frames.set_active(self.show_actor.isChecked())

    def hideEvent(self, event: QHideEvent) -> None:
        self.pause()
        self.frames.set_active(False)
        super().hideEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        wide = self.width() >= _SIDE_BY_SIDE
        self._views.setDirection(QBoxLayout.Direction.LeftToRight if wide else QBoxLayout.Direction.TopToBottom)
        self.hint.setVisible(wide)
        super().resizeEvent(event)

    def retheme(self) -> None:
        self.play.setIcon(icons.icon("pause" if self.playing else "play", size=18))
        self.back.setIcon(icons.icon("step_back", size=18))
        self.on.setIcon(icons.icon("step_on", size=18))
        self.loop.setIcon(icons.icon("loop", size=18))
        self.show_actor.setIcon(icons.icon("picture", size=18))
        theme_now = theme.current()
        self.skeleton.setStyleSheet("")
        self.setProperty("theme", theme_now.name)
        self.update()


class PlayerKeys(QObject):
    """Lets a group of widgets pass the player's keys on, before the window's own shortcuts or a table take them."""

    def __init__(self, player: Player, parent: QObject) -> None:
        super().__init__(parent)
        self._player = player

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() not in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress):
            return False
        if not isinstance(event, QKeyEvent) or not self._player.handles(event):
            return False
        arrow = event.key() != Qt.Key.Key_Space
        if isinstance(watched, QComboBox) and not arrow:
            # Space opens the box, it is not the window's.
            event.accept()
            return False
        if isinstance(watched, (QLineEdit, QComboBox)) or (isinstance(watched, QAbstractButton) and not arrow):
            return False
        if isinstance(watched, QSlider) and arrow:
            return False
        if event.type() == QEvent.Type.ShortcutOverride:
            event.accept()
            return True
        self._player.key(event)
        return True
