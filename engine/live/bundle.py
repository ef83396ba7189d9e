"""Finds the pose model file: ``full`` ships with the project, ``lite`` and ``heavy`` are fetched once, when asked for.

A fetched file is used only when its sha256 is a known one, and it appears under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from engine import paths
from engine.live.errors import LiveError

Variant = Literal["lite", "full", "heavy"]
VARIANTS: tuple[str, ...] = get_args(Variant)
ADDRESS = (
    "https://storage.googleapis.com/mediapipe-models/pose_landmarker/"
    "pose_landmarker_{variant}/float16/1/pose_landmarker_{variant}.task"
)
# Google publishes no digests; these are the ones many projects have pinned independently for revision 1. Two packings
# of lite, of the same networks and the same length, are in circulation.
SHA256: dict[str, tuple[str, ...]] = {
    "lite": (
        "59929e1d1ee95287735ddd833b19cf4ac46d29bc7afddbbf6753c459690d574a",
        "6dd03aa00c8c453c58d3da829bff03f0b8782b463c55ebb0bb9107765ae4b625",
    ),
    "heavy": ("64437af838a65d18e5ba7a0d39b465540069bc8aae8308de3e318aad31fcbc7b",),
}
TIMEOUT_S = 20.0
_CHUNK = 1 << 18

Progress = Callable[[int, int | None], None]


class BundleError(LiveError):
    """The pose model file can't be had; the text says what to do."""


def pose_bundle(variant: str = "full", progress: Progress | None = None, *, address: str = ADDRESS) -> Path:
    """Path of a pose model bundle, fetching it first where necessary.

    Parameters
    ----------
    variant : str
        ``lite`` (fast), ``full`` (ships with the project) or ``heavy`` (slow, most exact).
    progress : callable, optional
        Called while fetching with (bytes so far, bytes in all or None).
    address : str
        Where to fetch from; ``{variant}`` is filled in.

    Raises
    ------
    BundleError
        Unknown variant, shipped file missing, no network, or a file with another sha256 than the known ones.
    """
    if variant not in VARIANTS:
        raise BundleError(f"unknown pose model {variant!r}; there are {', '.join(VARIANTS)}")
    if variant == "full":
        if not paths.POSE_BUNDLE.is_file():
            raise BundleError(
                f"the pose model that ships with the program is missing: {paths.POSE_BUNDLE}. Restore it from the "
                "project or build it with `python assets/build_pose_bundle.py`."
            )
        return paths.POSE_BUNDLE
    target = paths.pose_models() / f"pose_landmarker_{variant}.task"
    damaged = ""
    if target.is_file():
        if _sha256(target) in SHA256[variant]:
            return target
        damaged = f" The file that lies there now is damaged or another version ({target.stat().st_size} bytes)."
    source = address.format(variant=variant)
    by_hand = (
        f"To install it by hand, download {source} with a browser and put it into {target.parent} as {target.name}, "
        f"or stay with the pose model 'full', which needs no download.{damaged}"
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(source, target, SHA256[variant], progress)
    except _WrongFile as error:
        raise BundleError(f"the pose model '{variant}' from {source} was not accepted: {error}. {by_hand}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise BundleError(f"the pose model '{variant}' can't be fetched from {source} ({reason}). {by_hand}") from error
    return target


class _WrongFile(Exception):
    """What came over the network is not the file that was asked for."""


def _fetch(source: str, target: Path, digests: tuple[str, ...], progress: Progress | None) -> None:
    """Download to a temporary name beside ``target``, check, then rename: a half file never has the real name."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name + ".", suffix=".part")
    try:
        digest = hashlib.sha256()
        with (
            os.fdopen(handle, "wb") as part,
            urllib.request.urlopen(source, timeout=TIMEOUT_S) as response,
        ):
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            done = 0
            while chunk := response.read(_CHUNK):
                part.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
        if total is not None and done != total:
            raise _WrongFile(f"the download stopped after {done} of {total} bytes; try again")
        if digest.hexdigest() not in digests:
            raise _WrongFile(f"its sha256 is {digest.hexdigest()}, expected {' or '.join(digests)}")
        os.replace(name, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
