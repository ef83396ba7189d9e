"""Measures the four graph backbones against plain transcriptions of their equations on the processor.

    python benchmarks/graph_backbones.py [--threads 2] [--repeats 7] [--clips 16]

A training step (forward, cross-entropy, backward) of both in fp32 and bf16 on clips like NW-UCLA's, and one clip of
two persons like NTU's through the plain transcription in PyTorch, through our encoder in PyTorch and through its ONNX
graph, with both persons there and with one. All variants take turns in one run; the fastest turn of each counts.
Operations are counted on the transcription and set against a large matrix product of the same precision. Writes
``graph_backbones.md`` and ``.json`` beside this file. With one thread the thread's own processor time is taken, which a
busy machine disturbs less than the clock.
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
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.data.preprocess import Preprocessing
from engine.deploy.export import export_onnx
from engine.deploy.runtime import load_runtime
from engine.models.card import CheckpointCard
from engine.models.checkpoint import build_encoder, save_checkpoint
from engine.models.stgcn import one_hop_partition
from engine.skeleton.layout import KINECT20, NTU25, Layout, spatial_partition
from tests.engine.models.plain import agcn, ctrgcn, infogcn, stgcn

CLASSES = 60


def plain(name: str, layout: Layout = NTU25, persons: int = 2, classes: int = CLASSES) -> nn.Module:
    """The transcription the parity tests hold our encoder to."""
    if name == "agcn":
        return agcn.Plain(classes, torch.from_numpy(spatial_partition(layout)), persons)
    if name == "stgcn":
        return stgcn.Plain(classes, torch.from_numpy(one_hop_partition(layout)), persons)
    return {"ctrgcn": ctrgcn, "infogcn": infogcn}[name].Plain(classes, layout.num_joints, persons)


def ceiling(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """GFLOP/s of a large matrix product."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    best = fastest({"product": lambda: torch.mm(a, b)}, 8, clock)["product"]
    return 2 * 2048**3 / best / 1e6


def training(name: str, clips: int, repeats: int, clock: Callable[[], float]) -> dict:
    """Milliseconds of a training step of NW-UCLA's setting, and GFLOP of one."""
    frames = 50 if name == "stgcn" else 52
    x, labels = torch.randn(clips, 3, frames, KINECT20.num_joints, 1), torch.randint(10, (clips,))
    models = {"plain": plain(name, KINECT20, 1, 10).train(), "ours": build_encoder(name, 10, "kinect20", 1, {}).train()}

    def step(model: nn.Module, low: bool) -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = model(x)[0]
        nn.functional.cross_entropy(logits.float(), labels).backward()

    with FlopCounterMode(display=False) as counter:
        step(models["plain"], False)
    turns: dict[str, Callable[[], object]] = {
        f"{who} {what}": lambda model=model, low=low: step(model, low)
        for what, low in (("fp32", False), ("bf16", True))
        for who, model in models.items()
    }
    return fastest(turns, repeats, clock) | {"gflop": round(counter.get_total_flops() / 1e9, 1)}


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
    x = torch.randn(1, 3, frames, 25, 2)
    steps = training(name, clips, repeats, clock)
    with torch.no_grad():
        # Batch norms without statistics would let the numbers grow from block to block.
        for _ in range(20):
            ours(torch.randn(4, 3, frames, 25, 2))
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
    two, one = x, x.clone()
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
        with FlopCounterMode(display=False) as counter:
            reference(two)
    gflop = round(counter.get_total_flops() / 1e9, 2)
    return {"training": steps, "inference": inference, "gflop": gflop, "onnx_difference": difference}


def report(result: dict) -> str:
    lines = [
        "# Graph backbones against plain transcriptions",
        "",
        f"Made by `benchmarks/graph_backbones.py` on {result['machine']}; {result['threads']} thread(s). Load of the "
        "machine at the start: "
        f"{result['load']}. Milliseconds of the fastest turn. A large matrix product runs here at "
        f"{result['ceiling']['fp32']:.0f} GFLOP/s in fp32 and {result['ceiling']['bf16']:.0f} in bf16; "
        "shares are of that.",
        "",
        f"## Training step: {result['clips']} clips, 20 joints, one person, 52 frames (ST-GCN 50)",
        "",
        "| backbone | plain fp32 | ours fp32 | ratio | share | plain bf16 | ours bf16 | ratio | plain fp32 / ours bf16 "
        "| share |",
        "|" + "---|" * 10,
    ]
    for name, row in result["rows"].items():
        step = row["training"]
        share = {k: step["gflop"] / step[f"ours {k}"] * 1000 / result["ceiling"][k] for k in ("fp32", "bf16")}
        cells = [step["plain fp32"], step["ours fp32"], f"{step['plain fp32'] / step['ours fp32']:.2f}"]
        cells += [f"{share['fp32']:.0%}", step["plain bf16"], step["ours bf16"]]
        cells += [f"{step['plain bf16'] / step['ours bf16']:.2f}", f"{step['plain fp32'] / step['ours bf16']:.2f}"]
        lines.append(f"| {name} | " + " | ".join(map(str, [*cells, f"{share['bf16']:.0%}"])) + " |")
    lines += [
        "",
        "## One clip: NTU-25, two person slots, fp32",
        "",
        "| backbone | plain PyTorch | PyTorch 2 | PyTorch 1 | ONNX 2 | ONNX 1 | plain / ONNX 2 | plain / ONNX 1 "
        "| ONNX 2, share | ONNX differs by |",
        "|" + "---|" * 10,
    ]
    for name, row in result["rows"].items():
        call = list(row["inference"].values())
        cells = [*call, f"{call[0] / call[3]:.2f}", f"{call[0] / call[4]:.2f}"]
        cells += [f"{row['gflop'] / call[3] * 1000 / result['ceiling']['fp32']:.0%}", f"{row['onnx_difference']:.0e}"]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    lines += ["", "PyTorch 2 and ONNX 2: both persons there; 1: the second slot is empty and is not computed."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clips", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {
        "machine": f"{machine}, torch {torch.__version__}",
        "threads": options.threads,
        "clips": options.clips,
        "load": round(os.getloadavg()[0], 1),
        "ceiling": {},
        "rows": {},
    }
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        result["ceiling"][kind] = round(ceiling(dtype, clock), 1)
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
