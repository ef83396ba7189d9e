"""Measures the GRU encoder, DSTA-Net and GL-Transformer: training steps against plain transcriptions, ONNX exporters.

    python benchmarks/sequence_backbones.py [--repeats 5] [--only gru dstanet gl_transformer] [--wall]

Everything runs on one thread and what is compared runs in turn. Times are processor time of this process unless
``--wall``: a busy machine then stretches them less. The plain transcriptions are those of the parity tests; plain
GL-Transformer computes padded frames, the encoder does not, so it is measured with full clips too. Writes
``sequence_backbones.md`` and ``.json`` beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.deploy.export import fold_batch_norm
from engine.models.dstanet import DSTANet
from engine.models.gl_transformer import ECONOMICAL, GLTransformer
from engine.models.gru import BidirectionalGRUEncoder, GRUEncoder, GRUPair
from engine.models.persons import skip_empty_persons
from tests.engine.models.plain.dstanet import PlainDSTANet
from tests.engine.models.plain.gl_transformer import PlainGLTransformer
from tests.engine.models.plain.gru import PlainGRU

CLASSES = 60
# Lengths as of NTU clips, which fill a third of the published 300 frames.
LENGTHS = (74, 103, 52, 140, 89, 61, 121, 88)


def machine() -> str:
    model = next((line.split(":")[1] for line in open("/proc/cpuinfo") if "model name" in line), platform.machine())
    return f"{model.strip()}, {os.cpu_count()} cores, PyTorch {torch.__version__}, Python {platform.python_version()}"


def clips(batch: int, frames: int, lengths: tuple[int, ...] = ()) -> Tensor:
    x = torch.randn(batch, 3, frames, 25, 2)
    for clip, length in zip(x, lengths):
        clip[:, length:] = 99.9
    return x


class LibraryGRU(GRUEncoder):
    """The encoder on the library's own backward pass."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        for layer in self.layers:
            assert isinstance(layer, GRUPair)
            layer.run = lambda gru, x: gru(x)[0]  # type: ignore[method-assign]


def training_cases(only: list[str]) -> dict[str, tuple[dict[str, nn.Module], Tensor]]:
    cases: dict[str, tuple[dict[str, nn.Module], Tensor]] = {}
    if "gru" in only:
        both = {"ours": GRUEncoder(CLASSES), "library GRU": LibraryGRU(CLASSES), "plain": PlainGRU(CLASSES)}
        cases["gru, 8 clips of 64 frames"] = (both, clips(8, 64))
    if "dstanet" in only:
        pair = {"ours": DSTANet(CLASSES), "plain": PlainDSTANet(CLASSES)}
        cases["dstanet, 8 clips of 50 frames"] = (pair, clips(8, 50))
    if "gl_transformer" in only:
        for name, args, batch in (
            ("economical, 8 clips of 64 frames", ECONOMICAL, 8),
            ("16 channels, 2 blocks, 8 clips of 300 frames", ECONOMICAL | {"frames": 300}, 8),
        ):
            for full in (True, False):
                ours = GLTransformer(CLASSES, drop_path=0.0, **args)
                plain = PlainGLTransformer(CLASSES, drop=0.1, **args)
                frames = args["frames"]
                if not full and frames < 300:
                    continue
                x = clips(batch, frames, () if full else LENGTHS)
                what = "all valid" if full else f"{sum(LENGTHS) / batch / 300:.0%} valid, the rest padding"
                cases[f"gl_transformer, {name}, {what}"] = ({"ours": ours, "plain": plain}, x)
    return cases


def time_in_turn(calls: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> dict[str, list]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        names = list(calls) if turn % 2 else list(calls)[::-1]
        for name in names:
            began = clock()
            calls[name]()
            if turn:
                taken[name].append(clock() - began)
    return taken


def training(only: list[str], repeats: int, clock: Callable[[], float]) -> list[dict]:
    rows = []
    for case, (nets, x) in training_cases(only).items():
        labels = torch.randint(CLASSES, (len(x),))
        for precision in ("fp32", "bf16 autocast"):

            def step(net: nn.Module, precision: str = precision, x: Tensor = x, labels: Tensor = labels) -> None:
                half = precision != "fp32"
                net.zero_grad()
                with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
                    loss = functional.cross_entropy(net(x).logits, labels)
                loss.backward()

            taken = time_in_turn({n: (lambda net=net: step(net)) for n, net in nets.items()}, repeats, clock)
            ours = np.array(taken["ours"])
            row: dict = {"case": case, "precision": precision}
            for name, times in taken.items():
                row[name + " s"] = round(float(np.median(times)), 3)
                if name != "ours":
                    row[name + " / ours"] = round(float(np.median(np.array(times) / ours)), 2)
            rows.append(row)
            print(row, file=sys.stderr)
    return rows


class LogitsAndFeatures(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        out = self.encoder(clips)
        return out.logits, out.features


def exporters(only: list[str], repeats: int, clock: Callable[[], float]) -> list[dict]:
    import onnxruntime as ort

    encoders: dict[str, tuple[nn.Module, int]] = {}
    if "gru" in only:
        encoders["gru"] = (GRUEncoder(CLASSES), 64)
        encoders["gru_bidirectional"] = (BidirectionalGRUEncoder(CLASSES), 64)
    if "dstanet" in only:
        encoders["dstanet"] = (DSTANet(CLASSES), 50)
    if "gl_transformer" in only:
        encoders["gl_transformer, economical"] = (GLTransformer(CLASSES, **ECONOMICAL), 64)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    rows = []
    for name, (encoder, frames) in encoders.items():
        x = clips(1, frames)
        encoder.eval()
        with torch.inference_mode():
            expected = encoder(x).logits.numpy()
        row: dict = {"encoder": name, "clip": f"3x{frames}x25x2"}
        calls: dict[str, Callable[[], object]] = {}

        def eager(encoder: nn.Module = encoder, x: Tensor = x) -> None:
            with torch.inference_mode():
                encoder(x)

        calls["PyTorch eager"] = eager
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("TorchScript", "dynamo"):
                path = Path(folder) / f"{kind}.onnx"
                example = clips(2, frames)
                try:
                    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
                        warnings.simplefilter("ignore")
                        folded = fold_batch_norm(encoder)
                        if kind == "TorchScript":
                            whole = LogitsAndFeatures(skip_empty_persons(folded, (3, frames, 25, 2))).eval()
                            batch = {"clips": {0: "N"}, "logits": {0: "N"}, "features": {0: "N"}}
                            torch.onnx.export(
                                whole, (example,), str(path), input_names=["clips"], dynamic_axes=batch,
                                output_names=["logits", "features"], opset_version=17, dynamo=False,
                            )  # fmt: skip
                        else:
                            torch.onnx.export(
                                LogitsAndFeatures(folded).eval(), (example,), str(path), input_names=["clips"],
                                output_names=["logits", "features"], dynamo=True, verbose=False,
                                dynamic_shapes=({0: torch.export.Dim("N")},), external_data=False,
                            )  # fmt: skip
                    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                    got = session.run(["logits"], {"clips": x.numpy()})[0]
                except Exception as error:
                    row[f"{kind} differs by"] = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:90]}"
                    continue
                row[f"{kind} differs by"] = f"{np.abs(got - expected).max():.1e}"
                calls[kind] = lambda session=session, x=x: session.run(None, {"clips": x.numpy()})
            taken = time_in_turn(calls, repeats * 6, clock)
        for kind, times in taken.items():
            row[f"{kind} ms"] = round(float(np.median(times)) * 1000, 2)
        if "TorchScript ms" in row:
            ratio = np.median(np.array(taken["PyTorch eager"]) / np.array(taken["TorchScript"]))
            row["eager / TorchScript"] = round(float(ratio), 2)
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def table(rows: list[dict]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["gru", "dstanet", "gl_transformer"])
    parser.add_argument("--wall", action="store_true", help="wall time instead of this process's processor time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clock = time.perf_counter if arguments.wall else time.process_time
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "clock": "wall time" if arguments.wall else "processor time",
        "load": f"load average {os.getloadavg()[0]:.0f} at the start",
        "exporters": exporters(arguments.only, arguments.repeats, clock),
        "training": training(arguments.only, arguments.repeats, clock),
    }
    here = Path(__file__).with_suffix("")
    here.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    here.with_suffix(".md").write_text(
        f"# GRU encoder, DSTA-Net, GL-Transformer\n\nMade by `python benchmarks/sequence_backbones.py`: one thread, "
        f"{result['clock']}, medians of what ran in turn.\n\n"
        f"{result['date']}; {result['machine']}; {result['load']}.\n\n"
        f"## One clip through ONNX Runtime, by exporter\n\nBatch 1, fp32, batch norms folded.\n\n"
        f"{table(result['exporters'])}\n\n## Training step (forward, loss, backward)\n\n{table(result['training'])}\n",
        "utf-8",
    )


if __name__ == "__main__":
    main()
