"""Two encoders on one camera: which is which, how often they agree, what each costs, and the second one's timeline."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from engine.live.types import RivalSnapshot, Snapshot, StageTime
from skelapp.live.timeline import Timeline
from skelapp.widgets import ElidedLabel, button

UNKNOWN = "–"
_MEANING = (
    "Both decide on the same poses. Agreement: share of decisions in which both name the same action, or none.\n"
    "Label after: from grabbing a frame to the label, as if each ran alone."
)


def _ms(time: StageTime | None) -> str:
    return f"{time.p50:.0f} ms" if time is not None else UNKNOWN


def cost_words(encode: StageTime | None, latency: StageTime | None) -> str:
    """``encode 9 ms, label after 41 ms``."""
    return f"encode {_ms(encode)}, label after {_ms(latency)}"


def agreement_words(rival: RivalSnapshot | None) -> str:
    if rival is None or rival.agreement is None:
        return "nothing to compare yet"
    return f"same answer in {rival.agreement:.0%} of {rival.compared}"


class RivalBar(QFrame):
    """Shown between picture and timelines while a second encoder runs; its own timeline is part of it."""

    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("stageBar")
        self.setToolTip(_MEANING)
        self.titles = [ElidedLabel(), ElidedLabel()]
        self.costs = [QLabel(), QLabel()]
        self.agreement = QLabel()
        self.agreement.setAccessibleName("Agreement of the two models")
        self.agreement.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.timeline = Timeline()
        self.timeline.setAccessibleName("Timeline of the second model")
        row = QHBoxLayout()
        row.setContentsMargins(14, 6, 10, 6)
        row.setSpacing(10)
        for place, letter in enumerate("AB"):
            mark = QLabel(letter)
            mark.setStyleSheet("font-weight: 700;")
            cost = self.costs[place]
            cost.setProperty("role", "numbers")
            cost.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            row.addWidget(mark)
            row.addWidget(self.titles[place], 1)
            row.addWidget(cost)
            if place == 0:
                row.addSpacing(10)
                row.addWidget(self.agreement)
                row.addSpacing(10)
        row.addWidget(button("End", self.closed.emit, tip="Go on with one model"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(row)
        layout.addWidget(self.timeline)
        self.hide()

    def show_titles(self, first: str, second: str) -> None:
        for label, title in zip(self.titles, (first, second), strict=True):
            label.setText(title)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """The second encoder's segments, at every tick."""
        rival = snapshot.rival
        segments = rival.segments if rival is not None else ()
        decisions = rival.decisions if rival is not None else {}
        self.timeline.show_snapshot(replace(snapshot, segments=segments, decisions=decisions))

    def show_numbers(self, snapshot: Snapshot) -> None:
        """Numbers that people read: now and then."""
        rival = snapshot.rival
        encode = snapshot.stages.get("encode")
        self.costs[0].setText(cost_words(encode, snapshot.latency))
        self.costs[1].setText(cost_words(rival.encode, rival.latency) if rival else "loading")
        self.agreement.setText(agreement_words(rival))
