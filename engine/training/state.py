"""What a run needs to go on exactly: weights, buffers, optimiser, place in the data; one safetensors file.

Random numbers need no state of their own: whatever a step draws follows from its batch's seed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from engine.training.run_folder import RunError, write_atomically

FORMAT = 1
# The key of the digest in the header, and what stands for it while it is computed.
_DIGEST_KEY, _BLANK = b'"sha256":"', b"0" * 64


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
    copies = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    data = bytearray(save(copies, {"state": text, "sha256": _BLANK.decode()}))
    place = _digest_place(data)
    data[place] = hashlib.sha256(data).hexdigest().encode()
    write_atomically(path, data)


def load_state(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, average: nn.Module | None = None
) -> dict[str, Any]:
    """Put a state back and return its ``about``; parameters as for :func:`save_state`.

    Raises
    ------
    RunError
        The file is damaged, be it in one byte, or of another model.
    """
    try:
        _check_digest(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.keys() - {"state", "sha256"}:
                # Also a digest whose name is damaged, which would else look like none.
                raise ValueError(f"unknown entries {', '.join(metadata)}")
            header = json.loads(metadata["state"])
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


def _digest_place(data: bytes | bytearray) -> slice:
    """Where the digest stands in a state; empty in one written before there were digests.

    It stands in the header, so that state and digest are one file that is replaced at once. It is that of the whole
    file with noughts in its place. A quote in the header's other texts is escaped, so they can't be taken for it.
    """
    header = 8 + int.from_bytes(data[:8], "little")
    start = data.find(_DIGEST_KEY, 0, header)
    return slice(0, 0) if start < 0 else slice(start + len(_DIGEST_KEY), start + len(_DIGEST_KEY) + len(_BLANK))


def _check_digest(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = _digest_place(data)
    if place.stop:
        kept, data[place] = bytes(data[place]), _BLANK
        if hashlib.sha256(data).hexdigest().encode() != kept:
            raise ValueError("its bytes are not those that were saved")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
