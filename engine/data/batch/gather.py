"""Reads clips for a whole batch out of the store's flat body-frames: no padded arrays, nothing held in memory.

Each body's stretch of rows is read into one block, and frames are picked out of the block for all clips at once.
Plain reads and not the store's map: a page mapped for one clip costs more to map and give back than to copy.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from engine.data.store import SequenceStore

# What happens between a frame in which a person is there and one in which not; see BodyFrames.gather.
Absent = Literal["blend", "hold"]

# Positions this near to a frame are that frame: rounding must not decide about blending with an absence.
SNAP = 1e-6
_COPY_ROWS = 200_000


class BodyFrames:
    """The body-frames of a store, read by sequence index and real-valued frame position.

    Parameters
    ----------
    store : SequenceStore
        Its index is used; rows are read from its file.
    device : torch.device or str, optional
        Load all rows onto this device (NTU-60 in float16: 0.9 GB) and read there, with no transfer per batch.
        Default: read from the file, on the processor.
    """

    def __init__(self, store: SequenceStore, device: torch.device | str | None = None) -> None:
        self.store = store
        self.device = torch.device("cpu" if device is None else device)
        self.joints = int(store.rows.shape[1])
        self._dtype = torch.float16 if store.rows.dtype == np.float16 else torch.float32
        self._file = _RowFile(store)
        self._rows = None if device is None else self._loaded(len(store.rows))
        self._first_body, self._bodies = self._table(store.first_body), self._table(store.bodies)
        self._start, self._first = self._table(store.body_start), self._table(store.body_first)
        self._count = self._table(store.body_length)
        self._origin = None if store.origin is None else torch.from_numpy(store.origin).to(self.device)
        self.lengths = torch.from_numpy(np.asarray(store.length, np.int64))
        self._scratch = threading.local()

    def _loaded(self, rows: int) -> Tensor:
        out = torch.empty((rows, self.joints * 3), dtype=self._dtype, device=self.device)
        for start in range(0, rows, _COPY_ROWS):
            block = torch.empty((min(_COPY_ROWS, rows - start), self.joints * 3), dtype=self._dtype)
            self._file.read([start], [len(block)], block)
            out[start : start + len(block)] = block
        return out

    def _table(self, column: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(column, np.int64)).to(self.device)

    def gather(self, indices: Tensor, positions: Tensor, persons: int = 2, absent: Absent = "blend") -> Tensor:
        """Read clips.

        Parameters
        ----------
        indices : Tensor
            int64 ``(N,)``: sequences of the store.
        positions : Tensor
            float64 ``(N, W)``: frames of each sequence; between two frames the clip is linear between them. Positions
            below zero or beyond the sequence give zeros.
        persons : int
            Person slots of the clips; further bodies are left out, absent ones are zeros.
        absent : {"blend", "hold"}
            Next to a frame without the person: blend goes linearly towards zeros, as the published resize does
            (datasets.md, section 2.1); hold keeps the frame in which the person is there, as
            :func:`engine.data.preprocess.resample` does for windows.

        Returns
        -------
        Tensor
            float32 ``(N, 3, W, V, M)``, contiguous, on the device.
        """
        indices, positions = indices.to(self.device), positions.to(self.device)
        clip, body = self._choose(indices, persons)
        left = positions.floor()
        weight = positions - left
        left = torch.where(weight > 1 - SNAP, left + 1, left)
        weight = torch.where((weight < SNAP) | (weight > 1 - SNAP), 0.0, weight)
        whom = torch.cat(clip)
        flat = self._between(torch.cat(body), indices[whom], left.long()[whom], weight.float()[whom], absent)
        return self._laid_out(flat.view(len(whom), -1, self.joints, 3), [len(c) for c in clip], clip, len(indices))

    def _choose(self, indices: Tensor, persons: int) -> tuple[list[Tensor], list[Tensor]]:
        """Clip number and body of everybody who has a place, person slot by person slot."""
        first, count = self._first_body[indices], self._bodies[indices]
        clip = [torch.nonzero(count > m).squeeze(1) for m in range(persons)]
        return clip, [first[c] + m for m, c in enumerate(clip)]

    def _between(self, body: Tensor, sequence: Tensor, left: Tensor, weight: Tensor, absent: Absent) -> Tensor:
        """Rows ``(B * W, V * 3)`` of bodies ``(B,)`` of sequences ``(B,)`` at frames ``left + weight`` ``(B, W)``."""
        row = left - self._first[body][:, None]
        # Where the weight is zero the same frame stands twice: the next one may lie outside the body.
        pair = torch.stack((row, row + (weight > 0)), -1)
        count = self._count[body]
        begin, end = pair[..., 0].clamp(min=0).amin(1), torch.minimum(pair[..., 1].amax(1) + 1, count)
        block, base = self._block(body, sequence, begin, end)
        inside = (pair >= 0) & (pair < count[:, None, None])
        index = torch.where(inside, pair + base[:, None, None], 0)
        if absent == "hold":
            there = inside & _present(block)[index]
            weight = torch.where(there[..., 0] & ~there[..., 1], 0.0, weight)
            weight = torch.where(there[..., 1] & ~there[..., 0], 1.0, weight)
        weights = torch.stack((1 - weight, weight), -1) * inside
        # The weighted sum of two rows for every frame, in one pass over the block.
        return embedding_bag(index.view(-1, 2), block, per_sample_weights=weights.view(-1, 2), mode="sum")

    def _block(self, body: Tensor, sequence: Tensor, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``begin .. end - 1`` of every body, one after the other, and where row 0 of each body would be.

        float32 in camera coordinates; in this thread's scratch memory until the next call.
        """
        size = (end - begin).clamp(min=0)
        before = size.cumsum(0) - size
        total = int(size.sum())
        block = self._memory(max(total, 1), torch.float32, 0)
        if total == 0:
            return block.zero_(), before - begin
        start = self._start[body] + begin
        if self._rows is not None:
            place = torch.arange(total, device=self.device)
            block.copy_(self._rows.index_select(0, place + torch.repeat_interleave(start - before, size)))
        elif self._dtype == torch.float32:
            self._file.read(start.tolist(), size.tolist(), block)
        else:
            read = self._memory(total, self._dtype, 1)
            self._file.read(start.tolist(), size.tolist(), read)
            block.copy_(read)
        if self._origin is not None:
            # Spelt out for every joint: the innermost axis is then long enough to be added quickly.
            origin = self._origin[sequence].repeat(1, self.joints).repeat_interleave(size, 0)
            block.addcmul_(_present(block).float()[:, None], origin)
        return block, before - begin

    def _memory(self, rows: int, dtype: torch.dtype, place: int) -> Tensor:
        """Scratch that is kept: the system hands new memory out page by page, which costs more than filling it."""
        kept: dict[int, Tensor] = vars(self._scratch).setdefault("kept", {})
        if place not in kept or len(kept[place]) < rows:
            kept[place] = torch.empty((rows + rows // 4, self.joints * 3), dtype=dtype, device=self.device)
        return kept[place][:rows]

    def _laid_out(self, flat: Tensor, counts: list[int], clip: list[Tensor], clips: int) -> Tensor:
        """Bodies ``(B, W, V, 3)`` into their places of ``(N, 3, W, V, M)``."""
        width = flat.shape[1]
        shape = (clips, 3, width, self.joints, len(counts))
        whole = all(count == clips for count in counts)
        out = flat.new_empty(shape) if whole else flat.new_zeros(shape)
        for m, block in enumerate(flat.split(counts)):
            block = block.permute(0, 3, 1, 2)
            if counts[m] == clips:
                out[..., m] = block
            elif counts[m]:
                out[clip[m], :, :, :, m] = block
        return out


class _RowFile:
    """Reads stretches of rows from the store's file."""

    def __init__(self, store: SequenceStore) -> None:
        rows = store.rows
        if not isinstance(rows, np.memmap) or rows.filename is None:
            raise TypeError(f"the rows of {store.name} are not a mapped file")
        self._offset, self._row_bytes = int(rows.offset), int(rows.strides[0])
        self._descriptor = os.open(rows.filename, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, starts: list[int], sizes: list[int], into: Tensor) -> None:
        """Read ``sizes[i]`` rows from row ``starts[i]`` on, one stretch behind the other, into contiguous memory.

        Raises
        ------
        OSError
            The file can't be read, or has become shorter.
        """
        memory, place = into.numpy().data.cast("B"), 0
        for start, size in zip(starts, sizes, strict=True):
            end = place + size * self._row_bytes
            offset = self._offset + start * self._row_bytes
            while place < end:
                got = self._read_at(memory[place:end], offset)
                if got == 0:
                    raise OSError("the file of a store's rows has become shorter; prepare it again")
                place, offset = place + got, offset + got

    def _read_at(self, memory: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, (memory,), offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            data = os.read(self._descriptor, len(memory))
        memory[: len(data)] = data
        return len(data)


def _present(rows: Tensor) -> Tensor:
    """bool ``(K,)``: not every number of the row is zero."""
    there = (rows[:, :3] != 0).any(1)
    # The first joint decides nearly always; only rows in which it lies at zero are looked at whole.
    doubtful = torch.nonzero(~there).squeeze(1)
    if len(doubtful):
        there[doubtful] = (rows[doubtful] != 0).any(1)
    return there
