"""Small widgets that several panels share: banners, labels that elide, tables of rich text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFontMetrics, QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)


class ElidedLabel(QLabel):
    """One line of text cut with an ellipsis where it does not fit; the tool tip holds the whole."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(40, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        text = QFontMetrics(self.font()).elidedText(self.text(), Qt.TextElideMode.ElideMiddle, self.width())
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.rect(), int(self.alignment()), text)
        self.setToolTip(self.text() if text != self.text() else "")


def rich_table(rows: str, title: str = "", padding: int = 4, wide: bool = True) -> str:
    """Rows of HTML (``<tr>...``) as a table of rich text under its heading, as wide as the text or as its cells."""
    # Of the whole width Qt makes one pixel more where that is no whole number, and a scroll bar for it.
    width = " width='99%'" if wide else ""
    gap = " style='margin-top:6px'" if title else ""  # Qt sets a table right under a heading otherwise
    heading = f"<h3>{title}</h3>" if title else ""
    return f"{heading}<table cellspacing='0' cellpadding='{padding}'{width}{gap}>{rows}</table>"


def button(text: str, act: Callable[[], object], primary: bool = False, tip: str = "") -> QPushButton:
    """A push button that calls ``act``."""
    made = QPushButton(text)
    made.setProperty("primary", primary)
    made.setAutoDefault(False)
    if tip:
        made.setToolTip(tip)
    made.clicked.connect(lambda: act())
    return made


class Banner(QFrame):
    """A message in the panel it concerns: what to do, actions, *Details*, *Copy*, *Dismiss*."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("banner", "info")
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        self._text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._details = QPlainTextEdit()
        self._details.setReadOnly(True)
        self._details.setMaximumHeight(150)
        self._details.setAccessibleName("Details of the message")
        self._details.hide()
        self._fold = button("Details", self._toggle)
        self._fold.setCheckable(True)
        self._copy = button("Copy", self.copy, tip="Copy the message and its details")
        self._close = button("Dismiss", self.dismiss)
        self._actions: list[QPushButton] = []
        self._row = QHBoxLayout()
        self._row.setSpacing(8)
        self._row.addWidget(self._text, 1)
        for made in (self._fold, self._copy, self._close):
            self._row.addWidget(made, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 10, 10, 10)
        layout.addLayout(self._row)
        layout.addWidget(self._details)
        self.hide()

    @property
    def text(self) -> str:
        return self._text.text()

    @property
    def details(self) -> str:
        return self._details.toPlainText()

    @property
    def kind(self) -> str:
        return str(self.property("banner"))

    @property
    def actions_shown(self) -> list[QPushButton]:
        return list(self._actions)

    def show_message(
        self,
        text: str,
        details: str = "",
        error: bool = False,
        actions: tuple[tuple[str, Callable[[], object]], ...] = (),
        unfold: bool = False,
    ) -> None:
        """Show ``text``; every action is a button that also closes the banner. ``unfold`` shows the details at once."""
        for old in self._actions:
            self._row.removeWidget(old)
            old.deleteLater()
        self._actions = [button(name, partial(self._act, act)) for name, act in actions]
        for place, made in enumerate(self._actions):
            self._row.insertWidget(1 + place, made, 0, Qt.AlignmentFlag.AlignTop)
        self._text.setText(text)
        self._details.setPlainText(details)
        self._details.setVisible(unfold and bool(details))
        self._details.setMaximumHeight(min(150, 26 + 18 * len(details.splitlines())))
        self._fold.setChecked(unfold)
        self._fold.setVisible(bool(details))
        self._copy.setVisible(error)
        self.setProperty("banner", "error" if error else "info")
        self.setAccessibleName(("Error: " if error else "") + text)
        self.style().unpolish(self)
        self.style().polish(self)
        self.show()

    def _act(self, act: Callable[[], object]) -> None:
        self.dismiss()
        act()

    def dismiss(self) -> None:
        self.hide()

    def copy(self) -> None:
        """Put the message and its details on the clipboard."""
        QGuiApplication.clipboard().setText("\n\n".join(part for part in (self.text, self.details) if part))

    def _toggle(self) -> None:
        self._details.setVisible(self._fold.isChecked())
