"""``data film``: a set as the live path would see it, made in parts that survive an interruption."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import numpy as np
import tyro

from engine.cli.progress import JsonProgress, Style, stop_with_input
from engine.data.parts import Progress, build_store
from engine.data.store import SequenceStore
from engine.paths import stores


def film(
    name: tyro.conf.Positional[str],
    variants: Annotated[
        int, tyro.conf.arg(help="Films of every training sequence, each with another person and view.")
    ] = 1,
    per_class: int = 0,
    test_per_class: int = 0,
    split: str = "",
    afresh: bool = False,
    workers: int = 0,
    seed: int = 0,
    progress: Style = "text",
) -> int:
    """Film a prepared dataset with the rendered actor and store it as the live path sees it.

    Writes the store NAME_mediapipe: training sequences with varied people, rooms, distances and views, test sequences
    all alike from 2.8 m. Frames go through MediaPipe, tracking, filter and lifting exactly as live. Ctrl-C loses
    nothing: the same command goes on. Filming takes about as long as the recordings last, so begin with some of every
    class; a later run keeps the films that are there, whether it asks for more of them or for fewer.

    Args:
        name: A prepared dataset.
        variants: Films of every training sequence.
        per_class: Film at most so many training sequences of every class, spread evenly over its subjects; 0: all.
        test_per_class: The same for test sequences.
        split: Whose training and test part; default xsub of merged sets, of others their first split.
        afresh: Film again what is there, for instance after a change of the pose model, and keep nothing else.
        workers: Processes; 0 takes one for every core.
        seed: Seed of people, rooms and views, and of the choice of sequences. Films of smaller ones are not kept.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    from engine.live.filmed_set import plan_films
    from engine.live.through_camera import pose_stage

    store = SequenceStore(stores() / name)
    folder = stores() / f"{name}_mediapipe"
    plan, about = plan_films(store, folder, split, variants, per_class, test_per_class, seed, afresh)
    # Without the pose model every film would fail, one by one.
    pose_stage().load()
    began = time.perf_counter()
    if progress == "json":
        stop_with_input()
    try:
        listen = JsonProgress() if progress == "json" else _line
        unseen = build_store(plan, folder, about, workers or os.cpu_count() or 1, listen, f"filming {name}")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on with what is finished", file=sys.stderr)
        return 1
    if progress == "text":
        print(file=sys.stderr)
    made = SequenceStore(folder)
    missed, frames = int(np.sum(made.column("missed_frames"))), len(made.rows)
    print(f"{made.name}: {len(made)} films, {frames} frames; nobody found in {missed} frames and {len(unseen)} films")
    print(f"{time.perf_counter() - began:.0f} s, films taken over included")
    return 0


def _line(progress: Progress) -> None:
    unseen = f", nobody found in {progress.damaged}" if progress.damaged else ""
    print(f"\r{progress.what}: {progress.done}/{progress.total}{unseen}", end="", file=sys.stderr, flush=True)
