"""Editors of single recipe fields, made from their specification: a choice, a number, a text, a piece of YAML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import yaml
from PySide6.QtCore import QEvent, QObject, QSignalBlocker, Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QCompleter, QGridLayout, QLabel, QLineEdit, QToolButton, QWidget

from engine.training.recipe_fields import MISSING, FieldSpec

Change = Callable[[str, Any], None]
LABEL_WIDTH = 108
_NAMES = {
    "ctrgcn": "CTR-GCN", "agcn": "2s-AGCN", "infogcn": "InfoGCN", "stgcn": "ST-GCN", "dstanet": "DSTA-Net",
    "gru": "GRU", "gru_bidirectional": "GRU, bidirectional", "gl_transformer": "GL-Transformer",
    "skeletongcl": "SkeletonGCL", "hiclr": "HiCLR", "moco": "MoCo (SkeletonCLR)",
    "cmd": "CMD", "i2md": "I2MD", "sgd": "SGD", "adamw": "AdamW",
    "adam": "Adam", "cpu": "Processor", "cuda": "CUDA GPU", "auto": "Automatic", "fp32": "fp32", "bf16": "bf16 (mixed)",
    "fp16": "fp16 (mixed)",
}  # fmt: skip


def option_name(value: Any) -> str:
    """A choice in words."""
    if isinstance(value, str):
        return _NAMES.get(value) or value.replace("_", " ").capitalize()
    return str(value)


class NoStrayWheel(QObject):
    """A wheel that scrolls the page must not change the values it passes over."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QComboBox) and not watched.hasFocus():
            event.ignore()
            return True
        return False


def make_searchable(box: QComboBox) -> None:
    """Let a box be typed into; any part of an item's text finds it, and nothing is put in for what was typed."""
    box.setEditable(True)
    box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
    completer = box.completer()
    if completer is not None:
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)


class Bad(ValueError):
    """What was typed is no value of the field's kind."""


def parse(spec: FieldSpec, text: str) -> Any:
    """A typed text as the field's value; raises :class:`Bad` with the reason."""
    text = text.strip()
    if spec.optional and not text:
        return None
    if spec.kind == "text":
        return text if text or not spec.required else MISSING
    if spec.kind == "int":
        try:
            return int(text)
        except ValueError:
            raise Bad("A whole number is needed.") from None
    if spec.kind == "float":
        try:
            return float(text)
        except ValueError:
            raise Bad("A number is needed, such as 0.05 or 1e-4.") from None
    if not text:
        raise Bad("A value is needed: [] for an empty list, {} for none.")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise Bad("Not readable: lists are [50, 60], settings {name: value}.") from None


def shown(spec: FieldSpec, value: Any) -> str:
    """A field's value as it is typed."""
    if value is MISSING or value is None:
        return ""
    if spec.kind == "float" and isinstance(value, (int, float)):
        return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))
    if spec.kind == "yaml":
        text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
        return text.removesuffix("...\n").strip()
    return str(value)


class FieldRow:
    """Label, editor, way back to the published value, help and error of one field, in a grid's next rows."""

    def __init__(
        self,
        spec: FieldSpec,
        grid: QGridLayout,
        changed: Change,
        reset: Callable[[str], None],
        guard: QObject,
        suggestions: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        self.spec = spec
        self._tell = changed
        self.typed_error = ""
        self.label = QLabel(spec.title)
        self.label.setWordWrap(True)
        self.label.setFixedWidth(LABEL_WIDTH)
        self.label.setMinimumHeight(30)
        self.editor = self._make(suggestions)
        self.editor.setAccessibleName(spec.title)
        self.editor.setAccessibleDescription(spec.help)
        self.editor.setToolTip("\n".join(part for part in (spec.name, spec.help, spec.range) if part))
        self.editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.editor.setMinimumHeight(30)
        self.editor.installEventFilter(guard)
        self.label.setBuddy(self.editor)
        self.back = QToolButton()
        self.back.setText("↺")
        self.back.setFixedSize(30, 30)
        self.back.setAccessibleName(f"Published value of {spec.title}")
        self.back.clicked.connect(lambda: reset(spec.name))
        keep = self.back.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self.back.setSizePolicy(keep)
        self.back.hide()
        # That a number can't be negative need not be read; the tip says it.
        limits = "" if spec.range in ("at least 0", "at least 1", "more than 0") else spec.range.capitalize()
        text = ". ".join(part.rstrip(".") for part in (spec.help, limits) if part)
        self.help = QLabel(f"{text}." if text else "")
        self.help.setProperty("role", "muted")
        self.error = QLabel()
        self.error.setProperty("role", "error")
        for note in (self.help, self.error):
            note.setWordWrap(True)
            note.setTextFormat(Qt.TextFormat.PlainText)
        # To show what has no parent yet would make a window of it, so these are only ever hidden here.
        if not text:
            self.help.hide()
        self.error.hide()
        row = grid.rowCount()
        grid.addWidget(self.label, row, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.editor, row, 1)
        grid.addWidget(self.back, row, 2, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.error, row + 1, 1, 1, 2)
        grid.addWidget(self.help, row + 2, 1, 1, 2)
        grid.setRowMinimumHeight(row + 3, 6)

    def _make(self, suggestions: Sequence[tuple[str, str]] | None) -> QWidget:
        spec = self.spec
        if suggestions is not None:
            box = QComboBox()
            make_searchable(box)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(7)
            self.suggest_in(box, suggestions)
            box.activated.connect(lambda index: self._tell(spec.name, box.itemData(index)))
            line = box.lineEdit()
            assert line is not None
            line.editingFinished.connect(self.take_typed)
            return box
        if spec.kind == "choice":
            box = QComboBox()
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(7)
            if spec.optional:
                box.addItem("As the parent", None)
            for option in spec.options:
                box.addItem(option_name(option), option)
            box.currentIndexChanged.connect(lambda _: self._tell(spec.name, box.currentData()))
            return box
        if spec.kind == "check":
            check = QCheckBox("On")
            check.toggled.connect(lambda on: self._tell(spec.name, on))
            return check
        edit = QLineEdit()
        edit.setPlaceholderText("needed" if spec.required else "as the parent" if spec.optional else "")
        edit.textEdited.connect(self._typed)
        return edit

    @staticmethod
    def _text_of(box: QComboBox) -> str:
        """What stands in an editable box: the value behind a suggestion, or what was typed."""
        index = box.findText(box.currentText())
        return str(box.itemData(index)) if index >= 0 else box.currentText()

    def suggest(self, suggestions: Sequence[tuple[str, str]]) -> None:
        """Other suggestions for a field that has some; its value stays."""
        if isinstance(self.editor, QComboBox) and self.editor.isEditable():
            text = self._text_of(self.editor)
            with QSignalBlocker(self.editor):
                self.suggest_in(self.editor, suggestions)
            self.show(text)

    @staticmethod
    def suggest_in(box: QComboBox, suggestions: Sequence[tuple[str, str]]) -> None:
        box.clear()
        for value, title in suggestions:
            box.addItem(title, value)
        box.setCurrentIndex(-1)

    def take_typed(self) -> None:
        """Take over what stands in an editable box, which tells what is typed only when the focus goes."""
        if isinstance(self.editor, QComboBox) and self.editor.isEditable():
            self._typed(self._text_of(self.editor))

    def _typed(self, text: str) -> None:
        try:
            value = parse(self.spec, text)
        except Bad as problem:
            self.typed_error = str(problem)
            self.show_error(self.typed_error)
            self._tell(self.spec.name, self)  # the row itself: there is no value
            return
        self.typed_error = ""
        self._tell(self.spec.name, value)

    def show(self, value: Any) -> None:
        """Show a value without telling anybody."""
        self.typed_error = ""
        with QSignalBlocker(self.editor):
            match self.editor:
                case QComboBox() as box if box.isEditable():
                    index = box.findData(value)
                    box.setCurrentIndex(index)
                    if index < 0:
                        box.setEditText(shown(self.spec, value))
                    line = box.lineEdit()
                    if line is not None:
                        line.setCursorPosition(0)
                case QComboBox() as box:
                    box.setCurrentIndex(box.findData(value))
                case QCheckBox() as check:
                    check.setChecked(bool(value) if value is not MISSING else False)
                case QLineEdit() as edit:
                    text = shown(self.spec, value)
                    if edit.text() != text:
                        edit.setText(text)
                        edit.setCursorPosition(0)

    def show_changed(self, changed: bool, published: Any) -> None:
        """Highlight a field that differs from the published recipe."""
        if changed == (self.label.property("changed") is True):
            return
        self.label.setProperty("changed", changed)
        self.label.style().unpolish(self.label)
        self.label.style().polish(self.label)
        self.back.setVisible(changed)
        self.back.setToolTip(f"Back to the published value: {shown(self.spec, published) or 'none'}")

    def show_error(self, text: str) -> None:
        """Show what is wrong under the field; an empty text is nothing."""
        if text != self.error.text() or bool(text) != (not self.error.isHidden()):
            self.error.setText(text)
            self.error.setVisible(bool(text))
            self.editor.setAccessibleDescription(f"{text} {self.spec.help}".strip())

    def widgets(self) -> tuple[QWidget, ...]:
        return (self.label, self.editor, self.back, self.help, self.error)
