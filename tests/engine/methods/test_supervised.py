"""Cross entropy and InfoGCN's losses against loops written from skeletongcl.md, section 2.4."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.methods.objective import across_processes, alone
from engine.methods.supervised import Supervised, SupervisedSettings, latent_losses, open_set_loss
from engine.models.ctrgcn import CTRGCN
from engine.models.infogcn import InfoGCN


def smoothed_cross_entropy(logits, labels, smoothing):
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        p = torch.exp(row) / torch.exp(row).sum()
        for k in range(len(row)):
            target = smoothing / len(row) + (1 - smoothing) * (k == label)
            total = total - target * torch.log(p[k])
    return total / len(labels)


def plain_latent_losses(z, labels, priors):
    distances = []
    for k in range(len(priors)):
        members = [z[i] for i in range(len(z)) if labels[i] == k]
        if members:
            mean = sum(members) / len(members)
            distances += [(a - b) ** 2 for a, b in zip(mean, priors[k], strict=True)]
    mean = sum(z) / len(z)
    return sum(distances) / len(distances), sum(a**2 for a in mean).sqrt()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_clips_of_no_class_want_all_classes_equally(smoothing):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([2, -1, 0, -1, 3])
    rows = [
        smoothed_cross_entropy(row[None], label[None], smoothing)
        if label >= 0
        else -sum(torch.log(p) for p in torch.exp(row) / torch.exp(row).sum()) / 4
        for row, label in zip(logits, labels, strict=True)
    ]
    plain = sum(rows) / 5
    ours = open_set_loss(logits, labels, smoothing)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-12)
    expected = torch.autograd.grad(plain, logits)[0]
    assert torch.allclose(torch.autograd.grad(ours, logits)[0], expected, rtol=1e-9, atol=1e-12)
    known = torch.tensor([2, 1, 0, 1, 3])
    usual = torch.nn.functional.cross_entropy(logits, known, label_smoothing=smoothing)
    assert open_set_loss(logits, known, smoothing).item() == pytest.approx(usual.item(), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_latent_losses_equal_the_loop(n, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    priors = torch.randn(classes, 4, dtype=torch.float64, generator=generator)
    labels = torch.randint(classes, (n,), generator=generator)
    for ours, plain in zip(latent_losses(z, labels, priors), plain_latent_losses(z, labels, priors), strict=True):
        assert ours.item() == pytest.approx(plain.item(), rel=1e-12)
        expected = torch.autograd.grad(plain, z, retain_graph=True)[0]
        assert torch.allclose(torch.autograd.grad(ours, z, retain_graph=True)[0], expected, rtol=1e-9, atol=1e-12)


def test_latent_losses_stay_finite_at_zero():
    z = torch.zeros(3, 4, requires_grad=True)
    prior, marginal = latent_losses(z, torch.zeros(3, dtype=torch.int64), torch.zeros(2, 4))
    (prior + marginal).backward()
    assert prior == marginal == 0 and torch.equal(z.grad, torch.zeros(3, 4))


def test_supervised_step_of_a_plain_encoder():
    torch.manual_seed(0)
    method = Supervised(CTRGCN(5, persons=1, base_channels=16), SupervisedSettings(label_smoothing=0.1)).double()
    labels = torch.tensor([0, 3, 3])
    outcome = method(torch.randn(3, 3, 8, 25, 1, dtype=torch.float64), labels)
    expected = smoothed_cross_entropy(outcome.logits, labels, 0.1)
    assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert list(outcome.parts) == ["cross_entropy"] and not outcome.parts["cross_entropy"].requires_grad
    assert outcome.loss.dtype == torch.float64


def test_infogcn_adds_its_two_losses():
    torch.manual_seed(0)
    encoder = InfoGCN(5, persons=1, base_channels=16).double()
    chosen = SupervisedSettings(label_smoothing=0.1, prior_weight=0.3, marginal_weight=0.07)
    method = Supervised(encoder, chosen)
    clips, labels = torch.randn(4, 3, 8, 25, 1, dtype=torch.float64), torch.tensor([1, 1, 4, 0])
    features = []
    encoder.classifier.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    outcome = method(clips, labels)
    prior, marginal = plain_latent_losses(features[0], labels, encoder.priors)
    expected = smoothed_cross_entropy(outcome.logits, labels, 0.1) + 0.3 * prior + 0.07 * marginal
    assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert set(outcome.parts) == {"cross_entropy", "latent_prior", "latent_marginal"}
    outcome.loss.backward()
    assert encoder.log_variance.weight.grad.abs().sum() > 0 and encoder.priors.grad is None


def test_half_precision_is_summed_in_float32():
    z = torch.randn(3, 4).bfloat16()
    prior, marginal = latent_losses(z, torch.tensor([0, 1, 1]), torch.randn(2, 4))
    assert prior.dtype == marginal.dtype == torch.float32


def test_two_batches_that_are_equal_give_the_loss_of_one():
    # A gather that repeats this process's rows: means stay, gradients count twice, to be averaged by the trainer.
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    labels, priors = torch.tensor([0, 1, 1, 2]), torch.randn(3, 3, dtype=torch.float64)
    one = latent_losses(z, labels, priors)
    two = latent_losses(z, labels, priors, lambda rows: torch.cat([rows, rows]))
    for a, b in zip(one, two, strict=True):
        assert a.item() == pytest.approx(b.item(), rel=1e-12) and math.isfinite(a.item())
        da, db = (torch.autograd.grad(x, z, retain_graph=True)[0] for x in (a, b))
        assert torch.allclose(da, db)


def test_gather_without_processes_is_the_identity():
    rows = torch.randn(3, 2)
    assert across_processes(rows) is rows and alone(rows) is rows
