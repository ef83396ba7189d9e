"""Packs as a whole: open, new, shared as one file, exported, renamed, put aside and brought back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from engine import paths
from skelapp.live.session import LiveSession
from skelapp.settings import SettingsStore
from skelapp.teach.desk_base import Change
from skelapp.teach.learning import Learning
from skelapp.teach.view import PackView

if TYPE_CHECKING:
    from engine.teach.pack import ClassPack


class Packs(Learning):
    """Which pack is on the desk."""

    def __init__(self, settings: SettingsStore, session: LiveSession, parent: QObject | None = None) -> None:
        super().__init__(settings, session, parent)
        self._deleted: tuple[Path, Path] | None = None  # where it lies, where it was

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
            from engine.teach.pack import ClassPack, new_pack_folder

            pack = ClassPack.create(new_pack_folder(name), name)
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
            self._set_undo([])
            self.warnings, self.moved_from = {}, ""
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

        def work(pack: ClassPack) -> Change:
            old = pack.name
            pack.rename(name)
            return f"The pack is called {old} again.", lambda pack: pack.rename(old)

        self._change(work, learn=False)

    def delete(self) -> None:
        """Put the pack aside; :meth:`bring_back` undoes it for a day."""
        if self.view is None:
            return
        name = self.view.name
        self._ticket += 1  # what still waits to be learned or checked is not wanted any more

        def act() -> tuple[Path, Path]:
            folder = self._opened().folder
            aside = folder.parent / ".removed" / str(time.time_ns()) / folder.name
            aside.parent.mkdir(parents=True)
            folder.rename(aside)
            self._pack, self._figures = None, {}
            return aside, folder

        def gone(places: tuple[Path, Path]) -> None:
            self.view, self.warnings, self.moved_from = None, {}, ""
            self._set_undo([])
            self._deleted = places
            self._settings.set("memory.teach_pack", "")
            self.learn()  # nothing is left to recognise
            self.said.emit("undo", f"{name} is deleted; it is kept aside for a day.", "")

        def failed(error: BaseException, details: str) -> None:
            self.said.emit("error", f"{name} can't be deleted: {error}", details)
            self.learn()

        self.worker.run(act, gone, failed)

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

    def list_packs(self, done: Callable[[list[tuple[str, Path]]], None]) -> None:
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
