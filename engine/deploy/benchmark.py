"""Speed of the runtimes on one checkpoint: interleaved, so that a busy machine disturbs all of them alike."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.deploy.runtime import Runtime, load_runtime


@dataclass(frozen=True)
class Row:
    """One runtime at one batch size; times in milliseconds per call."""

    runtime: str
    threads: int
    batch: int
    p50_ms: float
    p95_ms: float
    clips_per_s: float
    max_difference: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_runtimes(
    folder: Path, batches: tuple[int, ...] = (1, 2, 16), repeats: int = 40, threads: int = 1
) -> list[Row]:
    """Time ONNX Runtime and PyTorch in turn on the same clips.

    Parameters
    ----------
    folder : Path
        Checkpoint with weights and graph.
    repeats : int
        Calls of each runtime per batch size, after three that are not counted.
    """
    runtimes: list[Runtime] = [load_runtime(folder, "torch", threads), load_runtime(folder, "onnx", threads)]
    rows = []
    for batch in batches:
        shape = (batch, *runtimes[0].card.preprocessing.shape)
        clips = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        reference = runtimes[0].predict(clips).logits
        differences = [float(np.abs(runtime.predict(clips).logits - reference).max()) for runtime in runtimes]
        times: list[list[float]] = [[] for _ in runtimes]
        for turn in range(repeats + 3):
            order = range(len(runtimes)) if turn % 2 else reversed(range(len(runtimes)))
            for which in order:
                began = time.perf_counter()
                runtimes[which].predict(clips)
                if turn >= 3:
                    times[which].append((time.perf_counter() - began) * 1000)
        for runtime, taken, difference in zip(runtimes, times, differences, strict=True):
            p50, p95 = np.percentile(taken, [50, 95])
            rows.append(
                Row(runtime.name, threads, batch, float(p50), float(p95), 1000 * batch / float(p50), difference)
            )
    for runtime in runtimes:
        runtime.close()
    return rows
