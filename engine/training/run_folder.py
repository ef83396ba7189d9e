"""The folder of a run: recipe, event log, lock, stop request, results. Free of torch, so that runs are listed at once.

Every file is replaced as a whole or appended to line by line, so a run that is killed leaves a folder that can be read.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import yaml

from engine.files import replace_files
from engine.training.event_tail import first_event, newest_first
from engine.training.recipe import BaseRecipe, RecipeError, differences, parse_recipe

Listener = Callable[[dict[str, Any]], None]
_STATUS_KINDS = frozenset({"run", "epoch", "end", "stopped", "failed"})
# Whoever asks whether a run is running holds its lock for a moment; a training that begins just then waits for it.
_LOCK_TRIES, _LOCK_WAIT_S = 20, 0.05


class RunError(Exception):
    """A run's folder can't be used; the text says which file, why, and what to do."""


def write_atomically(path: Path, data: bytes | bytearray) -> None:
    """Replace a file at once: whoever reads it, or whatever interrupts us, finds the old or the new one, whole.

    Raises
    ------
    RunError
        It can't be written (a full disk); the old file is kept.
    """
    try:
        replace_files({path: data})
    except OSError as error:
        raise RunError(
            f"{path} can't be written ({error.strerror}); what was saved before is kept: make room and resume the run"
        ) from error


@dataclass(frozen=True)
class Status:
    """What a folder says about its run: new, running, finished, stopped, failed or interrupted."""

    state: str
    epoch: int = 0
    epochs: int = 0
    last: dict[str, Any] | None = None
    reason: str = ""


class RunFolder:
    """One run.

    Parameters
    ----------
    path : Path
        Made by :meth:`begin` if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self.events_file = path / "events.jsonl"
        self.state_file = path / "state.safetensors"
        self.results_file = path / "results.json"
        self.environment_file = path / "environment.json"
        self.stop_file = path / "stop"
        self.lock_file = path / "lock"
        # What the process of a run started by the window wrote to its standard output and error.
        self.output_file = path / "output.log"
        self.checkpoint = path / "checkpoint"
        self.best = path / "checkpoint_best_on_test"

    @property
    def name(self) -> str:
        return self.path.name

    def exists(self) -> bool:
        return self.recipe_file.is_file() or self.events_file.is_file()

    def recipe(self) -> BaseRecipe:
        """The resolved recipe; raises :class:`RunError` if it is missing or damaged."""
        try:
            return parse_recipe(yaml.safe_load(self.recipe_file.read_text("utf-8")))
        except FileNotFoundError as error:
            raise RunError(f"{self.path} holds no run ({self.recipe_file.name} is missing)") from error
        except (ValueError, AttributeError, RecipeError, yaml.YAMLError, OSError) as error:
            raise RunError(f"{self.recipe_file} is damaged: {error}") from error

    def begin(self, recipe: BaseRecipe) -> None:
        """Make the folder and keep the recipe, or make sure that it is this recipe's.

        A run that failed before it had made anything (a mistake in its recipe) gives its folder to the next one.

        Raises
        ------
        RecipeError
            The folder holds a run of another recipe; the text names the fields.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.recipe_file.is_file():
            old = self.recipe()
            if old.digest() != recipe.digest() and self._failed_at_once():
                self.events_file.unlink(missing_ok=True)
            elif old.digest() != recipe.digest():
                changed = differences(old.model_dump(mode="json"), recipe.model_dump(mode="json"))
                what = ", ".join(f"{key} {a!r} -> {b!r}" for key, (a, b) in changed.items())
                raise RecipeError(
                    f"{self.path} belongs to another recipe ({what}); choose another run folder or delete this one"
                )
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_atomically(self.recipe_file, text.encode())
        self.stop_file.unlink(missing_ok=True)

    def _failed_at_once(self) -> bool:
        """Whether it failed with nothing worth keeping: no epoch, state, result, checkpoint, or step of a chain."""
        made = (self.state_file, self.results_file, self.checkpoint, self.best)
        inside = any(path.is_dir() for path in self.path.iterdir())
        status = self.logged_status()
        return status.state == "failed" and status.last is None and not inside and not any(p.exists() for p in made)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; the system lets go of it however the process ends.

        Raises
        ------
        RunError
            Another process is training in this folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock_file.open("a+", encoding="utf-8") as file:
            for _ in range(_LOCK_TRIES):
                if locked := _lock(file):
                    break
                time.sleep(_LOCK_WAIT_S)
            if not locked:
                raise RunError(f"{self.path} is being trained by another process ({self._holder()})")
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield

    def running(self) -> bool:
        """Whether some process holds the run."""
        if not self.lock_file.is_file():
            return False
        with self.lock_file.open("a+", encoding="utf-8") as file:
            return not _lock(file)

    def holder(self) -> int | None:
        """Number of the process that holds the run, or last held it; None if nobody ever did."""
        try:
            return int(self.lock_file.read_text("utf-8").removeprefix("process "))
        except (OSError, ValueError):
            return None

    def _holder(self) -> str:
        try:
            return self.lock_file.read_text("utf-8") or "process unknown"
        except OSError:
            return "process unknown"

    def events(self) -> Iterator[dict[str, Any]]:
        """Events in order; a last line that was cut off by a kill is left out."""
        if self.events_file.is_file():
            with self.events_file.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    with contextlib.suppress(json.JSONDecodeError):
                        yield json.loads(line)

    def status(self) -> Status:
        """Read where the run stands from the end of its events; a long log is not read as a whole."""
        status = self.logged_status()
        return replace(status, state="running") if self.running() else status

    def logged_status(self) -> Status:
        """As :meth:`status`, but what the events alone say: a running training looks interrupted."""
        state, reason, epoch, epochs = "", "", -1, -1
        last: dict[str, Any] | None = None
        for event in newest_first(self.events_file, _STATUS_KINDS):
            kind = event["event"]
            if not state:
                ended = kind in ("end", "stopped", "failed")
                state = {"end": "finished"}.get(kind, kind) if ended else "interrupted"
                reason = event.get("reason", "") if ended else ""
                # Every process of this folder trained the same recipe, to the same last epoch.
                epochs = (first_event(self.events_file) or {}).get("epochs", -1)
            if kind in ("run", "epoch") and epoch < 0:
                epoch = event["epoch"]
            if kind == "run" and epochs < 0:
                epochs = event["epochs"]
            if kind == "epoch":
                last = last or event
            if last and epochs >= 0:
                break
        return Status(state or "new", max(epoch, 0), max(epochs, 0), last, reason)

    def results(self) -> dict[str, Any] | None:
        """What a finished run measured; None before; raises :class:`RunError` for a damaged file."""
        if not self.results_file.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(self.results_file.read_text("utf-8"))
        except ValueError as error:
            raise RunError(f"{self.results_file} is damaged: {error}") from error
        return found

    def write_json(self, path: Path, values: dict[str, Any]) -> None:
        write_atomically(path, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())


def name_problem(name: str) -> str:
    """What is wrong with a run's name, "" if nothing: it becomes a folder's, among the others and not hidden."""
    if "/" in name or "\\" in name:
        return "a run's name becomes the name of its folder, so it can't hold / or \\"
    return "a run's name can't begin with a dot: its folder would be hidden" if name.startswith(".") else ""


def run_place(root: Path, name: str) -> Path:
    """Where a run goes that was given no folder; raises :class:`RecipeError` for a name like ``a/b``."""
    if problem := name_problem(name):
        raise RecipeError(f"name: {problem}")
    return root / name


class EventLog:
    """Appends JSON lines to ``events.jsonl`` and tells a listener; with no path (other ranks) it does neither."""

    def __init__(self, path: Path | None, listen: Listener | None = None) -> None:
        self._listen = listen if path else None
        self._file = None
        if path:
            _drop_torn_line(path)
            self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, **values: Any) -> None:
        """Append one event; raises :class:`RunError` if the disk is full."""
        record = {"event": event, "at": time.time(), **values}
        if self._file:
            try:
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()
            except OSError as error:
                raise RunError(
                    f"{self._file.name} can't be written ({error.strerror}); make room and resume"
                ) from error
        if self._listen:
            self._listen(record)

    def close(self) -> None:
        if self._file:
            # What could not be flushed was already complained about.
            with contextlib.suppress(OSError):
                self._file.close()


def _drop_torn_line(path: Path) -> None:
    if path.is_file():
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            with path.open("rb+") as file:
                file.truncate(data.rfind(b"\n") + 1)


def _lock(file: IO[str]) -> bool:
    """Whether the file could be locked for as long as it is open."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def find_runs(root: Path) -> list[RunFolder]:
    """Runs below a folder, by name."""
    found = [RunFolder(path) for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    return [run for run in found if run.exists()]
