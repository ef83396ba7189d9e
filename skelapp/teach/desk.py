"""The user's pack while the window is open: her actions and takes, and the corrections made while live.

Changes act at once: what is taught is learned anew after each and handed to the live session without a gap in the
picture. Everything can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.live.types import Snapshot
from engine.skeleton.sequence import SkeletonSequence
from skelapp.teach.desk_base import Change
from skelapp.teach.packs import Packs
from skelapp.teach.view import TakeView

if TYPE_CHECKING:
    from engine.teach.pack import ClassPack
    from engine.teach.takes import Sign, Take

RECENT_S = 15.0  # a correction is about something recognised within these seconds
BEFORE_S = 0.4


@dataclass(frozen=True)
class Stretch:
    """What somebody just did, and what it was called; not yet a take."""

    sequence: SkeletonSequence
    label: str | None = None


class TeachDesk(Packs):
    """Owned by the main window; the Teach panel and the corrections on the Live panel act through it."""

    # -------------------------------------------------------------- actions

    def add_action(
        self, name: str, done: Callable[[str], object] | None = None, stretch: Stretch | None = None
    ) -> None:
        """Add an action; what was just done becomes its first take."""
        kept: list[str] = []

        def work(pack: ClassPack) -> Change | None:
            there = pack.actions
            take = _add(pack, name, stretch.sequence, 1, "from the live view") if stretch is not None else None
            kept.append(take.action if take is not None else pack.add_action(name))
            if kept[0] not in there:
                return f"{kept[0]} is taken back.", lambda pack: pack.remove_action(kept[0])
            if take is not None:
                return f"The take of {kept[0]} is taken back.", lambda pack: pack.remove_take(take)
            return None  # nothing was added

        self._change(work, lambda: done(kept[0]) if done is not None else None, learn=stretch is not None, begin=True)

    def rename_action(self, old: str, new: str) -> None:
        """Call an action something else; ``renamed`` tells it before the pack is shown again."""

        def work(pack: ClassPack) -> Change:
            name = pack.rename_action(old, new)
            self.renamed.emit(old, name)
            return f"{name} is called {old} again.", lambda pack: pack.rename_action(name, old)

        self._change(work)

    def remove_action(self, name: str) -> None:
        def work(pack: ClassPack) -> Change:
            removed = pack.remove_action(name)
            return f"{name} is back.", lambda pack: pack.put_back(removed)

        self._change(work, lambda: self.said.emit("undo", f"{name} is deleted.", ""))

    # ---------------------------------------------------------------- takes

    def add_take(self, action: str, sequence: SkeletonSequence, source: str = "recorded here") -> None:
        """Keep a performance, trimmed to its movement; it is live as soon as it is learned."""

        def work(pack: ClassPack) -> Change:
            take = _add(pack, action, sequence, 1, source)
            return f"The take of {action} is taken back.", lambda pack: pack.remove_take(take)

        self._change(work, lambda: self.added.emit(action), begin=True)

    def remove_takes(self, paths_: Sequence[Path]) -> None:
        def work(pack: ClassPack) -> Change:
            gone = [pack.remove_take(take) for take in pack.takes(sign=None) if take.path in paths_]
            words = _count(len(gone), "take")
            return f"{words} put back.", lambda pack: [pack.put_back(one) for one in gone]

        self._change(work, lambda: self.said.emit("undo", f"{_count(len(paths_), 'take')} deleted.", ""))

    def move_takes(self, paths_: Sequence[Path], action: str) -> None:
        """Let takes be of another action."""

        def work(pack: ClassPack) -> Change:
            made, gone, before = [], [], action
            for take in [t for t in pack.takes(sign=None) if t.path in paths_]:
                before = take.action
                made.append(pack.add_take(action, take.sequence, take.start, take.end, take.sign, take.source))
                gone.append(pack.remove_take(take))

            def undo(pack: ClassPack) -> None:
                # Where they were, so that what was done to them before can be undone too.
                for removed in gone:
                    pack.put_back(removed)
                for take in made:
                    pack.remove_take(take)

            return f"{_count(len(made), 'take')} moved back to {before}.", undo

        words = f"{_count(len(paths_), 'take')} moved to {action}."
        self._change(work, lambda: self.said.emit("undo", words, ""))

    def trim(self, path: Path, start: float, end: float) -> None:
        def find(pack: ClassPack) -> Take:
            return next(take for take in pack.takes(sign=None) if take.path == path)

        def work(pack: ClassPack) -> Change | None:
            if not any(take.path == path for take in pack.takes(sign=None)):
                return None  # deleted meanwhile
            take = find(pack)
            pack.trim(take, start, end)
            return "The take has its old length again.", lambda pack: pack.trim(find(pack), take.start, take.end)

        self._change(work)

    def curve(self, take: TakeView, done: Callable[[np.ndarray], None]) -> None:
        """How much a take moves at every frame, for the trim bar."""

        def act() -> np.ndarray:
            from engine.teach.recording import motion_curve

            return motion_curve(take.sequence)

        self.worker.run(act, done)

    def take_back(self) -> bool:
        """Undo the last change; False when there is none."""
        if not self._undo:
            return self.bring_back()
        words, undo = self._undo[-1]
        self._set_undo(self._undo[:-1])

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

        def work(pack: ClassPack) -> Change:
            take = _add(pack, action, stretch.sequence, 1, "correction")
            return f"The correction of {action} is taken back.", lambda pack: pack.remove_take(take)

        self._change(work, lambda: self.said.emit("undo", f"Noted: that was “{action}”.", ""), begin=True)

    def was_not(self, label: str, stretch: Stretch) -> None:
        """“That was not …”: the stretch becomes an example against an action, taught or known."""

        def work(pack: ClassPack) -> Change:
            known = label in pack.actions
            take = _add(pack, label, stretch.sequence, -1, "correction")

            def undo(pack: ClassPack) -> None:
                pack.remove_take(take)
                if not known:
                    pack.remove_action(label)

            return f"The correction of {label} is taken back.", undo

        self._change(work, lambda: self.said.emit("undo", f"Noted: that was not “{label}”.", ""), begin=True)


def _add(pack: ClassPack, action: str, sequence: SkeletonSequence, sign: Sign, source: str) -> Take:
    """Keep a performance, trimmed to its movement."""
    from engine.teach.recording import trim

    start, end = trim(sequence)
    return pack.add_take(action, sequence, start, end, sign, source)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
