"""The everyday model on people it has not seen: in all, per class and set, through the camera, and how sure it is.

``python benchmarks/everyday.py CHECKPOINT`` writes ``everyday.md`` and ``everyday.json``; ``--card`` also puts results,
per-class numbers and the licences of the merged sets into the checkpoint's card.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from gap import interval
from scipy.stats import mannwhitneyu

from engine.cli.live import find_checkpoint
from engine.cli.machine import machine
from engine.data.augment import evaluation_clip
from engine.data.merge import TESTED_AS_UNKNOWN
from engine.data.sets import DATASETS, base_name, split_indices
from engine.data.store import SequenceStore, StoreError
from engine.deploy.side_by_side import measure_speed
from engine.models.card import CheckpointCard, Result, read_card, write_card
from engine.models.checkpoint import load_encoder
from engine.paths import stores
from engine.training.calibrate import calibration_error, softmax
from engine.training.evaluate import Evaluation, evaluate_encoder, predict_clips

HERE = Path(__file__).resolve().parent
CAMERA = "through the camera"


@dataclass(frozen=True)
class Tested:
    """What a checkpoint says about sequences, with who did them and which set they are from."""

    result: Evaluation
    names: list[str]
    subject: np.ndarray
    origin: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return self.result.logits.argmax(1) == self.result.labels


def test(encoder: Any, card: CheckpointCard, store: SequenceStore, names: list[str]) -> Tested:
    """Test on the sequences of these names that a store holds."""
    indices = store.indices_of(names)
    result = evaluate_encoder(encoder, store, indices, card.preprocessing, card.classes)
    columns = (store.column(key)[indices] for key in ("subject", "set"))
    return Tested(result, [store.names[int(i)] for i in indices], *columns)


def numbers(tested: Tested, temperature: float) -> dict[str, Any]:
    """Everything that is reported of one list of tested sequences."""
    result, right = tested.result, tested.right
    low, high = interval(result, tested.subject)
    sets = {}
    for name in np.unique(tested.origin):
        mine = tested.origin == name
        part = interval(result.subset(mine), tested.subject[mine])
        sets[str(name)] = {"count": int(mine.sum()), "top1": float(right[mine].mean()), "low": part[0], "high": part[1]}
    recalls = result.per_class
    logits = result.logits.astype(np.float64)
    return {
        "count": result.count,
        "subjects": len(np.unique(tested.subject)),
        "top1": result.top1,
        "low": low,
        "high": high,
        "top5": result.top5,
        "mean_of_classes": float(np.mean(list(recalls.values()))),
        "per_class": {
            name: {"count": int((result.labels == result.classes.index(name)).sum()), "recall": value}
            for name, value in recalls.items()
        },
        "per_set": sets,
        "most_confused": result.most_confused(15),
        "calibration_error": calibration_error(softmax(logits, 1.0).max(1), right),
        "calibration_error_with_temperature": calibration_error(softmax(logits, temperature).max(1), right),
    }


def loss(kinect: Tested, camera: Tested) -> dict[str, Any]:
    """Top-1 lost through the camera on the sequences both have, with a 95 % interval over subjects (paired)."""
    place = {name: i for i, name in enumerate(kinect.names)}
    same = [place[name] for name in camera.names]
    lost = kinect.right[same].astype(float) - camera.right
    groups = [lost[camera.subject == s] for s in np.unique(camera.subject)]
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(groups), size=len(groups)) for _ in range(2000))
    draws = [np.concatenate([groups[i] for i in chosen]).mean() for chosen in drawn]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"count": len(same), "points": float(lost.mean()), "low": float(low), "high": float(high)}


def unknown_actions(encoder: Any, card: CheckpointCard, store: SequenceStore, known: Tested) -> dict[str, Any] | None:
    """How sure the encoder is of actions it has no word for, of kinds that trained nothing, against the known test.

    ``shown`` is the share of windows whose score reaches the card's ``enter`` without being idle.
    """
    if "unknown" not in store.meta_keys:
        return None
    indices = np.flatnonzero((store.column("unknown") == TESTED_AS_UNKNOWN) & (store.label < 0))
    if not len(indices):
        return None
    clips = np.stack([evaluation_clip(store.sequence(int(i)), card.preprocessing) for i in indices])
    sides = {"known": known.result.logits, "unknown": predict_clips(encoder, clips)}
    scores, shown = {}, {}
    for side, logits in sides.items():
        found = softmax(logits.astype(np.float64), card.decision.temperature)
        if card.decision.idle_class is not None:
            found[:, card.classes.index(card.decision.idle_class)] = 0.0
        scores[side] = found.max(1)
        shown[side] = float((scores[side] >= card.decision.enter).mean())
    # Mann and Whitney's U counts the pairs in which the known one is surer: over all pairs, the area under the curve.
    surer = mannwhitneyu(scores["known"], scores["unknown"]).statistic
    auroc = float(surer) / (len(scores["known"]) * len(scores["unknown"]))
    kinds = len(np.unique(store.column("source")[indices]))
    return {"count": len(indices), "kinds": kinds, "auroc": auroc, "shown": shown, "enter": card.decision.enter}


def encoder_ms(folder: Path) -> dict[str, float]:
    """Median milliseconds of one decision's encoder on one and on two threads of the graph that runs live."""
    found = {}
    for threads in (1, 2):
        speeds, refused = measure_speed([folder], calls=200, seconds=30.0, threads=threads, kinds=("onnx",))
        if refused:
            print(f"not timed: {refused[0][2]}")
            return {}
        found[str(threads)] = speeds[0].p50_ms
    return found


def calibrated_on(card: CheckpointCard) -> str:
    """What the temperature was fitted on, in words."""
    about = card.training.get("decision_calibrated_on")
    if not about:
        return "nothing (temperature 1)"
    people = about["subjects"] if isinstance(about["subjects"], str) else f"subjects {about['subjects']}"
    text = f"{about['windows']} windows of {about['store']}"
    if "twin" in about:
        return f"{text}, {people} of split {about['twin_split']}, by a twin that was trained without them"
    return f"{text}, {people}"


def licences(store: SequenceStore) -> str:
    """Licences of the sets a store was merged from, or of its own set."""
    sets = store.header["about"].get("merged") or {base_name(store.name): {}}
    named = [f"{name}: {DATASETS[name].licence}" for name in sets if name in DATASETS]
    return "; ".join(named) or "the data are the user's own"


def measure(folder: Path, dataset: str, split: str, films: str) -> dict[str, Any]:
    """All numbers of a checkpoint; the part through the camera only where films are here."""
    encoder, card = load_encoder(folder)
    store = SequenceStore(stores() / dataset)
    _, indices = split_indices(store, split)
    names = [store.names[int(i)] for i in indices]
    kinect = test(encoder, card, store, names)
    report: dict[str, Any] = {
        "date": str(date.today()), "machine": machine(), "checkpoint": card.name, "recipe": card.recipe_hash,
        "parent": card.training.get("start_from", ""), "seed": card.training.get("seed"),
        "epochs": card.training.get("epochs"), "dataset": dataset, "split": split, "classes": len(card.classes),
        "temperature": card.decision.temperature,
        "calibrated_on": calibrated_on(card),
        "licences": licences(store), "kinect": numbers(kinect, card.decision.temperature),
    }  # fmt: skip
    try:
        filmed = SequenceStore(stores() / films)
    except StoreError as error:
        report["camera"] = report["loss"] = None
        print(f"not measured through the camera: {error}")
    else:
        camera = test(encoder, card, filmed, names)
        report["camera"] = numbers(camera, card.decision.temperature)
        report["loss"] = loss(kinect, camera)
    report["unknown"] = unknown_actions(encoder, card, store, kinect)
    report["encoder_ms"] = encoder_ms(folder)
    return report


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    rows = [("Kinect joints", report["kinect"])] + ([(CAMERA, report["camera"])] if report["camera"] else [])
    parent = f", from {report['parent']}" if report["parent"] else ""
    lines = [
        "# The everyday model on people it has not seen",
        "",
        f"`{report['checkpoint']}` (recipe {report['recipe']}, {report['epochs']} epochs, seed {report['seed']}"
        f"{parent}), {report['dataset']}, split {report['split']}; one run. Made by `benchmarks/everyday.py`.",
        'Intervals: 95 %, bootstrap over subjects. An answer of "idle" counts as wrong.',
        "",
        f"{report['date']}; {report['machine']['processor']}, {report['machine']['cores']} cores.",
        "",
        "| joints | sequences | subjects | top-1 | 95 % interval | top-5 | mean of classes | calibration error "
        f"| with temperature {report['temperature']} |",
        "|---" * 9 + "|",
    ]
    for title, found in rows:
        cells = [
            title, found["count"], found["subjects"],
            f"{found['top1']:.1%}", f"{found['low']:.1%} to {found['high']:.1%}",
            f"{found['top5']:.1%}", f"{found['mean_of_classes']:.1%}", f"{found['calibration_error']:.3f}",
            f"{found['calibration_error_with_temperature']:.3f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", f"Temperature fitted on: {report['calibrated_on']}."]
    if report["loss"]:
        points, low, high = (100 * report["loss"][key] for key in ("points", "low", "high"))
        count = report["loss"]["count"]
        lines.append(
            f"Lost through the camera: {points:.1f} points ({low:.1f} to {high:.1f}) on {count} filmed sequences."
        )
    else:
        lines.append("Not measured through the camera: no films here.")
    if found := report["unknown"]:
        shown = found["shown"]
        lines.append(
            f"Actions it has no word for ({found['count']} sequences of {found['kinds']} kinds that trained nothing, "
            f"by everybody, Kinect joints): {shown['unknown']:.0%} would get a word (score from {found['enter']:g}), "
            f"of known ones {shown['known']:.0%}; area under the curve of known against unknown {found['auroc']:.3f}."
        )
    if report["encoder_ms"]:
        one, two = report["encoder_ms"]["1"], report["encoder_ms"]["2"]
        lines.append(f"The encoder costs {one:.1f} ms a decision on one thread, {two:.1f} ms on two (ONNX, median).")
    lines += ["", "| set | " + " | ".join(f"{t}: sequences | top-1 | 95 % interval" for t, _ in rows) + " |"]
    lines.append("|---" * (1 + 3 * len(rows)) + "|")
    for name in report["kinect"]["per_set"]:
        lines.append(f"| {name} | " + " | ".join(_set_cells(found["per_set"].get(name)) for _, found in rows) + " |")
    lines += ["", "| class | " + " | ".join(f"{title}: sequences | recall" for title, _ in rows) + " |"]
    lines.append("|---" * (1 + 2 * len(rows)) + "|")
    order = sorted(report["kinect"]["per_class"].items(), key=lambda item: -item[1]["recall"])
    for name, _ in order:
        cells = [_class_cells(found["per_class"].get(name)) for _, found in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    pairs = [f"{true} -> {said} ({count})" for true, said, count in report["kinect"]["most_confused"]]
    lines += ["", f"Most confused on Kinect joints: {', '.join(pairs)}.", "", f"Licences: {report['licences']}."]
    return "\n".join(lines) + "\n"


def _set_cells(found: dict[str, Any] | None) -> str:
    if found is None:
        return "- | - | -"
    return f"{found['count']} | {found['top1']:.1%} | {found['low']:.1%} to {found['high']:.1%}"


def _class_cells(found: dict[str, Any] | None) -> str:
    return "- | -" if found is None else f"{found['count']} | {found['recall']:.0%}"


def into_card(folder: Path, report: dict[str, Any], films: str) -> None:
    """Put results with intervals, per-class numbers, calibration errors and licences into the checkpoint's card."""
    card = read_card(folder)
    results, tables = [], {}
    for title, store, found in (
        ("test sequences", report["dataset"], report["kinect"]),
        ("test sequences through MediaPipe", films, report["camera"]),
    ):
        if not found:
            continue
        note = f"95 % interval over {found['subjects']} subjects: {found['low']:.1%} to {found['high']:.1%}"
        results.append(
            Result(
                name=title, dataset=store, split=report["split"], count=found["count"], top1=found["top1"],
                top5=found["top5"], note=note,
            )
        )  # fmt: skip
        tables[title] = {name: round(row["recall"], 3) for name, row in found["per_class"].items()}
        tables[f"calibration error, {title}"] = round(found["calibration_error_with_temperature"], 4)
    training = card.training | {"per_class": tables}
    changes = {"results": results, "training": training, "licence": report["licences"]}
    write_card(card.model_copy(update=changes), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", default="everyday")
    parser.add_argument("--split", default="xsub")
    parser.add_argument("--films", default="", help="store of films; default DATASET_mediapipe")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the report")
    parser.add_argument("--card", action="store_true", help="write the numbers into the checkpoint's card too")
    arguments = parser.parse_args()
    folder, films = find_checkpoint(arguments.checkpoint), arguments.films or f"{arguments.dataset}_mediapipe"
    report = measure(folder, arguments.dataset, arguments.split, films)
    text = page(report)
    (arguments.out / "everyday.md").write_text(text, "utf-8")
    (arguments.out / "everyday.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    if arguments.card:
        into_card(folder, report, films)
    print(text)


if __name__ == "__main__":
    main()
