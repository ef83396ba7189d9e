"""The right side of the panel: the live picture, the big record button, and what the person who performs must know."""

from __future__ import annotations

import math

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QApplication,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from engine.live.types import LiveState, Snapshot
from skelapp.context import Context
from skelapp.dialogs import ask_file
from skelapp.live.action_card import ActionCard
from skelapp.live.overlay import Overlay, notice_for
from skelapp.live.panel import honest
from skelapp.live.session import is_camera
from skelapp.live.source_menu import FILE_FILTER, SourceMenu
from skelapp.live.video_view import VideoView
from skelapp.teach.countdown import Countdown
from skelapp.teach.hands_free import Cut, HandsFree, Step
from skelapp.teach.recorder_parts import Options, Progress
from skelapp.widgets import button

TICK_MS = 33
CARD = 150  # px: room for two lines of a long name


class Recorder(QWidget):
    """Watches the live session while it is in sight; ``taken`` carries each finished take as it comes."""

    taken = Signal(object)  # SkeletonSequence
    ended = Signal(int)  # how many takes a session brought

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.session = context.session
        self._settings = context.settings
        self.machine = HandsFree()
        self.action = ""
        self._said = ""
        self._motion: float | None = None
        self._beeped = 0
        self._lost = False  # the last take could not be kept
        self.video = VideoView()
        self.video.setMinimumSize(220, 165)
        self.countdown = Countdown(self.video)
        self.source_menu = SourceMenu(context.settings, context.worker, context.find_cameras, self)
        self.source_menu.chosen.connect(self.session.open_source)
        self.source_menu.file_wanted.connect(self._open_file)
        self.source_menu.address_wanted.connect(lambda: context.show_panel("live"))
        self.overlay = Overlay(
            {"choose": self.choose_source, "resume": self.session.toggle_pause, "retry": self.session.retry},
            compact=True,
        )
        self.record = button("Record 5 takes", self.toggle, primary=True)
        self.record.setMinimumHeight(46)
        self.progress = Progress()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.status.setMinimumHeight(38)
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)
        # As on the Live panel: whoever performs must read from there that it is recognised.
        self.card = ActionCard(1)
        self.card.setMinimumHeight(CARD)
        self.options = Options(context.settings)
        self.options.changed.connect(self._show_button)
        self._build()
        self.timer = QTimer(self)
        self.timer.setInterval(TICK_MS)
        self.timer.timeout.connect(self.tick)
        self.set_action("")

    def _build(self) -> None:
        over = QVBoxLayout(self.video)
        over.addWidget(self.overlay, 0, Qt.AlignmentFlag.AlignCenter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.video)
        layout.addWidget(self.card, 1)
        layout.addWidget(self.record)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.options)

    # ---------------------------------------------------------------- acts

    def choose_source(self) -> None:
        """Open the menu of sources over the picture."""
        self.source_menu.popup(self.video.mapToGlobal(self.video.rect().center()))

    def _open_file(self) -> None:
        ask_file(self, "Open a video or recording", lambda path: self.session.open_source(str(path)), FILE_FILTER)

    def set_action(self, name: str) -> None:
        """Whose takes are recorded next; a session for another one is ended."""
        if name != self.action and self.machine.running:
            self.cancel()
        self.action = name
        self._show_button()

    def toggle(self) -> None:
        """Begin a session, or end the one that runs."""
        if self.machine.running:
            self.cancel()
        elif self.record.isEnabled():
            self.machine.begin(self.options.plan())
            self._beeped, self._lost = 0, False
            self._show_button()
            self.tick()

    def cancel(self) -> bool:
        """End a session early; finished takes stay. False when none ran."""
        if not self.machine.running:
            return False
        self.machine.cancel()
        self._after()
        return True

    # ------------------------------------------------------------- showing

    def tick(self) -> None:
        """Take the newest of everything; the whole rhythm of this side."""
        snapshot = honest(self.session.snapshot())
        if self.isVisible():
            self.overlay.show_notice(notice_for(snapshot, self.session.source))
            self.video.set_mirror(self._settings.values.camera.mirror and is_camera(self.session.source))
            self.video.show_snapshot(snapshot)
        self._motion = self.session.motion()
        if self.machine.running and snapshot.state is LiveState.RUNNING and snapshot.pose is not None:
            cut = self.machine.tick(snapshot.pose.time, self._motion, bool(snapshot.pose.persons))
            if cut is not None:
                self._keep(cut)
            if not self.machine.running:
                self._after()
        elif self.machine.running and snapshot.state in (LiveState.FAILED, LiveState.IDLE, LiveState.ENDED):
            self.cancel()
        self._show(snapshot)

    def _keep(self, cut: Cut) -> None:
        take = self.session.poses(None, cut.start, cut.end)
        self._lost = take is None
        if take is None:
            self.machine.give_back()
        else:
            self._beep()
            self.taken.emit(take)

    def _after(self) -> None:
        self.countdown.say()
        self._show_button()
        self.ended.emit(self.machine.finished)

    def _beep(self) -> None:
        if self.options.sound.isChecked():
            QApplication.beep()

    def _show(self, snapshot: Snapshot) -> None:
        machine = self.machine
        self._show_recognised(snapshot)
        self.record.setEnabled(machine.running or bool(self.action and snapshot.state is LiveState.RUNNING))
        self.progress.show_progress(machine.finished, machine.plan.takes, machine.running)
        self.progress.setVisible(machine.step is not Step.OFF)
        words = self._words(snapshot)
        if words != self._said:
            self._said = words
            self.status.setText(words)
        if not machine.running:
            self.countdown.say()
            return
        if not machine.present and machine.step is not Step.MOVING:
            self.countdown.say("", "Step into the picture")
        elif machine.step is Step.COUNTDOWN:
            seconds = max(1, math.ceil(machine.seconds_left - 0.05))
            if seconds != self._beeped:
                self._beeped = seconds
                self._beep()
            self.countdown.say(str(seconds), self.action)
        elif machine.step is Step.READY:
            self.countdown.say("Now!", f"{self.action}  {machine.finished + 1}/{machine.plan.takes}")
        elif machine.step is Step.MOVING:
            where = f"{self.action}  {machine.finished + 1}/{machine.plan.takes}"
            self.countdown.say("", where, True, machine.share)
        elif machine.step is Step.REST:
            self.countdown.say("✓", f"{machine.finished} of {machine.plan.takes}")

    def _words(self, snapshot: Snapshot) -> str:
        """The sentence under the button: the present state and what helps."""
        machine = self.machine
        if machine.running:
            if self._lost and machine.step in (Step.COUNTDOWN, Step.REST):
                return "That take could not be kept: you left the picture too soon. Step back in and perform it again."
            if not machine.present and machine.step is not Step.MOVING:
                return "Nobody is in view. Step back until the picture shows you from head to foot."
            return {
                Step.COUNTDOWN: "Take your place. The takes begin and end with your movement; no key is needed.",
                Step.READY: f"Perform “{self.action}” now.",
                Step.MOVING: "Recording. Stand still when you are done.",
                Step.REST: "Taken. Stand still; the next one follows.",
            }[machine.step]
        if not self.action:
            return ""
        if snapshot.state is not LiveState.RUNNING:
            notice = self.overlay.notice
            return (notice.sentence if notice is not None else "") or "There is no picture to record from."
        if not snapshot.checkpoint:
            return "No model is in use yet: takes can be recorded, and are recognised once one is."
        if self._motion is None:
            return "Nobody is in view. Step back until the picture shows you from head to foot."
        if machine.step is Step.MISSED:
            return "No movement was seen for half a minute, so the recording ended. What is finished is kept."
        if machine.step is Step.DONE:
            count = machine.finished
            return f"{count} take{'s' if count != 1 else ''} recorded. Try it: perform the action."
        return "Hands-free: after the countdown your movement starts and ends each take."

    def _show_recognised(self, snapshot: Snapshot) -> None:
        persons = [pose.person for pose in snapshot.pose.persons] if snapshot.pose is not None else []
        self.card.person = persons[0] if persons else 1
        decision = snapshot.decisions.get(self.card.person) if persons else None
        self.card.show_decision(decision, "Nothing recognised" if decision is not None else "")
        self.card.glide()

    def _show_button(self) -> None:
        running = self.machine.running
        count = self.options.plan().takes
        self.record.setText("Cancel, keep what is finished" if running else f"Record {count} take{'s' * (count != 1)}")
        self.options.hold(running)

    def resizeEvent(self, event: QResizeEvent) -> None:
        room = self.height() - self._rest
        self.video.setFixedHeight(max(165, min(round(self.width() * 0.75), room)))
        super().resizeEvent(event)
        self._lay_over()

    @property
    def _rest(self) -> int:
        """What the other widgets need at least."""
        return CARD + 46 + 26 + 38 + 62 + 6 * 8

    def _lay_over(self) -> None:
        self.countdown.setGeometry(self.video.rect())

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._lay_over()
        self.timer.start()
        self.tick()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.cancel()
        self.timer.stop()
