"""``export``: turning a checkpoint into what the live path runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from engine.cli import UsageError
from engine.cli.live import find_checkpoint
from engine.cli.progress import Style, say, stop_with_input
from engine.models.card import CheckpointCard, read_card, require_classifier

# Real clips the graph is checked on, and clips whose ranges int8 is measured on.
_CHECKED, _CALIBRATED = 32, 96


def export(
    checkpoint: tyro.conf.Positional[Path],
    to: Literal["onnx", "tensorrt", "tensorrt-rtx"] = "onnx",
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
    capability: str | None = None,
    calibrate_on: str | None = None,
    out: Path | None = None,
    progress: Style = "text",
) -> int:
    """Write the graph or engine the live path runs, and check it against PyTorch.

    ONNX goes into the checkpoint's folder. TensorRT engines run on one kind of GPU only and go into the user's folder,
    where the live path finds them.

    Examples: "export RUN/checkpoint", "export NAME --precision int8 --calibrate-on utd_mhad",
    "export NAME --to tensorrt-rtx --precision fp16 --capability SM89".

    Args:
        checkpoint: Checkpoint folder with weights and card, or the name of a shipped or trained one.
        to: Kind of result.
        precision: Type it computes in; its input and outputs stay float32.
        capability: Build the engine for this kind of GPU (SM75, SM80, SM86, SM89, SM120, SM121) instead of the one
            here; only tensorrt-rtx, which needs no GPU for it.
        calibrate_on: Prepared store with real clips for int8: ranges from its training part, accuracy on its test part.
        out: Folder for the engine; default the user's.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    if progress == "json":
        stop_with_input()

    def step(what: str, done: int) -> None:
        if progress == "json":
            say(what=what, done=done, total=3, damaged=0)

    if precision == "int8" and calibrate_on is None:
        raise UsageError("int8 needs real clips: --calibrate-on STORE")
    if to == "onnx" and (capability is not None or out is not None):
        raise UsageError("--capability and --out are for TensorRT engines")
    from engine.deploy.export import export_onnx, export_tensorrt
    from engine.paths import engines

    folder = find_checkpoint(checkpoint)
    card = read_card(folder)
    require_classifier(card, folder)
    step("reading clips", 0)
    calibration = training_clips(card, calibrate_on) if calibrate_on is not None else None
    clips = _some_clips(card)
    step("writing and checking", 1)
    if to == "onnx":
        report = export_onnx(folder, clips, precision, calibration)
    else:
        report = export_tensorrt(folder, to, out or engines(), precision, clips, calibration, capability)
    print(f"{report.path}: {report.bytes / 1e6:.1f} MB")
    print(f"differs from PyTorch by at most {report.max_difference:.1e} on {report.clips} clips")
    if report.engine is not None:
        built = report.engine
        target = built.capability if built.gpu == "any" else f"{built.gpu} ({built.capability})"
        print(f"{built.flavour} {built.version}, {precision}, for {target}; built in {built.seconds:.0f} s")
    if to == "onnx" and precision == "int8" and calibrate_on is not None:
        step("measuring accuracy", 2)
        _accuracy(folder, card, calibrate_on)
    step("done", 3)
    return 0


def _some_clips(card: CheckpointCard) -> np.ndarray | None:
    """A few clips of the set the checkpoint was trained on; None where it is not prepared here."""
    from engine.data.store import SequenceStore, StoreError
    from engine.paths import stores
    from engine.training.evaluate import test_clips

    try:
        store = SequenceStore(stores() / card.dataset)
    except StoreError:
        print(f"{card.dataset} is not prepared here: checked on random clips only")
        return None
    return test_clips(store, np.arange(0, len(store), max(1, len(store) // _CHECKED)), card.preprocessing)


def training_clips(card: CheckpointCard, name: str) -> np.ndarray:
    """Clips of the training part, evenly spread; of the whole store where the card's split is not known there."""
    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore, StoreError
    from engine.paths import stores
    from engine.training.evaluate import test_clips

    store = SequenceStore(stores() / name)
    try:
        indices = split_indices(store, card.split)[0]
    except (StoreError, ValueError, KeyError):
        indices = np.arange(len(store))
    spread = np.linspace(0, len(indices) - 1, min(len(indices), _CALIBRATED)).astype(int)
    return test_clips(store, indices[spread], card.preprocessing)


def _accuracy(folder: Path, card: CheckpointCard, name: str) -> None:
    """Print what int8 costs on the test part of the store, where there is one with the card's classes."""
    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore, StoreError
    from engine.deploy.runtime import RuntimeKind, load_runtime
    from engine.paths import stores
    from engine.training.evaluate import test_clips

    store = SequenceStore(stores() / name)
    try:
        indices = split_indices(store, card.split)[1]
    except (StoreError, ValueError, KeyError):
        indices = np.zeros(0, np.int64)
    # An idle class of our own comes after the store's.
    if len(indices) == 0 or list(store.classes) != card.classes[: len(store.classes)]:
        print(f"{name} has no test part {card.split!r} with this checkpoint's classes: accuracy not measured")
        return
    found = []
    kinds: tuple[RuntimeKind, ...] = ("torch", "onnx-int8")
    clips = test_clips(store, indices, card.preprocessing)
    for kind in kinds:
        runtime = load_runtime(folder, kind)
        logits = np.concatenate([runtime.predict(clips[i : i + 16]).logits for i in range(0, len(clips), 16)])
        runtime.close()
        found.append(logits.argmax(1))
    right = [float((answer == store.label[indices]).mean()) for answer in found]
    same = float((found[0] == found[1]).mean())
    print(
        f"top 1 on {len(indices)} test sequences of {name}: fp32 {right[0]:.2%}, int8 {right[1]:.2%} "
        f"({100 * (right[1] - right[0]):+.2f} points); same answer on {same:.1%}"
    )
