"""Displacement prediction: labels and loss against loops over every item, groupings, absence, padding, processes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.batch import masking
from engine.data.batch.recipes_gl_transformer import GlTransformerViews, views
from engine.data.batch.temporal import frame_mask
from engine.data.normalise_papers import NORMALISATIONS, gl_transformer, gl_transformer_shared
from engine.methods.displacement import INPUTS, Displacement, DisplacementSettings
from engine.methods.objective import alone
from engine.models.checkpoint import build_encoder
from engine.models.gl_transformer import GLTransformer
from engine.skeleton.layout import KINECT20, NTU25

SMALL = {"frames": 14, "channels": 4, "blocks": 1, "heads": 2, "dropout": 0.0, "drop_path": 0.0}
UNCHANGED = GlTransformerViews(stretch=0, shear=0)


def method(layout=NTU25, persons=2, encoder_args=None, **chosen):
    torch.manual_seed(0)
    args = SMALL | (encoder_args or {})
    width = layout.num_joints * persons * args["channels"]
    return Displacement(
        lambda: build_encoder("gl_transformer", 1, layout.name, persons, args),
        width, DisplacementSettings(**chosen), layout,
    ).double()  # fmt: skip


def batch(lengths=(14, 9, 5), frames=14, layout=NTU25, persons=2, seed=0, scale=0.03):
    generator = torch.Generator().manual_seed(seed)
    clips = scale * torch.randn(len(lengths), 3, frames, layout.num_joints, persons, generator=generator).double()
    clips[:, :, :, 5:8] = clips[:, :, :1, 5:8]
    clips[:, :, 0, layout.root] = 0
    lengths = torch.tensor(lengths)
    return clips * frame_mask(lengths, frames)[:, None, :, None, None], lengths


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# The plain form ------------------------------------------------------------------------------------------------------


def plain_items(clips, lengths, root, intervals, leave_out):
    """Every item of gl_transformer.md 3.1: clip, frame, interval number, joint, person, direction, size, counted."""
    x = clips.numpy()
    n, _, _, joints, persons = x.shape
    for i in range(n):
        second_absent = persons == 2 and x[i, :, 0, :, 1].sum() == 0
        for t in range(int(lengths[i])):
            for r, interval in enumerate(intervals):
                source = max(t - interval, 0) if interval > 0 else min(t - interval, int(lengths[i]) - 1)
                for v in range(joints):
                    for p in range(persons):
                        delta = x[i, :, source, v, p] - x[i, :, t, v, p]
                        digits = [1 + int(np.sign(d)) for d in delta]
                        m = math.sqrt((delta**2).sum())
                        size = 0 if m == 0 else min(14, math.floor(m / 0.01) + 1)
                        counted = True
                        if leave_out:
                            others = [u for u in range(joints) if u != root]
                            counted = bool(x[i, :, t, others, p].any() and x[i, :, source, others, p].any())
                        elif p == 1 and second_absent:
                            size = 15
                        yield i, t, r, v, p, digits[0] + 3 * digits[1] + 9 * digits[2], size, counted


def plain_loss(made, clips, lengths, root, intervals, chosen):
    """gl_transformer.md 3.2 with one cross entropy at a time, and the means of every group."""
    frames = made.encoder.encode(clips, frame_mask(lengths, clips.shape[2])).frames
    tokens, persons = made.encoder.tokens, clips.shape[4]
    sums = {}
    for i, t, r, v, p, direction, size, counted in plain_items(
        clips, lengths, root, intervals, chosen.get("absent") == "leave_out"
    ):
        if not counted:
            continue
        item = r * tokens + v * persons + p
        is_global = v == root and (chosen.get("grouping") != "released" or r == 0)
        for name, head, classes, k in (
            ("direction", made.heads.direction, 27, direction), ("magnitude", made.heads.magnitude, 16, size),
        ):  # fmt: skip
            rows = slice(item * classes, (item + 1) * classes)
            logits = head.weight[rows] @ frames[i, t] + head.bias[rows]
            entropy = torch.logsumexp(logits, 0) - logits[k]
            for group in ("global" if is_global else "local", f"person_{p}"):
                total, count = sums.get(f"{name}_{group}", (0.0, 0))
                sums[f"{name}_{group}"] = total + entropy, count + 1
    means = {key: total / count for key, (total, count) in sums.items()}
    nothing = torch.zeros(())
    loss = sum(
        weight * (chosen.get("global_weight", 0.05) * means.get(f"{name}_global", nothing) + means[f"{name}_local"])
        for name, weight in (("direction", 1.0), ("magnitude", chosen.get("magnitude_weight", 1.0)))
    )
    return loss, means


CHOICES = [
    {},
    {"grouping": "released"},
    {"absent": "leave_out"},
    {"absent": "leave_out", "grouping": "released", "global_weight": 0.7, "magnitude_weight": 0.3},
]


@pytest.mark.parametrize("chosen", CHOICES)
def test_loss_and_gradients_equal_the_loop(chosen):
    intervals = (1, -4)
    made = method(KINECT20, 2, views=UNCHANGED.model_copy(update={"intervals": intervals}), **chosen)
    clips, lengths = batch((6, 3, 4), 6, KINECT20)
    clips[1, ..., 1] = 0  # never there
    clips[2, :, :2, :, 1] = 0  # comes later
    clips[2, :, 1, KINECT20.root, 1] = 1.0  # the released normalisation leaves a path without a body
    clips[0, :, 3, :, 1] = 0  # away for a frame
    outcome = made((clips,), (lengths,), seeded())
    loss, means = plain_loss(made, clips, lengths, KINECT20.root, intervals, chosen)
    assert outcome.loss.item() == pytest.approx(loss.item(), rel=1e-10)
    for name, mean in means.items():
        assert outcome.parts[name].item() == pytest.approx(mean.item(), rel=1e-10), name
        assert not outcome.parts[name].requires_grad
    assert set(outcome.parts) == set(means) | {"direction_accuracy", "magnitude_accuracy"}
    parameters = [p for p in made.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(loss, parameters)
    for parameter, grad, plain in zip(parameters, torch.autograd.grad(outcome.loss, parameters), wanted):
        assert torch.allclose(grad, plain, rtol=1e-8, atol=1e-12), parameter.shape


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3), seed=st.integers(0, 99),
    absent=st.sampled_from(["learn", "leave_out"]), persons=st.integers(1, 2),
    intervals=st.sampled_from([(1, 5, 10), (2,), (-3, 1)]),
)  # fmt: skip
def test_targets_equal_the_loop(lengths, seed, absent, persons, intervals):
    made = method(KINECT20, persons, views=UNCHANGED.model_copy(update={"intervals": intervals}), absent=absent)
    clips, real = batch(lengths, 9, KINECT20, persons, seed)
    if persons == 2:
        clips[0, :, : seed % 5, :, 1] = 0
    out, targets, counted = made.prepare((clips,), (real,), seeded(seed))
    assert out.shape[2] == max(lengths) and torch.equal(targets.valid.sum(1), real)
    plain = plain_items(clips, real, KINECT20.root, intervals, absent == "leave_out")
    for i, t, r, v, p, direction, size, counts in plain:
        item = r * made.encoder.tokens + v * persons + p
        assert counted[i, t, item] == counts
        if counts:
            assert targets.direction[i, t, item] == direction and targets.magnitude[i, t, item] == size


def test_only_the_longest_clip_is_made():
    made = method(encoder_args={"frames": 60})
    clips, lengths = batch((9, 4, 1), 60)
    for seed in range(20):
        out, targets, _ = made.prepare((clips,), (lengths,), seeded(seed))
        whole = views(clips, seeded(seed), GlTransformerViews(frames=60), lengths)
        assert out.shape[2] == int(targets.valid.sum(1).max()) <= 9
        for ours, theirs, time in zip((out, targets.valid, targets.direction, targets.magnitude), whole, (2, 1, 1, 1)):
            assert torch.equal(ours, theirs.narrow(time, 0, out.shape[2]))
        assert not whole[1][:, out.shape[2] :].any()
    # Longer than the encoder's tables: cut, as published.
    short = method()
    assert short.prepare((torch.ones(1, 3, 40, 25, 2),), (torch.tensor([40]),), seeded())[0].shape[2] <= 14


@pytest.mark.parametrize("grouping", ["intended", "released"])
def test_uniform_logits_give_the_chance_level(grouping):
    # Check 13.
    made = method(grouping=grouping)
    for parameter in made.heads.parameters():
        torch.nn.init.zeros_(parameter)
    clips, lengths = batch()
    outcome = made((clips,), (lengths,), seeded())
    assert outcome.loss.item() == pytest.approx(1.05 * (math.log(27) + math.log(16))) == pytest.approx(6.3718, abs=1e-4)


def test_default_initialisation_on_random_labels():
    # Check 13: logit variance about 1/3.
    torch.manual_seed(0)
    made = Displacement(
        lambda: GLTransformer(1, blocks=1, frames=8), 2400, DisplacementSettings(), NTU25
    ).eval()  # fmt: skip
    assert (made.is_global.nonzero().view(-1)).tolist() == [40, 41, 90, 91, 140, 141]
    clips, lengths = batch((8, 8), 8)
    with torch.no_grad():
        logits = made.heads(made.encoder.encode_valid(clips.float(), frame_mask(lengths, 8)))
        assert logits[0].shape == (16, 150, 27) and logits[1].shape == (16, 150, 16)
        classes = [torch.randint(k, (16, 150)) for k in (27, 16)]
        outcome = made.loss(*logits, *classes, torch.ones(16, 150, dtype=torch.bool))
    assert outcome.loss.item() == pytest.approx(6.70, abs=0.05)
    assert logits[0].var().item() == pytest.approx(1 / 3, abs=0.03)


def test_parameters_of_the_published_model():
    # Check 2, without the token nobody uses; the classifier does not belong to pretraining.
    with torch.device("meta"):
        made = Displacement(lambda: GLTransformer(60), 2400, DisplacementSettings(), NTU25)
    trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
    assert trained == 214_369_650 == 214_372_050 - 2_400
    assert sum(p.numel() for p in made.heads.parameters()) == 3 * 5_162_150
    assert not any(key.startswith("is_global") for key in made.state_dict())


def test_every_trained_parameter_learns_and_a_step_helps():
    made = method(encoder_args={"blocks": 2}).float()
    clips, lengths = batch()
    clips = clips.float()
    optimiser = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], 5e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        outcome = made((clips,), (lengths,), seeded(1))
        outcome.loss.backward()
        if not losses:
            for name, parameter in made.named_parameters():
                # Check 28. A table row beyond the longest clip is the only thing that can't learn.
                used = parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
                assert used or name.startswith("encoder.classifier"), name
        optimiser.step()
        losses.append(outcome.loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert 0 < outcome.parts["direction_accuracy"] <= 1 and outcome.logits is None


def test_padding_changes_nothing():
    made = method()
    clips, lengths = batch((9, 5), 9)
    longer = torch.cat([clips, torch.full((2, 3, 5, 25, 2), torch.nan).double()], 2)
    longer[:, :, 9:] = 77.0
    outcomes = [made((x,), (lengths,), seeded(3)) for x in (clips, longer)]
    assert torch.equal(outcomes[0].loss, outcomes[1].loss)
    # 99.9, the released arrays' mark, is never looked for: lengths say what is real.
    marked = masking.pad_with_sentinel(clips, lengths)
    assert torch.equal(made((marked,), (lengths,), seeded(3)).loss, outcomes[0].loss)


def test_a_clip_alone_is_what_it_is_in_a_batch():
    made = method(views=UNCHANGED)
    clips, lengths = batch((14, 6, 3))
    both = made((clips,), (lengths,), seeded()).parts["direction_local"] * (14 + 6 + 3)
    single = [made((clips[i : i + 1],), (lengths[i : i + 1],), seeded()) for i in range(3)]
    assert both.item() == pytest.approx(sum(o.parts["direction_local"].item() * n for o, n in zip(single, (14, 6, 3))))


def test_a_clip_without_frames_is_one_frame_of_zeros():
    made = method()
    outcome = made((torch.zeros(2, 3, 14, 25, 2).double(),), (torch.tensor([0, 0]),), seeded())
    assert outcome.loss.isfinite()
    outcome = method(absent="leave_out")((torch.zeros(2, 3, 14, 25, 2).double(),), (torch.tensor([0, 0]),), seeded())
    assert outcome.loss.item() == 0.0


def test_same_generator_same_step():
    made = method()
    clips, lengths = batch()
    losses = [made((clips,), (lengths,), seeded(seed)).loss.item() for seed in (4, 4, 5)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("chosen", CHOICES)
def test_mean_over_processes_is_one_process(chosen):
    made = method(views=UNCHANGED, **chosen)
    clips, lengths = batch((14, 9, 5, 2, 1, 7))
    clips[1, ..., 1] = 0
    whole = made((clips,), (lengths,), seeded())
    shares = [slice(None, 2), slice(2, None)]
    counts = []
    for share in shares:
        made((clips[share],), (lengths[share],), seeded(), lambda rows: counts.append(rows) or rows)
    parts = [
        made(
            (clips[s],), (lengths[s],), seeded(), lambda rows: torch.cat(counts) if rows.dtype == torch.int64 else rows
        )
        for s in shares
    ]
    assert sum(part.loss.item() for part in parts) / 2 == pytest.approx(whole.loss.item(), rel=1e-10)
    for name, value in whole.parts.items():
        assert sum(part.parts[name].item() for part in parts) / 2 == pytest.approx(value.item(), rel=1e-6), name
    parameters = [p for p in made.parameters() if p.requires_grad]
    grads = [torch.autograd.grad(outcome.loss, parameters) for outcome in (whole, *parts)]
    for one, a, b in zip(*grads):
        assert torch.allclose(one, (a + b) / 2, rtol=1e-8, atol=1e-12)


def test_half_precision():
    made = method().float()
    clips, lengths = batch()
    full = made((clips.float(),), (lengths,), seeded())
    with torch.autocast("cpu", torch.bfloat16):
        half = made((clips.float(),), (lengths,), seeded(), alone)
    assert half.loss.dtype == torch.float32 and half.loss.item() == pytest.approx(full.loss.item(), rel=0.02)
    half.loss.backward()


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"GRUEncoder has none \(use the backbone gl_transformer\)"):
        Displacement(
            lambda: build_encoder("gru", 2, "ntu25", 2, {"hidden": 8}), 16, DisplacementSettings(), NTU25
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"50 tokens and width 200; wanted .* 20 joints of kinect20 and width 200"):
        Displacement(
            lambda: build_encoder("gl_transformer", 2, "ntu25", 2, SMALL), 200, DisplacementSettings(), KINECT20
        )  # fmt: skip
    clips, lengths = batch()
    with pytest.raises(ValueError, match=r"views are \(3, 3, 14, 25, 1\); wanted one \(N, 3, T, 25, 2\)"):
        method()((clips[..., :1],), (lengths,), seeded())
    with pytest.raises(ValueError, match="wanted one"):
        method()((clips, clips), (lengths, lengths), seeded())


def test_released_input_loses_the_other_person_and_the_shared_one_does_not():
    assert {"gl_transformer", "gl_transformer_shared"} <= set(INPUTS) <= set(NORMALISATIONS)
    generator = np.random.default_rng(0)
    body = generator.normal(0, 0.3, (1, 2, 25, 3)) + np.cumsum(generator.normal(0, 0.02, (12, 2, 25, 3)), 0)
    near = (body + np.array([[0.0, 0, 3], [1, 0, 3]])[None, :, None]).astype(np.float32)
    far = near.copy()
    far[:, 1] += np.float32([2.0, 0, 1])

    def parts(normalise, xyz):
        made = method()
        clip = torch.from_numpy(normalise(xyz)).permute(3, 0, 2, 1)[None].double()
        return made((clip,), (torch.tensor([12]),), seeded()).parts["magnitude_global"].item()

    assert parts(gl_transformer, near) == pytest.approx(parts(gl_transformer, far), abs=1e-4)
    made = method().eval()
    features = [
        [made.encoder(torch.from_numpy(norm(x)).permute(3, 0, 2, 1)[None].double()).features for x in (near, far)]
        for norm in (gl_transformer, gl_transformer_shared)
    ]
    assert torch.allclose(*features[0], atol=1e-4) and not torch.allclose(*features[1], atol=1e-2)
