"""HiCLR's and plain MoCo's steps against the specification, their state, and the edges that are dropped and added."""

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from engine.data.batch.recipes_hiclr import HiclrViews, basic_view, normal_view, strengthen
from engine.methods.hiclr import EdgeSettings, HiCLR, HiclrSettings
from engine.methods.hiclr_edges import changed_edges, drop_and_add
from engine.methods.moco import MoCo, MocoSettings
from engine.methods.momentum import own_generator
from engine.models.checkpoint import build_encoder
from engine.models.dstanet import DSTANet
from engine.models.persons import EncoderOutput
from engine.models.stgcn import STGCN

SMALL = {"queue_length": 12, "width": 6, "hidden": 5, "temperature": 0.5, "momentum": 0.9}
CLIP = (3, 6, 25, 2)


class Tiny(nn.Module):
    """Linear in the clip, with a batch norm, so that every forward pass leaves its mark."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 6 * 25 * 2, 8)
        self.norm = nn.BatchNorm1d(8)
        self.classifier = nn.Linear(8, 2)

    def forward(self, clips):
        features = torch.tanh(self.norm(self.layer(clips.flatten(1))))
        return EncoderOutput(self.classifier(features), features)


def tiny(**settings):
    torch.manual_seed(0)
    method = HiCLR(Tiny, 8, HiclrSettings(**SMALL | {"mining_epoch": None} | settings), steps_per_epoch=2)
    if method.token is not None:
        nn.init.constant_(method.token, 0.3)
    with torch.no_grad():
        # Away from the initialisation, at which a narrow head gives many zeros.
        for parameter in [*method.head.parameters(), *method.key.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return method.train()


def clips(n=5, seed=0, shape=CLIP):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def shared(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_step(method, x, generator, mining):
    """hiclr.md 3 and 5, in the published order, on a method whose weights and buffers it changes."""
    how, settings = method.settings.views, method.settings
    own = own_generator(generator, x.device)
    key_view, basic = basic_view(x, own, how), basic_view(x, own, how)
    normal, strong = normal_view(x, own, how), normal_view(x, own, how)
    strong = strengthen(strong, own, how, method.token)

    def embed(encoder, head, view):
        out = head(encoder(view).features)
        return out / out.square().sum(1, keepdim=True).sqrt()

    z = [embed(method.encoder, method.head, view) for view in (basic, normal, strong)]
    for theirs, mine in ((method.encoder, method.key.encoder), (method.head, method.key.head)):
        for p, q in zip(theirs.parameters(), mine.parameters(), strict=True):
            q.data = settings.momentum * q.data + (1 - settings.momentum) * p.data
    with torch.no_grad():
        k = embed(method.key.encoder, method.key.head, key_view)
    queue = method.queue.vectors.clone()
    p = []
    nearest = []
    for each in z:
        logits = torch.cat([(each * k).sum(1, keepdim=True), each @ queue.T], 1) / settings.temperature
        p.append(logits.softmax(1))
        nearest.append((each @ queue.T).argmax(1))
    info = 0.0
    for i in range(len(x)):
        positives = {0} | ({1 + int(index[i]) for index in nearest} if mining else set())
        info = info - sum(p[0][i, j].log() for j in positives) / len(positives) / len(x)
    pairs = [-(p[b].detach() * p[b + 1].log()).sum(1).mean() for b in (0, 1)]
    pointer = int(method.queue.pointer)
    for i, row in enumerate(k):
        method.queue.vectors[(pointer + i) % len(queue)] = row
    method.queue.pointer.fill_((pointer + len(k)) % len(queue))
    method.queue.seen += len(k)
    method.steps += 1
    return info + 0.5 * pairs[0] + 0.5 * pairs[1], info, pairs


@pytest.mark.parametrize("compatible", [False, True])
def test_steps_against_the_specification(compatible):
    method = tiny(compatible=compatible, mining_epoch=1)
    twin = copy.deepcopy(method)
    for step in range(4):
        x = clips(seed=step)
        method.zero_grad(), twin.zero_grad()
        outcome = method((x,), (), shared(step))
        loss, info, pairs = slow_step(twin, x, shared(step), mining=step >= 2)
        assert outcome.loss.item() == pytest.approx(loss.item(), rel=1e-5)
        assert outcome.parts["info_nce"].item() == pytest.approx(info.item(), rel=1e-5)
        assert outcome.parts["basic_normal"].item() == pytest.approx(pairs[0].item(), rel=1e-5)
        assert outcome.parts["normal_strong"].item() == pytest.approx(pairs[1].item(), rel=1e-5)
        assert not any(part.requires_grad for part in outcome.parts.values())
        assert (outcome.parts["positives"].item() > 1) == (step >= 2)
        outcome.loss.backward(), loss.backward()
        for (name, p), q in zip(method.named_parameters(), twin.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), name
            if p.grad is not None:
                assert torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6), name
        for net in (method, twin):
            with torch.no_grad():
                for p in net.parameters():
                    p.sub_(0.1 * p.grad) if p.grad is not None else None
        # Queue, pointer, weights of the key, and all running statistics: three query passes, one key pass.
        for name, value in method.state_dict().items():
            assert torch.allclose(value, twin.state_dict()[name], rtol=1e-4, atol=1e-5), name


def test_published_sizes():
    # hiclr.md, checks 3 and 6.
    for backbone, trainable in (("stgcn", 920_069), ("dstanet", 1_645_169)):
        method = HiCLR(lambda b=backbone: build_encoder(b, 60, "ntu25", 2, {}), 256, HiclrSettings(mining_epoch=None))
        assert sum(p.numel() for p in method.parameters() if p.requires_grad) == trainable
        assert not any(p.requires_grad for p in method.key.parameters())
        assert method.queue.vectors.shape == (32_768, 128)
        for mine, theirs in ((method.key.encoder, method.encoder), (method.key.head, method.head)):
            assert all(torch.equal(p, q) for p, q in zip(mine.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("backbone", ["stgcn", "dstanet"])
def test_encoders_see_a_clip_as_published(backbone):
    # hiclr.md, checks 1 and 5, and section 2.2.
    torch.manual_seed(0)
    encoder = build_encoder(backbone, 60, "ntu25", 2, {}).eval()
    frames = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda m, i, out: frames.append((out if torch.is_tensor(out) else out[0]).shape[2]))
    x = clips(2, shape=(3, 50, 25, 2))
    with torch.no_grad():
        out = encoder(x)
        assert torch.allclose(encoder(x.flip(-1)).features, out.features, rtol=1e-4, atol=1e-6)
        assert torch.allclose(encoder(x.flip(0)).logits, out.logits.flip(0), rtol=1e-4, atol=1e-6)
    assert out.features.shape == (2, 256) and out.logits.shape == (2, 60)
    published = {"stgcn": [50] * 4 + [25] * 3 + [13] * 3, "dstanet": [50, 50, 25, 25, 13, 13, 13, 13]}
    assert frames[: len(encoder.blocks)] == published[backbone]


def test_gradients_reach_every_query_weight_and_nothing_else():
    # hiclr.md, check 9, with both backbones.
    for backbone in ("stgcn", "dstanet"):
        torch.manual_seed(0)
        settings = HiclrSettings(queue_length=16, mining_epoch=0)
        method = HiCLR(lambda b=backbone: build_encoder(b, 4, "ntu25", 2, {}), 256, settings, steps_per_epoch=1)
        method((clips(4, shape=(3, 8, 25, 2)),), (), shared()).loss.backward()
        got = {name for name, p in method.named_parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)}
        trained = {name for name, p in method.named_parameters() if p.requires_grad}
        # A bias right before a batch norm moves nothing.
        without = {n for n in trained - got if not n.endswith(".bias")}
        assert not without and got <= trained
        assert not any(name.startswith("key.") or "classifier" in name for name in trained)
        assert not method.queue.vectors.requires_grad


def test_the_token_learns_from_the_last_term_only():
    # hiclr.md, check 13.
    method = tiny(pair_weights=(0.5, 0.0))
    method((clips(),), (), shared()).loss.backward()
    assert method.token.grad.item() == 0
    method = tiny()
    method((clips(),), (), shared()).loss.backward()
    assert method.token.grad.item() != 0


def test_mining_begins_with_its_epoch_and_survives_a_restart():
    method = tiny(mining_epoch=2)  # two steps an epoch
    counts = [method((clips(),), (), shared(i)).parts["positives"].item() for i in range(3)]
    again = tiny(mining_epoch=2)
    again.load_state_dict(method.state_dict())
    counts += [again((clips(),), (), shared(i)).parts["positives"].item() for i in range(3, 6)]
    assert counts[:4] == [1, 1, 1, 1] and all(2 <= count <= 4 for count in counts[4:])
    with pytest.raises(ValueError, match="steps_per_epoch"):
        HiCLR(Tiny, 8, HiclrSettings(**SMALL))


def train(method, optimiser, steps):
    record = []
    for step in steps:
        torch.manual_seed(step)  # dropout
        optimiser.zero_grad()
        outcome = method((clips(4, step, (3, 8, 25, 2)),), (), shared(step))
        outcome.loss.backward()
        optimiser.step()
        record.append(outcome.loss.item())
    return record


@pytest.mark.parametrize("strong", ["mask", "adain"])
def test_a_resumed_run_is_identical(strong):
    def new():
        settings = HiclrSettings(
            queue_length=10, mining_epoch=1, views={"strong": strong}, edges=EdgeSettings(when="mining")
        )
        small = {"base_channels": 4}
        method = HiCLR(lambda: build_encoder("stgcn", 4, "ntu25", 2, small), 64, settings, seed=3, steps_per_epoch=2)
        return method, torch.optim.SGD(method.parameters(), 0.05, momentum=0.9)

    torch.manual_seed(0)
    whole, optimiser = new()
    train(whole, optimiser, range(3))
    saved = copy.deepcopy((whole.state_dict(), optimiser.state_dict()))
    torch.manual_seed(99)
    resumed, other = new()
    resumed.load_state_dict(saved[0]), other.load_state_dict(saved[1])
    assert train(whole, optimiser, range(3, 6)) == train(resumed, other, range(3, 6))
    assert int(whole.queue.pointer) == 24 % 10 and int(whole.steps) == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_evaluation_changes_nothing():
    method = tiny().eval()
    before = copy.deepcopy(method.state_dict())
    with torch.no_grad():
        method((clips(),), (), shared())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_fewer_branches_are_the_ablations():
    losses = {}
    for weights in ((), (0.5,), (0.5, 0.5)):
        outcome = tiny(pair_weights=weights)((clips(),), (), shared())
        losses[weights] = outcome.parts
        assert len([name for name in outcome.parts if "_normal" in name or "_strong" in name]) == len(weights)
    assert losses[()]["info_nce"] == losses[(0.5,)]["info_nce"] == losses[(0.5, 0.5)]["info_nce"]
    assert tiny(pair_weights=(0.5,)).token is None
    # Without the asymmetry the value stays, the gradient does not.
    one, other = tiny(), tiny(asymmetric=False)
    results = [net((clips(),), (), shared()) for net in (one, other)]
    assert results[0].loss.item() == pytest.approx(results[1].loss.item())
    for result in results:
        result.loss.backward()
    assert not torch.allclose(one.head[0].weight.grad, other.head[0].weight.grad, rtol=1e-2)


def test_settings():
    assert HiclrSettings().views == HiclrViews.clean()
    assert HiclrSettings(compatible=True).views == HiclrViews()
    mixed = HiclrSettings(compatible=True, views={"mask_per_clip": True, "stream": "bone"})
    assert mixed.views == HiclrViews(mask_per_clip=True, stream="bone")
    assert HiclrSettings(views={"blur_normalised": False}).views == HiclrViews.clean(blur_normalised=False)
    # The baseline's views are made in the same way.
    assert MocoSettings(views={"stream": "bone"}).views == HiclrViews.clean(stream="bone")
    assert MocoSettings(compatible=True).views == HiclrViews()
    for settings in (HiclrSettings(), mixed):
        assert HiclrSettings.model_validate_json(settings.model_dump_json()) == settings
    for wrong in ({"pair_weights": (0.5, -1)}, {"pair_weights": (1, 1, 1)}, {"unknown": 1}, {"temperature": 0}):
        with pytest.raises(ValidationError):
            HiclrSettings(**wrong)


@pytest.mark.parametrize("stream", ["joint", "bone", "joint_motion"])
def test_streams_are_made_of_augmented_joints(stream):
    method = tiny(views={"stream": stream, "shear": 0, "crop_ratio": 1000})
    seen = []
    method.encoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    x = clips()
    method((x,), (), shared())
    parents = [1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11]
    wanted = {"joint": x, "bone": x - x[:, :, :, parents], "joint_motion": x.roll(-1, 2) - x}[stream]
    if stream == "joint_motion":
        wanted[:, :, -1] = 0
    assert torch.allclose(seen[0], wanted, atol=1e-6)
    assert len(seen) == 3 and (seen[2] == method.token).sum(3).eq(2).all(), "two joints of every frame are masked"


@pytest.mark.parametrize("strong", ["mask", "adain"])
def test_absent_persons_stay_absent_unless_compatible(strong):
    x = clips()
    x[:3, ..., 1] = 0
    for compatible in (False, True):
        method = tiny(compatible=compatible, views={"strong": strong})
        _, queries = method.make_views(x, shared())
        for view in queries if not compatible else queries[:1]:
            assert not view[:3, ..., 1].any()
        assert bool(queries[2][:3, ..., 1].any()) == compatible
        assert queries[2][3:].flatten(1).any(1).all() and queries[2][:3, ..., 0].flatten(1).any(1).all()


def test_styles_come_from_persons_who_are_there():
    x = clips(6)
    x[::2, ..., 1] = 0
    how = HiclrViews.clean(strong="adain")
    made = strengthen(x, shared(), how)
    for i in range(6):
        for person in range(2):
            styled = not torch.equal(made[i, ..., person], x[i, ..., person])
            assert not styled or bool(x[i, ..., person].any())
            assert made[i, ..., person].std() > 0.5 or not x[i, ..., person].any(), "nobody's style shrinks no one"


# Edges ---------------------------------------------------------------------------------------------------------------


def test_edges_of_a_graph_convolution_are_changed_for_the_strong_branch_only():
    torch.manual_seed(0)
    encoder = STGCN(4, base_channels=2, dropout=0.0).eval()
    x = clips(2, shape=(3, 8, 25, 2))
    plain = encoder(x).features
    seen = []

    def halve(graph):
        seen.append(graph)
        return graph / 2

    with changed_edges(encoder, halve):
        changed = encoder(x).features
    assert len(seen) == 10 and all(torch.equal(graph, encoder.blocks[0].adjacency) for graph in seen)
    assert torch.equal(encoder(x).features, plain), "over afterwards"
    other = copy.deepcopy(encoder)
    for block in other.blocks:
        block.adjacency.div_(2)
    assert torch.allclose(changed, other(x).features, rtol=1e-5)
    with pytest.raises(KeyError), changed_edges(encoder, halve):
        raise KeyError
    assert all(block.change_edges is None for block in encoder.blocks), "over after an error too"


def test_edges_of_attention_are_changed_clip_by_clip():
    torch.manual_seed(0)
    encoder = DSTANet(4).eval()
    x = clips(2, shape=(3, 8, 25, 2))
    maps = []

    def only_itself(graph):
        maps.append(graph.shape)
        return torch.zeros_like(graph)

    with changed_edges(encoder, only_itself), torch.no_grad():
        out = encoder(x, want_graph=True)
    assert maps == [(4, 3, 25, 25)] * 8
    assert not out.graph.any() and torch.equal(encoder(x).features, encoder(x).features)


def test_drawn_edges():
    # hiclr.md, check 23, and a fresh draw at every call.
    adjacency = STGCN(4).blocks[0].adjacency
    same = drop_and_add(0.0, 0.0, shared())(adjacency)
    assert torch.equal(same, adjacency)
    change = drop_and_add(0.1, 0.0, shared())
    drawn = torch.stack([change(adjacency) for _ in range(3000)])
    kept = drawn[:, adjacency > 0]
    assert not drawn[:, adjacency == 0].any()
    assert (kept == 0).float().mean().item() == pytest.approx(0.05, abs=0.004)
    assert torch.allclose(drawn.mean(0), adjacency, atol=0.02)
    added = drop_and_add(0.0, 0.05, shared())(adjacency)
    assert added.sum().item() == pytest.approx(25.0, rel=1e-5)
    assert ((added == 0) <= (adjacency == 0)).all() and int((added > 0).sum()) > int((adjacency > 0).sum())
    maps = torch.rand(4, 3, 25, 25, generator=shared()) * (torch.rand(4, 3, 25, 25, generator=shared(1)) > 0.2)
    more = drop_and_add(0.0, 0.9, shared())(maps)
    new = more[(maps == 0) & (more > 0)]
    scale = maps.sum() / (maps.sum() + len(new) * maps.mean())
    assert len(new) > 0 and torch.allclose(new, maps.mean() * scale)


def test_edges_by_setting():
    def changes(when, steps):
        torch.manual_seed(0)
        settings = HiclrSettings(
            **SMALL, mining_epoch=1, edges={"when": when, "drop": 0.5, "add": 0.0}, views={"strong": "none"}
        )
        method = HiCLR(lambda: STGCN(4, base_channels=1, dropout=0.0), 16, settings, steps_per_epoch=2)
        norms = []
        block = method.encoder.blocks[0]
        keep = type(block)._aggregate

        def watch(self, x):
            norms.append(self.change_edges is not None)
            return keep(self, x)

        block._aggregate = watch.__get__(block)
        for step in range(steps):
            method((clips(),), (), shared(step))
        return norms

    assert changes("never", 1) == [False] * 3
    assert changes("always", 1) == [False, False, True]
    assert changes("mining", 3) == [False] * 6 + [False, False, True]
    with pytest.raises(ValueError, match="no edges"):
        tiny(edges={"when": "always"})((clips(),), (), shared())


# Plain momentum contrast ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("augmentation", "make"), [("basic", basic_view), ("normal", normal_view)])
def test_plain_contrast_of_two_views(augmentation, make):
    torch.manual_seed(0)
    method = MoCo(Tiny, 8, MocoSettings(**SMALL, augmentation=augmentation)).train()
    twin = copy.deepcopy(method)
    x = clips()
    outcome = method((x,), (), shared(4))
    own = own_generator(shared(4), x.device)
    key_view, query_view = (make(x, own, twin.settings.views) for _ in range(2))
    z, k = (functional.normalize(twin.head(twin.encoder(view).features), dim=1) for view in (query_view, key_view))
    logits = torch.cat([(z * k).sum(1, keepdim=True), z @ twin.queue.vectors.T], 1) / 0.5
    assert outcome.loss.item() == pytest.approx(-logits.log_softmax(1)[:, 0].mean().item(), rel=1e-5)
    assert torch.allclose(method.queue.vectors[:5], k, atol=1e-6)
    assert torch.equal(method.queue.vectors[5:], twin.queue.vectors[5:])
    assert sum(p.numel() for p in MoCo(lambda: STGCN(60), 256).parameters() if p.requires_grad) == 920_068


@pytest.mark.parametrize("strong", ["mask", "adain"])
def test_plain_contrast_with_the_strong_set(strong):
    torch.manual_seed(0)
    method = MoCo(Tiny, 8, MocoSettings(**SMALL, augmentation="strong", views={"strong": strong})).train()
    seen = []
    for encoder in (method.encoder, method.key.encoder):
        encoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    x = clips()
    method((x,), (), shared(4)).loss.backward()
    own = own_generator(shared(4), x.device)
    how = method.settings.views
    key_view, query_view = (normal_view(x, own, how) for _ in range(2))
    if strong == "adain":
        key_view = strengthen(key_view, own, how)
    query_view = strengthen(query_view, own, how)
    assert torch.equal(seen[0], query_view) and torch.equal(seen[1], key_view)
    assert (method.token is not None) == (strong == "mask")
    if method.token is not None:
        assert method.token.grad.item() != 0
