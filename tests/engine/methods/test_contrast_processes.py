"""HiCLR in two processes with half the batch each against one with all of it: losses, gradients, queues, keys."""

import json
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from engine.methods.hiclr import HiCLR, HiclrSettings
from engine.methods.momentum import own_generator
from engine.methods.objective import across_processes, alone
from engine.models.persons import EncoderOutput

STEPS, BATCH = 5, 6
# Views without any randomness but the axis of a rotation by nothing: processes draw their own augmentations.
STILL = {
    "crop_ratio": 1000, "shear": 0, "swap": 0, "main_deg": 0, "other_deg": 0, "noise": 0, "blur": 0, "axis_mask": 0,
    "strong": "none",
}  # fmt: skip


class Tiny(nn.Module):
    """No batch norm, whose statistics would differ between the processes by design."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 4 * 25, 8)
        self.classifier = nn.Linear(8, 2)
        self.calls = 0

    def forward(self, clips):
        # Branches differ although their views do not.
        self.calls += 1
        features = torch.tanh(self.layer(clips.flatten(1)) * (1 + self.calls % 4))
        return EncoderOutput(self.classifier(features), features)


def run(rank, gather, wrap=lambda method: method):
    torch.manual_seed(0)
    settings = HiclrSettings(
        queue_length=9, width=5, hidden=7, momentum=0.8, temperature=0.3, mining_epoch=1, views=STILL
    )
    method = HiCLR(Tiny, 8, settings, seed=2, steps_per_epoch=3).double()
    with torch.no_grad():
        for parameter in method.head.parameters():
            parameter.add_(torch.randn_like(parameter))
    trained = wrap(method)
    record = []
    for step in range(STEPS):
        clips = torch.randn(BATCH, 3, 4, 25, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        mine = slice(rank, None, 1 if gather is alone else 2)  # as the clip loader deals them out
        method.zero_grad()
        outcome = trained((clips[mine],), (), torch.Generator().manual_seed(step), gather)
        outcome.loss.backward()
        scalars = torch.stack([outcome.loss.detach(), *outcome.parts.values()])
        gradients = [p.grad.flatten() for p in method.parameters() if p.requires_grad]
        record.append(torch.cat([gather(scalars.unsqueeze(0)).mean(0), *gradients]).tolist())
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    return record, {key: value.tolist() for key, value in method.state_dict().items()}


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        result = run(rank, across_processes, nn.parallel.DistributedDataParallel)
        draw = torch.rand(3, generator=own_generator(torch.Generator(), torch.device("cpu"))).tolist()
        Path(folder, f"{rank}.json").write_text(json.dumps([*result, draw]))
    finally:
        distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    multiprocessing.start_processes(work, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    record, state = run(0, alone)
    draws = []
    for rank in range(2):
        record_of_two, state_of_two, draw = json.loads((tmp_path / f"{rank}.json").read_text())
        draws.append(draw)
        for numbers, numbers_of_two in zip(record, record_of_two, strict=True):
            assert numbers_of_two == pytest.approx(numbers, rel=1e-9, abs=1e-12)
        assert state_of_two.keys() == state.keys()
        for key, value in state.items():
            close = torch.allclose(
                torch.tensor(state_of_two[key], dtype=torch.float64), torch.tensor(value, dtype=torch.float64),
                rtol=1e-9, atol=1e-12,
            )  # fmt: skip
            assert close, key
    assert state["queue.pointer"] == 30 % 9 and state["steps"] == 5
    assert draws[0] != draws[1], "each process augments by its own draws"
