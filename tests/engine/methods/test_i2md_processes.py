"""I2MD in two processes with half the batch each against one with all of it: losses, gradients, queues."""

import json
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from engine.methods.i2md import I2MD
from engine.methods.i2md_settings import I2mdSettings
from engine.methods.objective import across_processes, alone
from engine.models.persons import EncoderOutput
from engine.skeleton.layout import KINECT20

STEPS, BATCH, FRAMES = 5, 8, 3
VARIANTS = {
    "default": {},
    "everything": {"separate_head": True, "cross_clusters": True, "mask_aggregated": True, "mask_same_clip": True},
}


class TinyEncoder(torch.nn.Module):
    """No batch norm, whose statistics would differ between the processes by design."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Linear(3 * FRAMES * 20, 6)
        self.classifier = torch.nn.Linear(6, 2)

    def forward(self, clips):
        features = torch.tanh(self.features(clips.flatten(1)))
        return EncoderOutput(self.classifier(features), features)


class Steps(torch.nn.Module):
    """Steps on given views: every process draws augmentations of its own, by design."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, first, second, gather, items):
        return self.method.step(first, second, gather, items)


def run(variant, rank, processes, gather, wrap=lambda steps: steps):
    """Losses, parts and gradients of a few SGD steps, and the state after them."""
    torch.manual_seed(0)
    settings = I2mdSettings(
        width=5, queue_length=20, neighbours=10, momentum=0.9, aggregation={"neighbours": 3}, **VARIANTS[variant]
    )
    method = I2MD(TinyEncoder, 6, settings, KINECT20).double()
    steps = wrap(Steps(method))
    trained = [p for p in method.parameters() if p.requires_grad]
    record = []
    for step in range(STEPS):
        data = torch.Generator().manual_seed(100 + step)
        clips = torch.randn(2, BATCH, 3, FRAMES, 20, 1, dtype=torch.float64, generator=data)
        items = torch.randperm(30, generator=data)[:BATCH]
        mine = slice(rank, None, processes)  # as the clip loader deals them out
        method.zero_grad()
        outcome = steps(clips[0, mine], clips[1, mine], gather, items[mine])
        outcome.loss.backward()
        scalars = torch.stack([outcome.loss.detach(), *outcome.parts.values()])
        scalars = gather(scalars.unsqueeze(0)).mean(0)
        record.append(torch.cat([scalars, *(p.grad.flatten() for p in trained)]).tolist())
        with torch.no_grad():
            for parameter in trained:
                parameter -= 0.1 * parameter.grad
    return record, {key: value.tolist() for key, value in method.state_dict().items()}, list(outcome.parts)


def average_gradients(steps):
    # Queues are the same everywhere already: sending them around would only cost time.
    return torch.nn.parallel.DistributedDataParallel(steps, forward_sync_buffers=False)


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
        record, state, names = run(variant, 0, 1, alone)
        assert record[-1][1 + names.index("cluster")] > 0, "the cluster branch was on"
        for rank in range(2):
            record_of_two, state_of_two, names_of_two = json.loads((tmp_path / f"{rank}.json").read_text())[variant]
            assert names_of_two == names
            for numbers, numbers_of_two in zip(record, record_of_two, strict=True):
                assert numbers_of_two == pytest.approx(numbers, rel=1e-7, abs=1e-11)
            assert state_of_two.keys() == state.keys()
            for key, value in state.items():
                assert torch.allclose(
                    torch.tensor(state_of_two[key], dtype=torch.float64), torch.tensor(value, dtype=torch.float64),
                    rtol=1e-9, atol=1e-12,
                ), key  # fmt: skip
