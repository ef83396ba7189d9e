"""Measures what int8 gains and costs on the processor: speed and accuracy of CTR-GCN checkpoints, by what is quantised.

    python benchmarks/int8.py [CHECKPOINT ...] [--repeats 40] [--threads 1]

Ranges come from the training part of the checkpoint's store, accuracy from all of its test part. The plain
transcription of the encoder in PyTorch is measured beside the graphs. Calls alternate, in one run. Writes ``int8.md``
and ``int8.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.machine import machine, versions
from engine.data.sets import split_indices
from engine.data.store import SequenceStore
from engine.deploy.export import trace
from engine.deploy.quantise import quantise
from engine.models.checkpoint import load_encoder
from engine.paths import TRAINED_MODELS, stores
from engine.skeleton.layout import get_layout
from engine.training.evaluate import test_clips
from tests.engine.models.plain import ctrgcn

VARIANTS = {
    "fp32": None,
    "int8 convolutions": {"operators": ("Conv",)},
    "int8 convolutions, signed (for TensorRT)": {"operators": ("Conv",), "symmetric": True},
    "int8 convolutions and matrix products": {"operators": ("Conv", "MatMul", "Gemm")},
}


def session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure(checkpoint: Path, repeats: int, threads: int) -> dict:
    encoder, card = load_encoder(checkpoint)
    store = SequenceStore(stores() / card.dataset)
    train, test = split_indices(store, card.split)
    spread = train[np.linspace(0, len(train) - 1, min(len(train), 96)).astype(int)]
    calibration, clips = (test_clips(store, indices, card.preprocessing) for indices in (spread, test))
    labels = store.label[test]
    joints = get_layout(card.preprocessing.layout).num_joints
    plain = ctrgcn.Plain(len(card.classes), joints, card.preprocessing.persons).eval()
    plain.load_state_dict(encoder.state_dict())
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        exact = Path(folder) / "fp32.onnx"
        trace(encoder, card.preprocessing.shape, exact)
        acts: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "PyTorch, plain": lambda clips: plain(torch.from_numpy(clips))[0].numpy()
        }
        rows: dict[str, dict] = {"PyTorch, plain": {"nodes": 0, "p50_ms": {}}}
        for i, (name, how) in enumerate(VARIANTS.items()):
            path = exact if how is None else exact.with_name(f"{i}.onnx")
            count = 0 if how is None else quantise(exact, path, calibration, **how)
            one = session(path, threads)
            acts[name] = lambda clips, one=one: one.run(["logits"], {"clips": clips})[0]
            rows[name] = {"nodes": count, "bytes": path.stat().st_size, "p50_ms": {}}
        answers = {}
        for name, act in acts.items():
            answers[name] = np.concatenate([act(clips[i : i + 16]) for i in range(0, len(clips), 16)]).argmax(1)
            rows[name]["top1"] = float((answers[name] == labels).mean())
        for name, row in rows.items():
            row["same_answer"] = float((answers[name] == answers["fp32"]).mean())
        for batch in (1, 16):
            times: dict[str, list[float]] = {name: [] for name in acts}
            for turn in range(repeats + 3):
                for name in list(acts)[:: 1 if turn % 2 else -1]:
                    began = time.perf_counter()
                    acts[name](clips[:batch])
                    times[name].append((time.perf_counter() - began) * 1000)
            for name, taken in times.items():
                rows[name]["p50_ms"][str(batch)] = round(float(np.median(taken[3:])), 2)
    shape = f"{joints} joints, {card.preprocessing.persons} person slot(s)"
    about = {"dataset": card.dataset, "test": len(test), "ranges": len(spread), "shape": shape}
    return about | {"checkpoint": card.name, "rows": rows}


def report(result: dict) -> str:
    host = result["machine"]
    lines = [
        "# int8 on the processor",
        "",
        f"Made by `python benchmarks/int8.py` on {host['processor']}, {host['cores']} cores; ONNX Runtime "
        f"{ort.__version__}, {result['threads']} thread(s); load at the start {result['load']}. Median of "
        f"{result['repeats']} alternating calls.",
    ]
    for one in result["checkpoints"]:
        lines += [
            "",
            f"## {one['checkpoint']}",
            "",
            f"{one['shape']}; {one['test']} test sequences of {one['dataset']}, ranges from {one['ranges']} training "
            "sequences.",
            "",
            "| what runs | int8 nodes | MB | batch 1, ms | plain / this | batch 16, ms | plain / this | top 1 "
            "| same answer as fp32 |",
            "|" + "---|" * 9,
        ]
        plain = one["rows"]["PyTorch, plain"]["p50_ms"]
        for name, row in one["rows"].items():
            cells = [name, row["nodes"], f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else ""]
            for batch, ms in row["p50_ms"].items():
                cells += [f"{ms:.1f}", f"{plain[batch] / ms:.2f}"]
            cells += [f"{row['top1']:.2%}", f"{row['same_answer']:.1%}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    shipped = [TRAINED_MODELS / name for name in ("utd_mhad_ctrgcn_joint", "nw_ucla_xview_ctrgcn_short_joint")]
    parser.add_argument("checkpoints", nargs="*", type=Path, default=shipped)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {"machine": machine(), "versions": versions(), "threads": options.threads, "repeats": options.repeats}
    result["load"] = round(os.getloadavg()[0], 1)
    result["checkpoints"] = [measure(path, options.repeats, options.threads) for path in options.checkpoints]
    here = Path(__file__).resolve().parent
    (here / "int8.md").write_text(report(result), "utf-8")
    (here / "int8.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
