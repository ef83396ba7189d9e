"""Measures live recognition while a training runs beside it, started as the window's Training panel starts one.

    python benchmarks/live_training.py [--seconds 60] [--threads 1] [--recipe nw_ucla_ctrgcn_joint]

First alone, then with the training, then alone again. The dataset of the recipe must be prepared. Writes
``live_training.md`` and ``live_training.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.benchmark import _standard_clip, measure_live
from engine.cli.live import find_checkpoint
from engine.cli.machine import machine, versions
from engine.training.recipe import load_recipe
from engine.training.run_folder import RunFolder
from skelapp.training.children import start


def clips_per_second(folder: RunFolder, since: float) -> float:
    """Median rate of the training's steps after ``since``."""
    rates = sorted(e["clips_per_s"] for e in folder.events() if e["event"] == "step" and e["at"] > since)
    return rates[len(rates) // 2] if rates else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1, help="The panel's default is all cores but one.")
    parser.add_argument("--recipe", default="nw_ucla_ctrgcn_joint")
    options = parser.parse_args()
    checkpoint = find_checkpoint(None)
    rows: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as temporary:
        clip = _standard_clip("demo", Path(temporary) / "clip.mp4")

        def live() -> dict:
            return measure_live(clip, checkpoint, "auto", 2, None, options.seconds)

        rows["alone, before"] = live()
        folder = RunFolder(Path(temporary) / "run")
        folder.begin(load_recipe(options.recipe, {"name": "run", "epochs": "1000"}))
        child = start(folder, options.threads, low_priority=True)
        try:
            while not any(event["event"] == "step" for event in folder.events()):
                if child.poll() is not None:
                    print((folder.path / "output.log").read_text(), file=sys.stderr)
                    return 1
                time.sleep(0.5)
            began = time.time()
            rows["while training"] = live()
            rows["while training"]["training_clips_per_s"] = round(clips_per_second(folder, began), 1)
            began = time.time()
            time.sleep(min(options.seconds, 20))
            alone = round(clips_per_second(folder, began), 1)
        finally:
            child.kill()
            child.wait()
        rows["alone, after"] = live()
    host = machine()
    lines = [
        "# Live recognition while a training runs",
        "",
        f"Made by `python benchmarks/live_training.py` on {host['processor']}, {host['cores']} cores. A 640x480 clip "
        f"at 30 frames/s, {options.seconds:.0f} s each; beside it {options.recipe} trained with {options.threads} "
        f"thread(s) at low priority, as the Training panel starts it ({alone} clips/s with nothing beside it).",
        "",
        "| | results/s | poses/s | dropped frames | grab to label p50, p95 | training, clips/s |",
        "|" + "---|" * 6,
    ]
    for name, row in rows.items():
        delay = row["grab_to_label_ms"] or {"p50": float("nan"), "p95": float("nan")}
        cells = [name, row["recognitions_per_s"], row["pose_fps"], row["dropped"]]
        cells += [f"{delay['p50']:.0f}, {delay['p95']:.0f} ms", row.get("training_clips_per_s", "")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    here = Path(__file__).resolve().parent
    (here / "live_training.md").write_text("\n".join(lines) + "\n", "utf-8")
    result = {"machine": host, "versions": versions(), "threads": options.threads, "recipe": options.recipe}
    result |= {"training_alone_clips_per_s": alone, "rows": rows}
    (here / "live_training.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
