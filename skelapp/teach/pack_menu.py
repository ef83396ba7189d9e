"""The menu of packs: which one is open, new, open, share, rename, export, delete."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QMenu, QWidget

from skelapp.dialogs import ask_file, ask_folder, ask_place
from skelapp.teach.desk import TeachDesk
from skelapp.teach.name_bar import NameBar

MAX_LISTED = 20


class PackMenu(QMenu):
    """Acts through the desk."""

    tuning_wanted = Signal(str)  # what is trained

    def __init__(self, desk: TeachDesk, names: NameBar, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._desk, self._names = desk, names
        self.packs: list[tuple[str, Path]] = []
        self.aboutToShow.connect(self.refresh)
        self._fill()

    def refresh(self) -> None:
        """Show what is known and look for packs anew."""
        self._fill()
        self._desk.list_packs(self._found)

    def _found(self, packs: list[tuple[str, Path]]) -> None:
        if packs != self.packs:
            self.packs = packs
            self._fill()

    def _fill(self) -> None:
        self.clear()
        view = self._desk.view
        for name, folder in self.packs[:MAX_LISTED]:
            one = self.addAction(_cut(self, name))
            one.setCheckable(True)
            one.setChecked(view is not None and view.folder == folder)
            one.triggered.connect(lambda _=False, folder=folder: self._desk.open(folder))
        if self.packs:
            self.addSeparator()
        self.addAction("New pack…").triggered.connect(self.ask_new)
        self.addAction("Open a folder…").triggered.connect(self.ask_folder)
        self.addAction("Load a shared pack (.zip)…").triggered.connect(self.ask_zip)
        self.addSeparator()
        for words, act, takes in (
            ("Save as .zip to share…", self.ask_save, True),
            ("Export takes for PYSKL…", self.ask_export, True),
            ("Fine-tune the whole encoder (long)", lambda: self.tuning_wanted.emit("encoder"), True),
            ("Rename…", self.ask_rename, False),
            ("Open its folder", self.show_folder, False),
            ("Delete this pack", self._desk.delete, False),
        ):
            made = self.addAction(words)
            made.triggered.connect(lambda _=False, act=act: act())
            made.setEnabled(view is not None and (not takes or view.takes > 0))

    # ----------------------------------------------------------------- acts

    def ask_new(self) -> None:
        self._names.ask("Name of the new pack", "Begin it", self._desk.create, hint="For example: kitchen")

    def ask_rename(self) -> None:
        view = self._desk.view
        if view is not None:
            self._names.ask("Name of this pack", "Rename", self._desk.rename, view.name)

    def ask_folder(self) -> None:
        ask_folder(self._names, "Open the folder of a pack", self._desk.open)

    def ask_zip(self) -> None:
        ask_file(self._names, "Load a shared pack", self._desk.load_zip, "Packs (*.zip)")

    def ask_save(self) -> None:
        view = self._desk.view
        if view is not None:
            name = f"{view.folder.name}.zip"
            ask_place(self._names, "Save the pack as one file", name, self._desk.save_zip, "Packs (*.zip)")

    def ask_export(self) -> None:
        view = self._desk.view
        if view is not None:
            name = f"{view.folder.name}.pkl"
            ask_place(self._names, "Export the takes for PYSKL", name, self._desk.export, "Pickles (*.pkl)")

    def show_folder(self) -> None:
        if self._desk.view is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._desk.view.folder)))


def _cut(menu: QMenu, name: str) -> str:
    return menu.fontMetrics().elidedText(name, Qt.TextElideMode.ElideMiddle, 320).replace("&", "&&")
