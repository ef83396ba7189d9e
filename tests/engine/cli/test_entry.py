from __future__ import annotations

import json
import sys
import types

import pytest
import torch

from engine import cli
from engine.cli import COMMANDS, Command, CommandError, UsageError, entry
from engine.live.errors import SourceError
from engine.training import devices


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_overview_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(argv) == 0
    out = capsys.readouterr().out
    assert all(command.name in out and command.help in out for command in COMMANDS)


def test_every_command_loads_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert callable(command.load())
        if getattr(command.load(), "takes_argv", False):
            continue
        assert entry([*command.name.split(), "--help"]) == 0
        assert "usage:" in capsys.readouterr().out


def test_unknown_command_is_usage_error_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["recognise"]) == 2
    assert "did you mean recognize" in capsys.readouterr().err
    assert entry(["xyzzy"]) == 2
    assert entry(["benchmark"]) == 2
    assert entry(["benchmark", "nothing"]) == 2
    assert "live" in capsys.readouterr().err
    assert entry(["recognize"]) == 2
    assert entry(["recognize", "demo", "--no-such-option"]) == 2


def test_the_table_is_read_without_importing_anything_heavy() -> None:
    import subprocess

    heavy = ("numpy", "tyro", "cv2", "torch", "av")
    code = f"import sys, engine.cli; sys.exit(str([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (SourceError("camera 0\nis gone"), 1, "main.py boom: camera 0 is gone"),
        (CommandError("no"), 1, "main.py boom: no"),
        (UsageError("both can't be"), 2, "main.py boom: both can't be"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), 1, "x.json: No such file"),
        (KeyboardInterrupt(), 1, "stopped"),
        (ZeroDivisionError("oops"), 1, "internal error: ZeroDivisionError: oops"),
        (None, 0, ""),
    ],
)
def test_failures_are_one_line_and_a_status(
    error: BaseException | None,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = types.ModuleType("made_command")

    def boom() -> None:
        if error is not None:
            raise error

    module.boom = boom  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_command", module)
    monkeypatch.setattr(cli, "COMMANDS", (Command("boom", "made_command:boom", "fails"),))
    assert entry(["boom"]) == status
    err = capsys.readouterr().err
    assert text in err and err.count("\n") == (1 if text else 0)
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            entry(["boom", "--debug"])


def test_devices_say_what_the_processor_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gain is fp32's time over bf16's: by a clock on which bf16 takes half as long it is 2."""
    now, kinds = 0.0, []

    def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        nonlocal now
        kinds.append(left.dtype)
        now += 1.0 if left.dtype == torch.bfloat16 else 2.0
        return left

    monkeypatch.setattr(devices, "time", types.SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(torch.Tensor, "__matmul__", matmul)
    assert entry(["devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bf16_gain"] == 2.0 and set(kinds) == {torch.float32, torch.bfloat16} and found["cores"] >= 1
    assert entry(["devices"]) == 0 and "bf16 took 0.50 times as long" in capsys.readouterr().out


def test_raw_arguments_go_through(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def raw(argv: list[str]) -> int:
        seen.append(argv)
        return 3

    raw.takes_argv = True  # type: ignore[attr-defined]
    module = types.ModuleType("made_command")
    module.raw = raw  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_command", module)
    monkeypatch.setattr(cli, "COMMANDS", (Command("two words", "made_command:raw", "raw"),))
    assert entry(["two", "words", "--anything", "1"]) == 3
    assert seen == [["--anything", "1"]]


@pytest.mark.parametrize("words", [["--help"], ["data", "--help"], ["train", "--list"]], ids=lambda words: words[0])
def test_who_reads_only_the_beginning_of_an_answer_sees_no_error(words: list[str]) -> None:
    import os
    import subprocess

    from engine.paths import PROJECT

    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, str(PROJECT / "main.py"), *words],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
    )
    os.close(writing)
    assert done.stderr == "" and done.returncode == 1
