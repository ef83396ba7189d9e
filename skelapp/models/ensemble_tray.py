"""Encoders of several streams put together by dragging them here, weighed, and tested as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QTextOption
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from skelapp.models.library import Entry
from skelapp.models.report import percent, points
from skelapp.models.table_model import CHECKPOINTS, folders_in
from skelapp.task import Task
from skelapp.widgets import Banner, ElidedLabel, button, rich_table

WEIGHTS = (
    ("published", "Published weights", "By stream, as the papers weigh them"),
    ("equal", "Equal weights", "Every encoder counts the same"),
    ("fitted", "Fitted weights", "Fitted on the training part, which every encoder has seen: a hint, no measurement"),
    ("own", "Own weights", "The numbers beside each encoder"),
)
EMPTY = (
    "Drag checkpoints of several streams from the table to here, or select them and press Add.\n"
    "Their logits are added up with a weight for each, and the sum is tested."
)


class EnsembleTray(QFrame):
    """What is in the ensemble, and what it does. ``asked`` carries title and command, ``closed`` hides it."""

    asked = Signal(str, list)
    closed = Signal()

    def __init__(
        self, find: Callable[[Path], Entry | None], chosen: Callable[[], list[Entry]], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setProperty("card", True)
        self.setAcceptDrops(True)
        self.setAccessibleName("Ensemble")
        self._find, self._chosen = find, chosen
        self.members: list[Entry] = []
        self.spins: list[QDoubleSpinBox] = []
        self.banner = Banner()
        self.weights = QComboBox()
        self.weights.setAccessibleName("Weights")
        for value, words, tip in WEIGHTS:
            self.weights.addItem(words, value)
            self.weights.setItemData(self.weights.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.weights.currentIndexChanged.connect(lambda _: self._limit())
        self.test = button("Test together", self.go, primary=True)
        self.empty = QLabel(EMPTY)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setProperty("role", "muted")
        self.empty.setWordWrap(True)
        self._rows = QGridLayout()
        self._rows.setHorizontalSpacing(12)
        self._rows.setVerticalSpacing(6)
        inside = QWidget()
        holder = QVBoxLayout(inside)
        holder.setContentsMargins(0, 0, 0, 0)
        holder.addLayout(self._rows)
        holder.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setWidget(inside)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for background in (inside, self._scroll.viewport()):
            background.setAutoFillBackground(False)
        self.result = QTextBrowser()
        self.result.setAccessibleName("Result of the ensemble")
        self.result.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.result.hide()
        title = QLabel("Ensemble")
        title.setProperty("role", "section")
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(title)
        top.addStretch(1)
        top.addWidget(button("Add the selected", self.add_selected))
        top.addWidget(self.weights)
        top.addWidget(self.test)
        top.addWidget(button("Close", self.closed.emit))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 12, 12, 14)
        layout.setSpacing(10)
        layout.addLayout(top)
        layout.addWidget(self.banner)
        layout.addWidget(self.empty, 1)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(self.result, 2)
        self._refill()

    # ---------------------------------------------------------------- acts

    def add(self, entries: Sequence[Entry]) -> None:
        """Put checkpoints in; one that does not go with the others is refused in words."""
        for entry in entries:
            if any(entry.folder == member.folder for member in self.members):
                continue
            reason = self._refusal(entry)
            if reason:
                self.banner.show_message(f"{entry.title} does not fit: {reason}.", error=True)
                continue
            self.members.append(entry)
        self._refill()

    def _refusal(self, entry: Entry) -> str:
        if entry.card is None or not entry.usable:
            return entry.error or "it has no trained classifier"
        if self.members:
            first = self.members[0].card
            assert first is not None
            if entry.card.classes != first.classes:
                return f"it knows other classes than {self.members[0].title}"
            if entry.card.split != first.split:
                return f"it was trained on split {entry.card.split}, {self.members[0].title} on {first.split}"
        return ""

    def add_selected(self) -> None:
        self.banner.dismiss()
        self.add(self._chosen())

    def remove(self, entry: Entry) -> None:
        kept = [(one, spin) for one, spin in zip(self.members, self.spins, strict=True) if one is not entry]
        self.members, self.spins = [one for one, _ in kept], [spin for _, spin in kept]  # each keeps its weight
        self._refill()

    def go(self) -> None:
        """Test the ensemble in a child process."""
        wish = self.weights.currentData()
        if wish == "own":
            wish = ",".join(f"{spin.value():g}" for spin in self.spins)
        folders = [str(member.folder) for member in self.members]
        self.banner.dismiss()
        self.asked.emit("Testing the ensemble", ["ensemble", *folders, "--weights", wish, "--json", "-"])

    def show_result(self, task: Task) -> None:
        """What the command found, or why it found nothing."""
        if task.state == "failed":
            self.banner.show_message(f"The ensemble can't be tested: {task.problem}", task.details, error=True)
            return
        try:
            found = task.result()
            page = self._page(found)
            weights = [float(member["weight"]) for member in found["members"]]
        except (ValueError, KeyError, TypeError, IndexError):
            self.banner.show_message("The ensemble's answer can't be read.", task.output, error=True)
            return
        for spin, weight in zip(self.spins, weights):
            spin.blockSignals(True)
            spin.setValue(weight)
            spin.blockSignals(False)
        self.result.setHtml(page)
        self.result.show()

    @staticmethod
    def _page(found: dict[str, Any]) -> str:
        splits = list(found["splits"])
        heads = "".join(f"<th align='right'>{escape(name)}, {found['splits'][name]['count']}</th>" for name in splits)
        rows = []
        for member in found["members"]:
            tested = "".join(f"<td align='right'>{percent(member['splits'][name]['top1'])}</td>" for name in splits)
            rows.append(
                f"<tr><td>{escape(member['checkpoint'])}</td><td>{escape(member['stream'].replace('_', ' '))}</td>"
                f"<td align='right'>{member['weight']:g}</td>{tested}</tr>"
            )
        whole = "".join(f"<td align='right'><b>{percent(found['splits'][name]['top1'])}</b></td>" for name in splits)
        best = max(member["splits"][splits[0]]["top1"] for member in found["members"])
        gain = found["splits"][splits[0]]["top1"] - best
        where = f"{escape(found['dataset'])} {escape(splits[0])}"
        hint = " The weights were fitted on sequences every encoder has seen." if found["weights"] == "fitted" else ""
        return (
            rich_table(
                "<tr><th align='left'>Checkpoint</th><th align='left'>Stream</th><th align='right'>Weight</th>"
                f"{heads}</tr>{''.join(rows)}<tr><td><b>Together</b></td><td></td><td></td>{whole}</tr>"
            )
            + f"<p>{points(gain)} points against the best of them on {where}.{hint}</p>"
        )

    # ------------------------------------------------------------- showing

    def _refill(self) -> None:
        old = [spin.value() for spin in self.spins]
        while self._rows.count():
            item = self._rows.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        self.spins = []
        for row, entry in enumerate(self.members):
            assert entry.card is not None
            stream = QLabel(entry.card.preprocessing.stream.replace("_", " "))
            stream.setProperty("role", "muted")
            spin = QDoubleSpinBox()
            spin.setRange(-10.0, 10.0)
            spin.setSingleStep(0.1)
            spin.setValue(old[row] if row < len(old) else 1.0)
            spin.setAccessibleName(f"Weight of {entry.title}")
            # A number of one's own means own weights.
            spin.valueChanged.connect(self._own)
            self.spins.append(spin)
            out = button("Remove", partial(self.remove, entry))
            out.setAccessibleName(f"Remove {entry.title}")
            for column, widget in enumerate((ElidedLabel(entry.title), stream, spin, out)):
                self._rows.addWidget(widget, row, column)
        self._rows.setColumnStretch(0, 1)
        self.empty.setVisible(not self.members)
        self._scroll.setVisible(bool(self.members))
        self.result.hide()
        self._limit()

    def _own(self) -> None:
        if self.weights.currentData() != "own":
            self.weights.setCurrentIndex(self.weights.findData("own"))

    def _limit(self) -> None:
        self.test.setEnabled(len(self.members) >= 2)
        self.weights.setToolTip(WEIGHTS[self.weights.currentIndex()][2])

    # ------------------------------------------------------------ dropping

    @staticmethod
    def _takes(mime: QMimeData) -> bool:
        return mime.hasFormat(CHECKPOINTS)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if self._takes(event.mimeData()):
            self.setProperty("drop", True)
            self._restyle()
            event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.setProperty("drop", False)
        self._restyle()

    def dropEvent(self, event: QDropEvent) -> None:
        self.dragLeaveEvent(QDragLeaveEvent())
        if self._takes(event.mimeData()):
            self.banner.dismiss()
            entries = [self._find(folder) for folder in folders_in(event.mimeData())]
            self.add([entry for entry in entries if entry is not None])
            event.acceptProposedAction()

    def _restyle(self) -> None:
        self.style().unpolish(self)
        self.style().polish(self)
