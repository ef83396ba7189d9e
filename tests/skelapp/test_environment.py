"""What is said when no window can open, and that cv2's Qt variables go."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.paths import PROJECT
from skelapp.environment import clean_cv2_variables, display_problem


def everything(_: str) -> bool:
    return True


def test_without_a_display_the_headless_command_is_named() -> None:
    problem = display_problem({}, "linux", everything, everything)
    assert problem is not None and "\n" not in problem
    assert "python main.py recognize demo" in problem


def test_missing_libraries_are_named_as_packages() -> None:
    missing = {"libxcb-cursor.so.0", "libxkbcommon-x11.so.0"}
    problem = display_problem({"DISPLAY": ":0"}, "linux", lambda name: name not in missing, everything)
    assert problem is not None
    assert "apt-get install libxcb-cursor0 libxkbcommon-x11-0 " in problem


def test_x_libraries_are_not_asked_for_where_x_is_not_used() -> None:
    def no_xcb(name: str) -> bool:
        return "xcb" not in name

    assert display_problem({"QT_QPA_PLATFORM": "offscreen"}, "linux", no_xcb, everything) is None
    assert display_problem({"WAYLAND_DISPLAY": "wayland-0"}, "linux", no_xcb, everything, everything) is None


def test_a_display_that_does_not_answer_is_told() -> None:
    problem = display_problem({"DISPLAY": ":4711"}, "linux", everything, lambda display: display != ":4711")
    assert problem is not None and ":4711" in problem


def test_x_that_is_asked_for_on_wayland_has_to_be_there() -> None:
    wayland = {"WAYLAND_DISPLAY": "wayland-0", "QT_QPA_PLATFORM": "xcb"}
    problem = display_problem(wayland, "linux", everything, everything, everything)
    assert problem is not None and "DISPLAY is not set" in problem
    problem = display_problem(wayland | {"DISPLAY": ":4711"}, "linux", everything, lambda _: False, everything)
    assert problem is not None and ":4711" in problem
    assert display_problem(wayland | {"DISPLAY": ":0"}, "linux", everything, everything, everything) is None


def test_a_compositor_that_is_not_there_is_told_unless_an_x_server_answers(tmp_path: Path) -> None:
    environ = {"WAYLAND_DISPLAY": "wayland-0", "XDG_RUNTIME_DIR": str(tmp_path)}
    problem = display_problem(environ, "linux", everything, everything)
    assert problem is not None and f"compositor answers at {tmp_path / 'wayland-0'}" in problem
    with_x = environ | {"DISPLAY": ":0"}
    assert display_problem(with_x, "linux", everything, everything) is None
    assert display_problem(with_x | {"QT_QPA_PLATFORM": "wayland;xcb"}, "linux", everything, everything) is None
    assert display_problem(with_x | {"QT_QPA_PLATFORM": "wayland"}, "linux", everything, everything) is not None
    with socket.socket(socket.AF_UNIX) as compositor:
        compositor.bind(str(tmp_path / "wayland-0"))
        compositor.listen()
        assert display_problem(environ, "linux", everything, everything) is None
        absolute = {"WAYLAND_DISPLAY": str(tmp_path / "wayland-0")}
        assert display_problem(absolute, "linux", everything, everything) is None


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_always_have_a_display(platform: str) -> None:
    assert display_problem({}, platform, everything, everything) is None


def test_only_what_cv2_left_behind_is_dropped() -> None:
    environ = {
        "QT_QPA_PLATFORM_PLUGIN_PATH": "/venv/site-packages/cv2/qt/plugins",
        "QT_QPA_FONTDIR": "/usr/share/my-fonts",
    }
    assert clean_cv2_variables(environ) == ["QT_QPA_PLATFORM_PLUGIN_PATH"]
    assert environ == {"QT_QPA_FONTDIR": "/usr/share/my-fonts"}


def test_what_importing_cv2_sets_is_recognised() -> None:
    code = (
        "import os, cv2; from skelapp.environment import *; "
        "before = [n for n in CV2_QT_VARIABLES if n in os.environ]; "
        "dropped = clean_cv2_variables(); "
        "assert dropped == before, (before, dropped); assert not [n for n in CV2_QT_VARIABLES if n in os.environ]"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("QT_")}
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environ, check=True, timeout=60)


def test_no_module_is_searched_for_features_of_pyside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PySide6.QtCore")
    from shibokensupport import feature

    from skelapp.app import spare_source_search

    looked: list[str] = []

    def getsource(module: object) -> str:
        looked.append(str(module))
        return ""

    monkeypatch.setattr(feature.inspect, "getsource", getsource)
    monkeypatch.setattr(feature, "_mod_uses_pyside", feature._mod_uses_pyside)  # put back at the end
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("made_before", "made_after"):
        (tmp_path / f"{name}.py").write_text("from math import pi\n", "utf-8")
    __import__("made_before")
    assert any("made_before" in text for text in looked)
    assert spare_source_search()
    __import__("made_after")
    assert not any("made_after" in text for text in looked)
    assert feature.pyside_feature_dict["made_after"] == 0
