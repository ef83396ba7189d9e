"""Measures the window's long lists and curves: 100 runs, 1,000 checkpoints, a curve of a million points.

    QT_QPA_PLATFORM=offscreen python benchmarks/window_lists.py [--runs 100] [--checkpoints 1000] [--points 1000000]

Everything is made in a home of its own. A gap is by how much a 5 ms timer of the event loop came late meanwhile.
Writes ``window_lists.md`` and ``window_lists.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["SKELAPP_HOME"] = tempfile.mkdtemp(prefix="window_lists_")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import yaml
from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QApplication

from engine import paths
from engine.cli.machine import machine, versions
from skelapp.heartbeat import Heartbeat
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore
from skelapp.training.runs import RunScanner
from skelapp.training.series import Series

EVENTS = 2000  # of every run
TIMES = 40
WAIT_S = 120.0


def write_runs(root: Path, count: int) -> None:
    """Finished runs with an epoch each 100 steps."""
    recipe = {
        "name": "run", "dataset": "utd_mhad", "split": "xsub", "epochs": EVENTS // 100, "batch": 16,
        "preprocessing": {"frames": 52, "window_s": 2.1},
    }  # fmt: skip
    begins = {"event": "run", "epoch": 0, "step": 0, "epochs": EVENTS // 100, "steps": 100}
    for number in range(count):
        folder = root / f"run{number:04}"
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        lines = [json.dumps({"at": float(number), **begins})]
        for step in range(EVENTS):
            at = {"at": number + step / EVENTS, "epoch": step // 100 + 1, "step": step % 100 + 1, "steps": 100}
            lines.append(json.dumps({"event": "step", "loss": 3 / (1 + step), "lr": 0.1, "clips_per_s": 90.0, **at}))
            if at["step"] == 100:
                told = {
                    "loss": 3 / (1 + step),
                    "train_top1": 0.9,
                    "test_top1": 0.8,
                    "seconds": 1.0,
                    "clips_per_s": 90.0,
                }
                lines.append(json.dumps({"event": "epoch", "at": at["at"], "epoch": at["epoch"], **told}))
        lines.append(json.dumps({"event": "end", "at": number + 1.0, "epoch": EVENTS // 100, "seconds": 60.0}))
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
        result = {"name": "test", "dataset": "utd_mhad", "split": "xsub", "count": 430, "top1": 0.9, "top5": 0.99}
        (folder / "results.json").write_text(json.dumps({"results": [result]}))


def write_checkpoints(root: Path, count: int) -> None:
    """Cards as the shipped ones, without weights: only cards are read for the list."""
    shipped = json.loads((paths.TRAINED_MODELS / "utd_mhad_ctrgcn_joint" / "card.json").read_text("utf-8"))
    for number in range(count):
        folder = root / f"model{number:04}"
        folder.mkdir(parents=True)
        card = shipped | {"name": folder.name, "title": f"Model {(number * 7919) % count:04}"}
        (folder / "card.json").write_text(json.dumps(card), "utf-8")


class Watch:
    """Times acts of a window."""

    def __init__(self, window: MainWindow) -> None:
        self.heart = Heartbeat(parent=window)

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError("the window does not get there")
            QCoreApplication.processEvents()
            time.sleep(0.001)

    def act(self, act: Callable[[], Any], done: Callable[[], bool]) -> dict[str, float]:
        """Milliseconds from an act until its effect is there and painted, and the longest gap of the event loop."""
        self.heart.start()
        began = time.perf_counter()
        act()
        self.until(done)
        QCoreApplication.processEvents()
        taken = 1000 * (time.perf_counter() - began)
        settled = time.perf_counter() + 0.2
        self.until(lambda: time.perf_counter() > settled)
        self.heart.stop()
        return {"ms": round(taken, 1), "longest_gap_ms": round(self.heart.longest_ms, 1)}


def spread(act: Callable[[int], Any], times: int = TIMES) -> dict[str, float]:
    """Milliseconds of an act that paints at once."""
    taken = []
    for number in range(times):
        began = time.perf_counter()
        act(number)
        taken.append(1000 * (time.perf_counter() - began))
    p50, p95 = np.percentile(taken, [50, 95])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2), "most_ms": round(max(taken), 2)}


def list_runs(window: MainWindow, watch: Watch, count: int) -> dict[str, Any]:
    panel: Any = window.panels["training"]
    opened = watch.act(
        lambda: window.show_panel("training"),
        lambda: panel.page is not None and panel.page.table_model.rowCount() == count,
    )
    page = panel.page
    watch.until(lambda: page.run_page.curves.ready and not page.recipe.form.building)
    looks: list[int] = []
    page.watcher.looked.connect(lambda look: looks.append(len(look.rows)))

    def fresh() -> None:
        looks.clear()
        page.table_model.set_rows([])
        page.watcher._folder.scanner = RunScanner(page.root)
        page.watcher.look()

    def again() -> None:
        looks.clear()
        page.watcher.look()

    shown = {
        "panel opened for the first time, list read": opened,
        "list read from nothing": watch.act(fresh, lambda: page.table_model.rowCount() == count),
        "looked at again, nothing changed": watch.act(again, lambda: bool(looks)),
    }
    for column in ("Run", "Result"):
        heads = [page.proxy.headerData(i, Qt.Orientation.Horizontal) for i in range(page.proxy.columnCount())]
        place = heads.index(column)
        shown[f"sorted by {column}"] = watch.act(
            lambda place=place: page.table.sortByColumn(place, Qt.SortOrder.AscendingOrder), lambda: True
        )
    shown["filtered"] = watch.act(lambda: page.filter.setText("run000"), lambda: page.proxy.rowCount() <= 10)
    return shown


def list_checkpoints(window: MainWindow, watch: Watch, root: Path, count: int) -> dict[str, Any]:
    window.show_panel("models")
    models = window.models
    before = models.proxy.rowCount()
    read: list[int] = []
    window.library.changed.connect(lambda: read.append(1))

    def again() -> None:
        read.clear()
        window.library.refresh()

    shown = {
        "list read from nothing": watch.act(
            lambda: window.settings.set("folders.models", str(root)), lambda: models.proxy.rowCount() == before + count
        ),
        "read again, nothing changed": watch.act(again, lambda: bool(read)),
    }
    for column in (0, 1, 10):
        name = models.table_model.headerData(column, Qt.Orientation.Horizontal)
        shown[f"sorted by {name}"] = watch.act(
            lambda column=column: models.table.sortByColumn(column, Qt.SortOrder.DescendingOrder), lambda: True
        )
    shown["scrolled to the end"] = watch.act(models.table.scrollToBottom, lambda: True)
    shown["filtered"] = watch.act(lambda: models.filter.setText("0042"), lambda: models.proxy.rowCount() == 1)
    return shown


def long_curve(window: MainWindow, watch: Watch, points: int) -> dict[str, Any]:
    window.show_panel("training")
    panel: Any = window.panels["training"]
    page = panel.page.run_page
    page.show_page("curves")
    noise = np.random.default_rng(0).standard_normal(points)
    x = np.arange(points) / 1000
    page.series.clear()
    series = page.series["loss"] = Series()
    began = time.perf_counter()
    series.extend(x, noise)
    filled = {"ms": round(1000 * (time.perf_counter() - began), 1)}
    curves = page.curves
    curves.show_run(page.series, "")
    watch.until(lambda: "loss" in curves.plots["loss"].curves)
    plot = curves.plots["loss"]
    box = plot.getPlotItem().getViewBox()

    def grown(number: int) -> None:
        more = points + 1000 * number + np.arange(1000)
        series.extend(more / 1000, noise[:1000])
        curves.refresh()
        plot.viewport().repaint()

    def panned(share: float) -> Callable[[int], None]:
        width = share * x[-1]

        def pan(number: int) -> None:
            left = (x[-1] - width) * number / TIMES
            box.setXRange(left, left + width, padding=0)
            plot._draw()
            plot.viewport().repaint()

        return pan

    found = {"all points added at once": filled, "redrawn with 1,000 points more": spread(grown)}
    plot.following = False
    for share, words in ((1.0, "all of it"), (0.1, "a tenth"), (0.001, "a thousandth")):
        found[f"panned, {words} in sight"] = spread(panned(share))
    drawn = plot.curves["loss"].getData()[0]
    return {"rows": found, "width_px": plot.viewport().width(), "points_drawn_of_a_thousandth": len(drawn)}


def table(head: list[str], rows: dict[str, dict[str, float]], keys: list[str]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {name} | " + " | ".join(f"{row[k]:.1f}" for k in keys) + " |" for name, row in rows.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--note", default="", help="What else the machine did meanwhile.")
    options = parser.parse_args()
    home = Path(os.environ["SKELAPP_HOME"])
    write_runs(paths.runs(), options.runs)
    write_checkpoints(home / "many", options.checkpoints)
    # Nothing is recognised meanwhile: how the live view fares beside work is measured elsewhere.
    paths.DEMO_CLIP = home / "no_clip.mp4"
    app = QApplication.instance() or QApplication(sys.argv[:1])
    window = MainWindow(SettingsStore(), cameras=list)
    window.resize(1280, 800)
    window.show()
    watch = Watch(window)
    settled = time.perf_counter() + 3.0
    watch.until(lambda: time.perf_counter() > settled)
    print("runs", file=sys.stderr)
    runs = list_runs(window, watch, options.runs)
    print("checkpoints", file=sys.stderr)
    checkpoints = list_checkpoints(window, watch, home / "many", options.checkpoints)
    print("curves", file=sys.stderr)
    curve = long_curve(window, watch, options.points)
    clean = window.close() and window.closed_clean
    app.processEvents()
    host = machine()
    lines = [
        "# Long lists and curves in the window",
        "",
        f"Made by `python benchmarks/window_lists.py` on {host['processor']}, {host['cores']} cores, window 1280x800, "
        f"Qt platform {os.environ['QT_QPA_PLATFORM']}. Milliseconds until the effect is there and painted; a gap is by "
        f"how much a 5 ms timer of the event loop came late meanwhile. {options.note}".strip(),
        "",
        f"## {options.runs:,} runs of {EVENTS:,} events",
        "",
        *table(["act", "ms", "longest gap, ms"], runs, ["ms", "longest_gap_ms"]),
        "",
        f"## {options.checkpoints:,} checkpoints",
        "",
        *table(["act", "ms", "longest gap, ms"], checkpoints, ["ms", "longest_gap_ms"]),
        "",
        f"## A curve of {options.points:,} points on {curve['width_px']} pixels",
        "",
        f"Added at once in {curve['rows']['all points added at once']['ms']:.0f} ms. Each of {TIMES} times, painted:",
        "",
        *table(
            ["act", "p50, ms", "p95, ms", "most, ms"],
            {name: row for name, row in curve["rows"].items() if "p50_ms" in row},
            ["p50_ms", "p95_ms", "most_ms"],
        ),
    ]
    here = Path(__file__).resolve().parent
    (here / "window_lists.md").write_text("\n".join(lines) + "\n", "utf-8")
    result = {
        "machine": host,
        "note": options.note,
        "versions": versions(),
        "runs": runs,
        "checkpoints": checkpoints,
        "curve": curve,
    }
    (here / "window_lists.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print("\n".join(lines))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
