"""CMD's losses: against loops over rows and columns, the specification's numbers, and what is kept for backward."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from engine.methods import distillation
from engine.methods.distillation import SameClips, Student, Teacher, Temperatures, contrast_and_distil


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(drawn, dim=-1)


def slow_divergence(teacher: list[float], student: list[float], k: int, warm_t: float, warm_s: float) -> float:
    """i2md.md 3.2, one row: scores of the teacher and of the student on all columns."""
    best = sorted(range(len(teacher)), key=lambda j: -teacher[j])[:k]
    p = [math.exp(teacher[j] / warm_t) for j in best]
    r = [math.exp(student[j] / warm_s) for j in best]
    return sum(a / sum(p) * (math.log(a / sum(p)) - math.log(b / sum(r))) for a, b in zip(p, r, strict=True))


def slow_info_nce(own: float, negatives: list[float], temperature: float) -> float:
    logits = [own / temperature] + [x / temperature for x in negatives]
    return -logits[0] + math.log(sum(math.exp(x) for x in logits))


def divergence(teacher: list[float], student: list[float], k: int, warm_t: float, warm_s: float) -> float:
    """The same of the code, whose scores are products: banks of unit axes turn a vector into its scores."""
    axes = torch.eye(len(teacher), dtype=torch.float64)
    keys, queries = (torch.tensor([x], dtype=torch.float64) for x in (teacher, student))
    pupil = Student(queries, queries, axes, contrast=0.0, teachers={0: 1.0})
    return contrast_and_distil([pupil], [Teacher(keys, axes)], Temperatures(0.07, warm_t, warm_s, k)).loss.item()


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 5), columns=st.integers(1, 9), part=st.floats(0, 1), seed=st.integers(0, 99),
    block=st.integers(1, 30),
)  # fmt: skip
def test_all_losses_against_loops(n: int, columns: int, part: float, seed: int, block: int):
    k = max(1, round(part * columns))
    queries = [unit(n, 4, seed=seed + i).requires_grad_() for i in range(3)]
    keys = [unit(n, 4, seed=seed + 10 + i) for i in range(3)]
    banks = [unit(columns, 4, seed=seed + 20 + i) for i in range(3)]
    weights = [{1: 1.0, 2: 0.5}, {0: 2.0}, {}]
    students = [Student(queries[i], keys[i], banks[i], 1.0 + i, weights[i]) for i in range(3)]
    warmth = Temperatures(0.2, 0.15, 0.3, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(distillation._BLOCK, "cpu", block)
        losses = contrast_and_distil(students, [Teacher(*x) for x in zip(keys, banks, strict=True)], warmth)
    scores = [(q @ b.T).tolist() for q, b in zip(queries, banks, strict=True)]
    ranked = [(q @ b.T).tolist() for q, b in zip(keys, banks, strict=True)]
    total = 0.0
    for i in range(3):
        own = (queries[i] * keys[i]).sum(1).tolist()
        nce = sum(slow_info_nce(own[r], scores[i][r], 0.2) for r in range(n)) / n
        assert losses.contrast[i].item() == pytest.approx(nce, rel=1e-9)
        total += (1 + i) * nce
        for j, weight in weights[i].items():
            kl = sum(slow_divergence(ranked[j][r], scores[i][r], k, 0.15, 0.3) for r in range(n)) / n
            assert losses.distilled[i, j].item() == pytest.approx(kl, rel=1e-9, abs=1e-12)
            total += weight * kl
    assert losses.loss.item() == pytest.approx(total, rel=1e-9)
    assert not losses.contrast.requires_grad and not losses.distilled.requires_grad


def test_lessons_in_ways_of_their_own():
    """One teacher's ranking passed on in three ways, and a student with a temperature of its own: against loops."""
    queries = [unit(4, 5, seed=i).requires_grad_() for i in range(3)]
    keys, banks = [unit(4, 5, seed=10 + i) for i in range(3)], [unit(9, 5, seed=20 + i) for i in range(3)]
    common = Temperatures(0.2, 0.15, 0.3, 6)
    ways = [{}, {0: Temperatures(9.0, 0.4, 0.25, 3)}, {0: common._replace(student=0.5)}]
    students = [
        Student(queries[i], keys[i], banks[i], 1.0, {0: 1.0, 1: 0.5}, temperature=(None, 0.6, None)[i], ways=ways[i])
        for i in range(3)
    ]
    losses = contrast_and_distil(students, [Teacher(*x) for x in zip(keys, banks, strict=True)], common)
    total = 0.0
    for i in range(3):
        scores = (queries[i] @ banks[i].T).tolist()
        own = (queries[i] * keys[i]).sum(1).tolist()
        nce = sum(slow_info_nce(own[r], scores[r], (0.2, 0.6, 0.2)[i]) for r in range(4)) / 4
        assert losses.contrast[i].item() == pytest.approx(nce, rel=1e-9)
        total += nce
        for j, weight in ((0, 1.0), (1, 0.5)):
            how = ways[i].get(j, common)
            ranked = (keys[j] @ banks[j].T).tolist()
            rows = [slow_divergence(ranked[r], scores[r], how.neighbours, how.teacher, how.student) for r in range(4)]
            assert losses.distilled[i, j].item() == pytest.approx(sum(rows) / 4, rel=1e-9, abs=1e-12)
            total += weight * sum(rows) / 4
    assert losses.loss.item() == pytest.approx(total, rel=1e-9)
    with pytest.raises(ValueError, match="neighbours = 10, but the queues hold 9"):
        contrast_and_distil([replace(students[0], ways={0: common._replace(neighbours=10)})], [], common)


def test_gradients_are_those_of_the_loss():
    keys, banks = [unit(3, 4, seed=i) for i in range(2)], [unit(7, 4, seed=5 + i) for i in range(2)]
    left_out = torch.tensor([[0, -1], [2, 3], [-1, -1]])
    same = SameClips(torch.tensor([4, 5, 6]), torch.tensor([0, 5, 5, 1, 2, 6, 3]))

    def loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        students = [
            Student(first, keys[0], banks[0], 0.7, {1: 1.3}, left_out),
            Student(second, keys[1], banks[1], 1.0, {0: 0.4, 1: 0.2}),
            Student(second, keys[0], banks[0], 0.3, {0: 0.6, 1: 0.5}, None, 0.7, {1: Temperatures(1.0, 0.6, 0.3, 5)}),
        ]
        return contrast_and_distil(
            students, [Teacher(*x) for x in zip(keys, banks, strict=True)], Temperatures(0.3, 0.2, 0.4, 3), same
        ).loss

    # Not of length one: the gradient must hold for any vector, normalising is the head's matter.
    vectors = [(2 * unit(3, 4, seed=9 + i)).requires_grad_() for i in range(2)]
    assert torch.autograd.gradcheck(loss, tuple(vectors))


def test_values_of_the_specification():
    # Check 14.
    axes = torch.zeros(16384, 4, dtype=torch.float64)
    axes[:, 1] = 1
    query = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    plain = Temperatures(0.07, neighbours=1)
    equal = contrast_and_distil([Student(query, 0 * query, axes)], [], plain).loss.item()
    assert equal == pytest.approx(math.log(16385)) == pytest.approx(9.704122, abs=1e-6)
    assert contrast_and_distil([Student(query, query, axes)], [], plain).loss.item() == pytest.approx(
        0.010186, abs=1e-6
    )
    # Check 17.
    high, low, other = [0.9, 0.5, 0.1], [0.1, 0.5, 0.9], [0.2, 0.4, 0.9]
    assert divergence(high, high, 3, 0.07, 0.07) == pytest.approx(0, abs=1e-7)
    assert divergence(high, high, 3, 0.05, 0.1) == pytest.approx(0.016802, abs=1e-6)
    assert divergence(high, low, 3, 0.05, 0.1) == pytest.approx(8.014116, abs=1e-6)
    assert divergence(high, other, 3, 0.05, 0.1) == pytest.approx(7.003929, abs=1e-6)
    assert divergence(other, high, 3, 0.05, 0.1) == pytest.approx(8.017780, abs=1e-6)
    # Check 19: one neighbour says nothing, all are the full divergence.
    assert divergence(high, other, 1, 0.05, 0.1) == 0
    # Check 20.
    assert divergence([x + 3 for x in high], [x - 2 for x in other], 2, 0.05, 0.1) == pytest.approx(
        divergence(high, other, 2, 0.05, 0.1)
    )


def test_columns_that_are_no_negatives():
    query, bank = unit(2, 4), unit(6, 4, seed=3)
    key = unit(2, 4, seed=4)
    left_out = torch.tensor([[1, -1, 4], [-1, -1, -1]])
    same = SameClips(torch.tensor([7, 8]), torch.tensor([0, 1, 2, 8, 8, 7]))
    loss = contrast_and_distil([Student(query, key, bank, left_out=left_out)], [], Temperatures(neighbours=1), same)
    stay = [[0, 2, 3], [0, 1, 2, 5]]
    own, scores = (query * key).sum(1).tolist(), (query @ bank.T).tolist()
    slow = [slow_info_nce(own[r], [scores[r][c] for c in stay[r]], 0.07) for r in range(2)]
    assert loss.loss.item() == pytest.approx(sum(slow) / 2)


def test_too_many_neighbours_are_refused():
    query = unit(2, 4)
    with pytest.raises(ValueError, match="neighbours = 9, but the queues hold 8"):
        contrast_and_distil([Student(query, query, unit(8, 4))], [], Temperatures(neighbours=9))


def kept_for_backward(make) -> int:
    """Bytes that autograd keeps until the backward pass."""
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        loss = make()
    loss.backward()
    return sum(kept.values())


def naive_cmd(queries, keys, banks, warmth: Temperatures) -> torch.Tensor:
    """As the equations read, every matrix written down."""
    loss = torch.zeros(())
    target = torch.zeros(len(keys[0]), dtype=torch.int64)
    for q, k, bank in zip(queries, keys, banks, strict=True):
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ bank.T], 1) / warmth.contrast
        loss = loss + functional.cross_entropy(logits, target)
    for a in range(3):
        for b in range(3):
            if a != b:
                near, columns = (keys[a] @ banks[a].T).topk(warmth.neighbours, 1)
                said = (queries[b] @ banks[b].T).gather(1, columns)
                r = torch.log_softmax(said / warmth.student, 1)
                loss = loss + functional.kl_div(r, torch.softmax(near / warmth.teacher, 1), reduction="batchmean")
    return loss


def test_equal_to_the_written_out_form_and_keeps_no_similarities():
    queries = [unit(16, 32, seed=i).float().requires_grad_() for i in range(3)]
    keys, banks = (
        [unit(16, 32, seed=9 + i).float() for i in range(3)],
        [unit(512, 32, seed=5 + i).float() for i in range(3)],
    )
    warmth = Temperatures(neighbours=256)
    students = [Student(queries[i], keys[i], banks[i], 1.0, {j: 1.0 for j in range(3) if j != i}) for i in range(3)]
    teachers = [Teacher(*x) for x in zip(keys, banks, strict=True)]
    ours = kept_for_backward(lambda: contrast_and_distil(students, teachers, warmth).loss)
    gradients = [q.grad.clone() for q in queries]
    for q in queries:
        q.grad = None
    naive = kept_for_backward(lambda: naive_cmd(queries, keys, banks, warmth))
    for q, gradient in zip(queries, gradients, strict=True):
        torch.testing.assert_close(gradient, q.grad, rtol=1e-4, atol=1e-6)
    assert ours == 3 * 16 * 32 * 4, "only the gradients of the queries"
    assert naive > 20 * ours


def test_half_precision_queries_give_full_precision_losses():
    query, bank = unit(3, 8).bfloat16().requires_grad_(), unit(20, 8, seed=1).float()
    student = Student(query, unit(3, 8, seed=2).float(), bank, 1.0, {0: 1.0})
    loss = contrast_and_distil([student], [Teacher(bank[:3], bank)], Temperatures(neighbours=4)).loss
    loss.backward()
    assert loss.dtype == torch.float32 and query.grad is not None and query.grad.isfinite().all()


def test_one_stream_s_lesson_reaches_the_student_only():
    # Check 21, second part.
    queries = [unit(3, 4, seed=i).requires_grad_() for i in range(2)]
    keys, banks = (
        [unit(3, 4, seed=5 + i).requires_grad_() for i in range(2)],
        [unit(9, 4, seed=8 + i) for i in range(2)],
    )
    students = [Student(queries[0], keys[0], banks[0], 0.0), Student(queries[1], keys[1], banks[1], 0.0, {0: 1.0})]
    teachers = [Teacher(*x) for x in zip(keys, banks, strict=True)]
    contrast_and_distil(students, teachers, Temperatures(neighbours=5)).loss.backward()
    assert queries[0].grad is None or not queries[0].grad.any()
    assert queries[1].grad is not None and queries[1].grad.abs().sum() > 0
    assert all(key.grad is None for key in keys)
