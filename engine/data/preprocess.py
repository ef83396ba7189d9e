"""The one function that turns a skeleton sequence into the clip an encoder sees.

Training, evaluation and the live path all call :func:`preprocess` with the settings kept in the checkpoint card, so
a user can't get rate, window, centring or stream wrong. NumPy only: the live path never imports torch.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from engine.data.normalise_papers import NORMALISATIONS
from engine.skeleton.convert import convert_layout
from engine.skeleton.layout import Layout, get_layout
from engine.skeleton.sequence import SkeletonSequence

Stream = Literal["joint", "bone", "joint_motion", "bone_motion"]

# Meta value of a sequence whose joints are already normalised: the name of what was done to them.
NORMALISED = "normalised"
# Part of a sequence that the papers' test crop keeps (skeletongcl.md, section 1.4; i2md.md, section 1.3).
CENTRE_KEEP = 0.95
# A reading this near to a frame, in parts of the gap, is that frame: rounding must not blend it with an absence.
_SNAP = 1e-6


class Preprocessing(BaseModel):
    """How a sequence becomes a clip; part of every checkpoint card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: str = Field("ntu25", description="Joint layout of the clip.")
    persons: int = Field(1, ge=1, le=2, description="Person slots in the clip; absent persons are zeros.")
    frames: int = Field(64, ge=2, le=1024, description="Frames of the clip.")
    sampling: Literal["window", "linspace", "centre_crop", "resize", "first", "repeat"] = Field(
        "window",
        description="window: the last window_s seconds, linear between frames, edges held; "
        "linspace: equally spaced frames of the whole sequence, no interpolation (NW-UCLA protocol); "
        "centre_crop: the middle 95 % of the frames, resized (CTR-GCN family, CMD, I2MD); "
        "resize: all frames, resized (HiCLR); first: the first frames as they are, zeros behind (GL-Transformer); "
        "repeat: the first frames as they are, from the start again until the clip is full (2s-AGCN).",
    )
    window_s: float = Field(2.5, gt=0, le=60, description="Seconds one clip covers; the length of the live window.")
    centre: Literal["first", "mean", "each", "each_ground", "none"] = Field(
        "first",
        description="What is subtracted: person 0's mid-spine of the first frame, its mean, of each frame, "
        "or of each frame along the ground only (height stays relative to the first frame).",
    )
    facing: bool = Field(False, description="Turn the clip about the vertical so that person 0's shoulders face ahead.")
    scale: Literal["none", "torso", "limbs", "minmax"] = Field(
        "none",
        description="torso: divide by person 0's mean trunk length; limbs: by the summed mean length of upper arms, "
        "forearms, thighs and shanks (pose estimators agree on limbs better than on the trunk); "
        "minmax: every axis to -1..1 (NW-UCLA).",
    )
    stream: Stream = Field(
        "joint",
        description="What the encoder sees: joints, bones (differences along limbs), or how they move between frames.",
    )
    normalisation: str = Field(
        "none",
        description="What a paper does instead of centre, facing and scale; a name of engine.data.normalise_papers. "
        "window and resize normalise the sampled frames, the others the whole sequence before it is sampled.",
    )

    @model_validator(mode="before")
    @classmethod
    def _papers_centre_for_themselves(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("normalisation", "none") != "none":
            return {"centre": "none"} | values
        return values

    @field_validator("normalisation")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NORMALISATIONS:
            raise ValueError(f"no normalisation {name!r}; there are {', '.join(NORMALISATIONS)}")
        return name

    @model_validator(mode="after")
    def _one_normalisation(self) -> Preprocessing:
        if self.normalisation != "none" and (self.centre != "none" or self.facing or self.scale != "none"):
            raise ValueError(f"normalisation {self.normalisation!r} replaces centre, facing and scale; leave them out")
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        # Cards and the hashes of recipes stay what they were before papers' normalisations could be named.
        if self.normalisation == "none":
            values.pop("normalisation", None)
        return values

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape ``(C, T, V, M)`` of one clip."""
        return 3, self.frames, get_layout(self.layout).num_joints, self.persons


def sample_times(times: np.ndarray, spec: Preprocessing, end: float | None = None) -> np.ndarray:
    """Time stamps, seconds ``(frames,)``, at which a clip reads a sequence (``sampling="first"`` reads frames)."""
    if spec.sampling == "linspace":
        return np.linspace(times[0], times[-1], spec.frames)
    if spec.sampling == "repeat":
        return times[np.arange(spec.frames) % len(times)]
    if spec.sampling in ("centre_crop", "resize"):
        cut = int((1 - CENTRE_KEEP) * len(times) / 2) if spec.sampling == "centre_crop" else 0
        step = (times[-1] - times[0]) / max(len(times) - 1, 1)
        return times[0] + step * (cut + resize_positions(len(times) - 2 * cut, spec.frames))
    last = float(times[-1]) if end is None else end
    return np.linspace(last - spec.window_s, last, spec.frames)


def resize_positions(length: int, frames: int) -> np.ndarray:
    """Positions ``(frames,)`` in ``0 .. length - 1`` that a linear resize reads (datasets.md, section 2.1)."""
    return np.clip((np.arange(frames) + 0.5) * (length / frames) - 0.5, 0, length - 1)


def resample(
    xyz: np.ndarray, times: np.ndarray, at: np.ndarray, interpolate: bool, hold_present: bool = True
) -> np.ndarray:
    """Read ``(T, M, V, 3)`` at the given times; before the first and after the last frame the edge is held.

    Without interpolation the newest frame not later than the wanted time is taken. A person who is absent (all
    zeros) on one side of a gap is never blended with zeros: the present side is held, unless ``hold_present`` is off
    (published resizes do blend).
    """
    if not interpolate:
        step = (times[-1] - times[0]) / max(len(times) - 1, 1)
        index = np.searchsorted(times, at + 1e-6 * max(step, 1e-3), side="right") - 1
        return xyz[np.clip(index, 0, len(times) - 1)]
    if len(times) == 1:
        return np.repeat(xyz, len(at), axis=0)
    right = np.clip(np.searchsorted(times, at, side="left"), 1, len(times) - 1)
    left = right - 1
    gap = times[right] - times[left]
    weight = np.clip((at - times[left]) / gap, 0.0, 1.0)
    weight[weight < _SNAP] = 0.0
    weight[weight > 1 - _SNAP] = 1.0
    weight = np.broadcast_to(weight.astype(xyz.dtype)[:, None], (len(at), xyz.shape[1])).copy()
    if hold_present:
        present = np.any(xyz != 0, axis=(2, 3))
        between = (weight > 0) & (weight < 1)
        weight[between & present[left] & ~present[right]] = 0.0
        weight[between & ~present[left] & present[right]] = 1.0
    weight = weight[:, :, None, None]
    return xyz[left] * (1 - weight) + xyz[right] * weight


def _sampled(xyz: np.ndarray, times: np.ndarray, spec: Preprocessing, end: float | None) -> np.ndarray:
    """The clip's frames ``(frames, M, V, 3)``."""
    if spec.sampling == "first":
        out = np.zeros((spec.frames, *xyz.shape[1:]), xyz.dtype)
        out[: len(xyz)] = xyz[: spec.frames]
        return out
    if spec.sampling == "repeat":
        return xyz[np.arange(spec.frames) % len(xyz)]
    at = sample_times(times, spec, end)
    return resample(xyz, times, at, spec.sampling != "linspace", hold_present=spec.sampling == "window")


def preprocess(sequence: SkeletonSequence, spec: Preprocessing, end: float | None = None) -> np.ndarray:
    """Make one clip.

    Parameters
    ----------
    sequence : SkeletonSequence
        At least one frame; every coordinate finite. The meta value ``normalised`` names a normalisation that the
        joints already have; it is not applied again.
    spec : Preprocessing
        Settings from the checkpoint card.
    end : float, optional
        Time of the clip's last frame for ``sampling="window"``; default is the last frame of the sequence. Other
        samplings read the whole sequence: live, that is the stretch of ``window_s`` seconds the window hands over.

    Returns
    -------
    numpy.ndarray
        float32 ``(C=3, T, V, M)``.

    Raises
    ------
    ValueError
        Empty sequence, coordinates that are not finite, or joints normalised in another way than the card wants.
    """
    if len(sequence) == 0:
        raise ValueError(f"{sequence.name or 'sequence'}: no frames")
    if not np.isfinite(sequence.xyz).all():
        raise ValueError(f"{sequence.name or 'sequence'}: coordinates are not finite")
    xyz = convert_layout(sequence.xyz, sequence.layout, spec.layout)
    xyz = _person_slots(xyz, spec.persons)
    todo = remaining(spec, str(sequence.meta.get(NORMALISED, "none")), sequence.name)
    if normalises_first(spec):
        xyz = _sampled(normalise(xyz, todo), sequence.times, spec, end)
    else:
        xyz = normalise(_sampled(xyz, sequence.times, spec, end), todo)
    clip = np.ascontiguousarray(xyz.transpose(3, 0, 2, 1), np.float32)
    return make_stream(clip, spec.stream, get_layout(spec.layout))


def normalises_first(spec: Preprocessing) -> bool:
    """Whether the whole sequence is normalised before it is sampled, as published; window and HiCLR's resize don't."""
    return spec.sampling not in ("window", "resize")


def remaining(spec: Preprocessing, done: str, name: str = "") -> Preprocessing:
    """The card without the normalisation that the data already have; raises ``ValueError`` if they have another."""
    if done == "none":
        return spec
    if done != spec.normalisation:
        raise ValueError(
            f"{name or 'sequence'} is already normalised as {done!r}; the card wants {spec.normalisation!r}"
        )
    return spec.model_copy(update={"normalisation": "none"})


def _person_slots(xyz: np.ndarray, persons: int) -> np.ndarray:
    have = xyz.shape[1]
    if have >= persons:
        return xyz[:, :persons]
    return np.concatenate([xyz, np.zeros((len(xyz), persons - have, *xyz.shape[2:]), xyz.dtype)], axis=1)


# Upper arms, forearms, thighs, shanks: the same indices in ntu25 and kinect20.
LIMB_BONES = ((4, 5), (5, 6), (8, 9), (9, 10), (12, 13), (13, 14), (16, 17), (17, 18))


def landmark_joints(layout: Layout) -> tuple[int, int, int, int, int]:
    """Mid-spine, trunk bottom, trunk top, left and right shoulder."""
    if layout.name == "ntu25":
        return 1, 0, 20, 4, 8
    if layout.name == "kinect20":
        return 1, 0, 2, 4, 8
    raise ValueError(f"layout {layout.name!r} can't be normalised; convert it to ntu25 or kinect20")


def normalise(xyz: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Centre, turn and scale ``(T, M, V, 3)`` as the card says.

    Absent persons stay exactly zero, except where a paper's own normalisation moves them as published.
    """
    if spec.normalisation != "none":
        return NORMALISATIONS[spec.normalisation](xyz)
    if spec.centre == "none" and spec.scale == "none" and not spec.facing:
        return xyz.astype(np.float32, copy=False)
    spine, low, top, left, right = landmark_joints(get_layout(spec.layout))
    present = np.any(xyz != 0, axis=(2, 3))
    seen = present[:, 0]
    if not seen.any():
        return np.zeros_like(xyz)
    out = xyz.astype(np.float32, copy=True)
    actor = out[:, 0]
    out -= _origin(actor, seen, spine, spec.centre)[:, None, None]
    actor = out[:, 0]
    if spec.facing:
        across = (actor[seen, right] - actor[seen, left]).mean(0)
        length = float(np.hypot(across[0], across[2]))
        if length > 1e-3:
            cos, sin = across[0] / length, across[2] / length
            turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32)
            out = out @ turn
            actor = out[:, 0]
    if spec.scale == "limbs":
        limbs = np.array(LIMB_BONES)
        lengths = np.linalg.norm(actor[seen][:, limbs[:, 0]] - actor[seen][:, limbs[:, 1]], axis=-1)
        # Two sides: half the sum is one arm and one leg.
        out /= max(float(lengths.mean(0).sum()) / 2, 1e-3)
    if spec.scale == "torso":
        trunk = float(np.linalg.norm(actor[seen, top] - actor[seen, low], axis=-1).mean())
        out /= max(trunk, 1e-3)
    out[~present] = 0.0
    if spec.scale == "minmax":
        out = _minmax(out, present)
    return out


def _origin(actor: np.ndarray, seen: np.ndarray, spine: int, centre: str) -> np.ndarray:
    """Point subtracted from each frame, ``(T, 3)``; frames without the actor use the nearest earlier one."""
    index = np.where(seen, np.arange(len(seen)), -1)
    index = np.maximum.accumulate(index)
    index[index < 0] = int(np.argmax(seen))
    path = actor[index, spine]
    if centre == "none":
        return np.zeros_like(path)
    if centre == "first":
        return np.broadcast_to(path[0], path.shape)
    if centre == "mean":
        return np.broadcast_to(path[seen].mean(0), path.shape)
    if centre == "each":
        return path
    origin = path.copy()
    origin[:, 1] = path[0, 1]
    return origin


# Metres; what extends less along an axis is flat but for rounding.
FLAT = 1e-5


def _minmax(xyz: np.ndarray, present: np.ndarray) -> np.ndarray:
    points = xyz[present]
    low = points.min((0, 1))
    span = points.max((0, 1)) - low
    # An axis without extent would divide by zero, or blow rounding up: it becomes the middle of the range.
    scaled = np.where(span > FLAT, (xyz - low) / np.maximum(span, FLAT) * 2 - 1, 0.0).astype(np.float32)
    scaled[~present] = 0.0
    return scaled


def make_stream(clip: np.ndarray, stream: Stream, layout: Layout) -> np.ndarray:
    """Joint, bone, joint motion or bone motion of a clip ``(C, T, V, M)`` (skeletongcl.md, section 1.4).

    A bone is child minus parent (zero at the root); motion is the forward difference with a last frame of zeros.
    """
    if stream in ("bone", "bone_motion"):
        clip = clip - clip[:, :, list(layout.parents)]
    if stream in ("joint_motion", "bone_motion"):
        moved = np.zeros_like(clip)
        moved[:, :-1] = clip[:, 1:] - clip[:, :-1]
        clip = moved
    return clip
