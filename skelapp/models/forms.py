"""Two forms of the Models panel: importing another project's weights, exporting a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QFrame, QGridLayout, QHBoxLayout, QLabel, QLineEdit, QWidget

from engine.data.grounds import TestGround
from engine.data.sets import DATASETS
from skelapp.dialogs import ask_file
from skelapp.dropped import WEIGHT_ENDINGS
from skelapp.models.library import Entry
from skelapp.widgets import ElidedLabel, button

WEIGHTS_FILTER = f"Weights ({' '.join(f'*{ending}' for ending in WEIGHT_ENDINGS)});;All files (*)"
# As the command names them, and as people do.
BACKBONES = (
    ("auto", "Told by the file"), ("ctrgcn", "CTR-GCN, SkeletonGCL"), ("agcn", "2s-AGCN, SkeletonGCL"),
    ("infogcn", "InfoGCN"), ("stgcn", "ST-GCN of HiCLR"), ("dstanet", "DSTA-Net of HiCLR"), ("gru", "CMD, I2MD"),
    ("gl_transformer", "GL-Transformer"),
)  # fmt: skip
STREAMS = (("joint", "Joints"), ("bone", "Bones"), ("joint_motion", "Joint motion"), ("bone_motion", "Bone motion"))
PRECISIONS = (
    ("fp32", "fp32: exact"), ("fp16", "fp16: for GPUs"), ("bf16", "bf16: for GPUs"),
    ("int8", "int8: fastest on processors"),
)  # fmt: skip
TARGETS = (
    ("onnx", "ONNX graph (runs everywhere)"), ("tensorrt", "TensorRT engine"), ("tensorrt-rtx", "TensorRT for RTX"),
)  # fmt: skip

# What the names of files and folders tell, in small letters with a space for all signs between words; the first counts.
_STREAM_MARKS = (
    ("bone_motion", r"bone.*(motion|\bvel)|(motion|\bvel).*bone"), ("bone", "bone"), ("joint_motion", r"motion|\bvel"),
    ("joint", "joint"),
)  # fmt: skip
_DATASET_MARKS = (
    ("nw_ucla", "ucla"), ("ntu120", r"ntu ?(rgb ?d)? ?120(?!\d)"), ("pku_mmd_2", "pku"),
    ("ntu60", r"ntu ?(rgb ?d)? ?60(?!\d)"),
)  # fmt: skip
_SPLIT_MARKS = (("xview", r"[xc]view|\b[xc]v\b"), ("xset", "[xc]set"), ("xsub", r"[xc]sub|\b[xc]s\b"))


def _guess(file: Path, marks: tuple[tuple[str, str], ...]) -> str | None:
    """What a file's own name tells, else the nearest folder's that tells anything."""
    for name in (file.stem, *(folder.name for folder in file.parents)):
        words = re.sub(r"[\W_]+", " ", name.lower())
        for value, pattern in marks:
            if re.search(pattern, words):
                return value
    return None


def choice(name: str, options: tuple[tuple[str, str], ...]) -> QComboBox:
    """A box whose entries show words and carry the command's value."""
    box = QComboBox()
    box.setAccessibleName(name)
    for value, words in options:
        box.addItem(words, value)
    return box


class Form(QFrame):
    """A card with labelled fields and two buttons; hidden until it is asked for. ``asked`` carries the command."""

    asked = Signal(str, list)

    def __init__(self, title: str, act: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", True)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(8)
        self._count = 0
        head = QLabel(title)
        head.setProperty("role", "section")
        self.act = button(act, self._go, primary=True)
        self._cancel = button("Close", self.hide)
        self._head = QHBoxLayout()
        self._head.setSpacing(8)
        self._head.addWidget(head)
        self._head.addStretch(1)
        self._head.addWidget(self.act)
        self._head.addWidget(self._cancel)
        layout = QGridLayout(self)
        layout.setContentsMargins(16, 12, 12, 14)
        layout.setVerticalSpacing(10)
        layout.addLayout(self._head, 0, 0)
        layout.addLayout(self._grid, 1, 0)
        self.hide()

    def field(self, label: str, widget: QWidget, tip: str = "") -> None:
        """Two fields in a row."""
        words = QLabel(label)
        words.setBuddy(widget)
        words.setProperty("role", "muted")
        if tip:
            words.setToolTip(tip)
            widget.setToolTip(tip)
        if not widget.accessibleName():
            widget.setAccessibleName(label)
        row, column = divmod(self._count, 2)
        self._grid.addWidget(words, row, 2 * column)
        self._grid.addWidget(widget, row, 2 * column + 1)
        self._grid.setColumnStretch(2 * column + 1, 1)
        self._count += 1

    def words(self) -> tuple[str, list[str]] | None:
        """Title of the task and its command; None when something is missing."""
        raise NotImplementedError

    def _go(self) -> None:
        found = self.words()
        if found is not None:
            self.asked.emit(*found)

    def open(self) -> None:
        self.show()
        self.act.setFocus()


class ImportForm(Form):
    """What a weights file can't tell: the data it was trained on, the stream, a name."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Import weights of another project", "Import", parent)
        self.file: Path | None = None
        self.shown = ElidedLabel("–")
        self.backbone = choice("Network", BACKBONES)
        self.dataset = choice("Trained on", tuple((info.name, info.title) for info in DATASETS.values()))
        self.dataset.currentIndexChanged.connect(self._fill_splits)
        self.split = QComboBox()
        self.stream = choice("Stream", STREAMS)
        self.called = QLineEdit()
        self.called.setAccessibleName("Name")
        self.field("File", self.shown)
        self.field("Name", self.called, "Name of the checkpoint that is made")
        self.field("Trained on", self.dataset, "Gives the classes in their published order; a file does not tell them")
        self.field("Split", self.split)
        self.field("Network", self.backbone)
        self.field("Stream", self.stream, "What the encoder was fed; a file does not tell it")
        self.part = QLineEdit()
        self.part.setPlaceholderText("the only one, or the query encoder")
        self.field(
            "Encoder", self.part, "Where a file holds several (CMD): encoder_q, encoder_q_motion, encoder_q_bone"
        )
        self._fill_splits()

    def _fill_splits(self) -> None:
        self.split.clear()
        self.split.addItems(list(DATASETS[self.dataset.currentData()].splits))

    def ask_file(self) -> None:
        ask_file(self, "Choose a weights file", self.take, WEIGHTS_FILTER)

    def take(self, file: Path) -> None:
        """Fill the form for a file; name, stream, dataset and split are guessed from its name and its folders'."""
        self.file = Path(file)
        self.shown.setText(str(file))
        name = self.file.name.split(".")[0]
        self.called.setText(name)
        self.stream.setCurrentIndex(self.stream.findData(_guess(self.file, _STREAM_MARKS) or "joint"))
        if dataset := _guess(self.file, _DATASET_MARKS):
            self.dataset.setCurrentIndex(self.dataset.findData(dataset))
        marks = tuple(mark for mark in _SPLIT_MARKS if self.split.findText(mark[0]) >= 0)
        if split := _guess(self.file, marks):
            self.split.setCurrentIndex(self.split.findText(split))
        self.open()

    def words(self) -> tuple[str, list[str]] | None:
        if self.file is None:
            self.ask_file()
            return None
        command = [
            "models", "import", str(self.file), "--dataset", self.dataset.currentData(), "--split",
            self.split.currentText(), "--backbone", self.backbone.currentData(), "--stream", self.stream.currentData(),
            "--json",
        ]  # fmt: skip
        if self.part.text().strip():
            command += ["--part", self.part.text().strip()]
        if self.called.text().strip():
            command += ["--name", self.called.text().strip()]
        return f"Importing {self.file.name}", command


class ExportForm(Form):
    """Into what a checkpoint is exported."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Export", "Export", parent)
        self.entry: Entry | None = None
        self.shown = ElidedLabel("–")
        self.target = choice("Kind", TARGETS)
        self.precision = choice("Precision", PRECISIONS)
        self.data = QComboBox()
        self.field("Checkpoint", self.shown)
        self.field("Kind", self.target)
        self.field("Precision", self.precision)
        self.field("Clips for int8", self.data, "Prepared data whose clips int8 takes its ranges from")
        self.precision.currentIndexChanged.connect(self._limit)
        self._limit()

    def _limit(self) -> None:
        self.data.setEnabled(self.precision.currentData() == "int8")
        self.act.setEnabled(self.precision.currentData() != "int8" or self.data.count() > 0)

    def take(self, entry: Entry, look: Callable[[Callable[[list[TestGround]], None]], None]) -> None:
        """Fill the form for a checkpoint; ``look`` finds the prepared data off the window."""
        self.entry = entry
        self.shown.setText(entry.title)
        look(self._found)
        self.open()

    def _found(self, grounds: list[TestGround]) -> None:
        self.data.clear()
        self.data.addItems([ground.name for ground in grounds])
        if self.entry is not None and self.entry.card is not None:
            self.data.setCurrentIndex(max(0, self.data.findText(self.entry.card.dataset)))
        self._limit()

    def words(self) -> tuple[str, list[str]] | None:
        if self.entry is None:
            return None
        precision = self.precision.currentData()
        command = ["export", str(self.entry.folder), "--to", self.target.currentData(), "--precision", precision]
        if precision == "int8":
            command += ["--calibrate-on", self.data.currentText()]
        return f"Exporting {self.entry.title}", command
