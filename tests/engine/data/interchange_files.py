"""Files of other projects made up in the exact published shapes at small size, for the tests of readers and writers."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bodies import RawSequence, RawSource
from engine.data.ntu_names import missing_names
from engine.data.readers.ctrgcn_npz import published_order


def read_all(source: RawSource) -> dict[str, RawSequence]:
    """Every sequence of a source by name; ``read`` goes through pickling first where workers would use it."""
    read = pickle.loads(pickle.dumps(source.read)) if source.parallel else source.read  # noqa: S301  (our own)
    return {sequence.name: sequence for item in source.items for sequence in read(item)}


def usable_names() -> list[str]:
    """Made-up list of usable NTU-60 recordings: two setups, four performers of whom two train, three cameras."""
    return [
        name
        for s in (1, 2) for c in (1, 2, 3) for p in (1, 2, 3, 7) for r in (1, 2) for a in (1, 2, 60)
        if (name := f"S{s:03d}C{c:03d}P{p:03d}R{r:03d}A{a:03d}") not in missing_names("ntu60")
    ]  # fmt: skip


def moves(rng: np.random.Generator, frames: int, persons: int = 1) -> np.ndarray:
    """float32 ``(T, M, 25, 3)`` without a single zero."""
    return (rng.uniform(0.1, 1.0, (frames, persons, 25, 3)) + np.array([0, 0, 2])).astype(np.float32)


def ctrgcn_rows(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """Rows by the letter of the form: frame = [actor 1: 25 x xyz][actor 2: 25 x xyz], zeros at the end."""
    x = np.zeros((len(sequences), 300, 150), np.float32)
    for n, xyz in enumerate(sequences):
        for t in range(len(xyz)):
            for m in range(xyz.shape[1]):
                for v in range(25):
                    x[n, t, 75 * m + 3 * v : 75 * m + 3 * v + 3] = xyz[t, m, v]
    return x


def ctrgcn_file(path: Path, split: str, classes: int = 60) -> dict[str, np.ndarray]:
    """A file as published, without names; what it holds by name."""
    rng = np.random.default_rng(0)
    arrays, content = {}, {}
    for part in ("train", "test"):
        names = published_order(usable_names(), "ntu60", split, part)
        sequences = [moves(rng, int(rng.integers(2, 9)), 1 + n % 2) for n in range(len(names))]
        content |= dict(zip(names, sequences, strict=True))
        arrays[f"x_{part}"] = ctrgcn_rows(sequences)
        arrays[f"y_{part}"] = np.eye(classes)[[int(name[17:]) - 1 for name in names]]
    np.savez(path, **arrays)
    return content


def stgcn_folder(folder: Path, content: str, frames: int = 300, persons: int = 2, joints: int = 25) -> np.ndarray:
    """Train and val arrays of five sequences with names; lengths 3, 4, 5, 6, 7."""
    folder.mkdir(parents=True, exist_ok=True)
    x = np.zeros((5, 3, frames, joints, persons), np.float32)
    for n in range(5):
        x[n, :, : n + 3] = np.random.default_rng(n).uniform(0.5, 1, (3, n + 3, joints, persons))
    x[0, ..., -1] = 0
    names = [f"S001C001P00{n + 1}R001A00{n + 1}.skeleton" for n in range(5)]
    for part, rows in (("train", slice(0, 3)), ("val", slice(3, 5))):
        np.save(folder / f"{part}_{content}.npy", x[rows])
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names[rows], list(range(5))[rows]), 2))
    return x


def annotation(name: str, label: int, frames: int, persons: int = 1, **change: Any) -> dict[str, Any]:
    keypoint = np.random.default_rng(label).uniform(0.5, 3, (persons, frames, 25, 3)).astype(np.float16)
    return {"frame_dir": name, "label": label, "total_frames": frames, "keypoint": keypoint} | change


def pyskl_file(
    path: Path, annotations: list[dict[str, Any]], split: dict[str, list[str]] | None, protocol: int = 4
) -> Path:
    content = annotations if split is None else {"split": split, "annotations": annotations}
    path.write_bytes(pickle.dumps(content, protocol))
    return path
