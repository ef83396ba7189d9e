"""Two processes with half the batch each against one with all of it: banks, losses, mean gradients."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from engine.methods.mining import MiningSettings
from engine.methods.objective import across_processes, alone
from engine.methods.skeletongcl import SkeletonGCL, SkeletonGclSettings
from engine.methods.supervised import SupervisedSettings
from engine.models.persons import EncoderOutput

STEPS, BATCH, CLASSES, JOINTS = 5, 8, 3, 3
MINING = MiningSettings(positives=3, hard_negatives=4, random_negatives=4)
VARIANTS = ("released", "paper")


class TinyEncoder(torch.nn.Module):
    """A layer per output; no batch norm, whose statistics would differ between the processes by design."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Linear(6, 4)
        self.graph = torch.nn.Linear(6, 3 * JOINTS**2)
        self.classifier = torch.nn.Linear(4, CLASSES)
        self.register_buffer("priors", torch.randn(CLASSES, 4))

    def forward(self, clips, want_graph=False):
        features = torch.tanh(self.features(clips))
        return EncoderOutput(self.classifier(features), features, self.graph(clips).view(-1, 3, JOINTS, JOINTS))


def run(variant, rank, processes, gather, wrap=lambda method: method):
    """Losses, banks and parameter gradients of a few SGD steps."""
    torch.manual_seed(0)
    sample_labels = torch.arange(30) % CLASSES
    chosen = SkeletonGclSettings(
        variant=variant, width=5, queue_length=4, semantic_warmup=2, train_projection=True, mining=MINING,
        supervised=SupervisedSettings(prior_weight=0.5, marginal_weight=0.5),
    )  # fmt: skip
    method = SkeletonGCL(TinyEncoder(), JOINTS, CLASSES, sample_labels, chosen).double()
    trained = wrap(method)
    generator = torch.Generator().manual_seed(1)
    record = []
    for step in range(STEPS):
        data = torch.Generator().manual_seed(100 + step)
        samples = torch.randperm(30, generator=data)[:BATCH]
        clips = torch.randn(BATCH, 6, dtype=torch.float64, generator=data)
        clips[0] = 0 if step == 3 else clips[0]
        mine = slice(rank, None, processes)  # as the clip loader deals them out
        method.zero_grad()
        outcome = trained(clips[mine], sample_labels[samples[mine]], samples[mine], generator, gather)
        outcome.loss.backward()
        scalars = torch.stack([outcome.loss.detach(), *(part.double() for part in outcome.parts.values())])
        scalars = gather(scalars.unsqueeze(0)).mean(0)
        everything = torch.cat([scalars, *(p.grad.flatten() for p in method.parameters())])
        record.append((everything.tolist(), list(outcome.parts)))
        with torch.no_grad():
            for parameter in method.parameters():
                parameter -= 0.1 * parameter.grad
    state = {key: value.tolist() for key, value in method.state_dict().items() if not key.startswith("encoder.")}
    return record, state


def average_gradients(method):
    # Banks are the same everywhere already: sending them around would only cost time.
    return torch.nn.parallel.DistributedDataParallel(method, broadcast_buffers=False)


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        results = {variant: run(variant, rank, 2, across_processes, average_gradients) for variant in VARIANTS}
        Path(folder, f"{rank}.json").write_text(json.dumps(results))
    finally:
        distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    multiprocessing.start_processes(work, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    for variant in VARIANTS:
        record, state = run(variant, 0, 1, alone)
        for rank in range(2):
            record_of_two, state_of_two = json.loads((tmp_path / f"{rank}.json").read_text())[variant]
            for (numbers, names), (numbers_of_two, names_of_two) in zip(record, record_of_two, strict=True):
                assert names == names_of_two
                # Shares are float32 numbers.
                assert numbers_of_two == pytest.approx(numbers, rel=1e-6, abs=1e-9)
            assert state_of_two.keys() == state.keys()
            for key, value in state.items():
                assert torch.allclose(
                    torch.tensor(state_of_two[key], dtype=torch.float64), torch.tensor(value, dtype=torch.float64),
                    rtol=1e-9, atol=1e-12,
                ), key  # fmt: skip
        valid = [numbers[1 + names.index("valid_anchors")] for numbers, names in record]
        assert valid[-1] > 0, "the contrast was on"
        instance = [numbers[1 + names.index("instance")] for numbers, names in record]
        assert instance[-1] > 0


def test_every_process_takes_its_own_part_of_the_random_draw():
    # The same clips in one batch or in two: the draw depends on sample numbers, not on places.
    torch.manual_seed(0)
    labels = torch.arange(30) % CLASSES
    method = SkeletonGCL(TinyEncoder(), JOINTS, CLASSES, labels, SkeletonGclSettings(width=5, mining=MINING)).double()
    graph = torch.randn(30, 3, JOINTS, JOINTS, dtype=torch.float64)
    method.contrast(graph, labels, torch.arange(30), torch.Generator())
    losses = []
    for order in (torch.arange(30), torch.arange(30).flip(0)):
        twin = copy.deepcopy(method)
        losses.append(twin.contrast(graph[order], labels[order], order, torch.Generator().manual_seed(3)).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
