"""What the Data panel sets going on datasets, as jobs of the program's own commands, and how each of them ended."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine import paths
from engine.data.catalogue import CatalogueEntry, Found, StoreEntry, made_of_other_files, recognise
from skelapp.data.catalogue import Catalogue
from skelapp.data.jobs import Job, JobQueue
from skelapp.widgets import Banner
from skelapp.workers import Worker

_DONE = {"prepare": "is prepared", "import": "is imported", "film": "is filmed", "export": "is exported"}


class DataWork(QObject):
    """Starts jobs, at most one per dataset, and tells in the banner what came of them."""

    page_wanted = Signal(str, str)  # dataset, page
    import_wanted = Signal(object)  # Found
    checked = Signal(object, str)  # report, dataset
    imported = Signal(str, str)  # name, path

    def __init__(
        self, jobs: JobQueue, catalogue: Catalogue, banner: Banner, worker: Worker, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._jobs, self._catalogue, self._banner, self._worker = jobs, catalogue, banner, worker
        self._reports: dict[str, dict[str, Any]] = {}
        jobs.ended.connect(self._ended)

    # --------------------------------------------------------- what is dropped

    def look_at(self, path: Path, selected: CatalogueEntry | None, start: bool) -> None:
        """Find out what a path holds: prepare it (``start``) or remember it, or offer to import it."""
        self._banner.show_message(f"Looking at {path}…")
        self._worker.run(
            partial(recognise, path),
            lambda found: self._recognised(found, selected, start),
            lambda error, details: self._banner.show_message(str(error), error=True),
        )

    def _recognised(self, found: tuple[Found, ...], selected: CatalogueEntry | None, start: bool) -> None:
        self._banner.dismiss()
        if found[0].kind != "dataset":
            self.import_wanted.emit(found[0])
            return
        names = [one.name for one in found]
        chosen = found[names.index(selected.name)] if selected is not None and selected.name in names else found[0]
        self._catalogue.remember(chosen.name, chosen.path)
        self.page_wanted.emit(chosen.name, "overview")
        wanted = self._catalogue.entry(chosen.name)
        if wanted is not None:
            if start and wanted.state == "prepared":
                again = partial(self.prepare, chosen.name, chosen.path, cutting=wanted.cutting)
                self._banner.show_message(f"{wanted.title} is prepared already.", actions=(("Prepare again", again),))
            elif start:
                self.prepare(chosen.name, chosen.path, cutting=wanted.cutting)
            elif selected is not None and wanted.name != selected.name:
                self._banner.show_message(f"These are files of {wanted.title}, not of {selected.title}.")
        self._catalogue.refresh()

    # ------------------------------------------------------------------ jobs

    def _free(self, entry: CatalogueEntry | None) -> bool:
        return entry is not None and self._jobs.of(entry.name) is None

    def prepare(
        self, name: str, raw: Path | None, variant: str = "", cutting: str = "", half: bool = False
    ) -> Job | None:
        """Start (or go on with) the preparation of a dataset; None when something is being done with it already."""
        entry = self._catalogue.entry(name)
        if entry is None or not self._free(entry):
            return None
        if entry.info is not None and entry.info.built_from:
            self._banner.dismiss()
            return self._jobs.add(Job("prepare", name, f"Merging {entry.title}", ["data", "merge", name], "make"))
        arguments = ["data", "prepare", name]
        read = raw is not None and not _only_clean(entry, raw, variant, cutting)
        arguments += ["--raw", str(raw)] if read else []
        arguments += ["--variant", variant] if variant else []
        # What is made from the raw bodies is cut as they are.
        arguments += ["--cutting", cutting] if cutting and (read or cutting != entry.cutting) else []
        arguments += ["--half"] if half else []
        self._banner.dismiss()
        return self._jobs.add(Job("prepare", name, f"Preparing {entry.title}", arguments, "make"))

    def check(self, entry: CatalogueEntry, store: StoreEntry, thorough: bool | None) -> None:
        """Examine a store; ``thorough`` compares every sequence with every other, None leaves it to the engine."""
        if self._free(entry):
            arguments = ["data", "check", store.name, "--json"]
            arguments += ["--copies", str(thorough)] if thorough is not None else []
            self._jobs.add(Job("check", entry.name, f"Checking {store.name}", arguments, "look"))

    def film(self, entry: CatalogueEntry, store: StoreEntry) -> None:
        """Film a store with the actor."""
        if self._free(entry):
            self._jobs.add(Job("film", entry.name, f"Filming {store.name}", ["data", "film", store.name], "make"))

    def export(self, entry: CatalogueEntry, store: StoreEntry, form: str, out: Path) -> None:
        """Write a store for other projects."""
        if self._free(entry):
            arguments = ["data", "export", store.name, "--to", form, "--out", str(out)]
            self._jobs.add(Job("export", entry.name, f"Exporting {store.name}", arguments, "look"))

    def import_(self, path: Path, name: str, classes: str, fps: float, replace: bool = False) -> None:
        """Read files of other projects, or own recordings, into the store ``name``; asks before another is lost."""
        if not replace and made_of_other_files(paths.stores() / name, path):
            text = f"There is a store {name} already, and it was not made from {path}."
            anyway = partial(self.import_, path, name, classes, fps, True)
            self._banner.show_message(text, actions=(("Replace it", anyway),))
            return
        arguments = ["data", "import", name, "--raw", str(path), "--fps", f"{fps:g}"]
        arguments += ["--replace"] if replace else []
        arguments += ["--classes", classes] if classes else []
        entry = next((e.name for e in self._catalogue.entries if name.partition(".")[0] == e.name), name)
        self._jobs.add(Job("import", entry, f"Importing {name}", arguments, "make"))
        self._banner.show_message(f"{name} is being imported.")

    # ---------------------------------------------------------------- ending

    def _ended(self, job: Job) -> None:
        if job.state == "done" and job.kind == "check":
            self._checked(job)
        elif job.state == "done":
            self._say_done(job)
        elif job.state == "failed":
            again = (("Try again", partial(self._again, job)),)
            text = f"{job.title} failed: {job.problem}"
            self._banner.show_message(text, "\n".join(job.messages), error=True, actions=again)
        elif job.kind in ("prepare", "import"):
            again = (("Go on", partial(self._again, job)),)
            self._banner.show_message(f"{job.title} was stopped. What is finished is kept.", actions=again)
        self._catalogue.refresh()

    def _again(self, old: Job) -> None:
        if self._jobs.of(old.dataset) is None:
            self._jobs.add(Job(old.kind, old.dataset, old.title, old.arguments, old.lane))

    def _say_done(self, job: Job) -> None:
        lines = [line for line in job.output.splitlines() if line.strip()]
        left = [line for line in job.messages if line.startswith("left out:")]
        entry = self._catalogue.entry(job.dataset)
        name = entry.title if entry is not None else job.dataset
        actions: tuple[Any, ...] = ()
        if job.kind in ("prepare", "import"):
            actions = (("Browse", partial(self.page_wanted.emit, job.dataset, "sequences")),)
        some = f" {job.damaged:,} damaged recordings were left out." if job.damaged and job.kind == "prepare" else ""
        self._banner.show_message(f"{name} {_DONE[job.kind]}.{some}", "\n".join([*lines, *left]), actions=actions)
        if job.kind == "import":
            self.imported.emit(job.arguments[2], job.arguments[4])

    def _checked(self, job: Job) -> None:
        try:
            report = json.loads(job.output)
        except ValueError:
            self._banner.show_message(f"{job.title} gave no report: {job.problem}", error=True)
            return
        self._reports[report["name"]] = report
        self.checked.emit(report, job.dataset)

    def report_of(self, store: StoreEntry) -> dict[str, Any] | None:
        """The last report of a store as it is now; None when it was made again since."""
        report = self._reports.get(store.name)
        return report if report is not None and report["made"] == store.made else None


def _only_clean(entry: CatalogueEntry, raw: Path, variant: str, cutting: str) -> bool:
    """Whether another cleaning can be made from raw bodies that are here, without reading the archive again."""
    stored = entry.raw_store
    return bool(variant) and stored is not None and stored.raw == str(raw) and entry.cutting == cutting
