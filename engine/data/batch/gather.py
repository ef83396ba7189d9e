"""Reads clips for a whole batch out of the store's flat body-frames: no loop over clips, no padded arrays.

The store is mapped, not loaded: pages touched are given back as reading goes on, so memory stays flat over an epoch.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engine.data.store import SequenceStore

# What happens between a frame in which a person is there and one in which not; see BodyFrames.gather.
Absent = Literal["blend", "hold"]

# Positions this near to a frame are that frame: rounding must not decide about blending with an absence.
SNAP = 1e-6
# Mapped pages count as resident memory: after about this much has been touched they are given back.
_RELEASE_BYTES = 32 * 1024 * 1024
# The kernel maps the pages around a touched one too; this much per body is what was seen.
_AROUND_BYTES = 96 * 1024


class BodyFrames:
    """The body-frames of a store, read by sequence index and real-valued frame position.

    Parameters
    ----------
    store : SequenceStore
        Stays open as long as this object; rows are read from its map.
    device : torch.device or str, optional
        Load all rows onto this device (NTU-60 in float16: 0.9 GB) and read there, with no transfer per batch.
        Default: read from the mapped file on the processor.
    """

    def __init__(self, store: SequenceStore, device: torch.device | str | None = None) -> None:
        self.store = store
        self.device = torch.device("cpu" if device is None else device)
        self.joints = int(store.rows.shape[1])
        with warnings.catch_warnings():
            # The map is read-only and torch can't know that nobody writes here.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            rows = torch.from_numpy(np.asarray(store.rows)).view(len(store.rows), self.joints * 3)
        self._mapped = device is None
        self._rows = rows if self._mapped else _copied(store, rows, self.device)
        self._first_body, self._bodies = self._table(store.first_body), self._table(store.bodies)
        self._start, self._first = self._table(store.body_start), self._table(store.body_first)
        self._count = self._table(store.body_length)
        self._origin = None if store.origin is None else torch.from_numpy(store.origin).to(self.device)
        self.lengths = torch.from_numpy(np.asarray(store.length, np.int64))
        self._touched = 0

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
        between = bool(weight.any())
        left, weight = left.long(), weight.float()
        whom = torch.cat(clip)
        flat = self._between(torch.cat(body), indices[whom], left[whom], weight[whom], absent, between)
        out = self._laid_out(flat.view(len(whom), -1, self.joints, 3), [len(c) for c in clip], clip, len(indices))
        self._forget(positions, whom)
        return out

    def _choose(self, indices: Tensor, persons: int) -> tuple[list[Tensor], list[Tensor]]:
        """Clip number and body of everybody who has a place, person slot by person slot."""
        first, count = self._first_body[indices], self._bodies[indices]
        clip = [torch.nonzero(count > m).squeeze(1) for m in range(persons)]
        return clip, [first[c] + m for m, c in enumerate(clip)]

    def _between(
        self, body: Tensor, sequence: Tensor, left: Tensor, weight: Tensor, absent: Absent, between: bool
    ) -> Tensor:
        """Rows ``(B * W, V * 3)`` of bodies ``(B,)`` of sequences ``(B,)`` at frames ``left + weight`` ``(B, W)``."""
        watch = self._origin is not None or absent == "hold"
        out, there = self._read(body, left, watch)
        share = there.float() if there is not None else None
        if between:
            # Where the weight is zero the same frame is read twice: the next one may lie outside the body.
            after, there_after = self._read(body, torch.where(weight > 0, left + 1, left), watch)
            if there is not None and there_after is not None:
                if absent == "hold":
                    weight = torch.where(there & ~there_after, 0.0, weight)
                    weight = torch.where(there_after & ~there, 1.0, weight)
                share = torch.lerp(there.float(), there_after.float(), weight)
            out.lerp_(after, weight.reshape(-1, 1))
        if self._origin is not None and share is not None:
            moved = share[..., None] * self._origin[sequence][:, None]
            out.view(-1, self.joints, 3).add_(moved.view(-1, 1, 3))
        return out

    def _read(self, body: Tensor, frame: Tensor, watch: bool) -> tuple[Tensor, Tensor | None]:
        """Rows ``(B * W, V * 3)`` float32, zeros outside a body, and (if watched) who is there, bool ``(B, W)``."""
        row = frame - self._first[body][:, None]
        inside = (row >= 0) & (row < self._count[body][:, None])
        all_inside = bool(inside.all())
        if not all_inside:
            row = torch.where(inside, row, 0)
        row = (row + self._start[body][:, None]).flatten()
        if not all_inside:
            # An empty body at the very end starts behind the last row.
            row = row.clamp(max=len(self._rows) - 1)
        out = self._rows.index_select(0, row).float()
        if not all_inside:
            out[~inside.flatten()] = 0.0
        return out, _present(out).view_as(inside) if watch else None

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

    def _forget(self, positions: Tensor, whom: Tensor) -> None:
        if not self._mapped:
            return
        row = self._rows.element_size() * self._rows.shape[1]
        self._touched += len(whom) * (positions.shape[1] * row + _AROUND_BYTES)
        if self._touched > _RELEASE_BYTES:
            self._touched = 0
            self.store.release()


def _present(rows: Tensor) -> Tensor:
    """bool ``(K,)``: not every number of the row is zero."""
    there = (rows[:, :3] != 0).any(1)
    # The first joint decides nearly always; only rows in which it lies at zero are looked at whole.
    doubtful = torch.nonzero(~there).squeeze(1)
    if len(doubtful):
        there[doubtful] = (rows[doubtful] != 0).any(1)
    return there


def _copied(store: SequenceStore, rows: Tensor, device: torch.device, block: int = 200_000) -> Tensor:
    out = torch.empty(rows.shape, dtype=rows.dtype, device=device)
    for start in range(0, len(rows), block):
        out[start : start + block] = rows[start : start + block]
        store.release()
    return out
