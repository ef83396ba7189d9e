"""What the user's pack needs of the window: one worker, changes that can be taken back, and a view to show.

All files and all computing are on the worker, in the order they were asked for; the pack belongs to that thread alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QObject, Signal

from skelapp.live.session import LiveSession
from skelapp.settings import SettingsStore
from skelapp.teach.small_skeleton import SmallSkeleton
from skelapp.teach.view import ActionView, PackView, TakeView
from skelapp.workers import Worker

if TYPE_CHECKING:
    from engine.live.taught import TaughtActions
    from engine.teach.pack import ClassPack

DEFAULT_NAME = "My actions"
MAX_UNDO = 50

Undo = Callable[["ClassPack"], object]
Change = tuple[str, Undo]  # in words what was taken back, and how


class DeskBase(QObject):
    """The pack as the window knows it. :class:`~skelapp.teach.desk.TeachDesk` is what the window uses."""

    changed = Signal()  # the pack, or what is known about it
    said = Signal(str, str, str)  # level (info, undo, error), text, details
    outdated = Signal()  # an undo that is offered would take back something else by now
    added = Signal(str)  # an action got a take
    renamed = Signal(str, str)  # an action, from, to
    name_wanted = Signal(object)  # a stretch that is a new action

    def __init__(self, settings: SettingsStore, session: LiveSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self.session = session
        self.view: PackView | None = None
        self.taught: TaughtActions | None = None
        self.warnings: dict[str, str] = {}
        self._undo: list[Change] = []
        self._worker: Worker | None = None
        # The worker's own:
        self._pack: ClassPack | None = None
        self._figures: dict[Path, SmallSkeleton] = {}

    @property
    def worker(self) -> Worker:
        if self._worker is None:
            self._worker = Worker("teach", self)
        return self._worker

    @property
    def busy(self) -> bool:
        return self._worker is not None and self._worker.busy

    def learn(self) -> None:
        """The pack changed: learn it anew."""
        raise NotImplementedError

    def _set_undo(self, changes: list[Change]) -> None:
        self._undo = changes
        self.outdated.emit()

    def _failed(self, error: BaseException, details: str) -> None:
        self.said.emit("error", str(error), "" if _for_the_user(error) else details)

    def _change(
        self,
        work: Callable[[ClassPack], Change | None],
        done: Callable[[], object] | None = None,
        learn: bool = True,
        begin: bool = False,
    ) -> None:
        """Change the pack on the worker; ``work`` returns in words what can be taken back, and how.

        Nothing is done where the pack has been deleted meanwhile; ``begin`` makes one where there was none at all.
        """
        begin = begin and self.view is None

        def act() -> tuple[PackView, Change | None] | None:
            pack = self._begun() if begin else self._pack
            if pack is None:
                return None
            undo = work(pack)
            return self._look(pack), undo

        def shown(result: tuple[PackView, Change | None] | None) -> None:
            if result is None:
                return
            view, undo = result
            if undo is not None:
                self._set_undo([*self._undo, undo][-MAX_UNDO:])
            self._show(view)
            if done is not None:
                done()
            if learn:
                self.learn()

        def look() -> PackView | None:
            return self._look(self._pack) if self._pack is not None else None

        def again(view: PackView | None) -> None:
            if view is not None:
                self._show(view)

        def failed(error: BaseException, details: str) -> None:
            self._failed(error, details)
            self.worker.run(look, again)

        self.worker.run(act, shown, failed)

    def _opened(self) -> ClassPack:
        """The pack at hand, for what can't go without one. On the worker."""
        if self._pack is None:
            from engine.teach.takes import PackError

            raise PackError("no pack is open; open one first")
        return self._pack

    def _begun(self) -> ClassPack:
        """The pack at hand; the first thing that is taught makes one. On the worker."""
        if self._pack is None:
            from engine.teach.pack import PACK_FILE, ClassPack, pack_folder

            folder = pack_folder(DEFAULT_NAME)
            here = (folder / PACK_FILE).is_file()
            self._pack = ClassPack.open(folder) if here else ClassPack.create(folder, DEFAULT_NAME)
        return self._pack

    def _look(self, pack: ClassPack) -> PackView:
        """The pack as the window shows it. On the worker."""
        takes = pack.takes(sign=None)
        self._figures = {take.path: self._figures.get(take.path) or SmallSkeleton(take.sequence) for take in takes}
        views = [TakeView(take, self._figures[take.path]) for take in takes]
        actions = tuple(
            ActionView(name, tuple(view for view in views if view.take.action == name)) for name in pack.actions
        )
        return PackView(pack.folder, pack.name, actions, tuple(pack.problems))

    def _show(self, view: PackView) -> None:
        first = self.view is None or self.view.folder != view.folder
        self.view = view
        self._dress()
        self._settings.set("memory.teach_pack", str(view.folder))
        if first and view.problems:
            self.said.emit("error", f"Part of {view.name} can't be read; the rest is here.", "\n".join(view.problems))
        self.changed.emit()

    def _dress(self) -> None:
        """Say of every action whether it is live and what it is taken for."""
        if self.view is None:
            return
        live = set(self.taught.classes) | self._known_taught() if self.taught is not None else set()
        actions = tuple(
            replace(action, live=action.name in live, warning=self.warnings.get(action.name, ""))
            for action in self.view.actions
        )
        self.view = replace(self.view, actions=actions)

    def _known_taught(self) -> set[str]:
        """Taught actions that have the name of one of the encoder's own classes."""
        assert self.taught is not None
        names = (*self.taught.known, *self.taught.classes)
        return {names[int(owner)] for owner in np.unique(self.taught.owner)}


def _for_the_user(error: BaseException) -> bool:
    """Whether an error's text says all there is to say."""
    from engine.cli import is_known

    return is_known(error)
