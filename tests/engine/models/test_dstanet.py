"""DSTA-Net: published sizes, the equations against a plain transcription, both memory layouts, initialisation."""

import math

import pytest
import torch

from engine.models import dstanet
from engine.models.dstanet import DSTANet, JointAttention, joint_code
from engine.skeleton.layout import get_layout
from tests.engine.models.plain.dstanet import PlainDSTANet

PER_BLOCK = [16_598, 16_598, 53_302, 53_750, 205_078, 208_022, 208_022, 784_918]


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


def shaken(layout="ntu25", persons=2, dtype=torch.float64, **args):
    """Away from the initialisation, at which maps are flat and norms are plain."""
    torch.manual_seed(0)
    encoder = DSTANet(4, layout, persons, **args)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.to(dtype)


def test_published_parameter_counts():
    encoder = DSTANet(60)
    assert size(encoder) == 1_561_900 and size(DSTANet(120)) == 1_577_320
    assert [size(block) for block in encoder.blocks] == PER_BLOCK
    assert size(encoder.stem[0]) == 128 and size(encoder.stem[1]) == 64
    backbone = size(encoder) - size(encoder.classifier)
    assert backbone == 1_546_480
    projection = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 128))
    assert backbone + size(projection) == 1_645_168


@pytest.mark.parametrize(("layout", "persons"), [("ntu25", 2), ("kinect20", 1)])
def test_equals_the_plain_transcription(layout, persons):
    encoder = shaken(layout, persons)
    joints = get_layout(layout).num_joints
    plain = PlainDSTANet(4, joints).double()
    plain.load_state_dict(encoder.state_dict())
    clips = torch.randn(2, 3, 11, joints, persons, dtype=torch.float64)
    for train in (True, False):
        encoder.train(train), plain.train(train)
        outs = encoder(clips, want_graph=True), plain(clips)
        scale = outs[1].features.abs().max().item()
        assert torch.allclose(outs[0].features, outs[1].features, atol=1e-10 * scale)
        assert torch.allclose(outs[0].logits, outs[1].logits, atol=1e-10 * scale)
        # Ours has the receiving joint in the rows, like the graph convolutions.
        assert torch.allclose(outs[0].graph.transpose(2, 3), outs[1].graph, atol=1e-10)
        grads = []
        for net, out in zip((encoder, plain), outs):
            net.zero_grad()
            (out.logits / scale).square().sum().backward()
            grads.append({key: parameter.grad for key, parameter in net.named_parameters()})
        for key, grad in grads[1].items():
            assert torch.allclose(grads[0][key], grad, atol=1e-8 * max(1.0, grad.abs().max().item())), key


def test_both_memory_layouts_compute_the_same(monkeypatch):
    encoder = shaken().eval()
    clips = torch.randn(2, 3, 11, 25, 2, dtype=torch.float64)
    with torch.no_grad():
        pixels = encoder(clips, want_graph=True)
        monkeypatch.setattr(dstanet, "exporting", lambda: True)
        planes = encoder(clips, want_graph=True)
    assert torch.allclose(pixels.features, planes.features, atol=1e-10 * pixels.features.abs().max().item())
    assert torch.allclose(pixels.graph, planes.graph, atol=1e-12)


def test_attention_against_explicit_loops():
    torch.manual_seed(0)
    layer = JointAttention(4, 6, 2, 3).double()
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.5, 1.0, 2.0]).view(1, 3, 1, 1))
        layer.shared.normal_()
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    weight, bias = layer.query_key.weight[:, :, 0, 0], layer.query_key.bias
    with torch.no_grad():
        _, maps = layer(x)
        for n in range(2):
            for s in range(3):
                for u in range(3):
                    for v in range(3):
                        total = 0.0
                        for t in range(5):
                            at_u = weight @ (x[n, :, t, u] + layer.code[:, 0, u]) + bias
                            at_v = weight @ (x[n, :, t, v] + layer.code[:, 0, v]) + bias
                            total += float(at_u[2 * s : 2 * s + 2] @ at_v[6 + 2 * s : 6 + 2 * s + 2])
                        expected = math.tanh(total / 10) * layer.alpha[0, s, 0, 0] + layer.shared[0, s, u, v]
                        assert maps[n, s, u, v].item() == pytest.approx(expected.item(), abs=1e-12)


def test_joint_code():
    code = joint_code(25, 32)
    assert code.shape == (32, 25) and code.dtype == torch.float32
    assert torch.equal(code[0::2, 0], torch.zeros(16)) and torch.equal(code[1::2, 0], torch.ones(16))
    assert code[0, 3].item() == pytest.approx(math.sin(3)) and code[1, 3].item() == pytest.approx(math.cos(3))
    assert code[6, 24].item() == pytest.approx(math.sin(24 / 10000 ** (6 / 32)))
    assert "blocks.0.attention.code" not in DSTANet(4).state_dict()


def test_temporal_lengths():
    encoder = DSTANet(4).eval()
    lengths = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _, __, out: lengths.append(out[0].shape[2]))
    with torch.no_grad():
        encoder(torch.randn(1, 3, 50, 25, 1).expand(-1, -1, -1, -1, 2))
    assert lengths == [50, 50, 25, 25, 13, 13, 13, 13]


def test_initialisation():
    torch.manual_seed(0)
    encoder = DSTANet(60)
    assert encoder.blocks[7].temporal[0].weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert encoder.classifier.weight.std().item() == pytest.approx(0.02, rel=0.02)
    norms = torch.cat([m.weight for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    assert norms.mean().item() == pytest.approx(1.0, abs=0.002) and norms.std().item() == pytest.approx(0.02, rel=0.1)
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        if name.endswith("alpha"):
            assert torch.all(parameter == 1), name
        if name.endswith("shared"):
            assert torch.all(parameter == 1 / 25), name


def test_persons_and_clips_in_any_order():
    encoder = shaken(dtype=torch.float32).eval()
    clips = torch.randn(4, 3, 20, 25, 2)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        features = encoder(clips).features
        scale = features.abs().max().item()
        assert torch.allclose(encoder(clips.flip(4)).features, features, atol=1e-5 * scale)
        assert torch.allclose(encoder(clips[order]).features, features[order], atol=1e-5 * scale)


def test_an_absent_person_is_averaged_in():
    encoder = shaken().eval()
    clips = torch.randn(2, 3, 20, 25, 2, dtype=torch.float64)
    clips[..., 1] = 0
    with torch.no_grad():
        both = encoder(clips).features
        alone = encoder(clips[..., :1].expand(-1, -1, -1, -1, 2)).features
        nobody = encoder(torch.zeros_like(clips)).features
    assert torch.allclose(both, (alone + nobody) / 2, rtol=1e-10)


def test_residual_drop_acts_in_training_only_and_on_the_temporal_path():
    encoder = shaken(residual_drop=0.5)
    clips = torch.randn(2, 3, 12, 25, 2, dtype=torch.float64)
    assert not torch.equal(encoder(clips).features, encoder(clips).features)
    encoder.eval()
    assert torch.equal(encoder(clips).features, encoder(clips).features)
    block = encoder.train().blocks[0]
    x = torch.randn(2, 32, 6, 25, dtype=torch.float64)
    seen = []
    block.residual_drop.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    block.temporal.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    block(x)
    assert torch.equal(seen[0], seen[1])


def test_gradients_reach_everything():
    encoder = shaken(dtype=torch.float32)
    encoder(torch.randn(3, 3, 13, 25, 2)).logits.logsumexp(1).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A bias in front of a batch norm moves nothing.
        if not name.endswith("0.bias"):
            assert parameter.grad.any(), name
