"""Plots of a comparison: how sure against how right, and the features as a map of points."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFont, QKeyEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from skelapp import theme
from skelapp.live.action_card import readable
from skelapp.models.colours import LETTERS, class_colour, model_colour
from skelapp.models.report import Report


def dress(plot: pg.PlotWidget) -> None:
    """A plot in the colours of the theme in force."""
    now = theme.current()
    plot.setBackground(now.surface)
    font = QFont(plot.font())
    font.setPixelSize(12)
    for side in ("left", "bottom"):
        axis = plot.getPlotItem().getAxis(side)
        axis.setPen(pg.mkPen(now.border))
        axis.setTextPen(pg.mkPen(now.muted))
        axis.setTickFont(font)
        axis.setStyle(tickTextOffset=6)


def _plot(name: str) -> pg.PlotWidget:
    made = pg.PlotWidget()
    made.setMenuEnabled(False)
    made.hideButtons()
    made.setFrameShape(made.Shape.NoFrame)
    made.setAccessibleName(name)
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made


class Calibration(QWidget):
    """Accuracy against score in bins: on the diagonal an encoder is as right as it is sure. Below, how many clips."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.report: Report | None = None
        self.curve = _plot("Reliability curves")
        self.counts = _plot("Sequences by score")
        self.counts.setFixedHeight(150)
        self.counts.setXLink(self.curve)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextFormat(Qt.TextFormat.RichText)
        for plot in (self.curve, self.counts):
            plot.setMouseEnabled(x=False, y=False)
            plot.getPlotItem().getAxis("left").setWidth(56)
        self.curve.setXRange(0, 1, padding=0.02)
        self.curve.setYRange(0, 1, padding=0.02)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 12, 4, 4)
        layout.setSpacing(8)
        layout.addWidget(self.words)
        layout.addWidget(self.curve, 1)
        layout.addWidget(self.counts)

    def show_report(self, report: Report | None) -> None:
        self.report = report
        now = theme.current()
        for plot in (self.curve, self.counts):
            plot.clear()
            dress(plot)
        self.words.setText("")
        if report is None:
            return
        self.curve.setLabel("left", "Accuracy", color=now.muted)
        self.counts.setLabel("left", "Sequences", color=now.muted)
        self.counts.setLabel("bottom", "Score of the answer", color=now.muted)
        self.curve.plot([0, 1], [0, 1], pen=pg.mkPen(now.muted, width=1, style=Qt.PenStyle.DashLine))
        parts, most = [], 1
        for number, model in enumerate(report.models):
            curve, colour = model["reliability"], model_colour(number)
            count = np.array(curve["count"])
            edges = np.linspace(0, 1, len(count) + 1)
            seen = count > 0
            score = np.array([s if s is not None else np.nan for s in curve["score"]], float)[seen]
            right = np.array([a if a is not None else np.nan for a in curve["accuracy"]], float)[seen]
            self.curve.plot(
                score, right, pen=pg.mkPen(colour, width=2), symbol="ost+dhpx"[number % 8], symbolBrush=colour,
                symbolPen=pg.mkPen(now.surface), symbolSize=9,
            )  # fmt: skip
            self.counts.plot(edges, count, stepMode="center", pen=pg.mkPen(colour, width=2))
            most = max(most, int(count.max(initial=0)))
            parts.append(
                f"<b style='color:{colour.name()}'>{LETTERS[number]}</b> calibration error "
                f"{model['calibration_error']:.3f}, mean score {model['mean_score']:.2f} at "
                f"{100 * model['top1']:.1f} % right"
            )
        self.counts.setYRange(0, 1.15 * most, padding=0)
        rule = "Under the dashed line an encoder is surer than it is right, above it more right than it is sure."
        self.words.setText("&nbsp;&nbsp;&nbsp; ".join(parts) + f"<br><span style='color:{now.muted}'>{rule}</span>")


class FeatureMap(QWidget):
    """One checkpoint's features in two dimensions; a click or the arrow keys choose a sequence."""

    chosen = Signal(int)

    def __init__(self, number: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.number = number
        self.report: Report | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.title = QLabel()
        self.title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.title.setTextFormat(Qt.TextFormat.RichText)
        # A whole plot with its axes and menus takes a moment to make, and a map needs none of them.
        self.view = pg.GraphicsView()
        self.view.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.view.setFrameShape(self.view.Shape.NoFrame)
        self.box = pg.ViewBox(lockAspect=True, enableMenu=False)
        self.view.setCentralItem(self.box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.title)
        layout.addWidget(self.view, 1)
        # Each point is painted once; without a pen of its own per point thousands stay quick.
        self.dots = pg.ScatterPlotItem(pxMode=True)
        self.ring = pg.ScatterPlotItem(pxMode=True, size=18, symbol="o", brush=None)
        self.box.addItem(self.dots)
        self.box.addItem(self.ring)
        self.dots.sigClicked.connect(self._clicked)
        self.points = np.zeros((0, 2))
        self.rows: list[int] = []

    def show_report(self, report: Report | None, only: int | None) -> None:
        self.report = report
        now = theme.current()
        self.view.setBackground(now.surface)
        self.ring.clear()
        if report is None or self.number >= len(report.models):
            self.dots.clear()
            return
        model = report.models[self.number]
        self.points, self.rows = np.array(model["map"], float).reshape(-1, 2), report.values["map_rows"]
        count = len(report.classes)
        # One brush and pen per look: making them for every point would take longer than painting.
        brushes = [pg.mkBrush(class_colour(i, count)) for i in range(count)]
        crosses = [pg.mkPen(class_colour(i, count), width=2) for i in range(count)]
        faint_brush, faint_cross, rim = pg.mkBrush(now.border), pg.mkPen(now.border, width=2), pg.mkPen(now.surface)
        labels = [report.labels[row] for row in self.rows]
        shown = [only is None or label == only for label in labels]
        right = [model["predicted"][row] == label for row, label in zip(self.rows, labels, strict=True)]
        looks = list(zip(labels, shown, right, strict=True))
        brush = [brushes[label] if on else faint_brush for label, on, _ in looks]
        pen = [rim if well else crosses[label] if on else faint_cross for label, on, well in looks]
        symbol = ["o" if well else "x" for well in right]
        size = [9 if on else 6 for on in shown]
        self.dots.setData(
            x=self.points[:, 0], y=self.points[:, 1], brush=brush, pen=pen, symbol=symbol, size=size, data=self.rows,
        )  # fmt: skip
        share = sum(model["explained"])
        self.title.setText(
            f"<b style='color:{model_colour(self.number).name()}'>{LETTERS[self.number]}</b>"
            f"<span style='color:{now.muted}'> {share:.0%} of the features' variance</span>"
        )
        self.setAccessibleName(f"Map of the features of {LETTERS[self.number]}")

    def mark(self, sequence: int) -> None:
        """Ring one sequence."""
        if sequence in self.rows:
            x, y = self.points[self.rows.index(sequence)]
            self.ring.setData(x=[x], y=[y], pen=pg.mkPen(theme.current().text, width=2))
        else:
            self.ring.clear()

    def _clicked(self, _: object, spots: list[pg.SpotItem], *more: object) -> None:
        if len(spots):
            self.chosen.emit(int(spots[0].data()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Right: 1, Qt.Key.Key_Down: 1, Qt.Key.Key_Left: -1, Qt.Key.Key_Up: -1}.get(
            Qt.Key(event.key())
        )
        if step is None or not self.rows:
            super().keyPressEvent(event)
            return
        ringed = self.ring.data
        place = -1 if step > 0 else 0
        if len(ringed):
            near = np.abs(self.points - (ringed["x"][0], ringed["y"][0])).sum(1)
            place = int(near.argmin())
        self.chosen.emit(self.rows[(place + step) % len(self.rows)])


class Maps(QWidget):
    """The maps of all compared checkpoints side by side; a chosen sequence is ringed in each and told in words."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.report: Report | None = None
        self.maps: list[FeatureMap] = []
        self.highlight = QComboBox()
        self.highlight.setAccessibleName("Class to highlight")
        self.highlight.currentIndexChanged.connect(lambda _: self._draw())
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setMinimumHeight(40)
        self.words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.words.setAccessibleName("The chosen sequence")
        top = QHBoxLayout()
        label = QLabel("Highlight")
        label.setBuddy(self.highlight)
        label.setProperty("role", "muted")
        top.addWidget(label)
        top.addWidget(self.highlight)
        note = QLabel("First two principal components, turned onto each other. A cross is a wrong answer.")
        note.setProperty("role", "muted")
        top.addSpacing(14)
        top.addWidget(note, 1)
        self._row = QHBoxLayout()
        self._row.setSpacing(10)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 12, 4, 4)
        layout.addLayout(top)
        layout.addLayout(self._row, 1)
        layout.addWidget(self.words)
        self.sequence: int | None = None

    def show_report(self, report: Report | None) -> None:
        self.report, self.sequence = report, None
        for old in self.maps:
            self._row.removeWidget(old)
            old.deleteLater()
        self.maps = []
        if report is not None:
            for number in range(min(len(report.models), 4)):
                made = FeatureMap(number)
                made.chosen.connect(self.choose)
                self.maps.append(made)
                self._row.addWidget(made, 1)
        self.highlight.blockSignals(True)
        self.highlight.clear()
        self.highlight.addItem("all classes", None)
        for i, name in enumerate(report.classes if report else []):
            self.highlight.addItem(readable(name), i)
        self.highlight.blockSignals(False)
        self._draw()

    def _draw(self) -> None:
        for made in self.maps:
            made.show_report(self.report, self.highlight.currentData())
        self.words.setText("Click a point, or use the arrow keys.")
        if self.sequence is not None:
            self.choose(self.sequence)

    def choose(self, sequence: int) -> None:
        """Ring a sequence in every map and say what it is."""
        self.sequence = sequence
        for made in self.maps:
            made.mark(sequence)
        if self.report is not None:
            self.words.setText(self.report.sequence_words(sequence))
