"""Testing an encoder on the test part of a split: top-1, top-5, per class, confusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from engine.data.augment import evaluation_clip
from engine.data.batch import BodyFrames, ClipLoader, ClipMaker
from engine.data.preprocess import Preprocessing
from engine.data.sets import split_indices, splits_of
from engine.data.splits import TRAIN_CLEAN_SUFFIX
from engine.data.store import SequenceStore

# Clips in one pass of a test.
BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """``logits`` float32 ``(N, K)`` and ``labels`` int64 ``(N,)`` of ``count`` tested sequences."""

    logits: np.ndarray
    labels: np.ndarray
    classes: list[str]

    @property
    def count(self) -> int:
        return len(self.labels)

    def topk(self, k: int) -> float:
        """Share of sequences whose class is among the k highest logits."""
        best = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        return float((best == self.labels[:, None]).any(1).mean())

    @property
    def top1(self) -> float:
        return self.topk(1)

    @property
    def top5(self) -> float:
        return self.topk(min(5, self.logits.shape[1]))

    @property
    def confusion(self) -> np.ndarray:
        """int64 ``(K, K)``: rows are true classes, columns what was said."""
        k = len(self.classes)
        return np.bincount(self.labels * k + self.logits.argmax(1), minlength=k * k).reshape(k, k)

    @property
    def per_class(self) -> dict[str, float]:
        """Recall of every class that was tested."""
        confusion = self.confusion
        total = confusion.sum(1)
        return {name: float(confusion[i, i] / total[i]) for i, name in enumerate(self.classes) if total[i]}

    def subset(self, keep: np.ndarray) -> Evaluation:
        return Evaluation(self.logits[keep], self.labels[keep], self.classes)

    def most_confused(self, most: int = 10) -> list[tuple[str, str, int]]:
        """True class, what was said instead, how often; the most frequent first."""
        wrong = self.confusion * (1 - np.eye(len(self.classes), dtype=np.int64))
        pairs = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(pairs, wrong.shape)
        found = [(self.classes[i], self.classes[k], int(wrong[i, k])) for i, k in zip(rows, columns, strict=True)]
        return [pair for pair in found if pair[2]]

    def as_dict(self) -> dict[str, object]:
        return {"top1": self.top1, "top5": self.top5, "count": self.count, "per_class": self.per_class}


def stricter_splits(store: SequenceStore, split: str, test: np.ndarray) -> dict[str, np.ndarray]:
    """Which test sequences ``test`` of a split its stricter readings keep, bool ``(N,)`` by name.

    NW-UCLA's ``xview_clean``, without the copies of training sequences, is one of ``xview``, and of
    ``xview_train_clean``, whose training part lacks them.
    """
    found = {}
    whole = split.removesuffix(TRAIN_CLEAN_SUFFIX)
    for name in splits_of(store):
        if name != split and name.startswith(whole):
            keep = np.isin(test, split_indices(store, name)[1])
            if keep.any() and not keep.all():
                found[name] = keep
    return found


def test_clips(store: SequenceStore, indices: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Evaluation clips ``(N, C, T, V, M)`` of the given sequences."""
    return np.stack([evaluation_clip(store.sequence(int(i)), spec) for i in indices])


def predict_clips(encoder: nn.Module, clips: np.ndarray, batch: int = BATCH) -> np.ndarray:
    """Logits float32 ``(N, K)`` in evaluation mode, without gradients; the encoder's mode is restored."""
    was_training = encoder.training
    encoder.eval()
    parts = []
    with torch.inference_mode():
        for i in range(0, len(clips), batch):
            parts.append(encoder(torch.from_numpy(clips[i : i + batch])).logits.float().cpu().numpy())
    encoder.train(was_training)
    return np.concatenate(parts)


def evaluate_encoder(
    encoder: nn.Module, store: SequenceStore, indices: np.ndarray, spec: Preprocessing, classes: list[str]
) -> Evaluation:
    """Test an encoder on the given sequences of a store, on the device its weights are on."""
    device = next(encoder.parameters()).device
    loader = ClipLoader(ClipMaker(BodyFrames(store), spec), np.asarray(indices), BATCH, device=device)
    was_training = encoder.training
    encoder.eval()
    # A compiled encoder would be compiled again for this mode and for the smaller last batch.
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        parts = [encoder(batch.clips).logits.float().cpu().numpy() for batch in loader]
    encoder.train(was_training)
    return Evaluation(np.concatenate(parts), store.label[indices], classes)
