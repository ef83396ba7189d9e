"""How fast several checkpoints run here, in every runtime that is set up for them, measured in turns."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.deploy.onnx_runtime import INT8_FILE
from engine.deploy.runtime import Runtime, RuntimeKind, load_runtime
from engine.models.card import ONNX_FILE, WEIGHTS_FILE, CheckpointCard, CheckpointError, read_card
from engine.paths import user_data

KINDS: tuple[RuntimeKind, ...] = ("onnx", "onnx-int8", "tensorrt", "torch")
_FILES: dict[RuntimeKind, str] = {"onnx": ONNX_FILE, "onnx-int8": INT8_FILE, "torch": WEIGHTS_FILE}
WARM_UP = 2
_MEMORY = "speeds.json"


@dataclass(frozen=True)
class Speed:
    """One clip through one checkpoint in one runtime: milliseconds, size of the file it runs (None: not a file)."""

    checkpoint: int
    kind: str
    runtime: str
    p50_ms: float
    p95_ms: float
    calls: int
    bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_speed(
    folders: Sequence[Path],
    calls: int = 30,
    seconds: float = 6.0,
    threads: int = 1,
    kinds: Sequence[RuntimeKind] = KINDS,
    listen: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Speed], list[tuple[int, str, str]]]:
    """Measure one clip at a time, as the live path does; calls of all alternate, so that a busy machine disturbs alike.

    Parameters
    ----------
    calls, seconds : int, float
        Calls per checkpoint and runtime, or fewer (three at least) when the time is up.

    Returns
    -------
    list of Speed, list of (checkpoint, kind, reason)
        What was measured, and what is not set up here.
    """
    opened: list[tuple[int, RuntimeKind, Runtime, np.ndarray]] = []
    refused: list[tuple[int, str, str]] = []
    for number, folder in enumerate(folders):
        for kind in kinds:
            try:
                runtime = load_runtime(folder, kind, threads)
            except CheckpointError as error:
                refused.append((number, kind, str(error)))
                continue
            shape = (1, *runtime.card.preprocessing.shape)
            clips = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            opened.append((number, kind, runtime, clips))
    taken: list[list[float]] = [[] for _ in opened]
    end = time.perf_counter() + seconds
    total = calls + WARM_UP
    for turn in range(total):
        if turn >= WARM_UP + 3 and time.perf_counter() > end:
            break
        order = range(len(opened)) if turn % 2 else reversed(range(len(opened)))
        for place in order:
            began = time.perf_counter()
            opened[place][2].predict(opened[place][3])
            if turn >= WARM_UP:
                taken[place].append((time.perf_counter() - began) * 1000)
        listen(turn + 1, total)
    found = []
    for (number, kind, runtime, _), times in zip(opened, taken, strict=True):
        p50, p95 = (float(value) for value in np.percentile(times, [50, 95]))
        file = folders[number] / _FILES[kind] if kind in _FILES else None
        size = file.stat().st_size if file is not None and file.is_file() else None
        found.append(Speed(number, kind, runtime.name, p50, p95, len(times), size))
        runtime.close()
    return found, refused


def _key(card: CheckpointCard) -> str:
    """A checkpoint by its weights, or by its graph where it has no digest of weights."""
    return card.sha256.get(WEIGHTS_FILE) or card.sha256.get(ONNX_FILE) or card.name


def remember_speed(folders: Sequence[Path], rows: Sequence[Speed]) -> None:
    """Keep the fastest runtime's milliseconds of every checkpoint, for lists; a full disk only costs the memory."""
    kept = remembered_speeds()
    for number, folder in enumerate(folders):
        mine = [row.p50_ms for row in rows if row.checkpoint == number]
        if mine:
            kept[_key(read_card(folder))] = round(min(mine), 2)
    path = user_data() / "cache" / _MEMORY
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept), "utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def remembered_speeds() -> dict[str, float]:
    """Milliseconds a clip by checkpoint (see :func:`speed_of`), as measured here before."""
    try:
        kept = json.loads((user_data() / "cache" / _MEMORY).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {str(key): float(ms) for key, ms in kept.items() if isinstance(ms, int | float)}


def speed_of(card: CheckpointCard, kept: dict[str, float]) -> float | None:
    """Remembered milliseconds of one checkpoint; None when it was never measured here."""
    return kept.get(_key(card))
