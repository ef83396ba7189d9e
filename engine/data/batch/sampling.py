"""Which frames a clip reads: the crop rules of the papers, each for a whole batch at once.

A rule turns sequence lengths ``(N,)`` into real-valued frame positions ``(N, frames)``; :mod:`.gather` reads between
frames where a position is not a whole number. A position below zero asks for no frame at all (padding).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

PADDING = -1.0


class Rule(Protocol):
    """Lengths int64 ``(N,)`` -> positions float64 ``(N, frames)``; random only through the generator."""

    @property
    def frames(self) -> int: ...

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor: ...


def half_pixel(start: Tensor, length: Tensor, frames: int) -> Tensor:
    """Positions ``(N, frames)`` of a linear resize of frames ``start .. start + length - 1``.

    Output i reads ``(i + 0.5) * length / frames - 0.5``, held at both ends of the crop (datasets.md, section 2.1).
    """
    grid = torch.arange(frames, dtype=torch.float64) + 0.5
    inside = grid * (length.double() / frames)[:, None] - 0.5
    # The crop's own last frame holds, not the sequence's: what was cut off is never blended in.
    return start.double()[:, None] + torch.minimum(inside.clamp_(min=0.0), (length.double() - 1)[:, None])


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    if generator is None:
        raise ValueError("this crop rule is random: give it a torch.Generator")
    return torch.rand(shape, dtype=torch.float64, generator=generator)


def _whole(uniform: Tensor, count: Tensor) -> Tensor:
    """Uniform whole numbers (float64) in ``0 .. count - 1``."""
    return torch.minimum((uniform * count).floor(), (count - 1).double())


@dataclass(frozen=True)
class RandomCrop:
    """A random part of the sequence, resized: CTR-GCN (skeletongcl.md, 1.4) and CMD (i2md.md, 1.3; ``low=0.1``).

    ``p ~ U(low, high)``; ``L = min(max(floor(p * length), at_least), length)``; the start is uniform.
    """

    frames: int = 64
    low: float = 0.5
    high: float = 1.0
    at_least: int = 64

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        uniform = _uniform((len(lengths), 2), generator)
        part = self.low + (self.high - self.low) * uniform[:, 0]
        length = torch.minimum((part * lengths).floor().clamp(min=self.at_least), lengths.double())
        return half_pixel(_whole(uniform[:, 1], lengths - length + 1), length, self.frames)


@dataclass(frozen=True)
class CentreCrop:
    """The middle of the sequence, resized: the papers' test input.

    ``trunc((1 - keep) * length / 2)`` frames go at each end (datasets.md, section 2.1).
    """

    frames: int = 64
    keep: float = 0.95

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        cut = ((1 - self.keep) * lengths.double() / 2).floor()
        return half_pixel(cut, lengths - 2 * cut, self.frames)


@dataclass(frozen=True)
class Resize:
    """The whole sequence, resized: HiCLR's 50 frames (datasets.md, 2.3, step 4)."""

    frames: int = 50

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return half_pixel(torch.zeros_like(lengths), lengths, self.frames)


@dataclass(frozen=True)
class MirrorCrop:
    """HiCLR's temporal crop (hiclr.md, 4.2): the resized sequence, mirrored beyond its ends, shifted at random.

    ``pad = frames // ratio`` frames are mirrored at each end with the edge repeated; the start is uniform over the
    ``2 * pad + 1`` places, the length stays. Sequences of another length are resized to ``frames`` first.
    """

    frames: int = 50
    ratio: int = 6

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        pad = self.frames // self.ratio
        shift = _whole(_uniform((len(lengths),), generator), torch.tensor(2 * pad + 1)).long() - pad
        index = torch.arange(self.frames) + shift[:, None]
        index = torch.where(index < 0, -1 - index, index)
        index = torch.where(index >= self.frames, 2 * self.frames - 1 - index, index)
        return half_pixel(torch.zeros_like(lengths), lengths, self.frames).gather(1, index)


@dataclass(frozen=True)
class Stretch:
    """GL-Transformer's frames (gl_transformer.md, 1.5 and 1.6): no resampling to a length, padding behind the end.

    With ``stretch`` above zero the sequence is first resized to ``max(1, floor(T * (1 +- stretch * u)))`` frames.
    """

    frames: int = 300
    stretch: float = 0.0

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        length = lengths.clamp(max=self.frames).double()
        longer = length
        if self.stretch:
            uniform = _uniform((len(lengths), 2), generator)
            sign = torch.where(uniform[:, 0] < 0.5, -1.0, 1.0)
            longer = (length * (1 + sign * self.stretch * uniform[:, 1])).floor().clamp(min=1)
        grid = torch.arange(self.frames, dtype=torch.float64)
        at = (grid + 0.5) * (length / longer)[:, None] - 0.5
        at = torch.minimum(at.clamp(min=0.0), (length - 1)[:, None])
        return torch.where(grid < longer[:, None], at, PADDING)


@dataclass(frozen=True)
class Repeat:
    """The sequence as it is, from its start again until the clip is full: 2s-AGCN (skeletongcl.md, section 1.3)."""

    frames: int = 300

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (torch.arange(self.frames) % lengths[:, None]).double()


@dataclass(frozen=True)
class SortedCopies:
    """NW-UCLA training (datasets.md, 4.4, step 4): ``frames`` of ``copies`` copies of every frame, sorted."""

    frames: int = 52
    copies: int = 100

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.frames > self.copies * int(lengths.min()):
            raise ValueError(f"{self.frames} frames can't be drawn from {self.copies} copies of a single frame")
        uniform = _uniform((len(lengths), self.frames), generator)
        # Floyd's way of drawing without replacement: one step per frame of the clip, all clips at once.
        chosen = torch.empty((len(lengths), self.frames), dtype=torch.float64)
        for i in range(self.frames):
            last = lengths * self.copies - self.frames + i
            drawn = _whole(uniform[:, i], last + 1)
            taken = (chosen[:, :i] == drawn[:, None]).any(1)
            chosen[:, i] = torch.where(taken, last.double(), drawn)
        return (chosen.sort(1).values / self.copies).floor()


@dataclass(frozen=True)
class Linspace:
    """NW-UCLA test (datasets.md, 4.4): ``trunc(linspace(0, length - 1, frames))``."""

    frames: int = 52

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        steps = (lengths - 1).double() / (self.frames - 1)
        # The same guard as in preprocess.resample: a frame reached but for rounding counts as reached.
        at = (torch.arange(self.frames, dtype=torch.float64) * steps[:, None] + 1e-6).floor()
        return torch.minimum(at, (lengths - 1).double()[:, None])


@dataclass(frozen=True)
class Window:
    """A window in seconds at the store's rate, as the live path sees it; the edges are held.

    Without a generator the window's middle is the sequence's. ``cut`` moves the window by up to this part of itself,
    ``speed`` stretches time by a factor uniform in ``1 - speed .. 1 + speed``.
    """

    frames: int
    window_s: float
    fps: float
    cut: float = 0.0
    speed: float = 0.0

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        last = (lengths - 1).double() / self.fps
        factor = torch.ones_like(last)
        moved = torch.zeros_like(last)
        if self.cut or self.speed:
            uniform = _uniform((len(lengths), 2), generator) * 2 - 1
            factor, moved = 1 + self.speed * uniform[:, 0], self.cut * self.window_s * uniform[:, 1]
        end = (last * factor + self.window_s) / 2 + moved
        grid = torch.arange(self.frames, dtype=torch.float64) * (self.window_s / (self.frames - 1))
        at = (end[:, None] - self.window_s + grid) / factor[:, None] * self.fps
        return torch.minimum(at.clamp(min=0.0), (lengths - 1).double()[:, None])


@dataclass(frozen=True)
class Segments:
    """One frame from each of ``frames`` equal segments (PYSKL's uniform sampling); short sequences go round.

    Random with a generator: below ``frames`` a random start, up to twice ``frames`` randomly placed single skips,
    else a random frame of every segment. Without: start 0, and the middle of every segment.
    """

    frames: int = 100

    def __call__(self, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        count, w = len(lengths), self.frames
        grid = torch.arange(w)
        long = lengths[:, None]
        low = grid * long // w
        size = (grid + 1) * long // w - low
        if generator is None:
            return torch.where(long < w, grid % long, ((2 * grid + 1) * long) // (2 * w)).double()
        uniform = _uniform((count, w + 1), generator)
        going_round = (_whole(uniform[:, 0], lengths).long()[:, None] + grid) % long
        # length - w of the w + 1 gaps (before, between, behind) skip one frame.
        skips = (uniform.argsort(1).argsort(1) < long - w).long().cumsum(1)[:, :w]
        in_segment = low + _whole(uniform[:, 1:], size).long()
        chosen = torch.where(long < 2 * w, grid + skips, in_segment)
        return torch.where(long < w, going_round, chosen).double()


RULES: dict[str, Callable[..., Rule]] = {
    "random_crop": RandomCrop,
    "centre_crop": CentreCrop,
    "resize": Resize,
    "mirror_crop": MirrorCrop,
    "stretch": Stretch,
    "repeat": Repeat,
    "sorted_copies": SortedCopies,
    "linspace": Linspace,
    "window": Window,
    "segments": Segments,
}
