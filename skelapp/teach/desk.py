"""The user's pack while the window is open: every change of it, and what is taught to the live recogniser.

All files and all computing are on one worker, in the order they were asked for; the pack and the encoder belong to that
thread alone. The window gets :class:`PackView`, and changes act at once: the taught actions are learned anew after each
and handed to the live session without a gap in the picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QObject, Signal

from engine import paths
from engine.live.types import Snapshot
from engine.skeleton.sequence import SkeletonSequence
from skelapp.live.session import LiveSession
from skelapp.settings import SettingsStore
from skelapp.teach.small_skeleton import SmallSkeleton
from skelapp.teach.view import ActionView, PackView, TakeView
from skelapp.workers import Worker

if TYPE_CHECKING:
    from engine.live.recogniser import Recogniser
    from engine.live.taught import TaughtActions
    from engine.teach.confusion import Check
    from engine.teach.pack import ClassPack

DEFAULT_NAME = "My actions"
MAX_UNDO = 50
RECENT_S = 15.0  # a correction is about something recognised within these seconds
BEFORE_S = 0.4
MAX_CHECKED = 120  # takes up to which look-alikes are searched without being asked for

Undo = Callable[["ClassPack"], object]


@dataclass(frozen=True)
class Stretch:
    """What somebody just did, and what it was called; not yet a take."""

    sequence: SkeletonSequence
    label: str | None = None


class TeachDesk(QObject):
    """Owned by the main window; the Teach panel and the corrections on the Live panel act through it."""

    changed = Signal()  # the pack, or what is known about it
    said = Signal(str, str, str)  # level (info, error), text, details
    learning = Signal(int, int)  # takes done, of all; equal at the end
    added = Signal(str)  # an action got a take
    renamed = Signal(str, str)  # an action, from, to
    name_wanted = Signal()  # what is pending needs a name

    def __init__(self, settings: SettingsStore, session: LiveSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self.session = session
        self.view: PackView | None = None
        self.taught: TaughtActions | None = None
        self.learning_now = self.checking = False
        self.moved_from = ""  # name of another encoder the pack was last taught on
        self.problem = ""
        self.pending: Stretch | None = None  # waits for a name
        self.warnings: dict[str, str] = {}
        self._undo: list[tuple[str, Undo]] = []
        self._worker: Worker | None = None
        self._ticket = 0
        # The worker's own:
        self._pack: ClassPack | None = None
        self._recogniser: Recogniser | None = None
        self._figures: dict[Path, SmallSkeleton] = {}
        session.checkpoint_changed.connect(self._other_checkpoint)

    # -------------------------------------------------------------- working

    @property
    def worker(self) -> Worker:
        if self._worker is None:
            self._worker = Worker("teach", self)
        return self._worker

    @property
    def busy(self) -> bool:
        return self._worker is not None and self._worker.busy

    def end(self, seconds: float) -> bool:
        """The window closes: learn nothing more, free the encoder."""
        self._ticket += 1
        if self._worker is None:
            return True
        ended = self._worker.close(seconds)
        if ended and self._recogniser is not None:
            self._recogniser.close()
        return ended

    def _failed(self, error: BaseException, details: str) -> None:
        self.said.emit("error", str(error), "" if _for_the_user(error) else details)

    def _change(
        self,
        work: Callable[[ClassPack], tuple[str, Undo] | None],
        done: Callable[[], object] | None = None,
        learn: bool = True,
    ) -> None:
        """Change the pack on the worker; ``work`` returns in words what can be taken back, and how."""

        def act() -> tuple[PackView, tuple[str, Undo] | None]:
            pack = self._opened()
            undo = work(pack)
            return self._look(pack), undo

        def shown(result: tuple[PackView, tuple[str, Undo] | None]) -> None:
            view, undo = result
            if undo is not None:
                self._undo = [*self._undo, undo][-MAX_UNDO:]
            self._show(view)
            if done is not None:
                done()
            if learn:
                self.learn()

        def failed(error: BaseException, details: str) -> None:
            self._failed(error, details)
            if self._pack is not None:
                self.worker.run(lambda: self._look(self._opened()), self._show)

        self.worker.run(act, shown, failed)

    def _opened(self) -> ClassPack:
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

    # ---------------------------------------------------------------- packs

    def open_remembered(self) -> None:
        """Open the pack of the last time, if there was one and it is still there."""
        kept = self._settings.values.memory.teach_pack
        if kept and Path(kept).is_dir() and self.view is None:
            self.open(Path(kept))

    def open_named(self, name: str) -> None:
        """Open a pack by its name or folder."""

        def act() -> PackView:
            from engine.teach.pack import ClassPack, find_pack

            self._pack, self._figures = ClassPack.open(find_pack(name)), {}
            return self._look(self._pack)

        self._replace(act, None)

    def open(self, folder: Path, done: Callable[[], object] | None = None) -> None:
        """Go on with another pack."""

        def act() -> PackView:
            from engine.teach.pack import ClassPack

            pack = ClassPack.open(folder)
            self._pack, self._figures = pack, {}
            return self._look(pack)

        self._replace(act, done)

    def create(self, name: str, done: Callable[[], object] | None = None) -> None:
        """Begin an empty pack in the user's folder."""

        def act() -> PackView:
            from engine.teach.pack import ClassPack, pack_folder

            pack = ClassPack.create(pack_folder(name), name)
            self._pack, self._figures = pack, {}
            return self._look(pack)

        self._replace(act, done)

    def load_zip(self, path: Path, done: Callable[[], object] | None = None) -> None:
        """Unpack a shared pack into the user's folder and go on with it."""

        def act() -> PackView:
            from engine.teach.share import read_zip

            pack = read_zip(path)
            self._pack, self._figures = pack, {}
            return self._look(pack)

        self._replace(act, done)

    def _replace(self, act: Callable[[], PackView], done: Callable[[], object] | None) -> None:
        def shown(view: PackView) -> None:
            self._undo, self.warnings, self.moved_from = [], {}, ""
            self.taught = None
            self._show(view)
            self.learn()
            if done is not None:
                done()

        self.worker.run(act, shown, self._failed)

    def save_zip(self, path: Path) -> None:
        """Write the pack as one file to give away."""

        def act() -> Path:
            from engine.teach.share import write_zip

            return write_zip(self._opened(), path)

        self.worker.run(act, lambda out: self.said.emit("info", f"Saved to {out}.", ""), self._failed)

    def export(self, path: Path) -> None:
        """Write the takes as the pickle PYSKL reads."""

        def act() -> str:
            from engine.teach.export import export_pickle

            export_pickle(self._opened(), path)
            return f"The takes are in {path}."

        self.worker.run(act, lambda words: self.said.emit("info", words, ""), self._failed)

    def rename(self, name: str) -> None:
        """Call the pack something else; its folder stays where it is."""

        def work(pack: ClassPack) -> tuple[str, Undo]:
            old = pack.name
            pack.rename(name)
            return f"The pack is called {old} again.", lambda pack: pack.rename(old)

        self._change(work, learn=False)

    def delete(self) -> None:
        """Put the pack aside; :meth:`bring_back` undoes it for a day."""
        if self.view is None:
            return
        name = self.view.name

        def act() -> tuple[Path, Path]:
            folder, self._pack, self._figures = self._opened().folder, None, {}
            aside = folder.parent / ".removed" / str(time.time_ns()) / folder.name
            aside.parent.mkdir(parents=True)
            folder.rename(aside)
            return aside, folder

        def gone(places: tuple[Path, Path]) -> None:
            self.view, self.taught, self.warnings, self.moved_from = None, None, {}, ""
            self._undo = []
            self._deleted = places
            self._settings.set("memory.teach_pack", "")
            self.session.use_taught(None)
            self.changed.emit()
            self.said.emit("undo", f"{name} is deleted; it is kept aside for a day.", "")

        self.worker.run(act, gone, self._failed)

    _deleted: tuple[Path, Path] | None = None

    def bring_back(self) -> bool:
        """Undo the deletion of a pack; False when none was deleted."""
        if self._deleted is None:
            return False
        (aside, folder), self._deleted = self._deleted, None

        def act() -> None:
            if folder.exists():
                from engine.teach.takes import PackError

                raise PackError(f"{folder} has been made again; the deleted pack stays in {aside}")
            aside.rename(folder)

        self.worker.run(act, lambda _: self.open(folder), self._failed)
        return True

    def list_packs(self, done: Callable[[list[tuple[str, Path]]], object]) -> None:
        """Names and folders of the packs in the user's folder."""

        def act() -> list[tuple[str, Path]]:
            from engine.teach.pack import find_packs, pack_name

            return [(pack_name(folder), folder) for folder in find_packs(paths.packs())]

        self.worker.run(act, done, self._failed)

    def reload(self) -> None:
        """Another process has added takes."""

        def work(pack: ClassPack) -> None:
            pack.reload()

        self._change(work)

    # -------------------------------------------------------------- actions

    def add_action(self, name: str, done: Callable[[str], object] | None = None) -> None:
        """Add an action; what waits for a name becomes its first take."""
        stretch, self.pending = self.pending, None
        kept: list[str] = []

        def work(pack: ClassPack) -> tuple[str, Undo]:
            kept.append(pack.add_action(name))
            if stretch is not None:
                _add(pack, kept[0], stretch.sequence, 1, "from the live view")
            return f"{kept[0]} is taken back.", lambda pack: pack.remove_action(kept[0])

        self._change(work, lambda: done(kept[0]) if done is not None else None, learn=stretch is not None)

    def rename_action(self, old: str, new: str) -> None:
        """Call an action something else; ``renamed`` tells it before the pack is shown again."""

        def work(pack: ClassPack) -> tuple[str, Undo]:
            name = pack.rename_action(old, new)
            self.renamed.emit(old, name)
            return f"{name} is called {old} again.", lambda pack: pack.rename_action(name, old)

        self._change(work)

    def remove_action(self, name: str) -> None:
        def work(pack: ClassPack) -> tuple[str, Undo]:
            removed = pack.remove_action(name)
            return f"{name} is back.", lambda pack: pack.put_back(removed)

        self._change(work, lambda: self.said.emit("undo", f"{name} is deleted.", ""))

    # ---------------------------------------------------------------- takes

    def add_take(self, action: str, sequence: SkeletonSequence, source: str = "recorded here") -> None:
        """Keep a performance, trimmed to its movement; it is live as soon as it is learned."""

        def work(pack: ClassPack) -> tuple[str, Undo]:
            take = _add(pack, action, sequence, 1, source)
            return f"The take of {action} is taken back.", lambda pack: pack.remove_take(take)

        self._change(work, lambda: self.added.emit(action))

    def remove_takes(self, paths_: Sequence[Path]) -> None:
        def work(pack: ClassPack) -> tuple[str, Undo]:
            gone = [pack.remove_take(take) for take in pack.takes(sign=None) if take.path in paths_]
            words = _count(len(gone), "take")
            return f"{words} put back.", lambda pack: [pack.put_back(one) for one in gone]

        self._change(work, lambda: self.said.emit("undo", f"{_count(len(paths_), 'take')} deleted.", ""))

    def move_takes(self, paths_: Sequence[Path], action: str) -> None:
        """Let takes be of another action."""

        def move(pack: ClassPack, wanted: Sequence[Path], to: str) -> tuple[list[Path], str]:
            made, before = [], to
            for take in [t for t in pack.takes(sign=None) if t.path in wanted]:
                before = take.action
                made.append(pack.add_take(to, take.sequence, take.start, take.end, take.sign, take.source).path)
                pack.remove_take(take)
            return made, before

        def work(pack: ClassPack) -> tuple[str, Undo]:
            made, before = move(pack, paths_, action)
            return f"{_count(len(made), 'take')} moved back to {before}.", lambda pack: move(pack, made, before)

        words = f"{_count(len(paths_), 'take')} moved to {action}."
        self._change(work, lambda: self.said.emit("undo", words, ""))

    def trim(self, path: Path, start: float, end: float) -> None:
        def find(pack: ClassPack) -> Any:
            return next((take for take in pack.takes(sign=None) if take.path == path), None)

        def work(pack: ClassPack) -> tuple[str, Undo] | None:
            take = find(pack)
            if take is None:
                return None
            pack.trim(take, start, end)
            return "The take has its old length again.", lambda pack: pack.trim(find(pack), take.start, take.end)

        self._change(work)

    def curve(self, take: TakeView, done: Callable[[np.ndarray], object]) -> None:
        """How much a take moves at every frame, for the trim bar."""

        def act() -> np.ndarray:
            from engine.teach.recording import motion_curve

            return motion_curve(take.sequence)

        self.worker.run(act, done)

    def take_back(self) -> bool:
        """Undo the last change; False when there is none."""
        if not self._undo:
            return self.bring_back()
        words, undo = self._undo.pop()

        def work(pack: ClassPack) -> None:
            undo(pack)

        self._change(work, lambda: self.said.emit("info", words, ""))
        return True

    # ---------------------------------------------------------- corrections

    def last_label(self, snapshot: Snapshot, person: int) -> str | None:
        """What a person was last said to do, if that is not long ago."""
        decision = snapshot.decisions.get(person)
        if decision is not None and decision.label is not None:
            return decision.label
        mine = [s for s in snapshot.segments if s.person == person and snapshot.time - s.end < RECENT_S]
        return mine[-1].label if mine else None

    def just_done(self, snapshot: Snapshot, person: int) -> Stretch | None:
        """The stretch a correction is about: the last recognised action, else what the encoder just looked at."""
        label = self.last_label(snapshot, person)
        mine = [s for s in snapshot.segments if s.person == person and snapshot.time - s.end < RECENT_S]
        window = max(snapshot.window_s, 1.0)
        if label is not None and mine and mine[-1].label == label:
            end = snapshot.time if mine[-1].open else min(snapshot.time, mine[-1].end + BEFORE_S)
            start = min(mine[-1].start - BEFORE_S, end - window)
        else:
            start, end = snapshot.time - window, snapshot.time
        sequence = self.session.poses(person, start, end)
        return Stretch(sequence, label) if sequence is not None and len(sequence) > 1 else None

    def was(self, action: str, stretch: Stretch) -> None:
        """“That was …”: the stretch becomes a take of an action."""

        def work(pack: ClassPack) -> tuple[str, Undo]:
            take = _add(pack, action, stretch.sequence, 1, "correction")
            return f"The correction of {action} is taken back.", lambda pack: pack.remove_take(take)

        self._change(work, lambda: self.said.emit("undo", f"Noted: that was “{action}”.", ""))

    def was_not(self, label: str, stretch: Stretch) -> None:
        """“That was not …”: the stretch becomes an example against an action, taught or known."""

        def work(pack: ClassPack) -> tuple[str, Undo]:
            known = label in pack.actions
            take = _add(pack, label, stretch.sequence, -1, "correction")

            def undo(pack: ClassPack) -> None:
                pack.remove_take(take)
                if not known:
                    pack.remove_action(label)

            return f"The correction of {label} is taken back.", undo

        self._change(work, lambda: self.said.emit("undo", f"Noted: that was not “{label}”.", ""))

    # ------------------------------------------------------------- learning

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
                self.check()

        def failed(error: BaseException, details: str) -> None:
            if ticket == self._ticket:
                self.learning_now, self.taught, self.problem = False, None, str(error)
                self.session.use_taught(None)
                self._dress()
                self.changed.emit()

        self.worker.run(lambda: self._learn(checkpoint, ticket), done, failed)

    def check(self, done: Callable[[list[str]], object] | None = None) -> None:
        """Which of the actions look alike, in sentences; every take is left out once and named by the others."""
        checkpoint, ticket = self.session.checkpoint, self._ticket
        if self.view is None or checkpoint is None:
            return

        def act() -> Check | None:
            from engine.teach.confusion import check

            return check(self._opened(), self._encoder(checkpoint)) if ticket == self._ticket else None

        def shown(found: Check | None) -> None:
            self.checking = False
            if found is not None and ticket == self._ticket:
                self.warnings = {
                    pair.action: f"looks like {pair.other} ({pair.wrong} of {pair.takes})"
                    for pair in reversed(found.look_alikes)
                }
                self._dress()
                if done is not None:
                    done(_sentences(found))
            self.changed.emit()

        def failed(error: BaseException, details: str) -> None:
            self.checking = False
            self.changed.emit()
            if done is not None:
                self._failed(error, details)

        self.checking = True
        self.worker.run(act, shown, failed)
        if done is not None:
            self.changed.emit()

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


def _add(pack: ClassPack, action: str, sequence: SkeletonSequence, sign: Any, source: str) -> Any:
    """Keep a performance, trimmed to its movement."""
    from engine.teach.recording import trim

    start, end = trim(sequence)
    return pack.add_take(action, sequence, start, end, sign, source)


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
    return words


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


def _for_the_user(error: BaseException) -> bool:
    """Whether an error's text says all there is to say."""
    from engine.cli import is_known

    return is_known(error)
