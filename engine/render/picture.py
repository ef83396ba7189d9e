"""One look at a recording: some of its moments side by side in a PNG, so that a person can see what the numbers are."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from engine.render.actor import Actor
from engine.render.appearance import Appearance
from engine.render.camera import fit_camera, place
from engine.render.scene import Room
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence


def moments(sequence: SkeletonSequence, count: int = 8, width: int = 240, height: int = 320) -> np.ndarray:
    """Equally spaced frames in which somebody is there, side by side.

    Parameters
    ----------
    sequence : SkeletonSequence
        Any layout that can be converted to NTU-25.
    count : int
        Pictures at most.

    Returns
    -------
    numpy.ndarray
        uint8 RGB ``(height, pictures * width, 3)``.

    Raises
    ------
    ValueError
        Nobody is there in any frame.
    """
    joints = convert_layout(sequence.xyz.astype(np.float64), sequence.layout, "ntu25")
    joints[~np.any(sequence.xyz != 0, axis=(2, 3))] = 0.0
    seen = np.flatnonzero(np.any(joints != 0, axis=(1, 2, 3)))
    if not len(seen):
        raise ValueError(f"{sequence.name}: nobody is there in any frame")
    joints = place(joints)
    camera = fit_camera(joints, width, height)
    room = Room.under(joints)
    actor = Actor([Appearance(), Appearance.random(1)], supersample=2)
    chosen = seen[np.unique(np.linspace(0, len(seen) - 1, min(count, len(seen))).round().astype(int))]
    return np.concatenate([actor.render(joints[t], camera, room) for t in chosen], axis=1)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB ``(height, width, 3)`` as PNG (ISO/IEC 15948): eight bits, unfiltered rows.

    Raises
    ------
    ValueError
        Another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture of {image.shape} {image.dtype}, expected (height, width, 3) uint8")
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = image.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
