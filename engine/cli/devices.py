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
    print(f"cpu     {found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB: fp32, bf16")
    print(f"        matrix products in bf16 took {1 / found['bf16_gain']:.2f} times as long as in fp32")
    for gpu in found["gpus"]:
        precisions = "fp32, fp16, bf16" if gpu["bf16"] else "fp32, fp16"
        print(f"cuda:{gpu['index']}  {gpu['name']}, {gpu['memory_gib']} GiB: {precisions}")
    if not found["gpus"]:
        print("no CUDA GPU")
    return 0


def examine() -> dict[str, Any]:
    """The machine as plain data: processor, cores, memory_gib, gpus (index, name, memory_gib, bf16), bf16_gain.

    ``bf16_gain`` is measured on the processor: how many times as many matrix products it makes in bf16 as in fp32.
    """
    import torch

    from engine.training.devices import bf16_gain, has_bf16

    gpus = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        gpus.append({
            "index": index, "name": about.name, "memory_gib": round(about.total_memory / 2**30, 1),
            "bf16": has_bf16(index),
        })  # fmt: skip
    host = machine()
    return {
        "processor": host["processor"], "cores": host["cores"], "memory_gib": host["memory_gib"],
        "bf16_gain": bf16_gain(), "gpus": gpus, "torch": torch.__version__,
    }  # fmt: skip
