"""Makes the short screen recording of the README: a new user waves, teaches an action of her own, sees it recognised.

``python docs/make_recording.py`` drives the real window with the real pipeline; the rendered actor is the person in
front of the camera. It works with or without a display and on a slow machine: the film runs on the camera's clock.
The user's own settings and packs are not touched.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from make_screenshots import wait

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

SIZE = (1120, 700)
CAPTION = 44  # px under the window
EVERY_S = 0.1  # of the camera's time from one picture of the film to the next
NAME = "call the waiter"
HER_OWN, WAVE = ("raise left arm", 2.0), ("wave", 2.6)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "teach.mp4")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--takes", type=int, choices=(3, 5), default=5)
    return parser.parse_args()


class Film:
    """Grabs the window whenever the camera's time has moved on, with a pointer and a line of words."""

    def __init__(self, window: Any, out: Path) -> None:
        from PySide6.QtCore import QPointF

        from engine.render.video import VideoWriter

        self.window, self._wait = window, wait
        self._writer = VideoWriter(out, SIZE[0], SIZE[1] + CAPTION, fps=1 / EVERY_S, quality=26)
        self._began: float | None = None
        self._last = -1.0
        self.pictures = 0
        self.words = ""
        self.pointer = QPointF(SIZE[0] * 0.6, SIZE[1] * 0.55)
        self.pressed = 0

    def now(self) -> float:
        return float(self.window.session.snapshot().time)

    def until(self, ready: Callable[[], bool], seconds: float = 40.0, what: str = "") -> bool:
        """Film until something is so, at most so many seconds of the camera's time; False when it did not come."""
        began, patience = self.now(), time.monotonic() + 600.0
        while not ready():
            self._wait(4)
            self.look()
            if self.now() - began > seconds:
                return False
            if time.monotonic() > patience:
                raise SystemExit(f"error: waited ten minutes in vain for {what or 'the next step'}")
        return True

    def hold(self, seconds: float) -> None:
        end = self.now() + seconds
        self.until(lambda: self.now() >= end, seconds + 10)

    def look(self) -> None:
        """Take a picture if it is time for one."""
        at = self.now()
        if self._began is None:
            self._began = at
        if at - self._began < self._last + EVERY_S:
            return
        self._last = at - self._began
        self._writer.write(self._picture(), self._last)
        self.pictures += 1

    def _picture(self) -> np.ndarray:
        from PySide6.QtCore import QPointF, QRectF, Qt
        from PySide6.QtGui import QColor, QFont, QImage, QPainter, QPen, QPolygonF

        from skelapp import theme

        image = QImage(SIZE[0], SIZE[1] + CAPTION, QImage.Format.Format_RGB888)
        painter = QPainter(image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(image.rect(), QColor("#0b0d10"))
        painter.drawPixmap(0, 0, self.window.grab())
        at = self.pointer
        if self.pressed:
            painter.setPen(QPen(theme.current().colour("accent"), 3))
            painter.drawEllipse(at, 6 + 4 * self.pressed, 6 + 4 * self.pressed)
            self.pressed -= 1
        shape = ((0, 0), (0, 17), (4, 13.5), (7, 20), (10, 18.6), (7, 12.5), (12.5, 12))
        painter.setPen(QPen(QColor("#000000"), 1.4))
        painter.setBrush(QColor("#ffffff"))
        painter.drawPolygon(QPolygonF([at + QPointF(x, y) for x, y in shape]))
        font = QFont(self.window.font())
        font.setPixelSize(19)
        painter.setFont(font)
        painter.setPen(QColor("#e9edf2"))
        painter.drawText(QRectF(0, SIZE[1], SIZE[0], CAPTION), Qt.AlignmentFlag.AlignCenter, self.words)
        painter.end()
        bits = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
        return np.ascontiguousarray(bits[:, : 3 * image.width()].reshape(image.height(), image.width(), 3))

    def click(self, widget: Any) -> None:
        """Move the pointer to a widget and press it."""
        from PySide6.QtCore import QPointF, Qt
        from PySide6.QtTest import QTest

        goal = QPointF(widget.mapTo(self.window, widget.rect().center()))
        start, began = self.pointer, self.now()
        while (share := min(1.0, (self.now() - began) / 0.7)) < 1.0:
            eased = share * share * (3 - 2 * share)
            self.pointer = start + (goal - start) * eased
            self._wait(4)
            self.look()
        self.pointer = goal
        self.pressed = 3
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
        self.hold(0.3)

    def type(self, widget: Any, text: str) -> None:
        from PySide6.QtTest import QTest

        for letter in text:
            QTest.keyClicks(widget, letter)
            self.hold(0.07)

    def close(self) -> None:
        self._writer.close()


def play(film: Film, person: Any, takes: int) -> None:
    """The story, as a user goes through it."""
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    from skelapp.teach.hands_free import Step

    window, session = film.window, film.window.session
    label: Callable[[], str | None] = lambda: window.live.cards[0].label  # noqa: E731
    film.words = "Start the program, wave …"
    film.hold(1.2)
    person.perform(*WAVE)
    read = film.until(lambda: label() == "wave", 6.0)
    film.words = "… and read it." if read else film.words
    film.until(lambda: not person.busy)
    film.hold(1.0)
    film.words = "Something of her own, which the model does not know:"
    person.perform(*HER_OWN)
    film.until(lambda: not person.busy)
    film.hold(1.6)
    film.words = "So she teaches it: a name, …"
    film.click(window.rail["teach"])
    film.until(lambda: window.teach.content is not None, what="the panel")
    content = window.teach.content
    film.hold(0.6)
    film.click(content.welcome.first)
    film.type(content.welcome.first, NAME)
    film.click(content.welcome.act)
    recorder = content.recorder
    film.until(lambda: recorder.action == NAME, what="the action")
    recorder.options.takes.setCurrentIndex(recorder.options.takes.findData(takes))
    film.words = f"… one button, and the action {takes} times. No key is needed between the takes."
    film.click(recorder.record)
    performed = 0

    def taken() -> bool:
        nonlocal performed
        if recorder.machine.step is Step.READY and not person.busy and performed == recorder.machine.finished:
            performed += 1
            person.perform(*HER_OWN)
        return not recorder.machine.running

    film.until(taken, 120.0)
    film.words = "It is live at once, without any training."
    if not film.until(lambda: NAME in session.snapshot().taught and not window.desk.busy, 60.0):
        raise SystemExit(f"error: {NAME!r} is not live: {window.desk.problem or 'it was not learned in a minute'}")
    film.hold(1.0)
    QTest.keyClick(window, Qt.Key.Key_1)
    film.hold(0.8)
    person.perform(*HER_OWN)
    film.until(lambda: label() == NAME, 8.0)
    film.until(lambda: not person.busy)
    film.hold(1.5)
    if not any(segment.label == NAME for segment in session.snapshot().segments):
        raise SystemExit(f"error: {NAME!r} was not recognised; the recording tells nothing")


def write_gif(film: Path, out: Path, width: int = 760, rate: int = 5) -> None:
    """The film as a GIF with a palette of its own: a page that shows no films shows this."""
    import av

    with av.open(str(film)) as source, av.open(str(out), "w") as made:
        stream = source.streams.video[0]
        graph = av.filter.Graph()
        begin, end = graph.add_buffer(template=stream), graph.add("buffersink")
        steady, small = graph.add("fps", str(rate)), graph.add("scale", f"{width}:-2:flags=lanczos")
        split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=full")
        use = graph.add("paletteuse", "dither=none:diff_mode=rectangle")
        for one, other in ((begin, steady), (steady, small), (small, split)):
            one.link_to(other)
        split.link_to(use, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(end)
        graph.configure()
        for frame in source.decode(stream):
            graph.push(frame)
        graph.push(None)
        target: Any = None
        while True:
            try:
                frame = graph.pull()
            except (av.error.EOFError, av.error.BlockingIOError):
                break
            if target is None:
                target = made.add_stream("gif", rate=rate)
                target.width, target.height, target.pix_fmt = frame.width, frame.height, "pal8"
            made.mux(target.encode(frame))
        made.mux(target.encode(None))


def main() -> int:
    options = parse()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory(prefix="recording") as folder:
        os.environ["SKELAPP_HOME"] = folder
        from PySide6.QtWidgets import QApplication

        from engine.live.pipeline import LivePipeline
        from skelapp.live.session import LiveSession
        from skelapp.main_window import MainWindow
        from skelapp.settings import SettingsStore
        from tests.skelapp.teach.acting import ActingSource, Stage

        app = QApplication(sys.argv[:1])
        stage = Stage((640, 480), fps=20.0, supersample=2)
        for act in (WAVE, HER_OWN):
            stage.pictures(*act)
        person = ActingSource(stage, speed=1.0)
        settings = SettingsStore(Path(folder) / "settings.json")
        settings.set("appearance.theme", options.theme)
        settings.set("camera.mirror", False)

        def pipeline(source: str, checkpoint: Path | None, _: SettingsStore) -> LivePipeline:
            return LivePipeline(person, checkpoint=checkpoint)

        window = MainWindow(settings, source="0", session=LiveSession(settings, factory=pipeline), cameras=list)
        window.resize(*SIZE)
        window.show()
        film = Film(window, options.out)
        try:
            while not window.session.snapshot().decisions:
                film._wait(20)
            play(film, person, options.takes)
        finally:
            film.close()
            window.close()
            app.processEvents()
    gif = options.out.with_suffix(".gif")
    write_gif(options.out, gif)
    for made in (options.out, gif):
        print(f"{made}: {film.pictures} pictures, {made.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
