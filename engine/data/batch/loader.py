"""Batches of clips over a split: order, repetition, sharing among processes, and preparation ahead of time.

Everything random in a batch follows from (seed, epoch, batch, rank), so a run that goes on after an interruption sees
exactly the batches it would have seen, whatever was prepared ahead when it stopped.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from engine.data.batch.clips import Change, ClipMaker

# Of mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


@dataclass(frozen=True)
class Batch:
    """One batch on the loader's device.

    Parameters
    ----------
    views : tuple of Tensor
        float32 ``(N, 3, T, V, M)`` each: one per clip maker of the loader.
    lengths : tuple of Tensor
        int64 ``(N,)`` each: real frames of every view; all T unless the rule pads.
    labels : Tensor
        int64 ``(N,)``.
    indices : Tensor
        int64 ``(N,)``: sequences of the store.
    items : Tensor
        int64 ``(N,)``: places in the split's index list, for memory banks.
    seed : int
        Seed of this batch, for what the trainer draws itself; see :meth:`generator`.
    """

    views: tuple[Tensor, ...]
    lengths: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor
    items: Tensor
    seed: int

    @property
    def clips(self) -> Tensor:
        """The first view."""
        return self.views[0]

    def __len__(self) -> int:
        return len(self.labels)

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for this batch's own random acts (augmentation, masks); the same on every resume."""
        return torch.Generator(device).manual_seed(self.seed)

    def moved(self, act: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with ``act`` (a copy to a device, pinning) applied to every tensor."""
        views, lengths = (tuple(map(act, tensors)) for tensors in (self.views, self.lengths))
        return Batch(views, lengths, act(self.labels), act(self.indices), act(self.items), self.seed)


class ClipLoader:
    """Iterates once over a split per ``for`` loop; the next loop is the next epoch.

    Parameters
    ----------
    make : ClipMaker or sequence of them
        Several give several independently drawn views of the same sequences.
    indices : numpy.ndarray
        int64 ``(K,)``: sequences of the store.
    batch : int
        Clips per batch and process.
    labels : numpy.ndarray, optional
        int64 ``(K,)``; default the store's.
    shuffle : bool
        A new order every epoch.
    repeat : int
        How often each sequence comes in one epoch (5 for NW-UCLA).
    drop_last : bool
        Leave out the incomplete last batch. With several processes every rank then has equally many batches, which
        synchronised training needs; without it ranks may differ by one batch and nothing is seen twice (evaluation).
    rank, world : int
        This process and how many share the split.
    augment : callable, optional
        ``(clips, generator) -> clips`` on the finished clips of every view, on the processor that makes them.
    device : torch.device or str
        Where batches are delivered.
    prefetch : int, optional
        Batches prepared ahead by a thread; 0 makes them when they are asked for. Default: 3 when clips are made on the
        processor for a GPU (through pinned memory), else 0: one processor gains nothing from a second thread.
    """

    def __init__(
        self,
        make: ClipMaker | Sequence[ClipMaker],
        indices: np.ndarray,
        batch: int,
        *,
        labels: np.ndarray | None = None,
        shuffle: bool = False,
        seed: int = 0,
        repeat: int = 1,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        augment: Change | None = None,
        device: torch.device | str = "cpu",
        prefetch: int | None = None,
    ) -> None:
        self.makers = (make,) if isinstance(make, ClipMaker) else tuple(make)
        if not self.makers or batch < 1 or repeat < 1 or not 0 <= rank < world:
            raise ValueError(
                f"{len(self.makers)} clip makers, batch {batch}, repeat {repeat}, rank {rank} of {world}: "
                "each must be at least 1, and ranks count from 0"
            )
        store = self.makers[0].frames.store
        indices = np.ascontiguousarray(indices, np.int64)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(store):
            raise ValueError(f"an index outside the {len(store)} sequences of {store.name}")
        labels = store.label[indices] if labels is None else np.asarray(labels, np.int64)
        if labels.shape != indices.shape:
            raise ValueError(f"{len(labels)} labels for {len(indices)} sequences")
        self._indices, self._labels = torch.from_numpy(indices), torch.from_numpy(np.ascontiguousarray(labels))
        self.batch, self.shuffle, self.seed, self.repeat = batch, shuffle, seed, repeat
        self.drop_last, self.rank, self.world = drop_last, rank, world
        self.augment, self.device = augment, torch.device(device)
        on_processor = self.makers[0].frames.device.type == "cpu"
        self._pin = on_processor and self.device.type == "cuda"
        self.prefetch = (3 if self._pin else 0) if prefetch is None else prefetch
        if on_processor:
            _keep_freed_memory()
        self.epoch, self._next = 0, 0
        self._workers: list[_Ahead] = []

    def __len__(self) -> int:
        """Batches of this rank in one epoch."""
        whole, rest = divmod(len(self._indices) * self.repeat, self.batch * self.world)
        return whole if self.drop_last else whole + (rest > self.rank)

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands: epoch, and batches of it already handed out."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was taken; raises ``ValueError`` for a state of another seed."""
        if state["seed"] != self.seed:
            raise ValueError(f"the state was made with seed {state['seed']}, this loader has {self.seed}")
        self.epoch, self._next = state["epoch"], state["batch"]

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch."""
        epoch, first = self.epoch, self._next
        order = self._order(epoch)
        made = (self._made(order, epoch, b) for b in range(first, len(self)))
        if not self.prefetch:
            yield from self._handed_out(made)
        else:
            with _Ahead(made, self.prefetch) as ahead:
                self._workers.append(ahead)
                try:
                    yield from self._handed_out(iter(ahead))
                finally:
                    self._workers.remove(ahead)
        self.epoch, self._next = epoch + 1, 0

    def close(self) -> None:
        """End the threads of loops that were left early; they also end by themselves when the loop's iterator goes."""
        for worker in list(self._workers):
            worker.close()

    def _handed_out(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._next += 1
            yield batch.moved(lambda x: x.to(self.device, non_blocking=self._pin))

    def _order(self, epoch: int) -> Tensor:
        """Items of this epoch, of all ranks."""
        count = len(self._indices)
        if not self.shuffle:
            return torch.arange(count).repeat(self.repeat)
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch))
        return torch.randperm(count * self.repeat, generator=generator) % count

    def _made(self, order: Tensor, epoch: int, b: int) -> Batch:
        together = self.batch * self.world
        # All ranks together take the same sequences as a single process with the whole batch.
        items = order[b * together : (b + 1) * together][self.rank :: self.world]
        indices = self._indices[items]
        seed = derived_seed(self.seed, epoch, b, self.rank)
        generator = torch.Generator().manual_seed(seed)
        views, lengths = [], []
        for make in self.makers:
            clips, frames = make.read(indices, generator)
            views.append(clips if self.augment is None else self.augment(clips, generator))
            lengths.append(frames)
        made = Batch(tuple(views), tuple(lengths), self._labels[items], indices, items, derived_seed(seed, 1))
        return made.moved(Tensor.pin_memory) if self._pin else made


def derived_seed(*parts: int) -> int:
    """A 63-bit seed that depends on every part, such as (seed, epoch, batch): splitmix64 over the parts in turn."""
    mask, value = 2**64 - 1, 0
    for part in parts:
        value = (value ^ (part & mask)) + 0x9E3779B97F4A7C15 & mask
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & mask
        value = (value ^ value >> 27) * 0x94D049BB133111EB & mask
        value ^= value >> 31
    return value >> 1


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next batch.

    By default glibc hands large blocks back to the system when they are freed and takes new ones, page by page, for the
    next batch: hundreds of thousands of page faults in a training step of 64 clips, which makes it a sixth slower. The
    process stays as large as it was at its largest.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        # The first for what the system must map after all, in threads with heaps of their own.
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class _Ahead:
    """Runs an iterator in a thread, at most ``size`` items ahead; an error comes out where the item would have."""

    def __init__(self, items: Iterator[Batch], size: int) -> None:
        self._items = items
        self._queue: queue.Queue[Batch | BaseException | None] = queue.Queue(size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clip loader", daemon=True)

    def __enter__(self) -> _Ahead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        while not self._stop.is_set():
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Batch | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def close(self) -> None:
        """Stop, drop what was prepared, and wait for the thread."""
        self._stop.set()
        while self._thread.is_alive() or not self._queue.empty():
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            self._thread.join(0.005)
        # A consumer that waits in another thread must not wait for ever.
        self._queue.put_nowait(None)
