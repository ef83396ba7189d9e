"""From a downloaded archive to stores: raw bodies first where a set has several, then the cleaned variant.

Reading text is slow and cleaning is a matter of opinion, so the bodies as recorded are kept in ``NAME.raw`` and every
cleaning variant is made from there. Sets with one body per recording go straight into their store.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from typing import Any

from engine.data.bodies import RawSequence
from engine.data.cleaning import CLEANINGS
from engine.data.parts import Listener, Plan, PrepareError, Progress, build_store, damaged_now, known_keys
from engine.data.sets import DatasetInfo
from engine.data.splits import digest
from engine.data.store import SequenceStore, StoreError
from engine.skeleton.sequence import SkeletonSequence

RAW = "raw"
# How many names of missing or excluded files a header keeps; the counts are always whole.
_MAX_NAMES = 2000


@dataclass(frozen=True)
class Prepared:
    """What a preparation did.

    Parameters
    ----------
    store : SequenceStore
        The finished store.
    raw : SequenceStore or None
        The store of raw bodies it was made from.
    damaged : tuple of dict
        ``item`` and ``reason`` (which names file and line) of everything that was left out.
    missing, excluded : int
        Files that should be there and are not; files left out because they are known to be damaged. The names stand in
        the store's header.
    """

    store: SequenceStore
    raw: SequenceStore | None
    damaged: tuple[dict[str, str], ...]
    missing: int
    excluded: int


def store_name(name: str, variant: str = "") -> str:
    """Name of the store of a variant: the default variant has the set's own name."""
    return f"{name}.{variant}" if variant else name


def prepare_dataset(
    info: DatasetInfo,
    raw: Path | None,
    stores: Path,
    variant: str = "",
    half: bool = False,
    workers: int = 0,
    listen: Listener | None = None,
    cutting: str = "",
) -> Prepared:
    """Make the store of a dataset, going on where an interrupted preparation stopped.

    Parameters
    ----------
    raw : Path or None
        The downloaded archive or folder. None takes the bodies from an existing ``NAME.raw``.
    stores : Path
        Folder of the stores.
    variant : str
        A name from ``info.variants``; "" is the default cleaning, ``"raw"`` stops at the raw store.
    half : bool
        float16 relative to an origin per sequence: half the size.
    workers : int
        Processes; 0 takes one for every core.
    cutting : str
        How untrimmed recordings are cut, a name from ``info.cuttings``; "" is the default rule. Kept in the raw store.

    Raises
    ------
    PrepareError
        Nothing usable, the disk is full, an unknown variant, no raw files given.
    RawDataError
        The archive can't be read at all.
    KeyboardInterrupt
        Finished parts are kept; the same call goes on.
    """
    if info.built_from:
        raise PrepareError(f"{info.name} is built from other sets: main.py data merge {info.name}")
    if variant and variant not in info.variants:
        known = ", ".join(info.variants) or "none: it has one body per recording"
        raise PrepareError(f"{info.name} has no variant {variant!r}; known: {known}")
    if cutting and cutting not in info.cuttings:
        known = ", ".join(info.cuttings) or "none: its recordings are not cut"
        raise PrepareError(f"{info.name} has no cutting rule {cutting!r}; known: {known}")
    if cutting and raw is None:
        raise PrepareError(f"{info.name}: cutting another way needs the downloaded files (--raw PATH)")
    target = store_name(info.name, variant)
    if not info.several_bodies:
        if raw is None:
            raise PrepareError(f"{info.name}: say where the downloaded files are (--raw PATH); {info.request}")
        return _single(info, raw, stores / target, half, workers, listen)
    raw_store, damaged = _raw_bodies(info, raw, stores / store_name(info.name, RAW), workers, listen, cutting)
    about = raw_store.header["about"]
    missing, excluded = about["missing_count"], about["excluded_count"]
    if variant == RAW:
        return Prepared(raw_store, raw_store, damaged, missing, excluded)
    cleaning = variant or info.cleaning
    plan = Plan(
        items=tuple(str(i) for i in range(len(raw_store))),
        make=partial(clean_item, str(raw_store.folder), about["key"], cleaning),
        name=target,
        classes=info.classes,
        fps=info.fps,
        variant=cleaning,
        half=half,
        source=_digest([about["key"], raw_store.header["files"]]),
    )
    about = {**about, "key": plan.key(), "cleaning": cleaning}
    dropped = build_store(plan, stores / target, about, workers, listen, f"cleaning {target}")
    return Prepared(SequenceStore(stores / target), raw_store, (*damaged, *dropped), missing, excluded)


def _single(info: DatasetInfo, raw: Path, folder: Path, half: bool, workers: int, listen: Listener | None) -> Prepared:
    source = info.open(raw)
    plan = Plan(
        items=source.items,
        make=partial(read_single, source.read),
        name=folder.name,
        classes=info.classes,
        fps=info.fps,
        half=half,
        parallel=source.parallel,
        root=raw,
    )
    plan = _keyed(plan, source.files, folder)
    about = _about(raw, plan.key(), source.missing, source.excluded)
    damaged = build_store(plan, folder, about, workers, listen, f"reading {info.name}")
    return Prepared(SequenceStore(folder), None, tuple(damaged), len(source.missing), len(source.excluded))


def _raw_bodies(
    info: DatasetInfo, raw: Path | None, folder: Path, workers: int, listen: Listener | None, cutting: str
) -> tuple[SequenceStore, tuple[dict[str, str], ...]]:
    """The raw store: the one that is there when it was made of the same files and is sound, else a new one."""
    if raw is None:
        try:
            found = SequenceStore(folder)
        except StoreError as error:
            what = str(error).partition(";")[0]
            raise PrepareError(f"{what}: say where the downloaded files are (--raw PATH); {info.request}") from error
        if changed := _changed_files(found, listen):
            raise PrepareError(
                f"{folder} is damaged ({', '.join(changed)}): say where the downloaded files are (--raw PATH), and it "
                "is made again"
            )
        return found, tuple(found.header["about"]["damaged"])
    how = {"cutting": cutting or info.cuttings[0]} if info.cuttings else {}
    source = info.open(raw, **how)
    plan = Plan(
        items=source.items,
        make=source.read,
        name=folder.name,
        classes=info.classes,
        fps=info.fps,
        variant=RAW,
        parallel=source.parallel,
        root=raw,
    )
    plan = _keyed(plan, source.files, folder, how)
    try:
        found = SequenceStore(folder)
        if found.header["about"].get("key") == plan.key() and _is_sound(found, plan, listen):
            return found, tuple(found.header["about"]["damaged"])
    except StoreError:
        pass
    about = {**_about(raw, plan.key(), source.missing, source.excluded), **how}
    damaged = build_store(plan, folder, about, workers, listen, f"reading {info.name}")
    return SequenceStore(folder), tuple(damaged)


def _keyed(plan: Plan, files: tuple[str, ...], folder: Path, how: dict[str, str] | None = None) -> Plan:
    """The plan with its files and options in its key.

    Earlier versions counted every file below the folder as one of the dataset's. What they made of it stays known.
    """
    assert plan.root is not None
    known = known_keys(folder)
    found = []
    for listed in (files, ()) if known else (files,):
        state = fingerprint(plan.root, listed)
        found.append(replace(plan, source=_digest([state, how]) if how else state))
    return next((keyed for keyed in found if keyed.key() in known), found[0])


def _is_sound(store: SequenceStore, plan: Plan, listen: Listener | None) -> bool:
    """Whether a raw store is what the plan would make: no file has changed, and what was left out is still damaged.

    Items may have been left out because a disk was away for a while.
    """
    left_out = [entry["item"] for entry in store.header["about"]["damaged"]]
    if _changed_files(store, listen):
        return False
    return sorted(damaged_now(plan, list(dict.fromkeys(left_out)))) == sorted(left_out)


def _changed_files(store: SequenceStore, listen: Listener | None) -> list[str]:
    """Files of a raw store that are not as they were written; tens of gigabytes take minutes."""
    if listen is None:
        return store.damaged_files()
    what = f"checking {store.name}, MB"
    return store.damaged_files(lambda read, total: listen(Progress(what, ceil(read / 1e6), ceil(total / 1e6), 0)))


def _about(raw: Path, key: str, missing: tuple[str, ...], excluded: tuple[str, ...]) -> dict[str, Any]:
    return {
        "raw": str(Path(raw).absolute()),
        "key": key,
        "missing": list(missing[:_MAX_NAMES]),
        "missing_count": len(missing),
        "excluded": list(excluded[:_MAX_NAMES]),
        "excluded_count": len(excluded),
    }


def read_single(read: Callable[[str], Iterator[RawSequence]], item: str) -> Iterator[SkeletonSequence]:
    """Sequences of an item with one body per recording; coordinates get a digest by which copies are found."""
    for raw in read(item):
        sequence = raw.sequence()
        sequence.meta = {**sequence.meta, "digest": digest(sequence.xyz)}
        yield sequence


@lru_cache(maxsize=2)
def _opened(folder: str, key: str, pid: int) -> SequenceStore:
    """One opening per process and state of the raw store."""
    return SequenceStore(Path(folder))


def clean_item(folder: str, key: str, cleaning: str, item: str) -> Iterator[SkeletonSequence]:
    """Sequence ``item`` of the raw store made under ``key``, after cleaning."""
    raw = _opened(folder, key, os.getpid()).raw(int(item))
    sequence = raw.sequence(CLEANINGS[cleaning](raw))
    sequence.meta = {**sequence.meta, "digest": digest(sequence.xyz)}
    yield sequence


def fingerprint(path: Path, files: Sequence[str] = ()) -> str:
    """Digest of the files at a path: names, sizes and times of change, not their content.

    ``files`` names those below a folder that count; all do when there are none.
    """
    path = Path(path).resolve()
    if path.is_file():
        return _digest([_state(path.name, path.stat())])
    if files:
        return _digest([_state(file, (path / file).stat()) for file in files])
    found = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            try:
                found.append(_state(str(file.relative_to(path)), file.stat()))
            except OSError:
                # A dangling link or a file that goes while we look is no file.
                continue
    return _digest(found)


def _state(name: str, about: os.stat_result) -> list[str | int]:
    return [name, about.st_size, about.st_mtime_ns]


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
