"""CMD and I2MD as i2md.md, sections 3 and 4 read: one clip, one stream, one column at a time."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional

from engine.methods.i2md import I2MD
from engine.methods.i2md_settings import I2mdSettings
from engine.skeleton.layout import KINECT20

LAYOUT = KINECT20


def stream_of(joints: Tensor, name: str) -> Tensor:
    out = torch.zeros_like(joints)
    for t in range(joints.shape[2]):
        for v, parent in enumerate(LAYOUT.parents):
            if name == "joint":
                out[:, :, t, v] = joints[:, :, t, v]
            elif name == "bone":
                out[:, :, t, v] = joints[:, :, t, v] - joints[:, :, t, parent]
            elif t + 1 < joints.shape[2]:
                out[:, :, t, v] = joints[:, :, t + 1, v] - joints[:, :, t, v]
    return out


def info_nce(q: Tensor, k: Tensor, bank: Tensor, temperature: float, hidden: set[int]) -> Tensor:
    logits = [q @ k] + [q @ bank[j] for j in range(len(bank)) if j not in hidden]
    exponentials = [(x / temperature).exp() for x in logits]
    return -(exponentials[0] / torch.stack(exponentials).sum()).log()


def divergence(
    teacher: Tensor, its_bank: Tensor, student: Tensor, own_bank: Tensor, settings, intra: bool = False
) -> Tensor:
    count, warm, cool = settings.neighbours, settings.teacher_temperature, settings.student_temperature
    if intra and settings.intra_neighbours is not None:
        count = settings.intra_neighbours
    if intra and settings.intra_teacher_temperature is not None:
        warm = settings.intra_teacher_temperature
    if intra and settings.intra_student_temperature is not None:
        cool = settings.intra_student_temperature
    scores = [float(teacher @ row) for row in its_bank]
    best = sorted(range(len(scores)), key=lambda j: -scores[j])[:count]
    p = [math.exp(scores[j] / warm) for j in best]
    r = [(student @ own_bank[j] / cool).exp() for j in best]
    p, total = [x / sum(p) for x in p], torch.stack(r).sum()
    return sum((a * (math.log(a) - (b / total).log()) for a, b in zip(p, r, strict=True)), torch.zeros(()))


def neighbours_of(v: Tensor, bank: Tensor, usable: list[int], count: int) -> list[int]:
    if len(usable) < count:
        return []
    return sorted(usable, key=lambda j: -float(v @ bank[j]))[:count]


def cluster_of(v: Tensor, bank: Tensor, members: list[int], temperature: float) -> Tensor:
    if not members:
        return v
    weights = [torch.tensor(1 / temperature, dtype=v.dtype).exp()]
    weights += [(v @ bank[j] / temperature).exp() for j in members]
    c = weights[0] * v + sum(w * bank[j] for w, j in zip(weights[1:], members, strict=True))
    return c / c.norm()


class Plain:
    """The state of a method, stepped by hand."""

    def __init__(self, method: I2MD) -> None:
        self.settings = method.settings
        self.streams = list(method.settings.streams)
        self.encoders, self.heads = copy.deepcopy(method.encoders), copy.deepcopy(method.heads)
        self.key_encoders, self.key_heads = copy.deepcopy(method.encoders), copy.deepcopy(method.heads)
        self.banks = {kind: {s: method.queues[kind][s].vectors.clone() for s in self.streams} for kind in method.queues}
        self.ids = [-1] * self.settings.queue_length
        self.pointer = self.seen = 0

    def embed(self, encoders, heads, clips: Tensor, s: str, name: str) -> Tensor:
        head = heads[s][name]
        hidden = functional.relu(head.hidden(encoders[s](stream_of(clips, s)).features))
        out = head.out(hidden)
        return out / out.norm(dim=1, keepdim=True)

    def loss(self, first: Tensor, second: Tensor, items: list[int]) -> tuple[Tensor, dict[str, float]]:
        c, n, size = self.settings, len(first), self.settings.queue_length
        intra = isinstance(c, I2mdSettings) and c.has_clusters
        separate = intra and c.separate_head
        branches = ["instance", "cluster"] if separate else ["instance"]
        q, k = {}, {}
        for s in self.streams:
            for name in branches:
                q[s, name] = self.embed(self.encoders, self.heads, first, s, name)
        for module, mine in ((self.encoders, self.key_encoders), (self.heads, self.key_heads)):
            for new, old in zip(module.parameters(), mine.parameters(), strict=True):
                old.data = c.momentum * old.data + (1 - c.momentum) * new.data
        with torch.no_grad():
            for s in self.streams:
                for name in branches:
                    k[s, name] = self.embed(self.key_encoders, self.key_heads, second, s, name)
        own = [{j for j in range(size) if c.mask_same_clip and self.ids[j] == items[i]} for i in range(n)]
        parts = dict.fromkeys(("cross_modal", "cluster", "intra_modal", "cross_clusters"), 0.0)
        loss = torch.zeros((), dtype=first.dtype)
        instance = self.banks["instance"]
        for a in self.streams:
            parts[f"contrast_{a}"] = 0.0
            for i in range(n):
                qa, ka = q[a, "instance"][i], k[a, "instance"][i]
                value = info_nce(qa, ka, instance[a], c.temperature, own[i]) / n
                parts[f"contrast_{a}"] += value.item()
                loss = loss + value
                for b in self.streams:
                    if b != a:
                        value = divergence(ka, instance[a], q[b, "instance"][i], instance[b], c) / n
                        parts["cross_modal"] += value.item()
                        loss = loss + c.cross_weight * value
        written = {("instance", s): k[s, "instance"] for s in self.streams}
        if intra:
            around, name = (self.banks["raw"], "cluster") if separate else (instance, "instance")
            size_k, warm = c.aggregation.neighbours, c.aggregation.temperature
            members, c_k = {}, {}
            for a in self.streams:
                for i in range(n):
                    usable = [j for j in range(min(self.seen, size)) if j not in own[i]]
                    members[a, i] = neighbours_of(k[a, name][i], around[a], usable, size_k)
                    c_k[a, i] = cluster_of(k[a, name][i], around[a], members[a, i], warm)
                written["cluster", a] = torch.stack([c_k[a, i] for i in range(n)])
                if separate:
                    written["raw", a] = k[a, "cluster"]
            c_q = {}
            for a in self.streams:
                for i in range(n):
                    v, whose = q[a, name][i], members[a, i]
                    if c.query_neighbours == "own":
                        usable = [j for j in range(size) if j not in own[i]]
                        whose = neighbours_of(v.detach(), around[a], usable, size_k)
                    c_q[a, i] = v if c.aggregated == "key" else cluster_of(v, around[a], whose, warm)
            if self.seen >= size:
                banks = self.banks["cluster"]
                for a in self.streams:
                    for i in range(n):
                        hidden = own[i] | (set(members[a, i]) if c.mask_aggregated else set())
                        own_warmth = c.temperature if c.cluster_temperature is None else c.cluster_temperature
                        value = info_nce(c_q[a, i], c_k[a, i], banks[a], own_warmth, hidden) / n
                        parts["cluster"] += value.item()
                        loss = loss + c.cluster_weight * value
                        down = divergence(k[a, "instance"][i], instance[a], c_q[a, i], banks[a], c, True) / n
                        up = divergence(c_k[a, i], banks[a], q[a, "instance"][i], instance[a], c, True) / n
                        # Who teaches nothing is not asked.
                        parts["intra_modal"] += down.item() * (c.from_instances > 0) + up.item() * (c.from_clusters > 0)
                        loss = loss + c.intra_weight * (c.from_instances * down + c.from_clusters * up)
                        for b in self.streams:
                            if c.cross_clusters and b != a:
                                value = divergence(c_k[a, i], banks[a], c_q[b, i], banks[b], c) / n
                                parts["cross_clusters"] += value.item()
                                weight = c.cross_clusters_weight
                                loss = loss + (c.cross_weight if weight is None else weight) * value
        self.banks = {kind: {s: bank.clone() for s, bank in of.items()} for kind, of in self.banks.items()}
        for i in range(n):
            at = (self.pointer + i) % size
            self.ids[at] = items[i]
            for (kind, s), rows in written.items():
                self.banks[kind][s][at] = rows[i].detach()
        self.pointer, self.seen = (self.pointer + n) % size, self.seen + n
        return loss, parts
