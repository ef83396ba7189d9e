"""Measures what int8 gains and costs on the processor: speed and accuracy of one checkpoint, by what is quantised.

    python benchmarks/int8.py [CHECKPOINT] [--store NAME] [--repeats 40] [--threads 1]

Ranges come from the training part of the store, accuracy from all of its test part. Calls alternate, in one run.
Writes ``int8.md`` and ``int8.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.machine import machine, versions
from engine.data.sets import split_indices
from engine.data.store import SequenceStore
from engine.deploy.export import trace
from engine.deploy.quantise import quantise
from engine.models.checkpoint import load_encoder
from engine.paths import TRAINED_MODELS, stores
from engine.training.evaluate import test_clips

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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=TRAINED_MODELS / "utd_mhad_ctrgcn_joint")
    parser.add_argument("--store", default="utd_mhad")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    encoder, card = load_encoder(options.checkpoint)
    store = SequenceStore(stores() / options.store)
    train, test = split_indices(store, card.split)
    spread = train[np.linspace(0, len(train) - 1, min(len(train), 96)).astype(int)]
    calibration, clips = (test_clips(store, indices, card.preprocessing) for indices in (spread, test))
    labels = store.label[test]
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "fp32.onnx"
        trace(encoder, card.preprocessing.shape, exact)
        sessions, rows = {}, {}
        for i, (name, how) in enumerate(VARIANTS.items()):
            path = exact if how is None else exact.with_name(f"{i}.onnx")
            count = 0 if how is None else quantise(exact, path, calibration, **how)
            sessions[name] = session(path, options.threads)
            rows[name] = {"nodes": count, "bytes": path.stat().st_size, "p50_ms": {}}
        answers = {}
        for name, one in sessions.items():
            parts = [one.run(["logits"], {"clips": clips[i : i + 16]})[0] for i in range(0, len(clips), 16)]
            answers[name] = np.concatenate(parts).argmax(1)
            rows[name]["top1"] = float((answers[name] == labels).mean())
            rows[name]["same_answer"] = float((answers[name] == answers["fp32"]).mean())
        for batch in (1, 16):
            times: dict[str, list[float]] = {name: [] for name in sessions}
            for turn in range(options.repeats + 3):
                for name in list(sessions)[:: 1 if turn % 2 else -1]:
                    began = time.perf_counter()
                    sessions[name].run(["logits"], {"clips": clips[:batch]})
                    times[name].append((time.perf_counter() - began) * 1000)
            for name, taken in times.items():
                rows[name]["p50_ms"][str(batch)] = round(float(np.median(taken[3:])), 2)
    host = machine()
    lines = [
        "# int8 on the processor",
        "",
        f"Made by `python benchmarks/int8.py` on {host['processor']}, {host['cores']} cores; ONNX Runtime "
        f"{ort.__version__}, {options.threads} thread(s). {card.name}, {len(test)} test sequences of {options.store}, "
        f"ranges from {len(spread)} training sequences; median of {options.repeats} alternating calls.",
        "",
        "| graph | nodes | MB | batch 1, ms | fp32 / this | batch 16, ms | fp32 / this | top 1 | same answer |",
        "|" + "---|" * 9,
    ]
    for name, row in rows.items():
        cells = [name, row["nodes"], f"{row['bytes'] / 1e6:.1f}"]
        for batch, ms in row["p50_ms"].items():
            cells += [f"{ms:.1f}", f"{rows['fp32']['p50_ms'][batch] / ms:.2f}"]
        cells += [f"{row['top1']:.2%}", f"{row['same_answer']:.1%}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    here = Path(__file__).resolve().parent
    (here / "int8.md").write_text("\n".join(lines) + "\n", "utf-8")
    result = {"machine": host, "versions": versions(), "checkpoint": card.name, "threads": options.threads}
    (here / "int8.json").write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n", "utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
