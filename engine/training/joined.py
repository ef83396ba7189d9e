"""Unlabelled clips of one store or of several joined: what pretraining sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.data.batch import Batch, ClipLoader, ClipMaker
from engine.data.batch.loader import derived_seed
from engine.data.store import SequenceStore

UNLABELLED = -1


@dataclass(frozen=True)
class Part:
    """A store and the positions int64 ``(K,)`` of its sequences that may be learnt from."""

    store: SequenceStore
    indices: np.ndarray


class JoinedLoader(ClipLoader):
    """Shuffles the sequences of several stores together; the clips of a batch come from all of them.

    Labels are :data:`UNLABELLED` throughout: whoever looks at them learns nothing. ``indices`` of a batch are positions
    in each sequence's own store, ``items`` count through all parts in their order.

    Parameters
    ----------
    makers : sequence of sequence of ClipMaker
        For every part its views; equally many, on one device.
    parts : sequence of numpy.ndarray
        For every part the positions int64 ``(K,)`` in its store.
    batch : int
        Clips per batch and process.
    options
        As :class:`ClipLoader` takes them, without labels and augment.
    """

    def __init__(
        self, makers: Sequence[Sequence[ClipMaker]], parts: Sequence[np.ndarray], batch: int, **options: object
    ) -> None:
        if len({len(views) for views in makers}) != 1 or len(makers) != len(parts):
            raise ValueError("every part needs makers of its own, equally many views each")
        unlabelled = np.full(len(parts[0]), UNLABELLED)
        super().__init__(makers[0], parts[0], batch, labels=unlabelled, **options)  # type: ignore[arg-type]
        self._parts = [tuple(views) for views in makers]
        self._which = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])
        self._indices = torch.from_numpy(np.concatenate([np.asarray(part, np.int64) for part in parts]))
        self._labels = torch.full((len(self._indices),), UNLABELLED)

    def _made(self, order: Tensor, epoch: int, b: int) -> Batch:
        if len(self._parts) == 1:
            return super()._made(order, epoch, b)
        together = self.batch * self.world
        items = order[b * together : (b + 1) * together][self.rank :: self.world]
        indices, which = self._indices[items], self._which[items]
        seed = derived_seed(self.seed, epoch, b, self.rank)
        generator = torch.Generator().manual_seed(seed)
        rows = [(which == i).nonzero().flatten() for i in range(len(self._parts))]
        order_back = torch.cat(rows).argsort()
        views, lengths = [], []
        for view in range(len(self.makers)):
            read = [
                makers[view].read(indices[at], generator)
                for makers, at in zip(self._parts, rows, strict=True)
                if len(at)
            ]
            views.append(torch.cat([clips for clips, _ in read])[order_back.to(read[0][0].device)])
            lengths.append(torch.cat([frames for _, frames in read])[order_back])
        made = Batch(tuple(views), tuple(lengths), self._labels[items], indices, items, derived_seed(seed, 1))
        return made.moved(Tensor.pin_memory) if self._pin else made
