"""What has to be right before Qt is loaded: a display, the system's X libraries, and no leftovers of cv2's own Qt.

Nothing here imports Qt: a missing library must be named before Qt's loader aborts the process with a misleading text.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable, Mapping, MutableMapping

HEADLESS_COMMAND = "python main.py recognize demo"
OFFSCREEN_PLATFORMS = ("offscreen", "minimal", "vnc", "linuxfb", "eglfs")
# cv2 points these at the Qt 5 plugins inside its own wheel when it is imported.
CV2_QT_VARIABLES = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")

# What Qt's core and its X11 plugin link to and a bare Linux may lack; names are those of Debian and Ubuntu.
QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libfontconfig.so.1": "libfontconfig1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libglib-2.0.so.0": "libglib2.0-0",
}
XCB_LIBRARIES = {
    "libxcb.so.1": "libxcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libX11-xcb.so.1": "libx11-xcb1",
}


def clean_cv2_variables(environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Drop the Qt variables that importing cv2 leaves behind; returns the names that were dropped.

    A variable the user set on purpose is kept: only values that point into a ``cv2`` folder go.
    """
    environ = os.environ if environ is None else environ
    dropped = [name for name in CV2_QT_VARIABLES if _points_into_cv2(environ.get(name, ""))]
    for name in dropped:
        del environ[name]
    return dropped


def _points_into_cv2(value: str) -> bool:
    return "cv2" in value.replace("\\", "/").split("/")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _x_server_answers(display: str) -> bool:
    """Whether an X server takes connections, asked through libxcb, which Qt needs anyway."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return True  # the missing library is reported by itself
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(display.encode(), None)
    if not connection:
        return False
    broken = bool(xcb.xcb_connection_has_error(connection))
    xcb.xcb_disconnect(connection)
    return not broken


def _compositor_answers(place: str) -> bool:
    """Whether a Wayland compositor takes connections at its socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(place)
        except OSError:
            return False
    return True


def display_problem(
    environ: Mapping[str, str] | None = None,
    platform: str = sys.platform,
    loads: Callable[[str], bool] = _loads,
    answers: Callable[[str], bool] = _x_server_answers,
    compositor_answers: Callable[[str], bool] = _compositor_answers,
) -> str | None:
    """One line that says why no window can open here and what to do, or None when one can.

    Parameters
    ----------
    environ, platform : for tests; the process's own by default.
    loads : whether a shared library can be loaded.
    answers : whether the X server of a DISPLAY value takes connections.
    compositor_answers : whether a Wayland compositor takes connections at a socket.
    """
    environ = os.environ if environ is None else environ
    if not platform.startswith("linux"):
        return None
    chosen = environ.get("QT_QPA_PLATFORM", "").split(":")[0]
    offscreen = chosen in OFFSCREEN_PLATFORMS
    place = ""
    if environ.get("WAYLAND_DISPLAY") and (not chosen or "wayland" in chosen):
        place = os.path.join(environ.get("XDG_RUNTIME_DIR", ""), environ["WAYLAND_DISPLAY"])
    wayland = bool(place) and compositor_answers(place)
    display = environ.get("DISPLAY", "")
    if place and not wayland and not (display and (not chosen or "xcb" in chosen)):
        return f"no Wayland compositor answers at {place}; without a window use: {HEADLESS_COMMAND}"
    if not offscreen and not wayland and not display:
        unset = "DISPLAY is" if chosen == "xcb" else "DISPLAY and WAYLAND_DISPLAY are"
        return f"no display here ({unset} not set); without a window use: {HEADLESS_COMMAND}"
    wanted = dict(QT_LIBRARIES)
    needs_x = not offscreen and not wayland
    if needs_x:
        wanted |= XCB_LIBRARIES
    missing = sorted({package for library, package in wanted.items() if not loads(library)})
    if missing:
        packages = " ".join(missing)
        install = f"sudo apt-get install {packages}"
        return f"system libraries are missing; install them with: {install} (or use: {HEADLESS_COMMAND})"
    if needs_x and not answers(display):
        return f"no X server answers at the display {display}; without a window use: {HEADLESS_COMMAND}"
    return None
