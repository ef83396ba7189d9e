"""The real program as a process: without a display, and on a real X server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.paths import PROJECT
from skelapp import door


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    return {**kept, "SKELAPP_HOME": str(home), "OMP_NUM_THREADS": "1", **more}


def start(arguments: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / "main.py"), *arguments]
    return subprocess.run(command, env=environ, cwd=PROJECT, capture_output=True, text=True, timeout=90)


def test_the_door_tells_window_from_commands() -> None:
    assert door.wants_window([]) and door.wants_window(["--source", "0"]) and door.wants_window(["--source=0"])
    assert not door.wants_window(["recognize", "demo"]) and not door.wants_window(["--help"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_without_a_display_one_line_names_the_headless_command(home: Path) -> None:
    done = start([], environment(home))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "python main.py recognize demo" in done.stderr


def test_wrong_options_are_wrong_usage(home: Path) -> None:
    assert start(["--source", "0", "--nonsense"], environment(home)).returncode == 2


@pytest.fixture
def x_display() -> Iterator[str]:
    """A real X server of its own."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writer), "-screen", "0", "1400x900x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        number = pipe.readline().strip()
    if not number:
        server.wait(5)
        pytest.skip("Xvfb does not start here")
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.mark.gui
@pytest.mark.slow
def test_the_program_on_a_real_x_server(home: Path, x_display: str, clips, checkpoints) -> None:
    """Paints, plays, closes by itself, leaves no process behind; cv2 and its Qt are loaded on the way."""
    command = [sys.executable, str(PROJECT / "main.py"), "--source", str(clips[0])]
    command += ["--checkpoint", str(checkpoints[0]), "--exit-after", "8"]
    process = psutil.Popen(
        command,
        env=environment(home, DISPLAY=x_display),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    family: set[psutil.Process] = set()
    while process.poll() is None and len(family) < 50:
        family |= set(process.children(recursive=True))
        time.sleep(0.2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    measured = json.loads(out.splitlines()[-1])
    assert measured["first_paint_s"] < 30 and measured["first_picture_s"] >= measured["first_paint_s"]
    assert measured["clean"] == 1.0 and measured["close_s"] < 3
    assert measured["state"] in ("running", "ended")
    assert "Traceback" not in err
    assert not [child for child in family if child.is_running()]
