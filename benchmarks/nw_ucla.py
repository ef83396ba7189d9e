"""Writes what supervised training on NW-UCLA reached: plain and with SkeletonGCL, with and without copied sequences.

    python benchmarks/nw_ucla.py [RUN_PREFIX ...] [--afresh]
    python benchmarks/nw_ucla.py --train ctrgcn_joint ctrgcn_skeletongcl_joint --epochs 8 --seeds 1 2 3

Reads finished runs (``main.py train nw_ucla_xview_...``) in the runs folder. ``--train`` trains some before, one after
the other: what is finished is not done again, what was interrupted goes on. Fewer epochs than the recipe has take a
cosine in place of its steps. Writes ``nw_ucla.md`` and ``nw_ucla.json`` beside this file. What stands there of other
seeds and settings, from runs of another machine say, is kept, unless ``--afresh``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.machine import machine, versions
from engine.paths import runs, stores
from engine.training import ensemble
from engine.training.recipe import BaseRecipe, Recipe, load_recipe, recipe_names
from engine.training.recipe import differences as differing
from engine.training.run_folder import RunFolder, find_runs
from engine.training.summary import Row, summarise

HERE = Path(__file__).resolve().parent
ALL, CLEAN = "all 464", "clean 369"
# Of the clean test sequences, none of which shows such a class, those that were taken for one.
TAKEN_FOR_COPIED = "taken for a copied class"
COPIED_CLASSES = ("pick up with two hands", "drop trash")
WITHOUT_COPIES = "xview_train_clean"
SPLITS = ("xview", WITHOUT_COPIES)
PUBLISHED, OURS = "published", "ours"
MADE = """
Made by `python benchmarks/nw_ucla.py` from finished runs of `main.py train
nw_ucla_xview_BACKBONE[_skeletongcl]_STREAM` on {where}, no GPU. Cross-view split (views 1 and 2
train, view 3 is tested); the last epoch is reported, nothing was chosen on the test part. 95 of the 464 test
sequences are copies of training sequences: *clean 369* leaves them out of the test, *without copies* leaves their
originals out of training. All test sequences of two classes are such copies, so the clean ones show neither class:
*taken for a copied class* is the share of them that was called one of the two all the same.
"""
SHORTENED = """
**Shortened**: the published schedule has 65 epochs of 5,100 clips (InfoGCN's 110); each row says the epochs it stands
on. The published code, after 8 epochs on such a machine (lr drops at 5 and 7, seed 1), stood at 88.6 % of all 464
(CTR-GCN, joints). Settings of *ours* are those of `nw_ucla_xview_..._short_...`: half of the clips mirrored, labels
smoothed, more weight decay, [chosen](nw_ucla_rehearsal.md) on the sequences of the split `rehearsal`, which shows
nothing that only view 3 has.
"""


def about(recipe: Recipe) -> dict[str, Any]:
    schedule: str = recipe.optimiser.schedule
    if schedule == "step":
        schedule += f" at {', '.join(map(str, recipe.optimiser.milestones))}"
    return {
        "backbone": recipe.backbone, "method": recipe.method, "stream": recipe.preprocessing.stream,
        "copies": recipe.split != WITHOUT_COPIES, "epochs": recipe.epochs, "schedule": schedule,
        "warmup_epochs": recipe.optimiser.warmup_epochs, "batch": recipe.batch, "repeat": recipe.repeat,
        "precision": recipe.precision, "settings": OURS if "_short_" in recipe.name else PUBLISHED,
    }  # fmt: skip


# In what a run may differ from the recipe it was made from: a row names it, or it changes no result.
_MAY_DIFFER = ("accelerator", "epochs", "evaluate_every", "precision", "seed", "split", "threads")


def belongs(recipe: BaseRecipe) -> bool:
    """Whether a run is one of NW-UCLA by a recipe that ships, changed only in what a row names."""
    shipped = recipe.name.startswith("nw_ucla_xview_") and recipe.name in recipe_names()
    if not isinstance(recipe, Recipe) or recipe.split not in SPLITS or not shipped:
        return False
    made_from = load_recipe(recipe.name).model_dump(mode="json")
    changed = set(differing(made_from, recipe.model_dump(mode="json")))
    scheduled = {f"optimiser.{name}" for name in ("schedule", "warmup_epochs", "milestones")}
    return changed <= {*_MAY_DIFFER, *scheduled}


def reached(row: Row) -> dict[str, list[float]]:
    """Top-1 by part of the test sequences, and the share of the clean ones taken for a copied class; one per run."""
    found = {{464: ALL, 369: CLEAN}[s.count]: list(s.values) for s in row.spreads if s.count in (464, 369)}
    if CLEAN in found:
        found[TAKEN_FOR_COPIED] = [taken_for_copied(RunFolder(runs() / name)) for name in row.runs]
    return found


def taken_for_copied(folder: RunFolder, clean: int = 369) -> float:
    """Share of a run's ``clean`` test sequences that it took for one of the classes whose test sequences are copies."""
    part = next(part for part in (folder.results() or {})["results"] if part["count"] == clean)
    confusion = np.array(part["confusion"])
    copied = [part["classes"].index(name) for name in COPIED_CLASSES]
    assert not confusion[copied].any(), f"{folder.name}: the clean part holds a copied class"
    return float(confusion[:, copied].sum() / confusion.sum())


FOUR_STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
# What may differ between runs that are put together or set side by side.
_SAME = ("backbone", "copies", "settings", "epochs", "schedule", "warmup_epochs", "batch", "repeat", "precision")


def same(row: dict[str, Any], *more: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in (*_SAME, *more))


def ensembles(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two and four streams of one setting and seed as one, with the published weights and those fitted in training."""
    runs_of: dict[tuple[Any, ...], dict[str, str]] = {}
    settings = {}
    for row in rows:
        for run, seed in zip(row["runs"], row["seeds"], strict=True):
            key = (*same(row, "method"), seed)
            runs_of.setdefault(key, {})[row["stream"]] = run
            settings[key] = row
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key, by_stream in runs_of.items():
        groups = [streams for streams in (FOUR_STREAMS[:2], FOUR_STREAMS) if set(streams) <= set(by_stream)]
        if not groups:
            continue
        # The smaller group begins the larger one: each encoder is asked once.
        folders = [runs() / by_stream[stream] / "checkpoint" for stream in groups[-1]]
        members, store, split = ensemble.members_of(folders, stores(), None, None, "cpu", train=True)
        for streams in groups:
            asked = members[: len(streams)]
            for weights in ("published", "fitted"):
                parts = ensemble.report(asked, store, split, weights)["splits"].values()
                about = {name: settings[key][name] for name in (*_SAME, "method")}
                kept = found.setdefault(
                    (*key[:-1], streams, weights),
                    about | {"streams": streams, "weights": weights, "seeds": [], "top1": {ALL: [], CLEAN: []}},
                )
                kept["seeds"].append(key[-1])
                for part in parts:
                    kept["top1"][{464: ALL, 369: CLEAN}[part["count"]]].append(part["top1"])
    return list(found.values())


def differences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What SkeletonGCL adds to the plain encoder of the same setting, over the seeds both were trained with."""
    plain = {same(row, "stream"): row for row in rows if row["method"] == "supervised"}
    found = []
    for row in rows:
        base = plain.get(same(row, "stream"))
        if row["method"] != "skeletongcl" or base is None:
            continue
        seeds = [seed for seed in row["seeds"] if seed in base["seeds"]]
        gained = {
            part: [values[row["seeds"].index(s)] - base["top1"][part][base["seeds"].index(s)] for s in seeds]
            for part, values in row["top1"].items()
            if part in base["top1"]
        }
        found.append({name: row[name] for name in (*_SAME, "stream")} | {"seeds": seeds, "gained": gained})
    return found


def joined(old: list[dict[str, Any]], new: list[dict[str, Any]], *more: str) -> list[dict[str, Any]]:
    """Rows of two tables, one value per seed: where both know a seed of a setting, the new one counts."""
    found: dict[tuple[Any, ...], dict[int, tuple[str, dict[str, float]]]] = {}
    settings = {}
    for row in (*old, *new):
        key = tuple(tuple(part) if isinstance(part, list) else part for part in same(row, "method", *more))
        settings[key] = row
        for place, seed in enumerate(row["seeds"]):
            name = row["runs"][place] if "runs" in row else ""
            found.setdefault(key, {})[seed] = (name, {part: values[place] for part, values in row["top1"].items()})
    rows = []
    for key, by_seed in found.items():
        seeds = sorted(by_seed)
        row = settings[key] | {"seeds": seeds}
        if "runs" in row:
            row["runs"] = [by_seed[seed][0] for seed in seeds]
        # What only some of the runs were asked for cannot be averaged over all.
        shared = [part for part in by_seed[seeds[0]][1] if all(part in by_seed[seed][1] for seed in seeds)]
        row["top1"] = {part: [by_seed[seed][1][part] for seed in seeds] for part in shared}
        rows.append(row)
    return rows


def train(recipe: str, name: str, changes: dict[str, Any]) -> None:
    """``main.py train`` in a process of its own; nothing if the run is finished."""
    if RunFolder(runs() / name).status().state == "finished":
        return
    words = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    print(f"-- {name}", flush=True)
    command = [sys.executable, str(HERE.parent / "main.py"), "train", recipe, "--run", str(runs() / name), *words]
    if subprocess.run(command, check=False).returncode or RunFolder(runs() / name).status().state != "finished":
        raise SystemExit(f"stopped at {name}; the same command goes on")


def run_name(encoder: str, epochs: int, seed: int, copies: bool) -> str:
    return f"nw_ucla_{encoder}{'' if copies else '_without_copies'}_e{epochs}_s{seed}"


def train_all(options: argparse.Namespace) -> None:
    """Every encoder that was asked for with every seed."""
    for seed in options.seeds:
        for encoder in options.train:
            recipe = load_recipe(f"nw_ucla_xview_{encoder}")
            assert isinstance(recipe, Recipe)
            epochs = options.epochs or recipe.epochs
            changes: dict[str, Any] = {
                "epochs": epochs, "seed": seed, "threads": options.threads, "precision": options.precision,
                "evaluate_every": 5,
            }  # fmt: skip
            if epochs < recipe.epochs:
                changes |= {"optimiser.schedule": "cosine", "optimiser.warmup_epochs": 1}
            if options.without_copies:
                changes["split"] = WITHOUT_COPIES
            train(f"nw_ucla_xview_{encoder}", run_name(encoder, epochs, seed, not options.without_copies), changes)


def points(values: list[float]) -> str:
    """The mean of differences in points, and each of several."""
    if not values:
        return "-"
    mean = f"{100 * sum(values) / len(values):+.1f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{100 * value:+.1f}' for value in values)})"


def cell(values: list[float] | None) -> str:
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.2%}"
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.2%} ± {100 * deviation:.2f}"


def _trained(row: dict[str, Any]) -> str:
    copies = "with copies" if row["copies"] else "without copies"
    schedule = f"{row['epochs']}, {row['schedule']}, {row['precision']}"
    return f"{copies} | {row['settings']} | {schedule} | {', '.join(map(str, row['seeds']))}"


def report(result: dict[str, Any]) -> str:
    where = " and ".join(f"{host['processor']}, {host['cores']} cores" for host in result["machines"])
    lines = [
        "# Supervised training on NW-UCLA",
        "",
        " ".join(MADE.format(where=where).split()),
        "",
        " ".join(SHORTENED.split()),
        "",
        f"| backbone | method | stream | trained | settings | epochs, schedule | seeds | {ALL} | {CLEAN} "
        f"| {TAKEN_FOR_COPIED} |",
        "|" + "---|" * 10,
    ]  # fmt: skip
    for row in result["rows"]:
        values = row["top1"]
        lines.append(
            f"| {row['backbone']} | {row['method']} | {row['stream']} | {_trained(row)} "
            f"| {cell(values.get(ALL))} | {cell(values.get(CLEAN))} | {cell(values.get(TAKEN_FOR_COPIED))} |"
        )
    if result["ensembles"]:
        lines += [
            "",
            "## Streams together",
            "",
            "Raw logits, summed with the published weights or with weights fitted on the training part.",
            "",
            f"| backbone | method | streams | weights | trained | settings | epochs, schedule | seeds | {ALL} "
            f"| {CLEAN} |",
            "|" + "---|" * 10,
        ]
        for row in result["ensembles"]:
            lines.append(
                f"| {row['backbone']} | {row['method']} | {', '.join(row['streams'])} | {row['weights']} "
                f"| {_trained(row)} | {cell(row['top1'][ALL])} | {cell(row['top1'][CLEAN])} |"
            )
    if result["differences"]:
        lines += [
            "",
            "## What SkeletonGCL adds",
            "",
            "Points of top-1, with SkeletonGCL less without, of runs with the same seed: mean, and each seed.",
            "",
            f"| backbone | stream | trained | settings | epochs, schedule | seeds | {ALL} | {CLEAN} |",
            "|" + "---|" * 8,
        ]
        for row in result["differences"]:
            gained = row["gained"]
            lines.append(
                f"| {row['backbone']} | {row['stream']} | {_trained(row)} "
                f"| {points(gained.get(ALL, []))} | {points(gained.get(CLEAN, []))} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("prefixes", nargs="*", default=[""], help="Runs whose names begin so; default all.")
    parser.add_argument("--afresh", action="store_true", help="Forget what the page says of runs that aren't here.")
    parser.add_argument("--train", nargs="+", default=[], metavar="ENCODER", help="Such as ctrgcn_skeletongcl_joint.")
    parser.add_argument("--epochs", type=int, default=0, help="Of what is trained; default the recipe's.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--without-copies", action="store_true", help="Leave the originals of test sequences out.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    train_all(options)
    kept = HERE / "nw_ucla.json"
    before = json.loads(kept.read_text("utf-8")) if kept.is_file() and not options.afresh else {}
    for row in (*before.get("rows", []), *before.get("ensembles", [])):
        row.setdefault("settings", PUBLISHED)
    folders = [folder for folder in find_runs(runs()) if folder.name.startswith(tuple(options.prefixes))]
    by_name = {folder.name: folder.recipe() for folder in folders}
    rows = []
    for row in summarise(folders):
        recipe = by_name[row.runs[0]]
        if belongs(recipe):
            rows.append(about(recipe) | {"runs": row.runs, "seeds": row.seeds, "top1": reached(row)})
    made = ensembles(rows)
    if not rows:
        raise SystemExit(f"error: no finished run on NW-UCLA in {runs()}")
    rows = joined(before.get("rows", []), rows, "stream")
    order = ("backbone", "stream", "settings", "epochs")
    rows.sort(key=lambda r: (not r["copies"], *(r[name] for name in order), r["method"] != "supervised"))
    machines = [host for host in before.get("machines", []) if host != machine()]
    result = {
        "machines": [*machines, machine()], "versions": versions(), "rows": rows,
        "ensembles": joined(before.get("ensembles", []), made, "streams", "weights"), "differences": differences(rows),
    }  # fmt: skip
    kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (HERE / "nw_ucla.md").write_text(report(result), "utf-8")
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
