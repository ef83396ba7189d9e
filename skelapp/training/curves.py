"""The curves of a run: small plots of one epoch axis, drawn from as many points as the screen has room for."""

from __future__ import annotations

import csv
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QFont, QMouseEvent, QPen
from PySide6.QtWidgets import QGridLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from skelapp import theme
from skelapp.dialogs import save_picture
from skelapp.training.progress import GROUPS, curve_title, group_of, number
from skelapp.training.series import Series

_HEADS = {
    "loss": "Loss", "parts": "Its parts", "accuracy": "Accuracy, %", "measures": "Measures", "lr": "Learning rate",
    "speed": "Clips per second", "memory": "Memory, GiB",
}  # fmt: skip
# After Okabe and Ito; the second set is darker, for a light background.
_COLOURS = {
    "dark": ("#56B4E9", "#E69F00", "#2FBF95", "#CC79A7", "#F0E442", "#F08A4B"),
    "light": ("#0B66A8", "#A65300", "#007A58", "#9A3F76", "#6B6200", "#B3400A"),
}
_DASHES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DotLine)
# The same number looks the same in every run; others get what is left in their order.
_FIXED = {"loss": 0, "train_top1": 0, "test_top1": 1, "test_top5": 2, "lr": 0, "clips_per_s": 0}
_WIDE_UP_TO = 150  # points
_LARGE, _SMALL = ("loss", "parts", "accuracy"), ("measures", "lr", "speed", "memory")
# Shares of a row; several curves have a long legend.
_WEIGHT = {"parts": 1.6, "measures": 1.3}
_COLUMNS = 24
_SCALE = {"accuracy": 100.0, "memory": 1 / 1024}


class Plot(pg.PlotWidget):
    """One group of curves. It follows the run until the user zooms; a double click lets it follow again."""

    hovered = Signal(str, float)

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group
        self.curves: dict[str, pg.PlotDataItem] = {}
        self._series: dict[str, Series] = {}
        self.following = True
        self.head = QLabel()
        self.head.setTextFormat(Qt.TextFormat.RichText)
        self.head.setWordWrap(True)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(15)
        self._later.timeout.connect(self._draw)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setMouseEnabled(x=True, y=False)
        self.setMinimumHeight(96)
        self.setFrameShape(self.Shape.NoFrame)
        item = self.getPlotItem()
        item.setContentsMargins(2, 0, 8, 2)
        for side in ("left", "bottom"):
            item.getAxis(side).enableAutoSIPrefix(False)
        item.getAxis("left").setWidth(48)
        self._cursor = pg.InfiniteLine(angle=90, movable=False)
        self._cursor.hide()
        item.addItem(self._cursor, ignoreBounds=True)
        box = item.getViewBox()
        box.setMouseMode(pg.ViewBox.PanMode)
        box.sigRangeChangedManually.connect(self._moved)
        box.sigXRangeChanged.connect(lambda *_: self._later.start())
        box.sigResized.connect(lambda *_: self._later.start())
        self.setAccessibleName(f"Curves: {_HEADS[group]}")
        self.retheme()

    def sizeHint(self) -> QSize:
        """What it needs; it takes what there is."""
        return QSize(160, 96)

    def retheme(self) -> None:
        now = theme.current()
        self.setBackground(now.surface)
        font = QFont(self.font())
        font.setPixelSize(11)
        for side in ("left", "bottom"):
            axis = self.getPlotItem().getAxis(side)
            axis.setPen(pg.mkPen(now.border))
            axis.setTextPen(pg.mkPen(now.muted))
            axis.setTickFont(font)
        self.getPlotItem().showGrid(x=False, y=True, alpha=0.18)
        self._cursor.setPen(pg.mkPen(now.muted, width=1, style=Qt.PenStyle.DotLine))
        for name in self.curves:
            self._dress(name)
        self.head.setText(self._legend())
        self._draw()

    def _dress(self, name: str) -> None:
        pen = self._pen(name)
        curve = self.curves[name]
        curve.setPen(pen)
        curve.setSymbolPen(None)
        curve.setSymbolBrush(pen.color())
        curve.setSymbolSize(6)

    def _legend(self) -> str:
        """The plot's name, and where it has several curves theirs in their colours."""
        parts = [f"<span style='color:{theme.current().muted}'>{_HEADS[self.group]}</span>"]
        if len(self.curves) > 1:
            for name in self._series:
                pen = self._pen(name)
                mark = {Qt.PenStyle.SolidLine: "━", Qt.PenStyle.DashLine: "╍"}.get(pen.style(), "┅")
                title = escape(curve_title(name)).replace(" ", "&nbsp;")
                parts.append(f"<span style='color:{pen.color().name()}'>{mark}</span>&nbsp;{title}")
        return "&nbsp;&nbsp; ".join(parts)

    def _pen(self, name: str, thin: bool = False) -> QPen:
        colours = _COLOURS[theme.current().name]
        others = [n for n in self._series if n not in _FIXED]
        place = _FIXED[name] if name in _FIXED else others.index(name) + sum(n in _FIXED for n in self._series)
        style = _DASHES[place // len(colours) % len(_DASHES)]
        made: QPen = pg.mkPen(colours[place % len(colours)], width=1.0 if thin else 1.6, style=style)
        return made

    def show_series(self, series: dict[str, Series]) -> None:
        """Draw these curves, with what they have by now."""
        if list(series) != list(self._series):
            self._series = dict(series)
            for name in set(self.curves) - set(series):
                self.getPlotItem().removeItem(self.curves.pop(name))
            for name in series:
                if name not in self.curves:
                    self.curves[name] = self.plot(antialias=True)
            for name in self.curves:
                self._dress(name)
            self.head.setText(self._legend())
        self._series = dict(series)
        if self.following:
            self._follow()
        self._draw()

    def _follow(self) -> None:
        """Let the axes hold everything there is."""
        filled = [series for series in self._series.values() if len(series)]
        if not filled:
            return
        scale = _SCALE.get(self.group, 1.0)
        right = max(float(series.x[-1]) for series in filled)
        low = min(float(series.low) for series in filled) * scale
        high = max(float(series.high) for series in filled) * scale
        if self.group in ("speed", "memory", "lr"):
            low = 0.0
        room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
        box = self.getPlotItem().getViewBox()
        left = min(float(series.x[0]) for series in filled)
        left = 0.0 if left <= 1.0 else left
        box.setRange(
            xRange=(left, right + max((right - left) * 0.02, 1e-3)),
            yRange=(0.0 if low == 0 else low - room, high + room),
            padding=0.0,
        )

    def _moved(self, *_: object) -> None:
        self.following = False

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Follow the run again."""
        self.following = True
        self._follow()
        self._draw()
        event.accept()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        if self._inside(event):
            point = self.getPlotItem().getViewBox().mapSceneToView(QPointF(self.mapToScene(event.position().toPoint())))
            self.hovered.emit(self.group, point.x())

    def _inside(self, event: QMouseEvent) -> bool:
        return bool(self.getPlotItem().sceneBoundingRect().contains(self.mapToScene(event.position().toPoint())))

    def leaveEvent(self, event: object) -> None:
        self.hovered.emit(self.group, float("nan"))
        super().leaveEvent(event)

    def show_cursor(self, x: float | None) -> None:
        """A line at an epoch, or none."""
        self._cursor.setVisible(x is not None)
        if x is not None:
            self._cursor.setPos(x)

    def reading(self, x: float) -> str:
        """The values at an epoch, in words."""
        found = ((name, series.value_at(x)) for name, series in self._series.items())
        return ",  ".join(f"{curve_title(name)} {number(name, v)}" for name, v in found if v is not None)

    def _draw(self) -> None:
        box = self.getPlotItem().getViewBox()
        (left, right), _ = box.viewRange()
        width = int(box.width()) or 300
        scale = _SCALE.get(self.group, 1.0)
        for name, series in self._series.items():
            x, y = series.drawn(left, right, width)
            # A wide smooth line of many points up and down takes Qt 25 times as long as a thin one.
            pen = self._pen(name, thin=len(x) > _WIDE_UP_TO)
            self.curves[name].setData(x, y * scale if scale != 1.0 else y, pen=pen)
            # Few points, such as tests, are points; many are a line.
            few = len(x) * 12 < width
            if few != (self.curves[name].opts["symbol"] is not None):
                self.curves[name].setSymbol("o" if few else None)


class CurvesView(QWidget):
    """All plots of the selected run; built one at a time, so that the window goes on meanwhile."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.series: dict[str, Series] = {}
        self.plots: dict[str, Plot] = {}
        self._boxes: dict[str, QWidget] = {}
        self._placed: tuple[str, ...] = ()
        self.reading = QLabel("")
        self.reading.setProperty("role", "muted")
        self.reading.setMinimumHeight(18)
        # A small window scrolls rather than pressing the plots into one another.
        self._plots = QWidget()
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setWidget(self._plots)
        # The card shows through.
        self._plots.setAutoFillBackground(False)
        self._area.viewport().setAutoFillBackground(False)
        self._grid = QGridLayout(self._plots)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(10)
        for column in range(_COLUMNS):
            self._grid.setColumnStretch(column, 1)
        self._grid.setRowStretch(0, 3)
        self._grid.setRowStretch(1, 2)
        self.empty = QLabel()
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setProperty("role", "muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._area, 1)
        layout.addWidget(self.empty, 1)
        layout.addWidget(self.reading)
        self._builder = QTimer(self)
        self._builder.setInterval(0)
        self._builder.timeout.connect(self._build_next)
        self._builder.start()

    @property
    def ready(self) -> bool:
        return len(self.plots) == len(GROUPS)

    def _build_next(self) -> None:
        group = next((g for g in GROUPS if g not in self.plots), None)
        if group is None:
            self._builder.stop()
            self.refresh()
            return
        plot = Plot(group)
        plot.hovered.connect(self._hover)
        box = QWidget(self._plots)
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(plot.head)
        column.addWidget(plot, 1)
        box.hide()
        self.plots[group], self._boxes[group] = plot, box

    def _place(self, there: tuple[str, ...]) -> None:
        """Losses and accuracy above, the others below; what has no values takes no room."""
        if there == self._placed:
            return
        self._placed = there
        for box in self._boxes.values():
            self._grid.removeWidget(box)
        for line, row in enumerate((_LARGE, _SMALL)):
            seen = [group for group in there if group in row]
            weights = np.cumsum([0.0, *(_WEIGHT.get(group, 1.0) for group in seen)])
            edges = np.rint(weights / max(weights[-1], 1.0) * _COLUMNS).astype(int).tolist()
            for group, left, right in zip(seen, edges[:-1], edges[1:], strict=True):
                self._grid.addWidget(self._boxes[group], line, left, 1, right - left)
        self._grid.setRowStretch(1, 2 if any(group in _SMALL for group in there) else 0)

    def show_run(self, series: dict[str, Series], why_empty: str) -> None:
        """Another run: its curves, and what to say while it has none."""
        self.series = series
        self.empty.setText(why_empty)
        for plot in self.plots.values():
            plot.following = True
        self.refresh()

    def refresh(self) -> None:
        """Draw what there is now."""
        grouped: dict[str, dict[str, Series]] = {group: {} for group in GROUPS}
        for name, series in self.series.items():
            if len(series):
                grouped[group_of(name)][name] = series
        # A part that is switched off says nothing, and neither does the only part of a loss.
        parts = {name: part for name, part in grouped["parts"].items() if part.low or part.high}
        if len(parts) == 1 and "loss" in grouped["loss"]:
            whole, (part,) = grouped["loss"]["loss"], parts.values()
            if len(part) == len(whole) and np.array_equal(part.y[-50:], whole.y[-50:]):
                parts = {}
        grouped["parts"] = parts
        seen = tuple(group for group in self.plots if grouped[group])
        any_there = bool(seen)
        self._place(seen)
        for group, plot in self.plots.items():
            self._boxes[group].setVisible(group in seen)
            if group in seen:
                plot.show_series(grouped[group])
        self._area.setVisible(any_there)
        self.empty.setVisible(not any_there)
        self.reading.setVisible(any_there)

    def _hover(self, group: str, x: float) -> None:
        if not np.isfinite(x) or x < 0:
            self.reading.setText("")
            for plot in self.plots.values():
                plot.show_cursor(None)
            return
        parts = [plot.reading(x) for g, plot in self.plots.items() if self._boxes[g].isVisible()]
        self.reading.setText(f"Epoch {x:.2f}:  " + ",  ".join(part for part in parts if part))
        for plot in self.plots.values():
            plot.show_cursor(x)

    def retheme(self) -> None:
        for plot in self.plots.values():
            plot.retheme()

    def csv_writer(self, path: Path) -> Callable[[], None]:
        """An act for a worker: write all points of all curves as they are now, one per line."""
        points = {name: (series.x.copy(), series.y.copy()) for name, series in self.series.items()}

        def write() -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["curve", "epoch", "value"])
                for name, (x, y) in points.items():
                    rows = zip(x.tolist(), y.tolist(), strict=True)
                    writer.writerows((name, f"{epoch:.6g}", value) for epoch, value in rows)

        return write

    def save_png(self, path: Path) -> None:
        """All plots, also those scrolled out of sight; raises ``OSError`` when the disk refuses."""
        save_picture(self._plots, path)
