"""Everything inside the Data panel: the list of datasets, and the pages of the selected one."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from engine.data.catalogue import CatalogueEntry, Found, StoreEntry
from engine.data.check import THOROUGH_UP_TO
from skelapp.context import Context
from skelapp.data.browser import Browser
from skelapp.data.catalogue import Catalogue, state_words
from skelapp.data.check_page import CheckPage, verdict
from skelapp.data.dataset_list import DatasetList, DatasetModel
from skelapp.data.entry_head import EntryHead, PageTabs
from skelapp.data.import_page import ImportPage
from skelapp.data.job_bar import JobBar
from skelapp.data.jobs import JobQueue
from skelapp.data.loading import Opener, OpenStore, load_plots
from skelapp.data.overview import Overview
from skelapp.data.removal import Removal
from skelapp.data.statistics_page import StatisticsPage
from skelapp.data.work import DataWork
from skelapp.widgets import Banner, button
from skelapp.workers import Worker

_QUIET_MS = 150
P = TypeVar("P", bound=QWidget)


class DataContent(QWidget):
    """The panel once it is loaded."""

    def __init__(self, context: Context, worker: Worker, actor_worker: Worker, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context, self._worker, self._actor_worker = context, worker, actor_worker
        self._settings = context.settings
        self.banner = Banner()
        self.jobs = JobQueue(self)
        self.catalogue = Catalogue(context.settings, worker, self)
        self.work = DataWork(self.jobs, self.catalogue, self.banner, worker, self)
        self.removal = Removal(worker, self.catalogue, self.banner, self)
        self.opener = Opener(worker, self)
        self.list_model = DatasetModel(self.jobs)
        self.list = DatasetList(self.list_model)
        self.job_bar = JobBar()
        self.head = EntryHead()
        self.page_tabs = PageTabs()
        self.tabs = self.page_tabs.tabs
        self.pages = QStackedWidget()
        self._shown_page = "overview"
        self._overview_shows: object = None
        self._drawn: OpenStore | None = None
        self._browsed: OpenStore | None = None
        self._build()
        self._connect()
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
        column.addWidget(self.head)
        column.addWidget(self.job_bar)
        column.addWidget(self.page_tabs)
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
        page.prepare.connect(self._prepare)
        page.chosen_raw.connect(lambda path: self.work.look_at(path, self.entry, start=False))
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
        return self._added(StatisticsPage(self.banner))

    @cached_property
    def check_page(self) -> CheckPage:
        page = self._added(CheckPage())
        page.asked.connect(self._check)
        return page

    @cached_property
    def import_page(self) -> ImportPage:
        page = self._added(ImportPage())
        page.asked.connect(self.work.import_)
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

    def _connect(self) -> None:
        self.catalogue.changed.connect(self._catalogue_read)
        self.list.selectionModel().currentChanged.connect(lambda *_: self._selected())
        self.list.doubleClicked.connect(lambda _: self.show_page("sequences"))
        self.list.activated.connect(lambda _: self.show_page("sequences"))
        self.head.store_changed.connect(self._store_changed)
        self.page_tabs.chosen.connect(self.show_page)
        self.jobs.changed.connect(self._show_job)
        self.opener.opened.connect(self._show_opened)
        self.opener.refused.connect(self._not_opened)
        self.work.page_wanted.connect(self._bring)
        self.work.import_wanted.connect(self.show_import)
        self.work.checked.connect(self._checked)
        self.work.imported.connect(self._imported)
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
        return self.head.store

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
            if not self._on("import"):
                self.show_page(self._settings.values.memory.data_page)
            # The largest page is made in a quiet moment, so that showing it is quick.
            QTimer.singleShot(_QUIET_MS, self, lambda: self.browser)
        else:
            self._show_entry()

    def select(self, name: str) -> bool:
        """Select a dataset; False when it is not listed."""
        return self.list.select(name)

    def _selected(self) -> None:
        if self.entry is None:
            return
        # A list with a new row selects again what was selected: nobody has chosen anything then.
        other = self.entry.name != self._settings.values.memory.dataset
        self._settings.set("memory.dataset", self.entry.name)
        if self._on("import") and other:
            self.show_page("overview")
        self._show_entry()

    def _show_entry(self) -> None:
        if self.entry is not None:
            self.head.show_entry(self.entry)
            self._store_changed()

    def _store_changed(self) -> None:
        if self.entry is None:
            return
        usable = self.store is not None and self.store.state == "prepared"
        self.page_tabs.allow(usable)
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

    def _bring(self, dataset: str, page: str) -> None:
        self.select(dataset)
        self.show_page(page)

    def _show_page(self, key: str) -> None:
        self.page_tabs.mark(key)
        self._shown_page = key
        self._show_head(True)
        self.pages.setCurrentWidget(self._page(key))
        self._show_report()

    def _show_head(self, shown: bool) -> None:
        """What is imported belongs to no dataset of the list yet."""
        self.head.setVisible(shown)
        self.page_tabs.setVisible(shown)

    def _on(self, key: str) -> bool:
        return self._shown_page == key

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
        """Open the shown store when a page needs it."""
        store = self.store
        if store is None or store.state != "prepared" or self._shown_page not in ("sequences", "statistics"):
            return
        if not self.opener.want(store):
            self._show_opened()
        elif self._made("browser"):
            self.browser.set_store(None)

    def _show_opened(self) -> None:
        """Give the shown page what it has not got yet."""
        opened = self.opener.store
        if opened is None:
            return
        if self._on("sequences") and self._browsed is not opened:
            self._browsed = opened
            self.browser.set_store(opened)
        if self._on("statistics") and self._drawn is not opened:
            # Their import is waited for on the worker.
            self._worker.run(load_plots, lambda _: self._draw(opened))

    def _draw(self, opened: OpenStore) -> None:
        if opened is self.opener.store and self._drawn is not opened:
            self._drawn = opened
            self.statistics.set_statistics(opened.name, opened.statistics)

    def _not_opened(self, name: str, reason: str, details: str) -> None:
        self._forget()
        self.banner.show_message(f"{name} can't be opened: {reason}", details, error=True)
        self._show_page("overview")
        self.catalogue.refresh()

    def _forget(self) -> None:
        """Let go of the opened store."""
        self.opener.forget()
        if self._made("browser"):
            self.browser.set_store(None)

    # ------------------------------------------------------------ the work

    def _show_job(self) -> None:
        entry, store = self.entry, self.store
        if entry is None:
            return
        job = self.jobs.of(entry.name)
        self.job_bar.show_job(job)
        state = store.state if store is not None else entry.state
        self.head.state.setText(state_words(entry, state) if job is None else f"{job.title.split()[0]}…")
        prepared = frozenset(one.name for one in self.catalogue.entries if one.state == "prepared")
        key = (entry, store, prepared, None if job is None else job.state)
        # A step of progress changes nothing here, and a page that is laid out ten times a second is not calm.
        if key != self._overview_shows:
            self._overview_shows = key
            self.overview.show_entry(entry, store, job, prepared)
            self._show_report()

    def _show_report(self) -> None:
        store = self.store
        if self._on("check") and store is not None and self.entry is not None:
            job, report = self.jobs.of(self.entry.name), self.work.report_of(store)
            self.check_page.show_store(store.sequences, THOROUGH_UP_TO, report, job)

    def open_path(self, path: Path) -> None:
        """Find out what was dropped, and prepare it, or offer to import it."""
        self.work.look_at(Path(path), self.entry, start=True)

    def _prepare(self, raw: Path | None, variant: str, cutting: str, half: bool) -> None:
        if self.entry is not None:
            self.work.prepare(self.entry.name, raw, variant, cutting, half)

    def _check(self, thorough: bool | None) -> None:
        entry, store = self.entry, self.store
        if entry is not None and store is not None and self.jobs.of(entry.name) is None:
            self.show_page("check")
            self.work.check(entry, store, thorough)

    def _film(self) -> None:
        if self.entry is not None and self.store is not None:
            self.work.film(self.entry, self.store)

    def _export(self, form: str, out: Path) -> None:
        if self.entry is not None and self.store is not None:
            self.work.export(self.entry, self.store, form, out)

    def _checked(self, report: dict[str, Any], dataset: str) -> None:
        # The search for copies has made the clean splits countable.
        self.opener.again()
        self._overview_shows = None
        if not self._on("check"):
            see = (("Show the report", partial(self._bring, dataset, "check")),)
            self.banner.show_message(f"{report['name']}: {verdict(report)}", actions=see)

    def _imported(self, name: str, path: str) -> None:
        # The form may be filled in for the next import already.
        form = self.import_page
        if self._on("import") and (form.name.text().strip(), form.path.text().strip()) == (name, path):
            form.name.clear()
            form.path.clear()

    def _remove(self) -> None:
        if self.store is not None:
            self._forget()
            self.removal.remove(self.store.folder, f"The store {self.store.name}")

    def _discard(self) -> None:
        entry = self.entry
        begun = next((store for store in entry.stores if store.state == "begun"), None) if entry else None
        if begun is not None:
            self._forget()
            self.removal.remove(begun.folder, f"What was begun of {begun.name}")

    def take_back(self) -> bool:
        """Undo the last removal; False when there is none."""
        return self.removal.take_back()

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
