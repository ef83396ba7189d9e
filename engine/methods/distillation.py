"""InfoNCE and neighbour distillation in one pass over the similarities, which are never held as a whole.

Several vectors of a clip (streams, and their clusters) are compared with aligned banks: row j of every bank is of the
same clip. Each comparison serves as negatives, as a teacher's ranking and as what a student says about that ranking, so
it is computed once, for some rows of the batch at a time, and its gradient with it: nothing of the size batch x bank
stays for the backward pass. Source: i2md.md, sections 3 and 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.methods.objective import at_least_float32

# Similarities held at a time, as numbers per matrix: on a processor a block stays in its cache.
_BLOCK = {"cpu": 2**18}
_BLOCK_ELSEWHERE = 2**22


class Temperatures(NamedTuple):
    """What divides similarities, and how many neighbours a teacher passes on (i2md.md, 3.1 and 3.2)."""

    contrast: float = 0.07
    teacher: float = 0.05
    student: float = 0.1
    neighbours: int = 8192


@dataclass(frozen=True)
class Teacher:
    """Whose neighbours are imitated: ``keys`` ``(N, D)`` ranked on ``bank`` ``(K, D)``; both are constants."""

    keys: Tensor
    bank: Tensor


@dataclass(frozen=True)
class Student:
    """Vectors that are contrasted with a bank and imitate teachers on it.

    Attributes
    ----------
    queries : Tensor
        ``(N, D)``, the only thing a gradient reaches.
    keys : Tensor
        ``(N, D)``: the positive of each row.
    bank : Tensor
        ``(K, D)``: the negatives, and what teachers' rankings are compared on.
    contrast : float
        Weight of InfoNCE.
    teachers : dict
        Number of a teacher -> weight of its distillation.
    left_out : Tensor or None
        int64 ``(N, E)``: columns that are no negatives of a row; below zero for none. Only InfoNCE looks at it.
    temperature : float or None
        Of its InfoNCE, where it is not that of all students.
    ways : dict
        Number of a teacher -> temperatures and neighbours of its distillation, where they are not those of all.
    """

    queries: Tensor
    keys: Tensor
    bank: Tensor
    contrast: float = 1.0
    teachers: dict[int, float] = field(default_factory=dict)
    left_out: Tensor | None = None
    temperature: float | None = None
    ways: dict[int, Temperatures] = field(default_factory=dict)


class SameClips(NamedTuple):
    """Numbers of the clips of the batch ``(N,)`` and of the banks' rows ``(K,)``; equal ones are no negatives."""

    rows: Tensor
    columns: Tensor


class Losses(NamedTuple):
    """``loss``: the weighted sum, with gradient. The rest is unweighted and detached.

    ``contrast`` ``(S,)`` is each student's InfoNCE, ``distilled`` ``(S, teachers)`` its divergences, zero where it does
    not listen.
    """

    loss: Tensor
    contrast: Tensor
    distilled: Tensor


def row_blocks(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Parts of a batch whose similarities with ``columns`` vectors are few enough to be held at once."""
    size = max(1, _BLOCK.get(device.type, _BLOCK_ELSEWHERE) // max(columns, 1))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def contrast_and_distil(
    students: Sequence[Student],
    teachers: Sequence[Teacher],
    temperatures: Temperatures,
    same: SameClips | None = None,
) -> Losses:
    """Sum over students of InfoNCE and of the divergences from their teachers, with their weights.

    With similarities u of a student's query and s of a teacher's key to their banks, J the teacher's ``neighbours``
    nearest rows and p = softmax(s[J] / teacher temperature), a divergence is
    ``sum p (log p - log softmax(u[J] / student temperature))``, averaged over the batch. InfoNCE's logits are
    ``[q . k, u] / contrast temperature`` with target 0.

    Raises
    ------
    ValueError
        More neighbours than a bank has rows.

    Notes
    -----
    Source: i2md.md, 3.1 and 3.2. Gradients reach ``queries`` only, once (no second derivatives).
    """
    columns = len(students[0].bank)
    ways = [temperatures, *(way for student in students for way in student.ways.values())]
    if (most := max(way.neighbours for way in ways)) > columns:
        raise ValueError(
            f"neighbours = {most}, but the queues hold {columns} vectors; set neighbours to at most queue_length"
        )
    with torch.autocast(students[0].queries.device.type, enabled=False):
        queries = [at_least_float32(student.queries) for student in students]
        wanted = torch.is_grad_enabled() and any(vectors.requires_grad for vectors in queries)
        plan = _Plan(tuple(students), tuple(teachers), temperatures, same, wanted)
        return Losses(*_ContrastAndDistil.apply(plan, *queries))


class _Plan(NamedTuple):
    students: tuple[Student, ...]
    teachers: tuple[Teacher, ...]
    temperatures: Temperatures
    same: SameClips | None
    want_gradient: bool

    def way(self, student: Student, number: int) -> Temperatures:
        """Temperatures and neighbours of what a student learns from a teacher."""
        return student.ways.get(number, self.temperatures)


class _Asked(NamedTuple):
    """A ranking that is needed: students who ask for the same one share it."""

    number: int
    temperature: float
    neighbours: int

    @classmethod
    def by(cls, number: int, way: Temperatures) -> _Asked:
        return cls(number, way.teacher, way.neighbours)


class _Ranking(NamedTuple):
    """A teacher's neighbours of some rows: columns ``(B, K)``, their probabilities, and ``sum p log p`` ``(B,)``."""

    columns: Tensor
    probability: Tensor
    log_likelihood: Tensor


class _ContrastAndDistil(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        students, teachers = plan.students, plan.teachers
        n = len(queries[0])
        contrast = queries[0].new_zeros(len(students))
        distilled = queries[0].new_zeros(len(students), len(teachers))
        gradients = [torch.empty_like(vectors) if plan.want_gradient else None for vectors in queries]
        asked = {_Asked.by(number, plan.way(student, number)) for student in students for number in student.teachers}
        for rows in row_blocks(n, len(students[0].bank), queries[0].device):
            rankings = {wish: _rank(teachers[wish.number], rows, wish) for wish in asked}
            for i, (student, vectors) in enumerate(zip(students, queries, strict=True)):
                nce, divergences, gradient = _of_rows(student, vectors[rows], rows, rankings, plan)
                contrast[i] += nce
                for number, divergence in divergences.items():
                    distilled[i, number] += divergence
                of_student = gradients[i]
                if of_student is not None and gradient is not None:
                    of_student[rows] = gradient / n
        contrast /= n
        distilled /= n
        loss = torch.zeros_like(contrast[0])
        for i, student in enumerate(students):
            loss = loss + student.contrast * contrast[i]
            for number, weight in student.teachers.items():
                loss = loss + weight * distilled[i, number]
        ctx.save_for_backward(*(gradient for gradient in gradients if gradient is not None))
        ctx.mark_non_differentiable(contrast, distilled)
        return loss, contrast, distilled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient * grad for gradient in ctx.saved_tensors)


def _rank(teacher: Teacher, rows: slice, asked: _Asked) -> _Ranking:
    bank = teacher.bank.detach()
    scores = at_least_float32(teacher.keys.detach()[rows]).to(bank.dtype) @ bank.T
    nearest, columns = scores.topk(asked.neighbours, dim=1, sorted=False)
    logarithm = torch.log_softmax(nearest / asked.temperature, 1)
    probability = logarithm.exp()
    return _Ranking(columns, probability, (probability * logarithm).sum(1))


def _of_rows(
    student: Student, queries: Tensor, rows: slice, rankings: dict[_Asked, _Ranking], plan: _Plan
) -> tuple[Tensor, dict[int, Tensor], Tensor | None]:
    """Sums over some rows of InfoNCE and of the divergences, and the gradient of their weighted sum, ``(B, D)``."""
    warmth = plan.temperatures.contrast if student.temperature is None else student.temperature
    bank, keys = student.bank.detach().to(queries.dtype), student.keys.detach()[rows].to(queries.dtype)
    similarity = queries @ bank.T
    own = (queries * keys).sum(1, keepdim=True) / warmth
    negatives = similarity / warmth
    hidden = _no_negatives(student, rows, negatives, plan.same)
    if hidden is not None:
        negatives.masked_fill_(hidden, -torch.inf)
    total = torch.logaddexp(own, negatives.logsumexp(1, keepdim=True))
    nce = (total - own).sum()

    into_similarity = None
    if plan.want_gradient:
        into_similarity = negatives.sub_(total).exp_().mul_(student.contrast / warmth)
        into_own = ((own - total).exp() - 1) * (student.contrast / warmth)
    divergences = {}
    for number, weight in student.teachers.items():
        way = plan.way(student, number)
        ranking = rankings[_Asked.by(number, way)]
        said = similarity.gather(1, ranking.columns).div_(way.student).log_softmax(1)
        divergences[number] = (ranking.log_likelihood - (ranking.probability * said).sum(1)).sum()
        if into_similarity is not None:
            share = said.exp_().sub_(ranking.probability).mul_(weight / way.student)
            into_similarity.scatter_add_(1, ranking.columns, share)
    if into_similarity is None:
        return nce, divergences, None
    return nce, divergences, torch.addmm(into_own * keys, into_similarity, bank)


def _no_negatives(student: Student, rows: slice, like: Tensor, same: SameClips | None) -> Tensor | None:
    """bool ``(B, K)``: columns that are no negatives; None where all are."""
    hidden = None
    if student.left_out is not None:
        b, k = like.shape
        # One more column takes the "none" entries.
        wide = torch.zeros(b, k + 1, dtype=torch.bool, device=like.device)
        columns = student.left_out[rows]
        hidden = wide.scatter_(1, torch.where(columns < 0, k, columns), True)[:, :k]
    if same is not None:
        equal = same.rows[rows].unsqueeze(1) == same.columns
        hidden = equal if hidden is None else hidden | equal
    return hidden
