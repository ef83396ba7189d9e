"""What is done to runs: queued, started as processes of their own, stopped, cancelled, deleted and brought back.

Everything here may take a moment, so the panel calls it on its worker. The processes outlive the window: they belong to
a session of their own, and what the window must know about them stands in the runs' folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from engine.training.recipe import parse_recipe
from engine.training.run_folder import EventLog, RunError, RunFolder, run_place, write_atomically
from skelapp.processes import child_environment, give_way, program
from skelapp.training.runs import (
    ASKED,
    ASKED_CHAIN,
    CHILD,
    QUEUED,
    SEPARATOR,
    asked_file,
    child_process,
    is_run,
    read_yaml,
)

TRASH = ".deleted"
KEEP_S = 7 * 24 * 3600  # deleted runs can be brought back for a week
KILL_S = 5.0


def free_name(root: Path, name: str) -> str:
    """``name``, or ``name-2``, ``name-3`` ... where runs of that name exist."""
    wanted, number = name, 1
    while (root / wanted).exists():
        number += 1
        wanted = f"{name}-{number}"
    return wanted


def enqueue(root: Path, recipe: dict[str, Any], chain: bool = False) -> RunFolder:
    """Make the folder of a new run that waits for its turn; ``chain`` lets a pretraining's protocols follow.

    Raises
    ------
    RecipeError
        The recipe does not validate, or its name can't be a folder's.
    RunError
        The folder can't be written.
    """
    made = parse_recipe(recipe)
    base = made.name or f"{recipe.get('task', 'run')}_of_{Path(str(recipe.get('parent', ''))).name or 'run'}"
    folder = RunFolder(run_place(root, free_name(root, f"{base}_chain" if chain else base)))
    try:
        folder.path.mkdir(parents=True)
    except OSError as error:
        raise RunError(
            f"{folder.path} can't be made ({error.strerror}): make room, or check the runs folder"
        ) from error
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    try:
        write_atomically(folder.path / (ASKED_CHAIN if chain else ASKED), text.encode())
        wait(folder)
    except RunError as error:
        # Nothing of a run that never was: the form still holds the recipe.
        shutil.rmtree(folder.path, ignore_errors=True)
        reason = getattr(error.__cause__, "strerror", None) or error
        raise RunError(f"{folder.name} can't be queued ({reason}): make room and start it again") from error
    return folder


def wait(folder: RunFolder) -> None:
    """Put a run at the end of the queue: a new one, or one that is to go on."""
    if folder.running():
        raise RunError(f"{folder.name} is being trained already")
    write_atomically(folder.path / QUEUED, json.dumps({"at": time.time()}).encode())


def words_for(folder: RunFolder) -> list[str]:
    """The project's command that starts a run, or goes on with it."""
    asked = asked_file(folder.path)
    if asked.is_file() and not folder.recipe_file.is_file():
        return ["chain" if asked.name == ASKED_CHAIN else "train", str(asked), "--run", str(folder.path)]
    return ["runs", "resume", str(folder.path)]


def start(folder: RunFolder, threads: int, low_priority: bool) -> subprocess.Popen[bytes]:
    """Start the process of a run, with what it says kept in the run's folder.

    Parameters
    ----------
    threads : int
        Processor threads it may use; 0 leaves the choice to torch.
    low_priority : bool
        Give way to everything else on this machine.

    Raises
    ------
    RunError
        It can't be started.
    """
    words = words_for(folder)
    (folder.path / QUEUED).unlink(missing_ok=True)
    how: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        how = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    try:
        with folder.output_file.open("ab") as out:
            out.write(f"{SEPARATOR}{time.strftime('%Y-%m-%d %H:%M:%S')}  main.py {' '.join(words)}\n".encode())
            out.flush()
            process = subprocess.Popen(
                [*program(), *words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=child_environment(threads), **how,
            )  # fmt: skip
    except OSError as error:
        raise RunError(f"{folder.name} can't be started: {error}") from error
    with contextlib.suppress(psutil.Error):
        known = psutil.Process(process.pid)
        if low_priority:
            give_way(process.pid, own_session=True)
        record = {"process": process.pid, "created": known.create_time(), "words": words}
        try:
            write_atomically(folder.path / CHILD, json.dumps(record).encode())
        except RunError:
            # A process that no window could find again must not go on.
            process.kill()
            process.wait(KILL_S)
            raise
    return process


def ask_to_stop(folder: RunFolder) -> None:
    """Let a run finish its step, save and end. One that only waits leaves the queue."""
    (folder.path / QUEUED).unlink(missing_ok=True)
    if folder.running() or child_process(folder.path) is not None:
        folder.stop_file.touch()


def _process_of(folder: RunFolder) -> psutil.Process | None:
    process = child_process(folder.path)
    if process is None and folder.running() and (number := folder.holder()):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(number)
    return process


def cancel(folder: RunFolder) -> None:
    """End a run at once. What it saved last stays, so it can still go on from there.

    Raises
    ------
    RunError
        Its process does not end, or belongs to somebody else.
    """
    (folder.path / QUEUED).unlink(missing_ok=True)
    process = _process_of(folder)
    if process is not None:
        try:
            family = [*process.children(recursive=True), process]
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            _, left = psutil.wait_procs(family, timeout=KILL_S)
        except psutil.Error as error:
            raise RunError(f"{folder.name} can't be ended: {error}") from error
        if any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in left):
            raise RunError(f"{folder.name} does not end (process {process.pid})")
    elif folder.running():
        raise RunError(f"{folder.name} is trained by a process that can't be found here, perhaps on another machine")
    else:
        return
    status = folder.logged_status()
    with folder.locked():
        log = EventLog(folder.events_file)
        try:
            log.write("stopped", epoch=status.epoch, step=0, reason="cancelled; it can go on from what it saved last")
        finally:
            log.close()
    (folder.path / CHILD).unlink(missing_ok=True)


def delete(root: Path, folder: RunFolder) -> Path:
    """Move a run aside; returns where it is kept for a week.

    Raises
    ------
    RunError
        It is running, or can't be moved.
    """
    if folder.running() or child_process(folder.path) is not None:
        raise RunError(f"{folder.name} is running; stop or cancel it before it is deleted")
    place = root / TRASH / f"{folder.name}~{time.time():.0f}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        (folder.path / QUEUED).unlink(missing_ok=True)
        folder.path.replace(place)
        os.utime(place)
    except OSError as error:
        raise RunError(f"{folder.path} can't be deleted: {error}") from error
    return place


def bring_back(root: Path, place: Path) -> RunFolder:
    """Undo :func:`delete`."""
    name = free_name(root, place.name.rpartition("~")[0])
    try:
        place.replace(root / name)
    except OSError as error:
        raise RunError(f"{name} can't be brought back: {error}") from error
    return RunFolder(root / name)


def empty_trash(root: Path, now: float) -> None:
    """Really delete what was moved aside more than a week ago."""
    trash = root / TRASH
    for place in trash.iterdir() if trash.is_dir() else ():
        if is_run(place) and now - place.stat().st_mtime > KEEP_S:
            shutil.rmtree(place, ignore_errors=True)


def recipe_of(folder: RunFolder) -> dict[str, Any]:
    """A run's recipe as it was asked for, or as it was resolved.

    Raises
    ------
    RunError
        There is none that can be read.
    """
    for file in (asked_file(folder.path), folder.recipe_file):
        found = read_yaml(file)
        if found:
            return found
    raise RunError(f"{folder.path} holds no recipe that can be read")


def threads_of(path: Path) -> int:
    """Processor threads a run's own recipe asks for; 0 if it leaves the choice."""
    found = (read_yaml(asked_file(path)) or read_yaml(path / "recipe.yaml")).get("threads", 0)
    return found if isinstance(found, int) else 0
