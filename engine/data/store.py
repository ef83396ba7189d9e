"""The store: every body-frame of a dataset in one flat memory-mapped array, with an index of sequences and bodies.

One store serves all splits (splits are index arrays, never copies) and opens in milliseconds whatever its size: only
the index is read, names and meta columns when they are asked for, joints page by page.
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bodies import ABSENT_SLOT, BodyTrack, RawSequence
from engine.data.store_files import (
    ABSENT_INT,
    BODY_COLUMNS,
    BODY_ID_FILE,
    META_PREFIX,
    NAMES_FILE,
    ORIGIN_FILE,
    ROWS_FILE,
    SEQUENCE_COLUMNS,
    SLOT_FILE,
    TRACKING_FILE,
    StoreError,
    damaged_files,
    decode_text,
    read_header,
    swap_in,
)
from engine.data.store_writer import StoreWriter
from engine.skeleton.layout import get_layout
from engine.skeleton.sequence import SkeletonSequence

__all__ = ["SequenceStore", "StoreError", "StoreWriter", "write_store"]

# Pages touched through the map count as resident memory; they are given back after this much.
RELEASE_BYTES = 96 * 1024 * 1024
# What one access may map beyond the rows it asked for (the kernel maps neighbouring pages too).
_AROUND_BYTES = 128 * 1024


class SequenceStore:
    """Read access to a prepared store.

    Sequence ``i`` has the bodies ``first_body[i] ... first_body[i] + bodies[i] - 1``; body ``b`` is there from frame
    ``body_first[b]`` of its sequence on, for ``body_length[b]`` frames, in the rows from ``body_start[b]`` on. A row of
    zeros is a frame without the body; a body of length 0 is an absent person.

    Attributes
    ----------
    rows : numpy.memmap
        ``(R, V, 3)``, metres. float32, or float16 relative to ``origin`` (rows of zeros stay zeros).
    length, label, first_body, bodies : numpy.ndarray
        int64 ``(N,)``: frames, class (-1 unknown), first body, number of bodies of each sequence.
    body_start, body_first, body_length : numpy.ndarray
        int64 ``(B,)``.
    origin : numpy.ndarray or None
        float32 ``(N, 3)``, added to the rows of a float16 store.
    slot, tracking : numpy.memmap or None
        uint8 ``(R,)`` and ``(R, V)``, only in stores of raw bodies.
    header : dict
        Everything in ``store.json``: how the store was made, what was missing or damaged, checksums.

    Raises
    ------
    StoreError
        No store, one of an older format, or a damaged one; the message says what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.header: dict[str, Any] = read_header(self.folder)
        try:
            self.name: str = self.header["name"]
            self.variant: str = self.header["variant"]
            self.layout: str = self.header["layout"]
            self.fps = float(self.header["fps"])
            self.classes: list[str] = list(self.header["classes"])
            self.meta_keys: tuple[str, ...] = tuple(self.header["meta"])
            files = self.header["files"]
            self.length, self.label, self.first_body, self.bodies = map(self._column, SEQUENCE_COLUMNS)
            self.body_start, self.body_first, self.body_length = map(self._column, BODY_COLUMNS)
            self.rows = self._map(ROWS_FILE)
            self.slot = self._map(SLOT_FILE) if SLOT_FILE in files else None
            self.tracking = self._map(TRACKING_FILE) if TRACKING_FILE in files else None
            self.origin = self._load(ORIGIN_FILE) if ORIGIN_FILE in files else None
            self._check()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the store in {self.folder} is damaged ({error}); prepare it again") from error
        self._touched = 0

    def _load(self, file: str) -> np.ndarray:
        array: np.ndarray = np.load(self.folder / file, allow_pickle=False)
        return array

    def _column(self, name: str) -> np.ndarray:
        return self._load(f"{name}.npy").astype(np.int64, copy=False)

    def _map(self, file: str) -> np.ndarray:
        array: np.ndarray = np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
        return array

    def _check(self) -> None:
        sequences, bodies, rows = len(self.length), len(self.body_start), len(self.rows)
        joints = get_layout(self.layout).num_joints
        fits = (
            self.rows.shape[1:] == (joints, 3)
            and self.rows.dtype in (np.float32, np.float16)
            and all(column.shape == (sequences,) for column in (self.label, self.first_body, self.bodies))
            and all(column.shape == (bodies,) for column in (self.body_first, self.body_length))
            and (self.slot is None or self.slot.shape == (rows,))
            and (self.tracking is None or self.tracking.shape == (rows, joints))
            and (self.origin is None) == (self.rows.dtype == np.float32)
            and (self.origin is None or self.origin.shape == (sequences, 3))
            and np.array_equal(self.first_body, np.cumsum(self.bodies) - self.bodies)
            and int(self.bodies.sum()) == bodies
            and np.array_equal(self.body_start, np.cumsum(self.body_length) - self.body_length)
            and int(self.body_length.sum()) == rows
            and bool((self.body_first >= 0).all())
            and bool((self.body_first + self.body_length <= np.repeat(self.length, self.bodies)).all())
        )
        if not fits:
            raise StoreError(
                f"the store in {self.folder} is damaged: its index does not fit its rows; prepare it again"
            )

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def body_sequence(self) -> np.ndarray:
        """int64 ``(B,)``: the sequence of each body."""
        return np.repeat(np.arange(len(self)), self.bodies)

    @cached_property
    def _name_bytes(self) -> np.ndarray:
        return self._load(NAMES_FILE)

    @cached_property
    def names(self) -> list[str]:
        """Names of all sequences in storage order."""
        return [text.decode("utf-8") for text in self._name_bytes.tolist()]

    @cached_property
    def _meta(self) -> dict[str, np.ndarray]:
        return {key: self._load(f"{META_PREFIX}{key}.npy") for key in self.meta_keys}

    @cached_property
    def _normalised(self) -> dict[str, int | str]:
        """What the sequences of a normalised variant say about themselves, so that they are not normalised twice."""
        done = self.header.get("about", {}).get("normalised", "none")
        return {} if done == "none" else {"normalised": str(done)}

    @cached_property
    def _body_ids(self) -> np.ndarray | None:
        return self._load(BODY_ID_FILE) if BODY_ID_FILE in self.header["files"] else None

    def column(self, key: str) -> np.ndarray:
        """A meta column: int64 ``(N,)`` (``ABSENT_INT`` where a sequence lacks it) or texts ("" where it lacks it).

        Raises
        ------
        StoreError
            The set has no such column; the message lists those it has.
        """
        if key not in self.meta_keys:
            raise StoreError(f"{self.name} has no column {key!r}; it has {', '.join(self.meta_keys) or 'none'}")
        values = self._meta[key]
        if values.dtype.kind != "S":
            return values
        return np.array([decode_text(text) or "" for text in values.tolist()])

    def meta(self, i: int) -> dict[str, int | str]:
        """Meta values of sequence ``i``."""
        found: dict[str, int | str] = {}
        for key, values in self._meta.items():
            value = decode_text(values[i]) if values.dtype.kind == "S" else int(values[i])
            if value is not None and value != ABSENT_INT:
                found[key] = value
        return found

    def body(self, b: int) -> np.ndarray:
        """float32 ``(body_length[b], V, 3)``, a copy in camera coordinates."""
        start, count = int(self.body_start[b]), int(self.body_length[b])
        xyz = np.array(self.rows[start : start + count], np.float32)
        if self.origin is not None:
            xyz[np.any(xyz != 0, axis=(1, 2))] += self.origin[self.body_sequence[b]]
        self._touched += count * self.rows.strides[0] + _AROUND_BYTES
        if self._touched > RELEASE_BYTES:
            self.release()
        return xyz

    def sequence(self, i: int) -> SkeletonSequence:
        """Sequence ``i`` as written: ``(T, M, V, 3)``, zeros where absent; its times start at zero."""
        i = range(len(self))[i]
        first, frames = int(self.first_body[i]), int(self.length[i])
        xyz = np.zeros((frames, int(self.bodies[i]), *self.rows.shape[1:]), np.float32)
        for m in range(xyz.shape[1]):
            begin = int(self.body_first[first + m])
            xyz[begin : begin + int(self.body_length[first + m]), m] = self.body(first + m)
        return SkeletonSequence(
            xyz,
            np.arange(frames) / self.fps,
            self.layout,
            name=self._name_bytes[i].decode("utf-8"),
            label=int(self.label[i]),
            meta=self.meta(i) | self._normalised,
        )

    def raw(self, i: int) -> RawSequence:
        """Sequence ``i`` as its bodies: ids, slots and tracking states where the store keeps them."""
        i = range(len(self))[i]
        tracks = []
        for m in range(int(self.bodies[i])):
            b = int(self.first_body[i]) + m
            rows = slice(int(self.body_start[b]), int(self.body_start[b] + self.body_length[b]))
            if rows.stop == rows.start:
                continue
            xyz = self.body(b)
            if self.slot is None:
                slot = np.where(np.any(xyz != 0, axis=(1, 2)), m, ABSENT_SLOT).astype(np.uint8)
            else:
                slot = np.array(self.slot[rows])
            tracking = None if self.tracking is None else np.array(self.tracking[rows])
            if tracking is not None and (tracking == ABSENT_SLOT).all():
                tracking = None
            identity = m if self._body_ids is None else int(self._body_ids[b])
            tracks.append(BodyTrack(identity, int(self.body_first[b]), xyz, slot, tracking))
        name = self._name_bytes[i].decode("utf-8")
        return RawSequence(
            name, int(self.label[i]), int(self.length[i]), tuple(tracks), self.fps, self.layout, self.meta(i)
        )

    def release(self) -> None:
        """Give the pages touched so far back, so that walking through a big store needs little memory.

        What the kernel keeps in its file cache is not lost; arrays handed out by :meth:`body`, :meth:`sequence` and
        :meth:`raw` are copies and stay valid, views of ``rows`` are read again from the file.
        """
        self._touched = 0
        for array in (self.rows, self.slot, self.tracking):
            pages = getattr(array, "_mmap", None)
            if pages is not None and hasattr(pages, "madvise"):
                pages.madvise(mmap.MADV_DONTNEED)

    def indices_of(self, names: Iterable[str]) -> np.ndarray:
        """Positions of all sequences with one of these names, in storage order; a name may stand here several times."""
        wanted = set(names)
        return np.array([i for i, name in enumerate(self.names) if name in wanted], np.int64)

    def without_classes(self, names: Iterable[str]) -> SequenceStore:
        """The same store as if it had not these classes: the others are counted anew, sequences of these get label -1.

        Raises
        ------
        StoreError
            A name is no class of the set.
        """
        left_out = set(names)
        if unknown := sorted(left_out - set(self.classes)):
            raise StoreError(f"{self.name} has no class {unknown[0]!r}")
        view = copy.copy(self)
        view.classes = [name for name in self.classes if name not in left_out]
        numbers = np.array([view.classes.index(n) if n not in left_out else -1 for n in self.classes] + [-1])
        view.label = numbers[self.label]
        return view

    def damaged_files(self, listen: Callable[[int, int], None] | None = None) -> list[str]:
        """Files whose content is not what was written (checksums; reads the whole store, ``listen`` is told bytes)."""
        return damaged_files(self.folder, listen)


def open_cleaned(folder: Path) -> SequenceStore:
    """A store to train or test on; raises :class:`StoreError` for one of raw bodies, or as :class:`SequenceStore`."""
    store = SequenceStore(folder)
    if store.slot is not None:
        raise StoreError(
            f"{store.name} holds every body the sensor reported, before it was decided who acts; "
            f"take {store.name.removesuffix('.raw')}"
        )
    return store


def write_store(
    folder: Path,
    name: str,
    sequences: Iterable[SkeletonSequence | RawSequence],
    classes: Sequence[str],
    fps: float,
    progress: Callable[[int], None] | None = None,
    half: bool = False,
    variant: str = "",
    about: dict[str, Any] | None = None,
) -> SequenceStore:
    """Write sequences (all of one layout) into a new store and open it; it appears only when it is complete.

    Parameters
    ----------
    sequences : iterable of SkeletonSequence or RawSequence
        Raw ones keep ids, slots and tracking states.
    progress : callable, optional
        Called with the number written so far.
    half, variant, about
        See :class:`StoreWriter` and its :meth:`StoreWriter.close`.

    Raises
    ------
    StoreError
        Nothing to write, or a sequence that does not fit.
    """
    folder = Path(folder)
    writer = StoreWriter(folder.with_name(folder.name + ".writing"), classes, half)
    try:
        for count, sequence in enumerate(sequences):
            writer.append(sequence)
            if progress:
                progress(count + 1)
        writer.close(name, fps, variant, about)
        swap_in(writer.folder, folder)
    except BaseException:
        writer.abort()
        raise
    return SequenceStore(folder)
