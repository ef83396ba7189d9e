"""Makes a store from a list of items in parts, so that hours of reading survive Ctrl-C, a crash or a full disk.

A part is a small store of some hundred items, written under a temporary name and renamed when it is whole. Parts lie in
``NAME.partial/`` under a key made of items and options; what is made again with the same key goes on with the parts
that are there, anything else starts anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import psutil

from engine.data.bodies import RawDataError, RawSequence
from engine.data.store_files import StoreError, damaged_files, read_header
from engine.data.store_writer import StoreWriter, join_stores
from engine.skeleton.sequence import SkeletonSequence

KEY_FILE = "key.json"
PART_FILE = "part.json"
LOCK_FILE = "lock"
MAX_PART = 500
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Recording = SkeletonSequence | RawSequence


class PrepareError(Exception):
    """A store can't be made; the message says what to do and what is kept."""


@dataclass(frozen=True)
class Plan:
    """What a store is made of.

    Parameters
    ----------
    items : tuple of str
        Handed to ``make`` one by one; their order is the order of the store.
    make : callable
        ``make(item)`` gives the item's sequences, or raises :class:`RawDataError`, which leaves the item out. It must
        survive pickling when ``parallel`` is set.
    name, variant, classes, fps, half
        As for :func:`engine.data.store.write_store`.
    source : str
        Stands for everything else the result depends on (files with sizes and times, options): part of the key.
    root : Path or None
        File or folder that the items are read from. When it goes while they are read, that stops the preparation: they
        are not damaged then.
    """

    items: tuple[str, ...]
    make: Callable[[str], Iterable[Recording]]
    name: str
    classes: tuple[str, ...]
    fps: float
    variant: str = ""
    half: bool = False
    source: str = ""
    parallel: bool = True
    root: Path | None = None

    @property
    def part_items(self) -> int:
        """Items of one part: independent of the number of workers, so that another number can go on."""
        return min(MAX_PART, max(8, -(-len(self.items) // 64))) if self.parallel else MAX_PART

    def parts(self) -> list[tuple[str, ...]]:
        return [self.items[i : i + self.part_items] for i in range(0, len(self.items), self.part_items)]

    def key(self) -> str:
        """Digest of items and options."""
        about = [self.items, self.name, self.variant, self.classes, self.fps, self.half, self.source, self.part_items]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()


@dataclass(frozen=True)
class Progress:
    """Where a preparation stands: items done of all, and how many of them were damaged."""

    what: str
    done: int
    total: int
    damaged: int


Listener = Callable[[Progress], None]


def build_store(
    plan: Plan, folder: Path, about: dict[str, Any], workers: int = 0, listen: Listener | None = None, what: str = ""
) -> list[dict[str, str]]:
    """Make the store ``folder``; finished parts of an interrupted attempt are used.

    Parameters
    ----------
    about : dict
        Kept in the store's header. Damaged items are added to those that stand there under ``damaged``.
    workers : int
        Processes; 0 takes one for every core, 1 works in this process.

    Returns
    -------
    list of dict
        Damaged items: ``item`` and ``reason``.

    Raises
    ------
    PrepareError
        Most items are damaged, what they are read from is gone, the disk is full, a worker died, or somebody else is
        preparing the same store.
    KeyboardInterrupt
        Finished parts are kept.
    """
    partial = folder.with_name(folder.name + ".partial")
    parts = plan.parts()
    try:
        with _locked(partial, plan.key()):
            _make_parts(plan, parts, partial, workers or os.cpu_count() or 1, listen, what)
            records = [_record(partial / _part_name(k)) for k in range(len(parts))]
            damaged = [entry for record in records for entry in record["damaged"]]
            _refuse_ruin(plan, damaged, records, partial)
            full = [partial / _part_name(k) for k, record in enumerate(records) if record["sequences"]]
            join_stores(
                full, folder, plan.name, plan.variant, about | {"damaged": [*about.get("damaged", []), *damaged]}
            )
    except OSError as error:
        if error.errno not in _FULL:
            raise
        kept = sum(_is_part(partial / _part_name(k)) for k in range(len(parts)))
        raise PrepareError(
            f"the disk of {folder.parent} is full; {kept} of {len(parts)} parts are kept in {partial}. Make room "
            f"(parts and store together need about {_needed(partial, kept, len(parts)) / 1e9:.1f} GB) and run it again"
        ) from error
    except BrokenProcessPool as error:
        raise PrepareError(
            f"a worker process was killed, perhaps for lack of memory; finished parts are kept in {partial}. "
            "Run it again with fewer --workers"
        ) from error
    shutil.rmtree(partial, ignore_errors=True)
    return damaged


def _part_name(k: int) -> str:
    return f"part-{k:05d}"


def _record(part: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((part / PART_FILE).read_text("utf-8"))
    return record


def _is_part(part: Path) -> bool:
    """Whether a part is there and is what was written: a power cut may leave a folder with holes."""
    try:
        record = _record(part)
        return not record["sequences"] or not damaged_files(part)
    except (OSError, ValueError, KeyError, StoreError):
        return False


def _needed(partial: Path, kept: int, total: int) -> float:
    size = sum(file.stat().st_size for file in partial.rglob("*.npy"))
    return 2.0 * size * total / max(kept, 1)


def _refuse_ruin(plan: Plan, damaged: list[dict[str, str]], records: list[dict[str, Any]], partial: Path) -> None:
    """Nearly everything damaged is a wrong folder or a lost disk, not a dataset with a few bad files."""
    items = len({entry["item"] for entry in damaged})
    if 2 * items > len(plan.items) or not any(record["sequences"] for record in records):
        shutil.rmtree(partial, ignore_errors=True)
        reason = f", for example {damaged[0]['reason']}" if damaged else ""
        raise PrepareError(f"{plan.name}: {items} of {len(plan.items)} items can't be used{reason}; nothing is changed")


@contextlib.contextmanager
def _locked(partial: Path, key: str) -> Iterator[None]:
    """The folder of parts of this key, for this process alone; parts of another key are removed."""
    partial.mkdir(parents=True, exist_ok=True)
    lock = partial / LOCK_FILE
    try:
        owner = int(lock.read_text("ascii")) if lock.is_file() else 0
    except ValueError:
        owner = 0
    if owner and owner != os.getpid() and psutil.pid_exists(owner):
        raise PrepareError(f"process {owner} is preparing the same store; wait for it, or remove {lock} if it is not")
    if _begun_key(partial) != key:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        (partial / KEY_FILE).write_text(json.dumps(key), "utf-8")
    lock.write_text(str(os.getpid()), "ascii")
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _begun_key(partial: Path) -> str | None:
    try:
        key: str = json.loads((partial / KEY_FILE).read_text("utf-8"))
        return key
    except (OSError, ValueError):
        return None


def _make_parts(
    plan: Plan, parts: list[tuple[str, ...]], partial: Path, workers: int, listen: Listener | None, what: str
) -> None:
    todo, done, damaged = [], 0, 0
    for k, items in enumerate(parts):
        if _is_part(partial / _part_name(k)):
            done, damaged = done + len(items), damaged + len(_record(partial / _part_name(k))["damaged"])
        else:
            todo.append(k)

    def report(more: int = 0, more_damaged: int = 0) -> None:
        if listen:
            listen(Progress(what, done + more, len(plan.items), damaged + more_damaged))

    report()
    workers = min(workers, len(todo)) if plan.parallel else 1
    if workers <= 1:
        for k in todo:
            start = done
            write_part(plan, parts[k], partial / _part_name(k), lambda n, bad, s=start: report(n, bad))  # type: ignore[misc]
            done, damaged = done + len(parts[k]), damaged + len(_record(partial / _part_name(k))["damaged"])
            report()
        return
    context = multiprocessing.get_context("spawn")
    items_done, items_damaged, stop = context.Value("q", 0), context.Value("q", 0), context.Value("b", 0)
    pool = ProcessPoolExecutor(workers, context, _enter_worker, (plan, items_done, items_damaged, stop))
    try:
        futures: set[Future[None]] = {pool.submit(_work, parts[k], partial / _part_name(k)) for k in todo}
        while futures:
            finished, futures = wait(futures, timeout=0.5, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            report(items_done.value, items_damaged.value)
    except BaseException:
        stop.value = 1
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def write_part(
    plan: Plan,
    items: Sequence[str],
    part: Path,
    listen: Callable[[int, int], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> None:
    """Read items and write them as one part; ``listen`` gets the numbers of items done and damaged so far.

    A folder of the part's name appears only when the part is whole, also when all its items are damaged.
    """
    temporary = part.with_name(part.name + ".tmp")
    damaged: list[dict[str, str]] = []
    writer = StoreWriter(temporary, plan.classes, plan.half)
    try:
        for n, item in enumerate(items):
            if stopped is not None and stopped():
                raise KeyboardInterrupt
            try:
                recordings = list(plan.make(item))
            except Exception as error:
                if plan.root is not None and not _can_be_read(plan.root):
                    raise PrepareError(
                        f"{plan.root} can't be read any more, perhaps its disk is gone; finished parts are kept in "
                        f"{part.parent}. Bring it back and run it again"
                    ) from error
                # Whatever is wrong with one file must not cost the others; it is reported with its name.
                damaged.append({"item": item, "reason": _reason(error)})
                recordings = []
            for recording in recordings:
                try:
                    writer.append(recording)
                except StoreError as error:
                    damaged.append({"item": item, "reason": _reason(error)})
            if listen:
                listen(n + 1, len(damaged))
        if len(writer):
            writer.close(plan.name, plan.fps, plan.variant)
        record = {"damaged": damaged, "sequences": len(writer), "items": len(items)}
        (temporary / PART_FILE).write_text(json.dumps(record), "utf-8")
        shutil.rmtree(part, ignore_errors=True)
        temporary.rename(part)
    except BaseException:
        writer.abort()
        raise


def _can_be_read(root: Path) -> bool:
    """Whether there is something at a place; where a disk was unmounted, its folder stays and is empty."""
    try:
        return root.is_file() or any(root.iterdir())
    except OSError:
        return False


def damaged_now(plan: Plan, items: Sequence[str]) -> list[str]:
    """Which of some items of a plan are damaged when they are read again, once for every piece that is left out."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, _part_name(0))
        write_part(plan, items, part)
        return [entry["item"] for entry in _record(part)["damaged"]]


def _reason(error: Exception) -> str:
    expected = isinstance(error, (RawDataError, StoreError, ValueError, OSError))
    return " ".join(str(error).split()) if expected and str(error) else f"{type(error).__name__}: {error}"


# What a worker process was told when it began.
_plan: Plan | None = None
_items_done: Synchronized[int] | None = None
_items_damaged: Synchronized[int] | None = None
_stop: Synchronized[int] | None = None


def _enter_worker(plan: Plan, done: Synchronized[int], damaged: Synchronized[int], stop: Synchronized[int]) -> None:
    global _plan, _items_done, _items_damaged, _stop
    # Ctrl-C goes to every process of the terminal; the parent alone decides, and workers leave by the flag.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _plan, _items_done, _items_damaged, _stop = plan, done, damaged, stop


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(items: tuple[str, ...], part: Path) -> None:
    assert _plan is not None and _items_done is not None and _items_damaged is not None and _stop is not None
    told = [0, 0]

    def tell(done: int, damaged: int) -> None:
        assert _items_done is not None and _items_damaged is not None
        with _items_done.get_lock():
            _items_done.value += done - told[0]
        with _items_damaged.get_lock():
            _items_damaged.value += damaged - told[1]
        told[:] = [done, damaged]

    stop = _stop
    write_part(_plan, items, part, tell, lambda: bool(stop.value))


def known_keys(folder: Path) -> tuple[str, ...]:
    """Keys under which the store in a folder was made, and under which parts of one were begun."""
    partial = folder.with_name(folder.name + ".partial")
    try:
        made = [str(read_header(folder)["about"].get("key", ""))]
    except StoreError:
        made = []
    begun = _begun_key(partial)
    return (*made, *([begun] if begun else []))
