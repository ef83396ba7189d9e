"""ST-GCN, 2s-AGCN, CTR-GCN and InfoGCN against plain transcriptions of their equations, and the specs' ready checks."""

import math

import numpy as np
import pytest
import torch

from engine.models.agcn import AGCN
from engine.models.ctrgcn import CTRGCN
from engine.models.infogcn import InfoGCN, ancestors
from engine.models.layers import ByteDropout
from engine.models.stgcn import STGCN, one_hop_partition
from engine.skeleton.layout import KINECT20, NTU25, get_layout, spatial_partition
from tests.engine.models.plain import agcn as plain_agcn
from tests.engine.models.plain import ctrgcn as plain_ctrgcn
from tests.engine.models.plain import infogcn as plain_infogcn
from tests.engine.models.plain import stgcn as plain_stgcn


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


def pair(name, layout, persons, dtype):
    skeleton = get_layout(layout)
    spatial = torch.from_numpy(spatial_partition(skeleton)).to(dtype)
    one_hop = torch.from_numpy(one_hop_partition(skeleton)).to(dtype)
    joints = skeleton.num_joints
    ours, plain = {
        "ctrgcn": lambda: (CTRGCN(5, layout, persons), plain_ctrgcn.Plain(5, joints, persons)),
        "agcn": lambda: (AGCN(5, layout, persons), plain_agcn.Plain(5, spatial, persons)),
        # Dropout draws its masks in the order of memory, which differs: it has a test of its own.
        "stgcn": lambda: (STGCN(5, layout, persons, dropout=0.0), plain_stgcn.Plain(5, one_hop, persons, dropout=0.0)),
        "infogcn": lambda: (InfoGCN(5, layout, persons), plain_infogcn.Plain(5, joints, persons)),
    }[name]()
    with torch.no_grad():
        # Away from the initialisation, at which tiny norms and zero scales hide most of the network.
        for parameter in ours.parameters():
            parameter.add_(0.1 * parameter.abs().max().clamp(min=0.5) * torch.randn_like(parameter))
    ours, plain = ours.to(dtype), plain.to(dtype)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize(("layout", "persons", "frames"), [("ntu25", 2, 9), ("kinect20", 1, 14)])
@pytest.mark.parametrize("name", ["ctrgcn", "agcn", "stgcn", "infogcn"])
def test_outputs_and_gradients_equal_the_plain_equations(name, layout, persons, frames):
    torch.manual_seed(0)
    ours, plain = pair(name, layout, persons, torch.float64)
    x = torch.randn(2, 3, frames, get_layout(layout).num_joints, persons, dtype=torch.float64)
    outputs, gradients = [], []
    for model, extra in ((ours, {"want_graph": True}), (plain, {})):
        clips = x.clone().requires_grad_()
        torch.manual_seed(1)  # for the latent sample
        logits, features, graph = model(clips, **extra)[:3]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 3]))
        if graph is not None:
            loss = loss + (graph / graph.detach().abs().max()).square().mean()
        loss.backward()
        outputs.append([logits, features, graph])
        gradients.append({"input": clips.grad} | {key: p.grad for key, p in model.named_parameters()})
    for a, b in zip(*outputs, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-9, atol=1e-9)
    largest = max(float(g.abs().max()) for g in gradients[1].values() if g is not None)
    for key, expected in gradients[1].items():
        got = gradients[0][key]
        if expected is None:
            assert got is None, key
        else:
            assert torch.allclose(got, expected, rtol=1e-6, atol=1e-9 * largest), key
    ours.eval(), plain.eval()
    with torch.no_grad():
        assert torch.allclose(ours(x).logits, plain(x)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("backbone", "classes", "layout", "persons", "expected"),
    [
        (AGCN, 60, "ntu25", 2, 3_469_510),
        (AGCN, 120, "ntu25", 2, 3_484_930),
        (AGCN, 10, "kinect20", 1, 3_449_730),
        (InfoGCN, 60, "ntu25", 2, 1_556_807),
        (InfoGCN, 120, "ntu25", 2, 1_572_227),
        (InfoGCN, 10, "kinect20", 1, 1_533_722),
        (STGCN, 60, "ntu25", 2, 836_800),
        (STGCN, 120, "ntu25", 2, 852_220),
        (STGCN, 52, "ntu25", 2, 834_744),
    ],
)
def test_published_parameter_counts(backbone, classes, layout, persons, expected):
    assert size(backbone(classes, layout, persons)) == expected


def test_published_parameter_counts_of_every_block():
    agcn = [40595, *[57779] * 3, 204563, 224275, 224275, 808659, 889043, 889043]
    infogcn = [*[24707] * 3, 74755, 91571, 91571, 288947, 357395, 357395]
    stgcn = [2576, 3200, 3200, 3200, 11616, 12544, 12544, 45760, 49664, 658176]
    assert [size(block) for block in AGCN(60).blocks] == agcn
    model = InfoGCN(60)
    assert [size(block) for block in model.blocks] == infogcn
    assert [size(part) for part in (model.embedding, model.input_norm, model.hidden, model.classifier)] == [
        256, 6400, 65792, 15420,
    ]  # fmt: skip
    assert model.positions.numel() == 1600
    assert [size(block) - block.importance.numel() for block in STGCN(60).blocks] == stgcn


# ST-GCN (hiclr.md, sections 2.1, 2.3 and 10)


def test_one_hop_partition_is_the_published_one():
    parts = one_hop_partition(NTU25)
    assert [int(np.count_nonzero(part)) for part in parts] == [25, 40, 8]
    assert np.allclose(parts.sum((1, 2)), [8.95, 13.30, 2.75], atol=1e-5)
    assert np.allclose(parts.sum((0, 1)), 1)
    expected = np.zeros((25, 25))
    expected[1, 0], expected[2, 3] = 1 / 4, 1 / 2
    expected[4, 5] = expected[8, 9] = 1 / 3
    expected[20, [1, 2, 4, 8]] = 1 / 3
    assert np.allclose(parts[2], expected)


def test_stgcn_lengths_initialisation_and_persons():
    torch.manual_seed(0)
    model = STGCN(60)
    assert model.blocks[0].dropout.p == 0 and {block.dropout.p for block in model.blocks[1:]} == {0.5}
    wide = model.blocks[9].temporal[0]
    assert wide.weight.std().item() == pytest.approx(0.02, rel=0.01) and not wide.bias.any()
    assert wide.weight.mean().item() == pytest.approx(0, abs=1e-4)
    norm = model.blocks[9].temporal[1]
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01) and 0.015 < norm.weight.std().item() < 0.025
    assert all(torch.all(block.importance == 1) for block in model.blocks)
    lengths = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: lengths.append(out.shape[2]))
    clips = torch.randn(2, 3, 50, 25, 2)
    model.eval()
    with torch.no_grad():
        out = model(clips)
        swapped = model(clips.flip(4))
    assert lengths[:10] == [50] * 4 + [25] * 3 + [13] * 3
    assert out.features.shape == (2, 256) and torch.allclose(out.features, swapped.features, atol=1e-6)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_byte_dropout(memory):
    x = torch.ones(4, 16, 50, 25).to(memory_format=memory).requires_grad_()
    for p in (0.5, 0.25):
        torch.manual_seed(0)
        layer = ByteDropout(p)
        out = layer(x)
        assert out.stride() == x.stride()
        assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
        kept = (out > 0).float()
        count = kept.numel()
        assert kept.mean().item() == pytest.approx(1 - p, abs=5 * math.sqrt(p * (1 - p) / count))
        # Neighbours in memory share a random word, but not their fate.
        flat = (kept.detach().permute(0, 2, 3, 1) if memory == torch.channels_last else kept.detach()).flatten()
        for lag in (1, 2, 4, 8):
            both = (flat[:-lag] * flat[lag:]).mean().item()
            assert both == pytest.approx((1 - p) ** 2, abs=5 * 0.5 / math.sqrt(count))
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert torch.equal(gradient, out.detach())
        torch.manual_seed(0)
        assert torch.equal(layer(x), out)
        assert layer.eval()(x) is x
    assert ByteDropout(0.0)(x) is x
    with pytest.raises(ValueError, match="dropout"):
        ByteDropout(1.5)


# 2s-AGCN (skeletongcl.md, sections 2.2, 3.1 and 8)


def test_agcn_initialisation_and_graph():
    torch.manual_seed(0)
    model = AGCN(60)
    for block in model.blocks:
        layer = block.graph.convolution
        assert torch.all(layer.learned == 1e-6) and torch.all(block.graph.norm.weight == 1e-6)
    layer = model.blocks[9].graph.convolution
    assert layer.value.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 256 * 3)), rel=0.01)
    assert layer.theta.weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.02)
    temporal = model.blocks[9].temporal[0]
    assert temporal.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)
    assert model.classifier.weight.std().item() == pytest.approx(math.sqrt(2 / 60), rel=0.05)
    assert "adjacency" not in " ".join(model.state_dict())
    graph = model(torch.randn(2, 3, 16, 25, 2), want_graph=True).graph
    assert graph.flatten(1).shape == (2, 1875)


def test_agcn_graph_is_the_raw_dot_product():
    torch.manual_seed(0)
    layer = AGCN(5).blocks[1].graph.convolution
    x = torch.randn(2, 64, 4, 25)
    with torch.no_grad():
        scores = layer(x, want_graph=True)[1]
        theta, phi = layer.theta(x)[:, 16:32], layer.phi(x)[:, 16:32]
    assert torch.allclose(scores[1, 1, 3, 7], (theta[1, :, :, 3] * phi[1, :, :, 7]).sum(), rtol=1e-4)


# InfoGCN (skeletongcl.md, sections 2.4 and 8)


def test_powers_of_the_tree():
    tree = ancestors(NTU25)
    assert [np.count_nonzero(np.linalg.matrix_power(tree, k)) for k in range(9)] == [25, 24, 22, 17, 12, 8, 4, 2, 0]
    assert not tree[1].any() and tree[0, 1] == tree[20, 1] == tree[2, 20] == tree[22, 7] == 1
    assert not np.linalg.matrix_power(ancestors(KINECT20), 7).any()
    assert np.linalg.matrix_power(ancestors(KINECT20), 6).any()


def test_orders_of_the_input():
    torch.manual_seed(0)
    base = InfoGCN(5, persons=1).eval()

    def ordered(order, x):
        model = InfoGCN(5, persons=1, order=order).eval()
        model.load_state_dict(base.state_dict())
        with torch.no_grad():
            return model(x).logits

    x = torch.randn(2, 3, 8, 25, 1)
    with torch.no_grad():
        assert torch.allclose(ordered(8, x), base(x).logits, atol=1e-6)
        offsets = x - torch.einsum("ij,nctjm->nctim", torch.from_numpy(ancestors(NTU25)), x)
        assert torch.allclose(ordered(1, x), base(offsets).logits, atol=1e-4)
    # All joints in one place: only the root, which keeps its coordinates, is not zero.
    same = InfoGCN(5, order=1).offsets @ torch.ones(25)
    assert same.nonzero().flatten().tolist() == [1]
    with pytest.raises(ValueError, match="relative to itself"):
        InfoGCN(5, order=0)


def test_infogcn_attention_latent_and_priors():
    torch.manual_seed(0)
    model = InfoGCN(60)
    seen = []
    for block in model.blocks:
        layer = block.graph.convolution
        assert torch.equal(layer.learned.data, torch.eye(25).repeat(3, 1, 1))
        assert torch.all(block.graph.norm.weight == 1e-6)
        layer.register_forward_pre_hook(
            lambda layer, args: seen.append(layer.attention(args[0].permute(0, 2, 3, 1).flatten(0, 1)))
        )
    layer = model.blocks[8].graph.convolution
    assert layer.query_key.weight.std().item() == pytest.approx(1, rel=0.02)
    assert layer.value.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 256 * 3)), rel=0.01)
    bound = math.sqrt(2) * math.sqrt(6 / 512)
    assert model.mean.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    x = torch.randn(2, 3, 64, 25, 2)
    with torch.no_grad():
        out = model(x, want_graph=True)
    assert [len(a) for a in seen] == [4 * 64] * 4 + [4 * 32] * 3 + [4 * 16] * 2
    for attention in seen:
        assert attention.shape[1:] == (3, 25, 25) and torch.allclose(attention.sum(3), torch.ones(1), atol=1e-4)
    # Queries and keys start with unit variance: attention starts almost one-hot.
    assert seen[0].amax(3).mean() > 0.9
    assert out.graph.flatten(1).shape == (2, 1875) and torch.allclose(out.graph.sum(3), torch.ones(1), atol=1e-4)
    assert out.features.shape == (2, 256) and not torch.equal(out.features, out.latent.mean)
    model.eval()
    with torch.no_grad():
        first, second = model(x), model(x)
    assert torch.equal(first.features, second.features) and torch.equal(first.features, first.latent.mean)
    assert torch.allclose(model.priors @ model.priors.T, 9 * torch.eye(60), atol=1e-4)
    assert "priors" in model.state_dict() and not model.priors.requires_grad
    with pytest.raises(ValueError, match="orthogonal"):
        InfoGCN(257)


def test_infogcn_attention_of_a_test_has_no_denormal_weights():
    torch.manual_seed(0)
    part = InfoGCN(5, "kinect20", 1).blocks[0].graph.convolution
    with torch.no_grad():
        part.query_key.weight *= 12
    frames = torch.randn(40, 20, 64)
    smallest = torch.finfo(torch.float32).tiny
    sharp = part.attention(frames).detach()
    assert ((sharp > 0) & (sharp < smallest)).any(), "the example is not sharp enough"
    part.eval()
    tested = part.attention(frames).detach()
    assert tested.min() > 1e-30 and (tested - sharp).abs().max() <= 1e-7


def test_adjacency_of_the_layouts():
    for layout, total, square in ((NTU25, 69, 67.75), (KINECT20, 54, 52.75)):
        parts = spatial_partition(layout)
        assert parts.sum() == pytest.approx(total) and (parts**2).sum() == pytest.approx(square)
        columns = parts.sum(1)
        assert np.all(np.isclose(columns, 1) | (columns == 0))
    parts = spatial_partition(NTU25)
    assert np.flatnonzero(parts[1, 20]).tolist() == [1, 2, 4, 8] and np.flatnonzero(parts[1, 0]).tolist() == [12, 16]
    assert np.flatnonzero(parts[2].sum(0) == 0).tolist() == [3, 15, 19, 21, 23]
    assert np.allclose(parts[2, [1, 2, 4, 8], 20], 0.25) and np.allclose(parts[2, [12, 16], 0], 0.5)
