"""Measures the four graph backbones against plain transcriptions of their equations, fp32, on the processor.

    python benchmarks/graph_backbones.py [--threads 2] [--repeats 7] [--clips 4]

A training step (forward, cross-entropy, backward) of both, and one clip of two persons through the plain transcription
in PyTorch, through our encoder in PyTorch and through its ONNX graph, with both persons there and with one. All
variants take turns in one run; the fastest turn of each counts. Writes ``graph_backbones.md`` and ``.json`` beside this
file. With one thread the thread's own processor time is taken, which a busy machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.data.preprocess import Preprocessing
from engine.deploy.export import export_onnx
from engine.deploy.runtime import load_runtime
from engine.models.card import CheckpointCard
from engine.models.checkpoint import build_encoder, save_checkpoint
from engine.models.stgcn import one_hop_partition
from engine.skeleton.layout import NTU25, spatial_partition
from tests.engine.models.plain import agcn, ctrgcn, infogcn, stgcn

CLASSES = 60


def plain(name: str) -> nn.Module:
    """The transcription the parity tests hold our encoder to."""
    if name == "agcn":
        return agcn.Plain(CLASSES, torch.from_numpy(spatial_partition(NTU25)))
    if name == "stgcn":
        return stgcn.Plain(CLASSES, torch.from_numpy(one_hop_partition(NTU25)))
    return {"ctrgcn": ctrgcn, "infogcn": infogcn}[name].Plain(CLASSES)


def fastest(turns: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Milliseconds of the fastest turn of each."""
    best = dict.fromkeys(turns, float("inf"))
    for turn in range(repeats + 1):
        for name, act in turns.items():
            began = clock()
            act()
            if turn:
                best[name] = min(best[name], (clock() - began) * 1000)
    return {name: round(value, 1) for name, value in best.items()}


def measure(name: str, clips: int, repeats: int, threads: int) -> dict:
    clock = time.thread_time if threads == 1 else time.perf_counter
    frames = 50 if name == "stgcn" else 64
    ours, reference = build_encoder(name, CLASSES, "ntu25", 2, {}), plain(name)
    x, labels = torch.randn(clips, 3, frames, 25, 2), torch.randint(CLASSES, (clips,))

    def step(model: nn.Module) -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(x)[0], labels).backward()

    training = fastest({"plain": lambda: step(reference), "ours": lambda: step(ours)}, repeats, clock)
    reference.load_state_dict(ours.state_dict())
    reference.eval()
    card = CheckpointCard(
        name=name,
        backbone=name,
        feature_dim=256,
        classes=[str(i) for i in range(CLASSES)],
        preprocessing=Preprocessing(persons=2, frames=frames),
        dataset="none",
        split="none",
    )
    two = x[:1].clone()
    one = two.clone()
    one[..., 1] = 0
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        save_checkpoint(Path(folder) / name, card, ours)
        difference = export_onnx(Path(folder) / name).max_difference
        runtimes = {kind: load_runtime(Path(folder) / name, kind, threads) for kind in ("torch", "onnx")}
        turns: dict[str, Callable[[], object]] = {"plain PyTorch": lambda: reference(two)}
        for kind, runtime in runtimes.items():
            turns[f"{kind}, two persons"] = lambda runtime=runtime: runtime.predict(two.numpy())
            turns[f"{kind}, one person"] = lambda runtime=runtime: runtime.predict(one.numpy())
        inference = fastest(turns, 2 * repeats, clock)
    return {"training": training, "inference": inference, "onnx_difference": difference}


def report(result: dict) -> str:
    lines = [
        "# Graph backbones against plain transcriptions",
        "",
        f"Made by `benchmarks/graph_backbones.py` on {result['machine']}; {result['threads']} thread(s), fp32, NTU-25, "
        f"two person slots, training with {result['clips']} clips. Load of the machine at the start: {result['load']}. "
        "Milliseconds of the fastest turn.",
        "",
        "| backbone | step, plain | step, ours | ratio | plain PyTorch | PyTorch 2 | PyTorch 1 | ONNX 2 | ONNX 1 "
        "| plain / ONNX 2 | plain / ONNX 1 | ONNX differs by |",
        "|" + "---|" * 12,
    ]
    for name, row in result["rows"].items():
        step, call = row["training"], list(row["inference"].values())
        cells = [step["plain"], step["ours"], f"{step['plain'] / step['ours']:.2f}", *call]
        cells += [f"{call[0] / call[3]:.2f}", f"{call[0] / call[4]:.2f}", f"{row['onnx_difference']:.0e}"]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    lines += ["", "PyTorch 2 and ONNX 2: both persons there; 1: the second slot is empty and is not computed."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clips", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {
        "machine": f"{machine}, torch {torch.__version__}",
        "threads": options.threads,
        "clips": options.clips,
        "load": round(os.getloadavg()[0], 1),
        "rows": {},
    }
    for name in ("ctrgcn", "stgcn", "agcn", "infogcn"):
        result["rows"][name] = measure(name, options.clips, options.repeats, options.threads)
        print(name, result["rows"][name], file=sys.stderr)
    here = Path(__file__).resolve().parent
    (here / "graph_backbones.json").write_text(json.dumps(result, indent=1) + "\n")
    (here / "graph_backbones.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
