"""What an encoder makes of takes: a few slightly changed windows of each, kept in the pack so that it is done once."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engine.data.augment import Augmentation, evaluation_clip, training_clip
from engine.data.preprocess import Preprocessing
from engine.deploy.runtime_base import Prediction
from engine.live.recogniser import Recogniser
from engine.models.card import WEIGHTS_FILE, CheckpointCard
from engine.skeleton.sequence import SkeletonSequence
from engine.teach.pack import ClassPack
from engine.teach.pack_files import FEATURES
from engine.teach.recording import cut
from engine.teach.takes import Take

WINDOWS = 8
# Small changes: another time would look a little different, but be the same action by the same person.
CHANGES = Augmentation(yaw_deg=15, pitch_deg=5, speed=0.15, cut=0.15, noise_m=0.01, scale=0.05)
_BATCH = 16


def windows_of(
    sequence: SkeletonSequence,
    spec: Preprocessing,
    count: int = WINDOWS,
    seed: int = 0,
    changes: Augmentation = CHANGES,
) -> np.ndarray:
    """Clips ``(count, 3, T, V, M)`` of one performance.

    The first is the one a test would take: its middle. The others are turned, stretched and shifted a little, and of a
    performance longer than the encoder's window they are spread over it. The same sequence and seed give the same.
    """
    rng = np.random.default_rng(seed)
    clips = [evaluation_clip(sequence, spec)]
    long = spec.sampling == "window" and sequence.duration > spec.window_s
    for n in range(1, count):
        part = sequence
        if long:
            # Evenly, so that no part of a long performance is left out by chance.
            begin = float(sequence.times[0]) + (n - 0.5) / (count - 1) * (sequence.duration - spec.window_s)
            part = cut(sequence, begin, begin + spec.window_s)
        clips.append(training_clip(part, spec, changes, rng))
    return np.stack(clips)


def encode(recogniser: Recogniser, clips: np.ndarray) -> Prediction:
    """Logits and features of at least one clip, in batches."""
    parts = [recogniser.predict(clips[i : i + _BATCH]) for i in range(0, len(clips), _BATCH)]
    logits, features = (np.concatenate(rows) for rows in zip(*((p.logits, p.features) for p in parts), strict=True))
    return Prediction(logits.astype(np.float32), features.astype(np.float32))


def take_features(take: Take, recogniser: Recogniser, count: int = WINDOWS) -> Prediction:
    """What the encoder says to one take's windows; the first is the take's middle, unchanged."""
    seed = int(take.digest(), 16) % (1 << 32)
    return encode(recogniser, windows_of(take.trimmed(), recogniser.own_card.preprocessing, count, seed))


def pack_features(
    pack: ClassPack,
    recogniser: Recogniser,
    takes: Sequence[Take] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, Prediction]:
    """What the encoder says to the windows of takes, by their path (default: of all takes, counter-examples too).

    What was computed before for the same joints and the same encoder is read from the pack; the rest is added there. A
    pack in a folder that can't be written is computed every time.

    Parameters
    ----------
    progress : callable, optional
        Called with the takes done and all takes.
    """
    wanted = pack.takes(sign=None) if takes is None else list(takes)
    path = pack.folder / FEATURES / f"{_key(recogniser.own_card)}.safetensors"
    known = _load(path, recogniser.own_card)
    found: dict[Path, Prediction] = {}
    fresh = 0
    for done, take in enumerate(wanted):
        digest = take.digest()
        if digest not in known:
            known[digest] = take_features(take, recogniser)
            fresh += 1
        found[take.path] = known[digest]
        if progress is not None:
            progress(done + 1, len(wanted))
    if fresh:
        in_pack = {take.digest() for take in pack.takes(sign=None)}
        _save(path, {digest: said for digest, said in known.items() if digest in in_pack})
    return found


def _key(card: CheckpointCard) -> str:
    """File name for an encoder: its name, and what its weights and preprocessing are."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", card.name)[:60]
    return f"{name}-{card.sha256.get(WEIGHTS_FILE, 'unknown')[:12]}"


def _load(path: Path, card: CheckpointCard) -> dict[str, Prediction]:
    """What was kept; whatever can't be read is computed anew."""
    try:
        kept = load_file(path)
    except (OSError, SafetensorError, ValueError):
        return {}
    found = {}
    for digest in {name.partition(".")[0] for name in kept}:
        logits, features = kept.get(f"{digest}.logits"), kept.get(f"{digest}.features")
        if logits is None or features is None or not (np.isfinite(logits).all() and np.isfinite(features).all()):
            continue
        if logits.shape == (WINDOWS, len(card.classes)) and features.shape == (WINDOWS, card.feature_dim):
            found[digest] = Prediction(logits.astype(np.float32), features.astype(np.float32))
    return found


def _save(path: Path, kept: dict[str, Prediction]) -> None:
    arrays = {f"{digest}.logits": said.logits for digest, said in kept.items()}
    arrays |= {f"{digest}.features": said.features for digest, said in kept.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)  # but no folder where a pack was deleted meanwhile
        save_file(arrays, temporary)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
