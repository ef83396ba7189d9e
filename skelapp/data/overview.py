"""The page *Overview* of a dataset: how to get it, what is here, and everything that can be done with it."""

from __future__ import annotations

from collections.abc import Collection
from html import escape

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from engine.data.catalogue import CatalogueEntry, StoreEntry
from skelapp.data.jobs import Job
from skelapp.dialogs import ask_file, ask_folder, ask_place
from skelapp.task import duration
from skelapp.widgets import button, rich_table

ARCHIVES = "Archives (*.zip *.npz);;All files (*)"
VARIANT_WORDS = {
    "": "as this program cleans",
    "raw": "raw bodies only",
    "compatible": "CTR-GCN family",
    "first_two": "HiCLR family",
    "top_two": "2s-AGCN, CMD, I2MD",
    "pyskl": "PYSKL",
    "gl_transformer": "GL-Transformer",
}
CUTTING_WORDS = {
    "": "from start up to the end",
    "aimclr": "AimCLR, HiCLR",
    "cmd": "CMD, MAMP",
    "closed": "with the end",
}


def megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _wrapped(text: str = "", muted: bool = False) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if muted:
        label.setProperty("role", "muted")
    return label


def _card(title: str) -> tuple[QFrame, QVBoxLayout, QLabel]:
    frame = QFrame()
    frame.setProperty("card", True)
    layout = QVBoxLayout(frame)
    layout.setContentsMargins(18, 14, 18, 14)
    layout.setSpacing(10)
    head = QLabel(title)
    head.setProperty("role", "section")
    layout.addWidget(head)
    return frame, layout, head


class Overview(QWidget):
    """Shows one entry; what the user asks for is told by signals."""

    prepare = Signal(object, str, str, bool)  # raw path or None, variant, cutting, half
    chosen_raw = Signal(object)
    ask_import = Signal()
    browse = Signal()
    check = Signal()
    film = Signal()
    export = Signal(str, object)  # form, path
    remove = Signal()
    discard = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entry: CatalogueEntry | None = None
        self._store: StoreEntry | None = None
        self._get = self._get_card()
        self._here = self._here_card()
        inner = QWidget()
        inner.setMaximumWidth(900)
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(12)
        column.addWidget(self._here)
        column.addWidget(self._get)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    # ------------------------------------------------------------ building

    def _get_card(self) -> QFrame:
        frame, layout, self.get_title = _card("Get the data")
        self.request = _wrapped()
        self.licence = _wrapped(muted=True)
        self.page = button("Open the licence page", self.open_page)
        self.files = _wrapped()
        self.archive = button(
            "Choose an archive…", self.ask_archive, tip="A zip or npz file; zips need not be unpacked"
        )
        self.folder = button(
            "Choose a folder…", self.ask_folder, tip="The folder with the downloaded or unpacked files"
        )
        self.variant = self._combo("Cleaned")
        self.cutting = self._combo("Cut")
        self.half = QCheckBox("Half precision: half the size, steps of up to a millimetre")
        self.prepare_button = button("Prepare", self._prepare, primary=True)
        self.discard_button = button("Discard what is begun", self.discard.emit)
        steps = QGridLayout()
        steps.setHorizontalSpacing(12)
        steps.setVerticalSpacing(8)
        steps.setColumnStretch(1, 1)
        for row, (number, content) in enumerate(
            (
                ("1", [self.request, self.licence]),
                ("2", [self.files]),
                ("3", [_wrapped("Prepare it once; it may be stopped and goes on later.")]),
            )
        ):
            mark = QLabel(number)
            mark.setProperty("role", "section")
            steps.addWidget(mark, row, 0, Qt.AlignmentFlag.AlignTop)
            box = QVBoxLayout()
            box.setSpacing(4)
            for widget in content:
                box.addWidget(widget)
            acts = QHBoxLayout()
            acts.setSpacing(8)
            for act in ((self.page,), (self.archive, self.folder), (self.prepare_button, self.discard_button))[row]:
                acts.addWidget(act)
            acts.addStretch(1)
            if row == 2:
                box.addLayout(self._options())
            box.addLayout(acts)
            steps.addLayout(box, row, 1)
        layout.addLayout(steps)
        return frame

    def _combo(self, name: str) -> QComboBox:
        box = QComboBox()
        box.setAccessibleName(name)
        box.setMinimumWidth(220)
        box.currentIndexChanged.connect(lambda _: self._show_prepare())
        return box

    def _options(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(4)
        self._option_rows: list[tuple[QComboBox, QWidget]] = []
        for text, box in (("Cleaned", self.variant), ("Cut", self.cutting)):
            row = QWidget()
            line = QHBoxLayout(row)
            line.setContentsMargins(0, 0, 0, 0)
            label = QLabel(text)
            label.setMinimumWidth(60)
            label.setBuddy(box)
            line.addWidget(label)
            line.addWidget(box)
            line.addStretch(1)
            column.addWidget(row)
            self._option_rows.append((box, row))
        column.addWidget(self.half)
        return column

    def _here_card(self) -> QFrame:
        frame, layout, self.here_title = _card("In this store")
        self.problem = _wrapped()
        self.facts = _wrapped()
        self.facts.setTextFormat(Qt.TextFormat.RichText)
        self.browse_button = button("Browse the sequences", self.browse.emit, primary=True)
        self.check_button = button("Check", self.check.emit, tip="Counts, damage, copies between training and test")
        self.film_button = button(
            "Film with the actor", self.film.emit, tip="Film it with the actor, as the live path would see it"
        )
        self.export_button = QPushButton("Export…")
        self.export_button.setAutoDefault(False)
        self.export_menu = QMenu(self.export_button)
        self.export_menu.addAction("For PYSKL and MMAction2 (.pkl)…", lambda: self.ask_export("pyskl"))
        self.export_menu.addAction("For the CTR-GCN family (.npz)…", lambda: self.ask_export("npz"))
        self.export_button.setMenu(self.export_menu)
        self.open_button = button("Open its folder", self.open_folder)
        self.remove_button = button("Remove", self.remove.emit, tip="Takes the store out of use; can be undone")
        layout.addWidget(self.problem)
        layout.addWidget(self.facts)
        for acts in (
            (self.browse_button, self.check_button, self.export_button),
            (self.film_button, self.open_button, self.remove_button),
        ):
            row = QHBoxLayout()
            row.setSpacing(8)
            for act in acts:
                row.addWidget(act)
            row.addStretch(1)
            layout.addLayout(row)
        return frame

    # ------------------------------------------------------------- content

    def show_entry(
        self, entry: CatalogueEntry, store: StoreEntry | None, job: Job | None, prepared: Collection[str] = ()
    ) -> None:
        """Show a dataset, one of its stores, and what is being done with it; ``prepared`` names what is ready here."""
        self._prepared = prepared
        new = self._entry is None or self._entry.name != entry.name
        self._entry, self._store = entry, store
        if new and entry.info is not None:
            self._fill_options(entry)
        self._show_here(entry, store, job)
        self._show_get(entry, job)

    def _fill_options(self, entry: CatalogueEntry) -> None:
        assert entry.info is not None
        for box, names, words in (
            (self.variant, ("", *entry.info.variants) if entry.info.several_bodies else (), VARIANT_WORDS),
            (self.cutting, ("", *entry.info.cuttings[1:]) if entry.info.cuttings else (), CUTTING_WORDS),
        ):
            box.blockSignals(True)
            box.clear()
            for name in names:
                box.addItem(words.get(name, name), name)
            if box is self.cutting:
                box.setCurrentIndex(box.findData(entry.cutting))
            box.blockSignals(False)
        for box, row in self._option_rows:
            row.setVisible(box.count() > 0)

    def _show_here(self, entry: CatalogueEntry, store: StoreEntry | None, job: Job | None) -> None:
        self._here.setVisible(store is not None and store.state in ("prepared", "damaged", "old"))
        if store is None:
            return
        usable = store.state == "prepared"
        self.here_title.setText(f"{store.name}" if usable else f"{store.name} can't be used")
        self.problem.setVisible(not usable)
        self.problem.setText(f"{store.problem[:1].upper()}{store.problem[1:]}.")
        self.facts.setVisible(usable)
        if usable:
            self.facts.setText(_facts(entry, store))
        raw = store.name.endswith(".raw")
        for made in (self.browse_button, self.check_button, self.export_button, self.film_button):
            made.setVisible(usable)
        self.export_button.setVisible(usable and not raw)
        self.film_button.setVisible(usable and not raw and not store.name.endswith("_mediapipe"))
        for made in (self.check_button, self.export_button, self.film_button, self.remove_button):
            made.setEnabled(job is None)

    def _show_get(self, entry: CatalogueEntry, job: Job | None) -> None:
        self._get.setVisible(entry.info is not None)
        if entry.info is None:
            return
        info = entry.info
        again = entry.state == "prepared"
        # A sentence begins with a capital, a file name does not.
        first = info.request.split()[0]
        self.request.setText(f"{info.request if '.' in first else info.request[:1].upper() + info.request[1:]}.")
        self.licence.setText(f"Licence: {info.licence}.")
        self.page.setToolTip(info.page)
        merged = bool(info.built_from)
        if merged:
            self.get_title.setText("Merge it again" if again else "Make it")
        else:
            self.get_title.setText("Prepare it again, or another way" if again else "Get the data")
        self.page.setVisible(bool(info.page))
        for widget in (self.archive, self.folder, self.half):
            widget.setVisible(not merged)
        if merged:
            parts = (
                f"{name} (here)" if name in self._prepared else f"{name} (not prepared)" for name in info.built_from
            )
            self.files.setText(f"Merged from {', '.join(parts)}. What is not here is left out.")
        elif entry.raw is not None:
            self.files.setText(f"The files are in <b>{escape(str(entry.raw))}</b>.")
        else:
            raw_kept = any(store.name == f"{entry.name}.raw" for store in entry.stores)
            kept = " The raw bodies are here, so other cleanings need no files." if raw_kept else ""
            expected = escape(info.source)
            self.files.setText(f"Expected: {expected}. Choose it here or drop it on this window.{kept}")
        self.discard_button.setVisible(any(store.state == "begun" for store in entry.stores))
        for made in (self.archive, self.folder, self.discard_button, self.half, self.variant, self.cutting):
            made.setEnabled(job is None)
        self._busy = job is not None
        self._show_prepare()

    def _show_prepare(self) -> None:
        entry = self._entry
        if entry is None:
            return
        as_they_are = (self.cutting.currentData() or "") == entry.cutting
        ready = entry.raw is not None or (entry.raw_store is not None and as_they_are)
        parts = entry.info.built_from if entry.info is not None else ()
        ready = ready or any(name in self._prepared for name in parts)
        self.prepare_button.setEnabled(ready and not self._busy)
        verb = "Merge" if parts else "Prepare"
        begun = f"Go on {verb.lower().removesuffix('e')}ing"
        words = {"begun": begun, "absent": verb, "found": verb}.get(entry.state, f"{verb} again")
        self.prepare_button.setText(words)
        self.prepare_button.setProperty("primary", entry.state != "prepared")
        self.prepare_button.style().polish(self.prepare_button)
        missing = "Prepare one of its sets first" if parts else "Choose the downloaded files first"
        self.prepare_button.setToolTip("" if ready else missing)

    _busy = False
    _prepared: Collection[str] = ()

    # ---------------------------------------------------------------- acts

    def _prepare(self) -> None:
        if self._entry is not None:
            variant, cutting = self.variant.currentData() or "", self.cutting.currentData() or ""
            self.prepare.emit(self._entry.raw, variant, cutting, self.half.isChecked())

    def open_page(self) -> None:
        if self._entry is not None and self._entry.info is not None:
            QDesktopServices.openUrl(QUrl(self._entry.info.page))

    def open_folder(self) -> None:
        if self._store is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._store.folder)))

    def ask_archive(self) -> None:
        ask_file(self, "Choose the downloaded archive", self.chosen_raw.emit, ARCHIVES)

    def ask_folder(self) -> None:
        ask_folder(self, "Choose the folder with the files", self.chosen_raw.emit)

    def ask_export(self, form: str) -> None:
        assert self._store is not None
        suffix = "pkl" if form == "pyskl" else "npz"
        name = f"{self._store.name}.{suffix}"
        ask_place(self, "Export", name, lambda path: self.export.emit(form, path), f"*.{suffix}")


def _facts(entry: CatalogueEntry, store: StoreEntry) -> str:
    published = entry.info.sequences if entry.info else None
    of = f" of {published:,} published" if published and published != store.sequences else ""
    rows = [
        ("Sequences", f"{store.sequences:,}{of}"),
        ("Actions", f"{store.classes:,}"),
        ("Length", f"{store.frames:,} frames at {store.fps:g} a second, {duration(store.seconds)}"),
        ("Joints", store.layout),
        ("On disk", megabytes(store.bytes)),
    ]
    left = [
        f"{count:,} {word}"
        for count, word in (
            (store.damaged, "damaged"),
            (store.excluded, "known to be unusable"),
            (store.missing, "not found"),
        )
        if count
    ]
    if left:
        rows.append(("Left out", ", ".join(left)))
    if store.raw:
        rows.append(("Made from", store.raw))
    cells = "".join(
        f"<tr><td style='padding-right:18px'>{escape(name)}</td><td><b>{escape(value)}</b></td></tr>"
        for name, value in rows
    )
    return rich_table(cells, padding=3, wide=False)
