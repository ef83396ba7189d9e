"""Where a run is executed: devices, processes and precision of a recipe, and what this machine is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from engine.methods.memory import Bank
from engine.methods.momentum import Queue
from engine.training.recipe import BaseRecipe, RecipeError, automatic_precision
from engine.training.run_folder import RunError, RunFolder

R = TypeVar("R", bound=BaseRecipe)
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def decided_precision(recipe: R, run: Path) -> R:
    """The recipe with ``precision: auto`` replaced by what it means here, or by what the run began with."""
    if recipe.precision != "auto":
        return recipe
    try:
        found: str = RunFolder(run).recipe().precision
    except RunError:
        # Not begun, or damaged, which its beginning will say.
        device = best_device() if recipe.accelerator == "auto" else recipe.accelerator
        bf16 = all(map(has_bf16, range(torch.cuda.device_count())))
        found = automatic_precision(device, recipe.devices * recipe.nodes, bf16, bf16_gain)
    return recipe.model_copy(update={"precision": found})


def has_bf16(gpu: int) -> bool:
    """Whether a GPU computes in bf16: from compute capability 8.0 on. Older ones only imitate it, slowly."""
    return torch.cuda.get_device_properties(gpu).major >= 8


def make_fabric(recipe: BaseRecipe) -> Fabric:
    """Devices and precision of a recipe, launched.

    Raises
    ------
    RecipeError
        There is no such device here, or not so many, or the precision needs another one or is not decided.
    """
    if recipe.precision == "auto":
        raise RecipeError("precision auto is decided before a run begins (decided_precision)")
    cuda = torch.cuda.device_count()
    accelerator = ("cuda" if cuda else "cpu") if recipe.accelerator == "auto" else recipe.accelerator
    if accelerator == "cuda" and recipe.devices > cuda:
        raise RecipeError(f"{recipe.devices} CUDA devices are wanted, {cuda} are here; accelerator: cpu does without")
    if accelerator == "cpu" and recipe.precision == "fp16":
        raise RecipeError("precision fp16 needs a GPU; on the processor use bf16 or fp32")
    fabric = Fabric(
        accelerator=accelerator,
        devices=recipe.devices,
        num_nodes=recipe.nodes,
        strategy="ddp" if recipe.devices * recipe.nodes > 1 else "auto",
        precision=PRECISIONS[recipe.precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def on_devices(fabric: Fabric, objective: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Any, Any]:
    """Objective and optimiser as a training loop uses them: moved to the device, gradients averaged over processes.

    With several processes the buffers of the first are sent to the others before every forward pass, so that batch
    norms, which see their own process's clips, test and save alike. Banks and queues are left out of that: every
    process writes the same gathered rows to the same places, and they are tens of megabytes. They are sent once, here,
    because two kinds of machines may round what they begin with differently.
    """
    if fabric.world_size == 1:
        return fabric.setup(objective, optimiser)
    # Before wrapping, the only time it is looked at. Prototypes stay in: they are small, and sums, so machines that
    # round differently would drift apart.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, set(_banks(objective)))
    wrapped = fabric.setup(objective, optimiser)
    for buffer in _banks(objective).values():
        distributed.broadcast(buffer, 0)
    return wrapped


def _banks(objective: nn.Module) -> dict[str, Tensor]:
    """Buffers of an objective's banks and queues by their names in it."""
    return {
        f"{name}.{key}".lstrip("."): buffer
        for name, module in objective.named_modules()
        if isinstance(module, (Bank, Queue))
        for key, buffer in module.named_buffers(recurse=False)
    }


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Let the processor take numbers below the smallest normal one (1.2e-38 in fp32) for zero, in this thread.

    Several processors compute with them many times slower, and sharp attention is full of them: they made InfoGCN's
    training 3.4 times slower on a Xeon. Threads that torch starts in here do the same, and keep to it; those it has
    already stay as they are, which costs time but next to no digit.
    """
    before = not bool((torch.tensor([1e-30]) * torch.tensor([1e-10])).item())
    # False where the processor can't.
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def best_device() -> str:
    """Where a test runs by default: a CUDA GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def bf16_gain(rounds: int = 5) -> float:
    """How many times as fast the processor multiplies matrices in bf16 as in fp32, by the fastest of ``rounds`` each.

    Measured, for what the processor says of itself misleads: some that have instructions for bf16 take twice as long
    with them. The matrices are of a size encoders have.
    """
    shapes = ((4096, 128), (128, 128))
    fastest = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        pairs = {kind: [torch.ones(shape, dtype=kind) for shape in shapes] for kind in fastest}
        for turn in range(rounds + 1):
            for kind, (left, right) in pairs.items():
                began = time.perf_counter()
                for _ in range(4):
                    left @ right
                # The first turn also chooses and prepares the kernels.
                if turn:
                    fastest[kind] = min(fastest[kind], time.perf_counter() - began)
    return round(fastest[torch.float32] / fastest[torch.bfloat16], 2)


def share_batch_norms(objective: nn.Module, fabric: Fabric) -> None:
    """Let every batch norm inside an objective see the batches of all processes; for one process nothing changes.

    Raises
    ------
    RecipeError
        Several processes without GPUs: torch has no such batch norm for processors.
    """
    if fabric.world_size == 1:
        return
    if fabric.device.type != "cuda":
        raise RecipeError("sync_batchnorm needs GPUs; without them leave it off")
    nn.SyncBatchNorm.convert_sync_batchnorm(objective)


def hardware(fabric: Fabric) -> dict[str, Any]:
    """Devices and threads of this run, for its environment report."""
    name = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else ""
    return {
        "device": str(fabric.device), "device_name": name, "processes": fabric.world_size,
        "threads": torch.get_num_threads(), "processors": os.cpu_count(),
    }  # fmt: skip


def memory_mib(fabric: Fabric) -> float:
    """Memory this run holds: the most so far on a GPU, what the process has now on a processor; MiB."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated(fabric.device) / 2**20
    return psutil.Process().memory_info().rss / 2**20
