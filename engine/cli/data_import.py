"""``data import``: files of other projects, and the user's own recordings, into a store."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from engine.cli import CommandError
from engine.cli.progress import JsonProgress, Style, stop_with_input
from engine.data.bodies import RawSource
from engine.data.catalogue import import_name_problem, made_of_other_files
from engine.data.parts import Plan, Progress, build_store
from engine.data.prepare import fingerprint, read_single
from engine.data.readers.ctrgcn_npz import open_ctrgcn_npz
from engine.data.readers.interchange import interchange_format, open_interchange
from engine.data.readers.recordings import LABELS_FILE, open_recordings, recording_classes
from engine.data.readers.stgcn_npy import Content, open_stgcn_npy
from engine.data.readers.traces import TRACE_FILE
from engine.data.sets import dataset_info
from engine.data.store import SequenceStore
from engine.paths import stores


def import_(
    name: tyro.conf.Positional[str],
    raw: Path,
    content: Content | None = None,
    padding: Literal["zeros", "gl_transformer"] = "zeros",
    names: Path | None = None,
    classes: Path | None = None,
    fps: float = 30.0,
    replace: bool = False,
    workers: int = 0,
    progress: Style = "text",
) -> int:
    """Write a store from files other projects made, or from recordings of this program.

    Read are: .npz of the CTR-GCN family (also InfoGCN's and MAMP's), folders of the ST-GCN family (train_data.npy,
    train_label.pkl; also 2s-AGCN's, CrosSCLR's, HiCLR's, GL-Transformer's), 3-D pickles of PYSKL and MMAction2, and
    recordings with labels (a labels.csv with the columns file,person,start,end,label, or the recognised segments,
    which should be looked through first). Pickles are read without running anything in them. What these files hold was
    cleaned and perhaps normalised by whoever made them: it is stored as it is, so give the store a name of its own.

    Args:
        name: Name of the new store: DATASET.WORD for a known dataset (ntu60.ctrgcn), any word for others (my_actions).
        raw: The file or folder.
        content: ST-GCN family: which arrays, when the folder holds several.
        padding: ST-GCN family: what stands behind the end of a sequence; GL-Transformer fills up with 99.9.
        names: CTR-GCN family: a list of the usable recordings, one name per line, to give the rows their names back.
        classes: Class names, one per line, for sets this program does not know. Recordings need none.
        fps: Frames per second of recordings, and of sets this program does not know.
        replace: Put this in the place of a store of that name that was made of other files.
        workers: Processes; 0 takes one for every core.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    if problem := import_name_problem(name):
        raise CommandError(problem)
    if not raw.exists():
        raise CommandError(f"{raw} does not exist")
    folder = stores() / name
    if not replace and made_of_other_files(folder, raw):
        raise CommandError(
            f"there is a store {name} already, and it was not made from {raw}: take another name, or --replace"
        )
    recorded = _is_recording(raw)
    labels = list(recording_classes(raw)) if recorded else []
    if recorded and not labels:
        raise CommandError(
            f"{raw}: no recording here has a label; write {LABELS_FILE} (file,person,start,end,label) beside them"
        )
    known = _class_names(classes) if classes else []
    try:
        info = dataset_info(name)
        known, fps = known or list(info.classes), info.fps
    except KeyError:
        known = known or labels
        if not known:
            raise CommandError(
                f"the classes of {name} are not known: give --classes FILE, or call the store DATASET.WORD if it is "
                "one of the datasets of this program (data list)"
            ) from None
    source = _open(raw, recorded, content, padding, names, known, fps)
    plan = Plan(
        source.items, partial(read_single, source.read), name, tuple(known), fps,
        source=f"{fingerprint(raw)} {content} {padding} {names}", parallel=source.parallel, root=raw,
    )  # fmt: skip
    about = {"raw": str(raw.absolute()), "key": plan.key(), "imported": True, "missing": list(source.missing[:2000])}
    began = time.perf_counter()
    if progress == "json":
        stop_with_input()
    listen = JsonProgress() if progress == "json" else _line
    damaged = build_store(plan, folder, about, workers, listen, f"importing {name}")
    if progress == "text":
        print(file=sys.stderr)
    for entry in damaged[:20]:
        print(f"left out: {entry['reason']}", file=sys.stderr)
    store = SequenceStore(folder)
    print(f"{name}: {len(store)} sequences, {int(store.length.sum())} frames in {time.perf_counter() - began:.1f} s")
    print(
        f"{len(damaged)} left out as damaged, {len(source.missing)} named but absent, {len(source.excluded)} unlabelled"
    )
    print(f"store: {folder}")
    return 0


def _class_names(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is no text in UTF-8 ({error.reason}); save it as such") from error


def _is_recording(raw: Path) -> bool:
    if raw.is_file():
        return raw.suffix == ".jsonl"
    return any(next(raw.glob(levels + TRACE_FILE), None) for levels in ("", "*/", "*/*/"))


def _open(
    raw: Path, recorded: bool, content: Content | None, padding: str, names: Path | None, classes: list[str], fps: float
) -> RawSource:
    if recorded:
        from engine.live.recorded import lift_as_live

        return open_recordings(raw, classes, lift_as_live, fps)
    kind = interchange_format(raw)
    if kind == "ctrgcn" and names is not None:
        return open_ctrgcn_npz(raw, names.read_text("utf-8", errors="replace").split())
    if kind == "stgcn":
        preset: Literal["stgcn", "gl_transformer"] = "gl_transformer" if padding == "gl_transformer" else "stgcn"
        return open_stgcn_npy(raw.parent if raw.suffix == ".pkl" else raw, content, preset)
    return open_interchange(raw)


def _line(progress: Progress) -> None:
    damaged = f", {progress.damaged} damaged" if progress.damaged else ""
    print(f"\r{progress.what}: {progress.done}/{progress.total}{damaged}", end="", file=sys.stderr, flush=True)
