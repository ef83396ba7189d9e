"""The sentence over the picture when there is nothing to see, with the one action that helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QVBoxLayout, QWidget

from engine.live.types import LiveState, Snapshot
from skelapp.widgets import button


@dataclass(frozen=True)
class Notice:
    """What one state says. ``action``: ``choose``, ``resume``, ``retry`` or empty."""

    title: str
    sentence: str = ""
    label: str = ""
    action: str = ""


def notice_for(snapshot: Snapshot, source: str, told: bool = False) -> Notice | None:
    """The notice of a state; None when the picture speaks for itself. ``told``: a banner gives the reason already."""
    state = snapshot.state
    if state is LiveState.IDLE and not source:
        return Notice(
            "Nothing to watch yet", "Use a camera, open a video, or drop one here.", "Choose a source", "choose"
        )
    if state is LiveState.IDLE:
        return Notice("Stopped", "", "Start", "retry")
    if state is LiveState.STARTING:
        return Notice("Starting…", "Opening the source and loading the models.")
    if state is LiveState.RUNNING and snapshot.frame is None:
        return Notice("Starting…", "Waiting for the first picture.")
    if state is LiveState.PAUSED:
        return Notice("Paused", "", "Continue", "resume")
    if state is LiveState.LOST:
        return Notice(
            "The camera is gone",
            "It is used again as soon as it answers. Check its cable.",
            "Choose a source",
            "choose",
        )
    if state is LiveState.ENDED:
        return Notice("The end", "", "Replay", "resume")
    if state is LiveState.STOPPING:
        return Notice("Stopping…")
    if state is LiveState.FAILED:
        return Notice(
            "This source can't be watched", "" if told else snapshot.message, "Choose another source", "choose"
        )
    return None


class Overlay(QFrame):
    """A small card in the middle of the picture."""

    def __init__(
        self, acts: dict[str, Callable[[], object]], parent: QWidget | None = None, compact: bool = False
    ) -> None:
        """``compact``: for a small picture, title and button alone; the sentence stands elsewhere."""
        super().__init__(parent)
        self.setProperty("card", True)
        self._compact = compact
        self._acts = acts
        self._notice: Notice | None = None
        self._title, self._sentence = QLabel(), QLabel()
        self._title.setProperty("role", "section" if compact else "title")
        self._sentence.setProperty("role", "muted")
        self._sentence.setWordWrap(True)
        self._sentence.setTextFormat(Qt.TextFormat.PlainText)
        for label in (self._title, self._sentence):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._button: QPushButton = button("", self._act, primary=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*((14, 10, 14, 10) if compact else (26, 20, 26, 20)))
        layout.setSpacing(10)
        layout.addWidget(self._title)
        layout.addWidget(self._sentence)
        layout.addWidget(self._button, 0, Qt.AlignmentFlag.AlignCenter)
        self._title.setWordWrap(compact)
        self.setMaximumWidth(250 if compact else 440)
        self.hide()

    @property
    def notice(self) -> Notice | None:
        """What is shown now."""
        return self._notice

    @property
    def action_button(self) -> QPushButton:
        return self._button

    def show_notice(self, notice: Notice | None) -> None:
        if notice == self._notice:
            return
        self._notice = notice
        if notice is None:
            self.hide()
            return
        self._title.setText(notice.title)
        self._sentence.setText(notice.sentence)
        self._sentence.setVisible(bool(notice.sentence) and not self._compact)
        self._sentence.setMinimumWidth(300 if len(notice.sentence) > 40 else 0)
        self._button.setText(notice.label)
        self._button.setVisible(bool(notice.action))
        self.setAccessibleName(f"{notice.title}. {notice.sentence}")
        self.show()
        self.adjustSize()

    def _act(self) -> None:
        if self._notice is not None and self._notice.action:
            self._acts[self._notice.action]()
