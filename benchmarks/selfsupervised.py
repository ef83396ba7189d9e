"""Pretrains encoders without labels on NW-UCLA, judges them by the shared protocols, and writes what came out.

    python benchmarks/selfsupervised.py SUITE [--epochs 30] [--seeds 1 2] [--threads 1] [--report]

A suite (``gl_transformer``, ``hiclr``, ``i2md``, ...) says which pretrainings are compared under the same budget
and how each is judged. Every training is ``main.py train`` in a run folder of its own: what is finished is not done
again, what was interrupted goes on. ``--report`` trains nothing.
Writes ``SUITE_nw_ucla.md`` and ``.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nw_ucla import ALL, CLEAN, cell, train

from engine.cli.machine import machine, versions
from engine.paths import runs
from engine.training.recipe import load_recipe
from engine.training.run_folder import RunFolder

HERE = Path(__file__).resolve().parent
Changes = dict[str, Any]
# Pretrained runs that lend their form, not their weights, to the baselines.
FRESH = "fresh"


@dataclass(frozen=True)
class Pretraining:
    """One way to pretrain: a published recipe and what is changed of it."""

    title: str
    recipe: str
    changes: Changes = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """One protocol; ``only`` names the pretrainings it is for (default all), ``fresh`` judges fresh weights as well.

    ``streams``: which encoders of a parent with one per stream; several are joined. ``mean_of``: other judgements whose
    encoders are asked together (late fusion); nothing is trained then.
    """

    title: str
    recipe: str = ""
    changes: Changes = field(default_factory=dict)
    only: tuple[str, ...] = ()
    fresh: bool = True
    streams: tuple[str, ...] = ()
    mean_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Pretrainings under one budget, by key in the order of the table, and how they are judged.

    ``fresh_of`` names the suite that has judged the same encoder with fresh weights; default this one.
    """

    title: str
    about: str
    epochs: int
    pretrainings: dict[str, Pretraining]
    judgements: dict[str, Judgement]
    changes: Changes = field(default_factory=dict)
    judged_with: Changes = field(default_factory=dict)
    fresh_of: str = ""


_GL = "nw_ucla_xview_gl_transformer_economical"
_STREAMS = ("joint", "joint_motion", "bone")
_EVEN_CMD: Changes = {"clips": "none", "standardise": "true"}

_THREE_STREAMS = {
    **{
        f"{kind}_{stream}": Judgement(f"{title}, {stream}", f"cmd_{kind}", changes, streams=(stream,))
        for stream in _STREAMS
        for kind, title, changes in (("knn", "1 neighbour", {}), ("linear", "linear", {"clips": "none"}))
    },
    "knn_fusion": Judgement("1 neighbour, fusion", "cmd_knn", streams=_STREAMS),
    "linear_fusion": Judgement("linear, early fusion", "cmd_linear", {"clips": "none"}, streams=_STREAMS),
    "late_fusion": Judgement("linear, late fusion", mean_of=tuple(f"linear_{stream}" for stream in _STREAMS)),
    # A thousand clips are few steps at the published settings: the same on features of equal spread.
    **{
        f"scaled_{stream}": Judgement(f"linear, standardised, {stream}", "cmd_linear", _EVEN_CMD, streams=(stream,))
        for stream in _STREAMS
    },
    "scaled_fusion": Judgement("linear, standardised, early fusion", "cmd_linear", _EVEN_CMD, streams=_STREAMS),
    "scaled_late": Judgement(
        "linear, standardised, late fusion", mean_of=tuple(f"scaled_{stream}" for stream in _STREAMS)
    ),
}
_FEW_JUDGED = {name: way for name, way in _THREE_STREAMS.items() if name.startswith(("knn_", "scaled_"))}
_I2MD = "nw_ucla_xview_i2md_stgcn"
_JOINED = (
    "with the training parts of UTD-MHAD, Kinder-Gator, MSR Action3D, UTKinect, Florence 3D and the NTU files joined "
    "to NW-UCLA's, and so few epochs that as many clips are seen as there."
)

_MINING = "method_args.mining_epoch"


def _hiclr(pairs: str, asymmetric: bool = True) -> Changes:
    more = {"method_args.asymmetric": str(asymmetric).lower(), _MINING: "null"}
    return {"method_args.pair_weights": pairs} | more


_OTHERS = "{utd_mhad: xsub, kinder_gator: xsub, msr_action3d: xsub, utkinect: xsub, florence3d: xsub, ntu120: xsub}"
# A thousand clips are one published batch: 120 steps, too few for features that all have the same large part.
_SCALED = {"batch": 64, "standardise": "true"}
# The published rate of 3 is made for features that are small; on few clips its result is much a matter of chance.
_EVEN = {"standardise": "true", "optimiser.lr": 0.1}
_FEW = {"precision": "bf16"}
_LOW = _FEW | {"optimiser.lr": 0.02}
# The published steps come after hundreds of epochs.
_COSINE = {"optimiser.schedule": "cosine"}
_SHORT = _COSINE | {"precision": "bf16"}
SUITES = {
    "gl_transformer": Suite(
        "GL-Transformer on NW-UCLA",
        "The economical form (64 frames, 16 channels, 2 blocks; about 2 % of the published cost). Published, with the "
        "whole form: 90.4 % by linear evaluation. One interval: only displacements of one frame are predicted.",
        120,
        {
            "mpdp": Pretraining("displacement prediction, three intervals", _GL),
            "one": Pretraining("the same, one interval", _GL, {"method_args.views.intervals": "[1]"}),
        },
        {
            "linear": Judgement("linear, batch 64", "gl_transformer_economical_linear", {"batch": 64}),
            "scaled": Judgement("linear, standardised features", "gl_transformer_economical_linear", _SCALED),
            "knn": Judgement("k = 20 neighbours", "gl_transformer_economical_knn"),
        },
        {"precision": "bf16"},
    ),
    "i2md": Suite(
        "MoCo, CMD and I2MD on NW-UCLA",
        "Three streams, ST-GCN as the encoder (ours, not the papers'), queue of 512. MoCo: the same contrast without "
        "distillation; CMD: with the distillation between the streams; I2MD: and within each. Batch, rate, key "
        "momentum and views are the recipe's own, which were compared by MoCo's joint stream on training sequences.",
        24,
        {
            "moco": Pretraining("MoCo, each stream by itself", "nw_ucla_xview_moco3_stgcn"),
            "cmd": Pretraining("CMD", "nw_ucla_xview_cmd_stgcn"),
            "i2md": Pretraining("I2MD", _I2MD),
        },
        _THREE_STREAMS,
        _COSINE,
    ),
    "hiclr": Suite(
        "HiCLR and its parts on NW-UCLA",
        "ST-GCN on the joint stream, queue of 512. Every column adds a part of the hierarchy; momentum contrast with "
        "the basic augmentations is SkeletonCLR's form. One exception to what is said above: that people are turned "
        "ahead was decided after MoCo's online probe, which looks at the test part, had shown what it is worth there.",
        40,
        {
            "moco": Pretraining("MoCo, basic augmentations", "nw_ucla_xview_moco_joint"),
            "normal": Pretraining("+ normal", "nw_ucla_xview_hiclr_joint", _hiclr("[0.5]", False)),
            "strong": Pretraining("+ strong", "nw_ucla_xview_hiclr_joint", _hiclr("[0.5, 0.5]", False)),
            "hiclr": Pretraining("+ asymmetric loss", "nw_ucla_xview_hiclr_joint", _hiclr("[0.5, 0.5]")),
            "mined": Pretraining("+ mining from the middle (HiCLR)", "nw_ucla_xview_hiclr_joint", {_MINING: "20"}),
        },
        {
            "linear": Judgement("linear, as published", "hiclr_linear"),
            "scaled": Judgement("linear, standardised features, rate 0.1", "hiclr_linear", _EVEN),
            "knn": Judgement("k = 20 neighbours", "hiclr_knn"),
            "semi_10": Judgement("fine-tuned, 10 % of the labels", "hiclr_semi_10", _FEW, ("moco", "mined")),
            "finetune": Judgement("fine-tuned, all labels", "hiclr_finetune", _FEW, ("mined",)),
        },
        _SHORT,
    ),
    "hiclr_long": Suite(
        "HiCLR on NW-UCLA, the whole schedule",
        "As in the suite hiclr, with the schedule of the recipe: 300 epochs, the rate falls after 250, the middle is "
        "mined from 150 on.",
        300,
        {
            "moco": Pretraining("MoCo, basic augmentations", "nw_ucla_xview_moco_joint"),
            "normal": Pretraining("+ normal", "nw_ucla_xview_hiclr_joint", _hiclr("[0.5]", False)),
            "mined": Pretraining("HiCLR", "nw_ucla_xview_hiclr_joint"),
        },
        {
            "linear": Judgement("linear, as published", "hiclr_linear"),
            "scaled": Judgement("linear, standardised features, rate 0.1", "hiclr_linear", _EVEN),
            "knn": Judgement("k = 20 neighbours", "hiclr_knn"),
            "semi_10": Judgement("fine-tuned, 10 % of the labels", "hiclr_semi_10", _FEW, ("moco", "mined")),
            "semi_10_low": Judgement("the same, rate 0.02", "hiclr_semi_10", _LOW, ("moco", "mined")),
            "finetune": Judgement("fine-tuned, all labels", "hiclr_finetune", _FEW, ("mined",)),
            "finetune_low": Judgement("the same, rate 0.02", "hiclr_finetune", _LOW, ("mined",)),
        },
        {"precision": "bf16"},
        fresh_of="hiclr",
    ),
    "joined": Suite(
        "Pretraining on seven sets, judged on NW-UCLA",
        f"As in the suite hiclr (also in that people are turned ahead), on the joint stream, {_JOINED}",
        16,
        {
            "moco": Pretraining("MoCo", "nw_ucla_xview_moco_joint"),
            "hiclr": Pretraining("HiCLR", "nw_ucla_xview_hiclr_joint", {_MINING: "8"}),
        },
        {
            "linear": Judgement("linear, as published", "hiclr_linear"),
            "scaled": Judgement("linear, standardised features, rate 0.1", "hiclr_linear", _EVEN),
            "knn": Judgement("k = 20 neighbours", "hiclr_knn"),
            "semi_10": Judgement("fine-tuned, 10 % of the labels", "hiclr_semi_10", _FEW, fresh=False),
        },
        _SHORT | {"also": _OTHERS},
    ),
    "joined_i2md": Suite(
        "MoCo and I2MD pretrained on seven sets, judged on NW-UCLA",
        f"As in the suite i2md, {_JOINED}",
        10,
        {
            "moco": Pretraining("MoCo, each stream by itself", "nw_ucla_xview_moco3_stgcn"),
            "i2md": Pretraining("I2MD", _I2MD),
        },
        _FEW_JUDGED,
        _COSINE | {"also": _OTHERS},
        fresh_of="i2md",
    ),
    "i2md_options": Suite(
        "I2MD's inferred options on NW-UCLA",
        "As in the suite i2md. The intra-modal part was never released; each column but the first departs in one "
        "option from what the specification proposes.",
        8,
        {
            "default": Pretraining("as proposed", _I2MD),
            "contrast": Pretraining(
                "clusters are contrasted and teach nobody", _I2MD, {"method_args.intra_weight": 0}
            ),
            "key": Pretraining("the query of the cluster branch is plain", _I2MD, {"method_args.aggregated": "key"}),
            "neighbours": Pretraining(
                "a query takes its key's neighbours", _I2MD, {"method_args.query_neighbours": "key"}
            ),
            "cross": Pretraining("streams teach each other clusters", _I2MD, {"method_args.cross_clusters": "true"}),
            "head": Pretraining("clusters have a head of their own", _I2MD, {"method_args.separate_head": "true"}),
        },
        {name: _THREE_STREAMS[name] for name in ("knn_fusion", "linear_fusion", "scaled_fusion")},
        _COSINE,
        fresh_of="i2md",
    ),
}  # fmt: skip


def run_name(suite: str, key: str, seed: int, judgement: str = "") -> str:
    return "_".join(part for part in (suite, key, f"s{seed}", judgement) if part)


def ask_together(suite: str, key: str, seed: int, protocol: str, mean_of: tuple[str, ...]) -> None:
    """``main.py ensemble`` of finished judgements, with equal weights; its numbers go beside the runs."""
    kept = runs() / f"{run_name(suite, key, seed, protocol)}.json"
    if kept.is_file():
        return
    members = [str(runs() / run_name(suite, key, seed, one)) for one in mean_of]
    command = [sys.executable, str(HERE.parent / "main.py"), "ensemble", *members, "--weights", "equal"]
    if subprocess.run([*command, "--json", str(kept)], check=False).returncode:
        raise SystemExit(f"stopped at {kept.stem}; the same command goes on")


def numbers(suite: str, key: str, seed: int, protocol: str, judgement: Judgement) -> list[tuple[int, float]]:
    """How many sequences were judged and the share that was right, of every part; empty where nothing is finished."""
    name = run_name(suite, key, seed, protocol)
    if judgement.mean_of:
        kept = runs() / f"{name}.json"
        parts = json.loads(kept.read_text("utf-8"))["splits"] if kept.is_file() else {}
        return [(part["count"], part["top1"]) for part in parts.values()]
    folder = RunFolder(runs() / name)
    if folder.status().state != "finished":
        return []
    results = (folder.results() or {"results": []})["results"]
    # The first rows are those that count: k as recommended, the last epoch.
    first = results[0]["name"]
    return [(result["count"], result["top1"]) for result in results if result["name"].startswith(first)]


def parents(suite: str, key: str, seed: int, streams: tuple[str, ...]) -> Changes:
    """The parent of a judgement, with its streams where it has several."""
    run = run_name(suite, key, seed)
    found: Changes = {"parent": run}
    if streams:
        found["parent_stream"] = streams[0]
    if len(streams) > 1:
        found["further_parents"] = f"[{', '.join(f'{run}:{stream}' for stream in streams[1:])}]"
    return found


def judged_in(name: str, suite: Suite, key: str) -> str:
    """The suite whose name the judgements of an encoder bear."""
    return (suite.fresh_of or name) if key == FRESH else name


def judgements(suite: Suite) -> Iterator[tuple[str, str, Judgement]]:
    """Every (pretraining, or fresh weights) with every protocol that is for it."""
    for name, judgement in suite.judgements.items():
        for key in (*suite.pretrainings, FRESH):
            wanted = judgement.fresh if key == FRESH else not judgement.only or key in judgement.only
            if wanted:
                yield key, name, judgement


def run(name: str, suite: Suite, options: argparse.Namespace) -> None:
    """Do what is not finished: all pretrainings of a seed, then their judgements."""
    place = {"threads": options.threads}
    for seed in options.seeds:
        budget = {"epochs": options.epochs or suite.epochs, "seed": seed, "evaluate_every": 10} | place
        for key, way in suite.pretrainings.items():
            train(way.recipe, run_name(name, key, seed), suite.changes | way.changes | budget)
        for key, protocol, judgement in judgements(suite):
            if judgement.mean_of:
                ask_together(name, key, seed, protocol, judgement.mean_of)
                continue
            where, form = judged_in(name, suite, key), next(iter(suite.pretrainings)) if key == FRESH else key
            changes = suite.judged_with | judgement.changes | parents(where, form, seed, judgement.streams)
            fresh = {"untrained": "true"} if key == FRESH else {}
            train(judgement.recipe, run_name(where, key, seed, protocol), changes | fresh | place | {"seed": seed})


def collect(name: str, suite: Suite, seeds: list[int]) -> list[dict[str, Any]]:
    """Accuracies of every finished judgement, by part of the test sequences, one value per seed."""
    rows = []
    for key, protocol, judgement in judgements(suite):
        found: dict[str, list[float]] = {ALL: [], CLEAN: []}
        of: list[int] = []
        for seed in seeds:
            found_here = numbers(judged_in(name, suite, key), key, seed, protocol, judgement)
            if not found_here:
                continue
            for part, count in ((ALL, 464), (CLEAN, 369)):
                found[part] += [top1 for counted, top1 in found_here if counted == count][:1]
            of.append(seed)
        if of:
            rows.append({"encoder": key, "protocol": protocol, "title": judgement.title, "seeds": of, "top1": found})
    return rows


def pretrained(name: str, suite: Suite, seeds: list[int]) -> dict[str, Any]:
    """What is known of the pretrainings themselves: epochs, processor seconds of training, recipe."""
    found = {}
    for key in suite.pretrainings:
        for seed in seeds:
            folder = RunFolder(runs() / run_name(name, key, seed))
            results = folder.results()
            if results:
                recipe = folder.recipe().model_dump(mode="json")
                kept = ("epochs", "batch", "precision", "method", "method_args", "backbone", "backbone_args", "also")
                about = {field: recipe[field] for field in kept} | {"optimiser": recipe["optimiser"]}
                found[run_name(name, key, seed)] = {"seconds": results.get("seconds"), **about}
    return found


MADE = """
Made by `python benchmarks/selfsupervised.py {suite}` on {processor}, {cores} cores, no GPU. Cross-view split: views 1
and 2 train, view 3 is tested; the last epoch counts, nothing was chosen on the test part. 95 of the 464 test sequences
are copies of training sequences: *clean 369* leaves them out.
"""
BUDGET = """
{pretrained} *Fresh weights*: the encoder as it was drawn, frozen, its batch norms
settled on the training clips; where an encoder is fine-tuned, training from scratch.
"""


def told(values: list[float]) -> str:
    """Two seeds as they are; of more the mean and its deviation."""
    return ", ".join(f"{value:.2%}" for value in values) if len(values) < 3 else cell(values)


def page(suite: Suite, result: dict[str, Any]) -> str:
    ran = sorted({about["epochs"] for about in result["pretrained"].values()})
    whole = sorted({load_recipe(way.recipe).epochs for way in suite.pretrainings.values()})  # type: ignore[attr-defined]
    epochs = f"{' and '.join(map(str, ran))} epochs"
    if ran == whole:
        pretrained = f"Pretrained for all {epochs} of the recipe."
    else:
        pretrained = f"**Shortened**: pretrained for {epochs}; the recipe has {' and '.join(map(str, whole))}."
    lines = [
        f"# {suite.title}",
        "",
        " ".join(MADE.format(suite=result["suite"], **result["machine"]).split()),
        "",
        suite.about,
        "",
        " ".join(BUDGET.format(pretrained=pretrained).split()),
        "",
    ]
    titles = {FRESH: "fresh weights"} | {key: way.title for key, way in suite.pretrainings.items()}
    found = {(row["protocol"], row["encoder"]): row for row in result["rows"]}
    titles = {key: title for key, title in titles.items() if any(key == encoder for _, encoder in found)}
    lines += [
        f"Top-1, {ALL} / {CLEAN}:",
        "",
        f"| protocol | {' | '.join(titles.values())} |",
        "|---|" + "---|" * len(titles),
    ]
    for protocol, title in {row["protocol"]: row["title"] for row in result["rows"]}.items():
        cells = []
        for key in titles:
            row = found.get((protocol, key))
            cells.append("-" if row is None else " / ".join(told(row["top1"][part]) for part in (ALL, CLEAN)))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    seeds = sorted({seed for row in result["rows"] for seed in row["seeds"]})
    told_of = (
        "One seed: differences of a few points are within chance."
        if len(seeds) == 1
        else "A single value is of the first."
    )
    lines += ["", f"Seeds, in this order: {', '.join(map(str, seeds))}. {told_of}"]
    spent = [f"{name} {about['seconds'] / 60:.0f}" for name, about in result["pretrained"].items() if about["seconds"]]
    lines += ["", f"Minutes of pretraining, one thread, on a machine with other work: {', '.join(spent)}."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suite", choices=list(SUITES))
    parser.add_argument("--epochs", type=int, default=0, help="of every pretraining; default the suite's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="train nothing, write the page")
    options = parser.parse_args()
    suite = SUITES[options.suite]
    if not options.report:
        run(options.suite, suite, options)
    rows = collect(options.suite, suite, options.seeds)
    if not rows:
        raise SystemExit(f"error: nothing of {options.suite} is finished in {runs()}")
    result = {
        "suite": options.suite, "machine": machine(), "versions": versions(),
        "pretrained": pretrained(options.suite, suite, options.seeds), "rows": rows,
    }  # fmt: skip
    (HERE / f"{options.suite}_nw_ucla.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    text = page(suite, result)
    (HERE / f"{options.suite}_nw_ucla.md").write_text(text, "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
