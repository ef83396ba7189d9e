"""What this machine can train on, asked of a child process once, because finding out means loading torch."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from engine.training.recipe import automatic_precision
from skelapp.processes import child_environment, program

ASK_S = 90.0


@dataclass(frozen=True)
class Machine:
    """The answer of ``main.py devices --json``."""

    processor: str = ""
    cores: int = 1
    memory_gib: float = 0.0
    bf16_gain: float = 1.0
    gpus: tuple[dict[str, Any], ...] = field(default_factory=tuple)
    problem: str = ""

    def lines(self) -> list[str]:
        """The machine in words, GPUs first."""
        if self.problem:
            return [f"What this machine has could not be found out: {self.problem}"]
        found = [f"GPU {gpu['index']}: {gpu['name']}, {gpu['memory_gib']:.0f} GiB" for gpu in self.gpus]
        if not found:
            found = ["No CUDA GPU"]
        return [*found, f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB"]

    def chosen(self, accelerator: str) -> str:
        """``cuda`` or ``cpu`` for a recipe's ``accelerator``."""
        return ("cuda" if self.gpus else "cpu") if accelerator == "auto" else accelerator

    def precision(self, recipe: dict[str, Any]) -> str:
        """The precision a recipe would have here."""
        wanted = recipe.get("precision", "fp32")
        if wanted != "auto":
            return wanted
        processes = 1 if recipe.get("devices", 1) == recipe.get("nodes", 1) == 1 else 2
        device, bf16 = self.chosen(recipe.get("accelerator", "auto")), all(gpu["bf16"] for gpu in self.gpus)
        return automatic_precision(device, processes, bf16, lambda: self.bf16_gain)

    def complaints(self, recipe: dict[str, Any]) -> dict[str, str]:
        """Fields of a recipe that can't be had here, with what to do."""
        if self.problem:
            return {}
        found: dict[str, str] = {}
        where = self.chosen(recipe.get("accelerator", "auto"))
        devices, precision = recipe.get("devices", 1), self.precision(recipe)
        if where == "cuda" and not self.gpus:
            found["accelerator"] = "There is no CUDA GPU here; choose auto or cpu."
        elif where == "cuda" and isinstance(devices, int) and devices > len(self.gpus):
            found["devices"] = f"{len(self.gpus)} CUDA devices are here."
        elif where == "cpu" and precision == "fp16":
            found["precision"] = "fp16 needs a GPU; on the processor choose bf16 or fp32."
        elif where == "cuda" and precision == "bf16" and not all(gpu["bf16"] for gpu in self.gpus):
            found["precision"] = "This GPU has no bf16; choose fp16 or fp32."
        return found

    def plan(self, recipe: dict[str, Any], threads: int) -> str:
        """Where a recipe would run, in a sentence."""
        precision = self.precision(recipe)
        if self.chosen(recipe.get("accelerator", "auto")) == "cuda" and self.gpus:
            count = recipe.get("devices", 1)
            name = self.gpus[0]["name"]
            return f"Runs on {name if count == 1 else f'{count} GPUs ({name})'} in {precision}."
        own = recipe.get("threads") or threads
        note = ""
        if precision == "bf16":
            much = self.bf16_gain >= 1.1
            note = f" (its matrix products: {self.bf16_gain:.1f} × fp32)" if much else " (fp32 is no slower here)"
        return f"Runs on the processor with {own} of {self.cores} threads in {precision}{note}."


class Asking:
    """Asks the engine; :meth:`ask` takes some seconds, so it is called on a worker, and :meth:`cancel` ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False

    def ask(self) -> Machine:
        try:
            with subprocess.Popen(
                [*program(), "devices", "--json"],
                env=child_environment(1),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                self._process = process
                if self._cancelled:
                    process.kill()
                out, err = process.communicate(timeout=ASK_S)
            if process.returncode:
                return Machine(problem=(err.strip().splitlines() or ["no answer"])[-1])
            found = json.loads(out)
            return Machine(
                found["processor"], found["cores"], found["memory_gib"], found["bf16_gain"], tuple(found["gpus"])
            )
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            self.cancel()
            return Machine(problem=str(error))

    def cancel(self) -> None:
        self._cancelled = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
