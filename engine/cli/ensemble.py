"""``ensemble``: encoders of several streams tested as one."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import tyro

from engine.cli import CommandError
from engine.cli.progress import Style, say, stop_with_input
from engine.paths import stores


def ensemble(
    checkpoints: tyro.conf.Positional[tuple[Path, ...]],
    weights: str = "published",
    dataset: str | None = None,
    split: str | None = None,
    json: Path | None = None,
    progress: Style = "text",
) -> int:
    """Test checkpoints of several streams as one encoder: weighted sums of their logits.

    Args:
        checkpoints: Checkpoint folders, runs, or their names; the first one's dataset and split count.
        weights: published (by stream: joint and bone 0.6, motions 0.4; InfoGCN 1.5 and 1; the mean where all were
            pretrained by CMD or I2MD), equal, fitted (on the training part, which every encoder has seen: a hint, no
            measurement), or numbers such as 0.6,0.6,0.4,0.4.
        dataset: Prepared store to test on in place of the checkpoints' own.
        split: Split of that dataset; default the first checkpoint's.
        json: Write the result as JSON to this file, - for stdout.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    if progress == "json":
        stop_with_input()
        say(what=f"asking {len(checkpoints)} encoders", done=0, total=1, damaged=0)
    if len(checkpoints) < 2:
        raise CommandError("an ensemble needs at least two checkpoints")
    from engine.cli.live import find_checkpoint
    from engine.training.devices import best_device
    from engine.training.ensemble import members_of, report

    folders = [find_checkpoint(checkpoint) for checkpoint in checkpoints]
    members, store, name = members_of(folders, stores(), dataset, split, best_device(), weights == "fitted")
    found = report(members, store, name, weights)
    if json:
        text = json_module.dumps(found, indent=1, ensure_ascii=False)
        print(text) if str(json) == "-" else json.write_text(text + "\n", "utf-8")
    if str(json) == "-":
        return 0
    splits = found["splits"]
    titles = [f"{part}, {numbers['count']}" for part, numbers in splits.items()]
    rows = [["checkpoint", "stream", "weight", *titles]]
    for member in found["members"]:
        tested = [f"{numbers['top1']:.4f}" for numbers in member["splits"].values()]
        rows.append([member["checkpoint"], member["stream"], f"{member['weight']:g}", *tested])
    rows.append(
        [f"ensemble of {len(members)}", "", weights, *(f"{numbers['top1']:.4f}" for numbers in splits.values())]
    )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
