"""``benchmark encoders``: backbones and shipped checkpoints in every runtime and precision that works here."""

from __future__ import annotations

import json as json_module
import re
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import UsageError
from engine.cli.live import find_checkpoint
from engine.cli.machine import machine, versions
from engine.paths import PROJECT, TRAINED_MODELS

if TYPE_CHECKING:
    import numpy as np

    from engine.deploy.benchmark import Comparison, Row

_HEAD = ("runtime", "precision", "batch", "persons", "p50 ms", "p95 ms", "clips/s", "PyTorch fp32 / this", "file MB",
         "peak MB", "logits differ by", "of the largest")  # fmt: skip


def encoders(
    checkpoint: Path | None = None,
    backbones: tuple[str, ...] = (),
    batches: tuple[int, ...] = (1, 2, 16),
    repeats: int = 40,
    seconds: float = 20.0,
    threads: int = 1,
    memory: bool = True,
    out: Path | None = None,
) -> int:
    """Time encoders in every runtime and precision that works here, in alternating order; writes encoders.md and .json.

    Args:
        checkpoint: Only this checkpoint (folder or name); default the shipped ones and all backbones.
        backbones: Only these backbones, with fresh weights in their published size.
        batches: Clips per call.
        repeats: Calls per runtime, precision and batch size.
        seconds: Time that all runtimes of one batch size may take together; slow encoders are called less often.
        threads: Processor threads of every runtime.
        memory: Measure memory, in a process for each runtime.
        out: Folder for the results; default benchmarks/ of the project.
    """
    if repeats < 1 or threads < 1 or min(batches, default=0) < 1:
        raise UsageError("--repeats, --threads and --batches must be at least 1")
    from engine.deploy.benchmark import compare_runtimes

    host = machine()
    lines = [
        "# Encoders",
        "",
        "Made by `python main.py benchmark encoders`: one call after the other, all runtimes in alternating order. "
        "Peak memory is of a process that runs this alone. Backbones have fresh weights; persons 1 in one for two "
        "means an empty second slot. int8 of a backbone is calibrated on noise, so only its speed counts.",
        "",
        f"{date.today()}; {host['processor']}, {host['cores']} cores, {host['memory_gib']} GiB, "
        f"Python {host['python']}; {threads} thread(s).",
    ]
    results: list[dict[str, Any]] = []
    left_out: dict[str, dict[str, str]] = {}
    target = out or PROJECT / "benchmarks"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name, folder, calibration in _subjects(checkpoint, backbones, Path(temporary)):
            print(name, file=sys.stderr, flush=True)
            work = Path(temporary) / f"{name}.work"
            found = compare_runtimes(
                folder, work, batches, repeats, threads, seconds, calibration, memory=memory
            )  # fmt: skip
            lines += ["", *_table(name, folder, found)]
            results += [row.as_dict() | {"encoder": name} for row in found.rows]
            left_out[name] = {" ".join(variant): reason for variant, reason in found.left_out.items()}
            # Written after every encoder: the whole run takes long.
            (target / "encoders.md").write_text("\n".join([*lines, "", *_reasons(left_out)]) + "\n", "utf-8")
            report = {"date": str(date.today()), "machine": host, "versions": versions(), "threads": threads}
            content = report | {"rows": results, "left_out": left_out}
            (target / "encoders.json").write_text(json_module.dumps(content, indent=1) + "\n", "utf-8")
    print("\n".join([*lines[6:], "", *_reasons(left_out)]))
    return 0


def _subjects(
    checkpoint: Path | None, backbones: tuple[str, ...], temporary: Path
) -> Iterator[tuple[str, Path, np.ndarray | None]]:
    """Name, checkpoint folder and calibration clips of everything that is to be measured."""
    from engine.models.card import find_checkpoints, read_card
    from engine.models.checkpoint import BACKBONES
    from engine.models.gl_transformer import ECONOMICAL

    sizes: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in BACKBONES}
    sizes["gl_transformer_economical"] = ("gl_transformer", ECONOMICAL)
    if unknown := [name for name in backbones if name not in sizes]:
        raise UsageError(f"unknown backbone {', '.join(unknown)}; known: {', '.join(sizes)}")
    shipped = [] if backbones else find_checkpoints(TRAINED_MODELS)
    for folder in [find_checkpoint(checkpoint)] if checkpoint else shipped:
        yield read_card(folder).name, folder, _real_clips(folder)
    for name in backbones or (() if checkpoint else tuple(sizes)):
        yield name, _fresh(name, *sizes[name], temporary), None


def _fresh(name: str, backbone: str, arguments: dict[str, Any], temporary: Path) -> Path:
    """A checkpoint with fresh weights at the input its paper trains on."""
    import torch

    from engine.data.preprocess import Preprocessing
    from engine.models.card import CheckpointCard
    from engine.models.checkpoint import BACKBONES, build_encoder, save_checkpoint

    facts: Any = BACKBONES[backbone]
    setting = facts.card.setting
    match = re.match(r"\(3, (\d+),", facts.card.input)
    frames = arguments.get("frames", int(match[1]) if match else 64)
    torch.manual_seed(0)
    encoder: Any = build_encoder(backbone, setting["num_classes"], setting["layout"], setting["persons"], arguments)
    card = CheckpointCard(
        name=name,
        backbone=backbone,
        backbone_args=arguments,
        feature_dim=encoder.feature_dim,
        classes=[f"class {i}" for i in range(setting["num_classes"])],
        preprocessing=Preprocessing(layout=setting["layout"], persons=setting["persons"], frames=frames),
        dataset="none",
        split="none",
    )
    save_checkpoint(temporary / name, card, encoder)
    return temporary / name


def _real_clips(folder: Path) -> np.ndarray | None:
    """Training clips for int8, where the checkpoint's dataset is prepared here."""
    from engine.cli.export import training_clips
    from engine.data.store import StoreError
    from engine.models.card import read_card

    card = read_card(folder)
    try:
        return training_clips(card, card.dataset)
    except StoreError:
        return None


def _table(name: str, folder: Path, found: Comparison) -> list[str]:
    from engine.deploy.benchmark import REFERENCE
    from engine.models.card import read_card

    shape = "x".join(map(str, read_card(folder).preprocessing.shape))
    eager: dict[tuple[int, int], float] = {
        (row.batch, row.persons): row.p50_ms for row in found.rows if (row.runtime, row.precision) == REFERENCE
    }
    lines = [f"## {name}, clips {shape}", "", "| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    return lines + [_line(row, eager[row.batch, row.persons]) for row in found.rows]


def _line(row: Row, eager: float) -> str:
    cells = (
        row.runtime, row.precision, row.batch, row.persons, f"{row.p50_ms:.2f}", f"{row.p95_ms:.2f}",
        f"{row.clips_per_s:.1f}", f"{eager / row.p50_ms:.2f}", f"{row.bytes / 1e6:.1f}",
        "-" if row.peak_mb is None else f"{row.peak_mb:.0f}", f"{row.max_difference:.1e}",
        f"{row.relative_difference:.1e}",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _reasons(left_out: dict[str, dict[str, str]]) -> list[str]:
    """Why something is missing, said once for all encoders it is missing for."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, reasons in left_out.items():
        for variant, reason in reasons.items():
            grouped.setdefault((variant, reason), []).append(name)
    by_reason: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (variant, reason), names in grouped.items():
        by_reason.setdefault((reason, tuple(names)), []).append(variant)
    lines = [
        f"- {', '.join(variants)} ({'all' if len(names) == len(left_out) else ', '.join(names)}): {reason}"
        for (reason, names), variants in by_reason.items()
    ]
    return ["Not measured:", "", *lines] if lines else []
