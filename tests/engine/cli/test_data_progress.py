"""Data commands for another program: lines of JSON, and an end when standard input ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from engine.data.store import SequenceStore
from tests.engine.data.synthetic import nw_ucla_names, write_nw_ucla


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    """The command, as a window started in the background by a shell starts it: interrupts are ignored by default."""
    return subprocess.Popen(
        [sys.executable, "-m", "engine.cli", *words, "--progress", "json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"SKELAPP_HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[3])},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Both streams to their end. Not ``communicate``: it closes standard input, which is the sign to stop."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    errors = process.stderr.read()
    output = process.stdout.read()
    process.wait(60)
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    return output, errors


def test_steps_are_lines_of_json_and_the_end_of_input_stops_what_goes_on_later(tmp_path: Path) -> None:
    archive = write_nw_ucla(tmp_path / "all_sqe.zip", nw_ucla_names(range(1, 9), range(5)), frames=15)
    words = ("data", "prepare", "nw_ucla", "--raw", str(archive), "--workers", "1")
    process = start(tmp_path, *words)
    assert process.stderr is not None and process.stdin is not None
    steps = []
    while not steps or steps[-1]["done"] < 200:
        steps.append(json.loads(process.stderr.readline()))
    process.stdin.close()
    rest = process.stderr.read()
    assert process.wait(20) == 1 and "goes on with what is finished" in rest
    assert process.stdout is not None and process.stdout.read() == ""
    process.stdout.close()
    process.stderr.close()
    assert steps[0] == {"what": "reading nw_ucla", "done": 0, "total": 1200, "damaged": 0}
    parts = len(list((tmp_path / "stores" / "nw_ucla.partial").glob("part-*/part.json")))
    assert parts >= 8, "200 items are eight parts of 19, and ten are begun"
    again = start(tmp_path, *words)
    output, errors = finish(again)
    first = json.loads(errors.splitlines()[0])
    assert first["done"] == 19 * parts and again.returncode == 0 and "nw_ucla: 1200 sequences" in output
    assert len(SequenceStore(tmp_path / "stores" / "nw_ucla")) == 1200


def test_a_check_says_what_it_does_and_gives_one_report(tmp_path: Path) -> None:
    archive = write_nw_ucla(tmp_path / "all_sqe.zip", nw_ucla_names((1,), (0,)))
    made = start(tmp_path, "data", "prepare", "nw_ucla", "--raw", str(archive), "--workers", "1")
    assert finish(made)[0] and made.returncode == 0
    check = start(tmp_path, "data", "check", "nw_ucla", "--json")
    output, errors = finish(check)
    assert json.loads(errors.splitlines()[0])["what"] == "reading every coordinate"
    assert json.loads(output)["sequences"] == 30 and check.returncode == 0
