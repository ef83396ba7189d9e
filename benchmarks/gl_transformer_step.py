"""Measures a pretraining step of GL-Transformer: the published size padded, trimmed and ragged, and the economical one.

    python benchmarks/gl_transformer_step.py [--repeats 3] [--threads 1]

A step is augmentation, targets, forward, loss, backward and AdamW, of two clips with lengths as NTU clips have. Padded:
both clips cost as much as 300 frames each. Trimmed: as much as the longer one. Ragged, what the method does: only their
own frames. All variants take turns in one process, the fastest turn counts; with one thread the thread's own processor
time is taken, which a busy machine disturbs less than the clock. Peak memory is of a process of its own that makes two
steps. Writes ``gl_transformer_step.md`` and ``.json`` beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.data.batch.recipes_gl_transformer import GlTransformerViews
from engine.methods.displacement import Displacement, DisplacementSettings
from engine.models.gl_transformer import ECONOMICAL, GLTransformer, multiply_adds
from engine.skeleton.layout import NTU25

# 91 frames is the mean of the eight lengths the other sequence benchmarks use.
LENGTHS = (61, 121)
PUBLISHED: dict[str, Any] = {}
NARROW = ECONOMICAL | {"frames": 300}
# Variant: encoder, lengths that are paid for, half precision.
VARIANTS: dict[str, tuple[dict[str, Any], tuple[int, ...], bool]] = {
    "published, padded to 300": (PUBLISHED, (300, 300), False),
    "published, trimmed to the longest": (PUBLISHED, (max(LENGTHS),) * 2, False),
    "published, ragged": (PUBLISHED, LENGTHS, False),
    "published, ragged, bf16": (PUBLISHED, LENGTHS, True),
    "economical width, 300 frames, padded": (NARROW, (300, 300), False),
    "economical width, 300 frames, ragged": (NARROW, LENGTHS, False),
    "economical, resized to 64": (ECONOMICAL, (64, 64), False),
    "economical, resized to 64, bf16": (ECONOMICAL, (64, 64), True),
}


def gmac(args: dict[str, Any], lengths: tuple[int, ...]) -> float:
    """Multiply-adds of one forward pass with heads, billions."""
    channels, blocks = args.get("channels", 48), args.get("blocks", 4)
    heads = 50 * channels * 3 * 50 * (27 + 16)
    return sum(multiply_adds(n, 50, channels, blocks) + n * heads for n in lengths) / 1e9


def method(args: dict[str, Any]) -> tuple[Displacement, torch.optim.Optimizer]:
    """The objective around an encoder, and its optimiser."""
    torch.manual_seed(0)
    # Unstretched, so that every variant has exactly the frames it is said to have.
    settings = DisplacementSettings(views=GlTransformerViews(stretch=0))
    made = Displacement(lambda: GLTransformer(60, **args), 50 * args.get("channels", 48), settings, NTU25)
    chosen = [p for p in made.parameters() if p.requires_grad]
    return made, torch.optim.AdamW(chosen, 5e-5, weight_decay=0.1, fused=True)


def stepper(
    made: Displacement, optimiser: torch.optim.Optimizer, lengths: tuple[int, ...], half: bool
) -> Callable[[], None]:
    """A function that makes one training step with clips of these lengths."""
    clips = torch.randn(len(lengths), 3, max(lengths), 25, 2) * 0.05
    real = torch.tensor(lengths)
    clips *= (torch.arange(max(lengths)) < real[:, None])[:, None, :, None, None]
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            loss = made((clips,), (real,), generator).loss
        loss.backward()
        optimiser.step()

    return step


def peak_memory(name: str) -> float:
    """GiB a process of its own needed for two steps."""
    here = [sys.executable, __file__, "--only-memory", name]
    return float(subprocess.run(here, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(repeats: int, threads: int) -> dict[str, dict[str, float]]:
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    best = dict.fromkeys(VARIANTS, float("inf"))
    # Variants of one encoder share its weights: four copies of the published one would not fit beside other work.
    for chosen in (PUBLISHED, NARROW, ECONOMICAL):
        made, optimiser = method(chosen)
        steps = {
            name: stepper(made, optimiser, lengths, half)
            for name, (args, lengths, half) in VARIANTS.items()
            if args is chosen
        }
        for turn in range(repeats + 1):
            for name, step in steps.items():
                began = clock()
                step()
                if turn:
                    best[name] = min(best[name], clock() - began)
        del made, optimiser, steps
    rows = {}
    for name, (args, lengths, _) in VARIANTS.items():
        cost = gmac(args, lengths)
        rows[name] = {
            "frames": sum(lengths),
            "gmac_forward": round(cost, 2),
            "step_s": round(best[name], 3),
            "gflop_per_s": round(6 * cost / best[name], 1),
            "peak_gib": peak_memory(name),
        }
    return rows


def report(result: dict[str, Any]) -> str:
    rows = result["rows"]
    base = rows["published, padded to 300"]["step_s"]
    lines = [
        "# GL-Transformer's pretraining step: padded, trimmed, ragged, economical",
        "",
        f"Made by `python benchmarks/gl_transformer_step.py` on {result['machine']}; {result['threads']} thread(s), "
        f"load average {result['load']} at the start (not a quiet machine above 1). Two clips of "
        f"{LENGTHS[0]} and {LENGTHS[1]} frames, two persons, NTU-25; augmentation, targets, forward, loss, backward, "
        "AdamW; seconds of the fastest turn, taking turns; memory is the peak of a process of its own, the "
        "interpreter's 0.3 GiB included.",
        "",
        "| variant | frames paid for | forward GMAC | step s | against padded | GFLOP/s | peak GiB |",
        "|" + "---|" * 7,
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['frames']} | {row['gmac_forward']} | {row['step_s']} | {base / row['step_s']:.1f}x "
            f"| {row['gflop_per_s']} | {row['peak_gib']} |"
        )
    lines += [
        "",
        "The published encoder has 198,883,200 parameters (61.323 GMAC at 300 frames), with heads 214,369,650; the "
        "economical one (64 frames, 16 channels, 2 blocks, 4 heads) 11,648,768. GFLOP/s count a step as three forward "
        "passes of two operations per multiply-add, AdamW not counted: with two clips AdamW over 214 million numbers "
        "is a fixed part of the published step that weighs less in larger batches. Those also gain more from "
        "ragged than from trimmed: eight clips of 52 to 140 frames are 1120 frames trimmed and 728 ragged.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_memory:
        torch.set_num_threads(1)
        args, lengths, half = VARIANTS[options.only_memory]
        step = stepper(*method(args), lengths, half)
        step(), step()
        # Not ru_maxrss: a child starts with its parent's.
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(round(int(peak.split()[1]) / 2**20, 2))
        return 0
    model = next((line.split(":")[1] for line in open("/proc/cpuinfo") if "model name" in line), platform.machine())
    result = {
        "machine": f"{model.strip()}, {os.cpu_count()} cores, PyTorch {torch.__version__}",
        "load": round(os.getloadavg()[0], 1),
        "threads": options.threads,
        "rows": measure(options.repeats, options.threads),
    }
    here = Path(__file__).resolve().parent
    (here / "gl_transformer_step.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "gl_transformer_step.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
