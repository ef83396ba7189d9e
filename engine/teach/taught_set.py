"""What an encoder is fine-tuned on: the known classes' sequences and the takes as one store, and the recipe for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.data.sets import split_indices
from engine.data.splits import FILE_SUFFIX
from engine.data.store import SequenceStore, StoreError, write_store
from engine.models.card import CheckpointCard
from engine.skeleton.convert import convert_layout
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.export import SPLIT, kept_for_test, take_sequence, taught_actions
from engine.teach.pack import ClassPack

Say = Callable[[str, int, int], None]  # what is done, how much of it, of how much
# A taught class is shown about as often as a known one, by repeating its takes; never more often than this.
MOST_REPEATS = 24


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
