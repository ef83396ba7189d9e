"""What SkeletonGCL remembers between steps: banks of unit vectors with their labels, and one prototype per class.

All of it is in buffers, so it is saved with the objective and a resumed run goes on as if nothing had happened.
Vectors are written without gradient, in the order of the rows handed in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def earlier_of_same(labels: Tensor) -> Tensor:
    """How many rows above each row carry its label, int64 ``(N,)``."""
    return (labels.unsqueeze(1) == labels).tril(-1).sum(1)


class Bank(nn.Module):
    """Rows of unit vectors with a fixed label each.

    Attributes
    ----------
    vectors : Tensor
        ``(R, D)``, zeros where nothing was written.
    labels : Tensor
        int64 ``(R,)``.
    filled : Tensor
        bool ``(R,)``.
    """

    vectors: Tensor
    labels: Tensor
    filled: Tensor

    def __init__(self, labels: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(len(labels), width))
        self.register_buffer("labels", labels.to(torch.int64).clone())
        self.register_buffer("filled", torch.zeros(len(labels), dtype=torch.bool))

    def write(self, rows: Tensor, vectors: Tensor) -> None:
        """Put ``vectors`` ``(N, D)`` at ``rows`` ``(N,)``; of several for one row the last one stays."""
        last = ~(rows.unsqueeze(1) == rows).triu(1).any(1)
        self.vectors[rows[last]] = vectors[last].detach().to(self.vectors.dtype)
        self.filled[rows] = True

    def remember(self, vectors: Tensor, labels: Tensor, samples: Tensor) -> None:
        """Take in the vectors ``(N, D)`` of a batch with their labels and sample numbers, both int64 ``(N,)``."""
        raise NotImplementedError

    def per_class(self, classes: int) -> Tensor:
        """Filled rows of every class, int64 ``(K,)``."""
        spare = torch.full_like(self.labels, classes)
        return torch.where(self.filled, self.labels, spare).bincount(minlength=classes + 1)[:classes]


class SampleBank(Bank):
    """One row per training sample (skeletongcl.md, section 3.3, variant R).

    Parameters
    ----------
    labels : Tensor
        int64 ``(R,)``: label of every sample number the loader can hand out; a set that is repeated within an epoch
        gives every repeat numbers of its own.
    """

    def remember(self, vectors: Tensor, labels: Tensor, samples: Tensor) -> None:
        """As the base class.

        Raises
        ------
        ValueError
            A sample number beyond the bank, or one whose label is not what the bank was built with.
        """
        if bool(((samples < 0) | (samples >= len(self.labels))).any()):
            raise ValueError(f"sample numbers reach {int(samples.max())}, the bank has {len(self.labels)} rows")
        if not torch.equal(self.labels[samples], labels):
            raise ValueError("labels of the batch differ from those the bank was built with; number samples alike")
        self.write(samples, vectors)


class ClassQueues(Bank):
    """A queue of ``length`` vectors per class, the oldest leaving first (skeletongcl.md, section 3.3, variant P)."""

    pointers: Tensor

    def __init__(self, classes: int, length: int, width: int) -> None:
        super().__init__(torch.arange(classes).repeat_interleave(length), width)
        self.length = length
        self.register_buffer("pointers", torch.zeros(classes, dtype=torch.int64))

    def remember(self, vectors: Tensor, labels: Tensor, samples: Tensor) -> None:
        """As the base class; sample numbers play no part."""
        place = (self.pointers[labels] + earlier_of_same(labels)) % self.length
        self.write(labels * self.length + place, vectors)
        arrived = labels.bincount(minlength=len(self.pointers))
        self.pointers.copy_((self.pointers + arrived) % self.length)


class Prototypes(nn.Module):
    """One vector per class, ``m <- momentum m + (1 - momentum) v`` for every sample of the class.

    The samples of a batch are taken one after the other, in batch order; the paper leaves that open. Prototypes start
    at zero, are kept as the update leaves them and normalised when read (skeletongcl.md, sections 3.3 and 7).
    """

    vectors: Tensor
    seen: Tensor

    def __init__(self, classes: int, width: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("vectors", torch.zeros(classes, width))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    def remember(self, vectors: Tensor, labels: Tensor) -> None:
        """Take in the vectors ``(N, D)`` of a batch with labels int64 ``(N,)``."""
        members = functional.one_hot(labels, len(self.seen)).to(self.vectors.dtype)
        counts = members.sum(0)
        # A sample's share fades once for every later sample of its class.
        later = counts[labels] - 1 - earlier_of_same(labels)
        shares = members * ((1 - self.momentum) * self.momentum**later).unsqueeze(1)
        faded = self.vectors * (self.momentum**counts).unsqueeze(1)
        self.vectors.copy_(faded + shares.T @ vectors.detach().to(faded.dtype))
        self.seen |= counts > 0

    def directions(self) -> Tensor:
        """Unit vectors ``(K, D)``; zeros for classes not seen yet."""
        return functional.normalize(self.vectors, dim=1)
