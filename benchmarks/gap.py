"""Accuracy on Kinect joints and through the camera: the same test sequences twice, before and after training on films.

``python benchmarks/gap.py CHECKPOINT...`` (default: every checkpoint whose dataset is prepared and filmed here) writes
``gap.md`` and ``gap.json``.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from engine.cli.machine import machine
from engine.cli.models import checkpoint_folders
from engine.data.sets import dataset_info, split_indices
from engine.data.store import SequenceStore, StoreError
from engine.models.checkpoint import load_encoder
from engine.paths import stores
from engine.training.evaluate import Evaluation, evaluate_encoder

HERE = Path(__file__).resolve().parent


def interval(result: Evaluation, subjects: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of top-1 over subjects (sequences of one subject are not independent)."""
    rng = np.random.default_rng(0)
    right = result.logits.argmax(1) == result.labels
    groups = [right[subjects == s] for s in np.unique(subjects)]
    draws = [
        np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]).mean() for _ in range(2000)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def measure(folder: Path) -> list[dict[str, Any]]:
    """Top-1 and top-5 of one checkpoint on every split of its dataset, from Kinect and from films."""
    encoder, card = load_encoder(folder)
    kinect = SequenceStore(stores() / card.dataset)
    rows = []
    for split in dataset_info(card.dataset).splits:
        _, test = split_indices(kinect, split)
        names = [kinect.names[int(i)] for i in test]
        for name in (card.dataset, f"{card.dataset}_mediapipe"):
            try:
                store = SequenceStore(stores() / name)
            except StoreError:
                continue
            indices = store.indices_of(names)
            result = evaluate_encoder(encoder, store, indices, card.preprocessing, card.classes)
            low, high = interval(result, store.column("subject")[indices])
            rows.append(
                {
                    "checkpoint": card.name,
                    "trained_on": card.trained_on,
                    "epochs": card.training.get("epochs"),
                    "seed": card.training.get("seed"),
                    "joints": name,
                    "split": split,
                    "count": result.count,
                    "top1": result.top1,
                    "low": low,
                    "high": high,
                    "top5": result.top5,
                    "per_class": result.per_class,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="*", type=Path)
    arguments = parser.parse_args()
    rows = [row for folder in arguments.checkpoints or checkpoint_folders() for row in measure(folder)]
    host = machine()
    lines = [
        "# Accuracy on Kinect joints and through the camera",
        "",
        "The same test sequences twice: Kinect's own joints, and the joints the live path delivers when it watches the",
        "rendered actor perform them (`main.py data film`). Made by `benchmarks/gap.py`; last epoch of one",
        "run each; the interval is a bootstrap over test subjects.",
        "",
        f"{date.today()}; {host['processor']}, {host['cores']} cores.",
        "",
        "| checkpoint | trained on | epochs, seed | tested on | split | sequences | top-1 | 95 % interval | top-5 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        trained = ", ".join(row["trained_on"])
        lines.append(
            f"| {row['checkpoint']} | {trained} | {row['epochs']}, {row['seed']} | {row['joints']} | {row['split']} | "
            f"{row['count']} | {row['top1']:.1%} | {row['low']:.1%} to {row['high']:.1%} | {row['top5']:.1%} |"
        )
    report = {"date": str(date.today()), "machine": host, "rows": rows}
    (HERE / "gap.md").write_text("\n".join(lines) + "\n", "utf-8")
    (HERE / "gap.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print("\n".join(lines[8:]))


if __name__ == "__main__":
    main()
