"""Parts of momentum contrast against plain loops: key update, queue, heads, logits, random numbers of a process."""

import copy
import math

import pytest
import torch
from torch import nn

from engine.methods.momentum import (
    MomentumEncoder,
    Queue,
    contrast_logits,
    embed,
    freeze_classifier,
    info_nce,
    own_generator,
    projection_head,
)
from engine.models.persons import EncoderOutput


class Tiny(nn.Module):
    """One layer with a batch norm; clips are ``(N, 6)``."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.classifier = nn.Linear(4, 3)

    def forward(self, clips):
        features = self.norm(self.layer(clips))
        return EncoderOutput(self.classifier(features), features)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_key_encoder_starts_equal_and_follows_in_parameters_only():
    torch.manual_seed(0)
    encoder, head = Tiny(), projection_head(4, 5, 7)
    key = MomentumEncoder(encoder, head, momentum=0.999)
    for name, value in encoder.state_dict().items():
        assert torch.equal(key.encoder.state_dict()[name], value)
    old = {name: value.clone() for name, value in key.named_parameters()}
    buffers = {name: value.clone() for name, value in key.named_buffers()}
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter))
        encoder.norm.running_mean.add_(1.0)
        encoder.norm.num_batches_tracked.add_(3)
    key.update(encoder, head)
    queries = {f"encoder.{n}": p for n, p in encoder.named_parameters()}
    queries |= {f"head.{n}": p for n, p in head.named_parameters()}
    assert old.keys() == queries.keys()
    for name, value in key.named_parameters():
        assert torch.allclose(value, 0.999 * old[name] + 0.001 * queries[name], rtol=0, atol=4e-7)
        assert not torch.equal(value, old[name])
        assert not value.requires_grad
    for name, value in key.named_buffers():
        assert torch.equal(value, buffers[name]), name


def test_keys_are_unit_vectors_without_gradient_and_the_key_norm_keeps_its_own_statistics():
    torch.manual_seed(0)
    encoder, head = Tiny(), projection_head(4, 5)
    key = MomentumEncoder(encoder, head).train()
    clips = torch.randn(8, 6, requires_grad=True)
    keys = key(clips)
    assert not keys.requires_grad
    assert torch.allclose(keys.norm(dim=1), torch.ones(8))
    assert key.encoder.norm.num_batches_tracked == 1 and encoder.norm.num_batches_tracked == 0
    assert torch.allclose(keys, embed(encoder, head, clips).detach(), atol=1e-6), "batch statistics, equal weights"


def test_heads_have_the_published_sizes_and_initialisation():
    head = projection_head(256, 128, 256, deviation=0.02)
    assert sum(p.numel() for p in head.parameters()) == 98_688  # hiclr.md 2.1
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert head[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not head[2].bias.any()
    assert [type(layer) for layer in projection_head(8, 4)] == [nn.Linear]


def test_a_frozen_classifier_is_not_trained():
    encoder = freeze_classifier(Tiny())
    assert [name for name, p in encoder.named_parameters() if not p.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]


def test_the_queue_starts_with_unit_vectors_of_its_generator():
    queue, same, other = (Queue(64, 8, generator(seed)) for seed in (0, 0, 1))
    assert torch.allclose(queue.vectors.norm(dim=1), torch.ones(64))
    assert torch.equal(queue.vectors, same.vectors) and not torch.equal(queue.vectors, other.vectors)
    # Directions, not an orthant: coordinates have mean 0.
    assert abs(queue.vectors.mean().item()) < 0.05


@pytest.mark.parametrize(("length", "batch"), [(8, 4), (10, 4), (7, 3), (5, 5), (4, 9)])
def test_the_queue_is_first_in_first_out_wherever_it_wraps(length, batch):
    queue = Queue(length, 3, generator())
    plain, pointer = queue.vectors.tolist(), 0
    for step in range(7):
        keys = torch.randn(batch, 3, generator=generator(step))
        for row in keys.tolist():
            plain[pointer % length] = row
            pointer += 1
        queue.enqueue(keys)
        assert queue.vectors.tolist() == plain
        assert int(queue.pointer) == pointer % length and int(queue.seen) == pointer


def test_queue_wrap_of_the_specification():
    # i2md.md, check 16.
    queue = Queue(8, 3, generator())
    batches = [torch.randn(4, 3, generator=generator(i)) for i in range(3)]
    for batch in batches:
        queue.enqueue(batch)
    assert int(queue.pointer) == 4
    assert torch.equal(queue.vectors[:4], batches[2]) and torch.equal(queue.vectors[4:], batches[1])


def test_the_published_queue_takes_256_batches():
    # hiclr.md, check 7.
    queue = Queue(32_768, 4, generator())
    before = queue.vectors.clone()
    keys = torch.randn(128, 4, generator=generator(5))
    queue.enqueue(keys)
    assert torch.equal(queue.vectors[:128], keys) and torch.equal(queue.vectors[128:], before[128:])
    assert int(queue.pointer) == 128
    for _ in range(255):
        queue.enqueue(keys)
    assert int(queue.pointer) == 0 and int(queue.seen) == 32_768


def test_the_queue_takes_the_keys_of_all_processes_and_survives_saving():
    queue = Queue(8, 3, generator())
    keys = torch.randn(4, 3, generator=generator(1))
    queue.enqueue(keys[::2], lambda rows: keys)
    assert torch.equal(queue.vectors[:4], keys)
    again = Queue(8, 3, generator(9))
    again.load_state_dict(copy.deepcopy(queue.state_dict()))
    for each in (queue, again):
        each.enqueue(keys.flip(0))
    assert torch.equal(queue.vectors, again.vectors) and int(again.pointer) == 0 and int(again.seen) == 8


def test_logits_and_loss_against_loops():
    temperature = 0.07
    q, k, negatives = (
        torch.nn.functional.normalize(torch.randn(n, 5, dtype=torch.float64, generator=generator(n)), dim=1)
        for n in (3, 4, 6)
    )
    q, k = q.requires_grad_(), k[:3].clone().requires_grad_()
    logits = contrast_logits(q, k, negatives, temperature)
    assert logits.shape == (3, 7)
    expected, loss = [], 0.0
    for i in range(3):
        others = [k[i].tolist(), *negatives.tolist()]
        row = [sum(a * b for a, b in zip(q[i].tolist(), other, strict=True)) / temperature for other in others]
        expected.append(row)
        loss -= math.log(math.exp(row[0]) / sum(math.exp(x) for x in row)) / 3
    assert torch.allclose(logits, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    assert info_nce(logits).item() == pytest.approx(loss, rel=1e-12)
    info_nce(logits).backward()
    assert q.grad is not None and k.grad is None


def test_published_values_of_the_loss():
    # hiclr.md, check 10; i2md.md, check 14.
    assert info_nce(torch.zeros(2, 32_769, dtype=torch.float64)).item() == pytest.approx(10.397238225511654, abs=1e-12)
    assert info_nce(torch.zeros(2, 16_385, dtype=torch.float64)).item() == pytest.approx(9.704122, abs=1e-6)
    apart = torch.zeros(1, 16_385, dtype=torch.float64)
    apart[0, 0] = 1 / 0.07
    assert info_nce(apart).item() == pytest.approx(0.010186, abs=1e-6)


def test_logits_may_be_kept_while_the_queue_is_written():
    queue = Queue(6, 5, generator())
    q = torch.randn(3, 5, generator=generator(1), requires_grad=True)
    keys = torch.randn(3, 5, generator=generator(2))
    old = queue.vectors.clone()
    loss = info_nce(contrast_logits(q, keys, queue.snapshot(), 0.5))
    queue.enqueue(keys)
    loss.backward()
    again = q.detach().clone().requires_grad_()
    info_nce(contrast_logits(again, keys, old, 0.5)).backward()
    assert torch.equal(q.grad, again.grad)


def test_own_generator_repeats_and_moves_the_shared_one_on():
    shared, same = generator(4), generator(4)
    first, second = own_generator(shared, torch.device("cpu")), own_generator(shared, torch.device("cpu"))
    assert first.initial_seed() != second.initial_seed()
    assert own_generator(same, torch.device("cpu")).initial_seed() == first.initial_seed()
