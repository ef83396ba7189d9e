"""The class pack: a user's actions with their takes, as a folder of plain files that can be zipped and given away.

``pack.json`` holds names and versions, ``takes/ACTION/NNNN.npz`` the joints of every take, ``features/`` what encoders
made of them (can be thrown away). Every file is replaced as a whole; what is removed goes to ``.removed/`` first.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import engine
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.pack_files import (
    PACK_FILE,
    REMOVED,
    TAKES,
    ActionInfo,
    PackInfo,
    clean_name,
    find_pack,
    find_packs,
    new_pack_folder,
    pack_folder,
    pack_name,
    read_info,
    read_takes,
    slug,
)
from engine.teach.takes import PackError, Sign, Take, TakeAbout, checked_sequence, read_take, usable_trim, write_take

__all__ = [
    "PACK_FILE", "ClassPack", "PackError", "PackInfo", "Removed", "Take", "clean_name", "find_pack", "find_packs",
    "new_pack_folder", "pack_folder", "pack_name", "slug",
]  # fmt: skip

MAX_ACTIONS, MAX_TAKES = 500, 2000
_KEEP_REMOVED_S = 24 * 3600.0
_REMOVED_AT = re.compile(r"[0-9]{19}")  # nanoseconds: a folder beside somebody's pack may hold other numbers


@dataclass(frozen=True)
class Removed:
    """What was removed, so that :meth:`ClassPack.put_back` can take it back: (where it lies, where it was)."""

    places: tuple[tuple[Path, Path], ...]
    action: ActionInfo | None = None
    position: int = 0


class ClassPack:
    """A folder of taught actions; made by :meth:`create` or :meth:`open`.

    Attributes
    ----------
    folder : Path
    info : PackInfo
    problems : list of str
        What could not be read when the pack was opened; everything else is there.
    """

    def __init__(self, folder: Path, info: PackInfo, takes: list[Take], problems: list[str]) -> None:
        self.folder, self.info, self.problems = Path(folder), info, problems
        self._takes = takes

    # -------------------------------------------------------------- opening

    @classmethod
    def create(cls, folder: Path, name: str = "") -> ClassPack:
        """Make an empty pack; raises :class:`PackError` where the folder already holds something."""
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise PackError(f"{folder} is there already; choose another name, or go on with that pack")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        info = PackInfo(name=clean_name(name or folder.name, "pack"), created=now, program=engine.__version__)
        pack = cls(folder, info, [], [])
        folder.mkdir(parents=True, exist_ok=True)
        pack._save()
        return pack

    @classmethod
    def open(cls, folder: Path) -> ClassPack:
        """Open a pack. Damaged takes are left out and named in ``problems``; a damaged ``pack.json`` is made anew.

        Raises
        ------
        PackError
            No pack here, or one of a newer version.
        """
        folder = Path(folder)
        if not (folder / PACK_FILE).is_file() and not (folder / TAKES).is_dir():
            raise PackError(f"{folder} is no pack of actions ({PACK_FILE} is missing)")
        problems: list[str] = []
        info = read_info(folder, problems)
        pack = cls(folder, info, [], problems)
        for action in info.actions:
            pack._takes += read_takes(folder / TAKES / action.id, action.name, problems)
        for removed in (folder / REMOVED, folder.parent / REMOVED):  # takes and actions; whole packs
            with contextlib.suppress(OSError):
                _delete_old(removed)
        return pack

    def reload(self) -> None:
        """Read everything again: another process may have changed it."""
        fresh = ClassPack.open(self.folder)
        self.info, self._takes, self.problems = fresh.info, fresh._takes, fresh.problems

    # -------------------------------------------------------------- looking

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of all actions, also of those without a take, in the order they were added."""
        return tuple(action.name for action in self.info.actions)

    def takes(self, action: str | None = None, sign: Sign | None = 1) -> list[Take]:
        """Takes of one action or of all; by default without the counter-examples (``sign`` None: both kinds)."""
        return [t for t in self._takes if action in (None, t.action) and sign in (None, t.sign)]

    def _action(self, name: str) -> ActionInfo:
        for action in self.info.actions:
            if action.name == name:
                return action
        known = ", ".join(self.actions) or "none yet"
        raise PackError(f"{self.name} has no action {name!r}; it has {known}")

    # -------------------------------------------------------------- changing

    def rename(self, name: str) -> str:
        """Call the pack something else; its folder keeps its name. Returns the name as kept."""
        name = clean_name(name, "pack")
        self._adopt()
        self.info = self.info.model_copy(update={"name": name})
        self._save()
        return name

    def add_action(self, name: str) -> str:
        """Add an action without takes; returns its name as kept. Nothing happens when it is there."""
        name = clean_name(name)
        self._adopt()
        if name in self.actions:
            return name
        if len(self.info.actions) >= MAX_ACTIONS:
            raise PackError(f"{self.name} has {MAX_ACTIONS} actions already; begin another pack")
        taken = {action.id for action in self.info.actions}
        first = slug(name)
        identity = next(i for i in (first, *(f"{first}-{n}" for n in range(2, MAX_ACTIONS + 2))) if i not in taken)
        self._save([*self.info.actions, ActionInfo(id=identity, name=name)])
        return name

    def rename_action(self, old: str, new: str) -> str:
        """Call an action something else; raises :class:`PackError` for an unknown or a taken name."""
        self._adopt()
        action, new = self._action(old), clean_name(new)
        if new != old and new in self.actions:
            raise PackError(f"{self.name} has an action {new!r} already")
        renamed = action.model_copy(update={"name": new})
        self._save([renamed if a is action else a for a in self.info.actions])
        self._takes = [replace(t, action=new) if t.action == old else t for t in self._takes]
        return new

    def add_take(
        self,
        action: str,
        sequence: SkeletonSequence,
        start: float | None = None,
        end: float | None = None,
        sign: Sign = 1,
        source: str = "",
    ) -> Take:
        """Keep a performance; the action is added where it is new.

        Parameters
        ----------
        sequence : SkeletonSequence
            One or two persons, the one who acts first; any layout that leads to NTU-25.
        start, end : float, optional
            Trim, seconds of the sequence's own clock; default the whole.
        sign : int
            -1: a performance that was wrongly taken for the action.

        Raises
        ------
        PackError
            Too short, nobody in it, or too many takes.
        """
        origin = float(sequence.times[0]) if len(sequence) else 0.0
        kept = checked_sequence(sequence)
        if len(self._takes) >= MAX_TAKES:
            raise PackError(f"{self.name} has {MAX_TAKES} takes already; remove some, or begin another pack")
        name = self.add_action(action)
        first, last = usable_trim(
            kept,
            0.0 if start is None else start - origin,
            float(kept.times[-1]) if end is None else end - origin,
        )
        folder = self.folder / TAKES / self._action(name).id
        about = TakeAbout(start=first, end=last, sign=sign, source=source[:200], recorded=_now())
        # What was removed can be put back: its number stays its own.
        removed = [int(p.stem) for p in (self.folder / REMOVED).glob(f"*/{folder.name}/*.npz") if p.stem.isdigit()]
        number = max([t.number for t in self._takes if t.action == name] + removed, default=0) + 1
        while True:
            path = folder / f"{number:04d}.npz"
            try:
                write_take(path, kept, about, new=True)
                break
            except FileExistsError:  # of another process, or damaged
                number += 1
        take = read_take(path, name)
        self._takes.append(take)
        return take

    def trim(self, take: Take, start: float, end: float) -> Take:
        """Change a take's trim; returns the take as it is now."""
        self._there(take)
        start, end = usable_trim(take.sequence, start, end)
        about = TakeAbout(start=start, end=end, sign=take.sign, source=take.source, recorded=take.recorded)
        write_take(take.path, take.sequence, about, new=False)
        changed = replace(take, start=start, end=end)
        self._takes = [changed if t.path == take.path else t for t in self._takes]
        return changed

    def remove_take(self, take: Take) -> Removed:
        """Remove a take; :meth:`put_back` undoes it for a day."""
        self._there(take)
        aside = self._aside() / take.path.parent.name / take.path.name
        aside.parent.mkdir()
        take.path.rename(aside)
        self._takes = [t for t in self._takes if t.path != take.path]
        return Removed(((aside, take.path),))

    def remove_action(self, name: str) -> Removed:
        """Remove an action with all its takes; :meth:`put_back` undoes it for a day."""
        self._adopt()
        action = self._action(name)
        position = self.info.actions.index(action)
        folder = self.folder / TAKES / action.id
        places: tuple[tuple[Path, Path], ...] = ()
        if folder.is_dir():
            aside = self._aside() / action.id
            folder.rename(aside)
            places = ((aside, folder),)
        self._save([a for a in self.info.actions if a is not action])
        self._takes = [t for t in self._takes if t.action != name]
        return Removed(places, action, position)

    def put_back(self, removed: Removed) -> None:
        """Undo a removal.

        Raises
        ------
        PackError
            Something of that name has been made since, or it was deleted for good.
        """
        for aside, place in removed.places:
            if place.exists() or not aside.exists():
                raise PackError(
                    f"{place.name} can't be put back: " + ("it is there again" if place.exists() else "gone")
                )
        action = removed.action
        if action is not None:
            self._adopt()
            if action.name in self.actions or action.id in {a.id for a in self.info.actions}:
                raise PackError(f"{self.name} has an action {action.name!r} again")
            actions = list(self.info.actions)
            actions.insert(removed.position, action)
            self._save(actions)
        for aside, place in removed.places:
            place.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(place)
        self.reload()

    def taught_on(self, checkpoint: str, weights: str) -> None:
        """Note which encoder the pack is used with; one that can't be written is used all the same."""
        if (checkpoint, weights) != (self.info.checkpoint, self.info.weights):
            self._adopt()
            self.info = self.info.model_copy(update={"checkpoint": checkpoint, "weights": weights})
            with contextlib.suppress(OSError):
                self._save()

    # -------------------------------------------------------------- internal

    def _adopt(self) -> None:
        """Before a change: take over what another process has made of ``pack.json`` meanwhile.

        Every change is written at once, so that the file is right about names and about what was removed; where it
        is damaged, only actions it adds are taken.
        """
        if not self.folder.is_dir():
            raise PackError(
                f"{self.folder} is gone: the pack was deleted or moved meanwhile; bring it back and try again"
            )
        problems: list[str] = []
        found = read_info(self.folder, problems)
        if problems:
            identities = {action.id for action in self.info.actions}
            new = [a for a in found.actions if a.id not in identities and a.name not in self.actions]
            self.info = self.info.model_copy(update={"actions": [*self.info.actions, *new]})
            return
        self.info = found
        names = {action.id: action.name for action in found.actions}
        folders = [t.path.parent.name for t in self._takes]
        self._takes = [replace(t, action=names[f]) for t, f in zip(self._takes, folders, strict=True) if f in names]

    def _there(self, take: Take) -> None:
        if not take.path.is_file():
            raise PackError(f"take {take.number} of {take.action} is gone: it was removed meanwhile")

    def _aside(self) -> Path:
        folder = self.folder / REMOVED / str(time.time_ns())
        folder.mkdir(parents=True)
        return folder

    def _save(self, actions: list[ActionInfo] | None = None) -> None:
        info = self.info if actions is None else self.info.model_copy(update={"actions": actions})
        temporary = self.folder / (PACK_FILE + ".tmp")
        temporary.write_text(json.dumps(info.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n", "utf-8")
        temporary.replace(self.folder / PACK_FILE)
        self.info = info


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _delete_old(folder: Path) -> None:
    for item in folder.glob("*"):
        if _REMOVED_AT.fullmatch(item.name) and time.time_ns() - int(item.name) > _KEEP_REMOVED_S * 1e9:
            shutil.rmtree(item, ignore_errors=True)
