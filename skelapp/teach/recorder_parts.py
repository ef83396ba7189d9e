"""What stands around the recorder's button: one disc per take, and the few options of a session."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QSizePolicy, QWidget

from skelapp import theme
from skelapp.settings import SettingsStore
from skelapp.teach.hands_free import Plan

_OK = "#009E73"


class Progress(QWidget):
    """One disc per take: full when it is finished, a ring while it is awaited."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(26)
        self.done, self.total, self.busy = 0, 0, False

    def sizeHint(self) -> QSize:
        return QSize(200, 26)

    def show_progress(self, done: int, total: int, busy: bool) -> None:
        if (done, total, busy) != (self.done, self.total, self.busy):
            self.done, self.total, self.busy = done, total, busy
            self.setAccessibleName(f"{done} of {total} takes")
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self.total:
            return
        now = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        words = f"{self.done} of {self.total}"
        room = self.width() - painter.fontMetrics().horizontalAdvance(words) - 16
        step = min(24.0, room / self.total)
        size = min(8.0, step * 0.4)
        for place in range(self.total):
            at = QPointF(step * (place + 0.5), self.height() / 2)
            if place < self.done:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(QColor(_OK))
                painter.drawEllipse(at, size, size)
                painter.setPen(QPen(QColor("#ffffff"), 1.8))
                tick = (QPointF(-0.45, 0.05), QPointF(-0.1, 0.4), QPointF(0.5, -0.35))
                painter.drawPolyline([at + point * size for point in tick])
            else:
                current = place == self.done and self.busy
                painter.setPen(QPen(now.colour("accent" if current else "muted"), 2.4 if current else 1.4))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawEllipse(at, size, size)
        painter.setPen(now.colour("muted"))
        right = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
        painter.drawText(QRectF(self.rect()), right, words)
        painter.end()


class Options(QWidget):
    """How many takes, how long at most, when to begin, and whether to beep; remembered."""

    changed = Signal()

    def __init__(self, settings: SettingsStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(4)
        self.takes = self._choice("Takes", "takes", {1: "1", 3: "3", 5: "5", 10: "10"})
        self.longest = self._choice(
            "Longest", "longest", {2.0: "2 s", 3.0: "3 s", 4.0: "4 s", 6.0: "6 s", 10.0: "10 s"}
        )
        self.longest.setToolTip("A take ends when the movement does, or after this time")
        self.first = self._choice("Start in", "countdown", {3.0: "3 s", 5.0: "5 s", 10.0: "10 s"})
        self.first.setToolTip("Countdown before the first take")
        self.sound = QCheckBox("Beep")
        self.sound.setToolTip("A sound at every second of the countdown, and when a take is finished")
        self.sound.setChecked(settings.values.memory.teach_sound)
        self.sound.toggled.connect(lambda on: settings.set("memory.teach_sound", on))
        self._grid.addWidget(self.sound, 1, 3)

    def _choice(self, words: str, field: str, options: dict[int, str] | dict[float, str]) -> QComboBox:
        box = QComboBox()
        box.setAccessibleName(words)
        for value, text in options.items():
            box.addItem(text, value)
        name = f"memory.teach_{field}"
        box.setCurrentIndex(max(0, box.findData(self._settings.get(name))))

        def chosen(_: int) -> None:
            self._settings.set(name, box.currentData())
            self.changed.emit()

        box.currentIndexChanged.connect(chosen)
        label = QLabel(words)
        label.setProperty("role", "muted")
        label.setBuddy(box)
        column = self._grid.count() // 2
        self._grid.addWidget(label, 0, column)
        self._grid.addWidget(box, 1, column)
        self._grid.setColumnStretch(column, 1)
        return box

    def plan(self) -> Plan:
        """The session these options mean."""
        return Plan(
            takes=int(self.takes.currentData()),
            countdown_s=float(self.first.currentData()),
            longest_s=float(self.longest.currentData()),
        )

    def hold(self, on: bool) -> None:
        """No changes while a session runs; the sound can always be switched off."""
        for box in (self.takes, self.longest, self.first):
            box.setEnabled(not on)
