"""CMD and I2MD: whole steps against loops over clips and columns, and the specification's checks."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from engine.methods.distillation import contrast_and_distil
from engine.methods.i2md import I2MD
from engine.methods.i2md_settings import CmdSettings, I2mdSettings, small_dataset_warning
from engine.models.checkpoint import build_encoder
from engine.skeleton.layout import KINECT20, NTU25
from tests.engine.methods.plain_i2md import Plain

HIDDEN = 6
SMALL = {
    "width": 8, "queue_length": 12, "neighbours": 6, "momentum": 0.9,
    "views": {"frames": 4, "crop_least": 4, "corrupted": 5},
}  # fmt: skip


def encoder(backbone: str = "gru", layout: str = "kinect20", **args: object):
    args = args or {"hidden": HIDDEN, "layers": 2}
    return build_encoder(backbone, 3, layout, 1, args)


def make(settings: CmdSettings | None = None, seed: int = 0, double: bool = True, **more) -> I2MD:
    torch.manual_seed(seed)
    settings = settings or i2md()
    method = I2MD(encoder, 2 * HIDDEN, settings, KINECT20, seed=seed, **more)
    return method.double() if double else method


def i2md(**options: object) -> I2mdSettings:
    return I2mdSettings.model_validate(SMALL | {"aggregation": {"neighbours": 3}} | options)


def cmd(**options: object) -> CmdSettings:
    return CmdSettings.model_validate(SMALL | options)


def pair(step: int, n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randn(2, n, 3, 4, 20, 1, generator=generator, dtype=torch.float64).unbind()


def descend(method: torch.nn.Module, rate: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
                parameter.grad = None


def train(method: I2MD, steps: range) -> list[dict[str, float]]:
    record = []
    for step in steps:
        outcome = method.step(*pair(step), items=torch.arange(5) + step)
        outcome.loss.backward()
        descend(method)
        record.append({"loss": outcome.loss.item()} | {name: float(x) for name, x in outcome.parts.items()})
    return record


OPTIONS = {
    "cmd": cmd(),
    "cmd, own clips masked": cmd(mask_same_clip=True, cross_weight=0.5),
    "default": i2md(),
    "key only": i2md(aggregated="key", cluster_weight=0.5, intra_weight=2.0),
    "key's neighbours": i2md(query_neighbours="key"),
    "aggregated masked": i2md(mask_aggregated=True),
    "clusters across streams": i2md(cross_clusters=True, cross_weight=0.7),
    "clusters of a weight of their own": i2md(cross_clusters=True, cross_weight=0.7, cross_clusters_weight=0.2),
    "clusters at their own temperature": i2md(cluster_temperature=0.2, mask_aggregated=True),
    "instances teach more": i2md(from_instances=2.0, from_clusters=0.25, intra_weight=0.5),
    "clusters only learn": i2md(from_clusters=0.0),
    "instances only learn": i2md(from_instances=0.0),
    "within a stream in another way": i2md(
        intra_neighbours=9, intra_teacher_temperature=0.2, intra_student_temperature=0.3, cross_clusters=True
    ),
    "within a stream fewer neighbours": i2md(intra_neighbours=2, query_neighbours="key", cluster_weight=0.0),
    "head of its own": i2md(separate_head=True),
    "own clips masked": i2md(mask_same_clip=True, streams=("joint", "bone")),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_steps_against_loops(name: str):
    method = make(OPTIONS[name])
    plain = Plain(method)
    for step in range(4):  # the queues of 12 are full after three batches of 5
        items = [0, 1, step, 7, 8]
        outcome = method.step(*pair(step), items=torch.tensor(items))
        loss, parts = plain.loss(*pair(step), items)
        assert outcome.loss.item() == pytest.approx(loss.item(), rel=1e-7)
        for part, value in outcome.parts.items():
            if part in parts:
                assert value.item() == pytest.approx(parts[part], rel=1e-7, abs=1e-9), part
        if step == 3 and method.intra is not None:
            assert outcome.parts["cluster"] > 0 and outcome.parts["intra_modal"] > 0
        outcome.loss.backward()
        loss.backward()
        for module, mine in ((method.encoders, plain.encoders), (method.heads, plain.heads)):
            for ours, theirs in zip(module.parameters(), mine.parameters(), strict=True):
                if ours.requires_grad:
                    wanted = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
                    torch.testing.assert_close(ours.grad, wanted, rtol=1e-6, atol=1e-9)
            descend(module)
            descend(mine)
    for kind, streams in plain.banks.items():
        for stream, bank in streams.items():
            queue = method.queues[kind][stream]
            torch.testing.assert_close(queue.vectors, bank, rtol=1e-6, atol=1e-8)
            # Check 16: all queues share the pointer.
            assert (int(queue.pointer), int(queue.seen)) == (plain.pointer, plain.seen)


def test_parameters_of_the_published_size():
    with torch.device("meta"):
        method = I2MD(lambda: build_encoder("gru", 60, "ntu25", 2, {}), 2048, I2mdSettings())
        separate = I2MD(lambda: build_encoder("gru", 60, "ntu25", 2, {}), 2048, I2mdSettings(separate_head=True))

    def trained(module: torch.nn.Module) -> list[int]:
        return [p.numel() for p in module.parameters() if p.requires_grad]

    one = trained(method.encoders["joint"]) + trained(method.heads["joint"])
    assert (sum(one), len(one)) == (49_457_580, 30)
    assert (sum(trained(method)), len(trained(method))) == (148_372_740, 90)
    assert sum(trained(method.heads["bone"])) == 4_458_624
    assert not trained(method.keys)
    assert sum(trained(separate)) == 148_372_740 + 3 * 4_458_624
    assert method.queues["cluster"]["joint"].vectors.shape == (16384, 128)


def test_key_copies_start_equal_and_follow():
    # Check 15.
    method = make()
    of_query = dict(method.encoders["joint"].named_parameters())
    of_key = dict(method.keys["joint"].encoder.named_parameters())
    assert all(torch.equal(of_key[name], of_query[name]) for name in of_query)
    published = make(cmd(momentum=0.999))
    with torch.no_grad():
        for parameter in published.encoders.parameters():
            parameter.fill_(1)
        for parameter in published.keys.parameters():
            parameter.fill_(0)
    published.step(*pair(0))
    for parameter in published.keys["bone"].encoder.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.001))


def test_identical_streams_teach_each_other_nothing():
    # Checks 18 and 22.
    method = make(cmd(teacher_temperature=0.1))
    for stream in ("joint_motion", "bone"):
        for part in (method.encoders, method.heads, method.keys):
            part[stream].load_state_dict(part["joint"].state_dict())
        method.queues["instance"][stream].load_state_dict(method.queues["instance"]["joint"].state_dict())
    method._stream = lambda joints, stream: joints  # type: ignore[method-assign]
    sharper = copy.deepcopy(method)
    sharper._stream = lambda joints, stream: joints  # type: ignore[method-assign]
    sharper.settings = cmd()
    clips = pair(0)[0]
    outcome = method.step(clips, clips)
    assert outcome.parts["cross_modal"].item() == pytest.approx(0, abs=1e-9)
    assert outcome.loss.item() == pytest.approx(3 * outcome.parts["contrast_joint"].item())
    assert sharper.step(clips, clips).parts["cross_modal"] > 1e-4


def test_queues_that_are_aligned_differently():
    # Check 20.
    parts = []
    for rows in (None, {"joint", "joint_motion", "bone"}, {"joint"}):
        method = make(cmd())
        order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
        for stream, queue in method.queues["instance"].items():
            if rows and stream in rows:
                queue.vectors.copy_(queue.vectors[order])
        parts.append(method.step(*pair(0)).parts)
    assert parts[1]["cross_modal"].item() == pytest.approx(parts[0]["cross_modal"].item(), rel=1e-9)
    assert abs(parts[2]["cross_modal"] - parts[0]["cross_modal"]) > 1e-4
    assert parts[2]["contrast_joint"].item() == pytest.approx(parts[0]["contrast_joint"].item(), rel=1e-9)


def test_one_order_of_all_queues_is_as_good_as_another():
    # Check 20 on the whole loss: instances and clusters of every stream, each in the same new order, or all but one.
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    losses = {}
    for kept in ("all moved", "none moved", "cluster", "instance"):
        method = make()
        train(method, range(3))
        for kind, queues in method.queues.items():
            for stream, queue in queues.items():
                if kept != "none moved" and (kind, stream) != (kept, "bone"):
                    queue.vectors.copy_(queue.vectors[order])
        outcome = method.step(*pair(3))
        assert outcome.parts["cluster"] > 0 and outcome.parts["intra_modal"] > 0
        losses[kept] = outcome.loss.item()
    assert losses["all moved"] == pytest.approx(losses["none moved"], rel=1e-12)
    for kept in ("cluster", "instance"):
        assert abs(losses[kept] - losses["none moved"]) > 1e-4


def test_each_part_alone_reaches_the_query_encoders(monkeypatch: pytest.MonkeyPatch):
    # Checks 21 and 29 with the contrast of instances switched off, with encoders of three layers as published.
    def without_contrast(students, *rest):
        count = len(CmdSettings().streams)
        silent = [replace(student, contrast=0.0) for student in students[:count]]
        return contrast_and_distil([*silent, *students[count:]], *rest)

    monkeypatch.setattr("engine.methods.i2md.contrast_and_distil", without_contrast)
    for settings, part in (
        (cmd(), "cross_modal"),
        (i2md(cross_weight=0.0, intra_weight=0.0), "cluster"),
        (i2md(cross_weight=0.0, cluster_weight=0.0), "intra_modal"),
    ):
        torch.manual_seed(0)
        method = I2MD(lambda: encoder(hidden=HIDDEN, layers=3), 2 * HIDDEN, settings, KINECT20).double()
        for step in range(3):
            method.step(*pair(step))
        outcome = method.step(*pair(3))
        assert outcome.loss.item() == pytest.approx(outcome.parts[part].item(), rel=1e-12) and outcome.loss > 0
        outcome.loss.backward()
        trained = [p for p in method.parameters() if p.requires_grad]
        assert len(trained) == 90
        assert all(p.grad is not None and bool(p.grad.any()) for p in trained)
        assert all(p.grad is None for p in method.keys.parameters())
        assert all(not buffer.requires_grad and buffer.grad is None for buffer in method.buffers())


def test_gradients_reach_all_queries_and_nothing_else():
    # Checks 21 and 29: with the first gradient of every part alone.
    for settings in (cmd(), i2md(cross_weight=0.0, intra_weight=0.0), i2md(cross_weight=0.0, cluster_weight=0.0)):
        method = make(settings)
        train(method, range(3))
        outcome = method.step(*pair(3))
        outcome.loss.backward()
        trained = [p for p in method.parameters() if p.requires_grad]
        assert len(trained) == 3 * (2 + 2 * 2 * 4 + 4)
        assert all(p.grad is not None and bool(p.grad.any()) for p in trained)
        assert all(p.grad is None for p in method.keys.parameters())
        assert all(not buffer.requires_grad for buffer in method.buffers())
        assert all(not part.requires_grad for part in outcome.parts.values())


def test_cluster_branch_without_neighbours_is_the_instance_branch():
    # Check 23.
    method = make(i2md(aggregation={"neighbours": 0}, teacher_temperature=0.1))
    train(method, range(3))
    for stream, queue in method.queues["cluster"].items():
        torch.testing.assert_close(queue.vectors, method.queues["instance"][stream].vectors)
    for stream in method.settings.streams:  # q = k: the same weights, the same view
        method.keys[stream].encoder.load_state_dict(method.encoders[stream].state_dict())
        method.keys[stream].head.load_state_dict(method.heads[stream].state_dict())
    clips = pair(9)[0]
    parts = method.step(clips, clips).parts
    assert parts["cluster"].item() == pytest.approx(sum(parts[f"contrast_{s}"].item() for s in method.settings.streams))
    assert parts["intra_modal"].item() == pytest.approx(0, abs=1e-9)


def test_gate_opens_when_the_queues_are_full():
    # Check 28, with 12 keys and batches of 4 in the place of 16384 and 64.
    ours, of_cmd = make(i2md()), make(cmd())
    for step in range(4):
        clips = pair(step, 4)
        outcome, plain = ours.step(*clips), of_cmd.step(*clips)
        for method, loss in ((ours, outcome.loss), (of_cmd, plain.loss)):
            loss.backward()
            descend(method)
        if step < 3:
            assert torch.equal(outcome.loss, plain.loss)
            assert outcome.parts["cluster"] == outcome.parts["intra_modal"] == 0
            assert int(ours.queues["cluster"]["bone"].pointer) == 4 * (step + 1) % 12
    assert outcome.parts["cluster"] > 0 and outcome.parts["intra_modal"] > 0
    assert outcome.loss > plain.loss


def test_i2md_with_the_cluster_branch_off_is_cmd():
    # Check 30.
    for none in ({"intra_weight": 0.0}, {"from_clusters": 0.0, "from_instances": 0.0}):
        off, of_cmd = make(i2md(cluster_weight=0.0, **none)), make(cmd())
        assert train(off, range(5)) == train(of_cmd, range(5))
        state = of_cmd.state_dict()
        assert off.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in off.state_dict().items())


def test_what_is_said_in_words_is_the_default():
    """Options that name what they take the place of: bit for bit what they are without."""
    words = {
        "cluster_temperature": 0.07, "intra_neighbours": 6, "intra_teacher_temperature": 0.05,
        "intra_student_temperature": 0.1, "cross_clusters_weight": 1.0, "from_clusters": 1.0, "from_instances": 1.0,
    }  # fmt: skip
    assert i2md(**words).intra_temperatures() is None
    assert i2md(intra_neighbours=5).intra_temperatures().neighbours == 5
    runs = [train(make(i2md(cross_clusters=True, **more)), range(5)) for more in ({}, words)]
    assert runs[0] == runs[1]


def test_late_start_and_ramp_count_epochs():
    # Three batches of 5 are an epoch; the two clips that are left over are no part of it.
    method = make(i2md(start_epoch=2.0, ramp_epochs=1.0), training_clips=17, clips_per_epoch=15)
    shares = []
    for step in range(10):
        shares.append(method._cluster_share())
        method.step(*pair(step))
    assert shares == pytest.approx([0] * 7 + [1 / 3, 2 / 3, 1])
    with pytest.raises(ValueError, match="clips_per_epoch must be given"):
        make(i2md(ramp_epochs=1.0), training_clips=17)


@pytest.mark.parametrize("name", ["cmd", "own clips masked", "head of its own"])
def test_goes_on_identically_from_its_state(name: str):
    first = make(OPTIONS[name])
    train(first, range(4))
    saved = {key: value.clone() for key, value in first.state_dict().items()}
    rest = train(first, range(4, 7))
    second = make(OPTIONS[name], seed=5)
    second._settled = True  # as in a method that went on too far
    second.load_state_dict(saved)
    assert not second._settled
    assert train(second, range(4, 7)) == rest
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_views_are_made_of_plain_clips_or_of_two_crops():
    method = make(double=False)
    clips = torch.randn(3, 3, 9, 20, 1, generator=torch.Generator().manual_seed(0))
    lengths = (torch.tensor([9, 5, 1]),)
    state = copy.deepcopy(method.state_dict())
    losses = []
    for views in ((clips,), (clips,), (clips[:, :, :4], clips[:, :, 4:8])):
        method.load_state_dict(state)
        losses.append(method(views, lengths, torch.Generator().manual_seed(1)).loss)
    assert torch.equal(losses[0], losses[1]) and losses[2] != losses[0] and losses[2].isfinite()
    assert method(views, (), torch.Generator().manual_seed(1)).parts.keys() >= {"contrast_bone", "cluster_cosine"}
    with pytest.raises(ValueError, match="3 views"):
        method((clips,) * 3, lengths, torch.Generator())
    with pytest.raises(ValueError, match="items"):
        make(cmd(mask_same_clip=True)).step(*pair(0))


def test_evaluation_changes_nothing():
    method = make().eval()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    assert method.step(*pair(0)).loss > 0
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize(
    ("backbone", "args"),
    [("stgcn", {"base_channels": 4}), ("ctrgcn", {"base_channels": 8}), ("gru_bidirectional", {"hidden": 4})],
)
def test_other_backbones(backbone: str, args: dict):
    torch.manual_seed(0)
    width = encoder(backbone, "ntu25", **args).feature_dim
    settings = I2mdSettings(width=8, queue_length=8, neighbours=4, streams=("joint", "bone"))
    method = I2MD(lambda: encoder(backbone, "ntu25", **args), width, settings, NTU25)
    clips = torch.randn(2, 4, 3, 16, 25, 1, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        method.step(*clips)
    outcome = method.step(*clips)
    outcome.loss.backward()
    assert outcome.parts["cluster"] > 0 and outcome.loss.isfinite()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_small_datasets_are_warned_about():
    # i2md.md 4.4: PKU-MMD II has 5339 training clips.
    warning = small_dataset_warning(I2mdSettings(), 5339)
    assert warning is not None and "about 3.1 times" in warning
    assert small_dataset_warning(I2mdSettings(), 40_091) is None
    assert small_dataset_warning(I2mdSettings(mask_same_clip=True), 5339) is None
    with pytest.warns(UserWarning, match="the training set 11 clips"):
        make(training_clips=11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(training_clips=12)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match="the queues hold 100"):
        CmdSettings(queue_length=100)
    with pytest.raises(ValidationError, match="intra_neighbours = 101, but the queues hold 100"):
        I2mdSettings(queue_length=100, neighbours=50, intra_neighbours=101)
    with pytest.raises(ValidationError, match="streams repeat"):
        CmdSettings(streams=("joint", "joint"))
    published = I2mdSettings()
    assert (published.queue_length, published.neighbours, published.momentum) == (16384, 8192, 0.999)
    assert (published.temperature, published.teacher_temperature, published.student_temperature) == (0.07, 0.05, 0.1)
    assert (published.aggregation.neighbours, published.aggregation.temperature) == (8, 0.05)
    assert (published.cross_weight, published.cluster_weight, published.intra_weight) == (1, 1, 1)
    assert (published.from_clusters, published.from_instances, published.intra_temperatures()) == (1, 1, None)
    assert (published.cluster_temperature, published.cross_clusters_weight) == (None, None)
