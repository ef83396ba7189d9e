"""``benchmark encoders``: the same checkpoint in every runtime that works here."""

from __future__ import annotations

import json as json_module
from datetime import date
from pathlib import Path

from engine.cli.live import find_checkpoint
from engine.cli.machine import machine, versions
from engine.cli.models import checkpoint_folders
from engine.paths import PROJECT


def encoders(checkpoint: Path | None = None, repeats: int = 40, threads: int = 1, out: Path | None = None) -> int:
    """Time ONNX Runtime against PyTorch eager at batch 1, 2 and 16, in alternating order; writes encoders.md and .json.

    Args:
        checkpoint: Checkpoint folder or name; default every shipped one.
        repeats: Calls per runtime and batch size.
        threads: Processor threads of both runtimes.
        out: Folder for the results; default benchmarks/ of the project.
    """
    from engine.deploy.benchmark import compare_runtimes
    from engine.models.card import read_card

    folders = [find_checkpoint(checkpoint)] if checkpoint else checkpoint_folders()
    host = machine()
    lines = [
        "# Encoders",
        "",
        "Made by `python main.py benchmark encoders`: one call after the other, runtimes in alternating order, fp32.",
        "",
        f"{date.today()}; {host['processor']}, {host['cores']} cores, {host['memory_gib']} GiB, "
        f"Python {host['python']}; {threads} thread(s).",
        "",
        "| checkpoint | clip | runtime | batch | p50 ms | p95 ms | clips/s | PyTorch / this | logits differ by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    results = []
    for folder in folders:
        card = read_card(folder)
        shape = "x".join(map(str, card.preprocessing.shape))
        rows = compare_runtimes(folder, repeats=repeats, threads=threads)
        eager = {row.batch: row.p50_ms for row in rows if row.runtime.startswith("PyTorch")}
        for row in rows:
            results.append(row.as_dict() | {"checkpoint": card.name, "clip": shape})
            lines.append(
                f"| {card.name} | {shape} | {row.runtime} | {row.batch} | {row.p50_ms:.2f} | {row.p95_ms:.2f} | "
                f"{row.clips_per_s:.0f} | {eager[row.batch] / row.p50_ms:.2f} | {row.max_difference:.1e} |"
            )
    target = out or PROJECT / "benchmarks"
    target.mkdir(parents=True, exist_ok=True)
    (target / "encoders.md").write_text("\n".join(lines) + "\n", "utf-8")
    report = {"date": str(date.today()), "machine": host, "versions": versions(), "rows": results}
    (target / "encoders.json").write_text(json_module.dumps(report, indent=1) + "\n", "utf-8")
    print("\n".join(lines[6:]))
    return 0
