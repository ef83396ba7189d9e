"""Above the pages of a dataset: its title and state, which of its stores is shown, and a tab for every page."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QComboBox, QHBoxLayout, QLabel, QToolButton, QWidget

from engine.data.catalogue import CatalogueEntry, StoreEntry
from skelapp.widgets import ElidedLabel

PAGES = {"overview": "Overview", "sequences": "Sequences", "statistics": "Statistics", "check": "Check"}


class EntryHead(QWidget):
    """Title, state and the choice of a store; ``store_changed`` when the user chose another one."""

    store_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = ElidedLabel("")
        self.title.setProperty("role", "section")
        self.state = QLabel("")
        self.state.setProperty("role", "muted")
        self.store_box = QComboBox()
        self.store_box.setAccessibleName("Store")
        self.store_box.setToolTip("The stores of this dataset: cleanings, raw bodies, films")
        self.store_box.setMinimumWidth(180)
        self.store_box.currentIndexChanged.connect(lambda _: self.store_changed.emit())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(12)
        row.addWidget(self.title, 1)
        row.addWidget(self.state)
        row.addWidget(self.store_box)

    @property
    def store(self) -> StoreEntry | None:
        """The store that is chosen."""
        chosen: StoreEntry | None = self.store_box.currentData()
        return chosen

    def show_entry(self, entry: CatalogueEntry) -> None:
        """Show a dataset; the chosen store stays chosen where it has one of that name."""
        kept = self.store.name if self.store else ""
        self.store_box.blockSignals(True)
        self.store_box.clear()
        for store in entry.stores:
            if store.state != "begun":
                self.store_box.addItem(store.name, store)
        main = entry.main.name if entry.main else ""
        row = self.store_box.findText(kept)
        self.store_box.setCurrentIndex(row if row >= 0 else max(0, self.store_box.findText(main)))
        self.store_box.blockSignals(False)
        self.store_box.setVisible(self.store_box.count() > 1)
        self.title.setText(entry.title)


class PageTabs(QWidget):
    """One tab per page; ``chosen`` with its key when it is clicked."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        group = QButtonGroup(self)
        self.tabs: dict[str, QToolButton] = {}
        for key, title in PAGES.items():
            tab = QToolButton()
            tab.setText(title)
            tab.setCheckable(True)
            tab.setProperty("tab", True)
            tab.setAccessibleName(f"Page {title}")
            tab.clicked.connect(lambda _=False, key=key: self.chosen.emit(key))
            group.addButton(tab)
            row.addWidget(tab)
            self.tabs[key] = tab
        row.addStretch(1)

    def allow(self, usable: bool) -> None:
        """Without a store that can be used there is only the overview."""
        for key, tab in self.tabs.items():
            tab.setEnabled(usable or key == "overview")
            tab.setToolTip("" if tab.isEnabled() else "First prepare the dataset")

    def mark(self, key: str) -> None:
        """Show which page is in front."""
        for name, tab in self.tabs.items():
            tab.setChecked(name == key)
