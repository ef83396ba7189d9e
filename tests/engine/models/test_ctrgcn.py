"""CTR-GCN: published sizes, the equations against explicit loops, and the facts of its initialisation."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.models.ctrgcn import CTRGCN, TopologyRefinement
from engine.skeleton.layout import NTU25, spatial_partition

PER_BLOCK = [12052, 26308, 26308, 26308, 78084, 97844, 97844, 301748, 382228, 382228]


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("classes", "layout", "persons", "expected"),
    [(60, "ntu25", 2, 1_446_672), (120, "ntu25", 2, 1_462_092), (10, "kinect20", 1, 1_426_892)],
)
def test_published_parameter_counts(classes, layout, persons, expected):
    assert size(CTRGCN(classes, layout, persons)) == expected


def test_published_parameter_counts_of_every_block():
    assert [size(block) for block in CTRGCN(60).blocks] == PER_BLOCK


def slow_refinement(layer, x):
    """out[c,t,u] = sum_k sum_v (alpha Q_k[c,u,v] + A_k[u,v]) (W_k x)[c,t,v], one subset, clip and channel at a time."""
    n, _, t, v = x.shape
    c, r = layer.out_channels, layer.relation
    out = torch.zeros(n, c, t, v, dtype=x.dtype)
    graphs = torch.zeros(n, 3, c, v, v, dtype=x.dtype)
    for k in range(3):
        rows, wide = slice(k * r, (k + 1) * r), slice(k * c, (k + 1) * c)
        query = functional.conv2d(x, layer.query.weight[rows], layer.query.bias[rows]).mean(2)
        key = functional.conv2d(x, layer.key.weight[rows], layer.key.bias[rows]).mean(2)
        value = functional.conv2d(x, layer.value.weight[wide], layer.value.bias[wide])
        expand, bias = layer.expand.weight[wide, :, 0, 0], layer.expand.bias[wide]
        for i in range(n):
            for u in range(v):
                for w in range(v):
                    graphs[i, k, :, u, w] = expand @ torch.tanh(query[i, :, u] - key[i, :, w]) + bias
            for ch in range(c):
                topology = layer.alpha * graphs[i, k, ch] + layer.adjacency[k]
                for u in range(v):
                    out[i, ch, :, u] += (topology[u] * value[i, ch]).sum(1)
    return out, graphs


def test_topology_refinement_against_explicit_loops():
    torch.manual_seed(0)
    layer = TopologyRefinement(16, 4, torch.from_numpy(spatial_partition(NTU25))).double()
    layer.alpha.data.fill_(0.7)
    for conv in (layer.query, layer.key, layer.value, layer.expand):
        torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 16, 3, 25, dtype=torch.float64)
    with torch.no_grad():
        out, graph = layer(x, want_graph=True)
        expected, graphs = slow_refinement(layer, x)
    assert torch.allclose(out, expected, atol=1e-10)
    assert torch.allclose(graph, graphs.mean(2), atol=1e-10)


def test_initialisation():
    torch.manual_seed(0)
    model = CTRGCN(60)
    for block in model.blocks:
        assert block.graph.refinement.alpha.item() == 0
        assert torch.equal(block.graph.refinement.adjacency.data, torch.from_numpy(spatial_partition(NTU25)))
        assert torch.all(block.graph.norm.weight == 1e-6)
    wide = model.blocks[9].graph.refinement.value
    # Kaiming normal, fan out, of one subset's 256 outputs: not of the three stored together.
    assert wide.weight.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.02)
    assert model.classifier.weight.std().item() == pytest.approx(math.sqrt(2 / 60), rel=0.05)
    assert [block.graph.refinement.relation for block in model.blocks] == [8, 8, 8, 8, 8, 16, 16, 16, 32, 32]


def test_at_start_the_class_loss_reaches_the_refinement_through_alpha_only():
    torch.manual_seed(0)
    model = CTRGCN(5, persons=1)
    model(torch.randn(2, 3, 16, 25, 1)).logits.logsumexp(1).sum().backward()
    layer = model.blocks[9].graph.refinement
    for conv in (layer.query, layer.key, layer.expand):
        assert conv.weight.grad is None or not conv.weight.grad.any()
    assert layer.alpha.grad is not None and layer.value.weight.grad.any()


def test_shapes_persons_and_determinism():
    torch.manual_seed(0)
    model = CTRGCN(7, persons=2).eval()
    clips = torch.randn(3, 3, 20, 25, 2)
    with torch.no_grad():
        out = model(clips, want_graph=True)
        again = model(clips, want_graph=True)
        single = model(clips[1:2])
    assert out.logits.shape == (3, 7) and out.features.shape == (3, 256) and out.graph.shape == (3, 3, 25, 25)
    assert torch.equal(out.logits, again.logits)
    # Rounding follows the largest numbers of an untrained network, not the logit at hand.
    assert torch.allclose(out.logits[1:2], single.logits, atol=1e-6 * float(out.logits.abs().max()))
    assert np.isfinite(out.logits.numpy()).all()
    assert model(torch.zeros(1, 3, 20, 25, 2)).logits.isfinite().all()
