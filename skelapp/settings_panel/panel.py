"""The Settings panel: the generated form; every change acts at once; *Undo* and *Restore defaults* take it back."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from skelapp.context import Context
from skelapp.settings import FORM_SECTIONS, Settings
from skelapp.settings_panel.form import Editor, SectionForm
from skelapp.widgets import Banner, button

_ONLY_WITH_OWN = ("recognition.enter", "recognition.leave", "recognition.smoothing_s")


class SettingsPanel(QWidget):
    """Shows the settings and changes them."""

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = context.settings
        self.editors: dict[str, Editor] = {}
        self.banner = Banner()
        self.undo = button("Undo", self._undo, tip="Take the last change back (Ctrl+Z)")
        title = QLabel("Settings")
        title.setProperty("role", "title")
        bar = QHBoxLayout()
        bar.addWidget(title)
        bar.addStretch(1)
        bar.addWidget(self.undo)
        bar.addWidget(button("Restore defaults", self._restore))
        inner = QWidget()
        inner.setMaximumWidth(820)
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 12, 0)
        column.setSpacing(14)
        for section in FORM_SECTIONS:
            column.addWidget(self._section(section))
        note = QLabel(f"Kept in {self._settings.path}")
        note.setProperty("role", "muted")
        note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column.addWidget(note)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        area.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._area = area
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(12)
        layout.addLayout(bar)
        layout.addWidget(self.banner)
        layout.addWidget(area, 1)
        self._settings.listen(self._changed)
        self._show_all()
        if self._settings.complaint:
            self.banner.show_message(self._settings.complaint)

    def _section(self, section: str) -> QFrame:
        model = type(getattr(Settings(), section))
        form = SectionForm(section, model, self._set)
        self.editors |= form.editors
        head = QLabel(Settings.model_fields[section].title or section)
        head.setProperty("role", "section")
        frame = QFrame()
        frame.setProperty("card", True)
        layout = QVBoxLayout(frame)
        layout.setContentsMargins(18, 14, 18, 14)
        layout.setSpacing(10)
        layout.addWidget(head)
        layout.addWidget(form)
        return frame

    def _set(self, name: str, value: Any) -> None:
        try:
            self._settings.set(name, value)
        except ValueError as error:
            self.banner.show_message(f"That value is not possible: {error}", error=True)
            self.editors[name].show(self._settings.get(name))

    def _undo(self) -> None:
        self._settings.undo()

    def focus_first(self) -> None:
        self._area.setFocus()

    def _restore(self) -> None:
        self._settings.restore_defaults()
        self.banner.show_message("All settings have their defaults again.", actions=(("Undo", self._undo),))

    def _changed(self, name: str) -> None:
        if name in self.editors:
            self.editors[name].show(self._settings.get(name))
        self._show_state()

    def _show_all(self) -> None:
        for name, editor in self.editors.items():
            editor.show(self._settings.get(name))
        self._show_state()

    def _show_state(self) -> None:
        self.undo.setEnabled(self._settings.can_undo)
        own = self._settings.values.recognition.own_thresholds
        for name in _ONLY_WITH_OWN:
            self.editors[name].widget.setEnabled(own)
