"""``models list`` and ``models show``: what checkpoints there are, and what their cards say."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import tyro

from engine.cli.live import find_checkpoint
from engine.models.card import CheckpointError, read_card
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
            print(f"damaged: {error}", file=sys.stderr)
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
