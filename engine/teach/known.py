"""What a checkpoint's own classes look like to it: statistics beside the weights, so that teaching needs no data.

``known_features.safetensors`` holds the mean of every class, the covariance within classes, and some examples: features
only, from which nobody's movements can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from engine.data.augment import training_clip
from engine.data.store import SequenceStore
from engine.live.recogniser import Recogniser
from engine.live.taught import TaughtError
from engine.models.card import WEIGHTS_FILE, CheckpointCard
from engine.teach.features import CHANGES, encode, windows_of

KNOWN_FILE = "known_features.safetensors"
FORMAT = 1
EXAMPLES = 20
_WINDOWS = 4


@dataclass(frozen=True, eq=False)
class KnownFeatures:
    """Features of a checkpoint's own classes.

    ``means`` float32 ``(K, D)``; ``counts`` int64 ``(K,)``, windows they are means of (0: the class has none, its mean
    is zeros); ``covariance`` float32 ``(D, D)`` within classes; ``examples`` float32 ``(E, D)`` and ``labels`` int64
    ``(E,)``, at most :data:`EXAMPLES` per class; ``stores``: where they come from.
    """

    classes: tuple[str, ...]
    means: np.ndarray
    counts: np.ndarray
    covariance: np.ndarray
    examples: np.ndarray
    labels: np.ndarray
    stores: tuple[str, ...] = ()
    weights: str = ""


def statistics(
    classes: Sequence[str], features: np.ndarray, labels: np.ndarray, seed: int = 0, examples: int = EXAMPLES
) -> KnownFeatures:
    """Statistics of labelled features ``(N, D)``; labels are places in ``classes``."""
    count = len(classes)
    counts = np.bincount(labels, minlength=count).astype(np.int64)
    means = np.zeros((count, features.shape[1]))
    np.add.at(means, labels, features)
    means /= np.maximum(counts, 1)[:, None]
    spread = features - means[labels]
    freedom = max(len(features) - int((counts > 0).sum()), 1)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == k))[:examples] for k in range(count)]
    order = np.sort(np.concatenate(chosen))
    return KnownFeatures(
        tuple(classes),
        means.astype(np.float32),
        counts,
        (spread.T @ spread / freedom).astype(np.float32),
        features[order].astype(np.float32),
        labels[order].astype(np.int64),
    )


def measure(
    recogniser: Recogniser,
    stores: Sequence[tuple[SequenceStore, np.ndarray]],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> KnownFeatures:
    """Statistics of the known classes from prepared sequences, of windows changed as those of takes are.

    The idle class, where the checkpoint has one, gets windows that lie nearly all before or after a performance, as in
    training.

    Parameters
    ----------
    stores : sequence of (SequenceStore, indices)
        Sequences whose class names are among the checkpoint's; others are left out.

    Raises
    ------
    TaughtError
        No sequence of any of the checkpoint's classes.
    """
    card = recogniser.own_card
    spec, idle = card.preprocessing, card.decision.idle_class
    rng = np.random.default_rng(seed)
    rows: list[np.ndarray] = []
    labels: list[int] = []
    total = sum(len(indices) for _, indices in stores)
    done = 0
    for store, indices in stores:
        for i in indices:
            sequence = store.sequence(int(i))
            name = store.classes[sequence.label] if sequence.label >= 0 else ""
            if name in card.classes:
                clips = windows_of(sequence, spec, _WINDOWS, seed=int(rng.integers(1 << 31)))
                label = [card.classes.index(name)] * len(clips)
                if idle is not None and spec.sampling == "window":
                    still = training_clip(sequence, spec, CHANGES, rng, idle=True)
                    clips = np.concatenate([clips, still[None]])
                    label.append(card.classes.index(idle))
                rows.append(encode(recogniser, clips).features)
                labels += label
            done += 1
            if progress is not None:
                progress(done, total)
    if not rows:
        raise TaughtError(f"no sequence of {card.name}'s classes in the prepared sets")
    found = statistics(card.classes, np.concatenate(rows), np.array(labels), seed)
    names = tuple(store.name for store, _ in stores)
    return KnownFeatures(**{**found.__dict__, "stores": names, "weights": card.sha256.get(WEIGHTS_FILE, "")})


def save_known(known: KnownFeatures, checkpoint: Path) -> Path:
    """Write the statistics beside a checkpoint's weights; examples and covariance are rounded to half precision."""
    path = Path(checkpoint) / KNOWN_FILE
    about = {"format": FORMAT, "classes": known.classes, "stores": known.stores, "weights": known.weights}
    arrays: dict[str, np.ndarray] = {
        "means": known.means.astype(np.float32),
        "counts": known.counts.astype(np.int64),
        "covariance": known.covariance.astype(np.float32),
        "examples": known.examples.astype(np.float16),
        "labels": known.labels.astype(np.int64),
    }
    temporary = path.with_name(path.name + ".tmp")
    save_file(arrays, temporary, metadata={"known_features": json.dumps(about)})
    temporary.replace(path)
    return path


def load_known(checkpoint: Path, card: CheckpointCard) -> KnownFeatures | None:
    """Statistics beside a checkpoint; None where there are none.

    Raises
    ------
    TaughtError
        The file is damaged, of a newer version, or belongs to other weights.
    """
    path = Path(checkpoint) / KNOWN_FILE
    if not path.is_file():
        return None
    again = f"make it anew: main.py teach known {checkpoint}"
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["known_features"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        classes = tuple(about["classes"])
        if about["format"] > FORMAT:
            raise TaughtError(f"{path} was made by a newer version of this program; {again}")
        known = KnownFeatures(
            classes,
            arrays["means"],
            arrays["counts"],
            arrays["covariance"],
            arrays["examples"].astype(np.float32),
            arrays["labels"],
            tuple(about["stores"]),
            about["weights"],
        )
        k, d = len(classes), card.feature_dim
        whole = (
            known.means.shape == (k, d)
            and known.counts.shape == (k,)
            and known.covariance.shape == (d, d)
            and known.examples.shape == (len(known.labels), d)
            and all(np.isfinite(a).all() for a in (known.means, known.covariance, known.examples))
            and (len(known.labels) == 0 or (known.labels.min() >= 0 and known.labels.max() < k))
        )
        if not whole:
            raise ValueError("its arrays do not belong together")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise TaughtError(f"{path} is damaged ({error}); {again}") from error
    digest = card.sha256.get(WEIGHTS_FILE, "")
    if classes != tuple(card.classes) or (known.weights and digest and known.weights != digest):
        raise TaughtError(f"{path} belongs to other weights than {card.name}'s; {again}")
    return known


def classifier_rows(checkpoint: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The linear classifier of a checkpoint, float32 ``(K, D)`` and ``(K,)``; None where it has none of that form."""
    try:
        with safe_open(Path(checkpoint) / WEIGHTS_FILE, framework="numpy") as file:
            weight, bias = file.get_tensor("classifier.weight"), file.get_tensor("classifier.bias")
    except (OSError, SafetensorError, TypeError, AttributeError):
        return None
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        return None
    return weight.astype(np.float32), bias.astype(np.float32)
