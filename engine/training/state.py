"""What a run needs to go on exactly: weights, buffers, optimiser, place in the data; one safetensors file.

Random numbers need no state of their own: whatever a step draws follows from its batch's seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from engine.training.run_folder import RunError, write_atomically

FORMAT = 1


def save_state(
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    about: dict[str, Any],
    average: nn.Module | None = None,
) -> None:
    """Write the state, replacing the last one at once.

    Parameters
    ----------
    path : Path
        File to write.
    module : nn.Module
        Its ``state_dict`` is kept.
    optimiser : torch.optim.Optimizer
        Any of torch's.
    about : dict
        Whatever JSON can hold: place in the data, sums so far.
    average : nn.Module, optional
        The running average of the weights; its ``state_dict`` is kept too.

    Raises
    ------
    FloatingPointError
        A number in it is not finite; the old file is kept, because it is the last good one.
    RunError
        It can't be written (a full disk); the old file is kept.
    """
    tensors = {f"module.{key}": value for key, value in module.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{key}": value for key, value in average.state_dict().items()}
    kept = optimiser.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for index, values in kept["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise FloatingPointError(f"{key} is not finite; {path.name} keeps the last good state")
    text = json.dumps({"format": FORMAT, "about": about, "groups": kept["param_groups"], "plain": plain})
    # Tensors may share memory, which the format doesn't allow: each is copied.
    data = save({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}, {"state": text})
    write_atomically(path, data)


def load_state(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, average: nn.Module | None = None
) -> dict[str, Any]:
    """Put a state back and return its ``about``; parameters as for :func:`save_state`.

    Raises
    ------
    RunError
        The file is damaged or of another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        module.load_state_dict(_part(tensors, "module."))
        if average is not None:
            average.load_state_dict(_part(tensors, "average."))
        states: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in header["plain"].items()}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".", 2)
                states.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({"state": states, "param_groups": header["groups"]})
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{path} is damaged or of another version ({error}); delete it to train this run from its beginning"
        ) from error
    about: dict[str, Any] = header["about"]
    return about


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
