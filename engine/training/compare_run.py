"""Runs checkpoints on the same test sequences for a comparison, and keeps what they said for the next one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.data.batch import BodyFrames, ClipLoader, ClipMaker
from engine.data.sets import base_name, split_indices
from engine.data.splits import CLEAN_SUFFIX, TRAIN_CLEAN_SUFFIX
from engine.data.store import SequenceStore
from engine.models.card import WEIGHTS_FILE, CheckpointCard, CheckpointError, read_card, require_classifier
from engine.models.checkpoint import file_digest, load_encoder
from engine.paths import stores, user_data
from engine.training.compare import Answers, CompareError, compare_answers, shared_classes

BATCH = 32
# What happens ("encoding NAME"), sequences done, sequences in all.
Listener = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Ground:
    """The sequences of a comparison: ``indices`` into ``store``, ``labels`` positions in ``classes``."""

    store: SequenceStore
    split: str
    indices: np.ndarray
    labels: np.ndarray
    classes: list[str]
    left_out: int
    notes: tuple[str, ...]


def kept_answers() -> Path:
    """Folder of answers that were computed before; may be deleted at any time."""
    return user_data() / "cache" / "answers"


def choose_ground(cards: Sequence[CheckpointCard], dataset: str | None, split: str | None) -> Ground:
    """The test sequences all checkpoints can be asked about.

    Compared are the classes every checkpoint and the dataset have in common, by name; sequences of other classes are
    left out and counted. Joints are converted to each checkpoint's layout where that is possible.

    Raises
    ------
    CompareError
        Fewer than two classes in common, a layout that can't be converted, or an empty test part.
    engine.data.store_files.StoreError
        The dataset is not prepared here, or has no such split.
    """
    name = dataset or cards[0].dataset
    wanted = split or (cards[0].split if name == cards[0].dataset else _split_of(cards, name))
    store = SequenceStore(stores() / name)
    shared = shared_classes([store.classes, *(card.classes for card in cards)])
    if len(shared) < 2:
        known = "; ".join(f"{card.name}: {', '.join(card.classes[:4])}, ..." for card in cards)
        raise CompareError(
            f"there is nothing to compare: {name} and these checkpoints share {len(shared)} classes ({known}). "
            "Choose checkpoints of one class list, or a dataset they all know"
        )
    for card in cards:
        _check_layout(card, store)
    _, test = split_indices(store, wanted)
    place = np.array([shared.index(c) if c in shared else -1 for c in store.classes] + [-1])
    labels = place[store.label[test]]
    kept = labels >= 0
    if not kept.any():
        raise CompareError(f"the test part {wanted!r} of {name} has no sequence of the {len(shared)} shared classes")
    left = int((~kept).sum())
    return Ground(store, wanted, test[kept], labels[kept], shared, left, _notes(cards, store, wanted, shared, left))


def _split_of(cards: Sequence[CheckpointCard], name: str) -> str:
    return next((card.split for card in cards if base_name(card.dataset) == base_name(name)), cards[0].split)


def _check_layout(card: CheckpointCard, store: SequenceStore) -> None:
    from engine.skeleton.convert import convert_layout
    from engine.skeleton.layout import get_layout

    try:
        joints = get_layout(store.layout).num_joints
        convert_layout(np.zeros((joints, 3), np.float32), store.layout, card.preprocessing.layout)
    except ValueError as error:
        raise CompareError(
            f"{card.name} wants {card.preprocessing.layout} joints and {store.name} has {store.layout}: {error}"
        ) from error


def _notes(
    cards: Sequence[CheckpointCard], store: SequenceStore, split: str, shared: list[str], left: int
) -> tuple[str, ...]:
    """What a reader of the numbers must know."""
    notes = []
    if left:
        notes.append(f"{left} test sequences of classes that not all know are left out")
    for card in cards:
        more = [c for c in card.classes if c not in shared]
        if more:
            few = ", ".join(more[:3]) + (", ..." if len(more) > 3 else "")
            notes.append(f"{card.title or card.name} also knows {few}; such an answer counts as wrong")
        if card.preprocessing.layout != store.layout:
            notes.append(f"{card.title or card.name} sees the joints converted to {card.preprocessing.layout}")
        known = {base_name(name) for name in card.trained_on} | {base_name(card.dataset)}
        if base_name(store.name) in known and _whole_split(card.split) != _whole_split(split):
            notes.append(
                f"{card.title or card.name} was trained on split {card.split}: it has seen some of these sequences"
            )
    return tuple(notes)


def _whole_split(split: str) -> str:
    """The split that a stricter reading of it is a part of: ``xview`` of ``xview_clean`` and ``xview_train_clean``."""
    return split.removesuffix(TRAIN_CLEAN_SUFFIX).removesuffix(CLEAN_SUFFIX)


def answers_of(folder: Path, ground: Ground, device: str, listen: Listener) -> tuple[Answers, bool]:
    """One checkpoint's answers, and whether they were kept from before.

    Raises
    ------
    CheckpointError
        It can't be loaded, or is a pretrained encoder without a classifier.
    """
    card = read_card(folder)
    require_classifier(card, folder)
    if not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS_FILE}: only its graph is here, which can't be compared")
    listen(f"reading {card.name}", 0, len(ground.indices))
    kept = kept_answers() / f"{_key(folder, card, ground)}.npz"
    found = _read(kept, len(ground.indices), len(card.classes))
    reused = found is not None
    if found is None:
        found = _encode(folder, card, ground, device, listen)
        _keep(kept, *found)
    listen(f"encoding {card.name}", len(ground.indices), len(ground.indices))
    return Answers(tuple(card.classes), *found, card.decision.temperature), reused


def _encode(
    folder: Path, card: CheckpointCard, ground: Ground, device: str, listen: Listener
) -> tuple[np.ndarray, np.ndarray]:
    encoder, _ = load_encoder(folder)
    encoder = encoder.to(device)
    loader = ClipLoader(ClipMaker(BodyFrames(ground.store), card.preprocessing), ground.indices, BATCH, device=device)
    logits, features, done = [], [], 0
    with torch.inference_mode():
        for batch in loader:
            out = encoder(batch.clips)
            logits.append(out.logits.float().cpu().numpy())
            features.append(out.features.float().cpu().numpy())
            done += len(logits[-1])
            listen(f"encoding {card.name}", done, len(ground.indices))
    return np.concatenate(logits), np.concatenate(features)


def _key(folder: Path, card: CheckpointCard, ground: Ground) -> str:
    """Everything the answers depend on: weights, what is fed to them, and which sequences."""
    about = {
        "weights": file_digest(folder / WEIGHTS_FILE),
        "backbone": [card.backbone, card.backbone_args],
        "preprocessing": card.preprocessing.model_dump(mode="json"),
        "store": hashlib.sha256(json.dumps(ground.store.header, sort_keys=True, default=str).encode()).hexdigest(),
        "indices": hashlib.sha256(np.ascontiguousarray(ground.indices, np.int64).tobytes()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path, count: int, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            logits, features = kept["logits"], kept["features"]
    except (OSError, ValueError, KeyError, EOFError):
        return None
    except Exception:  # a damaged zip: computed again
        return None
    return (logits, features) if logits.shape == (count, classes) and len(features) == count else None


def _keep(path: Path, logits: np.ndarray, features: np.ndarray) -> None:
    """Best effort: a full disk costs the next comparison some time, not this one its result."""
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, logits=logits, features=features)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def compare_checkpoints(
    folders: Sequence[Path],
    dataset: str | None = None,
    split: str | None = None,
    device: str = "cpu",
    listen: Listener = lambda what, done, total: None,
) -> dict[str, Any]:
    """Compare checkpoints on a test part; see :func:`engine.training.compare.compare_answers` for the numbers.

    Returns
    -------
    dict
        Those numbers, and ``dataset``, ``split``, ``classes``, ``count``, ``left_out``, ``notes``, ``sequences``
        (``names``, ``labels``); every model also has ``name``, ``title``, ``folder``.

    Raises
    ------
    CompareError
        Fewer than two checkpoints, or none of the reasons of :func:`choose_ground` lets them be compared.
    CheckpointError
        One can't be loaded.
    """
    if len(folders) < 2:
        raise CompareError("a comparison needs two checkpoints or more")
    cards = [read_card(folder) for folder in folders]
    for card, folder in zip(cards, folders, strict=True):
        require_classifier(card, folder)
    ground = choose_ground(cards, dataset, split)
    found = [answers_of(folder, ground, device, listen) for folder in folders]
    report = compare_answers([answers for answers, _ in found], ground.labels, ground.classes)
    for model, card, folder, (_, reused) in zip(report["models"], cards, folders, found, strict=True):
        model |= {"name": card.name, "title": card.title or card.name, "folder": str(folder), "kept": reused}
    names = ground.store.names
    return {
        "dataset": ground.store.name,
        "split": ground.split,
        "count": len(ground.indices),
        "left_out": ground.left_out,
        "notes": list(ground.notes),
        "classes": ground.classes,
        "sequences": {
            "names": [names[int(i)] for i in ground.indices],
            "rows": ground.indices.tolist(),
            "labels": ground.labels.tolist(),
        },
    } | report
