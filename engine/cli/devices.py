"""``devices``: what trainings can run on here, asked of torch."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import tyro

from engine.cli.machine import machine


def devices(json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
    """Say what trainings can run on here: processor, GPUs, memory, precisions.

    Args:
        json: Print it as JSON.
    """
    found = examine()
    if json:
        print(json_module.dumps(found))
        return 0
    units = "with bf16 units" if found["bf16_units"] else "without bf16 units"
    print(f"cpu     {found['processor']}, {found['cores']} cores {units}, {found['memory_gib']} GiB: fp32, bf16")
    for gpu in found["gpus"]:
        precisions = "fp32, fp16, bf16" if gpu["bf16"] else "fp32, fp16"
        print(f"cuda:{gpu['index']}  {gpu['name']}, {gpu['memory_gib']} GiB: {precisions}")
    if not found["gpus"]:
        print("no CUDA GPU")
    return 0


def examine() -> dict[str, Any]:
    """The machine as plain data: processor, cores, memory_gib, bf16_units, gpus (index, name, memory_gib, bf16)."""
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        gpus.append({
            "index": index, "name": about.name, "memory_gib": round(about.total_memory / 2**30, 1),
            # From compute capability 8.0 on; older ones only imitate it, slowly.
            "bf16": about.major >= 8,
        })  # fmt: skip
    host = machine()
    return {
        "processor": host["processor"], "cores": host["cores"], "memory_gib": host["memory_gib"],
        "bf16_units": torch.backends.mkldnn.is_available() and _bf16_units(), "gpus": gpus, "torch": torch.__version__,
    }  # fmt: skip


def _bf16_units() -> bool:
    """Whether the processor multiplies bf16 in hardware."""
    from torch import cpu

    asked = [getattr(cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(ask() for ask in asked if ask is not None)
