"""SkeletonGCL's losses and banks as loops, from skeletongcl.md, sections 3.3 and 3.4; slow and obvious on purpose."""

import torch

from engine.methods.mining import random_order


def info_nce(anchor, positive, negatives, temperature):
    """-log [ e^(s_p/t) / (e^(s_p/t) + sum_n e^(s_n/t)) ]."""
    top = torch.exp(anchor @ positive / temperature)
    return -torch.log(top / (top + sum(torch.exp(anchor @ n / temperature) for n in negatives)))


def instance_loss(anchors, labels, samples, bank, mining, temperature, seed):
    """Mean over all valid anchors x positives x sets, or 0; ``bank`` is (vectors, labels, filled)."""
    vectors, bank_labels, filled = bank
    rows = []
    for anchor, label, sample in zip(anchors, labels.tolist(), samples, strict=True):
        entries = [i for i in range(len(vectors)) if filled[i]]
        positives = [i for i in entries if bank_labels[i] == label]
        negatives = [i for i in entries if bank_labels[i] != label]
        wanted = max(mining.hard_negatives, mining.random_negatives)
        if len(positives) < (mining.least_positives or mining.positives):
            continue
        if len(negatives) < (mining.least_negatives or wanted) or not anchor.any():
            continue
        by_similarity = {i: float(anchor.detach() @ vectors[i]) for i in entries}
        hardest = sorted(positives, key=by_similarity.get)[: mining.positives]
        keys = random_order(sample.view(1), len(vectors), seed)[0].tolist()
        sets = [
            sorted(negatives, key=by_similarity.get, reverse=True)[: mining.hard_negatives],
            sorted(negatives, key=keys.__getitem__, reverse=True)[: mining.random_negatives],
        ]
        for p in hardest:
            for chosen in sets:
                if chosen:
                    rows.append(info_nce(anchor, vectors[p], [vectors[i] for i in chosen], temperature))
    return sum(rows) / len(rows) if rows else torch.zeros((), dtype=anchors.dtype)


def semantic_loss(anchors, labels, prototypes, temperature):
    """Mean over anchors of the InfoNCE of the own class's normalised vector against those of the classes seen."""
    units = {k: m / m.norm() for k, m in prototypes.items()}
    rows = [
        info_nce(anchor, units[label], [m for k, m in units.items() if k != label], temperature)
        for anchor, label in zip(anchors, labels.tolist(), strict=True)
    ]
    return sum(rows) / len(rows)


class Queues:
    """Lists that grow at the end and lose their first element beyond ``length``."""

    def __init__(self, classes, length):
        self.lists, self.length = [[] for _ in range(classes)], length

    def add(self, vectors, labels):
        for vector, label in zip(vectors, labels.tolist(), strict=True):
            self.lists[label] = [*self.lists[label], vector][-self.length :]
