"""The pack as the live recogniser knows it: learned anew after every change, and searched for look-alikes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from skelapp.live.session import LiveSession
from skelapp.settings import SettingsStore
from skelapp.teach.desk_base import DeskBase

if TYPE_CHECKING:
    from engine.live.recogniser import Recogniser
    from engine.live.taught import TaughtActions
    from engine.teach.confusion import Check

MAX_CHECKED = 120  # takes up to which look-alikes are searched without being asked for


class Learning(DeskBase):
    """Learns on the worker, with an encoder of its own, and hands the result to the live session."""

    learning = Signal(int, int)  # takes done, of all; equal at the end
    checked = Signal(list)  # sentences about actions that look alike

    def __init__(self, settings: SettingsStore, session: LiveSession, parent: QObject | None = None) -> None:
        super().__init__(settings, session, parent)
        self.learning_now = False
        self.moved_from = ""  # name of another encoder the pack was last taught on
        self.problem = ""
        self._ticket = 0
        self._recogniser: Recogniser | None = None  # the worker's own
        session.checkpoint_changed.connect(self._other_checkpoint)

    def end(self, seconds: float) -> bool:
        """The window closes: learn nothing more, free the encoder."""
        self._ticket += 1
        if self._worker is None:
            return True
        ended = self._worker.close(seconds)
        if ended and self._recogniser is not None:
            self._recogniser.close()
        return ended

    def _other_checkpoint(self, folder: str) -> None:
        if self.view is not None:
            self.taught, self.warnings = None, {}
            self.session.use_taught(None)
            self._dress()
            self.changed.emit()
            self.learn()

    def learn(self) -> None:
        """Learn the pack for the encoder in use and hand the result to the live session; the last wish counts."""
        checkpoint = self.session.checkpoint
        self._ticket += 1
        ticket = self._ticket
        self.problem = ""
        if self.view is None or checkpoint is None or not self.view.takes:
            self.taught = None
            self.learning_now = False
            self.session.use_taught(None)
            self._dress()
            self.changed.emit()
            return
        self.learning_now = True
        self.changed.emit()

        def done(result: tuple[TaughtActions, str] | None) -> None:
            if result is None or ticket != self._ticket:
                return
            self.taught, before = result
            self.learning_now = False
            self.moved_from = before
            self.session.use_taught(self.taught)
            self._dress()
            self.changed.emit()
            if self.view is not None and self.view.takes <= MAX_CHECKED:
                self.check(asked=False)

        def failed(error: BaseException, details: str) -> None:
            if ticket == self._ticket:
                self.learning_now, self.taught, self.problem = False, None, str(error)
                self.session.use_taught(None)
                self._dress()
                self.changed.emit()

        self.worker.run(lambda: self._learn(checkpoint, ticket), done, failed)

    def check(self, asked: bool = True) -> None:
        """Which of the actions look alike; every take is left out once and named by the others.

        ``asked``: by the user, who is told when it can't be done.
        """
        checkpoint, ticket = self.session.checkpoint, self._ticket
        if self.view is None or checkpoint is None:
            return

        def act() -> Check | None:
            if ticket != self._ticket or self._pack is None:
                return None
            from engine.teach.confusion import check

            return check(self._pack, self._encoder(checkpoint))

        def shown(found: Check | None) -> None:
            if found is None or ticket != self._ticket:
                return  # the pack has changed meanwhile; it is checked anew after it has been learned
            self.warnings = {
                pair.action: f"looks like {pair.other} ({pair.wrong} of {pair.takes})"
                for pair in reversed(found.look_alikes)
            }
            self._dress()
            self.changed.emit()
            self.checked.emit(_sentences(found))

        def failed(error: BaseException, details: str) -> None:
            if asked:
                self._failed(error, details)

        self.worker.run(act, shown, failed)

    def _encoder(self, checkpoint: Path) -> Recogniser:
        """An encoder of the desk's own: the live one is never made to wait. On the worker."""
        from engine.live.recogniser import Recogniser

        runtime = self._settings.values.recognition.runtime
        if self._recogniser is None or self._recogniser.checkpoint != Path(checkpoint):
            if self._recogniser is not None:
                self._recogniser.close()
                self._recogniser = None
            self._recogniser = Recogniser(checkpoint, runtime, fall_back=True)
        return self._recogniser

    def _learn(self, checkpoint: Path, ticket: int) -> tuple[TaughtActions, str] | None:
        """The taught actions, and the encoder the pack was taught on before where that was another. On the worker."""
        if ticket != self._ticket or self._pack is None:
            return None
        from engine.teach.learn import learn

        encoder, pack = self._encoder(checkpoint), self._pack
        taught = learn(pack, encoder, progress=self.learning.emit)
        last = (pack.info.checkpoint, pack.info.weights)
        pack.taught_on(taught.checkpoint, taught.weights)
        return taught, last[0] if last != (taught.checkpoint, taught.weights) else ""


def _sentences(found: Check) -> list[str]:
    """What a check says, the most confused first."""
    good, all_ = found.right
    words = [pair.text[:1].upper() + pair.text[1:] + "." for pair in found.look_alikes]
    if not words and all_:
        words = [f"No two look alike: each of the {all_} takes is recognised by the other takes of its action."]
    elif words:
        words.append(f"{good} of {all_} takes are recognised by the others of their action.")
    if found.unchecked:
        words.append(f"With a single take nothing can be said of {', '.join(found.unchecked)}.")
    return words or ["There is nothing to compare yet: it takes two takes of an action of your own."]
