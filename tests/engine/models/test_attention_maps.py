"""Attention maps against attention written out joint by joint from the encoder's own weights."""

import pytest
import torch

from engine.models.attention_maps import attention_maps
from engine.models.checkpoint import build_encoder
from engine.models.gl_transformer import GLTransformer
from engine.skeleton.layout import get_layout

SMALL = {"frames": 9, "channels": 8, "blocks": 2, "heads": 2}


def shaken(layout="ntu25", persons=2):
    torch.manual_seed(0)
    encoder = GLTransformer(3, layout, persons, **SMALL)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return encoder


def clip(frames=9, layout="ntu25", persons=2):
    return torch.randn(3, frames, get_layout(layout).num_joints, persons, generator=torch.Generator().manual_seed(1))


def plain_weights(attention, x):
    """Mean over heads of softmax(q k / sqrt(size)), one head and query at a time."""
    tokens, width = x.shape
    size = width // attention.heads
    q, k, _ = attention.qkv(x).split(width, 1)
    out = torch.zeros(tokens, tokens)
    for h in range(attention.heads):
        part = slice(h * size, (h + 1) * size)
        for i in range(tokens):
            out[i] += torch.softmax((k[:, part] @ q[i, part]) / size**0.5, 0) / attention.heads
    return out


@pytest.mark.parametrize(("layout", "persons", "length"), [("ntu25", 2, 9), ("kinect20", 1, 6), ("kinect20", 2, 1)])
def test_maps_of_the_first_block(layout, persons, length):
    encoder = shaken(layout, persons).eval()
    x = clip(9, layout, persons)
    x[:, length:] = 0
    maps = attention_maps(encoder, x)
    v, root = get_layout(layout).num_joints, get_layout(layout).root
    assert maps.body_to_joints.shape == (2, length, persons, persons, v)
    assert maps.joints_to_body.shape == (2, length, persons, v, persons)
    assert maps.frames.shape == (2, length, length) and maps.root == root
    assert maps.valid.tolist() == [True] * length + [False] * (9 - length)
    block = encoder.encoder_blocks[0]
    with torch.no_grad():
        tokens = encoder._embed(x[:, :length].permute(1, 2, 3, 0).flatten(1, 2))
        z = tokens + block.positional_emb[0, :length]
        for t in range(length):
            weights = plain_weights(block.attention_sp, block.norm1_sp(z[t])).view(v, persons, v, persons)
            for p in range(persons):
                for q in range(persons):
                    ours = torch.from_numpy(maps.body_to_joints[0, t, p, q])
                    assert torch.allclose(ours, weights[root, p, :, q], atol=1e-5)
                    back = torch.from_numpy(maps.joints_to_body[0, t, q, :, p])
                    assert torch.allclose(back, weights[:, q, root, p], atol=1e-5)
        z = z + block.attention_sp(block.norm1_sp(z))
        flat = (z + block.positional_emb[0, :length]).flatten(1)
        expected = plain_weights(block.attention_tm, block.norm1_tm(flat))
    assert torch.allclose(torch.from_numpy(maps.frames[0]), expected, atol=1e-5)


def test_shares_sum_to_one_and_the_encoder_is_left_alone():
    encoder = shaken().train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    gap = torch.tensor([True, True, False, True, True, False, False, False, False])
    maps = attention_maps(encoder, clip(), gap)
    assert maps.valid.tolist() == gap.tolist() and maps.frames.shape == (2, 4, 4)
    for array, axes in ((maps.body_to_joints, (3, 4)), (maps.frames, 2)):
        assert abs(array.sum(axes) - 1).max() < 1e-5
    assert abs(maps.joints().mean((2, 3)) - 1).max() < 1e-5 and abs(maps.seen_frames().mean() - 1) < 1e-5
    assert encoder.training and not any(module._forward_pre_hooks for module in encoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    # Padding's content plays no part, and maps don't depend on dropout.
    other = clip()
    other[:, ~gap] = 5.0
    assert (attention_maps(encoder, other, gap).frames == maps.frames).all()


def test_without_difference_everything_is_read_alike():
    encoder = GLTransformer(3, "ntu25", 2, **SMALL)
    for block in encoder.encoder_blocks:
        for attention in (block.attention_sp, block.attention_tm):
            torch.nn.init.zeros_(attention.qkv.weight)
    maps = attention_maps(encoder, clip())
    assert abs(maps.joints() - 1).max() < 1e-5 and abs(maps.seen_frames() - 1).max() < 1e-5


def test_what_it_refuses():
    with pytest.raises(ValueError, match="GRUEncoder has no attention maps"):
        attention_maps(build_encoder("gru", 3, "ntu25", 2, {"hidden": 8}), clip())
    with pytest.raises(ValueError, match=r"clip is \(3, 9, 25, 1\), wanted .* 50 joints"):
        attention_maps(shaken(), clip(persons=1))
