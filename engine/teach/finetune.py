"""Fine-tuning on a pack: a normal checkpoint that names the taught actions by itself, with its graph for live use.

``head`` trains the classifier alone and needs no data but the pack; ``encoder`` trains everything and needs the known
classes' sets prepared here. torch is imported only here, inside the functions.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.sets import split_indices
from engine.data.splits import FILE_SUFFIX
from engine.data.store import SequenceStore, StoreError, write_store
from engine.live.recogniser import Recogniser
from engine.live.taught import TaughtError
from engine.models.card import WEIGHTS_FILE, CheckpointCard, Result, read_card, write_card
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.export import SPLIT, kept_for_test, take_sequence, taught_actions
from engine.teach.features import encode, windows_of
from engine.teach.head import train_head
from engine.teach.known import KnownFeatures, classifier_rows, load_known, measure, save_known, statistics
from engine.teach.learn import Examples, pack_examples
from engine.teach.pack import ClassPack

Say = Callable[[str, int, int], None]  # what is done, how much of it, of how much
FOLDS = 5
# A taught class is shown about as often as a known one, by repeating its takes; never more often than this.
MOST_REPEATS = 24


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


def taught_store(
    pack: ClassPack, parent: CheckpointCard, stores: Path, seed: int, say: Say
) -> tuple[SequenceStore, int]:
    """The known classes' sequences and the takes as one store with the split ``takes``; and the takes kept for testing.

    Takes are repeated until a taught class has about as many as a known one. Test sequences of the known set stay test
    sequences; of filmed or further sets the parent was trained on, those prepared here give their training part.

    Raises
    ------
    StoreError
        The parent's set is not prepared here.
    """
    try:
        main = SequenceStore(stores / parent.dataset)
    except StoreError as error:
        raise StoreError(
            f"{error}. Fine-tuning an encoder needs the set it was trained on; --what head does without"
        ) from None
    idle = parent.decision.idle_class
    classes = [name for name in parent.classes if name != idle]
    actions = [name for name in taught_actions(pack) if name != idle]
    classes += [name for name in actions if name not in classes]
    train, test = split_indices(main, parent.split)
    sources = [(main, train, 1), (main, test, 0)]
    names = [main.names[int(i)] for i in train]
    for other in parent.trained_on:
        if other != parent.dataset and (stores / other).is_dir():
            further = SequenceStore(stores / other)
            sources.append((further, further.indices_of(names), 1))
    layout, column = parent.preprocessing.layout, f"{SPLIT}{FILE_SUFFIX}"
    takes = [take for action in actions for take in pack.takes(action)]
    tested = kept_for_test(takes)
    usual = max(1, len(train) // max(1, len(main.classes)))
    total = sum(len(indices) for _, indices, _ in sources) + len(takes)

    def sequences() -> Iterator[SkeletonSequence]:
        for store, indices, part in sources:
            for i in indices:
                sequence = store.sequence(int(i))
                name = store.classes[sequence.label]
                if name in classes:
                    xyz = convert_layout(sequence.xyz, sequence.layout, layout)
                    meta: dict[str, int | str] = {column: part, "origin": store.name}
                    label = classes.index(name)
                    yield SkeletonSequence(xyz, sequence.times, layout, name=sequence.name, label=label, meta=meta)
        for take in takes:
            sequence = take_sequence(take, classes.index(take.action), main.fps, layout)
            part = int(take.path not in tested)
            own = sum(t.action == take.action and t.path not in tested for t in takes)
            sequence.meta = {column: part, "origin": "takes"}
            yield from [sequence] * (min(MOST_REPEATS, max(1, usual // max(1, own))) if part else 1)

    folder = stores / f"taught_{pack.folder.name.replace('-', '_')}"
    about = {"pack": pack.name, "parent": parent.name}
    written = write_store(
        folder, folder.name, sequences(), classes, main.fps, lambda n: say("collecting", n, total), about=about
    )
    return written, len(tested)


def encoder_recipe(
    parent: CheckpointCard, checkpoint: Path, store: SequenceStore, name: str, epochs: int, seed: int
) -> Any:
    """The supervised recipe: the parent's own where it ships, with a small rate and its weights to start from."""
    from engine.training.feed import IDLE
    from engine.training.recipe import RECIPES, Recipe, RecipeError, load_recipe

    values: dict[str, Any] = {
        "augmentation": {"yaw_deg": 25, "pitch_deg": 10, "roll_deg": 5, "speed": 0.2, "cut": 0.2, "noise_m": 0.04,
                         "scale": 0.1, "drop": 0.2},
        "label_smoothing": 0.1,
    }  # fmt: skip
    if (RECIPES / f"{parent.name}.yaml").is_file():
        shipped = load_recipe(parent.name).model_dump(mode="json")
        values = {key: shipped[key] for key in ("augmentation", "label_smoothing", "precision") if key in shipped}
    kind = values["augmentation"].get("kind", "window")
    if kind != "window":
        values["augmentation"] = {"kind": kind} | values["augmentation"]
    if parent.decision.idle_class not in (None, IDLE):
        raise RecipeError(f"{parent.name}'s class for nothing is {parent.decision.idle_class!r}, expected {IDLE!r}")
    train, _ = split_indices(store, SPLIT)
    return Recipe(
        name=name,
        title=f"{parent.title or parent.name}, and {len(store.classes) + bool(parent.decision.idle_class)} classes",
        dataset=store.name,
        split=SPLIT,
        start_from=str(checkpoint),
        backbone=parent.backbone,  # type: ignore[arg-type]
        backbone_args=parent.backbone_args,
        preprocessing=parent.preprocessing,
        idle_share=0.15 if parent.decision.idle_class else 0.0,
        optimiser={"lr": 0.01, "weight_decay": 4e-4, "warmup_epochs": 1, "schedule": "cosine"},  # type: ignore[arg-type]
        epochs=epochs,
        batch=min(16, len(train)),
        seed=seed,
        **values,
    )


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
