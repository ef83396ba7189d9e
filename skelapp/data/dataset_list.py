"""The list of datasets: title, state and progress of each, painted in the theme's colours."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen
from PySide6.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from engine.data.catalogue import CatalogueEntry, State
from skelapp import theme
from skelapp.data.catalogue import state_words
from skelapp.data.jobs import Job, JobQueue

ENTRY_ROLE = Qt.ItemDataRole.UserRole
JOB_ROLE = Qt.ItemDataRole.UserRole + 1
ROW_HEIGHT = 58
_OK = "#009E73"
Index = QModelIndex | QPersistentModelIndex


def second_line(entry: CatalogueEntry) -> str:
    """State and size of a dataset in a few words."""
    store = entry.main
    if store is not None and store.state == "prepared":
        return f"{store.sequences:,} sequences, {store.classes} actions"
    return state_words(entry)


class DatasetModel(QAbstractListModel):
    """One row per dataset."""

    def __init__(self, jobs: JobQueue) -> None:
        super().__init__()
        self._jobs = jobs
        self._entries: tuple[CatalogueEntry, ...] = ()
        jobs.changed.connect(self._progressed)

    def set_entries(self, entries: tuple[CatalogueEntry, ...]) -> None:
        if [e.name for e in entries] == [e.name for e in self._entries]:
            # The same rows: what is selected stays selected.
            self._entries = entries
            self._progressed()
            return
        self.beginResetModel()
        self._entries = entries
        self.endResetModel()

    def _progressed(self) -> None:
        if self._entries:
            self.dataChanged.emit(self.index(0), self.index(len(self._entries) - 1))

    def row_of(self, name: str) -> int:
        return next((row for row, entry in enumerate(self._entries) if entry.name == name), -1)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._entries)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        entry = self._entries[index.row()]
        job = self._jobs.of(entry.name)
        if role == ENTRY_ROLE:
            return entry
        if role == JOB_ROLE:
            return job
        if role == Qt.ItemDataRole.DisplayRole:
            return entry.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{entry.title} ({entry.name}): {state_words(entry)}"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{entry.title}, {job.words() if job else state_words(entry) + ', ' + second_line(entry)}"
        return None


class DatasetDelegate(QStyledItemDelegate):
    """Paints one row."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(220, ROW_HEIGHT)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        now = theme.current()
        entry: CatalogueEntry = index.data(ENTRY_ROLE)
        job: Job | None = index.data(JOB_ROLE)
        area: QRect = option.rect  # type: ignore[attr-defined]
        state: QStyle.StateFlag = option.state  # type: ignore[attr-defined]
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if chosen:
            painter.fillRect(area, now.colour("raised"))
            painter.fillRect(QRect(area.left(), area.top(), 3, area.height()), now.colour("accent"))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(area, now.colour("background"))
        paint_state(painter, QPointF(area.left() + 22, area.top() + 20), entry.state)
        text = area.adjusted(42, 9, -8, 0)
        font = QFont(painter.font())
        font.setPixelSize(13)
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(now.colour("text"))
        title = QFontMetrics(font).elidedText(entry.title, Qt.TextElideMode.ElideRight, text.width())
        painter.drawText(QRect(text.left(), text.top(), text.width(), 20), Qt.AlignmentFlag.AlignVCenter, title)
        font.setBold(False)
        font.setPixelSize(12)
        painter.setFont(font)
        painter.setPen(now.colour("danger" if entry.state == "damaged" and job is None else "muted"))
        line = QRect(text.left(), text.top() + 20, text.width(), 18)
        if job is None:
            words = second_line(entry)
        elif job.share is not None and job.state == "running":
            words = f"{job.title.split()[0]}  {100 * job.share:.0f} %"
        else:
            words = job.title.split()[0] if job.state == "running" else job.words()
        words = QFontMetrics(font).elidedText(words, Qt.TextElideMode.ElideRight, line.width())
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, words)
        if job is not None and job.state in ("running", "stopping"):
            bar = QRectF(text.left(), area.bottom() - 9, text.width(), 4)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(now.colour("border"))
            painter.drawRoundedRect(bar, 2, 2)
            painter.setBrush(now.colour("accent"))
            painter.drawRoundedRect(QRectF(bar.x(), bar.y(), bar.width() * (job.share or 0.0), 4), 2, 2)
        painter.setPen(QPen(now.colour("border"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.restore()


def paint_state(painter: QPainter, at: QPointF, state: State) -> None:
    """A mark per state that differs in shape, not in colour alone."""
    now = theme.current()
    painter.setBrush(Qt.BrushStyle.NoBrush)
    if state == "prepared":
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(_OK))
        painter.drawEllipse(at, 8, 8)
        painter.setPen(QPen(QColor("#ffffff"), 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.drawPolyline([at + QPointF(-3.5, 0.3), at + QPointF(-1, 3), at + QPointF(3.8, -2.8)])
    elif state in ("damaged", "old"):
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(now.colour("danger" if state == "damaged" else "muted"))
        painter.drawPolygon([at + QPointF(0, -8), at + QPointF(9, 7.5), at + QPointF(-9, 7.5)])
        painter.setPen(QPen(now.colour("surface"), 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.drawLine(at + QPointF(0, -2.5), at + QPointF(0, 2))
        painter.drawPoint(at + QPointF(0, 5))
    else:
        painter.setPen(QPen(now.colour("muted" if state == "absent" else "accent"), 1.8))
        painter.drawEllipse(at, 7.5, 7.5)
        if state == "begun":
            painter.setBrush(now.colour("accent"))
            painter.drawPie(QRectF(at.x() - 7.5, at.y() - 7.5, 15, 15), 90 * 16, -200 * 16)
        elif state == "found":
            painter.drawLine(at + QPointF(0, -4), at + QPointF(0, 3.5))
            painter.drawPolyline([at + QPointF(-3, 0.8), at + QPointF(0, 3.8), at + QPointF(3, 0.8)])
    painter.setBrush(Qt.BrushStyle.NoBrush)


class DatasetList(QListView):
    """The view; Enter and double click act on the row."""

    def __init__(self, model: DatasetModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setModel(model)
        self.setItemDelegate(DatasetDelegate(self))
        self.setAccessibleName("Datasets")
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMouseTracking(True)

    def entry(self) -> CatalogueEntry | None:
        index = self.currentIndex()
        return index.data(ENTRY_ROLE) if index.isValid() else None

    def select(self, name: str) -> bool:
        """Select a dataset by its name; False when it is not listed."""
        model = self.model()
        assert isinstance(model, DatasetModel)
        row = model.row_of(name)
        if row >= 0:
            self.setCurrentIndex(model.index(row))
        return row >= 0
