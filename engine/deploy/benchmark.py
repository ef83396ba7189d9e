"""Speed, size, memory and exactness of an encoder in every runtime and precision that works on this machine.

Calls of all variants alternate, so that a busy machine disturbs them alike. Memory is that of a process of its own that
runs one variant and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.deploy.runtime import Runtime
from engine.models.card import WEIGHTS_FILE, CheckpointError
from engine.paths import PROJECT

WARM_UP = 3


class Variant(NamedTuple):
    """A runtime and the precision it computes in."""

    runtime: str
    precision: str


REFERENCE = Variant("torch-cpu", "fp32")
VARIANTS = (
    REFERENCE,
    Variant("torch-cpu", "bf16"),
    Variant("onnx-cpu", "fp32"),
    Variant("onnx-cpu", "int8"),
    Variant("torch-cuda", "fp32"),
    Variant("torch-cuda", "bf16"),
    Variant("onnx-cuda", "fp32"),
    Variant("onnx-cuda", "fp16"),
    *(Variant(flavour, kind) for flavour in ("tensorrt", "tensorrt-rtx") for kind in ("fp32", "fp16", "bf16", "int8")),
)


class Case(NamedTuple):
    """Clips of one call, and how many persons are in each."""

    batch: int
    persons: int


@dataclass(frozen=True)
class Row:
    """One variant on one case; times in milliseconds per call, ``None`` where memory was not measured.

    ``relative_difference`` is the largest difference of logits to PyTorch in fp32 against the largest logit.
    """

    runtime: str
    precision: str
    threads: int
    batch: int
    persons: int
    p50_ms: float
    p95_ms: float
    clips_per_s: float
    calls: int
    bytes: int
    peak_mb: float | None
    max_difference: float
    relative_difference: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Comparison:
    """The measured rows, and for every variant that could not be measured the reason."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[Variant, str] = field(default_factory=dict)


def prepare(folder: Path, variant: Variant, calibration: np.ndarray) -> Path:
    """Export what a variant runs; returns the file. Raises :class:`CheckpointError` where it does not work here."""
    from engine.deploy.cuda import CudaError, first_gpu
    from engine.deploy.export import export_onnx, export_tensorrt

    runtime, precision = variant
    if runtime.startswith("torch"):
        return folder / WEIGHTS_FILE
    if runtime == "onnx-cuda":
        import onnxruntime as ort

        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise CheckpointError("this ONNX Runtime has no CUDA")
    if runtime.startswith("onnx"):
        return export_onnx(folder, None, precision, calibration).path  # type: ignore[arg-type]
    try:
        first_gpu()
    except CudaError as error:
        raise CheckpointError(str(error)) from error
    return export_tensorrt(folder, runtime, folder, precision, None, calibration).path  # type: ignore[arg-type]


def open_variant(folder: Path, variant: Variant, threads: int) -> Runtime:
    """The runtime of a prepared variant."""
    runtime, precision = variant
    kind, _, device = runtime.partition("-")
    options: Any = {"precision": precision, "device": device}
    if kind == "torch":
        from engine.deploy.torch_runtime import TorchRuntime

        return TorchRuntime(folder, threads, **options)
    if kind == "onnx":
        from engine.deploy.onnx_runtime import OnnxRuntime

        return OnnxRuntime(folder, threads, **options)
    from engine.deploy.tensorrt_runtime import TensorRTRuntime

    return TensorRTRuntime(folder, folder, precision)


def clips_for(shape: tuple[int, int, int, int], case: Case, real: np.ndarray | None = None) -> np.ndarray:
    """The last real clips, or random ones; the person slots after ``case.persons`` are empty."""
    if real is not None:
        clips = np.array(real[np.arange(-case.batch, 0) % len(real)])
    else:
        clips = np.random.default_rng(0).standard_normal((case.batch, *shape)).astype(np.float32)
    clips[..., case.persons :] = 0
    return clips


def compare_runtimes(
    folder: Path,
    work: Path,
    batches: tuple[int, ...] = (1, 2, 16),
    repeats: int = 40,
    threads: int = 1,
    seconds: float = 20.0,
    calibration: np.ndarray | None = None,
    variants: tuple[Variant, ...] = VARIANTS,
    memory: bool = True,
) -> Comparison:
    """Measure one checkpoint; the PyTorch processor runtime in fp32 is the reference and always measured.

    Parameters
    ----------
    folder, work : Path
        Checkpoint with weights, left as it is; an empty folder for the exports.
    repeats : int
        Calls per variant and case, after a few that are not counted.
    seconds : float
        Time all variants of one case may take together; slow ones are called less often, but three times at least.
    calibration : numpy.ndarray, optional
        Real clips: int8 takes its ranges from all but the last of them, and those are what is run. Default random
        clips for both, good enough for the speed of int8 and not for its exactness.
    """
    work.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name in ("card.json", WEIGHTS_FILE):
            shutil.copy(path, work / path.name)
    found = Comparison()
    opened: dict[Variant, Runtime] = {REFERENCE: open_variant(work, REFERENCE, threads)}
    shape = opened[REFERENCE].card.preprocessing.shape
    real = calibration
    if calibration is None:
        calibration = clips_for(shape, Case(8, shape[3]))
    elif len(calibration) > 2 * max(batches):
        calibration = calibration[: -max(batches)]
    files = {REFERENCE: work / WEIGHTS_FILE}
    for variant in variants:
        if variant in opened:
            continue
        try:
            files[variant] = prepare(work, variant, calibration)
            opened[variant] = open_variant(work, variant, threads)
        except CheckpointError as error:
            found.left_out[variant] = str(error)
    cases = [Case(batch, shape[3]) for batch in batches]
    if shape[3] > 1:
        cases.append(Case(1, 1))
    peaks = {v: peak_memory(work, v, threads, batches) if memory else {} for v in opened}
    for case in cases:
        clips = clips_for(shape, case, real)
        expected = opened[REFERENCE].predict(clips).logits
        taken = _alternate(opened, clips, repeats, seconds)
        for variant, runtime in opened.items():
            difference = float(np.abs(runtime.predict(clips).logits - expected).max())
            p50, p95 = (float(value) for value in np.percentile(taken[variant], [50, 95]))
            found.rows.append(
                Row(
                    *variant, threads, *case, p50, p95, 1000 * case.batch / p50, len(taken[variant]),
                    files[variant].stat().st_size, peaks[variant].get(case.batch), difference,
                    difference / max(float(np.abs(expected).max()), 1e-6),
                )
            )  # fmt: skip
    for runtime in opened.values():
        runtime.close()
    return found


def _alternate(
    opened: dict[Variant, Runtime], clips: np.ndarray, repeats: int, seconds: float
) -> dict[Variant, list[float]]:
    """Milliseconds of every call; the order turns round each time, so that nobody always follows the same one."""
    taken: dict[Variant, list[float]] = {variant: [] for variant in opened}
    order = list(opened)
    end = time.perf_counter() + seconds
    for turn in range(repeats + WARM_UP):
        if turn >= WARM_UP + 3 and time.perf_counter() > end:
            break
        for variant in order if turn % 2 else reversed(order):
            began = time.perf_counter()
            opened[variant].predict(clips)
            if turn >= WARM_UP:
                taken[variant].append((time.perf_counter() - began) * 1000)
    return taken


def peak_memory(folder: Path, variant: Variant, threads: int, batches: tuple[int, ...]) -> dict[int, float]:
    """Largest resident size in MB of a process that runs one variant, up to and with each batch size."""
    command = [sys.executable, "-m", "engine.deploy.benchmark", str(folder), *variant, str(threads)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, *map(str, sorted(batches))], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {}
    return {int(batch): value for batch, value in json.loads(done.stdout.splitlines()[-1]).items()}


def _resident_peak() -> float:
    """Largest resident size of this process so far, MB."""
    try:
        # Not getrusage: its peak is handed down from the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import psutil

    info = psutil.Process().memory_info()
    return float(getattr(info, "peak_wset", info.rss)) / 1e6


def _measure_memory(arguments: list[str]) -> None:
    folder, runtime, precision, threads, *batches = arguments
    opened = open_variant(Path(folder), Variant(runtime, precision), int(threads))
    shape = opened.card.preprocessing.shape
    peaks = {}
    for batch in batches:
        for _ in range(2):
            opened.predict(clips_for(shape, Case(int(batch), shape[3])))
        peaks[batch] = round(_resident_peak(), 1)
    print(json.dumps(peaks))


if __name__ == "__main__":
    _measure_memory(sys.argv[1:])
