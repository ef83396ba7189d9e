"""``train`` and ``evaluate``."""

from __future__ import annotations

import json as json_module
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import tyro

from engine.cli import CommandError, UsageError
from engine.cli.progress import ProgressLine
from engine.cli.runs import result_line
from engine.paths import runs, stores

if TYPE_CHECKING:
    from engine.training.evaluate import Evaluation
    from engine.training.recipe import BaseRecipe

R = TypeVar("R", bound="BaseRecipe")
# Classes up to which a confusion matrix is printed whole.
MATRIX_CLASSES = 20


def train(argv: list[str]) -> int:
    """Train an encoder; ``argv`` is the recipe and changes of its fields."""
    from engine.cli import recipe_help
    from engine.training.recipe import load_recipe
    from engine.training.run_folder import run_place
    from engine.training.tasks import completed

    asks = [word for word in argv if word in ("-h", "--help")]
    if not argv or argv[0] in asks:
        print(recipe_help.general())
        return 0 if argv else 2
    if argv[0] == "--list":
        return _list_recipes([word for word in argv[1:] if word != "--json"], "--json" in argv)
    recipe_name, *rest = [word for word in argv if word not in asks]
    changes = changes_of(rest)
    folder, seeds = changes.pop("run", None), changes.pop("seeds", None)
    if asks:
        print(recipe_help.of_recipe(recipe_name, load_recipe(recipe_name, changes)), end="")
        return 0
    if seeds is None:
        recipe = _from_here(completed(load_recipe(recipe_name, changes)))
        return run_recipe(recipe, Path(folder) if folder else run_place(runs(), recipe.name))
    if "seed" in changes:
        raise UsageError("--seed and --seeds contradict each other")
    return _train_seeds(recipe_name, changes, _seeds(seeds), folder)


def _train_seeds(recipe_name: str, changes: dict[str, str], seeds: list[int], folder: str | None) -> int:
    """One run per seed, one after the other, until one is asked to stop."""
    from engine.training.recipe import load_recipe
    from engine.training.run_folder import RunFolder, run_place
    from engine.training.tasks import completed

    for seed in seeds:
        recipe = _from_here(completed(load_recipe(recipe_name, changes | {"seed": str(seed)})))
        if recipe.devices * recipe.nodes > 1:
            # The further processes of a run begin with the same command line, at its first seed.
            raise UsageError("--seeds is for one process; with several, start each --seed by itself, with a --run")
        recipe = recipe.model_copy(update={"name": f"{recipe.name}_s{seed}"})
        run = Path(f"{folder}_s{seed}") if folder else run_place(runs(), recipe.name)
        print(f"seed {seed}: {run}", flush=True)
        if status := run_recipe(recipe, run):
            return status
        if RunFolder(run).status().state != "finished":
            break
    return 0


def _from_here(recipe: R) -> R:
    """The recipe with the whole path of the checkpoint it starts from: it may be resumed from another folder."""
    start = Path(getattr(recipe, "start_from", ""))
    if not start.parts or start.is_absolute() or not start.is_dir():
        return recipe
    return recipe.model_copy(update={"start_from": str(start.resolve())})


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.strip("[]").split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds wants numbers with commas between them, such as 1,2,3, not {text!r}") from error


def _list_recipes(words: list[str], json: bool) -> int:
    """Names and titles of the recipes whose names hold every word."""
    from engine.training.recipe import load_recipe, recipe_names

    found = [(name, load_recipe(name)) for name in recipe_names() if all(word in name for word in words)]
    if json:
        fields = {"name", "task", "title", "dataset", "split", "source", "limits"}
        listed = [recipe.model_dump(mode="json", include=fields) | {"name": name} for name, recipe in found]
        print(json_module.dumps(listed, indent=1))
        return 0
    for name, recipe in found:
        print(f"{name:<48}  {recipe.title}")
    if not found:
        raise CommandError(
            f"no recipe's name holds {' and '.join(words)}; main.py train --help shows how they are named"
        )
    return 0


def run_recipe(recipe: BaseRecipe, run: Path) -> int:
    """Train a recipe in a run's folder, or go on there, and say on stdout what came out."""
    from engine.training.run_folder import RunFolder
    from engine.training.tasks import run_task

    progress = ProgressLine()

    def heard(event: dict[str, Any]) -> None:
        progress(event)
        if event["event"] == "run" and not event["resumed"] and (hint := _slow_bf16(recipe)):
            print(hint, file=sys.stderr, flush=True)

    folder = RunFolder(run)
    before = folder.logged_status().state == "finished" and int(os.environ.get("RANK", "0")) == 0
    finished = run_task(recipe, stores(), run, heard)
    if progress.stopped:
        print(f"stopped; next: main.py runs resume {run}")
    if finished and before and not progress.heard:
        print(f"{run} was finished before; delete it or choose another --run to train anew")
    # Of several processes the first alone hears events, and alone speaks.
    elif not finished or not progress.heard:
        return 0
    for result in (folder.results() or {"results": []})["results"]:
        print(result_line(result))
    if folder.checkpoint.is_dir():
        print(f"checkpoint: {folder.checkpoint}")
        if recipe.task == "pretrain":
            # A method with an encoder per stream has a folder for each.
            encoder = next(iter(sorted(folder.checkpoint.glob("joint*/card.json"))), folder.checkpoint / "card.json")
            print(f"next: main.py evaluate {encoder.parent} --protocol linear")
        else:
            print(f"next: main.py export {folder.checkpoint}")
    return 0


def _slow_bf16(recipe: BaseRecipe) -> str:
    """What to say of a recipe in bf16 to a processor that is slower with it."""
    from engine.training.devices import best_device, bf16_gain

    where = best_device() if recipe.accelerator == "auto" else recipe.accelerator
    if recipe.precision != "bf16" or where != "cpu" or (gain := bf16_gain()) >= 0.9:
        return ""
    return f"bf16 takes {1 / gain:.1f} times as long as fp32 on this processor; --precision fp32 is faster here"


train.takes_argv = True  # type: ignore[attr-defined]


def changes_of(words: list[str]) -> dict[str, str]:
    """``--a.b value`` and ``--a.b=value`` pairs; a hyphen in a field's name counts as an underscore."""
    changes: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UsageError(f"expected --field value, got {word!r}")
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")
        if not equals:
            if not rest:
                raise UsageError(f"--{key} needs a value")
            value = rest.pop(0)
        changes[key] = value
    return changes


def evaluate(
    checkpoint: tyro.conf.Positional[Path],
    dataset: str | None = None,
    split: str | None = None,
    names_of: str | None = None,
    json: Path | None = None,
    record: str | None = None,
    protocol: Literal["test", "knn", "linear", "finetune", "semi", "transfer"] = "test",
    fraction: float = 0.1,
) -> int:
    """Test a checkpoint on the test part of a split, and on that of its stricter readings (xview_clean of NW-UCLA).

    A protocol judges what its encoder has learnt, with the settings of its method's paper, as a run of its own.

    Args:
        checkpoint: Checkpoint folder, or the name of a shipped or trained one.
        dataset: Prepared store; default the one it was trained on. NAME_mediapipe tests what the live path sees.
        split: Split of that dataset; default the checkpoint's own.
        names_of: Take the split from this dataset, and the same sequences by name from --dataset.
        json: Write the result as JSON to this file, - for stdout.
        record: Keep the result in the checkpoint's card under this name (an older one of the name is replaced).
        protocol: test: the checkpoint as it is. Others are for pretrained encoders too.
        fraction: Part of the labels that --protocol semi uses.
    """
    if protocol != "test":
        if names_of or record:
            raise UsageError("--names-of and --record are for --protocol test")
        from engine.cli.protocols import evaluate_by

        return evaluate_by(protocol, checkpoint, dataset, split, fraction, json)
    from engine.cli.live import find_checkpoint
    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore
    from engine.models.card import require_classifier
    from engine.models.checkpoint import load_encoder
    from engine.training.devices import best_device
    from engine.training.evaluate import evaluate_encoder, stricter_splits

    folder = find_checkpoint(checkpoint)
    encoder, card = load_encoder(folder)
    require_classifier(card, folder)
    store = SequenceStore(stores() / (dataset or card.dataset))
    if store.classes != [name for name in card.classes if name != card.decision.idle_class]:
        raise CommandError(f"{store.name} has other classes than {card.name}")
    origin = SequenceStore(stores() / names_of) if names_of else store
    split = split or card.split
    _, test = split_indices(origin, split)
    keeps = stricter_splits(origin, split, test)
    if origin is not store:
        wanted = [origin.names[int(i)] for i in test]
        test = store.indices_of(wanted)
        if len(test) != len(wanted):
            # Whose clean part would be another.
            keeps = {}
    result = evaluate_encoder(encoder.to(best_device()), store, test, card.preprocessing, card.classes)
    parts = {name: result.subset(keep) for name, keep in keeps.items()}
    if record:
        _record(folder, record, store.name, split, result)
        for name, part in parts.items():
            _record(folder, f"{record}, {name}", store.name, name, part)
    report = result.as_dict() | {
        "checkpoint": card.name, "dataset": store.name, "split": split, "classes": result.classes,
        "confusion": result.confusion.tolist(),
        "splits": {
            name: part.as_dict() | {"confusion": part.confusion.tolist()}
            for name, part in ({split: result} | parts).items()
        },
    }  # fmt: skip
    if json:
        text = json_module.dumps(report, indent=1)
        print(text) if str(json) == "-" else json.write_text(text + "\n", "utf-8")
    if str(json) != "-":
        print(f"{card.name} on {store.name} {split}, {result.count} sequences:")
        print(f"  top-1 {result.top1:.4f}, top-5 {result.top5:.4f}")
        for name, part in parts.items():
            print(f"  {name}, {part.count} sequences: top-1 {part.top1:.4f}, top-5 {part.top5:.4f}")
        for name, recall in sorted(result.per_class.items(), key=lambda item: item[1]):
            print(f"  {recall:6.1%}  {name}")
        _print_confusion(result)
    return 0


def _print_confusion(result: Evaluation) -> None:
    """The whole matrix where it fits a screen, else the most frequent confusions."""
    if len(result.classes) <= MATRIX_CLASSES:
        print("confusion (rows: true, columns in the same order: said):")
        for name, row in zip(result.classes, result.confusion, strict=True):
            print("  " + "".join(f"{count or '.':>5}" for count in row) + f"  {name}")
        return
    print("most confused (--json has the whole matrix):")
    for true, said, count in result.most_confused():
        print(f"  {count:5}  {true} -> {said}")


def _record(folder: Path, name: str, dataset: str, split: str, result: Evaluation) -> None:
    from engine.models.card import Result, read_card, write_card

    card = read_card(folder)
    new = Result(name=name, dataset=dataset, split=split, count=result.count, top1=result.top1, top5=result.top5)
    kept = [old for old in card.results if old.name != name]
    write_card(card.model_copy(update={"results": [*kept, new]}), folder)
