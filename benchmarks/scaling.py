"""Measures what a second process brings to a training on the processor.

    python benchmarks/scaling.py [--turns 2] [--precision bf16] [--recipes NAME ...]

Every arrangement (one process with one thread, with two, two processes with one thread each joined by gloo) is a real
``main.py train`` of two short epochs on NW-UCLA with the recipe's own batch; the rate of the second epoch counts. They
take turns, and the fastest turn of each counts. Wants the prepared store ``nw_ucla``. Writes ``scaling.md`` and
``.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.machine import machine, versions

HERE = Path(__file__).resolve().parent
# Every sequence is seen once per epoch here, so that the contrast has fewer entries to choose from than it asks for.
RECIPES: dict[str, dict[str, object]] = {
    "nw_ucla_xview_ctrgcn_joint": {},
    "nw_ucla_xview_ctrgcn_skeletongcl_joint": {
        "method_args.mining.least_positives": 64,
        "method_args.mining.least_negatives": 256,
    },
}
# Processes and threads of each.
ARRANGEMENTS = ((1, 1), (1, 2), (2, 1))


def rate(recipe: str, processes: int, threads: int, precision: str, folder: Path) -> float:
    """Clips per second of the second epoch of a training that is thrown away."""
    options = RECIPES[recipe] | {
        "epochs": 2, "repeat": 1, "evaluate_every": 2, "precision": precision, "accelerator": "cpu",
        "devices": processes, "threads": threads,
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run = folder / f"{recipe}_{processes}_{threads}"
    command = [sys.executable, str(HERE.parent / "main.py"), "train", recipe, "--run", str(run), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    found = float([event for event in events if event["event"] == "epoch"][-1]["clips_per_s"])
    print(f"{recipe}: {processes} x {threads}: {found:.1f} clips/s", flush=True)
    return found


def report(result: dict[str, Any]) -> str:
    host = result["machine"]
    fastest = f", fastest of {result['turns']} turns" if result["turns"] > 1 else ""
    lines = [
        "# Training in two processes",
        "",
        f"Made by `python benchmarks/scaling.py` on {host['processor']}, {host['cores']} cores, no GPU. Two short "
        f"epochs of NW-UCLA in {result['precision']} with the recipe's batch, which all processes share; clips per "
        f"second of the second{fastest}, in brackets against one process with one thread.",
        "",
        "| recipe | " + " | ".join(f"{p} process{'es' * (p > 1)}, {t} thread{'s' * (t > 1)}" for p, t in ARRANGEMENTS)
        + " |",
        "|" + "---|" * (1 + len(ARRANGEMENTS)),
    ]  # fmt: skip
    for recipe, rates in result["rates"].items():
        base = rates[0]
        lines.append(f"| {recipe} | " + " | ".join(f"{r:.1f} ({r / base:.2f})" for r in rates) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    options = parser.parse_args()
    rates: dict[str, list[float]] = {recipe: [0.0] * len(ARRANGEMENTS) for recipe in options.recipes}
    for turn in range(options.turns):
        for recipe in options.recipes:
            for place, (processes, threads) in enumerate(ARRANGEMENTS):
                with tempfile.TemporaryDirectory(prefix="scaling") as folder:
                    found = rate(recipe, processes, threads, options.precision, Path(folder))
                rates[recipe][place] = max(rates[recipe][place], found)
        print(f"turn {turn + 1} of {options.turns}", flush=True)
    result = {
        "machine": machine(), "versions": versions(), "precision": options.precision, "turns": options.turns,
        "arrangements": ARRANGEMENTS, "rates": rates,
    }  # fmt: skip
    (HERE / "scaling.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (HERE / "scaling.md").write_text(report(result), "utf-8")
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
