"""The Models panel: a table of checkpoints beside the card of the selected one; compare, import, export, use live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QPoint, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import (
    QAction,
    QDesktopServices,
    QGuiApplication,
    QKeySequence,
    QResizeEvent,
    QShortcut,
    QTextOption,
)
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSplitter,
    QStackedWidget,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine import paths
from engine.data.grounds import TestGround, list_grounds
from skelapp import theme
from skelapp.context import Context
from skelapp.dialogs import ask_folder
from skelapp.models.card_page import card_html
from skelapp.models.compare_page import MOST, ComparePage
from skelapp.models.ensemble_tray import EnsembleTray
from skelapp.models.forms import ExportForm, ImportForm
from skelapp.models.library import Entry
from skelapp.models.table_model import ModelFilter, ModelTable
from skelapp.models.table_view import ModelsView
from skelapp.models.work import ModelsWork
from skelapp.task_bar import TaskBar
from skelapp.widgets import Banner, button

WIDE = 1500  # px
EMPTY = (
    "No checkpoint is here yet.\n\nTrain one with: python main.py train RECIPE\n"
    "or drop a checkpoint folder on this window."
)


class ModelsPanel(QWidget):
    """Browse, read, compare, import, export, use."""

    working_changed = Signal(int)  # commands that run

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
        self.filter.textChanged.connect(self.proxy.set_words)
        self.use = button("Use live", self.use_selected, primary=True, tip="Name actions with this model (Enter)")
        self.compare = button("Compare", self.compare_selected, tip="Select two or more, then compare them (C)")
        self.beside = button(
            "Beside live", self.beside_live, tip="Let this model decide beside the one in use, on the same camera"
        )
        self.task_bar = TaskBar()
        self.import_form, self.export_form = ImportForm(), ExportForm()
        self.work = ModelsWork(self.task_bar, self.banner, self)
        self.work.imported.connect(self._imported)
        self.work.ended.connect(context.library.refresh)
        self.work.serve(self.import_form)
        self.work.serve(self.export_form)
        self.table = self._make_table()
        self.page = QTextBrowser()
        self.page.setOpenLinks(False)
        self.page.setAccessibleName("Card of the selected model")
        self.page.document().setDocumentMargin(18)
        self.page.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.comparison = ComparePage(context)
        self.comparison.closed.connect(self.show_list)
        for bar in (self.task_bar, self.comparison.task_bar):
            bar.busy_changed.connect(self._count)
        self._build()
        context.library.changed.connect(self._reload)
        context.session.checkpoint_changed.connect(self._in_use)
        self._wanted: Path | None = None
        self._shown: tuple[Entry | None, str] | None = None
        self._reload()

    def _make_table(self) -> ModelsView:
        table = ModelsView(self.proxy)
        table.selectionModel().selectionChanged.connect(lambda *_: self._show_card())
        table.doubleClicked.connect(lambda _: self.use_selected())
        for key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            enter = QShortcut(QKeySequence(key), table, context=Qt.ShortcutContext.WidgetShortcut)
            enter.activated.connect(self.use_selected)
        together = QShortcut(QKeySequence(Qt.Key.Key_C), table, context=Qt.ShortcutContext.WidgetShortcut)
        together.activated.connect(self.compare_selected)
        table.customContextMenuRequested.connect(self._menu)
        return table

    def _build(self) -> None:
        title = QLabel("Models")
        title.setProperty("role", "title")
        bar = QHBoxLayout()
        bar.addWidget(title)
        bar.addStretch(1)
        bar.addWidget(self.filter)
        self.more = QToolButton()
        self.more.setText("More")
        self.more.setProperty("menuButton", True)
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.more.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        menu = QMenu(self.more)
        menu.addActions(self._acts(menu))
        menu.addSeparator()
        for words, act in (
            ("Ensemble of streams", self.open_ensemble), ("Add a folder…", self.ask_folder),
            ("Copy the table as CSV", self.copy_csv),
        ):  # fmt: skip
            menu.addAction(words, act)
        self.more.setMenu(menu)
        bar.addWidget(button("Import…", self.import_form.ask_file, tip="Weights (.pt) of another project"))
        bar.addWidget(self.more)
        bar.addWidget(self.beside)
        bar.addWidget(self.compare)
        bar.addWidget(self.use)
        empty = QLabel(EMPTY)
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setProperty("role", "muted")
        empty.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.addWidget(self.table)
        self.beneath = QStackedWidget()
        self.beneath.addWidget(self.page)
        self.tray = EnsembleTray(self._context.library.find, self.chosen)
        self.work.serve(self.tray)
        self.tray.closed.connect(lambda: self.beneath.setCurrentWidget(self.page))
        self.beneath.addWidget(self.tray)
        self.split.addWidget(self.beneath)
        self.split.setChildrenCollapsible(False)
        self.split.setStretchFactor(0, 3)
        self.split.setStretchFactor(1, 2)
        self.split.setHandleWidth(10)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.split)
        self.stack.addWidget(empty)
        self.list_page = QWidget()
        layout = QVBoxLayout(self.list_page)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(12)
        layout.addLayout(bar)
        for widget in (self.banner, self.task_bar, self.import_form, self.export_form):
            layout.addWidget(widget)
        layout.addWidget(self.stack, 1)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.list_page)
        self.pages.addWidget(self.comparison)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self.pages)

    def _acts(self, parent: QMenu) -> list[QAction]:
        """What can be done with the selected checkpoint, for both menus."""
        made = []
        for words, act in (
            ("Use live", self.use_selected), ("Decide beside the live one", self.beside_live),
            ("Compare the selected", self.compare_selected), ("Export…", self.export_selected),
            ("Open its folder", self.open_folder),
        ):  # fmt: skip
            action = QAction(words, parent)
            action.triggered.connect(lambda _=False, act=act: act())
            made.append(action)
        return made

    def _menu(self, at: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addActions(self._acts(menu))
        menu.popup(self.table.viewport().mapToGlobal(at))

    # ---------------------------------------------------------------- acts

    def chosen(self) -> list[Entry]:
        """The selected checkpoints in the order of the table."""
        return self.table.chosen()

    def selected(self) -> Entry | None:
        """The one whose card is shown."""
        return self.table.current()

    def select(self, folder: Path) -> bool:
        """Select a checkpoint by its folder; False when it is not in the table."""
        return self.table.select(folder)

    def use_selected(self) -> None:
        """Use the selected checkpoint in the Live panel."""
        entry = self.selected()
        if entry is None:
            return
        if not entry.usable:
            self._refuse(entry)
            return
        self._context.session.use_checkpoint(entry.folder)
        self.banner.show_message(
            f"{entry.title} names the actions now.", actions=(("Show Live", lambda: self._context.show_panel("live")),)
        )

    def _refuse(self, entry: Entry) -> None:
        reason = entry.error or "it is a pretrained encoder without a trained classifier. Train one on it first"
        self.banner.show_message(f"{entry.title} can't be used: {reason}.", error=True)

    def beside_live(self) -> None:
        """Let the selected checkpoint decide beside the one in use."""
        entry = self.selected()
        if entry is None:
            return
        if not entry.usable:
            self._refuse(entry)
            return
        self._context.session.compare_with(entry.folder)
        self.banner.show_message(
            f"{entry.title} decides beside the model in use.",
            actions=(("Show Live", lambda: self._context.show_panel("live")),),
        )

    def compare_selected(self) -> None:
        """Open the comparison of the selected checkpoints."""
        entries = self.chosen()
        bad = [entry for entry in entries if not entry.usable]
        if bad:
            self._refuse(bad[0])
            return
        if len(entries) < 2:
            self.banner.show_message("Select two checkpoints or more (Ctrl or Shift with a click or the arrow keys).")
            return
        if len(entries) > MOST:
            self.banner.show_message(f"{MOST} checkpoints can be read side by side; select fewer.")
            return
        self.banner.dismiss()
        self.pages.setCurrentWidget(self.comparison)
        self.comparison.open(entries)
        self.comparison.tabs.setFocus()

    def open_ensemble(self) -> None:
        """Show the tray checkpoints are dragged to, beside the table, with the selected ones in it."""
        self.beneath.setCurrentWidget(self.tray)
        if len(self.chosen()) > 1 and not self.tray.members:
            self.tray.add_selected()

    def show_list(self) -> None:
        self.pages.setCurrentWidget(self.list_page)
        self.table.setFocus()
        # The window may have changed its size meanwhile.
        QTimer.singleShot(0, self, self.table.fit)

    def export_selected(self) -> None:
        """Ask into what the selected checkpoint is exported."""
        entry = self.selected()
        if entry is None or entry.card is None:
            return
        self.import_form.hide()
        self.export_form.take(entry, self._find_grounds)

    def _find_grounds(self, found: Callable[[list[TestGround]], None]) -> None:
        self._context.worker.run(lambda: list_grounds(paths.stores()), found)

    def import_file(self, file: Path) -> None:
        """Ask what a dropped weights file was trained on."""
        self.show_list()
        self.export_form.hide()
        self.import_form.take(file)

    def open_folder(self) -> None:
        entry = self.selected()
        if entry is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(entry.folder)))

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
        ask_folder(self, "Choose a checkpoint folder", self.add_folder)

    def copy_csv(self) -> None:
        QGuiApplication.clipboard().setText(self.proxy.as_csv())
        self.banner.show_message(f"Copied {self.proxy.rowCount()} rows.")

    # ------------------------------------------------------------- showing

    def _reload(self) -> None:
        current = self.selected()
        keep = current.folder if current else self._context.session.checkpoint
        if self._wanted is not None and self._context.library.find(self._wanted) is not None:
            keep, self._wanted = self._wanted, None
        chosen = [entry.folder for entry in self.chosen()]
        self.table_model.set_entries(self._context.library.entries, self._context.session.checkpoint)
        self.stack.setCurrentIndex(0 if self._context.library.entries or not self._context.library.loaded else 1)
        self.table.measure()
        self.table.fit()
        if not (keep and self.select(keep)) and self.proxy.rowCount():
            self.table.selectRow(0)
        self.table.select_too(chosen)
        self._show_card()

    def _imported(self, folder: Path) -> None:
        self._wanted = folder

    def _in_use(self, folder: str) -> None:
        self.table_model.set_in_use(Path(folder))

    def _count(self) -> None:
        self.working_changed.emit(self.task_bar.busy + self.comparison.task_bar.busy)

    def _show_card(self) -> None:
        entry = self.selected()
        usable, count = entry is not None and entry.usable, len(self.table.selectionModel().selectedRows())
        self.use.setEnabled(usable)
        self.beside.setEnabled(usable)
        self.compare.setText(f"Compare {count}" if count > 1 else "Compare")
        shown = (entry, theme.current().name)
        if shown != self._shown:
            self._shown = shown
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
        QTimer.singleShot(0, self, self.table.fit)

    def escape(self) -> bool:
        """Escape goes back to the list, or closes a form; False when there was nothing to close."""
        if self.pages.currentWidget() is self.comparison:
            self.show_list()
            return True
        opened = [form for form in (self.import_form, self.export_form) if form.isVisible()]
        for form in opened:
            form.hide()
        return bool(opened)

    def focus_first(self) -> None:
        (self.table if self.pages.currentWidget() is self.list_page else self.comparison.tabs).setFocus()

    def retheme(self) -> None:
        self._show_card()
        self.comparison.retheme()

    def end(self, seconds: float) -> bool:
        """The window closes: nothing of this panel goes on."""
        return all([self.task_bar.end(seconds / 2), self.comparison.end(seconds / 2)])
