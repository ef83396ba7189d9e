"""Lists and reads the files of a folder, a zip, or a folder with zips in it, so that no dataset must be unpacked.

Members of a zip are read into memory and never written to the disk under their own names; what could do harm there
(names that leave the archive, links, encrypted or hugely inflating members) is refused (datasets.md, section 5.4).
A file is known by its *handle*: its path below the root, or ``PATH.zip!/MEMBER``. Root and handle are plain strings,
so worker processes open the archive themselves.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from engine.data.bodies import RawDataError

MAX_MEMBER_BYTES = 64 * 1024 * 1024
MAX_TOTAL_BYTES = 128 * 1024**3
MAX_MEMBERS = 2_000_000
# Text of numbers deflates to a half or a fifth, rows of equal numbers to a few hundredths.
MAX_RATIO = 300
_RATIO_MATTERS_FROM = 1024 * 1024
_OPEN_ZIPS = 4
_INNER = "!/"


class Listing(NamedTuple):
    """Files that fit a pattern: handle by name without suffix, and how many copies of a name were passed over.

    ``closed`` says which zips below the folder could not be opened.
    """

    handles: dict[str, str]
    copies: int
    closed: tuple[str, ...]


def list_files(path: Path | str, pattern: re.Pattern[str], *, what: str = "files") -> Listing:
    """Find files by name anywhere below a folder, in a zip, or in zips below a folder.

    Parameters
    ----------
    path : Path or str
        A folder or a zip archive.
    pattern : re.Pattern
        Must match the whole file name (without folders). A first group, where there is one, is the name under which
        the file is listed; else the name without its suffix.
    what : str
        What is looked for, for messages.

    Returns
    -------
    Listing
        Handles in the order of their names. Of several files with one name the first counts: unpacked files before
        archives, then by path. Zips below a folder that can't be opened are passed over: anything may lie there too.

    Raises
    ------
    RawDataError
        Nothing there, ``path`` is a zip that can't be opened, or a selected member is dangerous.
    """
    root = Path(path)
    plain: list[tuple[str, str]] = []
    zips: list[str] = []
    if root.is_dir():
        for relative in _walk(root):
            name = relative.rpartition("/")[2]
            if found := _listed_name(pattern, name):
                plain.append((found, relative))
            elif name.lower().endswith(".zip"):
                zips.append(relative)
    elif root.is_file():
        zips.append("")
    else:
        raise RawDataError(f"{root}: there is no such file or folder")
    opened, closed = _that_open(root, zips) if root.is_dir() else (zips, ())
    packed = [pair for archive in opened for pair in _zip_members(root, archive, pattern)]
    handles: dict[str, str] = {}
    for name, handle in sorted(plain) + packed:
        handles.setdefault(name, handle)
    if not handles:
        raise RawDataError("; ".join([f"{root}: no {what} found{_sevenzip_hint(root)}", *closed]))
    return Listing(dict(sorted(handles.items())), len(plain) + len(packed) - len(handles), closed)


def list_all(path: Path | str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Handles of all files whose name fits, equal names included, in the order of the handles; may be empty.

    Zips below a folder that can't be opened are passed over.
    """
    root = Path(path)
    if not root.is_dir():
        return tuple(sorted(handle for _, handle in _zip_members(root, "", pattern)))
    handles, zips = [], []
    for relative in _walk(root):
        name = relative.rpartition("/")[2]
        if _listed_name(pattern, name):
            handles.append(relative)
        elif name.lower().endswith(".zip"):
            zips.append(relative)
    handles += [handle for archive in _that_open(root, zips)[0] for _, handle in _zip_members(root, archive, pattern)]
    return tuple(sorted(handles))


def files_of(handles: Iterable[str]) -> tuple[str, ...]:
    """The files on the disk, relative to the root, in which listed files lie; "" is the root itself."""
    return tuple(sorted({_split(handle)[0] for handle in handles}))


def read_file(path: Path | str, handle: str, limit: int = MAX_MEMBER_BYTES) -> bytes:
    """Bytes of a listed file; zip members are checked against their CRC.

    Parameters
    ----------
    path : Path or str
        The root that was listed.
    handle : str
        From the listing.
    limit : int
        Bytes above which the file is refused unread.

    Raises
    ------
    RawDataError
        The file is gone, too big, damaged, encrypted or not safe to open.
    """
    root = Path(path)
    archive, inner = _split(handle)
    if not inner:
        return _read_plain(root / archive, limit)
    place = _place(root, handle)
    package = _open_zip(root / archive if archive else root)
    try:
        info = package.getinfo(inner)
    except KeyError as error:
        raise RawDataError(f"{place}: no such member") from error
    _check_member(info, place, limit)
    try:
        with package.open(info) as stream:
            data = stream.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise RawDataError(f"{place}: damaged in the archive ({error})") from error
    if len(data) != info.file_size:
        raise RawDataError(f"{place}: {len(data)} bytes where the archive promises {info.file_size}")
    return data


def file_name(handle: str) -> str:
    """Last part of a handle: the file's own name."""
    return handle.rpartition("/")[2]


def place_of(path: Path | str, handle: str) -> str:
    """How messages name a file: the root's path and the handle."""
    return _place(Path(path), handle)


def _place(root: Path, handle: str) -> str:
    return f"{root}{handle}" if handle.startswith(_INNER) else f"{root / handle}"


def _listed_name(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.fullmatch(name)
    if match is None:
        return None
    return match.group(1) if pattern.groups else PurePosixPath(name).stem


def _walk(root: Path) -> Iterator[str]:
    """Relative paths of regular files; links of the user's own are followed, but no folder is entered twice."""
    pending, seen = [(str(root), "")], set()
    while pending:
        folder, prefix = pending.pop()
        try:
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append((entry.path, f"{prefix}{entry.name}/"))
                    elif entry.is_file():
                        yield prefix + entry.name
        except OSError as error:
            raise RawDataError(f"{folder}: can't be listed ({error.strerror or error})") from error


def _read_plain(file: Path, limit: int) -> bytes:
    try:
        # Opening a pipe would wait for ever; a listed file may have been replaced since.
        if not stat.S_ISREG(file.stat().st_mode):
            raise RawDataError(f"{file}: not a regular file")
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise RawDataError(f"{file}: can't be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise RawDataError(f"{file}: more than {limit} bytes, too big to be one recording")
    return data


def _that_open(root: Path, zips: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """The zips below a folder that can be opened, sorted, and what is wrong with the others."""
    opened, closed = [], []
    for archive in sorted(zips):
        try:
            _open_zip(root / archive)
        except RawDataError as error:
            closed.append(str(error))
        else:
            opened.append(archive)
    return opened, tuple(closed)


def _zip_members(root: Path, archive: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """(name, handle) of the members of one zip that fit, in the archive's sorted order."""
    file = root / archive if archive else root
    infos = _open_zip(file).infolist()
    if len(infos) > MAX_MEMBERS:
        raise RawDataError(f"{file}: {len(infos)} members, more than any known dataset has")
    found, total = [], 0
    for info in infos:
        name = _listed_name(pattern, info.filename.rpartition("/")[2])
        if name is None or info.is_dir():
            continue
        handle = archive + _INNER + info.filename
        _check_member(info, _place(root, handle), MAX_TOTAL_BYTES)
        total += info.file_size
        found.append((name, handle))
    if total > MAX_TOTAL_BYTES:
        raise RawDataError(f"{file}: unpacks to {total / 1e9:.0f} GB, more than any known dataset")
    return sorted(found)


def _check_member(info: zipfile.ZipInfo, place: str, limit: int) -> None:
    parts = PurePosixPath(info.filename.replace("\\", "/"))
    if (
        parts.is_absolute()
        or ".." in parts.parts
        or re.match(r"[A-Za-z]:", info.filename)
        or "\0" in info.orig_filename
    ):
        raise RawDataError(f"{place}: the name leads out of the archive; get the archive from its source again")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise RawDataError(f"{place}: a link, not a file")
    if info.flag_bits & 0x1:
        raise RawDataError(f"{place}: encrypted; unpack the archive with its password and point at the folder")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RawDataError(
            f"{place}: packed by method {info.compress_type}, which can't be read here; unpack the archive and point "
            "at the folder"
        )
    if info.file_size > limit:
        raise RawDataError(f"{place}: {info.file_size} bytes unpacked, too big to be one recording")
    if info.file_size > _RATIO_MATTERS_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise RawDataError(f"{place}: unpacks to {info.file_size} from {info.compress_size} bytes; not a recording")


_zips: OrderedDict[tuple[str, int, int, int], zipfile.ZipFile] = OrderedDict()
_zips_lock = threading.Lock()


def _open_zip(file: Path) -> zipfile.ZipFile:
    """An open archive, kept for the next read: listing 57,600 members takes half a second.

    A forked process must not share the file position of its parent, so the process is part of the key.
    """
    try:
        status = file.stat()
        key = (str(file), status.st_mtime_ns, status.st_size, os.getpid())
        with _zips_lock:
            if key not in _zips:
                _zips[key] = zipfile.ZipFile(file)
                while len(_zips) > _OPEN_ZIPS:
                    # Not closed here: another thread may be reading; it closes when nobody holds it.
                    _zips.popitem(last=False)
            _zips.move_to_end(key)
            return _zips[key]
    except (OSError, EOFError, zipfile.BadZipFile, struct.error, NotImplementedError, ValueError) as error:
        hint = _sevenzip_hint(file)
        raise RawDataError(f"{file}: not a readable zip archive or folder{hint or f' ({error})'}") from error


def _split(handle: str) -> tuple[str, str]:
    """Path of the zip below the root ("" for the root itself) and name of the member; no member for a plain file."""
    if handle.startswith(_INNER):
        return "", handle[len(_INNER) :]
    head, found, inner = handle.partition(".zip" + _INNER)
    if not found:
        head, found, inner = handle.partition(".ZIP" + _INNER)
    return (head + found[:4], inner) if found else (handle, "")


def _sevenzip_hint(path: Path) -> str:
    if path.suffix.lower() == ".7z":
        names = [path.name]
    elif path.is_dir():
        names = sorted(name for name in (file_name(p) for p in _walk(path)) if name.lower().endswith(".7z"))
    else:
        names = []
    if not names:
        return ""
    return f"; .7z archives must be unpacked first (7z x {names[0]})"
