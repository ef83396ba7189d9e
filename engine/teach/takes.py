"""One take: a recorded performance of a taught action as joints with times, and the file it is kept in. No pictures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.data.bodies import RawDataError
from engine.data.safe_load import load_npz
from engine.live.errors import LiveError
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence

MAX_FRAMES = 20_000
MAX_TAKE_BYTES = 32 << 20
# Less of a person than this shows no action.
LEAST_S = 0.3

Sign = Literal[1, -1]


class PackError(LiveError):
    """A pack or a take can't be read or changed; the text names the file and says what to do."""


class TakeAbout(BaseModel):
    """What is known of a take besides its joints; kept in the same file. Times in seconds of the sequence's clock."""

    model_config = ConfigDict(extra="ignore")

    format: int = 1
    start: float
    end: float
    sign: Sign = Field(1, description="1: this is the action; -1: this is not it, however alike it looks.")
    source: str = ""
    recorded: str = ""


@dataclass(frozen=True, eq=False)
class Take:
    """A performance of one action (``sign`` 1), or of something that was wrongly taken for it (-1).

    ``sequence`` is NTU-25 in metres, Kinect camera axes, as the live path delivers it; the one who acts is person 0.
    ``start`` and ``end`` are the trim, seconds of the sequence's clock. ``number`` counts within the action.
    """

    action: str
    number: int
    sequence: SkeletonSequence
    start: float
    end: float
    sign: Sign = 1
    source: str = ""
    recorded: str = ""
    path: Path = Path()

    @property
    def seconds(self) -> float:
        """Length after trimming."""
        return self.end - self.start

    def trimmed(self) -> SkeletonSequence:
        """The sequence from ``start`` to ``end``."""
        times = self.sequence.times
        keep = (times >= self.start - 1e-6) & (times <= self.end + 1e-6)
        confidence = None if self.sequence.confidence is None else self.sequence.confidence[keep]
        return replace(self.sequence, xyz=self.sequence.xyz[keep], times=times[keep], confidence=confidence)

    def digest(self) -> str:
        """16 hexadecimal digits that change with joints, times or trim: what its features depend on."""
        cut = self.trimmed()
        digest = hashlib.sha256(cut.xyz.tobytes())
        digest.update((cut.times - cut.times[0]).tobytes())
        return digest.hexdigest()[:16]


def checked_sequence(sequence: SkeletonSequence) -> SkeletonSequence:
    """A sequence as a take may hold it: NTU-25, finite, somebody in it; its times begin at zero.

    Raises
    ------
    PackError
        Too short, too long, nobody in it, or a layout without a way to NTU-25.
    """
    name = sequence.name or "the take"
    if not len(sequence) or not np.isfinite(sequence.xyz).all() or not np.isfinite(sequence.times).all():
        raise PackError(f"{name}: no frames, or coordinates that are not numbers")
    if len(sequence) > MAX_FRAMES:
        raise PackError(f"{name}: {len(sequence)} frames, at most {MAX_FRAMES} are kept; record the action alone")
    if sequence.duration < LEAST_S:
        raise PackError(f"{name}: {sequence.duration:.1f} s are too short for an action; at least {LEAST_S} s")
    try:
        xyz = convert_layout(sequence.xyz, sequence.layout, "ntu25")
    except (KeyError, ValueError) as error:
        raise PackError(f"{name}: joints in the layout {sequence.layout} can't be brought to NTU-25") from error
    if not xyz[:, 0].any():
        raise PackError(f"{name}: nobody is in it")
    same = sequence.confidence is not None and sequence.layout == "ntu25"
    times = sequence.times - sequence.times[0]
    return SkeletonSequence(xyz, times, "ntu25", sequence.confidence if same else None, sequence.name)


def write_take(path: Path, sequence: SkeletonSequence, about: TakeAbout, new: bool) -> None:
    """Write a take's file; it appears whole or not at all. ``new`` raises ``FileExistsError`` where there is one."""
    arrays = {
        "xyz": sequence.xyz,
        "times": sequence.times,
        "about": np.frombuffer(about.model_dump_json().encode(), np.uint8),
    }
    if sequence.confidence is not None:
        arrays["confidence"] = sequence.confidence.astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        if new and path.exists():
            raise FileExistsError(path)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_take(path: Path, action: str) -> Take:
    """Read a take's file.

    Raises
    ------
    PackError
        Damaged, too large, made by a newer version, or no take.
    """
    try:
        if path.stat().st_size > MAX_TAKE_BYTES:
            raise PackError(f"{path}: {path.stat().st_size >> 20} MiB are too large for a take")
        arrays = {name: np.array(array) for name, array in load_npz(path, MAX_TAKE_BYTES).items()}
        about = TakeAbout.model_validate(json.loads(arrays["about"].tobytes()))
        if about.format > 1:
            raise PackError(f"{path} was made by a newer version of this program")
        sequence = SkeletonSequence(
            arrays["xyz"], arrays["times"], "ntu25", arrays.get("confidence"), name=f"{action} {path.stem}"
        )
        sequence = checked_sequence(sequence)
    except (OSError, RawDataError, KeyError, ValueError, TypeError, ValidationError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PackError(f"{path} is damaged or no take: {first}") from error
    start, end = usable_trim(sequence, about.start, about.end)
    number = int(path.stem) if path.stem.isdigit() else 0
    return Take(action, number, sequence, start, end, about.sign, about.source, about.recorded, path)


def usable_trim(sequence: SkeletonSequence, start: float, end: float) -> tuple[float, float]:
    """A trim inside the sequence, at least :data:`LEAST_S` long; the whole sequence where the wish makes no sense."""
    first, last = float(sequence.times[0]), float(sequence.times[-1])
    if not np.isfinite([start, end]).all():
        return first, last
    start, end = max(first, start), min(last, end)
    return (start, end) if end - start >= LEAST_S - 1e-6 else (first, last)
