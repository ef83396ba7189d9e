"""The takes of one action, each a small moving figure; only those in sight are painted."""

from __future__ import annotations

import time
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QEvent,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QRectF,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QFont, QHideEvent, QKeyEvent, QPainter, QPen, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from skelapp import theme
from skelapp.teach.view import TakeView

TAKE_ROLE = Qt.ItemDataRole.UserRole
CARD = QSize(128, 158)
TICK_MS = 66
PAUSE_S = 0.5  # between two rounds of a take
Index = QModelIndex | QPersistentModelIndex


class TakeModel(QAbstractListModel):
    """One item per take."""

    def __init__(self) -> None:
        super().__init__()
        self.takes: tuple[TakeView, ...] = ()

    def set_takes(self, takes: tuple[TakeView, ...]) -> None:
        self.beginResetModel()
        self.takes = takes
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.takes)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        take = self.takes[index.row()]
        if role == TAKE_ROLE:
            return take
        if role == Qt.ItemDataRole.AccessibleTextRole:
            parts = [f"Take {index.row() + 1}", "not this action" if take.negative else "", f"{take.seconds:.1f} s"]
            return ", ".join(part for part in (*parts, take.origin) if part)
        if role == Qt.ItemDataRole.ToolTipRole:
            return take.origin or None
        return None


class TakeDelegate(QStyledItemDelegate):
    """Paints one card at the moment :attr:`clock` says."""

    clock = 0.0

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return CARD

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        now = theme.current()
        take: TakeView = index.data(TAKE_ROLE)
        area: QRect = option.rect  # type: ignore[attr-defined]
        state: QStyle.StateFlag = option.state  # type: ignore[attr-defined]
        box = QRectF(area).adjusted(4, 4, -4, -4)
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        over = bool(state & QStyle.StateFlag.State_MouseOver)
        edge = now.colour("accent" if chosen or over else "border")
        pen = QPen(edge, 2.5 if chosen else 1)
        if take.negative:
            pen.setStyle(Qt.PenStyle.DashLine)
        painter.setPen(pen)
        painter.setBrush(now.colour("stage"))
        painter.drawRoundedRect(box, 7, 7)
        seconds = take.start + self.clock % (take.seconds + PAUSE_S)
        frame = take.figure.frame_at(min(seconds, take.end))
        take.figure.paint(painter, box.adjusted(6, 6, -6, -26), frame)
        font = QFont(painter.font())
        font.setPixelSize(12)
        font.setBold(chosen)
        painter.setFont(font)
        painter.setPen(now.colour("text" if chosen else "muted"))
        line = QRectF(box.left() + 9, box.bottom() - 25, box.width() - 18, 20)
        word = f"{index.row() + 1}" + ("  not this" if take.negative else "")
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, word)
        right = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
        painter.drawText(line, right, f"{take.seconds:.1f} s")
        painter.restore()


class TakeStrip(QListView):
    """The view. Delete removes what is chosen, Space stops and starts all figures."""

    delete_wanted = Signal(list)  # of paths
    chosen = Signal(object)  # TakeView or None

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.takes = TakeModel()
        self.setModel(self.takes)
        self._delegate = TakeDelegate(self)
        self.setItemDelegate(self._delegate)
        self.setAccessibleName("Takes")
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMouseTracking(True)
        self.setMinimumHeight(CARD.height() + 14)
        self._last = time.perf_counter()
        self._playing = True
        self.timer = QTimer(self)
        self.timer.setInterval(TICK_MS)
        self.timer.timeout.connect(self._tick)
        self.selectionModel().currentChanged.connect(self._changed)

    def set_takes(self, takes: tuple[TakeView, ...]) -> None:
        """Show these; the chosen ones stay chosen where they are still there, else the last is chosen."""
        if [view.take for view in takes] == [view.take for view in self.takes.takes] and takes:
            return  # nothing changed: the figures go on
        current = self.current()
        old = len(self.takes.takes)
        self.takes.set_takes(takes)
        paths = [take.path for take in takes]
        if current is not None and current.path in paths and len(takes) <= old:
            self.select(paths.index(current.path))
        elif takes:
            self.select(len(takes) - 1)
        else:
            self.chosen.emit(None)

    def select(self, row: int) -> None:
        """Choose one take by its place."""
        how = QItemSelectionModel.SelectionFlag.ClearAndSelect
        self.selectionModel().setCurrentIndex(self.takes.index(row), how)
        self.scrollTo(self.currentIndex())

    def current(self) -> TakeView | None:
        index = self.currentIndex()
        return index.data(TAKE_ROLE) if index.isValid() else None

    def selected(self) -> list[TakeView]:
        """All chosen takes, in order."""
        rows = sorted(index.row() for index in self.selectionModel().selectedIndexes())
        return [self.takes.takes[row] for row in rows]

    def _changed(self, new: Index, old: Index) -> None:
        self.chosen.emit(new.data(TAKE_ROLE) if new.isValid() else None)

    # -------------------------------------------------------------- playing

    @property
    def playing(self) -> bool:
        return self._playing

    def set_playing(self, on: bool) -> None:
        self._playing = on
        self._run()

    def _run(self) -> None:
        if self._playing and self.isVisible():
            self._last = time.perf_counter()
            self.timer.start()
        else:
            self.timer.stop()

    def _tick(self) -> None:
        now = time.perf_counter()
        self._delegate.clock += min(now - self._last, 0.25)
        self._last = now
        if self.takes.takes:
            self.viewport().update()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._run()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._run()

    # ----------------------------------------------------------------- keys

    def event(self, event: QEvent) -> bool:
        # Space belongs to the figures here, before the window's own shortcut takes it.
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() == Qt.Key.Key_Space
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            if self.selected():
                self.delete_wanted.emit([take.path for take in self.selected()])
        elif event.key() == Qt.Key.Key_Space:
            self.set_playing(not self._playing)
        else:
            super().keyPressEvent(event)
