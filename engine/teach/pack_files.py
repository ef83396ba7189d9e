"""What a pack's folder holds and how packs are found and named; :mod:`engine.teach.pack` changes them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine import paths
from engine.teach.takes import PackError, Take, read_take

FORMAT = 1
PACK_FILE = "pack.json"
TAKES, FEATURES, REMOVED = "takes", "features", ".removed"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
_TAKE = re.compile(r"[0-9]{4,6}\.npz")


class ActionInfo(BaseModel):
    """An action: ``id`` names its folder, ``name`` is what the user calls it."""

    model_config = ConfigDict(extra="ignore")

    id: str
    name: str


class PackInfo(BaseModel):
    """Content of ``pack.json``."""

    model_config = ConfigDict(extra="ignore")

    format: int = FORMAT
    name: str
    checkpoint: str = Field("", description="Name of the encoder the pack was last taught on.")
    weights: str = Field("", description="Digest of that encoder's weights.")
    actions: list[ActionInfo] = Field(default_factory=list)
    created: str = ""
    program: str = ""


def clean_name(text: str, what: str = "action") -> str:
    """A name as the user may give it: one line of 1 to 80 characters, spaces in one piece.

    Raises
    ------
    PackError
        Nothing left, too long, or control characters.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > 80 or any(unicodedata.category(c).startswith("C") for c in name):
        raise PackError(f"{text!r} is no name for an {what}: give 1 to 80 letters, digits, spaces or signs")
    return name


def slug(name: str) -> str:
    """A folder name made of a name: small letters, digits and dashes; ``action`` where nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "action"


def read_info(folder: Path, problems: list[str]) -> PackInfo:
    """The pack's names; made anew from the folders where the file is damaged."""
    path = folder / PACK_FILE
    found = sorted(p.name for p in (folder / TAKES).glob("*") if p.is_dir() and _ID.fullmatch(p.name))
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = data.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise PackError(f"{path} has format {version}, made by a newer version of this program; update it")
        info = PackInfo.model_validate(data)
        identities = [action.id for action in info.actions]
        names = [action.name for action in info.actions]
        if not all(map(_ID.fullmatch, identities)) or len(set(identities)) + len(set(names)) != 2 * len(names):
            raise ValueError("actions with the same or impossible names")
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        problems.append(f"{path} is damaged ({reason}); actions are named after their folders")
        info = PackInfo(name=folder.name, actions=[])
        identities = []
    lost = [ActionInfo(id=i, name=i.replace("-", " ")) for i in found if i not in identities]
    names = [action.name for action in info.actions]
    lost = [a if a.name not in names else a.model_copy(update={"name": f"{a.name} ({a.id})"}) for a in lost]
    return info.model_copy(update={"actions": [*info.actions, *lost]})


def read_takes(folder: Path, action: str, problems: list[str]) -> list[Take]:
    takes = []
    for path in sorted(folder.glob("*.npz")):
        if not _TAKE.fullmatch(path.name):
            continue
        try:
            takes.append(read_take(path, action))
        except PackError as error:
            problems.append(str(error))
    return takes


def pack_folder(name: str) -> Path:
    """Where a pack of this name belongs: in the user's folder."""
    return paths.packs() / slug(name)


def pack_name(folder: Path) -> str:
    """What a pack calls itself, without opening its takes; its folder's name where that can't be read."""
    try:
        return PackInfo.model_validate_json((folder / PACK_FILE).read_text("utf-8")).name
    except (OSError, ValueError):
        return folder.name


def new_pack_folder(name: str) -> Path:
    """A free folder in the user's for a new pack of this name; names of other scripts may all lead to the same one.

    Raises
    ------
    PackError
        No name, or a pack is called that already.
    """
    name = clean_name(name, "pack")
    for folder in find_packs():
        if (there := pack_name(folder)).casefold() == name.casefold():
            raise PackError(f"{folder} is a pack called {there!r}; choose another name, or go on with that pack")
    return free_folder(pack_folder(name))


def free_folder(folder: Path) -> Path:
    """The folder itself where there is none, else the next free one: ``NAME-2``, ``NAME-3``, ..."""
    number, found = 2, folder
    while found.exists():
        found, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return found


def find_packs(root: Path | None = None) -> Iterator[Path]:
    """Folders of all packs below ``root`` (default the user's), sorted."""
    root = root or paths.packs()
    if root.is_dir():
        yield from (child for child in sorted(root.iterdir()) if (child / PACK_FILE).is_file())


def find_pack(name: str | Path) -> Path:
    """Folder of a pack given by its path, by what it calls itself, or by its folder's name.

    Raises
    ------
    PackError
        There is none, or several are called that and none lies in the folder of that name; the message lists them.
    """
    if (Path(name) / PACK_FILE).is_file():
        return Path(name)
    wanted, packs = " ".join(unicodedata.normalize("NFC", str(name)).split()), list(find_packs())
    named = [folder for folder in packs if pack_name(folder) == wanted] or [
        folder for folder in packs if pack_name(folder).casefold() == wanted.casefold()
    ]
    if len(named) == 1:
        return named[0]
    # A folder's name stands for its pack; that of another script or with signs only resembles it, and may be another's.
    folder = pack_folder(wanted)
    if folder in (named or packs) and re.sub(r"[\W_]+", "-", wanted.casefold()) == folder.name:
        return folder
    if named:
        told = ", ".join(folder.name for folder in named)
        raise PackError(f"several packs are called {wanted!r}; give the folder of one: {told}")
    known = ", ".join(folder.name for folder in packs) or "none yet"
    raise PackError(f"no pack {str(name)!r}; there are: {known}. Make one: main.py teach new NAME")
