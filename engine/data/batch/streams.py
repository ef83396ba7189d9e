"""Joint, bone and motion streams of whole batches, with the boundary rule of each paper.

The four papers share one rule (``"published"``): bone = child minus parent with a zero root, motion = forward
difference with a last frame of zeros. ``"present"`` removes the jump that a plain difference makes where a person
comes, goes, or the padding begins. InfoGCN's streams, which are not bones, have a function of their own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engine.data.preprocess import Stream
from engine.skeleton.layout import Layout

MotionRule = Literal["published", "present"]


def take_joints(clips: Tensor, index: Tensor) -> Tensor:
    """Joint ``v`` of the result is joint ``index[v]`` of the clips.

    Parameters
    ----------
    clips : Tensor
        ``(N, C, T, V, M)``.
    index : Tensor
        int64 ``(V',)`` for all clips or ``(N, V')`` for each its own.

    Returns
    -------
    Tensor
        ``(N, C, T, V', M)``.
    """
    n, c, t, v, m = clips.shape
    persons = torch.arange(m, device=clips.device)
    flat = (index.to(clips.device)[..., None] * m + persons).flatten(-2)
    # A gather along the innermost axis is twice as fast as selecting rows of one or two numbers.
    flat = flat.expand(n, -1)[:, None].expand(n, c * t, -1)
    return clips.reshape(n, c * t, v * m).gather(2, flat).view(n, c, t, -1, m)


def bone(clips: Tensor, layout: Layout) -> Tensor:
    """Child minus parent ``(N, C, T, V, M)``; zero at the root (all four papers; skeletongcl.md, 1.4 step 5)."""
    _check_joints(clips, layout)
    return clips - take_joints(clips, torch.tensor(layout.parents))


def motion(clips: Tensor, rule: MotionRule = "published") -> Tensor:
    """Forward difference ``x[t+1] - x[t]``; the last frame is zero.

    Parameters
    ----------
    clips : Tensor
        ``(N, C, T, V, M)``.
    rule : {"published", "present"}
        published: the plain difference, which jumps by the whole position where a person appears, vanishes, or zero
        padding begins (hiclr.md 1.4, i2md.md 1.4, skeletongcl.md 1.4 step 6). present: zero there.
    """
    moved = torch.zeros_like(clips)
    torch.sub(clips[:, :, 1:], clips[:, :, :-1], out=moved[:, :, :-1])
    if rule == "present":
        seen = present(clips)
        moved[:, :, :-1] *= (seen[:, 1:] & seen[:, :-1])[:, None, :, None]
    return moved


def present(clips: Tensor) -> Tensor:
    """bool ``(N, T, M)``: the person is in the frame, i.e. not every coordinate is exactly zero."""
    return (clips != 0).any(3).any(1)


def make_stream(clips: Tensor, stream: Stream, layout: Layout, rule: MotionRule = "published") -> Tensor:
    """Joint, bone, joint motion or bone motion of clips ``(N, C, T, V, M)``.

    With the published rule this equals :func:`engine.data.preprocess.make_stream` bit for bit. For bone motion the
    rule looks at who is present in the joints.
    """
    if stream == "joint":
        return clips
    if stream == "joint_motion":
        return motion(clips, rule)
    bones = bone(clips, layout)
    if stream == "bone":
        return bones
    return motion(bones, rule)


def infogcn_offsets(clips: Tensor, order: int, layout: Layout, published: bool = True) -> Tensor:
    """InfoGCN's k-th order representation ``x - P^k x``: every joint relative to its k-th ancestor.

    Joints without such an ancestor keep their coordinates, so the root is not zeroed; a large order gives plain joints
    (skeletongcl.md, 2.4). NTU's tree hangs from SpineMid here, not from SpineShoulder.

    Parameters
    ----------
    clips : Tensor
        ``(N, C, T, V, M)`` in ``ntu25`` or ``kinect20``.
    order : int
        k, at least 1; 0 (the original program's own default) would make everything zero.
    published : bool
        The released NW-UCLA edge list runs the wrong way, which makes the first order "parent minus the sum of its
        children" (skeletongcl.md, 7, trap 22). True reproduces it, False uses ancestors. No effect on ``ntu25``.

    Raises
    ------
    ValueError
        Order below 1, or a layout InfoGCN was not published for.
    """
    if order < 1:
        raise ValueError(f"order {order}: the first order is 1 (order 0 would zero every joint)")
    _check_joints(clips, layout)
    table = infogcn_ancestors(layout, published, order)
    rows = [np.flatnonzero(row).tolist() for row in table]
    out = clips.clone()
    for i in range(max(map(len, rows))):
        # One gather for the i-th ancestor of every joint; a matrix product could lose digits to TF32.
        index = torch.tensor([row[i] if len(row) > i else 0 for row in rows])
        has = torch.tensor([len(row) > i for row in rows], device=clips.device)
        out -= take_joints(clips, index) * has[:, None]
    return out


@lru_cache(maxsize=32)
def infogcn_ancestors(layout: Layout, published: bool = True, order: int = 1) -> np.ndarray:
    """float32 ``(V, V)``, ``[child, k-th ancestor] = 1``; with the released direction for NW-UCLA if asked for."""
    if layout.name not in ("ntu25", "kinect20"):
        raise ValueError(f"InfoGCN's tree is known for ntu25 and kinect20, not for {layout.name!r}")
    step = np.zeros((layout.num_joints, layout.num_joints), np.float32)
    for child, parent in layout.bones:
        step[child, parent] = 1.0
    if layout.name == "ntu25":
        # Hung from SpineMid (1): only the edge between it and SpineShoulder (20) turns round.
        step[1, 20], step[20, 1] = 0.0, 1.0
    elif published:
        step = step.T
    return np.linalg.matrix_power(step, order)


def _check_joints(clips: Tensor, layout: Layout) -> None:
    if clips.shape[3] != layout.num_joints:
        raise ValueError(f"clips have {clips.shape[3]} joints, layout {layout.name} has {layout.num_joints}")
