"""What this machine is: for the doctor and for every benchmark's record."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = (
    "mediapipe", "onnxruntime", "onnx", "numpy", "opencv-python", "av", "PySide6-Essentials", "pyqtgraph", "torch",
    "tensorrt-cu13", "tensorrt-rtx-cu13-libs", "onnxruntime-gpu",
)  # fmt: skip


def processor() -> str:
    """Model name of the processor, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str | None]:
    """Installed version of every package that matters; None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, str | int | float]:
    """System, Python, processor, cores, memory in GiB."""
    import psutil

    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
