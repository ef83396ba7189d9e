"""GRU encoder of CMD and I2MD: sizes, the recurrent trap, causality, frame order, initialisation, gradients."""

import math

import pytest
import torch
from torch import nn

from engine.models.gru import BidirectionalGRUEncoder, GRUEncoder, ProjectionHead, _Recurrence
from engine.skeleton.layout import get_layout
from tests.engine.models.plain.gru import PlainGRU

HIDDEN = 12


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


def shaken(encoder, dtype=torch.float64):
    """Away from the initialisation: norms and biases take part."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder.to(dtype)


def library(encoder):
    """The same weights in the library's bidirectional GRU: ``first`` is its forward, ``second`` its reverse half."""
    layers = len(encoder.layers)
    gru = nn.GRU(encoder.layers[0].first.input_size, HIDDEN, layers, bidirectional=True).double()
    state = {}
    for i, layer in enumerate(encoder.layers):
        for key, value in layer.first.state_dict().items():
            state[key.replace("_l0", f"_l{i}")] = value
        for key, value in layer.second.state_dict().items():
            state[key.replace("_l0", f"_l{i}_reverse")] = value
    gru.load_state_dict(state)
    return gru


def build(kind=GRUEncoder, layout="ntu25", persons=2, **args):
    torch.manual_seed(0)
    return shaken(kind(4, layout, persons, hidden=HIDDEN, **args))


@pytest.mark.parametrize("kind", [GRUEncoder, BidirectionalGRUEncoder])
def test_published_parameter_counts(kind):
    with torch.device("meta"):
        encoders = {classes: kind(classes) for classes in (60, 120, 51)}
        head = ProjectionHead()
    assert {k: size(v) for k, v in encoders.items()} == {60: 45_121_896, 120: 45_244_836, 51: 45_103_455}
    encoder = encoders[60]
    assert size(encoder.input_norm) == 300 and size(encoder.layers) == 44_998_656
    assert [size(layer) for layer in encoder.layers] == [7_225_344, 18_886_656, 18_886_656]
    assert size(head) == 4_196_352 + 262_272 == 4_458_624
    pretraining = [*encoder.input_norm.parameters(), *encoder.layers.parameters(), *head.parameters()]
    assert sum(p.numel() for p in pretraining) == 49_457_580 and len(pretraining) == 30
    assert {k: size(v.classifier) for k, v in encoders.items()} == {60: 122_940, 120: 245_880, 51: 104_499}


def test_other_layouts_change_only_norm_and_first_layer():
    encoder = GRUEncoder(10, "kinect20", 1, hidden=HIDDEN)
    assert encoder.input_norm.num_features == 60
    assert encoder.layers[0].first.input_size == 60 and encoder.layers[1].first.input_size == 2 * HIDDEN


def test_a_frame_is_joint_then_coordinate_then_person():
    encoder = build()
    clips = torch.arange(2 * 3 * 4 * 25 * 2, dtype=torch.float64).view(2, 3, 4, 25, 2)
    seen = []
    encoder.input_norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(clips)
    frames = seen[0].view(4, 2, 150)
    for joint, axis, person in [(0, 0, 0), (0, 0, 1), (7, 2, 0), (24, 1, 1)]:
        assert torch.equal(frames[:, :, 6 * joint + 2 * axis + person].t(), clips[:, axis, :, joint, person])


@pytest.mark.parametrize(("layout", "persons"), [("ntu25", 2), ("kinect20", 1)])
def test_equals_the_plain_transcription(layout, persons):
    encoder = build(layout=layout, persons=persons)
    joints = get_layout(layout).num_joints
    plain = PlainGRU(4, joints, persons, HIDDEN).double()
    plain.load_state_dict(encoder.state_dict())
    clips = torch.randn(3, 3, 9, joints, persons, dtype=torch.float64)
    for train in (True, False):
        encoder.train(train), plain.train(train)
        outs = encoder(clips), plain(clips)
        assert torch.allclose(outs[0].features, outs[1].features, atol=1e-12)
        assert torch.allclose(outs[0].logits, outs[1].logits, atol=1e-12)
        grads = []
        for net, out in zip((encoder, plain), outs):
            net.zero_grad()
            (out.logits.square().sum() + out.features.sin().sum()).backward()
            grads.append({key: parameter.grad for key, parameter in net.named_parameters()})
        for key, grad in grads[0].items():
            assert grad.abs().max() > 0 and torch.allclose(grad, grads[1][key], atol=1e-10), key
    for key, value in encoder.state_dict().items():
        assert torch.allclose(value, plain.state_dict()[key]), key


def test_equals_a_bidirectional_gru_fed_frame_by_frame_and_not_an_ordinary_one():
    encoder = build().eval()
    gru = library(encoder)
    clips = torch.randn(3, 3, 20, 25, 2, dtype=torch.float64)
    with torch.no_grad():
        frames = encoder._frames(clips)
        state = torch.zeros(6, 3, HIDDEN, dtype=torch.float64)
        for frame in frames:
            out, state = gru(frame[None], state)
        features = encoder(clips).features
        ordinary = gru(frames)[0][-1]
    assert torch.allclose(features, out[0], atol=1e-12)
    for half in (slice(0, HIDDEN), slice(HIDDEN, None)):
        assert (features[:, half] - ordinary[:, half]).abs().max() > 1e-3


def test_the_bidirectional_variant_is_the_librarys():
    encoder = build(BidirectionalGRUEncoder).eval()
    gru = library(encoder)
    clips = torch.randn(3, 3, 20, 25, 2, dtype=torch.float64)
    with torch.no_grad():
        out, final = gru(encoder._frames(clips))
        assert torch.allclose(encoder.states(clips), out.transpose(0, 1), atol=1e-12)
        # Final states of the top layer: forward half at the last frame, reverse half at the first.
        assert torch.allclose(encoder(clips).features, torch.cat([final[4], final[5]], 1), atol=1e-12)


def test_causality():
    encoder = build().eval()
    clips = torch.randn(2, 3, 16, 25, 2, dtype=torch.float64)
    early, late = clips.clone(), clips.clone()
    early[:, :, 0] += 1
    late[:, :, 10:] += 1
    with torch.no_grad():
        states = encoder.states(clips)
        assert torch.equal(encoder(clips).features, states[:, -1])
        moved = (encoder(early).features - states[:, -1]).abs()
        assert moved[:, :HIDDEN].max() > 0 and moved[:, HIDDEN:].max() > 0
        assert torch.equal(encoder.states(late)[:, :10], states[:, :10])
        assert (encoder.states(late)[:, 10] != states[:, 10]).any()


def test_an_absent_person_is_zeros_in_the_same_sequence():
    encoder = build().eval()
    clips = torch.randn(2, 3, 8, 25, 2, dtype=torch.float64)
    clips[..., 1] = 0
    swapped = clips.flip(4)
    with torch.no_grad():
        assert not torch.allclose(encoder(clips).features, encoder(swapped).features)
        assert encoder(torch.zeros_like(clips)).features.isfinite().all()


def test_training_and_evaluation_statistics():
    encoder = GRUEncoder(4, hidden=HIDDEN).double()
    clips = 3 + 2 * torch.randn(5, 3, 8, 25, 2, dtype=torch.float64)
    encoder(clips)
    frames = clips.permute(0, 2, 3, 1, 4).reshape(40, 150)
    assert torch.allclose(encoder.input_norm.running_mean, 0.1 * frames.mean(0))
    assert torch.allclose(encoder.input_norm.running_var, 0.9 + 0.1 * frames.var(0))


def test_initialisation():
    torch.manual_seed(0)
    encoder, head = GRUEncoder(60), ProjectionHead()
    bounds = {"weight_ih_l0": [0.0432, 0.0342, 0.0342], "weight_hh_l0": [0.0383] * 3}
    for name, expected in bounds.items():
        for layer, bound in zip(encoder.layers, expected):
            for gru in (layer.first, layer.second):
                weight = getattr(gru, name)
                assert weight.abs().max().item() == pytest.approx(bound, abs=1e-4)
                assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    for layer in encoder.layers:
        assert layer.first.bias_hh_l0.abs().max().item() == pytest.approx(1 / 32, rel=0.01)
    assert head.out.weight.abs().max().item() == pytest.approx(0.0525, abs=1e-4)
    assert head.hidden.weight.abs().max().item() == pytest.approx(1 / math.sqrt(2048), rel=0.01)
    assert encoder.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not encoder.classifier.bias.any()


def test_embeddings_are_unit_vectors_in_half_precision_too():
    torch.manual_seed(0)
    head = ProjectionHead(16, 8)
    features = torch.randn(5, 16)
    assert head(features).shape == (5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        embedded = head(features)
    assert embedded.dtype == torch.float32
    assert torch.allclose(embedded.norm(dim=1), torch.ones(5), atol=1e-6)


def test_gradient_of_the_recurrence_is_the_numerical_one():
    torch.manual_seed(0)
    arguments = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((5, 2, 9), (9, 3), (9,))]
    assert torch.autograd.gradcheck(_Recurrence.apply, arguments)


def test_frozen_and_half_trained_encoders():
    encoder = build(layers=2)
    clips = torch.randn(2, 3, 6, 25, 2, dtype=torch.float64)
    expected = encoder.eval()(clips).features
    for parameter in encoder.layers[0].parameters():
        parameter.requires_grad_(False)
    out = encoder(clips).features
    assert torch.allclose(out, expected, atol=1e-12)
    out.sum().backward()
    assert encoder.layers[0].first.weight_hh_l0.grad is None
    assert encoder.layers[1].first.weight_hh_l0.grad.any() and encoder.input_norm.weight.grad.any()
    encoder.requires_grad_(False)
    assert not encoder(clips).features.requires_grad


def test_half_precision_stays_close():
    torch.manual_seed(0)
    encoder = GRUEncoder(4, hidden=32)
    clips = torch.randn(4, 3, 16, 25, 2)
    encoder(clips).features.square().sum().backward()
    exact = [parameter.grad.clone() for parameter in encoder.layers.parameters()]
    expected = encoder(clips).features
    encoder.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = encoder(clips).features
        with torch.no_grad():
            assert (encoder(clips).features.float() - expected).abs().max() < 0.02
    out.float().square().sum().backward()
    assert (out.float() - expected).abs().max() < 0.02
    for parameter, grad in zip(encoder.layers.parameters(), exact):
        assert (parameter.grad - grad).norm() < 0.05 * grad.norm()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_graph_has_forward_nodes_only(tmp_path):
    import onnx

    encoder = build().float().eval()
    path = tmp_path / "gru.onnx"
    with pytest.warns(UserWarning, match="batch_size other than 1"):
        torch.onnx.export(
            encoder, (torch.zeros(2, 3, 8, 25, 2),), str(path), dynamo=False, opset_version=17, input_names=["clips"]
        )
    nodes = [node for node in onnx.load(str(path)).graph.node if node.op_type == "GRU"]
    directions = [a.s for node in nodes for a in node.attribute if a.name == "direction"]
    assert len(nodes) == 6 and all(direction == b"forward" for direction in directions)
