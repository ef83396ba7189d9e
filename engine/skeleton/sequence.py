"""One recorded performance: frames x persons x joints x 3 with true time stamps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from engine.skeleton.layout import Layout, get_layout


@dataclass
class SkeletonSequence:
    """A recorded performance of any length.

    Parameters
    ----------
    xyz : numpy.ndarray
        float32 ``(T, M, V, 3)``, metres, Kinect camera axes. An absent person is all zeros.
    times : numpy.ndarray
        float64 ``(T,)``, seconds, strictly increasing.
    layout : str
        Name of the joint layout.
    confidence : numpy.ndarray or None
        float32 ``(T, M, V)`` in 0..1, or None where the source gives none.
    name : str
        Where it came from (file stem, camera, ...).
    label : int
        Class index, -1 when unknown.
    meta : dict
        Anything a protocol needs (subject, view, trial, ...); integers and strings only.
    """

    xyz: np.ndarray
    times: np.ndarray
    layout: str = "ntu25"
    confidence: np.ndarray | None = None
    name: str = ""
    label: int = -1
    meta: dict[str, int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.xyz = np.ascontiguousarray(self.xyz, np.float32)
        self.times = np.ascontiguousarray(self.times, np.float64)
        joints = get_layout(self.layout).num_joints
        if self.xyz.ndim != 4 or self.xyz.shape[2:] != (joints, 3):
            raise ValueError(f"{self.name or 'sequence'}: xyz is {self.xyz.shape}, expected (T, M, {joints}, 3)")
        if self.times.shape != (len(self.xyz),):
            raise ValueError(f"{self.name or 'sequence'}: {len(self.times)} time stamps for {len(self.xyz)} frames")
        if len(self.times) > 1 and not (np.diff(self.times) > 0).all():
            raise ValueError(f"{self.name or 'sequence'}: time stamps do not increase")
        if self.confidence is not None and self.confidence.shape != self.xyz.shape[:3]:
            raise ValueError(f"{self.name or 'sequence'}: confidence is {self.confidence.shape}")

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def num_persons(self) -> int:
        return self.xyz.shape[1]

    @property
    def skeleton(self) -> Layout:
        return get_layout(self.layout)

    @property
    def duration(self) -> float:
        """Seconds between the first and the last frame."""
        return float(self.times[-1] - self.times[0]) if len(self.times) else 0.0

    @classmethod
    def from_frames(
        cls, xyz: np.ndarray, fps: float, layout: str = "ntu25", name: str = "", label: int = -1, **meta: int | str
    ) -> SkeletonSequence:
        """Build from equally spaced frames ``(T, V, 3)`` or ``(T, M, V, 3)``."""
        if xyz.ndim == 3:
            xyz = xyz[:, None]
        return cls(xyz, np.arange(len(xyz)) / fps, layout, name=name, label=label, meta=dict(meta))
