"""The bottom line of the Live panel: where the time goes. Only measured numbers; what is not known is a dash."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QWidget

from engine.live.types import LiveState, Snapshot
from skelapp.widgets import ElidedLabel

STAGES = ("capture", "pose", "encode", "decide")
NOTE_S = 8.0
_MEANING = (
    "Milliseconds each stage takes (median of the last seconds).\n"
    "Label after: from grabbing a frame to its label. Dropped: frames skipped because a stage was busy.\n"
    "The model looks at: how many seconds of movement one decision uses."
)


def stage_text(snapshot: Snapshot, paint_ms: float) -> str:
    """``capture 2  pose 19  encode 9  decide 0  paint 6 ms``; a dash where nothing was measured."""
    parts = [f"{name} {_ms(snapshot.stages[name].p50 if name in snapshot.stages else None)}" for name in STAGES]
    parts.append(f"paint {_ms(paint_ms or None)}")
    return "   ".join(parts) + " ms"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


class StageBar(QFrame):
    """Shows the snapshot's times twice a second: numbers that change faster can't be read."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("stageBar")
        self.setToolTip(_MEANING)
        self.stages, self.latency, self.dropped, self.window_s = (QLabel() for _ in range(4))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 6, 14, 6)
        layout.setSpacing(22)
        for label, name in (
            (self.stages, "Time of each stage"),
            (self.latency, "Latency"),
            (self.dropped, "Dropped frames"),
            (self.window_s, "Length of the model's window"),
        ):
            label.setProperty("role", "numbers")
            label.setAccessibleName(name)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            layout.addWidget(label)
        self.note = ElidedLabel()
        self.note.setProperty("role", "numbers")
        self.note.setAccessibleName("Last note")
        self.note.setAlignment(Qt.AlignmentFlag.AlignCenter)
        layout.insertWidget(1, self.note, 1)
        self._note_until = 0.0
        self.show_snapshot(None, 0.0)

    def show_note(self, text: str) -> None:
        """Show a sentence that needs no answer; it goes by itself."""
        self.note.setText(text)
        self._note_until = time.monotonic() + NOTE_S

    def show_snapshot(self, snapshot: Snapshot | None, paint_ms: float) -> None:
        if snapshot is None:
            snapshot = Snapshot(serial=0, state=LiveState.IDLE)
        if self.note.text() and time.monotonic() > self._note_until:
            self.note.setText("")
        self.stages.setText(stage_text(snapshot, paint_ms))
        self.latency.setText(f"label after {_ms(snapshot.latency.p50 if snapshot.latency else None)} ms")
        self.dropped.setText(f"dropped {snapshot.dropped}")
        window = f"{snapshot.window_s:.1f} s" if snapshot.window_s > 0 else "–"
        self.window_s.setText(f"model looks at {window}")
