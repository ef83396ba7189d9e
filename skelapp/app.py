"""Starts the window: checks the display, makes the application, and leaves nothing behind at the end."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path

from skelapp.environment import clean_cv2_variables, display_problem

log = logging.getLogger(__name__)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the window."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="Opens the window. Sub-commands do the same work without one: main.py --help lists them.",
    )
    parser.add_argument(
        "--source", default="", help="camera index, video file, stream address, landmark trace, or demo"
    )
    parser.add_argument("--checkpoint", type=Path, default=None, help="checkpoint folder")
    parser.add_argument("--pack", default="", help="name or folder of a pack of taught actions")
    parser.add_argument("--settings", type=Path, default=None, help="settings file to use instead of the user's")
    parser.add_argument("--verbose", action="store_true", help="write what happens to stderr")
    # For measuring: end by itself and print what was measured as one line of JSON.
    parser.add_argument("--exit-after", type=float, default=None, metavar="SECONDS", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> int:
    """Open the window and stay until it is closed; returns the exit status."""
    options = parse(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.ERROR, format="%(asctime)s %(name)s %(message)s"
    )
    clean_cv2_variables()
    problem = display_problem()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return _show(options)


def spare_source_search() -> bool:
    """Keep PySide6 from reading the source of every module imported after it; returns whether that could be done.

    It looks for its own name there, to know where ``from __feature__ import ...`` may have been used, and takes
    milliseconds per module. Nothing here uses that: every module is told to have no feature switched on.
    """
    try:
        from shibokensupport import feature
    except ImportError:
        return False
    if not hasattr(feature, "_mod_uses_pyside"):
        return False
    feature._mod_uses_pyside = lambda module: True
    return True


def _show(options: argparse.Namespace) -> int:
    from PySide6.QtCore import QTimer

    spare_source_search()
    from PySide6.QtWidgets import QApplication

    from skelapp.main_window import MainWindow
    from skelapp.settings import SettingsStore

    # The window shares the interpreter with the live path: hand over after 1 ms instead of 5.
    sys.setswitchinterval(0.001)
    app = QApplication(sys.argv[:1])
    app.setApplicationName("skelapp")
    app.setDesktopFileName("skelapp")
    window = MainWindow(SettingsStore(options.settings), options.source, options.checkpoint, pack=options.pack)
    measured: dict[str, float] = {}
    if options.exit_after is not None:
        _measure(window, options.exit_after, measured)
    window.show()
    # Python's signal handlers run only when the interpreter does: an idle timer gives Ctrl+C its chance.
    signal.signal(signal.SIGINT, lambda *_: window.close())
    wake = QTimer()
    wake.start(200)
    wake.timeout.connect(lambda: None)
    code = app.exec()
    wake.stop()
    if measured:
        import json

        print(json.dumps(measured), flush=True)
    if not window.closed_clean:
        # A driver or model that does not come back must not crash or hold the interpreter's own clean-up.
        log.error("a thread of the live view did not end in time")
        logging.shutdown()
        os._exit(code)
    return code


def process_age() -> float:
    """Seconds since this process was started by the system, interpreter start-up included."""
    import psutil

    return time.time() - psutil.Process().create_time()


def _measure(window: object, seconds: float, measured: dict[str, float]) -> None:
    from PySide6.QtCore import QTimer

    from skelapp.heartbeat import Heartbeat
    from skelapp.main_window import MainWindow

    assert isinstance(window, MainWindow)
    heart = Heartbeat(parent=window)

    def painted() -> None:
        measured["first_paint_s"] = round(process_age(), 3)
        heart.start()

    def pictured() -> None:
        if "first_picture_s" not in measured and window.session.snapshot().frame is not None:
            measured["first_picture_s"] = round(process_age(), 3)

    def end() -> None:
        heart.stop()
        snapshot = window.session.snapshot()
        measured["longest_gap_ms"] = round(heart.longest_ms, 1)
        measured["gaps_over_50_ms"] = sum(1 for _, late in heart.gaps if late > 50)
        measured["gaps"] = [(round(at, 2), round(late)) for at, late in heart.gaps]  # type: ignore[assignment]
        measured["fps"] = round(snapshot.fps, 1)
        measured["pose_fps"] = round(snapshot.pose_fps, 1)
        measured["paint_ms"] = round(window.live.video.paint_ms, 2)
        measured["state"] = str(snapshot.state)  # type: ignore[assignment]
        began = time.perf_counter()
        window.close()
        measured["close_s"] = round(time.perf_counter() - began, 2)
        measured["clean"] = float(window.closed_clean)

    window.first_painted.connect(painted)
    window.live.video.painted.connect(pictured)
    QTimer.singleShot(int(seconds * 1000), window, end)
