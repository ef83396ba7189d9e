"""The list of the user's actions: name, number of takes, and a warning where two look alike."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QPointF, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen, QPolygonF
from PySide6.QtWidgets import (
    QAbstractItemView,
    QLineEdit,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from skelapp import theme
from skelapp.teach.view import ActionView

ACTION_ROLE = Qt.ItemDataRole.UserRole
ROW = 50
_WARNING_ROW = 68
_LIVE = "#009E73"
_WARN = "#E69F00"
NAME_LENGTH = 60  # characters an action's name may have
Index = QModelIndex | QPersistentModelIndex


class ActionModel(QAbstractListModel):
    """One row per action; a row is renamed by editing it."""

    renamed = Signal(str, str)  # from, to

    def __init__(self) -> None:
        super().__init__()
        self._actions: tuple[ActionView, ...] = ()

    def set_actions(self, actions: tuple[ActionView, ...]) -> None:
        same = [action.name for action in actions] == [action.name for action in self._actions]
        if same:
            # The same rows: what is selected stays selected.
            self._actions = actions
            if actions:
                self.dataChanged.emit(self.index(0), self.index(len(actions) - 1))
            return
        self.beginResetModel()
        self._actions = actions
        self.endResetModel()

    @property
    def names(self) -> list[str]:
        return [action.name for action in self._actions]

    def row_of(self, name: str) -> int:
        return self.names.index(name) if name in self.names else -1

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._actions)

    def flags(self, index: Index) -> Qt.ItemFlag:
        return super().flags(index) | Qt.ItemFlag.ItemIsEditable

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        action = self._actions[index.row()]
        if role == ACTION_ROLE:
            return action
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return action.name
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(part for part in (action.name, action.words(), action.warning) if part)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return ", ".join(part for part in (action.name, action.words(), action.warning) if part)
        return None

    def setData(self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        new = " ".join(str(value).split())
        old = self._actions[index.row()].name
        if role != Qt.ItemDataRole.EditRole or not new or new == old:
            return False
        self.renamed.emit(old, new)
        return True


class ActionDelegate(QStyledItemDelegate):
    """Paints one row."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(180, _WARNING_ROW if index.data(ACTION_ROLE).warning else ROW)

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: Index) -> QWidget:
        edit = QLineEdit(parent)
        edit.setMaxLength(NAME_LENGTH)
        edit.setAccessibleName("Name of the action")
        return edit

    def setEditorData(self, editor: QWidget, index: Index) -> None:
        """The name as it is, once: what has become known of the action meanwhile leaves alone what is being typed."""
        assert isinstance(editor, QLineEdit)
        if not (editor.text() or editor.isModified()):
            super().setEditorData(editor, index)

    def updateEditorGeometry(self, editor: QWidget, option: QStyleOptionViewItem, index: Index) -> None:
        area: QRect = option.rect  # type: ignore[attr-defined]
        editor.setGeometry(area.left() + 26, area.top() + 6, area.width() - 34, 34)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        now = theme.current()
        action: ActionView = index.data(ACTION_ROLE)
        area: QRect = option.rect  # type: ignore[attr-defined]
        state: QStyle.StateFlag = option.state  # type: ignore[attr-defined]
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if state & QStyle.StateFlag.State_Selected:
            painter.fillRect(area, now.colour("raised"))
            painter.fillRect(QRect(area.left(), area.top(), 3, area.height()), now.colour("accent"))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(area, now.colour("background"))
        self._paint_mark(painter, QPointF(area.left() + 17, area.top() + 18), action, now)
        text = area.adjusted(32, 8, -8, 0)
        font = QFont(painter.font())
        font.setPixelSize(14)
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(now.colour("text"))
        name = QFontMetrics(font).elidedText(action.name, Qt.TextElideMode.ElideRight, text.width())
        painter.drawText(QRect(text.left(), text.top(), text.width(), 20), Qt.AlignmentFlag.AlignVCenter, name)
        font.setBold(False)
        font.setPixelSize(12)
        painter.setFont(font)
        painter.setPen(now.colour("muted"))
        for line, words in enumerate(filter(None, (action.words(), action.warning))):
            box = QRect(text.left(), text.top() + 20 + 18 * line, text.width(), 18)
            words = QFontMetrics(font).elidedText(words, Qt.TextElideMode.ElideRight, text.width())
            painter.setPen(now.colour("text" if line else "muted"))
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, words)
        painter.setPen(QPen(now.colour("border"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.restore()

    @staticmethod
    def _paint_mark(painter: QPainter, at: QPointF, action: ActionView, now: theme.Theme) -> None:
        """A triangle where it looks like another, a full disc where it is live, a ring where it is not yet."""
        if action.warning:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(_WARN))
            corners = [at + QPointF(0, -7), at + QPointF(8, 6.5), at + QPointF(-8, 6.5)]
            painter.drawPolygon(QPolygonF(corners))
            painter.setPen(QPen(QColor(theme.ON_PERSON), 1.8))
            painter.drawLine(at + QPointF(0, -2.5), at + QPointF(0, 2))
            painter.drawPoint(at + QPointF(0, 4.6))
        elif action.live:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(_LIVE))
            painter.drawEllipse(at, 5, 5)
        else:
            painter.setPen(QPen(now.colour("muted"), 1.6))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawEllipse(at, 4.5, 4.5)


class ActionList(QListView):
    """The view; Delete removes the chosen action, F2 or a double click renames it."""

    delete_wanted = Signal(str)
    chosen = Signal(str)

    def __init__(self, model: ActionModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setModel(model)
        self.setItemDelegate(ActionDelegate(self))
        self.setAccessibleName("Actions")
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setMouseTracking(True)
        self.selectionModel().currentChanged.connect(self._changed)
        model.modelReset.connect(lambda: self.selectionModel().clear())

    def action_model(self) -> ActionModel:
        model = self.model()
        assert isinstance(model, ActionModel)
        return model

    def current(self) -> str:
        """Name of the chosen action; empty when there is none."""
        index = self.currentIndex()
        return str(index.data()) if index.isValid() else ""

    def select(self, name: str) -> bool:
        row = self.action_model().row_of(name)
        if row >= 0:
            self.setCurrentIndex(self.action_model().index(row))
            self.scrollTo(self.currentIndex())
        return row >= 0

    def _changed(self, new: Index, old: Index) -> None:
        self.chosen.emit(str(new.data()) if new.isValid() else "")

    def keyPressEvent(self, event: Any) -> None:
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and self.current():
            self.delete_wanted.emit(self.current())
        else:
            super().keyPressEvent(event)
