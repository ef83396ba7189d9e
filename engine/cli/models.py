"""``models`` and ``calibrate``: what checkpoints there are, and how sure the live decision of one is."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from engine.cli.live import find_checkpoint
from engine.models.card import CheckpointError, read_card, require_classifier
from engine.models.shelf import find_places


def checkpoint_folders() -> list[Path]:
    """Every checkpoint that ships, was trained in a run, or was imported."""
    return [place.folder for place in find_places()]


def list_(json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
    """List shipped, trained and imported checkpoints.

    Args:
        json: Print the cards as JSON.
    """
    cards = []
    for folder in checkpoint_folders():
        try:
            cards.append((folder, read_card(folder)))
        except CheckpointError as error:
            print(f"damaged: {error}")
    if json:
        print(
            json_module.dumps(
                [card.model_dump(mode="json") | {"folder": str(folder)} for folder, card in cards], indent=1
            )
        )
        return 0
    for folder, card in cards:
        best = f"{card.results[0].top1:.1%}" if card.results else "-"
        print(
            f"{card.name:<28} {card.backbone:<8} {card.preprocessing.stream:<12} {card.dataset:<10} {best:>6}  {folder}"
        )
    return 0


def show(checkpoint: tyro.conf.Positional[Path]) -> int:
    """Print the card of a checkpoint.

    Args:
        checkpoint: Checkpoint folder, or the name of a shipped or trained one.
    """
    print(json_module.dumps(read_card(find_checkpoint(checkpoint)).model_dump(mode="json"), indent=1))
    return 0


def calibrate(
    checkpoint: tyro.conf.Positional[Path],
    dataset: str | None = None,
    subjects: tuple[int, ...] = (),
    precision: float = 0.9,
) -> int:
    """Fit how sure the live decision is, on windows of sequences the encoder was not trained on; written into the card.

    Args:
        checkpoint: Checkpoint folder, or the name of a trained one.
        dataset: Store to take windows from; default the filmed set of the checkpoint's dataset.
        subjects: Only these test subjects, so that others remain to check on; default all.
        precision: Share of shown words that should be right.
    """
    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore
    from engine.models.card import write_card
    from engine.models.checkpoint import load_encoder
    from engine.paths import stores
    from engine.training.calibrate import calibrate as fit

    folder = find_checkpoint(checkpoint)
    encoder, card = load_encoder(folder)
    require_classifier(card, folder)
    origin = SequenceStore(stores() / card.dataset)
    store = SequenceStore(stores() / (dataset or f"{card.dataset}_mediapipe"))
    _, test = split_indices(origin, card.split)
    if subjects:
        test = test[np.isin(origin.column("subject")[test], subjects)]
    indices = store.indices_of([origin.names[int(i)] for i in test])
    found = fit(encoder, store, indices, card.preprocessing, precision)
    decision = card.decision.model_copy(
        update={"temperature": found.temperature, "enter": found.enter, "leave": found.leave}
    )
    about = {"store": store.name, "subjects": list(subjects) or "all test subjects", "windows": found.windows}
    training = card.training | {"decision_calibrated_on": about}
    write_card(card.model_copy(update={"decision": decision, "training": training}), folder)
    print(f"{found.windows} windows of {len(indices)} sequences of {store.name}")
    before, after = found.error_before, found.error_after
    print(f"temperature {found.temperature}; expected calibration error {before:.3f} -> {after:.3f}")
    print(f"a word from {found.enter} on, until {found.leave}:")
    print(f"  {found.shown:.0%} of the windows get one, {found.precision:.0%} of those are right")
    return 0
