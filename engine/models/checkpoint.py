"""Writing and reading the weights of a checkpoint folder: safetensors, never a pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from engine.files import replace_files
from engine.models.agcn import AGCN
from engine.models.card import CARD_FILE, WEIGHTS_FILE, CheckpointCard, CheckpointError, card_data, read_card
from engine.models.ctrgcn import CTRGCN
from engine.models.dstanet import DSTANet
from engine.models.gl_transformer import GLTransformer
from engine.models.gru import BidirectionalGRUEncoder, GRUEncoder
from engine.models.infogcn import InfoGCN
from engine.models.stgcn import STGCN

BACKBONES: dict[str, type[nn.Module]] = {
    "ctrgcn": CTRGCN,
    "agcn": AGCN,
    "infogcn": InfoGCN,
    "stgcn": STGCN,
    "dstanet": DSTANet,
    "gru": GRUEncoder,
    "gru_bidirectional": BidirectionalGRUEncoder,
    "gl_transformer": GLTransformer,
}


def build_encoder(backbone: str, num_classes: int, layout: str, persons: int, args: dict[str, Any]) -> nn.Module:
    """An encoder with fresh weights; raises ``ValueError`` for an unknown backbone or argument."""
    if backbone not in BACKBONES:
        raise ValueError(f"unknown backbone {backbone!r}; known: {', '.join(BACKBONES)}")
    try:
        return BACKBONES[backbone](num_classes=num_classes, layout=layout, persons=persons, **args)
    except TypeError as error:
        raise ValueError(f"{backbone}: {error}") from error


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(folder: Path, card: CheckpointCard, encoder: nn.Module) -> CheckpointCard:
    """Write the weights, and the card with their digest; both replace the old ones once both are on the disk.

    Raises
    ------
    CheckpointError
        They can't be written (a full disk); an old checkpoint in the folder is kept.
    """
    data = save({key: value.detach().contiguous().cpu() for key, value in encoder.state_dict().items()})
    card = card.model_copy(update={"sha256": {WEIGHTS_FILE: hashlib.sha256(data).hexdigest()}})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_files({folder / WEIGHTS_FILE: data, folder / CARD_FILE: card_data(card)})
    except OSError as error:
        raise CheckpointError(
            f"{error.filename} can't be written ({error.strerror}); what was saved before is kept: make room and do it "
            "again (a training goes on with main.py runs resume)"
        ) from error
    return card


def load_encoder(folder: Path) -> tuple[nn.Module, CheckpointCard]:
    """The encoder of a checkpoint folder, in evaluation mode.

    Raises
    ------
    CheckpointError
        Weights are missing, damaged, not those of the card, or do not fit its backbone.
    """
    card = read_card(folder)
    path = Path(folder) / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder}: {WEIGHTS_FILE} is missing")
    try:
        # Cards of before have no digest.
        if card.sha256.get(WEIGHTS_FILE) not in (None, file_digest(path)):
            raise ValueError(
                f"it is damaged, or not the file {CARD_FILE} was written for (another sha256); copy or train this "
                "checkpoint again"
            )
        weights = load_file(path)
        spec = card.preprocessing
        encoder = build_encoder(card.backbone, len(card.classes), spec.layout, spec.persons, card.backbone_args)
        encoder.load_state_dict(weights)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} can't be loaded: {error}") from error
    return encoder.eval(), card


def environment() -> dict[str, str]:
    """Versions that matter for repeating a run."""
    import platform

    import numpy

    import engine

    return {
        "skelapp": engine.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
    }
