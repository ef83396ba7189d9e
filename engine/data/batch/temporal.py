"""Changes of time on whole batches: crops, reversal, blur, dropped frames.

Clips are ``(N, C, T, V, M)``; ``lengths`` ``(N,)`` says how many leading frames are real where the rest is padding.
Which frames a crop reads is :mod:`.sampling`'s matter; here they are read from clips that are already a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from engine.data.batch.draws import below, choose, listed

# Lengths int64 ``(N,)`` -> frame positions float64 ``(N, frames)``, below zero for padding; see :mod:`.sampling`.
Positions = Callable[[Tensor, torch.Generator | None], Tensor]

# Numbers an intermediate result may hold on the processor: fresh memory of tens of megabytes costs more than the work.
_BLOCK = 2**19

# Reading frames ------------------------------------------------------------------------------------------------------


def take_frames(clips: Tensor, index: Tensor) -> Tensor:
    """Frame ``t`` of clip ``n`` of the result is frame ``index[n, t]`` of clip ``n``.

    Parameters
    ----------
    clips : Tensor
        ``(N, C, T, V, M)``.
    index : Tensor
        int64 ``(N, T')``, each in ``0..T-1``.
    """
    n, c, t, v, m = clips.shape
    first = torch.arange(n * c, device=clips.device).view(n, c, 1) * t
    rows = (first + index.to(clips.device)[:, None]).flatten()
    return clips.reshape(n * c * t, v * m).index_select(0, rows).view(n, c, -1, v, m)


def blocks(clips: Tensor) -> Iterator[slice]:
    """Parts of the batch whose intermediate results stay in a processor's cache; elsewhere the whole batch."""
    n = len(clips)
    size = max(1, _BLOCK * n // max(clips.numel(), 1)) if clips.device.type == "cpu" else max(n, 1)
    return (slice(start, start + size) for start in range(0, n, size))


def read_at(clips: Tensor, positions: Tensor) -> Tensor:
    """Linear reading between frames at fractional frame positions ``(N, T')``; below 0 and beyond T-1 the edge holds.

    Written as ``a + w (b - a)``: two equal neighbours give exactly their value, so that what stands still keeps a
    displacement of exactly zero.
    """
    last = clips.shape[2] - 1
    # Where the positions are: float64 need not exist on the clips' device.
    positions = positions.clamp(0, last)
    left = positions.floor().long()
    right = (left + 1).clamp_(max=last)
    weight = (positions - left).to(clips.dtype).to(clips.device)[:, None, :, None, None]
    n, c, _, v, m = clips.shape
    out = clips.new_empty((n, c, positions.shape[1], v, m))
    for part in blocks(out):
        before = take_frames(clips[part], left[part])
        torch.sub(take_frames(clips[part], right[part]), before, out=out[part])
        out[part].mul_(weight[part]).add_(before)
    return out


# Crops ---------------------------------------------------------------------------------------------------------------


def crop(
    clips: Tensor, lengths: Tensor, rule: Positions, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Read padded clips by one of the rules of :mod:`.sampling`: crop and resize, stretch, sorted copies, ...

    Parameters
    ----------
    clips : Tensor
        ``(N, C, T, V, M)``.
    lengths : Tensor
        int64 ``(N,)``, real frames; a clip without any counts as one frame of zeros.
    rule : callable
        Random rules draw on the processor; a generator elsewhere seeds the one they draw from.

    Returns
    -------
    clips : Tensor
        ``(N, C, frames of the rule, V, M)``, zeros where the rule asks for padding.
    lengths : Tensor
        int64 ``(N,)``: frames the rule filled.
    """
    if generator is not None and generator.device.type != "cpu":
        seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
        generator = torch.Generator().manual_seed(int(seed))
    positions = rule(lengths.cpu().clamp(min=1), generator)
    out = read_at(clips, positions)
    filled = positions >= 0
    if not bool(filled.all()):
        out *= filled.to(clips.device)[:, None, :, None, None]
    return out, filled.sum(1).to(clips.device)


def draw_mirror_crop(
    count: int, frames: int, ratio: int, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Start of HiCLR's crop, uniform on ``{0, ..., 2 floor(frames / ratio)}``, int64 ``(N,)`` (hiclr.md 4.2)."""
    starts = torch.full((count,), 2 * (frames // ratio) + 1, device=device or generator.device)
    return below(starts, generator)


def mirror_crop_frames(start: Tensor, frames: int, ratio: int) -> Tensor:
    """Frames read by HiCLR's crop, int64 ``(N, frames)``.

    The clip is lengthened at both ends by ``floor(frames / ratio)`` reversed frames with the edge repeated; from
    ``start`` on, ``frames`` of them are taken.
    """
    at = start[:, None] + torch.arange(frames, device=start.device) - frames // ratio
    at = torch.where(at < 0, -1 - at, at)
    return torch.where(at >= frames, 2 * frames - 1 - at, at)


# Reversal, padding ---------------------------------------------------------------------------------------------------


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """bool ``(N, frames)``: the frame is real, not padding."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def all_frames(clips: Tensor, lengths: Tensor | None) -> Tensor:
    """The lengths as they are, or that of the whole tensor where none are given: int64 ``(N,)`` on the processor."""
    return torch.full((len(clips),), clips.shape[2]) if lengths is None else lengths


def reverse(clips: Tensor, flags: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Play the flagged clips backwards; padding stays behind (hiclr.md 4.3 row 6, off by default there)."""
    n, frames = len(clips), clips.shape[2]
    plain = torch.arange(frames, device=clips.device).expand(n, -1)
    last = plain.new_full((n, 1), frames - 1) if lengths is None else lengths.to(clips.device)[:, None] - 1
    backwards = torch.where(plain <= last, last - plain, plain)
    return take_frames(clips, torch.where(flags.to(clips.device)[:, None], backwards, plain))


# Blur ----------------------------------------------------------------------------------------------------------------


def blur_kernel(sigma: Tensor, taps: int = 15, normalised: bool = False) -> Tensor:
    """Gaussian weights ``exp(-k^2 / (2 sigma^2))``, ``(N, taps)``.

    As published they are not normalised: the blur multiplies a signal by up to 5 (hiclr.md 4.3 row 4, 9.2 row 3).

    Raises
    ------
    ValueError
        An even number of taps.
    """
    if taps % 2 == 0:
        raise ValueError(f"a blur needs an odd number of taps, not {taps}")
    k = torch.arange(taps, device=sigma.device, dtype=sigma.dtype) - taps // 2
    weights = torch.exp(-(k**2) / (2 * sigma[:, None] ** 2))
    return weights / weights.sum(1, keepdim=True) if normalised else weights


def blur(clips: Tensor, kernels: Tensor, flags: Tensor | None = None) -> Tensor:
    """Convolve the flagged clips along time with their own symmetric kernel ``(N, taps)``, zeros beyond the ends."""
    flags = torch.ones(len(clips), dtype=torch.bool, device=clips.device) if flags is None else flags.to(clips.device)
    chosen = listed(flags)
    kernels = kernels.to(clips)
    if chosen is None:
        return torch.where(flags.view(-1, 1, 1, 1, 1), _blurred(clips, kernels), clips)
    out = clips.clone()
    out[chosen] = _blurred(clips[chosen], kernels[chosen])
    return out


def _blurred(clips: Tensor, kernels: Tensor) -> Tensor:
    # One multiply-add per tap: as fast here as a product with a (T, T) matrix, and always in full precision.
    weights = kernels.view(*kernels.shape, 1, 1, 1, 1).unbind(1)
    middle = len(weights) // 2
    out = clips * weights[middle]
    for k in range(1, min(middle, clips.shape[2] - 1) + 1):
        out[:, :, k:].addcmul_(clips[:, :, :-k], weights[middle - k])
        out[:, :, :-k].addcmul_(clips[:, :, k:], weights[middle + k])
    return out


# Dropped frames ------------------------------------------------------------------------------------------------------


def draw_frame_drop(
    count: int, frames: int, dropped: int, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """bool ``(N, frames)`` with exactly ``dropped`` True per clip, for :func:`engine.data.batch.joints.replace`."""
    return choose((count,), frames, dropped, generator, device)
