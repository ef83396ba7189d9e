"""From tracked bodies to one or two actors: our own default, and what each public pipeline did.

Papers differ in whom they keep before any centring or turning, and their published arrays can only be matched by
doing the same. Every function here takes a :class:`~engine.data.bodies.RawSequence` and gives float32
``(T, M <= 2, V, 3)`` in metres, zeros where a person is absent. Centring, turning and scaling is another matter
(:mod:`engine.data.normalise_papers`); only :func:`compatible` already moves the origin, because its published
arrays do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.data.bodies import RawDataError, RawSequence
from engine.data.denoise import Track, by_frame, by_interval, drop_ghosts, glued, merge, seen_tracks

SPINE_MID = 1  # the same index in ntu25 and kinect20
SLOTS = 4  # how many bodies per frame the energy ranking looks at


def clean(raw: RawSequence) -> np.ndarray:
    """The default: ghosts dropped, every body at its own time, camera coordinates.

    Filters and ranking are those of :func:`compatible`, but a body that vanishes and returns keeps its frame numbers,
    two bodies become one actor only if they share no frame, a body that copies another bit for bit is left out, and
    there is a second actor only if somebody is in it. Empty frames at both ends go; those in the middle stay as
    zeros, because dropping them would bend time.

    Returns
    -------
    numpy.ndarray
        float32 ``(T, M, V, 3)``, M 1 or 2; the first and the last frame show somebody.

    Raises
    ------
    RawDataError
        Nobody is seen in any frame.
    """
    tracks = drop_ghosts(_without_copies(seen_tracks(raw)))
    if len(tracks) == 1:
        return _alone(tracks[0])
    out = merge(tracks, raw.frames, by_frame)
    present = np.any(out != 0, axis=(2, 3))
    inside = np.flatnonzero(present[:, 0] | present[:, 1])
    actors = 2 if present[:, 1].any() else 1
    return np.ascontiguousarray(out[inside[0] : inside[-1] + 1, :actors])


def compatible(raw: RawSequence) -> np.ndarray:
    """The arrays of the CTR-GCN family, bit for bit and with their quirks (datasets.md, section 2.1, steps A to F).

    Frames without a body are not counted, later frames of a body that vanished are pushed up to its earlier ones,
    bodies that share a single frame become one actor (the later one wins that frame). M is 2 whenever two bodies
    survive the filters, even if both became actor 1. Origin: SpineMid of actor 1 where he is first seen.

    Raises
    ------
    RawDataError
        Nobody is seen in any frame.
    """
    tracks, frames = glued(seen_tracks(raw), raw.frames)
    several = len(tracks) > 1
    tracks = drop_ghosts(tracks)
    if len(tracks) == 1:
        out = np.zeros((frames, 1, *tracks[0].xyz.shape[1:]), np.float32)
        out[tracks[0].frames, 0] = tracks[0].xyz
    else:
        out = merge(tracks, frames, by_interval(0))
    if several:
        out = out[out.reshape(len(out), -1).sum(axis=1) != 0]
    return _first_frame_centred(out)


def compatible_ntu120(raw: RawSequence) -> np.ndarray:
    """:func:`compatible` as published for NTU-120, where a lone actor stands in both places."""
    return duplicate_actor(compatible(raw))


def duplicate_actor(xyz: np.ndarray) -> np.ndarray:
    """``(T, 1, V, 3)`` with the one actor written twice, as in the NTU-120 arrays; two actors pass unchanged."""
    return np.repeat(xyz, 2, axis=1) if xyz.shape[1] == 1 else xyz


def aligned_row(xyz: np.ndarray, frames: int = 300) -> np.ndarray:
    """float32 ``(frames, 150)`` (for 25 joints): actor, joint, axis; zeros at the end (section 2.1, step G).

    Raises
    ------
    ValueError
        More frames than the row has.
    """
    if len(xyz) > frames:
        raise ValueError(f"{len(xyz)} frames don't fit a row of {frames}")
    row = np.zeros((frames, 2, xyz.shape[2], 3), np.float32)
    row[: len(xyz), : xyz.shape[1]] = xyz
    return row.reshape(frames, -1)


def pyskl(raw: RawSequence) -> np.ndarray:
    """The variant of PYSKL (datasets.md, section 2.2): camera coordinates, inner empty frames kept.

    Its files hold these numbers rounded to float16; the rounding is left to the export.

    Raises
    ------
    RawDataError
        Nobody is seen in any frame.
    """
    tracks, frames = glued(seen_tracks(raw), raw.frames)
    tracks = drop_ghosts(sorted(tracks, key=lambda t: -t.motion))
    if len(tracks) == 1:
        return np.ascontiguousarray(tracks[0].xyz[:, None], np.float32)
    out = merge(tracks, frames, by_interval(1))
    covered = np.flatnonzero(np.abs(out).sum(axis=(1, 2, 3)) >= 1e-3)
    out = out[covered[0] : covered[-1] + 1] if len(covered) else out[:1]
    first = np.abs(out[0, :, SPINE_MID]).sum(axis=-1)
    if first[0] < 1e-3 <= first[1]:
        out = out[:, ::-1]
    return np.ascontiguousarray(out)


def by_slot(raw: RawSequence, slots: int) -> np.ndarray:
    """float32 ``(T, slots, V, 3)``: in each frame the bodies in the order of the file, whoever they are."""
    if not raw.bodies:
        raise RawDataError(f"{raw.name}: nobody is seen in any of {raw.frames} frames; leave the recording out")
    out = np.zeros((raw.frames, slots, *raw.bodies[0].xyz.shape[1:]), np.float32)
    for body in raw.bodies:
        used = np.flatnonzero(body.slot < slots)
        out[body.first + used, body.slot[used]] = body.xyz[used]
    return out


def first_two(raw: RawSequence) -> np.ndarray:
    """Stage 1 of the ST-GCN, CrosSCLR, AimCLR, HiCLR line: the first two bodies of each frame in file order.

    Every frame of the file stays, empty ones as zeros; nobody is followed, so identities may swap (section 2.3).
    """
    return _used(by_slot(raw, 2))


def top_two(raw: RawSequence) -> np.ndarray:
    """Reading of 2s-AGCN, skeleton-contrast, CMD: of four file-order slots the two of most energy (section 2.4).

    Energy of a slot is std x + std y + std z over its non-empty frames, metres. Every frame of the file stays.
    """
    slots = by_slot(raw, SLOTS)
    seen = slots.sum(axis=(2, 3)) != 0
    energy = np.zeros(SLOTS)
    for m in np.flatnonzero(seen.any(axis=0)):
        energy[m] = slots[seen[:, m], m].reshape(-1, 3).std(axis=0).sum()
    return _used(slots[:, np.argsort(-energy, kind="stable")[:2]])


def gl_transformer(raw: RawSequence) -> np.ndarray:
    """Stage 1 of GL-Transformer for NTU-60: :func:`first_two` from the first frame with a first person on (2.5)."""
    return _from_first_person(first_two(raw), raw.name)


def gl_transformer_ntu120(raw: RawSequence) -> np.ndarray:
    """Stage 1 of GL-Transformer for NTU-120: :func:`top_two` from the first frame with a first person on (2.5)."""
    return _from_first_person(top_two(raw), raw.name)


def as_recorded(raw: RawSequence) -> np.ndarray:
    """The first two bodies ever seen, at their own frames, nothing filtered."""
    if not raw.bodies:
        raise RawDataError(f"{raw.name}: nobody is seen in any of {raw.frames} frames; leave the recording out")
    return raw.dense(min(len(raw.bodies), 2))


CLEANINGS: dict[str, Callable[[RawSequence], np.ndarray]] = {
    "clean": clean,
    "compatible": compatible,
    "compatible_ntu120": compatible_ntu120,
    "pyskl": pyskl,
    "first_two": first_two,
    "top_two": top_two,
    "gl_transformer": gl_transformer,
    "gl_transformer_ntu120": gl_transformer_ntu120,
    "raw": as_recorded,
}


def _alone(track: Track) -> np.ndarray:
    out = np.zeros((track.end - track.start + 1, 1, *track.xyz.shape[1:]), np.float32)
    out[track.frames - track.start, 0] = track.xyz
    return out


def _without_copies(tracks: list[Track]) -> list[Track]:
    kept: list[Track] = []
    for track in tracks:
        if not any(np.array_equal(track.frames, t.frames) and np.array_equal(track.xyz, t.xyz) for t in kept):
            kept.append(track)
    return kept


def _first_frame_centred(out: np.ndarray) -> np.ndarray:
    actor = np.any(out[:, 0] != 0, axis=(1, 2))
    if not actor.any():
        return out
    absent = out.reshape(*out.shape[:2], -1).sum(axis=2) == 0
    moved = out - out[int(np.argmax(actor)), 0, SPINE_MID]
    if out.shape[1] == 2:
        moved[absent] = 0.0
    return moved


def _used(slots: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(slots if slots[:, 1].any() else slots[:, :1])


def _from_first_person(slots: np.ndarray, name: str) -> np.ndarray:
    there = slots[:, 0, 0, 0] != 0
    if not there.any():
        raise RawDataError(f"{name}: the first person is never seen; leave the recording out")
    return np.ascontiguousarray(slots[int(np.argmax(there)) :])
