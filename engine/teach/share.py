"""Packs as one .zip file to give away, and opening a file that somebody else made without trusting it."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path

from engine import paths
from engine.teach.pack import ClassPack, PackError
from engine.teach.pack_files import FORMAT, PACK_FILE, TAKES, free_folder, slug

MAX_MEMBERS = 20_000
MAX_FILE_BYTES = 32 << 20
MAX_BYTES = 1 << 30
_BLOCK = 1 << 20
_MEMBER = re.compile(r"pack\.json|takes/[a-z0-9][a-z0-9-]{0,47}/[0-9]{4,6}\.npz")


def write_zip(pack: ClassPack, out: Path) -> Path:
    """Write a pack as a .zip: names and takes, without what encoders made of them and without what was removed.

    Raises
    ------
    PackError
        Another ending than .zip.
    """
    out = Path(out)
    if out.suffix.lower() != ".zip":
        raise PackError(f"{out}: packs are written as .zip")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".writing")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(pack.folder / PACK_FILE, PACK_FILE)
            for take in pack.takes(sign=None):
                archive.write(take.path, f"{TAKES}/{take.path.parent.name}/{take.path.name}")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def read_zip(path: Path, folder: Path | None = None) -> ClassPack:
    """Unpack a .zip into a new folder and open the pack.

    Nothing is written outside the folder, and only names a pack can have: other files of the archive are left out. What
    is in the takes is checked when the pack is opened; nothing is ever unpickled or run.

    Parameters
    ----------
    folder : Path, optional
        New folder; default one in the user's, named as the file.

    Raises
    ------
    PackError
        No archive or no pack, damaged, too large, made by a newer version, with paths that lead outside, or the folder
        is there already.
    """
    path = Path(path)
    target = folder or free_folder(paths.packs() / slug(path.stem))
    if target.exists():
        raise PackError(f"{target} is there already; choose another folder")
    writing = target.with_name(f".{target.name}.{os.getpid()}.unpacking")
    shutil.rmtree(writing, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            _extract(archive, path, writing)
        opened = ClassPack.open(writing)  # a newer format is refused before anything stands in its place
        if not opened.actions:
            raise PackError(f"{path} is a pack without actions")
        target.parent.mkdir(parents=True, exist_ok=True)
        writing.rename(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise PackError(f"{path} is damaged or no .zip file ({error})") from error
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return ClassPack.open(target)


def _extract(archive: zipfile.ZipFile, path: Path, target: Path) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise PackError(f"{path} holds {len(members)} files; a pack has at most {MAX_MEMBERS}")
    wanted: dict[str, zipfile.ZipInfo] = {}
    for info in members:
        name = info.filename
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            raise PackError(f"{path} is refused: {name!r} would be written outside the pack")
        if info.external_attr >> 16 & 0o170000 == 0o120000:
            raise PackError(f"{path} is refused: {name!r} is a link")
        if _MEMBER.fullmatch(name):
            wanted[name] = info
    if PACK_FILE not in wanted:
        raise PackError(f"{path} is no pack of actions (it holds no {PACK_FILE}; format {FORMAT} is expected)")
    # What the directory says may be a lie: bytes are counted while they come.
    total = 0
    for name, info in wanted.items():
        out = target / name
        out.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with archive.open(info) as source, out.open("wb") as sink:
            while block := source.read(_BLOCK):
                size, total = size + len(block), total + len(block)
                if size > MAX_FILE_BYTES or total > MAX_BYTES:
                    raise PackError(
                        f"{path} is refused: unpacked it is larger than {MAX_BYTES >> 20} MiB, or {name} larger than "
                        f"{MAX_FILE_BYTES >> 20} MiB"
                    )
                sink.write(block)
