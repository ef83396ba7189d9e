"""The form that imports files of other projects, or own recordings, as a store with a name of its own."""

from __future__ import annotations

import re
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from engine.data.catalogue import Found, import_name_problem
from engine.data.sets import DATASETS, base_name
from engine.files import is_there
from skelapp.dialogs import ask_file, ask_folder
from skelapp.widgets import button

_HELP = (
    "Arrays of the CTR-GCN family (.npz), folders of the ST-GCN family (train_data.npy, train_label.pkl), 3-D pickles "
    "of PYSKL and MMAction2, and recordings made with this program (with a labels.csv or their recognised segments). "
    "They are stored as they are, without cleaning. Pickles are read without running anything in them."
)


class ImportPage(QWidget):
    """Asks for files and a name; ``asked`` tells path, name, classes file ("" for none) and frames per second."""

    asked = Signal(object, str, str, float)
    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.path = self._line("File or folder")
        self.path.setPlaceholderText("Drop it on this window, or choose it")
        self.name = self._line("Name of the new store")
        self.name.setPlaceholderText("my_actions, or DATASET.WORD such as ntu60.ctrgcn")
        self.classes = self._line("File with the class names, one per line")
        self.classes.setPlaceholderText("Only for sets this program does not know")
        self.fps = QDoubleSpinBox()
        self.fps.setAccessibleName("Frames per second")
        self.fps.setRange(1, 240)
        self.fps.setValue(30)
        self.fps.setFixedWidth(120)
        self.hint = QLabel()
        self.hint.setProperty("role", "muted")
        self.hint.setWordWrap(True)
        self.start = button("Import", self._start, primary=True)
        self._build()
        self._judge()

    def _line(self, name: str) -> QLineEdit:
        edit = QLineEdit()
        edit.setAccessibleName(name)
        edit.textChanged.connect(lambda _: self._judge())
        return edit

    def _build(self) -> None:
        frame = QFrame()
        frame.setProperty("card", True)
        frame.setMaximumWidth(900)
        layout = QVBoxLayout(frame)
        layout.setContentsMargins(18, 14, 18, 14)
        layout.setSpacing(12)
        title = QLabel("Import")
        title.setProperty("role", "section")
        text = QLabel(_HELP)
        text.setWordWrap(True)
        text.setProperty("role", "muted")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setHorizontalSpacing(18)
        form.setVerticalSpacing(10)
        self.fps.lineEdit().setTextMargins(6, 0, 0, 0)
        files = QHBoxLayout()
        files.setSpacing(8)
        files.addWidget(self.path, 1)
        files.addWidget(button("File…", lambda: ask_file(self, "Choose", self._set_path, at=self.path.text())))
        files.addWidget(button("Folder…", lambda: ask_folder(self, "Choose", self._set_path, at=self.path.text())))
        names = QHBoxLayout()
        names.setSpacing(8)
        names.addWidget(self.classes, 1)
        names.addWidget(button("File…", lambda: ask_file(self, "Choose", self._set_classes, at=self.classes.text())))
        form.addRow("From", files)
        form.addRow("Name", self.name)
        form.addRow("Classes", names)
        form.addRow("Frames per second", self.fps)
        acts = QHBoxLayout()
        acts.setSpacing(8)
        acts.addWidget(self.hint, 1)
        acts.addWidget(button("Close", self.closed.emit))
        acts.addWidget(self.start)
        layout.addWidget(title)
        layout.addWidget(text)
        layout.addLayout(form)
        layout.addLayout(acts)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(frame)
        whole.addStretch(1)

    def _set_path(self, path: Path) -> None:
        self.path.setText(str(path))

    def _set_classes(self, path: Path) -> None:
        self.classes.setText(str(path))

    def offer(self, found: Found) -> None:
        """Fill the form from something that was dropped."""
        self.path.setText(str(found.path))
        if not self.name.text():
            word = re.sub(r"[^a-z0-9_]+", "_", found.path.stem.lower()).strip("_") or "my_actions"
            self.name.setText(word)
        self.name.setFocus()
        self.name.selectAll()

    def complaint(self) -> str:
        """What is still missing, "" when the import can start."""
        name = self.name.text().strip()
        if not self.path.text().strip():
            return "Choose a file or folder."
        if not is_there(Path(self.path.text().strip())):
            return "There is nothing at this place."
        if not name:
            return "Give the new store a name."
        if problem := import_name_problem(name):
            return f"{problem}."
        if base_name(name) not in DATASETS and not self.classes.text().strip():
            return "Recordings bring their class names; other files need a list of them."
        return ""

    def _judge(self) -> None:
        said = self.complaint()
        self.hint.setText(said)
        self.start.setEnabled(not said or said.startswith("Recordings"))

    def _start(self) -> None:
        self.asked.emit(
            Path(self.path.text().strip()), self.name.text().strip(), self.classes.text().strip(), self.fps.value()
        )

    def focus_first(self) -> None:
        self.path.setFocus(Qt.FocusReason.OtherFocusReason)
