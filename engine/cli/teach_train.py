"""``teach check``, ``teach train`` and ``teach known``: what asks or changes an encoder about taught actions."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import tyro

from engine.cli import CommandError, UsageError
from engine.cli.live import find_checkpoint
from engine.cli.progress import Style
from engine.cli.teach import DEFAULT_PACK, Flag, TeachProgress, open_pack, print_json
from engine.live.recogniser import Recogniser


def check(
    pack: tyro.conf.Positional[str] = DEFAULT_PACK,
    checkpoint: Path | None = None,
    json: Flag = False,
    progress: Style = "text",
) -> int:
    """Say which actions look alike: every take is left out once, learned without, and named.

    Args:
        pack: Name or folder of a pack.
        checkpoint: Encoder to check with; default the shipped one.
        json: Print the result as JSON.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    from engine.teach.confusion import check as run

    opened, tell = open_pack(pack), TeachProgress(progress)
    recogniser = Recogniser(find_checkpoint(checkpoint), fall_back=True)
    try:
        found = run(opened, recogniser, progress=lambda done, total: tell("looking at takes", done, total))
    finally:
        recogniser.close()
    right, count = found.right
    if json:
        pairs = [
            {"action": p.action, "other": p.other, "wrong": p.wrong, "takes": p.takes, "other_taught": p.other_taught,
             "text": p.text}
            for p in found.look_alikes
        ]  # fmt: skip
        print_json({
            "pack": opened.name, "checkpoint": recogniser.own_card.name, "right": right, "takes": count,
            "look_alikes": pairs, "unchecked": list(found.unchecked), "actions": list(found.actions),
            "names": list(found.names), "counts": found.counts.tolist(),
        })  # fmt: skip
        return 0
    print(f"{right} of {count} takes are named rightly when they are learned without")
    for pair in found.look_alikes:
        print(f"  {pair.text}")
    if found.unchecked:
        print(f"one take only, so not checked: {', '.join(found.unchecked)}")
    return 0


def train(
    pack: tyro.conf.Positional[str] = DEFAULT_PACK,
    what: Literal["head", "encoder"] = "head",
    checkpoint: Path | None = None,
    name: str | None = None,
    epochs: int = 4,
    seed: int = 0,
    json: Flag = False,
    progress: Style = "text",
) -> int:
    """Fine-tune on a pack: the result is a checkpoint that names the taught actions by itself, ready for live use.

    head trains the classifier on the features of the encoder as it is (seconds, needs nothing but the pack); encoder
    trains everything together with the known actions (minutes to hours, needs their set: "data list").

    Args:
        pack: Name or folder of a pack.
        what: What is trained.
        checkpoint: Encoder to start from; default the shipped one.
        name: Name of the new checkpoint; its folder in the runs folder must not exist (an interrupted encoder run goes
            on). Default made of pack, encoder and what.
        epochs: For encoder.
        seed: Of everything random.
        json: Print the new checkpoint's card as JSON.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    from engine.cli.progress import ProgressLine
    from engine.paths import runs, stores
    from engine.teach.finetune import train_encoder, train_on_features

    opened, tell = open_pack(pack), TeachProgress(progress)
    folder = find_checkpoint(checkpoint)
    if name is not None and (not name or Path(name).name != name or name.startswith(".")):
        raise UsageError(f"--name {name!r}: take a plain name; the checkpoint goes into {runs()}")
    run = runs() / (name or f"{opened.folder.name}_{folder.name if folder.name != 'checkpoint' else 'own'}_{what}")
    if what == "head":
        if run.exists():
            raise CommandError(f"{run} is there already; choose another --name, or remove it")
        recogniser = Recogniser(folder, "onnx")
        try:
            card = train_on_features(opened, recogniser, run / "checkpoint", run.name, seed, tell)
        except BaseException:
            shutil.rmtree(run, ignore_errors=True)
            raise
        finally:
            recogniser.close()
    else:
        line = ProgressLine()

        def listen(event: dict[str, Any]) -> None:
            if progress == "text":
                line(event)
            elif event["event"] == "step":
                done, total = event["epoch"] * event["steps"] + event["step"], epochs * event["steps"]
                tell("training", min(done, total), total)

        found = train_encoder(opened, folder, run, stores(), epochs, seed, tell, listen)
        if found is None:
            print("stopped; the same command goes on", file=sys.stderr)
            return 1  # whoever reads the card must not take this for one
        card = found
    if json:
        print_json(card.model_dump(mode="json") | {"folder": str(run / "checkpoint")})
        return 0
    for result in card.results:
        print(f"{result.name}: top-1 {result.top1:.1%} of {result.count}")
    print(f"checkpoint: {run / 'checkpoint'}")
    print(f"next: main.py recognize SOURCE --checkpoint {run.name}")
    return 0


def known(checkpoint: tyro.conf.Positional[Path], dataset: tuple[str, ...] = (), progress: Style = "text") -> int:
    """Measure what a checkpoint's own classes look like to it, so that actions can be taught beside them without data.

    Written beside the weights; the shipped default has it.

    Args:
        checkpoint: Checkpoint folder, or the name of a shipped or trained one.
        dataset: Prepared stores; default those it was trained on, as far as they are prepared here.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore
    from engine.paths import stores
    from engine.teach.known import measure, save_known

    tell, folder = TeachProgress(progress), find_checkpoint(checkpoint)
    recogniser = Recogniser(folder, fall_back=True)
    try:
        card = recogniser.own_card
        names = list(dataset) or [n for n in card.trained_on or [card.dataset] if (stores() / n).is_dir()]
        if not names:
            raise CommandError(f"none of {', '.join(card.trained_on)} is prepared here (main.py data list)")
        main = SequenceStore(stores() / card.dataset) if (stores() / card.dataset).is_dir() else None
        training = [main.names[int(i)] for i in split_indices(main, card.split)[0]] if main is not None else []
        chosen = []
        for name in names:
            store = SequenceStore(stores() / name)
            indices = split_indices(store, card.split)[0] if name == card.dataset else store.indices_of(training)
            chosen.append((store, indices))
        found = measure(recogniser, chosen, progress=lambda done, total: tell("measuring", done, total))
    finally:
        recogniser.close()
    path = save_known(found, folder)
    print(f"{path}: {int(found.counts.sum())} windows of {', '.join(names)}")
    return 0
