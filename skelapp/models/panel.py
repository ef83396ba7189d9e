"""The Models panel: the table of checkpoints left, the card of the selected one right, *Use live* on top."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QItemSelection, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QKeySequence, QResizeEvent, QShortcut, QTextOption
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QSplitter,
    QStackedWidget,
    QTableView,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from skelapp.context import Context
from skelapp.models.card_page import card_html
from skelapp.models.library import Entry
from skelapp.models.table_model import ModelFilter, ModelTable
from skelapp.widgets import Banner, button

WIDE = 1500  # px
EMPTY = (
    "No checkpoint is here yet.\n\nTrain one with: python main.py train RECIPE\n"
    "or drop a checkpoint folder on this window."
)


class ModelsPanel(QWidget):
    """Browse, read, use."""

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.table_model = ModelTable()
        self.proxy = ModelFilter(self.table_model)
        self.banner = Banner()
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter")
        self.filter.setClearButtonEnabled(True)
        self.filter.setAccessibleName("Filter the models")
        self.filter.setMaximumWidth(240)
        self.filter.textChanged.connect(self.proxy.setFilterFixedString)
        self.use = button("Use live", self.use_selected, primary=True, tip="Name actions with this model (Enter)")
        self.table = self._make_table()
        self.page = QTextBrowser()
        self.page.setOpenLinks(False)
        self.page.setAccessibleName("Card of the selected model")
        self.page.document().setDocumentMargin(18)
        self.page.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self._build()
        context.library.changed.connect(self._reload)
        context.session.checkpoint_changed.connect(self._in_use)
        self._wanted: Path | None = context.session.checkpoint
        self._reload()

    def _make_table(self) -> QTableView:
        table = QTableView()
        table.setModel(self.proxy)
        table.setAccessibleName("Models")
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setSortingEnabled(True)
        table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        table.setAlternatingRowColors(True)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(34)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        table.horizontalHeader().setHighlightSections(False)
        table.selectionModel().selectionChanged.connect(self._selected)
        table.doubleClicked.connect(lambda _: self.use_selected())
        for key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            enter = QShortcut(QKeySequence(key), table, context=Qt.ShortcutContext.WidgetShortcut)
            enter.activated.connect(self.use_selected)
        return table

    def _build(self) -> None:
        title = QLabel("Models")
        title.setProperty("role", "title")
        bar = QHBoxLayout()
        bar.addWidget(title)
        bar.addStretch(1)
        bar.addWidget(self.filter)
        bar.addWidget(button("Copy as CSV", self.copy_csv, tip="Copy the table as it is shown"))
        bar.addWidget(button("Add a folder…", self.ask_folder, tip="List a checkpoint folder from somewhere else"))
        bar.addWidget(self.use)
        empty = QLabel(EMPTY)
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setProperty("role", "muted")
        empty.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.addWidget(self.table)
        self.split.addWidget(self.page)
        self.split.setChildrenCollapsible(False)
        self.split.setStretchFactor(0, 3)
        self.split.setStretchFactor(1, 2)
        self.split.setHandleWidth(10)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.split)
        self.stack.addWidget(empty)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(12)
        layout.addLayout(bar)
        layout.addWidget(self.banner)
        layout.addWidget(self.stack, 1)

    # ---------------------------------------------------------------- acts

    def selected(self) -> Entry | None:
        rows = self.table.selectionModel().selectedRows()
        return self.proxy.entry(rows[0].row()) if rows else None

    def select(self, folder: Path) -> bool:
        """Select a checkpoint by its folder; False when it is not in the table."""
        for row in range(self.proxy.rowCount()):
            if self.proxy.entry(row).folder.resolve() == Path(folder).resolve():
                self.table.selectRow(row)
                return True
        return False

    def use_selected(self) -> None:
        """Use the selected checkpoint in the Live panel."""
        entry = self.selected()
        if entry is None:
            return
        if entry.card is None:
            self.banner.show_message(f"{entry.title} can't be used: {entry.error}", error=True)
            return
        self._context.session.use_checkpoint(entry.folder)
        self.banner.show_message(
            f"{entry.title} names the actions now.", actions=(("Show Live", lambda: self._context.show_panel("live")),)
        )

    def add_folder(self, folder: Path) -> bool:
        """List a folder; a banner says why when it is no checkpoint."""
        entry = self._context.library.add(Path(folder))
        if entry.card is None:
            self.banner.show_message(
                f"{entry.error}. A checkpoint folder holds card.json, weights.safetensors and model.onnx.", error=True
            )
            return False
        self.banner.dismiss()
        self.filter.clear()
        self.select(entry.folder)
        return True

    def ask_folder(self) -> None:
        dialog = QFileDialog(self, "Choose a checkpoint folder")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda path: self.add_folder(Path(path)))
        dialog.open()

    def copy_csv(self) -> None:
        QGuiApplication.clipboard().setText(self.proxy.as_csv())
        self.banner.show_message(f"Copied {self.proxy.rowCount()} rows.")

    # ------------------------------------------------------------- showing

    def _reload(self) -> None:
        current = self.selected()
        keep = current.folder if current else self._context.session.checkpoint
        self.table_model.set_entries(self._context.library.entries, self._context.session.checkpoint)
        self.stack.setCurrentIndex(0 if self._context.library.entries or not self._context.library.loaded else 1)
        self.table.resizeColumnsToContents()
        header = self.table.horizontalHeader()
        for column in range(1, header.count()):
            header.resizeSection(column, min(header.sectionSize(column) + 4, 200))
        self._fit_name()
        if not (keep and self.select(keep)) and self.proxy.rowCount():
            self.table.selectRow(0)
        self._show_card()

    def _fit_name(self) -> None:
        """The name takes what the other columns leave."""
        header = self.table.horizontalHeader()
        others = sum(header.sectionSize(column) for column in range(1, header.count()))
        header.resizeSection(0, max(220, self.table.viewport().width() - others))

    def _in_use(self, folder: str) -> None:
        self.table_model.set_in_use(Path(folder))

    def _selected(self, chosen: QItemSelection, gone: QItemSelection) -> None:
        self._show_card()

    def _show_card(self) -> None:
        entry = self.selected()
        self.use.setEnabled(entry is not None and entry.card is not None)
        self.page.setHtml(card_html(entry) if entry else "")

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Card beside the table where there is room for both, else below it."""
        wide = self.width() >= WIDE
        wanted = Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical
        if self.split.orientation() is not wanted or not any(self.split.sizes()):
            self.split.setOrientation(wanted)
            self.split.setSizes([1100, 640] if wide else [260, 420])
        super().resizeEvent(event)
        # After the layout has run, when the table knows its new width.
        QTimer.singleShot(0, self, self._fit_name)

    def focus_first(self) -> None:
        self.table.setFocus()

    def retheme(self) -> None:
        self._show_card()
