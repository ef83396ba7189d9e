"""Centre and turn a clip as each paper does, for training, evaluation and the live window alike.

Every entry of :data:`NORMALISATIONS` is a plain function ``(T, M, V, 3) -> (T, M, V, 3)``, float32, for any T >= 1
and persons who come and go; the number of frames never changes (:mod:`engine.data.frame_steps` does that). Kinect
camera axes go in; :data:`AXES` says what comes out. Layouts: 25 joints (ntu25) or 20 (kinect20).

Plain names follow the published code with its quirks. Names ending in ``_clean`` mend them: an absent person stays
exactly zero, whoever enters late is measured from his own first frame, and each frame is turned by its own angle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.data.frame_steps import (
    counted_length,
    pad_marked,
    pad_zeros,
    presence,
    repeat_to,
    resize_frames,
    to_front,
)

# The same indices in ntu25 and kinect20.
SPINE_BASE, SPINE_MID, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 1, 4, 8, 12, 16
_SPINE_SHOULDER = {25: 20, 20: 2}
_ANGLE_GUARD = 1e-4  # added to the shoulder width by the published yaw alignment, metres
_NO_LENGTH = 1e-6


def spine_shoulder(xyz: np.ndarray) -> int:
    """Index of the joint between the shoulders; raises ``ValueError`` for a layout that has none."""
    try:
        return _SPINE_SHOULDER[xyz.shape[2]]
    except KeyError:
        raise ValueError(f"{xyz.shape[2]} joints can't be normalised; convert the clip to ntu25 or kinect20") from None


def first_frame_spine(xyz: np.ndarray) -> np.ndarray:
    """CTR-GCN, 2s-AGCN and SkeletonGCL as trained there (datasets.md, section 2.1, step F).

    Subtracts SpineMid of person 0 in the first frame in which he is there, from everybody in every frame. If person 0
    never appears, the first person who does takes his place.
    """
    there = presence(xyz)
    out = np.array(xyz, np.float32)
    lead = _lead(there)
    if lead is not None:
        out -= out[int(np.argmax(there[:, lead])), lead, SPINE_MID].copy()
        out[~there] = 0.0
    return out


def infogcn(xyz: np.ndarray, clean: bool = False) -> np.ndarray:
    """InfoGCN: :func:`first_frame_spine`, then each person into the axes of his own body in frame 0 (2.1, last part).

    The published axes (hip line to the left, facing direction, spine) are left-handed, so bodies come out mirrored.
    A person absent in frame 0, with a spine of no length or with hips on one point there, is erased; published code
    drops the recording in the last case.

    Parameters
    ----------
    clean : bool
        Take the first frame in which the person is there, and right-handed axes (the second points to the back).
    """
    out = first_frame_spine(xyz)
    there = presence(xyz)
    for m in range(out.shape[1]):
        frame = int(np.argmax(there[:, m])) if clean else 0
        axes = _body_axes(xyz[frame, m].astype(np.float64), mirrored=not clean)
        out[:, m] = 0.0 if axes is None else out[:, m] @ axes.astype(np.float32)
    return out


def own_spine_shoulder(xyz: np.ndarray) -> np.ndarray:
    """Subtracts SpineShoulder of the same person and frame; path and distance between persons are lost (2.3, 3)."""
    joint = spine_shoulder(xyz)
    return (xyz - xyz[:, :, joint : joint + 1]).astype(np.float32, copy=False)


def yaw_align(xyz: np.ndarray, clean: bool = False) -> np.ndarray:
    """Turns every person in every frame about the vertical until the shoulders lie along +x (section 2.3, step 5).

    Published: the angle comes from an arccos with a guard of 1e-4 m and one sign for the whole clip, so a frame whose
    shoulders point the other way is turned away by the same angle.

    Parameters
    ----------
    clean : bool
        Exact angle and sign of every frame; a frame without a shoulder line is not turned.
    """
    across = (xyz[:, :, RIGHT_SHOULDER] - xyz[:, :, LEFT_SHOULDER]).astype(np.float64)
    width = np.hypot(across[..., 0], across[..., 2])
    if clean:
        flat = width > _NO_LENGTH
        safe = np.where(flat, width, 1.0)
        cos, sin = np.where(flat, across[..., 0] / safe, 1.0), np.where(flat, -across[..., 2] / safe, 0.0)
    else:
        cos = across[..., 0] / (width + _ANGLE_GUARD)
        sin = np.sqrt(1 - cos * cos) * np.where(across[..., 2].sum(axis=0) >= 0, -1.0, 1.0)
    cos, sin = cos[..., None].astype(np.float32), sin[..., None].astype(np.float32)
    x, z = xyz[..., 0], xyz[..., 2]
    return np.stack([cos * x - sin * z, xyz[..., 1], sin * x + cos * z], axis=-1).astype(np.float32, copy=False)


def hiclr(xyz: np.ndarray, clean: bool = False) -> np.ndarray:
    """HiCLR: :func:`own_spine_shoulder`, then :func:`yaw_align`; resize to 50 frames first (section 2.3).

    Centring commutes with the resize, so this after :func:`~engine.data.frame_steps.resize_frames` is the published
    order up to rounding; :func:`hiclr_arrays` keeps the order to the letter.
    """
    return yaw_align(own_spine_shoulder(xyz), clean)


def cmd(xyz: np.ndarray, clean: bool = False) -> np.ndarray:
    """Steps 2 to 4 of CMD, I2MD and the original 2s-AGCN (section 2.4); :func:`cmd_frames` is the whole of it.

    SpineMid of person 0 is subtracted frame by frame from both; then the clip is turned as a whole so that in the
    first frame with person 0 his spine points to +z and then his shoulder line to +x. Published: a joint whose
    coordinates sum to zero stays zero; where person 0 is absent nothing is subtracted; the second turn is a free one
    and may tip the spine, in the worst case upside down.

    Parameters
    ----------
    clean : bool
        Absence is judged by whole persons, a frame without person 0 takes his last place, the second turn is about
        the new vertical only, and if person 0 never appears the other one leads.
    """
    there = presence(xyz)
    lead = _lead(there) if clean else (0 if there[:, 0].any() else None)
    centre = xyz[:, 0, SPINE_MID] if lead is None else xyz[:, lead, SPINE_MID]
    if clean and lead is not None:
        centre = centre[_last_seen(there[:, lead])]
    kept = there[:, :, None] if clean else xyz.sum(axis=-1) != 0
    out = np.where(kept[..., None], xyz - centre[:, None, None], np.float32(0)).astype(np.float32, copy=False)
    if lead is None:
        return out
    return _spine_up_shoulders_across(out, out[int(np.argmax(there[:, lead])), lead], clean)


def pyskl(xyz: np.ndarray) -> np.ndarray:
    """PYSKL at training time (section 2.2): person 0's first SpineMid off every non-zero joint, turned as in CMD.

    :func:`~engine.data.frame_steps.longer_actor_first` comes before it.
    """
    lead = _lead(presence(xyz))
    if lead is None:
        return np.array(xyz, np.float32)
    frame = int(np.argmax(presence(xyz)[:, lead]))
    kept = np.any(xyz != 0, axis=-1, keepdims=True)
    out = np.where(kept, xyz - xyz[frame, lead, SPINE_MID], np.float32(0)).astype(np.float32, copy=False)
    return _spine_up_shoulders_across(out, out[frame, lead], False)


def gl_transformer(xyz: np.ndarray, clean: bool = False) -> np.ndarray:
    """GL-Transformer (section 2.5; gl_transformer.md, sections 1.3, 1.4); pad with 99.9 afterwards, if at all.

    Every joint relative to the person's SpineShoulder of the frame, whose own slot holds its displacement since
    frame 0; everything, that slot too, yaw-aligned. Published: who enters late has his place in the room in that
    slot, and minus his first place whenever he is away.

    Parameters
    ----------
    clean : bool
        Displacement since the person's own first frame, zeros while he is away, yaw of every frame by itself.
    """
    joint = spine_shoulder(xyz)
    out = own_spine_shoulder(xyz)
    path = xyz[:, :, joint]
    there = presence(xyz)
    first = np.argmax(there, axis=0) if clean else np.zeros(xyz.shape[1], np.int64)
    out[:, :, joint] = path - path[first, np.arange(xyz.shape[1])]
    out = yaw_align(out, clean)
    if clean:
        out[~there] = 0.0
    return out


def gl_transformer_shared(xyz: np.ndarray) -> np.ndarray:
    """GL-Transformer's tokens in one frame of reference for both persons; an extension (gl_transformer.md, 7.1, 1, 3).

    Joints are relative to the person's own SpineShoulder as in :func:`gl_transformer`; its slot holds the way there
    from person 0's first SpineShoulder, and the whole clip is turned by one angle: person 0's first heading. So the
    clip still says where the persons stand and face with respect to each other. Absent persons are zeros. If person 0
    never appears, the other one leads.
    """
    joint, there = spine_shoulder(xyz), presence(xyz)
    out = own_spine_shoulder(xyz)
    lead = _lead(there)
    if lead is None:
        return out
    first = xyz[int(np.argmax(there[:, lead])), lead]
    out[:, :, joint] = xyz[:, :, joint] - first[joint]
    across = (first[RIGHT_SHOULDER] - first[LEFT_SHOULDER]).astype(np.float64)
    width = float(np.hypot(across[0], across[2]))
    cos, sin = (across[0] / width, across[2] / width) if width > _NO_LENGTH else (1.0, 0.0)
    out = out @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32)
    out[~there] = 0.0
    return out


def hiclr_arrays(xyz: np.ndarray, frames: int = 50, clean: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Position and motion ``(frames, M, V, 3)`` of section 2.3, stage 2, in the published order.

    Published: motion is taken after padding to 300 frames, so a shorter clip ends in a spike of minus its last
    frame; the length is a count of person 0's frames, so gaps cut frames off the end.

    Parameters
    ----------
    clean : bool
        No motion into or out of absence, the clip ends with the last frame in which anybody is there, absent
        persons are not mixed with zeros, yaw by frame.
    """
    if clean:
        seen = np.flatnonzero(presence(xyz).any(axis=1))
        length = int(seen[-1]) + 1 if len(seen) else 0
        padded = np.asarray(xyz, np.float32)
    else:
        padded = pad_zeros(xyz, 300)
        length = counted_length(padded)
    if not length:
        empty = np.zeros((frames, *xyz.shape[1:]), np.float32)
        return empty, empty.copy()
    motion = np.zeros_like(padded)
    motion[:-1] = padded[1:] - padded[:-1]
    if clean:
        there = presence(padded)
        motion[:-1][~(there[1:] & there[:-1])] = 0.0
    position = resize_frames(own_spine_shoulder(padded)[:length], frames, blend_absent=not clean)
    return yaw_align(position, clean), resize_frames(motion[:length], frames)


def cmd_array(xyz: np.ndarray, frames: int = 300) -> np.ndarray:
    """``(frames, M, V, 3)`` as CMD stores it: moved to the front, repeated, centred, turned (section 2.4)."""
    return cmd(repeat_to(to_front(xyz[:frames]), frames))


def cmd_frames(xyz: np.ndarray) -> np.ndarray:
    """The frames of :func:`cmd_array` that CMD reads: as many as the sequence has itself (i2md.md, section 1.2).

    A person who enters late is moved to the front and one who leaves early starts again, so both change frames inside
    the sequence: neither is ever seen to come or go. Published sequences have at most 300 frames; a longer one keeps
    all of them, treated alike.
    """
    return cmd_array(xyz, len(xyz))


def gl_transformer_array(xyz: np.ndarray, frames: int = 300) -> np.ndarray:
    """``(frames, M, V, 3)`` as GL-Transformer stores it, 99.9 after the counted length (section 2.5)."""
    xyz = xyz[:frames]
    length = counted_length(xyz)
    return pad_marked(gl_transformer(xyz[:length]) if length else xyz[:0], frames)


NORMALISATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda xyz: np.array(xyz, np.float32),
    "first_frame_spine": first_frame_spine,
    "infogcn": infogcn,
    "infogcn_clean": lambda xyz: infogcn(xyz, clean=True),
    "hiclr": hiclr,
    "hiclr_clean": lambda xyz: hiclr(xyz, clean=True),
    "cmd": cmd_frames,
    "cmd_clean": lambda xyz: cmd(xyz, clean=True),
    "pyskl": pyskl,
    "gl_transformer": gl_transformer,
    "gl_transformer_clean": lambda xyz: gl_transformer(xyz, clean=True),
    "gl_transformer_shared": gl_transformer_shared,
}

# Directions of x, y, z after each; "camera" keeps the sensor's left, up, away from the sensor.
AXES: dict[str, str] = {
    "none": "camera",
    "first_frame_spine": "camera, origin in person 0's first SpineMid",
    "infogcn": "each body's own of frame 0: left, facing, up (left-handed)",
    "infogcn_clean": "each body's own of its first frame: left, back, up",
    "hiclr": "each body's own of every frame: right, up, back; origin in its SpineShoulder",
    "hiclr_clean": "each body's own of every frame: right, up, back; origin in its SpineShoulder",
    "cmd": "person 0's of the first frame: right, facing, up; origin in his SpineMid of every frame",
    "cmd_clean": "person 0's of the first frame: right, facing, up; origin in his SpineMid of every frame",
    "pyskl": "person 0's of the first frame: right, facing, up; origin in his first SpineMid",
    "gl_transformer": "each body's own of every frame: right, up, back; origin in its SpineShoulder",
    "gl_transformer_clean": "each body's own of every frame: right, up, back; origin in its SpineShoulder",
    "gl_transformer_shared": "person 0's of the first frame: right, up, back; origin in each body's SpineShoulder",
}


def _lead(there: np.ndarray) -> int | None:
    """The first person who ever appears."""
    ever = np.flatnonzero(there.any(axis=0))
    return int(ever[0]) if len(ever) else None


def _last_seen(seen: np.ndarray) -> np.ndarray:
    """For each frame the newest frame so far with the person; before the first one, the first."""
    index = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    index[index < 0] = int(np.argmax(seen))
    return index


def _body_axes(body: np.ndarray, mirrored: bool) -> np.ndarray | None:
    """Columns: hip line, its perpendicular, spine; None when spine or hip line has no length."""
    spine = body[SPINE_MID] - body[SPINE_BASE]
    length = np.linalg.norm(spine)
    if length < _NO_LENGTH:
        return None
    up = spine / length
    hips = body[LEFT_HIP] - body[RIGHT_HIP]
    level = hips - (hips @ up) * up
    width = np.linalg.norm(level)
    if width < _NO_LENGTH:
        return None
    left = level / width
    ahead = np.cross(left, up)
    return np.stack([left, ahead if mirrored else -ahead, up], axis=1)


def rotation_onto(vector: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest turn ``(3, 3)`` that takes ``vector`` to the direction of the unit vector ``target``.

    Identity where the two are parallel, opposite or the vector has no length (section 2.4).
    """
    vector = vector.astype(np.float64)
    axis = np.cross(vector, target)
    length = np.linalg.norm(vector)
    if np.abs(axis).sum() < _NO_LENGTH or length < _NO_LENGTH:
        return np.eye(3)
    cos = float(np.clip(vector @ target / length, -1.0, 1.0))
    if np.arccos(cos) < _NO_LENGTH:
        return np.eye(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sqrt(1 - cos * cos) * cross + (1 - cos) * (cross @ cross)


def _spine_up_shoulders_across(xyz: np.ndarray, body: np.ndarray, about_vertical: bool) -> np.ndarray:
    """Steps 3 and 4 of section 2.4, both angles taken from one body ``(V, 3)``."""
    spine = body[SPINE_MID] - body[SPINE_BASE]
    if about_vertical and spine[2] < 0 and np.hypot(spine[0], spine[1]) < _NO_LENGTH:
        first = np.diag([1.0, -1.0, -1.0])
    else:
        first = rotation_onto(spine, np.array([0.0, 0.0, 1.0]))
    across = first @ (body[RIGHT_SHOULDER] - body[LEFT_SHOULDER]).astype(np.float64)
    if about_vertical:
        width = float(np.hypot(across[0], across[1]))
        cos, sin = (across[0] / width, -across[1] / width) if width > _NO_LENGTH else (1.0, 0.0)
        second = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    else:
        second = rotation_onto(across, np.array([1.0, 0.0, 0.0]))
    return xyz @ (second @ first).T.astype(np.float32)
