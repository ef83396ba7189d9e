"""What of every dataset is on this machine, and what a dropped file or folder is: the facts behind a list of datasets.

Reads names, headers and indices only, so that a window or ``data list`` may ask again whenever something changed.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.data.bodies import RawDataError
from engine.data.readers.flat_npz import FLAT_SETS, flat_classes
from engine.data.readers.interchange import interchange_format
from engine.data.readers.traces import TRACE_FILE
from engine.data.safe_load import find_npz
from engine.data.sets import DATASETS, DatasetInfo, base_name
from engine.data.store import SequenceStore, StoreError
from engine.data.store_files import HEADER_FILE
from engine.files import is_there

State = Literal["absent", "found", "begun", "prepared", "old", "damaged"]
Kind = Literal["dataset", "files", "recordings"]

PARTIAL = ".partial"
_UNFINISHED = (".writing", ".old", PARTIAL)
_IMPORT_NAME = re.compile(r"[a-z0-9][a-z0-9_]*(\.[a-z0-9_]+)?")
# A dataset is known from its first file names; a home folder dropped by mistake must not be walked to its end.
_MAX_NAMES = 4000
_MAX_DEPTH = 4
_MAX_LOOKED = 400

_NTU = re.compile(r"S(\d{3})C\d{3}P\d{3}R\d{3}A\d{3}\.skeleton", re.ASCII)
_LAST_SETUP_OF_NTU60 = 17
_NAMES = {
    "nw_ucla": re.compile(r"a\d{2}_s\d{2}_e\d{2}_v\d{2}\.json", re.ASCII),
    "pku_mmd_1": re.compile(r"(\d{4}-[LMR]|F\d{3}V\d{3}C\d{3}L\d{3,})\.(txt|skeleton)", re.ASCII),
    "pku_mmd_2": re.compile(r"(A\d{2}N\d{2}-[LMR]|A\d{3}N\d{3}V\d{3}C\d{3}L\d{3,})\.(txt|skeleton)", re.ASCII),
}


@dataclass(frozen=True)
class StoreEntry:
    """One store folder: what it holds, or why it can't be used.

    ``state`` is ``prepared``, ``begun`` (parts of an interrupted preparation), ``old`` (an earlier format) or
    ``damaged``; counts are 0 unless it is prepared. ``made`` is seconds since the epoch, ``raw`` the files it was made
    from, ``cutting`` the rule by which untrimmed recordings were cut.
    """

    name: str
    folder: Path
    state: State
    sequences: int = 0
    frames: int = 0
    classes: int = 0
    layout: str = ""
    fps: float = 0.0
    bytes: int = 0
    made: float = 0.0
    raw: str = ""
    cutting: str = ""
    problem: str = ""
    damaged: int = 0
    missing: int = 0
    excluded: int = 0

    @property
    def seconds(self) -> float:
        """Duration of all sequences together."""
        return self.frames / self.fps if self.fps else 0.0


@dataclass(frozen=True)
class CatalogueEntry:
    """One dataset: what is published about it (None for data of one's own), its stores here, its files if found."""

    name: str
    info: DatasetInfo | None
    stores: tuple[StoreEntry, ...] = ()
    raw: Path | None = None

    @property
    def title(self) -> str:
        return self.info.title if self.info else self.name

    @property
    def main(self) -> StoreEntry | None:
        """The store of the set's own name, else the first that can be used."""
        own = [store for store in self.stores if store.name == self.name]
        usable = [store for store in self.stores if store.state == "prepared" and not store.name.endswith(".raw")]
        return own[0] if own else usable[0] if usable else None

    @property
    def raw_store(self) -> StoreEntry | None:
        """The store of raw bodies, when it can be used."""
        name = f"{self.name}.raw"
        return next((store for store in self.stores if store.name == name and store.state == "prepared"), None)

    @property
    def cutting(self) -> str:
        """The rule by which the raw bodies here were cut; "" for the set's own, and without raw bodies."""
        default = self.info.cuttings[:1] if self.info else ()
        return "" if self.raw_store is None or self.raw_store.cutting in default else self.raw_store.cutting

    @property
    def state(self) -> State:
        """Where the set stands: that of its main store; ``found`` when only files or raw bodies are here."""
        if self.main is not None:
            return self.main.state
        if any(store.state == "begun" for store in self.stores):
            return "begun"
        return "found" if self.raw is not None or self.stores else "absent"


@dataclass(frozen=True)
class Found:
    """What a file or folder is.

    ``kind`` is ``dataset`` (original files of the catalogue's set ``name``), ``files`` (another project's arrays) or
    ``recordings`` (made with this program).
    """

    kind: Kind
    name: str
    path: Path


def list_stores(stores: Path) -> tuple[StoreEntry, ...]:
    """Every store folder in the order of the names; of unknown sets only those that are stores."""
    if not stores.is_dir():
        return ()
    found: dict[str, StoreEntry] = {}
    for folder in sorted(stores.iterdir()):
        name = folder.name.removesuffix(PARTIAL)
        known = base_name(name) in DATASETS
        if not folder.is_dir() or folder.name.startswith(".") or folder.name.endswith(_UNFINISHED[:2]):
            continue
        if folder.name.endswith(PARTIAL):
            begun = StoreEntry(name, folder, "begun")
            # A store that is being made anew is still the old one.
            if known and (name not in found or found[name].state != "prepared"):
                found[name] = begun
            continue
        entry = _store_entry(folder)
        if entry.state == "prepared" or known:
            found[name] = entry
    return tuple(found[name] for name in sorted(found))


def _store_entry(folder: Path) -> StoreEntry:
    try:
        store = SequenceStore(folder)
        about = store.header.get("about", {})
        return StoreEntry(
            folder.name,
            folder,
            "prepared",
            len(store),
            int(store.length.sum()),
            len(store.classes),
            store.layout,
            store.fps,
            sum(int(file["bytes"]) for file in store.header["files"].values()),
            (folder / HEADER_FILE).stat().st_mtime,
            str(about.get("raw", "")),
            str(about.get("cutting", "")),
            damaged=len(about.get("damaged", [])),
            missing=int(about.get("missing_count", len(about.get("missing", [])))),
            excluded=int(about.get("excluded_count", len(about.get("excluded", [])))),
        )
    except (StoreError, OSError) as error:
        state: State = "old" if "older version" in str(error) else "damaged"
        return StoreEntry(folder.name, folder, state, raw=_raw_of(folder), problem=str(error))


def import_name_problem(name: str) -> str:
    """Why files can't be imported under a name, "" when they can."""
    if not _IMPORT_NAME.fullmatch(name):
        return f"{name!r} can't be the name of a store; take small letters, digits, _ and at most one dot"
    ending = name.partition(".")[2]
    if f".{ending}" in (".raw", *_UNFINISHED):
        return f"{name} can't be the name of a store: this program keeps its own things under names in .{ending}"
    info = DATASETS.get(base_name(name))
    if info is not None and (not ending or ending in info.variants):
        return f"{name} is what preparing the original files makes; call this {info.name}.imported or the like"
    return ""


def made_of_other_files(folder: Path, raw: Path) -> bool:
    """Whether there is a store in a folder, sound or not, that was not made from ``raw``."""
    return folder.exists() and _raw_of(folder) != str(raw.absolute())


def _raw_of(folder: Path) -> str:
    """Where a store, even one that can't be used any more, was made from, "" when it does not say."""
    try:
        return str(json.loads((folder / HEADER_FILE).read_text("utf-8"))["about"]["raw"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read_catalogue(stores: Path, raw: Mapping[str, Path] | None = None) -> tuple[CatalogueEntry, ...]:
    """All known datasets in the catalogue's order, then data of one's own.

    Parameters
    ----------
    stores : Path
        Folder of the stores.
    raw : mapping, optional
        Where downloaded files of a set are believed to be; what is gone is passed over. A set whose store still says
        where it came from needs none.
    """
    listed = list_stores(stores)
    entries = []
    for info in DATASETS.values():
        mine = tuple(store for store in listed if base_name(store.name) == info.name)
        parts = any(store.name in info.built_from and store.state == "prepared" for store in listed)
        # What a merged set is made of are the stores of others.
        files = (stores if parts else None) if info.built_from else _existing(info.name, mine, raw or {})
        entries.append(CatalogueEntry(info.name, info, mine, files))
    own = [store for store in listed if base_name(store.name) not in DATASETS]
    return (*entries, *(CatalogueEntry(store.name, None, (store,)) for store in own))


def _existing(name: str, stores: tuple[StoreEntry, ...], raw: Mapping[str, Path]) -> Path | None:
    candidates = [raw[name]] if name in raw else []
    candidates += [Path(store.raw) for store in stores if store.raw and store.name in (name, f"{name}.raw")]
    # Stores of earlier versions kept the path as it was typed, which means nothing elsewhere.
    return next((path for path in candidates if path.is_absolute() and is_there(path)), None)


def recognise(path: Path) -> tuple[Found, ...]:
    """What a file or folder is, best guess first; NTU-120 files are also NTU-60's.

    Only names are looked at (of zips their table of contents), and of a folder no more than some thousand.

    Raises
    ------
    RawDataError
        It is nothing that can be prepared or imported; the message says what is.
    """
    path = Path(path)
    if not path.exists():
        raise RawDataError(f"{path} does not exist")
    if path.suffix.lower() == ".npz":
        found = _npz(path)
    else:
        found = [Found("dataset", name, path) for name in _by_names(_names(path))]
    if not found and path.is_dir():
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() == ".npz")
        found = [f for file in inside[:_MAX_LOOKED] for f in _npz(file)]
    if not found and interchange_format(path):
        found = [Found("files", "", path)]
    if not found and _is_recording(path):
        found = [Found("recordings", "", path)]
    if found:
        return tuple(found)
    if path.suffix.lower() == ".7z" or (path.is_dir() and any(path.glob("*.7z"))):
        raise RawDataError(f"{path}: .7z archives must be unpacked first; then give the folder")
    raise RawDataError(
        f"{path} holds no files of a known dataset. What is read: the archives named under each dataset, files of "
        "other projects (.npz of the CTR-GCN family, train_data.npy with train_label.pkl, PYSKL pickles), recordings"
    )


def _npz(path: Path) -> list[Found]:
    """A flat set by its file name, else by its classes; or arrays of the CTR-GCN family."""
    try:
        keys = set(find_npz(path))
    except RawDataError:
        return []
    if {"x_train", "y_train"} <= keys:
        return [Found("files", "", path)]
    if not {"xyz", "start", "label"} <= keys:
        return []
    if path.stem in FLAT_SETS:
        return [Found("dataset", path.stem, path)]
    for name in FLAT_SETS:
        try:
            if [*flat_classes(path, name)] == [*DATASETS[name].classes]:
                return [Found("dataset", name, path)]
        except RawDataError:
            continue
    return []


def _by_names(names: Iterable[str]) -> list[str]:
    """Datasets whose files have such names, the most frequent first."""
    count = dict.fromkeys(("ntu120", *_NAMES, "ntu60"), 0)
    for name in names:
        if match := _NTU.fullmatch(name):
            count["ntu60" if int(match[1]) <= _LAST_SETUP_OF_NTU60 else "ntu120"] += 1
            continue
        for dataset, pattern in _NAMES.items():
            if pattern.fullmatch(name):
                count[dataset] += 1
                break
    found = sorted((name for name in count if count[name]), key=lambda name: -count[name])
    if count["ntu120"] and found:
        # The first half of NTU-120 is all of NTU-60.
        found = ["ntu120", *(name for name in found if name != "ntu120")]
    return found


def _names(path: Path) -> list[str]:
    """File names below a folder or in a zip, without their folders; zips below a folder are looked into."""
    if path.is_file():
        return _zip_names(path) if path.suffix.lower() == ".zip" else [path.name]
    names: list[str] = []
    for folder, folders, files in os.walk(path):
        if len(Path(folder).relative_to(path).parts) >= _MAX_DEPTH:
            folders.clear()
        folders.sort()
        for file in sorted(files):
            names += _zip_names(Path(folder, file)) if file.lower().endswith(".zip") else [file]
        if len(names) > _MAX_NAMES:
            break
    return names


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.rpartition("/")[2] for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def _is_recording(path: Path) -> bool:
    if path.is_file():
        return path.name == TRACE_FILE
    return any(next(path.glob(levels + TRACE_FILE), None) for levels in ("", "*/", "*/*/"))


def find_downloads(folder: Path) -> dict[str, Path]:
    """Datasets whose files lie directly in a folder (a download folder), as archives or as folders, by name.

    A folder that holds both zips of NTU-120 counts as that set.
    """
    found: dict[str, Path] = {}
    try:
        entries = sorted(folder.iterdir())[:_MAX_LOOKED]
    except OSError:
        return {}
    ntu: list[Path] = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            if not (entry.is_dir() or entry.suffix.lower() in (".zip", ".npz")):
                continue
            guesses = recognise(entry)
        except (RawDataError, OSError):
            continue
        for guess in guesses:
            if guess.kind == "dataset":
                found.setdefault(guess.name, guess.path)
        if guesses[0].name.startswith("ntu") and entry.suffix.lower() == ".zip":
            ntu.append(entry)
    if "ntu120" in found and len(ntu) > 1:
        found["ntu120"] = folder
    return found
