"""On an action card: “that was not …”, “that was …”. What was just done becomes an example of the user's pack."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QMenu, QToolButton, QVBoxLayout

from engine.live.types import Snapshot
from skelapp.live.action_card import ActionCard, readable
from skelapp.live.session import LiveSession
from skelapp.teach.desk import Stretch, TeachDesk

HEIGHT = 34  # what it needs of a card
LEAST_CARD = 230  # px; a lower card keeps its bars instead
MAX_MENU = 30


class Correction(QToolButton):
    """A quiet button at the foot of a card, and its menu. ``name_it`` asks for the name of a new action."""

    def __init__(
        self, card: ActionCard, desk: TeachDesk, session: LiveSession, name_it: Callable[[Stretch], object]
    ) -> None:
        super().__init__(card)
        self._card, self._desk, self._session, self._name_it = card, desk, session, name_it
        self.setText("Not right?")
        self.setAccessibleName("Say what that was, or was not")
        self.setToolTip("Say what that was, or was not (X)")
        self.setProperty("quiet", True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.corrections = QMenu(self)
        self.corrections.aboutToShow.connect(self.fill)
        self.setMenu(self.corrections)
        place = QVBoxLayout(card)
        place.setContentsMargins(8, 8, 8, 6)
        place.addStretch(1)
        place.addWidget(self, 0, Qt.AlignmentFlag.AlignRight)
        self.hide()

    def show_for(self, snapshot: Snapshot, seen: bool) -> None:
        """Offered while a model speaks about somebody, where the card has room."""
        room = self._card.height() >= LEAST_CARD and not self._card.model
        offered = bool(snapshot.checkpoint) and room
        if offered is not self.isVisibleTo(self._card):
            self.setVisible(offered)
            self._card.foot = HEIGHT if offered else 0
            self._card.update()
        self.setEnabled(seen)

    def open_menu(self) -> bool:
        """Open the menu without waiting for the choice; False when there is nobody to correct anything about."""
        if not (self.isVisible() and self.isEnabled()):
            return False
        self.setFocus()
        self.corrections.popup(self.mapToGlobal(QPoint(0, self.height())))
        return True

    def fill(self) -> None:
        """Take hold of what was just done, before the menu is read, and offer names for it."""
        menu, person = self.corrections, self._card.person
        menu.clear()
        stretch = self._desk.just_done(self._session.snapshot(), person)
        if stretch is None:
            menu.addAction("Nothing was seen in the last seconds").setEnabled(False)
            return
        if stretch.label is not None:
            label = stretch.label
            wrong = menu.addAction(f"That was not “{_shown(label)}”")
            wrong.triggered.connect(lambda: self._desk.was_not(label, stretch))
            menu.addSeparator()
        names = self._desk.view.names if self._desk.view is not None else []
        for name in names[:MAX_MENU]:
            if name != stretch.label:
                right = menu.addAction(f"That was “{_shown(name)}”")
                right.triggered.connect(lambda _=False, name=name: self._desk.was(name, stretch))
        menu.addAction("That was a new action…").triggered.connect(lambda: self._name_it(stretch))


def _shown(name: str) -> str:
    return readable(name).replace("&", "&&")
