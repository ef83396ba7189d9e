"""SkeletonGCL's loss against loops, and the specification's ready-made checks (skeletongcl.md, sections 3 and 8)."""

import copy
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from engine.methods.mining import Entries, MiningSettings, contrast_rows
from engine.methods.skeletongcl import SkeletonGCL, SkeletonGclSettings
from engine.models.agcn import AGCN
from engine.models.ctrgcn import CTRGCN
from engine.models.gru import GRUEncoder
from engine.models.infogcn import InfoGCN
from tests.engine.methods.plain_gcl import instance_loss, semantic_loss

STANDARD = MiningSettings()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def seed_of(gen):
    return tuple(torch.randint(2**32, (2,), generator=gen).tolist())


def units(*shape, seed=0):
    vectors = torch.randn(*shape, dtype=torch.float64, generator=generator(seed))
    return nn.functional.normalize(vectors, dim=-1)


def toy(labels, classes, width=3, **chosen):
    """The objective on graphs of one joint (three numbers), projected by the identity; float64.

    Behind ``labels`` the bank has rows that are never written: it could always hold enough for the contrast.
    """
    if labels is not None:
        labels = torch.cat([labels, torch.arange(classes).repeat(600)])
    method = SkeletonGCL(nn.Identity(), 1, classes, labels, SkeletonGclSettings(width=width, **chosen)).double()
    with torch.no_grad():
        method.projection.weight.copy_(torch.eye(width, 3))
    return method


def as_graph(vectors):
    return nn.functional.pad(vectors, (0, 3 - vectors.shape[1])).view(-1, 3, 1, 1)


def fill(method, vectors, rows=None):
    rows = torch.arange(len(vectors)) if rows is None else rows
    method.bank.remember(vectors, method.bank.labels[rows], rows)


# Against the loops


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 6),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from([(None, None), (1, 1), (2, 4)]),
    st.sampled_from([0.07, 0.5, 1.0]),
    st.floats(0.1, 1.0),
)
# Banks with fewer positives, fewer negatives and fewer rows than asked for.
@example(1, 6, 5, 5, (1, 1), 0.5, 0.1)
@example(2, 1, 20, 15, (1, 1), 0.5, 0.3)
@example(3, 40, 40, 40, (1, 1), 0.5, 1.0)
def test_instance_loss_equals_the_loop(seed, positives, hard, random, least, temperature, share):
    if hard + random == 0:
        hard = 1
    mining = MiningSettings(
        positives=positives, hard_negatives=hard, random_negatives=random, least_positives=least[0],
        least_negatives=least[1],
    )  # fmt: skip
    gen = generator(seed)
    labels = torch.randint(3, (25,), generator=gen)
    method = toy(labels, 3, mining=mining, temperature=temperature)
    written = (torch.rand(25, generator=gen) < share).nonzero().view(-1)
    fill(method, units(len(written), 3, seed=seed), written)
    samples = torch.randperm(25, generator=gen)[:4]
    graph = as_graph(torch.randn(4, 3, dtype=torch.float64, generator=gen)).requires_grad_()
    outcome = method.contrast(graph, labels[samples], samples, generator(1))
    anchors = nn.functional.normalize(graph.flatten(1), dim=1)
    bank = (method.bank.vectors, method.bank.labels, method.bank.filled)
    assert torch.equal(bank[0][samples], anchors.detach()) and bool(bank[2][samples].all()) and not bank[2][25:].any()
    expected = instance_loss(anchors, labels[samples], samples, bank, mining, temperature, seed_of(generator(1)))
    assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-12)
    (gradient,) = torch.autograd.grad(outcome.loss, graph)
    if expected.requires_grad:
        plain = torch.autograd.grad(expected, graph)[0]
        assert torch.allclose(gradient, plain, rtol=1e-8, atol=1e-12)
    else:
        assert outcome.parts["valid_anchors"] == 0 and not gradient.any()


@pytest.mark.parametrize("temperature", [0.2, 0.8])
def test_paper_variant_equals_the_loops_over_several_steps(temperature):
    mining = MiningSettings(positives=2, hard_negatives=3, random_negatives=2)
    method = toy(
        None, 4, variant="paper", queue_length=3, semantic_warmup=1, temperature=temperature, mining=mining,
        instance_weight=0.7, semantic_weight=0.3,
    )  # fmt: skip
    prototypes = {}
    gen, twin = generator(5), generator(5)
    for step in range(5):
        labels = torch.randint(4, (6,), generator=generator(step))
        samples = torch.arange(6) + 6 * step
        graph = as_graph(torch.randn(6, 3, dtype=torch.float64, generator=generator(step + 50))).requires_grad_()
        outcome = method.contrast(graph, labels, samples, gen)
        anchors = nn.functional.normalize(graph.flatten(1), dim=1)
        for vector, label in zip(anchors.detach(), labels.tolist(), strict=True):
            prototypes[label] = 0.85 * prototypes.get(label, 0) + 0.15 * vector
        bank = (method.bank.vectors.clone(), method.bank.labels, method.bank.filled)
        expected = 0.7 * instance_loss(anchors, labels, samples, bank, mining, temperature, seed_of(twin))
        if step >= 1:
            expected = expected + 0.3 * semantic_loss(anchors, labels, prototypes, temperature)
        else:
            assert outcome.parts["semantic"] == 0
        assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-10)
        if expected.requires_grad:
            gradients = [torch.autograd.grad(x, graph)[0] for x in (outcome.loss, expected)]
            assert torch.allclose(*gradients, rtol=1e-8, atol=1e-12)
    assert int(method.steps) == 5 and float(outcome.parts["valid_anchors"]) > 0


# Ready-made checks on the loss


def balanced(positive, negative):
    """One anchor of class 0 in a bank of 128 positives and 512 negatives at chosen similarities to (1, 0)."""
    labels = torch.cat([torch.zeros(128), torch.ones(512)]).long()

    def at(similarity):
        return [similarity, math.sqrt(1 - similarity**2)]

    vectors = torch.tensor([at(positive)] * 128 + [at(negative)] * 512, dtype=torch.float64)
    return labels, vectors


def loss_at(positive, negative, temperature, anchor=(1.0, 0.0)):
    labels, vectors = balanced(positive, negative)
    bank = Entries(vectors, labels, torch.ones(640, dtype=torch.bool))
    rows = contrast_rows(
        torch.tensor([anchor], dtype=torch.float64), labels[:1], torch.tensor([0]), bank, STANDARD, temperature, (1, 2)
    )
    return rows.item() / (128 * 2)


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.0])
def test_equal_vectors_give_the_logarithm_of_513(temperature):
    labels, _ = balanced(1, 1)
    method = toy(labels, 2, temperature=temperature)
    same = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    fill(method, nn.functional.pad(same, (0, 1)).repeat(640, 1))
    outcome = method.contrast(as_graph(5 * same), labels[:1], torch.tensor([0]), generator())
    assert outcome.loss.item() == pytest.approx(math.log(513), rel=1e-12) == pytest.approx(6.24028, abs=1e-5)


@pytest.mark.parametrize(
    ("temperature", "separated", "least", "most"),
    [(0.5, 4.25265, 2.33965, 10.23836), (0.8, 4.99512, 3.76184, 8.73848), (1.0, 5.24362, 4.25265, 8.23859)],
)
def test_published_values_of_the_loss(temperature, separated, least, most):
    assert loss_at(1, 0, temperature) == pytest.approx(separated, abs=1e-5)
    assert loss_at(1, -1, temperature) == pytest.approx(least, abs=1e-5)
    assert loss_at(-1, 1, temperature) == pytest.approx(most, abs=1e-5)
    logits = torch.tensor([1.0] + [0.0] * 512, dtype=torch.float64) / temperature
    expected = nn.functional.cross_entropy(logits.view(1, -1), torch.tensor([0]))
    assert loss_at(1, 0, temperature) == pytest.approx(expected.item(), rel=1e-12)


def test_toy_of_four_entries():
    labels = torch.tensor([0, 0, 1, 1])
    bank = torch.tensor([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]], dtype=torch.float64)
    mining = MiningSettings(positives=1, hard_negatives=1, random_negatives=1)
    found = set()
    for step in range(20):
        method = toy(labels, 2, width=2, temperature=1.0, mining=mining)
        fill(method, bank)
        outcome = method.contrast(as_graph(bank[:1]), labels[:1], torch.tensor([0]), generator(step))
        found.add(round(outcome.loss.item(), 5))
    assert found == {1.03749, 0.67537}


def test_more_is_asked_for_than_the_bank_has_rows():
    labels = torch.tensor([0, 0, 1, 1, 2])
    bank = (units(5, 3), labels, torch.tensor([True, True, True, False, True]))
    mining = MiningSettings(
        positives=9, hard_negatives=8, random_negatives=7, least_positives=1, least_negatives=1
    )  # fmt: skip
    anchors, samples = bank[0][:3].clone(), torch.arange(3)
    rows = contrast_rows(anchors, labels[:3], samples, Entries(*bank), mining, 0.5, (1, 2))
    count = mining.rows_per_class(torch.tensor([2, 1, 1]))[labels[:3]]
    assert count.tolist() == [4, 4, 2]
    expected = instance_loss(anchors, labels[:3], samples, bank, mining, 0.5, (1, 2))
    assert (rows.sum() / count.sum()).item() == pytest.approx(expected.item(), rel=1e-12)


def test_one_entry_too_few_and_nothing_is_contrasted():
    for positives, negatives, open_gate in ((127, 512, False), (128, 511, False), (128, 512, True)):
        labels = torch.cat([torch.zeros(positives), torch.ones(negatives)]).long()
        method = toy(labels, 2)
        fill(method, units(len(labels), 3))
        assert method.bank.per_class(2).tolist() == [positives, negatives]
        graph = as_graph(units(1, 3, seed=9)).requires_grad_()
        outcome = method.contrast(graph, labels[:1], torch.tensor([0]), generator())
        outcome.loss.backward()
        assert (outcome.loss.item() > 0) == bool(graph.grad.any()) == bool(outcome.parts["valid_anchors"]) == open_gate
        assert math.isfinite(outcome.loss.item())


def test_rows_are_counted_by_class():
    # 128 positives x 2 sets for every valid anchor: 256.
    assert STANDARD.rows_per_class(torch.tensor([128, 512, 127])).tolist() == [256, 0, 0]
    assert STANDARD.rows_per_class(torch.tensor([200, 500, 127])).tolist() == [256, 0, 0]
    some = MiningSettings(positives=10, hard_negatives=20, random_negatives=0, least_positives=2, least_negatives=1)
    assert some.rows_per_class(torch.tensor([1, 3, 30, 0])).tolist() == [0, 3, 10, 0]
    with pytest.raises(ValueError, match="nothing to contrast"):
        MiningSettings(hard_negatives=0, random_negatives=0)


def test_scale_changes_nothing():
    labels = torch.arange(30) % 3
    mining = MiningSettings(positives=3, hard_negatives=4, random_negatives=4)
    values = []
    for graph_scale, weight_scale in ((1, 1), (37.0, 1), (1, 0.01)):
        method = toy(labels, 3, mining=mining)
        fill(method, units(30, 3))
        with torch.no_grad():
            method.projection.weight.mul_(weight_scale)
        graph = graph_scale * as_graph(torch.randn(5, 3, dtype=torch.float64, generator=generator(1)))
        values.append(method.contrast(graph, labels[:5], torch.arange(5), generator()).loss.item())
    assert values[1:] == pytest.approx(values[:1] * 2, rel=1e-12)


def test_rows_that_are_empty_play_no_part():
    labels = torch.arange(60) % 3
    mining = MiningSettings(positives=3, hard_negatives=4, random_negatives=4)
    values = []
    for _ in range(2):
        method = toy(labels, 3, mining=mining)
        fill(method, units(30, 3))
        if values:
            # What stands in rows that nobody filled must not be seen.
            method.bank.vectors[30:] = 5.0
            method.bank.labels[30:] = method.bank.labels[30:].flip(0)
        graph = as_graph(torch.randn(5, 3, dtype=torch.float64, generator=generator(1)))
        values.append(method.contrast(graph, labels[:5], torch.arange(5), generator()).loss.item())
    assert values[0] == values[1]


def test_own_entry_gives_no_gradient_and_gradients_turn_vectors_only():
    labels = torch.tensor([0, 1, 1, 1])
    mining = MiningSettings(positives=1, hard_negatives=2, random_negatives=2)
    method = toy(labels, 2, mining=mining)
    fill(method, units(4, 3))
    graph = as_graph(torch.randn(1, 3, dtype=torch.float64, generator=generator(1))).requires_grad_()
    vectors = method.vectors(graph)
    self_pair = (vectors @ vectors.detach().T).sum()
    assert torch.autograd.grad(self_pair, graph)[0].abs().max() < 1e-6
    (gradient,) = torch.autograd.grad(method.contrast(graph, labels[:1], torch.tensor([0]), generator()).loss, graph)
    assert gradient.abs().max() > 1e-3 and abs((gradient * graph).sum().item()) < 1e-12


@pytest.mark.parametrize("classes", [60, 120, 10])
def test_semantic_loss_at_equal_similarities(classes):
    method = toy(None, classes, variant="paper", semantic_warmup=0, queue_length=2, instance_weight=0)
    labels = torch.arange(classes)
    same = torch.ones(classes, 3, dtype=torch.float64)
    outcome = method.contrast(as_graph(same), labels, labels, generator())
    assert outcome.loss.item() == outcome.parts["semantic"].item() == pytest.approx(math.log(classes), rel=1e-12)


def test_same_generator_same_loss():
    labels = torch.arange(200) % 2
    mining = MiningSettings(positives=3, hard_negatives=1, random_negatives=5)
    values = []
    for seed in (1, 1, 2):
        method = toy(labels, 2, mining=mining)
        fill(method, units(200, 3))
        values.append(method.contrast(as_graph(units(4, 3, seed=3)), labels[:4], torch.arange(4), generator(seed)).loss)
    assert values[0] == values[1] != values[2]


# Bad input


def test_nothing_and_nan_do_not_stay_in_the_banks():
    labels = torch.arange(20) % 2
    mining = MiningSettings(positives=2, hard_negatives=2, random_negatives=2)
    for variant in ("released", "paper"):
        method = toy(labels, 2, mining=mining, variant=variant, semantic_warmup=0, train_projection=True)
        method.contrast(as_graph(units(20, 3)), labels, torch.arange(20), generator())
        before = copy.deepcopy(method.state_dict())
        graph = as_graph(torch.zeros(2, 3, dtype=torch.float64)).requires_grad_()
        outcome = method.contrast(graph, labels[:2], torch.arange(2), generator())
        outcome.loss.backward()
        assert outcome.loss == 0 and not graph.grad.any() and not method.projection.weight.grad.any()
        # One graph without direction beside a good one: the mean is over the good one.
        mixed = torch.stack([torch.zeros(3), torch.tensor([1.0, 2.0, 2.0])]).double()
        alone = copy.deepcopy(method)
        both = method.contrast(as_graph(mixed), labels[:2], torch.arange(2), generator(1)).loss
        one = alone.contrast(as_graph(mixed[1:]), labels[1:2], torch.arange(1, 2), generator(1)).loss
        assert both.item() == pytest.approx(one.item(), rel=1e-12)
        method.load_state_dict(before)
        bad = torch.tensor([[math.nan, 0, 0], [math.inf, 1, 0]], dtype=torch.float64)
        outcome = method.contrast(as_graph(bad), labels[:2], torch.arange(2), generator())
        assert not math.isfinite(outcome.loss.item()), "the trainer must see it"
        after = method.state_dict()
        assert all(torch.equal(after[key], value) for key, value in before.items() if key != "steps")


def test_half_precision_graphs_are_contrasted_in_float32():
    labels = torch.arange(20) % 2
    chosen = SkeletonGclSettings(mining=MiningSettings(positives=2, hard_negatives=2, random_negatives=2))
    method = SkeletonGCL(nn.Identity(), 5, 2, labels, chosen)
    graph = torch.randn(20, 3, 5, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        outcome = method.contrast(graph, labels, torch.arange(20), generator())
    assert outcome.loss.dtype == torch.float32 and outcome.loss > 0
    assert torch.allclose(method.bank.vectors.norm(dim=1), torch.ones(1), atol=1e-5)


def test_clear_refusals():
    with pytest.raises(ValueError, match="labels of all training samples"):
        SkeletonGCL(nn.Identity(), 25, 60)
    with pytest.raises(ValueError, match="beyond the 2 classes"):
        SkeletonGCL(nn.Identity(), 25, 2, torch.tensor([0, 2]))
    once = torch.arange(10).repeat_interleave(torch.tensor([102, 102, 96, 124, 101, 102, 99, 99, 98, 97]))
    with pytest.raises(ValueError, match="1020 bank entries, the largest class has 124, but 128 of its own and 512"):
        SkeletonGCL(nn.Identity(), 20, 10, once)
    SkeletonGCL(nn.Identity(), 20, 10, once.repeat(5))
    SkeletonGCL(nn.Identity(), 20, 10, once, SkeletonGclSettings(mining=MiningSettings(least_positives=64)))
    with pytest.raises(ValueError, match="lengthen the queues"):
        SkeletonGCL(nn.Identity(), 20, 10, None, SkeletonGclSettings(variant="paper", queue_length=100))
    method = SkeletonGCL(GRUEncoder(5, persons=1, hidden=8), 25, 5, torch.arange(5), SMALL)
    with pytest.raises(ValueError, match="hands out no graph"):
        method(torch.randn(2, 3, 8, 25, 1), torch.arange(2), torch.arange(2), generator())


# Around the encoders


@pytest.mark.parametrize(("joints", "expected"), [(25, 480_256), (20, 307_456)])
def test_head_is_frozen_and_of_the_published_size(joints, expected):
    torch.manual_seed(0)
    labels = torch.arange(60).repeat(128)
    method = SkeletonGCL(nn.Identity(), joints, 60, labels)
    assert sum(p.numel() for p in method.parameters()) == expected
    assert not any(p.requires_grad for p in method.parameters())
    assert method.projection.weight.std().item() == pytest.approx(math.sqrt(2 / 60), rel=0.01)
    assert not method.projection.bias.any()
    trained = SkeletonGCL(nn.Identity(), joints, 60, labels, SkeletonGclSettings(train_projection=True))
    assert sum(p.numel() for p in trained.parameters() if p.requires_grad) == expected


SMALL = SkeletonGclSettings(semantic_warmup=0, mining=MiningSettings(positives=1, hard_negatives=2, random_negatives=2))


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("backbone", [AGCN, CTRGCN, InfoGCN])
@pytest.mark.parametrize(("layout", "joints", "persons"), [("ntu25", 25, 2), ("kinect20", 20, 1)])
def test_a_step_of_every_backbone(backbone, variant, layout, joints, persons):
    torch.manual_seed(0)
    encoder = backbone(4, layout, persons, base_channels=16)
    plain = copy.deepcopy(encoder.state_dict())
    labels, samples = torch.tensor([0, 1, 2, 2]), torch.tensor([7, 0, 3, 4])
    sample_labels = torch.tensor([1, 0, 3, 2, 2, 3, 3, 0])
    method = SkeletonGCL(encoder, joints, 4, sample_labels, SMALL.model_copy(update={"variant": variant}))
    assert encoder.state_dict().keys() == plain.keys()
    clips = torch.randn(4, 3, 8, joints, persons)
    outcome = method(clips, labels, samples, generator())
    parts = outcome.parts
    supervised = float(parts["cross_entropy"])
    if backbone is InfoGCN:
        supervised += 0.1 * float(parts["latent_prior"]) + 1e-4 * float(parts["latent_marginal"])
    contrast = float(parts["instance"]) + float(parts.get("semantic", 0))
    assert parts["valid_anchors"] == 1 and float(parts["instance"]) > 0
    assert float(parts["bank_filled"]) == pytest.approx(4 / 8 if variant == "released" else 4 / (4 * 684))
    assert outcome.loss.item() == pytest.approx(supervised + contrast, rel=1e-5) and outcome.logits.shape == (4, 4)
    outcome.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    encoder.eval()
    fresh = backbone(4, layout, persons, base_channels=16).eval()
    fresh.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(clips).logits, encoder(clips, want_graph=True).logits)


def test_what_moves_the_graph_of_an_untrained_ctrgcn():
    torch.manual_seed(0)
    encoder = CTRGCN(4, persons=1, base_channels=16)
    clips, labels = torch.randn(4, 3, 8, 25, 1), torch.tensor([0, 1, 2, 2])
    nn.functional.cross_entropy(encoder(clips).logits, labels).backward()
    for block in encoder.blocks:
        layer = block.graph.refinement
        assert not any(getattr(layer, name).weight.grad.any() for name in ("query", "key", "expand"))
        assert layer.alpha.grad.any()
    encoder.zero_grad()
    method = SkeletonGCL(encoder, 25, 4, labels, SMALL)
    output = encoder(clips, want_graph=True)
    method.contrast(output.graph, labels, torch.arange(4), generator()).loss.backward()
    last = encoder.blocks[9]
    layer = last.graph.refinement
    assert all(getattr(layer, name).weight.grad.abs().sum() > 0 for name in ("query", "key", "expand"))
    untouched = [layer.alpha, layer.adjacency, *layer.value.parameters(), *encoder.classifier.parameters()]
    assert all(p.grad is None or not p.grad.any() for p in [*untouched, *last.temporal.parameters()])
    assert encoder.blocks[0].graph.refinement.value.weight.grad.abs().sum() > 0


def test_state_goes_on_where_it_stopped():
    labels = torch.arange(12) % 3
    for variant in ("released", "paper"):
        chosen = {"variant": variant, "queue_length": 3, "semantic_warmup": 1, "mining": SMALL.mining}
        method, resumed = toy(labels, 3, **chosen), toy(labels, 3, **chosen)
        method.contrast(as_graph(units(12, 3)), labels, torch.arange(12), generator())
        resumed.load_state_dict(method.state_dict())
        graph = as_graph(units(6, 3, seed=4))
        losses = [m.contrast(graph, labels[:6], torch.arange(6), generator(1)).loss for m in (method, resumed)]
        assert losses[0] == losses[1] > 0
        after = [m.state_dict() for m in (method, resumed)]
        assert all(torch.equal(after[0][key], after[1][key]) for key in after[0])


@pytest.mark.parametrize(
    ("per_class", "batch", "first", "all_classes"),
    [
        # Section 3.4: NW-UCLA five times over, NTU-60 X-Sub (632 to 672 of each class, 40,091 in all), NW-UCLA once.
        ([5 * n for n in (102, 102, 96, 124, 101, 102, 99, 99, 98, 97)], 16, 65, 93),
        ([669] * 30 + [667] * 29 + [678], 64, 100, 145),
        ([102, 102, 96, 124, 101, 102, 99, 99, 98, 97], 16, None, None),
    ],
)
def test_when_the_gate_opens(per_class, batch, first, all_classes):
    classes = len(per_class)
    labels = torch.arange(classes).repeat_interleave(torch.tensor(per_class))
    order = torch.randperm(len(labels), generator=generator())
    # Filled entries of every class after every step of the first epoch.
    arrived = nn.functional.one_hot(labels[order][: len(labels) // batch * batch], classes).cumsum(0)[
        batch - 1 :: batch
    ]
    is_open = torch.stack([STANDARD.rows_per_class(counts) > 0 for counts in arrived])
    if first is None:
        assert not is_open.any()
    else:
        assert int(is_open.any(1).nonzero()[0]) + 1 == pytest.approx(first, rel=0.15)
        assert int(is_open.all(1).nonzero()[0]) + 1 == pytest.approx(all_classes, rel=0.15)
