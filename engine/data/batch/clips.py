"""From sequence indices to finished clips: positions, gather, the card's normalisation, layout and stream.

With the evaluation rule the result equals :func:`engine.data.preprocess.preprocess` on every sequence; with a random
rule it is the same thing at other frames.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.data.batch import normalise as card_normalise
from engine.data.batch.gather import SNAP, Absent, BodyFrames
from engine.data.batch.sampling import CentreCrop, Linspace, Repeat, Resize, Rule, Stretch, Window
from engine.data.batch.streams import make_stream, present
from engine.data.preprocess import (
    CENTRE_KEEP,
    NORMALISATIONS,
    NORMALISED,
    Preprocessing,
    landmark_joints,
    normalises_first,
    remaining,
)
from engine.data.store import SequenceStore
from engine.skeleton.convert import convert_layout
from engine.skeleton.layout import get_layout

Change = Callable[[Tensor, torch.Generator], Tensor]


def evaluation_rule(spec: Preprocessing, fps: float) -> Rule:
    """The frames a card's test clip reads: the window in the middle, or what ``sampling`` says."""
    if spec.sampling == "window":
        return Window(spec.frames, spec.window_s, fps)
    if spec.sampling == "centre_crop":
        return CentreCrop(spec.frames, CENTRE_KEEP)
    if spec.sampling == "resize":
        return Resize(spec.frames)
    if spec.sampling == "repeat":
        return Repeat(spec.frames)
    return Linspace(spec.frames) if spec.sampling == "linspace" else Stretch(spec.frames)


def store_normalisation(store: SequenceStore) -> str:
    """Name of the normalisation a store's joints already have, "none" without; header or a meta column says so.

    Raises
    ------
    ValueError
        The sequences of the store are not all normalised in one way.
    """
    if NORMALISED not in store.meta_keys:
        return str(store.header.get("about", {}).get(NORMALISED, "none"))
    names = set(store.column(NORMALISED).tolist())
    if len(names) > 1:
        raise ValueError(f"{store.name}: sequences normalised in different ways ({', '.join(sorted(names))})")
    return str(names.pop()) or "none"


class ClipMaker:
    """Makes the clips of a batch.

    Parameters
    ----------
    frames : BodyFrames
        Where the joints are read.
    spec : Preprocessing
        The card's settings.
    rule : Rule, optional
        Which frames are read; default the card's evaluation rule.
    before : callable, optional
        ``(clips, generator) -> clips``, applied before the card's normalisation (NW-UCLA turns the sequence before
        min-max). Needs a generator.

    Raises
    ------
    ValueError
        The store's joints are normalised in another way than the card wants, or no conversion between the layouts.
    """

    def __init__(
        self, frames: BodyFrames, spec: Preprocessing, rule: Rule | None = None, before: Change | None = None
    ) -> None:
        store = frames.store
        self.frames, self.spec, self.before = frames, spec, before
        self.rule = rule or evaluation_rule(spec, store.fps)
        # Windows never mix a person with an absence; published resizes do.
        self._absent: Absent = "hold" if spec.sampling == "window" else "blend"
        self._todo = remaining(spec, store_normalisation(store), store.name)
        self._matrix: Tensor | None = None
        if store.layout != spec.layout:
            eye = np.eye(get_layout(store.layout).num_joints, dtype=np.float32)
            self._matrix = torch.from_numpy(convert_layout(eye, store.layout, spec.layout)).to(frames.device)
        self._nothing = self._todo.normalisation == "none" and card_normalise.does_nothing(self._todo)

    def __call__(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Clips float32 ``(N, 3, T, V, M)`` of sequences int64 ``(N,)``, on the device of the frames."""
        return self.read(indices, generator)[0]

    def read(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Clips, and how many of their frames are real, int64 ``(N,)``: padding stands behind them."""
        lengths = self.frames.lengths[indices]
        positions = self.rule(lengths, generator)
        if self._centred(indices):
            clips = self._converted(self.frames.gather(indices, positions, self.spec.persons, self._absent))
        elif normalises_first(self.spec) and not (self._nothing and self.before is None):
            clips = self._normalised(self._changed(self._whole(indices), generator), lengths)
            clips = read_frames(clips, positions.to(clips.device), self._absent)
        else:
            clips = self._converted(self.frames.gather(indices, positions, self.spec.persons, self._absent))
            clips = self._normalised(self._changed(clips, generator))
        if self.spec.stream != "joint":
            clips = make_stream(clips, self.spec.stream, get_layout(self.spec.layout))
        return clips, (positions >= 0).sum(1)

    def _centred(self, indices: Tensor) -> bool:
        """Whether all the card wants, the first frame's mid-spine at the origin, is exactly so in the store already.

        The published NTU arrays come that way; reading only the frames of the clip is then several times as fast.
        """
        todo = self._todo
        plain = (todo.centre, todo.scale, todo.facing, todo.normalisation) == ("first", "none", False, "none")
        if not plain or self.before is not None or not normalises_first(self.spec):
            return False
        start = torch.zeros((len(indices), 1), dtype=torch.float64)
        actor = self._converted(self.frames.gather(indices, start, self.spec.persons, self._absent))[:, :, 0, :, 0]
        spine = landmark_joints(get_layout(self.spec.layout))[0]
        # Who is not in the first frame has all zeros there and is measured from a later one.
        return bool((actor[:, :, spine] == 0).all() & (actor != 0).any(2).any(1).all())

    def _whole(self, indices: Tensor) -> Tensor:
        """All frames of the sequences ``(N, 3, longest, V, M)``, zeros behind the shorter ones."""
        lengths = self.frames.lengths[indices]
        grid = torch.arange(int(lengths.max()), dtype=torch.float64)
        positions = torch.where(grid < lengths[:, None], grid, -1.0)
        return self._converted(self.frames.gather(indices, positions, self.spec.persons, self._absent))

    def _converted(self, clips: Tensor) -> Tensor:
        if self._matrix is None:
            return clips
        return torch.einsum("uv,nctvm->nctum", self._matrix, clips).contiguous()

    def _changed(self, clips: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.before is None:
            return clips
        if generator is None:
            raise ValueError("a random change needs a torch.Generator")
        return self.before(clips, generator)

    def _normalised(self, clips: Tensor, lengths: Tensor | None = None) -> Tensor:
        if self._nothing:
            return clips
        if self._todo.normalisation == "none":
            return card_normalise.normalise(clips, self._todo)
        # A paper's own function takes one sequence at a time; a store of that variant saves this loop.
        function = NORMALISATIONS[self._todo.normalisation]
        arrays = clips.permute(0, 2, 4, 3, 1).contiguous().cpu().numpy()
        for i, xyz in enumerate(arrays):
            used = len(xyz) if lengths is None else int(lengths[i])
            xyz[:used] = function(xyz[:used].copy())
        return torch.from_numpy(arrays).permute(0, 4, 1, 3, 2).contiguous().to(clips.device)


def read_frames(clips: Tensor, positions: Tensor, absent: Absent = "blend") -> Tensor:
    """Read clips ``(N, C, T, V, M)`` at positions ``(N, W)``: ``(N, C, W, V, M)``, zeros where a position is negative.

    Between frames the result is linear; ``absent`` is as in :meth:`BodyFrames.gather`.
    """
    n, c, _, v, m = clips.shape
    left = (positions + SNAP).floor()
    weight = positions - left
    weight = torch.where((weight < SNAP) | (left < 0), 0.0, weight).float()
    index = left.clamp(0, clips.shape[2] - 1).long()

    def read(frames: Tensor) -> Tensor:
        return clips.gather(2, frames[:, None, :, None, None].expand(n, c, -1, v, m))

    out = read(index)
    if weight.any():
        after = read(torch.where(weight > 0, index + 1, index).clamp(max=clips.shape[2] - 1))
        share = weight[..., None].expand(-1, -1, m)
        if absent == "hold":
            there, there_after = present(out), present(after)
            share = torch.where(there & ~there_after, 0.0, share)
            share = torch.where(there_after & ~there, 1.0, share)
        out = torch.lerp(out, after, share[:, None, :, None, :])
    if (left < 0).any():
        out = out.masked_fill((left < 0)[:, None, :, None, None], 0.0)
    return out
