"""Makes the screenshots of the documentation: starts the real window, walks through its panels and states, saves PNGs.

``python docs/make_screenshots.py`` works with or without a display (then Qt's offscreen platform draws). The user's own
settings and recordings are not touched.
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

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

# In the order in which they are walked through.
SCENES = (
    "live_views", "no_camera", "recording", "paused", "two_models", "teach", "keys", "models", "compare", "data",
    "training", "set_up", "failed", "nobody_and_ended", "lost_camera",
)  # fmt: skip
# Those that are also shown in other sizes and themes.
EVERYWHERE = ("teach", "models", "compare", "data", "training", "set_up")
SIZES = {"1280x800": (1280, 800), "1920x1080": (1920, 1080), "1024x700": (1024, 700)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="demo", help="what the window watches")
    parser.add_argument("--checkpoint", type=Path, default=None, help="checkpoint folder; default: the shipped one")
    parser.add_argument("--models", type=Path, default=None, help="a folder with more checkpoint folders to list")
    parser.add_argument(
        "--utd-mhad", type=Path, default=None, help="prepared store to compare on; default: the actor's motions"
    )
    parser.add_argument(
        "--label-after", type=float, default=4.0, help="seconds of source time before the first picture"
    )
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "screenshots")
    parser.add_argument("--only", nargs="+", default=[], metavar="SCENE", help=f"some of: {', '.join(SCENES)}")
    options = parser.parse_args()
    if unknown := set(options.only) - set(SCENES):
        parser.error(f"no such scene: {', '.join(sorted(unknown))}; there are {', '.join(SCENES)}")
    return options


TINY_RECIPE = {
    "name": "motions_joint", "title": "Motions of the actor", "dataset": "motions", "split": "random",
    "backbone": "ctrgcn", "backbone_args": {"base_channels": 8}, "batch": 16, "evaluate_every": 2,
    "preprocessing": {"frames": 24, "sampling": "window", "window_s": 2.0, "centre": "each_ground", "scale": "limbs"},
    "augmentation": {"yaw_deg": 30, "noise_m": 0.02},
    "optimiser": {"lr": 0.05, "schedule": "cosine", "warmup_epochs": 2},
}  # fmt: skip


def wait(ms: int) -> None:
    """Let the window run; unlike ``QTest.qWait`` this leaves the interpreter to the threads of the live path."""
    from PySide6.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(ms, loop.quit)
    loop.exec()


class Walk:
    """Drives one window from state to state and saves what it looks like."""

    def __init__(self, options: argparse.Namespace, home: Path) -> None:
        from skelapp.main_window import MainWindow
        from skelapp.settings import SettingsStore

        self.options = options
        self.home = home
        self._wait = wait
        self.settings = SettingsStore(home / "settings.json")
        if options.models:
            self.settings.set("folders.models", str(options.models))
        self.window = MainWindow(self.settings, checkpoint=options.checkpoint, cameras=list)
        self.theme = self.size = ""
        self.saved: list[Path] = []

    def look(self, theme: str, size: str) -> None:
        self.theme, self.size = theme, size
        self.settings.set("appearance.theme", theme)
        self.window.resize(*SIZES[size])
        self.window.show()
        self._wait(400)

    def until(self, ready: Callable[[], bool], seconds: float = 40.0, what: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise SystemExit(f"error: waited {seconds:.0f} s in vain for {what}")
            self._wait(20)

    def save(self, name: str, settle_ms: int = 700) -> None:
        self._wait(settle_ms)
        path = self.options.out / f"{name}_{self.theme}_{self.size}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.window.grab().save(str(path))
        self.saved.append(path)
        print(path, file=sys.stderr)

    # ------------------------------------------------------------- scenes

    def watch_demo(self) -> None:
        session = self.window.session
        if session.source != self.options.source:
            self.window.live.watch(self.options.source)
        self.window.show_panel("live")
        self.window.live.set_view("picture")
        self.until(lambda: session.source == self.options.source and session.snapshot().pose is not None, what="a pose")

    def wait_for_label(self) -> None:
        """Wait for an action on the screen, some time after the clip began; go on without one where there is none."""
        session = self.window.session
        since: tuple[set[str | None], float] = (set(), 0.0)

        def named() -> bool:
            """The same words for half a second: the bars have come to rest, and she is still at it."""
            nonlocal since
            snapshot = session.snapshot()
            labels = {decision.label for decision in snapshot.decisions.values()}
            if labels != since[0]:
                since = labels, time.monotonic()
            late = snapshot.time > self.options.label_after and time.monotonic() - since[1] > 0.5
            return late and any(labels)

        try:
            self.until(named, 30.0, "a label")
        except SystemExit as problem:
            print(f"no label: {problem}", file=sys.stderr)

    def empty(self) -> None:
        self.save("empty")

    def live_views(self) -> None:
        self.watch_demo()
        self.wait_for_label()
        self.save("live", 0)
        self.window.live.set_view("skeleton")
        self.save("skeleton", 300)
        self.window.live.set_view("space")
        self.save("space", 900)
        self.window.live.set_view("picture")

    def recording(self) -> None:
        self.window.session.toggle_recording()
        self.until(lambda: self.window.session.snapshot().recording, what="the recording")
        self.save("recording", 3200)
        self.window.session.toggle_recording()
        self.until(lambda: self.window.live.info.isVisible(), what="the end of the recording")
        self.save("recorded")
        self.window.live.info.dismiss()

    def paused(self) -> None:
        self.window.session.toggle_pause()
        self.save("paused")
        self.window.session.toggle_pause()

    def keys(self) -> None:
        self.window.key_page.toggle()
        self.save("keys")
        self.window.key_page.toggle()

    def no_camera(self) -> None:
        self.window.live.no_camera()
        self.save("no_camera")
        self.window.live.info.dismiss()

    def failed(self) -> None:
        bad = self.home / "holiday.mp4"
        bad.write_bytes(b"not a video" * 50)
        self.window.open_path(bad)
        self.until(lambda: self.window.live.error.isVisible(), what="the error")
        self.save("failed")
        self.window.live.error.dismiss()

    def nobody_and_ended(self) -> None:
        from engine.live.types import LiveState
        from engine.render.video import VideoWriter

        path = self.home / "empty_room.mp4"
        with VideoWriter(path, 640, 480) as writer:
            room = np.linspace(150, 190, 480, dtype=np.uint8)[:, None, None] * np.ones((1, 640, 3), np.uint8)
            for index in range(120):
                writer.write(room, index / 30.0)
        self.window.live.watch(str(path))
        self.until(lambda: self.window.session.snapshot().time > 1.5, what="the empty room")
        self.save("nobody")
        self.until(lambda: self.window.session.snapshot().state is LiveState.ENDED, what="the end")
        self.save("ended")

    def lost_camera(self) -> None:
        """A camera that is unplugged after two seconds: pictures of the clip, then nothing."""
        from engine.live import source_camera
        from engine.live.types import LiveState

        opener = source_camera.open_capture
        source_camera.open_capture = lambda index: Unplugged(self.options.source)
        try:
            self.window.live.watch("0")
            self.until(lambda: self.window.session.snapshot().state is LiveState.LOST, what="the loss of the camera")
            self.save("lost")
        finally:
            self.window.live.watch(self.options.source)
            self.until(lambda: self.window.session.snapshot().state is LiveState.RUNNING, what="the source")
            source_camera.open_capture = opener
        self.window.live.info.dismiss()

    def teach(self) -> None:
        """A pack of three actions performed by the actor, one also before the camera; kept for the next look."""
        from skelapp.teach.desk import Stretch

        self.window.show_panel("teach")
        panel, desk = self.window.teach, self.window.desk
        self.until(lambda: panel.content is not None, what="the Teach panel")
        content = panel.content
        assert content is not None
        first = desk.view is None
        if first:
            self.save("teach_empty")
            make_takes(desk)
            self.until(lambda: not desk.busy and desk.taught is not None, 180.0, "the taught actions")
        content.list.select("call the waiter")
        content.run_check()
        self.until(lambda: content.side.alike_box.isVisible(), 60.0, "the look-alikes")
        content.takes.strip.select(2)
        content.banner.dismiss()
        self.save("teach", 1500)
        if not first:
            return
        content.recorder.toggle()
        self.save("teach_countdown", 500)
        self.until(lambda: content.recorder.machine.step == "moving", what="a movement of the clip")
        self.save("teach_recording", 500)
        content.recorder.cancel()
        content.name_stretch(Stretch(content.takes.strip.current().sequence))
        self.save("teach_name")
        content.name_bar.hide()

    def models(self) -> None:
        self.window.show_panel("models")
        if self.window.session.checkpoint is not None:
            self.window.models.select(self.window.session.checkpoint)
        self.save("models")

    def data(self) -> None:
        """The Data panel on a store of the actor's own motions: what is shown may be shown."""
        if not (self.home / "stores" / "motions").exists():
            make_store(self.home / "stores" / "motions")
        self.window.show_panel("data")
        panel = self.window.data
        self.until(lambda: panel.content is not None and panel.content.catalogue.loaded, what="the datasets")
        content = panel.content
        assert content is not None
        content.catalogue.refresh()
        self.until(lambda: content.catalogue.entry("motions") is not None, what="the store")
        self.settings.set("folders.datasets", str(self.home))
        content.select("ntu60")
        self.save("data_absent")
        content.select("motions")
        content.show_page("sequences")
        browser = content.browser
        self.until(lambda: browser.table_model.rowCount() > 20, what="the sequences")
        browser.table.selectRow(9)
        self.until(lambda: len(browser.player.frames) >= 40, what="the actor")
        browser.player.slider.setValue(24)
        self.save("data_sequences")
        content.show_page("statistics")
        self.until(lambda: content.statistics.ready, what="the charts")
        self.save("data_statistics")
        content.show_page("overview")

    def training(self) -> None:
        """A real training of seconds on the actor's motions; later looks find it finished."""
        if not (self.home / "stores" / "motions").exists():
            make_store(self.home / "stores" / "motions")
        self.window.show_panel("training")
        panel = self.window.panels["training"]
        self.until(lambda: panel.page is not None and panel.page.recipe.form.draft is not None, what="the form")
        page = panel.page
        self.until(lambda: page.run_page.curves.ready and page.recipe.machine is not None, what="the machine")
        runs = {row.name: row for row in page.table_model.rows}
        if not runs:
            self.save("training_empty")
            for name, more in (("motions_joint", {}), ("motions_bone", {"preprocessing.stream": "bone"})):
                page.recipe.open_data(TINY_RECIPE | {"name": name})
                for field, value in ({"optimiser.lr": 0.03, "epochs": 40} | more).items():
                    page.recipe.form.draft.change(field, value)
                page.recipe.form.show_all()
                self.until(page.recipe.start.isEnabled, what="a recipe without mistakes")
                page.recipe.start.click()
                self.until(lambda name=name: page.table_model.find(page.root / name) is not None, what="the run")
            page.select(page.root / "motions_joint")
            self.until(lambda: len(page.run_page.series.get("loss", ())) > 14, 180.0, "some epochs")
            self.save("training_running")
            self.until(lambda: all(not row.alive for row in page.table_model.rows), 400.0, "the end of the runs")
        page.select(page.root / "motions_joint")
        page.recipe.form.more.setChecked(True)
        self.until(lambda: bool(page.run_page.row) and page.run_page.row.state == "finished", 400.0, "the result")
        self.save("training")

    def two_models(self) -> None:
        """A second encoder beside the one in use, on the same clip."""
        session = self.window.session
        other = next(e for e in self.window.library.usable() if e.folder != session.checkpoint)
        same = [e for e in self.window.library.usable() if e.folder.name == "utd_mhad_ctrgcn_joint"]
        self.watch_demo()
        session.compare_with((same[0] if same else other).folder)

        def decided() -> bool:
            rival = session.snapshot().rival
            return rival is not None and rival.compared > 20

        self.until(decided, what="decisions of both models")
        self.wait_for_label()
        self.save("two_models", 0)
        session.compare_with(None)

    def compare(self) -> None:
        """Two shipped checkpoints on UTD-MHAD, or on those of the actor's motions they know."""
        from PySide6.QtCore import QItemSelectionModel

        stores = self.home / "stores"
        stores.mkdir(exist_ok=True)
        if self.options.utd_mhad is not None and not (stores / "utd_mhad").exists():
            (stores / "utd_mhad").symlink_to(self.options.utd_mhad.resolve())
        elif self.options.utd_mhad is None and not (stores / "motions").exists():
            make_store(stores / "motions")
        self.window.show_panel("models")
        models, page = self.window.models, self.window.models.comparison
        how = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        models.table.selectionModel().clear()
        models.open_ensemble()
        self.save("ensemble")
        models.tray.closed.emit()
        for row in range(models.proxy.rowCount()):
            if models.proxy.entry(row).folder.name in ("utd_mhad_ctrgcn_joint", "utd_mhad_ctrgcn_joint_idle"):
                models.table.selectionModel().select(models.proxy.index(row, 0), how)
        models.compare_selected()
        self.until(lambda: page.report is not None, 400.0, "the comparison")
        for number, name in ((0, "overview"), (1, "classes"), (2, "confusion"), (3, "calibration"), (4, "map")):
            page.tabs.setCurrentIndex(number)
            if name == "confusion":
                page.matrices[0].pointed.emit(0, 0)
            if name == "map" and page.report is not None:
                page.maps.choose(page.report.values["map_rows"][0])
            self.save(f"compare_{name}")
        models.show_list()

    def set_up(self) -> None:
        self.window.show_panel("settings")
        self.save("settings")
        self.window.show_panel("live")

    def close(self) -> None:
        self.window.close()


def make_store(folder: Path) -> None:
    """A store of seven motions, each a few times and of different lengths, in turn by two persons."""
    from engine.data.store import write_store
    from engine.render.motions import MOTIONS, motion

    names = [
        name for name in MOTIONS if name in ("wave", "clap", "squat", "boxing", "bow", "jog in place", "jumping jack")
    ]
    made = []
    for label, name in enumerate(names):
        for take in range(4 + label % 4):
            sequence = motion(name, 2.0 + 0.25 * take, fps=30.0)
            sequence.name, sequence.label = f"{name.replace(' ', '_')}_{take + 1:02d}", label
            sequence.meta = {"subject": take % 2 + 1, "take": take + 1}
            made.append(sequence)
    write_store(folder, folder.name, made, names, 30.0)


def make_takes(desk: Any) -> None:
    """Five takes of each of three actions, by persons of different height."""
    from engine.render.motions import motion

    for action, name in (("call the waiter", "raise left arm"), ("stop", "push"), ("bow to the audience", "bow")):
        desk.add_action(action)
        for take in range(5):
            desk.add_take(action, motion(name, 1.8 + 0.2 * take, 20.0, height=1.6 + 0.05 * take))


class Unplugged:
    """Stands for a camera: gives the pictures of a clip for two seconds, then none and does not open again."""

    gone = False

    def __init__(self, source: str) -> None:
        from engine.live.sources import open_source

        self._clip = open_source(source) if not Unplugged.gone else None
        self._left = 60
        self._picture: np.ndarray | None = None

    def isOpened(self) -> bool:
        return self._clip is not None

    def grab(self) -> bool:
        if self._clip is None or self._left <= 0:
            Unplugged.gone = True
            return False
        self._left -= 1
        frame = self._clip.read()
        self._picture = frame.image[:, :, ::-1] if frame is not None else None
        return self._picture is not None

    def retrieve(self) -> tuple[bool, np.ndarray]:
        assert self._picture is not None
        return True, self._picture

    def get(self, prop: int) -> float:
        return 0.0

    def set(self, prop: int, value: float) -> bool:
        return False

    def release(self) -> None:
        if self._clip is not None:
            self._clip.close()


def main() -> int:
    options = parse()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory(prefix="screenshots") as folder:
        os.environ["SKELAPP_HOME"] = folder
        from PySide6.QtWidgets import QApplication

        app = QApplication(sys.argv[:1])
        walk = Walk(options, Path(folder))
        walk.look("dark", "1280x800")
        walk.until(lambda: walk.window.live.source_menu.cameras is not None, what="the search for cameras")
        if walk.window.session.source:
            print("the demo clip plays already: no picture of the empty state", file=sys.stderr)
        else:
            walk.empty()
        wanted = [scene for scene in SCENES if not options.only or scene in options.only]
        for scene in wanted:
            getattr(walk, scene)()
        for theme, size in (("light", "1280x800"), ("dark", "1920x1080"), ("light", "1024x700")):
            walk.look(theme, size)
            if "live_views" in wanted:
                walk.watch_demo()
                walk.wait_for_label()
                walk.save("live", 0)
            for scene in wanted:
                if scene in EVERYWHERE and (scene != "compare" or (theme, size) == ("light", "1280x800")):
                    getattr(walk, scene)()
        walk.close()
        app.processEvents()
    print(f"{len(walk.saved)} pictures in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
