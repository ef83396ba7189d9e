"""GL-Transformer: published sizes and costs, parity with a plain transcription, padding, the specification's checks."""

import pytest
import torch

from engine.methods.displacement import DisplacementHeads
from engine.models.gl_transformer import (
    CARD,
    ECONOMICAL,
    GLTransformer,
    multiply_adds,
    valid_frames,
)
from engine.models.ragged import Attention, Rows, _fused, attend
from engine.skeleton.layout import get_layout
from tests.engine.models.plain.gl_transformer import PlainGLTransformer

SMALL = {"frames": 12, "channels": 8, "blocks": 2, "heads": 4}
UNUSED_TOKEN = 2_400  # the reference keeps one vector per frame that nothing reads


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


def build(layout="ntu25", persons=2, dtype=torch.float64, shake=0.2, **args):
    torch.manual_seed(0)
    encoder = GLTransformer(4, layout, persons, **SMALL | {"dropout": 0.0, "drop_path": 0.0} | args)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(shake * torch.randn_like(parameter))
    return encoder.to(dtype)


def padded(lengths=(5, 9, 12), frames=12, layout="ntu25", persons=2, dtype=torch.float64, seed=1):
    torch.manual_seed(seed)
    clips = torch.randn(len(lengths), 3, frames, get_layout(layout).num_joints, persons, dtype=dtype)
    for clip, length in zip(clips, lengths):
        clip[:, length:] = 99.9
    return clips


def test_published_parameter_counts():
    with torch.device("meta"):
        encoder, heads = GLTransformer(60), DisplacementHeads()
        one = DisplacementHeads(intervals=1)
        shorter = {frames: GLTransformer(60, frames=frames) for frames in (100, 50)}
        kinect = GLTransformer(10, "kinect20", 1, frames=50)
    bare = size(encoder) - size(encoder.classifier)
    assert bare == 198_883_200 == 198_885_600 - UNUSED_TOKEN
    assert bare + size(heads) == 214_369_650 == 214_372_050 - UNUSED_TOKEN
    assert size(encoder) == 199_027_260 == 199_029_660 - UNUSED_TOKEN and size(encoder.classifier) == 144_060
    assert [size(block) for block in encoder.encoder_blocks] == [46_835_904] * 4
    block = encoder.encoder_blocks[0]
    assert block.positional_emb.numel() == 720_000
    assert size(block.attention_sp) == 9_408 and size(block.attention_tm) == 23_049_600
    assert size(block.feedforward) == 23_047_200
    assert [size(norm) for norm in (block.norm1_sp, block.norm1_tm, block.norm2)] == [96, 4_800, 4_800]
    assert size(encoder.emb) == size(encoder.emb_global) == 192
    assert size(encoder.norm) == 4_800 and size(encoder.mlp) == 11_534_400
    assert size(one.direction) == 3_241_350 and size(one.magnitude) == 1_920_800 and size(one) == 5_162_150
    without = {frames: size(net) - size(net.classifier) for frames, net in shorter.items()}
    assert without == {100: 196_965_600 - UNUSED_TOKEN, 50: 196_485_600 - UNUSED_TOKEN}
    assert size(kinect) - size(kinect.classifier) == 31_615_680 - 960


def test_costs():
    assert multiply_adds(300, 50) == 61_323_120_000
    heads = 300 * 2400 * 3 * 50 * (27 + 16)
    assert multiply_adds(300, 50) + heads == 65_967_120_000
    assert multiply_adds(64, 50, 16, 2) == 767_334_400
    with torch.device("meta"):
        economical = GLTransformer(60, **ECONOMICAL)
    assert size(economical) == 11_696_828
    assert "11,696,828" in CARD.notes and "0.767" in CARD.notes and CARD.gmac == 61.323


@pytest.mark.parametrize(("layout", "persons"), [("ntu25", 2), ("kinect20", 1), ("kinect20", 2)])
@pytest.mark.parametrize("lengths", [(5, 9, 12), (7, 3, 8), (12, 12), (6, 6)])
def test_equals_the_plain_transcription(layout, persons, lengths):
    encoder = build(layout, persons)
    skeleton = get_layout(layout)
    plain = PlainGLTransformer(4, skeleton.num_joints, skeleton.root, persons, **SMALL).double()
    plain.load_state_dict(encoder.state_dict())
    clips = padded(lengths, layout=layout, persons=persons)
    outs = encoder(clips), plain(clips)
    assert torch.allclose(outs[0].features, outs[1].features, atol=1e-10)
    assert torch.allclose(outs[0].logits, outs[1].logits, atol=1e-10)
    with torch.no_grad():
        ours, theirs = encoder.encode(clips), plain.frames(clips)
    longest = max(lengths)
    assert ours.frames.shape == (len(lengths), longest, encoder.feature_dim)
    assert torch.equal(ours.valid, theirs[1][:, :longest])
    assert torch.allclose(ours.frames[ours.valid], theirs[0][theirs[1]], atol=1e-10)
    assert not ours.frames[~ours.valid].any()
    assert torch.equal(encoder.encode_valid(clips), ours.frames[ours.valid])
    grads = []
    for net, out in zip((encoder, plain), outs):
        (out.logits.square().sum() + out.features.sin().sum()).backward()
        grads.append({key: parameter.grad for key, parameter in net.named_parameters()})
    for key, grad in grads[1].items():
        assert torch.allclose(grads[0][key], grad, atol=1e-9 * max(1.0, grad.abs().max())), key


def test_graph_path_equals_the_packed_one(monkeypatch):
    encoder = build().eval()
    clips = padded((5, 9, 0, 1))
    with torch.no_grad():
        packed, frames = encoder(clips), encoder.encode_valid(clips)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        dense, same = encoder(clips), encoder.encode_valid(clips)
    assert torch.allclose(packed.features, dense.features, atol=1e-10)
    assert frames.shape == same.shape and torch.allclose(frames, same, atol=1e-10)


def test_attention_with_and_without_the_fused_kernel():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 6)
    keys = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    keys[1, ..., 4:] = False
    fused = attend(query, key, value, keys, 0.0)
    written = attend(query, key, value, keys, 1e-9)
    assert torch.allclose(fused, written, atol=1e-5)
    weights = torch.softmax(query @ key.transpose(-2, -1) / 6**0.5 + torch.where(keys, 0.0, -1e9), -1)
    assert torch.allclose(fused, weights @ value, atol=1e-5)


def test_heads_lengthened_for_gpu_kernels_give_the_same():
    torch.manual_seed(0)
    keys = torch.rand(2, 1, 1, 7) < 0.7
    keys[..., 0] = True
    for size in (6, 8, 12):
        query, key, value = torch.randn(3, 2, 4, 7, size, dtype=torch.float64)
        for mask in (None, keys):
            plain, longer = (_fused(query, key, value, mask, 0.0, step) for step in (1, 8))
            assert longer.shape == plain.shape and torch.allclose(longer, plain, atol=1e-12)


@pytest.mark.parametrize("lengths", [(12, 12), (5, 9)])
def test_weights_are_what_attention_uses(lengths):
    torch.manual_seed(0)
    attention = Attention(16, 4, 0.0).double()
    valid = torch.arange(12) < torch.tensor(lengths)[:, None]
    rows = Rows(2, 12) if valid.all() else Rows(2, 12, valid, valid.flatten().nonzero().view(-1))
    x = torch.randn(2, 12, 16, dtype=torch.float64)
    with torch.no_grad():
        weights = attention.weights(rows.pack(x), rows)
        value = attention.qkv(x)[..., 32:].view(2, 12, 4, 4).transpose(1, 2)
        seen = attention.proj((weights @ value).transpose(1, 2).reshape(2, 12, 16))
        out = rows.unpack(attention(rows.pack(x), rows))
    assert weights.shape == (2, 4, 12, 12) and torch.allclose(weights.sum(-1), torch.ones(2, 4, 12).double())
    assert not weights.transpose(1, 3)[~valid].any()
    assert torch.allclose(out[valid], seen[valid], atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_content_of_padding_changes_nothing(training):
    encoder = build().train(training)
    clips = padded((5, 9, 11))
    other = clips.clone()
    valid = valid_frames(clips)
    other.permute(0, 2, 1, 3, 4)[~valid] = torch.randn(int((~valid).sum()), 3, 25, 2, dtype=torch.float64)
    with torch.no_grad():
        a, b = encoder(clips), encoder(other, valid=valid)
        assert torch.equal(a.features, b.features) and torch.equal(a.logits, b.logits)
        assert torch.equal(encoder.encode(clips).frames, encoder.encode(other, valid).frames)
        other[..., :5, :, :] += 1
        assert not torch.equal(encoder(other, valid=valid).features, a.features)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fill", [99.9, 0.0])
def test_padding_is_recognised_in_every_float_type(fill, dtype):
    clips = torch.where(padded((5, 300), 300, dtype=torch.float32) == 99.9, fill, padded((5, 300), 300).float())
    expected = torch.arange(300) < torch.tensor([[5], [300]])
    # 99.9 as float32 is another number when widened, and another one in half precision.
    assert clips.to(dtype).double()[0, 0, 5, 0, 0].item() != 99.9
    assert torch.equal(valid_frames(clips.to(dtype)), expected)
    assert torch.equal(valid_frames(clips.to(dtype).double()), expected)


def test_zeros_are_padding_at_the_end_only():
    clips = padded((9, 12, 12, 12))
    clips[clips == 99.9] = 0
    clips[0, :, 3:5] = 0  # nobody for a while
    clips[1, :, :2] = 0
    clips[2] = 0
    clips[3, :, 1:] = 0
    clips[3, 1, 6, 7, 1] = torch.nan  # a broken number is no padding
    expected = [[True] * 9 + [False] * 3, [True] * 12, [False] * 12, [True] * 7 + [False] * 5]
    assert valid_frames(clips).tolist() == expected
    encoder = build().eval()
    marked = clips[:3].clone()
    marked.permute(0, 2, 1, 3, 4)[~torch.tensor(expected[:3])] = 99.9
    with torch.no_grad():
        a, b = encoder(clips[:3]).features, encoder(marked).features
    assert torch.equal(a[:2], b[:2]) and a.isfinite().all()


def test_trimmed_tables_give_the_same():
    encoder = build().eval()
    clips = padded((5, 7))
    longer = build(frames=30).eval()
    state = encoder.state_dict()
    for key in state:
        if key.endswith("positional_emb"):
            state[key] = torch.cat([state[key], torch.randn_like(longer.state_dict()[key])[:, :18]], 1)
    longer.load_state_dict(state)
    with torch.no_grad():
        expected = encoder(clips).features
        assert torch.allclose(encoder(clips[:, :, :7]).features, expected, atol=1e-12)
        assert torch.allclose(longer(clips).features, expected, atol=1e-12)
    with pytest.raises(ValueError, match="13 frames, the positional tables 12"):
        encoder(torch.zeros(1, 3, 13, 25, 2, dtype=torch.float64))


def test_pooling_short_and_empty_clips():
    encoder = build().eval()
    clips = padded((5, 1, 0))
    with torch.no_grad():
        out, (frames, valid) = encoder(clips), encoder.encode(clips)
    assert valid.sum(1).tolist() == [5, 1, 1]
    mean = (frames * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
    assert torch.allclose(out.features, mean, atol=1e-12)
    assert torch.allclose(out.features[1], frames[1, 0], atol=1e-12)
    assert torch.allclose(out.features[2], frames[2, 0], atol=1e-12) and out.logits.isfinite().all()
    gap = padded((9,))
    gap[:, :, 3:5] = 99.9
    with torch.no_grad():
        kept = encoder.encode(gap)
        assert kept.valid.tolist() == [[True] * 3 + [False] * 2 + [True] * 4]
        assert torch.allclose(encoder(gap).features[0], kept.frames[0][kept.valid[0]].mean(0), atol=1e-12)


def test_one_token_changes_every_frame_but_only_after_temporal_attention():
    encoder = build().eval()
    clips = padded((9, 9))
    other = clips.clone()
    other[0, 1, 4, 17, 1] += 1.0
    before = []
    hook = encoder.encoder_blocks[0].norm1_tm.register_forward_pre_hook(lambda _, args: before.append(args[0]))
    with torch.no_grad():
        a, b = encoder.encode(clips).frames, encoder.encode(other).frames
    hook.remove()
    changed = (a != b).any(2)
    assert changed[0].all() and not changed[1].any()
    assert (before[0] != before[1]).any(-1).nonzero().tolist() == [[0, 4]]


def test_frames_are_a_set_until_tables_are_learned():
    encoder = build().eval()
    clips = padded((9,))
    order = torch.randperm(9)
    shuffled = clips.clone()
    shuffled[:, :, :9] = clips[:, :, order]

    def encode(x):
        with torch.no_grad():
            return encoder.encode(x).frames

    assert not torch.allclose(encode(shuffled), encode(clips)[:, order], atol=1e-3)
    for block in encoder.encoder_blocks:
        block.positional_emb.data.zero_()
    assert torch.allclose(encode(shuffled), encode(clips)[:, order], atol=1e-10)


@pytest.mark.parametrize("packed", [False, True])
def test_a_silent_block_adds_its_table_twice(packed):
    block = build().encoder_blocks[1]
    for linear in (block.attention_sp.proj, block.attention_tm.proj, block.feedforward.fc2):
        torch.nn.init.zeros_(linear.weight), torch.nn.init.zeros_(linear.bias)
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[0, 7:] = not packed
    rows = Rows(2, 12, valid, valid.flatten().nonzero().view(-1)) if packed else Rows(2, 12)
    x = torch.randn(2, 12, 50, 8, dtype=torch.float64)
    with torch.no_grad():
        out = rows.unpack(block(rows.pack(x), rows))
    assert torch.allclose(out[valid], (x + 2 * block.positional_emb)[valid], atol=1e-12)


def test_initialisation():
    torch.manual_seed(0)
    encoder = GLTransformer(4, channels=48, blocks=1, frames=6).eval()
    assert not encoder.encoder_blocks[0].positional_emb.any()
    linear = encoder.encoder_blocks[0].feedforward.fc1
    assert linear.weight.abs().max().item() == pytest.approx(2400**-0.5, rel=0.01)
    with torch.no_grad():
        frames = encoder.encode(torch.randn(2, 3, 6, 25, 2)).frames
        features = encoder(torch.randn(2, 3, 6, 25, 2)).features
    assert torch.allclose(frames.mean(2), torch.zeros(2, 6), atol=1e-4)
    assert torch.allclose(frames.std(2, correction=0), torch.ones(2, 6), atol=1e-3)
    assert torch.allclose(features.mean(1), torch.zeros(2), atol=1e-4)
    rates = [block.rate for block in GLTransformer(4, **SMALL | {"blocks": 4}).encoder_blocks]
    assert rates == pytest.approx([0, 1 / 30, 1 / 15, 0.1])


@pytest.mark.parametrize("lengths", [(12, 12, 12), (5, 9, 12)])
def test_drop_path_per_frame_and_per_clip(lengths):
    torch.manual_seed(0)
    valid = torch.arange(12) < torch.tensor(lengths)[:, None]
    flat = None if valid.all() else valid.flatten().nonzero().view(-1)
    rows = Rows(3, 12, None if flat is None else valid, flat)
    x = rows.pack(torch.ones(3, 12, 4, 2))
    whole, single = set(), set()
    for _ in range(40):
        per_clip = rows.unpack(rows.drop_path(x, 0.4, per_clip=True))
        per_frame = rows.unpack(rows.drop_path(x, 0.4, per_clip=False))
        for i in range(3):
            whole.add(len(per_clip[i][valid[i]].unique()))
            single.add(len(per_frame[i][valid[i]].flatten(1).unique(dim=0)))
            assert len(per_frame[i, 0].unique()) == 1
        kept = torch.cat([per_clip[valid].flatten(), per_frame[valid].flatten()])
        assert torch.allclose(kept[kept > 0], torch.tensor(1 / 0.6))
    assert whole == {1} and 2 in single


def test_dropout_in_training_only():
    encoder = build(dropout=0.1, drop_path=0.5)
    clips = padded()
    torch.manual_seed(3)
    first = encoder(clips).features
    torch.manual_seed(3)
    assert torch.equal(first, encoder(clips).features) and not torch.equal(first, encoder(clips).features)
    encoder.eval()
    assert torch.equal(encoder(clips).features, encoder(clips).features)


def test_every_parameter_learns():
    encoder = build(shake=0.02, dtype=torch.float32)
    heads = DisplacementHeads(encoder.feature_dim, encoder.tokens)
    clips = padded((5, 9, 12), dtype=torch.float32)
    frames, valid = encoder.encode(clips)
    direction, magnitude = heads(frames[valid])
    assert direction.shape == (26, 150, 27) and magnitude.shape == (26, 150, 16)
    direction.square().sum().add(magnitude.square().sum()).backward()
    for name, parameter in [*encoder.named_parameters(), *heads.named_parameters()]:
        if name.startswith("classifier"):
            assert parameter.grad is None
        else:
            assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_heads_stack_as_published():
    torch.manual_seed(0)
    heads = DisplacementHeads(16, 5, 2)
    frames = torch.randn(2, 7, 16)
    direction, magnitude = heads(frames)
    assert direction.permute(0, 3, 1, 2).shape == (2, 27, 7, 10)
    assert magnitude.permute(0, 3, 1, 2).shape == (2, 16, 7, 10)
    # Interval 1, token 3, class 20: output 27 j + k of that interval's own layer.
    row = (1 * 5 + 3) * 27 + 20
    expected = frames @ heads.direction.weight[row] + heads.direction.bias[row]
    assert torch.allclose(direction[..., 8, 20], expected, atol=1e-5)


def test_the_roots_slot_has_an_embedding_of_its_own():
    for layout, persons, tokens in [("ntu25", 2, [40, 41]), ("kinect20", 1, [2]), ("ntu25", 1, [20])]:
        encoder = build(layout, persons)
        assert list(range(encoder.tokens))[encoder.root] == tokens
        x = torch.randn(1, encoder.tokens, 3, dtype=torch.float64)
        with torch.no_grad():
            before = encoder._embed(x)
            encoder.emb_global.bias.add_(1.0)
            changed = (encoder._embed(x) != before).any(2)[0]
        assert changed.nonzero().view(-1).tolist() == tokens


def test_bad_arguments():
    with pytest.raises(ValueError, match="16 channels do not divide into 6 heads"):
        GLTransformer(4, channels=16, heads=6)
