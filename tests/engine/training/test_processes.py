"""Several processes for real: what is sent between them, a published method trained by two, and two nodes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn

from engine.methods.memory import ClassQueues, Prototypes
from engine.methods.momentum import Queue
from engine.models.checkpoint import load_encoder
from engine.paths import PROJECT
from engine.training import trainer
from engine.training.devices import make_fabric, on_devices
from engine.training.recipe import Recipe
from engine.training.run_folder import RunFolder
from engine.training.supervised import train
from tests.engine.training.pretext_of_tests import write_stores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="gloo over processes started by the loop is tested on Linux"),
    pytest.mark.skipif(not distributed.is_available(), reason="this torch has no processes that talk to each other"),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return write_stores(tmp_path_factory.mktemp("stores"))


def tiny(**changes) -> Recipe:
    """SkeletonGCL on a small CTR-GCN with clips as for NTU; 3 steps in an epoch."""
    values = {
        "name": "tiny", "dataset": "utd_mhad", "split": "xsub", "backbone": "ctrgcn",
        "backbone_args": {"base_channels": 8}, "method": "skeletongcl",
        "method_args": {"width": 16, "mining": {"positives": 3, "hard_negatives": 4, "random_negatives": 4}},
        "preprocessing": {"frames": 8, "sampling": "centre_crop", "centre": "first"},
        "augmentation": {"kind": "random_crop", "crop_low": 0.5, "crop_least": 8, "rotation_rad": 0.3},
        "optimiser": {"lr": 0.05, "warmup_epochs": 0}, "epochs": 2, "batch": 8, "seed": 3, "threads": 1,
        "accelerator": "cpu", "devices": 2, "evaluate_every": 1,
    }  # fmt: skip
    return Recipe.model_validate(values | changes)


def finish(*started: subprocess.Popen, timeout: float = 100) -> list[str]:
    """What processes said, each the first of a group of its own; nothing they started is left running."""
    said, ends = [], time.monotonic() + timeout
    # Where one fails, the others would wait for it.
    while any(one.poll() is None for one in started) and not any(one.returncode for one in started):
        for one in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.communicate(timeout=0.2)
        if time.monotonic() > ends:
            break
    for one in started:
        # An agent of torchrun gives its workers groups of their own.
        workers = psutil.Process(one.pid).children(recursive=True) if one.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        said.append(one.communicate())
    errors = "\n".join(f"{one.returncode}: {text[-4000:]}" for one, (_, text) in zip(started, said, strict=True))
    assert all(one.returncode == 0 for one in started), errors
    return [out for out, _ in said]


def start(*words: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip


def in_two(folder: Path, function: str, *words: object) -> None:
    """Call a function of this module in two processes; the loop starts the second from the same script."""
    script = folder / "two.py"
    script.write_text(f"import sys\nfrom {__name__} import {function}\n{function}(*sys.argv[1:])\n")
    finish(start(script, *words))


class Remembering(nn.Module):
    """Everything that is kept in buffers, different in every process to begin with."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.bank = ClassQueues(2, 3, 4)
        self.bank.vectors.fill_(rank)
        self.queue = Queue(4, 2, torch.Generator().manual_seed(rank))
        self.prototypes = Prototypes(2, 4, 0.9)

    def forward(self, x):
        return self.norm(self.linear(x)).sum()


def send(out: str) -> None:
    fabric = make_fabric(tiny())
    rank = fabric.global_rank
    module = Remembering(rank)
    wrapped, _ = on_devices(fabric, module, torch.optim.SGD(module.parameters(), lr=0.1))
    save_file(dict(module.state_dict()), Path(out) / f"begin_{rank}")
    # What is sent by the first process overwrites this in the second; evaluation, so that nothing else does.
    module.eval()
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.fill_(rank + 5)
    wrapped(torch.zeros(2, 3)).backward()
    save_file(dict(module.state_dict()), Path(out) / f"end_{rank}")


def test_batch_norms_are_sent_at_every_step_and_banks_once(tmp_path):
    in_two(tmp_path, "send", tmp_path)
    first, second = (load_file(tmp_path / f"begin_{rank}") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(first["queue.vectors"], Queue(4, 2, torch.Generator().manual_seed(0)).vectors)
    end = load_file(tmp_path / "end_1")
    values = {key: float(end[key].unique()) for key in ("norm.running_mean", "norm.running_var", "prototypes.vectors")}
    assert set(values.values()) == {5.0}
    assert all((end[key] == 6).all() for key in ("bank.vectors", "queue.vectors"))


def train_whole_and_cut(recipe: str, stores: str, out: str) -> None:
    """A run, and one that is stopped after its first epoch and goes on; what each process has in the end."""
    real = trainer.Trainer.run

    def run(self, **about):
        done = real(self, **about)
        name = f"{self.folder.path.name}_{self.fabric.global_rank}.safetensors"
        save_file(dict(self.module.state_dict()), Path(out) / name)
        return done

    trainer.Trainer.run = run
    how, folder = Recipe.model_validate_json(recipe), Path(out)

    def ask(event):
        if event["event"] == "epoch" and event["epoch"] == 1:
            (folder / "cut" / "stop").touch()

    train(how, Path(stores), folder / "whole")
    assert train(how, Path(stores), folder / "cut", ask) is None
    train(how, Path(stores), folder / "cut")


def test_two_processes_train_skeletongcl_stop_and_go_on(stores, tmp_path):
    in_two(tmp_path, "train_whole_and_cut", tiny().model_dump_json(), stores, tmp_path)
    first, second = (load_file(tmp_path / f"whole_{rank}.safetensors") for rank in range(2))
    banks = [key for key in first if ".bank." in key]
    assert len(banks) == 3 and all(torch.equal(first[key], second[key]) for key in banks)
    assert first["method.bank.filled"].float().mean() > 0.9 and (first["method.bank.vectors"] != 0).any()
    weights = [key for key in first if "running" not in key]
    assert all(torch.equal(first[key], second[key]) for key in weights)
    state = load_file(tmp_path / "whole" / "state.safetensors")
    assert all(torch.equal(state[f"module.{key}"], value) for key, value in first.items())
    # Stopped and gone on: the same to the last bit, in both processes.
    for rank, whole in enumerate((first, second)):
        cut = load_file(tmp_path / f"cut_{rank}.safetensors")
        assert all(torch.equal(whole[key], cut[key]) for key in banks + weights)
    log = list(RunFolder(tmp_path / "cut").events())
    kinds = ["run", "evaluation", "epoch", "stopped", "run", "evaluation", "epoch", "end"]
    assert [event["event"] for event in log if event["event"] != "step"] == kinds
    assert log[0]["processes"] == 2 and log[-2]["instance"] > 0
    results = [RunFolder(tmp_path / name).results()["results"] for name in ("whole", "cut")]
    assert results[0] == results[1] and results[0][0]["count"] == 24
    encoder, card = load_encoder(tmp_path / "cut" / "checkpoint")
    assert card.method == "skeletongcl" and card.results[0].top1 == results[0][0]["top1"]
    assert torch.equal(encoder.classifier.weight, first["method.encoder.classifier.weight"])


def test_two_nodes_started_by_torchrun_leave_one_run(stores, tmp_path):
    """As the guide says it, with both nodes on this machine."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "stores").symlink_to(stores)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(tiny(epochs=1, devices=1).model_dump_json())
    try:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no port can be opened here: {error}")
    words = [
        "-m", "torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d",
        "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "nodes", "--local-addr", "127.0.0.1", "--",
        PROJECT / "main.py", "train", recipe, "--nodes", 2, "--devices", 1, "--accelerator", "cpu",
    ]  # fmt: skip
    said = finish(*(start(*words, SKELAPP_HOME=str(home)) for _ in range(2)))
    assert [path.name for path in (home / "runs").iterdir()] == ["tiny"]
    run = RunFolder(home / "runs" / "tiny")
    assert run.status().state == "finished" and run.recipe().nodes == 2
    kinds = [event["event"] for event in run.events()]
    assert [kinds.count(kind) for kind in ("run", "epoch", "end")] == [1, 1, 1]
    assert json.loads(run.environment_file.read_text())["processes"] == 2
    (result,) = run.results()["results"]
    assert result["count"] == 24 and load_encoder(run.checkpoint)
    # One of the two speaks.
    assert "".join(said).count(f"top-1 {result['top1']:.4f}") == 1
