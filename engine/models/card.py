"""The checkpoint card: what a trained encoder is and everything the live path must know to feed it.

A checkpoint is a folder with ``card.json``, ``weights.safetensors`` and (once exported) ``model.onnx``. This module is
free of torch so that the live path can read cards.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.data.preprocess import Preprocessing
from engine.files import replace_files

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
ONNX_FILE = "model.onnx"


class CheckpointError(Exception):
    """A checkpoint folder can't be used; the message says which file and why."""


class Result(BaseModel):
    """One measured number: where it was measured and on how many sequences."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="What was measured, e.g. 'test, all 464' or 'test, through MediaPipe'.")
    dataset: str
    split: str
    count: int = Field(gt=0)
    top1: float = Field(ge=0, le=1)
    top5: float | None = Field(None, ge=0, le=1)
    note: str = ""


class Decision(BaseModel):
    """Calibrated settings of the live decision."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = Field(1.0, gt=0, description="Logits are divided by this before the softmax.")
    enter: float = Field(0.6, ge=0, le=1, description="Smoothed score at which an action begins.")
    leave: float = Field(0.4, ge=0, le=1, description="Smoothed score at which it ends.")
    min_motion: float = Field(
        0.15, ge=0, description="Mean joint speed, trunk lengths per second, under which a person stands still."
    )
    smoothing_s: float = Field(0.4, ge=0, description="Time constant of the score smoothing, seconds.")
    idle_class: str | None = Field(None, description="Class that means 'nothing', never shown as an action.")
    min_energy: float | None = Field(
        None,
        description="Smoothed log of the summed exponentials of the logits (divided by the temperature) under which no "
        "action begins, because the encoder knows nothing of the kind; none: not asked.",
    )

    min_score: float = Field(
        0.0, ge=0, le=1, description="Mean smoothed score under which a finished action is taken back as unknown."
    )

    min_shown_s: float = Field(
        0.0, ge=0, description="A finished action whose word stood for less than this, in seconds, is taken back."
    )

    min_s: float = Field(0.0, ge=0, description="A finished action shorter than this, in seconds, is taken back.")

    @model_validator(mode="after")
    def _ordered(self) -> Decision:
        if self.leave > self.enter:
            raise ValueError("leave must not be larger than enter")
        return self


class CheckpointCard(BaseModel):
    """What a trained model is; kept as ``card.json`` beside its weights."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    name: str
    title: str = ""
    method: str = "supervised"
    backbone: str
    backbone_args: dict[str, Any] = Field(default_factory=dict)
    feature_dim: int = Field(gt=0)
    classes: list[str] = Field(min_length=1)
    classifier_trained: bool = Field(
        True, description="False for a pretrained encoder: its features mean something, its logits don't."
    )
    preprocessing: Preprocessing
    decision: Decision = Field(default_factory=Decision)
    dataset: str
    split: str
    trained_on: list[str] = Field(default_factory=list, description="Every store that was trained on.")
    results: list[Result] = Field(default_factory=list)
    training: dict[str, Any] = Field(default_factory=dict, description="Epochs, seed, batch, lr, seconds, machine.")
    parent: dict[str, Any] | None = Field(
        None, description="The encoder this one started from: name, method, digests of its recipe and weights."
    )
    recipe_hash: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    created: str = ""
    licence: str = ""
    limits: str = Field("", description="What the model is not for, in plain words.")
    sha256: dict[str, str] = Field(default_factory=dict, description="Digest of every file of the checkpoint.")

    @model_validator(mode="after")
    def _unique_classes(self) -> CheckpointCard:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names repeat")
        if self.decision.idle_class is not None and self.decision.idle_class not in self.classes:
            raise ValueError(f"idle class {self.decision.idle_class!r} is not among the classes")
        return self


def read_card(folder: Path) -> CheckpointCard:
    """Read and validate ``folder/card.json``; raises :class:`CheckpointError` with a plain reason."""
    path = Path(folder) / CARD_FILE
    if not Path(folder).is_dir():
        raise CheckpointError(f"{folder} is not a checkpoint folder (no such folder)")
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a checkpoint folder ({CARD_FILE} is missing)")
    try:
        return CheckpointCard.model_validate(json.loads(path.read_text("utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise CheckpointError(f"{path}: {where}: {first['msg']}") from error


def require_classifier(card: CheckpointCard, folder: Path) -> None:
    """Raise :class:`CheckpointError` for a pretrained encoder, which can't name anything yet."""
    if not card.classifier_trained:
        raise CheckpointError(
            f"{card.name} is a pretrained encoder without a trained classifier, so it can't name actions; train one "
            f"first: main.py evaluate {folder} --protocol linear (or finetune instead of linear)"
        )


def card_data(card: CheckpointCard) -> bytes:
    """What ``card.json`` holds."""
    return (json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()


def write_card(card: CheckpointCard, folder: Path) -> Path:
    """Write ``card.json``, replacing the old one at once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CARD_FILE
    replace_files({path: card_data(card)})
    return path


def find_checkpoints(*roots: Path) -> list[Path]:
    """Folders below the given roots (one level) that hold a card, sorted by name."""
    found: dict[str, Path] = {}
    for root in roots:
        try:
            children = sorted(root.iterdir())
        except OSError:
            continue
        for child in children:
            with contextlib.suppress(OSError):  # what can't be looked at must not hide the others
                if (child / CARD_FILE).is_file():
                    found.setdefault(child.name, child)
    return sorted(found.values())
