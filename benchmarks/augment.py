"""Measures the augmentations: whole batches in torch against one clip at a time in NumPy, on one core.

    python benchmarks/augment.py [--rounds 30]

Writes ``augment.md`` and ``augment.json`` beside this file. The NumPy side is what a loader's worker would do with one
clip: vectorised within the clip, one clip after another. Both sides are timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.data.batch import geometric, joints, masking, streams, temporal  # noqa: E402
from engine.data.batch import recipes_gl_transformer as gl  # noqa: E402
from engine.data.batch import recipes_hiclr as hiclr  # noqa: E402
from engine.data.batch import recipes_i2md as cmd  # noqa: E402
from engine.data.batch import recipes_skeletongcl as gcl  # noqa: E402
from engine.data.batch.sampling import RandomCrop  # noqa: E402
from engine.data.preprocess import make_stream  # noqa: E402
from engine.skeleton.layout import NTU25  # noqa: E402

N = 128
MIRROR = list(NTU25.mirror)

# One clip at a time --------------------------------------------------------------------------------------------------


def one_mirror_crop(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    frames = x.shape[1]
    pad = frames // 6
    longer = np.concatenate((x[:, :pad][:, ::-1], x, x[:, -pad:][:, ::-1]), 1)
    start = rng.integers(0, 2 * pad + 1)
    return longer[:, start : start + frames]


def one_linear(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.tensordot(matrix.astype(np.float32), x, 1)


def one_shear(x: np.ndarray, rng: np.random.Generator, amplitude: float = 0.5) -> np.ndarray:
    matrix = rng.uniform(-amplitude, amplitude, (3, 3))
    np.fill_diagonal(matrix, 1)
    return one_linear(x, matrix)


def one_swap(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x[:, :, MIRROR] if rng.random() < 0.5 else x


def rotation(a: float, b: float, c: float) -> np.ndarray:
    rx = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def one_rotation(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    limits = np.full(3, np.deg2rad(1))
    limits[rng.integers(3)] = np.deg2rad(30)
    return one_linear(x, rotation(*rng.uniform(0, limits)))


def one_noise(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + rng.standard_normal(x.shape, np.float32) * np.float32(0.01) if rng.random() < 0.5 else x


def one_blur(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= 0.5:
        return x
    weights = np.exp(-(np.arange(-7, 8) ** 2) / (2 * rng.uniform(0.1, 2) ** 2)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (7, 7), (0, 0), (0, 0)))
    return sum(w * padded[:, k : k + x.shape[1]] for k, w in enumerate(weights))  # type: ignore[return-value]


def one_axis_mask(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = x.copy()
    if rng.random() < 0.5:
        x[rng.integers(3)] = 0
    return x


def one_joint_mask(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = x.copy()
    for t in range(x.shape[1]):
        x[:, t, rng.choice(25, 2, replace=False)] = 0
    return x


def one_basic(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return one_shear(one_mirror_crop(x, rng), rng)


def one_normal(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = one_rotation(one_swap(one_basic(x, rng), rng), rng)
    return one_axis_mask(one_blur(one_noise(x, rng), rng), rng)


def one_hiclr(x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    # The mask is one for the batch: no work of a worker.
    return [one_basic(x, rng), one_basic(x, rng), one_normal(x, rng), one_normal(x, rng)]


def one_crop_resize(x: np.ndarray, rng: np.random.Generator, low: float = 0.5, frames: int = 64) -> np.ndarray:
    n = x.shape[1]
    length = min(max(int(n * rng.uniform(low, 1)), 64), n)
    start = rng.integers(0, n - length + 1)
    at = np.clip((np.arange(frames) + 0.5) * length / frames - 0.5, 0, length - 1) + start
    left = at.astype(int)
    right = np.minimum(left + 1, n - 1)
    return x[:, left] + (at - left).astype(np.float32)[:, None, None] * (x[:, right] - x[:, left])


def one_ctrgcn(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return one_linear(one_crop_resize(x, rng), rotation(*rng.uniform(-0.3, 0.3, 3)))


def one_cmd(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = one_crop_resize(x, rng, 0.1)
    if rng.random() < 0.5:
        return one_shear(x, rng, 1.0)
    chosen = rng.choice(25, 15, replace=False)
    x[:, :, chosen] = 0 if rng.random() < 0.5 else one_linear(x[:, :, chosen], rng.uniform(-1, 1, (3, 3)))
    return x


def one_targets(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    directions, magnitudes = [], []
    for n in masking.INTERVALS:
        delta = x[:, np.maximum(np.arange(x.shape[1]) - n, 0)] - x
        signs = np.sign(delta).astype(np.int64) + 1
        directions.append(signs[0] + 3 * signs[1] + 9 * signs[2])
        length = np.sqrt((delta**2).sum(0))
        magnitudes.append(np.where(length == 0, 0, np.minimum(14, (length / 0.01).astype(np.int64) + 1)))
    return np.stack(directions), np.stack(magnitudes)


# Both sides ----------------------------------------------------------------------------------------------------------

Batch = Callable[[Tensor, torch.Generator], object]
One = Callable[[np.ndarray, np.random.Generator], object]


def cases() -> dict[str, tuple[int, Batch, One]]:
    """Name -> frames of the clip, the batch way, the way of one clip."""
    how = hiclr.HiclrViews()
    crop = RandomCrop()

    def lengths(x: Tensor) -> Tensor:
        return torch.full((len(x),), x.shape[2])

    def mirror_crop(x: Tensor, g: torch.Generator) -> Tensor:
        start = temporal.draw_mirror_crop(len(x), x.shape[2], 6, g)
        return temporal.take_frames(x, temporal.mirror_crop_frames(start, x.shape[2], 6))

    def rotate(x: Tensor, g: torch.Generator) -> Tensor:
        return geometric.transform(x, geometric.rotation(geometric.draw_axis_angles(len(x), 30, 1, g)))

    def swap(x: Tensor, g: torch.Generator) -> Tensor:
        return geometric.swap_sides(x, torch.rand(len(x), generator=g) < 0.5, MIRROR)

    def blur(x: Tensor, g: torch.Generator) -> Tensor:
        flags = torch.rand(len(x), generator=g) < 0.5
        return temporal.blur(x, temporal.blur_kernel(0.1 + 1.9 * torch.rand(len(x), generator=g)), flags)

    def joint_mask(x: Tensor, g: torch.Generator) -> Tensor:
        return joints.replace(x, joints.draw_joint_mask(len(x), x.shape[2], 25, 0.1, g))

    def targets(x: Tensor, g: torch.Generator) -> object:
        return masking.displacement_targets(x, lengths(x), masking.absent_second(x))

    return {
        "mirror crop (HiCLR)": (50, mirror_crop, one_mirror_crop),
        "shear": (50, lambda x, g: geometric.transform(x, geometric.draw_shear(len(x), 0.5, g)), one_shear),
        "side swap, p = 0.5": (50, swap, one_swap),
        "axis rotation": (50, rotate, one_rotation),
        "noise, p = 0.5": (50, lambda x, g: x + geometric.draw_noise(x, 0.01, 0.5, g), one_noise),
        "blur, p = 0.5": (50, blur, one_blur),
        "axis mask, p = 0.5": (
            50, lambda x, g: geometric.mask_axes(x, geometric.draw_axis_mask(len(x), 0.5, g)), one_axis_mask,
        ),
        "joint mask, one per clip": (50, joint_mask, one_joint_mask),
        "bone": (50, lambda x, g: streams.bone(x, NTU25), lambda x, r: make_stream(x, "bone", NTU25)),
        "motion": (50, lambda x, g: streams.motion(x), lambda x, r: make_stream(x, "joint_motion", NTU25)),
        "HiCLR basic view": (50, lambda x, g: hiclr.basic_view(x, g, how), one_basic),
        "HiCLR normal view": (50, lambda x, g: hiclr.normal_view(x, g, how), one_normal),
        "HiCLR, all four views (NumPy: without the mask)": (50, lambda x, g: hiclr.views(x, g, how), one_hiclr),
        "crop and resize 300 to 64": (
            300, lambda x, g: temporal.crop(x, lengths(x), crop, g), one_crop_resize,
        ),
        "CTR-GCN view from 300 frames": (300, lambda x, g: gcl.views(x, g, lengths=lengths(x)), one_ctrgcn),
        "CMD, both views from 300 frames": (
            300, lambda x, g: cmd.views(x, g, lengths=lengths(x)), lambda x, r: (one_cmd(x, r), one_cmd(x, r)),
        ),
        "GL-Transformer classes, 300 frames": (300, targets, one_targets),
        "GL-Transformer stretch and shear, 300 frames": (
            300, lambda x, g: gl.augment(x, g), lambda x, r: one_shear(one_crop_resize(x, r, 1.0, 290), r, 0.3),
        ),
    }  # fmt: skip


def collate(made: list) -> object:
    """What a loader does with a worker's clips: one tensor per view."""
    if isinstance(made[0], np.ndarray):
        return torch.from_numpy(np.stack(made))
    return [torch.from_numpy(np.stack(view)) for view in zip(*made, strict=True)]


def measure(rounds: int) -> dict[str, dict[str, float]]:
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    rows = {}
    for name, (frames, batch, one) in cases().items():
        clips = torch.randn(N, 3, frames, 25, 2, generator=generator)
        arrays = list(clips.numpy())
        times: dict[str, list[float]] = {"torch": [], "numpy": []}
        for turn in range(rounds + 2):
            start = time.thread_time()
            batch(clips, generator)
            middle = time.thread_time()
            collate([one(clip, rng) for clip in arrays])
            end = time.thread_time()
            if turn >= 2:
                times["torch"].append(middle - start)
                times["numpy"].append(end - middle)
        fast, slow = min(times["torch"]), min(times["numpy"])
        rows[name] = {
            "torch_ms": round(fast * 1e3, 2),
            "numpy_ms": round(slow * 1e3, 2),
            "torch_clips_per_s": round(N / fast),
            "numpy_clips_per_s": round(N / slow),
            "ratio": round(slow / fast, 1),
        }
        print(f"{name:45s} {rows[name]}", file=sys.stderr)
    return rows


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def report(result: dict) -> str:
    lines = [
        "# Augmentations: whole batches against one clip at a time, measured",
        "",
        f"Made by `python benchmarks/augment.py --rounds {result['rounds']}` on {result['machine']}, one core; "
        f"batch {N}, 25 joints, 2 persons, float32. Processor time of the best round, both sides in turn in one "
        "process. The NumPy side does the same to one clip after another, vectorised within the clip, and stacks the "
        "results. Views include their random draws.",
        "",
        "| what | torch ms/batch | clips/s | NumPy ms/batch | clips/s | faster |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        lines.append(
            f"| {name} | {row['torch_ms']} | {row['torch_clips_per_s']} | {row['numpy_ms']} | "
            f"{row['numpy_clips_per_s']} | {row['ratio']} x |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = f"{processor()}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
    # Processor time is spared the waiting for a busy machine, not the caches it shares.
    busy = (
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors" if hasattr(os, "getloadavg") else "load unknown"
    )
    result = {"machine": f"{machine}, {busy}", "rounds": options.rounds, "rows": measure(options.rounds)}
    here = Path(__file__).resolve().parent
    (here / "augment.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "augment.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
