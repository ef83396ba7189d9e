"""The command line: one table of sub-commands, each imported only when it is called.

A command is a typed function that tyro turns into options; adding one is one line in :data:`COMMANDS`. Results go to
stdout, progress to stderr. Exit status: 0 done, 1 failed (one clear line on stderr), 2 wrong usage.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A sub-command: its words, the function ``module:name`` that does it, and one line of help.

    The function's parameters become options; it returns an exit status or None for 0. A function with the attribute
    ``takes_argv = True`` gets the list of arguments as they are.
    """

    name: str
    target: str
    help: str

    def load(self) -> Callable[..., int | None]:
        module, _, function = self.target.partition(":")
        found: Callable[..., int | None] = getattr(importlib.import_module(module), function)
        return found


COMMANDS: tuple[Command, ...] = (
    Command("recognize", "engine.cli.live:recognize", "Name the actions in a camera, video, stream, folder or trace."),
    Command("data list", "engine.cli.data:list_", "List the datasets and which of them are prepared here."),
    Command(
        "data prepare", "engine.cli.data:prepare", "Read downloaded files into a store; goes on after an interruption."
    ),
    Command("data check", "engine.cli.data:check", "Examine a store: counts, damage, copies; draw a sample."),
    Command(
        "data import", "engine.cli.data_import:import_", "Read files of other projects or own recordings into a store."
    ),
    Command("data export", "engine.cli.data_export:export", "Write a store for PYSKL/MMAction2 or the CTR-GCN family."),
    Command("data merge", "engine.cli.data_merge:merge", "Make one set of several: the same actions, by a class map."),
    Command("data film", "engine.cli.data_film:film", "Film a dataset with the rendered actor, as seen live."),
    Command("train", "engine.cli.training:train", "Train an encoder as a recipe says."),
    Command("chain", "engine.cli.chain:chain", "Pretrain and judge the encoder, as one run that can be resumed."),
    Command("runs list", "engine.cli.runs:list_", "List runs and where they stand."),
    Command("runs show", "engine.cli.runs:show", "Print a run's recipe, progress and results."),
    Command("runs compare", "engine.cli.runs:compare", "Show where runs differ: recipe fields and results."),
    Command("runs summary", "engine.cli.runs_summary:summary", "Mean and deviation of runs that differ by seed."),
    Command("runs resume", "engine.cli.runs:resume", "Go on with a run that was stopped or interrupted."),
    Command("runs stop", "engine.cli.runs:stop", "Let a running training finish its step, save and end."),
    Command("runs delete", "engine.cli.runs:delete", "Delete runs with their checkpoints."),
    Command("evaluate", "engine.cli.training:evaluate", "Test a checkpoint on a dataset's test part."),
    Command("compare", "engine.cli.compare:compare", "Compare checkpoints on the same test sequences."),
    Command("models import", "engine.cli.models_import:import_", "Import weights (.pt) other projects published."),
    Command("ensemble", "engine.cli.ensemble:ensemble", "Test checkpoints of several streams as one."),
    Command("models list", "engine.cli.models:list_", "List shipped and trained checkpoints."),
    Command("models show", "engine.cli.models:show", "Print the card of a checkpoint."),
    Command("teach new", "engine.cli.teach:new", "Make an empty pack of your own actions."),
    Command("teach add", "engine.cli.teach:add", "Teach an action from videos of it; no training needed."),
    Command("teach list", "engine.cli.teach:list_", "List the packs and their actions."),
    Command("teach show", "engine.cli.teach:show", "Show the takes of a pack."),
    Command("teach remove", "engine.cli.teach:remove", "Remove an action or takes of it."),
    Command("teach check", "engine.cli.teach_train:check", "Say which of the taught actions look alike."),
    Command("teach train", "engine.cli.teach_train:train", "Fine-tune classifier or encoder: a new checkpoint."),
    Command("teach pack", "engine.cli.teach:pack", "Write a pack as one .zip to give away."),
    Command("teach load", "engine.cli.teach:load", "Unpack a .zip with somebody's actions."),
    Command("teach export", "engine.cli.teach:export", "Write the takes as PYSKL pickle or as a store for training."),
    Command("teach known", "engine.cli.teach_train:known", "Measure a checkpoint's own classes, to teach beside them."),
    Command("attention", "engine.cli.attention:attention", "Draw what a GL-Transformer looks at in a sequence."),
    Command("calibrate", "engine.cli.calibrate:calibrate", "Fit how sure the live decision is, on held-out sequences."),
    Command(
        "calibrate streams",
        "engine.cli.calibrate:streams",
        "Fit when a word begins and an action is believed, on long streams with idle in between.",
    ),
    Command("calibrate copy", "engine.cli.calibrate:copy", "Take those values over from a twin."),
    Command("export", "engine.cli.export:export", "Write the ONNX graph or TensorRT engine that runs live."),
    Command(
        "benchmark live", "engine.cli.benchmark:live", "Measure rate, latency and memory of live recognition here."
    ),
    Command(
        "benchmark encoders", "engine.cli.benchmark_encoders:encoders", "Compare the runtimes on the shipped encoders."
    ),
    Command(
        "benchmark data", "engine.cli.benchmark_data:data", "Measure the batch loader on a made-up set like NTU-60."
    ),
    Command(
        "benchmark streams",
        "engine.cli.benchmark_streams:streams",
        "Measure how well actions are found in long streams with idle in between.",
    ),
    Command("devices", "engine.cli.devices:devices", "Say what trainings can run on here: devices and precisions."),
    Command(
        "doctor", "engine.cli.doctor:doctor", "Report versions, devices, runtimes, cameras, models; say what is wrong."
    ),
)

# Failures whose text is for the user, by full class name, so that nothing has to be imported to recognise them.
KNOWN_ERRORS = {
    "engine.cli.CommandError",
    "engine.live.errors.LiveError",
    "engine.live.pose.PoseModelError",
    "engine.models.card.CheckpointError",
    "engine.data.bodies.RawDataError",
    "engine.data.parts.PrepareError",
    "engine.data.store_files.StoreError",
    "engine.training.recipe_base.RecipeError",
    "engine.training.run_folder.RunError",
    "builtins.FloatingPointError",
    "builtins.OSError",
}


class CommandError(Exception):
    """A command can't do what was asked; its text says why and what to do."""


class UsageError(CommandError):
    """Options that contradict each other or make no sense: exit status 2."""


def overview(prog: str = "main.py") -> str:
    """The help text of the program as a whole."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS]
    return "\n".join([
        f"usage: {prog} [COMMAND] [options]",
        "",
        "Watches a person, estimates the pose, and names the action while it happens.",
        "Without a command the window opens. Commands do the same work without one:",
        "",
        *lines,
        "",
        "Try first:",
        f"  {prog} recognize demo              recognise the clip that ships with the program",
        f"  {prog} recognize 0                 the first camera; end with Ctrl-C",
        f"  {prog} COMMAND --help              all options of a command",
        "",
        "Results go to stdout, progress to stderr; --debug shows where an error came from.",
        "Exit status: 0 done, 1 failed, 2 wrong usage.",
    ])  # fmt: skip


def _find(words: Sequence[str]) -> tuple[Command, list[str]] | None:
    for command in sorted(COMMANDS, key=lambda c: -len(c.name)):
        parts = command.name.split()
        if list(words[: len(parts)]) == parts:
            return command, list(words[len(parts) :])
    return None


def _unknown(words: Sequence[str], prog: str) -> str:
    import difflib

    group = [command for command in COMMANDS if command.name.split()[0] == words[0]]
    if group:
        return f"{prog} {words[0]} needs one of: {', '.join(c.name.split(maxsplit=1)[1] for c in group)}"
    close = difflib.get_close_matches(words[0], sorted({c.name.split()[0] for c in COMMANDS}), 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown command {words[0]!r}{hint} See {prog} --help" if hint else (
        f"unknown command {words[0]!r}; see {prog} --help"
    )  # fmt: skip


def is_known(error: BaseException) -> bool:
    """Whether an error's text is meant for the user."""
    return any(f"{kind.__module__}.{kind.__qualname__}" in KNOWN_ERRORS for kind in type(error).__mro__)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def entry(argv: Sequence[str] | None = None, prog: str = "main.py") -> int:
    """Run a command line and return its exit status; never raises for what a user did.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; default ``sys.argv[1:]``.
    """
    try:
        status = _answer(list(sys.argv[1:] if argv is None else argv), prog)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain about it while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _answer(words: list[str], prog: str) -> int:
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview(prog))
        return 0
    if words[0] == "--version":
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(version("skelapp"))
        except PackageNotFoundError:
            print("unknown (not installed as a package)")
        return 0
    found = _find(words)
    if found is None:
        group = [c for c in COMMANDS if c.name.split()[0] == words[0]]
        wants_help = len(words) > 1 and words[1] in ("-h", "--help")
        if group and (wants_help or len(words) == 1):
            print("\n".join(f"{prog} {c.name}  {c.help}" for c in group), file=sys.stdout if wants_help else sys.stderr)
            return 0 if wants_help else 2
        print(f"{prog}: {_unknown(words, prog)}", file=sys.stderr)
        return 2
    command, rest = found
    try:
        return _call(command, rest, prog)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except KeyboardInterrupt:
        print(f"{prog} {command.name}: stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            raise
        if isinstance(error, UsageError):
            print(f"{prog} {command.name}: {_one_line(error)}", file=sys.stderr)
            return 2
        if is_known(error):
            print(f"{prog} {command.name}: {_one_line(error)}", file=sys.stderr)
        else:
            kind = type(error).__name__
            print(
                f"{prog} {command.name}: internal error: {kind}: {_one_line(error)} (--debug shows where)",
                file=sys.stderr,
            )
        return 1


def _call(command: Command, rest: list[str], prog: str) -> int:
    function: Any = command.load()
    if getattr(function, "takes_argv", False):
        return function(rest) or 0
    import tyro

    result: int | None = tyro.cli(function, args=rest, prog=f"{prog} {command.name}")
    return result or 0
