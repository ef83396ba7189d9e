"""Makes an input for every field of a settings section from its type, limits and texts: one description, one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from PySide6.QtCore import QEvent, QObject, QSignalBlocker, Qt
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from skelapp.widgets import button

EDITOR_WIDTH = 240
Change = Callable[[str, Any], None]


class _NoStrayWheel(QObject):
    """A wheel that scrolls the page must not change the values it passes over."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


def _limits(info: FieldInfo) -> tuple[float, float]:
    low = next((m.ge for m in info.metadata if isinstance(m, Ge)), 0)
    high = next((m.le for m in info.metadata if isinstance(m, Le)), 1_000_000)
    return float(low), float(high)  # type: ignore[arg-type]


class Editor:
    """One field: a widget, how to show a value in it, and who is told when the user changes it."""

    def __init__(self, name: str, info: FieldInfo, changed: Change, guard: QObject) -> None:
        self.name = name
        kind = info.annotation
        self.widget: QWidget
        self._input: QWidget
        if get_origin(kind) is Literal:
            self._input = self.widget = self._choice(get_args(kind), changed)
        elif kind is bool:
            self._input = self.widget = self._check(info, changed)
        elif kind in (int, float):
            self._input = self.widget = self._number(info, changed)
        else:
            self._input, self.widget = self._folder(changed)
        self._input.setAccessibleName(info.title or name)
        self._input.setAccessibleDescription(info.description or "")
        self._input.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._input.installEventFilter(guard)

    def show(self, value: Any) -> None:
        """Show a value without telling anybody."""
        with QSignalBlocker(self._input):
            match self._input:
                case QComboBox() as box:
                    box.setCurrentIndex(box.findData(value))
                case QCheckBox() as box:
                    box.setChecked(value)
                case QSpinBox() | QDoubleSpinBox() as spin:
                    if spin.value() != value:
                        spin.setValue(value)
                case QLineEdit() as edit:
                    if edit.text() != value:
                        edit.setText(value)

    def _choice(self, options: tuple[str, ...], changed: Change) -> QComboBox:
        box = QComboBox()
        names = {"onnx": "ONNX Runtime", "tensorrt": "TensorRT", "torch": "PyTorch"}
        for option in options:
            box.addItem(names.get(option, option.capitalize()), option)
        box.currentIndexChanged.connect(lambda _: changed(self.name, box.currentData()))
        box.setFixedWidth(EDITOR_WIDTH)
        box.setMinimumHeight(30)
        return box

    def _check(self, info: FieldInfo, changed: Change) -> QCheckBox:
        box = QCheckBox("On")
        box.toggled.connect(lambda on: changed(self.name, on))
        box.setMinimumHeight(30)
        return box

    def _number(self, info: FieldInfo, changed: Change) -> QSpinBox | QDoubleSpinBox:
        low, high = _limits(info)
        spin: QSpinBox | QDoubleSpinBox
        if info.annotation is int:
            spin = QSpinBox()
            spin.setRange(int(low), int(high))
        else:
            spin = QDoubleSpinBox()
            spin.setDecimals(2)
            spin.setRange(low, high)
            spin.setSingleStep(0.05)
        # Typing "0.75" must not pass through 0.7 on its way.
        spin.setKeyboardTracking(False)
        spin.lineEdit().setTextMargins(6, 0, 0, 0)
        spin.valueChanged.connect(lambda value: changed(self.name, round(value, 4)))
        spin.setFixedWidth(120)
        spin.setMinimumHeight(30)
        return spin

    def _folder(self, changed: Change) -> tuple[QLineEdit, QWidget]:
        edit = QLineEdit()
        edit.editingFinished.connect(lambda: changed(self.name, edit.text().strip()))
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)

        def ask() -> None:
            dialog = QFileDialog(row, "Choose a folder", edit.text())
            dialog.setFileMode(QFileDialog.FileMode.Directory)
            dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            dialog.fileSelected.connect(lambda path: changed(self.name, path))
            dialog.open()

        layout.addWidget(edit, 1)
        layout.addWidget(button("Choose…", ask))
        row.setMinimumWidth(EDITOR_WIDTH)
        return edit, row


class SectionForm(QWidget):
    """All fields of one section: title, input, help text."""

    def __init__(self, section: str, model: type[BaseModel], changed: Change, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._guard = _NoStrayWheel(self)
        self.editors: dict[str, Editor] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(20)
        grid.setVerticalSpacing(2)
        grid.setColumnMinimumWidth(0, 170)
        grid.setColumnStretch(1, 1)
        for row, (field, info) in enumerate(model.model_fields.items()):
            name = f"{section}.{field}"
            editor = Editor(name, info, changed, self._guard)
            self.editors[name] = editor
            label = QLabel(info.title or field)
            label.setBuddy(editor.widget)
            label.setFixedHeight(30)
            text = QLabel(info.description or "")
            text.setProperty("role", "muted")
            text.setWordWrap(True)
            text.setAlignment(Qt.AlignmentFlag.AlignTop)
            text.setContentsMargins(0, 0, 0, 10)
            align = Qt.AlignmentFlag.AlignTop if editor.widget.layout() else Qt.AlignmentFlag.AlignLeft
            grid.addWidget(label, 2 * row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(editor.widget, 2 * row, 1, align)
            grid.addWidget(text, 2 * row + 1, 1)
