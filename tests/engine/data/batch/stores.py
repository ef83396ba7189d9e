"""Small stores with everything that can go wrong: people who come late, leave, vanish in between, or never come."""

import numpy as np

from engine.data.store import SequenceStore, write_store
from engine.skeleton.sequence import SkeletonSequence


def sequences(count=24, layout="ntu25", joints=25, fps=30.0, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(count):
        frames = int([1, 2, 5, 31, 64, 77, 120, 300][i % 8]) if i < 16 else int(rng.integers(3, 90))
        persons = i % 3 % 2 + 1
        base = rng.standard_normal((1, persons, joints, 3)) * 0.4 + [0.2, 0.1, 2.5]
        xyz = (base + np.cumsum(rng.standard_normal((frames, persons, joints, 3)) * 0.02, 0)).astype(np.float32)
        if frames > 4 and persons == 2:
            xyz[frames // 2 :, 1] = 0  # leaves
            xyz[: i % 4, 0] = 0  # comes late
        if frames > 30:
            xyz[10:13] = 0  # nobody
            xyz[20:22, 0] = 0
        if i == 5:
            xyz[:] = xyz[0]  # does not move, and lies in one plane
            xyz[..., 2] = 2.0
        if i == 7:
            xyz[:, :, 0] = 0  # a joint that lies exactly at zero is not an absence
        meta = {"subject": i}
        yield SkeletonSequence(xyz, np.arange(frames) / fps, layout, name=f"s{i:02d}", label=i % 5, meta=meta)


def make_store(folder, half=False, about=None, **options) -> SequenceStore:
    fps = options.get("fps", 30.0)
    return write_store(folder, "small", sequences(**options), list("abcde"), fps, half=half, about=about)
