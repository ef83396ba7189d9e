"""torch.compile where it is wished for and there is a compiler; a run never fails for want of one."""

from __future__ import annotations

import logging

import torch
from torch import nn


def compile_encoder(encoder: nn.Module, wish: str, device: torch.device) -> str | None:
    """Compile an encoder's forward pass in place; names and values of its weights stay as they are.

    Whether a compiler works here is tried on a single small function first, on the device itself.

    Parameters
    ----------
    encoder : nn.Module
    wish : {"off", "auto", "on"}
        auto: on a GPU only, because on a processor the minutes of compiling rarely come back.
    device : torch.device
        Where the encoder is going to run.

    Returns
    -------
    str or None
        Why it was not compiled; empty if it was; None if nobody wished for it.
    """
    if wish == "off" or (wish == "auto" and device.type != "cuda"):
        return None
    reason = _missing_compiler(device)
    if not reason:
        # The last batch of a test is smaller than the others: evaluation asks for the plain forward pass instead.
        encoder.compile(dynamic=False)
    return reason


def _missing_compiler(device: torch.device) -> str:
    """Why nothing can be compiled for a device, in one line; empty if it can."""
    noise = logging.getLogger("torch._dynamo")
    level = noise.level
    try:
        noise.setLevel(logging.CRITICAL)
        with torch.no_grad():
            torch.compile(_small, dynamic=False)(torch.ones(64, device=device))
    except Exception as error:
        # Each backend has failures of its own: no compiler, one that doesn't work, no Triton, no Python headers.
        torch.compiler.reset()
        # torch begins with who raised it; what it was stands in the next line.
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
        return lines[0] if lines else type(error).__name__
    finally:
        noise.setLevel(level)
    return ""


def _small(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) * 2 + 1
