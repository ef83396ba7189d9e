"""Fine-tuning on a pack: a normal checkpoint that names the taught actions by itself, with its graph for live use.

``head`` trains the classifier alone and needs no data but the pack; ``encoder`` trains everything and needs the known
classes' sets prepared here. torch is imported only here, inside the functions.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.sets import split_indices
from engine.data.store import SequenceStore, StoreError
from engine.live.recogniser import Recogniser
from engine.live.taught import TaughtError
from engine.models.card import WEIGHTS_FILE, CheckpointCard, Result, read_card, write_card
from engine.teach.export import SPLIT, taught_actions
from engine.teach.features import encode, windows_of
from engine.teach.head import train_head
from engine.teach.known import KNOWN_FILE, KnownFeatures, classifier_rows, load_known, measure, save_known, statistics
from engine.teach.learn import Examples, pack_examples
from engine.teach.pack import ClassPack
from engine.teach.pack_files import TAKES
from engine.teach.taught_set import Say, encoder_recipe, taught_store

FOLDS = 5


def train_on_features(
    pack: ClassPack, recogniser: Recogniser, out: Path, name: str, seed: int = 0, say: Say | None = None
) -> CheckpointCard:
    """Train a new classifier on the features of the encoder as it is, and write the checkpoint ``out``.

    Its card says what it was taught, the parent, and how often a take was named rightly by a classifier that was
    trained without it.

    Raises
    ------
    TaughtError
        No takes, or the encoder's own classes were never measured (``main.py teach known``).
    CheckpointError
        The encoder has no linear classifier, or the graph does not come out right.
    """
    from engine.deploy.export import export_onnx
    from engine.models.checkpoint import build_encoder, environment, load_encoder, save_checkpoint

    say = say or (lambda what, done, total: None)
    began = time.monotonic()
    parent, folder = recogniser.own_card, recogniser.checkpoint
    known, classifier = load_known(folder, parent), classifier_rows(folder)
    if known is None:
        raise TaughtError(f"{parent.name}'s own classes were not measured yet: main.py teach known {folder}")
    if classifier is None:
        raise TaughtError(f"{parent.name} has no linear classifier to go on from; use --what encoder")
    examples = pack_examples(pack, recogniser, lambda done, total: say("looking at takes", done, total))
    right, count = _folds(known, classifier, examples, seed, say)
    say("training the classifier", 0, 1)
    head = train_head(known, classifier, examples)
    say("training the classifier", 1, 1)

    import torch

    trained, _ = load_encoder(folder)
    spec = parent.preprocessing
    encoder = build_encoder(parent.backbone, len(head.classes), spec.layout, spec.persons, parent.backbone_args)
    weights = trained.state_dict()
    weights["classifier.weight"], weights["classifier.bias"] = (
        torch.from_numpy(head.weight),
        torch.from_numpy(head.bias),
    )
    encoder.load_state_dict(weights)
    results = []
    if count:
        note = f"{min(FOLDS, count)} parts, each named by a classifier trained without it"
        results.append(
            Result(name="taught takes", dataset=pack.name, split="takes", count=count, top1=right / count, note=note)
        )
    card = parent.model_copy(
        update=_taught_card(parent, folder, pack, name, "head")
        | {
            "classes": list(head.classes), "results": results, "versions": environment(), "sha256": {},
            "training": {
                "what": "classifier on the features of the parent", "takes": _counts(pack), "seed": seed,
                "seconds": round(time.monotonic() - began), "processor": platform.processor() or platform.machine(),
            },
        }
    )  # fmt: skip
    save_checkpoint(out, card, encoder)
    say("writing the graph", 0, 1)
    export_onnx(out)
    save_known(_joined(known, head.classes, examples, read_card(out)), out)
    say("writing the graph", 1, 1)
    _test_known(out, parent, say)
    return read_card(out)


def train_encoder(
    pack: ClassPack,
    checkpoint: Path,
    run: Path,
    stores: Path,
    epochs: int = 4,
    seed: int = 0,
    say: Say | None = None,
    listen: Callable[[dict[str, Any]], None] | None = None,
) -> CheckpointCard | None:
    """Fine-tune encoder and classifier on the takes and the known classes' own training part, as a run.

    Returns
    -------
    CheckpointCard or None
        None when the run was asked to stop; the same call goes on.

    Raises
    ------
    TaughtError
        No takes.
    StoreError
        The set the checkpoint was trained on is not prepared here.
    """
    from engine.deploy.export import export_onnx
    from engine.training.tasks import run_task

    say = say or (lambda what, done, total: None)
    parent = read_card(checkpoint)
    store, kept_out = taught_store(pack, parent, stores, seed, say)
    recipe = encoder_recipe(parent, checkpoint, store, run.name, epochs, seed)
    if not run_task(recipe, stores, run, listen):
        return None
    out = run / "checkpoint"
    card = read_card(out)
    training = card.training | {"what": "encoder and classifier", "takes": _counts(pack), "takes_tested": kept_out}
    update = _taught_card(parent, checkpoint, pack, run.name, "encoder") | {"training": training}
    write_card(card.model_copy(update=update), out)
    say("writing the graph", 0, 1)
    export_onnx(out)
    recogniser = Recogniser(out, "onnx")
    try:
        train, _ = split_indices(store, SPLIT)
        known = measure(recogniser, [(store, train)], seed, lambda a, b: say("measuring the classes", a, b))
        save_known(known, out)
    finally:
        recogniser.close()
    return read_card(out)


def goes_on(run: Path, pack: Path, checkpoint: Path) -> bool:
    """Whether :func:`train_encoder` would go on in a run's folder: it was not ended, and trains this encoder on a pack
    whose takes are still the same."""
    from engine.training.run_folder import RunError, RunFolder

    folder = RunFolder(run)
    try:
        started_from = getattr(folder.recipe(), "start_from", "")
    except RunError:
        return False
    takes = pack / TAKES
    changed = max(path.stat().st_mtime for path in (takes, *takes.glob("*"), *takes.glob("*/*.npz")))
    unchanged = changed <= folder.recipe_file.stat().st_mtime
    # The classes are measured last, after the training itself has ended.
    ended = (folder.checkpoint / KNOWN_FILE).is_file() or folder.status().state in ("running", "failed")
    return started_from == str(checkpoint) and unchanged and not ended


def _folds(
    known: KnownFeatures,
    classifier: tuple[np.ndarray, np.ndarray],
    examples: list[Examples],
    seed: int,
    say: Say,
) -> tuple[int, int]:
    """Takes named rightly by a head trained without them, and all that could be asked for (actions of two or more)."""
    rng = np.random.default_rng(seed)
    part = {e.name: rng.permutation(len(e.takes)) % FOLDS for e in examples}
    asked = [e for e in examples if len(e.takes) > 1 and e.name not in known.classes]
    folds = sorted({int(f) for e in asked for f in part[e.name]})
    right = count = 0
    for done, fold in enumerate(folds):
        say("checking", done, len(folds))
        rest = [
            Examples(e.name, tuple(t for t, p in zip(e.takes, part[e.name], strict=True) if p != fold), e.against)
            for e in examples
        ]
        head = train_head(known, classifier, rest)
        for e in asked:
            if e.name not in head.classes:
                continue
            for take, p in zip(e.takes, part[e.name], strict=True):
                if p == fold:
                    right += head.classes[int(head(take[:1])[0].argmax())] == e.name
                    count += 1
    return right, count


def _joined(
    known: KnownFeatures, classes: tuple[str, ...], examples: list[Examples], card: CheckpointCard
) -> KnownFeatures:
    """Statistics of known and taught classes together: the encoder is the same, so its features are too."""
    features = [known.examples, *(np.concatenate(e.takes) for e in examples if e.takes)]
    labels = [known.labels, *(np.full(sum(map(len, e.takes)), classes.index(e.name)) for e in examples if e.takes)]
    both = statistics(classes, np.concatenate(features), np.concatenate(labels).astype(np.int64))
    old = len(known.classes)
    means, counts = both.means.copy(), both.counts.copy()
    means[:old], counts[:old] = known.means, known.counts
    digest = card.sha256.get(WEIGHTS_FILE, "")
    return KnownFeatures(
        classes, means, counts, known.covariance, both.examples, both.labels, known.stores, digest
    )  # fmt: skip


def _test_known(out: Path, parent: CheckpointCard, say: Say) -> None:
    """Add to the card how the known classes' test part is named among all classes, where the set is prepared here."""
    from engine import paths

    try:
        store = SequenceStore(paths.stores() / parent.dataset)
        _, test = split_indices(store, parent.split)
    except (StoreError, ValueError, KeyError):
        return
    test = np.array([i for i in test if store.classes[store.label[i]] in parent.classes], np.int64)
    if not len(test):
        return
    recogniser = Recogniser(out, "onnx")
    card, right = recogniser.own_card, 0
    for done, i in enumerate(test):
        if done % 20 == 0:
            say("testing the known classes", done, len(test))
        said = encode(recogniser, windows_of(store.sequence(int(i)), card.preprocessing, 1)).logits[0]
        right += card.classes[int(said.argmax())] == store.classes[store.label[i]]
    recogniser.close()
    result = Result(
        name="test sequences of the known classes", dataset=store.name, split=parent.split, count=len(test),
        top1=right / len(test), note=f"against all {len(card.classes)} classes",
    )  # fmt: skip
    write_card(card.model_copy(update={"results": [*card.results, result]}), out)


def _counts(pack: ClassPack) -> dict[str, int]:
    return {action: len(pack.takes(action)) for action in pack.actions if pack.takes(action)}


def _taught_card(parent: CheckpointCard, folder: Path, pack: ClassPack, name: str, what: str) -> dict[str, Any]:
    """What the cards of both kinds say."""
    taught = [action for action in taught_actions(pack) if action not in parent.classes]
    told = ", ".join(taught) or "more examples of its own actions"
    return {
        "name": name,
        "title": f"{parent.title or parent.name}; taught: {told}"[:300],
        "parent": {
            "source": str(folder), "name": parent.name, "recipe_hash": parent.recipe_hash,
            "weights": parent.sha256.get(WEIGHTS_FILE, ""), "taught": what, "pack": pack.name,
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "limits": f"{parent.limits} Taught by its user with few takes: {told}.".strip(),
    }  # fmt: skip
