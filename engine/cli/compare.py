"""``compare``: checkpoints side by side on one test part, for people and for the window."""

from __future__ import annotations

import json as json_module
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from engine.cli.live import find_checkpoint
from engine.cli.progress import Style, say, stop_with_input

_EVERY_S = 0.1


def compare(
    checkpoints: tyro.conf.Positional[tuple[Path, ...]],
    dataset: str | None = None,
    split: str | None = None,
    speed: bool = True,
    device: str = "auto",
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    progress: Style = "text",
) -> int:
    """Compare two or more checkpoints on the same test sequences.

    Accuracy per class with differences, confusion matrices, agreement, calibration, a map of the features, and speed in
    every runtime set up here. Answers are kept, so the same comparison is quick the second time.

    Examples: "compare utd_mhad_ctrgcn_joint utd_mhad_ctrgcn_joint_idle", "compare A B --dataset utd_mhad_mediapipe".

    Args:
        checkpoints: Checkpoint folders, or names of shipped or trained ones.
        dataset: Prepared store; default the one the first checkpoint was trained on.
        split: Split whose test part is used; default the first checkpoint's.
        speed: Also measure the runtimes (a few seconds).
        device: cpu, cuda, or auto for a GPU where there is one.
        json: Print everything as JSON.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    if progress == "json":
        stop_with_input()
    import torch

    from engine.deploy.side_by_side import measure_speed, remember_speed
    from engine.training.compare_run import compare_checkpoints

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    folders = [find_checkpoint(checkpoint) for checkpoint in checkpoints]
    listen = _Listener(progress, len(folders), speed)
    report = compare_checkpoints(folders, dataset, split, device, listen)
    report["speed"], report["not_here"] = [], []
    if speed:
        found, refused = measure_speed(folders, listen=lambda done, total: listen("measuring speed", done, total))
        remember_speed(folders, found)
        report["speed"] = [row.as_dict() for row in found]
        report["not_here"] = [{"checkpoint": number, "kind": kind, "reason": why} for number, kind, why in refused]
    listen.end()
    if json:
        print(json_module.dumps(report))
    else:
        _show(report)
    return 0


class _Listener:
    """Progress over all steps: every checkpoint is one, measuring the speed another."""

    def __init__(self, style: Style, models: int, speed: bool) -> None:
        self._style, self._steps = style, models + speed
        self._seen: list[str] = []
        self._last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        if what.startswith("reading"):
            self._say(what, len(self._seen) / self._steps)
            return
        if what not in self._seen:
            self._seen.append(what)
        ends = done == total
        if time.monotonic() - self._last < _EVERY_S and not ends:
            return
        self._last = time.monotonic()
        self._say(what, (len(self._seen) - 1 + done / max(total, 1)) / self._steps)

    def _say(self, what: str, share: float) -> None:
        if self._style == "json":
            say(what=what, done=round(1000 * share), total=1000, damaged=0)
        elif sys.stderr.isatty():
            print(f"\r{what}: {share:.0%}   ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._style == "text" and sys.stderr.isatty():
            print(file=sys.stderr)


def _show(report: dict[str, Any]) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    print(f"{report['dataset']} {report['split']}, {report['count']} test sequences, {len(report['classes'])} classes")
    for letter, model in zip(letters, report["models"]):
        print(
            f"  {letter}  {model['title']}: {model['top1']:.2%} right, calibration error "
            f"{model['calibration_error']:.3f} at a mean score of {model['mean_score']:.2f}"
        )
    for pair in report["pairs"]:
        a, b = letters[pair["a"]], letters[pair["b"]]
        print(
            f"{b} against {a}: {100 * pair['accuracy_difference']:+.2f} points (p = {pair['p_value']:.2g}, McNemar); "
            f"same answer on {pair['agreement']:.1%}; only {a} right {pair['only_a_right']}, only {b} right "
            f"{pair['only_b_right']}, both wrong {pair['both_wrong']}"
        )
    print("accuracy by class")
    first = report["pairs"][0]["class_difference"]
    order = sorted(range(len(first)), key=lambda i: first[i] if first[i] is not None else 0.0)
    for i in order:
        values = "  ".join(
            "   –  " if m["per_class"][i] is None else f"{m['per_class'][i]:6.1%}" for m in report["models"]
        )
        change = "      " if first[i] is None else f"{100 * first[i]:+6.1f}"
        print(f"  {values}  {change}  {report['classes'][i]}")
    for row in report["speed"]:
        size = f", {row['bytes'] / 1e6:.1f} MB" if row["bytes"] else ""
        print(f"  {letters[row['checkpoint']]}  {row['runtime']}: {row['p50_ms']:.1f} ms a clip{size}")
    for note in report["notes"]:
        print(f"note: {note}")
