"""The main window: rail, panels, keys, files dropped anywhere, and an orderly end of everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PySide6.QtCore import QByteArray, QPoint, Qt, Signal
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeySequence, QPaintEvent, QShortcut
from PySide6.QtWidgets import (
    QApplication,
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QMenu,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine import paths
from skelapp import icons, theme
from skelapp.context import Context
from skelapp.data.panel import DataPanel
from skelapp.dropped import looks_like_checkpoint, looks_like_dataset, looks_like_pack, looks_like_weights
from skelapp.live.panel import LivePanel
from skelapp.live.session import DEMO, LiveSession, default_checkpoint, is_camera
from skelapp.live.source_menu import find_cameras
from skelapp.models.library import ModelLibrary
from skelapp.models.panel import ModelsPanel
from skelapp.settings import SettingsStore
from skelapp.settings_panel.panel import SettingsPanel
from skelapp.shortcuts import Key, KeyPage, install
from skelapp.teach.desk import TeachDesk
from skelapp.teach.panel import TeachPanel
from skelapp.tear_off import TornWindow, placeholder
from skelapp.training.panel import TrainingPanel
from skelapp.workers import Worker, remaining

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # the longest that closing may take


@dataclass(frozen=True)
class PanelSpec:
    """One entry of the rail."""

    key: str
    title: str
    make: Callable[[Context], QWidget]


# A new panel is one line here (its icon has the panel's key in skelapp/icons.py).
PANELS = (
    PanelSpec("live", "Live", LivePanel),
    PanelSpec("teach", "Teach", TeachPanel),
    PanelSpec("models", "Models", ModelsPanel),
    PanelSpec("training", "Training", TrainingPanel),
    PanelSpec("data", "Data", DataPanel),
    PanelSpec("settings", "Settings", SettingsPanel),
)


class MainWindow(QMainWindow):
    """Owns settings, session, checkpoints and panels.

    Parameters
    ----------
    settings : SettingsStore
    source, checkpoint : str, Path, optional
        What to begin with instead of what is remembered.
    session : LiveSession, optional
        For tests; the window's own by default.
    cameras : callable
        Finds cameras; called on a worker.
    pack : str, optional
        Name or folder of taught actions to begin with instead of those that are remembered.
    """

    first_painted = Signal()

    def __init__(
        self,
        settings: SettingsStore,
        source: str = "",
        checkpoint: Path | None = None,
        session: LiveSession | None = None,
        cameras: Callable[[], list[tuple[str, str]]] = find_cameras,
        pack: str = "",
    ) -> None:
        super().__init__()
        self.setWindowTitle("skelapp")
        self.setWindowIcon(icons.icon("app", "#E69F00", 64))
        self.setAcceptDrops(True)
        self.setMinimumSize(900, 600)
        self.settings = settings
        self._worker = Worker("background", self)
        self.session = session or LiveSession(settings, self)
        self.library = ModelLibrary(settings, self._worker, self)
        self.desk = TeachDesk(settings, self.session, self)
        self.context = Context(
            settings, self.session, self.library, self._worker, self.show_panel, self.tear_off, cameras, self.desk
        )
        self._painted = False
        self._torn: dict[str, TornWindow] = {}
        self.closed_clean = True
        self._build()
        self.keys = self._keys()
        install(self, self.keys)
        self._install_quiet_keys(self)
        self.key_page = KeyPage(self.keys, self)
        settings.listen(self._setting_changed)
        QApplication.styleHints().colorSchemeChanged.connect(self._scheme_changed)
        self._restore_geometry()
        # The keys work at once and no button looks chosen before the user walks to it.
        self.live.video.setFocus()
        self._begin(source, checkpoint)
        if pack:
            self.desk.open_named(pack)

    # ------------------------------------------------------------ building

    def _build(self) -> None:
        self.stack = QStackedWidget()
        rail = QFrame()
        rail.setObjectName("rail")
        rail.setFixedWidth(76)
        column = QVBoxLayout(rail)
        column.setContentsMargins(0, 8, 0, 8)
        column.setSpacing(2)
        group = QButtonGroup(self)
        self.rail: dict[str, QToolButton] = {}
        self.panels: dict[str, QWidget] = {}
        for number, spec in enumerate(PANELS, start=1):
            made = QToolButton()
            made.setText(spec.title)
            made.setCheckable(True)
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            made.setIconSize(icons.icon_size(24))
            made.setFixedSize(75, 58)
            made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            made.setToolTip(f"{spec.title} ({number})")
            made.setAccessibleName(f"Panel {spec.title}")
            made.clicked.connect(lambda _=False, key=spec.key: self.show_panel(key))
            made.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
            made.customContextMenuRequested.connect(partial(self._rail_menu, spec.key))
            group.addButton(made)
            column.addWidget(made)
            self.rail[spec.key] = made
            self.panels[spec.key] = spec.make(self.context)
            self.stack.addWidget(self.panels[spec.key])
            working = getattr(self.panels[spec.key], "working_changed", None)
            if working is not None:
                working.connect(partial(self._show_working, spec))
        column.addStretch(1)
        whole = QWidget()
        row = QHBoxLayout(whole)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(rail)
        row.addWidget(self.stack, 1)
        self.setCentralWidget(whole)
        self._retheme()
        self.show_panel(self.settings.values.memory.panel)

    @property
    def live(self) -> LivePanel:
        panel = self.panels["live"]
        assert isinstance(panel, LivePanel)
        return panel

    @property
    def teach(self) -> TeachPanel:
        panel = self.panels["teach"]
        assert isinstance(panel, TeachPanel)
        return panel

    @property
    def models(self) -> ModelsPanel:
        panel = self.panels["models"]
        assert isinstance(panel, ModelsPanel)
        return panel

    @property
    def data(self) -> DataPanel:
        panel = self.panels["data"]
        assert isinstance(panel, DataPanel)
        return panel

    def _keys(self) -> list[Key]:
        session, live = self.session, self.live
        numbers = [
            Key(str(n), f"Panel {spec.title}", partial(self.show_panel, spec.key))
            for n, spec in enumerate(PANELS, start=1)
        ]
        return [
            Key("Space", "Pause, go on, replay", session.toggle_pause),
            Key("R", "Record, stop recording; on Teach: record takes", self._record),
            Key("X", "Say what that was, or was not", live.correct),
            *numbers,
            Key("M", "Next model", live.next_model),
            Key("S", "Next source", live.next_source),
            Key("V", "Next view: picture, skeleton, 3-D", self._next_view),
            Key("F", "Full screen", self.toggle_full_screen),
            Key("W", "This panel in a window of its own, and back", self._tear_off_front),
            Key("Ctrl+O", "Open a video or recording", self._open),
            Key("Ctrl+,", "Settings", lambda: self.show_panel("settings")),
            Key("F1", "This list", lambda: self.key_page.toggle()),
        ]

    def _begin(self, source: str, checkpoint: Path | None) -> None:
        """Start with what was asked for, else what is remembered, else a camera, else the demo clip."""
        from engine.files import is_there

        chosen = checkpoint or default_checkpoint(self.settings)
        if chosen is not None:
            self.session.use_checkpoint(chosen, remember=checkpoint is not None)
        self.library.refresh()
        remembered = self.settings.values.memory.source
        gone = remembered and not is_camera(remembered) and "://" not in remembered and remembered != DEMO
        if source:
            self.session.open_source(source)
        elif remembered and not is_camera(remembered) and not (gone and not is_there(Path(remembered))):
            self.session.open_source(remembered)
        else:
            wanted = remembered if is_camera(remembered) else str(self.settings.values.camera.camera)
            self.live.source_menu.look(lambda cameras: self._first_source(wanted, [spec for spec, _ in cameras]))

    def _first_source(self, wanted: str, cameras: list[str]) -> None:
        if self.session.source:
            return  # the user was quicker
        if cameras:
            self.session.open_source(wanted if wanted in cameras else cameras[0], remember=False)
        elif paths.DEMO_CLIP.is_file():
            self.session.open_source(DEMO, remember=False)
            self.live.no_camera()

    # ---------------------------------------------------------------- acts

    def show_panel(self, key: str) -> None:
        """Bring a panel to the front; an unknown key means the first."""
        key = key if key in self.panels else PANELS[0].key
        self.rail[key].setChecked(True)
        if key in self._torn:
            self._torn[key].raise_()
            self._torn[key].activateWindow()
            self.stack.setCurrentWidget(self._torn[key].placeholder)
        else:
            self.stack.setCurrentWidget(self.panels[key])
            self._focus_into(key)
        self.settings.set("memory.panel", key)

    def _focus_into(self, key: str) -> None:
        """A key pressed next should reach the panel; a user who walks the rail stays on it."""
        panel = self.panels[key]
        if QApplication.focusWidget() not in self.rail.values() and hasattr(panel, "focus_first"):
            panel.focus_first()

    def _front(self) -> str:
        """The panel of the active window; in the main one that of the rail, wherever it is shown."""
        active = QApplication.activeWindow()
        torn = (key for key, window in self._torn.items() if window is active)
        return next(torn, self.settings.values.memory.panel)

    def _tear_off_front(self) -> None:
        self.tear_off(self._front())

    def _rail_menu(self, key: str, where: QPoint) -> None:
        menu = QMenu(self.rail[key])
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        words = "Bring it back" if key in self._torn else "Show in a window of its own"
        menu.addAction(words, lambda: self.tear_off(key))
        menu.popup(self.rail[key].mapToGlobal(where))

    def _install_quiet_keys(self, window: QWidget) -> None:
        """Keys that everybody knows and the list need not name."""
        QShortcut(QKeySequence.StandardKey.Undo, window, self._undo)
        QShortcut(QKeySequence(Qt.Key.Key_Escape), window, self._escape)

    def tear_off(self, key: str) -> None:
        """Give a panel a window of its own, or bring it back."""
        if key in self._torn:
            self._torn[key].close()
            return
        panel = self.panels[key]
        place = self.stack.indexOf(panel)
        empty = placeholder(key.capitalize(), lambda: self.tear_off(key))
        self.stack.insertWidget(place, empty)
        self.stack.removeWidget(panel)
        torn = TornWindow(panel, empty, f"skelapp – {key.capitalize()}", lambda: self._dock(key), self)
        install(torn, self.keys)
        self._install_quiet_keys(torn)
        self._torn[key] = torn
        self.show_panel(key)
        torn.show()

    def _dock(self, key: str) -> None:
        torn = self._torn.pop(key)
        place = self.stack.indexOf(torn.placeholder)
        shown = self.stack.currentWidget() is torn.placeholder
        self.stack.insertWidget(place, self.panels[key])
        self.stack.removeWidget(torn.placeholder)
        torn.placeholder.deleteLater()
        torn.deleteLater()
        if shown:
            self.stack.setCurrentWidget(self.panels[key])

    def toggle_full_screen(self) -> None:
        window = QApplication.activeWindow() or self
        if window.isFullScreen():
            window.showNormal()
        else:
            window.showFullScreen()

    def _escape(self) -> None:
        window = QApplication.activeWindow() or self
        if self.key_page.isVisible():
            self.key_page.hide()
        elif self._front() == "models" and self.models.escape():
            pass  # a page inside the panel was closed
        elif self._front() == "teach" and self.teach.escape():
            pass  # a recording was ended
        elif window.isFullScreen():
            window.showNormal()

    def _next_view(self) -> None:
        order = ("picture", "skeleton", "space")
        self.live.set_view(order[(order.index(self.live.video.view) + 1) % len(order)])

    def _record(self) -> None:
        if self._front() == "teach" and self.teach.content is not None:
            self.teach.content.recorder.toggle()
        else:
            self.session.toggle_recording()

    def _open(self) -> None:
        self.show_panel("live")
        self.live.open_file()

    def _show_working(self, spec: PanelSpec, count: int) -> None:
        """How much a panel has running stands on the rail."""
        self.rail[spec.key].setText(f"{spec.title} ({count})" if count else spec.title)
        self.rail[spec.key].setAccessibleName(f"Panel {spec.title}{f', {count} running' if count else ''}")

    def _undo(self) -> None:
        take_back = getattr(self.panels[self._front()], "take_back", None)
        if take_back is None or not take_back():
            self.settings.undo()

    def open_path(self, path: Path) -> None:
        """Open what was dropped where it belongs: a checkpoint, recipe, pack or dataset, or else a source for Live."""
        if looks_like_checkpoint(path):
            self.show_panel("models")
            self.models.add_folder(path if path.is_dir() else path.parent)
        elif path.suffix.lower() in (".yaml", ".yml") and isinstance(self.panels["training"], TrainingPanel):
            self.show_panel("training")
            self.panels["training"].open_recipe(path)
        elif looks_like_weights(path):
            self.show_panel("models")
            self.models.import_file(path)
        elif looks_like_pack(path):
            self.show_panel("teach")
            self.teach.open_path(path)
        elif looks_like_dataset(path):
            self.show_panel("data")
            self.data.open_path(path)
        else:
            self.show_panel("live")
            self.live.watch(str(path))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls() or event.mimeData().hasText():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        urls = event.mimeData().urls()
        if urls and urls[0].isLocalFile():
            self.open_path(Path(urls[0].toLocalFile()))
        elif urls or "://" in event.mimeData().text():
            self.show_panel("live")
            self.live.watch(urls[0].toString() if urls else event.mimeData().text().strip())
        else:
            return
        event.acceptProposedAction()

    # ------------------------------------------------------------- looking

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            self.first_painted.emit()

    def _setting_changed(self, name: str) -> None:
        if name == "appearance.theme":
            self._retheme()

    def _scheme_changed(self, *_: object) -> None:
        if self.settings.values.appearance.theme == "system":
            self._retheme()

    def _retheme(self) -> None:
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        theme.apply(app, self.settings.values.appearance.theme)
        for key, made in self.rail.items():
            made.setIcon(icons.icon(key, theme.current().text, 24))
        for panel in self.panels.values():
            if hasattr(panel, "retheme"):
                panel.retheme()

    def _restore_geometry(self) -> None:
        kept = QByteArray.fromBase64(self.settings.values.memory.geometry.encode("ascii", "ignore"))
        if kept.isEmpty() or not self.restoreGeometry(kept):
            self.resize(1280, 800)

    def closeEvent(self, event: QCloseEvent) -> None:
        self.settings.set("memory.geometry", bytes(self.saveGeometry().toBase64().data()).decode())
        self.live.stop()
        for torn in list(self._torn.values()):
            torn.close()
        # The window goes first; threads get up to two seconds to end behind it.
        self.hide()
        deadline = time.monotonic() + CLOSE_S
        # A panel with threads or child processes of its own ends them here, and says whether it could.
        ended_panels = [panel.end(remaining(deadline)) for panel in self.panels.values() if hasattr(panel, "end")]
        ended = all(ended_panels)
        ended = self.session.close(max(0.3, remaining(deadline) - 0.3)) and ended
        self.closed_clean = self._worker.close(max(0.3, remaining(deadline))) and ended
        self.settings.save()
        event.accept()
