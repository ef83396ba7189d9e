"""Measures CMD's and I2MD's training step: ours against three encoders run one by one on clips augmented one by one.

    python benchmarks/i2md_step.py [--rounds 2] [--only CASE...]

Writes ``i2md_step.md`` and ``i2md_step.json`` beside this file; what an earlier run left there stays where this one
does not measure it again. Every side runs in a process of its own, which also gives its peak memory; the sides take
their steps in turn, on one core. A step starts from padded clips of 300 frames and ends with the optimiser: two views,
streams, query and key encoders, all losses, gradients. The other sides' encoders are the framework's GRU, frame by
frame as the published code runs it and over whole sequences, and the plain transcription of ST-GCN from the parity
tests; their losses are written out, one matrix per term.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.augment import one_cmd, processor  # noqa: E402
from engine.data.batch.loader import _keep_freed_memory  # noqa: E402
from engine.methods.distillation import Student, Teacher, Temperatures, contrast_and_distil  # noqa: E402
from engine.methods.i2md import I2MD  # noqa: E402
from engine.methods.i2md_settings import CmdSettings, I2mdSettings  # noqa: E402
from engine.models.checkpoint import build_encoder  # noqa: E402
from engine.models.gru import GRUEncoder, GRUPair, ProjectionHead, _Recurrence  # noqa: E402
from engine.models.stgcn import one_hop_partition  # noqa: E402
from engine.skeleton.layout import NTU25  # noqa: E402
from tests.engine.models.plain.stgcn import Plain as PlainSTGCN  # noqa: E402

FRAMES, CLASSES = 300, 60
# backbone, its arguments, clips per batch, precision, sides
GRU_SIDES = ("cmd", "i2md", "frame by frame", "library GRU")
CASES: dict[str, tuple[str, dict, int, str, tuple[str, ...]]] = {
    "ST-GCN": ("stgcn", {}, 32, "fp32", ("cmd", "i2md", "plain")),
    "GRU, 256 wide": ("gru", {"hidden": 256}, 32, "fp32", GRU_SIDES),
    "GRU, 256 wide, bf16 autocast": ("gru", {"hidden": 256}, 32, "bf16", GRU_SIDES),
    # Two gigabytes a side.
    "GRU, 1024 wide, as published": ("gru", {}, 8, "fp32", ("cmd", "frame by frame", "library GRU")),
}


class FrameByFrame(nn.Module):
    """The published form: the framework's bidirectional GRU is given one frame at a time and its states go on."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm1d(150)
        self.gru = nn.GRU(150, hidden, num_layers=3, bidirectional=True, batch_first=True)

    def forward(self, clips: Tensor) -> Tensor:
        n, c, t, v, m = clips.shape
        x = self.input_norm(clips.permute(0, 2, 3, 1, 4).reshape(n, t, v * c * m).transpose(1, 2)).transpose(1, 2)
        state = None
        for frame in x.unbind(1):
            out, state = self.gru(frame.unsqueeze(1), state)
        return out[:, -1]


class LibraryGRU(GRUEncoder):
    """Whole sequences through the framework's GRU."""

    def __init__(self, hidden: int) -> None:
        super().__init__(CLASSES, hidden=hidden)
        for layer in self.layers:
            assert isinstance(layer, GRUPair)
            layer.run = lambda gru, x: gru(x)[0]  # type: ignore[method-assign]


class OneByOne(nn.Module):
    """CMD as its equations read, three encoders after one another, clips augmented by NumPy one after another."""

    def __init__(self, make: Callable[[], nn.Module], width: int) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Sequential(make(), _Features(), ProjectionHead(width)) for _ in range(3))
        self.keys = copy.deepcopy(self.queries).requires_grad_(False)
        self.queues = [functional.normalize(torch.randn(128, 16384), dim=0) for _ in range(3)]
        self.pointer = 0
        self.rng = np.random.default_rng(0)
        self.parents = torch.tensor(NTU25.parents)

    def views(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        made = [(one_cmd(clip, self.rng), one_cmd(clip, self.rng)) for clip in clips.numpy()]
        first, second = (torch.from_numpy(np.stack(view)) for view in zip(*made, strict=True))
        return first, second

    def streams(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        motion = torch.zeros_like(x)
        motion[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
        return x, motion, x - x[:, :, :, self.parents]

    def forward(self, clips: Tensor) -> Tensor:
        first, second = self.views(clips)
        q = [encoder(x) for encoder, x in zip(self.queries, self.streams(first), strict=True)]
        with torch.no_grad():
            for query, key in zip(self.queries.parameters(), self.keys.parameters(), strict=True):
                key.data = 0.999 * key.data + 0.001 * query.data
            k = [encoder(x) for encoder, x in zip(self.keys, self.streams(second), strict=True)]
        loss = naive_cmd(q, k, [queue.clone() for queue in self.queues])
        for queue, keys in zip(self.queues, k, strict=True):
            queue[:, self.pointer : self.pointer + len(keys)] = keys.T
        self.pointer = (self.pointer + len(clips)) % 16384
        return loss


class _Features(nn.Module):
    def forward(self, out: object) -> Tensor:
        # Encoders give logits and features.
        return out if isinstance(out, Tensor) else out[1]  # type: ignore[index]


def naive_cmd(q: list[Tensor], k: list[Tensor], queues: list[Tensor]) -> Tensor:
    target = torch.zeros(len(q[0]), dtype=torch.int64)
    loss = torch.zeros(())
    for a in range(3):
        own = torch.einsum("nd,nd->n", q[a], k[a]).unsqueeze(1)
        loss = loss + functional.cross_entropy(torch.cat([own, q[a] @ queues[a]], 1) / 0.07, target)
    for a in range(3):
        for b in range(3):
            if a != b:
                near, columns = torch.topk(k[a] @ queues[a], 8192, dim=1)
                said = torch.gather(q[b] @ queues[b], 1, columns)
                loss = loss + functional.kl_div(
                    functional.log_softmax(said / 0.1, 1), functional.softmax(near / 0.05, 1), reduction="batchmean"
                )
    return loss


# A side in its process -----------------------------------------------------------------------------------------------


def make_side(side: str, backbone: str, args: dict) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The module, and clips ``(N, 3, 300, 25, 2)`` to the loss."""
    torch.manual_seed(0)
    if side in ("cmd", "i2md"):
        settings = CmdSettings() if side == "cmd" else I2mdSettings()
        width = 2 * args.get("hidden", 1024) if backbone == "gru" else 256
        method = I2MD(lambda: build_encoder(backbone, CLASSES, "ntu25", 2, args), width, settings)
        for queues in method.queues.values():
            for queue in queues.values():  # type: ignore[operator]
                queue.seen.fill_(len(queue))  # the cluster branch is on
        generator = torch.Generator().manual_seed(0)
        return method, lambda x: method((x,), (torch.full((len(x),), FRAMES),), generator).loss
    hidden = args.get("hidden", 1024)
    if side == "plain":
        graph = torch.from_numpy(one_hop_partition(NTU25))
        plain = OneByOne(lambda: PlainSTGCN(CLASSES, graph), 256)
    else:
        kind = FrameByFrame if side == "frame by frame" else LibraryGRU
        plain = OneByOne(lambda: kind(hidden), 2 * hidden)
    return plain, plain


def peak_mib() -> float:
    """Most memory this process ever had; not what rusage says, which begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def serve(side: str, backbone: str, args: dict, batch: int, precision: str) -> None:
    """One step for every line that comes in; processor seconds and peak memory go out."""
    torch.set_num_threads(1)
    if side in ("cmd", "i2md"):
        _keep_freed_memory()  # what our clip loader does in every training
    module, loss_of = make_side(side, backbone, args)
    trained = [p for name, p in module.named_parameters() if p.requires_grad and "classifier" not in name]
    optimiser = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-4)
    clips = torch.randn(batch, 3, FRAMES, 25, 2, generator=torch.Generator().manual_seed(1))
    for _ in sys.stdin:
        start = time.process_time()
        low = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with low:
            loss = loss_of(clips)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds = time.process_time() - start
        peak = peak_mib()
        print(json.dumps({"seconds": seconds, "peak_mib": peak, "loss": loss.item()}), flush=True)


def measure(case: str, rounds: int) -> dict:
    backbone, args, batch, precision, sides = CASES[case]
    started = {
        side: subprocess.Popen(
            [sys.executable, __file__, "--serve", json.dumps([side, backbone, args, batch, precision])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for side in sides
    }  # fmt: skip
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    times: dict[str, list[float]] = {side: [] for side in sides}
    peaks: dict[str, float] = {}
    try:
        for turn in range(rounds + 1):
            for side, process in started.items():
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline())
                peaks[side] = answer["peak_mib"]
                if turn:
                    times[side].append(answer["seconds"])
                print(f"{case}: {side} {answer}", file=sys.stderr, flush=True)
    finally:
        for process in started.values():
            process.communicate()
    best = {side: float(np.median(taken)) for side, taken in times.items()}
    return {
        "batch": batch,
        "rounds": rounds,
        "load": load,
        "sides": {
            side: {
                "seconds": round(best[side], 3),
                "clips_per_s": round(batch / best[side], 2),
                "peak_mib": round(peaks[side]),
                "cmd_is_faster": round(best[side] / best["cmd"], 2),
            }
            for side in sides
        },
    }


# The losses alone ----------------------------------------------------------------------------------------------------


def losses_alone(which: str) -> None:
    """CMD's losses forward and backward at the published size; seconds, peak memory, what is kept in between."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return functional.normalize(torch.randn(*shape, generator=generator), dim=1)

    q = [unit(64, 128).requires_grad_() for _ in range(3)]
    k, banks = [unit(64, 128) for _ in range(3)], [unit(16384, 128) for _ in range(3)]

    def loss() -> Tensor:
        if which == "naive":
            return naive_cmd(q, k, [bank.T for bank in banks])
        students = [Student(q[i], k[i], banks[i], 1.0, {j: 1.0 for j in range(3) if j != i}) for i in range(3)]
        return contrast_and_distil(students, [Teacher(*x) for x in zip(k, banks)], Temperatures()).loss

    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        loss()
    constant = {x.untyped_storage().data_ptr() for x in [*q, *k, *banks]}
    kept_mib = sum(size for at, size in kept.items() if at not in constant) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        loss().backward()
    held, peak = 0, 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    times = []
    for _ in range(7):
        start = time.process_time()
        loss().backward()
        times.append(time.process_time() - start)
    print(
        json.dumps(
            {"ms": round(min(times) * 1e3, 1), "peak_mib": round(peak / 2**20, 1), "kept_mib": round(kept_mib, 2)}
        )
    )


# One batched recurrence against one after another --------------------------------------------------------------------


class Stacked(torch.autograd.Function):
    """The recurrence of G GRUs in one batched product per frame: ``(T, G, N, 3H), (G, 3H, H), (G, 1, 3H)``."""

    @staticmethod
    def forward(ctx, gates, weight, bias):  # type: ignore[no-untyped-def, override]
        steps, g, n, wide = gates.shape
        h = wide // 3
        transposed = weight.transpose(1, 2)
        states = gates.new_zeros(steps + 1, g, n, h)
        both, candidate, inner = (gates.new_empty(steps, g, n, size) for size in (2 * h, h, h))
        for t in range(steps):
            recurrent = torch.baddbmm(bias, states[t], transposed)
            torch.sigmoid(gates[t, ..., : 2 * h] + recurrent[..., : 2 * h], out=both[t])
            inner[t] = recurrent[..., 2 * h :]
            torch.tanh(torch.addcmul(gates[t, ..., 2 * h :], both[t, ..., :h], inner[t]), out=candidate[t])
            torch.lerp(candidate[t], states[t], both[t, ..., h:], out=states[t + 1])
        ctx.save_for_backward(weight, states, both, candidate, inner)
        return states[1:]

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        weight, states, both, candidate, inner = ctx.saved_tensors
        steps, g, n, h = candidate.shape
        reset, update = both[..., :h], both[..., h:]
        into_candidate = (1 - update) * (1 - candidate.square())
        into_update = (states[:-1] - candidate) * update * (1 - update)
        into_reset = inner * reset * (1 - reset)
        d_candidate, d_recurrent = torch.empty_like(candidate), candidate.new_empty(steps, g, n, 3 * h)
        carried = candidate.new_zeros(g, n, h)
        for t in range(steps - 1, -1, -1):
            carried = carried + grad[t]
            torch.mul(carried, into_candidate[t], out=d_candidate[t])
            torch.mul(d_candidate[t], into_reset[t], out=d_recurrent[t, ..., :h])
            torch.mul(carried, into_update[t], out=d_recurrent[t, ..., h : 2 * h])
            torch.mul(d_candidate[t], reset[t], out=d_recurrent[t, ..., 2 * h :])
            carried = torch.addcmul(torch.bmm(d_recurrent[t], weight), carried, update[t])
        flat = d_recurrent.transpose(0, 1).reshape(g, steps * n, 3 * h)
        before = states[:-1].transpose(0, 1).reshape(g, steps * n, h)
        d_weight = torch.bmm(flat.transpose(1, 2), before)
        return torch.cat([d_recurrent[..., : 2 * h], d_candidate], 3), d_weight, flat.sum(1, keepdim=True)


def batched_recurrence(hidden: int, n: int, rounds: int) -> dict:
    """Forward and backward of a layer's six GRUs (three streams), one after another and as one; processor seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weight, bias = torch.randn(6, 3 * hidden, hidden) / hidden**0.5, torch.zeros(6, 1, 3 * hidden)
    gates = torch.randn(64, 6, n, 3 * hidden) / 2
    each = [(gates[:, g].contiguous(), weight[g].clone(), bias[g, 0].clone()) for g in range(6)]
    results: dict[str, list[Tensor]] = {}

    def after_another() -> None:
        leaves = [tuple(x.clone().requires_grad_() for x in one) for one in each]
        torch.stack([_Recurrence.apply(*one)[-1] for one in leaves]).sum().backward()
        results["each"] = [torch.stack([one[1].grad for one in leaves])]  # type: ignore[misc]

    def as_one() -> None:
        leaves = [x.clone().requires_grad_() for x in (gates, weight, bias)]
        Stacked.apply(*leaves)[-1].sum().backward()
        results["one"] = [leaves[1].grad]  # type: ignore[list-item]

    times: dict[str, list[float]] = {"each": [], "one": []}
    for _ in range(rounds):
        for name, run in (("each", after_another), ("one", as_one)):
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    torch.testing.assert_close(results["each"], results["one"], rtol=1e-3, atol=1e-3)
    each_s, one_s = min(times["each"]), min(times["one"])
    return {
        "hidden": hidden, "clips": n, "each_s": round(each_s, 3), "one_s": round(one_s, 3),
        "one_is_faster": round(each_s / one_s, 2),
    }  # fmt: skip


# Report --------------------------------------------------------------------------------------------------------------


def report(result: dict) -> str:
    lines = [
        "# CMD's and I2MD's training step, measured",
        "",
        f"Made by `python benchmarks/i2md_step.py` on {result['machine']}; one core, processor time, medians of the "
        "steps after the first; every side in a process of its own, taking steps in turn. A step: padded clips of 300 "
        "frames, two crops and augmentations, three streams, query and key encoders, losses (queue 16384, 8192 "
        "neighbours), gradients, SGD.",
        "",
        "Ours: whole batches augmented, one pass over the similarities, memory of large intermediate results kept, "
        "our encoders. `frame by frame`: the framework's bidirectional GRU fed one frame at a time, as the published "
        "code runs it; `library GRU`: whole sequences through the framework's GRU; `plain`: the plain transcription of "
        "ST-GCN; all three with clips augmented one by one in NumPy, encoders one by one, and losses written out.",
        "",
        "| case | side | s / step | clips/s | our CMD step is faster | peak MiB | steps | load of the machine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, found in result["cases"].items():
        for side, row in found["sides"].items():
            name = {"cmd": "**CMD, ours**", "i2md": "**I2MD, ours**"}.get(side, f"CMD, {side}")
            lines.append(
                f"| {case}, {found['batch']} clips | {name} | {row['seconds']} | {row['clips_per_s']} | "
                f"{row['cmd_is_faster']} x | {row['peak_mib']} | {found['rounds']} | "
                f"{found['load']} |"
            )
    lines += [
        "",
        "A GRU's step is nearly all matrix products, the same ones in every form: against the framework's GRU over "
        "whole sequences there is little to win in equal precision, against frame by frame the size of the products. "
        "The machine was not quiet where the load says so.",
        "",
        "## CMD's losses alone",
        "",
        "64 clips, three streams, queue 16384, 8192 neighbours, float32; forward and backward.",
        "",
        "| | ms | peak MiB on top of vectors and queues | kept for the backward pass, MiB |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['ms']} | {row['peak_mib']} | {row['kept_mib']} |"
            for name, row in result["losses"].items()
        ),
        "",
        "## Three encoders as one batched product?",
        "",
        "Forward and backward of one layer of three streams (six recurrences over 64 frames): one after another, and "
        "as one batched product per frame. Processor time, best of the rounds. On this processor batching gains "
        "nothing that pays for stacking the weights, so the encoders run one after another; on a GPU it was not "
        "measured.",
        "",
        "| hidden | clips | one after another s | as one s | as one is faster |",
        "|---|---|---|---|---|",
        *(
            f"| {row['hidden']} | {row['clips']} | {row['each_s']} | {row['one_s']} | {row['one_is_faster']} x |"
            for row in result["recurrence"]
        ),
    ]
    return "\n".join(lines) + "\n"


def alone(which: str) -> dict:
    command = [sys.executable, __file__, "--losses", which]
    found: dict = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--losses", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*json.loads(options.serve))
        return 0
    if options.losses:
        losses_alone(options.losses)
        return 0
    file = HERE / "i2md_step.json"
    old = json.loads(file.read_text()) if file.is_file() else {}
    machine = f"{processor()}, {os.cpu_count()} processors, torch {torch.__version__}"
    result: dict = {"machine": machine, "cases": old.get("cases", {})}
    result["losses"] = old.get("losses") or {"written out": alone("naive"), "ours": alone("ours")}
    result["recurrence"] = old.get("recurrence") or [
        batched_recurrence(hidden, n, rounds) for hidden, n, rounds in ((256, 32, 4), (1024, 8, 2))
    ]
    # Every case is kept as soon as it is there: the large ones take minutes.
    for case in [None, *options.only]:
        if case is not None:
            result["cases"][case] = measure(case, options.rounds)
        file.write_text(json.dumps(result, indent=1) + "\n")
        (HERE / "i2md_step.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
