"""``doctor``: what works here, tried rather than guessed, and what to do about the rest."""

from __future__ import annotations

import hashlib
import json as json_module
import time as clock
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from engine.cli.machine import machine, versions
from engine.models.card import CARD_FILE, ONNX_FILE, CheckpointError, find_checkpoints, read_card
from engine.paths import DEFAULT_CHECKPOINT, DEMO_CLIP, POSE_BUNDLE, TRAINED_MODELS, pose_models, runs, user_data

_LIST_DEPTH = 200


def doctor(json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
    """Report versions, devices, runtimes, cameras and model files, and say what is wrong.

    Every runtime is really tried. Exit status 1 when something is missing that live recognition needs.

    Args:
        json: Print the report as JSON.
    """
    report = examine()
    if json:
        print(json_module.dumps(report, indent=1, ensure_ascii=False))
    else:
        print(describe(report))
    return 1 if report["problems"] else 0


def examine() -> dict[str, Any]:
    """The whole report as plain data; ``problems`` lists what live recognition lacks."""
    report: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "runtimes": [
            _try("onnx", _onnx),
            _try("torch", _torch),
            _try("tensorrt", _tensorrt),
            _try("tensorrt-rtx", _rtx),
            _try("auto", _automatic),
        ],
        "pose": _try("mediapipe", _pose),
        "cameras": _cameras(),
        "files": [_file(path) for path in _model_files()],
        "checkpoints": [_checkpoint(folder) for folder in find_checkpoints(TRAINED_MODELS, runs())],
        "folders": {"user data": str(user_data()), "shipped models": str(TRAINED_MODELS)},
    }
    report["problems"] = _problems(report)
    return report


def _try(name: str, attempt: Callable[[], str]) -> dict[str, Any]:
    """Run an attempt; its answer describes what works, its failure says why it does not."""
    begin = clock.perf_counter()
    try:
        detail, works = attempt(), True
    except ImportError as error:
        detail, works = f"not installed ({error})", False
    except Exception as error:
        detail, works = " ".join(str(error).split())[:_LIST_DEPTH] or type(error).__name__, False
    return {"name": name, "works": works, "detail": detail, "seconds": round(clock.perf_counter() - begin, 2)}


def _onnx() -> str:
    import numpy as np
    import onnxruntime as ort

    providers = [p.removesuffix("ExecutionProvider") for p in ort.get_available_providers()]
    if not (DEFAULT_CHECKPOINT / ONNX_FILE).is_file():
        return f"{ort.__version__}, providers {', '.join(providers)} (no shipped checkpoint to run)"
    from engine.deploy.runtime import load_runtime

    runtime = load_runtime(DEFAULT_CHECKPOINT, "onnx")
    clips = np.zeros((1, *runtime.card.preprocessing.shape), np.float32)
    runtime.predict(clips)
    begin = clock.perf_counter()
    for _ in range(5):
        runtime.predict(clips)
    took = (clock.perf_counter() - begin) / 5 * 1e3
    name = runtime.name
    runtime.close()
    return f"{ort.__version__}, {name}, {took:.1f} ms a clip; providers {', '.join(providers)}"


def _torch() -> str:
    import torch

    devices = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        devices.append("mps")
    (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()
    return f"{torch.__version__}, devices cpu{''.join(', ' + d for d in devices)}"


def _tensorrt() -> str:
    return _library("tensorrt")


def _rtx() -> str:
    return _library("tensorrt-rtx")


def _library(flavour: Literal["tensorrt", "tensorrt-rtx"]) -> str:
    from engine.deploy.cuda import CudaError, first_gpu
    from engine.deploy.tensorrt_build import find_library

    library = find_library(flavour)
    try:
        gpu = first_gpu()
    except CudaError as error:
        ahead = "can build engines here but not run them" if library.capabilities() else "can't be used here"
        raise RuntimeError(f"{library.version} {ahead}: {error}") from None
    if library.module.Builder(library.logger()) is None:
        raise RuntimeError(f"{library.version} can't make a builder on {gpu.name}")
    return f"{library.version}, {gpu.name} ({gpu.code})"


def _automatic() -> str:
    """What the live path takes for the shipped checkpoint, and why nothing before it."""
    from engine.deploy.runtime import load_runtime

    runtime = load_runtime(DEFAULT_CHECKPOINT)
    runtime.close()
    return "; ".join([f"takes {runtime.name}", *map(str, runtime.refused)])


def _pose() -> str:
    import numpy as np

    from engine.live.pose import PoseEstimator

    estimator = PoseEstimator(POSE_BUNDLE, num_poses=1)
    try:
        image = np.zeros((480, 640, 3), np.uint8)
        estimator.detect(image, 0.0)
    finally:
        estimator.close()
    return f"pose model {POSE_BUNDLE.name} loads and runs"


def _cameras() -> list[dict[str, Any]]:
    from engine.live.sources import list_cameras

    return [{"index": camera.index, "name": camera.name} for camera in list_cameras()]


def _model_files() -> list[Path]:
    fetched = sorted(pose_models().glob("*.task")) if pose_models().is_dir() else []
    return [POSE_BUNDLE, DEMO_CLIP, *fetched]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"path": str(path), "state": "missing", "bytes": 0, "sha256": None}
    return {"path": str(path), "state": "ok", "bytes": path.stat().st_size, "sha256": _digest(path)}


def _checkpoint(folder: Path) -> dict[str, Any]:
    """State of a checkpoint: its card, its files against their digests, and whether ONNX Runtime takes it."""
    item: dict[str, Any] = {"path": str(folder), "name": folder.name, "state": "ok", "detail": ""}
    try:
        card = read_card(folder)
        for name, digest in card.sha256.items():
            if not (folder / name).is_file():
                raise CheckpointError(f"{name} is missing")
            if _digest(folder / name) != digest:
                raise CheckpointError(f"{name} differs from the digest in {CARD_FILE}; it is damaged or was changed")
        from engine.deploy.onnx_runtime import OnnxRuntime

        OnnxRuntime(folder).close()
    except CheckpointError as error:
        return item | {"state": "damaged", "detail": str(error)}
    best = max((result.top1 for result in card.results), default=None)
    accuracy = "" if best is None else f", top 1 up to {best:.1%}"
    return item | {"detail": f"{card.backbone}, {len(card.classes)} classes, {card.dataset}{accuracy}"}


def _problems(report: dict[str, Any]) -> list[str]:
    problems = []
    if not report["runtimes"][0]["works"]:
        problems.append(f"ONNX Runtime does not work: {report['runtimes'][0]['detail']}")
    if not report["pose"]["works"]:
        problems.append(f"pose estimation does not work: {report['pose']['detail']}")
    problems += [
        f"{item['path']} is missing; reinstall the program" for item in report["files"] if item["state"] != "ok"
    ]
    problems += [
        f"checkpoint {item['name']}: {item['detail']}" for item in report["checkpoints"] if item["state"] != "ok"
    ]
    if not (DEFAULT_CHECKPOINT / CARD_FILE).is_file():
        problems.append(f"the default checkpoint {DEFAULT_CHECKPOINT} is missing; reinstall the program")
    return problems


def describe(report: dict[str, Any]) -> str:
    """The report as text for people."""
    host = report["machine"]
    lines = [
        f"Machine     {host['system']}",
        f"            {host['processor']}, {host['cores']} cores, {host['memory_gib']} GiB",
        f"Python      {host['python']}",
        "",
        "Packages",
        *(f"  {name:<24}{version or '-'}" for name, version in report["versions"].items()),
        "",
        "Runtimes (tried just now)",
        *(_tried(item) for item in report["runtimes"]),
        "",
        "Pose",
        _tried(report["pose"]),
        "",
        "Cameras",
        *([f"  {item['index']}  {item['name']}" for item in report["cameras"]] or ["  none found"]),
        "",
        "Files",
    ]
    for item in report["files"]:
        state = f"{item['bytes'] / 1e6:6.1f} MB  sha256 {item['sha256'][:16]}" if item["sha256"] else "MISSING"
        lines.append(f"  {Path(item['path']).name:<32}{state}")
    lines += ["", "Checkpoints"]
    lines += [f"  {i['name']:<32}{i['state']}  {i['detail']}" for i in report["checkpoints"]] or ["  none"]
    lines += ["", f"Your data    {report['folders']['user data']}", ""]
    problems = report["problems"]
    lines += ["Everything live recognition needs is here."] if not problems else ["Problems"]
    lines += [f"  - {text}" for text in problems]
    return "\n".join(lines)


def _tried(item: dict[str, Any]) -> str:
    return f"  {item['name']:<14}{'works' if item['works'] else 'no':<7}{item['detail']}"
