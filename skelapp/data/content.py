"""Everything inside the Data panel: the list of datasets, the pages of the selected one, and the work on them."""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from PySide6.QtCore import QModelIndex, Qt, QTimer
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QSplitter,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine import paths
from engine.data.catalogue import CatalogueEntry, Found, StoreEntry, recognise
from engine.data.check import THOROUGH_UP_TO
from engine.data.removal import delete_aside, put_back, set_aside
from skelapp.context import Context
from skelapp.data.browser import Browser
from skelapp.data.catalogue import STATE_WORDS, Catalogue
from skelapp.data.check_page import CheckPage, verdict
from skelapp.data.dataset_list import DatasetList, DatasetModel
from skelapp.data.import_page import ImportPage
from skelapp.data.jobs import Job, JobQueue
from skelapp.data.loading import OpenStore, load_plots, open_store
from skelapp.data.overview import Overview
from skelapp.data.statistics_page import StatisticsPage
from skelapp.widgets import Banner, ElidedLabel, button
from skelapp.workers import Worker

PAGES = {"overview": "Overview", "sequences": "Sequences", "statistics": "Statistics", "check": "Check"}
_OLD_S = 600.0
_QUIET_MS = 150
P = TypeVar("P", bound=QWidget)


class JobBar(QFrame):
    """Progress of the selected dataset's job, with *Cancel*."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", True)
        self._job: Job | None = None
        self.title = QLabel()
        self.title.setProperty("role", "section")
        self.words = ElidedLabel()
        self.words.setProperty("role", "muted")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress")
        self.cancel = button("Cancel", self._cancel, tip="What is finished is kept")
        row = QHBoxLayout()
        row.addWidget(self.title)
        row.addWidget(self.words, 1)
        row.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 10, 14, 12)
        layout.setSpacing(6)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        self.hide()

    def show_job(self, job: Job | None) -> None:
        self._job = job
        self.setVisible(job is not None)
        if job is None:
            return
        self.title.setText(job.title)
        self.words.setText(job.words())
        share = job.share
        # A bar that only says "busy" stands still at zero while it waits.
        self.bar.setRange(0, 1000 if share is not None or job.state == "waiting" else 0)
        self.bar.setValue(int(1000 * (share or 0.0)))
        self.cancel.setEnabled(job.state in ("waiting", "running"))

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()


class DataContent(QWidget):
    """The panel once it is loaded."""

    def __init__(self, context: Context, worker: Worker, actor_worker: Worker, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context, self._worker = context, worker
        self._settings = context.settings
        self.jobs = JobQueue(self)
        self.catalogue = Catalogue(context.settings, worker, self)
        self.list_model = DatasetModel(self.jobs)
        self.list = DatasetList(self.list_model)
        self.banner = Banner()
        self.job_bar = JobBar()
        self._actor_worker = actor_worker
        self.reports: dict[str, dict[str, Any]] = {}
        self._opened: OpenStore | None = None
        self._opening: tuple[str, float] | None = None
        self._removed: Path | None = None
        self._build()
        self._connect()
        stores = paths.stores()
        worker.run(partial(delete_aside, stores, _OLD_S))
        self.catalogue.refresh()

    # ------------------------------------------------------------ building

    def _build(self) -> None:
        heading = QLabel("Data")
        heading.setProperty("role", "title")
        bar = QHBoxLayout()
        bar.addWidget(heading)
        bar.addStretch(1)
        bar.addWidget(button("Import…", self.show_import, tip="Files of other projects, or recordings made here"))
        bar.addWidget(button("Look again", self.catalogue.refresh, tip="Read the folders again (F5)"))
        right = QWidget()
        column = QVBoxLayout(right)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(10)
        self._entry_head, self._entry_tabs = QWidget(), QWidget()
        self._entry_head.setLayout(self._header())
        self._entry_tabs.setLayout(self._tab_row())
        column.addWidget(self._entry_head)
        column.addWidget(self.job_bar)
        column.addWidget(self._entry_tabs)
        self.pages = QStackedWidget()
        column.addWidget(self.pages, 1)
        self.list.setMinimumWidth(232)
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.addWidget(self.list)
        self.split.addWidget(right)
        self.split.setChildrenCollapsible(False)
        self.split.setHandleWidth(16)
        self.split.setStretchFactor(0, 0)
        self.split.setStretchFactor(1, 1)
        self.split.setSizes([270, 900])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(10)
        layout.addLayout(bar)
        layout.addWidget(self.banner)
        layout.addWidget(self.split, 1)

    # Pages are made when they are first wanted: all at once would be felt.

    @cached_property
    def overview(self) -> Overview:
        page = self._added(Overview())
        page.prepare.connect(self._prepare_asked)
        page.chosen_raw.connect(partial(self._look_at, start=False))
        page.browse.connect(lambda: self.show_page("sequences"))
        page.check.connect(lambda: self._check(None))
        page.film.connect(self._film)
        page.export.connect(self._export)
        page.remove.connect(self._remove)
        page.discard.connect(self._discard)
        return page

    @cached_property
    def browser(self) -> Browser:
        return self._added(Browser(self._settings, self._worker, self._actor_worker))

    @cached_property
    def statistics(self) -> StatisticsPage:
        return self._added(StatisticsPage())

    @cached_property
    def check_page(self) -> CheckPage:
        page = self._added(CheckPage())
        page.asked.connect(self._check)
        return page

    @cached_property
    def import_page(self) -> ImportPage:
        page = self._added(ImportPage())
        page.asked.connect(self._import)
        page.closed.connect(lambda: self.show_page("overview"))
        return page

    def _added(self, page: P) -> P:
        self.pages.addWidget(page)
        return page

    def _page(self, key: str) -> QWidget:
        names = {"sequences": "browser", "check": "check_page", "import": "import_page"}
        page: QWidget = getattr(self, names.get(key, key))
        return page

    def _made(self, name: str) -> bool:
        """Whether a page has been wanted yet."""
        return name in self.__dict__

    def _header(self) -> QHBoxLayout:
        self.title = ElidedLabel("")
        self.title.setProperty("role", "section")
        self.state = QLabel("")
        self.state.setProperty("role", "muted")
        self.store_box = QComboBox()
        self.store_box.setAccessibleName("Store")
        self.store_box.setToolTip("The stores of this dataset: cleanings, raw bodies, films")
        self.store_box.setMinimumWidth(180)
        self.store_box.currentIndexChanged.connect(lambda _: self._store_changed())
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(12)
        row.addWidget(self.title, 1)
        row.addWidget(self.state)
        row.addWidget(self.store_box)
        return row

    def _tab_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        group = QButtonGroup(self)
        self.tabs: dict[str, QToolButton] = {}
        for key, title in PAGES.items():
            tab = QToolButton()
            tab.setText(title)
            tab.setCheckable(True)
            tab.setProperty("tab", True)
            tab.setAccessibleName(f"Page {title}")
            tab.clicked.connect(lambda _=False, key=key: self.show_page(key))
            group.addButton(tab)
            row.addWidget(tab)
            self.tabs[key] = tab
        row.addStretch(1)
        return row

    def _connect(self) -> None:
        self.catalogue.changed.connect(self._catalogue_read)
        self.list.selectionModel().currentChanged.connect(self._selected)
        self.list.doubleClicked.connect(lambda _: self.show_page("sequences"))
        self.list.activated.connect(lambda _: self.show_page("sequences"))
        self.jobs.changed.connect(self._show_job)
        self.jobs.ended.connect(self._job_ended)
        again = QShortcut(QKeySequence.StandardKey.Refresh, self)
        again.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        again.activated.connect(self.catalogue.refresh)
        self._settings.listen(lambda name: self.catalogue.refresh() if name == "folders.datasets" else None)

    # ----------------------------------------------------------- selection

    @property
    def entry(self) -> CatalogueEntry | None:
        return self.list.entry()

    @property
    def store(self) -> StoreEntry | None:
        """The store that is shown: the one chosen of the selected dataset."""
        chosen: StoreEntry | None = self.store_box.currentData()
        return chosen

    def shown(self) -> None:
        """The panel has come to the front: what changed on the disk meanwhile should be seen."""
        if self.catalogue.loaded:
            self.catalogue.refresh()

    def _catalogue_read(self) -> None:
        if self.catalogue.problem:
            self.banner.show_message(self.catalogue.problem, error=True)
            return
        self.list_model.set_entries(self.catalogue.entries)
        if self.entry is None:
            ready = next((e.name for e in self.catalogue.entries if e.state == "prepared"), "")
            first = self.catalogue.entries[0].name
            if not self.list.select(self._settings.values.memory.dataset):
                self.list.select(ready or first)
            self.show_page(self._settings.values.memory.data_page)
            # The largest page is made in a quiet moment, so that showing it is quick.
            QTimer.singleShot(_QUIET_MS, self, lambda: self.browser)
        else:
            self._show_entry()

    def select(self, name: str) -> bool:
        """Select a dataset; False when it is not listed."""
        return self.list.select(name)

    def _selected(self, current: QModelIndex, before: QModelIndex) -> None:
        entry = self.entry
        if entry is None:
            return
        self._settings.set("memory.dataset", entry.name)
        if self._on("import"):
            self.show_page("overview")
        self._show_entry()

    def _show_entry(self) -> None:
        entry = self.entry
        if entry is None:
            return
        kept = self.store.name if self.store else ""
        self.store_box.blockSignals(True)
        self.store_box.clear()
        for store in entry.stores:
            if store.state != "begun":
                self.store_box.addItem(store.name, store)
        main = entry.main.name if entry.main else ""
        row = self.store_box.findText(kept)
        self.store_box.setCurrentIndex(row if row >= 0 else max(0, self.store_box.findText(main)))
        self.store_box.blockSignals(False)
        self.store_box.setVisible(self.store_box.count() > 1)
        self.title.setText(entry.title)
        self._store_changed()

    def _store_changed(self) -> None:
        entry, store = self.entry, self.store
        if entry is None:
            return
        usable = store is not None and store.state == "prepared"
        for key, tab in self.tabs.items():
            tab.setEnabled(usable or key == "overview")
            tab.setToolTip("" if tab.isEnabled() else "First prepare the dataset")
        if not usable and not self._on("import"):
            self._show_page("overview")
        self._show_job()
        self._load_store()

    # --------------------------------------------------------------- pages

    def show_page(self, key: str) -> None:
        """Bring a page of the selected dataset to the front and remember it."""
        if key not in self.tabs or not self.tabs[key].isEnabled():
            key = "overview"
        self._settings.set("memory.data_page", key)
        self._show_page(key)
        self._load_store()
        if key == "sequences":
            self.browser.focus_first()

    def _show_page(self, key: str) -> None:
        for name, tab in self.tabs.items():
            tab.setChecked(name == key)
        self._shown_page = key
        self._show_head(True)
        self.pages.setCurrentWidget(self._page(key))
        self._show_report()

    def _show_head(self, shown: bool) -> None:
        """What is imported belongs to no dataset of the list yet."""
        self._entry_head.setVisible(shown)
        self._entry_tabs.setVisible(shown)

    def _on(self, key: str) -> bool:
        return self._shown_page == key

    _shown_page = "overview"

    def show_import(self, found: Found | None = None) -> None:
        """Show the form for files of other projects and own recordings."""
        self._shown_page = "import"
        self._show_head(False)
        self.pages.setCurrentWidget(self.import_page)
        if found is not None:
            self.import_page.offer(found)
        else:
            self.import_page.focus_first()

    def _load_store(self) -> None:
        """Open the shown store when a page needs it; only what has changed is read again."""
        store = self.store
        if store is None or store.state != "prepared" or self._shown_page not in ("sequences", "statistics"):
            return
        wanted = (store.name, store.made)
        if self._opening == wanted:
            self._show_opened()
            return
        self._opening = wanted
        self._opened = None
        if self._made("browser"):
            self.browser.set_store(None)
        self._worker.run(
            partial(open_store, store.folder),
            lambda opened: self._opened_store(wanted, opened),
            lambda error, details: self._not_opened(wanted, error, details),
        )

    def _opened_store(self, wanted: tuple[str, float], opened: OpenStore) -> None:
        if wanted == self._opening:
            self._opened = opened
            self._show_opened()

    def _show_opened(self) -> None:
        """Give the shown page what it has not got yet."""
        opened = self._opened
        if opened is None:
            return
        if self._on("sequences") and self._browsed is not opened:
            self._browsed = opened
            self.browser.set_store(opened)
        if self._on("statistics") and self._drawn is not opened:
            # Their import is waited for on the worker.
            self._worker.run(load_plots, lambda _: self._draw(opened))

    def _draw(self, opened: OpenStore) -> None:
        if opened is self._opened and self._drawn is not opened:
            self._drawn = opened
            self.statistics.set_statistics(opened.name, opened.statistics)

    _drawn: OpenStore | None = None
    _browsed: OpenStore | None = None

    def _not_opened(self, wanted: tuple[str, float], error: BaseException, details: str) -> None:
        if wanted != self._opening:
            return
        self._forget()
        self.banner.show_message(f"{wanted[0]} can't be opened: {error}", details, error=True)
        self._show_page("overview")
        self.catalogue.refresh()

    # ------------------------------------------------------------ the work

    def _show_job(self) -> None:
        entry, store = self.entry, self.store
        if entry is None:
            return
        job = self.jobs.of(entry.name)
        self.job_bar.show_job(job)
        state = store.state if store is not None else entry.state
        self.state.setText(STATE_WORDS[state] if job is None else f"{job.title.split()[0]}…")
        key = (entry, store, None if job is None else job.state)
        # A step of progress changes nothing here, and a page that is laid out ten times a second is not calm.
        if key != self._overview_shows:
            self._overview_shows = key
            self.overview.show_entry(entry, store, job)
            self._show_report()

    def _show_report(self) -> None:
        store = self.store
        if self._on("check") and store is not None and self.entry is not None:
            job, report = self.jobs.of(self.entry.name), self.reports.get(store.name)
            self.check_page.show_store(store.sequences, THOROUGH_UP_TO, report, job)

    def _forget(self) -> None:
        """Let go of the opened store."""
        self._opened = self._opening = None
        if self._made("browser"):
            self.browser.set_store(None)

    _overview_shows: object = None

    def open_path(self, path: Path) -> None:
        """Find out what was dropped, and prepare it, or offer to import it."""
        self._look_at(Path(path), start=True)

    def _look_at(self, path: Path, start: bool) -> None:
        self.banner.show_message(f"Looking at {path}…")
        self._worker.run(
            partial(recognise, path),
            lambda found: self._recognised(found, start),
            lambda error, details: self.banner.show_message(str(error), error=True),
        )

    def _recognised(self, found: tuple[Found, ...], start: bool) -> None:
        self.banner.dismiss()
        if found[0].kind != "dataset":
            self.show_import(found[0])
            return
        names = [one.name for one in found]
        entry = self.entry
        chosen = found[names.index(entry.name)] if entry is not None and entry.name in names else found[0]
        self.catalogue.remember(chosen.name, chosen.path)
        self.select(chosen.name)
        self.show_page("overview")
        wanted = self.catalogue.entry(chosen.name)
        if wanted is None:
            self.catalogue.refresh()
            return
        if start and wanted.state == "prepared":
            again = partial(self.prepare, chosen.name, chosen.path)
            self.banner.show_message(f"{wanted.title} is prepared already.", actions=(("Prepare again", again),))
        elif start:
            self.prepare(chosen.name, chosen.path)
        elif entry is not None and wanted.name != entry.name:
            self.banner.show_message(f"These are files of {wanted.title}, not of {entry.title}.")
        self.catalogue.refresh()

    def _prepare_asked(self, raw: Path | None, variant: str, cutting: str, half: bool) -> None:
        if self.entry is not None:
            self.prepare(self.entry.name, raw, variant, cutting, half)

    def prepare(
        self, name: str, raw: Path | None, variant: str = "", cutting: str = "", half: bool = False
    ) -> Job | None:
        """Start (or go on with) the preparation of a dataset; None when something is being done with it already."""
        entry = self.catalogue.entry(name)
        if entry is None or self.jobs.of(name) is not None:
            return None
        arguments = ["data", "prepare", name]
        if raw is not None and (cutting or not self._only_clean(entry, raw, variant)):
            arguments += ["--raw", str(raw)]
        for option, value in (("--variant", variant), ("--cutting", cutting)):
            arguments += [option, value] if value else []
        arguments += ["--half"] if half else []
        self.banner.dismiss()
        return self.jobs.add(Job("prepare", name, f"Preparing {entry.title}", arguments, "make"))

    def _only_clean(self, entry: CatalogueEntry, raw: Path, variant: str) -> bool:
        """Whether another cleaning can be made from raw bodies that are here, without reading the archive again."""
        stored = next((store for store in entry.stores if store.name == f"{entry.name}.raw"), None)
        return bool(variant) and stored is not None and stored.state == "prepared" and stored.raw == str(raw)

    def _check(self, thorough: bool | None) -> None:
        entry, store = self.entry, self.store
        if entry is None or store is None or self.jobs.of(entry.name) is not None:
            return
        arguments = ["data", "check", store.name, "--json"]
        if thorough is not None:
            arguments += ["--copies", str(thorough)]
        self.show_page("check")
        self.jobs.add(Job("check", entry.name, f"Checking {store.name}", arguments, "look"))

    def _film(self) -> None:
        entry, store = self.entry, self.store
        if entry is not None and store is not None and self.jobs.of(entry.name) is None:
            self.jobs.add(Job("film", entry.name, f"Filming {store.name}", ["data", "film", store.name], "make"))

    def _export(self, form: str, out: Path) -> None:
        entry, store = self.entry, self.store
        if entry is not None and store is not None and self.jobs.of(entry.name) is None:
            arguments = ["data", "export", store.name, "--to", form, "--out", str(out)]
            self.jobs.add(Job("export", entry.name, f"Exporting {store.name}", arguments, "look"))

    def _import(self, path: Path, name: str, classes: str, fps: float) -> None:
        arguments = ["data", "import", name, "--raw", str(path), "--fps", f"{fps:g}"]
        arguments += ["--classes", classes] if classes else []
        entry = next((e.name for e in self.catalogue.entries if name.partition(".")[0] == e.name), name)
        self.jobs.add(Job("import", entry, f"Importing {name}", arguments, "make"))
        self.banner.show_message(f"{name} is being imported.")

    def _job_ended(self, job: Job) -> None:
        if job.state == "done" and job.kind == "check":
            self._checked(job)
        elif job.state == "done":
            self._say_done(job)
        elif job.state == "failed":
            again = (("Try again", partial(self._again, job.arguments[:-2], job)),)
            said = job.problem
            text = f"{job.title} failed: {said}"
            self.banner.show_message(text, "\n".join(job.messages), error=True, actions=again)
        elif job.kind in ("prepare", "import"):
            again = (("Go on", partial(self._again, job.arguments[:-2], job)),)
            self.banner.show_message(f"{job.title} was stopped. What is finished is kept.", actions=again)
        self.catalogue.refresh()

    def _again(self, arguments: list[str], old: Job) -> None:
        if self.jobs.of(old.dataset) is None:
            self.jobs.add(Job(old.kind, old.dataset, old.title, arguments, old.lane))

    def _say_done(self, job: Job) -> None:
        lines = [line for line in job.output.splitlines() if line.strip()]
        left = [line for line in job.messages if line.startswith("left out:")]
        words = {"prepare": "is prepared", "import": "is imported", "film": "is filmed", "export": "is exported"}
        entry = self.catalogue.entry(job.dataset)
        name = entry.title if entry is not None else job.dataset
        actions: tuple[Any, ...] = ()
        if job.kind in ("prepare", "import"):
            actions = (("Browse", partial(self._browse, job.dataset)),)
        some = f" {job.damaged:,} damaged recordings were left out." if job.damaged and job.kind == "prepare" else ""
        self.banner.show_message(f"{name} {words[job.kind]}.{some}", "\n".join([*lines, *left]), actions=actions)
        if job.kind == "import" and self._on("import"):
            self.import_page.name.clear()
            self.import_page.path.clear()

    def _browse(self, name: str) -> None:
        self.select(name)
        self.show_page("sequences")

    def _checked(self, job: Job) -> None:
        try:
            report = json.loads(job.output)
        except ValueError:
            self.banner.show_message(f"{job.title} gave no report: {job.problem}", error=True)
            return
        self.reports[report["name"]] = report
        # The search for copies has made the clean splits countable.
        self._opening = None
        self._overview_shows = None
        if not self._on("check"):
            see = (("Show the report", partial(self._see_report, job.dataset)),)
            self.banner.show_message(f"{report['name']}: {verdict(report)}", actions=see)

    def _see_report(self, name: str) -> None:
        self.select(name)
        self.show_page("check")

    # ------------------------------------------------------------ removing

    def _remove(self) -> None:
        store = self.store
        if store is not None:
            self._set_aside(store.folder, store.name)

    def _discard(self) -> None:
        entry = self.entry
        begun = next((store for store in entry.stores if store.state == "begun"), None) if entry else None
        if begun is not None:
            self._set_aside(begun.folder, f"what was begun of {begun.name}")

    def _set_aside(self, folder: Path, words: str) -> None:
        self._forget()
        self._worker.run(
            partial(set_aside, folder),
            lambda aside: self._is_removed(aside, words),
            lambda error, details: self.banner.show_message(f"{words} can't be removed: {error}", error=True),
        )

    def _is_removed(self, aside: Path, words: str) -> None:
        self._removed = aside
        text = f"{words[:1].upper()}{words[1:]} is removed."
        self.banner.show_message(text, actions=(("Undo", self.take_back),))
        self._worker.run(partial(delete_aside, aside.parent, keep=aside))
        self.catalogue.refresh()

    def take_back(self) -> bool:
        """Undo the last removal; False when there is none."""
        aside, self._removed = self._removed, None
        if aside is None:
            return False
        self._worker.run(
            partial(put_back, aside),
            lambda folder: self._is_back(folder),
            lambda error, details: self.banner.show_message(str(error), error=True),
        )
        return True

    def _is_back(self, folder: Path) -> None:
        self.banner.show_message(f"{folder.name} is back.")
        self.catalogue.refresh()

    # ------------------------------------------------------------- looking

    def focus_first(self) -> None:
        self.list.setFocus()

    def retheme(self) -> None:
        for name in ("browser", "statistics", "check_page"):
            if self._made(name):
                getattr(self, name).retheme()
        self.list.viewport().update()

    def end(self, seconds: float) -> bool:
        if self._made("browser"):
            self.browser.player.pause()
        return self.jobs.end(seconds)
