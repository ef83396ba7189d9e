"""The processor's arrangements give what the usual operations give, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.products import MaxOfThree, Pointwise, batched, join_channels


def gradients(act, *inputs: Tensor) -> list[Tensor]:
    """The result, and the gradients of a fixed random sum of it."""
    leaves = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
    out = act(*leaves)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=out.dtype)
    (out * weights).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_is_one(generator: torch.Generator, order: torch.memory_format) -> None:
    x = torch.randn(3, 6, 5, 4, generator=generator, dtype=torch.float64).to(memory_format=order)
    layer = Pointwise(6, 8).double()
    assert layer.weight is not None and layer.bias is not None
    usual = gradients(functional.conv2d, x, layer.weight, layer.bias)
    ours = gradients(
        lambda x, w, b: torch.func.functional_call(layer, {"weight": w, "bias": b}, x), x, *layer.parameters()
    )
    for a, b in zip(ours, usual, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_largest_of_three_is_max_pooling_also_among_equals(
    generator: torch.Generator, stride: int, order: torch.memory_format
) -> None:
    # Three values only: most windows hold equals, and the gradient must go where max-pooling sends it.
    x = torch.randint(3, (4, 2, 9, 5), generator=generator).double().to(memory_format=order)
    usual = gradients(nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), x)
    for a, b in zip(gradients(MaxOfThree(stride), x), usual, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_joined_channels_are_a_concatenation_whose_gradients_lie_in_one_piece(
    generator: torch.Generator, order: torch.memory_format
) -> None:
    parts = [torch.randn(2, c, 3, 4, generator=generator).to(memory_format=order) for c in (2, 5, 1)]
    ours = gradients(lambda *parts: join_channels(list(parts)), *parts)
    for a, b in zip(ours, gradients(lambda *parts: torch.cat(parts, 1), *parts), strict=True):
        assert torch.equal(a, b)
    seen: list[bool] = []
    leaf = parts[1].requires_grad_()
    changed = leaf * 2
    changed.register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=order)))
    join_channels([parts[0], changed, parts[2]]).sum().backward()
    assert seen == [True]


def test_a_matrix_times_many_rows_with_a_shift(generator: torch.Generator) -> None:
    matrix, rows, shift = (
        torch.randn(s, generator=generator, dtype=torch.float64) for s in ((3, 4), (2, 4, 5), (3, 1))
    )
    usual = gradients(lambda m, r, s: torch.stack([m @ row + s for row in r]), matrix, rows, shift)
    for a, b in zip(gradients(batched, matrix, rows, shift), usual, strict=True):
        torch.testing.assert_close(a, b)


def test_lower_precision_is_that_of_autocast(generator: torch.Generator) -> None:
    x, layer = torch.randn(2, 6, 5, 4, generator=generator), Pointwise(6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(x), atol=0.05, rtol=0.02)
