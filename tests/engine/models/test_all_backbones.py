"""All registered backbones: shapes, gradients, determinism, empty persons, odd lengths, layouts, export, round trip."""

import inspect

import numpy as np
import pytest
import torch

from engine.data.preprocess import Preprocessing
from engine.deploy.export import export_onnx
from engine.deploy.runtime import load_runtime
from engine.models.backbone_card import BackboneCard
from engine.models.card import CheckpointCard
from engine.models.checkpoint import BACKBONES, build_encoder, load_encoder, save_checkpoint
from engine.models.persons import PersonFolding, PresentPersons
from engine.skeleton.layout import get_layout

# Narrower than published where the width is an argument: the same code in a fraction of the time.
SMALL = {
    "ctrgcn": {"base_channels": 16},
    "agcn": {"base_channels": 16},
    "infogcn": {"base_channels": 16},
    "gru": {"hidden": 16},
    "gru_bidirectional": {"hidden": 16},
    "gl_transformer": {"frames": 26, "channels": 8, "blocks": 2, "heads": 4},
}
CLASSES = 5
# Not a multiple of the strides, and not one of a power of two either.
FRAMES = 13

every_backbone = pytest.mark.parametrize("name", sorted(BACKBONES))
folding = pytest.mark.parametrize("name", sorted(k for k, v in BACKBONES.items() if issubclass(v, PersonFolding)))


def build(name, layout="ntu25", persons=2, seed=0):
    torch.manual_seed(seed)
    return build_encoder(name, CLASSES, layout, persons, SMALL.get(name, {}))


def clips(n=2, layout="ntu25", persons=2, frames=FRAMES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, frames, get_layout(layout).num_joints, persons, generator=generator)


def trained(name, layout="ntu25", persons=2, frames=FRAMES):
    """An encoder whose norms have statistics and whose zero or tiny scales have grown, as after training."""
    encoder = build(name, layout, persons)
    torch.manual_seed(2)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.add_(0.3 * torch.rand_like(module.weight))
                module.bias.add_(0.1 * torch.randn_like(module.bias))
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.5
            if hasattr(module, "alpha"):
                module.alpha.add_(0.2)
        for turn in range(5):
            encoder(clips(4, layout, persons, frames, 1 + turn) + 0.3)
    return encoder


@every_backbone
def test_card_says_what_is_built(name):
    card = BACKBONES[name].card
    assert isinstance(card, BackboneCard)
    with torch.device("meta"):
        encoder = BACKBONES[name](**card.setting)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == card.parameters
    assert card.paper and card.input and card.licence and 2015 < card.year <= 2026
    assert set(card.streams) <= {"joint", "bone", "joint_motion", "bone_motion"} and card.streams


@every_backbone
@pytest.mark.parametrize(
    ("layout", "persons", "frames"), [("ntu25", 2, 13), ("ntu25", 1, 7), ("kinect20", 1, 26), ("coco17", 2, 9)]
)
def test_shapes_and_gradients(name, layout, persons, frames):
    encoder = build(name, layout, persons)
    out = encoder(clips(3, layout, persons, frames), want_graph=True)
    joints = get_layout(layout).num_joints
    assert out.logits.shape == (3, CLASSES) and out.features.shape == (3, encoder.feature_dim)
    assert out.graph is None or out.graph.shape == (3, 3, joints, joints)
    loss = torch.nn.functional.cross_entropy(out.logits, torch.tensor([0, 1, 2]))
    if out.graph is not None:
        loss = loss + out.graph.square().mean()
    loss.backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    assert encoder.eval()(clips(1, layout, persons, frames)).graph is None


@every_backbone
def test_same_seed_same_result_and_clips_do_not_mix(name):
    a, b = build(name), build(name)
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key
    torch.manual_seed(3)
    first = a(clips()).logits
    torch.manual_seed(3)
    assert torch.equal(first, b(clips()).logits)
    a.eval()
    with torch.no_grad():
        both, again, alone = a(clips()).logits, a(clips()).logits, a(clips()[1:]).logits
    assert torch.equal(both, again)
    assert torch.allclose(both[1:], alone, atol=1e-5)


@every_backbone
def test_empty_persons_and_empty_clips_give_numbers(name):
    encoder = trained(name).eval()
    x = clips(3)
    x[1, ..., 1] = 0
    x[2] = 0
    with torch.no_grad():
        assert encoder(x).logits.isfinite().all()
    encoder.train()(x).logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


@folding
def test_empty_persons_need_not_be_computed(name):
    encoder = trained(name).eval()
    fast = PresentPersons(encoder, (3, FRAMES, 25, 2))
    x = clips(5)
    x[1, ..., 1] = 0
    x[2, ..., 0] = 0
    x[3] = 0
    rows = []
    fast.encoder.blocks[0].register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    with torch.no_grad():
        for part in (x, x[1:2], x[2:3], x[3:4], x[:1]):
            expected, got = encoder(part), fast(part)
            assert torch.allclose(got.logits, expected.logits, atol=1e-5)
            assert torch.allclose(got.features, expected.features, atol=1e-5)
    # Of 10, 2, 2, 2, 2 slots: those with somebody, and always the first.
    assert rows == [6, 1, 2, 1, 2]
    with pytest.raises(ValueError, match="table of empty persons"):
        fast(x[:, :, 1:])
    x[1, 0, 0, 0, 1] = float("nan")
    with torch.no_grad():
        assert not fast(x).logits[1].isfinite().any()
    assert not fast.train().encoder.training


@folding
def test_another_number_of_person_slots_is_refused(name):
    encoder = build(name, persons=2).eval()
    with pytest.raises(ValueError, match="wanted"):
        encoder(clips(4, persons=1))


@folding
def test_an_empty_slot_counts_in_training_as_published(name):
    encoder = build(name).train()
    x = clips(2)
    x[..., 1] = 0
    pooled, _ = encoder.encode(encoder.fold(x))
    assert pooled.shape == (4, encoder.pooled_dim)


@every_backbone
@pytest.mark.parametrize(("layout", "persons"), [("ntu25", 2), ("kinect20", 1)])
def test_export_equals_torch(name, layout, persons, tmp_path):
    encoder = trained(name, layout, persons)
    spec = Preprocessing(layout=layout, persons=persons, frames=FRAMES)
    card = CheckpointCard(
        name=name,
        backbone=name,
        backbone_args=SMALL.get(name, {}),
        feature_dim=encoder.feature_dim,
        classes=list("abcde"),
        preprocessing=spec,
        dataset="none",
        split="none",
    )
    save_checkpoint(tmp_path / name, card, encoder)
    loaded, _ = load_encoder(tmp_path / name)
    encoder.eval()
    x = clips(4, layout, persons)
    if persons == 2:
        x[1, ..., 1] = 0
        x[2] = 0
    with torch.no_grad():
        expected = encoder(x)
        assert torch.equal(loaded(x).logits, expected.logits)
    report = export_onnx(tmp_path / name, x.numpy())
    scale = max(1.0, float(expected.logits.abs().max()))
    assert report.max_difference < 1e-4 * scale
    for kind in ("onnx", "torch"):
        runtime = load_runtime(tmp_path / name, kind)
        for part in (slice(0, 4), slice(1, 2), slice(2, 3), slice(0, 1)):
            got = runtime.predict(x[part].numpy())
            assert np.allclose(got.logits, expected.logits[part].numpy(), atol=1e-4 * scale), kind
            assert np.allclose(got.features, expected.features[part].numpy(), atol=1e-4 * scale), kind


@every_backbone
def test_half_precision_training_step(name):
    encoder = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        out = encoder(clips(2), want_graph=True)
    out.logits.float().sum().backward()
    assert out.logits.isfinite().all() and (out.graph is None or out.graph.isfinite().all())
    assert all(p.grad is None or (p.grad.dtype == p.dtype and p.grad.isfinite().all()) for p in encoder.parameters())


@every_backbone
def test_arguments_are_the_common_ones(name):
    names = list(inspect.signature(BACKBONES[name].__init__).parameters)[1:4]
    assert names == ["num_classes", "layout", "persons"]
    with pytest.raises(KeyError, match="unknown joint layout"):
        build_encoder(name, 3, "nowhere", 1, {})
    with pytest.raises(ValueError, match=name):
        build_encoder(name, 3, "ntu25", 1, {"colour": 1})
