"""The product form of a temporal convolution against the direct one: values, gradients, when it is used."""

import pytest
import torch
from torch.nn import functional

from engine.models import temporal
from engine.models.layers import pooled
from engine.models.temporal import TemporalConv, tables


@pytest.mark.parametrize(("frames", "taps"), [(13, 9), (25, 9), (50, 7), (13, 7), (4, 9), (1, 3), (6, 1)])
def test_tables_are_a_convolution(frames, taps):
    into, kernel, back = tables(frames, taps)
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(n, dtype=torch.float64, generator=generator) for n in (frames, taps))
    wanted = [
        sum(float(w[j] * x[t + j - taps // 2]) for j in range(taps) if 0 <= t + j - taps // 2 < frames)
        for t in range(frames)
    ]
    made = back @ ((into @ x) * (kernel @ w))
    assert made.tolist() == pytest.approx(wanted, abs=1e-12)
    # Fewer products than taps that meet a frame.
    direct = sum(0 <= t + j - taps // 2 < frames for t in range(frames) for j in range(taps))
    assert frames < taps or taps < 3 or len(into) < direct / 2


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(temporal, "_LEAST_CHANNELS", 1)
    monkeypatch.setattr(temporal, "_LEAST_ROWS", 1)
    monkeypatch.setattr(temporal, "_ROWS", 11)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_equals_the_direct_convolution(always, bias, channels_last):
    torch.manual_seed(0)
    conv = TemporalConv(3, 5, (9, 1), padding=(4, 0), bias=bias).double().train()
    x = torch.randn(4, 3, 13, 5, dtype=torch.float64)
    weights = torch.randn(4, 5, 13, 5, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    results = []
    for direct in (True, False):
        conv.zero_grad()
        leaf = x.clone().requires_grad_()
        y = functional.conv2d(leaf, conv.weight, conv.bias, padding=(4, 0)) if direct else conv(leaf)
        (y * weights).sum().backward()
        results.append([y, leaf.grad, *(p.grad.clone() for p in conv.parameters())])
    assert results[1][0].grad_fn.name().startswith("_Product")
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


def test_half_precision_and_frozen_parts(always):
    torch.manual_seed(0)
    conv = TemporalConv(16, 16, (7, 1), padding=(3, 0)).train()
    x = torch.randn(8, 16, 13, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert conv.weight.grad.dtype == torch.float32 and x.grad is None
    exact = conv(x)
    assert (y.float() - exact).abs().max() < 0.03 * exact.abs().max()
    conv.weight.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    conv(leaf).sum().backward()
    assert torch.allclose(
        leaf.grad, torch.autograd.grad(functional.conv2d(leaf, conv.weight, padding=(3, 0)).sum(), leaf)[0], atol=1e-5
    )


@pytest.mark.parametrize("why", ["evaluation", "narrow", "few rows", "stride"])
def test_the_direct_convolution_stays_where_nothing_is_gained(monkeypatch, why):
    monkeypatch.setattr(temporal._Product, "apply", lambda *_: pytest.fail("the product form was used"))
    channels = 32 if why == "narrow" else 64
    conv = TemporalConv(channels, channels, (9, 1), stride=(2 if why == "stride" else 1, 1), padding=(4, 0))
    conv.train(why != "evaluation")
    x = torch.randn(2 if why == "few rows" else 12, channels, 5, 25)
    expected = functional.conv2d(x, conv.weight, conv.bias, stride=conv.stride, padding=conv.padding)
    assert torch.equal(conv(x), expected)


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_pooled_is_the_mean_and_its_gradient_lies_as_the_input_does(memory):
    x = torch.randn(2, 6, 4, 5).contiguous(memory_format=memory).requires_grad_()
    y = x * 1
    seen = []
    y.register_hook(seen.append)
    mean = pooled(y)
    assert torch.allclose(mean, x.detach().mean((2, 3)), atol=1e-6)
    (mean * torch.arange(6)).sum().backward()
    assert torch.allclose(seen[0], (torch.arange(6) / 20).view(1, 6, 1, 1).expand_as(x))
    assert seen[0].is_contiguous(memory_format=memory)
